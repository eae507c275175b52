"""Training pairs made of a measured map, as plain arrays: what a bare GPU node trains on.

`exspy_deepdeconv.training.pca.measured_pairs` reads the arrays off a map; from here on only NumPy
and SciPy are needed. Batch number ``n`` is drawn from the seed ``(seed, n)`` alone, as in
`~exspy_deepdeconv.training.pairs`.
"""

import os
import zipfile
import zlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..experiment.instruments import tapered
from ..simulate import Detector, compose, grid_for
from .pairs import batch_of_rows, training_rows

WIDTH_SCATTER, SKEW_SCATTER = 0.15, 0.06  # of the response, relative (standard deviations)
WANDER = 0.3  # of the loadings: radians of rotation, standard deviations of perturbation
MIXED = 3  # pixels that are mixed into one
NEGATIVE_SHARE = 0.02  # of its counts that a drawn reference may lose at zero
JITTER = 2.0  # channels by which the zero-loss peak moves
MEASURED_SHARE = (0.5, 1.0)  # of the noise variance; the rest is simulated
ROUNDS = 10  # of drawing what a batch lacks


@dataclass(frozen=True, eq=False, repr=False)
class MeasuredPairs:
    """The stream of batches that a measured map gives.

    A reference is ``loadings @ losses / (loadings @ elastic)``: inelastic counts per elastic count,
    the instrument's broadening removed as far as the noise allowed. It is taken for an unblurred
    specimen, so that the truth of a pair is exact: it is computed from the reference, and never by
    deblurring the pair.

    Attributes
    ----------
    loadings : numpy.ndarray
        Of the measured spectra, shape ``(spectra, components)``.
    elastic : numpy.ndarray
        Elastic counts of each component, shape ``(components,)``.
    losses : numpy.ndarray
        Inelastic counts of each component, the response removed, shape ``(components, channels)``.
    response : numpy.ndarray
        The captured response, shape ``(2, points)``: channels from its energy zero, and the
        logarithm of its height there.
    noise : numpy.ndarray
        What the components leave of the spectra, brought to unit variance, ``(rows, channels)``.
    excess : numpy.ndarray
        Variance of the measured noise over ``gain * counts + floor``, shape ``(channels,)``.
    variance_ratio : numpy.ndarray
        Explained variance of all components, for the scree plot; empty where there is none.
    gain, floor : float
        Noise variance ``gain * counts + floor``, in data units.
    level : float
        Flat offset of the data.
    zero : int
        Channel of the energy zero.
    fwhm, resolution : float
        Width of the zero-loss peak, and of the Gaussian that the losses are seen through at best;
        in channels.
    dispersion : float
        eV per channel.
    seed : int
        Seed of the batches.
    channels_per_batch : int
        Spectra times channels in a batch.
    psf_share : float
        Share of the spectra whose response is handed to the network.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv.training.pca import measured_pairs
    >>> s = data.plasmonic_map(shape=(8, 8), channels=512)
    >>> pairs = measured_pairs(s, data.vacuum_spectrum(s))
    >>> pairs.batch(0)["counts"].shape
    (64, 512)
    """

    loadings: np.ndarray
    elastic: np.ndarray
    losses: np.ndarray
    response: np.ndarray
    noise: np.ndarray
    excess: np.ndarray
    variance_ratio: np.ndarray
    gain: float
    floor: float
    level: float
    zero: int
    fwhm: float
    resolution: float
    dispersion: float
    seed: int = 0
    channels_per_batch: int = 32 * 1024
    psf_share: float = 0.25

    @property
    def channels(self):
        """Length of the spectra."""
        return self.losses.shape[-1]

    def references(self):
        """The references of the measured spectra.

        Returns
        -------
        numpy.ndarray
            Inelastic counts per elastic count and channel, shape ``(spectra, channels)``, never
            negative; the energy zero is at channel ``zero``.
        """
        return np.maximum(self._compositions() @ self.losses, 0)

    def specimens(self):
        """What losses and elastic counts are drawn from; see `References`."""
        return References(self)

    def batch(self, number):
        """Batch ``number`` as a dictionary of float32 arrays, scaled to unit peak height.

        Parameters
        ----------
        number : int
            From 0.

        Returns
        -------
        dict of str to numpy.ndarray
            As from `~exspy_deepdeconv.training.pairs.SimulatedPairs.batch`.

        Raises
        ------
        ValueError
            If the zero-loss peak is lost in the noise of nearly all spectra that are drawn.
        """
        rng = np.random.default_rng([self.seed, number])
        size = max(self.channels_per_batch // self.channels, 1)
        specimens, response = self.specimens(), PchipInterpolator(*self.response)
        rows = []
        for _ in range(ROUNDS):
            missing = size - len(rows)
            drawn = [self._simulation(specimens, response, rng) for _ in range(missing)]
            rows += training_rows(drawn, self.psf_share, rng) if missing else []
        if len(rows) < size:
            raise ValueError(
                f"of {ROUNDS * size} spectra made of this map only {len(rows)} show their "
                "zero-loss peak: its elastic counts are too few."
            )
        return batch_of_rows(rows)

    def export(self, path):
        """Write everything to one file, which holds plain arrays only.

        Parameters
        ----------
        path : str or pathlib.Path
            Ends in ``.npz``; an existing file is replaced.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        ValueError
            If the name does not end in ``.npz``.
        """
        path = Path(path).expanduser()
        if path.suffix != ".npz":
            raise ValueError(f"path={str(path)!r} must end in .npz.")
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            np.savez_compressed(file, **{f.name: getattr(self, f.name) for f in fields(self)})
        os.replace(part, path)
        return path

    @classmethod
    def load(cls, path):
        """Read what `export` wrote; needs neither HyperSpy nor scikit-learn.

        Parameters
        ----------
        path : str or pathlib.Path
            The file.

        Returns
        -------
        MeasuredPairs
            With the same batches.

        Raises
        ------
        ValueError
            If the file is not one of `export`.
        """
        names = {f.name for f in fields(cls)}
        with open(Path(path).expanduser(), "rb") as file:
            try:
                read = np.load(file, allow_pickle=False)
                arrays = {} if isinstance(read, np.ndarray) else dict(read)
            except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(f"{path} holds no measured pairs.") from error
        if set(arrays) != names:
            raise ValueError(f"{path} holds no measured pairs of this version.")
        return cls(**{k: v.item() if v.ndim == 0 else v for k, v in arrays.items()})

    def __repr__(self):
        """One line: arrays would fill a page of a notebook."""
        spectra, components = self.loadings.shape
        return f"<MeasuredPairs of {spectra} spectra, {components} components, {self.channels} channels>"

    def _compositions(self):
        """Loadings of each measured spectrum per elastic count."""
        return self.loadings / (self.loadings @ self.elastic)[:, None]

    def _simulation(self, specimens, response, rng):
        """A drawn reference, seen through a varied response, with measured and simulated noise."""
        losses, elastic_counts = specimens.draw(rng)
        width = float(np.exp(WIDTH_SCATTER * np.clip(rng.standard_normal(), -2.5, 2.5)))
        skew = float(np.exp(SKEW_SCATTER * rng.standard_normal()))
        grid = grid_for(self.channels, self.fwhm * width)
        position = self.zero + rng.uniform(-JITTER, JITTER)
        energy = np.arange(self.channels) - self.zero
        specimen = np.interp(grid.fine_channels - position, energy, losses, left=0.0)
        simulation = compose(
            grid,
            _varied(response, grid, width, skew),
            specimen / grid.oversampling,
            position,
            elastic_counts / self.gain,
            self._detector(rng),
            self.dispersion,
            rng,
            "measured",
        )
        share = rng.uniform(*MEASURED_SHARE)
        noise = np.sqrt(1 - share) * (simulation.counts - simulation.expected)
        noise = noise + np.sqrt(share) * self._measured_noise(simulation, rng)
        return replace(simulation, counts=simulation.expected + noise)

    def _detector(self, rng):
        """White noise of the measured size, and now and then channels of unequal gain."""
        gain_error = np.exp(rng.uniform(np.log(1e-4), np.log(1e-3))) if rng.random() < 0.3 else 0.0
        return Detector(
            gain=self.gain,
            readout=np.sqrt(self.floor) / self.gain,
            gain_error=float(gain_error),
            dark=self.level / self.gain,
        )

    def _measured_noise(self, simulation, rng):
        """Mixed rows of the measured noise, moved along the axis, at the level of these counts.

        A mixture with random weights (of unit length) keeps variance and correlation, and never
        comes twice.
        """
        number = min(MIXED, len(self.noise))
        weights = rng.standard_normal(number)
        weights /= np.linalg.norm(weights)
        rows = self.noise[rng.choice(len(self.noise), number, replace=False)]
        noise = np.roll(weights @ rows, int(rng.integers(self.channels)))
        counts = np.maximum(simulation.expected - simulation.dark, 0)
        return np.sqrt((self.gain * counts + self.floor) * self.excess) * noise


class References:
    """References between and beyond the measured ones, within the spread of their loadings."""

    def __init__(self, pairs):
        self.losses = pairs.losses
        self.counts = pairs.loadings @ pairs.elastic
        self.measured = pairs._compositions()
        self.mean = self.measured.mean(axis=0)
        covariance = np.atleast_2d(np.cov(self.measured, rowvar=False, bias=True))
        values, vectors = np.linalg.eigh(covariance)
        kept = values > 1e-9 * max(values[-1], 1e-300)
        self.spread = np.sqrt(values[kept])
        self.axes = vectors[:, kept]

    def draw(self, rng):
        """Inelastic counts per elastic count and channel, and elastic counts in data units."""
        chosen = rng.integers(len(self.measured), size=MIXED)
        start = rng.dirichlet(np.ones(MIXED)) @ self.measured[chosen]
        away = self._wander(start, rng)
        losses = start @ self.losses
        allowed = max(NEGATIVE_SHARE, _negative_share(losses))
        for distance in (1.0, 0.5, 0.25, 0.125):
            further = (start + distance * away) @ self.losses
            if _negative_share(further) <= allowed:
                losses = further
                break
        counts = self.counts[rng.integers(self.counts.size)] * np.exp(rng.uniform(-0.7, 0.7))
        return np.maximum(losses, 0), float(counts)

    def _wander(self, start, rng):
        """The step from ``start`` by a small rotation about the mean and a perturbation."""
        z = (start - self.mean) @ self.axes / self.spread
        moved = z + WANDER * rng.standard_normal(z.size)
        if z.size > 1:
            plane = np.linalg.qr(rng.standard_normal((z.size, 2)))[0]
            angle = WANDER * rng.standard_normal()
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            moved = moved + plane @ (turn - np.eye(2)) @ (plane.T @ z)
        return self.axes @ ((moved - z) * self.spread)


def _negative_share(losses):
    return -np.minimum(losses, 0).sum() / max(np.maximum(losses, 0).sum(), 1e-300)


def _varied(response, grid, width, skew):
    """The captured response on a fine axis, each side stretched on its own; unit sum."""
    distance = grid.wrapped_channels
    distance = distance / np.where(distance > 0, width * skew, width / skew)
    shape = np.exp(response(np.clip(distance, response.x[0], response.x[-1])))
    shape = tapered(shape, grid)
    return shape / shape.sum()
