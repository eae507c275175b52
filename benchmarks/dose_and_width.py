"""Error against elastic counts and against the width of the response (`--part dose`, `width`).

Dose: the same specimens and responses, recorded with 1e3 to 1e8 elastic counts by an ideal counter.
Width: responses of a set width in channels, 1e6 elastic counts, 2048 channels. Medians of the loss
error at a quarter of the true zero-loss width. The last column is ours, blind, over automatic
Richardson-Lucy, which is told the exact response: ratio of medians (median of the cases' ratios).
"""

from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from _held_out import SCENES, SEED
from _methods import all_errors, ratio
from matplotlib.ticker import NullLocator
from prettytable import PrettyTable

from exspy_deepdeconv.physics import default_resolution
from exspy_deepdeconv.simulate import FAMILIES, Detector, redraw, simulate
from exspy_deepdeconv.simulate import SCENES as RANGES

NAMES = ("automatic RL", "oracle RL", "ours, blind", "ours, given")
COLOURS = {"automatic RL": "#999999", "oracle RL": "#E69F00", "ours, blind": "#0072B2",
           "ours, given": "#009E73"}  # fmt: skip
COUNTS = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
WIDTHS = (3, 6, 12, 24, 40, 60)
CHANNELS = 2048


def at_counts(scene, case, counts, channels):
    """A case's specimen and response, recorded with these elastic counts."""
    rng = np.random.default_rng([SEED, 302, FAMILIES.index(scene), case])
    drawn = simulate(scene, rng, channels, Detector())
    return redraw(drawn, rng, counts)


def at_width(scene, case, width, channels):
    """A case with a response of this width, everything else drawn alike."""
    rng = np.random.default_rng([SEED, 303, FAMILIES.index(scene), case])
    fixed = replace(RANGES[scene], fwhm_channels=(width, width), elastic_counts=(1e6, 1e6))
    return simulate(fixed, rng, channels, Detector())


def one_case(scene, value, case, draw, channels, model):
    """Errors of each method."""
    simulation = draw(scene, case, value, channels)
    return all_errors(simulation, default_resolution(simulation.fwhm), model, NAMES)


def curves(options, run, draw, values):
    """Lists of cases, keyed by scene and value."""
    function = partial(
        one_case, draw=draw, channels=options.channels or CHANNELS, model=options.model
    )
    keys = [(scene, value) for scene in SCENES for value in values]
    found = run(function, [(*key, case) for key in keys for case in range(options.cases)])
    parts = (found[i : i + options.cases] for i in range(0, len(found), options.cases))
    return dict(zip(keys, parts, strict=True))


def medians(cases, name):
    """Median loss error of a method."""
    return float(np.median([case[name].loss for case in cases]))


def table_of(results, what):
    """One row for each scene and value."""
    table = PrettyTable(["scene", what, *NAMES, "blind / automatic RL"], align="r")
    for number, ((scene, value), cases) in enumerate(results.items(), start=1):
        table.add_row(
            [scene, f"{value:g}", *(f"{medians(cases, name):.4f}" for name in NAMES),
             ratio(cases, "ours, blind", "automatic RL")],
            divider=number % (len(results) // len(SCENES)) == 0,
        )  # fmt: skip
    return table


def draw_curves(axes, results, what):
    """One panel a scene: error of each method against the value, both logarithmic."""
    for ax, scene in zip(axes, SCENES, strict=True):
        values = [value for each, value in results if each == scene]
        for name in NAMES:
            errors = [medians(results[scene, value], name) for value in values]
            ax.loglog(values, errors, "o-", ms=3, color=COLOURS[name], label=name)
        if max(values) < 100:  # widths: powers of ten would not tell them apart
            ax.set_xticks(values, [f"{value:g}" for value in values])
            ax.xaxis.set_minor_locator(NullLocator())
        ax.set_title(scene, fontsize=10)
        ax.set_xlabel(what)
    axes[0].set_ylabel("Loss error")


def report(options, run):
    """Print both tables, or one, and draw them into one figure."""
    parts = {"dose": (at_counts, COUNTS, "Elastic counts"),
             "width": (at_width, WIDTHS, "Response width (channels)")}  # fmt: skip
    chosen = [part for part in parts if part in options.part]
    figure, axes = plt.subplots(
        len(chosen), len(SCENES), figsize=(14, 2.8 * len(chosen) + 0.4), sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, part in zip(axes, chosen, strict=True):
        draw, values, what = parts[part]
        results = curves(options, run, draw, values)
        print(f"median loss errors, {options.cases} cases each (asked: never above automatic RL)")
        print(table_of(results, what.lower()))
        draw_curves(row, results, what)
    axes[0, 0].legend(frameon=False, fontsize=8)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"accuracy_{'_'.join(chosen)}.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"figure: {path}")
