"""From arrays of spectra to deconvolved spectra: batches, device, thread and denormal care."""

import numbers
from contextlib import contextmanager

import numpy as np
import torch

from . import physics
from .frame import BLOCK, PAD
from .models import load
from .network import Spectra, finest_resolution
from .physics import NOT_FINITE

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
    spectra, *, model, resolution, psf=None, zero_loss=True, batch_size=None, device=None
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
    spectra = np.asarray(spectra)
    channels = spectra.shape[-1]
    flat = spectra.reshape(-1, channels)
    responses = None if psf is None else np.asarray(psf).reshape(-1, np.shape(psf)[-1])
    estimate = np.zeros(flat.shape, np.float32)
    flags = np.zeros(flat.shape[0], np.uint8)
    batch_size = batch_size or max(CHANNELS_PER_BATCH // channels, 1)
    with _quick_and_quiet(device, model) as (network, device):
        for start in range(0, flat.shape[0], batch_size):
            rows = slice(start, start + batch_size)
            chosen = responses if responses is None or len(responses) == 1 else responses[rows]
            estimate[rows], flags[rows] = _run_batch(
                network, device, flat[rows], chosen, resolution, zero_loss
            )
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


def _run_batch(network, device, spectra, psf, resolution, zero_loss):
    """Answer and flags of one batch of spectra, ``(batch, channels)``."""
    seen = physics.inspect(spectra)
    good = seen.usable
    estimate = np.zeros(spectra.shape, np.float32)
    estimate[(seen.flags & NOT_FINITE) > 0] = np.nan
    if good.any():
        chosen = psf if psf is None or len(psf) == 1 else psf[good]
        estimate[good] = _estimate(network, device, seen, good, chosen, resolution, zero_loss)
    return estimate, seen.flags


def _estimate(network, device, seen, good, psf, resolution, zero_loss):
    counts, height = seen.counts[good], seen.zero_loss.height[good]
    scaled = counts / height[:, None]

    def tensor(array):
        return torch.as_tensor(np.asarray(array, np.float32), device=device)

    spectra = Spectra(
        tensor(scaled),
        tensor(seen.zero_loss.position[good]),
        tensor(seen.zero_loss.fwhm[good]),
        tensor(seen.noise.gain[good] / height),
        tensor(seen.noise.floor[good] / height**2),
    )
    if psf is not None:
        # As long as the frame's half axis can hold.
        centred = physics.centred_response(psf, counts.shape[-1] + BLOCK + PAD)
        spectra.psf = tensor(_broadened(centred, seen.zero_loss.fwhm[good]))
        spectra.has_psf = torch.ones(len(counts), device=device)
    answer = network(spectra)
    frame = answer.frame
    wanted = torch.full_like(spectra.fwhm, float(resolution))
    missing = (wanted**2 - finest_resolution(spectra.fwhm) ** 2).clamp(min=0)
    inelastic = frame.smooth(answer.inelastic, missing.sqrt()).clamp(min=0)
    peak = answer.elastic_counts[:, None] * frame.zero_loss(wanted)
    inelastic, peak = (frame.take(x).double().cpu().numpy() for x in (inelastic, peak))
    complete = seen.zero_loss.position[good] >= 3 * seen.zero_loss.fwhm[good]
    factor = _conserving_factor(scaled.sum(-1), inelastic.sum(-1) + peak.sum(-1), complete)
    estimate = inelastic + peak if zero_loss else inelastic
    # A flat offset stays in the answer, unless it is negative: the answer never is.
    level = np.maximum(seen.level[good], 0)[:, None]
    return (estimate * (factor * height)[:, None] + level).astype(np.float32)


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
