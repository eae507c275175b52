"""Find the zero-loss peak in the data (NumPy and SciPy only)."""

from dataclasses import dataclass

import numpy as np

from .blur import smooth, smooth_each

SPIKE_RATIO = 2.5  # a channel higher than this many times both neighbours is cut to that height
ROUGH_BLURS = (3.0, 5.0, 9.0, 16.0, 28.0)  # channels
# By how much (in widths) noise must be expected to move the vertex of a parabola through three
# channels for a cubic through more of them to be better in a narrow peak, and for the peak to be
# smoothed.
UNCERTAIN, DOUBTFUL = 0.004, 0.02
# Smoothing that widens a peak this many times has merged it with the losses behind, if the peak is so
# many times as high as the noise around it: then noise has not cut it short.
MERGED, CLEAR_OF_NOISE = 1.5, 50.0
# Channels: narrower peaks have too few for a cubic, wider ones are better off with it in any case
# (noise that neighbours share does not show).
NARROW, WIDE = 6.0, 12.0
WIDE_ENOUGH = 4  # channels: of narrower peaks the noise around them cannot be told
# Reach of the cubic to either side, in widths. It leans where the peak is no cubic, the more the
# farther it reaches: it does so only where electrons are fewer than these.
REACHES = {np.inf: 0.35, 3e5: 0.5, 2e4: 0.75}
FARTHEST = 0.6  # from the middle that its maximum may be, in reaches
# Standard error of what smoothing adds to the square of a width, in units of what it adds to that of a
# Gaussian, times the root of the electrons; and by how much the two may differ (a Lorentzian: 0.8).
WIDENING_NOISE, MOST_UNLIKE = 15.0, 1.0
FALLBACK_WIDTH = 8.0  # channels: where no peak was found, but a width is needed


@dataclass(frozen=True)
class ZeroLoss:
    """Zero-loss peaks of a stack of spectra; every field has the navigation shape.

    Attributes
    ----------
    position : numpy.ndarray
        Of the maximum, in (fractional) channels; NaN where no zero-loss peak was found.
    fwhm : numpy.ndarray
        Full width at half maximum, in channels; NaN where none was found.
    height : numpy.ndarray
        Height of the peak above zero, in the units of the data.
    """

    position: np.ndarray
    fwhm: np.ndarray
    height: np.ndarray

    @property
    def some_width(self):
        """Full width at half maximum, `FALLBACK_WIDTH` where no peak was found."""
        return np.nan_to_num(self.fwhm, nan=FALLBACK_WIDTH)

    def select(self, rows):
        """The peaks of these spectra."""
        return ZeroLoss(self.position[rows], self.fwhm[rows], self.height[rows])


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
    left, right = half_height_crossings(spectra, index)
    return right - left


def half_height_crossings(spectra, index):
    """Where spectra cross half of their height at ``index``, before and behind it, in channels."""
    flat, index = spectra.reshape(-1, spectra.shape[-1]), np.asarray(index)
    top = index.reshape(-1)
    half = 0.5 * at(flat, top)
    below = flat < half[:, None]
    below[np.arange(len(flat)), top] = False  # a negative one lies below its half
    left, right = nearest(below, top)
    found = (left >= 0) & (right < flat.shape[-1])
    left, right = np.where(found, left, 0), np.where(found, right, 1)

    def crossing(low, high):
        a, b = at(flat, low), at(flat, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            return low + (half - a) / (b - a) * (high - low)

    ends = crossing(left, left + 1), crossing(right, right - 1)
    return tuple(np.where(found, end, np.nan).reshape(index.shape) for end in ends)


def find_zero_loss(spectra):
    """Find the zero-loss peak in the data; it is never assumed to lie at 0 eV.

    The peak is the highest one, unless a narrower peak of at least a fifth of its height stands
    on its low-energy side (a plasmon may overtop the zero-loss peak in a thick specimen). Its
    position is the maximum of a cubic through the logarithms of the counts around it (cubic, since
    peaks may lean to one side); that of narrow ones, unless noise would move it by more than a few
    thousandths of the width, is the vertex of the parabola through the three highest channels. Where
    counts are few, height and width are read from a slightly smoothed spectrum and the smoothing is
    taken off the width.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.

    Returns
    -------
    ZeroLoss
        NaN position and width where there is no peak with two flanks.

    Raises
    ------
    ValueError
        If the spectra have less than three channels.

    Examples
    --------
    >>> from exspy_deepdeconv.physics import find_zero_loss, gaussian
    >>> peak = find_zero_loss(1e4 * gaussian(256, 60.25, 8.0))
    >>> round(float(peak.position), 1), round(float(peak.fwhm), 1)
    (60.2, 8.0)
    """
    data = np.asarray(spectra, np.float64)
    if data.ndim == 0 or data.shape[-1] < 3:
        raise ValueError(f"spectra of shape {data.shape}: a peak takes at least 3 channels.")
    if not np.isfinite(data).all():
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    flat = data.reshape(-1, data.shape[-1])
    result = np.full((3, len(flat)), np.nan)
    rows = np.flatnonzero(flat.max(axis=-1) > 0)
    if rows.size:
        result[:, rows] = _find(flat if rows.size == len(flat) else flat[rows])
    return ZeroLoss(*result.reshape((3,) + data.shape[:-1]))


def _find(spectra):
    """Position, width and height of spectra that have positive counts, ``(3, batch)``."""
    # An isolated spike is no peak: a channel must share its height with a neighbour.
    ring = np.concatenate([spectra[:, -1:], spectra, spectra[:, :1]], axis=1)
    shared = np.minimum(spectra, SPIKE_RATIO * np.maximum(ring[:, :-2], ring[:, 2:]))
    index, width = _first_strong_peak(spectra, shared, shared.argmax(axis=-1))
    index, width = _not_merged(spectra, (index, width), _rough_peak(shared, index, width))
    doubt = _vertex_error(spectra, index, width)
    taken_off = np.where(doubt > DOUBTFUL, width / 3.0, 0.0)
    used = smooth_each(spectra, taken_off)
    searched = np.where(taken_off[:, None] > 0, used, shared)
    index = _highest(searched, index, (width / 2).astype(int) + 1)
    height, width = at(used, index), half_height_width(used, index)
    channels = spectra.shape[-1]
    found = (index > 0) & (index < channels - 1) & (width <= channels / 4)
    found &= stands_out(used, height)
    rows = np.flatnonzero(found & (taken_off > 0))
    width[rows] = _width_before(used[rows], index[rows], width[rows], taken_off[rows], doubt[rows])
    width = np.maximum(width, 1.0)
    position = parabola_vertex(used, index)
    rows = np.flatnonzero(found & (width >= np.where(doubt > UNCERTAIN, NARROW, WIDE)))
    if rows.size:
        reach = _reach(width[rows], doubt[rows])
        for _ in range(2):  # the second time around the maximum that was found
            position[rows] = _cubic_maximum(spectra[rows], position[rows], reach)
    return np.where(found, [position, width, height], np.nan)


def _width_before(smoothed, index, width, blur, doubt):
    """Widths before the peaks were smoothed with Gaussians of ``blur`` channels.

    A Gaussian's grows in squares. How much more that of a peak with tails has grown, and how much less
    that of one with a flat top, shows when it is smoothed to twice as much; the less that stands out of
    its own error, the less of it is believed.
    """
    if not len(index):
        return width
    twice = smooth_each(smoothed, np.sqrt(3.0) * blur)
    top = _highest(twice, index, (width / 2).astype(int))
    unlike = (half_height_width(twice, top) ** 2 - width**2) / (3 * blur**2) - 1
    unlike = np.clip(np.nan_to_num(unlike), -MOST_UNLIKE, MOST_UNLIKE)
    error = WIDENING_NOISE**2 / np.maximum(_electrons(width, doubt), 1e-12)
    believed = unlike**3 / (unlike**2 + error)
    return np.sqrt(np.maximum(width**2 - blur**2 * (1 + believed), 1.0))


def _electrons(width, doubt):
    """How many the `_vertex_error` tells of, in Gaussian peaks of 8 to 60 channels."""
    return (0.085 * width**1.5 / np.maximum(doubt, 1e-12)) ** 2


def _reach(width, doubt):
    """How far the cubic goes to either side, in channels: the fewer the electrons, the farther."""
    electrons = _electrons(width, doubt)
    share = np.full(len(width), np.nan)
    for fewest, reach in REACHES.items():
        share[electrons <= fewest] = reach
    # Of narrow peaks fewer channels would be left than a cubic takes.
    return width * np.where(width < WIDE, np.maximum(share, REACHES[3e5]), share)


def _cubic_maximum(spectra, position, reach):
    """Maximum of the cubic through the logarithms within ``reach``; ``position`` where it has none."""
    half = int(np.ceil(reach.max())) + 1
    place = np.floor(position + 0.5).astype(int)[:, None] + np.arange(-half, half + 1)
    seen = np.take_along_axis(spectra, np.clip(place, 0, spectra.shape[-1] - 1), -1)
    x = (place - position[:, None]) / reach[:, None]
    inside = (np.abs(x) < 1) & (place >= 0) & (place < spectra.shape[-1])
    top = np.where(inside, seen, 0).max(axis=-1, keepdims=True)
    share = np.maximum(seen / top, 1e-3)
    # The noise of a logarithm is one over the root of the counts. Towards the ends less and less is
    # believed, so that no channel makes a jump when it comes in.
    weight = np.where(inside, share * (1 - x**2), 0.0)
    powers = x[..., None] ** np.arange(4)
    matrix = np.einsum("bc,bci,bcj->bij", weight, powers, powers)
    vector = np.einsum("bc,bci,bc->bi", weight, powers, np.log(share))
    matrix = matrix + 1e-9 * weight.sum(axis=-1)[:, None, None] * np.eye(4)
    _, c, b, a = np.linalg.solve(matrix, vector[..., None])[..., 0].T
    # Of the derivative c + 2 b x + 3 a x^2 the root at which the cubic is highest.
    under = b**2 - 3 * a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        maximum = c / (np.sqrt(under) - b)
    good = (b < 0) & (under > 0) & (np.abs(maximum) < FARTHEST)
    return position + np.where(good, maximum, 0.0) * reach


def _first_strong_peak(spectra, shared, index):
    """A narrow peak left of a broad maximum (thick specimens: the plasmon tops the zero-loss).

    Noise and hot pixels on the gain side are none: the peak must stand out of a smoothed
    spectrum and be three channels wide at half its height.

    Returns
    -------
    index : numpy.ndarray of int
        Where the peak is, in each spectrum.
    width : numpy.ndarray
        The number of channels around it above half its height.
    """
    width = _run_above_half(shared, index)
    reach = (index - width).astype(int)
    channel = np.arange(shared.shape[-1])
    blur = ROUGH_BLURS[0]
    # Few spectra have anything there; no smoothing makes a higher peak of it.
    tallest = np.where(channel < reach[:, None] + int(2 * blur), shared, -np.inf).max(axis=-1)
    least = 0.2 * _smoothed_near(shared, index, 0, blur)[:, 0]
    rows = np.flatnonzero((reach >= 3) & (tallest > least))
    if not rows.size:
        return index, width
    smoothed = smooth(shared[rows], blur)
    reach, before = reach[rows], index[rows]
    candidate = np.where(channel < reach[:, None], smoothed, -np.inf).argmax(axis=-1)
    height = at(smoothed, candidate)
    likely = (candidate > 0) & (candidate < reach - 1) & (height > least[rows])
    between = (channel >= candidate[:, None]) & (channel < before[:, None])
    likely &= np.where(between, smoothed, np.inf).min(axis=-1) < 0.7 * height
    rows, candidate, height = rows[likely], candidate[likely], height[likely]
    narrow = _run_above_half(shared[rows], candidate)
    found = (height > 10 * _difference_scatter(spectra[rows])) & (narrow >= 3)
    found &= narrow < 0.5 * width[rows]
    index, width = index.copy(), width.copy()
    index[rows[found]], width[rows[found]] = candidate[found], narrow[found]
    return index, width


def _rough_peak(spectra, index, width):
    """Channel and width of the peak, smoothed more and more while noise still cuts it short."""
    # Where the peak is cut by an end of the axis, smoothing, which repeats the last value, moves it.
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
    noise = _relative_noise(spectra, rows, index[rows], width[rows])
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
    top = _highest(np.where(inside, near, -np.inf), np.full(len(near), half), reach)
    below = inside & (near < 0.5 * at(near, top)[:, None])
    left, right = nearest(below, top)
    # Beyond the ends of the axis there is nothing to be found.
    first, stop = (np.clip(x + index - half, -1, channels) for x in (left, right))
    cut = ((left < 0) & (index > half)) | ((right > 2 * half) & (index + half < channels - 1))
    top, run = top + index - half, (stop - first - 1.0)
    if cut.any():
        smoothed = smooth(spectra[cut], blur)
        run[cut] = _run_above_half(smoothed, top[cut])
    return top, run


def _smoothed_near(spectra, index, half, blur):
    """Smoothed spectra within ``half`` channels of ``index``, ``(batch, 2 * half + 1)``."""
    margin = int(2 * blur)  # the Gaussian is cut off at four sigmas, 1.7 widths
    place = index[:, None] + np.arange(-half - margin, half + margin + 1)
    near = np.take_along_axis(spectra, np.clip(place, 0, spectra.shape[-1] - 1), -1)
    return smooth(near, blur)[:, margin : near.shape[-1] - margin]


def _vertex_error(spectra, index, width):
    """How far noise moves the vertex, in widths; 0 for narrow peaks, of which it cannot be told."""
    error = np.zeros(len(spectra))
    rows = np.flatnonzero(width >= WIDE_ENOUGH)
    error[rows] = width[rows] * _relative_noise(spectra, rows, index[rows], width[rows]) / 7.8
    return error


def _relative_noise(spectra, rows, index, width):
    """Scatter of a channel around the peaks of these rows, over their heights."""
    if not rows.size or spectra.shape[-1] <= 4:  # fewer channels have no fourth difference
        return np.zeros(len(rows))
    reach = np.maximum(width.astype(int), 8)
    first = np.maximum(index - reach, 0)
    number = np.minimum(index + reach + 1, spectra.shape[-1]) - first - 4
    place = first[:, None] + np.arange(number.max() + 4)
    near = spectra[rows[:, None], np.minimum(place, spectra.shape[-1] - 1)]
    scatter = _medians(np.abs(np.diff(near, 4)), number) / (0.6745 * np.sqrt(70.0))
    return scatter / np.maximum(spectra[rows, index], 1e-300)


def _medians(values, number):
    """Median of the first ``number`` values of each row; NaN where there are none."""
    ordered = np.sort(np.where(np.arange(values.shape[-1]) < number[:, None], values, np.inf))
    middle = 0.5 * (at(ordered, np.maximum(number - 1, 0) // 2) + at(ordered, number // 2))
    return np.where(number > 0, middle, np.nan)


def _second_differences(spectra):
    return np.abs(np.diff(spectra, 2))


def _difference_scatter(spectra):
    """Robust scatter of one channel about its neighbours (second differences)."""
    return np.median(_second_differences(spectra), axis=-1) / (0.6745 * np.sqrt(6.0))


def stands_out(spectra, height):
    """Where ``height`` exceeds five times the scatter.

    A median is below a limit if more than half of the values are: counting is quicker.
    """
    values = _second_differences(spectra)
    limit = height / 5 * (0.6745 * np.sqrt(6.0))
    twice = 2 * np.count_nonzero(values < limit[:, None], axis=-1)
    above = twice > values.shape[-1]
    undecided = twice == values.shape[-1]
    if undecided.any():
        above[undecided] = np.median(values[undecided], axis=-1) < limit[undecided]
    return above


def _highest(spectra, index, reach):
    """The highest channel of each spectrum within ``reach`` of ``index``."""
    widest = int(reach.max(initial=0))
    step = np.arange(-widest, widest + 1)
    place = index[:, None] + step
    allowed = (np.abs(step) <= reach[:, None]) & (place >= 0) & (place < spectra.shape[-1])
    near = np.take_along_axis(spectra, np.clip(place, 0, spectra.shape[-1] - 1), -1)
    return index - widest + np.where(allowed, near, -np.inf).argmax(axis=-1)


def _run_above_half(spectra, index):
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
