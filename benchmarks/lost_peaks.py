"""Lone losses on the tail of the zero-loss peak: how much is left? (`accuracy.py --part lost-peaks`).

Near: one Lorentzian line stands 1.5 to 4 zero-loss widths F from the peak, 0.3 F or 1 F wide, and a broad
plasmon far from it; nothing else. In the data it is 0.3, 3 or 20 % as high as the zero-loss peak, on whose
tail it lies; 1e6 electrons. Far: it stands 5 to 20 widths from the peak, all by itself, and is 3e-5 or
3e-4 as high; 1e8 electrons. Responses are drawn at random, 4 to 24 channels wide, half of them with
shoulders. Smooth (`limits.py --part lines`): as near, but the line is a Gaussian, 12 to 30 % as high, 1.5
to 2.5 widths from the peak, and responses are Gaussians with Lorentzian tails of up to 2 % of their height.
Signal to noise is the median of the line's counts over the noise of all counts in the same channels.
Recovered is the median share of the line's area, within its own width, at R = F/4; lost are lines of which
less than 30 % is found, overdone those of which more than 170 % is. Covered is the share of the channels
there whose truth lies in the 90 % interval.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from _held_out import SEED
from _methods import OURS, estimate
from prettytable import PrettyTable

from exspy_deepdeconv.experiment.instruments import random_response, tapered
from exspy_deepdeconv.experiment.specimens import EnergyAxis, bell, lorentzian
from exspy_deepdeconv.physics import default_resolution
from exspy_deepdeconv.simulate import Detector, compose, grid_for

CHANNELS = 1024
LOST = 0.3  # share of a line's area: a line of which less is found is lost


@dataclass(frozen=True)
class Setting:
    """Where lines stand and how high they are; electrons of the spectra, area of the plasmon.

    Lines and responses are Gaussians (the latter with low tails) where they are ``smooth``.
    """

    distances: tuple
    heights: tuple
    electrons: float
    plasmon: float
    smooth: bool = False


NEAR = Setting((1.5, 2.0, 3.0, 4.0), (0.003, 0.03, 0.2), 1e6, 0.08)
FAR = Setting((5.0, 10.0, 20.0), (3e-5, 3e-4), 1e8, 0.0)
SMOOTH = Setting((1.5, 2.0, 2.5), (0.12, 0.2, 0.3), 1e6, 0.08, smooth=True)


def lone_line(distance, height, case, setting):
    """A spectrum with such a line, F as it was drawn (in channels), the line's width in units of F."""
    rng = np.random.default_rng([SEED, 304, case])
    fwhm = float(np.exp(rng.uniform(np.log(4), np.log(24))))
    width = float(rng.choice((0.3, 1.0)))
    grid = grid_for(CHANNELS, fwhm)
    if setting.smooth:
        response = _with_low_tails(grid, fwhm, float(rng.uniform(0, 0.02)))
    else:
        response = random_response(grid, fwhm, 0.0, rng, shoulders=float(case % 2))
    position = CHANNELS / 4 + float(rng.uniform(-0.5, 0.5))
    # Energies in channels: the dispersion is of no matter here.
    axis = EnergyAxis(grid.fine_channels - position, 1 / grid.oversampling, fwhm)
    plasmon = bell(axis, 0.55 * CHANNELS, 0.06 * CHANNELS, setting.plasmon)

    def seen(area, noise):
        kind = bell if setting.smooth else lorentzian
        line = kind(axis, distance * fwhm, width * fwhm, area) * (axis.energy > 0)
        specimen = line + plasmon
        return compose(
            grid, response, specimen, position, setting.electrons, Detector(), 1.0, noise, "free"
        )

    plain = seen(1.0, np.random.default_rng(0))
    top = int(round(position + distance * fwhm))
    unit = (plain.expected - plain.elastic)[top] / plain.elastic.max()
    return seen(height / unit, rng), fwhm, width


def _with_low_tails(grid, fwhm, share):
    """A Gaussian response with Lorentzian tails, this share of its height."""
    x = 2 * grid.wrapped_channels / fwhm
    response = tapered(np.exp(-np.log(2) * x**2) + share / (1 + x**2), grid)
    return response / response.sum()


def looked_for(distance, height, case, setting):
    """The spectrum, the resolution, the line's centre (both in channels) and the channels that it covers."""
    simulation, fwhm, width = lone_line(distance, height, case, setting)
    resolution = default_resolution(simulation.fwhm)
    reach = 0.75 * np.hypot(width * fwhm, resolution)
    centre = simulation.position + distance * fwhm
    first = max(centre - reach, simulation.position + 0.9 * fwhm)
    return simulation, resolution, centre, slice(int(round(first)), int(round(centre + reach)) + 1)


def one_case(distance, height, case, model, setting):
    """Signal to noise; shares of the line's area found and of its channels covered, by method."""
    simulation, resolution, _, where = looked_for(distance, height, case, setting)
    truth = simulation.truth(resolution)[where]
    area = simulation.inelastic(resolution)[where].sum()
    line = (simulation.expected - simulation.elastic)[where].sum()
    found = {"signal / noise": line / np.sqrt(simulation.expected[where].sum())}
    for name in OURS:
        answer, low, high = (
            x[where] for x in estimate(simulation, resolution, model, given=name == OURS[1])
        )
        covered = np.mean((low <= truth) & (truth <= high))
        found[name] = 1 + (answer - truth).sum() / area, covered
    return found


def report(options, run):
    """Print both tables."""
    for words, setting in (("near", NEAR), ("far from", FAR)):
        print(f"lone losses {words} the zero-loss peak, {options.cases} cases each, R = F/4, "
              f"{setting.electrons:g} electrons")  # fmt: skip
        print(table_of(setting, options, run))


def table_of(setting, options, run):
    """One row for each height, distance and method."""
    keys = [(distance, height) for height in setting.heights for distance in setting.distances]
    arguments = [(*key, case) for key in keys for case in range(options.cases)]
    cases = run(partial(one_case, model=options.model, setting=setting), arguments)
    table = PrettyTable(
        ["height / peak", "distance / F", "signal / noise", "method", "recovered", "lost", "overdone",
         "covered"],
        align="r",
    )  # fmt: skip
    for number, (distance, height) in enumerate(keys):
        part = cases[number * options.cases : (number + 1) * options.cases]
        clear = np.median([case["signal / noise"] for case in part])
        for name in OURS:
            share, covered = np.array([case[name] for case in part]).T
            columns = np.median(share), np.mean(share < LOST), np.mean(share > 1.7), covered.mean()
            table.add_row([height, distance, f"{clear:.0f}", name, *(f"{x:.2f}" for x in columns)])
    return table
