"""The network: a response head, a few classical steps under that response, and a U-Net on top.

``y = elastic + response (*) s`` is solved in three steps, all of them batched:

1. a small U-shaped network reads the elastic peak (hence the response) off the spectrum;
2. accelerated Richardson-Lucy and two Wiener filters deconvolve the rest under that response;
3. a larger U-shaped, dilated network turns these classical estimates into the answer.

The lineage is EELSpecNet's (Mousavi, Pofelski and Botton, 2021): a U-shaped convolutional network.
Everything is computed in a *frame* whose grid is locked to the zero-loss peak, on spectra
divided by their peak height: shifts and scalings of the data therefore change nothing.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
LEVELS = 6  # stride-2 steps of the U-Nets
BLOCK = 2**LEVELS
N_RESPONSE_FEATURES = 14
N_ESTIMATE_FEATURES = 17
BASE = 1  # the Richardson-Lucy iterate that the estimator corrects
N_SHARED = 8  # hidden features handed from the response head to the estimator
DYNAMIC_RANGE = 1e-7  # smallest level of interest, in units of the zero-loss height
EDGE_FADE = 24.0  # channels over which what is mirrored fades out at the ends of the data
PAD = 32  # shortest distance between the two ends of a spectrum on the circle


@dataclass(frozen=True)
class Config:
    """Everything needed to build the network; stored with the weights.

    Attributes
    ----------
    response_width, estimate_width : tuple of int
        Channels of the seven levels of the two U-Nets.
    kernel : int
        Length of their convolutions.
    iterates : tuple of int
        Which accelerated Richardson-Lucy iterates are shown to the estimator.
    damping : tuple of float
        Regularisation of the Wiener estimates (the response's transfer function is 1 at 0).
    """

    response_width: tuple = (16, 24, 32, 40, 48, 64, 96)
    estimate_width: tuple = (16, 24, 32, 48, 64, 96, 128)
    kernel: int = 5
    iterates: tuple = (2, 5, 10, 24)
    damping: tuple = (3e-2, 1e-3)

    def to_dict(self):
        """A dictionary of lists and numbers (JSON)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass
class Spectra:
    """A batch as the network takes it; tensors of shape ``(batch, ...)``, float32.

    Attributes
    ----------
    counts : torch.Tensor
        ``(batch, channels)``, any scale.
    position, fwhm : torch.Tensor
        Zero-loss position and width in channels.
    gain, floor : torch.Tensor
        Noise variance = gain * counts + floor.
    psf : torch.Tensor or None
        ``(batch, 2 * n)`` measured responses, unit area, energy zero at index n.
    has_psf : torch.Tensor or None
        1 where ``psf`` is to be used, 0 where the response is to be found.
    """

    counts: torch.Tensor
    position: torch.Tensor
    fwhm: torch.Tensor
    gain: torch.Tensor
    floor: torch.Tensor
    psf: torch.Tensor | None = None
    has_psf: torch.Tensor | None = None


def finest_resolution(fwhm):
    """Width (channels, FWHM) of the Gaussian the network's own answer is seen through."""
    return torch.clamp(fwhm / 16.0, min=2.0)


# ---------------------------------------------------------------- the frame


class Frame:
    """A circular axis on which the zero-loss channel of every spectrum is a multiple of 64.

    Between the end and the beginning of the spectrum the values are joined by a straight line.
    """

    def __init__(self, position, channels):
        nearest = torch.round(position).long()
        self.channels = channels
        self.size = _smooth_size(channels + BLOCK + PAD)
        self.left = torch.remainder(-nearest, BLOCK)
        self.position = position + self.left
        index = torch.arange(self.size, device=position.device)
        inner = index - self.left[:, None]
        self.valid = (inner >= 0) & (inner < channels)
        self._gather = inner.clamp(0, channels - 1)
        gap = (self.size - channels) + 1
        step = torch.where(inner < 0, inner + self.size, inner) - (channels - 1)
        self._ramp = (step / gap).clamp(0, 1)
        self._back = torch.arange(channels, device=position.device) + self.left[:, None]
        self.frequency = torch.fft.rfftfreq(self.size, device=position.device)

    def put(self, spectra):
        """``(batch, channels)`` on the frame."""
        inside = torch.gather(spectra, 1, self._gather)
        edge = min(8, self.channels // 8)
        first = spectra[:, :edge].mean(1, keepdim=True)
        last = spectra[:, -edge:].mean(1, keepdim=True)
        return torch.where(self.valid, inside, last + (first - last) * self._ramp)

    def take(self, framed):
        """The inverse of `put`."""
        return torch.gather(framed, 1, self._back)

    def gaussian_transfer(self, fwhm):
        """Transfer function of unit-area Gaussians of ``fwhm`` channels, ``(batch, frequencies)``."""
        sigma = (fwhm / FWHM_PER_SIGMA)[:, None]
        return torch.exp(-2 * (math.pi * sigma * self.frequency) ** 2)

    def smooth(self, framed, fwhm):
        """Blur every spectrum with a Gaussian of its own width."""
        return self.filter(framed, self.gaussian_transfer(fwhm))

    def filter(self, framed, transfer):
        """Multiply by a transfer function."""
        return torch.fft.irfft(torch.fft.rfft(framed) * transfer, self.size)

    def phase(self, shift):
        """Transfer function that moves a spectrum by ``shift`` channels to the right."""
        angle = -2 * math.pi * self.frequency * shift[:, None]
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

    def zero_loss(self, fwhm):
        """Unit-area Gaussians of ``fwhm`` channels at the zero-loss positions."""
        sigma = (fwhm / FWHM_PER_SIGMA)[:, None]
        return torch.exp(-0.5 * (self.distance() / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))

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
    blocks = -(-least // BLOCK)
    while True:
        rest = blocks
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return blocks * BLOCK
        blocks += 1


# ---------------------------------------------------------------- U-Net


class Circular(nn.Conv1d):
    """Convolution on a circle: the frame has no ends, so the network must see none."""

    def __init__(self, inputs, outputs, kernel, stride=1, dilation=1):
        super().__init__(inputs, outputs, kernel, stride=stride, dilation=dilation)
        reach = dilation * (kernel - 1)
        self.wrap = ((reach // 2), reach - reach // 2) if stride == 1 else (1, 1)

    def forward(self, x):
        """``(batch, channels, size)``, any size."""
        return super().forward(F.pad(x, self.wrap, mode="circular"))


class Residual(nn.Module):
    """Convolution added to its input."""

    def __init__(self, width, kernel, dilation=1):
        super().__init__()
        self.conv = Circular(width, width, kernel, dilation=dilation)

    def forward(self, x):
        """``(batch, channels, size)`` to the same shape."""
        return x + F.silu(self.conv(x))


class UNet(nn.Module):
    """U-shaped network on a one-dimensional grid with dilated context at the bottom.

    Parameters
    ----------
    inputs, outputs : int
        Channels in and out.
    widths : sequence of int
        Channels of each level, the finest first.
    kernel : int
        Length of the convolutions.
    """

    def __init__(self, inputs, outputs, widths, kernel):
        super().__init__()
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.stem = Circular(inputs, widths[0], kernel)
        self.encode = nn.ModuleList(Residual(w, kernel) for w in widths[:-1])
        self.down = nn.ModuleList(Circular(a, b, 4, stride=2) for a, b in pairs)
        self.bottom = nn.Sequential(*(Residual(widths[-1], 3, d) for d in (1, 2, 4, 1)))
        self.up = nn.ModuleList(nn.ConvTranspose1d(b, a, 2, stride=2) for a, b in pairs)
        self.decode = nn.ModuleList(Residual(w, kernel) for w in widths[:-1])
        self.head = nn.Conv1d(widths[0], outputs, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        """``(batch, inputs, size)`` to ``(batch, outputs, size)`` and the last hidden features."""
        h = self.stem(x)
        skips = []
        for encode, down in zip(self.encode, self.down, strict=True):
            h = encode(h)
            skips.append(h)
            h = F.silu(down(h))
        h = self.bottom(h)
        for level in reversed(range(len(skips))):
            h = self.decode[level](self.up[level](h) + skips[level])
        return self.head(h), h


# ---------------------------------------------------------------- the model


@dataclass
class Answer:
    """What the network says, on its frame, in units of the peak height.

    Attributes
    ----------
    inelastic : torch.Tensor
        I0 g (*) s at `finest_resolution`, ``(batch, size)``.
    elastic : torch.Tensor
        Elastic peak I0 p, ``(batch, size)``.
    elastic_counts : torch.Tensor
        I0, ``(batch,)``.
    """

    inelastic: torch.Tensor
    elastic: torch.Tensor
    elastic_counts: torch.Tensor
    frame: Frame


class DeconvolutionNet(nn.Module):
    """Spectra in, elastic peak and inelastic spectrum at the finest resolution out."""

    def __init__(self, config=None):
        super().__init__()
        self.config = config = Config() if config is None else config
        self.response = UNet(N_RESPONSE_FEATURES, 1, config.response_width, config.kernel)
        self.shared = nn.Conv1d(config.response_width[0], N_SHARED, 1)
        self.estimate = UNet(
            N_ESTIMATE_FEATURES + N_SHARED, 1, config.estimate_width, config.kernel
        )

    def forward(self, spectra):
        """Run all three steps.

        Parameters
        ----------
        spectra : Spectra
            The batch; the counts must be divided by the height of their zero-loss peak.

        Returns
        -------
        Answer
        """
        frame = Frame(spectra.position, spectra.counts.shape[1])
        view = _View(spectra, frame)
        correction, hidden = self.response(view.response_features())
        elastic = view.level * _factor(correction)
        found = elastic.detach().float()
        elastic_counts = elastic.sum(1)
        with torch.no_grad():
            used = _known_response(spectra, view, found)
            classical = _classical(view, *used, self.config)
        features = view.estimate_features(classical, *used[:1])
        features = torch.cat([features, self.shared(hidden)], 1)
        correction, _ = self.estimate(features)
        base = classical.iterates[BASE] + classical.softening
        inelastic = base * _factor(correction)
        if spectra.has_psf is not None:
            elastic_counts = torch.where(spectra.has_psf > 0, used[0].sum(1), elastic_counts)
        return Answer(inelastic, elastic, elastic_counts, frame)


def _factor(correction):
    """Positive factor of a head's output: exponential, bent softly at exp(+-12)."""
    return torch.exp(12 * torch.tanh(correction[:, 0].float() / 12))


class _View:
    """The data on the frame: several smoothings, noise, and the features made of them."""

    def __init__(self, spectra, frame):
        self.frame = frame
        self.fwhm = spectra.fwhm
        self.has_psf = spectra.has_psf
        self.gain = spectra.gain[:, None]
        # Float32 transforms resolve no more than this, whatever the noise.
        self.floor = spectra.floor[:, None].clamp(min=DYNAMIC_RANGE**2)
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

    def log(self, x):
        return torch.log(x.clamp(min=0) + self.quiet)

    def position_features(self):
        d = self.distance / self.fwhm[:, None]
        ones = torch.ones_like(d)
        return [
            torch.sign(d) * torch.log1p(d.abs()) / 3,
            torch.exp(-(d**2)),
            ones * torch.log(self.fwhm / 10)[:, None],
            ones * -torch.log(self.quiet) / 8,
            self.frame.valid.float() * 2 - 1,
        ]

    def response_features(self):
        log_level = self.log(self.level)
        mirror = self.has_mirror * (self.log(self.mirrored) - log_level)
        features = [
            log_level / 5,
            (self.log(self.fine) - self.log(self.coarse)),
            self.log(self.coarse) / 5,
            ((self.y - self.fine) / self.sigma).clamp(-8, 8) / 3,
            torch.log(self.sigma / (self.fine.clamp(min=0) + self.sigma)) / 3,
            mirror / 2,
            self.has_mirror,
            self.bound / 2,
            self.log(self.y) / 5,
        ]
        return torch.stack(features + self.position_features(), 1)

    def estimate_features(self, classical, elastic):
        base = classical.iterates[BASE] + classical.softening
        log_base = torch.log(base)
        iterates = [
            (torch.log(x + classical.softening) - log_base).clamp(-6, 6)
            for x in classical.iterates[:BASE] + classical.iterates[BASE + 1 :]
        ]
        scale = base + 0.3 * self.sigma
        wiener = [torch.asinh((x - base) / scale).clamp(-6, 6) for x in classical.wiener]
        features = [
            torch.log(classical.iterates[BASE] + self.quiet) / 5,
            (log_base - self.log(self.level)) / 3,
            (torch.log(elastic + 0.1 * self.sigma) - log_base) / 3,
            (classical.residual / self.sigma).clamp(-8, 8) / 3,
            torch.log(self.sigma / base) / 3,
            ((self.y - self.fine) / self.sigma).clamp(-8, 8) / 3,
            torch.zeros_like(base) if self.has_psf is None else base * 0 + self.has_psf[:, None],
        ]
        return torch.stack(features + iterates + wiener + self.position_features(), 1)


# ---------------------------------------------------------------- classical steps


@dataclass
class _Classical:
    iterates: list
    wiener: list
    residual: torch.Tensor
    softening: torch.Tensor


def _known_response(spectra, view, elastic):
    """Elastic peak and transfer function: the measured response where there is one."""
    frame = view.frame
    counts = elastic.sum(1, keepdim=True)
    transfer = torch.fft.rfft(elastic) * frame.phase(-frame.position) / counts
    if spectra.psf is None:
        return elastic, transfer
    measured = torch.fft.rfft(frame.wrap(spectra.psf))
    fitted = _fitted_elastic(measured, elastic, view)
    use = spectra.has_psf[:, None] > 0
    return torch.where(use, fitted, elastic), torch.where(use, measured, transfer)


def _fitted_elastic(measured, elastic, view):
    """Scale and shift a measured response onto the core of the elastic peak that was found."""
    frame = view.frame
    placed = measured * frame.phase(frame.position)
    shape = torch.fft.irfft(placed, frame.size)
    slope = torch.fft.irfft(placed * (2j * math.pi * frame.frequency), frame.size)
    weight = (view.distance.abs() < 0.75 * view.fwhm[:, None]) / view.variance

    def dot(a, b):
        return (weight * a * b).sum(1)

    aa, ab, bb = dot(shape, shape), dot(shape, slope), dot(slope, slope)
    ay, by = dot(shape, elastic), dot(slope, elastic)
    determinant = (aa * bb - ab**2).clamp(min=1e-30)
    counts = (bb * ay - ab * by) / determinant
    shift = -((aa * by - ab * ay) / determinant) / counts.clamp(min=1e-12)
    moved = placed * frame.phase(shift.clamp(-1, 1))
    return (counts.clamp(min=1e-12)[:, None] * torch.fft.irfft(moved, frame.size)).clamp(min=0)


def _classical(view, elastic, transfer, config):
    """Richardson-Lucy iterates and Wiener estimates of s, the elastic peak held fixed."""
    frame, y = view.frame, view.y
    # Adding floor/gain to data and model makes the readout noise part of the Poisson noise.
    added = view.floor / view.gain
    shifted = (y + added).clamp(min=0)
    fixed = elastic + added
    tiny = 0.1 * view.quiet
    s = (frame.smooth(y - elastic, view.fwhm)).clamp(min=0) + 0.1 * view.sigma
    previous, step_before, iterates = s, None, []
    adjoint = transfer.conj()
    momentum = s
    for number in range(1, max(config.iterates) + 1):
        model = frame.filter(momentum, transfer) + fixed
        ratio = (shifted / torch.maximum(model, tiny)).clamp(max=100)
        new = (momentum * frame.filter(ratio, adjoint)).clamp(min=0)
        step = new - momentum
        # Vector extrapolation of Biggs and Andrews, Appl. Opt. 36 (1997) 1766.
        if step_before is None:
            alpha = torch.zeros_like(y[:, :1])
        else:
            alpha = (step * step_before).sum(1, keepdim=True)
            alpha = (alpha / (step_before**2).sum(1, keepdim=True).clamp(min=1e-30)).clamp(0, 0.95)
        momentum = (new + alpha * (new - previous)).clamp(min=0)
        previous, step_before = new, step
        if number in config.iterates:
            iterates.append(new)
    model = frame.filter(iterates[-1], transfer) + elastic
    spectrum = torch.fft.rfft(y - elastic)
    power = transfer.abs() ** 2
    wiener = [torch.fft.irfft(spectrum * adjoint / (power + d), frame.size) for d in config.damping]
    return _Classical(iterates, wiener, y - model, 0.1 * view.sigma)
