"""Blur a result again: what the instrument would have recorded of it (NumPy and SciPy only).

A result x seen through a Gaussian g of width R is blurred again as ``I0 p + q (*) (x - I0 g)``
with ``q (*) g = p``: its elastic peak is known exactly, and only the rest passes through the
quotient q of the response and the Gaussian, which must be regularised.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft
from numpy.lib.stride_tricks import sliding_window_view

from ..physics import centred_response, gaussian
from ..spectrum.blur import gaussian_transfer, moving, turning
from ..spectrum.peaks import half_height_crossings, half_height_width
from .broadening import STANDARD_ERRORS, broadened, doubtful_width, placed_beside
from .stretch import stretch

DAMPING = 1e-3  # level of the Gaussian's transfer function below which the quotient q is damped
CORE_WIDTHS = 0.75  # zero-loss widths to both sides, where the elastic peak is fitted
UNKNOWN_WIDTH = 4.0  # channels: where no zero-loss peak was found
LINEAR = 0.15  # widths of which more is apart are compared at half height alone
MAX_SHIFT = 1.0  # channels between the energy zeros of a response and of the data
BEYOND = (0.0, 0.5, 2.0, 8.0)  # zero-loss widths: where the stretches beyond the end begin
# Zero-loss widths, and share of the channels, before the end that the fit covers: the longer of them.
NEAR_END = 8.0, 0.25


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

    def circle(self, size):
        """On a circle of ``size`` channels, energy zero at its index 0."""
        loss = self.shape[..., self.zero_channel :][..., : size - size // 3]
        gain = self.shape[..., : self.zero_channel][..., -(size // 3) :]
        circle = np.zeros((*self.shape.shape[:-1], size))
        circle[..., : loss.shape[-1]] = loss
        circle[..., size - gain.shape[-1] :] += gain
        return circle / circle.sum(axis=-1, keepdims=True)


def measured_response(psf, channels):
    """A measured response as a `Response` that reaches ``channels`` to both sides."""
    return Response(centred_response(psf, channels), channels)


def fitted_response(psf, channels, seen):
    """The same, broadened where it is narrower than the zero-loss peaks, as the network gets it.

    Parameters
    ----------
    psf : numpy.ndarray
        One response, ``(length,)`` or ``(1, length)``, or one for each, ``(batch, length)``.
    channels : int
        How far they are to reach to both sides.
    seen : Inspected
        The spectra, ``(batch,)``, all of them usable.

    Returns
    -------
    Response
        One for each.
    """
    return broadened_response(np.atleast_2d(centred_response(psf, channels)), seen)


def broadened_response(centred, seen):
    """The same of responses that are brought to their axis already, ``(1 or batch, 2 * channels)``."""
    return Response(broadened(*beside_peaks(centred, seen)), centred.shape[-1] // 2)


def beside_peaks(centred, seen):
    """What the module ``broadening`` is told of such responses and of zero-loss peaks.

    Where the widths are about the same, losses under the peak are allowed for (`stretch`): they widen it
    at half height.
    """
    found = seen.zero_loss
    peaks, zero = placed_beside(centred, found.position, found.fwhm)
    widths = half_height_width(peaks, peaks.argmax(axis=-1))
    apart, error = stretch(peaks, zero, seen)
    near = (np.abs(apart) < LINEAR) & (np.abs(found.fwhm / widths - 1) < LINEAR)
    doubt = doubtful_width(found.fwhm, found.height, seen.noise)
    top = np.floor(found.position + 0.5).astype(int)
    gain_half = found.position - half_height_crossings(seen.counts, top)[0]
    fwhm = np.where(near, (1 + apart) * widths, found.fwhm)
    doubt = np.where(near, STANDARD_ERRORS * error * widths, doubt)
    return centred, found.position, fwhm, doubt, np.where(near, np.inf, gain_half)


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
    circle = response.circle(size)
    transfer = fft.rfft(circle)
    padded = np.pad(estimate, [(0, 0), (pad, size - channels - pad)], mode="edge")

    def seen(transform):
        return fft.irfft(transform, size)[..., pad : pad + channels]

    def completed(model):
        return model + _scattered_in(counts - model, circle, pad, found, variance)

    if resolution is None:
        return completed(seen(fft.rfft(padded) * transfer))
    frequency = fft.rfftfreq(size)
    sharp = gaussian_transfer(frequency, resolution)
    quotient = transfer * (sharp / (sharp**2 + DAMPING**2))
    position = np.nan_to_num(found.position)[:, None]
    placed = transfer * moving(frequency, position + pad)
    peak, slope = seen(placed), seen(placed * turning(frequency))
    weight = (np.abs(np.arange(channels) - position) < CORE_WIDTHS * found.fwhm[:, None]) / variance

    def dot(a, b):
        return np.einsum("bc,bc,bc->b", weight, a, b)[:, None]

    elastic = dot(peak, counts) / np.maximum(dot(peak, peak), 1e-300)
    rest = padded
    if zero_loss:
        # The part of the peak outside the window is outside the result as well.
        peak_seen = elastic * gaussian(size, position[:, 0] + pad, resolution)
        rest = padded - peak_seen
    rest = seen(fft.rfft(rest) * quotient)
    elastic, shift = _fit_peak(counts - rest, peak, slope, dot, elastic if zero_loss else None)
    moved = placed * moving(frequency, shift)
    return completed(rest + elastic * seen(moved))


def _scattered_in(target, response, pad, found, variance):
    """Counts that come from beyond the upper end of the window.

    The result is continued there with its last value. If the true spectrum continues differently,
    with a peak or at another level, the data show it near the end, as far as the gain side of the
    response reaches: there, the counts to be added in a few stretches beyond the end are fitted.
    """
    channels = target.shape[-1]
    fwhm = np.nan_to_num(found.fwhm, nan=UNKNOWN_WIDTH)[:, None]
    seen = _stretches_seen(channels, pad, response, fwhm)
    near = channels - np.maximum(NEAR_END[0] * fwhm, NEAR_END[1] * channels)
    near = np.maximum(near, np.nan_to_num(found.position)[:, None] + fwhm)
    end = slice(int(near.min()), channels)  # what is near in any of the spectra
    root = np.where(np.arange(channels)[end] >= near, 1 / np.sqrt(variance[:, end]), 0.0)
    fitted = seen[..., end] * root[:, None]
    square = fitted @ fitted.swapaxes(1, 2)
    trace = np.trace(square, axis1=1, axis2=2)[:, None, None]
    square += np.eye(len(BEYOND)) * (1e-6 * trace + 1e-300)
    levels = np.linalg.solve(square, fitted @ (root * target[:, end])[..., None])
    return (levels.swapaxes(1, 2) @ seen)[:, 0]


def _stretches_seen(channels, pad, response, fwhm):
    """Counts in the window from one count in every channel of a stretch, ``(batch, 4, channels)``.

    The sum of the response over a stretch is the difference of its running sums.
    """
    running = np.broadcast_to(response.cumsum(axis=-1), (len(fwhm), response.shape[-1]))
    edges = np.hstack([np.minimum(np.ceil(np.array(BEYOND) * fwhm), pad // 2), 0 * fwhm + pad // 2])
    first = running.shape[-1] - channels - edges.astype(int)
    sums = sliding_window_view(running, channels, axis=-1)[np.arange(len(fwhm))[:, None], first]
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
