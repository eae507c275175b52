"""Fit the factors of intervals by quantile regression."""

import numpy as np
import torch

from ..estimate.intervals import AXES, CONFIDENCES, HEIGHTS, SKEWS, factors

STEPS, RATE = 400, 0.05  # of the fit
# So much do the factors of neighbouring knots hold together: one that is three times the next is found as
# twice. Chosen by coverage and false peaks, on seeds of its own.
STIFFNESS = 2e-3
LEAST, LARGEST = 1e-3, 30.0  # factors: smaller ones are all the same, larger ones are hardly needed


def fit_factors(needed, at, weights):
    """Factors under which so many errors of one side stay, for each of `CONFIDENCES`.

    Half of what a confidence leaves out may lie beyond. The logarithm of a factor is the sum of what
    is interpolated along each of `exspy_deepdeconv.estimate.intervals.AXES`. None of them falls with the
    confidence: so an interval never becomes narrower.

    Parameters
    ----------
    needed : numpy.ndarray
        For each confidence, the factors that single channels need; 0 where the error is on the
        other side, ``(confidences, channels)``.
    at : sequence of numpy.ndarray
        Where they are on each of these axes, ``(channels,)`` each.
    weights : numpy.ndarray
        How much each channel counts, ``(channels,)``.

    Returns
    -------
    numpy.ndarray
        Logarithms, ``(confidences, knots of all axes)``.

    References
    ----------
    R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46 (1978) 33.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.training.quantiles import fit_factors
    >>> errors = np.random.default_rng(0).exponential(size=4000)
    >>> from exspy_deepdeconv.estimate.intervals import factors
    >>> at = (np.zeros(4000), np.zeros(4000), np.full(4000, 6.0), np.zeros(4000))
    >>> found = fit_factors(np.tile(errors, (6, 1)), at, np.ones(4000))
    >>> bool(abs(factors(found[3], at)[0] - np.log(20)) < 0.3)  # 5 % are larger
    True
    """
    found = torch.as_tensor(
        np.hstack([_hats(*each) for each in zip(at, AXES, strict=True)]), dtype=torch.float32
    )
    wanted = torch.as_tensor(np.log(needed.T + LEAST), dtype=torch.float32)
    weights = torch.as_tensor(weights / weights.mean(), dtype=torch.float32)[:, None]
    share = (1 + torch.tensor(CONFIDENCES)) / 2
    first = torch.zeros(found.shape[1], requires_grad=True)
    rises = torch.full((len(CONFIDENCES) - 1, found.shape[1]), -2.0, requires_grad=True)
    optimiser = torch.optim.Adam([first, rises], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        missed = wanted - found @ _table(first, rises).T
        loss = (weights * torch.maximum(share * missed, (share - 1) * missed)).mean()
        optimiser.zero_grad()
        (loss + STIFFNESS * _bending(_table(first, rises))).backward()
        optimiser.step()
        schedule.step()
    table = _table(first, rises).detach().double().numpy()
    return np.minimum(table, np.log(LARGEST))


def _hats(values, knots):
    """Shares of the knots between which values lie, ``(values, knots)``."""
    return np.stack([np.interp(values, knots, row) for row in np.eye(len(knots))], axis=1)


def _table(first, rises):
    """The rows, each no lower than the one before."""
    return torch.cumsum(torch.vstack([first[None], torch.nn.functional.softplus(rises)]), 0)


def _bending(table):
    """Squares of the differences between neighbouring knots."""
    parts = table.split([len(knots) for knots in AXES], dim=1)
    return sum((part.diff(dim=1) ** 2).sum() for part in parts)


def conform(table, needed, at, weights):
    """Raise or lower factors until intervals hold their share of all channels.

    Where a side holds hardly any errors, less is beyond its bound than half of what is left out.

    Parameters
    ----------
    table : numpy.ndarray
        Of both sides, as from `fit_factors`, ``(2, confidences, knots)``.
    needed : numpy.ndarray
        Factors that the channels need, ``(2, confidences, channels)``.
    at, weights
        As for `fit_factors`.

    Returns
    -------
    numpy.ndarray
        Of the shape of ``table``.

    References
    ----------
    Y. Romano, E. Patterson, E. Candès, "Conformalized quantile regression", NeurIPS 2019.
    """
    table = table.copy()
    for row, confidence in enumerate(CONFIDENCES):
        reached = np.stack([factors(side[row], at) for side in table])
        short = (needed[:, row] / reached).max(axis=0)
        # What is added to the factors of all heights is a factor on the whole.
        whole = slice(len(SKEWS), len(SKEWS) + len(HEIGHTS))
        table[:, row, whole] += np.log(max(_quantile(short, weights, confidence), LEAST))
    return np.maximum.accumulate(table, axis=1)


def _quantile(values, weights, share):
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    return values[order][min(np.searchsorted(below, share), values.size - 1)]
