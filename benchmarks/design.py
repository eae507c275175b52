"""Networks of several designs, trained alike for a short time: which is worth its cost?

    OMP_NUM_THREADS=1 python benchmarks/design.py [--steps 1000] [--folder runs/design] [DESIGN ...]

Every network sees the same simulated batches (seed 77) and is scored on the same held-out ones, and
blind on 24 spectra of each scene (those that watch all training runs): medians of the loss error in
units of Richardson-Lucy told the exact response and stopped at its best. Floating-point operations
(but for Fourier transforms) and milliseconds (one thread) are those of a whole pass for a spectrum of
2048 channels. The ranks after a thousand steps need not be those after a hundred thousand. A run
that was stopped goes on from its checkpoint.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from _designs import CountsOnly, Mirrored, Residual, SquareRoot, Unrolled, like
from prettytable import PrettyTable
from torch.utils.flop_counter import FlopCounterMode

from exspy_deepdeconv.network import Config, DeconvolutionNet, Spectra
from exspy_deepdeconv.training import Plan, SimulatedPairs
from exspy_deepdeconv.training.batches import loader
from exspy_deepdeconv.training.loop import training_step
from exspy_deepdeconv.training.monitor import SCENES, Monitor
from exspy_deepdeconv.training.state import TrainingState

SEED, HELD_OUT, CASES = 77, 24, 24
WIDER = Config(estimate_width=(32, 48, 64, 96, 128, 192))  # the cost of both U-Nets in one
DESIGNS = {  # what makes the network, and whether Muon moves its kernels
    "bundled": (DeconvolutionNet, False),
    "a: counts only": (CountsOnly, False),
    "c: unrolled": (Unrolled, False),
    "square root": (SquareRoot, False),
    "residual": (Residual, False),
    "no response head": (partial(Mirrored, WIDER), False),
    "bundled, Muon": (DeconvolutionNet, True),
    "fold 4, Muon": (partial(DeconvolutionNet, like(32, 48, 64, 96, 128, fold=4)), True),
    "fold 4": (partial(DeconvolutionNet, like(32, 48, 64, 96, 128, fold=4)), False),
    "fold 8, Muon": (partial(DeconvolutionNet, like(40, 56, 80, 112, fold=8)), True),
    "fold 8, small, Muon": (
        partial(DeconvolutionNet, like(32, 48, 64, 96, fold=8)),
        True,
    ),
    "fold 16, Muon": (partial(DeconvolutionNet, like(64, 96, 128, fold=16)), True),
}


def cost(network, batch=16, channels=2048):
    """MFLOP and milliseconds of one pass for one spectrum."""
    each = torch.ones(batch)
    counts = torch.rand(batch, channels) * 1e-3
    counts[:, 400] = 1.0
    spectra = Spectra(counts, 400.0 * each, 12.0 * each, 1e-5 * each, 1e-10 * each)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network(spectra)
        start = time.perf_counter()
        for _ in range(5):
            network(spectra)
        seconds = (time.perf_counter() - start) / 5
    return counter.get_total_flops() / batch / 1e6, 1e3 * seconds / batch


def trained(make, plan, folder, pairs):
    """The averaged network of a short run."""
    torch.manual_seed(plan.seed)
    folder.mkdir(parents=True, exist_ok=True)
    state = TrainingState(make(), plan, warm=False, path=folder / "state.pt")
    state.load("cpu")
    for batch in loader(pairs, state.step, plan.steps, plan.workers):
        training_step(state, plan, batch, "cpu")
        if state.step % 100 == 0:
            state.save()
    state.save()
    return state.average.eval()


def main():
    """Train what is asked for and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("designs", nargs="*", metavar="DESIGN", help="; ".join(DESIGNS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    for name in options.designs:
        if name not in DESIGNS:
            parser.error(f"{name!r} is none of {'; '.join(DESIGNS)}")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    pairs = SimulatedPairs(SEED)
    monitor = Monitor(pairs, HELD_OUT, CASES, "cpu")
    table = PrettyTable(["design", "MFLOP", "ms", "held-out loss", *SCENES], align="r")
    print(f"{options.steps} steps each; blind loss errors in units of oracle Richardson-Lucy's")
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.designs or DESIGNS:
            make, muon = DESIGNS[name]
            plan = Plan(steps=options.steps, seed=SEED, warmup=100, muon=muon, workers=0)
            folder = (options.folder or Path(scratch)) / name.translate(
                {ord(c): "-" for c in " ,:"}
            )
            network = trained(make, plan, folder, pairs)
            scores = monitor.scores(network)
            numbers = *cost(network), scores["held_out_loss"], *(scores[scene] for scene in SCENES)
            table.add_row([name, *(f"{number:.3g}" for number in numbers)])
    print(table)


if __name__ == "__main__":
    main()
