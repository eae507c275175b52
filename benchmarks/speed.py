"""End-to-end rate of `deep_deconvolve` beside exspy's Richardson-Lucy (15 iterations), in one run.

    python benchmarks/speed.py [--spectra 4096] [--channels 2048] [--exspy-spectra 256] [--lower]

Timings on shared machines are noisy: only the ratio, measured in turns in the same run, counts.
exspy is timed on fewer spectra, since it works through them one by one. ``--lower`` times ours once more
after ``torch.set_float32_matmul_precision("medium")``, for processors with bfloat16.
"""

import argparse
import time
from statistics import median

import hyperspy.api as hs
import numpy as np
import torch
from exspy.signals import EELSSpectrum
from prettytable import PrettyTable

from exspy_deepdeconv.physics import gaussian


def map_of(spectra, channels):
    """A map of noisy spectra and the response of its instrument."""
    rng = np.random.default_rng(0)
    mean = 1e5 * gaussian(channels, channels / 5, 12.0) + 4e3 * gaussian(channels, channels / 3, 30)
    counts = rng.poisson(mean + 3.0, (spectra, channels)).astype(np.float32)
    signal, response = (
        EELSSpectrum(counts),
        EELSSpectrum(1e6 * gaussian(channels, channels / 5, 12)),
    )
    for each in (signal, response):
        each.axes_manager[-1].scale, each.axes_manager[-1].units = 0.01, "eV"
    return signal, response


def rate(function, spectra):
    """Spectra per second of one call."""
    start = time.perf_counter()
    function()
    return spectra / (time.perf_counter() - start)


def main():
    """Print one row a round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectra", type=int, default=4096)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--exspy-spectra", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lower", action="store_true", help="in lower precision, too")
    options = parser.parse_args()
    hs.preferences.General.show_progressbar = False
    hs.set_log_level("ERROR")
    signal, response = map_of(options.spectra, options.channels)
    part = signal.inav[: options.exspy_spectra]
    signal.inav[:64].deep_deconvolve()  # load the weights

    rows = []
    for _ in range(options.rounds):
        theirs = rate(
            lambda: part.richardson_lucy_deconvolution(response, 15), options.exspy_spectra
        )
        ours = rate(signal.deep_deconvolve, options.spectra)
        rows.append((theirs, ours, ours / theirs))
        if options.lower:
            torch.set_float32_matmul_precision("medium")
            lower = rate(signal.deep_deconvolve, options.spectra)
            torch.set_float32_matmul_precision("highest")
            rows[-1] += (lower, lower / theirs)
    columns = ["round", "exspy RL-15 (spectra/s)", "ours (spectra/s)", "ratio"]
    table = PrettyTable(columns + ["lower precision (spectra/s)", "its ratio"] * options.lower)
    table.float_format, table.align = ".1", "r"
    table.add_rows([(i, *row) for i, row in enumerate(rows, start=1)])
    table.add_row(("median", *map(median, zip(*rows, strict=True))))
    print(
        f"{options.spectra} spectra of {options.channels} channels (exspy: {options.exspy_spectra})"
    )
    print(table)


if __name__ == "__main__":
    main()
