"""The noise of spectra whose variance the user has set (NumPy only)."""

from dataclasses import replace

import numpy as np

from .noise import Noise

# Mean square distance of a variance from a line, in units of the counts' noise, below which it was
# calculated from these counts.
READ_OFF = 0.1


def told_noise(variance, seen):
    """The noise of spectra whose variance the user has set.

    Parameters
    ----------
    variance : float or numpy.ndarray
        A number, or ``(batch, channels)``.
    seen : Inspected
        The spectra, ``(batch, channels)``.

    Returns
    -------
    Noise
        The straight line through the variance. A variance that was calculated from the spectra
        themselves takes a flat offset for electrons and knows no readout noise: then gain and floor
        are those of the rule that was used, and the floor is at least what the data show.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian, inspect, told_noise
    >>> expected = 1e5 * gaussian(256, 60.0, 8.0)[None] + 100.0
    >>> seen = inspect(np.random.default_rng(0).poisson(expected))
    >>> bool(0.9 < told_noise(expected, seen).gain[0] < 1.1)
    True
    """
    noise = _noise_of_variance(variance, seen.counts)
    if not isinstance(variance, np.ndarray) or not variance.ndim:
        return noise
    gain, floor = rule_of_variance(variance, seen.recorded, seen.noise)
    ruled, floor = np.isfinite(gain), np.maximum(floor, seen.noise.floor)
    return replace(
        noise,
        gain=np.where(ruled, gain, noise.gain),
        floor=np.where(ruled, floor, noise.floor),
    )


def _noise_of_variance(variance, counts):
    """The straight line through a variance over the counts.

    Parameters
    ----------
    variance : float or numpy.ndarray
        A number, or one for each channel, ``(..., channels)``.
    counts : numpy.ndarray
        ``(..., channels)``, finite.

    Returns
    -------
    Noise
        White; gain and floor are positive.
    """
    counts = np.maximum(np.asarray(counts, np.float64), 0)
    variance = np.broadcast_to(np.asarray(variance, np.float64), counts.shape)
    centred = counts - counts.mean(axis=-1, keepdims=True)
    spread = np.maximum((centred**2).sum(axis=-1), np.finfo(float).tiny)
    gain = np.maximum((centred * variance).sum(axis=-1) / spread, 0)
    floor = (variance - gain[..., None] * counts).mean(axis=-1)
    least = 1e-9 * variance.mean(axis=-1)
    top = counts.max(axis=-1, initial=0.0)
    least_gain = least / np.where(top > 0, top, 1.0)  # a variance over counts: it scales as they do
    gain, floor = (
        np.maximum(np.maximum(value, low), np.finfo(float).tiny)
        for value, low in ((gain, least_gain), (floor, least))
    )
    return Noise(gain, floor, np.zeros_like(gain))


def rule_of_variance(variance, spectra, noise):
    """The rule by which a variance was calculated from the spectra themselves, if it was.

    HyperSpy's rule (`estimate_poissonian_noise_variance`) takes the recorded counts for the expected
    ones, and no variance below its offset: then variance and counts lie on one line. With a variance
    that was measured or simulated, the counts scatter about that line by their noise.

    Parameters
    ----------
    variance, spectra : numpy.ndarray
        ``(batch, channels)``; the spectra as recorded, with their flat offset.
    noise : Noise
        Of the spectra, ``(batch,)``.

    Returns
    -------
    gain, floor : numpy.ndarray
        Of that line, ``(batch,)``; NaN where there is none.
    """
    least = variance.min(axis=-1, keepdims=True)
    free = variance > least  # the others were raised to the offset
    number = np.maximum(free.sum(axis=-1, keepdims=True), 1)

    def mean(values):
        return np.where(free, values, 0).sum(axis=-1, keepdims=True) / number

    centred = spectra - mean(spectra)
    spread = np.maximum(mean(centred**2), np.finfo(float).tiny)
    gain = mean(centred * variance) / spread
    floor = mean(variance) - gain * mean(spectra)
    missed = variance - np.maximum(gain * spectra + floor, least)
    scatter = np.maximum(gain**2 * noise.variance(spectra), np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        fits = (gain[:, 0] > 0) & ((missed**2 / scatter).mean(axis=-1) < READ_OFF)
    return np.where(fits, [gain[:, 0], floor[:, 0]], np.nan)
