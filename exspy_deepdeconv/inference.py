"""From arrays of spectra to arrays of deconvolved spectra, batch by batch."""

import numbers
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from . import physics
from ._arguments import check_resolution, check_settings
from .forward import (
    Wanted,
    answers,
    batch_of,
    counts_differ,
    nothing,
    quick_and_quiet,
    response_of,
    responses,
)
from .gains import impossible_gains
from .models import load
from .physics import GAINS, NOT_FINITE, UNEXPLAINED
from .residual import explain

# Spectra times channels in one forward pass: as many as share the cost of the calls, few enough for
# the processor's caches.
CHANNELS_PER_BATCH = 96 * 1024
CHANNELS_PER_BATCH_ON_CARD = 512 * 1024
MANY_SPECTRA = 4096  # from which a map is worth the way to a graphics card


def deconvolve(
    spectra,
    dispersion,
    psf=None,
    resolution=None,
    *,
    model=None,
    zero_loss=True,
    return_interval=False,
    confidence=0.9,
    batch_size=None,
    device=None,
):
    """Deconvolve arrays of low-loss spectra, blindly or with a measured response.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``, at least 64 channels.
    dispersion : float
        eV per channel.
    psf : numpy.ndarray, optional
        A measured response on the same dispersion: one, or one per spectrum, of any length and
        scale. By default the response is found in the spectra.
    resolution : float, optional
        FWHM in eV of the Gaussian through which the answer is seen; a quarter of the median
        zero-loss width by default, never under 2 channels.
    model : str, pathlib.Path or Model, optional
        The network; the newest bundled one by default.
    zero_loss : bool
        Whether the elastic peak is part of the answer.
    return_interval : bool
        Whether the interval that holds the truth is returned too.
    confidence : float
        Share of the truth that the interval is to hold, between 0 and 1.
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    numpy.ndarray or list of numpy.ndarray
        float32, of the shape of ``spectra``. Spectra that are empty or have no zero-loss peak
        give zeros, spectra with NaN or infinity give NaN. With ``return_interval`` a list of the
        answer, the lower and the upper bound.

    Raises
    ------
    ValueError
        If an argument is out of its range, or no spectrum has a zero-loss peak.

    Warns
    -----
    UserWarning
        Of spectra that could not be deconvolved, and of doubtful results: how many of each kind.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv import deconvolve
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> deconvolve(spectrum.counts, spectrum.dispersion).shape
    (512,)
    """
    from ._blocks import FlagTally  # HyperSpy is not needed for the rest, nor for training
    from ._sampling import typical_zero_loss

    spectra = np.asarray(spectra)
    if not dispersion > 0:
        raise ValueError(f"dispersion must be a positive number of eV, not {dispersion!r}.")
    check_settings(resolution, confidence, batch_size, zero_loss, return_interval)
    _check_arguments(spectra, psf, batch_size, device)
    model = load(model)
    if return_interval:
        model.warn_if_not_calibrated()
    found = typical_zero_loss(spectra, np.zeros(spectra.shape[:-1], bool))
    wanted = check_resolution(resolution, found.fwhm, dispersion)
    estimate, flags, *interval = deconvolve_block(
        spectra,
        model=model,
        resolution=wanted,
        psf=psf,
        dark=found.dark,
        zero_loss=zero_loss,
        interval=confidence if return_interval else None,
        batch_size=batch_size,
        device=device,
    )
    tally = FlagTally(np.zeros(flags.shape, bool), False, "deconvolve")
    tally.hand_in(np.arange(flags.size), flags.ravel())
    tally.warn_of_flags()
    return [estimate, *interval] if return_interval else estimate


def deconvolve_block(
    spectra,
    *,
    model,
    resolution,
    psf=None,
    variance=None,
    dark=None,
    zero_loss=True,
    interval=None,
    batch_size=None,
    device=None,
):
    """Deconvolve a block of spectra; nothing is checked beyond what may differ between pixels.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    model : Model
        From `exspy_deepdeconv.models.load`.
    resolution : float
        FWHM in channels.
    psf : numpy.ndarray, optional
        Measured counts of the response, ``(length,)`` or ``(..., length)``.
    variance : float or numpy.ndarray, optional
        Noise variance, a number or ``(..., channels)``; read from the spectra by default.
    dark : Dark, optional
        The flat offset that the spectra share; read from each of them by default.
    zero_loss : bool
        Whether the elastic peak is part of the answer.
    interval : float, optional
        Share of the truth that an interval is to hold; none is made by default.
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    estimate : numpy.ndarray
        float32, of the shape of ``spectra``.
    flags : numpy.ndarray of uint8
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    lower, upper : numpy.ndarray
        Only with ``interval``: its bounds, of the shape of ``spectra``.
    """
    stack, flags = stacked_block(
        spectra,
        model=model,
        wanted=Wanted(resolution, zero_loss, confidence=interval),
        psf=psf,
        variance=variance,
        dark=dark,
        batch_size=batch_size,
        device=device,
    )
    estimate, *bounds = np.split(stack, stack.shape[-1] // np.shape(spectra)[-1], axis=-1)
    return estimate, flags, *bounds


def stacked_block(
    spectra, *, model, wanted, psf=None, variance=None, dark=None, batch_size=None, device=None
):
    """Deconvolve a block of spectra in one pass; everything that is wanted side by side.

    Parameters
    ----------
    spectra, model, psf, variance, dark, batch_size, device
        As for `deconvolve_block`.
    wanted : Wanted
        What is asked for.

    Returns
    -------
    stack : numpy.ndarray
        float32, ``(..., arrays * channels)``: the estimate, its variance, the lower and the upper
        bound, as far as they are wanted.
    flags : numpy.ndarray of uint8
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    """
    function = partial(_run_batch, model, wanted, dark)
    return _by_batches(
        function, spectra, psf, variance, model, batch_size, device, arrays=wanted.arrays
    )


def estimate_response(spectra, *, model=None, zero_channel=None, batch_size=None, device=None):
    """Read the response of the instrument off the zero-loss peaks of spectra.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``, at least 64 channels.
    model : str, pathlib.Path or Model, optional
        The network; the newest bundled one by default.
    zero_channel : int, optional
        Where the energy zero of the responses is to lie; the middle of the axis by default.
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    numpy.ndarray
        Responses of unit area, float32, of the shape of ``spectra``. Spectra that are empty or
        have no zero-loss peak give zeros, spectra with NaN or infinity give NaN.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.inference import estimate_response
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> response = estimate_response(spectrum.counts, zero_channel=200)
    >>> int(response.argmax()), round(float(response.sum()), 4)
    (200, 1.0)
    """
    spectra = np.asarray(spectra)
    _check_arguments(spectra, None, batch_size, device)
    channels = spectra.shape[-1]
    zero_channel = channels // 2 if zero_channel is None else zero_channel
    if not (isinstance(zero_channel, numbers.Integral) and 0 < zero_channel < channels - 1):
        raise ValueError(
            f"zero_channel={zero_channel!r} must be a whole number inside the {channels} channels."
        )
    return response_block(
        spectra,
        model=load(model),
        zero_channel=int(zero_channel),
        batch_size=batch_size,
        device=device,
    )[0]


def response_block(
    spectra, *, model, zero_channel, dark=None, psf=None, batch_size=None, device=None
):
    """Read the responses of a block of spectra; nothing is checked.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    model : Model
        From `exspy_deepdeconv.models.load`.
    zero_channel : int
        Where the energy zero is to lie.
    dark : Dark, optional
        The flat offset that the spectra share; read from each of them by default.
    psf : None
        There is none: the block runner hands it to every function.
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    responses : numpy.ndarray
        float32, of the shape of ``spectra``.
    flags : numpy.ndarray of uint8
        Navigation shape; bits as in `exspy_deepdeconv.physics`.
    """

    def respond(device, network, spectra, *_):
        seen = physics.inspect(spectra, dark)
        good = seen.usable
        out = nothing(seen)
        if good.any():
            batch, _ = batch_of(seen, good, None, device)
            out[good] = responses(network(batch), zero_channel, spectra.shape[-1])
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


def _run_batch(model, wanted, dark, device, network, spectra, psf, variance):
    """Everything wanted, side by side, and the flags of one batch, ``(batch, channels)``."""
    seen = physics.inspect(spectra, dark)
    if variance is not None:
        seen = replace(seen, noise=physics.told_noise(variance, seen))
    good, flags = seen.usable, seen.flags.copy()
    out = np.tile(nothing(seen), wanted.arrays)
    if good.any():
        chosen = psf if psf is None or len(psf) == 1 else psf[good]
        batch, measured = batch_of(seen, good, chosen, device)
        answer = network(batch)
        found = answers(answer, seen, good, batch, wanted, model)
        out[good] = np.concatenate(found, axis=-1)
        if measured is None:
            measured = response_of(answer, spectra.shape[-1])
        flags[good] |= result_flags(found[0], seen, good, measured, wanted)
    return out, flags


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


def _check_arguments(spectra, psf, batch_size, device):
    if spectra.ndim == 0 or spectra.shape[-1] < physics.MIN_CHANNELS:
        raise ValueError(
            f"spectra must have at least {physics.MIN_CHANNELS} channels along the last axis; "
            f"their shape is {spectra.shape}."
        )
    if spectra.size == 0:
        raise ValueError(f"spectra hold nothing: their shape is {spectra.shape}.")
    if spectra.dtype.kind not in "buif":
        raise ValueError(f"spectra must be real numbers, not {spectra.dtype}.")
    if psf is not None:
        shape = np.shape(psf)
        if len(shape) == 0 or (len(shape) > 1 and shape[:-1] != spectra.shape[:-1]):
            raise ValueError(
                f"psf has the shape {shape}; it must be one response, or one for each of the "
                f"spectra of shape {spectra.shape}."
            )
        physics.centred_response(psf, physics.MIN_CHANNELS)  # raises if it is no response
    if batch_size is not None and not (isinstance(batch_size, numbers.Integral) and batch_size > 0):
        raise ValueError(f"batch_size={batch_size!r} must be a whole number from 1, or None.")
    check_device(device)


def usual_device(device, spectra):
    """What is used where none is asked for: a graphics card, if there is one, for many spectra."""
    return "auto" if device is None and spectra >= MANY_SPECTRA else device


def check_device(device):
    """Raise a ValueError if torch cannot use ``device`` (None is the processor)."""
    if device is None:
        return
    try:
        there = torch.empty(0, device=device)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"device={device!r} cannot be used: {error}") from error
    if there.is_meta:
        raise ValueError(f"device={device!r} cannot be used: nothing is computed there.")
