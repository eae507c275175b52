"""How much wider a zero-loss peak is than a response, losses under it allowed for (NumPy and SciPy).

Losses right behind the peak raise it on one side, broad ones under it lift all of it: its width at half
height is then larger, though the response is the same.
"""

from itertools import combinations

import numpy as np

GAIN_SIDE, LOSS_SIDE = 1.5, 1.0  # widths to either side of the peak that are fitted
FEWEST = 8  # channels that can tell five shapes apart
SOFTNESS = 0.01  # of every channel: responses are never exact, however many the counts
NEGLIGIBLE = 1e-12  # added to the normal matrix, as a share of its diagonal: shapes may be alike


def stretch(peaks, zero, seen):
    """Fit responses to zero-loss peaks: counts, shift, width and the losses under the peak.

    The losses are a flat level and the response's running sum (what begins at the energy zero), neither
    of them negative. Of the width, the fit is the first order: it holds for some ten per cent.

    Parameters
    ----------
    peaks : numpy.ndarray
        Responses as far as they matter, placed like the zero-loss peaks between two channels,
        ``(1 or batch, n)``.
    zero : int
        The index at which the channel nearest to the peak lies.
    seen : Inspected
        The spectra, ``(batch,)``, all of them usable.

    Returns
    -------
    apart : numpy.ndarray
        Width of the peak over that of the response, less 1; NaN where too few channels tell it.
    error : numpy.ndarray
        Standard error of this; both ``(batch,)``.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian, inspect
    >>> from exspy_deepdeconv.response.stretch import stretch
    >>> losses = 0.002 / (1 + ((np.arange(512) - 120) / 80) ** 2)
    >>> spectra = 1e7 * (gaussian(512, 120.0, np.array([10.0, 10.3])) + losses)
    >>> stretch(gaussian(160, 80.0, 10.0)[None], 80, inspect(spectra))[0].round(2)
    array([0.  , 0.03])
    """
    found = seen.zero_loss
    nearest = np.floor(found.position + 0.5).astype(int)
    distance, inside = _window(found, nearest, seen.counts.shape[-1], zero, peaks.shape[-1])
    channel = (nearest[:, None] + distance).clip(0, seen.counts.shape[-1] - 1)
    counts = np.take_along_axis(seen.counts, channel, axis=-1)
    variance = np.take_along_axis(seen.noise.variance(seen.counts), channel, axis=-1)
    weight = inside / np.sqrt(variance + (SOFTNESS * counts) ** 2 + 1e-300)
    shapes = _shapes(peaks, zero, found.position - nearest)[..., zero + distance]
    shapes = np.broadcast_to(shapes, (len(counts), *shapes.shape[1:])) * weight[:, None]
    return _least_squares(shapes, counts * weight, inside.sum(axis=-1) >= FEWEST)


def _window(found, nearest, channels, zero, length):
    """Distances from the nearest channel that matter to any peak, and those that do to each."""
    before, after = (int(np.ceil(side * found.fwhm.max())) + 1 for side in (GAIN_SIDE, LOSS_SIDE))
    distance = np.arange(-min(before, zero), min(after, length - zero - 1) + 1)
    from_peak = distance - (found.position - nearest)[:, None]
    fwhm = found.fwhm[:, None]
    inside = (from_peak > -GAIN_SIDE * fwhm) & (from_peak < LOSS_SIDE * fwhm)
    place = nearest[:, None] + distance
    return distance, inside & (place >= 0) & (place < channels)


def _shapes(peaks, zero, apart):
    """What a peak is made of, ``(batch, 5, n)``: counts, shift, stretch, two kinds of losses."""
    energy = np.arange(peaks.shape[-1]) - zero - apart[:, None]
    shift = -np.gradient(peaks, axis=-1)
    wider = -np.gradient(energy * peaks, axis=-1)
    shapes = peaks, shift, wider, np.ones_like(peaks), peaks.cumsum(axis=-1)
    return np.stack(np.broadcast_arrays(*shapes), axis=1)


def _least_squares(shapes, target, enough):
    """Stretch and its standard error, of the best fit whose losses are not negative."""
    scale = np.sqrt((shapes**2).sum(axis=-1)).clip(min=1e-300)
    shapes = shapes / scale[..., None]
    square = shapes @ shapes.swapaxes(1, 2) + NEGLIGIBLE * np.eye(5)
    product = (shapes @ target[..., None])[..., 0]
    best = np.full(len(target), -np.inf)
    apart, error = np.full((2, len(target)), np.nan)
    for number in range(3):
        for losses in combinations((3, 4), number):
            used = [0, 1, 2, *losses]
            inverse = np.linalg.inv(square[:, used][:, :, used])
            coefficients = (inverse @ product[:, used, None])[..., 0]
            explained = (coefficients * product[:, used]).sum(axis=-1)
            better = enough & (coefficients[:, 3:] >= 0).all(axis=-1) & (explained > best)
            unit = scale[:, 0] / scale[:, 2] / np.where(better, coefficients[:, 0], 1)
            best = np.where(better, explained, best)
            apart = np.where(better, coefficients[:, 2] * unit, apart)
            error = np.where(better, np.sqrt(inverse[:, 2, 2]) * np.abs(unit), error)
    return apart, error
