"""What the classical signal methods share: checks, response, blocks, metadata.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np

from .. import _arguments, classical, models, physics
from .._signals import checks, responses, results, runner, sampling
from .._signals.inputs import Input
from ..response.residual import MISFIT
from .classical_blocks import Check, deconvolve_block, result_dtype

CONSEQUENCES = runner.CONSEQUENCES | {physics.PSF_MISFIT: "used all the same"}
ENOUGH = 15  # iterations, exspy's default: whoever asks for fewer accepts a misfit


@dataclass(frozen=True)
class Method:
    """A classical method: an array function and what its results are called.

    Attributes
    ----------
    name : str
        Of the signal method; the metadata node has ``deconvolution`` in the place of the verb.
    function : str
        Name of the array function in `exspy_deepdeconv.classical`.
    words : str
        Its name in titles and metadata.
    setting : str
        The name of its one setting; ``"resolution"`` for a method that cannot do without one.
    resolution : float
        Width (FWHM, channels) of the Gaussian through which the method itself sees its results; 0
        for none.
    fits_peak : bool
        Whether it fits the elastic peak: then a saturated one spoils the result.
    misfit : float
        A result whose `exspy_deepdeconv.response.residual.Verdict.worst` exceeds this does not
        explain the data. The limit is higher for methods that weigh all channels alike: they leave misfits in
        weak losses even with the best response.
    """

    name: str
    function: str
    words: str
    setting: str
    resolution: float = 0.0
    fits_peak: bool = False
    misfit: float = MISFIT

    @property
    def node(self):
        """Node of the metadata that describes a result."""
        return self.name.replace("_deconvolve", "_deconvolution")

    @property
    def needs_resolution(self):
        """Whether its setting is the resolution: then there is no result without one."""
        return self.setting == "resolution"


METHODS = {
    method.name.removesuffix("_deconvolve"): method
    for method in (
        Method("rl_deconvolve", "richardson_lucy", "Richardson-Lucy", "iterations"),
        Method(
            "ml_deconvolve",
            "image_space_reconstruction",
            "maximum-likelihood",
            "iterations",
            misfit=200.0,
        ),
        Method(
            "fourier_deconvolve",
            "fourier_ratio",
            "Fourier-ratio",
            "resolution",
            fits_peak=True,
            misfit=100.0,
        ),
        Method("tgv_deconvolve", "total_generalised_variation", "TGV", "weight", 2.0, True),
    )
}


def deconvolve(
    signal, key, psf, setting, resolution, *, show_progressbar, num_workers, lazy_output
):
    """Check the arguments, run a method over a signal and describe the result.

    Parameters
    ----------
    signal : EELSSpectrum
        What to deconvolve.
    key : str
        Which of `METHODS`.
    psf : EELSSpectrum or None
        A measured response.
    setting : int, float or "auto"
        The method's setting, already checked.
    resolution : float or None
        In eV.
    show_progressbar, num_workers, lazy_output
        As in HyperSpy.

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
    """
    method = METHODS[key]
    _arguments.check_resolution_number(resolution)
    _arguments.check_num_workers(num_workers)
    given = Input.of(signal, psf)
    checks.warn_of_result(signal, method.name, stacklevel=4)
    lazy_output = checks.wants_lazy(signal, lazy_output)
    block, note = _plan(method, given, setting, resolution)
    tally = _tally(method, given, block.keywords["check"], lazy_output)
    result = results.finish(
        signal,
        given.blocks(block, tally, dtype=result_dtype(given.data.dtype), num_workers=num_workers),
        tally,
        lazy_output=lazy_output,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        stacklevel=4,
    )
    own_part = [] if psf is None else responses.of_own_part(psf.data, signal.data)
    for odd in _remarks(method, given) + own_part + responses.remarks(given.response, psf):
        warnings.warn(f"{method.name}: {odd}", UserWarning, stacklevel=3)
    if block.keywords["automatic"]:
        note["chosen"] = results.chosen_note(tally, lazy_output)
    note |= {"psf": results.psf_source(psf), "flags": results.flags_note(tally, lazy_output)}
    results.annotate(result, signal, method.node, f"after {method.words} deconvolution", **note)
    return result


def _remarks(method, given):
    """Sentences on what is odd about the data: of a response that is read from them, or a peak that is fitted."""
    said, found = [], given.zero_loss_if_any
    if given.response is None:
        # Every spectrum has its own response here: their widths may differ.
        said += sampling.of_range(found, without=("uneven",)) + sampling.of_axis(found)
    return said + (sampling.of_offset(found) if method.fits_peak and found is not None else [])


def _plan(method, given, setting, resolution):
    """What `runner.run_blocks` is to apply to the spectra, and what the metadata are to say of it."""
    blind, automatic = given.response is None, isinstance(setting, str)
    respond, about_model = _own_responses(given) if blind else (None, {})
    channels = _resolution(method, resolution, given)
    if method.needs_resolution:
        setting, about_setting = channels, {}
    else:
        about_setting = {method.setting: setting}
    dark = given.dark() if method.fits_peak else None
    check = Check.of(
        method,
        channels,
        judged=automatic or method.fits_peak or setting >= ENOUGH,
        quick=not blind and not method.fits_peak,
        # On an axis that begins above 0 eV, what looks like the zero-loss peak is another one.
        widths=not blind and given.axis.lowest <= 0,
    )
    block = partial(
        deconvolve_block,
        function=partial(getattr(classical, method.function), **{method.setting: setting}),
        respond=respond,
        smoothing=_missing(channels, method),
        automatic=automatic,
        fits_peak=method.fits_peak,
        check=check,
        dark=dark,
    )
    in_eV = None if channels is None else float(channels * given.axis.dispersion)
    note = {"method": method.words, "resolution": in_eV} | about_setting | about_model
    return block, note | results.dark_note(dark)


def _own_responses(given):
    """For methods without a psf: what finds the responses, and a note on the model."""
    model = models.load()
    respond = results.responder(model, given.zero_loss, given.data.shape[-1])
    return respond, {"model": model.name, "weights_sha256": model.sha256}


def _tally(method, given, check, warn):
    """Takes the flags of the blocks; a given response needs no zero-loss peak, unless it is fitted."""
    of_peak = given.response is None or method.fits_peak
    kinds = (runner.DATA_FLAGS if of_peak else runner.UNUSABLE_FLAGS) + check.kinds
    return runner.FlagTally(given.mask, warn, method.name, kinds, CONSEQUENCES)


def _resolution(method, resolution, given):
    """Resolution of the results, in channels (FWHM); None where they are seen through no Gaussian.

    The zero-loss width is read where it is needed: from the data, or, if they have no zero-loss peak,
    from the measured response.
    """
    if resolution is None and not method.needs_resolution:
        return method.resolution or None
    try:
        width = given.zero_loss.fwhm
    except ValueError:
        width = responses.response_width(given.response)
    if np.isnan(width) and resolution is None and given.mask.size:
        raise ValueError(
            "resolution must be given: neither the spectra nor the psf have a peak whose "
            "width could be read."
        )
    return _arguments.check_resolution(resolution, width, given.axis.dispersion)


def _missing(resolution, method):
    """Smoothing that brings a result to the resolution, in channels."""
    if resolution is None or method.needs_resolution:
        return 0.0
    return float(np.sqrt(max(resolution**2 - method.resolution**2, 0.0)))
