"""Does a result explain the data? Blur it again, compare, judge what is left (NumPy and SciPy)."""

from dataclasses import dataclass, replace

import numpy as np

from ..physics import EMPTY, NO_ZERO_LOSS, NOT_FINITE, UNUSABLE, inspect, smooth, told_noise
from ..spectrum.given_variance import rule_of_variance
from .reblur import UNKNOWN_WIDTH, blur_again, fitted_response, measured_response

WINDOW = 4.0  # zero-loss widths: a misfit of one feature is judged in a window of this length
SMALLEST_WINDOW = 24  # channels
LEAST_OF_MEAN = 1e-6  # of the mean variance: a variance of zero does not mean certainty
ELECTRONS = 25.0  # in a run of channels from which a mean variance is read
MANY = 50.0  # electrons in a channel, from which their number is the best estimate of its mean
MISFIT = 30.0  # mean square of the residual over the worst window, above which it is a misfit
CLEAR = 10.0  # times their noise: counts that can be compared
TOLERANCE = 0.02  # of the counts: a smaller misfit is none, however high the counts are


def expected_variance(counts, noise, fwhm):
    """Noise variance of every channel, from the data alone.

    Where counts are high, they are the best estimate of their own expectation. Where they are low, the
    estimate is their mean over runs of channels that are at least half a zero-loss width long and
    have the noise of 25 electrons (readout noise included): over each run, the squared noise then is
    as expected. The result is not used: one with too many counts would be allowed too much noise.

    Parameters
    ----------
    counts : numpy.ndarray
        ``(batch, channels)``, without their flat offset.
    noise : Noise
        Their noise, ``(batch,)``.
    fwhm : numpy.ndarray
        Zero-loss widths in channels, ``(batch,)``; NaN counts as 4.

    Returns
    -------
    numpy.ndarray
        ``(batch, channels)``.
    """
    electrons = noise.variance(counts) / noise.gain[:, None] ** 2
    longest = ELECTRONS * 2 / np.nan_to_num(fwhm, nan=UNKNOWN_WIDTH)[:, None]
    total = np.cumsum(np.minimum(electrons, longest), axis=-1)
    # The last run is not full, but stays separate: the one before may hold the flank of the peak.
    runs = ((total - total[:, :1]) / ELECTRONS).astype(int)
    number = runs.max(initial=0) + 1  # of runs in any of the spectra
    place = (runs + number * np.arange(len(runs))[:, None]).ravel()
    filled = np.maximum(np.bincount(place, minlength=number * len(runs)), 1)
    sums = np.bincount(place, weights=counts.ravel(), minlength=number * len(runs))
    level = np.maximum(sums / filled, 0)[place].reshape(counts.shape)
    trust = level**2 / (level**2 + MANY * noise.variance(level))
    return noise.variance(trust * counts + (1 - trust) * level)


@dataclass(frozen=True)
class Verdict:
    """How well results explain their data; every field has the navigation shape.

    Attributes
    ----------
    chi2 : numpy.ndarray
        Mean square of the residual, in units of the expected noise, over the loss region: one
        zero-loss width past the peak and on (the whole axis where there is no peak). On short axes it
        is too low, since four parameters are fitted beyond the upper end.
    whiteness : numpy.ndarray
        Correlation of the residual of neighbouring channels in the loss region, minus that of the
        noise itself, in units of its standard error 1 / sqrt(channels).
    worst : numpy.ndarray
        The largest mean square over a window of four zero-loss widths (at least 24 channels), where a
        misfit of 2 % of the counts is allowed beside the noise.
    """

    chi2: np.ndarray
    whiteness: np.ndarray
    worst: np.ndarray

    @property
    def misfit(self):
        """Where a result does not explain its data (``benchmarks/residual.py`` counts false alarms)."""
        return self.worst > MISFIT


def judge(residual, found, correlation=0.0, clarity=0.0):
    """Sum up residuals that are in units of the expected noise.

    Parameters
    ----------
    residual : numpy.ndarray
        ``(batch, channels)``.
    found : ZeroLoss
        The zero-loss peaks of the data, ``(batch,)``.
    correlation : float or numpy.ndarray
        That of the noise of neighbouring channels, one for all pairs or ``(batch, channels - 1)``.
    clarity : float or numpy.ndarray
        Counts near a channel over their noise, ``(batch, channels)``; 0 where no misfit is allowed.

    Returns
    -------
    Verdict
        NaN where fewer than two channels are past the zero-loss peak.
    """
    channels = residual.shape[-1]
    start = np.nan_to_num(np.ceil(found.position + found.fwhm), nan=0.0)
    inside = np.arange(channels) >= start[:, None]
    number = inside.sum(axis=-1)
    kept = np.where(inside, residual, 0.0)
    power = (kept**2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lag_1 = (kept[:, 1:] * kept[:, :-1]).sum(axis=-1) / power
        expected = np.where(inside[:, :-1], correlation, 0.0).sum(axis=-1) / number
        whiteness = (lag_1 - expected) * np.sqrt(number)
        chi2 = power / number
    too_few = number < 2
    length = np.maximum(WINDOW * np.nan_to_num(found.fwhm), SMALLEST_WINDOW).astype(int)
    worst = _worst_window(kept**2 / (1 + (TOLERANCE * clarity) ** 2), np.minimum(length, number))
    return Verdict(*(np.where(too_few, np.nan, x) for x in (chi2, whiteness, worst)))


def _worst_window(squares, length):
    """Largest mean over so many channels; there must be zeros in front of those that count."""
    total = np.pad(np.cumsum(squares, axis=-1), [(0, 0), (1, 0)])
    sums = [(row[n:] - row[: row.size - n]).max() for row, n in zip(total, length, strict=True)]
    return np.array(sums) / np.maximum(length, 1)


def residual_block(
    spectra,
    psf=None,
    *,
    result,
    variance=None,
    respond=None,
    dark=None,
    resolution=None,
    zero_loss=True,
    broaden=False,
):
    """What a block of results leaves unexplained.

    Parameters
    ----------
    spectra, result : numpy.ndarray
        Data and result, ``(..., channels)``.
    psf : numpy.ndarray, optional
        Measured response, ``(length,)`` or ``(..., length)``.
    variance : float or numpy.ndarray, optional
        Noise variance, a number or ``(..., channels)``; read from the data by default.
    respond : callable
        ``respond(spectra) -> (responses, flags)``, used where there is no ``psf``; the energy zero
        of the responses may lie anywhere.
    dark : Dark, optional
        The flat offset that the spectra share; read from each of them by default.
    resolution : float, optional
        FWHM in channels of the Gaussian through which the result is seen.
    zero_loss : bool
        Whether the result holds the elastic peak.
    broaden : bool
        Whether ``psf`` was broadened for the result where it is narrower than the zero-loss peak.

    Returns
    -------
    numpy.ndarray
        ``(..., channels + 2)``: the residual in units of the expected noise, chi2 and whiteness.
        NaN where data, response or result are unusable (zeros under a mask, NaN); where the data are
        empty, the residual is zero, and chi2 and whiteness are NaN.
    flags : numpy.ndarray of uint16
        Navigation shape; without `NO_ZERO_LOSS` where the result holds nothing either.
    kept : numpy.ndarray
        Counts of the result over those of the data, navigation shape; NaN where they need not be the
        same: without the elastic peak, or where a crop has cut it off.
    """
    channels = spectra.shape[-1]
    nav = spectra.shape[:-1]
    counts, estimate = spectra.reshape(-1, channels), result.reshape(-1, channels)
    seen = inspect(counts, dark)
    needed = UNUSABLE if resolution is not None else EMPTY | NOT_FINITE
    flags = seen.flags & needed  # of a result at a resolution, the zero-loss peak must be seen
    flags = np.where(np.isfinite(estimate).all(axis=-1), flags, flags | NOT_FINITE)
    if psf is None:
        psf, found_flags = respond(counts)
        flags |= found_flags
    psf = psf.reshape(-1, psf.shape[-1])
    # A result of zeros holds nothing to judge (left out by a mask); doubtful spectra are judged.
    held = estimate.any(axis=-1)
    good = (flags & UNUSABLE == 0) & held
    good = good if len(psf) == 1 else good & (psf.sum(axis=-1) > 0)
    out = np.full((len(counts), channels + 2), np.nan)
    out[flags & EMPTY > 0, :channels] = 0
    if good.any():
        if isinstance(variance, np.ndarray):
            variance = variance.reshape(-1, channels)[good]
        psf, of_good = psf if len(psf) == 1 else psf[good], seen.select(good)
        if broaden:  # as for the result: a noise that was set decides how certain a width is
            told = (
                of_good
                if variance is None
                else replace(of_good, noise=told_noise(variance, of_good))
            )
            response = fitted_response(psf, channels, told)
        else:
            response = measured_response(psf, channels)
        left, verdict = _left_over(
            estimate[good], of_good, response, variance, resolution, zero_loss
        )
        out[good] = np.column_stack([left, verdict.chi2, verdict.whiteness])
    flags = np.where(held, flags, flags & ~np.uint16(NO_ZERO_LOSS))
    kept = np.full(len(counts), np.nan)
    if zero_loss:
        comparable = good & _whole_peak(seen)
        kept[comparable] = _counts_kept(estimate[comparable], seen.select(comparable))
    return out.reshape(*nav, channels + 2), flags.astype(np.uint16).reshape(nav), kept.reshape(nav)


def _whole_peak(seen):
    """Where the zero-loss peak is inside of the axis: a crop at it takes other shares of data and result."""
    found = seen.zero_loss
    room = np.minimum(found.position, seen.counts.shape[-1] - 1 - found.position)
    return seen.usable & (room > found.fwhm)


def _counts_kept(estimate, seen):
    """Counts of results over those of their data; NaN where noise hides how many these are."""
    # A result keeps the offset, unless it is negative.
    level = np.maximum(seen.level, 0) * estimate.shape[-1]
    counts = seen.counts.sum(axis=-1) + level
    noise = np.sqrt(seen.noise.variance(seen.counts).sum(axis=-1))
    clear = counts > CLEAR * noise
    return np.where(clear, estimate.sum(axis=-1), np.nan) / np.where(clear, counts, 1.0)


def better_residual_block(spectra, psf, *, respond, own=None, **options):
    """The same with a given response or the one found in the spectrum, whichever was used.

    As `exspy_deepdeconv.estimate.choice.deconvolve_batch` takes that where the given one does not fit.

    Parameters
    ----------
    spectra, psf, respond, **options
        As for `residual_block`; the first three are needed.
    own : numpy.ndarray of bool, optional
        Whether the result was made with the response found in the spectrum, ``(..., 1)``. By default
        the one that leaves less is taken.

    Returns
    -------
    numpy.ndarray, numpy.ndarray of uint16, numpy.ndarray
        As from `residual_block`.
    """
    shared, flags, kept = residual_block(spectra, psf, broaden=True, **options)
    if own is not None and not own.any():
        return shared, flags, kept
    found, found_flags, _ = residual_block(spectra, respond=respond, **options)
    if own is None:
        chi2 = slice(spectra.shape[-1], spectra.shape[-1] + 1)
        own = found[..., chi2] < shared[..., chi2]
    return np.where(own, found, shared), np.where(own[..., 0], found_flags, flags), kept


def unknown_block(spectra, **_):
    """The result of `residual_block` for spectra whose own response is unusable."""
    empty = (spectra == 0).all(axis=-1)
    out = np.full((*empty.shape, spectra.shape[-1] + 2), np.nan)
    out[empty, :-2] = 0
    return out, np.where(empty, EMPTY, NOT_FINITE).astype(np.uint16)


def explain(estimate, seen, response, resolution, zero_loss):
    """Judge results of inspected spectra, all of them usable; see `blur_again` for the arguments.

    Returns
    -------
    Verdict
    """
    return _left_over(estimate, seen, response, None, resolution, zero_loss)[1]


def _left_over(estimate, seen, response, variance, resolution, zero_loss):
    """Residuals in units of the expected noise, and the verdict on them."""
    found = seen.zero_loss
    # A result keeps the offset, unless it is negative.
    counts = seen.counts + np.maximum(seen.level, 0)[:, None]
    expected = expected_variance(seen.counts, seen.noise, found.fwhm)
    if variance is None:
        variance = expected
    else:
        variance = _believed(np.broadcast_to(variance, counts.shape), seen)
    variance = np.maximum(variance, np.finfo(float).tiny)
    model = blur_again(
        counts, estimate, response, found, variance, resolution=resolution, zero_loss=zero_loss
    )
    sigma = np.sqrt(variance)
    residual = (counts - model) / sigma
    correlation = seen.noise.correlations(expected)
    # The counts of a peak also allow a misfit in the channels beside it, over which it is blurred.
    widths = np.nan_to_num(found.fwhm, nan=UNKNOWN_WIDTH)
    around = np.array([smooth(row, w) for row, w in zip(seen.counts, widths, strict=True)])
    return residual, judge(residual, found, correlation, np.nan_to_num(around / sigma))


def _believed(variance, seen):
    """The variance that the user has set, without the noise of the counts that it was read from.

    HyperSpy's Poisson rule uses the counts themselves as the variance: too little in an empty channel,
    which is not certain, and too much in one with a single electron. If this rule was used, it is
    applied to the expected counts instead. Any other variance is left as it is.
    """
    usable = np.isfinite(variance).all(axis=-1) & (variance > 0).any(axis=-1)
    variance = np.where(usable[:, None], variance, seen.noise.variance(seen.counts))
    read_off = np.isfinite(rule_of_variance(variance, seen.recorded, seen.noise)[0])
    if read_off.any():
        expected = expected_variance(seen.counts, told_noise(variance, seen), seen.zero_loss.fwhm)
        variance = np.where(read_off[:, None], expected, variance)
    return np.maximum(variance, LEAST_OF_MEAN * variance.mean(axis=-1, keepdims=True))
