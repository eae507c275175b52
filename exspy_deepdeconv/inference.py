"""From arrays of spectra to deconvolved spectra: batches, device, thread and denormal care."""

import numbers
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from . import physics
from .frame import BLOCK, PAD
from .models import load
from .network import Spectra, finest_resolution
from .physics import NOT_FINITE, UNEXPLAINED
from .residual import Response, explain, select

# Spectra times channels in one forward pass: small enough for the processor's caches.
CHANNELS_PER_BATCH = 32 * 1024
MAX_SAMPLED = 256  # spectra that are asked for the zero-loss width
BROADER_THAN = 1.03  # zero-loss peak over response: less is the scatter of the widths
CONSERVE_WITHIN = 0.05  # larger differences in counts have another cause and are left alone


def deconvolve(
    spectra,
    dispersion,
    psf=None,
    resolution=None,
    *,
    model=None,
    zero_loss=True,
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
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    numpy.ndarray
        float32, of the shape of ``spectra``. Spectra that are empty or have no zero-loss peak
        give zeros, spectra with NaN or infinity give NaN.

    Raises
    ------
    ValueError
        If an argument is out of its range, or no spectrum has a zero-loss peak.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv import deconvolve
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> deconvolve(spectrum.counts, spectrum.dispersion).shape
    (512,)
    """
    spectra = np.asarray(spectra)
    if not dispersion > 0:
        raise ValueError(f"dispersion must be a positive number of eV, not {dispersion!r}.")
    _check_arguments(spectra, psf, resolution, batch_size, device)
    model = load(model)
    fwhm = _median_width(spectra.reshape(-1, spectra.shape[-1]))
    finest, coarsest = physics.resolution_range(fwhm)
    wanted = physics.default_resolution(fwhm) if resolution is None else resolution / dispersion
    if not finest * (1 - 1e-6) <= wanted <= coarsest * (1 + 1e-6):
        raise ValueError(
            f"resolution={resolution!r} eV is out of range: from {finest * dispersion:.4g} to "
            f"{coarsest * dispersion:.4g} eV for a zero-loss peak {fwhm * dispersion:.4g} eV wide."
        )
    return deconvolve_block(
        spectra,
        model=model,
        resolution=wanted,
        psf=psf,
        zero_loss=zero_loss,
        batch_size=batch_size,
        device=device,
    )[0]


def deconvolve_block(
    spectra,
    *,
    model,
    resolution,
    psf=None,
    variance=None,
    zero_loss=True,
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
    zero_loss : bool
        Whether the elastic peak is part of the answer.
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
    """

    def run(network, device, spectra, psf, variance):
        return _run_batch(network, device, spectra, psf, variance, resolution, zero_loss)

    return _by_batches(run, spectra, psf, variance, model, batch_size, device)


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
    _check_arguments(spectra, None, None, batch_size, device)
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


def response_block(spectra, *, model, zero_channel, psf=None, batch_size=None, device=None):
    """Read the responses of a block of spectra; nothing is checked.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    model : Model
        From `exspy_deepdeconv.models.load`.
    zero_channel : int
        Where the energy zero is to lie.
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

    def respond(network, device, spectra, *_):
        seen = physics.inspect(spectra)
        good = seen.usable
        out = _nothing(seen)
        if good.any():
            batch, _ = _batch_of(seen, good, None, device)
            out[good] = _responses(network(batch), zero_channel, spectra.shape[-1])
        return out, seen.flags

    return _by_batches(respond, spectra, psf, None, model, batch_size, device)


def _by_batches(function, spectra, psf, variance, model, batch_size, device):
    """Batch by batch: ``function(network, device, spectra, psf, variance) -> (estimate, flags)``."""
    spectra = np.asarray(spectra)
    channels = spectra.shape[-1]
    flat = spectra.reshape(-1, channels)
    responses = None if psf is None else np.asarray(psf).reshape(-1, np.shape(psf)[-1])
    if isinstance(variance, np.ndarray):
        variance = variance.reshape(flat.shape)
    estimate = np.zeros(flat.shape, np.float32)
    flags = np.zeros(flat.shape[0], np.uint8)
    batch_size = batch_size or max(CHANNELS_PER_BATCH // channels, 1)
    with _quick_and_quiet(device, model) as (network, device):
        for start in range(0, flat.shape[0], batch_size):
            rows = slice(start, start + batch_size)
            chosen = responses if responses is None or len(responses) == 1 else responses[rows]
            noise = variance[rows] if isinstance(variance, np.ndarray) else variance
            estimate[rows], flags[rows] = function(network, device, flat[rows], chosen, noise)
    return estimate.reshape(spectra.shape), flags.reshape(spectra.shape[:-1])


def _check_arguments(spectra, psf, resolution, batch_size, device):
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
    if resolution is not None and not isinstance(resolution, numbers.Real):
        raise ValueError(f"resolution={resolution!r} must be a number of eV, or None.")
    if batch_size is not None and not (isinstance(batch_size, numbers.Integral) and batch_size > 0):
        raise ValueError(f"batch_size={batch_size!r} must be a whole number from 1, or None.")
    check_device(device)


def _median_width(spectra):
    """Median zero-loss width in channels of at most 256 spread spectra; of all, if none serves."""
    chosen = np.unique(np.linspace(0, len(spectra) - 1, MAX_SAMPLED).astype(int))
    for part in (spectra[chosen], spectra):
        seen = physics.inspect(part)
        if seen.usable.any():
            return float(np.median(seen.zero_loss.fwhm[seen.usable]))
    raise ValueError(
        "spectra: none of them is finite and has a zero-loss peak; low-loss data are needed."
    )


def check_device(device):
    """Raise a ValueError if torch cannot use ``device`` (None is the processor)."""
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"device={device!r} cannot be used: {error}") from error


@contextmanager
def _quick_and_quiet(device, model):
    """Denormals off around the forward passes (six times slower else), the user's state restored."""
    device = torch.device("cpu" if device is None else device)
    before = torch.get_num_threads(), flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        with torch.inference_mode():
            yield model.network.to(device), device
    finally:
        torch.set_flush_denormal(before[1])
        if torch.get_num_threads() != before[0]:
            torch.set_num_threads(before[0])


def flushes_denormals():
    """Whether denormals are flushed now (torch has no getter)."""
    return float(torch.tensor([1e-310], dtype=torch.float64).mul(1.0)[0]) == 0.0


def _run_batch(network, device, spectra, psf, variance, resolution, zero_loss):
    """Answer and flags of one batch of spectra, ``(batch, channels)``."""
    seen = physics.inspect(spectra)
    if variance is not None:
        seen = replace(seen, noise=physics.noise_of_variance(variance, seen.counts))
    good = seen.usable
    estimate, flags = _nothing(seen), seen.flags.copy()
    if good.any():
        chosen = psf if psf is None or len(psf) == 1 else psf[good]
        batch, measured = _batch_of(seen, good, chosen, device)
        answer = network(batch)
        estimate[good] = found = _estimate(answer, seen, good, batch, resolution, zero_loss)
        if measured is None:
            measured = _response_of(answer, spectra.shape[-1])
        verdict = explain(found, select(seen, good), measured, resolution, zero_loss)
        flags[good] |= np.where(verdict.misfit, UNEXPLAINED, 0).astype(np.uint8)
    return estimate, flags


def _nothing(seen):
    """Zeros, and NaN where a spectrum is not finite."""
    estimate = np.zeros(seen.counts.shape, np.float32)
    estimate[(seen.flags & NOT_FINITE) > 0] = np.nan
    return estimate


def _batch_of(seen, good, psf, device):
    """The good spectra as the network takes them, and the measured responses as it sees them."""
    counts, height = seen.counts[good], seen.zero_loss.height[good]

    def tensor(array):
        return torch.as_tensor(np.asarray(array, np.float32), device=device)

    spectra = Spectra(
        tensor(counts / height[:, None]),
        tensor(seen.zero_loss.position[good]),
        tensor(seen.zero_loss.fwhm[good]),
        tensor(seen.noise.gain[good] / height),
        tensor(seen.noise.floor[good] / height**2),
    )
    if psf is None:
        return spectra, None
    reach = counts.shape[-1] + BLOCK + PAD  # as long as the frame's half axis can hold
    measured = _broadened(physics.centred_response(psf, reach), seen.zero_loss.fwhm[good])
    spectra.psf = tensor(measured)
    spectra.has_psf = torch.ones(len(counts), device=device)
    return spectra, Response(measured, reach)


def _estimate(answer, seen, good, spectra, resolution, zero_loss):
    """The answer at this resolution, in the units of the data."""
    frame, height = answer.frame, seen.zero_loss.height[good]
    wanted = torch.full_like(spectra.fwhm, float(resolution))
    missing = (wanted**2 - finest_resolution(spectra.fwhm) ** 2).clamp(min=0)
    inelastic = frame.smooth(answer.inelastic, missing.sqrt()).clamp(min=0)
    peak = answer.elastic_counts[:, None] * frame.zero_loss(wanted)
    inelastic, peak = (frame.take(x).double().cpu().numpy() for x in (inelastic, peak))
    complete = seen.zero_loss.position[good] >= 3 * seen.zero_loss.fwhm[good]
    measured = seen.counts[good].sum(-1) / height
    factor = _conserving_factor(measured, inelastic.sum(-1) + peak.sum(-1), complete)
    estimate = inelastic + peak if zero_loss else inelastic
    # A flat offset stays in the answer, unless it is negative: the answer never is.
    level = np.maximum(seen.level[good], 0)[:, None]
    return estimate * (factor * height)[:, None] + level


def _response_of(answer, channels):
    """The responses that the network found, as long as its frame: nothing of them is cut off."""
    zero_channel = channels // 3
    return Response(_responses(answer, zero_channel, answer.frame.size), zero_channel)


def _responses(answer, zero_channel, length):
    """The responses that the network found: unit area, their maximum at ``zero_channel``."""
    elastic = answer.elastic.double().cpu().numpy()
    size = elastic.shape[-1]
    nearest = np.floor(answer.frame.position.double().cpu().numpy() + 0.5).astype(int)
    index = (np.arange(size) - zero_channel + nearest[:, None]) % size
    placed = np.take_along_axis(elastic, index, -1)
    # The energy zero is the vertex of the peak. The axis is a circle: a Fourier shift is exact.
    vertex = physics.parabola_vertex(placed, placed.argmax(axis=-1))
    phase = np.exp(2j * np.pi * np.fft.rfftfreq(size) * (vertex - zero_channel)[:, None])
    moved = np.fft.irfft(np.fft.rfft(placed) * phase, size)
    moved = np.maximum(moved[:, :length], 0)
    return moved / moved.sum(axis=-1, keepdims=True)


def _broadened(responses, fwhm):
    """Responses no narrower than the zero-loss peaks that they are to explain.

    Drift and charging broaden the peak on the specimen; a vacuum response that is narrower would
    leave the difference as a false loss (and gain) beside the zero-loss peak.

    Parameters
    ----------
    responses : numpy.ndarray
        Unit area, ``(1 or batch, 2 n)``.
    fwhm : numpy.ndarray
        Zero-loss widths in channels, ``(batch,)``.

    Returns
    -------
    numpy.ndarray
        ``(batch, 2 n)``.
    """
    top = np.argmax(responses, axis=-1)
    widths = np.broadcast_to(physics.half_height_width(responses, top), fwhm.shape)
    out = np.array(np.broadcast_to(responses, (fwhm.size, responses.shape[-1])))
    for row in np.flatnonzero(fwhm > BROADER_THAN * widths):
        out[row] = physics.smooth(out[row], np.sqrt(fwhm[row] ** 2 - widths[row] ** 2))
    return out


def _conserving_factor(measured, estimated, complete):
    """Brings the sum of an estimate to that of the data, where only little is missing.

    Where the gain side of the zero-loss peak is cut, the data lack counts that the answer has.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = measured / estimated
    return np.where(complete & (np.abs(factor - 1) < CONSERVE_WITHIN), factor, 1.0)
