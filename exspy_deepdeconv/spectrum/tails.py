"""The tails of a measured response: freed of noise that would count as tails, and continued (NumPy)."""

import numpy as np

from .noise import FEWEST_CHANNELS, estimate_noise

FROM = 3.0  # zero-loss widths from the peak, where the tails begin
REACH = 1 / 3  # of the distance to the peak: a tail is averaged over this length to either side
BELIEVED = 10.0  # squared signal over noise with which a channel and the average weigh the same
# Shares of the length of a tail between which its last part, and one before it, are averaged; how far from
# the peak the latter must lie (zero-loss widths); standard errors by which both must be there.
LAST, BEFORE = (0.8, 1.0), (0.5, 0.625)
CLEAR_OF_CORE, SEEN = 1.0, 3.0
LEAST_STEEP = 1.0  # a tail that falls off more slowly than 1 / distance is rather an offset


def quiet_tails(responses, found):
    """Average the tails where they vanish in the noise.

    Negative values are set to zero, since no response is negative. For a tail below the readout noise,
    this alone would leave the positive half of the noise: some per cent of the counts, over all
    channels. Channels that stand out of the noise stay as they are.

    Parameters
    ----------
    responses : numpy.ndarray
        Without their flat offset, ``(batch, channels)``.
    found : ZeroLoss
        Their peaks, ``(batch,)``; where none was found, nothing is done.

    Returns
    -------
    numpy.ndarray
        ``(batch, channels)``, not negative.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import find_zero_loss, gaussian
    >>> from exspy_deepdeconv.spectrum.tails import quiet_tails
    >>> noise = np.random.default_rng(0).normal(0, 10, (1, 2048))
    >>> vacuum = 1e5 * gaussian(2048, 400.0, 12.0) + noise
    >>> quiet = quiet_tails(vacuum, find_zero_loss(vacuum))
    >>> bool(np.maximum(vacuum, 0).sum() > 1.05e5), bool(0.99e5 < quiet.sum() < 1.01e5)
    (True, True)
    """
    rows = np.flatnonzero(np.isfinite(found.position))
    out = np.maximum(responses, 0)
    if responses.shape[-1] < FEWEST_CHANNELS or not rows.size:
        return out
    seen, position = responses[rows], found.position[rows, None]
    level = _averaged_tails(seen, position, FROM * found.fwhm[rows, None])
    variance = estimate_noise(seen, position[:, 0]).variance(level)
    trust = level**2 / (level**2 + BELIEVED * variance)
    out[rows] = np.maximum(trust * seen + (1 - trust) * level, 0)
    return out


def _averaged_tails(responses, position, start):
    """Non-negative means of the tails over stretches that grow with the distance to the peak.

    Nearer to the peak than ``start``, the responses themselves.
    """
    channels = responses.shape[-1]
    channel = np.arange(channels)
    distance = np.abs(channel - position)
    reach = np.maximum(distance * REACH, 1).astype(int)
    low, high = channel - reach, channel + reach + 1
    # No stretch reaches nearer to the peak than the tail begins, nor beyond the end of the axis.
    gain_end = np.ceil(position - start).astype(int)
    loss_start = np.floor(position + start).astype(int) + 1
    loss_side = channel > position
    low = np.clip(np.where(loss_side, np.maximum(low, loss_start), low), 0, channels)
    high = np.clip(np.where(loss_side, high, np.minimum(high, gain_end)), 0, channels)
    total = np.pad(np.cumsum(responses, axis=-1), [(0, 0), (1, 0)])
    sums = np.take_along_axis(total, high, -1) - np.take_along_axis(total, low, -1)
    mean = np.maximum(sums / np.maximum(high - low, 1), 0)
    return np.where(distance > start, mean, responses)


def continued_tail(tail, length, width, noise):
    """How a tail that is cut off goes on: as a power of the distance, as it fell off before.

    Parameters
    ----------
    tail : numpy.ndarray
        A response from its peak on, to one side, ``(channels,)``.
    length : int
        How far it is to reach.
    width : float
        FWHM of its peak in channels.
    noise : Noise
        Of the response.

    Returns
    -------
    numpy.ndarray
        What is missing, ``(length - channels,)``: zeros where the tail is not seen at its end.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.spectrum.noise import Noise
    >>> from exspy_deepdeconv.spectrum.tails import continued_tail
    >>> tail = 1e6 / (1 + (2 * np.arange(200) / 8.0) ** 2)
    >>> more = continued_tail(tail[:100], 200, 8.0, Noise(np.array(1.0), np.array(0.0)))
    >>> bool(np.allclose(more, tail[100:], rtol=0.05))
    True
    """
    missing = np.zeros(max(length - tail.size, 0))
    before, last = (slice(*(int(share * tail.size) for share in part)) for part in (BEFORE, LAST))
    if before.start < CLEAR_OF_CORE * width or before.stop == before.start:
        return missing
    levels = [float(tail[part].mean()) for part in (before, last)]
    errors = [
        np.sqrt(float(noise.variance(np.array([level]))[0]) / (part.stop - part.start))
        for level, part in zip(levels, (before, last), strict=True)
    ]
    if any(level <= SEEN * error for level, error in zip(levels, errors, strict=True)):
        return missing
    places = [np.sqrt(part.start * part.stop) for part in (before, last)]
    steepness = np.log(levels[0] / levels[1]) / np.log(places[1] / places[0])
    if steepness < LEAST_STEEP:
        return missing
    return levels[1] * (np.arange(tail.size, tail.size + missing.size) / places[1]) ** -steepness
