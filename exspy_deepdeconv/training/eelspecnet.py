"""EELSpecNet's published recipe, regenerated: its spectra, its targets, its two measures.

After S. S. Mousavi M., A. Pofelski and G. Botton, Microscopy and Microanalysis 27 (S1), 1626 (2021),
whose best validation figures are `PUBLISHED`. Neither its spectra nor its weights were published;
what the description leaves open is chosen here, and said in `recipe`.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

from ..physics import find_zero_loss, gaussian, prepare, shift_channels
from .pairs import batch_of_rows, training_row

CHANNELS, DISPERSION = 2048, 0.005  # eV
ZERO = 400  # channel of 0 eV: the axis begins at -2 eV
RESOLUTION = 3.0  # channels: the target's zero-loss peak is a Gaussian of 15 meV
EVALUATION = 2000  # spectra in its evaluation set
OFFSET = 1e-3  # added to spectra of unit sum before both measures
PUBLISHED = {"mse": 1.36e-9, "mape": 0.446}  # MAPE in percent

MOST_LINES, LINE_WIDTHS, LINE_FRACTIONS = 15, (0.05, 1.5), (300.0, 4000.0)
RESPONSE_WIDTHS, SHIFTS, LARGEST_SHIFT = (0.035, 0.2), 25, 0.05
LARGEST_NOISE, LARGEST_DARK = 1e-3, 1e-7
PSF_SHARE = 0.25


@dataclass(frozen=True)
class Recipe:
    """Spectra of EELSpecNet's recipe; the integral of the target's zero-loss peak is 1.

    Attributes
    ----------
    counts : numpy.ndarray
        Input spectra, shape ``(number, 2048)``. They are no counts: their noise is white.
    target : numpy.ndarray
        The same seen with a zero-loss peak of 15 meV (3 channels), without noise.
    elastic : numpy.ndarray
        Zero-loss peaks of the input without noise.
    psf : numpy.ndarray
        Responses of unit area on 4096 channels, energy zero at 2048: the peak of the input.
    dark : numpy.ndarray
        Flat level in each input, shape ``(number,)``.
    """

    counts: np.ndarray
    target: np.ndarray
    elastic: np.ndarray
    psf: np.ndarray
    dark: np.ndarray

    @property
    def inelastic(self):
        """The target without its zero-loss peak."""
        return self.target - gaussian(CHANNELS, float(ZERO), RESOLUTION)

    def loss_region(self):
        """Where losses are scored: one measured zero-loss width past 0 eV and on, boolean."""
        fwhm = prepare(self.counts)[1].fwhm
        return np.arange(CHANNELS) >= ZERO + np.ceil(fwhm)[:, None]


def recipe(number, rng):
    """Draw spectra.

    Zero to 15 Lorentzians 0.05 to 1.5 eV wide and 1/300 to 1/4000 as high as the zero-loss peak, at
    or above 0 eV; a response that is a Lorentzian of 35 to 200 meV smeared by 25 shifts within
    50 meV; white Gaussian noise of up to 1e-3 and a dark level of up to 1e-7 of the maximum. Taken
    here to be meant: all of these uniform (of the heights, their fractions' denominators),
    widths are FWHM, the height is that of the target's zero-loss peak, the maximum the input's.

    Parameters
    ----------
    number : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If ``number`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.training.eelspecnet import recipe
    >>> spectra = recipe(3, np.random.default_rng(0))
    >>> spectra.counts.shape, spectra.target.shape
    ((3, 2048), (3, 2048))
    """
    if not number > 0:
        raise ValueError(f"number={number!r} must be a whole number from 1.")
    parts = zip(*(_one(rng) for _ in range(number)), strict=True)
    return Recipe(*(np.stack(part) for part in parts))


def evaluation_set(number=EVALUATION, seed=0):
    """The spectra to evaluate on (2000): a `Recipe`."""
    return recipe(number, np.random.default_rng([seed, 1]))


@dataclass(frozen=True)
class RecipePairs:
    """The recipe as a source of training batches, drawn on the fly.

    The lines count as the specimen's at the network's own resolution (10 to 15 meV), where those
    of the target are seen at 15 meV: the narrowest differ by 3 % in height, most by far less.

    Attributes
    ----------
    seed : int
        Seed of the run.
    size : int
        Spectra in a batch.
    """

    seed: int = 0
    size: int = 16

    def batch(self, number):
        """Batch ``number``, as `SimulatedPairs.batch` gives it."""
        rng = np.random.default_rng([self.seed, 2, number])
        spectra = recipe(self.size, rng)
        counts, found, level = prepare(spectra.counts)
        rows = [
            training_row(
                _Row(spectra, row),
                counts[row],
                found.select(row),
                float(level[row]),
                spectra.psf[row],
                rng.random() < PSF_SHARE,
            )
            for row in range(self.size)
        ]
        return batch_of_rows(rows)


class _Row:
    """One spectrum with the attributes of a `~exspy_deepdeconv.simulate.Simulation`."""

    def __init__(self, spectra, row):
        self.elastic, self.dark = spectra.elastic[row], spectra.dark[row]
        self._inelastic = spectra.inelastic[row] + self.dark

    def inelastic(self, _):
        return self._inelastic


def normalised(spectra):
    """Spectra as both measures see them: divided by their sums, 0.001 added."""
    spectra = np.asarray(spectra, float)
    return spectra / spectra.sum(axis=-1, keepdims=True) + OFFSET


def mean_squared_error(estimate, target, where=True):
    """EELSpecNet's MSE of `normalised` spectra, over all channels or over those of a mask.

    Parameters
    ----------
    estimate, target : numpy.ndarray
        Shape ``(..., channels)``, any scale.
    where : numpy.ndarray of bool, optional
        Channels that count.

    Returns
    -------
    float

    Examples
    --------
    >>> from exspy_deepdeconv.training.eelspecnet import mean_squared_error
    >>> round(mean_squared_error([[1.0, 3.0]], [[2.0, 2.0]]), 4)  # 1/4 and 3/4 for 1/2 and 1/2
    0.0625
    """
    return float(np.mean((normalised(estimate) - normalised(target)) ** 2, where=where))


def mean_absolute_percentage_error(estimate, target, where=True):
    """EELSpecNet's MAPE in percent of `normalised` spectra; the 0.001 damps it where little is.

    Parameters
    ----------
    estimate, target : numpy.ndarray
        Shape ``(..., channels)``, any scale.
    where : numpy.ndarray of bool, optional
        Channels that count.

    Returns
    -------
    float

    Examples
    --------
    >>> from exspy_deepdeconv.training.eelspecnet import mean_absolute_percentage_error
    >>> round(mean_absolute_percentage_error([[1.0, 3.0]], [[2.0, 2.0]]), 1)  # 50 %, but for the 0.001
    49.9
    """
    estimate, target = normalised(estimate), normalised(target)
    return float(100 * np.mean(np.abs(estimate - target) / target, where=where))


def at_zero(estimate):
    """Spectra moved so that the zero-loss peak lies at 0 eV, where it lies in every target.

    The smearing shifts move the response by up to 6 channels. EELSpecNet knows where 0 eV is; a
    method that leaves the energy axis as it is does not, and MSE would measure nothing else.

    Parameters
    ----------
    estimate : numpy.ndarray
        Shape ``(..., 2048)``; spectra without a zero-loss peak are left as they are.

    Returns
    -------
    numpy.ndarray
    """
    estimate = np.asarray(estimate, float)
    # The vertex of a parabola is exact only in the middle of a channel, so that this converges. Two rounds
    # are not enough: what they leave of the shift adds 2e-10 to MSE.
    for _ in range(5):
        estimate = shift_channels(estimate, np.nan_to_num(ZERO - find_zero_loss(estimate).position))
    return estimate


def scores(estimate, spectra):
    """The measures of an estimate of ``spectra.target``, everywhere and in the loss region alone.

    The estimate is moved `at_zero` first, which takes nothing but a rigid shift off it.

    Parameters
    ----------
    estimate : numpy.ndarray
        Shape ``(number, 2048)``, any scale; seen with a resolution of 15 meV, `RESOLUTION`.
    spectra : Recipe
        What was estimated.

    Returns
    -------
    dict of str to float
        ``mse``, ``mape`` (percent) as published, ``loss_mse`` and ``loss_mape`` over
        `Recipe.loss_region`, and ``loss_error``: there, the norm of the error over that of the
        target, without the 0.001 (median over the spectra).
    """
    estimate, where = at_zero(estimate), spectra.loss_region()
    error, truth = (where * (normalised(x) - OFFSET) for x in (estimate, spectra.target))
    error = np.linalg.norm(error - truth, axis=-1) / np.linalg.norm(truth, axis=-1).clip(1e-300)
    pair = (estimate, spectra.target)
    return {
        "mse": mean_squared_error(*pair),
        "mape": mean_absolute_percentage_error(*pair),
        "loss_mse": mean_squared_error(*pair, where),
        "loss_mape": mean_absolute_percentage_error(*pair, where),
        "loss_error": float(np.median(error)),
    }


def _one(rng):
    """Input, target, elastic peak, response and dark level of one spectrum."""
    # One more window on either side: lines and response reach in from there.
    size = 3 * CHANNELS
    channel = np.arange(size) - CHANNELS - ZERO  # 0 at 0 eV
    peak = gaussian(size, float(CHANNELS + ZERO), RESOLUTION)
    lines = np.zeros(size)
    for _ in range(rng.integers(MOST_LINES + 1)):
        width = rng.uniform(*LINE_WIDTHS) / DISPERSION
        centre = rng.uniform(0, CHANNELS - ZERO)
        height = peak.max() / rng.uniform(*LINE_FRACTIONS)
        lines += height / (1 + (2 * (channel - centre) / width) ** 2)
    target = peak + lines
    transfer = fft.rfft(fft.ifftshift(_response(size, rng)))
    window = slice(CHANNELS, 2 * CHANNELS)

    def blurred(x):
        return np.maximum(fft.irfft(fft.rfft(x) * transfer, size), 0)

    elastic = blurred(peak)
    psf = elastic[ZERO : ZERO + 2 * CHANNELS]  # energy zero at 2048
    counts = blurred(target)[window]
    highest = counts.max()
    dark = highest * rng.uniform(0, LARGEST_DARK)
    noise = highest * rng.uniform(0, LARGEST_NOISE) * rng.standard_normal(CHANNELS)
    return counts + noise + dark, target[window], elastic[window], psf / psf.sum(), dark


def _response(size, rng):
    """A Lorentzian smeared by random shifts, its maximum near the middle; unit sum."""
    width = rng.uniform(*RESPONSE_WIDTHS) / DISPERSION
    shifts = rng.uniform(-1, 1, SHIFTS) * LARGEST_SHIFT / DISPERSION
    distance = np.arange(size) - size // 2 - shifts[:, None]
    response = np.mean(1 / (1 + (2 * distance / width) ** 2), axis=0)
    return response / response.sum()
