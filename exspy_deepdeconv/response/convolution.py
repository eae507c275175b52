"""Convolution with measured responses on an energy axis padded at both ends (NumPy, SciPy)."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

from .._arguments import unmasked
from ..physics import centred_response

NEGLIGIBLE_TAIL = 1e-6  # share of a response's area that may reach past the padding
BATCH_BYTES = 2**19  # arrays of this size stay in the processor's cache
_MOST_THREADS = ContextVar("most threads", default=None)


@dataclass(frozen=True)
class Convolution:
    """Circular convolution with one response, or one per spectrum, on a padded axis.

    Attributes
    ----------
    transfer : numpy.ndarray
        Complex transfer functions, shape ``(frequencies,)`` or ``(spectra, frequencies)``.
    size : int
        Channels of the padded axis.
    pad : int
        Channels put before the spectrum.
    channels : int
        Channels of the spectrum.
    """

    transfer: np.ndarray
    size: int
    pad: int
    channels: int

    @property
    def frequency(self):
        """Frequencies of the real transform, in cycles per channel."""
        return fft.rfftfreq(self.size)

    @property
    def window(self):
        """Where the spectrum lies on the padded axis."""
        return slice(self.pad, self.pad + self.channels)

    def continued(self, spectra):
        """Spectra on the padded axis; the end values are repeated, which keeps ends from ringing."""
        width = [(0, 0)] * (spectra.ndim - 1)
        return np.pad(spectra, [*width, (self.pad, self._after)], mode="edge")

    def embedded(self, spectra):
        """Spectra on the padded axis, zero outside of the window."""
        return np.pad(spectra, [(0, 0)] * (spectra.ndim - 1) + [(self.pad, self._after)])

    def of(self, rows):
        """The same for some of the spectra."""
        if self.transfer.ndim == 1:
            return self
        return Convolution(self.transfer[rows], self.size, self.pad, self.channels)

    def forward(self, padded):
        """Spectra on the padded axis seen through the response."""
        return self._filtered(padded, self.transfer)

    def adjoint(self, padded):
        """Spectra on the padded axis seen through the mirrored response."""
        return self._filtered(padded, self.transfer.conj())

    def _filtered(self, padded, transfer):
        transform = fft.rfft(padded)
        transform *= transfer
        return fft.irfft(transform, self.size)

    @property
    def _after(self):
        return self.size - self.channels - self.pad


def response_convolution(psf, channels, dtype=np.float64, padding=None):
    """`Convolution` with a response for spectra of ``channels`` channels.

    Parameters
    ----------
    psf : numpy.ndarray
        Shape ``(length,)`` or ``(spectra, length)``, any scale; its maximum is its energy zero.
    channels : int
        Channels of the spectra.
    dtype : type
        Real type of the spectra to come.
    padding : int, optional
        Channels put before (and at least as many after) the spectrum; by default as many as a
        single response reaches, and half the spectrum's for several.

    Returns
    -------
    Convolution

    Raises
    ------
    ValueError
        If a response is not finite or holds no peak.
    """
    response = centred_response(psf, channels)
    if padding is None:
        # One of several responses must not change the result of another's spectrum.
        padding = _reach(response) if response.ndim == 1 else channels
    pad = int(np.clip(padding, 16, max(channels // 2, 16)))
    size = fft.next_fast_len(channels + 2 * pad, real=True)
    half = min(channels, size // 2)
    circular = np.zeros(response.shape[:-1] + (size,))
    circular[..., :half] = response[..., channels : channels + half]
    circular[..., size - half :] = response[..., channels - half : channels]
    circular /= circular.sum(axis=-1, keepdims=True)
    complex_type = np.complex64 if dtype == np.float32 else np.complex128
    return Convolution(fft.rfft(circular).astype(complex_type), size, pad, channels)


def _reach(response):
    """Channels from the energy zero beyond which (almost) nothing of a response lies."""
    half = response.shape[-1] // 2
    both = response[..., half:].copy()
    both[..., 1:] += response[..., half - 1 : 0 : -1]
    outside = 1.0 - np.cumsum(both, axis=-1)
    return int((outside > NEGLIGIBLE_TAIL).sum())


def as_rows(spectra, psf):
    """Spectra and responses as rows, checked.

    Parameters
    ----------
    spectra : array_like
        Shape ``(..., channels)``; single precision is kept, everything else becomes double. Masked
        values become NaN.
    psf : array_like
        Shape ``(length,)`` or ``(..., length)``: one for each spectrum, or a single one.

    Returns
    -------
    rows : numpy.ndarray
        Shape ``(spectra, channels)``.
    psf : numpy.ndarray
        Shape ``(length,)`` or ``(spectra, length)``.

    Raises
    ------
    ValueError
        If they are no real numbers or have no channels, or there are several responses but not one per
        spectrum.
    """
    spectra, psf = np.asarray(unmasked(spectra)), np.atleast_1d(np.asarray(unmasked(psf)))
    for name, each in (("spectra", spectra), ("psf", psf)):
        if each.dtype.kind not in "buif":
            raise ValueError(f"{name} must be real numbers, not {each.dtype}.")
    if not spectra.ndim or not spectra.shape[-1]:
        raise ValueError(
            f"spectra of shape {spectra.shape} must have channels along the last axis."
        )
    if psf.ndim > 1 and psf.shape[:-1] != spectra.shape[:-1]:
        if psf.size != psf.shape[-1]:
            raise ValueError(
                "psf must be one response or one per spectrum, shape "
                f"{spectra.shape[:-1]} + (length,), not {psf.shape}."
            )
        psf = psf.reshape(-1)
    if spectra.dtype != np.float32:
        spectra = spectra.astype(np.float64)
    rows = spectra.reshape(-1, spectra.shape[-1])
    return rows, psf if psf.ndim == 1 else psf.reshape(-1, psf.shape[-1])


def processors():
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextmanager
def at_most_threads(number):
    """Limit the threads of `in_batches` within one task of dask, of which several may run at a time."""
    before = _MOST_THREADS.set(number)
    try:
        yield
    finally:
        _MOST_THREADS.reset(before)


def in_batches(function, total, row_bytes):
    """Call ``function(rows)`` on index arrays that fit the cache, on all processors at once.

    NumPy and SciPy release the interpreter's lock, so that plain threads are enough.
    """
    size = max(int(BATCH_BYTES // row_bytes), 1)
    batches = [np.arange(start, min(start + size, total)) for start in range(0, total, size)]
    number = _MOST_THREADS.get() or processors()
    if len(batches) < 2 or number < 2:
        for rows in batches:
            function(rows)
        return
    with ThreadPoolExecutor(number) as threads:
        list(threads.map(function, batches))
