"""What ``deep_deconvolve`` and ``estimate_psf`` do with a signal.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings
from functools import partial

import numpy as np

from .. import _arguments, models
from .._signals import checks, responses, results, runner, sampling
from .._signals.inputs import Input
from ..estimate import batched
from ..estimate.forward import Wanted
from ..estimate.quietest import MOST_READ, quietest_sum
from ..inference import check_device, usual_device

UNKNOWN_VARIANCE = 1e30  # of spectra that have no result: a fit gives them no weight
OF_RESULT = "Its zero-loss peak has been sharpened: no other data have such a response."
ALONE = "the signal holds a single spectrum: shared=True has nothing to share, and gives its own response."
BOUNDS = {}, {"bound": "lower"}, {"bound": "upper"}
NAMES = ("after deep deconvolution", "lower bound of the truth", "upper bound of the truth")


def deconvolve(
    signal,
    resolution,
    psf,
    *,
    force_psf,
    model,
    zero_loss,
    return_interval,
    confidence,
    navigation_mask,
    batch_size,
    device,
    show_progressbar,
    num_workers,
    lazy_output,
):
    """Check the arguments of ``deep_deconvolve``, run it and describe what comes out.

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum, or a list of three
    """
    _arguments.check_settings(resolution, confidence, batch_size, zero_loss, return_interval)
    _arguments.check_num_workers(num_workers)
    _arguments.check_force_psf(force_psf, psf)
    given = Input.of(signal, psf, navigation_mask)
    checks.warn_of_result(signal, "deep_deconvolve", stacklevel=4)
    model = models.load(model)
    check_device(device)
    if return_interval:
        model.warn_if_not_calibrated(stacklevel=3)
    lazy_output = checks.wants_lazy(signal, lazy_output)
    wanted = Wanted(
        resolution=_arguments.check_resolution(
            resolution, given.zero_loss.fwhm, given.axis.dispersion
        ),
        zero_loss=bool(zero_loss),
        variance=not lazy_output,
        confidence=float(confidence) if return_interval else None,
        dispersion=given.axis.dispersion,
        force_psf=bool(force_psf),
    )
    function = _block_function(given, model, wanted, batch_size, device)
    tally = _tally(given, lazy_output, force_psf)
    made = results.finish_stack(
        signal,
        given.blocks(function, tally, arrays=wanted.arrays),
        wanted.arrays,
        tally,
        lazy_output=lazy_output,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        stacklevel=5,
    )
    own_part = [] if psf is None else responses.of_own_part(psf.data, signal.data)
    for odd in remarks(given, psf) + own_part:
        warnings.warn(f"deep_deconvolve: {odd}", UserWarning, stacklevel=3)
    note = _note(model, wanted, given, psf, results.flags_note(tally, lazy_output))
    described = _described(made, signal, wanted, note)
    return described if return_interval else described[0]


def _block_function(given, model, wanted, batch_size, device):
    """What `runner.run_blocks` is to apply to the spectra."""
    return partial(
        batched.stacked_block,
        model=model,
        wanted=wanted,
        estimated=given.estimated,
        dark=given.zero_loss.dark,
        batch_size=batch_size,
        device=usual_device(device, given.mask.size),
    )


def remarks(given, psf):
    """Sentences on what is odd about the data or the response."""
    found = given.zero_loss
    of_data = sampling.remarks(found, given.measured)
    reach = given.data.shape[-1] - found.position
    return of_data + responses.remarks(given.response, psf, found.electrons, reach)


def _described(made, signal, wanted, note):
    """Result and bounds with title and metadata; the variance, if any, goes to the result."""
    result, *others = made
    if wanted.variance:
        _attach_variance(result, others.pop(0), signal.metadata.General.title)
    for each, words, bound in zip((result, *others), NAMES, BOUNDS, strict=False):
        results.annotate(each, signal, "deep_deconvolution", words, **note | bound)
    return [result, *others]


def _tally(given, warn, forced):
    """Takes the flags of the blocks; of a misfit only where there is a response to fit."""
    kinds = runner.BLIND_FLAGS + (() if given.response is None else runner.PSF_FLAGS)
    consequences = runner.FORCED if forced else runner.CONSEQUENCES
    return runner.FlagTally(given.mask, warn, kinds=kinds, consequences=consequences)


def _note(model, wanted, given, psf, flags):
    """What the metadata say of a result."""
    found, dispersion = given.zero_loss, given.axis.dispersion
    note = {
        "model": model.name,
        "weights_sha256": model.sha256,
        "resolution": wanted.resolution * dispersion,
        "zero_loss_fwhm": found.fwhm * dispersion,
        "psf": results.psf_source(psf),
        "zero_loss": wanted.zero_loss,
        "flags": flags | sampling.out_of_range(found, given.measured),
    }
    note |= results.dark_note(found.dark)
    note |= {"force_psf": True} if wanted.force_psf else {}
    return note if wanted.confidence is None else note | {"confidence": wanted.confidence}


def _attach_variance(result, predicted, title):
    """Make a predicted variance the noise variance of a result, usable as weights of a fit."""
    # Zeros and NaN, as of empty spectra and of those under a mask, would stop a fit of the map.
    unknown = ~np.isfinite(predicted.data) | ~result.data.any(axis=-1, keepdims=True)
    least = np.finfo(np.float32).tiny  # of counts below some 1e-16, float32 holds no square
    predicted.data = np.where(unknown, UNKNOWN_VARIANCE, np.maximum(predicted.data, least))
    predicted.metadata.General.title = f"predicted variance of {title}"
    predicted.metadata.Signal.quantity = "Variance"
    for key in list(predicted.original_metadata.keys()):  # the result has them
        delattr(predicted.original_metadata, key)
    predicted.axes_manager = result.axes_manager  # as HyperSpy's own: calibrations reach both
    result.set_noise_variance(predicted)


def respond(signal, *, model, shared, show_progressbar, num_workers, lazy_output):
    """Check the arguments of ``estimate_psf``, run it and describe the responses.

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
    """
    _arguments.check_num_workers(num_workers)
    # No `Input`: a noise variance is of no matter here, so that a bad one must not be an error.
    axis = checks.check_low_loss(signal)
    _arguments.check_bool("shared", shared)
    if shared and lazy_output is not None and checks.wants_lazy(signal, lazy_output):
        raise ValueError("lazy_output=True: a shared response is a single spectrum, in memory.")
    checks.warn_of_result(signal, "estimate_psf", stacklevel=4, why=OF_RESULT)
    model = models.load(model)
    data, places = checks.plain_array(signal), None
    if shared:
        places, data = _some_spectra(data)
    mask = np.zeros(data.shape[:-1], dtype=bool)
    found = sampling.typical_zero_loss(data, mask, axis.reversed).on(axis)
    function = results.responder(model, found, data.shape[-1])
    lazy_output = checks.wants_lazy(signal, lazy_output)
    if shared:
        result, about = _shared_response(signal, function, data, places, axis)
    else:
        tally = runner.FlagTally(mask, lazy_output, "estimate_psf", runner.DATA_FLAGS)
        result = results.finish(
            signal,
            runner.run_blocks(function, data, mask, tally, reverse=axis.reversed),
            tally,
            lazy_output=lazy_output,
            show_progressbar=show_progressbar,
            num_workers=num_workers,
            stacklevel=4,
        )
        about = {"flags": results.flags_note(tally, lazy_output)}
    said = sampling.of_range(found, without=() if shared else ("uneven",)) + sampling.of_axis(found)
    for odd in said + ([ALONE] if shared and mask.size == 1 else []):
        warnings.warn(f"estimate_psf: {odd}", UserWarning, stacklevel=3)
    energy = result.axes_manager.signal_axes[0]
    zero_channel = function.keywords["zero_channel"]
    index = energy.size - 1 - zero_channel if axis.reversed else zero_channel
    energy.offset = -index * energy.scale
    results.annotate(
        result,
        signal,
        "psf_estimation",
        "estimated response",
        source=signal.metadata.General.title,
        model=model.name,
        weights_sha256=model.sha256,
        zero_loss_fwhm=found.fwhm * axis.dispersion,
        **about,
    )
    result.metadata.Signal.quantity = ""  # no counts any more
    if result.metadata.Signal.has_item("deconvolved_by"):  # of a result: it is none itself
        del result.metadata.Signal.deconvolved_by
    return result


def _some_spectra(data):
    """At most a thousand spectra, spread over the map, and their places: a lazy one is read once."""
    if not data.size:
        raise ValueError("The signal holds no spectra: there is no response for them to share.")
    places = sampling.spread_over(np.argwhere(np.ones(data.shape[:-1], bool)), MOST_READ)
    return places, np.asarray(sampling.read_spectra(data, places), float)


def _shared_response(signal, function, spectra, places, axis):
    """One response, read off the quietest of some spectra, and where these are."""
    total, rows = quietest_sum(spectra[:, ::-1] if axis.reversed else spectra)
    response = function(total, dark=None)[0]
    shape = signal.data.shape[:-1]
    first = signal.inav[(0,) * len(shape)] if shape else signal
    response = response[::-1] if axis.reversed else response
    where = np.zeros(shape, bool)
    where[tuple(places[rows].T)] = True
    about = {"shared": where} if where.size > 1 else {}
    return results.signal_like(first, response, lazy=False), about
