"""What ``detection_limit`` does with a signal.

Imported inside the method, not by ``import hyperspy.api``.
"""

import warnings

import dask
import numpy as np

from .. import _arguments, models
from .._signals import checks, results, runner
from .._signals.inputs import Input
from ..estimate.injection import NEAREST, Trial
from ..inference import check_device
from .deep_methods import remarks

POSITIONS = 32
USUAL_WIDTH = 0.5  # zero-loss widths


def limit_of(signal, resolution, psf, *, width, model, device, show_progressbar, num_workers):
    """Check the arguments of ``detection_limit``, try lines and describe what comes out.

    Returns
    -------
    EELSSpectrum
    """
    _arguments.check_resolution_number(resolution)
    _arguments.check_num_workers(num_workers)
    given = Input.of(signal, psf)
    if given.mask.size != 1:
        raise ValueError(
            f"The signal holds {given.mask.size} spectra, and the limit is that of one: choose it with "
            "inav, or take their sum()."
        )
    checks.warn_of_result(signal, "detection_limit", stacklevel=4)
    model, dispersion = models.load(model), given.axis.dispersion
    check_device(device)
    found = given.zero_loss
    resolution = _arguments.check_resolution(resolution, found.fwhm, dispersion)
    width = usual_width(found.fwhm) if width is None else _checked_width(width, given)
    trial = Trial.of(
        _rising(given.data, given).astype(float).ravel(),
        width,
        model=model,
        resolution=resolution,
        dispersion=dispersion,
        psf=None if given.response is None else np.asarray(given.response).reshape(1, -1),
        estimated=given.estimated,
        variance=_rising(given.variance, given).ravel()
        if np.ndim(given.variance)
        else given.variance,
        dark=found.dark,
        device=device,
    )
    _warn(trial.flags, given, psf)
    limit = _limit(trial, show_progressbar, num_workers)
    result = results.signal_like(
        signal, _rising(limit, given).reshape(signal.data.shape), lazy=False
    )
    result.metadata.Signal.quantity = "Counts"
    if result.metadata.Signal.has_item("Noise_properties"):  # those of the data
        del result.metadata.Signal.Noise_properties
    results.annotate(
        result,
        signal,
        "detection_limit",
        "detection limit",
        model=model.name,
        weights_sha256=model.sha256,
        resolution=resolution * dispersion,
        width=width * dispersion,
        zero_loss_fwhm=found.fwhm * dispersion,
        psf=results.psf_source(psf),
    )
    return result


def usual_width(fwhm):
    """Width of the lines where none is asked for, by that of the zero-loss peak (channels)."""
    return max(USUAL_WIDTH * fwhm, 1.0)


def _checked_width(width, given):
    """Width of the lines in channels."""
    channels, dispersion = given.data.shape[-1], given.axis.dispersion
    if not (_arguments.is_real(width) and 0 < width < channels * dispersion / 4):
        raise ValueError(
            f"width={width!r} must be a positive number of eV, less than a quarter of the energy axis "
            f"({channels * dispersion / 4:.4g} eV)."
        )
    return float(width) / dispersion


def _rising(data, given):
    data = np.asarray(data)
    return data[..., ::-1] if given.axis.reversed else data


def _limit(trial, show_progressbar, num_workers):
    """Limits at some positions, interpolated between them on logarithmic scales, ``(channels,)``."""
    positions = trial.lines.positions(POSITIONS)
    if not positions.size:
        raise ValueError(
            f"The energy axis ends before a line fits in, {NEAREST:g} zero-loss widths from the peak."
        )
    wanted = [dask.delayed(trial.limit)(place, seed) for seed, place in enumerate(positions)]
    found = results.at_once(wanted, show_progressbar, num_workers)
    zero = float(trial.lines.seen.zero_loss.position[0])
    distance = np.maximum(np.arange(trial.before.size) - zero, np.finfo(float).tiny)
    known = np.log(positions - zero), np.log(found)
    limit = np.interp(np.log(distance), *known, left=np.nan, right=np.nan)
    return np.exp(limit).astype(np.float32)


def _warn(flags, given, psf):
    """The warnings of ``deep_deconvolve``."""
    kinds = runner.BLIND_FLAGS + (() if given.response is None else runner.PSF_FLAGS)
    tally = runner.FlagTally(np.zeros((), bool), False, "detection_limit", kinds)
    tally.hand_in(np.array([0]), flags)
    tally.warn_of_flags(stacklevel=4)
    for odd in remarks(given, psf):
        warnings.warn(f"detection_limit: {odd}", UserWarning, stacklevel=4)
