"""How accuracy is measured: errors against a known truth.

Positions and widths are in channels. Every estimate is scored after the one rigid shift of at most one
channel that brings it nearest to the truth, since the energy zero of a response is a convention. The
truth is moved, not the estimate: its zero-loss peak is known exactly and can be put anywhere, and the
losses without it can be moved by parts of a channel, whereas a peak two channels wide would ring.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import shift as spline_shift
from scipy.optimize import minimize_scalar
from scipy.signal import find_peaks, peak_widths

from .physics import gaussian

VISIBLE = 0.3  # times the noise of the data: intervals begin at 0 and hold fainter losses trivially
SIGNIFICANT = 5.0  # predicted standard deviations by which a peak must stand out to be claimed
DIP = 0.05  # depth of the valley between two peaks that are resolved, over the lower of them


@dataclass(frozen=True)
class Errors:
    """Relative errors of one spectrum.

    Attributes
    ----------
    loss : float
        Norm of the error over that of the inelastic truth, one zero-loss width past the peak on.
    near : float
        The same, between one and five widths.
    sqrt : float
        The loss error of the square roots, which weighs weak features.
    """

    loss: float
    near: float
    sqrt: float


def errors(estimate, simulation, resolution, shift=True):
    """Score an estimate of ``simulation.truth(resolution)`` (arrays of ``channels``).

    A negative flat offset is subtracted from the truth first: no method's result has one.

    Parameters
    ----------
    estimate : numpy.ndarray
        In the units of the simulated counts; a positive flat offset is part of it.
    simulation : Simulation
        Holds the truth.
    resolution : float
        FWHM in channels of the Gaussian through which both are seen.
    shift : bool
        Whether to look for the best rigid shift first.

    Returns
    -------
    Errors

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.evaluate import errors
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("bulk", np.random.default_rng(0), channels=512)
    >>> bool(errors(spectrum.truth(4.0), spectrum, 4.0).loss < 1e-6)
    True
    """
    moved = _movable_truth(simulation, resolution)
    inelastic = simulation.inelastic(resolution) - simulation.dark
    start, stop = _loss_region(simulation)
    estimate = np.asarray(estimate, float)
    truth = _nearest(estimate, moved, start) if shift else moved(0.0)
    return relative_errors(estimate, truth, inelastic, start, stop)


def relative_errors(estimate, truth, inelastic, start, stop):
    """Compare an estimate with a truth that lies where it suits the estimate best.

    Parameters
    ----------
    estimate, truth, inelastic : numpy.ndarray
        Estimate, truth, and truth without its zero-loss peak, ``(channels,)``.
    start, stop : int
        The loss region begins in channel ``start``; near losses end before ``stop``.

    Returns
    -------
    Errors
        NaN where there is nothing to compare with.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.evaluate import relative_errors
    >>> truth = np.ones(100)
    >>> relative_errors(4 * truth, truth, truth, 20, 40)
    Errors(loss=3.0, near=3.0, sqrt=1.0)
    """
    root, true_root, inelastic_root = (
        np.sqrt(np.maximum(x, 0)) for x in (estimate, truth, inelastic)
    )

    def relative(difference, reference, stop=None):
        norm = np.linalg.norm(reference[start:stop])
        return float(np.linalg.norm(difference[start:stop]) / norm) if norm > 0 else np.nan

    return Errors(
        relative(estimate - truth, inelastic),
        relative(estimate - truth, inelastic, stop),
        relative(root - true_root, inelastic_root),
    )


def nearest_truth(estimate, truth, start):
    """A truth moved by at most one channel to where an estimate is nearest to it.

    Parameters
    ----------
    estimate, truth : numpy.ndarray
        Shape ``(channels,)``.
    start : int
        The channel from which on they are compared, past the zero-loss peak.

    Returns
    -------
    numpy.ndarray
        ``(channels,)``; what lies before ``start`` stays where it is.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.evaluate import nearest_truth
    >>> from exspy_deepdeconv.physics import gaussian
    >>> estimate, truth = gaussian(128, 60.4, 8.0), gaussian(128, 60.0, 8.0)
    >>> bool(np.abs(nearest_truth(estimate, truth, 20) - estimate).max() < 1e-3)
    True
    """

    def moved(shift):
        return np.concatenate([truth[:start], _moved(truth[start:], shift)]) if shift else truth

    return _nearest(estimate, moved, start)


def _moved(losses, shift):
    """Losses moved by parts of a channel, by splines: they ring neither at the ends nor far from a peak."""
    return spline_shift(losses, shift, order=5, mode="nearest")


def _nearest(estimate, moved, start):
    """``moved(shift)`` for the shift, in channels, that brings it nearest to the estimate."""

    def cost(shift):
        return float(np.sum((moved(shift) - estimate)[start:] ** 2))

    best = minimize_scalar(cost, bounds=(-1, 1), method="bounded", options={"xatol": 0.02})
    return moved(float(best.x) if best.fun < cost(0.0) else 0.0)


@dataclass(frozen=True)
class Coverage:
    """How an interval holds the truth of one spectrum, one zero-loss width past the peak and on.

    Attributes
    ----------
    loss, near : numpy.ndarray
        Channels whose truth lies inside the interval, and all channels, ``(2,)``: of those where
        the losses are visible; of these, those within five widths of the peak. Spectra are pooled
        by adding them up.
    elsewhere : numpy.ndarray
        The same for the channels where no losses are visible.
    width : float
        Root mean square width of the interval, in data units.
    """

    loss: np.ndarray
    near: np.ndarray
    elsewhere: np.ndarray
    width: float


def coverage(estimate, lower, upper, simulation, resolution):
    """Count the channels in which an interval holds the truth.

    Losses are visible where the inelastic truth exceeds 0.3 times the Poisson noise of the data,
    both in electrons.

    Parameters
    ----------
    estimate, lower, upper : numpy.ndarray
        Estimate and ends of its interval, in the units of the simulated counts, ``(channels,)``.
        The truth is moved by the one rigid shift that suits the estimate best.
    simulation : Simulation
        Holds the truth.
    resolution : float
        FWHM in channels of the Gaussian through which all are seen.

    Returns
    -------
    Coverage

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.evaluate import coverage
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> truth = spectrum.truth(4.0)
    >>> found = coverage(truth, 0.9 * truth, 1.1 * truth, spectrum, 4.0)
    >>> bool(found.loss[0] == found.loss[1] > 0)
    True
    """
    start, stop = _loss_region(simulation)
    truth, visible = visible_losses(estimate, simulation, resolution)
    inside = (lower <= truth) & (truth <= upper)
    channel = np.arange(truth.size)
    beyond = channel >= start

    def count(where):
        return np.array([np.sum(inside & where), np.sum(where)])

    return Coverage(
        count(visible),
        count(visible & (channel < stop)),
        count(beyond & ~visible),
        float(np.sqrt(np.mean((np.asarray(upper) - lower)[beyond] ** 2))),
    )


def visible_losses(estimate, simulation, resolution):
    """The truth, moved to where it suits an estimate best, and where its losses are visible.

    Parameters
    ----------
    estimate, simulation, resolution
        As for `coverage`.

    Returns
    -------
    truth : numpy.ndarray
        Without a negative flat offset, not negative, ``(channels,)``.
    visible : numpy.ndarray of bool
        True one zero-loss width past the peak and on, where the inelastic truth exceeds 0.3 times
        the Poisson noise of the data.
    """
    start = _loss_region(simulation)[0]
    nearest = _nearest(np.asarray(estimate, float), _movable_truth(simulation, resolution), start)
    moved = np.maximum(nearest, 0)  # less is rounding: the truth is made by Fourier transforms
    gain = simulation.detector.gain
    electrons = np.maximum(simulation.expected - simulation.dark, 0) / gain
    inelastic = (simulation.inelastic(resolution) - simulation.dark) / gain
    visible = inelastic > VISIBLE * np.sqrt(electrons)
    return moved, visible & (np.arange(moved.size) >= start)


def false_peaks(estimate, sigma, simulation, resolution):
    """Count the peaks of an estimate that the truth does not have.

    A peak is claimed where a local maximum, one zero-loss width past the zero-loss peak or
    farther, stands out by 5 predicted standard deviations. It is false if the truth has no
    maximum (of a standard deviation at least) over the width of the peak at half its
    prominence, nor within one zero-loss width.

    Parameters
    ----------
    estimate, sigma : numpy.ndarray
        Estimate and its predicted standard deviation in each channel, ``(channels,)``.
    simulation : Simulation
        Holds the truth.
    resolution : float
        FWHM in channels of the Gaussian through which both are seen.

    Returns
    -------
    int

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.evaluate import false_peaks
    >>> from exspy_deepdeconv.physics import gaussian
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("featureless", np.random.default_rng(0), channels=512)
    >>> truth, sigma = spectrum.truth(4.0), 0.01 * spectrum.truth(4.0).max() * np.ones(512)
    >>> wrong = truth + truth.max() * gaussian(512, 400.0, 4.0)
    >>> false_peaks(truth, sigma, spectrum, 4.0), false_peaks(wrong, sigma, spectrum, 4.0)
    (0, 1)
    """
    start, _ = _loss_region(simulation)
    estimate, sigma, truth = (
        np.asarray(x, float)[start:] for x in (estimate, sigma, simulation.truth(resolution))
    )
    true, _ = find_peaks(truth, prominence=np.maximum(sigma, 1e-300))
    claimed, _ = find_peaks(estimate, prominence=np.maximum(SIGNIFICANT * sigma, 1e-300))
    _, _, left, right = peak_widths(estimate, claimed)
    left = np.minimum(left, claimed - simulation.fwhm)
    right = np.maximum(right, claimed + simulation.fwhm)
    known = (left[:, None] <= true) & (true <= right[:, None])
    return int(np.sum(~known.any(axis=1)))


def resolves(estimate, positions):
    """Whether an estimate shows two peaks, each nearer to its own true position.

    Parameters
    ----------
    estimate : numpy.ndarray
        Shape ``(channels,)``.
    positions : sequence of float
        True positions of both peaks, in channels.

    Returns
    -------
    bool
        True if there is a local maximum within half the separation of each position and the valley
        between them is at least 5 % deep, measured by the lower maximum.

    Examples
    --------
    >>> from exspy_deepdeconv.evaluate import resolves
    >>> from exspy_deepdeconv.physics import gaussian
    >>> def doublet(width):
    ...     return gaussian(128, 60.0, width) + gaussian(128, 70.0, width)
    >>> resolves(doublet(6.0), (60.0, 70.0)), resolves(doublet(14.0), (60.0, 70.0))
    (True, False)
    """
    estimate, positions = np.asarray(estimate, float), np.sort(positions)
    tops, _ = find_peaks(estimate)
    reach = np.diff(positions)[0] / 2
    highest = []
    for position in positions:
        nearby = tops[np.abs(tops - position) < reach]
        if not nearby.size:
            return False
        highest.append(int(nearby[np.argmax(estimate[nearby])]))
    valley = estimate[highest[0] : highest[1] + 1].min()
    return bool(valley < (1 - DIP) * estimate[highest].min())


def _movable_truth(simulation, resolution):
    """The truth as a function of its shift in channels.

    A negative offset is subtracted, since no result has one.
    """
    losses = simulation.inelastic(resolution) - min(simulation.dark, 0.0)

    def moved(shift):
        peak = gaussian(losses.size, simulation.position + shift, resolution)
        return (_moved(losses, shift) if shift else losses) + simulation.elastic_counts * peak

    return moved


def _loss_region(simulation):
    """First channel of the loss region, and the one past five zero-loss widths."""
    return tuple(int(np.ceil(simulation.position + widths * simulation.fwhm)) for widths in (1, 5))
