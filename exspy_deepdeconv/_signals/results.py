"""From the blocks of an array function back to a signal: data, title, file name and metadata.

Imported inside the methods, not by ``import hyperspy.api``.
"""

from contextlib import nullcontext
from functools import partial

import dask
import hyperspy.api as hs
import numpy as np
from tqdm.dask import TqdmCallback

from . import checks, responses, sampling


def finish(signal, blocks, tally, *, lazy_output, show_progressbar, num_workers, stacklevel=3):
    """A signal like ``signal`` that holds ``blocks``, computed unless a lazy one is wanted.

    Parameters
    ----------
    signal : EELSSpectrum
        Gives axes and metadata.
    blocks : tuple of dask.array.Array
        Result and notes, from `exspy_deepdeconv._signals.runner.run_blocks`.
    tally : FlagTally
        Warns of flagged spectra.
    lazy_output : bool
        Whether the result stays lazy.
    show_progressbar, num_workers
        As in HyperSpy.
    stacklevel : int
        Of the warning; 3 is the caller of the function that calls this one.

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
    """
    if lazy_output and blocks[0].size:  # HyperSpy has no lazy signals without data
        return signal_like(signal, blocks[0], lazy=True)
    data = computed(blocks, tally, show_progressbar=show_progressbar, num_workers=num_workers)
    tally.warn_of_flags(stacklevel)
    return signal_like(signal, data, lazy=False)


def computed(blocks, tally, *, show_progressbar, num_workers):
    """The result of `exspy_deepdeconv._signals.runner.run_blocks`; the tally reads the notes.

    The arguments are those of `finish`. HyperSpy's ``compute`` takes one array, and flags would need a run
    of their own.
    """
    data, notes = at_once(blocks, show_progressbar, num_workers)
    tally.read(notes)
    return data


def at_once(wanted, show_progressbar, num_workers):
    """Compute several things together, with HyperSpy's wish for a progress bar."""
    if show_progressbar is None:
        show_progressbar = hs.preferences.General.show_progressbar
    with TqdmCallback() if show_progressbar else nullcontext():
        return dask.compute(*wanted, num_workers=num_workers)


def finish_stack(
    signal, blocks, arrays, tally, *, lazy_output, show_progressbar, num_workers, stacklevel=4
):
    """Signals like ``signal`` that hold the arrays lying side by side in ``blocks``.

    One pass over the blocks gives them all, also where the input is lazy and the output is not.

    Parameters
    ----------
    signal, blocks, tally, lazy_output, show_progressbar, num_workers
        As for `finish`.
    arrays : int
        Their number.
    stacklevel : int
        Of the warning; 4 is the caller of the function that calls this one.

    Returns
    -------
    list of EELSSpectrum or LazyEELSSpectrum
    """
    common = {"show_progressbar": show_progressbar, "num_workers": num_workers}
    whole = finish(signal, blocks, tally, lazy_output=lazy_output, stacklevel=stacklevel, **common)
    if arrays == 1:
        return [whole]
    channels = signal.data.shape[-1]
    parts = [whole.data[..., i * channels : (i + 1) * channels] for i in range(arrays)]
    return [signal_like(signal, x if whole._lazy else x.copy(), whole._lazy) for x in parts]


def signal_like(signal, data, lazy):
    """A signal with the axes and metadata of another; ``lazy`` is whether its data are."""
    made = signal._deepcopy_with_new_data(data)
    made._lazy = lazy
    made._assign_subclass()
    return made


def annotate(result, signal, node, words, **note):
    """Title, file name and metadata of a result, in the manner of exspy.

    Parameters
    ----------
    result, signal : EELSSpectrum
        What was made of what.
    node : str
        ``metadata.Signal.<node>`` takes the note.
    words : str
        What was done: put after title and file name.
    **note
        What the metadata are to hold; the version of this package is added.
    """
    from .. import __version__

    general = result.metadata.General
    general.title = f"{general.title} {words}".strip()
    # HyperSpy's copy leaves these out. Few formats can be written, so the extension is HyperSpy's
    # own; eXSpy's methods ask for one wherever there is a file name.
    names = signal.tmp_parameters
    if names.has_item("filename"):
        result.tmp_parameters.filename = f"{names.filename}_{words.replace(' ', '_')}"
        result.tmp_parameters.extension = ".hspy"
    if names.has_item("folder"):
        result.tmp_parameters.folder = names.folder
    note["package_version"] = __version__
    axis = checks.check_energy_axis(signal)
    # As they were then, also after rebin(): what was calibrated or summed since is known by them.
    note |= {"dispersion": axis.dispersion, "channels": signal.data.shape[-1]}
    if "maps" in note.get("flags", {}):
        note["places"] = places(signal)
    result.metadata.Signal.set_item(node, note)
    if node.endswith("_deconvolution"):  # of a result of a result, the last one counts
        result.metadata.Signal.deconvolved_by = node


def places(signal):
    """Where the spectra lie along each navigation axis, in the order of the data.

    The maps in the metadata stay whole when a result is cropped: these tell what is left of them.
    """
    axes = [axis for axis in signal.axes_manager._axes if axis.navigate]
    return {f"axis_{number}": axis.axis.copy() for number, axis in enumerate(axes)}


def psf_source(psf):
    """Where a response came from, in words for the metadata."""
    if psf is None:
        return "estimated"
    if responses.was_estimated(psf):
        source = psf.metadata.Signal.psf_estimation.get_item("source")
        return f"estimated beforehand: {source or 'untitled'}"
    return f"measured: {psf.metadata.General.title or 'untitled'}"


def responder(model, zero_loss, channels):
    """``respond(spectra) -> (responses, flags)`` for the blocks of a signal."""
    from ..estimate.batched import response_block

    zero_channel = sampling.response_zero(zero_loss, channels)
    return partial(response_block, model=model, zero_channel=zero_channel, dark=zero_loss.dark)


def dark_note(dark):
    """The flat offset that was read for all spectra alike; nothing where each has its own."""
    return {} if dark is None else {"dark_level": {"counts": dark.level, "error": dark.error}}


def flags_note(tally, lazy):
    """The counts of the flags and maps of them; those of a lazy result are not known yet.

    Those that a mask left out are known at once.
    """
    note = {"counted": False} if lazy else tally.counts() | tally.maps()
    if tally.mask.any():
        note["masked"] = int(tally.mask.sum())
        note["maps"] = note.get("maps", {}) | {"masked": tally.mask.copy()}
    return note


def chosen_note(tally, lazy):
    """What a method chose by itself: the map of it (order of the data) and its spread.

    The choices of a lazy result are not known until it is computed: ``counted`` is then False.
    """
    chosen = tally.chosen
    if lazy or tally.waiting:
        return {"counted": False}
    known = chosen[np.isfinite(chosen)]
    if not known.size:
        return {"counted": True}
    summary = {"median": np.median, "lowest": np.min, "highest": np.max}
    note = {"counted": True} | {name: float(f(known)) for name, f in summary.items()}
    return note | ({"map": chosen.copy()} if chosen.ndim else {})
