"""Read the noise of a spectrum from the spectrum itself (NumPy only)."""

from dataclasses import dataclass, replace

import numpy as np

SEGMENTS = 32
SHORTEST_SEGMENT = 16
FEW_CHANNELS = 128  # of fewer, segments are half as long: else most of them hold the zero-loss peak
LOWEST = -10.0  # of the maximum; what is lower is no spectrum, and would overflow single precision
LEAST = 1e-14  # of the squared maximum: single precision tells no smaller variance
DIFFERENCE = (1.0, -4.0, 6.0, -4.0, 1.0)  # a blurred spectrum hardly feels fourth differences
WIDE_STRIDE = 4  # channels; farther apart, neighbours' noise is taken to be independent
FEWEST_CHANNELS = SHORTEST_SEGMENT + WIDE_STRIDE * (len(DIFFERENCE) - 1)
FEWEST_AT_WIDE_STRIDE = 192  # channels: on shorter axes no segment seen at it is clear of the peak
CORRELATED = 1.5  # a smaller excess of the variance at the wide stride is scatter
CLEARLY_CORRELATED = 2.0  # the same, where only some of the segments are asked
ENOUGH_SEGMENTS = 4
BRIGHT = 0.03  # of the maximum
MOST_HIDDEN = 360.0  # what a spread of 3.5 channels (FWHM) hides of the noise from neighbours
INFLATED, DEFLATED = 4.0, 12.0  # largest cost of one segment above and below the line
DOUBTFUL = 2.0  # more than half of the segments this far above their line: no straight line
USUAL_READOUT = 5.0  # electrons (standard deviation): believed where the data do not tell
MOST_READOUT = 50.0  # electrons: more is a gain that was not told
AS_GOOD = 2.0  # cost by which a line with the usual readout may explain them worse
READ_OFF = 0.1  # mean square of what a variance misses a line by, in units of the counts' noise


@dataclass(frozen=True)
class Noise:
    """Noise variance ``gain * counts + floor`` of each spectrum (navigation shape).

    Attributes
    ----------
    gain, floor : numpy.ndarray
        In data units and their square.
    correlation : numpy.ndarray
        Correlation coefficient of the electrons' noise in neighbouring channels; 0 for white noise.
    white_floor : numpy.ndarray of bool
        Whether the floor is white all the same: a readout comes after the electrons' spread.
    """

    gain: np.ndarray
    floor: np.ndarray
    correlation: np.ndarray = 0.0
    white_floor: np.ndarray = True

    def variance(self, counts):
        """Variance expected in channels that hold ``counts`` (shape ``(..., channels)``)."""
        return self.gain[..., None] * np.maximum(counts, 0) + self.floor[..., None]

    def in_rows(self, number):
        """The same for ``number`` spectra one below the other; one noise serves all of them."""
        values = (np.broadcast_to(np.ravel(value), number) for value in vars(self).values())
        return Noise(*values)

    def select(self, rows):
        """That of these spectra."""
        fields = vars(self).items()
        return Noise(**{key: value[rows] if np.ndim(value) else value for key, value in fields})

    def correlations(self, variance):
        """Correlation of the noise in each pair of neighbouring channels, ``(..., channels - 1)``.

        ``variance`` is what is expected in the channels, ``(..., channels)``.
        """
        floor = self.floor[..., None]
        total = np.maximum(variance, floor)
        electrons = total - floor
        shared = np.sqrt(electrons[..., 1:] * electrons[..., :-1])
        shared = shared + np.where(np.asarray(self.white_floor)[..., None], 0.0, floor)
        share = shared / np.sqrt(total[..., 1:] * total[..., :-1])
        return np.asarray(self.correlation)[..., None] * share


def estimate_noise(spectra, position=None):
    """Read the noise from the spectra: variance = gain x counts + floor.

    What a data unit is worth in electrons is unknown (detector gain, summed or averaged frames),
    so both numbers are read from fourth differences, which a blurred spectrum hardly feels. Their
    mean squares over segments of the spectrum are laid on a straight line over the segments' mean
    counts. Structure only ever inflates a segment, so those above the line pull little and those
    below it much. Noise that neighbouring channels share hides from differences of neighbours:
    where differences at a stride of four channels show clearly more of it, they are believed (from
    192 channels on). That may show only where electrons make more noise than a white readout.
    Channels in which nothing scatters at all (no electron came, or zeros were filled in) are not
    heeded where others will do.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts without their flat offset, shape ``(..., channels)``.
    position : numpy.ndarray, optional
        Channels of the zero-loss peaks, navigation shape. The segments are laid from there, so
        that a spectrum shifted along the axis is cut in the same way.

    Returns
    -------
    Noise
        Always finite; gain and floor are positive.

    Raises
    ------
    ValueError
        If the spectra have less than 32 channels.

    Notes
    -----
    The correlation is that of white noise blurred by a Gaussian (a detector's point spread).

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import estimate_noise
    >>> level = 1e3 * (2 + np.sin(np.arange(1024) / 100))
    >>> counts = 3.0 * np.random.default_rng(0).poisson(level)
    >>> bool(2.5 < estimate_noise(counts).gain < 3.5)
    True
    """
    data = np.asarray(spectra, np.float64)
    if data.ndim == 0 or data.shape[-1] < FEWEST_CHANNELS:
        raise ValueError(
            f"spectra of shape {data.shape}: noise is read from at least {FEWEST_CHANNELS} channels "
            "along the last axis."
        )
    flat = data.reshape(-1, data.shape[-1])
    top = np.maximum(flat.max(axis=-1, initial=0.0), 0)
    usable = top > 1e-100
    scaled = np.where(usable[:, None], flat, 0.0) / np.where(usable, top, 1.0)[:, None]
    scaled = np.maximum(scaled, LOWEST)
    start = np.zeros(len(flat)) if position is None else np.reshape(position, -1)
    gain, floor, *spread = _noise_of_scaled(scaled, np.nan_to_num(start).astype(int))
    # Nothing but zeros: any scale will do. Noise-free data still need a positive one.
    gain = np.where(usable, np.maximum(gain, 1e-9) * top, 1.0)
    floor = np.where(usable, np.maximum(floor, 1e-18) * top**2, 1.0)
    shape = data.shape[:-1]
    floor = np.maximum(floor, (0.05 * gain) ** 2)
    return Noise(*(each.reshape(shape) for each in (gain, floor, *spread)))


def _noise_of_scaled(spectra, start):
    """The fields of `Noise`, of spectra whose maximum is 1, ``(batch, channels)``."""
    near = Segments.of(spectra, 1, start)
    gain, floor = straight_line(near)
    gain = _usual_gain(near, gain, floor)
    excess = near.variance / near.line(gain, floor)
    # An offset that was not taken off bends the line: then all are scaled up.
    bent = np.median(excess, axis=-1)
    gain, floor = (x * np.where(bent > DOUBTFUL, bent, 1.0) for x in (gain, floor))

    wide = Segments.of(spectra, WIDE_STRIDE, start)
    wide_gain, wide_floor = straight_line(wide)
    correlated = _share_noise(wide, (gain, floor), (wide_gain, wide_floor))
    correlated &= spectra.shape[-1] >= FEWEST_AT_WIDE_STRIDE
    wide_gain = np.minimum(wide_gain, MOST_HIDDEN * gain)  # more is structure
    neighbours, hidden = _blurred_white_noise(wide_gain / np.maximum(gain, 1e-12))
    # The noise of the readout comes after the electrons' spread: mostly it is white.
    white = wide_floor < CORRELATED * floor
    gain = np.where(correlated, wide_gain / hidden, gain)
    floor = np.where(correlated, wide_floor / np.where(white, 1.0, hidden), floor)
    return gain, floor, np.where(correlated, neighbours, 0.0), white | ~correlated


def _usual_gain(segments, gain, floor):
    """The gain, or a higher one where none is told: up to that at which the floor is a usual readout.

    Where nothing but a narrow zero-loss peak stands out of the readout, its segment alone holds noise of
    electrons, and its flanks hide that: any small gain explains the noise as well.
    """
    gain = np.maximum(gain, LEAST)
    low = np.flatnonzero(np.sqrt(floor) > MOST_READOUT * gain)
    if not low.size:
        return gain
    segments, least, floor = segments.of_rows(low), gain[low], floor[low]
    usual = np.sqrt(floor) / USUAL_READOUT
    higher = least * (usual / least) ** np.linspace(0, 1, 9)[:, None]
    cost = np.array([segments.capped_cost(each, floor) for each in higher])
    gain[low] = np.where(cost < cost[0] + AS_GOOD, higher, least).max(axis=0)
    return gain


def _share_noise(segments, near, wide):
    """Which spectra have noise that neighbours share, ``(batch,)``.

    Half of the segments must show clearly more noise at the wide stride: of all of them, or of
    those where electrons make more noise than the readout, which does not spread.

    Parameters
    ----------
    segments : Segments
        Seen at the wide stride.
    near, wide : tuple of numpy.ndarray
        Gain and floor of the lines through what is seen at stride 1 and at the wide stride.
    """
    gain, floor = wide
    plain = segments.cost(gain, floor) < INFLATED
    line = segments.line(gain, floor)
    electrons = plain & (gain[:, None] * segments.counts > floor[:, None])
    electrons &= segments.counts < BRIGHT  # the flanks of the highest peak are steep
    electrons &= segments.variance > line / 4  # else a line through spikes is believed
    enough = electrons.sum(axis=-1) >= ENOUGH_SEGMENTS
    expected = segments.line(*near)

    def excess(chosen, variance):
        ratio = np.where(chosen, variance / expected, np.nan)
        ratio[~chosen.any(axis=-1)] = 1.0
        return np.nanmedian(ratio, axis=-1)

    clearly = excess(electrons, line) > CLEARLY_CORRELATED
    clearly &= excess(electrons, segments.variance) > CORRELATED
    return (excess(plain, line) > CORRELATED) | (enough & clearly)


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
        Where nothing scatters (no electron came, or zeros were filled in): not heeded.
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
        size = spectra.shape[-1] - 4 * stride
        parts = [spectra[:, i * stride : i * stride + size] for i in range(5)]
        difference = sum(w * part for w, part in zip(DIFFERENCE, parts, strict=True))
        few = spectra.shape[-1] < FEW_CHANNELS
        shortest = SHORTEST_SEGMENT // 2 if few else SHORTEST_SEGMENT
        length = min(max(size // SEGMENTS, shortest), size)
        number = max((size + 1) // length - 1, 1)
        first = np.minimum(start % length, size - number * length)
        chosen = first[:, None] + np.arange(number * length)

        def cut(values):  # what is over at both ends is left out
            return np.take_along_axis(values, chosen, 1).reshape(len(values), number, length)

        square = cut(difference**2 / 70.0)
        variance = np.maximum(square.mean(axis=-1), LEAST)
        kurtosis = (square**2).mean(axis=-1) / variance**2 - 3
        counts = np.maximum(cut(sum(parts) / 5).mean(axis=-1), 0)
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
        line = self.line(gain, floor)
        rare = np.minimum(gain[..., None] ** 3 * self.counts / line**2, self.kurtosis)
        ratio = self.variance / line
        deviance = self.length / (5.3 + rare) * (ratio - 1 - np.log(ratio))
        return np.where(self.silent, 0, deviance)

    def capped_cost(self, gain, floor):
        """Sum of the segments' costs; one that is far off counts no more than a few."""
        inflated = self.variance > self.line(gain, floor)
        limit = np.where(inflated, INFLATED, DEFLATED)
        return np.minimum(self.cost(gain, floor), limit).sum(axis=-1)

    def of_rows(self, rows):
        """Some of the spectra."""
        fields = ("variance", "counts", "kurtosis", "silent")
        return replace(self, **{name: getattr(self, name)[rows] for name in fields})

    def beyond(self, offsets):
        """Candidates with only what the counts exceed these offsets by, ``(batch, lines)``."""
        return replace(self, counts=np.maximum(self.counts - offsets[..., None], 0))

    def candidates(self):
        """The same with an axis for candidate lines before the last; float32 will do for these."""
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
    cost, line = segments.cost(gain, floor), segments.line(gain, floor)
    inflated = segments.variance > line
    trust = np.minimum(INFLATED / np.maximum(cost, 1e-9), 1) ** 2
    weight = np.where(inflated, trust, (cost < DEFLATED) & ~segments.silent) / line**2
    x, y = segments.counts, segments.variance

    def dot(a, b):
        return (weight * a * b).sum(axis=-1)

    one = np.ones_like(x)
    xx, x1, oo, sx, so = dot(x, x), dot(x, one), dot(one, one), dot(x, y), dot(one, y)
    determinant = xx * oo - x1**2
    safe = np.where(determinant > 1e-9 * xx * oo, determinant, np.inf)
    both = (sx * oo - so * x1) / safe, (so * xx - sx * x1) / safe
    only_gain = sx / np.maximum(xx, 1e-300)
    only_floor = so / np.maximum(oo, 1e-300)
    steep = dot(y - only_gain[:, None] * x, y - only_gain[:, None] * x)
    level = dot(y - only_floor[:, None], y - only_floor[:, None])
    fine = (both[0] > 0) & (both[1] > 0)
    gain = np.where(fine, both[0], np.where(steep <= level, only_gain, 1e-9))
    floor = np.where(fine, both[1], np.where(steep <= level, 0.0, only_floor))
    return gain, floor


def _blurred_white_noise(ratio):
    """Correlation of neighbours, and the share of the variance seen at the wide stride.

    ``ratio`` is that of the variances seen at the wide stride and at stride 1.
    """
    sigma = np.linspace(0.05, 1.7, 100)  # of the Gaussian blur, in channels

    def seen(stride):
        lags = [np.exp(-((k * stride) ** 2) / (4 * sigma**2)) for k in (1, 2, 3, 4)]
        return 1 + sum(w * lag for w, lag in zip((-56, 28, -8, 1), lags, strict=True)) / 35

    ratios = seen(WIDE_STRIDE) / seen(1)
    at = np.interp(ratio, ratios, sigma)
    return np.exp(-1 / (4 * at**2)), np.interp(at, sigma, seen(WIDE_STRIDE))


def noise_of_variance(variance, counts):
    """The straight line through a variance that somebody has measured.

    Parameters
    ----------
    variance : float or numpy.ndarray
        A number, or one for each channel, ``(..., channels)``.
    counts : numpy.ndarray
        ``(..., channels)``, finite.

    Returns
    -------
    Noise
        White; gain and floor are positive.
    """
    counts = np.maximum(np.asarray(counts, np.float64), 0)
    variance = np.broadcast_to(np.asarray(variance, np.float64), counts.shape)
    centred = counts - counts.mean(axis=-1, keepdims=True)
    spread = np.maximum((centred**2).sum(axis=-1), np.finfo(float).tiny)
    gain = np.maximum((centred * variance).sum(axis=-1) / spread, 0)
    floor = (variance - gain[..., None] * counts).mean(axis=-1)
    least = 1e-9 * variance.mean(axis=-1)
    top = counts.max(axis=-1, initial=0.0)
    least_gain = least / np.where(top > 0, top, 1.0)  # a variance over counts: it scales as they do
    gain, floor = (
        np.maximum(np.maximum(value, low), np.finfo(float).tiny)
        for value, low in ((gain, least_gain), (floor, least))
    )
    return Noise(gain, floor, np.zeros_like(gain))


def rule_of_variance(variance, spectra, noise):
    """The rule by which a variance was read off the spectra themselves.

    HyperSpy's own (`estimate_poissonian_noise_variance`) takes what was recorded for what was to be
    expected, and nothing less than its offset: then variance and counts lie on one line. Of a variance
    that was measured or calculated they miss it by their noise.

    Parameters
    ----------
    variance, spectra : numpy.ndarray
        ``(batch, channels)``; the spectra as recorded, with their flat offset.
    noise : Noise
        Of the spectra, ``(batch,)``.

    Returns
    -------
    gain, floor : numpy.ndarray
        Of that line, ``(batch,)``; NaN where there is none.
    """
    least = variance.min(axis=-1, keepdims=True)
    free = variance > least  # not raised to the least
    number = np.maximum(free.sum(axis=-1, keepdims=True), 1)

    def mean(values):
        return np.where(free, values, 0).sum(axis=-1, keepdims=True) / number

    centred = spectra - mean(spectra)
    spread = np.maximum(mean(centred**2), np.finfo(float).tiny)
    gain = mean(centred * variance) / spread
    floor = mean(variance) - gain * mean(spectra)
    missed = variance - np.maximum(gain * spectra + floor, least)
    scatter = np.maximum(gain**2 * noise.variance(spectra), np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        fits = (gain[:, 0] > 0) & ((missed**2 / scatter).mean(axis=-1) < READ_OFF)
    return np.where(fits, [gain[:, 0], floor[:, 0]], np.nan)
