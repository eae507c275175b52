"""The tails of a measured response: freed of noise that would count as tails, and continued (NumPy)."""

import numpy as np

from .noise import FEWEST_CHANNELS

FROM = 3.0  # zero-loss widths from the peak, where the tails begin
REACH = 1 / 3  # of the distance to the peak: a tail is averaged over this length to either side
BELIEVED = 10.0  # squared signal over noise with which a channel and the average weigh the same
# Shares of the length of a tail between which its last part, and one before it, are averaged; how far from
# the peak the latter must lie (zero-loss widths); standard errors by which both must be there.
LAST, BEFORE = (0.8, 1.0), (0.5, 0.625)
CLEAR_OF_CORE, SEEN = 1.0, 3.0
LEAST_STEEP = 1.0  # a tail that falls off more slowly than 1 / distance is rather an offset


def quiet_tails(responses, found, noise):
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
    noise : Noise
        Theirs.

    Returns
    -------
    numpy.ndarray
        ``(batch, channels)``, not negative.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import estimate_noise, find_zero_loss, gaussian
    >>> from exspy_deepdeconv.spectrum.tails import quiet_tails
    >>> noise = np.random.default_rng(0).normal(0, 10, (1, 2048))
    >>> vacuum = 1e5 * gaussian(2048, 400.0, 12.0) + noise
    >>> found = find_zero_loss(vacuum)
    >>> quiet = quiet_tails(vacuum, found, estimate_noise(vacuum, found.position))
    >>> bool(np.maximum(vacuum, 0).sum() > 1.05e5), bool(0.99e5 < quiet.sum() < 1.01e5)
    (True, True)
    """
    rows = np.flatnonzero(np.isfinite(found.position))
    out = np.maximum(responses, 0)
    if responses.shape[-1] < FEWEST_CHANNELS or not rows.size:
        return out
    seen, position = responses[rows], found.position[rows, None]
    level = _averaged_tails(seen, position, FROM * found.fwhm[rows, None])
    variance = noise.select(rows).variance(level)
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


def with_tail(side, length, width, noise):
    """One side of a response to a length: cut, or continued as a power of the distance, as it falls off.

    Parameters
    ----------
    side : numpy.ndarray
        The response from its peak on, ``(channels,)``.
    length : int
        How far it is to reach.
    width : float
        FWHM of its peak in channels; NaN where unknown.
    noise : Noise
        Of the response.

    Returns
    -------
    numpy.ndarray
        ``(length,)``; zeros behind the end where the tail does not stand out of its noise there.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.spectrum.noise import Noise
    >>> from exspy_deepdeconv.spectrum.tails import with_tail
    >>> side = 1e6 / (1 + (2 * np.arange(200) / 8.0) ** 2)
    >>> whole = with_tail(side[:100], 200, 8.0, Noise(np.array(1.0), np.array(0.0)))
    >>> bool(np.allclose(whole, side, rtol=0.05))
    True
    """
    out = np.zeros(length)
    known = min(side.size, length)
    out[:known] = side[:known]
    if length > side.size and (law := _power_law(side, width, noise)) is not None:
        level, place, steepness = law
        out[known:] = level * (np.arange(known, length) / place) ** -steepness
    return out


def _power_law(side, width, noise):
    """Level at a place, and the power of the distance with which a tail falls off there; or None."""
    before, last = (slice(*(int(share * side.size) for share in part)) for part in (BEFORE, LAST))
    if not before.start >= CLEAR_OF_CORE * width or before.stop == before.start:
        return None
    levels, errors = [], []
    for part in (before, last):
        levels.append(float(side[part].mean()))
        variance = float(noise.variance(np.array([levels[-1]]))[0])
        errors.append(np.sqrt(variance / (part.stop - part.start)))
    if any(level <= SEEN * error for level, error in zip(levels, errors, strict=True)):
        return None
    places = [np.sqrt(part.start * part.stop) for part in (before, last)]
    steepness = np.log(levels[0] / levels[1]) / np.log(places[1] / places[0])
    return (levels[1], places[1], steepness) if steepness >= LEAST_STEEP else None
