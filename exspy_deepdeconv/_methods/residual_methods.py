"""``deconvolution_residual`` behind its docstring: checks, blocks, maps.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
from hyperspy.signal import BaseSignal

from .. import _arguments, models
from .._signals import checks, responses, results, runner
from .._signals.inputs import Input
from .._signals.sampling import of_axis
from ..physics import NO_ZERO_LOSS
from ..response import residual
from ..spectrum.blur import FWHM_PER_SIGMA
from ..spectrum.level import Dark
from . import classical_methods

_NODES = ("deep_deconvolution", *(m.node for m in classical_methods.METHODS.values()))
_MAPS = {"chi2": "Reduced chi-square", "whiteness": "Whiteness (standard errors)"}
# Of spectra that are empty or not finite the deconvolution has warned, and those without a zero-loss
# peak have a result of zeros. One that holds a result and no peak was cropped since.
_CONSEQUENCES = {NO_ZERO_LOSS: "NaN returned"}
COUNTS_WITHIN = 0.8, 1.25  # of those of the data: a deconvolution moves counts, but keeps them


class _Tally(runner.FlagTally):
    """Warns, beside the flags, where results hold other counts than their data."""

    def warn_of_flags(self, stacklevel=2):
        super().warn_of_flags(stacklevel + 1)
        ratios = self.chosen[np.isfinite(self.chosen)]
        ratio = float(np.median(ratios)) if ratios.size else 1.0
        if not COUNTS_WITHIN[0] < ratio < COUNTS_WITHIN[1]:
            warnings.warn(
                f"{self.method}: the result holds {ratio:.3g} times the counts of the data"
                f"{' (median)' if ratios.size > 1 else ''}: it was rescaled, lost its zero-loss peak, "
                "or is not a result of these data.",
                UserWarning,
                stacklevel=stacklevel + 1,
            )


def residual_of(signal, result, psf, *, show_progressbar, num_workers, lazy_output):
    """The residual signal and its maps; see the method for the arguments.

    Returns
    -------
    list
        Residual (EELSSpectrum), chi2 and whiteness (BaseSignal).
    """
    _arguments.check_num_workers(num_workers)
    given = Input.of(signal, psf)
    estimate = checks.check_like(result, signal, "result", stacklevel=4)
    _refuse_other_signals(result)
    _warn_of_exchanged(signal, result, stacklevel=4)
    lazy_output = checks.wants_lazy(signal, lazy_output)
    resolution, _ = seen_through(result)
    # A result at a resolution is blurred around its zero-loss peak: if a crop has cut that off,
    # reading it raises an error that says so.
    zero_loss = given.zero_loss if psf is None or resolution is not None else None
    block, taken = _block_function(given, result, psf)
    if psf is None:
        _warn_of_measured(result, stacklevel=4)
    else:
        _warn_of_blind(result, psf, stacklevel=4)

    _warn_of_lost_note(result, stacklevel=4)
    for odd in [] if zero_loss is None else of_axis(zero_loss):
        warnings.warn(f"deconvolution_residual: {odd}", UserWarning, stacklevel=3)
    tally = _Tally(
        given.mask,
        lazy_output,
        "deconvolution_residual",
        runner.UNUSABLE_FLAGS,
        _CONSEQUENCES,
    )
    blocks = given.blocks(
        block,
        tally,
        beside={"result": estimate} | taken,
        extra=len(_MAPS),
        without_response=residual.unknown_block,
    )
    if lazy_output and blocks[0].size:
        whole = blocks[0]
    else:  # all at once: the maps are by-products of the residual
        whole = results.computed(
            blocks, tally, show_progressbar=show_progressbar, num_workers=num_workers
        )
        tally.warn_of_flags(stacklevel=3)
    note = _zero_loss_note(zero_loss, given.axis)
    return _signals(signal, whole, lazy_output, given.mask.size > 0, note)


def _zero_loss_note(zero_loss, axis):
    """Where the zero-loss peak lies and how wide it is, in eV, for figures; nothing where unknown."""
    if zero_loss is None or np.isnan(zero_loss.position):
        return {}
    energy = axis.lowest + zero_loss.position * axis.dispersion
    return {"zero_loss_energy": energy, "zero_loss_fwhm": zero_loss.fwhm * axis.dispersion}


def _block_function(given, result, psf):
    """What `runner.run_blocks` is to apply to the spectra and the result, and which took their own response."""
    resolution, has_zero_loss = seen_through(result)
    dark, deep = _dark_of(result) or given.dark(), _last_node(result) == _NODES[0]
    options = {
        "dark": dark,
        "resolution": None if resolution is None else resolution / given.axis.dispersion,
        "zero_loss": has_zero_loss,
    }
    both = deep and (
        given.estimated or (psf is not None and _source(result).startswith("measured"))
    )
    taken = _own_taken(result, given.mask.shape) if both else {}
    both = both and (not taken or taken["own"].any())
    if psf is None or both:
        model, own = _model_of(result, stacklevel=4), replace(given.zero_loss, dark=dark)
        options["respond"] = results.responder(model, own, given.data.shape[-1])
    if both:
        return partial(residual.better_residual_block, **options), taken
    # As ``deep_deconvolve`` does with a response; the classical methods take it as it is.
    return partial(residual.residual_block, broaden=deep and psf is not None, **options), {}


def _own_taken(result, shape):
    """Where the response found in a spectrum was used instead of a given one, by its name.

    Nothing where the result does not tell: one that was lazy, or a part whose place is not known.
    """
    note = _last_note(result)
    flags = None if note is None else note.get_item("flags")
    if not hasattr(flags, "get_item") or flags.get_item("psf_misfit") is None:
        return {}
    # Of one spectrum there is no map, and none of a flag that was not raised.
    raised = np.bool_(flags.psf_misfit > 0)
    where = np.asarray(flags.get_item("maps.psf_misfit", raised))
    where = _as_cut_since(where, result, note) if raised else np.zeros(shape, bool)
    return {"own": where[..., None]} if where.shape == shape else {}


def _as_cut_since(where, result, note):
    """A map from the metadata, cropped and flipped as the result was; as it is where that is not known."""
    now = results.places(result)
    before = [note.get_item(f"places.{name}") for name in now]
    if where.ndim != len(now) or any(x is None for x in before):
        return where
    rows = [_rows_left(*both) for both in zip(now.values(), before, strict=True)]
    # Without a place of its own, nothing may be taken for its flags.
    return np.empty(0) if any(x is None for x in rows) else where[np.ix_(*rows)]


def _rows_left(now, before):
    """Which rows of a map are left, by their places on an axis; None where these are other ones."""
    nearest = np.abs(now[:, None] - before).argmin(axis=1)
    step = np.ptp(before) / max(before.size - 1, 1)
    if np.allclose(now, before[nearest], rtol=0, atol=1e-3 * step):
        return nearest
    # All of them, in their order: the axis was calibrated since.
    all_left = now.size == before.size and np.all(np.diff(now) * np.diff(before) > 0)
    return np.arange(now.size) if all_left else None


def seen_through(result):
    """Resolution of a result in eV (None where it has none), and whether it holds the zero loss.

    Of a result of a result, the last deconvolution counts.
    """
    note = _last_note(result)
    if note is None:
        return None, True
    resolution = note.get_item("resolution")
    if resolution is not None:
        resolution *= _calibrated_since(result, note)
        resolution = float(np.hypot(resolution, _summed_over(result, note)))
    return resolution, bool(note.get_item("zero_loss", True))


def _dark_of(result):
    """The flat offset that a result was made with, if its channels are still those of the data."""
    note = _last_note(result)
    found = None if note is None else note.get_item("dark_level")
    if found is None or _calibrated_since(result, note) != 1.0 or _summed(result, note) != 1:
        return None
    return Dark(found.counts, found.error)


def _summed_over(result, note):
    """Width (FWHM of a Gaussian of the same variance, eV) of the channels that were summed since."""
    number, before = _summed(result, note), note.get_item("dispersion")
    return FWHM_PER_SIGMA * before * np.sqrt((number**2 - 1) / 12) if number > 1 else 0.0


def _calibrated_since(result, note):
    """Energy per channel now over that when it was made, unless channels were summed or split since."""
    before = note.get_item("dispersion")
    if not before or _summed(result, note) != 1:
        return 1.0
    return checks.check_energy_axis(result, "result").dispersion / before


def _summed(result, note):
    """How many of the channels with which a result was made are summed in each of its channels."""
    before, channels = note.get_item("dispersion"), note.get_item("channels")
    if not before:
        return 1
    now, left = checks.check_energy_axis(result, "result").dispersion, result.data.shape[-1]
    ratio = now / before
    covered, whole = left * now - channels * before, abs(ratio - round(ratio)) < 1e-3
    # Channels that were summed (a whole number of them) cover no more energy than before.
    if whole and round(ratio) > 1 and left < channels and covered <= now:
        return round(ratio)
    # Other ones (rebin() also splits channels) are only known where they cover all of it.
    return ratio if left != channels and abs(covered) <= max(now, before) else 1


def _last_note(result):
    """What the last deconvolution wrote into the metadata, or None."""
    node = _last_node(result)
    note = result.metadata.Signal.get_item(node) if node in _NODES else None
    return note if hasattr(note, "get_item") else None  # a user may have put anything there


def _last_node(result):
    return result.metadata.Signal.get_item("deconvolved_by")


def _refuse_other_signals(result):
    """Raise a ValueError for a signal that is not meant to explain the data.

    That is a bound of an interval, a residual or an estimated response.
    """
    note = _last_note(result)
    bound = None if note is None else note.get_item("bound")
    if bound is not None:
        raise ValueError(f"result is the {bound} bound of an interval, not the result itself.")
    if result.metadata.has_item(checks.RESIDUAL):
        raise ValueError("result is a residual, not what a deconvolution made of the data.")
    if _last_node(result) is None and responses.was_estimated(result):
        raise ValueError("result is an estimated response: pass it as psf, after the result.")


def _warn_of_lost_note(result, stacklevel):
    """Say that a result has lost what was written into its metadata."""
    if _last_node(result) is None and result.metadata.General.title.endswith("deconvolution"):
        warnings.warn(
            "deconvolution_residual: the result no longer says at which resolution it is (formats "
            "other than .hspy and .zspy do not keep this): it is blurred with the whole response.",
            UserWarning,
            stacklevel=stacklevel,
        )


def _warn_of_exchanged(signal, result, stacklevel):
    """Say that the data are a result, and that what should be their result is not."""
    done, told = _last_node(signal), _last_node(result)
    if done is not None and (told is None or result is signal):
        warnings.warn(
            f"deconvolution_residual: the signal is itself a result ({done}), and the result given was "
            "not made from it: were the two exchanged? Call data.deconvolution_residual(result).",
            UserWarning,
            stacklevel=stacklevel,
        )


def _warn_of_measured(result, stacklevel):
    """Say that a result was made with a measured response, where none is given now."""
    source = _source(result)
    if source.startswith(("measured", "estimated beforehand")):
        warnings.warn(
            f"deconvolution_residual: the result was made with a psf ({source}), but is now blurred "
            "with another response, the one that is found in the spectra: pass the same psf.",
            UserWarning,
            stacklevel=stacklevel,
        )


def _warn_of_blind(result, psf, stacklevel):
    """Say that a result was made without a measured response, where one is given now."""
    if _source(result) == results.psf_source(None) and not responses.was_estimated(psf):
        warnings.warn(
            "deconvolution_residual: the result was made with the response that was found in the "
            f"spectra, but is now blurred with this psf ({results.psf_source(psf)}): leave it out.",
            UserWarning,
            stacklevel=stacklevel,
        )


def _source(result):
    """Where the response of a result came from, in words; empty where that is not known."""
    note = _last_note(result)
    return "" if note is None else str(note.get_item("psf"))


def _model_of(result, stacklevel):
    """The model that reads the response: the one that made the result, if it is at hand."""
    note = _last_note(result)
    sha256 = None if note is None else note.get_item("weights_sha256")
    model = models.load() if sha256 is None else models.of_hash(sha256)
    if model is None:
        model = models.load()
        warnings.warn(
            f"deconvolution_residual: the model that made the result ({note.get_item('model')}) is not "
            f"at hand, so {model.name} reads the response: load that model with models.load() first.",
            stacklevel=stacklevel + 1,
        )
    return model


def _signals(signal, blocks, lazy, has_spectra, note):
    """The residual, with a note in its metadata, and the maps beside it as signals."""
    channels = signal.data.shape[-1]
    lazy = lazy and has_spectra
    residual = results.signal_like(signal, blocks[..., :channels], lazy)
    maps = [
        map_signal(signal, blocks[..., channels + number], name)
        for number, name in enumerate(_MAPS)
    ]
    for image, quantity in zip(maps, _MAPS.values(), strict=True):
        image.metadata.Signal.quantity = quantity
        image._lazy = lazy
        image._assign_subclass()
    node, words = "deconvolution_residual", "deconvolution residual"
    results.annotate(residual, signal, node, words, **note)
    residual.metadata.Signal.quantity = "(data - model) / noise"
    return [residual, *maps]


def map_signal(signal, values, name):
    """Values of each spectrum as a BaseSignal over the navigation axes; one value has one axis."""
    axes = [axis.get_axis_dictionary() for axis in signal.axes_manager._axes if axis.navigate]
    values = values if axes else values.reshape(1)
    made = BaseSignal(values, **({"axes": axes} if axes else {}))
    made.metadata.General.title = f"{signal.metadata.General.title} {name}".strip()
    return made
