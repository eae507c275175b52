"""Maps, and profiles along lines, of the counts between two energies."""

import matplotlib.pyplot as plt
import numpy as np

from .._arguments import is_real, is_whole
from ._curves import axis_label, in_units_of
from .spectra import plot_spectra


def plot_map(image, ax=None, *, title="", label=None):
    """Show a map with a colour bar and the units of its axes; a line scan as a curve.

    Parameters
    ----------
    image : BaseSignal
        Two-dimensional, for instance ``energy_window(s, 0.2, 0.3)``, or that of a line scan.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.
    title : str
        Text above the map.
    label : str, optional
        Text along the colour bar, or of the curve's vertical axis. By default the quantity that the metadata name, else "Counts".

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If it has neither one axis nor two uniform ones.

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
    axes = image.axes_manager._axes
    label = label or image.metadata.Signal.get_item("quantity") or "Counts"
    if len(axes) == 1:
        _draw_line(image, ax, label)
        ax.set_title(title)
        return ax
    if len(axes) != 2 or not all(axis.is_uniform for axis in axes):
        raise ValueError(
            "image must have two uniform axes to be shown as a map, or one to be shown as a curve; it "
            f"has {axes}: use image.plot()."
        )
    y, x = axes
    # From the first pixel on, also where an axis falls: ends in order would mirror the map.
    extent = (
        x.axis[0] - x.scale / 2,
        x.axis[-1] + x.scale / 2,
        y.axis[-1] + y.scale / 2,
        y.axis[0] - y.scale / 2,
    )
    shown = ax.imshow(image.data, cmap="viridis", extent=extent, interpolation="nearest")
    # As high as the map, also if that is long; its width is a share of the longer side.
    width = 0.05 * max(np.ptp(extent[2:]) / np.ptp(extent[:2]), 1)
    beside = ax.inset_axes([1 + width / 2, 0, width, 1])
    ax.figure.colorbar(shown, cax=beside, label=label)
    ax.set(title=title, xlabel=axis_label(x, "x"), ylabel=axis_label(y, "y"))
    return ax


def _draw_line(image, ax, label, **style):
    """Draw the values of a line scan over its positions; they are few enough to be marked."""
    (axis,) = image.axes_manager._axes
    ax.plot(axis.axis, np.asarray(image.data), marker=".", **style)
    ax.set(xlabel=axis_label(axis, "Position"), ylabel=label)


def energy_window(signal, low, high):
    """Map of the counts between two energies.

    Parameters
    ----------
    signal : EELSSpectrum
        A spectrum image or a line scan.
    low, high : float
        Limits in the units of the energy axis. Between energies that hold no channel, the nearest
        one is taken.

    Returns
    -------
    BaseSignal
        Of the navigation shape, of no signal type: without its energies it is no EELSSpectrum.

    Raises
    ------
    ValueError
        If ``low`` and ``high`` are no numbers, ``low`` is not below ``high``, or they lie outside the
        energy axis.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> plotting.energy_window(data.plasmonic_map(shape=(2, 3), channels=512), 0.4, 0.6)
    <Signal2D, title: simulated nanorod, dimensions: (|3, 2)>
    """
    part = _between(signal, low, high)
    image = part.sum(part.axes_manager.signal_axes).T
    image.set_signal_type("")
    return image


def _between(signal, low, high):
    """The channels between two energies; the nearest one where there is none between them."""
    if not (is_real(low) and is_real(high)):
        raise ValueError(f"low={low!r} and high={high!r} must be two energies.")
    if not low < high:
        raise ValueError(f"low={low!r} must be below high={high!r}.")
    axis = signal.axes_manager.signal_axes[0]
    energy, middle = axis.axis, (low + high) / 2
    # As HyperSpy's slices round, also where the energy falls.
    half = 0.5 * abs(axis.scale) if axis.is_uniform else 0.0
    inside = np.flatnonzero((energy > low - half) & (energy < high - half))
    if not inside.size:
        if not energy.min() - half <= middle <= energy.max() + half:
            raise ValueError(
                f"low={low!r} and high={high!r} hold none of the energies, {energy.min():.4g} to "
                f"{energy.max():.4g}."
            )
        inside = [np.abs(energy - middle).argmin()]
    return signal.isig[int(inside[0]) : int(inside[-1]) + 1]


def _check_maps(signals, place):
    """Raise a ValueError unless these are maps, or lines, that hold the pixel ``place``."""
    if not (isinstance(signals, dict) and signals):
        raise ValueError("signals must be a dictionary of labels and maps, with one or more.")
    pixel = np.atleast_1d(np.asarray(place, object))
    for label, signal in signals.items():
        shape = signal.axes_manager.navigation_shape
        if len(shape) not in (1, 2):
            raise ValueError(
                f"{label!r} is no map and no line: {signal!r}. Use plot_spectra for single spectra."
            )
        if pixel.shape != (len(shape),) or not all(map(is_whole, pixel)):  # 1.0 is no pixel
            what = "the column and the row" if len(shape) == 2 else "the number"
            raise ValueError(f"place={place!r} must hold {what} of a pixel of {label!r}.")
        if not all(-size <= i < size for i, size in zip(pixel, shape, strict=True)):
            raise ValueError(f"place={place!r} lies outside of the map {shape} of {label!r}.")


def plot_map_comparison(signals, window, *, place, title=""):
    """Spectra of one pixel and maps of an energy window, before and after, on one figure.

    Of line scans, the counts of the window are drawn as curves over the position.

    Parameters
    ----------
    signals : dict of str to EELSSpectrum
        Spectrum images of the same shape, or line scans, and their labels, as for `plot_spectra`.
    window : (float, float)
        Limits of the mapped energies, in the units of the first energy axis, as for `energy_window`.
    place : (int, int) or int
        Column and row of the pixel whose spectra are shown; its number on a line scan.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If a signal is no map and no line scan or does not hold ``place``, or ``window`` is none of its
        energies.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.plasmonic_map(shape=(3, 4), channels=512)
    >>> shown = {"measured": s, "truth": data.truth(s, 0.03)}
    >>> figure = plotting.plot_map_comparison(shown, (0.42, 0.54), place=(1, 2))
    """
    if np.shape(window) != (2,) or not all(map(is_real, window)):
        raise ValueError(f"window={window!r} must be two energies.")
    low, high = window
    _check_maps(signals, place)
    first = next(iter(signals.values()))
    signals = {label: in_units_of(first, signal, label) for label, signal in signals.items()}
    maps = {label: energy_window(signal, low, high) for label, signal in signals.items()}
    fig = plt.figure(figsize=(3.3 * max(len(signals), 3), 6.4), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(1.1, 1))
    wide, close = top.subplots(1, 2)
    spectra = {label: signal.inav[place] for label, signal in signals.items()}
    plot_spectra(spectra, wide)
    channel = max(
        np.ptp(s.axes_manager.signal_axes[0].axis) / s.data.shape[-1] for s in signals.values()
    )
    reach = 2 * max(high - low, channel)  # a few channels, however narrow the window
    plot_spectra(spectra, close, energy_range=(low - reach, high + reach), log=False)
    close.get_legend().remove()
    close.axvspan(low, high, color="0.9", zorder=0)
    wide.set_title(f"pixel {place}")
    close.set_title("around the mapped energies (grey)")
    # What is mapped sets the scale, whatever the zero-loss peak does beside it.
    top = 2 * max(float(_between(s, low, high).data.max()) for s in spectra.values())
    if top > 0:
        close.set_ylim(0, min(top, close.get_ylim()[1]))
    if first.axes_manager.navigation_dimension == 1:
        colours = {line.get_label(): line.get_color() for line in wide.lines}
        _draw_lines(maps, bottom.subplots(), place, colours)
    else:
        panels = np.atleast_1d(bottom.subplots(1, len(maps)))
        for (label, image), ax in zip(maps.items(), panels, strict=True):
            plot_map(image, ax, title=label, label="Counts")
    fig.suptitle(title)
    return fig


def _draw_lines(images, ax, place, colours):
    """Draw line scans over each other, and the place of a pixel."""
    for label, image in images.items():
        _draw_line(image, ax, "Counts", color=colours[label])
    (axis,) = image.axes_manager._axes
    ax.axvline(float(np.ravel(axis.axis[np.asarray(place)])[0]), color="0.7", zorder=0)
    ax.set_title(f"counts of the mapped energies (grey: pixel {place})")
