"""The network: a response head, a few classical steps under that response, and a U-Net on top.

``y = elastic + response (*) s`` is solved in three steps, all of them batched:

1. a small U-shaped network finds the elastic peak (hence the response) in the spectrum;
2. accelerated Richardson-Lucy and two Wiener filters deconvolve the rest under that response;
3. a larger U-shaped, dilated network turns these classical estimates into the answer.

The lineage is EELSpecNet's (Mousavi, Pofelski and Botton, 2021): a U-shaped convolutional network.
Everything is computed in a *frame* whose grid is locked to the zero-loss peak, on spectra
divided by their peak height: shifts and scalings of the data therefore change nothing.
"""

import math
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from .layers.frame import BLOCK, Frame
from .layers.steps import (
    BASE,
    N_ESTIMATE_FEATURES,
    N_RESPONSE_FEATURES,
    View,
    classical_estimates,
    known_response,
)
from .physics import MAX_SHARPENING, MIN_RESOLUTION_CHANNELS

N_SHARED = 8  # hidden features handed from the response head to the estimator
SHARPENINGS = (MAX_SHARPENING, 8.0, 4.0, 2.0)  # F/R at which the size of the error is predicted


@dataclass(frozen=True)
class Config:
    """Everything needed to build the network; stored with the weights.

    Attributes
    ----------
    response_width, estimate_width : tuple of int
        Channels of the levels of the two U-Nets, the finest first.
    fold : int
        Neighbouring samples that enter a U-Net side by side, as channels: its finest level works
        on a grid coarser by this factor, at no loss of detail.
    kernel : int
        Length of their convolutions.
    iterates : tuple of int
        Which accelerated Richardson-Lucy iterates are shown to the estimator.
    damping : tuple of float
        Regularisation of the Wiener estimates (the response's transfer function is 1 at 0).
    """

    response_width: tuple = (24, 32, 48, 64, 96, 128)
    estimate_width: tuple = (24, 32, 48, 64, 96, 128)
    fold: int = 2
    kernel: int = 5
    iterates: tuple = (2, 5, 10, 24)
    damping: tuple = (3e-2, 1e-3)

    def __post_init__(self):
        """Refuse a network whose coarsest grid does not fit the frame, or that leans to a side."""
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel!r} must be odd.")
        for name in ("response_width", "estimate_width"):
            coarsest = self.fold * 2 ** (len(getattr(self, name)) - 1)
            if BLOCK % coarsest:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} with fold={self.fold!r} leads to a grid of "
                    f"every {coarsest}th channel; {coarsest} must divide {BLOCK}."
                )

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
    estimated : bool
        Whether ``psf`` was estimated from spectra, not measured: it is used, but trusted less.
    """

    counts: torch.Tensor
    position: torch.Tensor
    fwhm: torch.Tensor
    gain: torch.Tensor
    floor: torch.Tensor
    psf: torch.Tensor | None = None
    has_psf: torch.Tensor | None = None
    estimated: bool = False

    @property
    def measured(self):
        """Whether a measured response was given."""
        return self.psf is not None and not self.estimated


def told_resolutions(fwhm, least=MIN_RESOLUTION_CHANNELS):
    """Widths (channels, FWHM) at which the network predicts its error, ``(batch, 4)``.

    The first, the finest, is the resolution of its own answer.
    """
    return torch.stack([torch.clamp(fwhm / ratio, min=least) for ratio in SHARPENINGS], 1)


class Circular(nn.Conv1d):
    """Convolution on a circle: the frame has no ends, so the network must see none.

    Within the U-Nets the features of a sample are side by side in memory, ``(batch, size,
    channels)``: the library behind torch convolves this layout fastest.
    """

    def __init__(self, inputs, outputs, kernel, stride=1, dilation=1):
        super().__init__(inputs, outputs, kernel, stride=stride, dilation=dilation)
        reach = dilation * (kernel - 1)
        # Samples that a window begins before its own.
        self.before = reach // 2 if stride == 1 else 1
        self.wrong = -(-self.before // stride)  # outputs at either end that see padded zeros
        self.first = (self.wrong - 1) * stride + reach - self.before + 1

    def forward(self, x):
        """``(batch, size, channels)``; an even size, with a stride of two."""
        out = self._convolved(x, self.before)
        if self.wrong:
            # Outputs that saw zeros are computed again, across the joint of the circle. (Padding the
            # input with its own ends would be shorter, but copy all of it.)
            last = self.wrong * self.stride[0] + self.before
            joint = torch.cat([x[:, x.shape[1] - last :], x[:, : self.first]], 1)
            ends = self._convolved(joint, 0)
            out[:, -self.wrong :], out[:, : self.wrong] = ends.split(self.wrong, 1)
        return out

    def _convolved(self, x, padding):
        # Seen as an image of one row whose channels come last: that way nothing is moved.
        image = x.transpose(1, 2).unsqueeze(2)
        rows = [(1, *each) for each in (self.stride, self.dilation)]
        image = F.conv2d(image, self.weight.unsqueeze(2), self.bias, rows[0], (0, padding), rows[1])
        return image.squeeze(2).transpose(1, 2)


class Residual(nn.Module):
    """Convolution added to its input."""

    def __init__(self, width, kernel, dilation=1):
        super().__init__()
        self.conv = Circular(width, width, kernel, dilation=dilation)

    def forward(self, x):
        """``(batch, size, channels)`` to the same shape."""
        return F.silu(self.conv(x), inplace=True).add_(x)  # in place: fewer passes over memory


class Doubling(nn.ConvTranspose1d):
    """Every sample becomes two."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, x):
        """``(batch, size, channels)`` to ``(batch, 2 * size, channels)``."""
        weight = self.weight.permute(2, 1, 0).flatten(0, 1)  # both samples' outputs, one by one
        pairs = F.linear(x, weight, self.bias.repeat(2))
        return pairs.reshape(x.shape[0], 2 * x.shape[1], self.out_channels)


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
    fold : int
        Neighbouring samples that are taken in, and given out, side by side as channels.
    """

    def __init__(self, inputs, outputs, widths, kernel, fold=1):
        super().__init__()
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.fold = fold
        self.stem = Circular(inputs * fold, widths[0], kernel)
        self.encode = nn.ModuleList(Residual(w, kernel) for w in widths[:-1])
        self.down = nn.ModuleList(Circular(a, b, 4, stride=2) for a, b in pairs)
        self.bottom = nn.Sequential(*(Residual(widths[-1], 3, d) for d in (1, 2, 4, 1)))
        self.up = nn.ModuleList(Doubling(b, a) for a, b in pairs)
        self.decode = nn.ModuleList(Residual(w, kernel) for w in widths[:-1])
        self.head = Circular(widths[0], outputs * fold, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        """``(batch, inputs, size)`` to ``(batch, outputs, size)``."""
        h = self.stem(self._refolded(x))
        skips = []
        for encode, down in zip(self.encode, self.down, strict=True):
            h = encode(h)
            skips.append(h)
            h = F.silu(down(h), inplace=True)
        h = self.bottom(h)
        for level in reversed(range(len(skips))):
            h = self.decode[level](self.up[level](h).add_(skips[level]))
        return self._refolded(self.head(h))

    def _refolded(self, x):
        """``(batch, channels, size)`` to ``(batch, size / fold, channels * fold)``, or back again."""
        x = x.contiguous().unflatten(2, (-1, self.fold))
        if self.fold % 2 or x.element_size() < 4:
            return x.transpose(1, 2).flatten(2)
        # Copied in pairs, as complex numbers: single numbers so far apart take three times as long.
        pairs = torch.view_as_complex(x.unflatten(3, (-1, 2))).transpose(1, 2)
        return torch.view_as_real(pairs.contiguous()).flatten(2)


@dataclass
class Answer:
    """What the network says, on its frame, in units of the peak height.

    Attributes
    ----------
    inelastic : torch.Tensor
        I0 g (*) s at `finest`, ``(batch, size)``.
    elastic : torch.Tensor
        Elastic peak I0 p, ``(batch, size)``.
    elastic_counts : torch.Tensor
        I0, ``(batch,)``.
    shift : torch.Tensor
        Of the energy zero from the frame's position, in channels, ``(batch,)``.
    base : torch.Tensor
        Classical estimate that the network corrects, ``(batch, size)``.
    told : torch.Tensor
        Logarithms of the errors' size over a tenth of ``base``: see `spread`.
    fwhm : torch.Tensor
        Zero-loss widths in channels, ``(batch,)``.
    frame : Frame
        The axis.
    least : float
        The finest resolution, in channels, of any answer.
    used : torch.Tensor or None
        Elastic peak of the response that was given, scaled and moved to the data, ``(batch, size)``.
    """

    inelastic: torch.Tensor
    elastic: torch.Tensor
    elastic_counts: torch.Tensor
    shift: torch.Tensor
    base: torch.Tensor
    told: torch.Tensor
    fwhm: torch.Tensor
    frame: Frame
    least: float = MIN_RESOLUTION_CHANNELS
    used: torch.Tensor | None = None

    @property
    def finest(self):
        """Width (channels, FWHM) of the Gaussian through which ``inelastic`` is seen, ``(batch,)``."""
        return told_resolutions(self.fwhm, self.least)[:, 0]

    @property
    def spread(self):
        """Mean size of the error of ``inelastic``, not calibrated, ``(batch, 2, 4, size)``.

        Where it is too high and where it is too low (second index), when smoothed to
        `told_resolutions` (third index).
        """
        return 0.1 * self.base[:, None, None] * factor(self.told)

    def spread_at(self, resolution):
        """The same at any resolution in channels, ``(batch, 2, size)``; interpolated."""
        widths = torch.log(told_resolutions(self.fwhm, self.least))
        wanted = math.log(resolution)
        upper = (widths < wanted).sum(1).clamp(1, len(SHARPENINGS) - 1)
        row = torch.arange(len(upper), device=upper.device)
        low, high = widths[row, upper - 1], widths[row, upper]
        share = ((wanted - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)[:, None, None]
        told = (1 - share) * self.told[row, :, upper - 1] + share * self.told[row, :, upper]
        return 0.1 * self.base[:, None] * factor(told)


class DeconvolutionNet(nn.Module):
    """Spectra in, elastic peak and inelastic spectrum at the finest resolution out."""

    def __init__(self, config=None):
        super().__init__()
        self.config = config = Config() if config is None else config
        kernel, fold = config.kernel, config.fold
        self.response = UNet(N_RESPONSE_FEATURES, 1 + N_SHARED, config.response_width, kernel, fold)
        self.estimate = UNet(
            N_ESTIMATE_FEATURES + N_SHARED,
            1 + 2 * len(SHARPENINGS),
            config.estimate_width,
            kernel,
            fold,
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
        view = View(spectra, frame)
        elastic, hidden = self.elastic_peak(view)
        elastic_counts = elastic.sum(1)
        with torch.no_grad():
            found = elastic.detach().float()
            used, transfer, shift = known_response(spectra, view, found)
        base, inelastic, told = self.losses(view, used, transfer, hidden)
        if spectra.has_psf is not None:
            elastic_counts = torch.where(spectra.has_psf > 0, used.sum(1), elastic_counts)
        answer = Answer(inelastic, elastic, elastic_counts, shift, base, told, spectra.fwhm, frame)
        return answer if spectra.psf is None else replace(answer, used=used)

    def elastic_peak(self, view):
        """The elastic peak that is read from the data, and features for the estimator."""
        said = self.response(view.response_features())
        # The part of the peak outside the window is not seen: its flank is continued.
        return view.frame.fade(view.level * factor(said[:, 0]), view.fwhm / 3), said[:, 1:]

    def losses(self, view, elastic, transfer, hidden):
        """The classical estimate, the answer and the size of its errors (see `Answer`)."""
        classical = self.estimates(view, elastic, transfer)
        corrections = self.estimate(view.estimate_features(classical, elastic, hidden))
        base = classical.iterates[BASE] + classical.softening
        told = corrections[:, 1:].reshape(len(corrections), 2, len(SHARPENINGS), view.frame.size)
        return base, self.corrected(base, corrections[:, 0]), told

    @torch.no_grad()
    def estimates(self, view, elastic, transfer):
        """The classical estimates that the estimator sees."""
        return classical_estimates(view, elastic, transfer, self.config)

    def corrected(self, base, correction):
        """The answer: a positive factor on a classical estimate."""
        return base * factor(correction)


def factor(correction):
    """Positive factor of a head's output: exponential, bent softly at exp(+-12)."""
    return torch.exp(12 * torch.tanh(correction.float() / 12))
