"""Do the 90 % intervals hold the truth, and are they of use? (`accuracy.py --part coverage`).

Coverage is the share of channels, pooled over the cases of a scene, whose truth lies inside: of
channels one zero-loss width past the peak and on whose losses are visible (above 0.3 times the
Poisson noise of the data), of these near the peak (up to five widths), and elsewhere. Sharpness is
the root mean square width of the interval over the root mean square error of the oracle TGV (MAP) in
the same loss region: the median over the cases. F/R is the sharpening asked for; where F/R would be
under two channels, R is two channels, and the median of what was reached is shown in brackets. A second table
has the same at F/4 by the electrons of the zero-loss peak, the scenes together.
"""

from functools import partial

import numpy as np
from _held_out import SCENES, held_out
from _methods import OURS, estimate
from prettytable import PrettyTable

from exspy_deepdeconv.bounds.oracles import TGV_WEIGHTS, best_errors
from exspy_deepdeconv.evaluate import coverage
from exspy_deepdeconv.physics import MIN_RESOLUTION_CHANNELS
from exspy_deepdeconv.solvers.variation import solve_weights

SHARPENINGS = (2, 4, 8, 16)
ELECTRONS = (1e3, 1e5, 1e6, 1e7, 1e9)


def resolution_at(width, sharpening):
    """F/R of this size where the axis allows, else two channels."""
    return max(width / sharpening, MIN_RESOLUTION_CHANNELS)


def one_case(simulation, width, model, with_oracle):
    """Coverage, sharpness and F/R reached, for each sharpening and method."""
    counts = simulation.counts - simulation.dark
    if with_oracle:  # the same estimates serve all resolutions
        estimates = list(solve_weights(counts, simulation.psf, TGV_WEIGHTS))
    start = int(np.ceil(simulation.position + simulation.fwhm))
    found = {"electrons": simulation.elastic_counts / simulation.detector.gain}
    for sharpening in SHARPENINGS:
        resolution = resolution_at(width, sharpening)
        error = np.nan
        if with_oracle:
            inelastic = (simulation.inelastic(resolution) - simulation.dark)[start:]
            error = best_errors(estimates, simulation, resolution).loss
            error *= np.sqrt(np.mean(inelastic**2))
        for name in OURS:
            held = coverage(
                *estimate(simulation, resolution, model, given=name == "ours, given"),
                simulation,
                resolution,
            )
            found[sharpening, name] = held, held.width / error, width / resolution
    return found


def share(held):
    """Channels inside over all channels, summed over cases, and its standard error.

    The channels of a case fall in or out together: the cases are what is independent.
    """
    inside, number = np.array(held).T
    if not number.sum():
        return "-"
    covered = inside.sum() / number.sum()
    error = np.sqrt(np.sum((inside - covered * number) ** 2)) / number.sum()
    return f"{covered:.3f} ± {error:.3f}"


def table_of(results):
    """One row for each scene, sharpening and method."""
    table = PrettyTable(
        ["scene", "F/R", "method", "loss", "near", "elsewhere", "sharpness"], align="r"
    )
    for scene, cases in results.items():
        for sharpening, name in (key for key in cases[0] if key != "electrons"):
            held, sharpness, reached = zip(*(case[sharpening, name] for case in cases), strict=True)
            columns = ([getattr(h, c) for h in held] for c in ("loss", "near", "elsewhere"))
            table.add_row(
                [scene, f"{sharpening} ({np.median(reached):.1f})", name,
                 *(share(column) for column in columns), f"{np.median(sharpness):.2f}"]
            )  # fmt: skip
        table.add_divider()
    return table


def by_electrons(results):
    """One row for each range of electrons and method."""
    table = PrettyTable(["electrons", "cases", "method", "loss", "near"], align="r")
    cases = [case for scene in results.values() for case in scene]
    for low, high in zip(ELECTRONS[:-1], ELECTRONS[1:], strict=True):
        some = [case for case in cases if low <= case["electrons"] < high]
        for name in OURS if some else ():
            held = [case[4, name][0] for case in some]
            columns = (share([getattr(h, c) for h in held]) for c in ("loss", "near"))
            table.add_row([f"{low:.0e} to {high:.0e}", len(some), name, *columns])
    return table


def report(options, run):
    """Print the table."""
    results = {
        scene: run(
            partial(one_case, model=options.model, with_oracle="oracle TGV" in options.rivals),
            held_out(scene, options.cases, options.channels),
        )
        for scene in SCENES
    }
    print(f"coverage of the 90 % interval, {options.cases} cases a scene (asked: 0.87 to 0.93 in")
    print("loss and near, at least 0.87 elsewhere; sharpness at most 4)")
    print(table_of(results))
    print(by_electrons(results))
