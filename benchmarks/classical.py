"""Speed and accuracy of the classical methods, side by side.

    python benchmarks/classical.py [--cases 32] [--seed 20211105] [--part speed|accuracy|both]

Speed: spectra per second of every method on one map, and as a ratio to exspy's own
Richardson-Lucy (15 iterations), timed in turns in the same run. Methods that take long are timed on
fewer spectra.

Accuracy: median loss error (`exspy_deepdeconv.evaluate`) of a scene's cases at a quarter of the
zero-loss width, in units of the oracle Richardson-Lucy, which stops and smooths where the truth
likes it best. All methods are given the exact response. Those without a resolution of their own
are smoothed to the resolution asked for, as the signal methods do.

Choice: what choosing automatically costs beside choosing by the truth, everything else being the
same: the ratio of the median errors, and in brackets the median of the cases' ratios.

The default seed is that of `benchmarks/accuracy.py`. No setting was chosen by its spectra, but a
poor figure of TGV for doublets among them was what made its start be looked into.
"""

import argparse
import time
from statistics import median

import exspy.signals  # noqa: F401 - here, so that it is not timed
import hyperspy.api as hs
import numpy as np
from _held_out import SCENES, SEED, held_out
from _methods import exspy_richardson_lucy
from prettytable import PrettyTable

from exspy_deepdeconv import classical
from exspy_deepdeconv.bounds.oracles import (
    RL_ITERATIONS,
    TGV_WEIGHTS,
    oracle_fourier,
    oracle_richardson_lucy,
    oracle_total_generalised_variation,
    raw_errors,
)
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.physics import default_resolution, gaussian, smooth
from exspy_deepdeconv.solvers.variation import solve_weights


def map_of(spectra, channels):
    """A map of noisy spectra and the response of its instrument, its zero in the middle."""
    rng = np.random.default_rng(0)
    mean = 1e5 * gaussian(channels, channels / 5, 12.0) + 4e3 * gaussian(channels, channels / 3, 30)
    counts = rng.poisson(mean + 3.0, (spectra, channels)).astype(np.float32)
    channel = np.arange(channels) - channels // 2
    return counts, gaussian(channels, channels // 2, 12.0) + 1e-3 / (12.0**2 + channel**2)


def speed_table(options):
    """Spectra per second of each method, median of the rounds."""
    counts, psf = map_of(options.spectra, options.channels)
    methods = {
        "exspy RL-15": (exspy_richardson_lucy, (), 128),
        "RL 15": (classical.richardson_lucy, (15,), options.spectra),
        "RL auto": (classical.richardson_lucy, ("auto",), 256),
        "ISRA 15": (classical.image_space_reconstruction, (15,), options.spectra),
        "ISRA auto": (classical.image_space_reconstruction, ("auto",), 256),
        "Fourier": (classical.fourier_ratio, (4.0,), 512),
        "TGV 1.0": (classical.total_generalised_variation, (1.0,), 16),
        "TGV auto": (classical.total_generalised_variation, ("auto",), 4),
    }
    rates = {name: [] for name in methods}
    for _ in range(options.rounds):
        for name, (function, arguments, number) in methods.items():
            part = counts[:number]
            start = time.perf_counter()
            function(part, psf, *arguments)
            rates[name].append(len(part) / (time.perf_counter() - start))
    table = PrettyTable(["method", "spectra/s", "ratio to exspy RL-15"])
    table.align, table.float_format = "r", ".1"
    for name, measured in rates.items():
        ratios = [a / b for a, b in zip(measured, rates["exspy RL-15"], strict=True)]
        table.add_row([name, median(measured), median(ratios)])
    return table


def choices(counts, psf):
    """The estimates among which each automatic method chooses, best by the truth or not."""
    return {
        "RL": classical.richardson_lucy_iterates(counts, psf, RL_ITERATIONS),
        "ISRA": (
            classical.image_space_reconstruction(counts, psf, count) for count in RL_ITERATIONS[::2]
        ),
        "TGV": solve_weights(counts, psf, TGV_WEIGHTS[2:]),
    }


def one_case(simulation, width):
    """Loss errors of all methods, and the best that each automatic method could have chosen."""
    resolution = default_resolution(width)
    counts, psf = simulation.counts, simulation.psf

    def loss(estimate, own=0.0):
        extra = np.sqrt(max(resolution**2 - own**2, 0.0))
        return errors(smooth(estimate, extra), simulation, resolution).loss

    found = {
        "raw": raw_errors(simulation, resolution).loss,
        "exspy RL-15": loss(exspy_richardson_lucy(counts, psf)),
        "RL 15": loss(classical.richardson_lucy(counts, psf, 15)),
        "RL auto": loss(classical.richardson_lucy(counts, psf, "auto")),
        "ISRA auto": loss(classical.image_space_reconstruction(counts, psf, "auto")),
        "Fourier": loss(classical.fourier_ratio(counts, psf, resolution), resolution),
        "TGV auto": loss(classical.total_generalised_variation(counts, psf), 2.0),
        "Fourier oracle": oracle_fourier(simulation, resolution).loss,
        "TGV oracle": oracle_total_generalised_variation(simulation, resolution).loss,
        "RL oracle": oracle_richardson_lucy(simulation, resolution).loss,
    }
    for name, estimates in choices(counts, psf).items():
        own = 2.0 if name == "TGV" else 0.0
        found[f"{name} chosen by truth"] = min(loss(estimate, own) for estimate in estimates)
    return found


def accuracy_tables(options):
    """Errors in units of the oracle's, and the cost of choosing automatically."""
    first = choice = None
    for scene in SCENES:
        drawn = held_out(scene, options.cases, seed=options.seed)
        cases = [one_case(*case) for case in drawn]
        medians = {name: float(np.median([case[name] for case in cases])) for name in cases[0]}
        shown = [name for name in medians if "chosen" not in name]
        if first is None:
            first = PrettyTable(["scene", *shown, "RL oracle itself"])
            choice = PrettyTable(["scene", "RL", "ISRA", "TGV"])
        unit = medians["RL oracle"]
        first.add_row([scene, *(f"{medians[name] / unit:.2f}" for name in shown), f"{unit:.4f}"])
        choice.add_row([scene, *(cost_of_choice(cases, name) for name in ("RL", "ISRA", "TGV"))])
    first.align = choice.align = "r"
    return first, choice


def cost_of_choice(cases, name):
    """Ratio of medians, and median ratio, of an automatic choice and the best one."""
    chosen = np.array([case[f"{name} auto"] for case in cases])
    best = np.array([case[f"{name} chosen by truth"] for case in cases])
    return f"{np.median(chosen) / np.median(best):.2f} ({np.median(chosen / best):.2f})"


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("speed", "accuracy", "both"), default="both")
    parser.add_argument("--cases", type=int, default=32)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--spectra", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    hs.preferences.General.show_progressbar = False
    hs.set_log_level("ERROR")
    start = time.perf_counter()
    if options.part != "accuracy":
        print(f"maps of up to {options.spectra} spectra of {options.channels} channels, float32")
        print(speed_table(options))
    if options.part != "speed":
        print(f"{options.cases} cases a scene, seed {options.seed}")
        for table in accuracy_tables(options):
            print(table)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
