"""One spectrum deconvolved again and again with other settings: for the live preview.

The network runs once for each number of channels in a bin; another resolution only needs its answer
smoothed.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .. import physics
from .._signals.responses import usable_responses
from .._signals.runner import CONSEQUENCES, PSF_FLAGS
from ..estimate.binning import answer_of, channels_in_bins
from ..estimate.choice import deconvolve_batch
from ..estimate.forward import batch_of, quick_and_quiet, responses
from ..physics import PSF_MISFIT
from ..response.residual import residual_block


@dataclass(frozen=True, eq=False)
class Preview:
    """What is shown of one spectrum; every array has the shape ``(channels,)``.

    Attributes
    ----------
    measured : numpy.ndarray
        Counts.
    result, lower, upper, residual : numpy.ndarray or None
        The spectrum after deconvolution, the bounds of its interval, and what it leaves
        unexplained in units of the noise; None where it was not asked for or could not be had.
    remark : str
        What is odd about the spectrum, or why there is no result; else empty.
    """

    measured: np.ndarray
    result: np.ndarray | None = None
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    residual: np.ndarray | None = None
    remark: str = ""

    def reversed(self):
        """The same with the energy falling along the axis."""
        arrays = {k: v[::-1] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **arrays)


class Answer:
    """What the network says of one spectrum, whatever the resolution.

    Parameters
    ----------
    counts : numpy.ndarray
        ``(channels,)``, the energy rising.
    model : Model
        From `exspy_deepdeconv.models.load`.
    psf : numpy.ndarray, optional
        Measured response, ``(length,)``.
    estimated : bool
        Whether ``psf`` was estimated from spectra, not measured.
    variance : float or numpy.ndarray, optional
        Noise variance, a number or ``(channels,)``; read from the spectrum by default.
    dark : Dark, optional
        The flat offset of the map; read from the spectrum by default.
    device : str, optional
        A torch device.

    Attributes
    ----------
    seen : Inspected
        What is known of it.
    """

    def __init__(
        self, counts, model, psf=None, *, estimated=False, variance=None, dark=None, device=None
    ):
        self.counts, self.model, self.device = counts, model, device
        self.psf = None if psf is None else psf[None]
        self.estimated, self.dark = estimated, dark
        self.variance = variance[None] if isinstance(variance, np.ndarray) else variance
        self.seen = physics.inspect(counts[None], dark)
        self._answers = {}  # by what the network was told

    def preview(self, wanted, zero_channel=None):
        """The spectrum as ``deep_deconvolve`` gives it.

        Parameters
        ----------
        wanted : Wanted
            What is asked for; no variance.
        zero_channel : int, optional
            Energy zero of the response with which the result is blurred again; without it there
            is no residual.

        Returns
        -------
        Preview
        """
        seen = self.seen
        if not seen.usable[0] or not (self.psf is None or usable_responses(self.psf)[0]):
            odd = _words(int(seen.flags[0])) or "with a psf that holds no zero-loss peak"
            return Preview(self.counts, remark=f"Spectrum {odd}: there is nothing to deconvolve.")
        with quick_and_quiet(self.device, self.model) as (device, network):
            (stack,), (flags,) = deconvolve_batch(
                self.model,
                wanted,
                self.dark,
                device,
                network,
                self.counts[None],
                self.psf,
                self.variance,
                estimated=self.estimated,
                answer_of=self._answer_of,
            )
            arrays = np.split(stack.astype(np.float32), wanted.arrays)
            found = dict(zip(("result", "lower", "upper"), arrays, strict=False))
            if zero_channel is not None:
                own = self.psf is None or bool(flags & PSF_MISFIT)
                found["residual"] = self._residual(
                    found["result"],
                    wanted,
                    own,
                    partial(self._respond, device, network, zero_channel),
                )
        return Preview(self.counts, remark=_remark(int(flags)), **found)

    def _answer_of(self, network, batch, number):
        """The answer of the network on bins of so many channels: asked once."""
        asked = number, batch.psf is not None, batch.estimated
        if asked not in self._answers:
            self._answers[asked] = answer_of(network, batch, number)
        return self._answers[asked]

    def _residual(self, result, wanted, own, respond):
        """That of ``deconvolution_residual``, with the spectrum's own response or the given one."""
        stack, _, _ = residual_block(
            self.counts[None],
            None if own else self.psf,
            respond=respond,
            result=result[None],
            variance=self.variance,
            dark=self.dark,
            resolution=wanted.resolution,
            zero_loss=wanted.zero_loss,
            broaden=not own,
        )
        return stack[0, : self.counts.size]

    def _respond(self, device, network, zero_channel, _):
        """The response that the network finds, and the flags."""
        seen = self.seen
        number = int(channels_in_bins(seen.zero_loss.fwhm, self.counts.size, np.inf)[0])
        batch, _ = batch_of(seen, seen.usable, None, device)
        answer = self._answer_of(network, batch, number)
        return responses(answer, zero_channel, self.counts.size), seen.flags


def _remark(flags):
    """What is odd about a spectrum or its result; empty if nothing is."""
    odd = _words(flags & ~sum(PSF_FLAGS))
    said = [f"Spectrum {odd}: the result is doubtful."] if odd else []
    said += [
        f"Spectrum {_words(bit)} ({CONSEQUENCES[bit]}{_why(flags) if bit == PSF_MISFIT else ''})."
        for bit in PSF_FLAGS
        if flags & bit and bit in CONSEQUENCES
    ]
    return " ".join(said)


def _why(flags):
    """Why the psf does not fit, in words; nothing where it is not known."""
    known = [text for bit, text in physics.MISFIT_TEXT.items() if flags & bit]
    return f": {', '.join(known)}" if known else ""


def _words(flags):
    return ", ".join(text for bit, text in physics.FLAG_TEXT.items() if flags & bit)
