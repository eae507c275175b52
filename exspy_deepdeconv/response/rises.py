"""Peaks of losses in what should be a response (NumPy)."""

import numpy as np

from .. import physics

TAIL = 1.5  # zero-loss widths from the peak, from where on it is looked at
RISE = 0.1  # share by which a tail must rise to be no tail
BOTH_SIDES = 1.5  # times what is as far before the peak
ERRORS = 5.0  # standard errors by which both must be so
HIDDEN = 4.0  # factor on them: noise that neighbours share is hard to see


def loss_peak(total):
    """Where a response rises again behind its peak, as only losses do.

    A tail falls. Where it rises, by a bell that a monochromator out of tune makes, there is as much before the
    peak.

    Parameters
    ----------
    total : numpy.ndarray
        Counts, ``(channels,)``.

    Returns
    -------
    float or None
        How many zero-loss widths behind the peak; None if it does not.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian
    >>> from exspy_deepdeconv.response.rises import loss_peak
    >>> tail = 1e4 / (1 + (np.arange(512) - 100.0) ** 2 / 30)
    >>> response = 1e6 * gaussian(512, 100.0, 8.0) + tail
    >>> loss_peak(response), round(loss_peak(response + 1e4 * gaussian(512, 156.0, 10.0)))
    (None, 7)
    """
    counts, found, _ = physics.prepare(total)
    if not np.isfinite(found.fwhm):
        return None
    width, top = float(found.fwhm), int(np.rint(found.position))
    first, size = int(np.ceil(TAIL * width)), max(int(np.ceil(width)), 4)
    behind, before = (_averaged(side[first:], size) for side in (counts[top:], counts[top::-1]))
    # Where the axis has not begun, there is nothing to compare with.
    mirrored = np.zeros_like(behind)
    mirrored[: before.size] = before[: behind.size]
    noise = physics.estimate_noise(counts, found.position)
    error = ERRORS * HIDDEN * np.sqrt(noise.variance(behind) / size)
    nearer = np.minimum.accumulate(behind + error)
    excess = behind - error - np.maximum((1 + RISE) * nearer, BOTH_SIDES * mirrored)
    if not excess.size or excess.max() <= 0:
        return None
    return float((first + (excess.argmax() + 0.5) * size) / width)


def _averaged(side, size):
    """Means of so many channels each."""
    number = side.size // size
    return side[: number * size].reshape(number, size).mean(axis=-1)
