"""Heights, widths and places of peaks in stacks of spectra (NumPy only)."""

import numpy as np

WIDE_ENOUGH = 4  # channels: around narrower peaks the noise cannot be estimated


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

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import parabola_vertex
    >>> float(parabola_vertex(np.array([0.0, 3.0, 4.0, 1.0]), np.array(2)))
    1.75
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
    """Distance between the half-height crossings around a channel: the full width at half maximum.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``.
    index : numpy.ndarray of int
        The channel of the peak in each spectrum (navigation shape).

    Returns
    -------
    numpy.ndarray
        In channels, interpolated (navigation shape); NaN where one crossing is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian, half_height_width
    >>> round(float(half_height_width(gaussian(64, 30.0, 8.0), np.array(30))), 1)
    8.0
    """
    left, right = half_height_crossings(spectra, index)
    return right - left


def half_height_crossings(spectra, index):
    """Where spectra cross half of their height at ``index``, before and behind it, in channels."""
    flat, index = spectra.reshape(-1, spectra.shape[-1]), np.asarray(index)
    top = index.reshape(-1)
    half = 0.5 * at(flat, top)
    below = flat < half[:, None]
    below[np.arange(len(flat)), top] = False  # a negative peak lies below half of itself
    left, right = nearest(below, top)
    found = (left >= 0) & (right < flat.shape[-1])
    left, right = np.where(found, left, 0), np.where(found, right, 1)

    def crossing(low, high):
        a, b = at(flat, low), at(flat, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            return low + (half - a) / (b - a) * (high - low)

    ends = crossing(left, left + 1), crossing(right, right - 1)
    return tuple(np.where(found, end, np.nan).reshape(index.shape) for end in ends)


def stands_out(spectra, height):
    """Where ``height`` exceeds five times `difference_scatter`.

    The scatter is a median, which is below a limit if more than half of the values are: counting them is
    quicker than sorting.
    """
    values = _second_differences(spectra)
    limit = height / 5 * (0.6745 * np.sqrt(6.0))
    twice = 2 * np.count_nonzero(values < limit[:, None], axis=-1)
    above = twice > values.shape[-1]
    undecided = twice == values.shape[-1]
    if undecided.any():
        above[undecided] = np.median(values[undecided], axis=-1) < limit[undecided]
    return above


def difference_scatter(spectra):
    """Robust scatter of one channel about its neighbours (second differences)."""
    return np.median(_second_differences(spectra), axis=-1) / (0.6745 * np.sqrt(6.0))


def relative_noise(spectra, rows, index, width):
    """Scatter of a channel around the peaks of these rows, over their heights."""
    if not rows.size or spectra.shape[-1] <= 4:  # fewer channels have no fourth difference
        return np.zeros(len(rows))
    reach = np.maximum(width.astype(int), 8)
    first = np.maximum(index - reach, 0)
    number = np.minimum(index + reach + 1, spectra.shape[-1]) - first - 4
    place = first[:, None] + np.arange(number.max() + 4)
    near = spectra[rows[:, None], np.minimum(place, spectra.shape[-1] - 1)]
    inside = np.arange(number.max()) < number[:, None]
    scatter = medians(np.abs(np.diff(near, 4)), inside) / (0.6745 * np.sqrt(70.0))
    return scatter / np.maximum(spectra[rows, index], 1e-300)


def medians(values, chosen):
    """Median of the ``chosen`` values of each row; NaN where there are none."""
    number = chosen.sum(axis=-1)
    ordered = np.sort(np.where(chosen, values, np.inf))
    middle = 0.5 * (at(ordered, np.maximum(number - 1, 0) // 2) + at(ordered, number // 2))
    return np.where(number > 0, middle, np.nan)


def _second_differences(spectra):
    return np.abs(np.diff(spectra, 2))


def highest(spectra, index, reach):
    """The highest channel of each spectrum within ``reach`` of ``index``."""
    widest = int(reach.max(initial=0))
    step = np.arange(-widest, widest + 1)
    place = index[:, None] + step
    allowed = (np.abs(step) <= reach[:, None]) & (place >= 0) & (place < spectra.shape[-1])
    near = np.take_along_axis(spectra, np.clip(place, 0, spectra.shape[-1] - 1), -1)
    return index - widest + np.where(allowed, near, -np.inf).argmax(axis=-1)


def run_above_half(spectra, index):
    """Number of channels around ``index`` that stay above half its height."""
    left, right = nearest(spectra < 0.5 * at(spectra, index)[:, None], index)
    return (right - left - 1).astype(float)


def nearest(mask, index):
    """The last channel before ``index`` and the first from it on that are in ``mask``.

    -1 and the number of channels where there are none.
    """
    channels = mask.shape[-1]
    places = np.concatenate([[-1], np.flatnonzero(mask), [mask.size]])
    start = np.arange(len(mask)) * channels
    following = np.searchsorted(places, start + index)
    left, right = (places[following - step] - start for step in (1, 0))
    return np.maximum(left, -1), np.minimum(right, channels)


def at(spectra, index):
    """The value of each spectrum in one channel."""
    return spectra[np.arange(len(spectra)), index]
