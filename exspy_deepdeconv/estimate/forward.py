"""One batch through the network: what goes in, and what its answer is in the units of the data."""

import copy
import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from ..layers.frame import BLOCK, PAD
from ..network import Spectra
from ..physics import NOT_FINITE, centred_response
from ..response.psf_fit import tail_fit
from ..response.reblur import Response, broadened_response
from ..spectrum.blur import moving
from . import intervals

CONSERVE_WITHIN = 0.05  # share of the counts; a larger difference is noise or has another cause
_COPIES = weakref.WeakKeyDictionary()  # of networks, by model and device
_COPYING = threading.Lock()


@dataclass(frozen=True)
class Wanted:
    """What is asked of the network.

    Attributes
    ----------
    resolution : float
        FWHM in channels.
    zero_loss : bool
        Whether the elastic peak is part of the answer.
    variance : bool
        Whether the predicted variance is wanted.
    confidence : float or None
        Of the interval, where one is wanted.
    dispersion : float or None
        eV per channel: tells energy gains of the specimen from a response whose tail is too low.
    force_psf : bool
        Whether a given response is used also where it does not fit.
    """

    resolution: float
    zero_loss: bool = True
    variance: bool = False
    confidence: float | None = None
    dispersion: float | None = None
    force_psf: bool = False

    @property
    def arrays(self):
        """Number of arrays in the answer: estimate, variance, lower and upper bound."""
        return 1 + bool(self.variance) + 2 * (self.confidence is not None)


@contextmanager
def quick_and_quiet(device, model):
    """Context for forward passes: denormals off, one thread; the user's state is restored.

    Denormals make a network several times slower. The tensors are small: it is quicker to work on
    several batches at a time, as dask does, than to share a batch between threads. If the user allows a
    lower precision (``torch.set_float32_matmul_precision("medium")``) and the processor has bfloat16,
    convolutions use it.

    Yields
    ------
    device : torch.device
        Where the network is.
    network : DeconvolutionNet
        The network of the model, there.
    """
    device = torch.empty(0, device="cpu" if device is None else _at_hand(device)).device
    network = _network_on(model, device)
    lower = device.type == "cpu" and _lower_precision_does() and has_bfloat16()
    with (
        denormals_flushed(),
        _openmp().limit(limits=1),
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16, enabled=lower),
    ):
        yield device, network


def _network_on(model, device):
    """The network, or its copy on another device: the model itself is shared and stays where it is."""
    if next(model.network.parameters()).device == device:
        return model.network
    with _COPYING:
        copies = _COPIES.setdefault(model, {})
        if device not in copies:
            copies[device] = copy.deepcopy(model.network).to(device)
        return copies[device]


def _at_hand(device):
    """The device of this process: "auto" is a graphics card where there is one (on a cluster too)."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def denormals_flushed():
    """Context in which denormals, which slow a CPU down several times, are zero; then as before."""
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _lower_precision_does():
    """Whether the user has allowed it; torch raises an error if its newer switches were used."""
    try:
        return torch.get_float32_matmul_precision() == "medium"
    except RuntimeError:
        return False


def has_bfloat16():
    """Whether the processor computes in bfloat16; without, that is slower than single precision."""
    can = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch lack it
    return any(can.get(name) for name in ("avx512_bf16", "amx_bf16"))


@lru_cache(maxsize=1)
def _openmp():
    """Controller of the OpenMP threads of one Python thread: torch's own function is global."""
    return ThreadpoolController().select(user_api="openmp")


def flushes_denormals():
    """Whether denormals are flushed now (torch has no getter)."""
    return float(torch.tensor([1e-310], dtype=torch.float64).mul(1.0)[0]) == 0.0


def nothing(seen):
    """Zeros, and NaN where a spectrum is not finite."""
    estimate = np.zeros(seen.counts.shape, np.float32)
    estimate[(seen.flags & NOT_FINITE) > 0] = np.nan
    return estimate


def centred(psf, channels):
    """Measured responses, ``(number, length)``, as `batch_of` takes them for so many channels."""
    return centred_response(
        psf, channels + BLOCK + PAD
    )  # as long as the frame's half axis can hold


def batch_of(seen, good, psf, device, estimated=False):
    """The usable spectra as the network takes them.

    Parameters
    ----------
    seen : Inspected
        All spectra.
    good : numpy.ndarray of bool
        Which of them are usable.
    psf : numpy.ndarray or None
        Measured responses of the usable ones, ``(1 or usable, ...)``, as from `centred`.
    device : torch.device
        Where the tensors are to be.
    estimated : bool
        Whether these were estimated from spectra, not measured.

    Returns
    -------
    spectra : Spectra
        Divided by the heights of their zero-loss peaks.
    measured : Response or None
        The measured responses as the network sees them: broadened, if need be.
    """
    counts, height = seen.counts[good], seen.zero_loss.height[good]

    def tensor(array):
        there = torch.as_tensor(np.asarray(array, np.float32))
        if device.type == "cuda":  # pinned: the copy goes on beside the host's next work
            there = there.pin_memory()
        return there.to(device, non_blocking=True)

    spectra = Spectra(
        tensor(counts / height[:, None]),
        tensor(seen.zero_loss.position[good]),
        tensor(seen.zero_loss.fwhm[good]),
        tensor(seen.noise.gain[good] / height),
        tensor(seen.noise.floor[good] / height**2),
    )
    if psf is None:
        return spectra, None
    measured = broadened_response(psf, seen.select(good))
    spectra.psf = tensor(measured.shape)
    spectra.has_psf = torch.ones(len(counts), device=device)
    spectra.estimated = estimated
    return spectra, measured


def tails_of(answer, seen, good, dispersion=None):
    """Compare the gain-side tail of a given response with the one that is found in the data.

    Parameters
    ----------
    answer : Answer
        The network's, of spectra with a response.
    seen : Inspected
        All spectra.
    good : numpy.ndarray of bool
        Which of them the network was given.
    dispersion : float, optional
        eV per channel.

    Returns
    -------
    TailFit
        Of the given ones.
    """
    found, used = (
        answer.frame.take(x).double().cpu().numpy() for x in (answer.elastic, answer.used)
    )
    return tail_fit(found, used, seen.select(good), dispersion)


def answers(answer, seen, good, spectra, wanted, model):
    """The arrays that are wanted, made of the answer, in the units of the data.

    Parameters
    ----------
    answer : Answer
        The network's.
    seen : Inspected
        All spectra.
    good : numpy.ndarray of bool
        Which of them the network was given.
    spectra : Spectra
        What it was given.
    wanted : Wanted
        What is asked for.
    model : Model
        Its calibration scales the errors.

    Returns
    -------
    numpy.ndarray
        ``(arrays, usable, channels)``, in the order of `Wanted.arrays`.
    """
    inelastic, peak, unit = parts(answer, seen, good, spectra, wanted.resolution)
    peak = peak if wanted.zero_loss else 0.0
    estimate = inelastic + peak
    level_error = (seen.level_error[good] / unit)[:, None]
    arrays = [estimate, *_certainty(answer, spectra, inelastic, peak, level_error, wanted, model)]
    arrays = np.stack(arrays) * unit[:, None]
    # A flat offset stays in the answer, unless it is negative: the answer never is.
    level = np.maximum(seen.level[good], 0)[:, None]
    for number in range(wanted.arrays):
        if number == 1 and wanted.variance:
            arrays[number] *= unit[:, None]
        else:
            arrays[number] = np.maximum(arrays[number] + level, 0)
    return arrays


def parts(answer, seen, good, spectra, resolution):
    """Losses and elastic peak at a resolution (in channels), without the flat offset.

    The other arguments are those of `answers`.

    Returns
    -------
    inelastic, peak : numpy.ndarray
        In units of the peak height, ``(batch, channels)``.
    unit : numpy.ndarray
        What brings both into the units of the data and conserves the counts, ``(batch,)``.
    """
    frame, height = answer.frame, seen.zero_loss.height[good]
    width = torch.full_like(spectra.fwhm, float(resolution))
    missing = (width**2 - answer.finest**2).clamp(min=0)
    inelastic = frame.smooth(answer.inelastic, missing.sqrt()).clamp(min=0)
    peak = answer.elastic_counts[:, None] * frame.zero_loss(width, answer.shift)
    inelastic, peak = (frame.take(x).double().cpu().numpy() for x in (inelastic, peak))
    conserved, ratio = _conserved(inelastic.sum(-1) + peak.sum(-1), seen, good, height)
    return inelastic, peak, np.where(conserved, ratio, 1.0) * height


def counts_differ(estimate, seen, good):
    """Where an answer with its elastic peak does not have the counts of the data, ``(batch,)``."""
    inside = estimate - np.maximum(seen.level[good], 0)[:, None]
    counts, channels = seen.counts[good], estimate.shape[-1]
    # In a sum over thousands of channels, readout noise and the error of an offset matter.
    variance = seen.noise.select(good).variance(counts).sum(-1)
    noise = 3 * np.sqrt(variance + (channels * seen.level_error[good]) ** 2)
    missed = np.abs(inside.sum(-1) - counts.sum(-1))
    return _complete(seen, good) & (missed > np.maximum(CONSERVE_WITHIN * counts.sum(-1), noise))


def error_sizes(answer, resolution):
    """Mean errors above and below that the network predicts, in units of the peak height."""
    spread = answer.spread_at(resolution).unbind(1)
    return tuple(answer.frame.take(x).double().cpu().numpy() for x in spread)


def regime(answer, spectra, inelastic):
    """The circumstances of an answer, that its intervals depend on, a `intervals.Regime`."""
    electrons = answer.elastic_counts / spectra.gain.clamp(min=1e-30)
    scattered = answer.inelastic.sum(1) / answer.elastic_counts.clamp(min=1e-30)
    return intervals.Regime(
        inelastic,
        *(x.double().cpu().numpy()[:, None] for x in (electrons, scattered)),
        given=spectra.measured,
        estimated=spectra.estimated,
    )


def _certainty(answer, spectra, inelastic, peak, level_error, wanted, model):
    """Variance and bounds, as far as they are wanted, in units of the peak height."""
    if wanted.arrays == 1:
        return []
    above, below = error_sizes(answer, wanted.resolution)
    found, estimate = regime(answer, spectra, inelastic), inelastic + peak
    fwhm = spectra.fwhm.double().cpu().numpy()[:, None]
    moved = intervals.shift_error(estimate, fwhm, found.electrons)
    common = model.calibration, found, np.hypot(level_error, moved)
    arrays = []
    if wanted.variance:
        arrays.append(intervals.variance(peak, above, below, *common))
    if wanted.confidence is not None:
        sizes = peak, above, below, wanted.confidence
        arrays += intervals.bounds(estimate, *sizes, *common)
    return arrays


def response_of(answer, channels):
    """The responses that the network found, as long as its frame: nothing of them is cut off."""
    zero_channel = channels // 3
    return Response(responses(answer, zero_channel, answer.frame.size), zero_channel)


def responses(answer, zero_channel, length):
    """The responses that the network found: unit area, their energy zero at ``zero_channel``."""
    elastic = answer.elastic.double().cpu().numpy()
    size = elastic.shape[-1]
    position = answer.frame.position.double().cpu().numpy().reshape(-1)
    nearest = np.floor(position + 0.5).astype(int)
    index = (np.arange(size) - zero_channel + nearest[:, None]) % size
    placed = np.take_along_axis(elastic, index, -1)
    # The energy zero is where the answer has it. The axis is a circle: a Fourier shift is exact.
    phase = moving(np.fft.rfftfreq(size), (nearest - position)[:, None])
    moved = np.fft.irfft(np.fft.rfft(placed) * phase, size)
    moved = np.maximum(moved[:, :length], 0)
    return moved / moved.sum(axis=-1, keepdims=True)


def _complete(seen, good):
    """Where the gain side is long enough: where it is cut, the data lack counts of the answer."""
    return seen.zero_loss.position[good] >= 3 * seen.zero_loss.fwhm[good]


def _conserved(estimated, seen, good, unit):
    """Whether sums (in these units) are those of the data, nearly or but for noise; their ratio."""
    measured = seen.counts[good].sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = measured / (estimated * unit)
        # A sum that readout noise has brought near zero, or below, is no measure of its own noise.
        noise = 3 * np.sqrt(seen.noise.gain[good] / np.maximum(measured, estimated * unit))
    near = np.abs(ratio - 1) < np.clip(noise, CONSERVE_WITHIN, 1)  # never a negative ratio
    return _complete(seen, good) & near, ratio
