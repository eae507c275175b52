"""Responses as they are handed to the network: measured in a vacuum, and not always on the same day."""

import numpy as np
from scipy.interpolate import CubicSpline

COUNTS = 5.0, 9.0  # powers of ten: electrons of the vacuum measurement
# Another focus, or another field of view, than that of the spectrum: standard deviations of the width
# (share) and of the tails (logarithm, either side by itself), and the most that the width is off.
WIDTHS_APART, FARTHEST_APART = 0.02, 0.06
TAILS_APART = 0.2
TAILS_FROM, TAILS_FULL = (
    0.75,
    2.0,
)  # widths from the peak where tails begin to differ, and do in full


def noisy_response(psf, rng):
    """A response as a vacuum measurement would give it."""
    counts = 10.0 ** rng.uniform(*COUNTS)
    measured = rng.poisson(psf * counts).astype(float)
    return measured / max(measured.sum(), 1.0)


def altered_response(psf, fwhm, rng):
    """A response that is not quite that of the spectrum: a little wider or narrower, with other tails.

    A network that only ever saw exact ones makes losses, or gaps, of the difference
    (``benchmarks/limits.py --part psf``).

    Parameters
    ----------
    psf : numpy.ndarray
        Unit area, shape ``(2 * n,)``, energy zero at index ``n``.
    fwhm : float
        Its width in channels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        Of unit area, its energy zero in the same place.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian
    >>> from exspy_deepdeconv.training.handed import altered_response
    >>> psf = gaussian(256, 128.0, 8.0)
    >>> altered = altered_response(psf, 8.0, np.random.default_rng(3))
    >>> bool(0.01 < np.abs(altered - psf).sum() < 0.1), int(altered.argmax())
    (True, 128)
    """
    distance = np.arange(psf.size) - psf.size // 2
    apart = np.clip(WIDTHS_APART * rng.standard_normal(), -FARTHEST_APART, FARTHEST_APART)
    stretched = CubicSpline(distance, psf, extrapolate=False)(distance / (1 + apart))
    tails = TAILS_APART * rng.standard_normal(2)[(distance > 0).astype(int)]
    share = (np.abs(distance) / fwhm - TAILS_FROM) / (TAILS_FULL - TAILS_FROM)
    altered = np.nan_to_num(stretched).clip(min=0) * np.exp(tails * share.clip(0, 1))
    return altered / altered.sum()
