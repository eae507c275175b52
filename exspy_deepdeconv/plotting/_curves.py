"""Colours, curves, labels and limits that the figures share.

Colours are those of Okabe and Ito, which people with a colour vision deficiency can tell apart.
"""

import numpy as np

from .._signals.checks import check_energy_axis

GREY, BLACK = "#999999", "#000000"
BLUE, SKY_BLUE = "#0072B2", "#56B4E9"
ORANGE, VERMILLION = "#E69F00", "#D55E00"
GREEN, PURPLE = "#009E73", "#CC79A7"
COLOURS = {
    "measured": GREY,
    "deconvolved": BLUE,
    "truth": VERMILLION,
    "data": GREY,
    "deep": BLUE,
    "rl": ORANGE,
    "ml": SKY_BLUE,
    "fourier": GREEN,
    "tgv": PURPLE,
}
OTHER_COLOURS = (GREEN, PURPLE, SKY_BLUE, ORANGE, BLACK)  # of spectra with other labels


def curve(signal, label, energy_range):
    """Energies and values of a single spectrum."""
    if signal.axes_manager.navigation_size > 1:
        raise ValueError(f"{label!r} must be a single spectrum; choose one with .inav.")
    energy, values = signal.axes_manager.signal_axes[0].axis, np.ravel(signal.data)
    if energy_range is None:
        return energy, np.asarray(values)
    inside = _within(energy, energy_range)
    return energy[inside], np.asarray(values[inside])


def _within(energy, energy_range):
    """Which channels lie within; a ValueError where it is no range, or holds none of them."""
    try:
        low, high = (float(end) for end in energy_range)
    except (TypeError, ValueError):
        raise ValueError(f"energy_range={energy_range!r} must be two energies, or None.") from None
    inside = (energy >= low) & (energy <= high)
    if not inside.any():
        raise ValueError(
            f"energy_range={energy_range!r} holds none of the energies, {energy.min():.4g} to "
            f"{energy.max():.4g}; the lower one comes first."
        )
    return inside


def in_units_of(first, signal, label):
    """A signal with its energies in the units of the first one; itself where they are so already."""
    units, own = (x.axes_manager.signal_axes[0].units for x in (first, signal))
    if str(own) == str(units):
        return signal
    check_energy_axis(first, "first of the signals")
    check_energy_axis(signal, repr(label))
    converted = signal._deepcopy_with_new_data(signal.data)
    converted.axes_manager.signal_axes[0].convert_to_units(units)
    return converted


def energy_label(signal):
    return axis_label(signal.axes_manager.signal_axes[0], "Energy loss")


def axis_label(axis, unnamed):
    """Name and units, if it has any: else HyperSpy gives ``Undefined``, and some files empty text."""
    name = axis_name(axis, unnamed)
    return f"{name} ({axis.units})" if isinstance(axis.units, str) and axis.units else name


def axis_name(axis, unnamed):
    return axis.name if isinstance(axis.name, str) and axis.name.strip() else unnamed


def any_positive(curves):
    """Whether a logarithmic axis has a place for any of these counts."""
    return any((counts > 0).any() for counts in curves)


def log_limits(curves):
    """Limits of logarithmic counts that a few nearly empty channels do not decide."""
    counts = np.concatenate(curves)
    positive = counts[counts > 0]
    if not positive.size:
        return 0.1, 1.0
    top = positive.max()
    return max(0.3 * np.quantile(positive, 0.1), 1e-7 * top), 2 * top


def below_sight(values, floor):
    """Dots along the lower end of a logarithmic axis, for a curve that is mostly below it; else None.

    A line that is out of sight would look as if it had been forgotten.
    """
    below = np.asarray(values) < floor
    return np.where(below, 1.1 * floor, np.nan) if below.mean() > 0.5 else None


def beyond_the_core(residual, energy):
    """Channels of a residual over two zero-loss widths from the peak; all where that is unknown.

    ``energy`` holds the energies of the channels, in the units of the residual's axis.
    """
    node, axis = "Signal.deconvolution_residual", residual.axes_manager.signal_axes[0]
    if not (residual.metadata.has_item(f"{node}.zero_loss_fwhm") and axis.is_uniform):
        return np.ones(energy.size, bool)
    note = residual.metadata.get_item(node)
    unit = check_energy_axis(residual, "residual").dispersion / abs(axis.scale)  # in eV
    beyond = np.abs(energy * unit - note.zero_loss_energy) > 2 * note.zero_loss_fwhm
    return beyond if beyond.any() else ~beyond


def residual_reach(values):
    """Half the height of the axis of a residual: a few channels do not decide it."""
    finite = np.abs(values[np.isfinite(values)])
    return max(5.0, 1.3 * float(np.quantile(finite, 0.95))) if finite.size else 5.0
