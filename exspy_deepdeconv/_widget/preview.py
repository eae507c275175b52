"""One spectrum deconvolved again and again with other settings: for the live preview.

The network runs once for each number of channels in a bin; another resolution only needs its answer
smoothed.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .. import physics
from .._signals.responses import usable_responses
from .._signals.runner import OWN_TAKEN, PSF_DOUBTED
from ..estimate.batched import result_flags
from ..estimate.binning import answer_of, channels_in_bins
from ..estimate.forward import (
    answers,
    batch_of,
    centred,
    quick_and_quiet,
    response_of,
    responses,
    same_tails,
)
from ..physics import PSF_MISFIT, UNFIT
from ..response.psf_fit import width_fit
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
    """

    def __init__(
        self, counts, model, psf=None, *, estimated=False, variance=None, dark=None, device=None
    ):
        self.counts, self.model, self.psf, self.device = counts, model, psf, device
        self.variance = variance[None] if isinstance(variance, np.ndarray) else variance
        self.dark, self.seen = dark, physics.inspect(counts[None], dark)
        self._answers = {}  # by the number of channels in a bin
        if variance is not None:
            noise = physics.told_noise(self.variance, self.seen)
            self.seen = replace(self.seen, noise=noise)
        self.usable = self.seen.usable[0] and (psf is None or bool(usable_responses(psf)))
        self.own = None  # the answer with the spectrum's own response, where another was estimated
        self.fit = None
        if self.usable and psf is not None:
            psf = centred(psf[None], counts.size)
            self.fit = width_fit(psf, self.seen)
        if self.usable and estimated:
            self.own = Answer(counts, model, variance=variance, dark=dark, device=device)
        if self.usable:
            estimated = estimated or (self.fit is not None and not self.fit.trusted[0])
            with quick_and_quiet(device, model) as (device, _):
                self.batch, self.measured = batch_of(
                    self.seen, self.seen.usable, psf, device, estimated
                )

    def at(self, resolution=np.inf):
        """The answer of the network that suits a resolution in channels; by default the one for the response."""
        number = int(channels_in_bins(self.seen.zero_loss.fwhm, self.counts.size, resolution)[0])
        if number not in self._answers:
            with quick_and_quiet(self.device, self.model) as (_, network):
                answer = answer_of(network, self.batch, number)
                if self.batch.measured and not same_tails(answer, self.seen, self.seen.usable)[0]:
                    self.batch = replace(self.batch, estimated=True)
                    answer = answer_of(network, self.batch, number)
            self._answers[number] = answer
        return self._answers[number]

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
        flags = int(self.seen.flags[0])
        if not self.usable:
            odd = _words(flags) or "with a psf that holds no zero-loss peak"
            return Preview(self.counts, remark=f"Spectrum {odd}: there is nothing to deconvolve.")
        (found, flags), used = self._found(wanted), self
        if self.own is None and self.fit is not None and not self.fit.same[0]:
            flags |= PSF_MISFIT
        elif self.own is not None and (not self.fit.usable[0] or flags & UNFIT):
            own, own_flags = self.own._found(wanted)
            if not self.fit.usable[0] or not own_flags & UNFIT:
                found, flags, used = own, own_flags | PSF_MISFIT, self.own
        if zero_channel is not None:
            found["residual"] = used._residual(found["result"], wanted, zero_channel)
        return Preview(self.counts, remark=_remark(flags, self.own is not None), **found)

    def _found(self, wanted):
        """Result and bounds by name, and the flags."""
        everything, answer = self.seen.usable, self.at(wanted.resolution)
        with quick_and_quiet(self.device, self.model):
            arrays = answers(answer, self.seen, everything, self.batch, wanted, self.model)
            response = self.measured or response_of(answer, self.counts.size)
        flags = self.seen.flags | result_flags(arrays[0], self.seen, everything, response, wanted)
        names = ("result", "lower", "upper")
        found = dict(zip(names, arrays[:, 0].astype(np.float32), strict=False))
        return found, int(flags[0])

    def _residual(self, result, wanted, zero_channel):
        """That of ``deconvolution_residual``, of a result that was made with this answer."""
        stack, _ = residual_block(
            self.counts[None],
            self.psf,
            respond=partial(self._respond, zero_channel),
            result=result[None],
            variance=self.variance,
            dark=self.dark,
            resolution=wanted.resolution,
            zero_loss=wanted.zero_loss,
            broaden=self.psf is not None,
        )
        return stack[0, : self.counts.size]

    def _respond(self, zero_channel, _):
        """The response that the network finds, and the flags."""
        answer = self.at()
        with quick_and_quiet(self.device, self.model):
            return responses(answer, zero_channel, self.counts.size), self.seen.flags


def _remark(flags, estimated):
    """What is odd about a spectrum or its result; empty if nothing is."""
    odd, unfit = _words(flags & ~PSF_MISFIT), _words(flags & PSF_MISFIT)
    said = [f"Spectrum {odd}: the result is doubtful."] if odd else []
    consequence = OWN_TAKEN if estimated else PSF_DOUBTED
    return " ".join(said + ([f"Spectrum {unfit} ({consequence})."] if unfit else []))


def _words(flags):
    return ", ".join(text for bit, text in physics.FLAG_TEXT.items() if flags & bit)
