"""Single channels of the detector that are hot or dead in most spectra (NumPy).

They stay where they are while the zero-loss peak drifts: an aligned sum would show them as wide as the drift.
"""

import numpy as np

from ..spectrum.peaks import half_height_width

FEWEST = 8  # spectra
ERRORS = 8.0  # standard errors by which the mean of a faulty channel stands out
STEEP = 2.0  # times what its neighbours change; the top of a peak of two channels stands out by 1.1 times that
MOST = 0.5  # of the spectra must show half of what the mean shows
NARROW = 4.5  # channels: a narrower peak that stays in place may look like a hot channel


def faulty_channels(spectra):
    """Channels that are far above or below both neighbours in most spectra.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, ``(batch, channels)``, as the detector recorded them.

    Returns
    -------
    numpy.ndarray of int
        Their indices, two channels or more from the ends; none if there are under eight finite spectra.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian
    >>> from exspy_deepdeconv.response.faulty import faulty_channels
    >>> place = np.linspace(98, 102, 20)
    >>> frames = np.random.default_rng(0).poisson(1e4 * gaussian(256, place, np.full(20, 8.0)) + 1)
    >>> frames[:, 150] += 300
    >>> frames[:, 101] = 0
    >>> faulty_channels(frames).tolist()
    [101, 150]
    """
    spectra = np.asarray(spectra, float)
    spectra = spectra[np.isfinite(spectra).all(axis=-1) & spectra.any(axis=-1)]
    if len(spectra) < FEWEST:
        return np.zeros(0, int)
    mean = spectra.mean(axis=0)
    candidates = np.flatnonzero(_out_of_line(mean))
    found = [channel for channel in candidates if _in_most(spectra, mean, channel)]
    return _without_peak(mean, np.array(found, int))


def without_channels(spectra, channels):
    """The same spectra with some channels interpolated between their neighbours.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, ``(..., channels)``.
    channels : numpy.ndarray of int
        Indices.

    Returns
    -------
    numpy.ndarray
        A copy, unless there is nothing to do.
    """
    if not len(channels):
        return spectra
    spectra = np.array(spectra, float)
    spectra[..., channels] = (spectra[..., channels - 1] + spectra[..., channels + 1]) / 2
    return spectra


def _out_of_line(mean):
    """Where the mean is far above or below both neighbours, ``(channels,)``."""
    padded = np.pad(mean, 2, mode="edge")
    far_left, left, middle, right, far_right = (
        padded[step : step + mean.size] for step in range(5)
    )
    slope = np.maximum(np.abs(left - far_left), np.abs(right - far_right))
    above, below = middle - np.maximum(left, right), np.minimum(left, right) - middle
    out = np.maximum(above, below) > STEEP * slope
    out[:2] = out[-2:] = False  # there are not two neighbours on both sides
    return out


def _in_most(spectra, mean, channel):
    """Whether most spectra show what the mean shows, beyond noise."""
    left, right = channel - 1, channel + 1
    sign = np.sign(2 * mean[channel] - mean[left] - mean[right])
    beside = left if sign * mean[left] > sign * mean[right] else right
    off = sign * (spectra[:, channel] - spectra[:, beside])
    error = off.std() / np.sqrt(len(off))
    return off.mean() > ERRORS * error and (off > off.mean() / 2).mean() > MOST


def _without_peak(mean, channels):
    """The same without what may be the zero-loss peak itself, where that is narrow and does not drift."""
    top, rest = int(mean.argmax()), without_channels(mean, channels)
    other = int(rest.argmax())
    width = half_height_width(rest, np.asarray(other))
    if np.isnan(width) or (abs(other - top) <= NARROW and width <= NARROW):
        return channels[channels != top]
    return channels
