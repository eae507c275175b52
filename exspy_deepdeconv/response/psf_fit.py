"""May a response be that of a spectrum? Judged by width and tails of its zero-loss peak (NumPy and SciPy)."""

from dataclasses import dataclass

import numpy as np
from scipy import constants

from ..spectrum.peaks import half_height_crossings
from .broadening import widths_apart
from .gains import between
from .reblur import beside_peaks

# How far the widths of a response and of a zero-loss peak may be apart: share of the width, standard
# errors; the larger of the two counts. A tail that is a few per cent too low leaves false losses under
# the network's trust (`benchmarks/limits.py --part psf`).
TRUSTED = 0.01, 2.5  # of a measured response that is trusted
SAME = 0.04, 4.0  # of one that is not flagged
USABLE = 0.05, 3.0  # of an estimated one that is used
# Standard error of a width that is read from few channels, as a share of it, times the fourth power of
# the width in channels. Chosen on simulations. It is no reason to trust a response.
UNDERSAMPLED = 0.5
# How far tails on the gain side may be apart, likewise. All of these were chosen on simulations of other
# seeds than the benchmarks'.
TAILS_TRUSTED = 0.06, 2.5  # of a measured response that is trusted
# Of one that is used, whatever energy the specimen may have given: a share for each distance from which tails
# are compared, since the farther out, the less the network's own can be relied on.
TAILS_TOO_LOW = (0.1, 0.15, 0.2, 0.3), 4.0
TAILS_TOO_HIGH = 0.1, 4.0  # the same, higher than all that was counted there
# Zero-loss widths before the peak between which tails are compared: from one on, and (where gains of the
# specimen would hide what is missing) farther out.
TAIL_BEGINS, TAIL_ENDS = (1.0, 1.5, 2.0, 3.0), 5.0
# Widths of it that are needed, for too high a tail and for too low a one: in a short one, a flat offset that was
# misread passes for a part of it.
LEAST_TAIL = 2.0, 1.0
LONG = 6.0  # widths of gain side whose first one shows a flat offset rather than a tail
FEW_ELECTRONS = 2.0  # a tail may be without so many by chance
HOTTEST = constants.k * 1000.0 / constants.e  # kT in eV: no specimen is taken to be hotter


@dataclass(frozen=True)
class WidthFit:
    """How the widths of responses and of zero-loss peaks compare; shape ``(batch,)``.

    Attributes
    ----------
    apart : numpy.ndarray
        Width of the peak over that of the response, less 1.
    error : numpy.ndarray
        Standard error of this, from the noise of the peak.
    sampling : numpy.ndarray
        The same from the few channels of a narrow peak.
    half : numpy.ndarray
        As ``apart``, at half height alone: losses close to the peak seldom mislead both in the same way.
    """

    apart: np.ndarray
    error: np.ndarray
    sampling: np.ndarray
    half: np.ndarray

    @property
    def trusted(self):
        """Where a measured response can be trusted."""
        return self._within(*TRUSTED, self.error)

    @property
    def same(self):
        """Where a measured response is not clearly that of another zero-loss peak."""
        disputed = np.sign(self.apart) * self.half <= SAME[0] / 2
        return self._within(*SAME, np.hypot(self.error, self.sampling)) | disputed

    @property
    def narrower(self):
        """Where a response clearly is the narrower one: drift broadens a peak."""
        return ~self.same & (self.apart > 0)

    @property
    def usable(self):
        """Where a response that was estimated from other spectra is good enough."""
        return self._within(*USABLE, self.error)

    def _within(self, share, errors, error):
        return np.abs(self.apart) <= _larger(share, errors, error)


@dataclass(frozen=True)
class TailFit:
    """How the gain-side tails of responses and of spectra compare; shape ``(batch,)``.

    Attributes
    ----------
    found : numpy.ndarray
        Tail that is found in the spectrum over that of the response, less 1.
    counted : numpy.ndarray
        The same of all counts of the spectrum there, energy gains and flat offset and all.
    error : numpy.ndarray
        Standard error of both, from the noise of the spectrum.
    cold, cold_error : numpy.ndarray
        As ``found``, without what may be energy gains or a flat offset, for tails that begin at several
        distances from the peak, ``(batch, distances)``.
    """

    found: np.ndarray
    counted: np.ndarray
    error: np.ndarray
    cold: np.ndarray
    cold_error: np.ndarray

    @classmethod
    def unknown(cls, number):
        """Where nothing was compared: such tails count as the same."""
        return cls(*np.zeros((3, number)), *np.zeros((2, number, len(TAIL_BEGINS))))

    @property
    def trusted(self):
        """Where a measured response can be trusted."""
        return np.abs(self.found) <= _larger(*TAILS_TRUSTED, self.error)

    @property
    def same(self):
        """Where a measured response is not clearly that of another zero-loss peak."""
        return ~(self.too_low | self.too_high)

    @property
    def too_low(self):
        """Where the tail of the response clearly is lower than that of the spectrum."""
        return (self.cold > _larger(*TAILS_TOO_LOW, self.cold_error)).any(axis=-1)

    @property
    def too_high(self):
        """Where it clearly is higher than all that was counted."""
        return self.counted < -_larger(*TAILS_TOO_HIGH, self.error)

    def put(self, rows, found):
        """Set some of them to those that were found."""
        for name, values in vars(self).items():
            values[rows] = getattr(found, name)


def width_fit(centred, seen):
    """Compare responses with zero-loss peaks.

    Parameters
    ----------
    centred : numpy.ndarray
        Responses as from `exspy_deepdeconv.physics.centred_response`, ``(1 or batch, 2 * channels)``.
    seen : Inspected
        The spectra, ``(batch,)``, all of them usable.

    Returns
    -------
    WidthFit

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import centred_response, gaussian, inspect
    >>> from exspy_deepdeconv.response.psf_fit import width_fit
    >>> spectra = 1e7 * gaussian(256, 100.3, np.array([7.0, 8.02, 9.0]))
    >>> response = centred_response(gaussian(128, 64.0, 8.0)[None], 256)
    >>> width_fit(response, inspect(spectra)).trusted
    array([False,  True, False])
    """
    found = widths_apart(*beside_peaks(centred, seen))
    half, _ = widths_apart(centred, seen.zero_loss.position, seen.zero_loss.fwhm)
    return WidthFit(*found, UNDERSAMPLED / seen.zero_loss.fwhm**4, half)


def tail_fit(found, used, seen, dispersion=None):
    """Compare the gain-side tails of responses with those that are found in spectra.

    Losses hardly reach the gain side. What a tail lacks there it lacks on the loss side, too, and would
    come out as losses under the network's trust (`benchmarks/limits.py --part psf`).

    Parameters
    ----------
    found, used : numpy.ndarray
        Elastic peaks over their height: read off the spectra, and of the responses, ``(batch, channels)``.
    seen : Inspected
        The spectra, ``(batch,)``, all of them usable.
    dispersion : float, optional
        eV per channel; without it, gains of the specimen may be as many as losses.

    Returns
    -------
    TailFit

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian, inspect
    >>> from exspy_deepdeconv.response.psf_fit import tail_fit
    >>> tail = 1 / (1 + (2 * (np.arange(512) - 200) / 12) ** 2)
    >>> peaks = np.exp(-(((np.arange(512) - 200) / 7.2) ** 2)) + np.array([[0.04], [0.02]]) * tail
    >>> seen = inspect(1e6 * peaks[[0, 0]])
    >>> tail_fit(peaks[[0, 0]], peaks, seen, dispersion=0.05).same
    array([ True, False])
    """
    peak, unit = seen.zero_loss, seen.zero_loss.height[:, None]
    position, width = peak.position[:, None], peak.fwhm[:, None]
    counts = seen.counts / unit
    before = position - np.arange(counts.shape[-1])
    measured = (before < TAIL_ENDS * width) & (position + before < counts.shape[-1] - 1)
    variance = seen.noise.variance(seen.counts) / unit**2
    recorded = counts + np.maximum(seen.level, 0)[:, None] / unit
    other = _gains(counts - used, before, measured, position, dispersion)
    other += _offset(counts - used, before, position, width)
    drawn = _drawn_along(counts, used, peak)

    def compared(begin):
        side = measured & (before > begin * width)
        number = side.sum(axis=-1)
        sums = ((side * x).sum(axis=-1) for x in (found, recorded, other, used, variance))
        mine, counted, no_tail, given, summed = sums
        few = (FEW_ELECTRONS * seen.noise.gain) ** 2 + (seen.level_error * number) ** 2
        given = np.maximum(given, 1e-30)
        error = np.sqrt(summed + few / unit[:, 0] ** 2) / given
        errors = (np.where(number >= least * width[:, 0], error, np.inf) for least in LEAST_TAIL)
        # A tail that begins so much earlier is higher by what it holds at its beginning.
        no_tail = no_tail + drawn * between(used, np.maximum(position - begin * width, 0))[:, 0]
        cold = np.minimum(mine, counted) - no_tail
        return *(tail / given - 1 for tail in (mine, counted, cold)), *errors

    by_distance = zip(*(compared(begin) for begin in TAIL_BEGINS), strict=True)
    (found, *_), (counted, *_), cold, (error, *_), cold_error = by_distance
    return TailFit(found, counted, error, np.stack(cold, axis=-1), np.stack(cold_error, axis=-1))


def _gains(losses, before, measured, position, dispersion):
    """What a specimen may have given to the electrons: exp(-E / kT) of the losses, mirrored."""
    mirrored = between(losses, np.where(measured, np.maximum(position + before, 0), 0))
    kt = np.inf if dispersion is None else HOTTEST / dispersion
    return np.maximum(mirrored, 0) * np.exp(-np.maximum(before, 0) / kt)


def _offset(excess, before, position, width):
    """What is left of a flat offset: it is as high where a long gain side begins."""
    first = (before > position - width) & (position > LONG * width)
    level = (first * excess).sum(axis=-1) / np.maximum(first.sum(axis=-1), 1)
    return np.maximum(level, 0)[:, None]


def _drawn_along(counts, used, peak):
    """By how many channels a loss beside the peak has drawn its energy zero along.

    So far before that of the response lies its flank on the gain side.
    """
    top = np.rint(peak.position).astype(int)
    flanks = (half_height_crossings(x, top)[0] for x in (used, counts))
    return np.maximum(np.nan_to_num(np.subtract(*flanks)), 0)


def _larger(share, errors, error):
    """The larger of a share and of so many standard errors."""
    return np.maximum(share, errors * error)
