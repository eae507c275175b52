"""Gaussians, blur and shifts of spectra (NumPy and SciPy only)."""

import numpy as np
import scipy.fft as fft
from scipy.ndimage import gaussian_filter1d

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


def gaussian(channels, position, fwhm):
    """Unit-area Gaussian sampled at the channel centres.

    Parameters
    ----------
    channels : int
        Length of the axis.
    position, fwhm : float or numpy.ndarray
        Centre and full width at half maximum in channels, of the navigation shape.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., channels)``.

    Examples
    --------
    >>> from exspy_deepdeconv.physics import gaussian
    >>> round(float(gaussian(64, 20.3, 4.0).sum()), 6)
    1.0
    """
    sigma = np.asarray(fwhm, float)[..., None] / FWHM_PER_SIGMA
    distance = np.arange(channels) - np.asarray(position, float)[..., None]
    return np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))


def smooth(spectra, fwhm):
    """Blur with a unit-area Gaussian of ``fwhm`` channels; the end values are continued.

    A width under a twentieth of a channel leaves the data as they are.
    """
    if fwhm < 0.05:
        return np.array(spectra)
    return gaussian_filter1d(spectra, fwhm / FWHM_PER_SIGMA, axis=-1, mode="nearest")


def shift_channels(spectra, shift):
    """Move spectra by a fraction of a channel (Fourier shift on an axis padded with its ends)."""
    size = spectra.shape[-1]
    pad = 16
    padding = [(0, 0)] * (spectra.ndim - 1) + [(pad, pad)]
    padded = np.pad(spectra, padding, mode="edge")
    frequency = fft.rfftfreq(padded.shape[-1])
    phase = np.exp(-2j * np.pi * frequency * np.asarray(shift)[..., None])
    moved = fft.irfft(fft.rfft(padded, axis=-1) * phase, padded.shape[-1], axis=-1)
    return moved[..., pad : pad + size]
