"""The variance of segments of a spectrum, and the line of it over their counts (NumPy only)."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SEGMENTS = 32
SHORTEST_SEGMENT = 16
FEW_CHANNELS = 128  # with fewer, segments are half as long: else most would hold the zero-loss peak
LEAST = 1e-14  # of the squared maximum: single precision cannot hold a smaller variance
REACH = 4  # strides that a fourth difference reaches; it is almost 0 for a blurred spectrum
ENOUGH_SEGMENTS = 4  # for a line through them
INFLATED, DEFLATED = 4.0, 12.0  # largest cost of one segment above and below the line


@dataclass(frozen=True)
class Segments:
    """Noise and counts of segments of spectra; arrays of shape ``(batch, segments)``.

    Attributes
    ----------
    variance, counts : numpy.ndarray
        Mean square of the (normalised) fourth differences, and mean counts, never negative.
    length : int
        Channels of a segment.
    kurtosis : numpy.ndarray
        How far rare events may make the variance scatter, in the units of `cost`.
    silent : numpy.ndarray of bool
        Where nothing scatters (no electron arrived, or zeros were filled in): these are ignored.
    """

    variance: np.ndarray
    counts: np.ndarray
    length: int
    kurtosis: np.ndarray
    silent: np.ndarray

    @classmethod
    def of(cls, spectra, stride, start):
        """Mean square of the fourth differences and mean counts of each segment.

        One of the segments begins at channel ``start`` (one for each spectrum).
        """
        size = spectra.shape[-1] - REACH * stride
        parts = (spectra[:, i * stride : i * stride + size] for i in range(REACH + 1))
        difference = spectra
        for _ in range(REACH):
            difference = difference[:, stride:] - difference[:, :-stride]
        few = spectra.shape[-1] < FEW_CHANNELS
        shortest = SHORTEST_SEGMENT // 2 if few else SHORTEST_SEGMENT
        length = min(max(size // SEGMENTS, shortest), size)
        number = max((size + 1) // length - 1, 1)
        first = np.minimum(start % length, size - number * length)
        row = np.arange(len(first))

        def cut(values):  # channels left over at both ends are dropped
            windows = sliding_window_view(values, number * length, axis=1)
            return windows[row, first].reshape(len(values), number, length)

        square = cut(difference) ** 2 / 70.0
        variance = np.maximum(square.mean(axis=-1), LEAST)
        kurtosis = (square**2).mean(axis=-1) / variance**2 - 3
        counts = np.maximum(cut(sum(parts)).mean(axis=-1) / 5, 0)
        kurtosis = np.maximum(2.6 * kurtosis, 0) + 2
        silent = variance <= LEAST
        silent &= np.sum(~silent, axis=-1, keepdims=True) >= ENOUGH_SEGMENTS  # else they must do
        return cls(variance, counts, length, kurtosis, silent)

    def line(self, gain, floor):
        """Variance expected in each segment."""
        return np.maximum(gain[..., None] * self.counts + floor[..., None], LEAST)

    def cost(self, gain, floor):
        """Deviance of each segment's variance from the line, a gamma distribution assumed.

        Its degrees of freedom allow for overlapping differences (5.3 = twice their sum of squared
        correlations) and for rare events: where few electrons arrive, squares scatter more.
        """
        return self._cost(gain, self.line(gain, floor))

    def _cost(self, gain, line):
        rare = np.minimum(gain[..., None] ** 3 * self.counts / line**2, self.kurtosis)
        ratio = self.variance / line
        deviance = self.length / (5.3 + rare) * (ratio - 1 - np.log(ratio))
        return np.where(self.silent, 0, deviance) if self.silent.any() else deviance

    def capped_cost(self, gain, floor):
        """Sum of the segments' costs, each limited: one far off the line does not decide."""
        line = self.line(gain, floor)
        limit = np.where(self.variance > line, INFLATED, DEFLATED)
        return np.einsum("...s->...", np.minimum(self._cost(gain, line), limit))

    def of_rows(self, rows):
        """Some of the spectra."""
        fields = ("variance", "counts", "kurtosis", "silent")
        return replace(self, **{name: getattr(self, name)[rows] for name in fields})

    def beyond(self, offsets):
        """Candidates whose counts are those above these offsets, ``(batch, lines)``."""
        return replace(self, counts=np.maximum(self.counts - offsets[..., None], 0))

    def candidates(self):
        """The same with an axis for candidate lines before the last; float32 is precise enough."""
        variance, counts, kurtosis = (
            x[:, None, :].astype(np.float32) for x in (self.variance, self.counts, self.kurtosis)
        )
        return Segments(variance, counts, self.length, kurtosis, self.silent[:, None, :])


def straight_line(segments):
    """Gain and floor: the best of a few hundred candidate lines, then weighted least squares."""
    variance, counts = segments.variance, segments.counts
    gains = np.quantile(variance / np.maximum(counts, 1e-9), np.linspace(0, 1, 16), axis=-1).T
    floors = np.quantile(variance, [0, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7], axis=-1).T
    one = np.ones((len(variance), 1))
    gains, floors = np.hstack([gains, 1e-9 * one]), np.hstack([floors, LEAST * one])
    number = floors.shape[1]
    gains, floors = np.repeat(gains, number, axis=1), np.tile(floors, (1, gains.shape[1]))
    many = segments.candidates()
    gains, floors = gains.astype(np.float32), floors.astype(np.float32)
    cost = many.capped_cost(gains, floors)
    best = np.arange(len(cost)), np.argmin(cost, axis=1)
    gain, floor = (x[best].astype(np.float64) for x in (gains, floors))
    for _ in range(6):
        gain, floor = _least_squares(segments, gain, floor)
    return gain, floor


def _least_squares(segments, gain, floor):
    """One step of iteratively weighted least squares, gain and floor kept non-negative."""
    line = segments.line(gain, floor)
    cost = segments.cost(gain, floor)
    inflated = segments.variance > line
    trust = np.minimum(INFLATED / np.maximum(cost, 1e-9), 1) ** 2
    weight = np.where(inflated, trust, (cost < DEFLATED) & ~segments.silent) / line**2
    x, y = segments.counts, segments.variance
    powers = np.stack([x * x, x, np.ones_like(x), x * y, y])
    xx, x1, oo, sx, so = (weight * powers).sum(axis=-1)
    determinant = xx * oo - x1**2
    safe = np.where(determinant > 1e-9 * xx * oo, determinant, np.inf)
    both = (sx * oo - so * x1) / safe, (so * xx - sx * x1) / safe
    only_gain = sx / np.maximum(xx, 1e-300)
    only_floor = so / np.maximum(oo, 1e-300)
    steep = (weight * (y - only_gain[:, None] * x) ** 2).sum(axis=-1)
    level = (weight * (y - only_floor[:, None]) ** 2).sum(axis=-1)
    fine = (both[0] > 0) & (both[1] > 0)
    gain = np.where(fine, both[0], np.where(steep <= level, only_gain, 1e-9))
    floor = np.where(fine, both[1], np.where(steep <= level, 0.0, only_floor))
    return gain, floor
