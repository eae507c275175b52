"""Read a few spectra of a signal, spread over the map: its zero-loss peak, its flat offset.

Imported inside the methods, not by ``import hyperspy.api``.
"""

from dataclasses import dataclass, field, replace

import dask
import dask.array as da
import numpy as np

from .. import physics
from ..spectrum.level import Dark, shared_dark

MAX_SAMPLED = 256
NARROWEST, WIDEST = 1.8, 64.0  # channels; training covers 2 to 60, and sampling widens peaks
FEWEST_ELECTRONS = 800.0  # in the zero-loss peak; training begins at 1000, the number is estimated
ENOUGH_CHANNELS = 256  # from which the number of electrons can be estimated
LEAST_GAIN_SIDE = 3.0  # zero-loss widths before the peak (`benchmarks/limits.py --part gain_side`)
MOST_SPREAD = 1.6  # ratio of wide to narrow peaks up to which one resolution suits all
# What makes a peak at 0 eV a rival of the one that was taken for the zero-loss peak: its share of the
# highest channel, and how many times higher it is than the channels beside it.
LEAST_PEAK, PEAK_CONTRAST = 0.02, 2.0
NO_COUNTS = f"NaN, infinite or masked values, or values above {physics.HIGHEST_VALUE:.0e} (results are float32)"
REMARKS = {
    "narrow": "the zero-loss peak is only {0.fwhm:.2g} channels wide",
    "wide": "the zero-loss peak is {0.fwhm:.3g} channels wide, wider than any in the training",
    "no_gain_side": "the gain side of the zero-loss peak, from which the response is read, "
    "is only {0.before:.2g} zero-loss widths long",
    "few_electrons": "the zero-loss peak holds about {0.electrons:.0f} electrons, fewer than any in the "
    "training, and losses may be counted to it: sum or bin spectra first",
    "uneven": "zero-loss widths differ by a factor of {0.spread:.2g} over the signal",
}


@dataclass(frozen=True)
class TypicalZeroLoss:
    """The zero-loss peak of a signal: medians over the spectra that have one.

    Attributes
    ----------
    position, fwhm : float
        In channels; NaN for a signal without spectra.
    spread : float
        How many times wider a wide peak is than a narrow one (95th over 5th percentile).
    electrons : float
        About how many the peak of a spectrum holds; infinite where the axis is too short to tell.
    dark : Dark or None
        The flat offset that the spectra of a map share; None for a few spectra: each has its own.
    elsewhere : float or None
        Energy of the peak in eV if it cannot be the zero-loss peak, since the axis begins above 0 eV
        or (``rivalled``) another peak is at 0 eV; else None.
    rivalled : bool
        Whether another peak is at 0 eV.
    taken_off : float
        The negative flat offset that is subtracted (of a few spectra, its median), in counts.
    mean : numpy.ndarray or None
        Mean of the spectra whose peak is at ``position``, in order of rising energy.
    """

    position: float
    fwhm: float
    spread: float = 1.0
    electrons: float = np.inf
    dark: Dark | None = None
    elsewhere: float | None = None
    rivalled: bool = False
    taken_off: float = 0.0
    mean: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def before(self):
        """Zero-loss widths that the axis begins before the peak."""
        return max(self.position / self.fwhm, 0.0)

    def on(self, axis):
        """The same on an axis of energies (`EnergyScale`)."""
        if np.isnan(self.position):
            return self
        zero = -axis.lowest / axis.dispersion  # channel of 0 eV
        rivalled = self._peak_before(zero)
        if zero > -self.fwhm and not rivalled:
            return self
        energy = axis.lowest + self.position * axis.dispersion
        return replace(self, elsewhere=energy, rivalled=rivalled)

    def _peak_before(self, channel):
        """Whether there is a peak around this channel, before and apart from the one that was found."""
        first, last = (max(round(channel + x * self.fwhm / 2), 1) for x in (-1, 1))
        stop = int(self.position - self.fwhm)
        if self.mean is None or not first < last < stop:
            return False
        top = first + int(self.mean[first : last + 1].argmax())
        height, around = self.mean[top], max(self.mean[:top].min(), self.mean[top:stop].min())
        least = LEAST_PEAK * self.mean.max()
        return bool(first < top < last and height > max(PEAK_CONTRAST * around, least))


def typical_zero_loss(data, mask, reverse=False):
    """Median zero-loss position and width over the spectra that have a zero-loss peak.

    At most 256 spectra are read, spread over the map; the same ones for eager and lazy data, so
    that both give the same result. If all of these are unusable, the rest of an eager map is
    read as well.

    Parameters
    ----------
    data : numpy.ndarray or dask.array.Array
        Counts, shape ``(..., channels)``.
    mask : numpy.ndarray of bool
        Navigation shape, True where a spectrum is left out.
    reverse : bool
        The energy falls along the axis; positions count from its low-energy end.

    Returns
    -------
    TypicalZeroLoss

    Raises
    ------
    ValueError
        If there is no usable spectrum; the message says why.
    """
    if mask.all() and mask.ndim:
        return TypicalZeroLoss(float("nan"), float("nan"))
    _, seen = _inspected(data, mask, reverse)
    if not seen.usable.any():
        raise ValueError(_why_unusable(seen.flags, int((~mask).sum())))
    return _medians(seen)


def usable_places(data, mask, reverse=False):
    """Places (rows of indices) of the spectra that `typical_zero_loss` learns from.

    Parameters
    ----------
    data, mask, reverse
        As for `typical_zero_loss`.

    Returns
    -------
    numpy.ndarray of int
        Shape ``(spectra, navigation axes)``.
    """
    places, seen = _inspected(data, mask, reverse)
    return places[seen.usable]


def _inspected(data, mask, reverse):
    """Places of some spectra, and these inspected; of all if none of those in memory is usable."""
    wanted = np.argwhere(~mask)
    some = spread_over(wanted)
    for places in (some,) if isinstance(data, da.Array) else (some, wanted):
        spectra = read_spectra(data, places)
        seen = physics.inspect(spectra[..., ::-1] if reverse else spectra)
        if seen.usable.any() or len(places) == len(wanted):
            break
    return places, seen


def response_zero(found, channels):
    """Where the energy zero of responses lies on the axis of a signal.

    At the zero-loss peak, so that they reach as far as the spectra do; farther from the start of
    the axis if the peak is so near to it that their flank would be cut off.
    """
    if np.isnan(found.position):  # a map without spectra
        return channels // 2
    room = min(int(np.ceil(4 * found.fwhm)), channels // 3)
    return int(np.clip(round(float(found.position)), room, channels - 2))


def out_of_range(found, given):
    """Which properties of a signal's zero-loss peak the training of the networks did not cover.

    Parameters
    ----------
    found : TypicalZeroLoss
        The peak.
    given : bool
        Whether a measured response is given: then the gain side does not matter.

    Returns
    -------
    dict of str to bool
        ``undersampled`` (F under 3 channels: there is nothing to sharpen), ``narrow``, ``wide``,
        ``no_gain_side``, ``few_electrons`` and ``uneven`` (as in `REMARKS`), ``elsewhere`` (the energy
        axis begins above 0 eV, or another peak is there).
    """
    return {
        "undersampled": found.fwhm < physics.UNDERSAMPLED_FWHM_CHANNELS,
        "narrow": found.fwhm < NARROWEST,
        "wide": found.fwhm > WIDEST,
        "no_gain_side": not given and found.position < LEAST_GAIN_SIDE * found.fwhm,
        "few_electrons": found.electrons < FEWEST_ELECTRONS,
        "uneven": found.spread > MOST_SPREAD,
        "elsewhere": found.elsewhere is not None,
    }


def of_axis(found):
    """A sentence if the peak, according to the energy axis, is not the zero-loss peak; else none."""
    if found.elsewhere is None:
        return []
    why = "has another peak at 0 eV" if found.rivalled else "begins above 0 eV"
    return [
        f"the energy axis {why}; what was taken for the zero-loss peak lies at "
        f"{found.elsewhere:.4g} eV. If the axis is right, this is another peak, and the result is wrong."
    ]


def of_offset(found):
    """A sentence on a flat offset that is subtracted; none where there is none."""
    if not found.taken_off < 0:
        return []
    where = "all spectra" if found.dark is not None else "the spectra"
    return [
        f"a flat offset of {found.taken_off:.3g} counts lies under {where}; since it is negative, "
        "it is subtracted, which raises the result in every channel."
    ]


def of_range(found, given=False, without=()):
    """A sentence on what is out of range, but for some of `REMARKS`; none where nothing is."""
    raised = out_of_range(found, given)
    odd = [
        text.format(found) for name, text in REMARKS.items() if raised[name] and name not in without
    ]
    return [f"{'; '.join(odd)}: the result is doubtful."] if odd else []


def remarks(found, given):
    """Sentences on all that is odd about the data that are to be sharpened."""
    said = of_range(found, given)
    if NARROWEST <= found.fwhm < physics.UNDERSAMPLED_FWHM_CHANNELS:
        wide = f"the zero-loss peak is only {found.fwhm:.2g} channels wide"
        said.append(f"{wide}: under 3 there is nothing to sharpen, and it keeps its width.")
    return said + of_axis(found) + of_offset(found)


def spread_over(positions, number=None):
    """At most ``number`` (256 by default) of the rows of an array, evenly spread."""
    number = min(MAX_SAMPLED if number is None else number, len(positions))
    return positions[np.unique(np.linspace(0, len(positions) - 1, number).astype(int))]


def read_spectra(data, positions):
    """The spectra at these places of the map (rows of indices), in one read of a lazy signal."""
    lazy = isinstance(data, da.Array)
    if lazy and len(data.chunks[-1]) > 1 and data.ndim > 1:
        # One by one, each piece of each spectrum would be a task.
        return data.vindex[(*positions.T, slice(None))].compute()
    spectra = [data[tuple(position)] for position in positions]
    if lazy:
        spectra = dask.compute(*spectra)
    return np.stack(spectra)


def zero_loss_electrons(seen):
    """About how many electrons the zero-loss peaks of inspected spectra hold, those that are usable."""
    found, noise = seen.zero_loss.select(seen.usable), seen.noise.select(seen.usable)
    return found.height * found.fwhm / noise.gain


def _medians(seen):
    peaks = (seen.zero_loss.position[seen.usable], seen.zero_loss.fwhm[seen.usable])
    low, high = np.quantile(peaks[1], [0.05, 0.95])
    position, fwhm = (float(np.median(values)) for values in peaks)
    there = seen.usable & (np.abs(seen.zero_loss.position - position) <= fwhm)
    # On a short axis, the counts per electron cannot be estimated well.
    few = np.inf
    if seen.counts.shape[-1] >= ENOUGH_CHANNELS:
        few = float(np.median(zero_loss_electrons(seen)))
    dark, own = shared_dark(seen), seen.level[seen.usable]
    # A few spectra have an offset each: the median of the negative ones.
    levels = own[own < 0] if dark is None else np.array([dark.level])
    taken_off = min(float(np.median(levels)), 0.0) if levels.size else 0.0
    # The median of two positions may lie where neither is.
    mean = seen.counts[there].mean(axis=0) if there.any() else None
    return TypicalZeroLoss(
        position, fwhm, float(high / low), float(few), dark, taken_off=taken_off, mean=mean
    )


def _why_unusable(flags, total):
    if total == 1:
        if flags[0] & physics.NOT_FINITE:
            return (
                f"The spectrum holds {NO_COUNTS}. (To sum a region of interest, use nansum(): HyperSpy "
                "fills its corners with NaN.)"
            )
        if flags[0] & physics.EMPTY:
            return "The spectrum holds nothing but zeros."
        return "No zero-loss peak was found in the spectrum: low-loss data are needed."
    if (flags & physics.NOT_FINITE > 0).all():
        return (
            f"All of {flags.size} spectra (out of {total}) hold {NO_COUNTS}. (An alignment leaves NaN at "
            "the ends of the axis: crop these channels.)"
        )
    kinds = ", ".join(
        f"{int((flags & bit > 0).sum())} {physics.FLAG_TEXT[bit]}"
        for bit in physics.FLAG_TEXT
        if (flags & bit & physics.UNUSABLE).any()
    )
    why = f"None of {flags.size} spectra (out of {total}) has a usable zero-loss peak: {kinds}. "
    why += "Low-loss data are needed."
    if flags.size == total:
        return why
    return why + (
        " If the specimen fills a small part of a lazy map, pass that part alone (or a "
        "navigation_mask to deep_deconvolve)."
    )
