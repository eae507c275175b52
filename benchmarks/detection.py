"""Does `detection_limit` tell which losses are lost? (`accuracy.py --part detection`).

The spectra with one lone line each are those of the part "lost-peaks", with the line in them, as users have
them. The limit is taken at the energy of the line; that its width is not the one that is tried is part of
the test. Below are lines that are lower than the limit there: of those that are lost, which the limit should
tell, and of those that are found, where it is a false alarm. Lost above is the share of the lines higher than
the limit that are lost all the same.
"""

from functools import partial

import numpy as np
from _methods import OURS
from lost_peaks import FAR, LOST, NEAR, looked_for
from prettytable import PrettyTable

from exspy_deepdeconv import models
from exspy_deepdeconv._methods.detection_methods import usual_width
from exspy_deepdeconv.estimate.injection import Trial
from exspy_deepdeconv.physics import prepare


def one_case(distance, height, case, model, setting):
    """Share of the line's area that is found, and whether it is below the limit, by method."""
    simulation, resolution, centre, where = looked_for(distance, height, case, setting)
    truth = simulation.inelastic(resolution) - simulation.dark
    width = usual_width(float(prepare(simulation.counts)[1].fwhm))
    found = {}
    for name in OURS:
        trial = Trial.of(
            np.asarray(simulation.counts, float),
            width,
            model=models.load(model),
            resolution=resolution,
            dispersion=simulation.dispersion,
            psf=simulation.psf[None] if name == OURS[1] else None,
        )
        share = trial.before[where].sum() / truth[where].sum()
        found[name] = share, not truth[int(round(centre))] >= trial.limit(centre)
    return found


def row_of(cases, name):
    """Lost; of the lost, and of the found, how many are below the limit; how many above it are lost."""
    share, below = (np.array(x) for x in zip(*(case[name] for case in cases), strict=True))
    lost, below = share < LOST, below.astype(bool)
    parts = lost, below[lost], below[~lost], lost[~below]
    return [f"{part.mean():.2f}" if part.size else "-" for part in parts]


def report(options, run):
    """Print both tables."""
    for words, setting in (("near", NEAR), ("far from", FAR)):
        keys = [(distance, height) for height in setting.heights for distance in setting.distances]
        arguments = [(*key, case) for key in keys for case in range(options.cases)]
        cases = run(partial(one_case, model=options.model, setting=setting), arguments)
        table = PrettyTable(
            ["height / peak", "distance / F", "method", "lost", "below: of lost", "of found",
             "lost above"],
            align="r",
        )  # fmt: skip
        for number, (distance, height) in enumerate(keys):
            part = cases[number * options.cases : (number + 1) * options.cases]
            for name in OURS:
                table.add_row([height, distance, name, *row_of(part, name)])
        table.add_divider()
        for name in OURS:
            table.add_row(["all", "", name, *row_of(cases, name)])
        print(
            f"detection limit: lone losses {words} the zero-loss peak, {options.cases} cases each, R = F/4"
        )
        print(table)
