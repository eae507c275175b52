"""How many counts an electron makes, from the scatter between frames that repeat one peak (NumPy).

The noise of one spectrum with a narrow peak is hard to tell from the peak, and that of an aligned sum is no
longer white. Frames before they are shifted show it at once: they differ by their noise alone.
"""

import numpy as np

FEWEST = 12  # frames, for the result to be right by some 20 %
REACH = 1.5  # zero-loss widths to either side of the peak that are compared
DEGREE = 3  # of the polynomial in the part of a channel by which a frame is off: enough for three channels
FITTED = 2  # numbers that each frame gives to its own position and counts
EXACT = 3e-5  # of the highest channel: what differs by less has no noise (a channel holds no 1e9 electrons)


def gain_between(counts, position, held, width, floor):
    """Counts per electron, from at least `FEWEST` frames of one peak.

    Frames are compared channel by channel around their own peak. What is left of their drift is less than half
    a channel; each channel follows it by a polynomial, so nothing is interpolated.

    Parameters
    ----------
    counts : numpy.ndarray
        Frames without their offset, ``(frames, channels)``.
    position, held : numpy.ndarray
        Of their peaks, in channels and counts, ``(frames,)``.
    width, floor : float
        Zero-loss width in channels, and variance of the readout.

    Returns
    -------
    float or None
        None where there are too few frames, or no noise.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian
    >>> from exspy_deepdeconv.response.scatter import gain_between
    >>> place = np.linspace(98, 102, 60)
    >>> frames = 3.0 * np.random.default_rng(0).poisson(1e4 * gaussian(256, place, np.full(60, 8.0)))
    >>> round(gain_between(frames, place, frames.sum(axis=-1), 8, 0.0))
    3
    """
    reach = int(np.ceil(REACH * width))
    near = np.rint(position).astype(int)
    inside = (near >= reach) & (near < counts.shape[-1] - reach) & (held > 0)
    if np.count_nonzero(inside) < FEWEST:
        return None
    counts, near, held, off = counts[inside], near[inside], held[inside], (position - near)[inside]
    around = np.take_along_axis(counts, near[:, None] + np.arange(-reach, reach + 1), axis=-1)
    powers = held[:, None] * off[:, None] ** np.arange(DEGREE + 1)
    rest = around - powers @ np.linalg.lstsq(powers, around, rcond=None)[0]
    mean = around.mean(axis=0)
    if np.abs(rest).max() < EXACT * mean.max():
        return None
    mean = np.maximum(mean, 1e-6 * mean.max())
    left = (len(around) - DEGREE - 1) * (1 - FITTED / mean.size)  # of the scatter of a channel
    variance = (rest**2).sum(axis=0) / left - floor
    # Weighted as counts are: the error of a variance grows with it.
    gain = float((variance / (mean + floor)).sum() / (mean / (mean + floor)).sum())
    return gain if gain > 0 else None
