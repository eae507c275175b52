"""Peaks seen in spectra that have none (`accuracy.py --part false-peaks`).

A peak is claimed where a local maximum of the result stands out by more than 5 predicted standard
deviations (the 90 % interval over 3.29); it is false where the truth has none
(`exspy_deepdeconv.evaluate.false_peaks`). Four times as many featureless spectra as cases.
"""

from functools import partial

import numpy as np
from _held_out import held_out
from _methods import OURS, SIGMAS, estimate
from intervals import SHARPENINGS, resolution_at
from prettytable import PrettyTable

from exspy_deepdeconv.evaluate import false_peaks


def one_case(simulation, width, model):
    """Number of false peaks, for each sharpening and method."""
    found = {}
    for sharpening in SHARPENINGS:
        resolution = resolution_at(width, sharpening)
        for name in OURS:
            ours, lower, upper = estimate(
                simulation, resolution, model, given=name == "ours, given"
            )
            sigma = (upper - lower) / SIGMAS
            found[sharpening, name] = false_peaks(ours, sigma, simulation, resolution)
    return found


def report(options, run):
    """Print the table."""
    cases = run(
        partial(one_case, model=options.model),
        held_out("featureless", 4 * options.cases, options.channels),
    )
    table = PrettyTable(["F/R", "method", "false peaks per spectrum", "spectra with any"])
    table.align = "r"
    for sharpening, name in cases[0]:
        number = np.array([case[sharpening, name] for case in cases])
        table.add_row([sharpening, name, f"{number.mean():.3f}", f"{np.mean(number > 0):.3f}"])
    print(f"false peaks in {len(cases)} featureless spectra (asked: below 0.05 per spectrum)")
    print(table)
