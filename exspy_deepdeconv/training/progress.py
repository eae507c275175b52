"""What a training run tells while it goes on, and what it is told: bar, log, signals to stop."""

import json
import signal
import threading
import warnings
from contextlib import contextmanager, nullcontext

import numpy as np


class Steps:
    """The steps since the last line of the log."""

    def __init__(self, start):
        self.start, self.spectra, self.parts = start, 0, {}

    def add(self, parts, spectra):
        """Note the parts of a step's loss and its number of spectra."""
        self.spectra += spectra
        for key, value in parts.items():
            self.parts.setdefault(key, []).append(value)

    def means(self, now):
        """Their rate and the means of the parts."""
        rate = {"spectra_per_s": self.spectra / (now - self.start)}
        return rate | {key: float(np.mean(values)) for key, values in self.parts.items()}


def progress_bar(plan, state, minutes, show):
    """A bar over the steps, or over the seconds of a run that ends by the clock."""
    try:
        from tqdm.auto import tqdm
    except ImportError:  # a bare node
        return _NoBar()
    # Not wrapped around the batches: tqdm.auto would start the worker processes twice.
    return tqdm(
        total=round(60 * minutes) if minutes else plan.steps,
        initial=round(state.seconds) if minutes else state.step,
        unit="s" if minutes else "step",
        desc="training",
        disable=None if show is None else not show,
    )


class _NoBar(nullcontext):
    """In the place of tqdm's bar."""

    n = 0

    def update(self, _):
        """So much more is done."""

    def set_postfix(self, **_):
        """What is shown beside it."""


def record(log, row, bar, echo):
    """Add a row to the log; its loss is shown beside the bar, and all of it handed to ``echo``."""
    log.add(row)
    bar.set_postfix(loss=row["loss"])
    if echo:
        echo(json.dumps({key: float(f"{value:.4g}") for key, value in row.items()}))


def warn_of_few_steps(plan, steps, minutes, name, stacklevel):
    """Say that the time (``minutes``, if it is limited) was over before the warm-up was."""
    if minutes and steps < min(plan.warmup, plan.steps):
        made = "1 step" if steps == 1 else f"{steps} steps"
        warnings.warn(
            f"{name}: the time was over after {made}, within the warm-up ({plan.warmup} steps): next to "
            f"nothing can have been learned. Give it more than {minutes:.3g} minutes.",
            UserWarning,
            stacklevel=stacklevel,
        )


@contextmanager
def stop_signals():
    """A list that holds the signal, once the process was told to stop: the step is finished first."""
    told = []
    if threading.current_thread() is not threading.main_thread():
        yield told  # only the main thread hears signals
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(kind, lambda number, _: told.append(number)) for kind in kinds]
    try:
        yield told
    finally:
        for kind, handler in zip(kinds, previous, strict=True):
            signal.signal(kind, handler)


def stop(number, step):
    """End the run as such a signal does, with words that tell how to go on."""
    words = f"stopped at step {step}; run again to go on"
    raise KeyboardInterrupt(words) if number == signal.SIGINT else SystemExit(words)
