"""How well two peaks can be placed at best: the Cramer-Rao bound (NumPy and SciPy only).

Two Gaussians of known width lie on a flat level and are seen through a known response. Unknown are
five parameters, always in this order: both positions (channels), both areas (counts) and the level
(counts per channel).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft
from scipy.optimize import least_squares

from ..spectrum.blur import gaussian_transfer


@dataclass(frozen=True)
class TwoPeakBound:
    """Smallest standard deviations that an unbiased estimate of two peaks can have.

    Attributes
    ----------
    positions : numpy.ndarray
        Of both positions, in channels.
    separation : float
        Of their difference, in channels.
    areas : numpy.ndarray
        Of both areas, in counts.
    """

    positions: np.ndarray
    separation: float
    areas: np.ndarray


def fisher_information(slopes, variance):
    """Fisher information of parameters on which the expected counts depend.

    Parameters
    ----------
    slopes : numpy.ndarray
        Derivative of the expected counts with respect to each parameter, shape
        ``(parameters, channels)``.
    variance : numpy.ndarray
        Noise variance of each channel, independent of its neighbours', shape ``(channels,)``: the
        expected counts where only electrons are counted, more with the noise of a readout, infinite
        where a channel is left out.

    Returns
    -------
    numpy.ndarray
        Shape ``(parameters, parameters)``. Exact for Poisson counts; with readout noise, what
        weighted least squares can know, which is hardly less.

    Raises
    ------
    ValueError
        If a variance is not positive, or the shapes do not fit.

    References
    ----------
    S. M. Kay, *Fundamentals of Statistical Signal Processing: Estimation Theory*, Prentice Hall
    1993, chapter 3.

    Examples
    --------
    The centre of one Gaussian peak of N counts is known within sigma / sqrt(N):

    >>> import numpy as np
    >>> from exspy_deepdeconv.bounds.cramer_rao import fisher_information
    >>> channel, sigma = np.arange(101) - 50.0, 5.0
    >>> counts = 1e4 * np.exp(-0.5 * (channel / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    >>> information = fisher_information([counts * channel / sigma**2], counts)
    >>> round(float(information[0, 0] ** -0.5), 6)
    0.05
    """
    slopes, variance = np.asarray(slopes, float), np.asarray(variance, float)
    if slopes.ndim != 2 or slopes.shape[1:] != variance.shape:
        raise ValueError(
            f"slopes of shape {slopes.shape} and variance of shape {variance.shape} do not fit: "
            "(parameters, channels) and (channels,) are needed."
        )
    if not (variance > 0).all():
        raise ValueError(f"variance must be positive in every channel; one is {variance.min():g}.")
    return (slopes / variance) @ slopes.T


def two_peaks(parameters, fwhm, psf):
    """Expected counts of two peaks, and their derivatives.

    Parameters
    ----------
    parameters : sequence of float
        Positions, areas and level, as the module says.
    fwhm : float
        Width of both Gaussians before the response, in channels.
    psf : numpy.ndarray
        The response on ``2 * channels`` channels, unit area, its energy zero at ``channels``, as in
        `exspy_deepdeconv.simulate.Simulation`.

    Returns
    -------
    counts : numpy.ndarray
        Shape ``(channels,)``.
    slopes : numpy.ndarray
        Shape ``(5, channels)``.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.bounds.cramer_rao import two_peaks
    >>> ideal = np.eye(1, 128, 64)[0]  # a response that blurs nothing
    >>> counts, slopes = two_peaks([20.0, 40.0, 100.0, 50.0, 0.0], 4.0, ideal)
    >>> counts.shape, slopes.shape, round(float(counts.sum()), 3)
    ((64,), (5, 64), 150.0)
    """
    first, second, area, other_area, level = (float(value) for value in parameters)
    channels = np.size(psf) // 2
    frequency = fft.rfftfreq(2 * channels)
    blur = fft.rfft(np.roll(psf, -channels))
    blur = blur * gaussian_transfer(frequency, fwhm)

    def seen(position, order):
        turned = blur * np.exp(-2j * np.pi * frequency * position)
        # Moving a peak up by d multiplies its transform by exp(-2 pi i f d).
        return fft.irfft(turned * (-2j * np.pi * frequency) ** order, 2 * channels)[:channels]

    shapes = seen(first, 0), seen(second, 0)
    slopes = np.stack(
        [area * seen(first, 1), other_area * seen(second, 1), *shapes, np.ones(channels)]
    )
    return area * shapes[0] + other_area * shapes[1] + level, slopes


def two_peak_bound(parameters, fwhm, psf, variance):
    """Cramer-Rao bound of two peaks of known width, the level under them being unknown.

    Parameters
    ----------
    parameters : sequence of float
        The truth: positions, areas and level, as the module says.
    fwhm, psf
        As in `two_peaks`.
    variance : numpy.ndarray
        Noise variance of each channel, shape ``(channels,)``; see `fisher_information`. It includes
        that of whatever else is counted there, such as the tail of the zero-loss peak.

    Returns
    -------
    TwoPeakBound

    Raises
    ------
    ValueError
        As `fisher_information`; if both peaks lie at one place, or an area is not positive.

    Examples
    --------
    Far apart, each peak is placed as if it were alone, within sigma / sqrt(N):

    >>> import numpy as np
    >>> from exspy_deepdeconv.bounds.cramer_rao import two_peak_bound, two_peaks
    >>> peaks, ideal = [60.0, 180.0, 1e4, 1e4, 1e-3], np.eye(1, 512, 256)[0]
    >>> bound = two_peak_bound(peaks, 2.3548 * 5.0, ideal, two_peaks(peaks, 2.3548 * 5.0, ideal)[0])
    >>> bound.positions.round(3), round(float(bound.separation), 3)
    (array([0.05, 0.05]), 0.071)
    """
    information = fisher_information(two_peaks(parameters, fwhm, psf)[1], variance)
    scale = np.sqrt(np.diag(information))
    if not (min(parameters[2:4]) > 0 and (scale > 0).all()):
        raise ValueError(f"parameters={list(parameters)!r}: both areas must be positive.")
    normal = information / np.outer(scale, scale)
    if np.linalg.cond(normal) > 1e14:
        raise ValueError(f"parameters={list(parameters)!r}: both peaks lie at one place.")
    covariance = np.linalg.inv(normal) / np.outer(scale, scale)
    difference = np.array([-1.0, 1.0, 0.0, 0.0, 0.0])
    sigmas = np.sqrt(np.diag(covariance))
    return TwoPeakBound(
        sigmas[:2], float(np.sqrt(difference @ covariance @ difference)), sigmas[2:4]
    )


def fit_two_peaks(spectrum, start, fwhm, psf, variance=None, inside=slice(None)):
    """Fit the five parameters to a spectrum by (weighted) least squares.

    Parameters
    ----------
    spectrum : numpy.ndarray
        Shape ``(channels,)``; nothing but the two peaks and the level.
    start : sequence of float
        Positions, areas and level to start from.
    fwhm, psf
        As in `two_peaks`.
    variance : numpy.ndarray, optional
        Noise variance of each channel; the same everywhere by default.
    inside : slice
        The channels that are fitted.

    Returns
    -------
    numpy.ndarray
        Positions (the lower one first, with its area), areas and level.

    Raises
    ------
    ValueError
        If the lengths of spectrum and response do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.bounds.cramer_rao import fit_two_peaks, two_peaks
    >>> ideal = np.eye(1, 256, 128)[0]
    >>> spectrum, _ = two_peaks([60.3, 66.1, 100.0, 50.0, 2.0], 5.0, ideal)
    >>> fit_two_peaks(spectrum, [60.0, 67.0, 80.0, 80.0, 0.0], 5.0, ideal)[:2].round(2)
    array([60.3, 66.1])
    """
    spectrum = np.asarray(spectrum, float)
    if spectrum.shape != (np.size(psf) // 2,):
        raise ValueError(
            f"spectrum of shape {spectrum.shape} and psf of {np.size(psf)} channels do not fit: "
            "the response must be twice as long."
        )
    weight = (np.ones_like(spectrum) if variance is None else np.asarray(variance) ** -0.5)[inside]

    def residual(parameters):
        return (two_peaks(parameters, fwhm, psf)[0] - spectrum)[inside] * weight

    def slopes(parameters):
        return (two_peaks(parameters, fwhm, psf)[1][:, inside] * weight).T

    found = least_squares(residual, start, slopes, x_scale="jac").x
    return found if found[0] <= found[1] else found[[1, 0, 3, 2, 4]]
