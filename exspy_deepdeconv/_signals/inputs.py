"""From a signal, and what is known of it, to the blocks of an array function.

Imported inside the methods, not by ``import hyperspy.api``.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import dask.array as da
import numpy as np

from . import checks, responses, runner, sampling


@dataclass(frozen=True)
class Input:
    """The data of a checked signal, with the response and the noise variance that belong to them.

    Attributes
    ----------
    data : numpy.ndarray or dask.array.Array
        Counts, ``(..., channels)``; masked ones are NaN.
    axis : EnergyScale
        Of the signal.
    mask : numpy.ndarray of bool
        Navigation shape, True where a spectrum is left out.
    response : numpy.ndarray, dask.array.Array or None
        The measured response, the energy rising: ``(length,)`` or ``(..., length)``.
    estimated : bool
        Whether the response was estimated from spectra, not measured.
    variance : float, numpy.ndarray, dask.array.Array or None
        As the user has set it: one number, or one for each channel of the data.
    """

    data: np.ndarray | da.Array
    axis: checks.EnergyScale
    mask: np.ndarray
    response: np.ndarray | da.Array | None
    estimated: bool
    variance: float | np.ndarray | da.Array | None

    @classmethod
    def of(cls, signal, psf=None, navigation_mask=None):
        """Check what a method is given; the errors are those of `checks` and `responses`."""
        axis = checks.check_low_loss(signal)
        mask = checks.check_navigation_mask(navigation_mask, signal)
        response = responses.check_psf(psf, signal, axis.dispersion)
        estimated = responses.was_estimated(psf)
        variance = checks.check_variance(signal)
        return cls(checks.plain_array(signal), axis, mask, response, estimated, variance)

    @property
    def measured(self):
        """Whether a measured, not an estimated, response was given."""
        return self.response is not None and not self.estimated

    @cached_property
    def zero_loss(self):
        """The typical zero-loss peak of the data; a ValueError if there is none."""
        found = sampling.typical_zero_loss(self.data, self.mask, self.axis.reversed)
        return found.on(self.axis)

    @property
    def zero_loss_if_any(self):
        """The same; None if there is none."""
        try:
            return self.zero_loss
        except ValueError:
            return None

    def dark(self):
        """The flat offset that the spectra share; None where they do not or have no such peak."""
        found = self.zero_loss_if_any
        return None if found is None else found.dark

    def blocks(self, function, tally, *, beside=None, **shape):
        """The blocks of ``function``, as from `runner.run_blocks`.

        A variance that differs between channels goes beside the data.
        """
        beside = dict(beside or {})
        if np.ndim(self.variance):
            beside["variance"] = self.variance
        else:
            function = partial(function, variance=self.variance)
        return runner.run_blocks(
            function,
            self.data,
            self.mask,
            tally,
            psf=self.response,
            beside=beside,
            reverse=self.axis.reversed,
            **shape,
        )
