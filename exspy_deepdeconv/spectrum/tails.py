"""The tails of a measured response, freed of noise that would count as tails (NumPy)."""

import numpy as np

from .noise import FEWEST_CHANNELS, estimate_noise

FROM = 3.0  # zero-loss widths from the peak, where the tails begin
REACH = 1 / 3  # of the distance to the peak: a tail is averaged over this length to either side
BELIEVED = 10.0  # squared signal over noise with which a channel and the average weigh the same


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
