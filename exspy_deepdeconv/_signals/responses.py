"""Measured responses: what is asked of them, what is odd about them, how wide they are.

Imported inside the methods, not by ``import hyperspy.api``.
"""

from math import comb

import dask.array as da
import numpy as np

from .. import physics
from ..response.rises import loss_peak
from ..spectrum.flags import spectrum_flags
from ..spectrum.peaks import stands_out
from . import checks
from .sampling import ENOUGH_CHANNELS, read_spectra, spread_over, zero_loss_electrons

LONG_RESPONSE = 16  # channels: of shorter ones noise cannot be told from a peak
ROWS_AT_ONCE = 512
SAMPLED = 16  # of a map of responses, that are looked at
# A response must reach so many zero-loss widths to either side, or fall to this share of its height
# before; and as far as the losses do, or to so many electrons of a spectrum in a zero-loss width.
SHORT_WIDTHS, SHORT_HEIGHT = 6.0, 2e-3
SEEN_ELECTRONS = 30.0
LEAST_SHARE = 0.1  # of the electrons of a spectrum, for the noise of a response not to matter
ALTERNATING = 24  # order of differences that show hardly anything but noise
SURE = 0.1  # of what they tell, since few channels hold most of the noise
NARROW, BARE = 5.0, 1e-6  # channels; share of the height: peaks that look like noise, without tails
DARK = 3e-4  # of the height of a response
OWN_PART = (
    "psf is a part of the spectra themselves: the losses that it holds count as part of the response, and are "
    "taken out of the result. End it before the first loss, or measure it in vacuum."
)
ITSELF = "psf is the signal itself: its losses would count as part of the response."


def check_psf(psf, signal, dispersion):
    """Bring a measured response to an array of rising energy.

    Parameters
    ----------
    psf : exspy.signals.EELSSpectrum or None
        One response, or one for each spectrum of `signal`.
    signal : exspy.signals.EELSSpectrum
        What is to be deconvolved.
    dispersion : float
        Channel width of `signal` in eV.

    Returns
    -------
    numpy.ndarray, dask.array.Array or None
        Shape ``(length,)``, or ``navigation shape + (length,)``.

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As `check_measured`; and if the navigation shape does not fit or there is no usable response.
    """
    if psf is None:
        return None
    axis = check_measured(psf, signal, dispersion)
    _check_psf_navigation(psf, signal)
    data = checks.plain_array(psf)
    if one_for_all(data):
        data = data.reshape(-1)
    if axis.reversed:
        data = data[..., ::-1]
    if data.ndim == 1 and isinstance(data, da.Array):
        data = data.compute()
    if not isinstance(data, da.Array):  # reading a lazy map just to check it costs too much
        check_psf_counts(data)
    return data


def check_measured(psf, signal, dispersion):
    """Check that a response may be that of a signal, whatever its navigation shape.

    Parameters
    ----------
    psf, signal, dispersion
        As for `check_psf`.

    Returns
    -------
    EnergyScale
        Of the response.

    Raises
    ------
    NotImplementedError
        For a non-uniform axis.
    TypeError
        If it is not an EELSSpectrum.
    ValueError
        If it is the signal itself or a copy, a result or a residual, holds no real numbers, or its
        dispersion is another one.
    """
    from exspy.signals import EELSSpectrum

    if not isinstance(psf, EELSSpectrum):
        raise TypeError(
            f"psf must be an EELSSpectrum (a measured zero-loss peak), not {type(psf).__name__}."
        )
    if made := checks.result_or_residual(psf):
        raise ValueError(f"psf is {made}, not a measured zero-loss peak.")
    axis = checks.check_energy_axis(psf, "psf")
    checks.check_data(psf, "psf")
    if same_counts(psf.data, signal.data):
        raise ValueError(ITSELF)
    if abs(axis.dispersion - dispersion) > checks.DISPERSION_TOLERANCE * dispersion:
        raise ValueError(
            f"psf has {axis.dispersion:.6g} eV per channel, the signal {dispersion:.6g}: both "
            "must have the same dispersion. Measure it again, or bring the finer of the two to the other "
            "with rebin() (if their ratio is not a whole number, with psf.interpolate_on_axis(degree=3))."
        )
    return axis


def same_counts(psf, data):
    """Whether responses are the counts themselves, or in proportion to them; nothing lazy is read."""
    if psf is data or isinstance(psf, da.Array) or isinstance(data, da.Array):
        return psf is data
    if psf.shape != data.shape or not psf.any():
        return False
    pairs = zip(*(x.reshape(-1, x.shape[-1]) for x in (psf, data)), strict=True)
    same = (np.allclose(_of_unit_height(a), _of_unit_height(b), 1e-6, 0) for a, b in pairs)
    return all(same)  # the first one mostly tells


def _of_unit_height(spectrum):
    spectrum = np.nan_to_num(np.asarray(spectrum, float), posinf=0.0, neginf=0.0)
    return spectrum / (np.abs(spectrum).max() or 1.0)


def one_for_all(psf):
    """Whether responses (an array) are a single one: also a map of one spectrum."""
    return psf.ndim > 0 and psf.size == psf.shape[-1]


def of_own_part(psf, data):
    """A sentence on responses that were cut out of the spectra; nothing lazy is read to know.

    Parameters
    ----------
    psf, data : numpy.ndarray or dask.array.Array
        Responses and spectra, ``(..., length)``; both with energies in the same order.

    Returns
    -------
    list of str
    """
    lazy = isinstance(psf, da.Array) or isinstance(data, da.Array)
    length = psf.shape[-1]
    if lazy or not psf.size or psf.shape[:-1] != data.shape[:-1] or length >= data.shape[-1]:
        return []
    one, of_it = psf.reshape(-1, length)[0], data.reshape(-1, data.shape[-1])[0]
    parts = np.lib.stride_tricks.sliding_window_view(of_it, length)
    starts = np.flatnonzero((parts == one).all(axis=-1)) if one.any() else ()
    same = any(np.array_equal(psf, data[..., start : start + length]) for start in starts)
    return [OWN_PART] if same else []


def without_map(psf):
    """A response (a signal, or None) that is a map of one spectrum as a single one; others as they are."""
    dimension = 0 if psf is None else psf.axes_manager.navigation_dimension
    return psf.inav[(0,) * dimension] if dimension and one_for_all(psf.data) else psf


def was_estimated(psf):
    """Whether a response (a signal, or None) was read off spectra by ``estimate_psf``."""
    return psf is not None and psf.metadata.has_item("Signal.psf_estimation")


def was_summed(psf):
    """Whether a response (a signal, or None) was made by ``vacuum_psf``, from several spectra."""
    note = psf is not None and psf.metadata.get_item("Signal.vacuum_psf")
    return bool(note) and note.used > 1


def _check_psf_navigation(psf, signal):
    shape = psf.axes_manager.navigation_shape
    if shape == signal.axes_manager.navigation_shape or one_for_all(psf.data):
        return
    raise ValueError(
        f"psf has the navigation shape {shape}; it must be one spectrum, or one for each of the "
        f"signal's {signal.axes_manager.navigation_shape}. To use several vacuum spectra as one, pass "
        "psf.vacuum_psf(), which aligns and sums them."
    )


def check_psf_counts(data):
    """Raise a ValueError unless there is a usable response among them, ``(..., length)``."""
    # In a map, unusable ones are flagged later: there the spectra may well be empty too.
    if data.size and not _any_usable(data.reshape(-1, data.shape[-1])):
        raise ValueError(
            "psf must hold a zero-loss peak: finite, with positive counts far above the noise, and "
            "with its maximum inside its energy axis."
        )


def _any_usable(responses):
    """Whether there is one among them; a few hundred at a time."""
    parts = range(0, len(responses), ROWS_AT_ONCE)
    return any(usable_responses(responses[start : start + ROWS_AT_ONCE]).any() for start in parts)


def usable_responses(psf):
    """Where responses are finite and have a peak inside their axis (navigation shape)."""
    top = psf.argmax(axis=-1)
    inside = (top > 0) & (top < psf.shape[-1] - 1)
    usable = np.asarray(inside & np.isfinite(psf).all(axis=-1) & (psf.max(axis=-1) > 0))
    if usable.any() and psf.shape[-1] >= LONG_RESPONSE:  # noise has a highest channel, too
        known = np.asarray(psf[usable], float)
        usable[usable] = stands_out(known, known.max(axis=-1))
    return usable


def remarks(psf, source=None, electrons=np.inf, reach=0.0):
    """Sentences on measured responses that are not what they should be.

    Parameters
    ----------
    psf : numpy.ndarray, dask.array.Array or None
        ``(..., length)``; of a map some are looked at, a lazy one is not read for this.
    source : EELSSpectrum, optional
        The signal that they come from; what was estimated can only be cropped.
    electrons : float
        About how many electrons the zero-loss peaks of the spectra hold; infinite where unknown.
    reach : float
        Channels from their zero-loss peaks to the end of the spectra; 0 where unknown.

    Returns
    -------
    list of str
    """
    if psf is None or not psf.size or isinstance(psf, da.Array):
        return []
    estimated = was_estimated(source)
    if estimated and psf.shape[-1] >= source.metadata.Signal.psf_estimation.channels:
        return []
    stack = _usable_rows(psf, SAMPLED)
    if not len(stack):
        return []
    said = []
    if not estimated and stack.shape[-1] >= physics.MIN_CHANNELS:
        seen = physics.inspect(stack)
        said = _of_faults(seen) + _of_few_electrons(seen, electrons, source)
        # Of its own sum, ``vacuum_psf`` has told; and what ends in losses is not just too short.
        if not was_summed(source) and (losses := _of_losses(stack)):
            return said + losses
    short = [_of_short_one(row, electrons, reach) for row in stack]
    return said + ([short[0]] if all(short) else [])


def _of_losses(stack):
    """A sentence on responses of which most show losses."""
    places = [loss_peak(row) for row in stack]
    found = [place for place in places if place is not None]
    if 2 * len(found) <= len(places):
        return []
    return [
        f"psf rises again {np.median(found):.0f} zero-loss widths behind its peak, and not before it, as only "
        "losses do: what it shares with the spectra is taken out of them. A response is recorded in vacuum."
    ]


def _of_faults(seen):
    """Sentences on what most responses have that none should."""
    flags = _faults(seen)
    return [
        f"psf is a spectrum {physics.FLAG_TEXT[bit]}, which cannot be a response: the result is doubtful."
        for bit in (physics.SATURATED, physics.SPIKE)
        if (flags & bit > 0).mean() > 0.5
    ]


def _of_few_electrons(seen, electrons, source):
    """A sentence on responses that are noisier than what they are to deconvolve."""
    if seen.counts.shape[-1] < ENOUGH_CHANNELS or not np.isfinite(electrons):
        return []
    own = _noted_electrons(source) if was_summed(source) else _electrons(seen)
    if not len(own):
        return []
    share = float(np.median(own)) / electrons
    if share >= LEAST_SHARE:
        return []
    return [
        f"psf holds about {_per_cent(share)} % of the electrons of a spectrum: its noise counts as losses, "
        "and the result may be better without it."
    ]


def _noted_electrons(source):
    """What ``vacuum_psf`` noted; its sum cannot be asked, since aligning changes the noise."""
    known = source.metadata.Signal.vacuum_psf.get_item("electrons")
    return [] if known is None else [known]


def _electrons(seen):
    """About how many electrons responses hold; infinitely many where noise cannot be told from the peak."""
    found, noise = seen.zero_loss.select(seen.usable), seen.noise.select(seen.usable)
    own, counts = zero_loss_electrons(seen), seen.counts[seen.usable]
    # A peak without tails is taken for noise. What alternates from channel to channel is noise, or (of
    # narrow peaks) less than that: so many electrons there are at least.
    alternating = (np.diff(counts, ALTERNATING) ** 2).sum(axis=-1) / comb(
        2 * ALTERNATING, ALTERNATING
    )
    least = SURE * (found.height * found.fwhm) ** 2 / np.maximum(alternating, np.finfo(float).tiny)
    own = np.where(np.asarray(noise.correlation) == 0, np.maximum(own, least), own)
    away = np.abs(np.arange(counts.shape[-1]) - found.position[:, None]) > 3 * found.fwhm[:, None]
    bare = np.where(away, np.abs(counts), 0).max(axis=-1) < BARE * found.height
    return np.where(bare & (found.fwhm < NARROW), np.inf, own)


def _faults(seen):
    """The flag bits of responses, ``(number,)``, as `physics.inspect` has them of spectra."""
    # What smooth or clipped responses do far below the peak is no fault. (The noise is read before:
    # of what is raised it would be found too low, and noise taken for spikes.)
    bright = np.maximum(seen.counts, DARK * seen.counts.max(axis=-1, keepdims=True))
    return spectrum_flags(bright, seen.zero_loss, seen.noise)


def _of_short_one(psf, electrons, reach):
    """A sentence on a response, ``(length,)``, that is cut off where its tail matters; else None."""
    (counts,), _ = physics.response_prepared(psf[None])
    width, position = response_width(counts), int(counts.argmax())
    if np.isnan(width):  # a flank is cut off, or there are too few channels
        if max(counts[0], counts[-1]) > 0.5 * counts.max():
            return "psf is cut off on a flank of its peak, above half its height. Use a longer one."
        width = float(psf.size)
    few = max(int(width / 4), 8)
    # Of the loss side alone: spectra may begin later than a response.
    per_width = width * electrons / counts.sum() if np.isfinite(electrons) else 0.0
    ends = (counts[:few], position, 0.0), (counts[-few:], psf.size - 1 - position, per_width)
    for end, distance, scale in ends:
        level, noise = float(end.mean()), float(np.abs(np.diff(end)).mean() / np.sqrt(few))
        near = distance < SHORT_WIDTHS * width and level > SHORT_HEIGHT * counts.max() + 3 * noise
        seen = distance < reach - 1 and level > 3 * noise and level * scale > SEEN_ELECTRONS
        if near or seen:
            return (
                f"psf is cut off {distance / width:.2g} zero-loss widths from its maximum, where it is still "
                f"{_per_cent(level / counts.max())} % of its maximum: how its tail goes on is a guess. Use a "
                "longer one."
            )
    return None


def _per_cent(share):
    """One figure, two from 10 % on: no powers of ten."""
    figures = 2 if share >= 0.1 else 1
    return np.format_float_positional(
        100 * share, figures, unique=False, fractional=False, trim="-"
    )


def response_width(psf):
    """Median width at half maximum of responses, in channels; NaN where their flanks are cut off.

    Of a map at most 256 are read.
    """
    psf = _usable_rows(psf)
    widths = physics.half_height_width(psf, psf.argmax(axis=-1)) if len(psf) else np.array([])
    widths = widths[np.isfinite(widths)]
    return float(np.median(widths)) if widths.size else float("nan")


def _usable_rows(psf, number=None):
    """The usable ones of responses as rows; of a map so many are read, as of `spread_over`."""
    if psf.ndim > 1:
        places = spread_over(np.argwhere(np.ones(psf.shape[:-1], bool)), number)
        psf = read_spectra(psf, places) if len(places) else np.zeros((0, 3))
    psf = np.asarray(psf, float).reshape(-1, psf.shape[-1])
    return psf[usable_responses(psf)]
