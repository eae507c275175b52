"""One batch through the network, each spectrum with the response that suits it: a given one, or its own."""

from dataclasses import replace
from functools import partial

import numpy as np

from .. import physics
from ..physics import (
    GAINS,
    NOT_FINITE,
    PSF_MISFIT,
    PSF_NARROW,
    PSF_TAIL_HIGH,
    PSF_TAIL_LOW,
    PSF_WIDTH,
    UNEXPLAINED,
    UNFIT,
)
from ..response.gains import impossible_gains
from ..response.psf_fit import TailFit, width_fit
from ..response.residual import explain
from . import binning
from .binning import channels_in_bins
from .forward import (
    answers,
    batch_of,
    centred,
    counts_differ,
    nothing,
    response_of,
    tails_of,
)


def deconvolve_batch(
    model,
    wanted,
    dark,
    device,
    network,
    spectra,
    psf,
    variance,
    *,
    estimated=False,
    answer_of=binning.answer_of,
):
    """Deconvolve a batch of spectra.

    A measured response is trusted where its width and its tails are those of the zero-loss peak. Where
    that is not certain it is used, but the network is not told, nor where it is narrower and has been
    broadened. Where it is wider, has other tails, or does not explain the spectrum, the response is found in
    the spectrum, as where none is given (unless ``wanted.force_psf``).

    Parameters
    ----------
    model : Model
        Its calibration scales the errors.
    wanted : Wanted
        What is asked for.
    dark : Dark or None
        The flat offset that the spectra share.
    device : torch.device
        Where the network is.
    network : DeconvolutionNet
        That of the model, there.
    spectra : numpy.ndarray
        ``(batch, channels)``.
    psf : numpy.ndarray or None
        Responses, ``(1 or batch, length)``.
    variance : float, numpy.ndarray or None
        Noise variance, a number or ``(batch, channels)``.
    estimated : bool
        Whether ``psf`` was estimated from spectra, not measured.
    answer_of : callable
        In place of `exspy_deepdeconv.estimate.binning.answer_of`.

    Returns
    -------
    stack : numpy.ndarray
        Everything wanted, side by side, ``(batch, arrays * channels)``.
    flags : numpy.ndarray of uint16
        Shape ``(batch,)``; `PSF_MISFIT` is where the response found in the spectrum was used instead of
        the given one, `PSF_NARROW` where this was broadened.
    """
    seen = physics.inspect(spectra, dark)
    if variance is not None:
        seen = replace(seen, noise=physics.told_noise(variance, seen))
    run = partial(_run, model, wanted, device, partial(answer_of, network), seen)
    usable = seen.usable
    if psf is None or not usable.any():
        return run(usable)
    psf = _centred(psf, seen)
    widths = width_fit(_of_rows(psf, usable), seen.select(usable))
    if estimated:
        fits = _spread(widths.usable, usable)
        out, flags = run(usable if wanted.force_psf else fits, psf, estimated=True)
        reasons = np.where(usable & ~fits, PSF_WIDTH, 0)
        if wanted.force_psf:
            return out, flags | reasons
        return _with_own(run, out, flags, usable & (~fits | (flags & UNFIT > 0)), fits, reasons)
    trusted, tails = _spread(widths.trusted, usable), TailFit.unknown(len(spectra))
    out, flags = run(trusted, psf, tails=tails)
    doubted = usable & ~(trusted & tails.trusted)
    if doubted.any():
        found, found_flags = run(doubted, psf, estimated=True, tails=tails)
        out[doubted], flags[doubted] = found[doubted], found_flags[doubted]
    narrow = _spread(widths.narrower, usable)
    flags[narrow] |= PSF_NARROW
    same = narrow | _spread(widths.same, usable)
    reasons = np.where(usable & ~same, PSF_WIDTH, 0) | np.where(tails.too_low, PSF_TAIL_LOW, 0)
    reasons |= np.where(tails.too_high, PSF_TAIL_HIGH, 0)
    if wanted.force_psf:
        return out, flags | reasons
    doubtful = usable & (~(same & tails.same) | (flags & UNFIT > 0))
    return _with_own(run, out, flags, doubtful, usable, reasons)


def _with_own(run, out, flags, doubtful, fits, reasons):
    """Results with the response found in the spectrum, where that is better than with the given one.

    That is where the given one was of no use (``~fits``), or where one's own explains the data.
    """
    if doubtful.any():
        own, own_flags = run(doubtful)
        better = doubtful & (~fits | (own_flags & UNFIT == 0))
        told = own_flags | PSF_MISFIT | reasons
        out[better], flags[better] = own[better], told[better]
    return out, flags


def _run(model, wanted, device, answer_of, seen, rows, psf=None, *, estimated=False, tails=None):
    """Results and flags of some of the spectra, zeros (or NaN) elsewhere; ``tails`` takes how a psf fits."""
    flags = seen.flags.copy()
    out = np.tile(nothing(seen), wanted.arrays)
    for number, good in alike(seen, rows, wanted.resolution):
        batch, measured = batch_of(seen, good, _of_rows(psf, good), device, estimated)
        answer = answer_of(batch, number)
        found = answers(answer, seen, good, batch, wanted, model)
        out[good] = np.concatenate(found, axis=-1)
        if measured is None:
            measured = response_of(answer, seen.counts.shape[-1])
        if tails is not None:
            tails.put(good, tails_of(answer, seen, good, wanted.dispersion))
        flags[good] |= result_flags(found[0], seen, good, measured, wanted)
    return out, flags


def _spread(of_some, some):
    """Truths on some of the spectra, as those of all of them; False elsewhere."""
    everything = some.copy()
    everything[some] = of_some
    return everything


def _centred(psf, seen):
    """The responses as `batch_of` takes them; zeros of unusable spectra, whose own may be none."""
    channels = seen.counts.shape[-1]
    if len(psf) == 1:
        return centred(psf, channels)
    found = centred(psf[seen.usable], channels)
    everything = np.zeros((len(psf), found.shape[-1]))
    everything[seen.usable] = found
    return everything


def _of_rows(psf, rows):
    """The responses of some spectra: one for all, or their own."""
    return psf if psf is None or len(psf) == 1 else psf[rows]


def alike(seen, usable, resolution=np.inf):
    """Yield the number of channels in a bin, and the spectra that it suits, ``(batch,)`` of bool."""
    numbers = channels_in_bins(seen.zero_loss.fwhm, seen.counts.shape[-1], resolution)
    for number in np.unique(numbers[usable]):
        yield int(number), usable & (numbers == number)


def result_flags(results, seen, good, measured, wanted):
    """What is odd about results, in bits of a flag.

    Parameters
    ----------
    results : numpy.ndarray
        Of the usable spectra, ``(usable, channels)``.
    seen : Inspected
        All spectra.
    good : numpy.ndarray of bool
        Which of them are usable.
    measured : Response
        What the results are blurred with again.
    wanted : Wanted
        What was asked for.

    Returns
    -------
    numpy.ndarray of uint16
        Shape ``(usable,)``.
    """
    of_good = seen.select(good)
    unexplained = explain(results, of_good, measured, wanted.resolution, wanted.zero_loss).misfit
    if wanted.zero_loss:
        unexplained = unexplained | counts_differ(results, seen, good)
    gains = impossible_gains(results, of_good, wanted.resolution)
    flags = np.where(unexplained, UNEXPLAINED, 0) | np.where(gains, GAINS, 0)
    lost = ~np.isfinite(results).all(axis=-1)
    return np.where(lost, NOT_FINITE, flags).astype(np.uint16)
