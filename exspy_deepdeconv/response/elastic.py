"""Fit the elastic peak of a spectrum with a known response (NumPy, SciPy)."""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

from ..physics import inspect, smooth
from ..spectrum.blur import moving, turning

CORE_WIDTHS = 0.6  # zero-loss widths to both sides of the maximum, where the peak is fitted
LEAST_CORE = 1.5  # channels, at least: fewer than three cannot tell height and position apart
STEPS = 6  # Gauss-Newton steps, of at most half a channel each


@dataclass(frozen=True)
class ElasticPeak:
    """The elastic peaks of a stack of spectra, shape ``(spectra,)`` each.

    Attributes
    ----------
    counts : numpy.ndarray
        Elastic counts I0; 0 where a spectrum has no zero-loss peak.
    position : numpy.ndarray
        Energy zero, in channels.
    """

    counts: np.ndarray
    position: np.ndarray

    def seen_through(self, blur):
        """The peaks on the padded axis, and their derivatives with respect to the position."""
        shape, slope = response_at(blur, self.position)
        return self.counts[:, None] * shape, self.counts[:, None] * slope


def response_at(blur, position):
    """The response moved to ``position`` (channels of the window), and its derivative."""
    moved = blur.transfer * moving(blur.frequency, np.asarray(position)[:, None] + blur.pad)
    slope = moved * turning(blur.frequency)
    return fft.irfft(moved, blur.size), fft.irfft(slope, blur.size)


def fit_elastic(counts, variance, zero_loss, blur):
    """Fit height and position of the response to the core of the zero-loss peak.

    Weighted Gauss-Newton steps from the peak as it was found: a shift of the peak by a hundredth of
    a channel can be more than the noise of its flanks.

    Parameters
    ----------
    counts, variance : numpy.ndarray
        Counts without a flat offset and their variance, shape ``(spectra, channels)``.
    zero_loss : ZeroLoss
        Their zero-loss peaks.
    blur : Convolution
        With the response, in double precision.

    Returns
    -------
    ElasticPeak
    """
    found = np.isfinite(zero_loss.position)
    start = np.where(found, zero_loss.position, 0.0)
    position, width = start, np.where(found, zero_loss.fwhm, 1.0)
    channel = np.arange(counts.shape[-1])
    amplitude = np.zeros(len(counts))
    for _ in range(STEPS):
        shape, slope = (a[:, blur.window] for a in response_at(blur, position))
        core = np.maximum(CORE_WIDTHS * width, LEAST_CORE)[:, None]
        weight = (np.abs(channel - position[:, None]) < core) / variance
        amplitude, moment = Columns(weight, shape, slope).fit(counts)
        step = np.where(amplitude > 0, moment / np.where(amplitude > 0, amplitude, 1.0), 0.0)
        position = np.clip(position + np.clip(step, -0.5, 0.5), start - 1, start + 1)
    return ElasticPeak(np.where(found, np.maximum(amplitude, 0), 0.0), position)


class Columns:
    """Weighted least squares of two columns, row by row.

    Parameters
    ----------
    weight, first, second : numpy.ndarray
        Shape ``(spectra, channels)``.
    """

    def __init__(self, weight, first, second):
        self.columns = first, second
        self.weighted = weight * first, weight * second
        aa, ab, bb = (
            _inner(self.weighted[i], self.columns[j]) for i, j in ((0, 0), (0, 1), (1, 1))
        )
        determinant = aa * bb - ab**2
        usable = determinant > 1e-12 * aa * bb
        scale = np.where(usable, 1 / np.where(usable, determinant, 1.0), 0.0)
        self.inverse = bb * scale, -ab * scale, aa * scale

    def fit(self, data):
        """Factors of both columns, shape ``(2, spectra)``; 0 where they cannot be told apart."""
        a, b = (_inner(column, data) for column in self.weighted)
        aa, ab, bb = self.inverse
        return np.array([aa * a + ab * b, ab * a + bb * b])

    def sum(self, factors):
        """Both columns times their factors."""
        return combined(factors, *self.columns)


def combined(factors, first, second):
    """Two columns times their factors, shape ``(spectra, channels)``."""
    return factors[0][:, None] * first + factors[1][:, None] * second


def _inner(a, b):
    return np.einsum("sc,sc->s", a, b)


def split(rows, blur, noise=None):
    """Inspect spectra and fit their elastic peaks: where Fourier ratio and TGV begin.

    Parameters
    ----------
    rows : numpy.ndarray
        Spectra, shape ``(spectra, channels)``.
    blur : Convolution
        With the response, in double precision.
    noise : Noise, optional
        Of the spectra; read from them by default.

    Returns
    -------
    seen : Inspected
        Counts without offset, zero-loss peaks, offsets and flags.
    variance : numpy.ndarray
        Of each channel.
    elastic : ElasticPeak
        As fitted.
    """
    seen = inspect(rows)
    noise = seen.noise if noise is None else noise
    # From smoothed counts, since an expected variance must not follow the noise.
    variance = noise.variance(smooth(np.maximum(seen.counts, 0), 3.0))
    return seen, variance, fit_elastic(seen.counts, variance, seen.zero_loss, blur)
