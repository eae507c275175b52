"""Accuracy on held-out simulations, beside rivals that are told everything.

    python benchmarks/accuracy.py [--cases 32] [--model NAME_OR_PATH] [--workers 2]
        [--part table doublets false-peaks lost-peaks detection coverage windows position response shared recipe
               dose width]
        [--rivals "oracle RL" ...] [--channels N] [--shoulders SHARE] [--output FOLDER]

The seeds of this set are used in `benchmarks/classical.py` and nowhere else: not in training, not
in choosing a model. All rivals get the noise-free response (one of them the tail of its gain side only,
which is what a blind method can see of it: `exspy_deepdeconv.bounds.oracles.reflected_tail`); an
oracle also gets, for each spectrum and each error, the iteration count (or weight, or damping) and the extra
smoothing that bring it nearest to the truth, and all are compared with the truth where it suits
them best (``--part position`` measures the shift). ``--shoulders 1`` puts shoulders beside all zero-loss
peaks of the table, as monochromated ones may have; by default none has any. Errors are those of
`exspy_deepdeconv.evaluate`. What each part measures is said at the head of its module beside this
file.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import detection
import dose_and_width
import doublets
import false_peaks
import hyperspy.api as hs
import intervals
import lost_peaks
import numpy as np
import position
import recipe
import response
import shared
import windows
from _held_out import LENGTHS, SCENES, SEED, announced, held_out, workers
from _methods import MEASURES, METHODS, OURS, RIVALS, all_errors, ratio
from prettytable import PrettyTable

from exspy_deepdeconv.physics import default_resolution

RATIOS = (
    *((ours, unit) for unit in ("oracle RL", "oracle TGV") for ours in OURS),
    ("ours, blind", "reflected tail"),
)
PARTS = (
    "table", "doublets", "false-peaks", "lost-peaks", "detection", "coverage", "windows", "position", "response",
    "shared", "recipe", "dose", "width",
)  # fmt: skip


def one_case(simulation, width, model, names):
    """Errors of every method at a quarter of the zero-loss width, keyed by its name."""
    return all_errors(simulation, default_resolution(width), model, names)


def scene_table(results):
    """One row a scene and error: medians, and ours in units of the oracles."""
    names = next(iter(results.values()))[0]
    pairs = [(ours, unit) for ours, unit in RATIOS if unit in names]
    table = PrettyTable(
        ["scene", "error", *names, *(f"{ours} / {unit}" for ours, unit in pairs)], align="r"
    )
    for scene, cases in results.items():
        for measure in MEASURES:
            medians = [
                np.nanmedian([getattr(case[name], measure) for case in cases]) for name in names
            ]
            table.add_row(
                [scene, measure, *(f"{m:.4g}" for m in medians),
                 *(ratio(cases, ours, unit, measure) for ours, unit in pairs)],
                divider=measure == MEASURES[-1],
            )  # fmt: skip
    return table


def report(options, run):
    """Print the table of all methods."""
    names = tuple(name for name in METHODS if name in options.rivals or name in OURS)
    function = partial(one_case, model=options.model, names=names)
    results = {
        scene: run(
            function,
            held_out(scene, options.cases, options.channels, shoulders=options.shoulders),
        )
        for scene in SCENES
    }
    lengths = LENGTHS if options.channels is None else (options.channels,)
    print(f"median errors, {options.cases} cases a scene, seed {SEED}, {lengths} channels, R = F/4")
    print(
        "ratios: of the medians +- standard error (median of the cases' ratios); asked of blind errors:"
    )
    print(
        "at most 0.6 of oracle RL (doublets 0.85) and 1.0 of oracle TGV; given: never above blind"
    )
    print(scene_table(results))


def parsed(arguments):
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", choices=PARTS, nargs="+", default=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--cases", type=int, default=32)
    parser.add_argument("--model")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--channels", type=int, help="one length for all spectra")
    parser.add_argument(
        "--shoulders", type=float, default=0.0, help="share of the table's responses with some"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the figure")
    options = parser.parse_args(arguments)
    for name in ("cases", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(options, name)}.")
    return options


def main(arguments=None):
    """Print the parts asked for."""
    options = parsed(arguments)
    start = time.perf_counter()
    announced(options.model, arguments)
    reports = {
        "table": report,
        "doublets": doublets.report,
        "false-peaks": false_peaks.report,
        "lost-peaks": lost_peaks.report,
        "detection": detection.report,
        "coverage": intervals.report,
        "windows": windows.report,
        "position": position.report,
        "response": response.report,
        "shared": shared.report,
        "recipe": recipe.report,
    }
    with workers(options.workers) as run:
        for part, function in reports.items():
            if part in options.part:
                function(options, run)
        if {"dose", "width"} & set(options.part):
            dose_and_width.report(options, run)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    hs.set_log_level("ERROR")
    main()
