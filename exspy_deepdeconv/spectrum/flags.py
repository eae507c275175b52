"""What is odd about a spectrum, in bits of a flag."""

import numpy as np

from .noise import estimate_noise
from .peaks import at, nearest

EMPTY = 1  # nothing but zeros
NO_ZERO_LOSS = 2  # no zero-loss peak could be found
NOT_FINITE = 4  # NaN or infinity in the spectrum
SATURATED = 8  # flat-topped zero-loss peak
SPIKE = 16  # up to three channels far above their neighbours, or far below
UNEXPLAINED = 32  # the result, blurred again, is not the spectrum
GAINS = 64  # the result gains more energy than it loses
PSF_MISFIT = 128  # a given response is not that of the spectrum
PSF_NARROW = 256  # it is narrower than the zero-loss peak, as where that has drifted
# Why it is not: none of these is set where the result did not explain the spectrum.
PSF_WIDTH = 512  # its zero-loss peak has another width
PSF_TAIL_LOW, PSF_TAIL_HIGH = 1024, 2048  # its gain-side tail is too low, or too high
# What a response that is not the spectrum's own may lead to (of a spectrum that is usable itself).
UNFIT = UNEXPLAINED | GAINS | NOT_FINITE
UNUSABLE = EMPTY | NO_ZERO_LOSS | NOT_FINITE  # there is nothing to deconvolve
FLAG_TEXT = {
    EMPTY: "empty",
    NO_ZERO_LOSS: "without a zero-loss peak",
    NOT_FINITE: "not finite",
    SATURATED: "with a saturated zero-loss peak",
    SPIKE: "with a spike or a dead channel",
    UNEXPLAINED: "not explained by the result",
    GAINS: "with more energy gains than losses",
    PSF_MISFIT: "that the psf does not fit",
    PSF_NARROW: "with a zero-loss peak wider than the psf",
    PSF_WIDTH: "with a zero-loss peak of another width than the psf",
    PSF_TAIL_LOW: "with a higher tail on the gain side than the psf",
    PSF_TAIL_HIGH: "with a lower tail on the gain side than the psf",
}
MISFIT_TEXT = {
    PSF_WIDTH: "another width",
    PSF_TAIL_LOW: "too low a tail on the gain side",
    PSF_TAIL_HIGH: "too high a tail on the gain side",
}

UNDERSAMPLED_FWHM_CHANNELS = 3.0  # a narrower zero-loss peak may lie in one channel
LEVEL_TOP = 4  # channels of exactly the same height make a plateau
CLEAR = 8.0  # standard deviations of the noise by which a spike must stand out
LOCAL = 5.0  # times the scatter of the channels around it, by which it must stand out, too
WELL_SAMPLED = 6.0  # channels: with wider zero-loss peaks, spikes of several channels can be judged
MARGIN = 3  # channels to either side that predict a channel
MANY = 400.0  # electrons in a channel, from which their logarithm is hardly skewed
DEAD = 0.7  # share of the expected counts that a dead channel lacks
SMOOTH = 10.0  # channels: narrower zero-loss peaks have kinks
HOT = (0.4, 1.5)  # share by which a hot channel exceeds them, with smooth and with narrower peaks


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
    numpy.ndarray of uint16
        Navigation shape.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import EMPTY, SPIKE, find_zero_loss, gaussian, spectrum_flags
    >>> spectra = np.stack([1e5 * gaussian(256, 60.0, 8.0) + 1.0, np.zeros(256)])
    >>> spectra[0, 200] += 5e3
    >>> bool((spectrum_flags(spectra, find_zero_loss(spectra)) == [SPIKE, EMPTY]).all())
    True
    """
    spectra = np.asarray(spectra, np.float64)
    finite = np.isfinite(spectra).all(axis=-1)
    empty = finite & (spectra == 0).all(axis=-1)
    lost = finite & ~empty & np.isnan(zero_loss.position)
    found = finite & ~empty & ~lost
    flags = EMPTY * empty + NO_ZERO_LOSS * lost + NOT_FINITE * ~finite
    flags = np.asarray(flags, np.uint16)
    if found.any():
        if noise is None:
            noise = estimate_noise(np.nan_to_num(spectra), zero_loss.position)
        looked_at = spectra[found], zero_loss.fwhm[found], noise.gain[found], noise.floor[found]
        saturated = _saturated(*looked_at, zero_loss.position[found])
        flags[found] |= np.where(saturated, SATURATED, 0).astype(np.uint16)
        flags[found] |= np.where(_with_spike(*looked_at), SPIKE, 0).astype(np.uint16)
    return flags


def _saturated(spectra, fwhm, gain, floor, position):
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
    # In a thick specimen a plasmon may be the highest peak: it is broader than the zero-loss peak.
    flat &= np.abs(index - position) <= fwhm
    return plateau | ((depth < 0.05) & flat)


def _with_spike(spectra, fwhm, gain, floor):
    """Up to three channels that stand out farther than noise or the response can explain."""
    neighbours = np.maximum(np.maximum(spectra[:, :-2], spectra[:, 2:]), 0)
    middle = spectra[:, 1:-1]
    excess = middle - neighbours
    # First what exceeds the readout noise alone: few channels do.
    row, channel = np.nonzero((excess > neighbours) & (excess > CLEAR * np.sqrt(floor)[:, None]))
    height = middle[row, channel]
    sigma = np.sqrt(gain[row] * np.maximum(height, 0) + floor[row])
    out = excess[row, channel] > CLEAR * sigma
    # An undersampled zero-loss peak may lie in one channel: it is no spike.
    top = spectra.argmax(axis=-1)[row]
    of_peak = (np.abs(channel + 1 - top) <= 1) & (fwhm[row] < UNDERSAMPLED_FWHM_CHANNELS)
    spiked = np.zeros(len(spectra), bool)
    spiked[row[out & ~of_peak]] = True
    sampled = np.flatnonzero(~spiked & (fwhm >= WELL_SAMPLED))
    if sampled.size and spectra.shape[-1] > 2 * MARGIN:
        few = (values[sampled] for values in (spectra, fwhm, gain, floor))
        spiked[sampled] = _out_of_line(*few)
    return spiked


def _out_of_line(spectra, fwhm, gain, floor):
    """The same for well sampled spectra, where the channels two and three away predict a channel."""
    padded = np.pad(spectra, [(0, 0), (MARGIN, MARGIN)], mode="reflect")
    channels = spectra.shape[-1]
    near, far = (
        [padded[:, MARGIN + s : MARGIN + s + channels] for s in (-step, step)] for step in (2, 3)
    )
    above = _above_neighbours(spectra, near, gain, floor)
    off = _off_cubic(spectra, near, far, fwhm, gain, floor)
    row, channel, over = (np.concatenate(parts) for parts in zip(above, off, strict=True))
    found = np.zeros(len(spectra), bool)
    found[row[over > LOCAL * _scatter_around(spectra, row, channel, gain[row])]] = True
    return found


def _above_neighbours(spectra, near, gain, floor):
    """Rows and channels far above both channels ``near`` them, and their relative excess."""
    highest = np.maximum(np.maximum(*near), 0)
    above = spectra - 2 * highest
    row, channel = np.nonzero(above > CLEAR * np.sqrt(floor)[:, None])
    variance = gain[row] * spectra[row, channel] + floor[row]
    clear = above[row, channel] ** 2 > CLEAR**2 * variance
    row, channel = row[clear], channel[clear]
    least = np.maximum(highest[row, channel], gain[row])
    return row, channel, spectra[row, channel] / least - 1


def _off_cubic(spectra, near, far, fwhm, gain, floor):
    """The same for channels far above or below the cubic through the logarithms around them.

    No feature is narrower than the response, so the logarithms of the counts nearly lie on a cubic.
    """
    least = MANY * gain
    # Where the geometric mean of the nearer two is not far off, nothing is: a quick first look.
    square, product = spectra**2, near[0] * near[1]
    odd = (square > 1.4 * product) | (square < 0.2 * product)
    odd &= np.minimum(*near) > least[:, None]
    odd[:, :MARGIN] = odd[:, -MARGIN:] = False  # the mirrored margin does not continue a slope
    row, channel = np.nonzero(odd)
    around = np.array([side[row, channel] for side in (*near, *far)])
    expected = np.exp(_between(*np.log(np.maximum(around, least[row]))))
    over = spectra[row, channel] / expected - 1
    sigma = np.sqrt(2.5 * (gain[row] * expected + floor[row]))  # that of the cubic included
    bad = (over < -DEAD) | (over > np.where(fwhm[row] >= SMOOTH, *HOT))
    bad &= np.abs(over) * expected > CLEAR * sigma
    bad &= (around > least[row]).all(axis=0)
    return row[bad], channel[bad], np.abs(over[bad])


def _between(left, right, far_left, far_right):
    """The value of a cubic amid its values two and three channels away to both sides."""
    return (9 * (left + right) - 4 * (far_left + far_right)) / 10


def _scatter_around(spectra, row, channel, least):
    """How far other channels nearby lie off such cubics: the noise may have been misread."""
    offset = np.concatenate([np.arange(-18, -4), np.arange(5, 19)])
    first, last = MARGIN, spectra.shape[-1] - 1 - MARGIN
    place = channel[:, None] + offset
    inside = (place >= first) & (place <= last)
    place = np.clip(np.where(inside, place, channel[:, None] - offset), first, last)

    def log(step):
        return np.log(np.maximum(spectra[row[:, None], place + step], least[:, None]))

    off = np.abs(log(0) - _between(log(-2), log(2), log(-3), log(3)))
    return np.quantile(off, 0.75, axis=-1) if len(row) else np.zeros(0)
