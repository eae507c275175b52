"""The response from spectra measured in vacuum: which of them can be used, aligned and summed (NumPy and SciPy)."""

from dataclasses import dataclass

import numpy as np

from .. import physics
from ..spectrum.level import Dark, shared_dark
from .alignment import SharedPeak, covered, moved_share
from .faulty import faulty_channels, without_channels
from .scatter import gain_between

USED = 0
NOT_FINITE, EMPTY, SATURATED, SPIKE, NO_PEAK, WIDE, LOSSES = range(1, 8)
# Why a spectrum is left out, in the words of a warning; the first that is true counts.
REASONS = {
    NOT_FINITE: "not finite",
    EMPTY: "empty",
    SATURATED: "saturated",
    SPIKE: "with a spike or a dead channel",
    NO_PEAK: "without a clear zero-loss peak",
    WIDE: "with a wider zero-loss peak than the others",
    LOSSES: "with more losses than the quietest",
}
_OF_FLAGS = {
    physics.SPIKE: SPIKE,
    physics.SATURATED: SATURATED,
    physics.EMPTY: EMPTY,
    physics.NOT_FINITE: NOT_FINITE,
}
CLEAR = 5.0  # standard deviations of its noise by which a zero-loss peak must stand out
COMMON = 0.5  # of the spectra: a spike that more of them have is the detector's
STEPS = 4  # towards the peak that spectra share; two would do, unless they are weak or far apart
ROUNDS = 2  # of choosing the spectra that share it
# Zero-loss widths from the peak between which counts tell of its width (on both sides), and behind it of losses.
FLANKS, BEHIND = (0.5, 1.0), ((1.5, 4.0), (4.0, 20.0), (20.0, np.inf))
# Share, standard errors and share of the peak by which these must exceed those of the typical and the quietest
# spectra: all three. (A Gaussian that is 6 % wider has over 10 % more counts on its flanks.)
LOUD = 0.1, 5.0, 3e-4
# Quantiles of the quietest spectra: far enough up for some to be there, far enough down for none of the
# specimen. Distance of the first from the last, and of the second from the median, of normal numbers.
LOW, SCATTER, BY_CHANCE = (0.25, 0.1, 0.05), 0.97, 1.28
NARROW = 4.5  # channels: what is narrower rings when it is moved by a part of a channel
ENOUGH = 8  # spectra to tell scatter from


@dataclass(frozen=True)
class Found:
    """What is found in spectra of a vacuum.

    Attributes
    ----------
    position, held : numpy.ndarray
        Of the zero-loss peaks: where they lie, in channels, and the counts that they hold; ``(batch,)``.
    beside, error : numpy.ndarray
        Counts on the flanks of the peak and behind it over those of the peak, for each part of `FLANKS` and
        `BEHIND`, and their standard errors; ``(batch, parts)``.
    """

    position: np.ndarray
    held: np.ndarray
    beside: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, seen, peak):
        """In inspected spectra, by the peak that they share."""
        around = seen.zero_loss.position, seen.zero_loss.some_width
        position, held = peak.find(seen.counts, *around)
        distance = np.arange(seen.counts.shape[-1]) - position[:, None]
        parts = [covered(np.abs(distance), *(x * peak.fwhm for x in FLANKS))]
        parts += [covered(distance, *(x * peak.fwhm for x in part)) for part in BEHIND]
        channels = np.stack([part.sum(axis=-1) for part in parts], axis=-1)
        counts = np.stack([(seen.counts * part).sum(axis=-1) for part in parts], axis=-1)
        variance = peak.gain * np.maximum(counts, peak.gain) + peak.floor * channels
        variance += (seen.level_error[:, None] * channels) ** 2
        unit = np.maximum(held, peak.gain)[:, None]
        return cls(position, held, counts / unit, np.sqrt(variance) / unit)

    def select(self, rows):
        """What is found in some of the spectra."""
        return Found(**{name: value[rows] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Usual:
    """How much of `Found.beside` is usual; ``(parts,)``.

    Attributes
    ----------
    beside : numpy.ndarray
        The median on the flanks, and what the quietest spectra have behind the peak.
    noisier : numpy.ndarray
        By how much these scatter more than their errors say: noise that neighbours share is hard to see.
    """

    beside: np.ndarray
    noisier: np.ndarray

    @classmethod
    def of(cls, found):
        """Of at least one spectrum."""
        error = np.median(found.error, axis=0)
        low, lower, lowest = np.quantile(found.beside, LOW, axis=0)
        enough = len(found.beside) >= ENOUGH
        scatter = (low - lowest) / (SCATTER * error)
        noisier = np.maximum(scatter, 1) if enough else np.ones_like(error)
        beside = lower + BY_CHANCE * noisier * error
        beside[0] = np.median(found.beside[:, 0])
        return cls(beside, noisier)

    def exceeded(self, found):
        """Where spectra clearly have more, ``(batch, parts)``."""
        share, errors, of_peak = LOUD
        least = np.maximum(share * self.beside, errors * self.noisier * found.error)
        return found.beside - self.beside > np.maximum(least, of_peak)


@dataclass(frozen=True)
class Vacuum:
    """What the spectra of a vacuum have in common, learned from some of them.

    Attributes
    ----------
    peak : SharedPeak
        By which their zero-loss peaks are found.
    usual : Usual
        What is usual beside it.
    place, drift : float
        Mean position of the peaks, to which they are moved, and the standard deviation of their positions
        without that of the errors, in channels.
    dark : Dark or None
        The flat offset that they share.
    spiky : bool
        Whether most of them have a spike.
    gain : float or None
        Counts per electron; None where too few spectra tell.
    faulty : numpy.ndarray of int
        Channels of the detector that are interpolated.
    """

    peak: SharedPeak
    usual: Usual
    place: float
    drift: float
    dark: Dark | None
    spiky: bool
    gain: float | None
    faulty: np.ndarray

    def sum(self, spectra):
        """Align and add those of some spectra that can be used.

        Parameters
        ----------
        spectra : numpy.ndarray
            Counts, ``(batch, channels)``.

        Returns
        -------
        total : numpy.ndarray
            Sum of the spectra, where they reach, ``(channels,)``.
        reach : numpy.ndarray
            Counts of the zero-loss peaks of those that reach to a channel, ``(channels,)``.
        reasons : numpy.ndarray of uint8
            Why spectra were left out, one of `REASONS`; 0 where they were not; ``(batch,)``.
        """
        spectra = without_channels(spectra, self.faulty)
        seen = physics.inspect(spectra, self.dark)
        found = Found.of(seen, self.peak)
        reasons = _with(_unclear(seen, found, self.peak, self.spiky), self.usual.exceeded(found))
        rows = np.flatnonzero(reasons == USED)
        shift = self.shifts(found.select(rows))
        moved = np.asarray(spectra, float)[rows]
        if shift.any():
            moved = physics.shift_channels(moved, shift)
        source = np.arange(spectra.shape[-1]) - shift[:, None]
        inside = (source > -0.5) & (source < spectra.shape[-1] - 0.5)
        total = np.where(inside, moved, 0).sum(axis=0)
        return total, found.held[rows] @ inside, reasons

    def shifts(self, found):
        """By how many channels spectra are to be moved to the right."""
        share = moved_share(self.peak.error(found.held), self.drift)
        shift = share * (self.place - found.position)
        return np.rint(shift) if self.peak.fwhm < NARROW else shift


def learn(spectra):
    """What spectra of a vacuum have in common.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts of some of them, ``(batch, channels)``.

    Returns
    -------
    vacuum : Vacuum or None
        None if none can be used.
    reasons : numpy.ndarray of uint8
        Why not, ``(batch,)``; as `Vacuum.sum` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian
    >>> from exspy_deepdeconv.response.vacuum import learn
    >>> peaks = 1e5 * gaussian(256, np.array([98.6, 100.0, 101.4, 100.0]), np.full(4, 8.0))
    >>> peaks[3] = 0
    >>> vacuum, reasons = learn(np.random.default_rng(0).poisson(peaks))
    >>> reasons.tolist(), round(vacuum.place)
    ([0, 0, 0, 2], 100)
    """
    faulty = faulty_channels(spectra)
    spectra = without_channels(spectra, faulty)
    seen = physics.inspect(spectra)
    dark = _dark(seen)
    if dark is not None:
        seen = physics.inspect(spectra, dark)
    spiky = _most_have_a_spike(seen)
    reasons = _unusable(seen, spiky)
    for _ in range(ROUNDS):
        used = reasons == USED
        peak = _shared_peak(seen.select(used)) if used.any() else None
        if peak is None:
            return None, np.where(used, NO_PEAK, reasons)
        found = Found.of(seen, peak)
        reasons = _unclear(seen, found, peak, spiky)
        if (reasons != USED).all():
            return None, reasons
        usual = Usual.of(found.select(reasons == USED))
        reasons = _with(reasons, usual.exceeded(found))
    used = reasons == USED
    if not used.any():
        return None, reasons
    found, place = found.select(used), float(found.position[used].mean())
    drift = _drift(found.position, peak.error(found.held))
    gain = gain_between(seen.counts[used], found.position, found.held, peak.fwhm, peak.floor)
    return Vacuum(peak, usual, place, drift, dark, spiky, gain, faulty), reasons


def _dark(seen):
    """The flat offset of all: also of a few spectra, since one that only some show would pass for losses."""
    told = seen.usable & (seen.level != 0)
    dark = shared_dark(seen)
    if dark is not None or not told.any():
        return dark
    return Dark(float(np.median(seen.level[told])), float(np.median(seen.level_error[told])))


def _shared_peak(seen):
    """The peak that spectra share; None where there is none."""
    counts, found = seen.counts, seen.zero_loss
    clear = np.isfinite(found.position)
    position = np.nan_to_num(found.position)
    if not clear.any():
        return None
    # The noise of their sum is harder to read: its peak is smooth, and there is only one of it.
    gain, floor = (float(np.median(x)) for x in (seen.noise.gain, seen.noise.floor))
    for _ in range(STEPS):
        shift = position[clear].mean() - position[clear]
        mean = physics.shift_channels(counts[clear], shift).mean(axis=0)
        mean, *_ = physics.prepare(mean)  # a flat offset that single spectra do not show
        peak = SharedPeak.of(mean, gain, floor)
        if peak is None:
            return None
        place, held = peak.find(counts, found.position, found.some_width)
        clear = peak.clear(held, seen.noise) > CLEAR
        if not clear.any():
            return None
        error = peak.error(held)
        middle, drift = place[clear].mean(), _drift(place[clear], error[clear])
        position = middle + moved_share(error, drift) * (place - middle)
    return peak


def _drift(position, error):
    """Standard deviation of positions, without that of their errors."""
    return float(np.sqrt(max(np.var(position) - np.mean(error**2), 0.0)))


def _most_have_a_spike(seen):
    spike = seen.flags[seen.usable] & physics.SPIKE > 0
    return bool(spike.size and spike.mean() > COMMON)


def _unusable(seen, spiky):
    """Reasons that a spectrum shows by itself."""
    reasons = np.zeros(len(seen.flags), np.uint8)
    for bit, reason in _OF_FLAGS.items():
        if not (spiky and reason == SPIKE):
            reasons[seen.flags & bit > 0] = reason
    return reasons


def _unclear(seen, found, peak, spiky):
    """The same, and where the peak is lost in the noise."""
    reasons = _unusable(seen, spiky)
    reasons[(reasons == USED) & ~(peak.clear(found.held, seen.noise) > CLEAR)] = NO_PEAK
    return reasons


def _with(reasons, exceeded):
    """The same, and where there is more beside the peak than is usual."""
    loud = np.where(exceeded[:, 0], WIDE, np.where(exceeded[:, 1:].any(axis=-1), LOSSES, USED))
    return np.where(reasons == USED, loud, reasons).astype(np.uint8)
