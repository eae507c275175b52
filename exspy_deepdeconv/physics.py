"""The zero-loss peak, responses, blur, noise and flags of low-loss EELS (NumPy and SciPy only).

Everything here works on arrays of shape ``(..., channels)``; positions and widths are in
channels, as their names or docstrings say. Sub-channel positions are fractional channel
indices: 0.0 is the centre of the first channel.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

from .spectrum.blur import FWHM_PER_SIGMA, gaussian, moving, shift_channels, smooth
from .spectrum.flags import (
    EMPTY,
    FLAG_TEXT,
    GAINS,
    MISFIT_TEXT,
    NO_ZERO_LOSS,
    NOT_FINITE,
    PSF_MISFIT,
    PSF_NARROW,
    PSF_TAIL_HIGH,
    PSF_TAIL_LOW,
    PSF_WIDTH,
    SATURATED,
    SPIKE,
    UNDERSAMPLED_FWHM_CHANNELS,
    UNEXPLAINED,
    UNFIT,
    UNUSABLE,
    spectrum_flags,
)
from .spectrum.given_variance import told_noise
from .spectrum.level import flat_level, level_behind
from .spectrum.noise import FEWEST_CHANNELS, Noise, estimate_noise
from .spectrum.peaks import half_height_width, parabola_vertex
from .spectrum.tails import quiet_tails, with_tail
from .spectrum.zero_loss import ZeroLoss, find_zero_loss

__all__ = [
    "EMPTY",
    "FLAG_TEXT",
    "FWHM_PER_SIGMA",
    "GAINS",
    "MISFIT_TEXT",
    "NOT_FINITE",
    "PSF_MISFIT",
    "PSF_NARROW",
    "PSF_TAIL_HIGH",
    "PSF_TAIL_LOW",
    "PSF_WIDTH",
    "NO_ZERO_LOSS",
    "SATURATED",
    "SPIKE",
    "UNDERSAMPLED_FWHM_CHANNELS",
    "UNEXPLAINED",
    "UNFIT",
    "UNUSABLE",
    "Inspected",
    "Noise",
    "ZeroLoss",
    "centred_response",
    "default_resolution",
    "estimate_noise",
    "find_zero_loss",
    "flat_level",
    "gaussian",
    "half_height_width",
    "inspect",
    "parabola_vertex",
    "prepare",
    "resolution_range",
    "response_prepared",
    "shift_channels",
    "smooth",
    "spectrum_flags",
    "told_noise",
]

MIN_CHANNELS = 64
MIN_RESOLUTION_CHANNELS = 2.0  # a narrower Gaussian is not representable on the axis
HIGHEST_VALUE = 1e18  # float32 holds no variance of higher ones
MAX_SHARPENING = 16.0  # largest F/R for which anything is promised
USUAL_SHARPENING = 4.0  # F/R where none is asked for


def resolution_range(fwhm_channels):
    """Smallest and largest resolution that can be asked for.

    Parameters
    ----------
    fwhm_channels : float
        Zero-loss width in channels.

    Returns
    -------
    finest, coarsest : float
        FWHM in channels.

    Examples
    --------
    >>> from exspy_deepdeconv.physics import resolution_range
    >>> resolution_range(48.0)
    (3.0, 48.0)
    """
    coarsest = max(float(fwhm_channels), MIN_RESOLUTION_CHANNELS)
    finest = min(max(MIN_RESOLUTION_CHANNELS, fwhm_channels / MAX_SHARPENING), coarsest)
    return finest, coarsest


def default_resolution(fwhm_channels):
    """A quarter of the zero-loss width, never under 2 channels.

    An undersampled zero-loss peak (under 3 channels) leaves nothing to gain: its own width is kept.

    Parameters
    ----------
    fwhm_channels : float
        Zero-loss width in channels.

    Returns
    -------
    float
        FWHM in channels.

    Examples
    --------
    >>> from exspy_deepdeconv.physics import default_resolution
    >>> [default_resolution(fwhm) for fwhm in (20.0, 5.0, 2.5)]
    [5.0, 2.0, 2.5]
    """
    if fwhm_channels < UNDERSAMPLED_FWHM_CHANNELS:
        return max(float(fwhm_channels), MIN_RESOLUTION_CHANNELS)
    return max(fwhm_channels / USUAL_SHARPENING, MIN_RESOLUTION_CHANNELS)


def prepare(spectra):
    """Take the flat offset off and find the zero-loss peak above it.

    Parameters
    ----------
    spectra : numpy.ndarray
        Finite counts, shape ``(..., channels)``.

    Returns
    -------
    counts : numpy.ndarray
        The spectra without their offset.
    zero_loss : ZeroLoss
        The peaks of ``counts``.
    level : numpy.ndarray
        The offsets, navigation shape; see `flat_level`.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian, prepare
    >>> noise = np.random.default_rng(0).normal(0, 1, 512)
    >>> counts, peak, level = prepare(1e5 * gaussian(512, 300.25, 8.0) + 50 + noise)
    >>> round(float(peak.position), 1), round(float(level))
    (300.2, 50)
    """
    return _prepared(spectra)[:3]


def _prepared(spectra, dark=None):
    """As `prepare`, and the standard errors of the offsets."""
    spectra = np.asarray(spectra, np.float64)
    found = find_zero_loss(spectra)
    lost = np.isnan(found.position)
    if lost.any():  # a high offset may be more than half of a peak's height
        floor = np.where(lost, np.quantile(spectra, 0.1, axis=-1), 0.0)
        found = find_zero_loss(spectra - floor[..., None])
    level, error = flat_level(spectra, found, dark)
    counts = spectra - level[..., None]
    again = lost | (level != 0)
    if again.any():
        better = find_zero_loss(counts[again])
        fields = np.array([found.position, found.fwhm, found.height])
        fields[:, again] = better.position, better.fwhm, better.height
        found = ZeroLoss(*fields)
    return counts, found, level, error


@dataclass(frozen=True)
class Inspected:
    """What is known of a stack of spectra before anything is deconvolved.

    Attributes
    ----------
    counts : numpy.ndarray
        float64 counts without their flat offset; zeros where a spectrum is not finite
        (values beyond `HIGHEST_VALUE` count as not finite).
    zero_loss : ZeroLoss
        Their zero-loss peaks.
    level, level_error : numpy.ndarray
        The offsets and their standard errors (0 where there is none), navigation shape.
    noise : Noise
        Their noise.
    flags : numpy.ndarray of uint16
        Flag bits, navigation shape.
    """

    counts: np.ndarray
    zero_loss: ZeroLoss
    level: np.ndarray
    level_error: np.ndarray
    noise: Noise
    flags: np.ndarray

    @property
    def recorded(self):
        """The spectra with their flat offset."""
        return self.counts + self.level[..., None]

    def select(self, rows):
        """What is known of some of the spectra."""
        return Inspected(
            self.counts[rows],
            self.zero_loss.select(rows),
            self.level[rows],
            self.level_error[rows],
            self.noise.select(rows),
            self.flags[rows],
        )

    @property
    def usable(self):
        """Where a spectrum can be deconvolved (navigation shape)."""
        return (self.flags & UNUSABLE) == 0


def inspect(spectra, dark=None):
    """Find out all that must be known of spectra before they are deconvolved.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts of any real type, shape ``(..., channels)``.
    dark : Dark, optional
        The flat offset that they share, if it is known; see `flat_level`.

    Returns
    -------
    Inspected
        Offset, zero-loss peak, noise and flags of each spectrum.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import EMPTY, gaussian, inspect
    >>> seen = inspect(np.stack([1e5 * gaussian(256, 60.0, 8.0), np.zeros(256)]))
    >>> seen.usable.tolist(), bool(seen.flags[1] == EMPTY)
    ([True, False], True)
    """
    spectra = np.asarray(spectra, np.float64)
    finite = (np.abs(spectra) <= HIGHEST_VALUE).all(axis=-1)
    counts, found, level, error = _prepared(np.where(finite[..., None], spectra, 0.0), dark)
    noise = estimate_noise(counts, found.position)
    flags = spectrum_flags(counts, found, noise)
    flags = np.where(finite, flags, NOT_FINITE).astype(np.uint16)
    return Inspected(counts, found, level, error, noise, flags)


def response_prepared(responses):
    """Subtract the flat offset of measured responses, be it told before or behind their peaks.

    Parameters
    ----------
    responses : numpy.ndarray
        Shape ``(batch, channels)``, finite.

    Returns
    -------
    counts : numpy.ndarray
        Shape ``(batch, channels)``.
    found : ZeroLoss
        Their peaks.
    """
    counts, found, level = prepare(responses)
    behind = np.where(level == 0, level_behind(counts, found), 0.0)
    if behind.any():
        counts = counts - behind[:, None]
        found = find_zero_loss(counts)
    return counts, found


def centred_response(psf, channels):
    """Bring a measured response to unit area, on ``channels`` channels around its maximum.

    Parameters
    ----------
    psf : numpy.ndarray
        Measured zero-loss peaks, shape ``(..., any length)``. A flat offset is subtracted, tails are
        averaged where they vanish in the noise and continued where they are cut off (see
        `exspy_deepdeconv.spectrum.tails`), and negative values are set to zero.
    channels : int
        How far the returned axis reaches: it covers ``-channels .. channels - 1``.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., 2 * channels)``; the energy zero (where `find_zero_loss` finds the
        peak) lies at index ``channels``.

    Raises
    ------
    ValueError
        If a response is not finite, has no positive counts, or has fewer than three channels.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import centred_response, gaussian
    >>> response = centred_response(7e4 * gaussian(200, 80.0, 6.0), 50)
    >>> response.shape, int(response.argmax()), round(float(response.sum()), 6)
    ((100,), 50, 1.0)
    """
    psf = np.asarray(psf, np.float64)
    if psf.ndim == 0 or psf.shape[-1] < 3:
        raise ValueError(f"psf of shape {psf.shape} must have at least 3 channels.")
    flat = psf.reshape(-1, psf.shape[-1])
    if not np.isfinite(flat).all() or not (flat.max(axis=-1) > 0).all():
        raise ValueError("psf must be finite and hold a positive zero-loss peak.")
    flat, found = response_prepared(flat)
    noise = _noise_of_responses(flat, found)
    flat = quiet_tails(flat, found, noise)
    out, shift = np.zeros((flat.shape[0], 2 * channels)), np.zeros((flat.shape[0], 1))
    for row, (response, vertex) in enumerate(zip(flat, found.position, strict=True)):
        if not np.isfinite(vertex):  # no flanks: its highest channel has to do
            vertex = float(parabola_vertex(response, np.asarray(int(np.argmax(response)))))
        index = int(round(vertex))
        ends = float(found.fwhm[row]), noise.select(row)
        out[row, channels:] = with_tail(response[index:], channels, *ends)
        # Distances 0 to channels: the energy zero itself is on the other side.
        out[row, :channels] = with_tail(response[index::-1], channels + 1, *ends)[:0:-1]
        shift[row] = index - vertex
    phase = moving(fft.rfftfreq(2 * channels), shift)
    out = np.maximum(fft.irfft(fft.rfft(out) * phase, 2 * channels), 0)
    out /= out.sum(axis=-1, keepdims=True)
    return out.reshape(psf.shape[:-1] + (2 * channels,))


def _noise_of_responses(responses, found):
    """The noise of responses, ``(batch, channels)``; none where it cannot be read."""
    known = np.isfinite(found.position)
    none = np.zeros(len(responses))
    noise = Noise(none, none.copy())
    if responses.shape[-1] >= FEWEST_CHANNELS and known.any():
        read = estimate_noise(responses[known], found.position[known]).in_rows(known.sum())
        noise.gain[known], noise.floor[known] = read.gain, read.floor
    return noise
