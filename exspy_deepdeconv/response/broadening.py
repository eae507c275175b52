"""Responses no narrower than the zero-loss peaks that they are to explain (NumPy and SciPy only).

Drift and charging broaden the peak on the specimen; a vacuum response that is narrower would leave
the difference as a false loss (and gain) beside the zero-loss peak.
"""

import numpy as np
import scipy.fft as fft

from ..spectrum.blur import gaussian_transfer, moving
from ..spectrum.peaks import half_height_crossings, half_height_width

BROADER_THAN = 1.03  # width of the peak over that of the response; a smaller ratio may be chance
STANDARD_ERRORS = 3.0  # of a zero-loss width, by which it must exceed that of the response
AROUND = 8.0  # widths to both sides of the energy zero: enough to read a width from
STEPS = 5  # of the iteration for the width of the blur


def broadened(responses, position, fwhm, doubt=0.0, gain_half=np.inf):
    """Blur responses by the Gaussians that bring them to the widths of zero-loss peaks.

    Parameters
    ----------
    responses : numpy.ndarray
        Unit area, ``(1 or batch, 2 n)``, the energy zero at index n.
    position, fwhm : numpy.ndarray
        Positions and widths of the zero-loss peaks in channels, ``(batch,)``. A narrow peak between
        two channels appears wider: the widths of the responses are measured at the same position.
    doubt : float or numpy.ndarray
        By how much a peak must be wider, in channels, ``(batch,)``; at least by 3 % of the width.
    gain_half : float or numpy.ndarray
        Half widths of the peaks' gain sides in channels, ``(batch,)``. Losses widen only the other
        side, and are no reason to broaden a response. NaN where it is not known.

    Returns
    -------
    numpy.ndarray
        ``(batch, 2 n)``; those that are wide enough stay as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.response.broadening import broadened
    >>> from exspy_deepdeconv.physics import gaussian, half_height_width
    >>> wide = broadened(gaussian(128, 64.0, 6.0)[None], np.array([20.3]), np.array([10.0]))
    >>> round(float(half_height_width(wide, np.array([64]))[0]), 1)
    10.0
    """
    placed, widths, fwhm = _side_by_side(responses, position, fwhm, gain_half)
    reach = placed.shape[-1] - 1
    frequency = fft.rfftfreq(2 * reach)

    def widths_of(spectra):
        peaks = fft.irfft(spectra, 2 * reach)
        return half_height_width(peaks, peaks.argmax(axis=-1))

    rows = np.flatnonzero(fwhm - widths > np.maximum((BROADER_THAN - 1) * widths, doubt))
    out = np.array(np.broadcast_to(responses, (len(fwhm), responses.shape[-1])))
    if rows.size:
        missing = fwhm[rows] ** 2 - widths[rows] ** 2
        blur = np.sqrt(missing)
        for _ in range(STEPS):  # only the widths of Gaussians add up in squares
            seen = placed[rows] * gaussian_transfer(frequency, blur[:, None])
            gained = widths_of(seen) ** 2 - widths[rows] ** 2
            blur *= np.sqrt(missing / np.maximum(gained, 1e-3 * fwhm[rows] ** 2))
        size = out.shape[-1]
        whole = fft.rfft(out[rows]) * gaussian_transfer(fft.rfftfreq(size), blur[:, None])
        out[rows] = np.maximum(fft.irfft(whole, size), 0)
    return out


def widths_apart(responses, position, fwhm, doubt=0.0, gain_half=np.inf):
    """How much wider zero-loss peaks are than responses, where the peaks lie.

    Parameters
    ----------
    responses, position, fwhm, doubt, gain_half
        As for `broadened`; ``doubt`` is that of `doubtful_width`.

    Returns
    -------
    apart : numpy.ndarray
        Width of the peak over that of the response, less 1; ``(batch,)``.
    error : numpy.ndarray
        Standard error of this.
    """
    _, widths, fwhm = _side_by_side(responses, position, fwhm, gain_half)
    return fwhm / widths - 1, doubt / STANDARD_ERRORS / widths


def placed_beside(responses, position, fwhm):
    """Responses about their energy zero, placed between two channels as zero-loss peaks are.

    Parameters
    ----------
    responses, position, fwhm
        As for `broadened`.

    Returns
    -------
    peaks : numpy.ndarray
        ``(1 or batch, n)``.
    zero : int
        The index at which the channel nearest to the peaks lies.
    """
    placed, reach = _placed(responses, position, fwhm)
    return fft.irfft(placed, 2 * reach), reach


def _placed(responses, position, fwhm):
    """Their transforms, and how many channels they reach to both sides."""
    zero = responses.shape[-1] // 2
    reach = min(int(np.ceil(AROUND * fwhm.max())), zero)
    apart = position - np.floor(position + 0.5)  # from the nearest channel
    core = fft.rfft(responses[:, zero - reach : zero + reach])
    return core * moving(fft.rfftfreq(2 * reach), apart[:, None]), reach


def _side_by_side(responses, position, fwhm, gain_half):
    """Transforms of the responses about their zero, where the peaks lie; widths of both."""
    placed, reach = _placed(responses, position, fwhm)
    peaks = fft.irfft(placed, 2 * reach)
    left, right = half_height_crossings(peaks, peaks.argmax(axis=-1))
    more = gain_half - (reach + position - np.floor(position + 0.5) - left)
    return placed, right - left, np.fmin(fwhm, right - left + 2 * np.fmax(more, 0))


def doubtful_width(fwhm, height, noise):
    """Uncertainty of a zero-loss width: three standard errors, in channels.

    They are those of a Gaussian without smoothing: of its half-height crossings and of its height. With
    few electrons, widths are read from smoothed peaks: they scatter less, but come out too large for
    peaks that are not Gaussian.

    Parameters
    ----------
    fwhm, height : numpy.ndarray
        Of the zero-loss peaks, ``(batch,)``.
    noise : Noise
        That of their spectra, ``(batch,)``.

    Returns
    -------
    numpy.ndarray
        ``(batch,)``.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.response.broadening import doubtful_width
    >>> from exspy_deepdeconv.physics import Noise
    >>> doubtful_width(np.array([10.0]), np.array([1e4]), Noise(np.ones(1), np.zeros(1))).round(2)
    array([0.31])
    """
    # Twice that of a channel at half height, and that of the height, which moves both crossings.
    scatter = np.sqrt(2 * noise.gain * height + 3 * noise.floor)
    slope = 2 * np.log(2) * height / fwhm  # of the flanks at half height
    return STANDARD_ERRORS * scatter / slope
