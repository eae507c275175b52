"""What fine-tuning on a map gains on that instrument, and what it costs on all others.

    python benchmarks/fine_tuning.py [--minutes 10] [--maps nanorod ws2 lsmo bn] [--cases 96]
        [--model NAME_OR_PATH] [--learning-rate RATE]

Each network is trained on for the given time on one map: the bundled simulated nanorod, and the
measured maps in ``../shared/data`` where that folder is there. Median blind loss errors at R = F/4
before and after: on simulated specimens seen through that map's response with its noise (seeds that no
training uses), and on the five scenes of the accuracy benchmark with seeds of their own; of these the
ratio of the medians, and in brackets the median of the cases' own ratios. "As told" is what fine_tune itself
says of the instrument (its model card): the geometric mean of other cases' ratios, with one standard error.
Below the table: how long fine_tune's comparison with its start takes.
"""

import argparse
import time
import warnings
from pathlib import Path

import hyperspy.api as hs
import numpy as np
from _held_out import SCENES
from prettytable import PrettyTable
from scipy.stats import gmean

from exspy_deepdeconv import data, models, physics
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.simulate import FAMILIES, simulate
from exspy_deepdeconv.training import fine_tune, measured_pairs
from exspy_deepdeconv.training.adapt import InstrumentPairs
from exspy_deepdeconv.training.gain import gains, in_words

SEED = 20_231_117
DATA = Path(__file__).parents[2] / "shared" / "data"
FILES = {
    "ws2": ("ws2_mono_specimen.hspy", "ws2_mono_vacuum.hspy"),
    "lsmo": ("lsmo_line.hspy", None),
    "bn": ("boron_nitride_100_frames.dm3", None),
}


def load(name):
    """A map and its vacuum spectra (or None)."""
    if name == "nanorod":
        signal = data.plasmonic_map(shape=(12, 12))
        return signal, data.vacuum_spectrum(signal)
    signals = []
    for file in FILES[name]:
        signal = None if file is None else hs.load(DATA / file)
        signal = signal[0] if isinstance(signal, list) else signal
        if signal is not None:
            signal.set_signal_type("EELS")
        signals.append(signal)
    return signals


def all_errors(model, simulations):
    """Blind loss errors at a quarter of the zero-loss width."""
    found = []
    for simulation in simulations:
        width = float(physics.prepare(simulation.counts)[1].fwhm)
        if np.isfinite(width):
            resolution = physics.default_resolution(width)
            estimate = deconvolve_block(simulation.counts, model=model, resolution=resolution)[0]
            found.append(errors(estimate, simulation, resolution).loss)
    return np.array(found)


def scene(name, cases):
    """Simulations of a scene."""
    rng = np.random.default_rng([SEED, FAMILIES.index(name)])
    return [simulate(name, rng, 1024) for _ in range(cases)]


def main():
    """Print one row a map."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cases", type=int, default=96)
    parser.add_argument("--model")
    parser.add_argument("--learning-rate", type=float, help="fine_tune's own by default")
    known = ("nanorod", *(FILES if DATA.is_dir() else ()))
    parser.add_argument("--maps", nargs="*", choices=known, default=known)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    start = models.load(options.model)
    rate = {"learning_rate": options.learning_rate} if options.learning_rate else {}
    general = {name: scene(name, options.cases) for name in SCENES}
    before = {name: all_errors(start, cases) for name, cases in general.items()}
    table = PrettyTable(
        [
            "map",
            "minutes",
            "steps",
            "its instrument",
            "as told",
            *SCENES,
            "all scenes (geometric mean)",
        ],
        align="r",
    )
    print(f"{start.name}: errors after / before, {options.cases} cases each")
    for name in options.maps:
        began = time.monotonic()
        signal, vacuum = load(name)
        pairs = measured_pairs(signal, vacuum)
        instrument = InstrumentPairs.of(pairs, SEED)
        rng = np.random.default_rng([SEED, 100])
        own = [instrument.simulation(rng) for _ in range(options.cases)]
        own_before = np.median(all_errors(start, own))
        left = options.minutes - (time.monotonic() - began) / 60
        tuned = fine_tune(start, pairs, minutes=left, show_progressbar=False, **rate)
        took = (time.monotonic() - began) / 60
        after = {name: all_errors(tuned, cases) for name, cases in general.items()}
        ratios = [np.median(after[name]) / np.median(before[name]) for name in SCENES]
        paired = [np.median(after[name] / before[name]) for name in SCENES]
        own_after = np.median(all_errors(tuned, own))
        table.add_row(
            [name, f"{took:.1f}", tuned.provenance["steps"],
             f"{own_before:.3f} -> {own_after:.3f} ({own_after / own_before:.2f})",
             in_words(tuned.provenance["gain"]["instrument"]),
             *(f"{a:.2f} ({b:.2f})" for a, b in zip(ratios, paired, strict=True)),
             f"{gmean(ratios):.3f} ({gmean(paired):.3f})"]
        )  # fmt: skip
        print(table, flush=True)
        began = time.monotonic()
        gains(start, tuned.network, instrument.simulation, None)
        print(f"compared with its start in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    hs.set_log_level("ERROR")
    main()
