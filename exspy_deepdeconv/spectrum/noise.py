"""Read the noise of a spectrum from the spectrum itself (NumPy only)."""

from dataclasses import dataclass

import numpy as np

from .peaks import medians
from .segments import (
    ENOUGH_SEGMENTS,
    INFLATED,
    LEAST,
    REACH,
    SHORTEST_SEGMENT,
    Segments,
    straight_line,
)

LOWEST = -10.0  # of the maximum; lower values are no spectrum, and would overflow single precision
WIDE_STRIDE = 4  # channels; farther apart, neighbours' noise is taken to be independent
FEWEST_CHANNELS = SHORTEST_SEGMENT + WIDE_STRIDE * REACH
FEWEST_AT_WIDE_STRIDE = 192  # channels: on shorter axes no wide segment is clear of the peak
CORRELATED = 1.5  # factor on the variance at the wide stride: a smaller one is scatter
CLEARLY_CORRELATED = 2.0  # the same, where only some of the segments are used
BRIGHT = 0.03  # of the maximum: darker segments are not on the flanks of the highest peak
MOST_HIDDEN = 360.0  # factor by which a spread of 3.5 channels (FWHM) hides noise from neighbours
DOUBTFUL = 2.0  # factor: with half of the segments farther above their line, it is no straight line
USUAL_READOUT = 5.0  # electrons (standard deviation): assumed where the data do not show it
MOST_READOUT = 50.0  # electrons: more means that the gain was not found
ENOUGH_NEGATIVES = 16  # channels
CLEARLY_NEGATIVE = 4.0  # factor on the floor; less is chance
MEDIAN_OF_SQUARES = 0.455  # of normal deviates
AS_GOOD = 2.0  # cost by which a line with the usual readout may explain the segments worse


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
        Whether the floor is white nevertheless: readout noise is added after the electrons' spread.
    """

    gain: np.ndarray
    floor: np.ndarray
    correlation: np.ndarray = 0.0
    white_floor: np.ndarray = True

    def variance(self, counts):
        """Variance expected in channels that hold ``counts`` (shape ``(..., channels)``)."""
        return self.gain[..., None] * np.maximum(counts, 0) + self.floor[..., None]

    def in_rows(self, number):
        """The same with one value for each of ``number`` spectra; a single one is repeated."""
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
        if not np.any(self.correlation):
            return np.zeros_like(variance[..., 1:])
        floor = self.floor[..., None]
        total = np.maximum(variance, floor)
        electrons = total - floor
        shared = np.sqrt(electrons[..., 1:] * electrons[..., :-1])
        shared = shared + np.where(np.asarray(self.white_floor)[..., None], 0.0, floor)
        share = shared / np.sqrt(total[..., 1:] * total[..., :-1])
        return np.asarray(self.correlation)[..., None] * share


def estimate_noise(spectra, position=None):
    """Read the noise from the spectra: variance = gain x counts + floor.

    How many electrons a data unit stands for is unknown (detector gain, summed or averaged frames),
    so both numbers are read from fourth differences, which a blurred spectrum hardly changes. A
    straight line is fitted to their mean squares over segments of the spectrum, as a function of the
    mean counts. Structure can only inflate the value of a segment, so segments above the line weigh
    little and those below it much. Differences of neighbouring channels do not show the noise that
    these share: if differences at a stride of four channels show clearly more noise, they are used
    instead (on axes of 192 channels or more). For this, it is enough if the segments show it in
    which electrons make more noise than a white readout. Segments in which nothing scatters at all
    (no electron arrived, or zeros were filled in) are ignored if there are enough others.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts without their flat offset, shape ``(..., channels)``.
    position : numpy.ndarray, optional
        Channels of the zero-loss peaks, navigation shape. The segments are counted from there, so
        that a spectrum that is shifted along the axis is cut in the same way.

    Returns
    -------
    Noise
        Always finite; gain and floor are positive.

    Raises
    ------
    ValueError
        If the spectra have fewer than 32 channels.

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
    # For nothing but zeros, any scale will do. Noise-free data still need a positive one.
    gain = np.where(usable, np.maximum(gain, 1e-9) * top, 1.0)
    floor = np.where(usable, np.maximum(floor, 1e-18) * top**2, 1.0)
    shape = data.shape[:-1]
    floor = np.maximum(floor, (0.05 * gain) ** 2)
    floor = np.where(usable, _floor_of_negatives(flat, floor), floor)
    return Noise(*(each.reshape(shape) for each in (gain, floor, *spread)))


def _floor_of_negatives(spectra, floor):
    """A higher floor where counts are more negative than this one explains.

    No specimen makes negative counts: they are readout that neighbours share, or a dark reference that does
    not fit. Half of them lie within the median of their squares, as of the squares of any noise around zero.
    """
    # Counting first: the median of hardly any spectrum is needed.
    lowest = -np.sqrt(CLEARLY_NEGATIVE * MEDIAN_OF_SQUARES * floor)
    number = np.count_nonzero(spectra < 0, axis=-1)
    far = np.count_nonzero(spectra < lowest[:, None], axis=-1)
    higher = floor.copy()
    for row in np.flatnonzero((number >= ENOUGH_NEGATIVES) & (2 * far > number)):
        below = spectra[row][spectra[row] < 0]
        higher[row] = np.median(below**2) / MEDIAN_OF_SQUARES
    return higher


def _noise_of_scaled(spectra, start):
    """The fields of `Noise`, of spectra whose maximum is 1, ``(batch, channels)``."""
    near = Segments.of(spectra, 1, start)
    gain, floor = straight_line(near)
    gain = _usual_gain(near, gain, floor)
    excess = near.variance / near.line(gain, floor)
    # An offset that was not subtracted bends the line: then gain and floor are scaled up.
    bent = np.median(excess, axis=-1)
    gain, floor = (x * np.where(bent > DOUBTFUL, bent, 1.0) for x in (gain, floor))

    wide = Segments.of(spectra, WIDE_STRIDE, start)
    wide_gain, wide_floor = straight_line(wide)
    correlated = _share_noise(wide, (gain, floor), (wide_gain, wide_floor))
    correlated &= spectra.shape[-1] >= FEWEST_AT_WIDE_STRIDE
    wide_gain = np.minimum(wide_gain, MOST_HIDDEN * gain)  # more is structure
    neighbours, hidden = _blurred_white_noise(wide_gain / np.maximum(gain, 1e-12))
    # Readout noise is added after the electrons' spread, so it is mostly white.
    white = wide_floor < CORRELATED * floor
    gain = np.where(correlated, wide_gain / hidden, gain)
    floor = np.where(correlated, wide_floor / np.where(white, 1.0, hidden), floor)
    return gain, floor, np.where(correlated, neighbours, 0.0), white | ~correlated


def _usual_gain(segments, gain, floor):
    """The gain, or a higher one if the data do not show it: at most one with a usual readout as floor.

    Where only a narrow zero-loss peak stands out of the readout, its segment alone holds noise of
    electrons, and its flanks hide that: any small gain then explains the noise equally well.
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
    electrons &= segments.variance > line / 4  # else a line through spikes would count
    enough = electrons.sum(axis=-1) >= ENOUGH_SEGMENTS
    expected = segments.line(*near)
    clearly = medians(line / expected, electrons) > CLEARLY_CORRELATED
    clearly &= medians(segments.variance / expected, electrons) > CORRELATED
    return (medians(line / expected, plain) > CORRELATED) | (enough & clearly)


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
