"""Two close peaks beside the Cramer-Rao bound (`accuracy.py --part doublets`).

Two Gaussians 0.15 F wide (F: width of the response), the second 0.7 times as strong, on a flat
level, 7 to 12 F from the zero-loss peak; 1e5 to 1e7 elastic counts, of which 5 to 30 % are lost to
the peaks; one electron of readout noise. Results are seen at F/4. A doublet is resolved if the
result shows a maximum within half the separation of each true position, and a valley of 5 %
between (`exspy_deepdeconv.evaluate.resolves`). Positions are those of a least-squares fit to the
result of two Gaussians as wide as the truth's, on a level, from 3 F before the doublet to 3 F
after it; they are not shifted first, as that would take their own error away. Errors are in units of
the Cramer-Rao bound of the data there (response and width known; positions, areas and level unknown):
median(|error| / bound) / 0.6745, which is 1 for what is efficient and free of bias. "fit to the data"
is such a thing: least squares weighted by the noise, told response, width and elastic peak.
"""

from functools import partial

import numpy as np
from _held_out import SEED
from _methods import estimate
from prettytable import PrettyTable

from exspy_deepdeconv.bounds.cramer_rao import fit_two_peaks, two_peak_bound
from exspy_deepdeconv.bounds.oracles import RL_ITERATIONS, best_estimate
from exspy_deepdeconv.classical import richardson_lucy_iterates
from exspy_deepdeconv.evaluate import resolves
from exspy_deepdeconv.experiment.instruments import random_response
from exspy_deepdeconv.experiment.specimens import EnergyAxis, bell
from exspy_deepdeconv.physics import default_resolution
from exspy_deepdeconv.simulate import Detector, compose, grid_for

SEPARATIONS = (0.4, 0.6, 0.8, 1.0, 1.4, 2.0)  # in F
WIDTH = 0.15  # of the peaks, in F
WEAKER = 0.7
NORMAL = 0.6745  # median of the absolute value of a standard normal number
DISPERSION = 0.01  # eV per channel; nothing depends on it


def doublet(separation, case, channels):
    """A simulation and its true parameters: positions, areas, level and width of the peaks."""
    rng = np.random.default_rng([SEED, 301, case])  # the same instrument for all separations
    fwhm = float(np.exp(rng.uniform(np.log(6), np.log(min(24, channels / 40)))))
    detector, grid = Detector(readout=1.0), grid_for(channels, fwhm)
    position = rng.uniform(4, 6) * fwhm
    centre = rng.uniform(7, 12) * fwhm
    offsets = separation * fwhm * np.array([-0.5, 0.5]) + centre
    counts, strength = np.exp(rng.uniform(np.log([1e5, 0.05]), np.log([1e7, 0.3])))
    areas = strength * np.array([1, WEAKER]) / (1 + WEAKER)
    level = strength * rng.uniform(0.02, 0.1) / (4 * fwhm)
    response = random_response(grid, fwhm, 0.0, rng)
    # Energies in channels from zero loss.
    axis = EnergyAxis(grid.fine_channels - position, 1 / grid.oversampling, fwhm)
    specimen = level * axis.step * (axis.energy > 0)
    for offset, area in zip(offsets, areas, strict=True):
        specimen = specimen + bell(axis, offset, WIDTH * fwhm, area)
    simulation = compose(
        grid, response, specimen, position, counts, detector, DISPERSION, rng, "doublet"
    )
    parameters = [*(position + offsets), *(counts * areas), counts * level]
    return simulation, parameters, WIDTH * fwhm


def fitted_part(simulation, truth):
    """Variance of the data, infinite where they are left out, and the channels that are not."""
    reach = int(3 * simulation.fwhm)
    inside = slice(int(truth[0]) - reach, int(truth[1]) + reach + 1)
    variance = np.full(simulation.counts.size, np.inf)
    variance[inside] = (simulation.expected + simulation.detector.readout**2)[inside]
    return variance, inside


def one_case(separation, case, channels, model):
    """Bound, and whether resolved and where, for each method."""
    simulation, truth, width = doublet(separation, case, channels)
    resolution = default_resolution(simulation.fwhm)
    variance, inside = fitted_part(simulation, truth)
    bound = two_peak_bound(truth, width, simulation.psf, variance)
    estimates = richardson_lucy_iterates(simulation.counts, simulation.psf, RL_ITERATIONS)
    results = {
        "oracle RL": best_estimate(estimates, simulation, resolution),
        "ours, blind": estimate(simulation, resolution, model)[0],
        "ours, given": estimate(simulation, resolution, model, given=True)[0],
    }
    ideal = np.zeros_like(simulation.psf)
    ideal[ideal.size // 2] = 1.0
    data = simulation.counts - simulation.elastic
    fitted = fit_two_peaks(data, truth, width, simulation.psf, variance, inside)
    found = {"fit to the data": (None, fitted)}
    for name, result in results.items():
        seen = np.hypot(width, resolution)
        fitted = fit_two_peaks(np.asarray(result, float), truth, seen, ideal, None, inside)
        found[name] = resolves(result[inside], np.array(truth[:2]) - inside.start), fitted
    return simulation.fwhm, bound, truth, found


def in_units(errors, bounds):
    """1 for an efficient estimate."""
    return f"{np.median(np.abs(errors) / bounds) / NORMAL:.2f}"


def report(options, run):
    """Print the table."""
    channels = options.channels or 1024
    table = PrettyTable(["separation / F", "bound of it / F", "method", "resolved",
                         "position error / bound", "separation error / bound"], align="r")  # fmt: skip
    function = partial(one_case, channels=channels, model=options.model)
    every = run(function, [(s, case) for s in SEPARATIONS for case in range(options.cases)])
    for number, separation in enumerate(SEPARATIONS):
        cases = every[number * options.cases : (number + 1) * options.cases]
        bounds = np.array([bound.separation for _, bound, _, _ in cases])
        of_positions = np.array([bound.positions for _, bound, _, _ in cases])
        relative = np.median(bounds / np.array([fwhm for fwhm, _, _, _ in cases]))
        for name in cases[0][3]:
            errors = np.array([found[name][1] - truth for _, _, truth, found in cases])
            resolved = [found[name][0] for _, _, _, found in cases]
            table.add_row(
                [separation, f"{relative:.4f}", name,
                 "-" if None in resolved else f"{np.mean(resolved):.2f}",
                 in_units(errors[:, :2], of_positions),
                 in_units(errors[:, 1] - errors[:, 0], bounds)]
            )  # fmt: skip
        table.add_divider()
    print(f"doublets, {options.cases} cases a separation, {channels} channels, R = F/4")
    print(table)
