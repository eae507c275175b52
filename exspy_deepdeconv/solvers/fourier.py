"""Fourier-ratio deconvolution with Gaussian reconvolution (NumPy, SciPy)."""

import numpy as np
import scipy.fft as fft
from scipy.ndimage import uniform_filter1d
from scipy.special import erf

from .._arguments import is_real
from ..physics import NOT_FINITE, gaussian
from ..response.convolution import as_rows, response_convolution
from ..response.elastic import split
from ..spectrum.blur import gaussian_transfer, smooth_each

ROWS_AT_ONCE = 64
POWER_WIDTH = 5  # frequencies over which a power spectrum is averaged
AHEAD = 24  # frequencies ahead in which power above the noise is looked for
ROUNDING = 1e-8  # share of the counts below which a response is not known
VISIBLE = 5.0  # in units of the noise power, which is not quite the same at all frequencies
# The part of a spectrum that is filtered by itself, in zero-loss widths from the peak: where it begins,
# where it is used (near its beginning it lacks what was cut off), and how soft both edges are.
FAR_FROM, FAR_USED_FROM, SOFTNESS = 2.5, 4.5, 0.6
LARGEST = 2.0  # power, which scatters, over that of all counts in one channel
LEAST_PASSED = np.finfo(float).eps ** 2  # power below which a response is mere rounding
SPREADINGS = 15  # times that negative values are spread over their surroundings


def fourier_ratio(spectra, psf, resolution, *, noise=None):
    """Divide by the response in Fourier space, seen through a Gaussian, damped by the noise.

    The elastic peak is fitted with the response and replaced by the Gaussian; the rest is
    filtered by Wiener's ratio: full division at frequencies where the spectrum's power is above that
    of the noise, none where it is not, nor where more power would result than all counts have (the
    mark of a response that does not fit). The part more than about three zero-loss widths from the
    peak is also filtered by itself, and that result is used there: noise is high on the peak and low
    beyond it, and what a response that does not fit leaves of the peak must not affect the losses
    beyond.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``. A flat offset is subtracted and, if positive, put back.
    psf : numpy.ndarray
        The response, shape ``(length,)`` or ``(..., length)``.
    resolution : float
        Full width at half maximum of the Gaussian, in channels.
    noise : Noise, optional
        Of the spectra; read from them by default.

    Returns
    -------
    numpy.ndarray
        Non-negative, of the shape of ``spectra``. Cutting it off at zero adds no counts: negative
        values are made up for by their surroundings, over one zero-loss width, and farther only
        where that is not enough.

    Raises
    ------
    ValueError
        If ``resolution`` is not positive or a response holds no peak.

    References
    ----------
    R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011),
    sections 4.3 (Fourier ratio) and 4.1 (reconvolution). N. Wiener, Extrapolation, Interpolation and
    Smoothing of Stationary Time Series (1949) (the damping).

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.classical import fourier_ratio
    >>> from exspy_deepdeconv.physics import gaussian
    >>> blurred = 1e5 * gaussian(256, 80.0, 10.0) + 1e4 * gaussian(256, 150.0, 20.0)
    >>> sharp = fourier_ratio(blurred, gaussian(64, 32.0, 10.0), resolution=5.0)
    >>> narrow = 20.0**2 - 10.0**2 + 5.0**2
    >>> truth = 1e5 * gaussian(256, 80.0, 5.0) + 1e4 * gaussian(256, 150.0, np.sqrt(narrow))
    >>> bool(np.allclose(sharp, truth, atol=1e-3 * truth.max()))
    True
    """
    if not (is_real(resolution) and 0 < resolution < np.inf):
        raise ValueError(f"resolution={resolution!r} must be a positive number of channels.")
    return damped_ratio(spectra, psf, resolution, 1.0, noise=noise)


def damped_ratio(spectra, psf, resolution, damping, *, noise=None):
    """`fourier_ratio` with the noise power multiplied by ``damping`` (for oracles)."""
    rows, psf = as_rows(spectra, psf)
    blur = response_convolution(psf, rows.shape[-1], padding=rows.shape[-1])
    noise = noise and noise.in_rows(len(rows))
    answer = np.empty_like(rows)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = slice(start, start + ROWS_AT_ONCE)
        part = noise and noise.select(batch)
        answer[batch] = _ratio_of_rows(rows[batch], blur.of(batch), resolution, damping, part)
    return answer.reshape(np.shape(spectra))


def _ratio_of_rows(rows, blur, resolution, damping, noise):
    seen, variance, elastic = split(rows, blur, noise)
    left = seen.counts - elastic.seen_through(blur)[0][:, blur.window]
    rounding = (ROUNDING * np.abs(seen.counts).sum(axis=-1)) ** 2
    width = seen.zero_loss.some_width
    distance = np.abs(np.arange(rows.shape[-1]) - elastic.position[:, None]) / width[:, None]

    def filtered(share):
        noise_power = damping * (variance * share**2).sum(axis=-1) + rounding
        return _filtered(left * share, blur, noise_power, resolution)

    near, far = filtered(1.0), filtered(_beyond(FAR_FROM, distance))
    peak = gaussian(rows.shape[-1], elastic.position, np.full(len(rows), float(resolution)))
    estimate = elastic.counts[:, None] * peak + near
    estimate = estimate + _beyond(FAR_USED_FROM, distance) * (far - near)
    estimate = _cut_off(estimate, width, elastic.counts)
    estimate = estimate + np.maximum(seen.level, 0)[:, None]
    return np.where((seen.flags & NOT_FINITE > 0)[:, None], np.nan, estimate)


def _beyond(edge, distance):
    """0 at the elastic peak, 1 from ``edge`` on.

    The edge is a Gaussian's: a kinked one would add frequencies that no blurred spectrum has.
    """
    return 0.5 * (1 + erf((distance - edge) / (np.sqrt(2) * SOFTNESS)))


def _filtered(spectra, blur, noise_power, resolution):
    """Wiener's ratio times the Gaussian of ``resolution`` channels."""
    goal = gaussian_transfer(blur.frequency, resolution)
    transform = fft.rfft(_closed(spectra, blur))
    passed = np.abs(blur.transfer) ** 2
    most = LARGEST * np.abs(spectra).sum(axis=-1)[:, None] ** 2
    signal = _signal_power(np.abs(transform) ** 2, passed, noise_power[:, None], most)
    ratio = (
        blur.transfer.conj() * signal / np.maximum(passed * signal + noise_power[:, None], 1e-300)
    )
    return fft.irfft(goal * ratio * transform, blur.size)[:, blur.window]


def _closed(spectra, blur):
    """The spectra on the padded circle, with a smooth bridge from their last values to their first."""
    few = min(8, blur.channels)
    last, first = spectra[:, -few:].mean(axis=-1), spectra[:, :few].mean(axis=-1)
    gap = blur.size - blur.channels
    share = 0.5 - 0.5 * np.cos(np.pi * (np.arange(gap) + 0.5) / gap)
    bridge = last[:, None] + (first - last)[:, None] * share
    circle = np.concatenate([spectra, bridge], axis=-1)
    return np.roll(circle, blur.pad, axis=-1)


def _signal_power(power, passed, noise_power, most):
    """Power of the unblurred spectrum at each frequency.

    Read from the data up to the frequency at which they vanish in their noise or exceed ``most``, and
    continued with the inverse fourth power of the frequency, as for kinks.
    """
    ahead = uniform_filter1d(power, AHEAD, axis=-1, mode="nearest", origin=-(AHEAD // 2))
    power = uniform_filter1d(power, POWER_WIDTH, axis=-1, mode="nearest")
    measured = np.maximum(power - noise_power, 0) / np.maximum(passed, LEAST_PASSED)
    # A dip is not the end, which is where only noise follows.
    seen = ahead > VISIBLE * noise_power
    # No frequency of a spectrum holds more than all its counts. Where there is more, division by a
    # response that does not fit has amplified what is left of the elastic peak.
    largest = np.maximum(measured[:, :AHEAD].max(axis=-1, keepdims=True), most)
    seen &= uniform_filter1d(measured, AHEAD, axis=-1, mode="nearest") <= largest
    seen[:, 0], seen[:, -1] = True, False
    cutoff = np.argmin(seen, axis=-1)[:, None]
    last = np.take_along_axis(measured, cutoff - 1, axis=-1)
    index = np.arange(power.shape[-1])
    return np.where(index < cutoff, measured, last * (cutoff / np.maximum(index, 1)) ** 4)


def _cut_off(spectra, width, least):
    """Non-negative spectra with the same sums, and nearly the same once they are blurred.

    Negative values are spread over ``width`` channels and subtracted there, several times. What is left
    at the end is made up for by a factor on all channels, since subtracting a constant would wipe out
    weak losses. Where the noise of many empty channels adds up to a negative sum, ``least`` (the counts
    of the elastic peak) takes its place.
    """
    total = np.maximum(spectra.sum(axis=-1), least)[:, None]
    for _ in range(SPREADINGS):
        below = np.minimum(spectra, 0)
        if not below.any():
            return spectra
        spectra = np.maximum(spectra, 0) + smooth_each(below, width)
    spectra = np.maximum(spectra, 0)
    return spectra * total / np.maximum(spectra.sum(axis=-1, keepdims=True), 1e-300)
