"""Calibrated intervals from the sizes of the errors that the network predicts (NumPy).

For every channel, the network predicts the mean size of its error where it is too high and where it
is too low. Quantiles of the error to either side are these sizes times a factor, which is found on
simulations that were used for nothing else, by quantile regression, and stored with the weights
(`exspy_deepdeconv.training.calibrate`). One factor is not enough. Where the network expects an error
on one side, the other is not as unlikely as it tells; where losses are far below the zero-loss peak, and
where electrons are few, errors are larger than it tells; and how much of the spectrum are losses matters,
too. So there is a product of four factors for each side.
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
CONFIDENCES = (0.5, 0.6827, 0.8, 0.9, 0.95, 0.99)
SKEWS = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
HEIGHTS = (-6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0)
ELECTRONS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
SCATTERED = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5)
AXES = SKEWS, HEIGHTS, ELECTRONS, SCATTERED  # what factors depend on: see `Calibration`
KNOTS = sum(map(len, AXES))


def exponential():
    """Log factors of exponential distributions to either side, as `Calibration` takes them.

    Half of what a confidence leaves out lies on either side, or all that a side holds if that is less.
    """
    skew, alpha = np.array(SKEWS), 1 - np.array(CONFIDENCES)[:, None]
    sides = []
    for sign in (1, -1):
        share = 1 / (1 + np.exp(sign * skew))  # of the errors of this side
        reach = np.log(np.maximum(2 * share / alpha, 1.001))  # nowhere nothing
        sides.append(np.hstack([np.log(reach), np.zeros((len(CONFIDENCES), KNOTS - len(SKEWS)))]))
    return _tuples(np.round(sides, 6).tolist())


def _tuples(value):
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Regime:
    """The circumstances of an answer that an interval depends on.

    Attributes
    ----------
    losses : numpy.ndarray or float
        Of the answer, in units of the height of the zero-loss peak, ``(batch, channels)``.
    electrons : numpy.ndarray or float
        Of the elastic peak, estimated from the noise of the data, ``(batch, 1)``.
    scattered : numpy.ndarray or float
        All losses of the answer over its elastic counts, ``(batch, 1)``.
    given, estimated : bool
        Whether a measured response was used, or one that was estimated beforehand.
    """

    losses: np.ndarray
    electrons: np.ndarray
    scattered: np.ndarray
    given: bool = False
    estimated: bool = False

    def at(self, above, below):
        """Where an answer is on each of `AXES`, given the sizes of its errors: arrays that broadcast."""
        values = zip((self.losses, self.electrons, self.scattered), AXES[1:], strict=True)
        logs = (np.log10(np.maximum(value, 10.0 ** knots[0])) for value, knots in values)
        return skew_of(above, below), *logs


@dataclass(frozen=True)
class Calibration:
    """What the predicted sizes of errors are multiplied by; stored with the weights.

    Attributes
    ----------
    blind, given : tuple
        Without and with a measured response: for errors above the truth and below it, for each of
        `CONFIDENCES`, the logarithms of factors at each of `SKEWS` (of the logarithm of the size
        below over that above), then of those at each of `HEIGHTS` (decimal logarithms of the losses over
        the height of the zero-loss peak), `ELECTRONS` (of those in that peak) and `SCATTERED` (of all
        losses over the elastic counts).
    elastic : tuple of tuple of float
        For each confidence (second index), the relative error of the elastic counts that is not
        exceeded, without and with a measured response (first index).

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.estimate.intervals import Calibration, Regime
    >>> regime = Regime(losses=0.1, electrons=1e6, scattered=0.1)
    >>> down, up = Calibration().reaches(np.ones(1), np.ones(1), 0.9, regime)
    >>> bool(np.isclose(down, np.log(10))[0]), bool(np.isclose(up, np.log(10))[0])
    (True, True)
    """

    blind: tuple = exponential()
    given: tuple = exponential()
    elastic: tuple = ((0.0,) * len(CONFIDENCES),) * 2

    def __post_init__(self):
        """Refuse tables of another shape."""
        tables = 2, len(CONFIDENCES), KNOTS
        for name, size in (("blind", tables), ("given", tables), ("elastic", tables[:2])):
            found = np.array(getattr(self, name), float).shape  # a ValueError if it is no table
            if found != size:
                raise ValueError(f"{name} must have the shape {size}, not {found}.")

    def reaches(self, above, below, confidence, regime):
        """How far the truth may lie under and over an answer.

        Parameters
        ----------
        above, below : numpy.ndarray
            Mean size of the error where the answer is too high, and where it is too low.
        confidence : float
            Share of the truth between both bounds.
        regime : Regime
            The circumstances.

        Returns
        -------
        down, up : numpy.ndarray
            Non-negative distances from the answer, of the shape of ``above``.
        """
        at = regime.at(above, below)
        common = ESTIMATED if regime.estimated else 1.0
        tables = np.array(self.given if regime.given else self.blind)
        shares = _shares(confidence)
        reached = []
        for table, size in zip(tables, (above, below), strict=True):
            factor = sum(share * factors(table[row], at) for row, share in shares)
            reached.append(common * factor * size)
        return tuple(reached)

    def elastic_error(self, confidence, given=False):
        """Relative error of the elastic counts at a confidence."""
        known = self.elastic[int(given)]
        return sum(share * known[row] for row, share in _shares(confidence))

    def to_dict(self):
        """Lists and numbers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`, also from JSON's lists.

        Those of lowloss-v11 and before have tables of another kind, which are not used. Those of lowloss-v12
        have nothing for the last two of `AXES`: factors of 1.
        """
        if "dominances" in values:
            return cls()
        values = {key: _tuples(value) for key, value in values.items()}
        for name in ("blind", "given"):
            table = np.array(values[name], float) if name in values else np.empty(0)
            if table.shape[-1:] == (len(SKEWS) + len(HEIGHTS),):
                missing = [(0, 0)] * (table.ndim - 1) + [(0, KNOTS - table.shape[-1])]
                values[name] = _tuples(np.pad(table, missing).tolist())
        return cls(**values)


def skew_of(above, below):
    """Logarithm of the size of errors below the truth over that of those above it; 0 if both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.log(below / above))


def factors(row, at):
    """Factors at places on `AXES`, by a row of a table of `Calibration`."""
    parts = np.split(row, np.cumsum([len(knots) for knots in AXES])[:-1])
    triples = zip(at, AXES, parts, strict=True)
    return np.exp(sum(np.interp(place, knots, part) for place, knots, part in triples))


def _shares(confidence):
    """Rows of a table, and the shares of them, that make the factor of a confidence.

    Factors grow with the logarithm of what is left out, as those of an exponential distribution
    do: linearly between the known confidences, from nothing below and in proportion beyond them.
    """
    known, wanted = (
        -np.log(np.maximum(1 - np.array(c), LEAST_ALPHA)) for c in (CONFIDENCES, confidence)
    )
    last = len(CONFIDENCES) - 1
    above = int(np.searchsorted(known, wanted))
    if above == 0 or above > last:
        row = min(above, last)
        return [(row, wanted / known[row])]
    share = (wanted - known[above - 1]) / (known[above] - known[above - 1])
    return [(row, s) for row, s in ((above - 1, 1 - share), (above, share)) if s > 0]


def normal_reach(confidence):
    """Number of standard errors to either side that hold a share of a normal distribution.

    As in `Calibration.reaches`, the share is at most ``1 - LEAST_ALPHA``.

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
        As for `Calibration.reaches`, ``(batch, channels)``, in the units of ``estimate``.
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
    elastic = calibration.elastic_error(confidence, regime.given) * peak
    offset = normal_reach(confidence) * np.asarray(common_error)
    common = np.hypot(elastic, offset)
    reaches = calibration.reaches(above, below, confidence, regime)
    down, up = (np.hypot(reach, common) for reach in reaches)
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
    elastic = calibration.elastic_error(STANDARD_CONFIDENCE, regime.given) * peak
    down, up = calibration.reaches(above, below, STANDARD_CONFIDENCE, regime)
    return (0.5 * (down + up)) ** 2 + elastic**2 + common_error**2
