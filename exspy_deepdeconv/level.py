"""The flat offset under a spectrum (dark current, readout), read from the spectrum itself (NumPy)."""

import numpy as np

SHORTEST = 24  # channels from which an offset can be read
SIGNIFICANT = 1.0  # an offset smaller than this many times its error is none
DOUBT = 0.5  # share of what was taken off for the tail, whose shape is a guess, that may be wrong


def flat_level(spectra, zero_loss):
    """The flat offset under each spectrum, where there is no doubt about it.

    It is read from the outer half of the gain side, beyond five zero-loss widths, and believed if
    that is level, far above (or below) its noise, and nowhere undercut by the rest of the spectrum:
    the tail of a response is none of these. Elsewhere the level is taken for zero. What the tail
    adds there, falling off with the square of the distance to the peak, is fitted and taken off.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.
    zero_loss : ZeroLoss
        As found by `find_zero_loss`.

    Returns
    -------
    numpy.ndarray
        In the units of the data, navigation shape.
    """
    data = np.asarray(spectra, np.float64)
    flat, ends = data.reshape(-1, data.shape[-1]), _ends(zero_loss)
    level = np.zeros(len(flat))
    for row in np.flatnonzero(_offset_likely(flat, ends)):
        level[row] = _level_of_one(flat[row], ends[row], zero_loss.position.reshape(-1)[row])
    return level.reshape(data.shape[:-1])


def flat_level_error(spectra, zero_loss, level):
    """Standard error of each offset; 0 where there is none.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts with or without their offset, shape ``(..., channels)``.
    zero_loss : ZeroLoss
        As found by `find_zero_loss`.
    level : numpy.ndarray
        As from `flat_level`, navigation shape.

    Returns
    -------
    numpy.ndarray
        In the units of the data, navigation shape.
    """
    data = np.asarray(spectra, np.float64)
    flat, ends = data.reshape(-1, data.shape[-1]), _ends(zero_loss)
    error = np.zeros(len(flat))
    for row in np.flatnonzero(np.reshape(level, -1)):
        first, position = flat[row, : ends[row]], zero_loss.position.reshape(-1)[row]
        error[row] = _without_tail(first, position)[1]
    return error.reshape(data.shape[:-1])


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
    # A shade more than `_level_of_one` lets through: it has the last word.
    return (ends >= SHORTEST) & (np.abs(mean) > 5.99 * error)


def _error_of_mean(scatter, number):
    """Twice that of white noise: neighbours may share theirs."""
    return 2 * scatter / np.sqrt(number)


def _level_of_one(spectrum, end, position):
    outer, inner = spectrum[: end // 2], spectrum[end // 2 : end]
    level = float(spectrum[:end].mean())
    error = _error_of_mean(float(spectrum[:end].std()), end)
    uneven = abs(outer.mean() - inner.mean()) > 0.1 * abs(level) + 2 * error
    if abs(level) < 6 * error or uneven:
        return 0.0
    size = max(end // 2, 16)
    blocks = spectrum[: spectrum.size // size * size].reshape(-1, size).mean(axis=1)
    if blocks.min() < level - 0.1 * abs(level) - 2 * error:  # undercut
        return 0.0
    level, error = _without_tail(spectrum[:end], position)
    return level if abs(level) > SIGNIFICANT * error else 0.0


def _without_tail(first, position):
    """Offset and its error: a straight line over the inverse square distance to the peak.

    The less the slope stands out of its own error, the less of it is believed.
    """
    number = first.size
    tail = ((position - number + 1) / (position - np.arange(number))) ** 2
    centred = tail - tail.mean()
    spread = float((centred**2).sum())
    slope = max(float(centred @ first) / spread, 0.0)
    scatter = float((first - first.mean() - slope * centred).std())
    of_mean, of_slope = (_error_of_mean(scatter, n) for n in (number, spread))
    share = slope**2 / (slope**2 + of_slope**2) if slope else 0.0
    level = float(first.mean() - share * slope * tail.mean())
    in_doubt = DOUBT * max(slope, of_slope) * tail.mean()
    return level, float(np.hypot(of_mean, in_doubt))
