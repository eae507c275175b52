"""What changes during a training run, and its checkpoint."""

import copy
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .optimiser import optimisers
from .plan import Plan

# Settings that a run must go on with: its card tells one value of each.
KEPT = ("seed", "learning_rate", "warmup", "weight_decay", "clip", "ema", "keep_start")
MOST_LOST = 20  # steps in a row whose loss may be no number: they change no weights


@dataclass
class TrainingState:
    """Everything that changes during a run."""

    network: torch.nn.Module
    plan: Plan
    warm: bool
    path: Path
    data: str = ""
    init: str | None = None  # name and hash of the weights started from
    step: int = 0
    seconds: float = 0.0
    lost: int = 0
    scores: dict = field(default_factory=dict)  # "before" and "after"
    best: dict = field(default_factory=dict)

    def __post_init__(self):
        self.network.requires_grad_(True).train()  # a loaded model is frozen
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.start = copy.deepcopy(self.average.state_dict()) if self.plan.keep_start else {}
        self.optimisers = optimisers(self.network, self.plan)

    def outcome(self):
        """The network that the run stands for: averaged, and part of the way back to its start."""
        if not self.start:
            return self.average
        between = copy.deepcopy(self.average)
        for key, value in between.state_dict().items():  # shares memory with the network
            value.lerp_(self.start[key].to(value.device), self.plan.keep_start)
        return between

    def judge(self, scores):
        """Keep the weights with the lowest held-out loss, and their scores."""
        loss = scores.get("held_out_loss")
        # Nothing is lower than what is no number.
        known = self.best and math.isfinite(self.best["loss"])
        if self.plan.patience and (not known or loss < self.best["loss"]):
            weights = copy.deepcopy(self.outcome().state_dict())
            self.best = {"loss": loss, "step": self.step, "weights": weights, "scores": scores}

    def tired(self):
        """Whether the held-out loss has not fallen for too long."""
        waited = self.step - self.best["step"] if self.best else 0
        longest = self.plan.patience * self.plan.evaluate_every
        return bool(longest) and waited >= longest

    def hear(self, loss):
        """Raise a FloatingPointError where losses stay no numbers; a batch may have one by itself."""
        self.lost = 0 if math.isfinite(loss) else self.lost + 1
        if self.lost and self.lost >= min(MOST_LOST, max(self.step // 2, 1)):
            raise FloatingPointError(
                f"At step {self.step} the loss is no number any more; these weights are not saved. "
                f"learning_rate={self.plan.learning_rate:g} may be too high."
            )

    def save(self):
        """Write the checkpoint; the one before stays whole until it is written."""
        part = self.path.with_suffix(".part")
        keys = ("step", "seconds", "warm", "scores", "best", "start", "data")
        saved = {key: getattr(self, key) for key in keys}
        for key in ("network", "average"):
            saved[key] = getattr(self, key).state_dict()
        saved["optimisers"] = [optimiser.state_dict() for optimiser in self.optimisers]
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        saved["plan"] = self._kept()
        saved["random"] = [torch.get_rng_state(), *cuda]
        torch.save(saved, part)
        os.replace(part, self.path)

    def _kept(self):
        """What a run must go on with."""
        return {key: getattr(self.plan, key) for key in KEPT} | {"init": self.init}

    def load(self, device):
        """Go on from the checkpoint, if there is one; a ValueError if it is not of this run."""
        if not self.path.exists():
            return
        try:
            saved = torch.load(self.path, map_location=device, weights_only=True)
            for key in ("network", "average"):
                getattr(self, key).load_state_dict(saved.pop(key))
            for each, state in zip(self.optimisers, saved.pop("optimisers"), strict=True):
                each.load_state_dict(state)
            kept, states = saved.pop("plan"), saved.pop("random")
        except Exception as error:
            raise ValueError(f"{self.path} is not a checkpoint of this run: {error}") from error
        for key, value in kept.items():
            if value != self._kept()[key]:
                raise ValueError(
                    f"{self.path} is of a run with {key}={value!r}, not {self._kept()[key]!r}: "
                    "go on with that, or choose another folder."
                )
        if saved["data"] != self.data:
            raise ValueError(f"{self.path} is of a run on other data: choose another folder.")
        for key, value in saved.items():
            setattr(self, key, value)
        if self.step > self.plan.steps:
            raise ValueError(
                f"{self.path} has gone {self.step} steps, more than steps={self.plan.steps!r}: "
                "ask for as many, or choose another folder."
            )
        torch.set_rng_state(states[0].cpu())
        if len(states) > 1:
            torch.cuda.set_rng_state_all([each.cpu() for each in states[1:]])
