"""Random specimens, instruments and detectors: low-loss spectra whose truth is known.

A simulated spectrum is ``detector(I0 * response (*) (delta + specimen))``. Specimens are written
on an energy axis finer than the detector's, so that the spectrum seen through a Gaussian of any
width R is exact: it is computed from the unblurred specimen, never by deblurring. All
randomness comes from the ``rng`` handed in.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.fft as fft

from ._arguments import is_whole
from .experiment.detectors import Detector, random_detector
from .experiment.grid import Grid, grid_for
from .experiment.instruments import random_response
from .experiment.specimens import random_specimen
from .physics import MIN_CHANNELS, gaussian, half_height_width, parabola_vertex
from .spectrum.blur import gaussian_transfer


@dataclass(frozen=True)
class Scene:
    """What kind of spectra to draw: the ranges are sampled log-uniformly.

    Attributes
    ----------
    family : str
        Kind of specimen, one of `FAMILIES`.
    dispersion_ev : tuple of float
        Range of eV per channel.
    fwhm_ev : tuple of float
        Range of the zero-loss width in eV.
    fwhm_channels : tuple of float
        The width is kept within these channels.
    elastic_counts : tuple of float
        Range of elastic counts I0.
    shoulders : float
        Share of the responses that have a shoulder on either side of the peak.
    """

    family: str
    dispersion_ev: tuple
    fwhm_ev: tuple
    fwhm_channels: tuple = (3.0, 60.0)
    elastic_counts: tuple = (1e4, 3e7)
    shoulders: float = 0.0


SCENES = {
    scene.family: scene
    for scene in (
        Scene("vibrational", (1e-3, 2e-3), (7e-3, 16e-3)),
        Scene("plasmonic", (5e-3, 10e-3), (0.05, 0.14)),
        Scene("gap", (0.01, 0.02), (0.1, 0.3)),
        Scene("doublet", (5e-3, 0.02), (0.05, 0.3)),
        Scene("bulk", (0.03, 0.1), (0.3, 1.0)),
        Scene("free", (1e-3, 0.3), (5e-3, 2.0)),
        Scene("featureless", (1e-3, 0.1), (5e-3, 1.0)),
        Scene("near", (1e-3, 0.03), (7e-3, 0.3)),
    )
}
FAMILIES = tuple(SCENES)  # in an order that seeds of benchmarks depend on


@dataclass(frozen=True)
class Simulation:
    """A simulated spectrum with its exact truth.

    Attributes
    ----------
    counts : numpy.ndarray
        What the detector recorded, shape ``(channels,)``.
    elastic : numpy.ndarray
        Noise-free zero-loss peak I0 * p in the same units, shape ``(channels,)``.
    expected : numpy.ndarray
        Noise-free spectrum (dark level included), shape ``(channels,)``.
    position, fwhm : float
        Zero-loss position and width, in channels (noise-free).
    elastic_counts : float
        I0 in data units.
    dark : float
        Flat level in data units.
    dispersion : float
        eV per channel.
    psf : numpy.ndarray
        The response on ``2 * channels`` channels, unit area, its energy zero at ``channels``.
    family : str
        Kind of specimen.
    detector : Detector
        What recorded the counts.
    """

    counts: np.ndarray
    elastic: np.ndarray
    expected: np.ndarray
    position: float
    fwhm: float
    elastic_counts: float
    dark: float
    dispersion: float
    psf: np.ndarray
    family: str
    detector: Detector
    _specimen: np.ndarray  # transform of s(E) on the fine, padded axis
    _grid: Grid

    def inelastic(self, resolution):
        """I0 * g_R (*) s plus the flat level, seen with ``resolution`` channels (FWHM)."""
        width = resolution * self._grid.oversampling
        transfer = gaussian_transfer(self._grid.frequency, width)
        seen = self._grid.to_channels(self._specimen * transfer)
        return self.elastic_counts * np.maximum(seen, 0) + self.dark

    def truth(self, resolution):
        """The spectrum through a Gaussian response of ``resolution`` channels (FWHM)."""
        peak = gaussian(self.counts.size, self.position, resolution)
        return self.inelastic(resolution) + self.elastic_counts * peak


def simulate(scene, rng, channels=1024, detector=None, measured=()):
    """Draw one low-loss spectrum of a scene.

    Parameters
    ----------
    scene : Scene or str
        What to draw; a string names one of `SCENES`.
    rng : numpy.random.Generator
        The only source of randomness.
    channels : int
        Length of the spectrum, at least 64.
    detector : Detector, optional
        Drawn at random by default.
    measured : sequence of numpy.ndarray
        Measured zero-loss peaks to draw responses from, beside the synthetic ones.

    Returns
    -------
    Simulation
        Counts and truth.

    Raises
    ------
    ValueError
        For an unknown scene and too few channels.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> spectrum.counts.shape, spectrum.truth(resolution=4.0).shape
    ((512,), (512,))
    """
    if isinstance(scene, str) and scene not in SCENES:
        raise ValueError(f"scene={scene!r} must be a Scene or one of {', '.join(SCENES)}.")
    if not (is_whole(channels) and channels >= MIN_CHANNELS):
        raise ValueError(f"channels={channels!r} must be a whole number from {MIN_CHANNELS}.")
    scene = SCENES[scene] if isinstance(scene, str) else scene
    dispersion, fwhm = _axis(scene, rng)
    counts = float(np.exp(rng.uniform(*np.log(scene.elastic_counts))))
    detector = random_detector(rng, counts / fwhm) if detector is None else detector
    grid = grid_for(channels, fwhm)
    position = _zero_loss_position(channels, fwhm, rng)
    response = random_response(grid, fwhm, detector.spread_channels, rng, measured, scene.shoulders)
    specimen = random_specimen(
        scene.family, grid.fine_channels - position, dispersion, fwhm, 1 / grid.oversampling, rng
    )
    return compose(grid, response, specimen, position, counts, detector, dispersion, rng,
                   scene.family)  # fmt: skip


def compose(grid, response, specimen, position, elastic_counts, detector, dispersion, rng, family):
    """Put a response, a specimen and a detector together.

    Parameters
    ----------
    grid : Grid
        The fine axis.
    response : numpy.ndarray
        Unit-sum response on the fine axis, its maximum near index 0 (negative side wrapped).
    specimen : numpy.ndarray
        s(E) integrated over each fine sample, on the fine axis, in units of I0.
    position : float
        Where the zero-loss peak lies, in channels.
    elastic_counts : float
        I0 in electrons.
    detector : Detector
        What records them.
    dispersion : float
        eV per channel.
    rng : numpy.random.Generator
        Source of the noise.
    family : str
        Name of the scene, kept with the simulation.

    Returns
    -------
    Simulation
    """
    transform = fft.rfft(response)
    # Move the response so that the vertex of its sampled peak is its energy zero.
    place = np.exp(-2j * np.pi * grid.frequency * (position + grid.pad) * grid.oversampling)
    sampled = grid.to_channels(transform * place)
    vertex = float(parabola_vertex(sampled, np.asarray(int(np.argmax(sampled)))))
    transform = transform * np.exp(
        -2j * np.pi * grid.frequency * (position - vertex) * grid.oversampling
    )
    elastic = np.maximum(grid.to_channels(transform * place), 0)
    width = float(half_height_width(elastic, np.asarray(int(np.argmax(elastic)))))
    specimen = fft.rfft(specimen)
    inelastic = np.maximum(grid.to_channels(transform * specimen), 0)
    expected = elastic_counts * (elastic + inelastic)
    gain = detector.gain
    return Simulation(
        counts=detector.record(expected, rng),
        elastic=gain * elastic_counts * elastic,
        expected=gain * (expected + detector.dark),
        position=position,
        fwhm=width,
        elastic_counts=gain * elastic_counts,
        dark=gain * detector.dark,
        dispersion=dispersion,
        psf=_sampled_response(grid, transform),
        family=family,
        detector=detector,
        _specimen=specimen,
        _grid=grid,
    )


def redraw(simulation, rng, elastic_counts, detector=None):
    """The same specimen and response with other elastic counts and fresh noise.

    Parameters
    ----------
    simulation : Simulation
        Where specimen and response are taken from.
    rng : numpy.random.Generator
        Source of the noise.
    elastic_counts : float
        I0 in electrons.
    detector : Detector, optional
        An ideal counting one by default.

    Returns
    -------
    Simulation
    """
    detector = Detector() if detector is None else detector
    scale = elastic_counts / simulation.elastic_counts
    expected = scale * (simulation.expected - simulation.dark)
    return replace(
        simulation,
        counts=detector.record(expected, rng),
        expected=detector.gain * (expected + detector.dark),
        elastic=detector.gain * scale * simulation.elastic,
        elastic_counts=detector.gain * elastic_counts,
        dark=detector.gain * detector.dark,
        detector=detector,
    )


def _sampled_response(grid, transform):
    """The response at whole channels from its energy zero, on -channels .. channels - 1."""
    fine = np.maximum(fft.irfft(transform, grid.size), 0)[:: grid.oversampling]
    channels = grid.channels
    gain_side = min(channels, fine.size - channels - 2 * grid.pad)
    out = np.zeros(2 * channels)
    out[channels:] = fine[:channels]
    out[channels - gain_side : channels] = fine[fine.size - gain_side :]
    return out / out.sum()


def _axis(scene, rng):
    """Dispersion in eV per channel and zero-loss width in channels."""
    low, high = scene.fwhm_channels
    for _ in range(50):
        dispersion = float(np.exp(rng.uniform(*np.log(scene.dispersion_ev))))
        fwhm = float(np.exp(rng.uniform(*np.log(scene.fwhm_ev)))) / dispersion
        if low <= fwhm <= high:
            return dispersion, fwhm
    return dispersion, float(np.clip(fwhm, low, high))


def _zero_loss_position(channels, fwhm, rng):
    """Anywhere in the first third; now and then so near the edge that the gain side is missing."""
    if rng.random() < 0.08:
        return float(rng.uniform(1.2, 3.0) * fwhm)
    return float(rng.uniform(min(3 * fwhm, channels / 4), channels / 3))
