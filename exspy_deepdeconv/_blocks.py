"""Run an array function over the spectra of a signal, block by block, eager and lazy alike.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings

import dask
import dask.array as da
import numpy as np
from dask.utils import SerializableLock

from . import physics
from ._checks import usable_responses

# Small enough for a moving progress bar, large enough to fill the batches of the network.
SPECTRA_PER_BLOCK = 512
MAX_SAMPLED = 256

_CONSEQUENCE = {
    physics.EMPTY: "zeros returned",
    physics.NO_ZERO_LOSS: "zeros returned",
    physics.NOT_FINITE: "NaN returned",
    physics.SATURATED: "result doubtful",
    physics.SPIKE: "result doubtful",
}
_COUNT_NAMES = {
    physics.EMPTY: "empty",
    physics.NO_ZERO_LOSS: "no_zero_loss",
    physics.NOT_FINITE: "not_finite",
    physics.SATURATED: "saturated",
    physics.SPIKE: "spike",
}
_UNUSABLE = physics.EMPTY | physics.NO_ZERO_LOSS | physics.NOT_FINITE
_PENDING = 255


class FlagTally:
    """The flags of all spectra, which the blocks hand in while they are computed.

    Counting them afterwards would take a second run over a lazy signal.

    Parameters
    ----------
    mask : numpy.ndarray of bool
        Navigation shape, True where a spectrum is left out (and never flagged).
    warn : bool
        Warn once, as soon as the last block is in. For lazy results: the caller is gone by then.
    """

    def __init__(self, mask, warn):
        self.flags = np.where(mask, 0, _PENDING).astype(np.uint8).ravel()
        self.total = self.waiting = int((~mask).sum())
        self.warn = warn
        self._lock = SerializableLock()

    def hand_in(self, spectrum, flags):
        """Note the ``flags`` of the spectra with these flat indices (arrays of one shape)."""
        with self._lock:
            self.waiting -= int((self.flags[spectrum] == _PENDING).sum())
            self.flags[spectrum] = flags
            complete, warn = self.waiting == 0, self.warn
            self.warn = warn and not complete
        if complete and warn:
            self.warn_of_flags()

    def counts(self):
        """Number of spectra of each kind, for the metadata; ``counted`` is False if some lack."""
        if self.waiting:
            return {"counted": False}
        counts = {name: self._count(bit) for bit, name in _COUNT_NAMES.items()}
        return {"counted": True} | counts

    def _count(self, bit):
        return int(((self.flags & bit > 0) & (self.flags != _PENDING)).sum())

    def warn_of_flags(self, stacklevel=2):
        """One warning with the counts by kind, or none if nothing is flagged."""
        counts = {bit: self._count(bit) for bit in _CONSEQUENCE}
        kinds = [
            f"{count} {physics.FLAG_TEXT[bit]} ({_CONSEQUENCE[bit]})"
            for bit, count in counts.items()
            if count
        ]
        if kinds:
            warnings.warn(
                f"deep_deconvolve: of {self.total} spectra {', '.join(kinds)}.",
                UserWarning,
                stacklevel=stacklevel + 1,
            )


def run_blocks(function, data, mask, tally, *, psf=None, reverse=False):
    """Apply ``function`` to blocks of whole spectra.

    Parameters
    ----------
    function : callable
        ``function(spectra, psf=...) -> (estimate, flags)`` on arrays, as
        `exspy_deepdeconv.inference.deconvolve_block`.
    data : numpy.ndarray or dask.array.Array
        Counts, shape ``(..., channels)``; any chunks.
    mask : numpy.ndarray of bool
        Navigation shape, True where zeros are returned instead of a result.
    tally : FlagTally
        Takes the flags.
    psf : numpy.ndarray, dask.array.Array or None
        One response for all, or one for each spectrum.
    reverse : bool
        The energy falls along the axis.

    Returns
    -------
    dask.array.Array
        Not computed yet; float32, shape ``(..., channels)``.
    """
    blocks = _whole_spectra(data)
    nav_dim = blocks.ndim - 1
    axes = tuple(range(nav_dim + 1))
    # Masked spectra carry -1: mask and place in the map travel in one array.
    spectrum = np.where(mask, -1, np.arange(mask.size).reshape(mask.shape))
    constant_psf = None
    pairs = [blocks, axes, _like(spectrum, blocks.chunks[:-1]), axes[:-1]]
    if psf is not None and psf.ndim > 1:
        pairs += [_like(psf, blocks.chunks[:-1] + ((psf.shape[-1],),)), axes[:-1] + (nav_dim + 1,)]
    else:
        constant_psf = psf
    return da.blockwise(
        _run_block,
        axes,
        *pairs,
        function=function,
        constant_psf=constant_psf,
        tally=tally,
        reverse=reverse,
        # A name of our own: else dask would hash the model, the tally and the data.
        name=f"deep_deconvolve-{id(tally):x}-{np.random.default_rng().integers(2**62):x}",
        dtype=np.float32,
        meta=np.empty((0,) * blocks.ndim, np.float32),  # else the model would be run to get one
        concatenate=True,
        align_arrays=False,
    )


def _run_block(spectra, spectrum, psf=None, *, function, constant_psf, tally, reverse):
    spectra = spectra[..., ::-1] if reverse else spectra
    wanted = spectrum >= 0
    if psf is not None:
        usable = usable_responses(psf)
        hopeless = wanted & ~usable
        wanted = wanted & usable
    else:
        hopeless = np.zeros_like(wanted)

    if wanted.all():
        estimate, flags = function(spectra, psf=constant_psf if psf is None else psf)
        tally.hand_in(spectrum, flags)
    else:
        estimate = np.zeros(spectra.shape, np.float32)
        for chosen, apply in ((wanted, function), (hopeless, _without_response)):
            if chosen.any():
                response = constant_psf if psf is None else psf[chosen]
                estimate[chosen], flags = apply(spectra[chosen], psf=response)
                tally.hand_in(spectrum[chosen], flags)
    return estimate[..., ::-1] if reverse else estimate


def _without_response(spectra, psf):
    """What spectra get whose own response is unusable: NaN, or zeros where they are empty."""
    flags = physics.inspect(spectra).flags
    flags = np.where(flags & _UNUSABLE, flags, physics.NOT_FINITE).astype(np.uint8)
    estimate = np.zeros(spectra.shape, np.float32)
    estimate[flags & physics.NOT_FINITE > 0] = np.nan
    return estimate, flags


def _whole_spectra(data):
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


def zero_loss_width(data, mask, reverse=False):
    """Median zero-loss width over the spectra that have one.

    At most 256 spectra are read, spread over the map; the same ones for eager and lazy data, so
    that both give the same result. If all of those are unusable, the rest of an eager map is
    looked at as well.

    Parameters
    ----------
    data : numpy.ndarray or dask.array.Array
        Counts, shape ``(..., channels)``.
    mask : numpy.ndarray of bool
        Navigation shape, True where a spectrum is left out.
    reverse : bool
        The energy falls along the axis.

    Returns
    -------
    float
        Full width at half maximum in channels; NaN for a signal without spectra.

    Raises
    ------
    ValueError
        If there is no usable spectrum; the message says why.
    """
    wanted = np.argwhere(~mask)
    if not wanted.size and mask.ndim:
        return float("nan")
    chosen = wanted[np.unique(np.linspace(0, len(wanted) - 1, MAX_SAMPLED).astype(int))]
    width, flags = _median_width(_read(data, chosen), reverse)
    if np.isnan(width) and len(chosen) < len(wanted) and not isinstance(data, da.Array):
        width, flags = _median_width(data[~mask], reverse)
    if np.isnan(width):
        raise ValueError(_why_unusable(flags, len(wanted)))
    return width


def _read(data, positions):
    spectra = [data[tuple(position)] for position in positions]
    if isinstance(data, da.Array):
        spectra = dask.compute(*spectra)
    return np.stack(spectra)


def _median_width(spectra, reverse):
    spectra = spectra[..., ::-1] if reverse else spectra
    seen = physics.inspect(spectra)
    width = float(np.median(seen.zero_loss.fwhm[seen.usable])) if seen.usable.any() else np.nan
    return width, seen.flags


def _why_unusable(flags, total):
    if total == 1:
        if flags[0] & physics.NOT_FINITE:
            return "The spectrum holds NaN or infinite values."
        if flags[0] & physics.EMPTY:
            return "The spectrum holds nothing but zeros."
        return "No zero-loss peak was found in the spectrum: low-loss data are needed."
    kinds = ", ".join(
        f"{int((flags & bit > 0).sum())} {physics.FLAG_TEXT[bit]}"
        for bit in (physics.EMPTY, physics.NO_ZERO_LOSS, physics.NOT_FINITE)
        if (flags & bit).any()
    )
    return (
        f"None of {flags.size} spectra (out of {total}) has a usable zero-loss peak: {kinds}. "
        "Low-loss data are needed. If the specimen fills a small part of a lazy map, leave out "
        "the rest with navigation_mask."
    )
