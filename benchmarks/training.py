"""Rates of the pair generators and of a training step, and EELSpecNet's recipe on request.

    python benchmarks/training.py [--batches 8] [--rounds 3] [--recipe 200] [--model NAME_OR_PATH]

Spectra per second of one process, generators and step timed in turns in one run: on a shared machine
only their ratio counts. The loop overlaps both, so the generator holds it up only where
``step / generator`` exceeds the number of worker processes.
"""

import argparse
import time
import warnings
from statistics import median

import numpy as np
import torch
from prettytable import PrettyTable

from exspy_deepdeconv import data, models
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.training import Plan, SimulatedPairs, eelspecnet, measured_pairs
from exspy_deepdeconv.training.adapt import InstrumentPairs
from exspy_deepdeconv.training.batches import tensors
from exspy_deepdeconv.training.loop import training_step
from exspy_deepdeconv.training.state import TrainingState


def sources():
    """The pair generators."""
    signal = data.plasmonic_map(shape=(10, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = measured_pairs(signal, data.vacuum_spectrum(signal))
    return {
        "simulated pairs": SimulatedPairs(),
        "measured pairs": measured,
        "instrument pairs": InstrumentPairs.of(measured),
        "EELSpecNet's recipe": eelspecnet.RecipePairs(),
    }


def generator(pairs):
    """A function that draws the next batch and returns its number of spectra."""
    numbers = iter(range(10**6))
    return lambda: len(pairs.batch(next(numbers))["counts"])


def step(device, batches):
    """A function that trains on one of the batches and returns its number of spectra."""
    plan = Plan()
    state = TrainingState(DeconvolutionNet(Config()).to(device), plan, False, None)
    batches = [tensors(batch) for batch in batches]
    numbers = iter(range(10**6))

    def run():
        batch = batches[next(numbers) % len(batches)]
        training_step(state, plan, batch, device)  # its return waits for the device
        return len(batch["counts"])

    return run


def rates(functions, calls, rounds):
    """Median spectra per second of each function, timed in turns."""
    seen = {name: [] for name in functions}
    for function in functions.values():
        function()  # warm up
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            spectra = sum(function() for _ in range(calls))
            seen[name].append(spectra / (time.perf_counter() - start))
    return {name: median(values) for name, values in seen.items()}


def recipe_table(number, model):
    """Ours on EELSpecNet's evaluation set beside its published figures."""
    spectra = eelspecnet.evaluation_set(number)
    table = PrettyTable(["", "MSE", "MAPE (%)", "MSE, losses", "MAPE, losses (%)", "loss error"])
    table.align = "r"
    published = eelspecnet.PUBLISHED
    table.add_row(
        ["EELSpecNet, published", f"{published['mse']:.2e}", f"{published['mape']:.3f}", "", "", ""]
    )
    estimates = {"data": spectra.counts}
    for name, psf in (("ours, blind", None), ("ours, response given", spectra.psf)):
        estimates[name] = deconvolve_block(
            spectra.counts, model=model, resolution=eelspecnet.RESOLUTION, psf=psf
        )[0]
    for name, estimate in estimates.items():
        s = eelspecnet.scores(estimate, spectra)
        table.add_row([name, f"{s['mse']:.2e}", f"{s['mape']:.3f}", f"{s['loss_mse']:.2e}",
                       f"{s['loss_mape']:.3f}", f"{s['loss_error']:.4f}"])  # fmt: skip
    return table


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=8, help="timed in a row")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", type=int, default=0, help="spectra of EELSpecNet's recipe")
    parser.add_argument("--model")
    options = parser.parse_args()
    torch.set_flush_denormal(True)  # as the loop does
    threads = torch.get_num_threads()
    named = sources()
    batches = [named["simulated pairs"].batch(number) for number in range(options.batches)]
    functions = {name: generator(pairs) for name, pairs in named.items()}
    functions[f"step, cpu, {threads} threads"] = step("cpu", batches)
    if torch.cuda.is_available():
        functions[f"step, {torch.cuda.get_device_name()}"] = step("cuda", batches)
    found = rates(functions, options.batches, options.rounds)
    table = PrettyTable(["", "spectra/s", "in units of the simulated pairs' rate"], align="r")
    for name, rate in found.items():
        table.add_row([name, f"{rate:.0f}", f"{rate / found['simulated pairs']:.2f}"])
    lengths = np.mean([batch["counts"].shape[-1] for batch in batches])
    print(f"mean length of the step's batches: {lengths:.0f} channels")
    print(table)
    if options.recipe:
        model = models.load(options.model)
        print(f"EELSpecNet's recipe, {options.recipe} spectra, model {model.name}")
        print(recipe_table(options.recipe, model))


if __name__ == "__main__":
    main()
