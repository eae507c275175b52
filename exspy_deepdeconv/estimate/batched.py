"""Blocks of spectra through the network, batch by batch; the arguments are already checked."""

from functools import partial

import numpy as np

from .. import physics
from .binning import answer_of
from .choice import alike, deconvolve_batch
from .forward import Wanted, batch_of, nothing, quick_and_quiet, responses

# Spectra times channels in one forward pass: as many as share the cost of the calls, few enough for
# the processor's caches.
CHANNELS_PER_BATCH = 96 * 1024
CHANNELS_PER_BATCH_ON_CARD = 512 * 1024


def deconvolve_block(
    spectra,
    *,
    resolution,
    dispersion=None,
    zero_loss=True,
    interval=None,
    force_psf=False,
    **options,
):
    """Deconvolve a block of spectra; nothing is checked beyond what may differ between pixels.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    resolution : float
        FWHM in channels.
    dispersion : float, optional
        eV per channel: see `exspy_deepdeconv.estimate.forward.Wanted`.
    zero_loss : bool
        Whether the elastic peak is part of the answer.
    interval : float, optional
        Share of the truth that an interval is to hold; none is made by default.
    force_psf : bool
        Whether a response is used also where it does not fit.
    **options
        The others of `stacked_block`, of which ``model`` is needed.

    Returns
    -------
    estimate : numpy.ndarray
        float32, of the shape of ``spectra``.
    flags : numpy.ndarray of uint16
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    lower, upper : numpy.ndarray
        Only with ``interval``: its bounds, of the shape of ``spectra``.
    """
    wanted = Wanted(
        resolution, zero_loss, confidence=interval, dispersion=dispersion, force_psf=force_psf
    )
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
    flags : numpy.ndarray of uint16
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    """
    function = partial(deconvolve_batch, model, wanted, dark, estimated=estimated)
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
    flags : numpy.ndarray of uint16
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    """

    def respond(device, network, spectra, *_):
        seen = physics.inspect(spectra, dark)
        out = nothing(seen)
        for number, good in alike(seen, seen.usable):
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
    flags = np.zeros(flat.shape[0], np.uint16)
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
