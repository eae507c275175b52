"""Networks of several shapes, trained alike for a short time: which is worth its cost?

    OMP_NUM_THREADS=1 python benchmarks/design.py [--steps 1000] [--folder runs/design] [VARIANT ...]

Every variant sees the same simulated batches (seed 77) and is scored on the same held-out ones.
Floating-point operations and milliseconds (one thread) are those of both U-Nets for a spectrum of
2048 channels. A run that was stopped goes on from its checkpoint.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from prettytable import PrettyTable
from torch.utils.flop_counter import FlopCounterMode

from exspy_deepdeconv.frame import Frame
from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.training import Plan, train


def shape(*widths, fold):
    """Both U-Nets alike, with short kernels."""
    return Config(widths, widths, fold=fold, kernel=3)


VARIANTS = {  # and whether Muon moves the kernels
    "bundled": (Config(), True),
    "bundled, AdamW": (Config(), False),
    "fold 4": (shape(32, 48, 64, 96, 128, fold=4), True),
    "fold 4, AdamW": (shape(32, 48, 64, 96, 128, fold=4), False),
    "fold 8": (shape(40, 56, 80, 112, fold=8), True),
    "fold 8, small": (shape(32, 48, 64, 96, fold=8), True),
    "fold 16": (shape(64, 96, 128, fold=16), True),
}


def cost(config, batch=16):
    """MFLOP and milliseconds of both U-Nets for one spectrum of 2048 channels."""
    network = DeconvolutionNet(config).eval()
    size = Frame(torch.full((1,), 400.0), 2048).size
    parts = [(u, torch.rand(batch, u.stem.in_channels // config.fold, size))
             for u in (network.response, network.estimate)]  # fmt: skip
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            for net, x in parts:
                net(x)
        start = time.perf_counter()
        for net, x in parts * 5:
            net(x)
        seconds = (time.perf_counter() - start) / 5
    return counter.get_total_flops() / batch / 1e6, 1e3 * seconds / batch


def main():
    """Train what is asked for and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    for name in options.variants:
        if name not in VARIANTS:
            parser.error(f"{name!r} is none of {', '.join(VARIANTS)}")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    table = PrettyTable(["network", "MFLOP", "ms", "steps", "seconds", "held-out loss"], align="r")
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.variants or VARIANTS:
            config, muon = VARIANTS[name]
            plan = Plan(
                steps=options.steps, seed=77, warmup=100, muon=muon, workers=0, cases=0,
                held_out=24, evaluate_every=options.steps // 2, checkpoint_minutes=2,
            )  # fmt: skip
            folder = (options.folder or Path(scratch)) / name.replace(", ", "-").replace(" ", "-")
            told = train(plan, folder, config=config).provenance
            loss = told["scores"]["after"]["held_out_loss"]
            flops, milliseconds = cost(config)
            table.add_row([name, f"{flops:.0f}", f"{milliseconds:.2f}", told["steps"],
                           f"{told['seconds']:.0f}", f"{loss:.3f}"])  # fmt: skip
    print(table)


if __name__ == "__main__":
    main()
