"""Where the zero-loss peak is, within a channel or two (NumPy and SciPy only)."""

import numpy as np

from .blur import smooth
from .peaks import (
    WIDE_ENOUGH,
    at,
    difference_scatter,
    highest,
    nearest,
    relative_noise,
    run_above_half,
)

SPIKE_RATIO = 2.5  # a channel higher than this many times both neighbours is cut to that height
ROUGH_BLURS = (3.0, 5.0, 9.0, 16.0, 28.0)  # channels (FWHM), tried one after the other
# Smoothing that widens a peak by more than the first factor has merged it with the losses behind it; but
# only if the peak is higher than the noise by the second, so that noise has not cut it short.
MERGED, CLEAR_OF_NOISE = 1.5, 50.0


def without_spikes(spectra):
    """The spectra with isolated spikes, which are no peaks, cut down by their neighbours."""
    ring = np.concatenate([spectra[:, -1:], spectra, spectra[:, :1]], axis=1)
    return np.minimum(spectra, SPIKE_RATIO * np.maximum(ring[:, :-2], ring[:, 2:]))


def rough_peak(spectra, shared):
    """Channel and width of each zero-loss peak; ``shared`` are the spectra `without_spikes`."""
    index, width = _first_strong_peak(spectra, shared, shared.argmax(axis=-1))
    return _not_merged(spectra, (index, width), _widened(shared, index, width))


def _first_strong_peak(spectra, shared, index):
    """A narrow peak left of a broad maximum (thick specimens: the plasmon is higher than it).

    To exclude noise and hot pixels on the gain side, the peak must stand out of a smoothed
    spectrum and be three channels wide at half its height.

    Returns
    -------
    index : numpy.ndarray of int
        Where the peak is, in each spectrum.
    width : numpy.ndarray
        The number of channels around it above half its height.
    """
    width = run_above_half(shared, index)
    reach = (index - width).astype(int)
    blur = ROUGH_BLURS[0]
    # Few spectra have anything there; smoothing could not make it higher.
    before = shared[:, : index.max() + int(2 * blur)]  # what is behind the maxima does not matter
    channel = np.arange(before.shape[-1])
    tallest = np.where(channel < reach[:, None] + int(2 * blur), before, -np.inf).max(axis=-1)
    least = 0.2 * _smoothed_near(shared, index, 0, blur)[:, 0]
    rows = np.flatnonzero((reach >= 3) & (tallest > least))
    if not rows.size:
        return index, width
    smoothed = smooth(before[rows], blur)
    reach, top = reach[rows], index[rows]
    candidate = np.where(channel < reach[:, None], smoothed, -np.inf).argmax(axis=-1)
    height = at(smoothed, candidate)
    likely = (candidate > 0) & (candidate < reach - 1) & (height > least[rows])
    between = (channel >= candidate[:, None]) & (channel < top[:, None])
    likely &= np.where(between, smoothed, np.inf).min(axis=-1) < 0.7 * height
    rows, candidate, height = rows[likely], candidate[likely], height[likely]
    narrow = run_above_half(shared[rows], candidate)
    found = (height > 10 * difference_scatter(spectra[rows])) & (narrow >= 3)
    found &= narrow < 0.5 * width[rows]
    index, width = index.copy(), width.copy()
    index[rows[found]], width[rows[found]] = candidate[found], narrow[found]
    return index, width


def _widened(spectra, index, width):
    """Channel and width of the peak, smoothed more and more while noise still cuts it short."""
    # Smoothing repeats the last value, which would move a peak that an end of the axis cuts.
    whole = (index >= width) & (index + width < spectra.shape[-1])
    index, width, rows = index.copy(), width.copy(), np.flatnonzero(whole)
    for blur in ROUGH_BLURS:
        rows = rows[blur <= np.maximum(2.0 * width[rows], ROUGH_BLURS[0])]
        if not rows.size:
            break
        reach = (width[rows] + blur).astype(int)
        index[rows], run = _smoothed_peak(spectra[rows], index[rows], reach, blur)
        width[rows] = np.sqrt(np.maximum(run**2 - blur**2, 1.0))
    return index, width


def _not_merged(spectra, plain, smoothed):
    """Channels and widths of the smoothed peaks; the plain ones where smoothing has merged them."""
    (index, width), (rough_index, rough_width) = plain, smoothed
    rows = np.flatnonzero((rough_width > MERGED * width) & (width >= WIDE_ENOUGH))
    noise = relative_noise(spectra, rows, index[rows], width[rows])
    rows = rows[(noise > 0) & (CLEAR_OF_NOISE * noise < 1)]
    rough_index[rows], rough_width[rows] = index[rows], width[rows]
    return rough_index, rough_width


def _smoothed_peak(spectra, index, reach, blur):
    """Highest channel within ``reach`` of ``index`` and its run above half, both smoothed.

    Only the surroundings of the peak are smoothed, unless it turns out to reach beyond them.
    """
    channels = spectra.shape[-1]
    half = min(3 * int(reach.max()) + int(blur), channels)
    near = _smoothed_near(spectra, index, half, blur)
    place = index[:, None] + np.arange(-half, half + 1)
    inside = (place >= 0) & (place < channels)
    top = highest(np.where(inside, near, -np.inf), np.full(len(near), half), reach)
    below = inside & (near < 0.5 * at(near, top)[:, None])
    left, right = nearest(below, top)
    # Beyond the ends of the axis there are no channels.
    first, stop = (np.clip(x + index - half, -1, channels) for x in (left, right))
    cut = ((left < 0) & (index > half)) | ((right > 2 * half) & (index + half < channels - 1))
    top, run = top + index - half, (stop - first - 1.0)
    if cut.any():
        smoothed = smooth(spectra[cut], blur)
        run[cut] = run_above_half(smoothed, top[cut])
    return top, run


def _smoothed_near(spectra, index, half, blur):
    """Smoothed spectra within ``half`` channels of ``index``, ``(batch, 2 * half + 1)``."""
    margin = int(2 * blur)  # the Gaussian is cut off at four sigmas, 1.7 widths
    place = index[:, None] + np.arange(-half - margin, half + margin + 1)
    near = np.take_along_axis(spectra, np.clip(place, 0, spectra.shape[-1] - 1), -1)
    return smooth(near, blur)[:, margin : near.shape[-1] - margin]
