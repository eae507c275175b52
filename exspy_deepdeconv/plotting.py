"""Figures of spectra and maps before and after deconvolution.

The functions take and return matplotlib axes. Colours are those of Okabe and Ito, which people
with a colour vision deficiency can tell apart.
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.axes_grid1 import make_axes_locatable

COLOURS = {
    "measured": "#999999",
    "deconvolved": "#0072B2",
    "truth": "#D55E00",
    "data": "#999999",
    "deep": "#0072B2",
    "rl": "#E69F00",
    "ml": "#56B4E9",
    "fourier": "#009E73",
    "tgv": "#CC79A7",
}
OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
HISTORY = ("loss_error", "near_error", "sqrt_error")  # columns of a training log


def plot_spectra(spectra, ax=None, *, energy_range=None, log=True):
    """Plot spectra over each other.

    Parameters
    ----------
    spectra : dict of str to EELSSpectrum
        Single spectra and their labels; ``"measured"``, ``"deconvolved"`` and ``"truth"`` have
        colours of their own.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.
    energy_range : (float, float), optional
        Part of the energy axis to show, in its units.
    log : bool
        Logarithmic counts.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a signal holds more than one spectrum.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.exciton_spectrum()
    >>> ax = plotting.plot_spectra({"measured": s, "truth": data.truth(s, 0.04)})
    >>> ax.get_xlabel()
    'Energy loss (eV)'
    """
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    others = iter(OTHER_COLOURS * len(spectra))
    shown = []
    for label, spectrum in spectra.items():
        energy, counts = _curve(spectrum, label, energy_range)
        # The truth is drawn thin and dashed, so that what lies under it is still seen.
        style = {"ls": "--", "lw": 1.2} if label == "truth" else {"lw": 1.6}
        colour = COLOURS.get(label) or next(others)
        ax.plot(energy, counts, label=label, color=colour, **style)
        shown.append(counts)
    if log:
        ax.set_yscale("log")
        ax.set_ylim(*_log_limits(shown))
    ax.set_xlabel(_energy_label(spectrum))
    ax.set_ylabel("Counts")
    ax.legend(frameon=False)
    return ax


def plot_interval(
    result, lower, upper, ax=None, *, label="deconvolved", energy_range=None, log=True
):
    """Plot a deconvolved spectrum with the band in which the truth is expected.

    Parameters
    ----------
    result, lower, upper : EELSSpectrum
        Single spectra, as ``deep_deconvolve(return_interval=True)`` returns them.
    ax : matplotlib.axes.Axes, optional
        Where to plot, over what is there (``plot_spectra`` first); a new figure by default.
    label : str
        Of the spectrum; gives the colour, as for `plot_spectra`.
    energy_range : (float, float), optional
        Part of the energy axis to show, in its units.
    log : bool
        Logarithmic counts.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a signal holds more than one spectrum, or their lengths differ.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.exciton_spectrum()
    >>> result, lower, upper = s.deep_deconvolve(return_interval=True, show_progressbar=False)
    >>> ax = plotting.plot_interval(result, lower, upper, energy_range=(1, 3), log=False)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['deconvolved', '90 % interval']
    """
    curves = {"result": result, "lower": lower, "upper": upper}
    curves = {name: _curve(signal, name, energy_range) for name, signal in curves.items()}
    lengths = {name: counts.size for name, (_, counts) in curves.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"result, lower and upper must have the same energies: {lengths}.")
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    energy, counts = curves["result"]
    low, high = curves["lower"][1], curves["upper"][1]
    limits = ax.get_ylim() if ax.lines else None
    colour = COLOURS.get(label, COLOURS["deconvolved"])
    confidence = result.metadata.get_item("Signal.deep_deconvolution.confidence")
    share = "" if confidence is None else f"{100 * confidence:g} % "
    if label not in ax.get_legend_handles_labels()[1]:  # plot_spectra may have drawn it
        ax.plot(energy, counts, label=label, color=colour, lw=1.6)
    if log:
        ax.set_yscale("log")
        floor, top = _log_limits([counts, high])
        # On a logarithmic scale a bound of zero lies nowhere: the band ends below the figure.
        low = np.maximum(low, 1e-3 * floor)
        ax.set_ylim(
            min(floor, limits[0]) if limits else floor, max(top, limits[1] if limits else 0)
        )
    band = f"{share}interval"
    ax.fill_between(energy, low, high, color=colour, alpha=0.25, lw=0, label=band, zorder=1.5)
    ax.set_xlabel(_energy_label(result))
    ax.set_ylabel("Counts")
    ax.legend(frameon=False)
    return ax


def plot_residual(residual, ax=None, *, label="residual", colour=None, energy_range=None):
    """Plot what a result leaves unexplained, in units of the noise.

    Parameters
    ----------
    residual : EELSSpectrum
        A single spectrum from ``deconvolution_residual()``.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.
    label : str
        Of the curve; gives the colour, as for `plot_spectra`.
    colour : str, optional
        Of the curve instead.
    energy_range : (float, float), optional
        Part of the energy axis to show, in its units.

    Returns
    -------
    matplotlib.axes.Axes
        With a grey band from -1 to 1, in which two thirds of the channels lie where the result
        explains the data. The vertical scale leaves out the core of the zero-loss peak where that
        alone is far off.

    Raises
    ------
    ValueError
        If the signal holds more than one spectrum.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.exciton_spectrum()
    >>> result = s.deep_deconvolve(show_progressbar=False)
    >>> residual = s.deconvolution_residual(result, show_progressbar=False)
    >>> plotting.plot_residual(residual).get_ylabel()
    'Residual (noise)'
    """
    energy, values = _curve(residual, label, energy_range)
    if ax is None:
        _, ax = plt.subplots(layout="constrained", figsize=(6.4, 2.4))
    if not ax.lines:
        ax.axhspan(-1, 1, color="0.9", zorder=0)
    colour = colour or COLOURS.get(label, COLOURS["deconvolved"])
    ax.plot(energy, values, color=colour, lw=0.8, label=label)
    shown = [_residual_reach(np.asarray(line.get_ydata(), float)) for line in ax.lines]
    ax.set_ylim(-max(shown), max(shown))
    ax.set_xlabel(_energy_label(residual))
    ax.set_ylabel("Residual (noise)")
    return ax


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
    colours = ("#0072B2", "#D55E00", *OTHER_COLOURS)
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
    columns : sequence of str, optional
        Columns of the log to show, for instance ``("loss", "held_out_loss")`` with ``log=False``:
        a loss is a logarithm and may be negative. By default the relative errors ``loss_error``,
        ``near_error`` and ``sqrt_error`` of the training spectra, as far as the log has them.
    log : bool
        Logarithmic values.

    Returns
    -------
    matplotlib.axes.Axes
        Columns that only some lines have (held-out spectra) are drawn with markers. Of a step
        that was done twice, because the run went on from a checkpoint, the later line counts.

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
    missing = [name for name in columns if name not in history]
    if missing or not columns:
        raise ValueError(f"columns={missing or columns}: {path} has {', '.join(history)}.")
    negative = [name for name in columns if (history[name] <= 0).any()]
    if log and negative:
        raise ValueError(f"columns={negative} are not positive everywhere: use log=False.")
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    colours = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
    for number, name in enumerate(columns):
        known = np.isfinite(history[name])  # held-out spectra are not looked at in every line
        style = {} if known.all() else {"marker": "o", "ms": 4}
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
    with open(path, newline="") as file:
        rows = {row.get("step"): row for row in csv.DictReader(file)}
    rows = sorted((float(step), row) for step, row in rows.items() if step)
    if not rows:
        raise ValueError(f"{path} is no log of a training run: it holds no line with a step.")
    names = [name for name in rows[-1][1] if name]
    return {name: np.array([float(row.get(name) or "nan") for _, row in rows]) for name in names}


def _shares(values, name, size):
    values = np.atleast_1d(np.asarray(values, float))
    if values.shape != (size,):
        raise ValueError(f"{name} must hold {size} shares, one for each of nominal: {values}.")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name} must be shares from 0 to 1, not {values}.")
    return values


def _curve(signal, label, energy_range):
    """Energies and values of a single spectrum."""
    if signal.axes_manager.navigation_size > 1:
        raise ValueError(f"{label!r} must be a single spectrum; choose one with .inav.")
    energy, values = signal.axes_manager.signal_axes[0].axis, np.ravel(signal.data)
    if energy_range is None:
        return energy, np.asarray(values)
    inside = (energy >= energy_range[0]) & (energy <= energy_range[1])
    return energy[inside], np.asarray(values[inside])


def _energy_label(signal):
    axis = signal.axes_manager.signal_axes[0]
    # HyperSpy's value for an unnamed axis is no text.
    name = axis.name if isinstance(axis.name, str) else "Energy loss"
    return f"{name} ({axis.units})" if isinstance(axis.units, str) else name


def _residual_reach(values):
    """Half the height of the axis of a residual: a few channels do not decide it."""
    finite = np.abs(values[np.isfinite(values)])
    return max(5.0, 1.3 * float(np.quantile(finite, 0.95))) if finite.size else 5.0


def plot_comparison(spectra, residuals, ax=None, *, energy_range=None, log=True):
    """Plot spectra over each other, and below what each result leaves unexplained.

    Parameters
    ----------
    spectra : dict of str to EELSSpectrum
        Single spectra and their labels, as for `plot_spectra`.
    residuals : dict of str to EELSSpectrum
        In units of the noise, with the labels of the spectra that they belong to.
    ax : matplotlib.axes.Axes or pair of them, optional
        Where to plot; room for the residuals is taken from a single one. A new figure by default.
    energy_range : (float, float), optional
        Part of the energy axis to show, in its units.
    log : bool
        Logarithmic counts.

    Returns
    -------
    tuple of matplotlib.axes.Axes
        That of the spectra and that of the residuals.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.exciton_spectrum()
    >>> result = s.deep_deconvolve(show_progressbar=False)
    >>> residual = s.deconvolution_residual(result, show_progressbar=False)
    >>> top, bottom = plotting.plot_comparison({"data": s, "deep": result}, {"deep": residual})
    >>> bottom.get_ylabel()
    'Residual (noise)'
    """
    top, bottom = _two_axes(ax)
    plot_spectra(spectra, top, energy_range=energy_range, log=log)
    bottom.set(xlabel=top.get_xlabel(), ylabel="Residual (noise)")  # also where there is none
    top.set_xlabel("")
    top.tick_params(labelbottom=False)
    colours = {line.get_label(): line.get_color() for line in top.lines}
    for label, residual in residuals.items():
        plot_residual(
            residual, bottom, label=label, colour=colours.get(label), energy_range=energy_range
        )
    return top, bottom


def _two_axes(ax):
    """Axes for spectra and, below with the same energies, for residuals."""
    if ax is None:
        figure = plt.figure(layout="constrained")
        return tuple(figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)))
    if isinstance(ax, plt.Axes):
        below = make_axes_locatable(ax).append_axes("bottom", "30%", pad=0.1, sharex=ax)
        return ax, below
    top, bottom = np.ravel(ax)
    return top, bottom


def _log_limits(curves):
    """Limits of logarithmic counts that a few nearly empty channels do not decide."""
    counts = np.concatenate(curves)
    positive = counts[counts > 0]
    if not positive.size:
        return 0.1, 1.0
    top = positive.max()
    return max(0.3 * np.quantile(positive, 0.1), 1e-7 * top), 2 * top


def plot_map(image, ax=None, *, title="", label="Counts"):
    """Show a map with a colour bar and the units of its axes.

    Parameters
    ----------
    image : BaseSignal
        Two-dimensional, for instance ``energy_window(s, 0.2, 0.3)``.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.
    title, label : str
        Text above the map and along the colour bar.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.plasmonic_map(shape=(2, 3), channels=512)
    >>> ax = plotting.plot_map(plotting.energy_window(s, 0.2, 0.3))
    >>> ax.get_xlabel()
    'x (nm)'
    """
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    y, x = image.axes_manager._axes
    extent = (
        x.low_value - x.scale / 2,
        x.high_value + x.scale / 2,
        y.high_value + y.scale / 2,
        y.low_value - y.scale / 2,
    )
    shown = ax.imshow(image.data, cmap="viridis", extent=extent, interpolation="nearest")
    ax.figure.colorbar(shown, ax=ax, label=label, fraction=0.046)
    ax.set(title=title, xlabel=f"{x.name} ({x.units})", ylabel=f"{y.name} ({y.units})")
    return ax


def energy_window(signal, low, high):
    """Map of the counts between two energies.

    Parameters
    ----------
    signal : EELSSpectrum
        A spectrum image.
    low, high : float
        Limits in the units of the energy axis.

    Returns
    -------
    BaseSignal
        Of the navigation shape.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> plotting.energy_window(data.plasmonic_map(shape=(2, 3), channels=512), 0.4, 0.6)
    <Signal2D, title: simulated nanorod, dimensions: (|3, 2)>
    """
    part = signal.isig[float(low) : float(high)]
    return part.sum(part.axes_manager.signal_axes).T


def plot_map_comparison(signals, window, *, place, title=""):
    """Spectra of one pixel and maps of an energy window, before and after, on one figure.

    Parameters
    ----------
    signals : dict of str to EELSSpectrum
        Spectrum images of the same shape and their labels, as for `plot_spectra`.
    window : (float, float)
        Limits of the mapped energies, in the units of the energy axis.
    place : (int, int)
        Column and row of the pixel whose spectra are shown.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.plasmonic_map(shape=(3, 4), channels=512)
    >>> shown = {"measured": s, "truth": data.truth(s, 0.03)}
    >>> figure = plotting.plot_map_comparison(shown, (0.42, 0.54), place=(1, 2))
    """
    low, high = window
    fig = plt.figure(figsize=(3.3 * max(len(signals), 3), 6.4), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(1.1, 1))
    wide, close = top.subplots(1, 2)
    spectra = {label: signal.inav[place] for label, signal in signals.items()}
    plot_spectra(spectra, wide)
    reach = (low - 2 * (high - low), high + 2 * (high - low))
    plot_spectra(spectra, close, energy_range=reach, log=False)
    close.get_legend().remove()
    close.axvspan(low, high, color="0.9", zorder=0)
    wide.set_title(f"pixel {place}")
    close.set_title("near the zero-loss peak (grey: mapped below)")
    for (label, signal), ax in zip(
        signals.items(), np.atleast_1d(bottom.subplots(1, len(signals))), strict=True
    ):
        plot_map(energy_window(signal, low, high), ax, title=label)
    fig.suptitle(title)
    return fig
