"""Which losses would be found: lines are added to a spectrum, which is then deconvolved again."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft as fft

from ..physics import PSF_MISFIT, Inspected, gaussian, inspect, told_noise
from ..response.reblur import Response, fitted_response
from ..spectrum.blur import gaussian_transfer, moving
from .batched import deconvolve_block, response_block

HEIGHTS = 12  # that are tried
LEAST = 3.0  # standard errors of the counts that are there: the lowest line (the usual limit of detection)
MOST = (
    0.3  # of the zero-loss peak: the highest line, as recorded; higher ones are taken for that peak
)
NEAREST = 1.25  # zero-loss widths: closer to the peak no line is tried
REACH = 0.75  # widths of a line to either side of it, over which its counts are summed
SHARE = 0.5  # of the counts of a line, from which on it counts as found
# Real lines are not the ones that were tried, and may be hidden in what the network takes for tail. Chosen on
# simulations.
SAFETY = 3.0


@dataclass(frozen=True)
class Lines:
    """Gaussian lines on one spectrum: as the instrument records them, and as a result shows them.

    Attributes
    ----------
    seen : Inspected
        The spectrum, ``(1, channels)``, usable.
    response : Response
        Of the instrument.
    width : float
        FWHM of the lines in channels.
    resolution : float
        FWHM in channels of the Gaussian through which results are seen.
    """

    seen: Inspected
    response: Response
    width: float
    resolution: float

    def positions(self, number):
        """Where to try lines, in channels: up to the end of the axis, the denser the nearer the peak."""
        zero, fwhm = float(self.seen.zero_loss.position[0]), float(self.seen.zero_loss.fwhm[0])
        farthest = self._channels - 1 - zero - self._reach(fwhm)
        if farthest <= NEAREST * fwhm:
            return np.empty(0)
        return zero + np.geomspace(NEAREST * fwhm, farthest, number)

    def shown(self, position):
        """A line as a result shows it, one count high, ``(channels,)``."""
        return gaussian(self._channels, position, self._shown_fwhm) / self._unit_height

    def recorded(self, position):
        """What the instrument records of the same line, ``(channels,)``."""
        size = fft.next_fast_len(2 * self._channels, real=True)
        frequency = fft.rfftfreq(size)
        transfer = fft.rfft(self.response.circle(size).reshape(size))
        transfer = transfer * gaussian_transfer(frequency, self.width) * moving(frequency, position)
        return np.maximum(fft.irfft(transfer, size)[: self._channels], 0) / self._unit_height

    def within(self, position, fwhm):
        """The channels of lines that are blurred by so many channels, boolean."""
        return np.abs(np.arange(self._channels) - position) <= self._reach(fwhm)

    def scatter(self, there):
        """Standard error of the counts that are recorded in some channels."""
        return float(np.sqrt(self.seen.noise.variance(self.seen.counts)[0, there].sum()))

    @property
    def _channels(self):
        return self.seen.counts.shape[-1]

    @property
    def _shown_fwhm(self):
        return float(np.hypot(self.width, self.resolution))

    @property
    def _unit_height(self):
        return gaussian(1, 0.0, self._shown_fwhm)[0]

    def _reach(self, fwhm):
        return max(REACH * np.hypot(self.width, fwhm), 1.0)


@dataclass(frozen=True)
class Trial:
    """A deconvolved spectrum on which lines are tried.

    Attributes
    ----------
    lines : Lines
        The lines, and the spectrum.
    deconvolve : callable
        ``deconvolve(added) -> losses, flags``: of the spectrum with counts that were added to it,
        ``(batch, channels)``.
    before : numpy.ndarray
        The losses of the spectrum as it is, ``(channels,)``.
    flags : numpy.ndarray of uint16
        What is odd about these, ``(1,)``.
    """

    lines: Lines
    deconvolve: Callable
    before: np.ndarray
    flags: np.ndarray

    @classmethod
    def of(cls, spectrum, width, *, model, psf=None, variance=None, dark=None, **options):
        """Deconvolve a spectrum.

        Parameters
        ----------
        spectrum : numpy.ndarray
            ``(channels,)``, usable.
        width : float
            FWHM of the lines in channels.
        model, psf, variance, dark, **options
            As for `exspy_deepdeconv.estimate.batched.deconvolve_block`, which needs ``resolution``;
            one response, and one variance.
        """
        options |= {"model": model, "psf": psf, "dark": dark, "zero_loss": False}

        def deconvolve(added):
            noise = np.broadcast_to(variance, added.shape) if np.ndim(variance) else variance
            return deconvolve_block(spectrum + added, variance=noise, **options)

        seen = inspect(spectrum[None], dark)
        if variance is not None:
            seen = replace(seen, noise=told_noise(variance, seen))
        losses, flags = deconvolve(np.zeros((1, spectrum.size)))
        if psf is None or flags[0] & PSF_MISFIT:
            zero = spectrum.size // 3
            found, _ = response_block(spectrum[None], model=model, zero_channel=zero, dark=dark)
            response = Response(found.astype(float), zero)
        else:
            response = fitted_response(psf, spectrum.size, seen)
        lines = Lines(seen, response, width, options["resolution"])
        return cls(lines, deconvolve, losses[0].astype(float), flags)

    def limit(self, position, seed=0):
        """Height from which on lines are found, times a factor for safety.

        Lines of rising height are added to the spectrum, with the noise that their counts bring along.
        One counts as found if the deconvolved losses gain at least half of its counts.

        Parameters
        ----------
        position : float
            Where they are, in channels.
        seed : int
            Of the noise.

        Returns
        -------
        float
            Counts per channel at the top of the line, as a result shows it; NaN if even the highest is
            not found.
        """
        lines, recorded = self.lines, self.lines.recorded(position)
        zero_loss, gain = lines.seen.zero_loss, float(lines.seen.noise.gain[0])
        peak = float(zero_loss.height[0])
        there = lines.within(position, float(zero_loss.fwhm[0]))
        with np.errstate(divide="ignore"):
            lowest = LEAST * lines.scatter(there) / recorded[there].sum()
            highest = MOST * peak / recorded.max()
        if not 0 < lowest < highest:
            return np.nan
        heights = np.geomspace(lowest, highest, HEIGHTS)
        losses, _ = self.deconvolve(_with_noise(heights[:, None] * recorded, gain, peak, seed))
        window = lines.within(position, lines.resolution)
        gained = (losses - self.before)[:, window].sum(axis=-1)
        return SAFETY * _crossing(heights, gained / (heights * lines.shown(position)[window].sum()))


def _crossing(heights, found):
    """Height from which on lines are found; between the last that is not and the next, interpolated."""
    missed = np.flatnonzero(~(found >= SHARE))
    if not missed.size:
        return heights[0]
    last = missed[-1]
    if last == heights.size - 1:
        return np.nan
    pair = slice(last, last + 2)
    return float(np.exp(np.interp(SHARE, found[pair], np.log(heights[pair]))))


def _with_noise(counts, gain, peak, seed):
    """Counts of lines, as electrons of this gain."""
    gain = max(gain, 1e-12 * peak)  # numbers that NumPy can draw
    return gain * np.random.default_rng(seed).poisson(counts / gain)
