"""Classical rivals with every advantage: given the exact response and tuned with the truth itself.

They also know the flat level, and keep it where it is positive, as every result does. Each is tried
with several amounts of extra smoothing.
"""

from dataclasses import replace

import numpy as np

from ..classical import richardson_lucy_iterates
from ..evaluate import Errors, errors
from ..physics import gaussian, smooth
from ..solvers.fourier import damped_ratio
from ..solvers.variation import solve_weights

RL_ITERATIONS = (1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640)
TGV_WEIGHTS = tuple(float(weight) for weight in np.geomspace(1e-3, 10**1.5, 10))
FOURIER_DAMPINGS = tuple(float(damping) for damping in np.geomspace(0.01, 100, 9))
EXTRA_SMOOTHING = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0)  # FWHM in units of the resolution


def oracle_richardson_lucy(simulation, resolution):
    """Richardson-Lucy with the exact response, at the iterations and smoothing of least error.

    Returns
    -------
    Errors
        Each error at its own best iteration count and smoothing.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.bounds.oracles import oracle_richardson_lucy, raw_errors
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("bulk", np.random.default_rng(0), channels=512)
    >>> bool(oracle_richardson_lucy(spectrum, 4.0).loss < raw_errors(spectrum, 4.0).loss)
    True
    """
    counts = simulation.counts - simulation.dark
    return best_errors(
        richardson_lucy_iterates(counts, simulation.psf, RL_ITERATIONS), simulation, resolution
    )


def reflected_tail(simulation):
    """The simulation with a response whose tail on the loss side is that of its gain side, mirrored.

    The gain side is what a spectrum itself shows of its response; mirroring it is a common way to
    subtract zero-loss peaks. Rivals with this response know all that a blind method can be certain
    of, and without noise: the core (up to one zero-loss width past the energy zero) and the gain side
    are exact; from two widths on, the loss side is the mirror image.

    Parameters
    ----------
    simulation : Simulation
        Any.

    Returns
    -------
    Simulation
        With another ``psf``, of unit area; the data stay what they were.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.bounds.oracles import reflected_tail
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> psf = reflected_tail(spectrum).psf
    >>> far = int(2 * spectrum.fwhm) + 1
    >>> bool(np.isclose(psf[512 + far], psf[512 - far]))
    True
    """
    psf = simulation.psf
    zero = psf.size // 2
    distance = np.arange(psf.size) - zero
    mirrored = np.roll(psf[::-1], 1)  # about the energy zero
    share = np.clip(distance / simulation.fwhm - 1, 0, 1)
    share = np.where(mirrored > 0, share, 0.0)  # beyond the end of the gain side
    out = (1 - share) * psf + share * mirrored
    return replace(simulation, psf=out / out.sum())


def oracle_total_generalised_variation(simulation, resolution):
    """TGV with the exact response, at the weight and smoothing of least error.

    Returns
    -------
    Errors
        Each error at its own best weight and smoothing.
    """
    counts = simulation.counts - simulation.dark
    estimates = solve_weights(counts, simulation.psf, TGV_WEIGHTS)
    return best_errors(estimates, simulation, resolution)


def oracle_fourier(simulation, resolution):
    """Fourier ratio with the exact response, at the damping and smoothing of least error.

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
    seen = _smoothed(estimates, simulation, resolution)
    scores = [errors(estimate, simulation, resolution, shift=False) for estimate in seen]
    # The best shift is costly to find: it is looked for only where an error is small without it.
    for name in ("loss", "near", "sqrt"):
        order = np.argsort([getattr(score, name) for score in scores[: len(seen)]])
        scores += [errors(seen[number], simulation, resolution) for number in order[:4]]
    return Errors(*(min(getattr(s, name) for s in scores) for name in ("loss", "near", "sqrt")))


def best_estimate(estimates, simulation, resolution):
    """The estimate of the smallest loss error among ``estimates``, each also smoothed more.

    Parameters
    ----------
    estimates, simulation, resolution
        As in `best_errors`.

    Returns
    -------
    numpy.ndarray
        In data units, a positive flat level put back; not shifted.
    """
    seen = _smoothed(estimates, simulation, resolution)
    losses = [errors(estimate, simulation, resolution, shift=False).loss for estimate in seen]
    return seen[int(np.argmin(losses))]


def _smoothed(estimates, simulation, resolution):
    """Each estimate at every extra smoothing, a positive flat level put back."""
    return [
        smooth(estimate, factor * resolution) + max(simulation.dark, 0.0)
        for estimate in estimates
        for factor in EXTRA_SMOOTHING
    ]


def raw_errors(simulation, resolution):
    """The errors of the data as measured, with the exact zero-loss peak replaced by the Gaussian."""
    removed = simulation.counts - simulation.elastic - min(simulation.dark, 0.0)
    peak = simulation.elastic_counts * gaussian(removed.size, simulation.position, resolution)
    return errors(removed + peak, simulation, resolution)
