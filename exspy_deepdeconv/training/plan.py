"""The settings of a training run, its schedule of learning rates, and where its checkpoint lies."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._arguments import check_bool, is_real, is_whole

CHECKPOINT = "checkpoint.pt"  # in the folder of a run
FEWEST = dict.fromkeys(("steps", "log_every", "evaluate_every"), 1) | dict.fromkeys(
    ("seed", "warmup", "workers", "held_out", "cases", "patience"), 0
)
NUMBERS = ("learning_rate", "weight_decay", "clip", "ema", "checkpoint_minutes", "keep_start")


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
        AdamW's weight decay (Muon has its own), largest gradient norm, decay of the averaged weights.
    muon : bool
        Let Muon move the convolution kernels: see `optimiser`. It learns faster than AdamW for the
        first thousands of steps; no bundled weights were made with it.
    bf16 : bool
        Run the convolutions in bfloat16, on a graphics card. (Few CPUs have it; on the others it
        is far slower.)
    workers : int
        Processes that draw batches.
    checkpoint_minutes : float
        Time between checkpoints.
    log_every : int
        Steps between lines of the log.
    evaluate_every : int
        Steps between scores on held-out data.
    held_out, cases : int
        Held-out batches, and simulated spectra of each scene, that are scored.
    keep_start : float
        Share of the weights started from in the weights that come out: between both ends of a
        straight line lie networks that know the new and have not forgotten the old (Wortsman et
        al., "Robust fine-tuning of zero-shot models", CVPR 2022). The training itself is as without.
    patience : int
        Scores in a row that may bring no lower held-out loss before the training ends; the weights
        with the lowest are kept. 0: it never ends early, and the last weights are kept.

    Examples
    --------
    >>> from exspy_deepdeconv.training import Plan
    >>> Plan(steps=500).learning_rate
    0.001
    """

    steps: int = 20_000
    seed: int = 2021
    learning_rate: float = 1e-3
    warmup: int = 500
    weight_decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    muon: bool = False
    bf16: bool = True
    workers: int = 1
    checkpoint_minutes: float = 5.0
    log_every: int = 100
    evaluate_every: int = 1000
    held_out: int = 8
    cases: int = 8
    keep_start: float = 0.0
    patience: int = 0

    def __post_init__(self):
        """Refuse what cannot be trained with."""
        for name, least in FEWEST.items():
            value = getattr(self, name)
            if not (is_whole(value) and value >= least):
                raise ValueError(f"{name}={value!r} must be a whole number from {least}.")
            self._keep(name, int(value))
        for name in NUMBERS:
            value = getattr(self, name)
            if not is_real(value):
                raise ValueError(f"{name}={value!r} must be a number.")
            self._keep(name, float(value))
        for name in ("muon", "bf16"):
            check_bool(name, getattr(self, name))
            self._keep(name, bool(getattr(self, name)))
        if not self.learning_rate > 0 or not self.clip > 0 or not 0 <= self.ema < 1:
            raise ValueError(
                f"learning_rate={self.learning_rate!r} and clip={self.clip!r} must be positive, "
                f"ema={self.ema!r} at least 0 and below 1."
            )
        if not self.weight_decay >= 0 or not self.checkpoint_minutes >= 0:
            raise ValueError(
                f"weight_decay={self.weight_decay!r} and "
                f"checkpoint_minutes={self.checkpoint_minutes!r} must be at least 0."
            )
        if not 0 <= self.keep_start <= 1:
            raise ValueError(f"keep_start={self.keep_start!r} must be between 0 and 1.")
        if self.patience and not self.held_out:
            raise ValueError(f"patience={self.patience!r} needs held-out batches: held_out=0.")

    def _keep(self, name, value):
        """Keep a number of NumPy as one of Python: neither checkpoint nor weights file can hold it."""
        object.__setattr__(self, name, value)


def learning_rate(plan, step, spent=0.0):
    """Linear warm-up, then half a cosine down to a fiftieth; ``spent`` is the share of the time.

    Examples
    --------
    >>> from exspy_deepdeconv.training import Plan
    >>> from exspy_deepdeconv.training.plan import learning_rate
    >>> plan = Plan(steps=100, warmup=10, learning_rate=1e-3)
    >>> [round(learning_rate(plan, step), 6) for step in (0, 9, 99)]
    [0.0001, 0.001, 2e-05]
    """
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(plan.steps - plan.warmup, 1)
    progress = min(max(progress, spent), 1)
    # A plain float: the optimiser keeps it, and a checkpoint is read without unpickling objects.
    return float(plan.learning_rate * (0.02 + 0.49 * (1 + np.cos(np.pi * progress))))


def refuse_checkpoint(folder):
    """Raise a FileExistsError where an earlier run left its checkpoint: nothing is trained over."""
    if (Path(folder).expanduser() / CHECKPOINT).exists():
        raise FileExistsError(f"{folder} holds a checkpoint: resume, or choose another folder.")
