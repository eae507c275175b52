"""What is odd about a spectrum, in bits of a flag (NumPy only)."""

import numpy as np

from .noise import estimate_noise
from .zero_loss import at, nearest

EMPTY = 1  # nothing but zeros
NO_ZERO_LOSS = 2  # no zero-loss peak could be found
NOT_FINITE = 4  # NaN or infinity in the spectrum
SATURATED = 8  # flat-topped zero-loss peak
SPIKE = 16  # an isolated channel far above its neighbours
UNEXPLAINED = 32  # the result, blurred again, is not the spectrum
GAINS = 64  # the result gains more energy than it loses
FLAG_TEXT = {
    EMPTY: "empty",
    NO_ZERO_LOSS: "without a zero-loss peak",
    NOT_FINITE: "not finite",
    SATURATED: "with a saturated zero-loss peak",
    SPIKE: "with a spike",
    UNEXPLAINED: "not explained by the result",
    GAINS: "with more energy gains than losses",
}

UNDERSAMPLED_FWHM_CHANNELS = 3.0  # such a zero-loss peak may lie in one channel
LEVEL_TOP = 4  # channels of exactly the same height make a plateau


def spectrum_flags(spectra, zero_loss, noise=None):
    """Flag bits of each spectrum: see the constants of this module.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``.
    zero_loss : ZeroLoss
        Their zero-loss peaks.
    noise : Noise, optional
        Their noise; read from the spectra by default.

    Returns
    -------
    numpy.ndarray of uint8
        Navigation shape.
    """
    spectra = np.asarray(spectra, np.float64)
    finite = np.isfinite(spectra).all(axis=-1)
    empty = finite & (spectra == 0).all(axis=-1)
    lost = finite & ~empty & np.isnan(zero_loss.position)
    found = finite & ~empty & ~lost
    flags = EMPTY * empty + NO_ZERO_LOSS * lost + NOT_FINITE * ~finite
    flags = np.asarray(flags, np.uint8)
    if found.any():
        if noise is None:
            noise = estimate_noise(np.nan_to_num(spectra), zero_loss.position)
        looked_at = spectra[found], zero_loss.fwhm[found], noise.gain[found], noise.floor[found]
        flags[found] |= np.where(_saturated(*looked_at), SATURATED, 0).astype(np.uint8)
        flags[found] |= np.where(_with_spike(*looked_at), SPIKE, 0).astype(np.uint8)
    return flags


def _saturated(spectra, fwhm, gain, floor):
    """More channels share the top than the curvature of a peak of this width and noise allow."""
    channels = spectra.shape[-1]
    index = spectra.argmax(axis=-1)
    top = at(spectra, index)
    plateau = nearest(spectra < top[:, None], index)[1] - index >= LEVEL_TOP
    noise = np.sqrt(gain * np.maximum(top, 0) + floor)
    depth = 3 * noise / np.maximum(top, 1e-300) + 0.002
    left, right = nearest(spectra < ((1 - depth) * top)[:, None], index)
    run = np.where(right < channels, right - index, 0) + np.where(left >= 0, index - left, 0)
    flat = run > 2 * (1.2 * np.sqrt(depth) * fwhm + 1) + 2
    return plateau | ((depth < 0.05) & flat)


def _with_spike(spectra, fwhm, gain, floor):
    """A channel that stands out of its neighbours further than noise or the response can make it."""
    neighbours = np.maximum(np.maximum(spectra[:, :-2], spectra[:, 2:]), 0)
    middle = spectra[:, 1:-1]
    row, channel = np.nonzero(middle > 2 * neighbours)
    height = middle[row, channel]
    sigma = np.sqrt(gain[row] * np.maximum(height, 0) + floor[row])
    out = height - neighbours[row, channel] > 8 * sigma
    # Such a peak may lie in one channel.
    top = spectra.argmax(axis=-1)[row]
    of_peak = (np.abs(channel + 1 - top) <= 1) & (fwhm[row] < UNDERSAMPLED_FWHM_CHANNELS)
    spiked = np.zeros(len(spectra), bool)
    spiked[row[out & ~of_peak]] = True
    return spiked
