"""Classical deconvolution: array functions ``f(spectra, psf, ...) -> spectra``, batched.

``spectra`` has the shape ``(..., channels)``; ``psf`` is either one response or one per spectrum, any
length, its maximum being its energy zero.
"""

import numpy as np
import scipy.fft as fft

from .physics import centred_response


def richardson_lucy(spectra, psf, iterations=15):
    """Richardson-Lucy deconvolution (maximum likelihood for Poisson counts).

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``; negative readings are set to zero. Single precision is
        kept, everything else is computed in double precision.
    psf : numpy.ndarray
        The response, shape ``(length,)`` or ``(..., length)``; its scale does not matter.
    iterations : int
        Number of iterations, at least 1.

    Returns
    -------
    numpy.ndarray
        Non-negative, of the shape of ``spectra``.

    Raises
    ------
    ValueError
        If ``iterations`` is below 1 or the response holds no peak.

    References
    ----------
    W. H. Richardson, J. Opt. Soc. Am. 62 (1972) 55; L. B. Lucy, Astron. J. 79 (1974) 745.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.classical import richardson_lucy
    >>> from exspy_deepdeconv.physics import gaussian
    >>> blurred = 1e4 * gaussian(256, 100.0, 10.0)
    >>> sharp = richardson_lucy(blurred, gaussian(64, 32.0, 8.0), iterations=50)
    >>> bool(sharp.max() > 1.4 * blurred.max())
    True
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}.")
    return next(richardson_lucy_iterates(spectra, psf, [iterations]))


def richardson_lucy_iterates(spectra, psf, iterations):
    """Yield the Richardson-Lucy estimate after each of the ``iterations`` (increasing numbers).

    See `richardson_lucy` for the other parameters.
    """
    spectra = np.asarray(spectra)
    if spectra.dtype != np.float32:
        spectra = spectra.astype(np.float64)
    channels = spectra.shape[-1]
    transfer, size, pad = response_transfer(psf, channels)
    transfer = transfer.astype(np.complex64 if spectra.dtype == np.float32 else np.complex128)
    # Repeating the end values keeps the ends from ringing.
    width = [(0, 0)] * (spectra.ndim - 1) + [(pad, size - channels - pad)]
    data = np.maximum(np.pad(spectra, width, mode="edge"), 0)
    adjoint = transfer.conj()
    estimate = data.copy()
    tiny = np.finfo(data.dtype).tiny * 1e6
    done = 0
    for wanted in iterations:
        for _ in range(wanted - done):
            model = fft.irfft(fft.rfft(estimate) * transfer, size)
            ratio = np.divide(data, model, out=np.zeros_like(data), where=model > tiny)
            estimate = estimate * np.maximum(fft.irfft(fft.rfft(ratio) * adjoint, size), 0)
        done = wanted
        yield estimate[..., pad : pad + channels]


def response_transfer(psf, channels):
    """Transfer function of a response on an axis padded at both ends.

    Returns
    -------
    transfer : numpy.ndarray
        Complex, shape ``(..., frequencies)``.
    size, pad : int
        Length of the padded axis and the channels put before the spectrum.
    """
    length = min(np.shape(psf)[-1], 2 * channels)
    pad = min(max(length // 2, 16), channels // 2)
    size = fft.next_fast_len(channels + 2 * pad, real=True)
    half = min(channels, size // 2)
    response = centred_response(psf, half)
    circular = np.zeros(response.shape[:-1] + (size,))
    circular[..., :half] = response[..., half:]
    circular[..., size - half :] = response[..., :half]
    return fft.rfft(circular), size, pad
