"""Rate and peak memory of `deep_deconvolve` on maps larger than memory may be.

    python benchmarks/scale.py [--sides 128 256] [--channels 2048] [--folder FOLDER]

Square float32 maps are written to chunked .zspy and .hspy files, opened lazily, deconvolved and
written to disk by `save`, each in a process of its own, whose peak memory (resident) is told; so is
that of a process that does everything but the deconvolution. The eager rate is that of the smallest
map, in the same run, saving included.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import hyperspy.api as hs
import numpy as np
from prettytable import PrettyTable

from exspy_deepdeconv.physics import gaussian

KINDS = ("zspy", "hspy")


def write_maps(folder, side, channels):
    """Files of a noisy map of ``side`` x ``side`` spectra, written lazily, chunk by chunk."""
    mean = 1e5 * gaussian(channels, channels / 5, 12.0) + 4e3 * gaussian(channels, channels / 3, 30)

    def noisy(block_info):
        rng = np.random.default_rng(block_info[None]["chunk-location"])
        return rng.poisson(mean + 3, block_info[None]["chunk-shape"]).astype(np.float32)

    chunks = tuple((16,) * (side // 16) for _ in range(2)) + ((channels,),)
    data = da.map_blocks(noisy, chunks=chunks, dtype=np.float32, meta=np.empty((0,) * 3, "f4"))
    signal = hs.signals.Signal1D(data).as_lazy()
    signal.set_signal_type("EELS")
    axis = signal.axes_manager[-1]
    axis.scale, axis.units, axis.offset = 0.01, "eV", -0.01 * channels / 5
    for kind in KINDS:
        signal.save(folder / f"{side}.{kind}", overwrite=True, show_progressbar=False)


def measured(folder, name, task):
    """What a child process tells of one task: seconds, spectra and peak memory in GB."""
    command = [sys.executable, __file__, "--child", task, "--folder", folder, "--file", name]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout.splitlines()[-1])


def child(folder, name, task):
    """Load, deconvolve and save a map; print how it went."""
    hs.preferences.General.show_progressbar = False
    signal = hs.load(folder / name, lazy=task != "eager")
    spectra = int(signal.axes_manager.navigation_size)
    if task != "load":
        signal.inav[:4, :4].deep_deconvolve(lazy_output=False)  # weights and first-call costs
    start = time.perf_counter()
    result = signal if task == "load" else signal.deep_deconvolve()
    result.save(folder / f"result of {name}", overwrite=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "spectra": spectra, "peak": peak}))


def row(label, told, eager=None):
    """One line of the table."""
    rate = told["spectra"] / told["seconds"]
    share = f"{rate / eager:.2f}" if eager else "-"
    return [label, told["spectra"], f"{rate:.0f}", share, f"{told['peak']:.2f}"]


def main():
    """Print one row for each map and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--folder", type=Path, help="for the maps; a temporary one by default")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    hs.set_log_level("ERROR")
    if options.child:
        child(options.folder, options.file, options.child)
        return
    table = PrettyTable(["map", "spectra", "spectra/s", "of eager", "peak memory (GB)"], align="r")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        folder = Path(folder)
        for side in options.sides:
            write_maps(folder, side, options.channels)
        smallest = f"{min(options.sides)}.zspy"
        told = measured(folder, smallest, "eager")
        eager = told["spectra"] / told["seconds"]
        table.add_row(row(f"{smallest}, eager", told))
        for side in options.sides:
            for kind in KINDS:
                name = f"{side}.{kind}"
                table.add_row(row(f"{name}, lazy", measured(folder, name, "lazy"), eager))
                told = measured(folder, name, "load")
                table.add_row(row(f"{name}, lazy, only copied", told), divider=True)
    print(f"float32 maps of {options.channels} channels, from file to file")
    print(table)


if __name__ == "__main__":
    main()
