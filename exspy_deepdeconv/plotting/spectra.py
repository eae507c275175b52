"""Spectra over each other, with their intervals and with what they leave unexplained."""

import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.axes_grid1 import make_axes_locatable

from ._curves import (
    COLOURS,
    OTHER_COLOURS,
    any_positive,
    below_sight,
    beyond_the_core,
    curve,
    energy_label,
    in_units_of,
    log_limits,
    residual_reach,
)

ROUNDING = 1e-5  # relative, by which bounds in single precision may be exchanged


def plot_spectra(spectra, ax=None, *, energy_range=None, log=True):
    """Plot spectra over each other.

    Parameters
    ----------
    spectra : dict of str to EELSSpectrum
        Single spectra and their labels; ``"measured"``, ``"deconvolved"`` and ``"truth"`` have
        colours of their own. All are drawn in the units of the first one.
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
        If there is none, a signal holds more than one spectrum, or their energies have different
        units that are not all energies.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.exciton_spectrum()
    >>> ax = plotting.plot_spectra({"measured": s, "truth": data.truth(s, 0.04)})
    >>> ax.get_xlabel()
    'Energy loss (eV)'
    """
    if not (isinstance(spectra, dict) and spectra):
        raise ValueError("spectra must be a dictionary of labels and spectra, with one or more.")
    first = next(iter(spectra.values()))
    spectra = {label: in_units_of(first, s, label) for label, s in spectra.items()}
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    others = iter(OTHER_COLOURS * len(spectra))
    shown = []
    for label, spectrum in spectra.items():
        energy, counts = curve(spectrum, label, energy_range)
        # The truth is drawn thin and dashed, so that what lies under it is still seen.
        style = {"ls": "--", "lw": 1.2} if label == "truth" else {"lw": 1.6}
        colour = COLOURS.get(label) or next(others)
        ax.plot(energy, counts, label=label, color=colour, **style)
        shown.append(counts)
    if log and any_positive(shown):
        ax.set_yscale("log")
        floor, top = log_limits(shown)
        ax.set_ylim(floor, top)
        for line in list(ax.lines):
            if (dots := below_sight(line.get_ydata(), floor)) is not None:
                ax.plot(line.get_xdata(), dots, ls=":", lw=2.5, color=line.get_color())
    ax.set_xlabel(energy_label(first))
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
        If a signal holds more than one spectrum, their lengths differ, or ``lower`` is above ``upper``.

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
    curves = {name: curve(signal, name, energy_range) for name, signal in curves.items()}
    lengths = {name: counts.size for name, (_, counts) in curves.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"result, lower and upper must have the same energies: {lengths}.")
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    energy, counts = curves["result"]
    low, high = curves["lower"][1], curves["upper"][1]
    _check_order(low, high)
    limits = ax.get_ylim() if ax.lines else None
    colour = COLOURS.get(label, COLOURS["deconvolved"])
    confidence = result.metadata.get_item("Signal.deep_deconvolution.confidence")
    share = "" if confidence is None else f"{100 * confidence:g} % "
    if label not in ax.get_legend_handles_labels()[1]:  # plot_spectra may have drawn it
        ax.plot(energy, counts, label=label, color=colour, lw=1.6)
    if log and any_positive([counts, high]):
        ax.set_yscale("log")
        floor, top = log_limits([counts, high])
        # On a logarithmic scale a bound of zero lies nowhere: the band ends below the figure.
        low = np.maximum(low, 1e-3 * floor)
        ax.set_ylim(
            min(floor, limits[0]) if limits else floor, max(top, limits[1] if limits else 0)
        )
    band = f"{share}interval"
    ax.fill_between(energy, low, high, color=colour, alpha=0.25, lw=0, label=band, zorder=1.5)
    ax.set_xlabel(energy_label(result))
    ax.set_ylabel("Counts")
    ax.legend(frameon=False)
    return ax


def _check_order(low, high):
    """Raise a ValueError where a lower bound is above the upper one by more than rounding."""
    rounding = ROUNDING * np.maximum(np.abs(low), np.abs(high))
    above = int((low - high > rounding).sum())  # not so where they are unknown
    if above:
        raise ValueError(
            f"lower is above upper in {above} of {low.size} channels: were the two exchanged?"
        )


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
        explains the data. The vertical scale leaves out what lies within two widths of the
        zero-loss peak, where misfits of many counts dwarf all others.

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
    energy, values = curve(residual, label, energy_range)
    if ax is None:
        _, ax = plt.subplots(layout="constrained", figsize=(6.4, 2.4))
    reach = residual_reach(np.asarray(values[beyond_the_core(residual, energy)], float))
    if ax.lines:
        reach = max(reach, ax.get_ylim()[1])
    else:
        ax.axhspan(-1, 1, color="0.9", zorder=0)
    colour = colour or COLOURS.get(label, COLOURS["deconvolved"])
    ax.plot(energy, values, color=colour, lw=0.8, label=label)
    ax.set_ylim(-reach, reach)
    ax.set_xlabel(energy_label(residual))
    ax.set_ylabel("Residual (noise)")
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
    bottom.set(xlabel=top.get_xlabel(), ylabel="Residual (noise)")  # also where there is none
    top.set_xlabel("")
    top.tick_params(labelbottom=False)
    colours = {line.get_label(): line.get_color() for line in top.lines}
    first = next(iter(spectra.values()))
    for label, residual in residuals.items():
        residual = in_units_of(first, residual, label)
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
