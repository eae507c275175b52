"""The circular axis, locked to the zero-loss peak, on which the network works (torch)."""

import math

import scipy.fft as fft
import torch

from ..spectrum.blur import FWHM_PER_SIGMA, movable

BLOCK = 64  # channels: the coarsest grid of the U-Nets
EDGE_FADE = 24.0  # channels over which the mirror image fades out at the ends of the data
PAD = 32  # shortest distance between the two ends of a spectrum on the circle


def vanishing(x):
    """exp(-x) for x >= 0, but at least 1e-35: numbers that underflow are slow."""
    return torch.exp(-x.clamp(max=80))


class Frame:
    """A circular axis on which the zero-loss channel of every spectrum is a multiple of 64.

    Between the end and the beginning of the spectrum the values are joined by a straight line. With
    a ``size`` and the channel at which each spectrum begins (``left``) it is any other circle.
    """

    def __init__(self, position, channels, size=None, left=None):
        nearest = torch.floor(position + 0.5).long()  # torch.round would favour even channels
        self.channels = channels
        if size is None:
            size = _smooth_size(max(channels + BLOCK + PAD, 8 * BLOCK))  # room for the dilations
            left = torch.remainder(-nearest, BLOCK)
        self.size, self.left = size, left
        self.position = position + self.left
        index = torch.arange(self.size, device=position.device)
        inner = index - self.left[:, None]
        self.valid = (inner >= 0) & (inner < channels)
        self._gather = inner.clamp(0, channels - 1)
        step = torch.where(inner < 0, inner + self.size, inner) - (channels - 1)
        self._gap = self.size - channels + 1
        self._beyond = step.clamp(0, self._gap)  # channels behind the end of the data
        self._back = torch.arange(channels, device=position.device) + self.left[:, None]
        self.frequency = torch.fft.rfftfreq(self.size, device=position.device)

    def put(self, spectra):
        """``(batch, channels)`` on the frame."""
        inside = torch.gather(spectra, 1, self._gather)
        edge = min(8, self.channels // 8)
        first = spectra[:, :edge].mean(1, keepdim=True)
        last = spectra[:, -edge:].mean(1, keepdim=True)
        return torch.where(self.valid, inside, last + (first - last) * (self._beyond / self._gap))

    def fade(self, framed, length):
        """Let what lies outside the data fall off exponentially over ``length`` channels."""
        first = torch.gather(framed, 1, self.left[:, None])
        last = torch.gather(framed, 1, self.left[:, None] + self.channels - 1)
        outside = first * vanishing((self._gap - self._beyond) / length[:, None])
        outside = outside + last * vanishing(self._beyond / length[:, None])
        return torch.where(self.valid, framed, outside)

    def take(self, framed):
        """The inverse of `put`."""
        return torch.gather(framed, 1, self._back)

    def gaussian_transfer(self, fwhm):
        """Transfer function of unit-area Gaussians of ``fwhm`` channels, ``(batch, frequencies)``."""
        sigma = (fwhm / FWHM_PER_SIGMA)[:, None]
        return vanishing(2 * (math.pi * sigma * self.frequency) ** 2)

    def smooth(self, framed, fwhm):
        """Blur every spectrum with a Gaussian of its own width."""
        return self.filter(framed, self.gaussian_transfer(fwhm))

    def filter(self, framed, transfer):
        """Multiply by a transfer function."""
        return torch.fft.irfft(torch.fft.rfft(framed).mul_(transfer), self.size)

    def phase(self, shift):
        """Transfer function that moves a spectrum by ``shift`` channels to the right.

        As in `exspy_deepdeconv.spectrum.blur.moving`, near the highest frequency by whole ones
        only.
        """
        whole = shift.round()
        # Whole turns are left out in whole numbers: after a hundred of them, 32 bits lose the rest.
        index = torch.arange(len(self.frequency), device=shift.device)
        turns = torch.remainder(index * whole.long()[:, None], self.size) / self.size
        turns = turns + movable(self.frequency) * (shift - whole)[:, None]
        angle = -2 * math.pi * turns
        return torch.polar(torch.ones_like(angle), angle)

    def mirror(self, framed):
        """The spectrum mirrored at its zero-loss position, and how far (0..1) it lies in the data."""
        index = torch.arange(self.size, device=framed.device)
        target = 2 * self.position[:, None] - index
        low = target.floor()
        weight = target - low
        low = low.long()
        a = torch.gather(framed, 1, low.clamp(0, self.size - 1))
        b = torch.gather(framed, 1, (low + 1).clamp(0, self.size - 1))
        reach = target - self.left[:, None]
        # Faded in over the outermost channels: an end of the data must leave no step.
        inside = (torch.minimum(reach, self.channels - 1 - reach) / EDGE_FADE).clamp(0, 1)
        return a * (1 - weight) + b * weight, inside

    def distance(self):
        """Channels from the zero-loss position."""
        return torch.arange(self.size, device=self.position.device) - self.position[:, None]

    def zero_loss(self, fwhm, shift):
        """Unit-area Gaussians of ``fwhm`` channels, ``shift`` from the zero-loss positions."""
        sigma = (fwhm / FWHM_PER_SIGMA)[:, None]
        height = 1 / (sigma * math.sqrt(2 * math.pi))
        return height * vanishing(0.5 * ((self.distance() - shift[:, None]) / sigma) ** 2)

    def wrap(self, psf):
        """Responses given around their energy zero, ``(batch, 2 n)``, on the circle; unit area."""
        half = psf.shape[1] // 2
        gain_side = min(half, self.size // 4)
        loss_side = min(half, self.size - gain_side)
        out = psf.new_zeros(psf.shape[0], self.size)
        out[:, :loss_side] = psf[:, half : half + loss_side]
        out[:, self.size - gain_side :] += psf[:, half - gain_side : half]
        return out / out.sum(1, keepdim=True)


def _smooth_size(least):
    """Smallest multiple of 64, at least ``least``, with only the factors 2, 3 and 5."""
    return BLOCK * fft.next_fast_len(-(-least // BLOCK), real=True)
