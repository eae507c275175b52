"""Find the zero-loss peak in the data (NumPy and SciPy only)."""

from dataclasses import dataclass

import numpy as np

from .blur import smooth_each
from .peak_search import rough_peak, without_spikes
from .peaks import (
    WIDE_ENOUGH,
    at,
    half_height_width,
    highest,
    parabola_vertex,
    relative_noise,
    stands_out,
)

# Expected error of the vertex of the parabola through three channels, in widths: from the first on, a
# cubic through more channels is better in a narrow peak; from the second on, the peak is smoothed.
UNCERTAIN, DOUBTFUL = 0.004, 0.02
# Channels: peaks under the first have too few for a cubic; peaks over the second always get one (noise
# that neighbours share does not show in the expected error).
NARROW, WIDE = 6.0, 12.0
# Reach of the cubic to either side, in widths, by the largest number of electrons. Where the peak is
# not a cubic, a longer reach biases its maximum; with few electrons, noise matters more than that.
REACHES = {np.inf: 0.35, 3e5: 0.5, 2e4: 0.75}
FARTHEST = 0.6  # reaches: largest distance of the maximum of a cubic from where it was expected
# What smoothing adds to the square of a width, in units of what it adds to that of a Gaussian: its
# standard error times the root of the electrons, and by how much it may differ from 1 (a Lorentzian: 0.8).
WIDENING_NOISE, MOST_UNLIKE = 15.0, 1.0
FALLBACK_WIDTH = 8.0  # channels: where no peak was found, but a width is needed


@dataclass(frozen=True)
class ZeroLoss:
    """Zero-loss peaks of a stack of spectra; every field has the navigation shape.

    Attributes
    ----------
    position : numpy.ndarray
        Of the maximum, in (fractional) channels; NaN where no zero-loss peak was found.
    fwhm : numpy.ndarray
        Full width at half maximum, in channels; NaN where none was found.
    height : numpy.ndarray
        Height of the peak above zero, in the units of the data.
    """

    position: np.ndarray
    fwhm: np.ndarray
    height: np.ndarray

    @property
    def some_width(self):
        """Full width at half maximum, `FALLBACK_WIDTH` where no peak was found."""
        return np.nan_to_num(self.fwhm, nan=FALLBACK_WIDTH)

    def select(self, rows):
        """The peaks of these spectra."""
        return ZeroLoss(self.position[rows], self.fwhm[rows], self.height[rows])


def find_zero_loss(spectra):
    """Find the zero-loss peak in the data; it is never assumed to lie at 0 eV.

    The peak is the highest one, unless there is a narrower peak of at least a fifth of its height
    on its low-energy side (a plasmon may be higher than the zero-loss peak in a thick specimen). Its
    position is the maximum of a cubic through the logarithms of the counts around it (cubic, since
    peaks may lean to one side). The position of a narrow peak is the vertex of the parabola through
    its three highest channels, unless noise would move that by more than a few thousandths of the
    width. Where counts are low, height and width are read from a slightly smoothed spectrum, and the
    width is corrected for the smoothing.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``.

    Returns
    -------
    ZeroLoss
        NaN position and width where there is no peak with two flanks.

    Raises
    ------
    ValueError
        If the spectra have fewer than three channels.

    Examples
    --------
    >>> from exspy_deepdeconv.physics import find_zero_loss, gaussian
    >>> peak = find_zero_loss(1e4 * gaussian(256, 60.25, 8.0))
    >>> round(float(peak.position), 1), round(float(peak.fwhm), 1)
    (60.2, 8.0)
    """
    data = np.asarray(spectra, np.float64)
    if data.ndim == 0 or data.shape[-1] < 3:
        raise ValueError(f"spectra of shape {data.shape}: a peak needs at least 3 channels.")
    if not np.isfinite(data).all():
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    flat = data.reshape(-1, data.shape[-1])
    result = np.full((3, len(flat)), np.nan)
    rows = np.flatnonzero(flat.max(axis=-1) > 0)
    if rows.size:
        result[:, rows] = _find(flat if rows.size == len(flat) else flat[rows])
    return ZeroLoss(*result.reshape((3,) + data.shape[:-1]))


def _find(spectra):
    """Position, width and height of spectra that have positive counts, ``(3, batch)``."""
    shared = without_spikes(spectra)
    index, width = rough_peak(spectra, shared)
    doubt = _vertex_error(spectra, index, width)
    taken_off = np.where(doubt > DOUBTFUL, width / 3.0, 0.0)
    used = smooth_each(spectra, taken_off)
    searched = np.where(taken_off[:, None] > 0, used, shared)
    index = highest(searched, index, (width / 2).astype(int) + 1)
    height, width = at(used, index), half_height_width(used, index)
    channels = spectra.shape[-1]
    found = (index > 0) & (index < channels - 1) & (width <= channels / 4)
    found &= stands_out(used, height)
    rows = np.flatnonzero(found & (taken_off > 0))
    width[rows] = _width_before(used[rows], index[rows], width[rows], taken_off[rows], doubt[rows])
    width = np.maximum(width, 1.0)
    position = parabola_vertex(used, index)
    rows = np.flatnonzero(found & (width >= np.where(doubt > UNCERTAIN, NARROW, WIDE)))
    if rows.size:
        reach = _reach(width[rows], doubt[rows])
        for _ in range(2):  # the second time around the maximum of the first
            position[rows] = _cubic_maximum(spectra[rows], position[rows], reach)
    return np.where(found, [position, width, height], np.nan)


def _width_before(smoothed, index, width, blur, doubt):
    """Widths before the peaks were smoothed with Gaussians of ``blur`` channels.

    The squares of the widths of Gaussians add up. The width of a peak with tails grows by more than
    that, and that of a peak with a flat top by less; by how much, is measured with a second
    smoothing, to twice the blur. A difference within its own error is used only in part.
    """
    if not len(index):
        return width
    twice = smooth_each(smoothed, np.sqrt(3.0) * blur)
    top = highest(twice, index, (width / 2).astype(int))
    unlike = (half_height_width(twice, top) ** 2 - width**2) / (3 * blur**2) - 1
    unlike = np.clip(np.nan_to_num(unlike), -MOST_UNLIKE, MOST_UNLIKE)
    error = WIDENING_NOISE**2 / np.maximum(_electrons(width, doubt), 1e-12)
    believed = unlike**3 / (unlike**2 + error)
    return np.sqrt(np.maximum(width**2 - blur**2 * (1 + believed), 1.0))


def _electrons(width, doubt):
    """Number of electrons that follows from `_vertex_error`, in Gaussian peaks of 8 to 60 channels."""
    return (0.085 * width**1.5 / np.maximum(doubt, 1e-12)) ** 2


def _reach(width, doubt):
    """How far the cubic goes to either side, in channels: the fewer the electrons, the farther."""
    electrons = _electrons(width, doubt)
    share = np.full(len(width), np.nan)
    for fewest, reach in REACHES.items():
        share[electrons <= fewest] = reach
    # In narrow peaks, a short reach would leave fewer channels than a cubic needs.
    return width * np.where(width < WIDE, np.maximum(share, REACHES[3e5]), share)


def _cubic_maximum(spectra, position, reach):
    """Maximum of the cubic through the logarithms within ``reach``; ``position`` where it has none."""
    half = int(np.ceil(reach.max())) + 1
    place = np.floor(position + 0.5).astype(int)[:, None] + np.arange(-half, half + 1)
    seen = np.take_along_axis(spectra, np.clip(place, 0, spectra.shape[-1] - 1), -1)
    x = (place - position[:, None]) / reach[:, None]
    inside = (np.abs(x) < 1) & (place >= 0) & (place < spectra.shape[-1])
    top = np.where(inside, seen, 0).max(axis=-1, keepdims=True)
    share = np.maximum(seen / top, 1e-3)
    # The noise of a logarithm is one over the root of the counts. Weights go to zero at the ends, so that
    # the result does not jump when a channel comes in.
    weight = np.where(inside, share * (1 - x**2), 0.0)
    powers = x[..., None] ** np.arange(4)
    matrix = np.einsum("bc,bci,bcj->bij", weight, powers, powers)
    vector = np.einsum("bc,bci,bc->bi", weight, powers, np.log(share))
    matrix = matrix + 1e-9 * weight.sum(axis=-1)[:, None, None] * np.eye(4)
    _, c, b, a = np.linalg.solve(matrix, vector[..., None])[..., 0].T
    # Of the derivative c + 2 b x + 3 a x^2 the root at which the cubic is highest.
    under = b**2 - 3 * a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        maximum = c / (np.sqrt(under) - b)
    good = (b < 0) & (under > 0) & (np.abs(maximum) < FARTHEST)
    return position + np.where(good, maximum, 0.0) * reach


def _vertex_error(spectra, index, width):
    """How far noise moves the vertex, in widths; 0 for narrow peaks, where it cannot be estimated."""
    error = np.zeros(len(spectra))
    rows = np.flatnonzero(width >= WIDE_ENOUGH)
    error[rows] = width[rows] * relative_noise(spectra, rows, index[rows], width[rows]) / 7.8
    return error
