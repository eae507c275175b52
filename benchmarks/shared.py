"""What a response that a map shares is worth (`accuracy.py --part shared`).

Each held-out spectrum becomes the brightest pixel of a map of 100: all have its response, its elastic
counts (times 0.7 to 1), its detector and its losses, times a factor. The factors are spread over 0 to 1
("vacuum": some pixels hold next to no losses), over a half to 1 ("half"), or are all 1 ("alike"). "Focus" is
"vacuum" where the zero-loss peaks of all others are wider or narrower than that of the spectrum. The
spectrum is deconvolved blind, with the response that the map shares (`quietest_sum`, read by the network
and counted as estimated) and with the true one, at R = F/4. Errors of the last two are in units of the
blind ones: ratios of the medians, with their standard errors; in brackets the median of the cases' own
ratios. Coverage is the share of the channels with visible losses that the 90 % interval holds.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from _held_out import SCENES, SEED, held_out
from _limits import stretched
from _methods import INTERVAL, ratio
from intervals import share
from prettytable import PrettyTable

from exspy_deepdeconv import evaluate, models
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.inference import estimate_response
from exspy_deepdeconv.physics import default_resolution
from exspy_deepdeconv.simulate import redraw

PIXELS = 100
MAPS = {"vacuum": (0.0, 1.0), "half": (0.5, 1.0), "alike": (1.0, 1.0), "focus": (0.0, 1.0)}
WIDER = 0.8, 1.25  # "focus": zero-loss widths of the others over that of the spectrum
METHODS = ("blind", "shared", "given")


def map_of(simulation, kind, rng):
    """Counts of the pixels, ``(PIXELS, channels)``; the first is the spectrum itself."""
    electrons = simulation.elastic_counts / simulation.detector.gain
    losses = simulation.expected - simulation.dark - simulation.elastic
    wider = rng.uniform(*WIDER) if kind == "focus" else 1.0
    other = (
        simulation.expected
        + stretched(simulation.elastic, simulation.position, wider)
        - simulation.elastic
    )
    counts = [simulation.counts]
    for factor in rng.uniform(*MAPS[kind], PIXELS - 1):
        expected = other - (1 - factor) * losses
        pixel = replace(simulation, expected=expected)
        share = rng.uniform(0.7, 1.0)
        counts.append(redraw(pixel, rng, share * electrons, simulation.detector).counts)
    return np.stack(counts)


def one_case(number, simulation, width, model, kind):
    """Errors and coverage of the spectrum by each method."""
    counts = map_of(simulation, kind, np.random.default_rng([SEED, number]))
    resolution, model = default_resolution(width), models.load(model)
    shared = estimate_response(counts, model=model, shared=True)
    found = {}
    for name, psf in zip(METHODS, (None, shared, simulation.psf), strict=True):
        estimate, _, *bounds = deconvolve_block(
            simulation.counts,
            model=model,
            resolution=resolution,
            dispersion=simulation.dispersion,
            psf=psf,
            estimated=name == "shared",
            interval=INTERVAL,
        )
        errors = evaluate.errors(estimate, simulation, resolution)
        found[name] = errors
        found[name, "held"] = evaluate.coverage(estimate, *bounds, simulation, resolution)
    return found


def report(options, run):
    """Print the table."""
    table = PrettyTable(
        ["scene", "map", *(f"{name} / blind: {error}" for error in ("loss", "near") for name in METHODS[1:]),
         *(f"coverage: {name}" for name in METHODS[:2]), *(f"near: {name}" for name in METHODS[:2])],
        align="r",
    )  # fmt: skip
    for scene in SCENES:
        for kind in MAPS:
            cases = run(
                partial(one_case, model=options.model, kind=kind),
                ((n, *each) for n, each in enumerate(held_out(scene, options.cases, options.channels))),
            )  # fmt: skip
            ratios = (ratio(cases, n, "blind", e) for e in ("loss", "near") for n in METHODS[1:])
            held = (
                share([getattr(case[name, "held"], where) for case in cases])
                for where in ("loss", "near")
                for name in METHODS[:2]
            )
            table.add_row([scene, kind, *ratios, *held], divider=kind == list(MAPS)[-1])
    print(f"a response shared by maps of {PIXELS}, {options.cases} cases of each, R = F/4")
    print(table)
