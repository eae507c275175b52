"""How well the network finds the response (`accuracy.py --part response`).

Relative L1 error of `estimate_psf`: the sum of |estimate - truth| over the sum of the truth, over the
core (within one zero-loss width of the energy zero), and over the tails (one to five widths) on the
gain side and on the loss side. Medians over the cases; "raw" takes the data themselves, divided by
their elastic counts, for the response.
"""

from functools import partial

import numpy as np
from _held_out import SCENES, held_out
from prettytable import PrettyTable

from exspy_deepdeconv import models
from exspy_deepdeconv.inference import estimate_response
from exspy_deepdeconv.physics import shift_channels


def one_case(simulation, width, model):
    """Errors of core, gain-side tail and loss-side tail, of the network and of the raw data."""
    counts = simulation.counts - simulation.dark
    channels = counts.size
    zero = channels // 3
    found = estimate_response(simulation.counts, model=models.load(model), zero_channel=zero)
    raw = shift_channels(counts, zero - simulation.position) / simulation.elastic_counts
    truth = simulation.psf[channels - zero : 2 * channels - zero]
    distance = (np.arange(channels) - zero) / simulation.fwhm
    regions = (np.abs(distance) < 1, (distance > -5) & (distance <= -1),
               (distance >= 1) & (distance < 5))  # fmt: skip
    return [
        [np.abs(estimate - truth)[where].sum() / truth[where].sum() for where in regions]
        for estimate in (found, raw)
    ]


def report(options, run):
    """Print the table."""
    table = PrettyTable(["scene", "of", "core", "gain-side tail", "loss-side tail"], align="r")
    for scene in SCENES:
        cases = run(
            partial(one_case, model=options.model),
            held_out(scene, options.cases, options.channels),
        )
        for name, errors in zip(("network", "raw"), np.median(cases, axis=0), strict=True):
            table.add_row([scene, name, *(f"{error:.3f}" for error in errors)])
    print(f"relative L1 error of the response, blind, {options.cases} cases a scene")
    print(table)
