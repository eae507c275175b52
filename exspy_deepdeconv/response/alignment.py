"""Where the zero-loss peaks of many, maybe weak, spectra lie, by a peak that they share (NumPy and SciPy only).

The maximum of a weak peak is mostly noise: spectra that are moved by it add up to a peak that is too
narrow at its top. So all of the peak is compared with the sum of them all, and the spectra are moved by a
part of what is found only, as far as noise would otherwise sharpen the sum.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import correlate1d

from ..physics import half_height_width, smooth
from ..spectrum.peaks import parabola_vertex

REACH = 2.5  # zero-loss widths to either side that are compared
# Share of the height of the peak under which its parts count less and less: losses, and what is left of an
# offset, are there, too.
LEAST_HEIGHT = 0.02
BLUR = 1 / 3  # zero-loss widths: of the shared peak, whose own noise would attract the spectra
CORE = 1.0  # zero-loss widths to either side within which the counts of a peak are added


@dataclass(frozen=True)
class SharedPeak:
    """The zero-loss peak that spectra share, as it is looked for in them.

    Attributes
    ----------
    weight : numpy.ndarray
        By which the counts around a place are multiplied and added; the place where the sum is highest is
        that of the peak. Odd length, the peak in the middle.
    shape : numpy.ndarray
        The peak, of one count in its core, of the length of `weight`.
    fwhm : float
        Its width in channels.
    gain, floor : float
        Noise variance of one spectrum, per count and constant.
    """

    weight: np.ndarray
    shape: np.ndarray
    fwhm: float
    gain: float
    floor: float

    @classmethod
    def of(cls, mean, gain, floor):
        """From the mean of spectra, ``(channels,)``, without offset, and the noise of one of them.

        None if there is no peak with two flanks.
        """
        top = int(np.argmax(mean))
        width = float(half_height_width(mean, np.asarray(top)))
        if np.isnan(width):
            return None
        peak = np.maximum(smooth(mean, BLUR * width), 0)
        reach = max(int(REACH * width), 3)
        peak = np.pad(peak, reach)[int(np.argmax(peak)) :][: 2 * reach + 1]
        core = covered(np.arange(-reach, reach + 1), -CORE * width, CORE * width)
        # Quasi-likelihood of a position where the variance is gain * counts + floor.
        least = max(LEAST_HEIGHT * peak.max(), floor / gain)
        counts = (core * peak).sum()
        return cls(np.log1p(peak / least), peak / counts, width, gain, floor)

    def find(self, counts, around, within):
        """Where the peaks of spectra lie, in channels, and how many counts they hold.

        Parameters
        ----------
        counts : numpy.ndarray
            Without their offset, ``(batch, channels)``.
        around, within : numpy.ndarray
            Channels within which of which to look, ``(batch,)``; NaN where it may lie anywhere.

        Returns
        -------
        position, held : numpy.ndarray
            ``(batch,)``.
        """
        fit = correlate1d(counts, self.weight, axis=-1, mode="constant")
        channel = np.arange(counts.shape[-1])
        far = np.abs(channel - around[:, None]) > within[:, None]
        position = parabola_vertex(fit, np.where(far, -np.inf, fit).argmax(axis=-1))
        core = covered(channel - position[:, None], -CORE * self.fwhm, CORE * self.fwhm)
        return position, (counts * core).sum(axis=-1)

    def clear(self, counts, noise):
        """By how many standard deviations peaks of so many counts stand out of the noise of their spectra."""
        gain, floor = np.maximum(self.gain, noise.gain), np.maximum(self.floor, noise.floor)
        variance = gain * np.maximum(counts, 0) + floor * (2 * CORE * self.fwhm + 1)
        return counts / np.sqrt(variance)

    def error(self, counts):
        """Standard errors of the positions of peaks of so many counts, in channels."""
        counts = np.maximum(counts, 1e-300)[:, None]
        step = np.gradient(self.weight)
        scatter = np.sqrt((step**2 * (self.gain * counts * self.shape + self.floor)).sum(axis=-1))
        return scatter / (counts[:, 0] * (step * np.gradient(self.shape)).sum())


def covered(distance, begin, end):
    """Which share of channels lies between two distances, ``(..., channels)``."""
    return np.clip(distance - begin + 0.5, 0, 1) - np.clip(distance - end + 0.5, 0, 1)


def moved_share(error, drift):
    """By which share of their distance from the mean spectra are moved, so that the sum keeps its width.

    An efficient estimate of a position follows the noise of its own spectrum. A sum that is aligned by it
    is therefore sharper than the peak: by the square of the error, which is missing in the square of its
    standard deviation. What moves by a share k only keeps a part of its drift d, so that the square has
    ``(1 - k)**2 d**2 + k**2 e**2 - 2 k e**2`` too much. That is nothing for the k that is returned.

    Parameters
    ----------
    error, drift : float or numpy.ndarray
        Standard errors of the positions, and the standard deviation of the true ones.

    Returns
    -------
    numpy.ndarray
        0 where nothing drifts, almost 1 where the errors are far smaller than the drift.

    Examples
    --------
    >>> from exspy_deepdeconv.response.alignment import moved_share
    >>> moved_share([0.01, 0.4, 0.4], [2.0, 0.3, 0.0]).round(3).tolist()
    [0.995, 0.2, 0.0]
    """
    error, drift = np.asarray(error, float), np.asarray(drift, float)
    return 1 - error / np.maximum(np.hypot(error, drift), 1e-300)
