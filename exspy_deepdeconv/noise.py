"""Read the noise and the flat level of a spectrum from the spectrum itself (NumPy only)."""

from dataclasses import dataclass

import numpy as np

FAINT_CORRELATION = 1.5  # a smaller excess of the variance at wide strides is scatter


@dataclass(frozen=True)
class Noise:
    """Noise variance ``gain * counts + floor`` of each spectrum (navigation shape)."""

    gain: np.ndarray
    floor: np.ndarray

    def variance(self, counts):
        """Variance expected in channels that hold ``counts`` (shape ``(..., channels)``)."""
        return self.gain[..., None] * np.maximum(counts, 0) + self.floor[..., None]


def estimate_noise(spectra, zero_loss, groups=12):
    """Read the noise from the spectra: variance = gain x counts + floor.

    What a data unit is worth in electrons is unknown (detector gain, summed or averaged frames),
    so both numbers are read from fourth differences, which a blurred spectrum hardly feels. Their
    stride grows with the zero-loss width, so that noise correlated between neighbouring channels
    is not mistaken for little noise. Channels are grouped by intensity and a straight line is
    fitted to the variances of the groups; groups inflated by structure pull little.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.
    zero_loss : ZeroLoss
        As found by `find_zero_loss`.
    groups : int
        Number of intensity groups.

    Returns
    -------
    Noise
        Always finite and positive.
    """
    data = np.asarray(spectra, np.float64)
    flat = data.reshape(-1, data.shape[-1])
    fwhm = np.nan_to_num(zero_loss.fwhm.reshape(-1), nan=8.0)
    gain, floor = np.empty((2, flat.shape[0]))
    for row, (spectrum, width) in enumerate(zip(flat, fwhm, strict=True)):
        gain[row], floor[row] = _noise_of_one(spectrum, width, groups)
    return Noise(gain.reshape(data.shape[:-1]), floor.reshape(data.shape[:-1]))


def _noise_of_one(spectrum, fwhm, groups):
    top = float(spectrum.max())
    if not top > 1e-100:
        return 1.0, 1.0  # nothing but zeros: any scale will do
    step = int(np.clip(round(fwhm / 8), 1, 4))
    counts, variance = _grouped_variance(spectrum, step, groups)
    variance = variance * _hidden_by_correlation(spectrum, step, variance, groups)
    gain, floor = _fit_line(np.maximum(counts, 0), np.maximum(variance, 1e-18 * top**2))
    # Noise-free data still need a positive scale.
    gain = max(gain, 1e-9 * top)
    return gain, max(floor, (0.3 * gain) ** 2)


def _grouped_variance(spectrum, step, groups):
    """Mean counts and noise variance of groups of channels of about the same intensity."""
    s = [spectrum[i * step : spectrum.size - (4 - i) * step] for i in range(5)]
    difference = np.abs(s[0] - 4 * s[1] + 6 * s[2] - 4 * s[3] + s[4]) / np.sqrt(70.0)
    level = (s[0] + s[1] + s[2] + s[3] + s[4]) / 5
    # Rounded, and sorted stably: how equal counts are grouped must not hang on rounding errors.
    order = np.argsort(np.round(level / max(np.abs(spectrum).max(), 1e-300), 9), kind="stable")
    size = order.size // groups
    order = order[: size * groups].reshape(groups, size)
    median = (np.median(difference[order], axis=1) / 0.6745) ** 2
    # Where single electrons are rare most differences are zero, and the median with them.
    variance = np.where(median > 0, median, np.mean(difference[order] ** 2, axis=1))
    return level[order].mean(axis=1), variance


def _hidden_by_correlation(spectrum, step, variance, groups):
    """How much more variance wider strides show, which noise shared by neighbours hides."""
    if step >= 3 or spectrum.size < 16 * groups:
        return 1.0
    wide = _grouped_variance(spectrum, 3, groups)[1]
    seen = variance > 0
    ratio = float(np.median(wide[seen] / variance[seen])) if seen.any() else 1.0
    return ratio if ratio > FAINT_CORRELATION else 1.0


def _fit_line(counts, variance):
    """Non-negative ``variance = gain * counts + floor`` by least squares of the relative error.

    Errors are relative to the variance seen: a group that structure has inflated pulls little.
    """
    x, one = counts / variance, 1 / variance
    xx, x1, oo = x @ x, x @ one, one @ one
    sx, so = x.sum(), one.sum()
    determinant = xx * oo - x1**2
    if determinant > 1e-12 * xx * oo:
        gain, floor = (sx * oo - so * x1) / determinant, (so * xx - sx * x1) / determinant
        if gain >= 0 and floor >= 0:
            return gain, floor
    only_gain, only_floor = sx / max(xx, 1e-300), so / max(oo, 1e-300)
    error = [np.sum((1 - only_gain * x) ** 2), np.sum((1 - only_floor * one) ** 2)]
    return (only_gain, 0.0) if error[0] <= error[1] else (0.0, only_floor)


def flat_level(spectra, zero_loss):
    """The flat offset under each spectrum, where there is no doubt about it.

    It is read from the outer half of the gain side, beyond five zero-loss widths, and believed if
    that is level, far above (or below) its noise, and nowhere undercut by the rest of the spectrum:
    the tail of a response is none of these. Elsewhere the level is taken for zero.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.
    zero_loss : ZeroLoss
        As found by `find_zero_loss`.

    Returns
    -------
    numpy.ndarray
        In the units of the data, navigation shape.
    """
    data = np.asarray(spectra, np.float64)
    flat = data.reshape(-1, data.shape[-1])
    position, fwhm = zero_loss.position.reshape(-1), zero_loss.fwhm.reshape(-1)
    level = [_level_of_one(*row) for row in zip(flat, position, fwhm, strict=True)]
    return np.reshape(level, data.shape[:-1])


def _level_of_one(spectrum, position, fwhm):
    end = int((position - 5 * fwhm) / 2) if np.isfinite(position) else 0
    if end < 24:
        return 0.0
    outer, inner = spectrum[: end // 2], spectrum[end // 2 : end]
    level = float(spectrum[:end].mean())
    # Twice the error of white noise: neighbours may share theirs.
    error = 2 * float(spectrum[:end].std()) / np.sqrt(end)
    if abs(level) < 6 * error or abs(outer.mean() - inner.mean()) > 0.1 * abs(level) + error:
        return 0.0
    size = max(end // 2, 16)
    blocks = spectrum[: spectrum.size // size * size].reshape(-1, size).mean(axis=1)
    undercut = blocks.min() < level - 0.1 * abs(level) - 2 * error
    return 0.0 if undercut else level
