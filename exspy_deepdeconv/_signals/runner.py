"""Run an array function over the spectra of a signal, block by block, eager and lazy alike.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import math
import warnings
from functools import partial
from operator import itemgetter

import dask
import dask.array as da
import numpy as np
from dask.utils import SerializableLock

from .. import physics
from ..response.convolution import at_most_threads, processors
from .responses import usable_responses

# Small enough for a moving progress bar, large enough to fill the batches of the network.
SPECTRA_PER_BLOCK = 512

CONSEQUENCES = {
    physics.EMPTY: "zeros returned",
    physics.NO_ZERO_LOSS: "zeros returned",
    physics.NOT_FINITE: "NaN returned",
    physics.SATURATED: "result doubtful",
    physics.SPIKE: "result doubtful",
    physics.UNEXPLAINED: "result doubtful",
    physics.GAINS: "response or background do not fit",
    physics.PSF_MISFIT: "the response found in the data used",
    physics.PSF_NARROW: "the psf broadened, and not trusted",
}
FORCED = CONSEQUENCES | dict.fromkeys(physics.MISFIT_TEXT, "the psf used all the same")
_COUNT_NAMES = {
    physics.EMPTY: "empty",
    physics.NO_ZERO_LOSS: "no_zero_loss",
    physics.NOT_FINITE: "not_finite",
    physics.SATURATED: "saturated",
    physics.SPIKE: "spike",
    physics.UNEXPLAINED: "unexplained",
    physics.GAINS: "gains",
    physics.PSF_MISFIT: "psf_misfit",
    physics.PSF_NARROW: "psf_narrow",
    physics.PSF_WIDTH: "psf_width",
    physics.PSF_TAIL_LOW: "psf_tail_low",
    physics.PSF_TAIL_HIGH: "psf_tail_high",
}
PSF_FLAGS = physics.PSF_MISFIT, physics.PSF_NARROW, *physics.MISFIT_TEXT
_RESULT_FLAGS = sum((physics.UNEXPLAINED, physics.GAINS, *PSF_FLAGS))
DATA_FLAGS = tuple(bit for bit in _COUNT_NAMES if not bit & _RESULT_FLAGS)
BLIND_FLAGS = tuple(bit for bit in _COUNT_NAMES if bit not in PSF_FLAGS)
UNUSABLE_FLAGS = tuple(bit for bit in _COUNT_NAMES if bit & physics.UNUSABLE)
_PENDING = np.iinfo(np.uint16).max


class FlagTally:
    """The flags of all spectra.

    Those of a result that is computed at once are read from what `run_blocks` returns beside it. The blocks
    of a lazy one hand them in while they are computed: counting afterwards would take a second run. (Workers
    in other processes have tallies of their own: the warning does not come from there.)

    Parameters
    ----------
    mask : numpy.ndarray of bool
        Navigation shape, True where a spectrum is left out (and never flagged).
    warn : bool
        Take the flags from the blocks and warn once, as soon as the last one is in: for lazy results, which
        are computed after the method has returned.
    method : str
        The method that the warning names.
    kinds : sequence of int
        The flags that this method may raise, in the order of the metadata.
    consequences : dict of int to str
        The flags that it warns of, and what each means for its result.

    Attributes
    ----------
    chosen : numpy.ndarray
        What the method chose or found for each spectrum (navigation shape); NaN where nothing.
    """

    def __init__(
        self,
        mask,
        warn,
        method="deep_deconvolve",
        kinds=BLIND_FLAGS,
        consequences=CONSEQUENCES,
    ):
        self.mask = mask
        self.flags = np.where(mask, 0, _PENDING).astype(np.uint16).ravel()
        self.chosen = np.full(mask.shape, np.nan)
        self.total = self.waiting = int((~mask).sum())
        self.warn = warn
        self.method = method
        self.kinds = kinds
        self.consequences = consequences
        self._lock = SerializableLock()

    def hand_in(self, spectrum, flags, chosen=None):
        """Note ``flags`` and choices of the spectra with these flat indices (arrays of one shape)."""
        with self._lock:
            self.waiting -= int((self.flags[spectrum] == _PENDING).sum())
            self.flags[spectrum] = flags
            if chosen is not None:
                self.chosen.flat[spectrum] = chosen
            complete, warn = self.waiting == 0, self.warn
            self.warn = warn and not complete
        if complete and warn:
            self.warn_of_flags()

    def read(self, notes):
        """Take flags and choices of all spectra from the second array of `run_blocks`, computed."""
        self.flags = notes[..., 0].astype(np.uint16).ravel()
        self.chosen = notes[..., 1]
        self.waiting = 0

    def counts(self):
        """Number of spectra of each kind, for the metadata; ``counted`` is False if some are missing."""
        if self.waiting:
            return {"counted": False}
        return {"counted": True} | {_COUNT_NAMES[bit]: self._count(bit) for bit in self.kinds}

    def maps(self):
        """A map of bool for each flag that was raised, for the metadata; nothing for one spectrum."""
        shape = self.chosen.shape
        found = [bit for bit in self.kinds if self._count(bit)] if shape else []
        maps = {_COUNT_NAMES[bit]: self._raised(bit).reshape(shape) for bit in found}
        return {"maps": maps} if maps else {}

    def _why(self):
        """Why responses do not fit, in words; nothing where it is not known."""
        found = {text: self._count(bit) for bit, text in physics.MISFIT_TEXT.items()}
        said = [
            text if self.total == 1 else f"{text} in {count}"
            for text, count in found.items()
            if count
        ]
        return f": {', '.join(said)}" if said else ""

    def _count(self, bit):
        return int(self._raised(bit).sum())

    def _raised(self, bit):
        return (self.flags & bit > 0) & (self.flags != _PENDING)

    def warn_of_flags(self, stacklevel=2):
        """One warning with the counts by kind, or none if nothing is flagged."""
        alone = self.total == 1
        counts = {bit: self._count(bit) for bit in self.consequences}
        kinds = [
            f"{'' if alone else f'{count} '}{physics.FLAG_TEXT[bit]} ({self.consequences[bit]}"
            f"{self._why() if bit == physics.PSF_MISFIT else ''})"
            for bit, count in counts.items()
            if count
        ]
        if kinds:
            whole = "a spectrum" if alone else f"of {self.total} spectra"
            warnings.warn(
                f"{self.method}: {whole} {', '.join(kinds)}.",
                UserWarning,
                stacklevel=stacklevel + 1,
            )


def run_blocks(
    function,
    data,
    mask,
    tally,
    *,
    psf=None,
    beside=None,
    reverse=False,
    dtype=np.float32,
    arrays=1,
    extra=0,
    num_workers=None,
    without_response=None,
):
    """Apply ``function`` to blocks of whole spectra.

    Parameters
    ----------
    function : callable
        ``function(spectra, psf=..., **beside) -> (estimate, flags)`` on arrays, as
        `exspy_deepdeconv.estimate.batched.stacked_block`; a third array is noted as what it chose.
    data : numpy.ndarray or dask.array.Array
        Counts, shape ``(..., channels)``; any chunks.
    mask : numpy.ndarray of bool
        Navigation shape, True where zeros are returned instead of a result.
    tally : FlagTally
        Takes the flags.
    psf : numpy.ndarray, dask.array.Array or None
        One response for all, or one for each spectrum.
    beside : dict of str to array, optional
        More arrays that the function takes, ``(..., any length)``, in the order of `data`.
    reverse : bool
        The energy falls along the axis: the function sees it rising.
    dtype : numpy.dtype
        Of the result.
    arrays : int
        Arrays of ``channels`` values per spectrum that the function returns side by side.
    extra : int
        Values per spectrum that the function returns after them.
    num_workers : int, optional
        Blocks that dask will work on at a time; all processors by default. Where there are fewer
        blocks, they share these between them.
    without_response : callable, optional
        Replaces ``function`` for spectra whose own response is unusable; gives zeros and NaN by
        default.

    Returns
    -------
    blocks : dask.array.Array
        Not computed yet, shape ``(..., arrays * channels + extra)``.
    notes : dask.array.Array
        Flags and what was chosen (NaN where nothing was), ``(..., 2)``: see `FlagTally.read`. Both come
        from one run if they are computed together.
    """
    blocks = whole_spectra(data)
    at_a_time = num_workers or dask.config.get("num_workers", None) or processors()
    nav = tuple(f"nav {number}" for number in range(blocks.ndim - 1))
    # Masked spectra carry -1: mask and place in the map travel in one array.
    spectrum = np.where(mask, -1, np.arange(mask.size).reshape(mask.shape))
    constant_psf = psf if psf is not None and psf.ndim == 1 else None
    with_spectra = {} if psf is None or psf.ndim == 1 else {"psf": psf}
    with_spectra |= beside or {}
    pairs = [blocks, (*nav, "channel"), _like(spectrum, blocks.chunks[:-1]), nav]
    for name, array in with_spectra.items():
        pairs += [_like(array, (*blocks.chunks[:-1], array.shape[-1:])), (*nav, name)]
    both = da.blockwise(
        partial(
            _run_block,
            names=tuple(with_spectra),
            function=function,
            constant_psf=constant_psf,
            tally=tally if tally.warn else None,
            reverse=reverse,
            dtype=dtype,
            arrays=arrays,
            extra=extra,
            threads=max(at_a_time // max(math.prod(blocks.numblocks), 1), 1),
            without_response=without_response or zeros_or_nan,
        ),
        (*nav, "out"),
        *pairs,
        new_axes={"out": arrays * blocks.shape[-1] + extra},
        # A name of our own: else dask would hash the model, the tally and the data.
        name=f"{tally.method}-{id(tally):x}-{np.random.default_rng().integers(2**62):x}",
        dtype=dtype,
        meta=np.empty((0,) * blocks.ndim, dtype),  # else the model would be run to get one
        concatenate=True,
        align_arrays=False,
    )
    shapes = both.chunks, (*both.chunks[:-1], (2,))
    return tuple(
        both.map_blocks(
            itemgetter(number), chunks=chunks, dtype=kind, meta=np.empty((0,) * both.ndim, kind)
        )
        for number, (chunks, kind) in enumerate(zip(shapes, (dtype, np.float64), strict=True))
    )


def _run_block(
    spectra,
    spectrum,
    *given,
    names,
    function,
    constant_psf,
    tally,
    reverse,
    dtype,
    arrays,
    extra,
    threads,
    without_response,
):
    """Result and notes of one block, a pair of arrays."""
    channels = spectra.shape[-1]
    beside = dict(zip(names, given, strict=True))
    if reverse:
        spectra = spectra[..., ::-1]
        beside = {k: v if k == "psf" else v[..., ::-1] for k, v in beside.items()}
    wanted = spectrum >= 0
    hopeless = np.zeros_like(wanted)
    if "psf" in beside:
        usable = usable_responses(beside["psf"])
        wanted, hopeless = wanted & usable, wanted & ~usable
    else:
        beside["psf"] = None

    out = np.zeros((*spectra.shape[:-1], arrays * channels + extra), dtype)
    notes = np.zeros((*spectra.shape[:-1], 2))
    notes[..., 1] = np.nan
    for chosen, apply in ((wanted, function), (hopeless, without_response)):
        if chosen.any():
            rows = ... if chosen.all() else chosen  # a copy only where it has to be
            chosen_ones = {k: None if v is None else v[rows] for k, v in beside.items()}
            if chosen_ones["psf"] is None:
                chosen_ones["psf"] = constant_psf
            with at_most_threads(threads):
                out[rows], *noted = apply(spectra[rows], **chosen_ones)
            for number, values in enumerate(noted):
                notes[rows, number] = values
            if tally is not None:
                tally.hand_in(spectrum[rows], *noted)
    if reverse:
        for start in range(0, arrays * channels, channels):
            part = out[..., start : start + channels]
            part[...] = part[..., ::-1].copy()
    return out, notes


def zeros_or_nan(spectra, psf, **_):
    """The result of spectra whose own response is unusable.

    Zeros where they are empty, or where their response is (as ``estimate_psf`` leaves pixels
    without a zero-loss peak); else NaN.
    """
    empty, unknown = ((x == 0).all(axis=-1) for x in (spectra, psf))
    flags = np.where(unknown, physics.NO_ZERO_LOSS, physics.NOT_FINITE)
    flags = np.where(empty, physics.EMPTY, flags).astype(np.uint16)
    return np.where(empty | unknown, 0.0, np.nan)[..., None], flags


def whole_spectra(data):
    """Dask array of moderate blocks with the energy axis in one chunk; `data` is left alone."""
    chunks = ("auto",) * (data.ndim - 1) + (-1,)
    limit = SPECTRA_PER_BLOCK * max(data.shape[-1], 1) * data.dtype.itemsize
    if isinstance(data, da.Array):
        return data.rechunk(chunks, block_size_limit=limit)
    chunks = da.core.normalize_chunks(chunks, data.shape, limit=limit, dtype=data.dtype)
    return da.from_array(data, chunks=chunks, name=False)


def _like(array, chunks):
    if isinstance(array, da.Array):
        return array.rechunk(chunks)
    return da.from_array(array, chunks=chunks, name=False)
