"""Calibrated intervals from the sizes of the errors that the network predicts (NumPy).

For every channel, the network predicts the mean size of its error where it is too high and where it
is too low. Taken as a two-sided exponential distribution around the answer, they give quantiles. A
factor makes these hold: it is found on simulations that were used for nothing else (conformal
calibration: the factor with which the wanted share of the truth lies inside), and stored with the
weights. One factor is not enough: where the tail of the response is far above the losses, and where
electrons are few, errors are larger than predicted. It is therefore a product of two factors, one for
each of these circumstances: see `Regime`.
"""

from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

# Standard error of the zero-loss position in widths: from noise (over the root of the electrons) and from
# peaks that lean to one side. Chosen on simulations.
POSITION_NOISE, POSITION_LEAN = 2.4, 0.006
# Factor on intervals where the response was estimated beforehand: the network predicts its errors only for
# responses that it has found itself, or that were measured. Chosen on simulated maps.
ESTIMATED = 1.25
STANDARD_CONFIDENCE = 0.6827  # of one standard deviation to either side
LEAST_ALPHA = 1e-4  # smallest share outside: the tails of the distribution are known no farther


@dataclass(frozen=True)
class Regime:
    """The circumstances that the factor of an interval depends on.

    Attributes
    ----------
    dominance : numpy.ndarray or float
        As from `dominance`, ``(batch, channels)``.
    electrons : numpy.ndarray or float
        Of the elastic peak, estimated from the noise of the data, ``(batch, 1)``.
    given, estimated : bool
        Whether a measured response was used, or one that was estimated beforehand.
    """

    dominance: np.ndarray
    electrons: np.ndarray
    given: bool = False
    estimated: bool = False


@dataclass(frozen=True)
class Calibration:
    """What intervals are multiplied by; stored with the weights.

    Attributes
    ----------
    confidences : tuple of float
        Shares of the truth that the intervals are to cover.
    dominances, electrons : tuple of float
        Values of `Regime` at which factors are known, rising.
    blind, given : tuple of tuple of float
        Factors for each dominance (first index) and confidence, without and with a measured
        response.
    by_electrons : tuple of tuple of float
        Factors on top of these for each number of electrons (second index), without and with a
        measured response (first index), at any confidence.
    elastic : tuple of tuple of float
        For each confidence (second index), the relative error of the elastic counts that is not
        exceeded, without and with a measured response (first index).

    Examples
    --------
    >>> from exspy_deepdeconv.estimate.intervals import Calibration, Regime
    >>> float(Calibration().factor(0.9, Regime(dominance=1.0, electrons=1e6)))
    1.0
    """

    confidences: tuple = (0.5, 0.6827, 0.8, 0.9, 0.95, 0.99)
    dominances: tuple = (0.5, 1.2, 1.75, 2.25, 3.0)
    electrons: tuple = (3e4, 3e5, 3e6, 3e7)
    blind: tuple = ((1.0,) * 6,) * 5
    given: tuple = ((1.0,) * 6,) * 5
    by_electrons: tuple = ((1.0,) * 4,) * 2
    elastic: tuple = ((0.0,) * 6,) * 2

    def __post_init__(self):
        """Refuse tables that do not belong together."""
        shape = len(self.dominances), len(self.confidences)
        wanted = {
            "blind": shape,
            "given": shape,
            "by_electrons": (2, len(self.electrons)),
            "elastic": (2, *shape[1:]),
        }
        for name, size in wanted.items():
            found = np.array(getattr(self, name), float).shape  # a ValueError if it is no table
            if found != size:
                raise ValueError(f"{name} must have the shape {size}, not {found}.")

    def factor(self, confidence, regime):
        """Factor at a confidence in a `Regime`, interpolated; an array if the regime holds arrays."""
        table = np.array(self.given if regime.given else self.blind)
        # The interpolated product grows with the confidence: so does the interval.
        within = np.clip(confidence, self.confidences[0], self.confidences[-1])
        growth = np.log(2 / (1 - np.array(self.confidences)))
        column = [np.interp(within, self.confidences, row * growth) for row in table]
        column = np.array(column) / np.log(2 / (1 - within))
        common = np.interp(
            np.log10(np.maximum(regime.electrons, 1.0)),
            np.log10(self.electrons),
            self.by_electrons[int(regime.given)],
        )
        common = common * (ESTIMATED if regime.estimated else 1.0)
        return np.interp(regime.dominance, self.dominances, column) * common

    def elastic_error(self, confidence, given=False):
        """Relative error of the elastic counts at a confidence."""
        return float(np.interp(confidence, self.confidences, self.elastic[int(given)]))

    def to_dict(self):
        """Lists and numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`, also from JSON's lists."""
        fields = {key: _tuples(value) for key, value in values.items()}
        if np.ndim(fields.get("elastic", ((),))) == 1:  # older files: one for both
            fields["elastic"] = (fields["elastic"],) * 2
        return cls(**fields)


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def reaches(above, below, confidence):
    """How far the truth may lie under and over an answer, before calibration.

    Parameters
    ----------
    above, below : numpy.ndarray
        Mean size of the error where the answer is too high, and where it is too low.
    confidence : float
        Share of the truth between both bounds; half of the rest is on either side.

    Returns
    -------
    down, up : numpy.ndarray
        Non-negative distances from the answer, of the shape of ``above``.

    Examples
    --------
    >>> import numpy as np
    >>> down, up = reaches(np.array([1.0]), np.array([1.0]), 0.9)
    >>> bool(np.isclose(down, np.log(10))[0]), bool(np.isclose(up, np.log(10))[0])
    (True, True)
    """
    alpha = max(1 - confidence, LEAST_ALPHA)
    share = above / (above + below)

    def reach(size, share):
        return size * np.log(np.maximum(2 * share / alpha, 1.0))

    return reach(above, share), reach(below, 1 - share)


def dominance(elastic, inelastic):
    """How far the elastic peak stands above the losses: log10 of their sum over the losses.

    Parameters
    ----------
    elastic, inelastic : numpy.ndarray
        Elastic peak as measured, and losses, of one shape and not negative.

    Returns
    -------
    numpy.ndarray
        0 where there is no elastic part, 1 where it is nine tenths of all; at most 6.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.estimate.intervals import dominance
    >>> [round(float(x), 2) for x in dominance(np.array([0.0, 9.0, 99.0]), np.ones(3))]
    [0.0, 1.0, 2.0]
    """
    total = elastic + inelastic
    return np.log10(np.maximum(total, 1e-300) / np.maximum(inelastic, 1e-6 * total + 1e-300))


def normal_reach(confidence):
    """Number of standard errors to either side that hold a share of a normal distribution.

    As in `reaches`, the share is at most ``1 - LEAST_ALPHA``.

    Examples
    --------
    >>> round(normal_reach(0.9), 3)
    1.645
    """
    return NormalDist().inv_cdf(1 - max(1 - confidence, LEAST_ALPHA) / 2)


def position_error(fwhm, electrons):
    """Standard error of the zero-loss position, in the units of its width ``fwhm``.

    Examples
    --------
    >>> from exspy_deepdeconv.estimate.intervals import position_error
    >>> [round(float(position_error(10.0, electrons)), 3) for electrons in (1e4, 1e6, 1e9)]
    [0.247, 0.065, 0.06]
    """
    noise = POSITION_NOISE / np.sqrt(np.maximum(electrons, 1.0))
    return fwhm * np.hypot(noise, POSITION_LEAN)


def shift_error(estimate, fwhm, electrons):
    """Error of an answer that comes from the error of the zero-loss position.

    Parameters
    ----------
    estimate : numpy.ndarray
        The answer, ``(batch, channels)``; all of it moves with the peak.
    fwhm, electrons : numpy.ndarray
        Width of the peak in channels, and electrons in it, ``(batch, 1)``.

    Returns
    -------
    numpy.ndarray
        Standard error, of the shape of ``estimate``.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.estimate.intervals import shift_error
    >>> flank = np.arange(5.0)[None]
    >>> shift_error(flank, np.array([[10.0]]), np.array([[1e12]])).round(3)
    array([[0.06, 0.06, 0.06, 0.06, 0.06]])
    """
    return position_error(fwhm, electrons) * np.abs(np.gradient(estimate, axis=-1))


def bounds(estimate, peak, above, below, confidence, calibration, regime, common_error=0.0):
    """Calibrated interval around an answer.

    Parameters
    ----------
    estimate : numpy.ndarray
        The answer, ``(batch, channels)``.
    peak : numpy.ndarray or float
        Elastic part of the answer; 0 where it is left out.
    above, below : numpy.ndarray
        As for `reaches`, ``(batch, channels)``, in the units of ``estimate``.
    confidence : float
        Share of the truth that is to lie inside.
    calibration : Calibration
        From the model.
    regime : Regime
        The circumstances.
    common_error : numpy.ndarray or float
        Standard error that the network does not predict (of the flat offset, of the position), of
        the shape of ``estimate`` or ``(batch, 1)``.

    Returns
    -------
    lower, upper : numpy.ndarray
        ``(batch, channels)``; lower bounds are not negative, except by this error.
    """
    factor = calibration.factor(confidence, regime)
    elastic = calibration.elastic_error(confidence, regime.given) * peak
    offset = normal_reach(confidence) * np.asarray(common_error)
    common = np.hypot(elastic, offset)
    down, up = (np.hypot(factor * reach, common) for reach in reaches(above, below, confidence))
    # No spectrum is negative, but its true offset may be smaller than the one that will be added.
    return np.maximum(estimate - down, -offset), estimate + up


def variance(peak, above, below, calibration, regime, common_error=0.0):
    """Predicted variance: the square of half the 68.27 % interval.

    The interval is not cut off at zero here, and the errors that are common to all channels are added in
    squares to the mean of its two sides.

    Parameters
    ----------
    peak, above, below, calibration, regime, common_error
        As for `bounds`.

    Returns
    -------
    numpy.ndarray
        ``(batch, channels)``.
    """
    factor = calibration.factor(STANDARD_CONFIDENCE, regime)
    elastic = calibration.elastic_error(STANDARD_CONFIDENCE, regime.given) * peak
    down, up = reaches(above, below, STANDARD_CONFIDENCE)
    return (0.5 * factor * (down + up)) ** 2 + elastic**2 + common_error**2
