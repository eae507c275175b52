"""Random detectors: how the electrons that arrive become counts (NumPy and SciPy only)."""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

from ..spectrum.blur import gaussian_transfer


@dataclass(frozen=True)
class Detector:
    """How counts are recorded.

    Attributes
    ----------
    spread_channels : float
        FWHM of the point spread that correlates the noise of neighbouring channels (0: white).
    gain : float
        Data units per electron.
    readout : float
        Standard deviation of the white readout noise, in electrons.
    gain_error : float
        Relative standard deviation of the channels' uncorrected gain.
    dark : float
        Flat offset left in the data, in electrons.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.experiment.detectors import Detector
    >>> Detector(gain=2.0).record(np.full(4, 1e6), np.random.default_rng(0)).shape
    (4,)
    """

    spread_channels: float = 0.0
    gain: float = 1.0
    readout: float = 0.0
    gain_error: float = 0.0
    dark: float = 0.0

    def record(self, expected, rng):
        """Counts recorded where ``expected`` electrons arrive (the spread is applied to the noise).

        The expected spectrum must already contain the spread (it is part of the response), so
        that only the Poisson fluctuation is blurred here.
        """
        fluctuation = rng.poisson(np.maximum(expected, 0)) - expected
        if self.spread_channels > 0:
            # An electron spread over channels: blurring lowers the variance of each, as it should.
            transfer = gaussian_transfer(fft.rfftfreq(expected.size), self.spread_channels)
            fluctuation = fft.irfft(fft.rfft(fluctuation) * transfer, expected.size)
        counts = expected + fluctuation + self.readout * rng.standard_normal(expected.size)
        counts = counts * (1 + self.gain_error * rng.standard_normal(expected.size))
        return self.gain * (counts + self.dark)


def random_detector(rng, height=0.0):
    """Draw a detector: about a third are ideal counters, the rest have one or more faults.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    height : float
        Electrons in the highest channel, to which a few dark levels are in proportion.

    Returns
    -------
    Detector
    """
    if rng.random() < 0.35:
        return Detector()
    return Detector(
        spread_channels=rng.uniform(1.0, 3.0) if rng.random() < 0.4 else 0.0,
        gain=float(np.exp(rng.uniform(-3, 3))),
        readout=float(np.exp(rng.uniform(np.log(0.1), np.log(20)))) if rng.random() < 0.6 else 0.0,
        gain_error=float(np.exp(rng.uniform(np.log(1e-4), np.log(3e-3))))
        if rng.random() < 0.4
        else 0.0,
        dark=_random_dark(rng, height),
    )


def _random_dark(rng, height):
    """None, a few electrons, or up to a hundredth of the zero-loss peak, of either sign."""
    kind = rng.random()
    if kind < 0.2:
        return float(rng.uniform(-5, 30))
    if kind < 0.4:
        return height * float(
            rng.choice([-1, 1, 1]) * np.exp(rng.uniform(np.log(1e-5), np.log(1e-2)))
        )
    return 0.0
