"""What ``vacuum_psf`` does with a signal.

Imported inside the method, not by ``import hyperspy.api``.
"""

import warnings

import dask
import numpy as np
from dask.array.core import slices_from_chunks

from .. import _arguments, physics
from .._signals import checks, responses, results, runner, sampling
from ..response.vacuum import REASONS, USED, learn

MOST_READ = 1024  # spectra, from which is learned what they have in common
FEWEST_ELECTRONS = 1e5  # in the sum: spectra must hold as many for losses near the peak to show
LEAST_REACH = 0.5  # share of the electrons that must be there at both ends of the sum
NOTE = "Signal.vacuum_psf"  # node of the metadata
NAMES = ("not_finite", "empty", "saturated", "spike", "no_zero_loss", "wider", "losses")


def measured_response(signal, *, show_progressbar, num_workers):
    """Check the signal of ``vacuum_psf``, sum its spectra and describe the sum.

    Returns
    -------
    EELSSpectrum
    """
    _arguments.check_num_workers(num_workers)
    axis = checks.check_low_loss(signal)
    if made := checks.already_made(signal):
        raise ValueError(f"The signal is {made}: a response is measured from spectra in vacuum.")
    if not signal.axes_manager.navigation_size and signal.metadata.has_item(NOTE):
        return _copy_in_memory(signal)
    data = checks.plain_array(signal)
    vacuum = _learned(data, axis)
    total, reach, reasons = _sum(data, axis, vacuum, show_progressbar, num_workers)
    _check_some_used(reasons, reasons.size)
    total, whole = _seen_by_most(total, reach)
    result = _on_axis(signal, total, whole, axis)
    electrons = None if vacuum.gain is None else float(reach.max() / vacuum.gain)
    for odd in _remarks(reasons, total, electrons, vacuum):
        warnings.warn(f"vacuum_psf: {odd}", UserWarning, stacklevel=3)
    results.annotate(
        result,
        signal,
        "vacuum_psf",
        "vacuum response",
        source=signal.metadata.General.title,
        zero_loss_fwhm=vacuum.peak.fwhm * axis.dispersion,
        drift=vacuum.drift * axis.dispersion,
        **({} if electrons is None else {"electrons": electrons}),
        **_spectra_note(reasons),
    )
    return result


def _learned(data, axis):
    """What some of the spectra have in common."""
    places = np.argwhere(np.ones(data.shape[:-1], bool))
    if not len(places):
        raise ValueError("The signal holds no spectra.")
    some = sampling.read_spectra(data, sampling.spread_over(places, MOST_READ))
    vacuum, reasons = learn(_rising(some, axis))
    _check_some_used(reasons, len(places))
    return vacuum


def _check_some_used(reasons, number):
    """Raise a ValueError if none of the spectra, of so many, can be used."""
    if (reasons == USED).any():
        return
    of_all = f" (out of {number})" if number > reasons.size else ""
    raise ValueError(f"None of {_spectra(reasons)}{of_all} can be used: {_counted(reasons)}.")


def _seen_by_most(total, reach):
    """The part of the sum that at least half of the electrons reach, as if all did; and its slice."""
    left = np.flatnonzero(reach >= LEAST_REACH * reach.max())
    whole = slice(left[0], left[-1] + 1)
    return total[whole] * (reach.max() / reach[whole]), whole


def _copy_in_memory(signal):
    copy = signal.deepcopy()
    if copy._lazy:
        copy.compute(show_progressbar=False)
    return copy


def _rising(spectra, axis):
    return spectra[..., ::-1] if axis.reversed else spectra


def _sum(data, axis, vacuum, show_progressbar, num_workers):
    """Sum, reach and reasons, block by block: no more than a few of them are in memory."""
    blocks = runner.whole_spectra(data)

    def part(block):
        rows = np.asarray(_rising(block, axis)).reshape(-1, block.shape[-1])
        total, reach, reasons = vacuum.sum(rows)
        return total, reach, reasons.reshape(block.shape[:-1])

    wanted = [dask.delayed(part)(block) for block in blocks.to_delayed().ravel()]
    parts = results.at_once(wanted, show_progressbar, num_workers)
    reasons = np.zeros(data.shape[:-1], np.uint8)
    for where, (_, _, values) in zip(slices_from_chunks(blocks.chunks[:-1]), parts, strict=True):
        reasons[where] = values
    return sum(x[0] for x in parts), sum(x[1] for x in parts), reasons


def _on_axis(signal, total, whole, axis):
    """The sum as a signal, its energy zero at 0 eV."""
    zero = float(physics.parabola_vertex(total, np.asarray(int(total.argmax()))))
    if axis.reversed:
        total, zero = total[::-1], total.size - 1 - zero
        whole = slice(signal.data.shape[-1] - whole.stop, signal.data.shape[-1] - whole.start)
    first = signal.inav[(0,) * (signal.data.ndim - 1)] if signal.data.ndim > 1 else signal
    result = results.signal_like(first.isig[whole], total, lazy=False)
    energy = result.axes_manager.signal_axes[0]
    energy.offset = -zero * energy.scale
    return result


def _spectra_note(reasons):
    counts = {name: int((reasons == why).sum()) for name, why in zip(NAMES, REASONS, strict=True)}
    note = {"used": int((reasons == USED).sum()), "left_out": counts}
    some = reasons.ndim and note["used"] < reasons.size
    return note | ({"map": reasons != USED} if some else {})


def _spectra(reasons):
    return "1 spectrum" if reasons.size == 1 else f"{reasons.size} spectra"


def _counted(reasons):
    """How many were left out for each reason, in words."""
    return ", ".join(
        f"{np.count_nonzero(reasons == reason)} {why}"
        for reason, why in REASONS.items()
        if (reasons == reason).any()
    )


def _remarks(reasons, total, electrons, vacuum):
    """Sentences on spectra that were left out, and on what is odd about the sum."""
    said = []
    if (reasons != USED).any():
        out = np.count_nonzero(reasons != USED)
        said.append(f"{out} of {_spectra(reasons)} left out: {_counted(reasons)}.")
    if vacuum.faulty.size:
        number = vacuum.faulty.size
        channels = "1 channel" if number == 1 else f"{number} channels"
        said.append(
            f"{channels} of the detector, hot or dead in most spectra, interpolated between the neighbours."
        )
    elif vacuum.spiky and reasons.size > 1:
        said.append(
            "most spectra have a spike or a dead channel, which the sum shows as wide as the drift. It can be "
            "interpolated in eight spectra or more, if it is a single channel of the detector."
        )
    if electrons is not None and electrons < FEWEST_ELECTRONS:
        about = float(f"{electrons:.2g}")
        said.append(
            f"the sum holds only about {about:.0f} electrons: near the zero-loss peak, its noise will count as "
            "losses of spectra that hold as many or more. Sum more spectra."
        )
    return said + responses.remarks(total)
