"""Do the counts of a window lie between the sums of its bounds? (`accuracy.py --part windows`).

What a window of the energy axis holds lies between the sum of the lower bounds in it and the sum of
the upper ones, if errors are the same throughout the window. Tried for windows of 1 to 16 zero-loss
widths, side by side from one width past the peak on, and in them for the losses that are visible: more
than 0.3 times the Poisson noise of the data in the window.
"""

from functools import partial

import numpy as np
from _held_out import SCENES, held_out
from _methods import OURS, estimate
from intervals import resolution_at, share
from prettytable import PrettyTable

from exspy_deepdeconv.evaluate import VISIBLE, visible_losses

WIDTHS = (1, 2, 4, 8, 16)  # in zero-loss widths
SHARPENING = 4


def one_case(simulation, width, model):
    """Windows whose counts lie inside, and all, for each method and width of the window."""
    resolution = resolution_at(width, SHARPENING)
    gain = simulation.detector.gain
    electrons = np.maximum(simulation.expected - simulation.dark, 0) / gain
    losses = (simulation.inelastic(resolution) - simulation.dark) / gain
    start = int(np.ceil(simulation.position + simulation.fwhm))
    found = {}
    for name in OURS:
        answer = estimate(simulation, resolution, model, given=name == "ours, given")
        truth, _ = visible_losses(answer[0], simulation, resolution)
        for widths in WIDTHS:
            length = max(round(widths * simulation.fwhm), 1)
            edges = np.arange(start, truth.size - length + 1, length)
            if not edges.size:
                found[name, widths] = np.zeros(2)
                continue
            stop = edges[-1] + length
            true, lower, upper, visible, noise = (
                np.add.reduceat(x[:stop], edges)
                for x in (truth, answer[1], answer[2], losses, electrons)
            )
            seen = visible > VISIBLE * np.sqrt(noise)
            inside = (lower <= true) & (true <= upper)
            found[name, widths] = np.array([np.sum(inside & seen), np.sum(seen)])
    return found


def report(options, run):
    """Print the table."""
    table = PrettyTable(["scene", "method", *(f"{w} F" for w in WIDTHS)], align="r")
    for scene in SCENES:
        cases = run(
            partial(one_case, model=options.model),
            held_out(scene, options.cases, options.channels),
        )
        for name in OURS:
            columns = (share([case[name, widths] for case in cases]) for widths in WIDTHS)
            table.add_row([scene, name, *columns])
    print(
        f"counts of windows between the sums of their 90 % bounds, {options.cases} cases a scene,"
    )
    print(f"R = F/{SHARPENING}; windows of so many zero-loss widths F")
    print(table)
