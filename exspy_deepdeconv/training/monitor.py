"""How a training run is watched: held-out errors, a log and a figure that grow with it."""

import csv
import os
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from ..bounds.oracles import oracle_richardson_lucy
from ..estimate.batched import deconvolve_block
from ..evaluate import errors
from ..models import Model
from ..physics import default_resolution, prepare
from ..simulate import simulate
from .batches import tensors, to_spectra
from .loss import training_loss

# Batches from this number on are held out: no run comes so far.
HELD_OUT = 2**40
# With three numbers, the last not 0, no seed of a training batch (two) or of a benchmark (two) is
# the same.
SCENE_SEED = 20_220_312
SCENES = ("vibrational", "plasmonic", "gap", "doublet", "bulk")
CHANNELS = 1024
COLUMNS = ("step", "minutes", "learning_rate", "gradient", "spectra_per_s", "loss", "loss_error",
           "near_error", "sqrt_error", "response_error", "tail_error", "held_out_loss",
           *SCENES)  # fmt: skip


class Monitor:
    """Scores a network on what it is not trained on.

    Parameters
    ----------
    pairs : object with a ``batch(number)`` method
        The run's own source; its batches from `HELD_OUT` on are the held-out ones.
    batches, cases : int
        Number of held-out batches, and of simulated spectra in each scene (0: none).
    device : str
        Where the network lies.
    """

    def __init__(self, pairs, batches, cases, device):
        self.pairs, self.batches, self.cases, self.device = pairs, batches, cases, device

    def scores(self, network):
        """Held-out loss, and for each scene the loss error in units of the oracle's.

        Parameters
        ----------
        network : DeconvolutionNet
            In any mode; not changed.

        Returns
        -------
        dict of str to float
            ``held_out_loss`` (`training_loss`, mean over the batches); for each scene the
            median over its cases of blind loss error over that of Richardson-Lucy told the
            exact response and stopped at its best (`oracles.oracle_richardson_lucy`).
        """
        losses = [self._loss(network, batch) for batch in self._held_out]
        scores = {"held_out_loss": float(np.mean(losses))} if losses else {}
        model = Model("in training", "", network, {})
        for scene, cases in self._scenes.items():
            ratios = [loss_error(model, self.device, *case) / oracle for *case, oracle in cases]
            scores[scene] = float(np.median(ratios))
        return scores

    @torch.no_grad()
    def _loss(self, network, batch):
        return float(training_loss(network(to_spectra(batch)), batch)[0])

    @cached_property
    def _held_out(self):
        numbers = range(HELD_OUT, HELD_OUT + self.batches)
        return [tensors(self.pairs.batch(number), self.device) for number in numbers]

    @cached_property
    def _scenes(self):
        if not self.cases:
            return {}
        return {
            scene: [
                (*case, oracle_richardson_lucy(*case).loss)
                for case in fixed_cases(partial(simulation_of, scene), number, self.cases)
            ]
            for number, scene in enumerate(SCENES)
        }


def simulation_of(scene, rng):
    """One spectrum of a scene, as it is scored."""
    return simulate(scene, rng, CHANNELS)


def loss_error(model, device, simulation, resolution):
    """The blind loss error of a model, which runs on the device."""
    estimate = deconvolve_block(
        simulation.counts, model=model, resolution=resolution, device=device
    )[0]
    return errors(estimate, simulation, resolution).loss


def fixed_cases(make, scene, number):
    """Yield the fixed spectra of a scene: simulation and resolution in channels.

    Parameters
    ----------
    make : callable
        ``make(rng)`` gives a `~exspy_deepdeconv.simulate.Simulation`.
    scene : int
        Number of the scene, for its seed.
    number : int
        How many spectra.
    """
    rng = np.random.default_rng([SCENE_SEED, scene, 1])
    while number:
        simulation = make(rng)
        width = float(prepare(simulation.counts)[1].fwhm)
        if np.isfinite(width):
            number -= 1
            yield simulation, default_resolution(width)


def _step_of(row):
    """The step of a row of the log; infinite where a power cut has left something that is no number."""
    try:
        return [float(row[name]) for name in COLUMNS if name == "step" or row.get(name)][0]
    except (TypeError, ValueError):
        return np.inf


class Log:
    """The CSV file of a run and the figure drawn of it.

    Parameters
    ----------
    folder : str or pathlib.Path
        Holds ``log.csv`` and ``log.png`` (the latter only where matplotlib and HyperSpy are installed).
    step : int
        Where the run goes on: later rows, of a run that was killed, are dropped.
    """

    def __init__(self, folder, step=0):
        self.path = Path(folder) / "log.csv"
        kept = [row for row in self.rows() if _step_of(row) <= step]
        # Steps after the last checkpoint are done again, and logged again.
        self._replace("w", lambda file: self._write(file, kept), self.path)

    def rows(self):
        """The rows as dictionaries of text; a column without a value holds an empty one."""
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            return list(csv.DictReader(file))

    def add(self, row):
        """Append a row: numbers, keyed by some of `COLUMNS`."""
        text = {
            key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()
        }
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, restval="").writerow(text)

    def draw(self):
        """Draw the figure anew; without matplotlib and HyperSpy, do nothing."""
        try:
            from matplotlib.figure import Figure

            from ..plotting import plot_training_history
        except ImportError:
            return
        rows = self.rows()
        if not rows:
            return
        figure = Figure(figsize=(10, 7), layout="constrained")
        plots = (
            ("loss", "held_out_loss"),
            SCENES,
            ("learning_rate", "gradient"),
            ("spectra_per_s",),
        )
        for ax, names in zip(figure.subplots(2, 2).flat, plots, strict=True):
            there = [name for name in names if any(row.get(name) for row in rows)]
            ax.set_visible(bool(there))  # of no scored scenes there is nothing to see
            if there:
                plot_training_history(self.path, ax, columns=there, log=False)
            if names != plots[0]:  # the loss is a logarithm, and mostly negative
                ax.set_yscale("log")
        figure.axes[0].set_title("loss")
        figure.axes[1].set_title("loss error / oracle Richardson-Lucy")
        path = self.path.with_suffix(".png")
        self._replace("wb", lambda file: figure.savefig(file, format="png", dpi=100), path)

    @staticmethod
    def _write(file, rows):
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)

    @staticmethod
    def _replace(mode, write, path):
        """Whoever looks at the file while it is written sees the old one or the new one."""
        part = path.with_suffix(".part")
        with open(part, mode) as file:
            write(file)
        os.replace(part, path)
