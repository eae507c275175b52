"""Checks of the arguments of the signal methods: each error comes before any work.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import numbers
import warnings
from contextvars import ContextVar
from dataclasses import dataclass

import dask.array as da
import numpy as np
from hyperspy.api import _ureg
from hyperspy.signal import BaseSignal

from . import physics
from .zero_loss import stands_out

LONG_RESPONSE = 16  # channels: of shorter ones noise cannot be told from a peak
ROWS_AT_ONCE = 512
DISPERSION_TOLERANCE = 1e-3  # relative


@dataclass(frozen=True)
class EnergyAxis:
    """The energy axis of a signal.

    Attributes
    ----------
    dispersion : float
        Width of a channel in eV, positive.
    reversed : bool
        The energy falls along the axis.
    first, last : float
        Energies in eV at the two ends of the axis, the lower one first.
    """

    dispersion: float
    reversed: bool
    first: float
    last: float

    def reaches_zero(self, margin):
        """Whether 0 eV is on the axis, or no farther than ``margin`` (eV) from its end."""
        return self.first <= margin and self.last >= -margin


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
    EnergyAxis

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
    ends = sorted((axis.low_value * unit, axis.high_value * unit))
    return EnergyAxis(abs(axis.scale * unit), axis.scale * unit < 0, *ends)


def _eV_per_unit(axis, name):
    units = axis.units if isinstance(axis.units, str) else ""
    try:
        return _ureg(units).to("eV").magnitude
    except Exception as error:  # pint raises many kinds, some of them from its parser
        raise ValueError(
            f"The axis {str(axis.name)!r} of the {name} is in units of {str(axis.units)!r}, which "
            "cannot become eV. If its scale is in eV, set "
            's.axes_manager.signal_axes[0].units = "eV".'
        ) from error


def check_low_loss(signal):
    """Check axis, data and length of a signal that is to be deconvolved.

    Returns
    -------
    EnergyAxis

    Raises
    ------
    NotImplementedError, ValueError
        As `check_energy_axis`, `check_data` and `check_channels`.
    """
    axis = check_energy_axis(signal)
    check_data(signal)
    check_channels(signal)
    return axis


def check_data(signal, name="signal"):
    """Raise a ValueError where the data are not real numbers."""
    if signal.data.dtype.kind not in "biuf":
        raise ValueError(f"The {name} must hold real numbers, not {signal.data.dtype}.")


def check_channels(signal):
    """Raise a ValueError where the energy axis is too short."""
    channels = signal.axes_manager.signal_axes[0].size
    if channels < physics.MIN_CHANNELS:
        raise ValueError(
            f"The spectra have {channels} channels; at least {physics.MIN_CHANNELS} are needed."
        )


def check_psf(psf, signal, dispersion):
    """Bring a measured response to an array of rising energy.

    Parameters
    ----------
    psf : exspy.signals.EELSSpectrum or None
        One response, or one for each spectrum of `signal`.
    signal : exspy.signals.EELSSpectrum
        What is to be deconvolved.
    dispersion : float
        Channel width of `signal` in eV.

    Returns
    -------
    numpy.ndarray, dask.array.Array or None
        Shape ``(length,)``, or ``navigation shape + (length,)``.
    """
    if psf is None:
        return None
    _check_psf_class(psf)
    if psf is signal or psf.data is signal.data:
        raise ValueError("psf is the signal itself: its losses would count as the response's.")
    axis = check_energy_axis(psf, "psf")
    check_data(psf, "psf")
    if done := psf.metadata.Signal.get_item("deconvolved_by"):
        raise ValueError(
            f"psf is itself a result ({done}): its zero-loss peak is sharpened, and no response."
        )
    if abs(axis.dispersion - dispersion) > DISPERSION_TOLERANCE * dispersion:
        raise ValueError(
            f"psf has {axis.dispersion:.6g} eV per channel, the signal {dispersion:.6g}: both "
            "must have the same dispersion. Measure it anew, or bring the finer of the two to the other "
            "with rebin() (for a ratio that is no whole number, psf.interpolate_on_axis(degree=3))."
        )
    _check_psf_navigation(psf, signal)
    data = plain_array(psf)
    if axis.reversed:
        data = data[..., ::-1]
    if data.ndim == 1 and isinstance(data, da.Array):
        data = data.compute()
    if not isinstance(data, da.Array):  # reading a lazy map just to check it costs too much
        _check_psf_counts(data)
    return data


def usable_responses(psf):
    """Where responses are finite and have a peak inside their axis (navigation shape)."""
    top = psf.argmax(axis=-1)
    inside = (top > 0) & (top < psf.shape[-1] - 1)
    usable = np.asarray(inside & np.isfinite(psf).all(axis=-1) & (psf.max(axis=-1) > 0))
    if usable.any() and psf.shape[-1] >= LONG_RESPONSE:  # noise has a highest channel, too
        known = np.asarray(psf[usable], float)
        usable[usable] = stands_out(known, known.max(axis=-1))
    return usable


def _check_psf_class(psf):
    from exspy.signals import EELSSpectrum

    if not isinstance(psf, EELSSpectrum):
        raise TypeError(
            f"psf must be an EELSSpectrum (a measured zero-loss peak), not {type(psf).__name__}."
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
            "energy axis than the data; it is taken channel by channel.",
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
        If it is neither a positive number nor a signal of the shape of the data. Values of a lazy
        one that are negative or not finite raise it when they are computed.
    """
    variance = signal.get_noise_variance()
    if variance is None:
        return None
    where = "metadata.Signal.Noise_properties.variance"
    if isinstance(variance, BaseSignal):
        if variance.data.shape != signal.data.shape:
            raise ValueError(
                f"{where} has the shape {variance.data.shape}, the data {signal.data.shape}: "
                "they must be the same."
            )
        values = plain_array(variance)
        if variance._lazy:  # judged as it is read: nobody reads a map twice for that
            return values.map_blocks(_no_negative, where, dtype=values.dtype)
        if values.size and not _no_negative(values, where).any():
            raise ValueError(f"{where} holds nothing but zeros.")
        return values
    if not (_is_real(variance) and 0 < variance < np.inf):
        raise ValueError(f"{where} is {variance!r}: it must be a positive number or a signal.")
    return float(variance)


def _no_negative(values, where):
    """The values themselves; a ValueError if any of them is no variance."""
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"{where} holds values that are negative or not finite.")
    return values


def _check_psf_navigation(psf, signal):
    shape = psf.axes_manager.navigation_shape
    if shape in ((), signal.axes_manager.navigation_shape):
        return
    raise ValueError(
        f"psf has the navigation shape {shape}; it must be one spectrum, or one for each of the "
        f"signal's {signal.axes_manager.navigation_shape}. To use the mean of several vacuum "
        "spectra, pass psf.mean() or psf.sum()."
    )


def _any_usable(responses):
    """Whether there is one among them; a few hundred at a time."""
    parts = range(0, len(responses), ROWS_AT_ONCE)
    return any(usable_responses(responses[start : start + ROWS_AT_ONCE]).any() for start in parts)


def _check_psf_counts(data):
    # In a map, unusable ones are flagged later: there the spectra may well be empty too.
    if data.size and not _any_usable(data.reshape(-1, data.shape[-1])):
        raise ValueError(
            "psf must hold a zero-loss peak: finite, with positive counts far above the noise, and "
            "with its maximum inside its energy axis."
        )


def check_navigation_mask(mask, signal):
    """Bring a navigation mask to an array of bool, True where a spectrum is left out.

    As in HyperSpy, the shape of an array is the signal's ``axes_manager.navigation_shape``, in
    the order of the axes (x, y), and that of a signal is its own navigation shape.

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
                "navigation_mask has signal axes: as a signal it must have navigation axes only."
            )
    else:
        array = np.asarray(mask).T
        given = array.shape[::-1]
    if given != shape:
        hint = " (transpose it: mask.T)" if given[::-1] == shape else ""
        raise ValueError(
            f"navigation_mask has the shape {given}, the signal's navigation shape is "
            f"{shape}{hint}."
        )
    if array.dtype != bool:
        raise ValueError(f"navigation_mask must be of bool, not of {array.dtype}.")
    if array.size and array.all():
        raise ValueError("navigation_mask leaves out every spectrum: nothing would be computed.")
    return array


# True where a resolution was checked on the whole map and now serves a few spectra of it.
RESOLUTION_IS_CHECKED = ContextVar("RESOLUTION_IS_CHECKED", default=False)


def check_resolution(resolution, fwhm_channels, dispersion):
    """Choose or check the resolution of the result.

    Parameters
    ----------
    resolution : float or None
        In eV; None for `physics.default_resolution`.
    fwhm_channels : float
        Zero-loss width in channels.
    dispersion : float
        Channel width in eV.

    Returns
    -------
    float
        Resolution in channels.
    """
    if np.isnan(fwhm_channels):  # a map without spectra
        return fwhm_channels if resolution is None else resolution / dispersion
    if resolution is None:
        return physics.default_resolution(fwhm_channels)
    finest, coarsest = physics.resolution_range(fwhm_channels)
    channels = float(resolution) / dispersion
    if RESOLUTION_IS_CHECKED.get():
        return channels
    # A bound that was copied from metadata or from this message is inside, and so is a nominal
    # width that the noise of the data makes a hundredth too wide.
    if not finest * 0.9999 <= channels <= coarsest * 1.01:
        raise ValueError(
            f"resolution={resolution} eV is out of range: for these data it must be "
            f"{finest * dispersion:.4g} to {coarsest * dispersion:.4g} eV (from 2 channels, or a "
            f"{physics.MAX_SHARPENING:.0f}th of the zero-loss width, up to that width)."
        )
    return min(max(channels, finest), coarsest)


def check_numbers(resolution, confidence, batch_size):
    """Raise a ValueError for a number that no data could make valid."""
    check_resolution_number(resolution)
    if not (_is_real(confidence) and 0 < confidence < 1):
        raise ValueError(f"confidence={confidence!r} must be a number between 0 and 1.")
    if batch_size is None:
        return
    whole = isinstance(batch_size, numbers.Integral) and not isinstance(batch_size, bool)
    if not whole or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} must be a whole number from 1, or None.")


def check_bool(name, value):
    """Raise a ValueError unless it is true or false: words like "no" are neither."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={value!r} must be True or False.")


def wants_lazy(signal, lazy_output):
    """Whether the result is to be lazy: as the signal is, unless it is said."""
    if lazy_output is None:
        return signal._lazy
    check_bool("lazy_output", lazy_output)
    return bool(lazy_output)


def warn_of_result(signal, method, stacklevel):
    """Warn, at the caller's line, where a signal is deconvolved a second time."""
    if done := signal.metadata.Signal.get_item("deconvolved_by"):
        warnings.warn(
            f"{method}: the signal is itself a result ({done}). To sharpen more, ask for a finer "
            "resolution of the data.",
            UserWarning,
            stacklevel=stacklevel,
        )


def check_resolution_number(resolution):
    """Raise a ValueError unless it is a positive number, or None."""
    if resolution is not None and not (_is_real(resolution) and 0 < resolution < np.inf):
        raise ValueError(f"resolution={resolution!r} must be a positive number of eV, or None.")


def check_iterations(iterations):
    """Raise a ValueError unless it is a whole number from 1, or "auto"."""
    whole = isinstance(iterations, numbers.Integral) and not isinstance(iterations, bool)
    if not _is_auto(iterations) and not (whole and iterations >= 1):
        raise ValueError(f'iterations={iterations!r} must be a whole number from 1, or "auto".')


def check_weight(weight):
    """Raise a ValueError unless it is a positive number, or "auto"."""
    real = _is_real(weight) and 0 < weight < np.inf
    if not _is_auto(weight) and not real:
        raise ValueError(f'weight={weight!r} must be a positive number, or "auto".')


def _is_auto(value):
    return isinstance(value, str) and value == "auto"


def _is_real(value):
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def plain_array(signal):
    """The data of a signal; masked channels, if any, become NaN, as HyperSpy does it."""
    if isinstance(signal.data, np.ma.MaskedArray):
        return signal.data.astype(np.result_type(signal.data.dtype, np.float32)).filled(np.nan)
    return signal.data
