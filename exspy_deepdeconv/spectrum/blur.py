"""Gaussians, blur and shifts of spectra (NumPy and SciPy only)."""

import numpy as np
import scipy.fft as fft
from scipy.ndimage import gaussian_filter1d

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
TAPER = 0.15  # cycles per channel under the highest frequency: where shifts become whole channels


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


def gaussian_transfer(frequency, fwhm):
    """Transfer function of unit-area Gaussians.

    Parameters
    ----------
    frequency : numpy.ndarray
        Cycles per channel, ``(frequencies,)``.
    fwhm : float or numpy.ndarray
        Full width at half maximum in channels; ``(spectra, 1)`` for one each.

    Returns
    -------
    numpy.ndarray
        Real, of the broadcast shape.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.spectrum.blur import gaussian_transfer
    >>> gaussian_transfer(np.array([0.0, 0.1]), 4.0).round(3)
    array([1.   , 0.566])
    """
    return np.exp(-2 * (np.pi * fwhm / FWHM_PER_SIGMA * frequency) ** 2)


def smooth(spectra, fwhm):
    """Blur with a unit-area Gaussian of ``fwhm`` channels; the end values are continued.

    A width under a twentieth of a channel leaves the data as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import smooth
    >>> smooth(np.eye(1, 7, 3), 2.0).round(2)
    array([[0.  , 0.03, 0.23, 0.47, 0.23, 0.03, 0.  ]])
    """
    spectra = np.asarray(spectra)
    if spectra.dtype.kind not in "fc":  # the filter would round down to whole numbers
        spectra = spectra.astype(float)
    if fwhm < 0.05:
        return spectra.copy()
    return gaussian_filter1d(spectra, fwhm / FWHM_PER_SIGMA, axis=-1, mode="nearest")


def smooth_each(spectra, fwhm):
    """`smooth` with a width for each spectrum of a stack.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(batch, channels)``.
    fwhm : numpy.ndarray
        Full widths at half maximum in channels, ``(batch,)``; 0 leaves a spectrum as it is.

    Returns
    -------
    numpy.ndarray
        Of the shape of ``spectra``; the same array if there is nothing to smooth.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.spectrum.blur import smooth_each
    >>> smooth_each(np.eye(2, 5, 2), np.array([0.0, 2.0])).max(axis=-1).round(2)
    array([1.  , 0.47])
    """
    if not np.any(fwhm):
        return spectra
    out = spectra.copy()
    for width in np.unique(fwhm[fwhm > 0]):  # spectra of a map often share theirs
        rows = fwhm == width
        out[rows] = smooth(spectra[rows], width)
    return out


def shift_channels(spectra, shift):
    """Move spectra by any number of channels to the right; the end values are repeated.

    By whole channels first, then by what is left (a Fourier shift on an axis padded with its ends).

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``.
    shift : float or numpy.ndarray
        In channels; one for all or navigation shape.

    Returns
    -------
    numpy.ndarray
        Of the shape of ``spectra``.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian, shift_channels
    >>> moved = shift_channels(gaussian(64, 30.0, 6.0), 2.5)
    >>> bool(np.allclose(moved, gaussian(64, 32.5, 6.0), atol=1e-6))
    True
    """
    size, pad = spectra.shape[-1], 16
    shift = np.broadcast_to(np.asarray(shift, float), spectra.shape[:-1])[..., None]
    whole = np.rint(shift).astype(int)
    source = np.clip(np.arange(size) - whole, 0, size - 1)
    spectra = np.take_along_axis(spectra, source, axis=-1)
    padding = [(0, 0)] * (spectra.ndim - 1) + [(pad, pad)]
    padded = np.pad(spectra, padding, mode="edge")
    frequency = fft.rfftfreq(padded.shape[-1])
    phase = np.exp(-2j * np.pi * frequency * (shift - whole))
    moved = fft.irfft(fft.rfft(padded, axis=-1) * phase, padded.shape[-1], axis=-1)
    return moved[..., pad : pad + size]


def moving(frequency, shift):
    """Transfer function of a shift by any number of channels.

    Near the highest frequency only whole channels are moved: what a peak few channels wide holds
    there cannot be moved by less without ringing over the whole spectrum.

    Parameters
    ----------
    frequency : numpy.ndarray
        Cycles per channel, ``(frequencies,)``.
    shift : float or numpy.ndarray
        In channels, to the right; ``(spectra, 1)`` for one each.

    Returns
    -------
    numpy.ndarray
        Complex, of the broadcast shape.
    """
    whole = np.round(shift)
    turns = frequency * whole + movable(frequency) * (shift - whole)
    turns -= np.rint(turns)
    # NumPy has a fast tangent, but no fast exp(-2j * pi * turns): it follows from that of half the angle.
    tangent = np.tan(-np.pi * turns)
    sine_over_tangent = 2 / (1 + tangent**2)
    phase = np.empty(tangent.shape, complex)
    phase.real, phase.imag = sine_over_tangent - 1, tangent * sine_over_tangent
    return phase


def turning(frequency):
    """Transfer function of the change with `moving`'s shift, at a shift of zero."""
    return -2j * np.pi * movable(frequency)


def movable(frequency):
    """Frequencies by which parts of a channel move, an array or a tensor: none near the highest."""
    low = ((0.5 - frequency) / TAPER).clip(0, 1)
    return frequency * low**2 * (3 - 2 * low)
