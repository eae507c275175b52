"""A block of spectra through a classical method, and whether the results explain them.

Imported inside the methods, not by ``import hyperspy.api``.
"""

from dataclasses import dataclass, replace

import numpy as np

from .. import physics
from .._signals import sampling
from ..response import reblur, residual
from ..response.psf_fit import width_fit

FIRST_LOOK = 16  # spectra of a block that are checked first: the others only if one of them fails
# The flags that are also raised with a measured response by methods that fit the elastic peak. (With one
# they need no zero-loss peak; values above `physics.HIGHEST_VALUE` count as not finite.)
FLAGS_OF_FIT = physics.SATURATED | physics.SPIKE | physics.NOT_FINITE


def result_dtype(dtype):
    """Double precision is kept; everything else gives single precision."""
    return np.float64 if dtype.kind == "f" and dtype.itemsize >= 8 else np.float32


def deconvolve_block(
    spectra,
    psf=None,
    *,
    function,
    respond,
    smoothing,
    automatic,
    fits_peak=False,
    check=None,
    dark=None,
    variance=None,
):
    """Run an array function over the spectra of a block that can be deconvolved.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(..., channels)``; never changed.
    psf : numpy.ndarray, optional
        Measured response, ``(length,)`` or ``(..., length)``.
    function : callable
        One of `exspy_deepdeconv.classical`.
    respond : callable or None
        As from `exspy_deepdeconv._signals.results.responder`, used in the place of a ``psf``.
    smoothing : float
        Width of a Gaussian with which the result is smoothed, in channels.
    automatic : bool
        Whether the function chooses its setting and returns it.
    fits_peak : bool
        Whether the function fits the elastic peak, weighing with the noise; then `FLAGS_OF_FIT` are raised
        with a measured response, too.
    check : Check, optional
        How results are judged that may not explain their spectra; not at all by default.
    dark : Dark, optional
        The flat offset that the spectra share, where the function is not to read it from each.
    variance : float or numpy.ndarray, optional
        The noise variance where the user has set it.

    Returns
    -------
    estimate : numpy.ndarray
        Of `result_dtype`. Zeros where a spectrum is empty or has no zero-loss peak to read the
        response from, NaN where it is not finite.
    flags : numpy.ndarray of uint16
        Navigation shape.
    chosen : numpy.ndarray
        Navigation shape; what the function chose.
    """
    seen = None
    if respond is not None:
        psf, flags = respond(spectra)
        flags = np.array(flags)
    else:
        flags = _flags_of_unusable(spectra)
        if fits_peak:
            seen = _inspected(spectra, dark)
            flags |= seen.flags.reshape(flags.shape) & FLAGS_OF_FIT
    good = flags & physics.UNUSABLE == 0
    estimate = np.zeros(spectra.shape, result_dtype(spectra.dtype))
    estimate[flags & physics.NOT_FINITE > 0] = np.nan
    chosen = np.full(good.shape, np.nan)
    if not good.any():
        return estimate, flags, chosen
    told = None if variance is None else np.broadcast_to(variance, spectra.shape)[good]
    options = {"return_chosen": True} if automatic else {}
    if fits_peak:
        if seen is None and (told is not None or dark is not None):
            seen = _inspected(spectra, dark)
        seen = seen and seen.select(good.ravel())
        # The methods see counts without the flat offset, so the noise must be a line through these.
        options["noise"] = None if told is None else physics.told_noise(told, seen)
    psf = psf if psf.ndim == 1 else psf[good]
    offset = 0.0 if dark is None else seen.level[:, None]
    counts = np.subtract(spectra[good], offset, dtype=estimate.dtype, casting="unsafe")
    found = function(counts, psf, **options)
    if automatic:
        found, chosen[good] = found
    found = found + np.maximum(offset, 0)  # a negative one is subtracted
    estimate[good] = physics.smooth(found, smoothing)
    if check is not None:  # of the result before smoothing, which is not part of the method
        flags[good] |= check.flags(spectra[good], psf, found, told, seen)
    return estimate, flags, chosen


def _flags_of_unusable(spectra):
    """Flags of what can be told without a look at the zero-loss peak; navigation shape."""
    empty, finite = (spectra == 0).all(axis=-1), np.isfinite(spectra).all(axis=-1)
    return np.asarray(physics.EMPTY * empty + physics.NOT_FINITE * ~finite, np.uint16)


def _inspected(spectra, dark):
    return physics.inspect(spectra.reshape(-1, spectra.shape[-1]), dark)


@dataclass(frozen=True)
class Check:
    """Whether results explain their spectra once they are blurred again, and whether a psf fits these.

    Attributes
    ----------
    misfit : float or None
        As of `Method`; None where results are not judged.
    resolution : float or None
        Channels (FWHM) of the Gaussian through which the results are seen; None for none.
    widths : bool
        Whether the width of the response is compared with that of the zero-loss peak.
    first : int or None
        This many spectra, spread over all, are checked first, and the others only if one of these
        is flagged, so that the check does not slow a quick method down. None for all.
    """

    misfit: float | None
    resolution: float | None
    widths: bool = False
    first: int | None = None

    @classmethod
    def of(cls, method, channels=None, *, judged=True, quick=False, widths=False):
        """The check of a method; ``channels`` is the resolution, for methods that need one."""
        seen = channels if method.needs_resolution else method.resolution or None
        misfit, first = method.misfit if judged else None, FIRST_LOOK if quick else None
        return cls(misfit, seen, widths, first)

    @property
    def kinds(self):
        """The flags that it may raise."""
        unexplained = () if self.misfit is None else (physics.UNEXPLAINED,)
        return unexplained + ((physics.PSF_MISFIT,) if self.widths else ())

    def flags(self, spectra, psf, estimate, variance=None, seen=None):
        """What is odd about results and responses, in bits of a flag.

        Parameters
        ----------
        spectra, estimate : numpy.ndarray
            ``(spectra, channels)``.
        psf : numpy.ndarray
            One response, ``(length,)``, or one for each.
        variance : numpy.ndarray, optional
            Of the spectra, ``(spectra, channels)``; their noise is read from them by default.
        seen : Inspected, optional
            The spectra as they have been inspected already.

        Returns
        -------
        numpy.ndarray of uint16
            ``(spectra,)``; 0 where a spectrum has no zero-loss peak or was not looked at.
        """
        found = np.zeros(len(spectra), np.uint16)
        if not self.kinds:
            return found

        def look(rows):
            part = psf if psf.ndim == 1 else psf[rows]
            known = physics.inspect(spectra[rows]) if seen is None else seen.select(rows)
            if variance is not None:
                known = replace(known, noise=physics.told_noise(variance[rows], known))
            found[rows] = self._flags(known, part, estimate[rows])

        every = np.arange(len(spectra))
        first = every if self.first is None else sampling.spread_over(every, self.first)
        look(first)
        if found.any() and len(first) < len(every):
            look(np.setdiff1d(every, first))
        return found

    def _flags(self, seen, psf, estimate):
        good, flags = seen.usable, np.zeros(len(estimate), np.uint16)
        if not good.any():
            return flags
        estimate, seen, psf = estimate[good], seen.select(good), psf if psf.ndim == 1 else psf[good]
        response = reblur.measured_response(psf, estimate.shape[-1])
        if self.misfit is not None:
            worst = residual.explain(estimate, seen, response, self.resolution, True).worst
            flags[good] |= np.where(worst > self.misfit, physics.UNEXPLAINED, 0).astype(np.uint16)
        if self.widths:
            same = width_fit(np.atleast_2d(response.shape), seen).same
            flags[good] |= np.where(same, 0, physics.PSF_MISFIT).astype(np.uint16)
        return flags
