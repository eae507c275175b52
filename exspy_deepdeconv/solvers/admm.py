"""Second-order total generalised variation under a blur: the solver (NumPy, SciPy)."""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

from ..response.convolution import Convolution
from ..response.elastic import Columns, combined

OVER_RELAXATION = 1.7  # 1.5 to 1.8 is usual and speeds ADMM up
CHECK_EVERY = 10  # iterations between two looks at the penalties
FIRST_PENALTY = 1e-2  # in units of the problem, whose noise is about 1
PENALTY_RANGE = (1e-7, 1e3)  # so that no constraint is forgotten, and none stands still


@dataclass(frozen=True)
class Problem:
    """Spectra to be explained: data = x (*) response + a * peak + b * its slope + noise.

    All arrays have the shape ``(spectra, padded channels)``.

    Attributes
    ----------
    data : numpy.ndarray
        Any units.
    precision : numpy.ndarray
        One over the variance of the data; 0 where there are none.
    peak, slope : numpy.ndarray
        Two columns whose factors are free: no prior holds for them.
    blur : Convolution
        With the response.
    """

    data: np.ndarray
    precision: np.ndarray
    peak: np.ndarray
    slope: np.ndarray
    blur: Convolution

    def residual(self, x, factors):
        """What is left of the data."""
        return self.data - self.blur.forward(x) - combined(factors, self.peak, self.slope)


def minimise(problem, first, second, start, iterations):
    """Least squares with a second-order TGV prior and positivity, by ADMM.

    Minimises, for each spectrum, half the sum of ``precision * residual**2``, plus the sums of
    ``first * |D x - t|`` and of ``second * |D t|``, over x >= 0, t and the factors of the two free
    columns; D is the difference between neighbours. Every linear map is a circular convolution,
    so that x and t follow from one division per frequency. The four penalties are balanced from
    the residuals while the iteration runs, and held in its last fifth: with constant penalties it is
    certain to converge.

    Parameters
    ----------
    problem : Problem
        What to explain.
    first, second : numpy.ndarray
        Weights of the two terms in each channel.
    start : numpy.ndarray
        Where x starts.
    iterations : int
        How many; the same for all, so that no spectrum's answer depends on its neighbours.

    Returns
    -------
    x : numpy.ndarray
        Non-negative.
    factors : numpy.ndarray
        Of the two columns, shape ``(2, spectra)``.

    References
    ----------
    K. Bredies, K. Kunisch, T. Pock, SIAM J. Imaging Sci. 3 (2010) 492 (the prior).
    C. Zietlow, J. K. N. Lindner, Numer. Algorithms (2025), doi:10.1007/s11075-024-01759-2
    (TGV by ADMM for measured data).
    B. Wohlberg, arXiv:1704.06209 (2017) (balancing by relative residuals).
    """
    step = _Step(problem, first, second)
    transform = fft.rfft(start)
    copies = step.maps(transform, np.zeros_like(transform))
    copies[3] = start
    multipliers = [np.zeros_like(start) for _ in copies]
    step.balance(np.full((4, len(start), 1), FIRST_PENALTY))
    for iteration in range(1, iterations + 1):
        seen = step.linear(copies, multipliers)
        relaxed = [
            OVER_RELAXATION * new + (1 - OVER_RELAXATION) * old + u
            for new, old, u in zip(seen, copies, multipliers, strict=True)
        ]
        before, copies = copies, step.proximal(relaxed)
        multipliers = [h - z for h, z in zip(relaxed, copies, strict=True)]
        if iteration % CHECK_EVERY == 0 and iteration < 0.8 * iterations:
            residuals = _residuals(seen, before, copies, multipliers)
            multipliers = step.rebalance(*residuals, multipliers)
    return copies[3], step.factors


class _Step:
    """The two halves of an ADMM iteration."""

    def __init__(self, problem, first, second):
        self.problem, self.first, self.second = problem, first, second
        self.size, self.blur = problem.blur.size, problem.blur.transfer
        self.difference = np.exp(2j * np.pi * problem.blur.frequency) - 1
        self.mirrored = self.blur.conj(), self.difference.conj()

    def maps(self, x, t):
        """Model, first and second differences and x itself, from the transforms of x and t."""
        transforms = (self.blur * x, self.difference * x - t, self.difference * t, x)
        return [fft.irfft(transform, self.size) for transform in transforms]

    def balance(self, penalty):
        """Set the penalties, shape ``(4, spectra, 1)``, and what depends on them."""
        self.penalty = penalty
        data, first, second, positive = penalty
        steep = np.abs(self.difference) ** 2
        known = data * np.abs(self.blur) ** 2 + positive
        a, c = known + first * steep, first + second * steep
        scale = 1 / (known * c + first * second * steep**2)
        self.inverse = c * scale, first * scale * self.mirrored[1], a * scale
        problem = self.problem
        self.share = problem.precision / (problem.precision + data)
        self.columns = Columns(data * self.share, problem.peak, problem.slope)

    def rebalance(self, primal, dual, multipliers):
        """Raise the penalties of constraints that are missed, lower those that are stiff."""
        change = np.clip(np.sqrt(primal / np.maximum(dual, 1e-12)), 0.2, 5)
        change = np.where(np.abs(np.log(change)) > 0.25, change, 1.0)
        change = np.clip(self.penalty * change, *PENALTY_RANGE) / self.penalty
        self.balance(self.penalty * change)
        return [u / factor for u, factor in zip(multipliers, change, strict=True)]

    def linear(self, copies, multipliers):
        """The x and t nearest to the copies, and what the four maps make of them."""
        model, first, second, positive = (
            fft.rfft(penalty * (z - u))
            for penalty, z, u in zip(self.penalty, copies, multipliers, strict=True)
        )
        blur, difference = self.mirrored
        for_x = blur * model + difference * first + positive
        for_t = difference * second - first
        xx, xt, tt = self.inverse
        return self.maps(xx * for_x + xt * for_t, tt * for_t + xt.conj() * for_x)

    def proximal(self, relaxed):
        """Weigh data against model (free columns included), shrink both terms, cut below zero."""
        _, first, second, _ = self.penalty
        difference = self.problem.data - relaxed[0]
        self.factors = self.columns.fit(difference)
        difference -= self.columns.sum(self.factors)
        return [
            relaxed[0] + self.share * difference,
            _shrunk(relaxed[1], self.first / first),
            _shrunk(relaxed[2], self.second / second),
            np.maximum(relaxed[3], 0),
        ]


def _shrunk(values, threshold):
    return values - np.clip(values, -threshold, threshold)


def _residuals(seen, before, copies, multipliers):
    """Relative primal and dual residuals of each constraint, shape ``(4, spectra, 1)``."""

    def norm(array):
        return np.sqrt(np.sum(array**2, axis=-1, keepdims=True)) + 1e-30

    primal = [norm(a - z) / np.maximum(norm(a), norm(z)) for a, z in zip(seen, copies, strict=True)]
    dual = [norm(z - old) / norm(u) for z, old, u in zip(copies, before, multipliers, strict=True)]
    return np.array(primal), np.array(dual)
