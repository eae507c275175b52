"""Checks of the signals that a method is given: each error comes before any work.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings
from dataclasses import dataclass

import dask.array as da
import numpy as np
import pint
from hyperspy.signal import BaseSignal

from .. import physics
from .._arguments import check_bool, is_real, unmasked

DISPERSION_TOLERANCE = 1e-3  # relative
AGAIN = "To sharpen more, ask for a finer resolution of the data."  # of a second deconvolution
RESIDUAL = "Signal.deconvolution_residual"  # node of the metadata that only a residual has


@dataclass(frozen=True)
class EnergyScale:
    """The scale of a signal's energy axis.

    Attributes
    ----------
    dispersion : float
        Width of a channel in eV, positive.
    reversed : bool
        The energy falls along the axis.
    lowest : float
        Energy in eV at its lower end.
    """

    dispersion: float
    reversed: bool
    lowest: float


def check_energy_axis(signal, name="signal"):
    """Read the energy axis of an EELS signal, whatever unit of energy it is in.

    Parameters
    ----------
    signal : exspy.signals.EELSSpectrum
        Any navigation shape.
    name : str
        What the messages call the signal.

    Returns
    -------
    EnergyScale

    Raises
    ------
    NotImplementedError
        For a non-uniform axis.
    ValueError
        If there is not one signal axis, or it is not one of energy.
    """
    axes = signal.axes_manager.signal_axes
    if len(axes) != 1:
        raise ValueError(f"The {name} must have one signal axis (the energy), not {len(axes)}.")
    axis = axes[0]
    if not axis.is_uniform:
        raise NotImplementedError(
            "This operation is not yet implemented for non-uniform energy axes: the axis "
            f"{str(axis.name)!r} of the {name} is not uniform."
        )
    if not np.isfinite(axis.scale) or axis.scale == 0:
        raise ValueError(
            f"The scale of the axis {str(axis.name)!r} of the {name} is {axis.scale}: it must be "
            "the energy width of a channel."
        )
    unit = _eV_per_unit(axis, name)
    lowest = min(axis.low_value, axis.high_value) * unit
    return EnergyScale(abs(axis.scale * unit), axis.scale < 0, lowest)


def _eV_per_unit(axis, name):
    units = axis.units if isinstance(axis.units, str) else ""
    try:
        return pint.get_application_registry()(units).to("eV").magnitude
    except Exception as error:  # pint raises many kinds, some of them from its parser
        variable = "s" if name == "signal" else name
        raise ValueError(
            f"The axis {str(axis.name)!r} of the {name} is in units of {str(axis.units)!r}, which "
            "cannot become eV. If its scale is in eV, set "
            f'{variable}.axes_manager.signal_axes[0].units = "eV".'
        ) from error


def check_low_loss(signal):
    """Check axis, data and length of a signal that is to be deconvolved.

    Returns
    -------
    EnergyScale

    Raises
    ------
    NotImplementedError, ValueError
        As `check_energy_axis` and `check_data`; for too few channels, and for a residual.
    """
    axis = check_energy_axis(signal)
    check_data(signal)
    channels = signal.data.shape[-1]
    if channels < physics.MIN_CHANNELS:
        raise ValueError(
            f"The spectra have {channels} channels; at least {physics.MIN_CHANNELS} are needed."
        )
    if signal.metadata.has_item(RESIDUAL):
        raise ValueError("The signal is a residual: it holds no zero-loss peak.")
    return axis


def check_data(signal, name="signal"):
    """Raise a ValueError where the data are not real numbers, or it is not known how many."""
    if signal.data.dtype.kind not in "biuf":
        raise ValueError(f"The {name} must hold real numbers, not {signal.data.dtype}.")
    if np.isnan(signal.data.shape).any():
        raise ValueError(
            f"The chunks are of unknown size: call {name}.data.compute_chunk_sizes() first."
        )


def check_like(other, signal, name, stacklevel=2):
    """Check a signal that belongs to another, spectrum by spectrum: a result, a truth.

    Parameters
    ----------
    other, signal : exspy.signals.EELSSpectrum
        Both must have the same shape and energy per channel.
    name : str
        What the messages call it.
    stacklevel : int
        Whose line the warning names: 2 is the caller's.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Its data.

    Raises
    ------
    TypeError
        If it is not an EELSSpectrum.
    ValueError
        If the shapes or the energies per channel differ.

    Warns
    -----
    UserWarning
        If the axes begin at different energies: one of them may have been calibrated since.
    """
    from exspy.signals import EELSSpectrum

    if not isinstance(other, EELSSpectrum):
        raise TypeError(f"{name} must be an EELSSpectrum, not {type(other).__name__}.")
    axis, own = check_energy_axis(other, name), check_energy_axis(signal)
    check_data(other, name)
    shapes = [
        (x.axes_manager.navigation_shape, x.axes_manager.signal_shape) for x in (other, signal)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name} has the navigation and signal shapes {shapes[0]}, the data {shapes[1]}: "
            "they must be the same."
        )
    differ = abs(axis.dispersion - own.dispersion) > DISPERSION_TOLERANCE * own.dispersion
    if differ or axis.reversed != own.reversed:
        raise ValueError(
            f"{name} has {_signed(axis):.6g} eV per channel, the data {_signed(own):.6g}: they "
            "must be the same."
        )
    axes = [x.axes_manager.signal_axes[0] for x in (other, signal)]
    later = axes[0].offset / axes[0].scale - axes[1].offset / axes[1].scale  # in channels
    if abs(later) > 0.5:
        warnings.warn(
            f"{name} begins {abs(later):.6g} channels {'later' if later > 0 else 'earlier'} on the "
            "energy axis than the data; they are compared channel by channel.",
            UserWarning,
            stacklevel=stacklevel,
        )
    return plain_array(other)


def _signed(axis):
    return -axis.dispersion if axis.reversed else axis.dispersion


def check_variance(signal):
    """The noise variance that the user has set, as HyperSpy keeps it.

    Returns
    -------
    float, numpy.ndarray, dask.array.Array or None
        A number, an array of the shape of the data, or None where none is set.

    Raises
    ------
    ValueError
        If it is neither a positive number nor a signal of the shape of the data, or holds values that
        are negative or, where the data are finite, not finite (of a lazy one, when it is computed).
    """
    variance = signal.get_noise_variance()
    if variance is None:
        return None
    where = "metadata.Signal.Noise_properties.variance"
    if isinstance(variance, BaseSignal):
        if variance.data.shape != signal.data.shape:
            raise ValueError(
                f"{where} has the shape {variance.data.shape}, the data {signal.data.shape}: "
                "they must be the same. HyperSpy leaves the variance as it was when data are cropped in "
                "place: set_noise_variance() again, or del s.metadata.Signal.Noise_properties."
            )
        values, data = plain_array(variance), plain_array(signal)
        if variance._lazy:  # checked while it is computed: a map must not be read twice
            data = da.asarray(data).rechunk(values.chunks)
            return da.map_blocks(_no_negative, values, data, where, dtype=values.dtype)
        values = _no_negative(values, data, where)
        if values.size and not values.any():
            raise ValueError(f"{where} holds nothing but zeros.")
        return values
    if not (is_real(variance) and 0 < variance < np.inf):
        raise ValueError(f"{where} is {variance!r}: it must be a positive number or a signal.")
    return float(variance)


def _no_negative(values, data, where):
    """The values, a ValueError if any of them is no variance; 0 where the data are not finite."""
    known = np.isfinite(values)
    if (values < 0).any() or (np.isfinite(data) & ~known).any():
        raise ValueError(f"{where} holds values that are negative or not finite.")
    return values if known.all() else np.where(known, values, 0).astype(values.dtype)


def check_navigation_mask(mask, signal, name="navigation_mask"):
    """Bring a navigation mask to an array of bool, True where a spectrum is left out.

    As in HyperSpy, the shape of an array is the signal's ``axes_manager.navigation_shape``, in
    the order of the axes (x, y), and that of a signal is its own navigation shape. The messages of a
    ValueError call it by its ``name``.

    Returns
    -------
    numpy.ndarray
        Shape of the navigation axes in the order of the data (y, x).
    """
    shape = signal.axes_manager.navigation_shape
    if mask is None:
        return np.zeros(shape[::-1], dtype=bool)
    if isinstance(mask, BaseSignal):
        given = mask.axes_manager.navigation_shape
        if mask.axes_manager.signal_dimension == 0 or shape == ():
            array = np.asarray(mask.data).reshape(given[::-1])
        else:
            raise ValueError(
                f"{name} has signal axes: as a signal it must have navigation axes only."
            )
    else:
        array = np.asarray(mask).T
        given = array.shape[::-1]
    if given != shape:
        hint = " (transpose it: mask.T)" if given[::-1] == shape else ""
        raise ValueError(
            f"{name} has the shape {given}, the signal's navigation shape is {shape}{hint}."
        )
    if array.dtype != bool:
        raise ValueError(f"{name} must hold bool, not {array.dtype}.")
    if array.size and array.all():
        raise ValueError(f"{name} leaves out every spectrum: nothing would be computed.")
    return array


def wants_lazy(signal, lazy_output):
    """Whether the result is to be lazy: as the signal is, unless `lazy_output` says otherwise."""
    if lazy_output is None:
        return signal._lazy
    check_bool("lazy_output", lazy_output)
    return bool(lazy_output)


def already_made(signal):
    """Which product of this package a signal is, in words; an empty string if it is none."""
    if made := result_or_residual(signal):
        return made
    return "an estimated response" if signal.metadata.has_item("Signal.psf_estimation") else ""


def result_or_residual(signal):
    """Which of the two a signal is, in words; an empty string if it is neither."""
    if done := signal.metadata.Signal.get_item("deconvolved_by"):
        return f"itself a result ({done})"
    return "a residual" if signal.metadata.has_item(RESIDUAL) else ""


def of_result(signal, why=AGAIN):
    """Sentences on a signal that is itself a result, with what follows from it; none on any other."""
    done = signal.metadata.Signal.get_item("deconvolved_by")
    return [f"the signal is itself a result ({done}). {why}"] if done else []


def warn_of_result(signal, method, stacklevel, why=AGAIN):
    """Warn, at the caller's line, where a signal is itself a result."""
    for odd in of_result(signal, why):
        warnings.warn(f"{method}: {odd}", UserWarning, stacklevel=stacklevel)


def plain_array(signal):
    """The data of a signal; masked channels, if any, become NaN, as HyperSpy does it."""
    return unmasked(signal.data)
