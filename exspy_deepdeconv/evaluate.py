"""How accuracy is measured: errors against a known truth, and rivals tuned by that truth.

Positions and widths are in channels. Every estimate is scored after its one best rigid shift of
at most one channel, since the energy zero of a response is a convention.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from .classical import richardson_lucy_iterates
from .physics import gaussian, shift_channels, smooth

RL_ITERATIONS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640)
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


def errors(estimate, simulation, resolution):
    """Score an estimate of ``simulation.truth(resolution)`` (arrays of ``channels``).

    Parameters
    ----------
    estimate : numpy.ndarray
        In the units of the simulated counts.
    simulation : Simulation
        Holds the truth.
    resolution : float
        FWHM in channels of the Gaussian through which both are seen.

    Returns
    -------
    Errors
    """
    truth = simulation.truth(resolution)
    inelastic = simulation.inelastic(resolution) - simulation.dark
    start = int(np.ceil(simulation.position + simulation.fwhm))
    stop = int(np.ceil(simulation.position + 5 * simulation.fwhm))
    estimate = _best_shift(np.asarray(estimate, float), truth, start)
    root, root_truth = np.sqrt(np.maximum(estimate, 0)), np.sqrt(np.maximum(truth, 0))

    def relative(error, reference, where):
        return float(np.linalg.norm(error[where]) / max(np.linalg.norm(reference[where]), 1e-300))

    everywhere, near = slice(start, None), slice(start, stop)
    return Errors(
        relative(estimate - truth, inelastic, everywhere),
        relative(estimate - truth, inelastic, near),
        relative(root - root_truth, np.sqrt(np.maximum(inelastic, 0)), everywhere),
    )


def _best_shift(estimate, truth, start):
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
    best = Errors(np.inf, np.inf, np.inf)
    truth = simulation.truth(resolution)
    start = int(np.ceil(simulation.position + simulation.fwhm))
    raw = {}
    counts = simulation.counts - simulation.dark
    for number, estimate in zip(
        RL_ITERATIONS,
        richardson_lucy_iterates(counts, simulation.psf, RL_ITERATIONS),
        strict=True,
    ):
        for factor in EXTRA_SMOOTHING:
            seen = smooth(estimate, factor * resolution) + simulation.dark
            raw[number, factor] = (np.sum((seen - truth)[start:] ** 2), seen)
    # The exact shift is costly: score the promising ones only, and every unsmoothed one.
    order = sorted(raw, key=lambda key: raw[key][0])[:4]
    for key in order:
        score = errors(raw[key][1], simulation, resolution)
        best = Errors(*(min(getattr(best, n), getattr(score, n)) for n in ("loss", "near", "sqrt")))
    for number, factor in raw:
        if factor in (0.0, 0.75, 1.5):
            best = _with_roots(best, raw[number, factor][1], simulation, resolution)
    return best


def _with_roots(best, estimate, simulation, resolution):
    """Let the near and square-root errors choose an iteration count of their own."""
    truth = simulation.truth(resolution)
    inelastic = simulation.inelastic(resolution) - simulation.dark
    start = int(np.ceil(simulation.position + simulation.fwhm))
    stop = int(np.ceil(simulation.position + 5 * simulation.fwhm))
    near = np.linalg.norm((estimate - truth)[start:stop])
    near /= max(np.linalg.norm(inelastic[start:stop]), 1e-300)
    root = np.sqrt(np.maximum(estimate, 0)) - np.sqrt(np.maximum(truth, 0))
    root = np.linalg.norm(root[start:])
    root /= max(np.linalg.norm(np.sqrt(np.maximum(inelastic[start:], 0))), 1e-300)
    return Errors(best.loss, min(best.near, near), min(best.sqrt, root))


def raw_errors(simulation, resolution):
    """The errors of the data as measured, with the zero-loss peak taken off by the oracle."""
    removed = simulation.counts - simulation.elastic
    peak = simulation.elastic_counts * gaussian(removed.size, simulation.position, resolution)
    return errors(removed + peak, simulation, resolution)
