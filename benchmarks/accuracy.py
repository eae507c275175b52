"""Accuracy on held-out simulations, beside Richardson-Lucy told the exact response.

    python benchmarks/accuracy.py [--cases 32] [--model NAME_OR_PATH]

The seeds of this set are used in `benchmarks/classical.py` and nowhere else: not in training, not
in choosing a model. The oracle gets the noise-free response and, for each spectrum, the iteration
count and the extra smoothing that bring it nearest to the truth. Errors are those of
`exspy_deepdeconv.evaluate`; every figure is the median over the cases of a scene, at a resolution
of a quarter of the zero-loss width.
"""

import argparse
import time

import numpy as np
from prettytable import PrettyTable

from exspy_deepdeconv import models
from exspy_deepdeconv.evaluate import errors, oracle_richardson_lucy, raw_errors
from exspy_deepdeconv.inference import deconvolve_block
from exspy_deepdeconv.physics import default_resolution, prepare
from exspy_deepdeconv.simulate import FAMILIES, simulate

SEED = 20_211_105
SCENES = ("vibrational", "plasmonic", "gap", "doublet", "bulk")
LENGTHS = (512, 1024, 2048, 4096)
OURS = ("ours, blind", "ours, response given")
MEASURES = ("loss", "sqrt", "near")


def held_out(scene, cases):
    """Yield simulated spectra with their measured zero-loss width in channels."""
    rng = np.random.default_rng([SEED, FAMILIES.index(scene)])
    found = 0
    while found < cases:
        simulation = simulate(scene, rng, int(rng.choice(LENGTHS)))
        width = float(prepare(simulation.counts)[1].fwhm)
        if np.isfinite(width):
            found += 1
            yield simulation, width


def one_case(simulation, width, model):
    """Errors of every method, keyed by its name."""
    resolution = default_resolution(width)

    def ours(psf):
        estimate, _ = deconvolve_block(
            simulation.counts, model=model, resolution=resolution, psf=psf
        )
        return errors(estimate, simulation, resolution)

    return {
        "raw": raw_errors(simulation, resolution),
        "oracle RL": oracle_richardson_lucy(simulation, resolution),
        "ours, blind": ours(None),
        "ours, response given": ours(simulation.psf),
    }


def scene_table(results):
    """One row a scene: medians, their ratio to the oracle's, and the median of the cases' ratios."""
    table = PrettyTable(["scene", "error", *next(iter(results.values()))[0], "blind / oracle",
                         "given / oracle", "case by case, blind", "given"])  # fmt: skip
    table.align = "r"
    for scene, cases in results.items():
        for measure in MEASURES:
            medians = {
                name: float(np.median([getattr(case[name], measure) for case in cases]))
                for name in cases[0]
            }
            ratios = [medians[name] / medians["oracle RL"] for name in OURS]
            ratios += [
                float(
                    np.median(
                        [
                            getattr(c[name], measure) / getattr(c["oracle RL"], measure)
                            for c in cases
                        ]
                    )
                )
                for name in OURS
            ]
            table.add_row(
                [scene, measure, *(f"{m:.4f}" for m in medians.values()),
                 *(f"{r:.2f}" for r in ratios)]
            )  # fmt: skip
        table.add_divider()
    return table


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=32)
    parser.add_argument("--model")
    options = parser.parse_args()
    model = models.load(options.model)
    start = time.perf_counter()
    results = {
        scene: [one_case(*case, model) for case in held_out(scene, options.cases)]
        for scene in SCENES
    }
    print(f"model {model.name} ({model.sha256[:12]}), {options.cases} cases a scene")
    print(scene_table(results))
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
