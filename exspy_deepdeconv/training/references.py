"""What a pair is made of, from aligned spectra: response, sharpened losses, noise (NumPy, SciPy).

The losses are linear in the spectra's components once they are made; making them is not.
"""

import warnings

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from ..classical import richardson_lucy
from ..experiment.instruments import side_of
from ..physics import (
    FWHM_PER_SIGMA,
    MIN_RESOLUTION_CHANNELS,
    centred_response,
    half_height_width,
    prepare,
    shift_channels,
    smooth,
)
from ..response.broadening import BROADER_THAN, broadened
from ..response.convolution import response_convolution
from ..response.elastic import CORE_WIDTHS, LEAST_CORE, Columns, response_at

WIDER_THAN = 1.15  # the zero-loss peaks of the map: a response that is, was measured otherwise
RAW_WIDTHS = 3.0  # on both sides of the maximum, where a captured response is taken as it is
FADE = (0.5, 1.0)  # zero-loss widths between which the losses are faded in
MIRRORED = (0.5, 1.0)  # of the gain side, where its misfit is believed less and less
ITERATIONS = 30  # of Richardson-Lucy, on spectra smoothed to the zero-loss width
LEAST_SMOOTHING = 3.0  # channels
LEVEL_WIDTHS = 5.0  # over which losses must stand above their noise
PEAK_WIDTHS = 2.0  # on both sides of the maximum, where misfit of the peak hides the noise
NOISE_WIDTHS = 5.0  # what varies more slowly is no noise; the noise's excess is averaged over them
MOST_EXCESS = 2.0  # in units of its median; more is misfit beside the peak


def aligned_sum(rows):
    """The sum of vacuum spectra, ``(spectra, channels)``, aligned; a ValueError if none has a zero-loss peak."""
    counts, found, _ = prepare(rows[np.isfinite(rows).all(axis=-1)])
    good = np.isfinite(found.position)
    if not good.any():
        raise ValueError(
            f"No zero-loss peak is found in psf, nor in the pixels named by vacuum ({rows.shape[-1]} channels: "
            "they must be more than four zero-loss widths long)."
        )
    middle = np.median(found.position[good])
    return shift_channels(counts[good], middle - found.position[good]).sum(axis=0)


def captured_response(rows, fwhm):
    """The response of the map's instrument from zero-loss peaks captured on it.

    Parameters
    ----------
    rows : numpy.ndarray
        Vacuum spectra, shape ``(spectra, channels)``; they are aligned and summed.
    fwhm : float
        Zero-loss width of the map, in channels. A narrower response is broadened to it.

    Returns
    -------
    numpy.ndarray
        Shape ``(2, points)``: rising distances from the energy zero in channels, and the
        logarithm of the height there. Its tails are averaged, more and more with the distance, and
        continued past the data.

    Raises
    ------
    ValueError
        If no zero-loss peak is found.

    Warns
    -----
    UserWarning
        Of a response that is wider than the peaks of the map.
    """
    reach = rows.shape[-1]
    peak = centred_response(aligned_sum(rows), reach)
    width = float(half_height_width(peak, np.asarray(reach)))
    if width > WIDER_THAN * fwhm:
        warnings.warn(
            f"The captured response is {width / fwhm:.2g} times as wide as the zero-loss peaks of the "
            "map: it is not theirs.",
            UserWarning,
            stacklevel=3,
        )
    if fwhm > BROADER_THAN * width:
        peak, width = broadened(peak[None], np.zeros(1), np.array([fwhm]))[0], fwhm
    inside = np.flatnonzero(peak > 0)
    # Nearby it is measured well enough; averages would flatten its steep flanks.
    raw = max(int(round(RAW_WIDTHS * width)), 4)
    loss, log_loss = side_of(peak[reach : inside[-1] + 1], raw)
    gain, log_gain = side_of(peak[inside[0] : reach + 1][::-1], raw)
    distance = np.concatenate([-gain[:0:-1], loss])
    return np.stack([distance, np.concatenate([log_gain[:0:-1], log_loss])])


def sampled_response(response, channels):
    """A captured response on whole channels.

    Parameters
    ----------
    response : numpy.ndarray
        From `captured_response`.
    channels : int
        Length of the half axis.

    Returns
    -------
    numpy.ndarray
        Unit area, shape ``(2 * channels,)``, the energy zero at ``channels``.
    """
    distance = np.clip(np.arange(-channels, channels), response[0, 0], response[0, -1])
    peak = np.exp(PchipInterpolator(*response)(distance))
    return peak / peak.sum()


def without_elastic(spectra, variance, psf, fwhm, zero):
    """Take the elastic peaks off aligned spectra.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(spectra, channels)``.
    variance : numpy.ndarray
        Of a typical spectrum, shape ``(channels,)``.
    psf : numpy.ndarray
        From `sampled_response`.
    fwhm, zero : float, int
        Zero-loss width and energy zero, in channels.

    Returns
    -------
    elastic : numpy.ndarray
        Elastic counts of each spectrum.
    losses : numpy.ndarray
        What is left, of the shape of ``spectra``. On the gain side that is misfit of the
        response, and as much is taken off the loss side; within half a zero-loss width of the
        energy zero and below nothing is left.
    """
    channel = np.arange(spectra.shape[-1])
    blur = response_convolution(psf, channel.size, padding=channel.size)
    shape, slope = (a[:, blur.window] for a in response_at(blur, np.array([float(zero)])))
    near = np.abs(channel - zero) <= max(CORE_WIDTHS * fwhm, LEAST_CORE)
    # The slope takes up what is left of shifts.
    columns = Columns(np.where(near, 1 / variance, 0.0)[None], shape, slope)
    amounts = np.array([columns.fit(row[None])[:, 0] for row in spectra])
    left = spectra - amounts @ np.concatenate([shape, slope])
    mirror = 2 * zero - channel
    misfit = np.where(mirror >= 0, left[:, np.clip(mirror, 0, channel.size - 1)], 0.0)
    far = _smoothstep((channel - zero) / max(zero, 1), *MIRRORED)
    return amounts[:, 0], _rise(zero, fwhm, channel.size) * (left - (1 - far) * misfit)


def sharpened(losses, psf, fwhm, zero, noise):
    """Remove the response from losses: Richardson-Lucy after a smoothing as wide as the response.

    Above the response's cut-off that smoothing leaves next to nothing, and the iteration, whose
    corrections are smooth, brings nothing back. It runs on a pedestal as high as the noise: without
    one, it makes peaks of what is nothing but noise.

    Parameters
    ----------
    losses : numpy.ndarray
        From `without_elastic`.
    psf : numpy.ndarray
        From `sampled_response`.
    fwhm, zero : float, int
        Zero-loss width and energy zero, in channels.
    noise : float
        Standard deviation of a typical channel.

    Returns
    -------
    sharp : numpy.ndarray
        Of the shape of ``losses``; below zero by no more than the noise.
    resolution : float
        Width at half maximum in channels of what becomes of a line without a width of its own.
    """
    width = max(fwhm, LEAST_SMOOTHING)
    blurred, psf = np.maximum(smooth(losses, width) + noise, 0), smooth(psf, width)
    sharp = richardson_lucy(blurred, psf, ITERATIONS) - noise
    line = richardson_lucy(psf, psf, ITERATIONS)
    resolution = float(half_height_width(line, np.asarray(line.size // 2)))
    return _rise(zero, fwhm, losses.shape[-1]) * sharp, max(resolution, MIN_RESOLUTION_CHANNELS)


def believed(sharp, variance, fwhm):
    """Losses made non-negative, and faded out where they do not stand above their noise.

    Parameters
    ----------
    sharp : numpy.ndarray
        From `sharpened`.
    variance : numpy.ndarray
        Of the spectra that they were made of, shape ``(channels,)``.
    fwhm : float
        Zero-loss width in channels; their level is the mean over a few of them.

    Returns
    -------
    numpy.ndarray
        Of the shape of ``sharp``.
    """
    level = np.maximum(smooth(sharp, LEVEL_WIDTHS * fwhm), 0) ** 2
    return np.maximum(sharp, 0) * level / np.maximum(level + variance, 1e-300)


def white_rows(left, fwhm, zero):
    """Noise of unit variance, and the variance that it had.

    Parameters
    ----------
    left : numpy.ndarray
        What the components leave of the spectra, in units of the expected noise, shape
        ``(spectra, channels)``.
    fwhm, zero : float, int
        Zero-loss width and energy zero, in channels.

    Returns
    -------
    rows : numpy.ndarray
        Of the shape of ``left``. Slow variations are taken out: they are components left over.
    excess : numpy.ndarray
        Variance before, shape ``(channels,)``; bounded, since there is misfit beside the peak.
    """
    width = max(NOISE_WIDTHS * fwhm, NOISE_WIDTHS * LEAST_SMOOTHING)
    rows = _beside_peak(left, fwhm, zero)
    rows = rows - _mean_around(rows, width)
    excess = np.maximum(_mean_around((rows**2).mean(axis=0), width), 1e-3)
    rows = rows / np.sqrt(excess)
    excess = excess / (1 - 1.22 / width)  # white noise loses that share to the mean around
    return rows, np.minimum(excess, MOST_EXCESS * np.median(excess))


def _mean_around(rows, fwhm):
    """Gaussian means; at both ends the rows go on as in a mirror, and not with one noisy value."""
    return gaussian_filter1d(rows, fwhm / FWHM_PER_SIGMA, axis=-1, mode="reflect")


def _beside_peak(rows, fwhm, zero):
    """Put what follows the zero-loss peak into its place.

    There the components leave drift, jitter and breathing of the peak, ten times what noise would
    be. They are no noise that channels have on their own; the response is varied for them.
    """
    reach = int(np.ceil(PEAK_WIDTHS * fwhm))
    first, stop = max(zero - reach, 0), zero + reach + 1
    following = np.arange(stop, 2 * stop - first)
    out = rows.copy()
    out[:, first:stop] = rows[:, np.clip(following, 0, rows.shape[-1] - 1)]
    return out


def _rise(zero, fwhm, channels):
    """From 0 where no losses are believed, near the peak and on the gain side, to 1."""
    return _smoothstep((np.arange(channels) - zero) / max(fwhm, LEAST_SMOOTHING), *FADE)


def _smoothstep(x, low, high):
    x = np.clip((x - low) / (high - low), 0, 1)
    return x**2 * (3 - 2 * x)
