"""Figures of spectra and maps before and after deconvolution.

The functions take and return matplotlib axes. Colours are those of Okabe and Ito, which people
with a colour vision deficiency can tell apart.
"""

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
        if spectrum.axes_manager.navigation_size > 1:
            raise ValueError(f"{label!r} must be a single spectrum; choose one with .inav.")
        axis = spectrum.axes_manager.signal_axes[0]
        energy, counts = axis.axis, np.ravel(spectrum.data)
        if energy_range is not None:
            inside = (energy >= energy_range[0]) & (energy <= energy_range[1])
            energy, counts = energy[inside], counts[inside]
        # The truth is drawn thin and dashed, so that what lies under it is still seen.
        style = {"ls": "--", "lw": 1.2} if label == "truth" else {"lw": 1.6}
        colour = COLOURS.get(label) or next(others)
        ax.plot(energy, counts, label=label, color=colour, **style)
        shown.append(counts)
    if log:
        ax.set_yscale("log")
        ax.set_ylim(*_log_limits(shown))
    ax.set_xlabel(f"{axis.name} ({axis.units})")
    ax.set_ylabel("Counts")
    ax.legend(frameon=False)
    return ax


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
    bottom.set_xlabel(top.get_xlabel())
    top.set_xlabel("")
    top.tick_params(labelbottom=False)
    colours = {line.get_label(): line.get_color() for line in top.lines}
    reach = 5.0
    bottom.axhspan(-1, 1, color="0.9", zorder=0)
    for label, residual in residuals.items():
        axis = residual.axes_manager.signal_axes[0]
        energy, values = axis.axis, np.ravel(residual.data)
        if energy_range is not None:
            inside = (energy >= energy_range[0]) & (energy <= energy_range[1])
            energy, values = energy[inside], values[inside]
        bottom.plot(energy, values, color=colours.get(label), lw=0.8, label=label)
        finite = np.abs(values[np.isfinite(values)])
        if finite.size:  # the core of the zero-loss peak does not set the scale
            reach = max(reach, 1.3 * float(np.quantile(finite, 0.95)))
    bottom.set_ylim(-reach, reach)
    bottom.set_ylabel("Residual (noise)")
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
