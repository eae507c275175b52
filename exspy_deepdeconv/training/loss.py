"""What the network is trained to minimise.

The network answers with the inelastic spectrum at the finest resolution; it is judged there and
at a quarter of the zero-loss width. Errors are squared, so the answer tends to the posterior mean,
though not exactly: the logarithm per spectrum, which lets clean and noisy spectra count alike, and
the truth's half of the weights for weak features pull it towards likelier and lower values.
"""

import torch

from ..network import SHARPENINGS, told_resolutions
from ..physics import USUAL_SHARPENING

LIN_FLOOR = 1e-5  # squared relative error below which nothing is gained any more
WINDOW = 0.5  # weight of what a window's ends change in the answer
ENDS = 32  # channels at either end of a window where they may
ALIKE = 1e-8  # squared change, over the largest loss, below which nothing is gained any more
FINEST, USUAL = 0, SHARPENINGS.index(USUAL_SHARPENING)


def training_loss(answer, batch, guide=0.0):
    """Mean loss of a batch and its parts.

    Parameters
    ----------
    answer : Answer
        From `DeconvolutionNet`.
    batch : dict of torch.Tensor
        From `SimulatedPairs.batch`.
    guide : float
        Weight of the mean error of the logarithm. It keeps the first steps from the dead end
        where the answer is zero everywhere; later it must be 0, since it asks for the median.

    Returns
    -------
    loss : torch.Tensor
        Scalar.
    parts : dict of str to float
        Median relative errors for the log: ``loss_error``, ``near_error``, ``sqrt_error``,
        ``response_error``, ``tail_error``.
    """
    frame = answer.frame
    truth, elastic = frame.put(batch["inelastic"]), frame.put(batch["elastic"])
    distance = frame.distance() / batch["fwhm"][:, None]
    loss_side = (distance >= 1) & frame.valid
    near = loss_side & (distance < 5)
    total = frame.put(batch["counts"]).clamp(min=0)
    variance = batch["gain"][:, None] * total + batch["floor"][:, None]

    widths = told_resolutions(batch["fwhm"])
    extra = torch.sqrt((widths**2 - widths[:, FINEST, None] ** 2).clamp(min=0))
    smooth_answer = frame.smooth(answer.inelastic, extra[:, USUAL])
    smooth_truth = frame.smooth(truth, extra[:, USUAL])

    # What is left of the dark level belongs to the answer, but errors are relative to the losses.
    losses, finest_losses = (x - batch["dark"][:, None] for x in (smooth_truth, truth))
    usual_error = _relative(smooth_answer, smooth_truth, loss_side, variance, losses)
    near_error = _relative(smooth_answer, smooth_truth, near, variance, losses)
    weak_error = _weak(smooth_answer, smooth_truth, loss_side, variance)
    finest_error = _relative(answer.inelastic, truth, loss_side, variance, finest_losses)
    finest_weak = _weak(answer.inelastic, truth, loss_side, variance)
    outside = frame.valid & ~loss_side
    elsewhere = _chi_square(smooth_answer, smooth_truth, outside, variance)
    peak = ((answer.elastic - elastic).abs() * frame.valid).sum(1) / elastic.sum(1)
    counts = (answer.elastic - elastic).mul(frame.valid).sum(1).abs() / elastic.sum(1)
    tail = _relative(answer.elastic, elastic, loss_side, variance, losses)
    tail_weak = _weak(answer.elastic, elastic, loss_side, variance, smooth_truth)

    loss = (
        0.5 * _log(usual_error)
        + 0.5 * _log(weak_error)
        + 0.25 * _log(near_error)
        + 0.15 * _log(finest_error)
        + 0.1 * _log(finest_weak)
        + 0.05 * torch.log1p(elsewhere)
        + 0.25 * _log(tail)
        + 0.25 * _log(tail_weak)
        + 0.25 * torch.log(peak + 1e-3)
        + 0.1 * torch.log(counts + 1e-3)
    )
    missed = (truth - answer.inelastic).detach()
    missed = torch.stack([frame.smooth(missed, width) for width in extra.T], 1)
    same = batch.get("same")  # pairs of other makers may lack it
    if same is not None and same.any():
        errors, largest = smooth_answer - smooth_truth, (losses * loss_side).amax(1)
        loss = loss + WINDOW * _disagreement(errors, largest, loss_side, same, frame)
    loss = loss + 0.025 * _surprise(missed, answer.spread, frame.valid, variance)
    if guide > 0:
        loss = loss + guide * _log_distance(smooth_answer, smooth_truth, loss_side, variance)
    parts = {
        "loss_error": usual_error.sqrt().median(),
        "near_error": near_error.sqrt().median(),
        "sqrt_error": weak_error.sqrt().median(),
        "response_error": peak.median(),
        "tail_error": tail.sqrt().median(),
    }
    return loss.mean(), {key: float(value.detach()) for key, value in parts.items()}


def _disagreement(errors, largest, where, same, frame):
    """How far two windows' answers differ, over the largest loss; 0 for spectra seen through one.

    The errors are compared, so that neither offset nor truth matters; and not near the windows'
    ends, which show one of them less than the other.
    """
    second = torch.nonzero(same > 0)[:, 0]
    first = second - 1
    moved = (frame.position[second] - frame.position[first]).round().long()
    index = torch.arange(frame.size, device=errors.device) + moved[:, None]
    inner = where & torch.roll(frame.valid, -ENDS, 1) & torch.roll(frame.valid, ENDS, 1)
    index = index % frame.size
    both = inner[first] & torch.gather(inner[second], 1, index)
    difference = (torch.gather(errors[second], 1, index) - errors[first]) * both
    mean_square = (difference**2).sum(1) / both.sum(1).clamp(min=1)
    relative = mean_square / largest[first].clamp(min=1e-10) ** 2
    return torch.zeros_like(largest).index_add(0, second, 0.5 * torch.log(relative + ALIKE))


def _log(squared_error):
    return 0.5 * torch.log(squared_error + LIN_FLOOR)


def _relative(answer, truth, where, variance, reference=None):
    """||answer - truth||^2 / ||reference||^2 over ``where``; the noise bounds it for empty truths."""
    reference = truth if reference is None else reference
    error = ((answer - truth) ** 2 * where).sum(1)
    return error / ((reference**2 + 1e-3 * variance) * where).sum(1).clamp(min=1e-20)


def _weak(answer, truth, where, variance, reference=None):
    """The same for square roots, nearly: half the weight is the truth's, which pulls below the mean."""
    reference = truth if reference is None else reference
    # Half of the weight is the answer's own (no bias), half the truth's (no collapse to zero).
    weight = reference if reference is not truth else 0.5 * (answer.detach() + truth)
    scale = weight.clamp(min=0) + 0.05 * variance.sqrt()
    error = ((answer - truth) ** 2 / (4 * scale) * where).sum(1)
    floor = (0.02 * variance.sqrt() * where).sum(1)
    return error / ((reference.clamp(min=0) * where).sum(1) + floor).clamp(min=1e-20)


def _log_distance(answer, truth, where, variance):
    level = 0.1 * variance.sqrt()
    ratio = (answer.clamp(min=0) + level) / (truth.clamp(min=0) + level)
    return (ratio.log().abs() * where).sum(1) / where.sum(1).clamp(min=1)


def _surprise(missed, spread, where, variance):
    """Negative log-likelihood under a two-sided exponential distribution, each side its own width.

    ``missed`` is truth minus answer, ``(batch, resolutions, size)``.
    """
    above, below = (spread + 1e-3 * variance.sqrt()[:, None, None]).unbind(1)
    surprise = torch.log(above + below) - 0.5 * torch.log(variance)[:, None]
    surprise = surprise + missed.clamp(min=0) / below + (-missed).clamp(min=0) / above
    return (surprise.clamp(max=50) * where[:, None]).sum((1, 2)) / where.sum(1).clamp(min=1)


def _chi_square(answer, truth, where, variance):
    return ((answer - truth) ** 2 / variance * where).sum(1) / where.sum(1).clamp(min=1)
