"""The training loop: plain torch, from seeds to a weights file.

Runs where only torch, numpy, scipy and safetensors are installed. Batch ``n`` depends on the seed
and ``n`` alone, checkpoints are written atomically, and a resumed run goes on where it stopped.
"""

import argparse
import copy
import csv
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..inference import flushes_denormals
from ..instruments import read_response
from ..models import save_model
from ..network import Config, DeconvolutionNet, Spectra
from .loss import training_loss
from .pairs import SimulatedPairs


@dataclass(frozen=True)
class Plan:
    """Settings of a training run (stored with the weights).

    Attributes
    ----------
    steps : int
        Number of batches.
    seed : int
        Seed of the weights and of the simulated data.
    learning_rate : float
        Highest learning rate of the cosine schedule.
    warmup : int
        Steps until it is reached.
    weight_decay, clip, ema : float
        AdamW's weight decay, largest gradient norm, decay of the averaged weights.
    bf16 : bool
        Run the convolutions in bfloat16.
    workers : int
        Processes that draw batches.
    checkpoint_minutes : float
        Time between checkpoints.
    log_every : int
        Steps between lines of the log.
    """

    steps: int = 20_000
    seed: int = 2021
    learning_rate: float = 2e-3
    warmup: int = 500
    weight_decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    bf16: bool = True
    workers: int = 1
    checkpoint_minutes: float = 5.0
    log_every: int = 100


class _Batches(torch.utils.data.Dataset):
    def __init__(self, pairs, start, stop):
        self.pairs, self.start, self.stop = pairs, start, stop

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, index):
        batch = self.pairs.batch(self.start + index)
        return {key: torch.from_numpy(value) for key, value in batch.items()}


def _leave_sigterm_to_parent(_):
    """A SIGTERM to the whole group must not kill the workers before the checkpoint is written."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def learning_rate(plan, step):
    """Linear warm-up, then half a cosine down to a fiftieth."""
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(plan.steps - plan.warmup, 1)
    # A plain float: the optimiser keeps it, and a checkpoint is read without unpickling objects.
    return float(plan.learning_rate * (0.02 + 0.49 * (1 + np.cos(np.pi * min(progress, 1)))))


def train(plan, folder, *, pairs=None, config=None, init=None, resume=True, name="model"):
    """Train a network and save it as safetensors.

    Parameters
    ----------
    plan : Plan
        The settings.
    folder : str or pathlib.Path
        Where checkpoint, log and weights go.
    pairs : object with a ``batch(number)`` method, optional
        Source of the training batches; simulated pairs of the plan's seed by default.
    config : Config, optional
        The network's.
    init : DeconvolutionNet, optional
        Start from these weights.
    resume : bool
        Go on from a checkpoint found in ``folder``.
    name : str
        Name of the model and stem of its file.

    Returns
    -------
    pathlib.Path
        The weights file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(plan.seed)
    network = (DeconvolutionNet(config) if init is None else copy.deepcopy(init)).to(device)
    network.requires_grad_(True).train()  # a loaded model is frozen
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=plan.weight_decay)
    state = _State(network, average, optimiser, folder / "checkpoint.pt")
    if resume:
        state.load(device)
    pairs = SimulatedPairs(plan.seed) if pairs is None else pairs
    loader = torch.utils.data.DataLoader(
        _Batches(pairs, state.step, plan.steps),
        batch_size=None,
        num_workers=plan.workers,
        prefetch_factor=4 if plan.workers else None,
        worker_init_fn=_leave_sigterm_to_parent,
    )
    stop = []
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    flushing = flushes_denormals()
    torch.set_flush_denormal(True)  # a network on a CPU is several times slower with denormals
    saved = shown = time.monotonic()
    sums = {}
    try:
        for batch in loader:
            parts = _step(state, plan, batch, device)
            for key, value in parts.items():
                sums.setdefault(key, []).append(value)
            now = time.monotonic()
            if state.step % plan.log_every == 0:
                _log(folder / "log.csv", state.step, plan, sums, len(sums["loss"]) / (now - shown))
                sums, shown = {}, now
            if now - saved > 60 * plan.checkpoint_minutes or stop:
                state.save()
                saved = now
            if stop:
                raise SystemExit(f"stopped at step {state.step}; run again to go on")
    finally:
        signal.signal(signal.SIGTERM, previous)
        torch.set_flush_denormal(flushing)
    state.save()
    return save_model(
        average, folder / f"{name}.safetensors", name=name, provenance={"plan": asdict(plan)}
    )


def _step(state, plan, batch, device):
    batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(plan, state.step)
    with torch.autocast(device, torch.bfloat16, enabled=plan.bf16):
        answer = state.network(to_spectra(batch))
    guide = max(1 - state.step / (3 * plan.warmup), 0.0)
    loss, parts = training_loss(answer, batch, guide)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), plan.clip)
    if torch.isfinite(norm):
        state.optimiser.step()
    decay = min(plan.ema, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for mean, value in zip(state.average.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
    state.step += 1
    return parts | {"loss": float(loss.detach()), "gradient": float(norm)}


def to_spectra(batch):
    """The network's input from a batch dictionary."""
    keys = ("counts", "position", "fwhm", "gain", "floor", "psf", "has_psf")
    return Spectra(**{key: batch.get(key) for key in keys})


@dataclass
class _State:
    network: torch.nn.Module
    average: torch.nn.Module
    optimiser: torch.optim.Optimizer
    path: Path
    step: int = 0

    def save(self):
        part = self.path.with_suffix(".part")
        torch.save(
            {
                "step": self.step,
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
            part,
        )
        os.replace(part, self.path)

    def load(self, device):
        if not self.path.exists():
            return
        saved = torch.load(self.path, map_location=device, weights_only=True)
        self.step = saved["step"]
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])


def _log(path, step, plan, sums, rate):
    row = {"step": step, "learning_rate": learning_rate(plan, step), "batches_per_s": rate}
    row |= {key: float(np.mean(values)) for key, values in sums.items()}
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
    print(json.dumps({k: float(f"{v:.4g}") for k, v in row.items()}), flush=True)


def main(arguments=None):
    """Command line: ``python -m exspy_deepdeconv.training.loop --folder runs/v1``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--name", default="lowloss-v1")
    parser.add_argument("--init", help="weights file to start from")
    parser.add_argument("--measured", nargs="*", default=[], help="files of zero-loss peaks")
    defaults = asdict(Plan())
    for key, value in defaults.items():
        kind = (
            (lambda text: text.lower() in ("1", "true", "yes"))
            if value in (True, False)
            else type(value)
        )
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, default=value)
    options = vars(parser.parse_args(arguments))
    folder, name, init, measured = (
        options.pop(key) for key in ("folder", "name", "init", "measured")
    )
    if init:
        from ..models import load

        init = load(init).network
    plan = Plan(**options)
    pairs = SimulatedPairs(plan.seed, measured=tuple(read_response(path) for path in measured))
    print(train(plan, folder, pairs=pairs, config=Config(), init=init or None, name=name))


if __name__ == "__main__":
    main()
