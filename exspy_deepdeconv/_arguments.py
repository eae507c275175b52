"""Checks of arguments that are numbers, words or switches (NumPy only)."""

import numbers
from contextvars import ContextVar

import numpy as np

from . import physics

# True while a resolution that was checked on a whole map is used for a few spectra of it.
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

    Raises
    ------
    ValueError
        If it is out of range.
    """
    if np.isnan(fwhm_channels):  # a map without spectra
        return fwhm_channels if resolution is None else resolution / dispersion
    if resolution is None:
        return physics.default_resolution(fwhm_channels)
    finest, coarsest = physics.resolution_range(fwhm_channels)
    channels = float(resolution) / dispersion
    if RESOLUTION_IS_CHECKED.get():
        return channels
    # A bound that was copied from metadata or from this message is allowed, and so is a nominal width
    # that exceeds the measured one by a hundredth because of noise.
    if not finest * 0.9999 <= channels <= coarsest * 1.01:
        raise ValueError(
            f"resolution={resolution} eV is out of range: for these data it must be "
            f"{finest * dispersion:.4g} to {coarsest * dispersion:.4g} eV (from 2 channels, or a "
            f"{physics.MAX_SHARPENING:.0f}th of the zero-loss width, up to that width)."
            f"{_hint_of_mev(float(resolution), finest * dispersion, coarsest * dispersion)}"
        )
    return min(max(channels, finest), coarsest)


def _hint_of_mev(resolution, finest, coarsest):
    """A question where a resolution, in eV as its limits are, would be in range if it were in meV."""
    if not finest * 0.9999 <= resolution / 1000 <= coarsest * 1.01:
        return ""
    return f" It is in eV: did you mean {resolution / 1000:.4g} ({resolution:.4g} meV)?"


def check_settings(resolution, confidence, batch_size, zero_loss, return_interval):
    """Raise a ValueError for a setting of a deconvolution that no data could make valid."""
    check_resolution_number(resolution)
    if not (is_real(confidence) and 0 < confidence < 1):
        raise ValueError(f"confidence={confidence!r} must be a number between 0 and 1.")
    check_batch_size(batch_size)
    check_bool("zero_loss", zero_loss)
    check_bool("return_interval", return_interval)


def check_batch_size(batch_size):
    """Raise a ValueError unless it is a whole number from 1, or None."""
    if batch_size is not None and not (is_whole(batch_size) and batch_size >= 1):
        raise ValueError(f"batch_size={batch_size!r} must be a whole number from 1, or None.")


def check_force_psf(force_psf, psf):
    """Raise a ValueError unless it is true or false, and true only where there is a response to use."""
    check_bool("force_psf", force_psf)
    if force_psf and psf is None:
        raise ValueError("force_psf=True needs a psf that is to be used.")


def check_num_workers(num_workers):
    """Raise a ValueError unless it is a whole number, or None; 0 is dask's default, as None is."""
    if num_workers is not None and not (is_whole(num_workers) and num_workers >= 0):
        raise ValueError(f"num_workers={num_workers!r} must be a whole number from 0, or None.")


def check_bool(name, value):
    """Raise a ValueError unless it is true or false: words like "no" are neither."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={value!r} must be True or False.")


def check_resolution_number(resolution):
    """Raise a ValueError unless it is a positive number, or None."""
    if resolution is not None and not (is_real(resolution) and 0 < resolution < np.inf):
        hint = " Pass a response as psf=." if hasattr(resolution, "axes_manager") else ""
        raise ValueError(
            f"resolution={resolution!r} must be a positive number of eV, or None.{hint}"
        )


def check_iterations(iterations):
    """Raise a ValueError unless it is a whole number from 1, or "auto"."""
    if not _is_auto(iterations) and not (is_whole(iterations) and iterations >= 1):
        raise ValueError(f'iterations={iterations!r} must be a whole number from 1, or "auto".')


def check_weight(weight):
    """Raise a ValueError unless it is a positive number, or "auto"."""
    if not _is_auto(weight) and not (is_real(weight) and 0 < weight < np.inf):
        raise ValueError(f'weight={weight!r} must be a positive number, or "auto".')


def unmasked(data):
    """The array as it is; masked values of a masked array, also of a dask one, become NaN."""
    if isinstance(getattr(data, "_meta", None), np.ma.MaskedArray):
        meta = np.empty((0,) * data.ndim, np.result_type(data.dtype, np.float32))
        return data.map_blocks(unmasked, meta=meta)
    if isinstance(data, np.ma.MaskedArray):
        return data.astype(np.result_type(data.dtype, np.float32)).filled(np.nan)
    return data


def _is_auto(value):
    return isinstance(value, str) and value == "auto"


def is_real(value):
    """Whether it is a real number; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def is_whole(value):
    """Whether it is a whole number; True and False are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
