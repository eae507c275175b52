"""How a network was trained, and whether its intervals hold what they promise."""

import csv
from contextlib import suppress
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ._curves import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    OTHER_COLOURS,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
)

HISTORY = ("loss_error", "near_error", "sqrt_error")  # columns of a training log


def plot_calibration(nominal, observed, ax=None):
    """Plot how often the truth lies inside intervals, against how often it should.

    Parameters
    ----------
    nominal : array_like
        Shares that the intervals are to cover, from 0 to 1, rising.
    observed : array_like or dict of str to array_like
        Shares of the truth found inside, for each of ``nominal``; several curves with their
        labels.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
        In per cent. Above the dashed diagonal the intervals are wider than they need be, below it
        they promise too much.

    Raises
    ------
    ValueError
        If a share is not from 0 to 1, or the lengths differ.

    Examples
    --------
    >>> from exspy_deepdeconv import plotting
    >>> ax = plotting.plot_calibration([0.5, 0.8, 0.9], {"gap": [0.52, 0.79, 0.91]})
    >>> ax.get_ylabel()
    'Observed coverage (%)'
    """
    curves = observed if isinstance(observed, dict) else {"observed": observed}
    nominal = _shares(nominal, "nominal", np.size(nominal))
    curves = {label: _shares(curve, label, nominal.size) for label, curve in curves.items()}
    if ax is None:
        _, ax = plt.subplots(layout="constrained", figsize=(4.2, 4.2))
    ax.plot([0, 100], [0, 100], color="0.4", ls="--", lw=1, label="ideal")
    colours = (BLUE, VERMILLION, *OTHER_COLOURS)
    markers = "osD^vPX"
    for number, (label, curve) in enumerate(curves.items()):
        style = {"color": colours[number % len(colours)], "marker": markers[number % len(markers)]}
        ax.plot(100 * nominal, 100 * curve, lw=1.4, ms=5, label=label, **style)
    ax.set(xlabel="Nominal coverage (%)", ylabel="Observed coverage (%)")
    ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    ax.legend(frameon=False)
    return ax


def plot_training_history(path, ax=None, *, columns=None, log=True):
    r"""Plot how the errors fell while a network was trained.

    Parameters
    ----------
    path : str or pathlib.Path
        The log of a training run, or the folder that holds its ``log.csv``.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.
    columns : str or sequence of str, optional
        Columns of the log to show, for instance ``("loss", "held_out_loss")`` with ``log=False``:
        a loss is a logarithm and may be negative. By default the relative errors ``loss_error``,
        ``near_error`` and ``sqrt_error`` of the training spectra, as far as the log has them.
    log : bool
        Logarithmic values.

    Returns
    -------
    matplotlib.axes.Axes
        Columns that only some lines have (held-out spectra) are drawn with markers. Of a step
        that was done twice, because the run went on from a checkpoint, the later line counts. Lines
        that a power cut has spoiled are left out.

    Raises
    ------
    ValueError
        If the file is no such log, lacks a column, or a logarithm of negative values is asked for.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from exspy_deepdeconv import plotting
    >>> log = Path(tempfile.mkdtemp(), "log.csv")
    >>> _ = log.write_text("step,loss_error,loss\n100,0.9,2.1\n200,0.5,-0.3\n")
    >>> ax = plotting.plot_training_history(log)
    >>> ax.lines[0].get_ydata().tolist()
    [0.9, 0.5]
    """
    path = Path(path)
    path = path / "log.csv" if path.is_dir() else path
    history = _read_history(path)
    if columns is None:
        columns = [name for name in HISTORY if name in history]
    columns = [columns] if isinstance(columns, str) else columns
    missing = [name for name in columns if name not in history]
    if missing or not columns:
        raise ValueError(f"columns={missing or columns}: {path} has {', '.join(history)}.")
    negative = [name for name in columns if (history[name] <= 0).any()]
    if log and negative:
        raise ValueError(f"columns={negative} are not positive everywhere: use log=False.")
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    colours = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY_BLUE, BLACK)
    for number, name in enumerate(columns):
        known = np.isfinite(history[name])  # held-out spectra are not looked at in every line
        # A single point has no line.
        style = {} if known.all() and known.size > 1 else {"marker": "o", "ms": 4}
        ax.plot(
            history["step"][known],
            history[name][known],
            label=name.replace("_", " "),
            color=colours[number % len(colours)],
            lw=1.2,
            **style,
        )
    if log:
        ax.set_yscale("log")
    kinds = {name.rpartition("_")[2] for name in columns}
    labels = {"error": "Relative error", "loss": "Loss"}
    ax.set_xlabel("Training step")
    ax.set_ylabel(labels.get(kinds.pop(), "Value") if len(kinds) == 1 else "Value")
    ax.legend(frameon=False)
    return ax


def _read_history(path):
    """Columns of a training log as arrays; NaN where a line lacks a value."""
    rows = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            with suppress(KeyError, ValueError):  # what a power cut has spoiled, and other files
                numbers = {name: float(value or "nan") for name, value in row.items() if name}
                rows[numbers["step"]] = numbers
    rows = [rows[step] for step in sorted(rows) if np.isfinite(step)]
    if not rows:
        raise ValueError(f"{path} is no log of a training run: it holds no line with a step.")
    return {name: np.array([row[name] for row in rows]) for name in rows[-1]}


def _shares(values, name, size):
    values = np.atleast_1d(np.asarray(values, float))
    if values.shape != (size,):
        raise ValueError(f"{name} must hold {size} shares, one for each of nominal: {values}.")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} must be shares from 0 to 1, not {values}.")
    return values
