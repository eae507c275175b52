"""What the classical signal methods share: checks, response, blocks, metadata.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from . import _blocks, _checks, _results, _sampling, classical, models, physics, reblur, residual

FIRST_LOOK = 16  # spectra of a block whose results are judged before it is known to be worth it
ENOUGH = 15  # iterations, exspy's default: who asks for fewer asks for a misfit
UNUSABLE_KINDS = (physics.EMPTY, physics.NO_ZERO_LOSS, physics.NOT_FINITE)
UNUSABLE = physics.EMPTY | physics.NO_ZERO_LOSS | physics.NOT_FINITE


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
        In titles and metadata.
    setting : str
        The name of its one setting.
    resolution : float
        Channels (FWHM) of the Gaussian through which its results are seen as they are; 0 for
        none.
    fits_peak : bool
        Whether it fits the elastic peak: then a saturated one spoils the result.
    misfit : float
        From which `exspy_deepdeconv.residual.Verdict.worst` on a result counts as one that does
        not explain the data. It is set higher where a method weighs all channels alike: then it
        leaves misfits in weak losses by its nature, with the best of responses.
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
    _checks.check_resolution_number(resolution)
    axis = _checks.check_energy_axis(signal)
    _checks.check_data(signal)
    _checks.check_channels(signal)
    response = _checks.check_psf(psf, signal, axis.dispersion)
    variance = _checks.check_variance(signal)
    _checks.warn_of_result(signal, method.name, stacklevel=4)
    data = _checks.plain_array(signal)
    mask = np.zeros(data.shape[:-1], dtype=bool)
    lazy_output = _checks.wants_lazy(signal, lazy_output)
    note = {"method": method.words, "psf": _results.psf_source(psf, signal)}

    respond = None
    if psf is None:
        model = models.load()
        note |= {"model": model.name, "weights_sha256": model.sha256}
        zero_loss = _sampling.typical_zero_loss(data, mask, axis.reversed)
        respond = responder(model, zero_loss, data.shape[-1])
    channels = None
    if resolution is not None or key == "fourier":
        width = _width(data, mask, axis.reversed, response) if psf is not None else zero_loss.fwhm
        if np.isnan(width) and resolution is None and mask.size:
            raise ValueError(
                "resolution must be given: neither the spectra nor the psf have a peak whose "
                "width could be read."
            )
        channels = _checks.check_resolution(resolution, width, axis.dispersion)

    if channels is None and method.resolution:
        channels = method.resolution
    automatic = isinstance(setting, str)
    options = {method.setting: channels if key == "fourier" else setting}
    check = None
    if automatic or method.fits_peak or setting >= ENOUGH:
        check = Check.of(method, channels, quick=psf is not None and not method.fits_peak)
    fixed = variance is None or isinstance(variance, float)
    block = partial(
        deconvolve_block,
        function=partial(getattr(classical, method.function), **options),
        respond=respond,
        smoothing=_missing(channels, method),
        automatic=automatic,
        fits_peak=method.fits_peak,
        check=check,
        dtype=result_dtype(data.dtype),
        **({"variance": variance} if fixed else {}),
    )
    kinds = _blocks.DATA_FLAGS if psf is None or method.fits_peak else UNUSABLE_KINDS
    if check is not None:
        kinds = (*kinds, physics.UNEXPLAINED)
    tally = _blocks.FlagTally(mask, lazy_output, method.name, kinds)
    blocks = _blocks.run_blocks(
        block,
        data,
        mask,
        tally,
        psf=response,
        beside={} if fixed else {"variance": variance},
        reverse=axis.reversed,
        dtype=result_dtype(data.dtype),
        num_workers=num_workers,
    )
    result = _results.finish(
        signal,
        blocks,
        tally,
        lazy_output=lazy_output,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        stacklevel=4,
    )
    if key != "fourier":
        note[method.setting] = setting
    if automatic:
        note["chosen"] = _results.chosen_note(tally, lazy_output)
    note["resolution"] = None if channels is None else float(channels * axis.dispersion)
    note["flags"] = {"counted": False} if lazy_output else tally.counts() | tally.maps()
    for odd in _sampling.of_response(response, psf):
        warnings.warn(f"{method.name}: {odd}", UserWarning, stacklevel=3)
    _results.annotate(result, signal, method.node, f"after {method.words} deconvolution", **note)
    return result


def responder(model, zero_loss, channels):
    """``respond(spectra) -> (responses, flags)`` for the blocks of a signal."""
    from .inference import response_block

    zero_channel = _sampling.response_zero(zero_loss, channels)
    return partial(response_block, model=model, zero_channel=zero_channel)


def result_dtype(dtype):
    """Double precision is kept; everything else gives single precision."""
    return np.float64 if dtype.kind == "f" and dtype.itemsize >= 8 else np.float32


def _width(data, mask, reverse, response):
    """Zero-loss width of the data in channels, or where they have none, that of the response."""
    try:
        return _sampling.zero_loss_width(data, mask, reverse)
    except ValueError:
        return _sampling.response_width(response)


def _missing(resolution, method):
    """Smoothing that brings a result to the resolution, in channels."""
    if resolution is None or method.setting == "resolution":
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
    dtype,
    fits_peak=False,
    check=None,
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
    respond : callable
        As from `responder`, used where there is no ``psf``.
    smoothing : float
        Width of a Gaussian with which the result is smoothed, in channels.
    automatic : bool
        Whether the function chooses its setting and returns it.
    fits_peak : bool
        Whether saturated zero-loss peaks and spikes are to be flagged with a measured response.
    check : Check, optional
        How results are judged that may not explain their spectra; not at all by default.
    dtype : numpy.dtype
        Of the result.
    variance : float or numpy.ndarray, optional
        The noise variance where the user has set it.

    Returns
    -------
    estimate : numpy.ndarray
        Zeros where a spectrum is empty or has no zero-loss peak to read the response from, NaN
        where it is not finite.
    flags : numpy.ndarray of uint8
        Navigation shape.
    chosen : numpy.ndarray
        Navigation shape; what the function chose.
    """

    def inspected(spectra):
        return physics.inspect(spectra.reshape(-1, spectra.shape[-1]))

    seen = None
    if respond is not None:
        psf, flags = respond(spectra)
    else:
        finite, empty = np.isfinite(spectra).all(axis=-1), (spectra == 0).all(axis=-1)
        flags = (physics.EMPTY * empty + physics.NOT_FINITE * ~finite).astype(np.uint8)
        if fits_peak:
            seen = inspected(spectra)
            flags |= seen.flags.reshape(flags.shape) & (physics.SATURATED | physics.SPIKE)
    good = flags & UNUSABLE == 0
    estimate = np.zeros(spectra.shape, dtype)
    estimate[flags & physics.NOT_FINITE > 0] = np.nan
    chosen = np.full(good.shape, np.nan)
    if good.any():
        given = [spectra[good].astype(dtype), psf if psf.ndim == 1 else psf[good]]
        noise = None
        if variance is not None:
            # A flat offset is noise, but no counts: the methods use the line without it.
            seen = inspected(spectra) if seen is None else seen
            of_good = np.broadcast_to(variance, spectra.shape)[good]
            noise = physics.told_noise(of_good, seen.select(good.ravel()))
        if automatic:
            found, chosen[good] = function(*given, noise=noise, return_chosen=True)
        else:
            found = function(*given, noise=noise)
        estimate[good] = physics.smooth(found, smoothing)
        if check is not None:  # before it is smoothed: that is no part of the method
            flags = np.array(flags)
            seen = seen and seen.select(good.ravel())
            misfits = check.misfits(spectra[good], given[1], found, noise, seen)
            flags[good] |= np.where(misfits, physics.UNEXPLAINED, 0).astype(np.uint8)
    return estimate, flags, chosen


@dataclass(frozen=True)
class Check:
    """Whether results explain their spectra once they are blurred again.

    Attributes
    ----------
    misfit : float
        As of `Method`.
    resolution : float or None
        Channels (FWHM) of the Gaussian through which the results are seen; None for none.
    first : int or None
        So many spectra are judged first, spread over all, and the others only if one of these
        is not explained: a quick method is not to be made slow by its check. None for all.
    """

    misfit: float
    resolution: float | None
    first: int | None = None

    @classmethod
    def of(cls, method, channels=None, quick=False):
        """For the results of a method; ``channels`` is the resolution of those that ask for it."""
        seen = channels if method.setting == "resolution" else method.resolution or None
        return cls(method.misfit, seen, FIRST_LOOK if quick else None)

    def misfits(self, spectra, psf, estimate, noise=None, seen=None):
        """Where a result does not explain its spectrum.

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
        numpy.ndarray of bool
            ``(spectra,)``; False where a spectrum has no zero-loss peak or was not looked at.
        """
        found = np.zeros(len(spectra), bool)

        def look(rows):
            part = psf if psf.ndim == 1 else psf[rows]
            known = physics.inspect(spectra[rows]) if seen is None else seen.select(rows)
            if noise is not None:
                known = replace(known, noise=physics.Noise(noise.gain[rows], noise.floor[rows]))
            found[rows] = self._worst(known, part, estimate[rows]) > self.misfit

        every = np.arange(len(spectra))
        first = every if self.first is None else _sampling.spread_over(every, self.first)
        look(first)
        if found.any() and len(first) < len(every):
            look(np.setdiff1d(every, first))
        return found

    def _worst(self, seen, psf, estimate):
        """`exspy_deepdeconv.residual.Verdict.worst`; 0 where there is no zero-loss peak."""
        good, worst = seen.usable, np.zeros(len(estimate))
        if good.any():
            response = psf if psf.ndim == 1 else psf[good]
            worst[good] = residual.explain(
                estimate[good],
                seen.select(good),
                reblur.measured_response(response, estimate.shape[-1]),
                self.resolution,
                True,
            ).worst
        return worst
