"""How accuracy is measured: errors against a known truth, and rivals tuned by that truth.

Positions and widths are in channels. Every estimate is scored after its one best rigid shift of
at most one channel, since the energy zero of a response is a convention.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from .classical import richardson_lucy_iterates
from .fourier import damped_ratio
from .physics import gaussian, shift_channels, smooth
from .variation import solve_weights

RL_ITERATIONS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640)
TGV_WEIGHTS = tuple(float(weight) for weight in np.geomspace(1e-3, 10**1.5, 10))
FOURIER_DAMPINGS = tuple(float(damping) for damping in np.geomspace(0.01, 100, 9))
EXTRA_SMOOTHING = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Errors:
    """Relative errors of one spectrum.

    Attributes
    ----------
    loss : float
        Norm of the error over that of the inelastic truth, one zero-loss width past the peak on.
    near : float
        The same, between one and five widths.
    sqrt : float
        The loss error of the square roots, which weighs weak features.
    """

    loss: float
    near: float
    sqrt: float


def errors(estimate, simulation, resolution, shift=True):
    """Score an estimate of ``simulation.truth(resolution)`` (arrays of ``channels``).

    Parameters
    ----------
    estimate : numpy.ndarray
        In the units of the simulated counts.
    simulation : Simulation
        Holds the truth.
    resolution : float
        FWHM in channels of the Gaussian through which both are seen.
    shift : bool
        Whether to look for the best rigid shift first.

    Returns
    -------
    Errors
    """
    truth = simulation.truth(resolution)
    inelastic = simulation.inelastic(resolution) - simulation.dark
    start = int(np.ceil(simulation.position + simulation.fwhm))
    stop = int(np.ceil(simulation.position + 5 * simulation.fwhm))
    estimate = np.asarray(estimate, float)
    if shift:
        estimate = best_shift(estimate, truth, start)
    root, root_truth = np.sqrt(np.maximum(estimate, 0)), np.sqrt(np.maximum(truth, 0))

    def relative(error, reference, where):
        return float(np.linalg.norm(error[where]) / max(np.linalg.norm(reference[where]), 1e-300))

    everywhere, near = slice(start, None), slice(start, stop)
    return Errors(
        relative(estimate - truth, inelastic, everywhere),
        relative(estimate - truth, inelastic, near),
        relative(root - root_truth, np.sqrt(np.maximum(inelastic, 0)), everywhere),
    )


def best_shift(estimate, truth, start):
    """An estimate moved by at most one channel to where it is nearest to the truth.

    Parameters
    ----------
    estimate, truth : numpy.ndarray
        Shape ``(channels,)``.
    start : int
        The channel from which on they are compared.

    Returns
    -------
    numpy.ndarray
        The estimate as it is, if no shift brings it nearer.
    """

    def cost(shift):
        return float(np.sum((shift_channels(estimate, shift) - truth)[start:] ** 2))

    best = minimize_scalar(cost, bounds=(-1, 1), method="bounded", options={"xatol": 0.02})
    return shift_channels(estimate, best.x) if best.fun < cost(0.0) else estimate


def oracle_richardson_lucy(simulation, resolution):
    """Richardson-Lucy told the exact response, stopped and smoothed where the truth likes it best.

    Returns
    -------
    Errors
        Each error at its own best iteration count and smoothing.
    """
    counts = simulation.counts - simulation.dark
    return best_errors(
        richardson_lucy_iterates(counts, simulation.psf, RL_ITERATIONS), simulation, resolution
    )


def oracle_total_generalised_variation(simulation, resolution):
    """TGV told the exact response, at the weight and smoothing that the truth likes best.

    Returns
    -------
    Errors
        Each error at its own best weight and smoothing.
    """
    counts = simulation.counts - simulation.dark
    estimates = solve_weights(counts, simulation.psf, TGV_WEIGHTS)
    return best_errors(estimates, simulation, resolution)


def oracle_fourier(simulation, resolution):
    """Fourier ratio told the exact response, at the best damping and smoothing.

    Returns
    -------
    Errors
        Each error at its own best damping and smoothing.
    """
    counts = simulation.counts - simulation.dark
    estimates = (
        damped_ratio(counts, simulation.psf, resolution, damping) for damping in FOURIER_DAMPINGS
    )
    return best_errors(estimates, simulation, resolution)


def best_errors(estimates, simulation, resolution):
    """The smallest errors among ``estimates`` (without the flat level), each also smoothed more.

    Parameters
    ----------
    estimates : iterable of numpy.ndarray
        In data units, without the flat level.
    simulation : Simulation
        Holds the truth.
    resolution : float
        In channels.

    Returns
    -------
    Errors
        Each error at its own best estimate and smoothing.
    """
    seen = [
        smooth(estimate, factor * resolution) + simulation.dark
        for estimate in estimates
        for factor in EXTRA_SMOOTHING
    ]
    scores = [errors(estimate, simulation, resolution, shift=False) for estimate in seen]
    # The best shift is costly to find: it is looked for where an error is smallest without it.
    for name in ("loss", "near", "sqrt"):
        order = np.argsort([getattr(score, name) for score in scores[: len(seen)]])
        scores += [errors(seen[number], simulation, resolution) for number in order[:4]]
    return Errors(*(min(getattr(s, name) for s in scores) for name in ("loss", "near", "sqrt")))


def raw_errors(simulation, resolution):
    """The errors of the data as measured, with the zero-loss peak taken off by the oracle."""
    removed = simulation.counts - simulation.elastic
    peak = simulation.elastic_counts * gaussian(removed.size, simulation.position, resolution)
    return errors(removed + peak, simulation, resolution)
