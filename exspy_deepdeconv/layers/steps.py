"""The classical steps under the network, and the features that it is shown (torch).

All tensors lie on a `~exspy_deepdeconv.layers.frame.Frame` and have the shape ``(batch, size)``.
"""

import math
from dataclasses import dataclass

import torch

from .frame import vanishing

N_RESPONSE_FEATURES = 14
N_ESTIMATE_FEATURES = 17
BASE = 1  # the Richardson-Lucy iterate that the estimator corrects
CORE_WIDTHS = 0.75  # a measured response is fitted within so many widths of the peak's maximum
LEAST_CORE = 1.5  # channels to both sides: fewer than three cannot tell scale and shift apart
DYNAMIC_RANGE = 1e-7  # smallest level of interest, in units of the zero-loss height


class View:
    """The data on the frame: several smoothings, noise, and the features made of them."""

    def __init__(self, spectra, frame):
        self.frame = frame
        self.fwhm = spectra.fwhm
        # The estimator does not know of an estimated response: it trusts it as little as its own.
        self.has_psf = spectra.has_psf if spectra.measured else None
        self.gain = spectra.gain[:, None]
        # Float32 transforms resolve no more than this, whatever the noise; and one electron more or
        # less never means much.
        floor = torch.maximum(spectra.floor[:, None], (0.3 * self.gain) ** 2)
        self.floor = floor.clamp(min=DYNAMIC_RANGE**2)
        self.y = frame.put(spectra.counts)
        self.fine = frame.smooth(self.y, spectra.fwhm / 4)
        self.coarse = frame.smooth(self.y, spectra.fwhm * 1.5)
        level = self.fine.clamp(min=0)
        self.variance = self.gain * level + self.floor
        self.sigma = self.variance.sqrt()
        self.quiet = (self.floor + self.gain**2).sqrt()
        # As measured where counts are many, smoothed where they are few.
        trust = level**2 / (level**2 + 50 * self.variance)
        self.level = (trust * self.y + (1 - trust) * self.fine).clamp(min=0) + 0.1 * self.quiet
        self.mirrored, self.has_mirror = frame.mirror(self.level)
        self.distance = frame.distance()
        # The gain side hardly holds losses: its mirror image bounds the loss side's elastic part.
        self.bound = self.has_mirror * torch.log(self.mirrored / self.level).clamp(-12, 0)
        # Features that both U-Nets see:
        self.log_level = self.log(self.level)
        self.rough = ((self.y - self.fine) / self.sigma).clamp(-8, 8) / 3
        self.position_features = self._position_features()

    def log(self, x):
        """Logarithm that levels off at the noise of an empty channel."""
        return torch.log(x.clamp(min=0) + self.quiet)

    def _position_features(self):
        """Where a channel lies, how wide the peak is, how deep the noise floor."""
        d = self.distance / self.fwhm[:, None]
        return [
            torch.sign(d) * torch.log1p(d.abs()) / 3,
            vanishing(d**2),
            torch.log(self.fwhm / 10)[:, None].expand_as(d),
            (-torch.log(self.quiet) / 8).expand_as(d),
            self.frame.valid.float() * 2 - 1,
        ]

    def response_features(self):
        """What the response head sees, ``(batch, features, size)``."""
        mirror = self.has_mirror * (self.log(self.mirrored) - self.log_level)
        log_coarse = self.log(self.coarse)
        features = [
            self.log_level / 5,
            self.log(self.fine) - log_coarse,
            log_coarse / 5,
            self.rough,
            torch.log(self.sigma / (self.fine.clamp(min=0) + self.sigma)) / 3,
            mirror / 2,
            self.has_mirror,
            self.bound / 2,
            self.log(self.y) / 5,
        ]
        return torch.stack(features + self.position_features, 1)

    def estimate_features(self, classical, elastic, hidden):
        """What the estimator sees, ``(batch, features, size)``; ``hidden`` is from the response head."""
        base = classical.iterates[BASE] + classical.softening
        log_base = torch.log(base)
        iterates = [
            (torch.log(x + classical.softening) - log_base).clamp(-6, 6)
            for x in classical.iterates[:BASE] + classical.iterates[BASE + 1 :]
        ]
        scale = base + 0.3 * self.sigma
        wiener = [_asinh((x - base) / scale).clamp(-6, 6) for x in classical.wiener]
        features = [
            torch.log(classical.iterates[BASE] + self.quiet) / 5,
            (log_base - self.log_level) / 3,
            (torch.log(elastic + 0.1 * self.sigma) - log_base) / 3,
            (classical.residual / self.sigma).clamp(-8, 8) / 3,
            torch.log(self.sigma / base) / 3,
            self.rough,
            torch.zeros_like(base) if self.has_psf is None else base * 0 + self.has_psf[:, None],
        ]
        features += iterates + wiener + self.position_features
        return torch.stack([*features, *hidden.unbind(1)], 1)


def _asinh(x):
    """Inverse hyperbolic sine, to single precision; torch's own takes several times as long."""
    size = x.abs()
    return torch.sign(x) * torch.log(size + (size**2 + 1).sqrt())


@dataclass
class Classical:
    """What the classical steps found, in units of the zero-loss height.

    Attributes
    ----------
    iterates : list of torch.Tensor
        Richardson-Lucy estimates of s after more and more iterations.
    wiener : list of torch.Tensor
        Linear estimates, damped less and less.
    residual : torch.Tensor
        Data minus the last iterate, blurred again, and the elastic peak.
    softening : torch.Tensor
        Level below which an estimate means nothing.
    """

    iterates: list
    wiener: list
    residual: torch.Tensor
    softening: torch.Tensor


def known_response(spectra, view, elastic):
    """Elastic peak and transfer function, of the measured response where there is one.

    Parameters
    ----------
    spectra : Spectra
        The batch.
    view : View
        Its data on the frame.
    elastic : torch.Tensor
        The elastic peak that the response head found, ``(batch, size)``.

    Returns
    -------
    elastic : torch.Tensor
        ``(batch, size)``; a measured response is scaled and moved to the peak that was found.
    transfer : torch.Tensor
        Complex, ``(batch, frequencies)``, 1 at frequency 0.
    shift : torch.Tensor
        Of the energy zero from where the data alone have it, in channels, ``(batch,)``: a measured
        response gives it better than the vertex of the peak does.
    """
    frame = view.frame
    counts = elastic.sum(1, keepdim=True)
    transfer = torch.fft.rfft(elastic) * frame.phase(-frame.position) / counts
    if spectra.psf is None:
        return elastic, transfer, torch.zeros_like(view.fwhm)
    measured = torch.fft.rfft(frame.wrap(spectra.psf))
    fitted, shift = _fitted_elastic(measured, elastic, view)
    use = spectra.has_psf[:, None] > 0
    shift = torch.where(use[:, 0], shift, 0)
    return torch.where(use, fitted, elastic), torch.where(use, measured, transfer), shift


def _fitted_elastic(measured, elastic, view):
    """Scale and shift a measured response onto the core of the elastic peak that was found."""
    frame = view.frame
    placed = measured * frame.phase(frame.position)
    shape = torch.fft.irfft(placed, frame.size)
    slope = torch.fft.irfft(placed * (2j * math.pi * frame.frequency), frame.size)
    core = (CORE_WIDTHS * view.fwhm[:, None]).clamp(min=LEAST_CORE)
    weight = (view.distance.abs() < core) / view.variance

    def dot(a, b):
        return (weight * a * b).sum(1)

    aa, ab, bb = dot(shape, shape), dot(shape, slope), dot(slope, slope)
    ay, by = dot(shape, elastic), dot(slope, elastic)
    determinant = (aa * bb - ab**2).clamp(min=1e-30)
    counts = (bb * ay - ab * by) / determinant
    shift = -((aa * by - ab * ay) / determinant) / counts.clamp(min=1e-12)
    shift = shift.clamp(-1, 1)
    counts = counts.clamp(min=1e-12)[:, None]
    moved = torch.fft.irfft(placed * frame.phase(shift), frame.size)
    return (counts * moved).clamp(min=0), shift


def classical_estimates(view, elastic, transfer, config):
    """Richardson-Lucy iterates and Wiener estimates of s, the elastic peak held fixed.

    Parameters
    ----------
    view : View
        The data on the frame.
    elastic : torch.Tensor
        The elastic peak, ``(batch, size)``.
    transfer : torch.Tensor
        Transfer function of the response, ``(batch, frequencies)``.
    config : Config
        Which iterates and which dampings.

    Returns
    -------
    Classical
    """
    frame, y = view.frame, view.y
    # Adding floor/gain to data and model makes the readout noise part of the Poisson noise.
    # (Bounded: where next to nothing is Poisson noise, the iteration would stand still.)
    added = (view.floor / view.gain).clamp(max=0.05)
    shifted = (y + added).clamp(min=0)
    fixed = elastic + added
    tiny = 0.1 * view.quiet
    s = (frame.smooth(y - elastic, view.fwhm)).clamp(min=0) + 0.1 * view.sigma
    momentum = previous = s
    step_before, size_before, iterates = torch.zeros_like(s), 1.0, []
    adjoint = transfer.conj_physical()
    for number in range(1, max(config.iterates) + 1):
        # In place: no gradients pass through these iterations.
        model = frame.filter(momentum, transfer).add_(fixed).clamp_(min=tiny)
        ratio = torch.div(shifted, model, out=model).clamp_(max=100)
        new = frame.filter(ratio, adjoint).mul_(momentum).clamp_(min=0)
        step = new - momentum
        # Vector extrapolation of Biggs and Andrews, Appl. Opt. 36 (1997) 1766.
        alpha = ((step * step_before).sum(1, keepdim=True) / size_before).clamp_(0, 0.95)
        momentum = torch.lerp(previous, new, 1 + alpha).clamp_(min=0)
        previous, step_before = new, step
        size_before = (step**2).sum(1, keepdim=True).clamp_(min=1e-30)
        if number in config.iterates:
            iterates.append(new)
    model = frame.filter(iterates[-1], transfer) + elastic
    spectrum = torch.fft.rfft(y - elastic)
    power = transfer.abs() ** 2
    wiener = [torch.fft.irfft(spectrum * adjoint / (power + d), frame.size) for d in config.damping]
    return Classical(iterates, wiener, y - model, 0.1 * view.sigma)
