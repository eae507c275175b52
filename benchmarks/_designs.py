"""Networks of other designs than the bundled one, all for the same task: see `design.py`.

(a) Counts in, answer out; (b) fed with classical estimates (the bundled design); (c) unrolled,
data-consistent steps with small learned priors.
"""

import torch
from torch import nn

from exspy_deepdeconv.layers.steps import Classical
from exspy_deepdeconv.network import N_SHARED, SHARPENINGS, Config, DeconvolutionNet, UNet

STAGES, ITERATIONS = 4, 6  # unrolled: priors, and Richardson-Lucy iterations before each


def like(*widths, fold):
    """Both U-Nets alike, with short kernels."""
    return Config(widths, widths, fold=fold, kernel=3)


class CountsOnly(DeconvolutionNet):
    """(a) No classical steps: what is left of the counts without the elastic peak is corrected."""

    @torch.no_grad()
    def estimates(self, view, elastic, transfer):
        """The data in the place of each classical estimate."""
        rest = view.y - elastic
        smooth = view.frame.smooth(rest, view.fwhm / 4).clamp(min=0)
        config = self.config
        return Classical(
            [smooth] * len(config.iterates), [rest] * len(config.damping), rest, 0.1 * view.sigma
        )


class Unrolled(DeconvolutionNet):
    """(c) Richardson-Lucy iterations and small learned priors in turn, trained through all of them."""

    def __init__(self, config=None):
        super().__init__(config)
        config = self.config
        widths = tuple(width // 2 for width in config.estimate_width)
        inputs = self.estimate.stem.in_channels // config.fold
        self.priors = nn.ModuleList(
            UNet(inputs, 1, widths, config.kernel, config.fold) for _ in range(STAGES - 1)
        )
        self.estimate = UNet(inputs, 1 + 2 * len(SHARPENINGS), widths, config.kernel, config.fold)

    def losses(self, view, elastic, transfer, hidden):
        """Stage by stage; the last prior also tells the size of the errors."""
        softening = 0.1 * view.sigma
        s = view.frame.smooth(view.y - elastic, view.fwhm).clamp(min=0) + softening
        wiener = self.estimates(view, elastic, transfer).wiener
        for prior in (*self.priors, self.estimate):
            before, s = s, _richardson_lucy(s, view, elastic, transfer)
            residual = view.y - elastic - view.frame.filter(s, transfer)
            seen = Classical([before, s, s, s], wiener, residual, softening)
            corrections = prior(view.estimate_features(seen, elastic, hidden))
            base = s + softening
            s = self.corrected(base, corrections[:, 0])
        told = corrections[:, 1:].reshape(len(s), 2, len(SHARPENINGS), view.frame.size)
        return base.detach(), s, told


def _richardson_lucy(s, view, elastic, transfer):
    """Some plain iterations, the elastic peak held fixed."""
    frame, added = view.frame, (view.floor / view.gain).clamp(max=0.05)
    data, fixed, tiny = (view.y + added).clamp(min=0), elastic + added, 0.1 * view.quiet
    for _ in range(ITERATIONS):
        model = torch.maximum(frame.filter(s, transfer) + fixed, tiny)
        s = (s * frame.filter((data / model).clamp(max=100), transfer.conj())).clamp(min=0)
    return s


class SquareRoot(DeconvolutionNet):
    """The square root of the answer is corrected, not its logarithm."""

    def corrected(self, base, correction):
        """Never negative; a zero correction changes nothing."""
        return base * (1 + 0.5 * correction.float()) ** 2


class Residual(DeconvolutionNet):
    """Something is added to a classical estimate."""

    def corrected(self, base, correction):
        """Linear where the answer is higher than the estimate; positive where it is lower."""
        return base * (1 + nn.functional.elu(correction.float()))


class Mirrored(DeconvolutionNet):
    """No response head: the elastic peak is the data, bounded by their mirror image."""

    def __init__(self, config=None):
        super().__init__(config)
        self.response = None

    def elastic_peak(self, view):
        """Nothing is learned of it."""
        elastic = view.frame.fade(view.level * torch.exp(view.bound), view.fwhm / 3)
        return elastic, view.y.new_zeros(len(elastic), N_SHARED, view.frame.size)
