"""Find the zero-loss peak in the data (NumPy and SciPy only)."""

from dataclasses import dataclass

import numpy as np

from .blur import smooth


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


def _first_strong_peak(spectrum, index, scatter):
    """A narrow peak left of a broad maximum (thick specimens: the plasmon tops the zero-loss).

    Noise and hot pixels on the gain side are none: the peak must stand out of a smoothed
    spectrum and be three channels wide at half its height.
    """
    width = _run_above_half(spectrum, index)
    reach = int(index - width)
    if reach < 3:
        return index
    smoothed = smooth(spectrum, 3.0)
    candidate = int(np.argmax(smoothed[:reach]))
    if not 0 < candidate < reach - 1:
        return index
    height = smoothed[candidate]
    valley = smoothed[candidate:index].min() < 0.7 * height
    tall = height > max(0.2 * smoothed[index], 10 * scatter)
    candidate_width = _run_above_half(spectrum, candidate)
    return candidate if tall and valley and 3 <= candidate_width < 0.5 * width else index


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
    scatter = _difference_scatter(spectrum)
    index = _first_strong_peak(shared, int(np.argmax(shared)), scatter)
    index, rough_width = _rough_peak(shared, index)
    taken_off = _smoothing_needed(spectrum, index, rough_width)
    used = smooth(spectrum, taken_off) if taken_off else spectrum
    reach = int(rough_width / 2) + 1
    low = max(index - reach, 0)
    searched = used if taken_off else shared
    index = low + int(np.argmax(searched[low : index + reach + 1]))
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
