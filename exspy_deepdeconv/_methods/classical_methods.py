"""What the classical signal methods share: checks, response, blocks, metadata.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .. import _arguments, classical, models, physics
from .._signals import checks, responses, results, runner, sampling
from .._signals.inputs import Input
from ..response import reblur, residual
from ..response.psf_fit import width_fit

FIRST_LOOK = 16  # spectra of a block that are checked first: the others only if one of them fails
# The flags that are also raised with a measured response by methods that fit the elastic peak. (With one
# they need no zero-loss peak; values above `physics.HIGHEST_VALUE` count as not finite.)
FLAGS_OF_FIT = physics.SATURATED | physics.SPIKE | physics.NOT_FINITE
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
    misfit: float = residual.MISFIT

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
    if psf is None:
        remarks = sampling.of_axis(given.zero_loss)
    else:
        remarks = responses.of_own_part(psf.data, signal.data)
    for odd in remarks + responses.remarks(given.response, psf):
        warnings.warn(f"{method.name}: {odd}", UserWarning, stacklevel=3)
    if block.keywords["automatic"]:
        note["chosen"] = results.chosen_note(tally, lazy_output)
    note |= {"psf": results.psf_source(psf), "flags": results.flags_note(tally, lazy_output)}
    results.annotate(result, signal, method.node, f"after {method.words} deconvolution", **note)
    return result


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


def result_dtype(dtype):
    """Double precision is kept; everything else gives single precision."""
    return np.float64 if dtype.kind == "f" and dtype.itemsize >= 8 else np.float32


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


def deconvolve_block(
    spectra,
    psf=None,
    *,
    function,
    respond,
    smoothing,
    automatic,
    fits_peak=False,
    check=None,
    dark=None,
    variance=None,
):
    """Run an array function over the spectra of a block that can be deconvolved.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    psf : numpy.ndarray, optional
        Measured response, ``(length,)`` or ``(..., length)``.
    function : callable
        One of `exspy_deepdeconv.classical`.
    respond : callable or None
        As from `exspy_deepdeconv._signals.results.responder`, used in the place of a ``psf``.
    smoothing : float
        Width of a Gaussian with which the result is smoothed, in channels.
    automatic : bool
        Whether the function chooses its setting and returns it.
    fits_peak : bool
        Whether `FLAGS_OF_FIT` are to be raised with a measured response, too.
    check : Check, optional
        How results are judged that may not explain their spectra; not at all by default.
    dark : Dark, optional
        The flat offset that the spectra share, where the function is not to read it from each.
    variance : float or numpy.ndarray, optional
        The noise variance where the user has set it.

    Returns
    -------
    estimate : numpy.ndarray
        Of `result_dtype`. Zeros where a spectrum is empty or has no zero-loss peak to read the
        response from, NaN where it is not finite.
    flags : numpy.ndarray of uint16
        Navigation shape.
    chosen : numpy.ndarray
        Navigation shape; what the function chose.
    """
    seen = None
    if respond is not None:
        psf, flags = respond(spectra)
        flags = np.array(flags)
    else:
        flags = _flags_of_unusable(spectra)
        if fits_peak:
            seen = _inspected(spectra, dark)
            flags |= seen.flags.reshape(flags.shape) & FLAGS_OF_FIT
    good = flags & physics.UNUSABLE == 0
    estimate = np.zeros(spectra.shape, result_dtype(spectra.dtype))
    estimate[flags & physics.NOT_FINITE > 0] = np.nan
    chosen = np.full(good.shape, np.nan)
    if not good.any():
        return estimate, flags, chosen
    if seen is None and (variance is not None or dark is not None):
        seen = _inspected(spectra, dark)
    seen = seen and seen.select(good.ravel())
    noise = None
    if variance is not None:
        # The methods see counts without the flat offset, so the noise must be a line through these.
        noise = physics.told_noise(np.broadcast_to(variance, spectra.shape)[good], seen)
    psf = psf if psf.ndim == 1 else psf[good]
    offset = 0.0 if dark is None else seen.level[:, None]
    arguments = np.subtract(spectra[good], offset, dtype=estimate.dtype, casting="unsafe"), psf
    if automatic:
        found, chosen[good] = function(*arguments, noise=noise, return_chosen=True)
    else:
        found = function(*arguments, noise=noise)
    found = found + np.maximum(offset, 0)  # a negative one is subtracted
    estimate[good] = physics.smooth(found, smoothing)
    if check is not None:  # of the result before smoothing, which is not part of the method
        flags[good] |= check.flags(spectra[good], psf, found, noise, seen)
    return estimate, flags, chosen


def _flags_of_unusable(spectra):
    """Flags of what can be told without a look at the zero-loss peak; navigation shape."""
    empty, finite = (spectra == 0).all(axis=-1), np.isfinite(spectra).all(axis=-1)
    return np.asarray(physics.EMPTY * empty + physics.NOT_FINITE * ~finite, np.uint16)


def _inspected(spectra, dark):
    return physics.inspect(spectra.reshape(-1, spectra.shape[-1]), dark)


@dataclass(frozen=True)
class Check:
    """Whether results explain their spectra once they are blurred again, and whether a psf fits these.

    Attributes
    ----------
    misfit : float or None
        As of `Method`; None where results are not judged.
    resolution : float or None
        Channels (FWHM) of the Gaussian through which the results are seen; None for none.
    widths : bool
        Whether the width of the response is compared with that of the zero-loss peak.
    first : int or None
        This many spectra, spread over all, are checked first, and the others only if one of these
        is flagged, so that the check does not slow a quick method down. None for all.
    """

    misfit: float | None
    resolution: float | None
    widths: bool = False
    first: int | None = None

    @classmethod
    def of(cls, method, channels=None, *, judged=True, quick=False, widths=False):
        """The check of a method; ``channels`` is the resolution, for methods that need one."""
        seen = channels if method.needs_resolution else method.resolution or None
        misfit, first = method.misfit if judged else None, FIRST_LOOK if quick else None
        return cls(misfit, seen, widths, first)

    @property
    def kinds(self):
        """The flags that it may raise."""
        unexplained = () if self.misfit is None else (physics.UNEXPLAINED,)
        return unexplained + ((physics.PSF_MISFIT,) if self.widths else ())

    def flags(self, spectra, psf, estimate, noise=None, seen=None):
        """What is odd about results and responses, in bits of a flag.

        Parameters
        ----------
        spectra, estimate : numpy.ndarray
            ``(spectra, channels)``.
        psf : numpy.ndarray
            One response, ``(length,)``, or one for each.
        noise : Noise, optional
            Of the spectra; read from them by default.
        seen : Inspected, optional
            The spectra as they have been inspected already.

        Returns
        -------
        numpy.ndarray of uint16
            ``(spectra,)``; 0 where a spectrum has no zero-loss peak or was not looked at.
        """
        found = np.zeros(len(spectra), np.uint16)
        if not self.kinds:
            return found

        def look(rows):
            part = psf if psf.ndim == 1 else psf[rows]
            known = physics.inspect(spectra[rows]) if seen is None else seen.select(rows)
            if noise is not None:
                known = replace(known, noise=noise.select(rows))
            found[rows] = self._flags(known, part, estimate[rows])

        every = np.arange(len(spectra))
        first = every if self.first is None else sampling.spread_over(every, self.first)
        look(first)
        if found.any() and len(first) < len(every):
            look(np.setdiff1d(every, first))
        return found

    def _flags(self, seen, psf, estimate):
        good, flags = seen.usable, np.zeros(len(estimate), np.uint16)
        if not good.any():
            return flags
        estimate, seen, psf = estimate[good], seen.select(good), psf if psf.ndim == 1 else psf[good]
        response = reblur.measured_response(psf, estimate.shape[-1])
        if self.misfit is not None:
            worst = residual.explain(estimate, seen, response, self.resolution, True).worst
            flags[good] |= np.where(worst > self.misfit, physics.UNEXPLAINED, 0).astype(np.uint16)
        if self.widths:
            same = width_fit(np.atleast_2d(response.shape), seen).same
            flags[good] |= np.where(same, 0, physics.PSF_MISFIT).astype(np.uint16)
        return flags
