"""Does a result explain the data? Blur it again, compare, judge what is left (NumPy and SciPy).

A result x seen through a Gaussian g of width R is blurred again as ``I0 p + q (*) (x - I0 g)``
with ``q (*) g = p``: its elastic peak is known exactly, and only the rest passes through the
quotient q of the response and the Gaussian, which must be regularised.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

from .blur import moving, turning
from .physics import (
    EMPTY,
    FWHM_PER_SIGMA,
    NO_ZERO_LOSS,
    NOT_FINITE,
    Inspected,
    Noise,
    centred_response,
    gaussian,
    inspect,
    smooth,
)

DAMPING = 1e-3  # of the Gaussian's transfer function, in the quotient q
CORE = 0.75  # zero-loss widths to both sides, where the elastic peak is fitted
MAX_SHIFT = 1.0  # channels between the energy zeros of a response and of the data
BEYOND = (0.0, 0.5, 2.0, 8.0)  # zero-loss widths: where the stretches beyond the end begin
NEAR_END = 8.0, 0.25  # zero-loss widths, share of the channels: the longer is fitted before the end
WINDOW = 4.0  # zero-loss widths: a misfit of one feature is judged in a window of this length
SMALLEST_WINDOW = 24  # channels
ELECTRONS = 25.0  # from which a mean variance is read
MANY = 50.0  # electrons in a channel, for which their number is its own expectation
MISFIT = 30.0  # mean square over the worst window
TOLERANCE = 0.02  # of the counts: a smaller misfit is none, however many the counts are


@dataclass(frozen=True)
class Response:
    """Responses of unit area on a short axis.

    Attributes
    ----------
    shape : numpy.ndarray
        ``(length,)`` or ``(batch, length)``.
    zero_channel : int
        The index of their energy zero.
    """

    shape: np.ndarray
    zero_channel: int

    def transfer(self, size):
        """Transfer functions on a circle of ``size`` channels, energy zero at its index 0."""
        loss = self.shape[..., self.zero_channel :][..., : size - size // 3]
        gain = self.shape[..., : self.zero_channel][..., -(size // 3) :]
        circle = np.zeros((*self.shape.shape[:-1], size))
        circle[..., : loss.shape[-1]] = loss
        circle[..., size - gain.shape[-1] :] += gain
        return fft.rfft(circle / circle.sum(axis=-1, keepdims=True))


def measured_response(psf, channels):
    """A measured response as a `Response` that reaches ``channels`` to both sides."""
    return Response(centred_response(psf, channels), channels)


def blur_again(counts, estimate, response, found, variance, *, resolution=None, zero_loss=True):
    """What the instrument would have recorded of a result.

    Parameters
    ----------
    counts : numpy.ndarray
        The data, ``(batch, channels)``; only the core of the zero-loss peak is read, to find how
        far the energy zeros of response and data lie apart.
    estimate : numpy.ndarray
        The result, ``(batch, channels)``.
    response : Response
        One for all, or one for each.
    found : ZeroLoss
        The zero-loss peaks of the data, ``(batch,)``.
    variance : numpy.ndarray
        Noise variance of the data, ``(batch, channels)``.
    resolution : float, optional
        FWHM in channels of the Gaussian through which the result is seen; without it, the result
        is blurred by the response itself.
    zero_loss : bool
        Whether the result holds the elastic peak.

    Returns
    -------
    numpy.ndarray
        ``(batch, channels)``.
    """
    channels = counts.shape[-1]
    pad = channels // 2
    size = fft.next_fast_len(2 * channels, real=True)
    transfer = response.transfer(size)
    padded = np.pad(estimate, [(0, 0), (pad, size - channels - pad)], mode="edge")

    def seen(transform):
        return fft.irfft(transform, size)[..., pad : pad + channels]

    def completed(model):
        return model + _scattered_in(counts - model, size, pad, transfer, found, 1 / variance)

    if resolution is None:
        return completed(seen(fft.rfft(padded) * transfer))
    frequency = fft.rfftfreq(size)
    sharp = np.exp(-2 * (np.pi * resolution / FWHM_PER_SIGMA * frequency) ** 2)
    quotient = transfer * sharp / (sharp**2 + DAMPING**2)
    position = np.nan_to_num(found.position)[:, None]
    placed = transfer * moving(frequency, position + pad)
    peak, slope = seen(placed), seen(placed * turning(frequency))
    weight = (np.abs(np.arange(channels) - position) < CORE * found.fwhm[:, None]) / variance

    def dot(a, b):
        return (weight * a * b).sum(axis=-1, keepdims=True)

    elastic = dot(peak, counts) / np.maximum(dot(peak, peak), 1e-300)
    rest = padded
    if zero_loss:
        # What of the peak lies outside the window is outside the result as well.
        peak_seen = elastic * gaussian(size, position[:, 0] + pad, resolution)
        rest = padded - peak_seen
    rest = seen(fft.rfft(rest) * quotient)
    elastic, shift = _fit_peak(counts - rest, peak, slope, dot, elastic if zero_loss else None)
    moved = placed * moving(frequency, shift)
    return completed(rest + elastic * seen(moved))


def _scattered_in(target, size, pad, transfer, found, weight):
    """Counts that come from beyond the upper end of the window.

    The result is continued there with its last value. Where the spectrum goes on in another way,
    with a peak or at another level, this shows near the end, and as far as the gain side of the
    response reaches: what is to be added over a few stretches beyond the end is fitted there.
    """
    channels = target.shape[-1]
    channel, fwhm = np.arange(channels), np.nan_to_num(found.fwhm, nan=4.0)[:, None]
    seen = _stretches_seen(channels, size, pad, transfer, fwhm)
    near = channels - np.maximum(NEAR_END[0] * fwhm, NEAR_END[1] * channels)
    near = np.maximum(near, np.nan_to_num(found.position)[:, None] + fwhm)
    root = np.where(channel >= near, np.sqrt(weight), 0.0)
    fitted = seen * root[:, None]
    square = fitted @ fitted.swapaxes(1, 2)
    trace = np.trace(square, axis1=1, axis2=2)[:, None, None]
    square += np.eye(len(BEYOND)) * (1e-6 * trace + 1e-300)
    levels = np.linalg.solve(square, fitted @ (root * target)[..., None])
    return (levels.swapaxes(1, 2) @ seen)[:, 0]


def _stretches_seen(channels, size, pad, transfer, fwhm):
    """What the window sees of one count in every channel of each stretch, ``(batch, 4, channels)``.

    The sum of the response over a stretch is the difference of its running sums.
    """
    response = fft.irfft(transfer, size)
    running = np.concatenate([np.zeros_like(response[..., :1]), response.cumsum(axis=-1)], axis=-1)
    running = np.broadcast_to(running, (len(fwhm), size + 1))
    edges = np.hstack([np.minimum(np.ceil(np.array(BEYOND) * fwhm), pad // 2), 0 * fwhm + pad // 2])
    place = size + 1 + np.arange(channels) - channels - edges.astype(int)[..., None]
    sums = np.take_along_axis(running[:, None], place, axis=-1)
    return sums[:, :-1] - sums[:, 1:]


def _fit_peak(target, peak, slope, dot, elastic):
    """Counts (if not given) and shift of the elastic peak, by least squares over its core."""
    pp, ps, ss = dot(peak, peak), dot(peak, slope), dot(slope, slope)
    tp, ts = dot(target, peak), dot(target, slope)
    if elastic is None:
        determinant = np.maximum(pp * ss - ps**2, 1e-12 * pp * ss + 1e-300)
        elastic = (ss * tp - ps * ts) / determinant
        change = (pp * ts - ps * tp) / determinant
    else:
        change = (ts - elastic * ps) / np.maximum(ss, 1e-300)
    # Moved by d, the peak changes by its slope (transform times -2 pi i f) times d.
    shift = change / np.where(np.abs(elastic) > 1e-300, elastic, np.inf)
    return elastic, np.clip(shift, -MAX_SHIFT, MAX_SHIFT)


def expected_variance(counts, noise, fwhm):
    """Noise variance of every channel, from the data alone.

    Where counts are many they are their own expectation. Where they are few, their mean is, over
    runs of channels that are at least half a zero-loss width long and hold what 25 electrons
    make, be it as noise of the readout: over each run the squared noise then is what is expected.
    The result has no say: one that claims too many counts would be granted the noise of them.

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
    longest = ELECTRONS * 2 / np.nan_to_num(fwhm, nan=4.0)[:, None]
    total = np.cumsum(np.minimum(electrons, longest), axis=-1)
    runs = (total - total[:, :1]) // ELECTRONS
    # The last run is not full: it belongs to the one before.
    runs = np.minimum(runs, np.maximum(total[:, -1:] // ELECTRONS - 1, 0)).astype(int)
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
        zero-loss width past the peak and on (the whole axis where there is no peak).
    whiteness : numpy.ndarray
        Correlation of the residual of neighbouring channels in the loss region, less that of the
        noise itself, in units of its standard error 1 / sqrt(channels).
    worst : numpy.ndarray
        The largest mean square over a window of four zero-loss widths (at least 24 channels), a
        misfit of 2 % of the counts being allowed beside the noise.
    """

    chi2: np.ndarray
    whiteness: np.ndarray
    worst: np.ndarray

    @property
    def misfit(self):
        """Where a result does not explain its data: with honest ones, in under 1 % of cases."""
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
        That of the noise of neighbouring channels, ``(batch,)``.
    clarity : float or numpy.ndarray
        Counts thereabouts over their noise, ``(batch, channels)``; 0 where no misfit is allowed.

    Returns
    -------
    Verdict
        NaN where under two channels lie past the zero-loss peak.
    """
    channels = residual.shape[-1]
    start = np.nan_to_num(np.ceil(found.position + found.fwhm), nan=0.0)
    inside = np.arange(channels) >= start[:, None]
    number = inside.sum(axis=-1)
    kept = np.where(inside, residual, 0.0)
    power = (kept**2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lag_1 = (kept[:, 1:] * kept[:, :-1]).sum(axis=-1) / power
        whiteness = (lag_1 - correlation) * np.sqrt(number)
        chi2 = power / number
    too_few = number < 2
    serious = residual / np.sqrt(1 + (TOLERANCE * clarity) ** 2)
    worst = np.array(
        [
            _worst_window(row[int(first) :], width)
            for row, first, width in zip(serious, start, found.fwhm, strict=True)
        ]
    )
    return Verdict(
        *(np.where(too_few, np.nan, x) for x in (chi2, whiteness, worst.reshape(chi2.shape)))
    )


def _worst_window(residual, fwhm):
    length = max(int(WINDOW * np.nan_to_num(fwhm, nan=0.0)), SMALLEST_WINDOW)
    length = min(length, residual.size)
    if not length:
        return np.nan
    total = np.concatenate([[0.0], np.cumsum(residual**2)])
    return float((total[length:] - total[:-length]).max()) / length


def residual_block(
    spectra, psf=None, *, result, variance=None, respond=None, resolution=None, zero_loss=True
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
    resolution : float, optional
        FWHM in channels of the Gaussian through which the result is seen.
    zero_loss : bool
        Whether the result holds the elastic peak.

    Returns
    -------
    numpy.ndarray
        ``(..., channels + 2)``: the residual in units of the expected noise, chi2 and whiteness.
        NaN where data or response are unusable, or the result is (zeros under a mask, NaN); zeros
        and NaN where data are empty.
    flags : numpy.ndarray of uint8
        Navigation shape.
    """
    channels = spectra.shape[-1]
    nav = spectra.shape[:-1]
    counts, estimate = spectra.reshape(-1, channels), result.reshape(-1, channels)
    seen = inspect(counts)
    flags = seen.flags & (EMPTY | NOT_FINITE)
    flags = np.where(np.isfinite(estimate).all(axis=-1), flags, flags | NOT_FINITE)
    if psf is None:
        psf, found_flags = respond(counts)
        flags |= found_flags
    psf = psf.reshape(-1, psf.shape[-1])
    # A result of zeros holds nothing to judge (left out by a mask); doubtful spectra are judged.
    good = (flags & (EMPTY | NO_ZERO_LOSS | NOT_FINITE) == 0) & estimate.any(axis=-1)
    good = good if len(psf) == 1 else good & (psf.sum(axis=-1) > 0)
    out = np.full((len(counts), channels + 2), np.nan)
    out[flags & EMPTY > 0, :channels] = 0
    if good.any():
        if isinstance(variance, np.ndarray):
            variance = variance.reshape(-1, channels)[good]
        response = measured_response(psf if len(psf) == 1 else psf[good], channels)
        left, verdict = _left_over(
            estimate[good], select(seen, good), response, variance, resolution, zero_loss
        )
        out[good] = np.column_stack([left, verdict.chi2, verdict.whiteness])
    return out.reshape(*nav, channels + 2), flags.astype(np.uint8).reshape(nav)


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
    # The answer keeps an offset, but never a negative one.
    counts = seen.counts + np.maximum(seen.level, 0)[:, None]
    if variance is None:
        variance = expected_variance(seen.counts, seen.noise, found.fwhm)
    variance = np.broadcast_to(variance, counts.shape)
    # A variance of zero, as Poisson's rule gives for empty channels, is no certainty.
    least = 1e-6 * variance.mean(axis=-1, keepdims=True)
    variance = np.maximum(variance, np.maximum(least, np.finfo(float).tiny))
    model = blur_again(
        counts, estimate, response, found, variance, resolution=resolution, zero_loss=zero_loss
    )
    sigma = np.sqrt(variance)
    residual = (counts - model) / sigma
    correlation = getattr(seen.noise, "correlation", 0.0)
    # What a peak holds counts for the channels beside it, too, over which it is blurred.
    around = np.array(
        [
            smooth(row, width)
            for row, width in zip(seen.counts, np.nan_to_num(found.fwhm, nan=4.0), strict=True)
        ]
    )
    return residual, judge(residual, found, correlation, np.nan_to_num(around / sigma))


def select(seen, rows):
    """These rows of inspected spectra."""
    return Inspected(
        seen.counts[rows],
        seen.zero_loss.select(rows),
        seen.level[rows],
        seen.level_error[rows],
        Noise(**{k: v[rows] if np.ndim(v) else v for k, v in vars(seen.noise).items()}),
        seen.flags[rows],
    )
