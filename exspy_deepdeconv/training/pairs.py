"""Batches of simulated pairs, drawn on the fly and never stored.

Batch number ``n`` of a run is drawn from the seed ``(seed, n)`` alone: the order of workers does
not matter, and a resumed run sees exactly the batches it would have seen.
"""

from dataclasses import dataclass, replace

import numpy as np

from .._arguments import is_real, is_whole
from ..physics import estimate_noise, prepare, resolution_range
from ..simulate import SCENES, Simulation, random_detector, redraw, simulate
from .handed import altered_response, noisy_response

LENGTHS = {512: 0.2, 1024: 0.55, 2048: 0.2, 4096: 0.05}
# Close doublets and weak losses in the zero-loss tail take the longest to learn; where lone losses near
# the peak are rare, they are taken for a part of it.
FAMILY_SHARE = {
    "vibrational": 0.19,
    "plasmonic": 0.19,
    "gap": 0.06,
    "doublet": 0.18,
    "bulk": 0.07,
    "free": 0.06,
    "featureless": 0.05,
    "near": 0.20,
}
CUT_TWICE = 0.4  # share of the scenes that are seen through two windows
FARTHEST_CUT = 96  # channels between the two
# Widths of the zero-loss peak in channels, and the share of the scenes that is drawn from them, all
# specimens and dispersions alike. Narrow ones are what many instruments record, and scenes have few.
NARROW, NARROW_SHARE = (2.0, 5.0), 0.2
ANY_WIDTH, ANY_WIDTH_SHARE = (3.0, 60.0), 0.3
# Electrons beyond what the scenes have: measured peaks hold up to some 1e9.
ANY_COUNTS, ANY_COUNTS_SHARE = (1e3, 1e9), 0.3
SHOULDERS = 0.12  # share of the responses that have some


@dataclass(frozen=True)
class SimulatedPairs:
    """The stream of simulated batches.

    Attributes
    ----------
    seed : int
        Seed of the run.
    channels_per_batch : int
        Spectra times channels in a batch (longer spectra come in smaller batches), without those
        that are shown again.
    measured : tuple of numpy.ndarray
        Measured zero-loss peaks to draw responses from.
    psf_share : float
        Share of the spectra whose response is handed to the network.
    shown_again : float
        Share of the spectra that a batch holds once more, this time with their response: to draw
        them costs more than a graphics card needs to learn from them. With ``psf_share=0`` none is
        there twice in the same way.
    altered : float
        Share of the responses that are not quite those of their spectra: `handed.altered_response`.

    Examples
    --------
    >>> from exspy_deepdeconv.training import SimulatedPairs
    >>> batch = SimulatedPairs(seed=1, channels_per_batch=4096).batch(0)
    >>> batch["counts"].shape == batch["inelastic"].shape
    True
    """

    seed: int = 0
    channels_per_batch: int = 32 * 1024
    measured: tuple = ()
    psf_share: float = 0.35
    shown_again: float = 0.0
    altered: float = 0.0

    def __post_init__(self):
        """Refuse what no batch can be drawn with."""
        for name, least in (("seed", 0), ("channels_per_batch", 1)):
            value = getattr(self, name)
            if not (is_whole(value) and value >= least):
                raise ValueError(f"{name}={value!r} must be a whole number from {least}.")
        for name in ("psf_share", "shown_again", "altered"):
            value = getattr(self, name)
            if not (is_real(value) and 0 <= value <= 1):
                raise ValueError(f"{name}={value!r} must be a number between 0 and 1.")

    def batch(self, number):
        """Batch ``number`` as a dictionary of float32 arrays, scaled to unit peak height."""
        rng = np.random.default_rng([self.seed, number])
        channels = int(rng.choice(list(LENGTHS), p=list(LENGTHS.values())))
        size = max(self.channels_per_batch // channels, 1)
        rows = []
        while len(rows) < size:
            rows += self._rows(rng, channels, size - len(rows))
        batch = batch_of_rows(rows)
        if self.shown_again:
            # One stretch of the batch: spectra that were cut from one simulation stay neighbours.
            again = slice(0, round(self.shown_again * size))
            with_psf = {key: value[again] for key, value in batch.items()}
            with_psf |= {"has_psf": np.ones_like(with_psf["has_psf"])}
            batch = {key: np.concatenate([batch[key], with_psf[key]]) for key in batch}
        return batch

    def _scene(self, rng, channels):
        """A specimen on an instrument, twice: drawing it costs more than recording or cutting it."""
        family = str(rng.choice(list(FAMILY_SHARE), p=list(FAMILY_SHARE.values())))
        scene = _widened(SCENES[family], rng)
        if rng.random() < CUT_TWICE:
            later = int(rng.integers(1, FARTHEST_CUT))
            longer = simulate(scene, rng, channels + later, measured=self.measured)
            yield Cut(longer, 0, channels)
            yield Cut(longer, later, channels)
            return
        first = simulate(scene, rng, channels, measured=self.measured)
        yield first
        counts = float(np.exp(rng.uniform(*np.log(scene.elastic_counts))))
        detector = random_detector(rng, counts / first.fwhm)
        # The point spread is part of the response.
        detector = replace(detector, spread_channels=first.detector.spread_channels)
        yield redraw(first, rng, counts, detector)

    def _rows(self, rng, channels, number):
        """Rows of ``number`` spectra, less those that `deep_deconvolve` would refuse."""
        spectra = []
        while len(spectra) < number:
            spectra += self._scene(rng, channels)
        return training_rows(spectra[:number], self.psf_share, rng, self.altered)


@dataclass(frozen=True)
class Cut:
    """``channels`` channels of a longer simulation, as a window that begins at ``first`` sees it.

    A spectrum that is cut elsewhere is the same spectrum: the loss asks for the same answer.
    """

    longer: Simulation
    first: int
    channels: int

    @property
    def counts(self):
        """Recorded counts, shape ``(channels,)``."""
        return self._cut(self.longer.counts)

    @property
    def elastic(self):
        """Noise-free zero-loss peak, shape ``(channels,)``."""
        return self._cut(self.longer.elastic)

    @property
    def position(self):
        """Zero-loss position in the window, in channels."""
        return self.longer.position - self.first

    @property
    def fwhm(self):
        """Zero-loss width in channels."""
        return self.longer.fwhm

    @property
    def dark(self):
        """Flat level in data units."""
        return self.longer.dark

    @property
    def psf(self):
        """The response on ``2 * channels`` channels, its energy zero at ``channels``."""
        beyond = self.longer.counts.size - self.channels
        inside = self.longer.psf[beyond : beyond + 2 * self.channels]
        return inside / inside.sum()

    def inelastic(self, resolution):
        """As `Simulation.inelastic`, in the window."""
        return self._cut(self.longer.inelastic(resolution))

    def _cut(self, spectrum):
        return spectrum[self.first : self.first + self.channels]


def batch_of_rows(rows):
    """One batch of what `training_row` gives, with the noise that the spectra show.

    Parameters
    ----------
    rows : list of dict
        Of spectra of the same length.

    Returns
    -------
    dict of str to numpy.ndarray
        float32; as from `SimulatedPairs.batch`.
    """
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    noise = estimate_noise(batch["counts"], batch["position"])
    batch |= {"gain": noise.gain, "floor": noise.floor}
    return {key: value.astype(np.float32) for key, value in batch.items()}


def training_rows(spectra, psf_share, rng, altered=0.0):
    """A row of each spectrum whose zero-loss peak is found; others `deep_deconvolve` would refuse.

    Parameters
    ----------
    spectra : list of Simulation
        Of the same length.
    psf_share : float
        Share of the spectra whose response is handed to the network.
    rng : numpy.random.Generator
        Source of randomness.
    altered : float
        Share of the responses that are not quite those of their spectra.

    Returns
    -------
    list of dict
        As from `training_row`.
    """
    counts, found, level = prepare(np.stack([spectrum.counts for spectrum in spectra]))
    rows, before, kept = [], None, False
    for row, spectrum in enumerate(spectra):
        # What is cut from one simulation is handed one response, or none.
        cut_before, before = before, getattr(spectrum, "longer", None)
        again = before is not None and before is cut_before
        if not again:
            has_psf = rng.random() < psf_share
            psf = spectrum.psf
            if altered and rng.random() < altered:
                psf = altered_response(psf, spectrum.fwhm, rng)
            psf = noisy_response(psf, rng)
        peak = found.select(row)
        kept_before = kept
        kept = abs(peak.position - spectrum.position) <= spectrum.fwhm  # NaN where none was found
        if kept:
            one = training_row(spectrum, counts[row], peak, level[row], psf, has_psf)
            rows.append(one | {"same": np.float32(again and kept_before)})
    return rows


def training_row(spectrum, counts, found, level, psf, has_psf):
    """Inputs (but for the noise) and targets of one spectrum, divided by its peak height.

    ``counts``, ``found`` and ``level`` are what `~exspy_deepdeconv.physics.prepare` made of it.
    """
    height = float(found.height)
    finest, _ = resolution_range(float(found.fwhm))
    return {
        "same": np.float32(False),  # whether it is the row before, seen through another window
        "counts": counts / height,
        "position": found.position,
        "fwhm": found.fwhm,
        "elastic": spectrum.elastic / height,
        "inelastic": (spectrum.inelastic(finest) - level) / height,
        "dark": (spectrum.dark - level) / height,
        "psf": psf,
        "has_psf": np.float32(has_psf),
    }


def _widened(scene, rng):
    """Now and then a scene beyond its usual widths, dispersions and counts."""
    which = rng.random()
    if which < NARROW_SHARE + ANY_WIDTH_SHARE:
        widths = NARROW if which < NARROW_SHARE else ANY_WIDTH
        fwhm = float(np.exp(rng.uniform(*np.log(scene.fwhm_ev))))
        dispersion = fwhm / float(np.exp(rng.uniform(*np.log(widths))))
        scene = replace(
            scene,
            fwhm_ev=(fwhm, fwhm),
            dispersion_ev=(dispersion, dispersion),
            fwhm_channels=widths,
        )
    if rng.random() < ANY_COUNTS_SHARE:
        scene = replace(scene, elastic_counts=ANY_COUNTS)
    return replace(scene, shoulders=SHOULDERS)
