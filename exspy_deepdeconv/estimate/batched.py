"""Blocks of spectra through the network, batch by batch; the arguments are already checked."""

from dataclasses import replace
from functools import partial

import numpy as np

from .. import physics
from ..physics import GAINS, NOT_FINITE, PSF_MISFIT, UNEXPLAINED, UNFIT
from ..response.gains import impossible_gains
from ..response.psf_fit import width_fit
from ..response.residual import explain
from .binning import answer_of, channels_in_bins
from .forward import (
    Wanted,
    answers,
    batch_of,
    centred,
    counts_differ,
    nothing,
    quick_and_quiet,
    response_of,
    responses,
    same_tails,
)

# Spectra times channels in one forward pass: as many as share the cost of the calls, few enough for
# the processor's caches.
CHANNELS_PER_BATCH = 96 * 1024
CHANNELS_PER_BATCH_ON_CARD = 512 * 1024


def deconvolve_block(spectra, *, resolution, zero_loss=True, interval=None, **options):
    """Deconvolve a block of spectra; nothing is checked beyond what may differ between pixels.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    resolution : float
        FWHM in channels.
    zero_loss : bool
        Whether the elastic peak is part of the answer.
    interval : float, optional
        Share of the truth that an interval is to hold; none is made by default.
    **options
        The others of `stacked_block`, of which ``model`` is needed.

    Returns
    -------
    estimate : numpy.ndarray
        float32, of the shape of ``spectra``.
    flags : numpy.ndarray of uint8
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    lower, upper : numpy.ndarray
        Only with ``interval``: its bounds, of the shape of ``spectra``.
    """
    wanted = Wanted(resolution, zero_loss, confidence=interval)
    stack, flags = stacked_block(spectra, wanted=wanted, **options)
    estimate, *bounds = np.split(stack, wanted.arrays, axis=-1)
    return estimate, flags, *bounds


def stacked_block(
    spectra,
    *,
    model,
    wanted,
    psf=None,
    estimated=False,
    variance=None,
    dark=None,
    batch_size=None,
    device=None,
):
    """Deconvolve a block of spectra in one pass; everything that is wanted side by side.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    model : Model
        From `exspy_deepdeconv.models.load`.
    wanted : Wanted
        What is asked for.
    psf : numpy.ndarray, optional
        Measured counts of the response, ``(length,)`` or ``(..., length)``.
    estimated : bool
        Whether ``psf`` was read off spectra, not measured: where it does not fit, the response is found
        in the spectrum itself.
    variance : float or numpy.ndarray, optional
        Noise variance, a number or ``(..., channels)``; read from the spectra by default.
    dark : Dark, optional
        The flat offset that the spectra share; read from each of them by default.
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    stack : numpy.ndarray
        float32, ``(..., arrays * channels)``: the estimate, its variance, the lower and the upper
        bound, as far as they are wanted.
    flags : numpy.ndarray of uint8
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    """
    function = partial(_run_batch, model, wanted, dark, estimated=estimated)
    return _by_batches(
        function, spectra, psf, variance, model, batch_size, device, arrays=wanted.arrays
    )


def response_block(
    spectra, *, model, zero_channel, dark=None, psf=None, batch_size=None, device=None
):
    """Read the responses of a block of spectra; nothing is checked.

    Parameters
    ----------
    spectra, model, dark, batch_size, device
        As for `stacked_block`.
    zero_channel : int
        Where the energy zero is to lie.
    psf : None
        There is none: the block runner hands it to every function.

    Returns
    -------
    responses : numpy.ndarray
        float32, of the shape of ``spectra``.
    flags : numpy.ndarray of uint8
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    """

    def respond(device, network, spectra, *_):
        seen = physics.inspect(spectra, dark)
        out = nothing(seen)
        for number, good in _alike(seen, seen.usable):
            batch, _ = batch_of(seen, good, None, device)
            answer = answer_of(network, batch, number)
            out[good] = responses(answer, zero_channel, spectra.shape[-1])
        return out, seen.flags

    return _by_batches(respond, spectra, psf, None, model, batch_size, device)


def _by_batches(function, spectra, psf, variance, model, batch_size, device, arrays=1):
    """Batch by batch: ``function(device, network, spectra, psf, variance) -> (answers, flags)``."""
    spectra = np.asarray(spectra)
    channels = spectra.shape[-1]
    flat = spectra.reshape(-1, channels)
    responses = None if psf is None else np.asarray(psf).reshape(-1, np.shape(psf)[-1])
    if isinstance(variance, np.ndarray):
        variance = variance.reshape(flat.shape)
    out = np.zeros((flat.shape[0], arrays * channels), np.float32)
    flags = np.zeros(flat.shape[0], np.uint8)
    with quick_and_quiet(device, model) as (device, network):
        most = CHANNELS_PER_BATCH if device.type == "cpu" else CHANNELS_PER_BATCH_ON_CARD
        batch_size = batch_size or max(most // channels, 1)
        for start in range(0, flat.shape[0], batch_size):
            rows = slice(start, start + batch_size)
            chosen = responses if responses is None or len(responses) == 1 else responses[rows]
            noise = variance[rows] if isinstance(variance, np.ndarray) else variance
            out[rows], flags[rows] = function(device, network, flat[rows], chosen, noise)
    shape = spectra.shape[:-1]
    return out.reshape((*shape, arrays * channels)), flags.reshape(shape)


def _run_batch(model, wanted, dark, device, network, spectra, psf, variance, *, estimated=False):
    """Everything wanted, side by side, and the flags of one batch, ``(batch, channels)``."""
    seen = physics.inspect(spectra, dark)
    if variance is not None:
        seen = replace(seen, noise=physics.told_noise(variance, seen))
    run = partial(_run_some, model, wanted, device, network, seen)
    if psf is None or not seen.usable.any():
        return run(seen.usable, psf)[:2]
    psf = _centred(psf, seen)
    fit = width_fit(_of_rows(psf, seen.usable), seen.select(seen.usable))

    def among_all(rows):
        everything = seen.usable.copy()
        everything[everything] = rows
        return everything

    if estimated:
        return _run_estimated(run, seen.usable, psf, among_all(fit.usable))
    trusted = among_all(fit.trusted)
    out, flags, same = run(trusted, psf)
    doubted = seen.usable & ~(trusted & same)
    if doubted.any():
        found = run(doubted, psf, estimated=True)[:2]
        out[doubted], flags[doubted] = (x[doubted] for x in found)
    flags[among_all(~fit.same)] |= PSF_MISFIT
    return out, flags


def _run_estimated(run, usable, psf, fits):
    """The same with an estimated response, which is no better than the spectra it is from.

    Spectra that it does not fit, or does not explain, keep the response that is found in them.
    """
    out, flags, _ = run(fits, psf, estimated=True)
    doubtful = usable & (~fits | (flags & UNFIT > 0))
    if doubtful.any():
        own, own_flags, _ = run(doubtful, None)
        better = doubtful & (~fits | (own_flags & UNFIT == 0))
        out[better], flags[better] = own[better], own_flags[better] | PSF_MISFIT
    return out, flags


def _run_some(model, wanted, device, network, seen, usable, psf, *, estimated=False):
    """The same of some of the spectra; zeros (or NaN) elsewhere. Third, where a measured psf has their tails."""
    flags, same = seen.flags.copy(), np.ones(len(seen.flags), bool)
    out = np.tile(nothing(seen), wanted.arrays)
    for number, good in _alike(seen, usable, wanted.resolution):
        batch, measured = batch_of(seen, good, _of_rows(psf, good), device, estimated)
        answer = answer_of(network, batch, number)
        found = answers(answer, seen, good, batch, wanted, model)
        out[good] = np.concatenate(found, axis=-1)
        if measured is None:
            measured = response_of(answer, seen.counts.shape[-1])
        elif not estimated:
            same[good] = same_tails(answer, seen, good)
        flags[good] |= result_flags(found[0], seen, good, measured, wanted)
    return out, flags, same


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


def _alike(seen, usable, resolution=np.inf):
    """Yield the number of channels in a bin, and the usable spectra that it suits."""
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
    numpy.ndarray of uint8
        Shape ``(usable,)``.
    """
    of_good = seen.select(good)
    unexplained = explain(results, of_good, measured, wanted.resolution, wanted.zero_loss).misfit
    if wanted.zero_loss:
        unexplained = unexplained | counts_differ(results, seen, good)
    gains = impossible_gains(results, of_good, wanted.resolution)
    flags = np.where(unexplained, UNEXPLAINED, 0) | np.where(gains, GAINS, 0)
    lost = ~np.isfinite(results).all(axis=-1)
    return np.where(lost, NOT_FINITE, flags).astype(np.uint8)
