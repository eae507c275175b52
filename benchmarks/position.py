"""Where results put the energy zero (`accuracy.py --part position`).

The place of the zero-loss peak in the result, less the true one, in units of the zero-loss width F: the
whole result is off by as much. (The errors of the other parts are those that are left once the truth
is moved to where it suits an estimate best.) The last column is the share of the cases whose error is
within 1.645 times the standard error that the intervals allow for.
"""

from functools import partial

import numpy as np
from _held_out import SCENES, held_out
from _methods import OURS, estimate
from prettytable import PrettyTable

from exspy_deepdeconv.estimate.intervals import normal_reach, position_error
from exspy_deepdeconv.physics import default_resolution, find_zero_loss

ELECTRONS = (0, 1e5, 1e6, np.inf)


def one_case(simulation, width, model):
    """Electrons, errors blind and with the response given over F, and the error allowed for."""
    resolution = default_resolution(width)
    electrons = simulation.elastic_counts / simulation.detector.gain
    errors = []
    for name in OURS:
        answer = estimate(simulation, resolution, model, given=name == OURS[1])[0]
        place = float(find_zero_loss(answer).position)
        errors.append((place - simulation.position) / simulation.fwhm)
    return electrons, *errors, float(position_error(1.0, electrons))


def report(options, run):
    """Print the table."""
    cases = []
    for scene in SCENES:
        cases += run(
            partial(one_case, model=options.model),
            held_out(scene, options.cases, options.channels),
        )
    electrons, *errors, allowed = np.array(cases).T
    table = PrettyTable(
        ["electrons", "cases", "method", "median / F", "root mean square / F", "within"], align="r"
    )
    for low, high in zip(ELECTRONS[:-1], ELECTRONS[1:], strict=True):
        for name, error in zip(OURS, errors, strict=True):
            here = (electrons >= low) & (electrons < high) & np.isfinite(error)
            if not here.any():
                continue
            size = np.abs(error[here])
            within = np.mean(size < normal_reach(0.9) * allowed[here])
            mean = np.sqrt(np.mean(size**2))
            table.add_row(
                [f"{low:.0e} to {high:.0e}", here.sum(), name, f"{np.median(size):.4f}",
                 f"{mean:.4f}", f"{within:.2f}"]
            )  # fmt: skip
    print(f"energy zero of the results, {options.cases} cases of each scene, R = F/4")
    print(table)
