"""The zero-loss peak, responses, blur and noise of low-loss EELS (NumPy and SciPy only).

Everything here works on arrays of shape ``(..., channels)``; positions and widths are in
channels, as their names or docstrings say. Sub-channel positions are fractional channel
indices: 0.0 is the centre of the first channel.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft
from scipy.ndimage import gaussian_filter1d

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
MIN_CHANNELS = 64
MIN_RESOLUTION_CHANNELS = 2.0  # a narrower Gaussian is not representable on the axis
MAX_SHARPENING = 16.0  # largest F/R for which anything is promised
UNDERSAMPLED_FWHM_CHANNELS = 3.0

# Bits of the per-spectrum flag.
EMPTY = 1  # nothing but zeros
NO_ZERO_LOSS = 2  # no zero-loss peak could be found
NOT_FINITE = 4  # NaN or infinity in the spectrum
SATURATED = 8  # flat-topped zero-loss peak
SPIKE = 16  # an isolated channel far above its neighbours
FLAG_TEXT = {
    EMPTY: "empty",
    NO_ZERO_LOSS: "without a zero-loss peak",
    NOT_FINITE: "not finite",
    SATURATED: "with a saturated zero-loss peak",
    SPIKE: "with a spike",
}


@dataclass(frozen=True)
class ZeroLoss:
    """Zero-loss peaks of a stack of spectra; every field has the navigation shape.

    Attributes
    ----------
    position : numpy.ndarray
        Vertex of the parabola through the three highest channels, in (fractional) channels;
        NaN where no zero-loss peak was found.
    fwhm : numpy.ndarray
        Full width at half maximum, in channels; NaN where none was found.
    height : numpy.ndarray
        Height of the peak above zero, in the units of the data.
    """

    position: np.ndarray
    fwhm: np.ndarray
    height: np.ndarray


@dataclass(frozen=True)
class Noise:
    """Noise variance ``gain * counts + floor`` of each spectrum (navigation shape)."""

    gain: np.ndarray
    floor: np.ndarray

    def variance(self, counts):
        """Variance expected in channels that hold ``counts`` (shape ``(..., channels)``)."""
        return self.gain[..., None] * np.maximum(counts, 0) + self.floor[..., None]


def gaussian(channels, position, fwhm):
    """Unit-area Gaussian sampled at the channel centres.

    Parameters
    ----------
    channels : int
        Length of the axis.
    position, fwhm : float or numpy.ndarray
        Centre and full width at half maximum in channels, of the navigation shape.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., channels)``.

    Examples
    --------
    >>> from exspy_deepdeconv.physics import gaussian
    >>> round(float(gaussian(64, 20.3, 4.0).sum()), 6)
    1.0
    """
    sigma = np.asarray(fwhm, float)[..., None] / FWHM_PER_SIGMA
    distance = np.arange(channels) - np.asarray(position, float)[..., None]
    return np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def smooth(spectra, fwhm):
    """Blur with a unit-area Gaussian of ``fwhm`` channels; the end values are continued.

    A width under a twentieth of a channel leaves the data as they are.
    """
    if fwhm < 0.05:
        return np.array(spectra)
    return gaussian_filter1d(spectra, fwhm / FWHM_PER_SIGMA, axis=-1, mode="nearest")


def parabola_vertex(spectra, index):
    """Sub-channel maximum: vertex of the parabola through ``index`` and its neighbours.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``.
    index : numpy.ndarray of int
        The highest channel of each spectrum (navigation shape).

    Returns
    -------
    numpy.ndarray
        Fractional channel, at most half a channel away from ``index``.
    """
    inner = np.clip(index, 1, spectra.shape[-1] - 2)
    left, centre, right = (
        np.take_along_axis(spectra, (inner + step)[..., None], -1)[..., 0].astype(float)
        for step in (-1, 0, 1)
    )
    curvature = left - 2 * centre + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = 0.5 * (left - right) / curvature
    shift = np.where(curvature < 0, shift, 0.0)
    return index + np.where(inner == index, np.clip(shift, -0.5, 0.5), 0.0)


def half_height_width(spectra, index):
    """Distance in channels between the half-height crossings around ``index`` (NaN if one lacks)."""
    channels = np.arange(spectra.shape[-1])
    half = 0.5 * np.take_along_axis(spectra, index[..., None], -1)
    below = spectra < half
    left = np.where(below & (channels < index[..., None]), channels, -1).max(-1)
    right = np.where(below & (channels > index[..., None]), channels, channels.size).min(-1)
    found = (left >= 0) & (right < channels.size)
    left, right = np.where(found, left, 0), np.where(found, right, 1)

    def crossing(low, high):
        a, b = (np.take_along_axis(spectra, i[..., None], -1)[..., 0] for i in (low, high))
        with np.errstate(divide="ignore", invalid="ignore"):
            return low + (half[..., 0] - a) / (b - a) * (high - low)

    width = crossing(right, right - 1) - crossing(left, left + 1)
    return np.where(found, width, np.nan)


def _first_strong_peak(spectrum, index):
    """A narrow peak left of a broad maximum (thick specimens: the plasmon tops the zero-loss)."""
    width = half_height_width(spectrum, np.asarray(index))
    reach = int(index - (width if np.isfinite(width) else 0))
    if reach < 3:
        return index
    candidate = int(np.argmax(spectrum[:reach]))
    tall = spectrum[candidate] > 0.2 * spectrum[index]
    inner = 0 < candidate < reach - 1
    valley = spectrum[candidate:index].min() < 0.7 * spectrum[candidate] if inner else False
    candidate_width = half_height_width(spectrum, np.asarray(candidate)) if inner else np.nan
    narrower = candidate_width < width if np.isfinite(width) else np.isfinite(candidate_width)
    return candidate if tall and valley and narrower else index


def find_zero_loss(spectra):
    """Find the zero-loss peak in the data; it is never assumed to lie at 0 eV.

    The peak is the highest one, unless a narrower peak of at least a fifth of its height stands
    on its low-energy side (a plasmon may overtop the zero-loss peak in a thick specimen). Its
    position is the vertex of the parabola through the three highest channels. Where counts are
    few, both are read from a slightly smoothed spectrum and the smoothing is taken off the width.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.

    Returns
    -------
    ZeroLoss
        NaN position and width where there is no peak with two flanks.

    Examples
    --------
    >>> from exspy_deepdeconv.physics import find_zero_loss, gaussian
    >>> peak = find_zero_loss(1e4 * gaussian(256, 60.25, 8.0))
    >>> round(float(peak.position), 1), round(float(peak.fwhm), 1)
    (60.2, 8.0)
    """
    data = np.nan_to_num(np.asarray(spectra, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    flat = data.reshape(-1, data.shape[-1])
    result = np.full((3, flat.shape[0]), np.nan)
    for row, spectrum in enumerate(flat):
        result[:, row] = _find_one(spectrum)
    return ZeroLoss(*result.reshape((3,) + data.shape[:-1]))


def _find_one(spectrum):
    top = spectrum.max()
    if not top > 0:
        return np.nan, np.nan, np.nan
    # An isolated spike is no peak: a channel must share its height with a neighbour.
    shared = np.minimum(spectrum, 2.5 * np.maximum(np.roll(spectrum, 1), np.roll(spectrum, -1)))
    index = _first_strong_peak(shared, int(np.argmax(shared)))
    index, rough_width = _rough_peak(shared, index)
    taken_off = _smoothing_needed(spectrum, index, rough_width)
    used = smooth(spectrum, taken_off) if taken_off else spectrum
    reach = int(rough_width / 2) + 1
    low = max(index - reach, 0)
    index = low + int(np.argmax(shared[low : index + reach + 1] if not taken_off
                                else used[low : index + reach + 1]))  # fmt: skip
    if not 0 < index < spectrum.size - 1 or not used[index] > 5 * _difference_scatter(used):
        return np.nan, np.nan, np.nan
    width = float(half_height_width(used, np.asarray(index)))
    if not np.isfinite(width) or width > spectrum.size / 4:
        return np.nan, np.nan, np.nan
    width = np.sqrt(max(width**2 - taken_off**2, 1.0))
    return float(parabola_vertex(used, np.asarray(index))), width, used[index]


def _rough_peak(spectrum, index):
    """Channel and width of the peak, smoothed more and more while noise still cuts it short."""
    width = _run_above_half(spectrum, index)
    for blur in (3.0, 5.0, 9.0, 16.0, 28.0):
        if blur > max(2.0 * width, 3.0):
            break
        smoothed = smooth(spectrum, blur)
        reach = int(width + blur)
        low = max(index - reach, 0)
        index = low + int(np.argmax(smoothed[low : index + reach + 1]))
        width = np.sqrt(max(_run_above_half(smoothed, index) ** 2 - blur**2, 1.0))
    return index, width


def _smoothing_needed(spectrum, index, width):
    """Blur (channels) under which the noise moves the vertex by less than a fiftieth of F."""
    if width < 4:
        return 0.0
    reach = max(int(width), 8)
    near = spectrum[max(index - reach, 0) : index + reach + 1]
    scatter = np.median(np.abs(np.diff(near, 4))) / (0.6745 * np.sqrt(70.0))
    vertex_error = width**2 * scatter / (7.8 * max(spectrum[index], 1e-300))
    return width / 3.0 if vertex_error > 0.02 * width else 0.0


def _difference_scatter(spectrum):
    """Robust scatter of one channel about its neighbours (second differences)."""
    return float(np.median(np.abs(np.diff(spectrum, 2)))) / (0.6745 * np.sqrt(6.0))


def _run_above_half(spectrum, index):
    """Number of channels around ``index`` that stay above half its height."""
    low = np.flatnonzero(spectrum[:index] < 0.5 * spectrum[index])
    high = np.flatnonzero(spectrum[index:] < 0.5 * spectrum[index])
    left = low[-1] if low.size else -1
    right = index + high[0] if high.size else spectrum.size
    return float(right - left - 1)


def estimate_noise(spectra, zero_loss, groups=12):
    """Read the noise from the spectra: variance = gain x counts + floor.

    What a data unit is worth in electrons is unknown (detector gain, summed or averaged frames),
    so both numbers are read from fourth differences, which a blurred spectrum hardly feels. Their
    stride grows with the zero-loss width, so that noise correlated between neighbouring channels
    is not mistaken for little noise. Channels are grouped by intensity and a straight line is
    fitted to the variances of the groups; groups inflated by structure pull little.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.
    zero_loss : ZeroLoss
        As found by `find_zero_loss`.
    groups : int
        Number of intensity groups.

    Returns
    -------
    Noise
        Always finite and positive.
    """
    data = np.asarray(spectra, np.float64)
    flat = data.reshape(-1, data.shape[-1])
    fwhm = np.nan_to_num(zero_loss.fwhm.reshape(-1), nan=8.0)
    gain, floor = np.empty((2, flat.shape[0]))
    for row, (spectrum, width) in enumerate(zip(flat, fwhm, strict=True)):
        gain[row], floor[row] = _noise_of_one(spectrum, width, groups)
    return Noise(gain.reshape(data.shape[:-1]), floor.reshape(data.shape[:-1]))


def _noise_of_one(spectrum, fwhm, groups):
    step = int(np.clip(round(fwhm / 8), 1, 4))
    s = [spectrum[i * step : spectrum.size - (4 - i) * step] for i in range(5)]
    difference = np.abs(s[0] - 4 * s[1] + 6 * s[2] - 4 * s[3] + s[4]) / np.sqrt(70.0)
    level = (s[0] + s[1] + s[2] + s[3] + s[4]) / 5
    # Rounded, and sorted stably: how equal counts are grouped must not hang on rounding errors.
    order = np.argsort(np.round(level / max(np.abs(spectrum).max(), 1e-300), 9), kind="stable")
    size = order.size // groups
    order = order[: size * groups].reshape(groups, size)
    variance = (np.median(difference[order], axis=1) / 0.6745) ** 2
    counts = level[order].mean(axis=1)
    top = max(float(spectrum.max()), 1e-300)
    gain, floor = _fit_line(np.maximum(counts, 0), np.maximum(variance, 1e-18 * top**2))
    # Noise-free data still need a positive scale.
    gain = max(gain, 1e-9 * top)
    return gain, max(floor, (0.3 * gain) ** 2)


def _fit_line(counts, variance):
    """Non-negative ``variance = gain * counts + floor`` by least squares of the relative error.

    Errors are relative to the variance seen: a group that structure has inflated pulls little.
    """
    x, one = counts / variance, 1 / variance
    xx, x1, oo = x @ x, x @ one, one @ one
    sx, so = x.sum(), one.sum()
    determinant = xx * oo - x1**2
    if determinant > 1e-12 * xx * oo:
        gain, floor = (sx * oo - so * x1) / determinant, (so * xx - sx * x1) / determinant
        if gain >= 0 and floor >= 0:
            return gain, floor
    only_gain, only_floor = sx / max(xx, 1e-300), so / max(oo, 1e-300)
    error = [np.sum((1 - only_gain * x) ** 2), np.sum((1 - only_floor * one) ** 2)]
    return (only_gain, 0.0) if error[0] <= error[1] else (0.0, only_floor)


def resolution_range(fwhm_channels):
    """Smallest and largest resolution in channels for a zero-loss peak of this width."""
    coarsest = max(float(fwhm_channels), MIN_RESOLUTION_CHANNELS)
    finest = min(max(MIN_RESOLUTION_CHANNELS, fwhm_channels / MAX_SHARPENING), coarsest)
    return finest, coarsest


def default_resolution(fwhm_channels):
    """A quarter of the zero-loss width, never under 2 channels (in channels).

    An undersampled zero-loss peak (under 3 channels) leaves nothing to gain: its own width is kept.
    """
    if fwhm_channels < UNDERSAMPLED_FWHM_CHANNELS:
        return max(float(fwhm_channels), MIN_RESOLUTION_CHANNELS)
    return max(fwhm_channels / 4.0, MIN_RESOLUTION_CHANNELS)


def centred_response(psf, channels):
    """Bring a measured response to unit area, on ``channels`` channels around its maximum.

    Parameters
    ----------
    psf : numpy.ndarray
        Measured zero-loss peaks, shape ``(..., any length)``. Negative readings are set to zero.
    channels : int
        Length of the answer's half axis: it covers ``-channels .. channels - 1``.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., 2 * channels)``; the energy zero (vertex of the parabola through the three
        highest channels) lies at index ``channels``.

    Raises
    ------
    ValueError
        If a response has no positive counts.
    """
    psf = np.asarray(psf, np.float64)
    flat = psf.reshape(-1, psf.shape[-1])
    out = np.zeros((flat.shape[0], 2 * channels))
    for row, response in enumerate(flat):
        if not np.isfinite(response).all() or not response.max() > 0:
            raise ValueError("psf must be finite and hold a positive zero-loss peak.")
        index = int(np.argmax(response))
        vertex = float(parabola_vertex(response, np.asarray(index)))
        take = np.arange(2 * channels) - channels + index
        inside = (take >= 0) & (take < response.size)
        out[row, inside] = np.maximum(response[take[inside]], 0)
        out[row] = np.maximum(shift_channels(out[row], index - vertex), 0)
        out[row] /= out[row].sum()
    return out.reshape(psf.shape[:-1] + (2 * channels,))


def shift_channels(spectra, shift):
    """Move spectra by a fraction of a channel (Fourier shift on an axis padded with its ends)."""
    size = spectra.shape[-1]
    pad = 16
    padding = [(0, 0)] * (spectra.ndim - 1) + [(pad, pad)]
    padded = np.pad(spectra, padding, mode="edge")
    frequency = fft.rfftfreq(padded.shape[-1])
    phase = np.exp(-2j * np.pi * frequency * np.asarray(shift)[..., None])
    moved = fft.irfft(fft.rfft(padded, axis=-1) * phase, padded.shape[-1], axis=-1)
    return moved[..., pad : pad + size]


def spectrum_flags(spectra, zero_loss):
    """Flag bits of each spectrum (navigation shape, uint8): see the constants of this module."""
    spectra = np.asarray(spectra)
    finite = np.isfinite(spectra).all(axis=-1)
    empty = finite & (spectra == 0).all(axis=-1)
    lost = finite & ~empty & np.isnan(zero_loss.position)
    top = spectra.max(axis=-1, keepdims=True)
    found = finite & ~empty & ~lost
    plateau = found & ((spectra == top).sum(axis=-1) >= 4)
    neighbours = np.maximum(spectra[..., :-2], spectra[..., 2:])
    height = np.where(found, np.nan_to_num(zero_loss.height), np.inf)[..., None]
    spike = found & (
        (spectra[..., 1:-1] > 5 * np.abs(neighbours)) & (spectra[..., 1:-1] > 0.05 * height)
    ).any(axis=-1)
    flags = EMPTY * empty + NO_ZERO_LOSS * lost + NOT_FINITE * ~finite
    return (flags + SATURATED * plateau + SPIKE * spike).astype(np.uint8)
