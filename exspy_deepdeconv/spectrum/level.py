"""The flat offset under a spectrum (dark current, readout), read from the spectrum itself (NumPy)."""

from dataclasses import dataclass, replace

import numpy as np

from .segments import SHORTEST_SEGMENT, Segments, straight_line

SHORTEST = 24  # channels from which an offset can be read
SIGNIFICANT = 1.0  # times its error: a smaller offset counts as none
DOUBT = 0.5  # share of the subtracted tail that may be wrong, since its shape is assumed
QUIETER = 0.6  # noise per count in the darkest channels over that in brighter ones: offset likely
BETTER = 12.0  # half a chi-square by which a line from an offset must explain the noise better
EQUAL = 2.0  # the same for lines that explain it equally well: two standard errors
LEAST_SHARE = 0.1  # of the channels that must be negative for a negative offset
TAILS = 4.0  # factor on the squared differences of stretches, for the tails that all of them share
LOWER_HALF = 0.8  # standard deviations of normal numbers: their lower half below their mean
CONTRADICTED = 3.0  # standard errors by which the gain side may be above a negative offset
SHARING = 8  # spectra from which on they are assumed to share their flat offset
TELLING = 1 / 8  # share of them that must show one
OWN = 5.0  # standard errors by which an offset must differ from the shared one to replace it


@dataclass(frozen=True)
class Dark:
    """The flat offset that the spectra of a map share, and its standard error, in data units.

    A detector has one; offsets that are read from each spectrum vary with their noise.
    """

    level: float
    error: float


def flat_level(spectra, zero_loss, dark=None):
    """The flat offset under each spectrum, where it is certain; else zero.

    Three sources are used, in this order.

    1. The outer half of the gain side, beyond five zero-loss widths, if it is level, far above (or
       below) its noise, and nowhere undercut by the rest of the spectrum: the tail of a response is
       none of these. What the tail adds there is assumed to fall with the square of the distance to
       the peak; it is fitted and subtracted.
    2. Where the gain side shows nothing, or less clearly: stretches of channels, anywhere, that are
       certainly negative. No spectrum is, so the offset must be; unless the gain side shows that only
       these channels are negative (bad channels).
    3. The noise: counts of an offset scatter less than electrons do.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.
    zero_loss : ZeroLoss
        As found by `find_zero_loss`.
    dark : Dark, optional
        The offset that the spectra are known to share: it is used for all that have a zero-loss peak
        and whose gain side does not clearly show another.

    Returns
    -------
    level, error : numpy.ndarray
        The offset and its standard error (0 where there is none), in the units of the data,
        navigation shape.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.spectrum.level import flat_level
    >>> from exspy_deepdeconv.physics import find_zero_loss, gaussian
    >>> clean = 1e6 * gaussian(512, 25.0, 8.0) + 1e3 * gaussian(512, 200.0, 150.0)
    >>> counts = np.random.default_rng(0).poisson(clean) + 700.0  # hardly any gain side
    >>> level, error = flat_level(counts, find_zero_loss(counts))
    >>> bool(abs(level - 700) < 3 * error + 5)
    True
    """
    data = np.asarray(spectra, np.float64)
    flat, ends = data.reshape(-1, data.shape[-1]), _ends(zero_loss)
    position = zero_loss.position.reshape(-1)
    level, error = _levels(flat, ends, position)
    if dark is not None:
        other = np.abs(level - dark.level) > OWN * np.hypot(error, dark.error)
        other = (other & (level != 0)) | np.isnan(position)  # what holds no peak has no offset
        level = np.where(other, level, dark.level)
        error = np.where(other, error, dark.error)
        return level.reshape(data.shape[:-1]), error.reshape(data.shape[:-1])
    rest = np.flatnonzero((level <= 0) & np.isfinite(position))
    found, its_error = _negative_level(flat[rest], ends[rest], position[rest])
    better = (found < 0) & ((level[rest] == 0) | (its_error < error[rest]))
    level[rest[better]], error[rest[better]] = found[better], its_error[better]
    rest = rest[level[rest] == 0]
    level[rest], error[rest] = _level_of_noise(flat[rest], position[rest])
    return level.reshape(data.shape[:-1]), error.reshape(data.shape[:-1])


def level_behind(responses, zero_loss):
    """The flat offset under responses whose gain side does not tell it.

    A response loses nothing: what is flat far behind its peak is no loss, and is read as `flat_level`
    reads the gain side, which must not lie below it.

    Parameters
    ----------
    responses : numpy.ndarray
        Measured zero-loss peaks, ``(batch, channels)``.
    zero_loss : ZeroLoss
        As found by `find_zero_loss`, ``(batch,)``.

    Returns
    -------
    numpy.ndarray
        ``(batch,)``; 0 where there is no offset.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.spectrum.level import level_behind
    >>> from exspy_deepdeconv.physics import find_zero_loss, gaussian
    >>> noise = np.random.default_rng(0).normal(0, 3, (1, 512))
    >>> vacuum = 1e5 * gaussian(512, 40.0, 8.0) + 50.0 + noise
    >>> bool(abs(level_behind(vacuum, find_zero_loss(vacuum))[0] - 50) < 1)
    True
    """
    mirrored = responses[:, ::-1]
    position = responses.shape[-1] - 1 - zero_loss.position
    before, behind = _ends(zero_loss), _ends(replace(zero_loss, position=position))
    level, error = _levels(mirrored, behind, position)
    for row in np.flatnonzero(level):
        if _undercut_before(responses[row, : before[row]], level[row], error[row]):
            level[row] = 0.0
    return level


def _undercut_before(first, level, error):
    """Whether the gain side, if it is long enough, lies below a level that was read elsewhere."""
    if first.size < SHORTEST:
        return False
    return first.mean() < level - 2 * np.hypot(error, _error_of_mean(first.std(), first.size))


def shared_dark(seen):
    """The flat offset that inspected spectra share: the median of their own ones.

    Parameters
    ----------
    seen : Inspected
        The spectra, ``(batch,)``.

    Returns
    -------
    Dark or None
        None for fewer than eight spectra without flags; 0 if hardly any of them shows an offset. (The
        mean of the spectra is no better source: without noise, an offset cannot be told from the tail
        of the response.)
    """
    good = seen.flags == 0
    level, error = seen.level[good], seen.level_error[good]
    if len(level) < SHARING:
        return None
    told = max(level > 0, level < 0, key=np.count_nonzero)
    if np.count_nonzero(told) < TELLING * len(level):
        return Dark(0.0, 0.0)
    middle = float(np.median(level[told]))
    scatter = 1.48 * float(np.median(np.abs(level[told] - middle)))
    # A tail makes all of them uncertain in the same way, so their scatter does not show it.
    return Dark(middle, float(np.hypot(scatter, np.median(error[told]))))


def _negative_level(spectra, ends, position):
    """Offsets and their errors from the lowest stretch of channels, if it is negative; else 0.

    Stretches of about the same height as the lowest one are averaged with it, since the lowest of
    many is too low by chance.
    """
    level, error = np.zeros((2, len(spectra)))
    number = spectra.shape[-1] // SHORTEST
    if number < 2:
        return level, error
    blocks = spectra[:, : number * SHORTEST].reshape(len(spectra), number, SHORTEST)
    mean = blocks.mean(axis=-1)
    of_mean = _error_of_mean(blocks.std(axis=-1), SHORTEST)
    order = np.argsort(mean, axis=-1)[:, : max(number // 4, 1)]
    lowest = mean.min(axis=-1, keepdims=True)
    of_lowest = np.median(np.take_along_axis(of_mean, order, -1), axis=-1, keepdims=True)
    alike = mean <= lowest + 2 * of_lowest
    together = alike.sum(axis=-1)
    level, of_level = (mean * alike).sum(axis=-1) / together, of_lowest[:, 0] / np.sqrt(together)
    # Differences beyond their noise come from tails, which may be in all of them.
    spread = np.where(alike, (mean - level[:, None]) ** 2, 0).sum(axis=-1) / together
    tails = np.maximum(spread - (of_lowest[:, 0] / 2) ** 2, 0)
    # Where a tail still falls, even the lowest stretch is above the offset. A tail that falls with the
    # square of the distance adds twice as much to the lower half of the stretches as to the lowest one;
    # chance alone, which also puts the lowest one below the others, is subtracted.
    by_chance = of_lowest[:, 0] / 2 * (np.sqrt(2 * np.log(number)) - LOWER_HALF)
    lower_half = np.sort(mean, axis=-1)[:, : max(number // 2, 2)].mean(axis=-1)
    left = np.maximum(lower_half - lowest[:, 0] - by_chance, 0)
    error_of_level = np.sqrt(of_level**2 + TAILS * tails + left**2)
    # A few bad channels do not make an offset of all.
    about_as_low = (mean < 0.5 * lowest).sum(axis=-1)
    sure = (lowest < -5 * of_lowest)[:, 0] & (level < -6 * of_level)
    sure &= about_as_low >= max(LEAST_SHARE * number, 2)
    for row in np.flatnonzero(sure & (ends >= SHORTEST)):
        one = slice(row, row + 1)
        there, doubt = _without_tail(spectra[one, : ends[row]], position[one])
        sure[one] = level[one] > there - CONTRADICTED * doubt - 2 * of_lowest[one, 0]
    return np.where(sure, level, 0.0), np.where(sure, error_of_level, 0.0)


def _level_of_noise(spectra, position):
    """Offsets and their errors from the noise alone; 0 where it shows none.

    Noise in proportion to the counts above an offset is a line through that offset. It must explain
    the noise of the segments far better than the best one with a positive noise floor does, and no
    segment may lie below it.
    """
    level, error = np.zeros((2, len(spectra)))
    if spectra.shape[-1] < 6 * SHORTEST_SEGMENT:  # too few segments for a line, as of a response
        return level, error
    # Where a spectrum is negative everywhere, its highest channel is no scale.
    top = np.maximum(np.abs(spectra).max(axis=-1, initial=0.0), 1e-100)
    segments = Segments.of(spectra / top[:, None], 1, position.astype(int))
    # Counts that do not scatter at all are no electrons: these segments show the offset best.
    segments = replace(segments, silent=np.zeros_like(segments.silent))
    per_count = segments.variance / np.maximum(segments.counts, 1e-9)
    per_count = np.take_along_axis(per_count, np.argsort(segments.counts, axis=-1), -1)
    quarter, half = per_count.shape[-1] // 4, per_count.shape[-1] // 2
    dark, bright = (np.median(x, axis=-1) for x in (per_count[:, :quarter], per_count[:, half:]))
    rows = np.flatnonzero(dark < QUIETER * bright)
    if not rows.size:
        return level, error
    few = segments.of_rows(rows)
    gain, floor = straight_line(few)
    plain = few.candidates().capped_cost(gain[:, None], floor[:, None])[:, 0]
    gains, offsets = _lines_through_two(few)
    cost = few.candidates().beyond(offsets).capped_cost(gains, np.zeros_like(gains))
    cost = np.where(gains > 0, cost, np.inf)
    best = cost.min(axis=-1, keepdims=True)
    chosen = cost.argmin(axis=-1)[:, None]
    found, electron = (np.take_along_axis(x, chosen, -1) for x in (offsets, gains))
    scatter = np.where(cost < best + EQUAL, np.abs(offsets - found), 0.0).max(axis=-1) / 2
    lowest = np.sqrt(few.variance.min(axis=-1) / few.length)
    undercut = found[:, 0] > few.counts.min(axis=-1) + 3 * lowest + electron[:, 0]
    sure = (best[:, 0] < plain - BETTER) & ~undercut
    # Readout noise adds to the variance: the line then begins below the offset, which is somewhere
    # between that point and the darkest segment.
    half = np.maximum(few.counts.min(axis=-1) - found[:, 0], 0) / 2
    level[rows] = np.where(sure, found[:, 0] + half, 0.0) * top[rows]
    error[rows] = np.where(sure, np.hypot(np.hypot(scatter, lowest), half), 0.0) * top[rows]
    return level, error


def _lines_through_two(segments):
    """Gain and offset of lines through a dark and a brighter segment, ``(batch, lines)``.

    Lines that fall, or that leave a positive noise floor, have a gain of 0.
    """
    order = np.argsort(segments.counts, axis=-1)
    counts, variance = (
        np.take_along_axis(x, order, -1) for x in (segments.counts, segments.variance)
    )
    last = counts.shape[-1] - 1
    dark = np.unique((np.linspace(0, 0.6, 8) * last).astype(int))
    bright = np.unique((np.linspace(0.2, 1, 14) * last).astype(int))
    one, other = (x.ravel() for x in np.meshgrid(dark, bright, indexing="ij"))
    one, other = one[one < other], other[one < other]
    rise = np.maximum(counts[:, other] - counts[:, one], 1e-12)
    gain = (variance[:, other] - variance[:, one]) / rise
    offset = counts[:, one] - variance[:, one] / np.where(gain > 0, gain, np.inf)
    fine = (gain > 0) & (offset > 0)
    return np.where(fine, gain, 0.0), np.where(fine, offset, 0.0)


def _ends(zero_loss):
    """Number of channels of the gain side that an offset is read from."""
    ends = (zero_loss.position.reshape(-1) - 5 * zero_loss.fwhm.reshape(-1)) / 2
    return np.where(np.isfinite(ends), ends, 0).astype(int)


def _offset_likely(spectra, ends):
    """Where the mean of the first ``end`` channels is above six times its error."""
    longest = int(ends.max(initial=0))
    if longest < SHORTEST:
        return np.zeros(len(spectra), bool)
    number = np.maximum(ends, 1)
    inside = np.arange(longest) < ends[:, None]
    first = np.where(inside, spectra[:, :longest], 0.0)
    mean = first.sum(axis=-1) / number
    deviation = np.where(inside, first - mean[:, None], 0.0)
    error = _error_of_mean(np.sqrt((deviation**2).sum(axis=-1) / number), number)
    # A shade less strict than `_levels_alike`, which decides.
    return (ends >= SHORTEST) & (np.abs(mean) > 5.99 * error)


def _error_of_mean(scatter, number):
    """Twice that of white noise, since neighbouring channels may share their noise."""
    return 2 * scatter / np.sqrt(number)


def _levels(spectra, ends, position):
    """Offsets and their errors from the first ``ends`` channels of each spectrum; else 0."""
    level, error = np.zeros((2, len(spectra)))
    likely = _offset_likely(spectra, ends)
    for end in np.unique(ends[likely]):  # spectra of a map often share theirs
        rows = np.flatnonzero(likely & (ends == end))
        level[rows], error[rows] = _levels_alike(spectra[rows], end, position[rows])
    return level, error


def _levels_alike(spectra, end, position):
    first, half = spectra[:, :end], end // 2
    level, error = first.mean(axis=-1), _error_of_mean(first.std(axis=-1), end)
    margin = 0.1 * np.abs(level) + 2 * error
    certain = np.abs(level) >= 6 * error
    certain &= np.abs(first[:, :half].mean(axis=-1) - first[:, half:].mean(axis=-1)) <= margin
    size = max(half, 16)
    blocks = spectra[:, : spectra.shape[-1] // size * size].reshape(len(spectra), -1, size)
    certain &= blocks.mean(axis=-1).min(axis=-1) >= level - margin  # not undercut
    level, error = _without_tail(first, position)
    certain &= np.abs(level) > SIGNIFICANT * error
    return np.where(certain, level, 0.0), np.where(certain, error, 0.0)


def _without_tail(first, position):
    """Offsets and their errors: a straight line over the inverse square distance to the peak.

    A slope within its own error is used only in part.
    """
    number, position = first.shape[-1], position[:, None]
    tail = ((position - number + 1) / (position - np.arange(number))) ** 2
    mean, of_tail = first.mean(axis=-1), tail.mean(axis=-1)
    centred = tail - of_tail[:, None]
    spread = (centred**2).sum(axis=-1)
    slope = np.maximum((centred * first).sum(axis=-1) / spread, 0.0)
    scatter = (first - mean[:, None] - slope[:, None] * centred).std(axis=-1)
    of_mean, of_slope = (_error_of_mean(scatter, n) for n in (number, spread))
    share = slope**2 / np.maximum(slope**2 + of_slope**2, 1e-300)
    in_doubt = DOUBT * np.maximum(slope, of_slope) * of_tail
    return mean - share * slope * of_tail, np.hypot(of_mean, in_doubt)
