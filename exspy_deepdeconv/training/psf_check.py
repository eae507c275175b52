"""Does a captured response fit the spectra of a map? Judged as `deep_deconvolve` does."""

import numpy as np

from .. import models, physics

MOST_JUDGED = 64  # spectra, spread over the map
MOST_MISFITS = 0.1  # of these: training averages over the spectra, so that a few are no matter


def of_misfit(spectra, psf, dispersion):
    """What to say of a measured response that does not fit the spectra that it is to stand for; else nothing.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(spectra, channels)``; one of them at least has a zero-loss peak.
    psf : numpy.ndarray
        Counts of the response, shape ``(length,)``.
    dispersion : float
        eV per channel.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv.training.psf_check import of_misfit
    >>> s = data.plasmonic_map(shape=(8, 8), channels=512)
    >>> of_misfit(s.data[0], data.vacuum_spectrum(s).data, s.axes_manager[-1].scale)
    []
    """
    flags = _flags(spectra, psf, dispersion)
    misfit, narrow = (
        int((flags & bit > 0).sum()) for bit in (physics.PSF_MISFIT, physics.PSF_NARROW)
    )
    if misfit + narrow <= MOST_MISFITS * flags.size:
        return []
    of_all = f"of {flags.size} spectra of the map"
    if narrow > misfit:
        return [
            f"the response is narrower than the zero-loss peaks of {narrow} {of_all}: it is broadened to "
            "their mean width, and what is learnt is an instrument with that response."
        ]
    return [
        f"the response does not fit {misfit} {of_all} (deep_deconvolve would not use it for them): what is "
        "learnt is an instrument with that response, not the one that recorded the map. Without it, the "
        "response is estimated from the map."
    ]


def _flags(spectra, psf, dispersion):
    """The flags that `deep_deconvolve` raises for some of the spectra."""
    from .._signals.sampling import spread_over, typical_zero_loss
    from ..estimate.batched import deconvolve_block  # torch only where it is needed

    found = typical_zero_loss(spectra, np.zeros(len(spectra), bool))
    return deconvolve_block(
        spread_over(spectra, MOST_JUDGED),
        model=models.load(),
        psf=psf,
        dark=found.dark,
        dispersion=dispersion,
        resolution=physics.default_resolution(found.fwhm),
    )[1]
