"""Figures by which ``compare_deconvolution`` judges results, read from a few spectra of a map.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from hyperspy.signal import BaseSignal

from .. import physics
from ..evaluate import nearest_truth, relative_errors
from ..response import residual
from . import checks, results, sampling

LOWEST = 1e-3  # of the height of a peak: what is lower does not matter to its width
MAX_PROBED = 8  # spectra that are deconvolved once more with added noise


@dataclass(frozen=True)
class Scores:
    """A line of the table: medians over spectra spread over the map, NaN where not known.

    Attributes
    ----------
    seconds : float
        Time for the whole signal (for the scored spectra, where the results are lazy), that for
        the estimate of the response included.
    resolution : float
        Full width at half maximum of the zero-loss peak of the result, in eV.
    noise_gain : float
        How much of added white noise, as strong as that of the data, comes out: root mean square
        of the change of the result over that of the data, in the loss region.
    chi2, whiteness : float
        As ``deconvolution_residual`` gives them: near 1 and 0 where a result explains the data. Below, it
        follows the noise.
    loss, near, sqrt : float
        Norm of the error over that of the inelastic truth in the loss region, within five
        zero-loss widths of the peak, and of the square roots.
    failure : str
        Why there is no result.
    """

    seconds: float = np.nan
    resolution: float = np.nan
    noise_gain: float = np.nan
    chi2: float = np.nan
    whiteness: float = np.nan
    loss: float = np.nan
    near: float = np.nan
    sqrt: float = np.nan
    failure: str = ""


class Sample:
    """A few spectra with all that is needed to score results on them.

    Parameters
    ----------
    signal : EELSSpectrum
        A line of spectra, as from `few_of`.
    psf : EELSSpectrum or None
        The response that the methods are given.
    used : EELSSpectrum or None
        The response that results are blurred with.
    truth : EELSSpectrum or None
        What the results should be.
    axis : EnergyScale
        From the checks.
    """

    def __init__(self, signal, psf, used, truth, axis):
        self.signal, self.psf, self.used, self.axis = signal, psf, used, axis
        self.counts = self.rising(signal)
        self.truth = None if truth is None else self.rising(truth)
        self.seen = physics.inspect(self.counts)
        found = self.seen.zero_loss
        self.start = np.nan_to_num(np.ceil(found.position + found.fwhm))

    def rising(self, signal):
        """Data in order of rising energy, double precision."""
        return np.asarray(signal.data[..., :: -1 if self.axis.reversed else 1], float)

    def scores_of_data(self):
        """The data as they are, for comparison."""
        found = self.seen.zero_loss
        return Scores(
            resolution=_median(found.fwhm) * self.axis.dispersion,
            noise_gain=1.0,
            **self.errors(self.counts),
        )

    def scores(self, runner, name, outcome):
        """The figures of one method."""
        if outcome.result is None:
            return Scores(failure=outcome.failure)
        estimate = self.rising(outcome.result)
        with warnings.catch_warnings():  # of flagged spectra: the method itself has warned
            warnings.simplefilter("ignore")
            _, chi2, whiteness = self.signal.deconvolution_residual(
                outcome.result, self.used, return_maps=True, show_progressbar=False
            )
            return Scores(
                seconds=outcome.seconds,
                resolution=self.zero_loss_width(estimate) * self.axis.dispersion,
                noise_gain=self.noise_gain(runner, name, estimate),
                chi2=_median(chi2.data),
                whiteness=_median(whiteness.data),
                **self.errors(estimate),
            )

    def zero_loss_width(self, estimate):
        """Median width of the zero-loss peaks of a result, in channels."""
        found = self.seen.zero_loss
        distance = np.arange(estimate.shape[-1]) - found.position[:, None]
        good = self.seen.usable & np.isfinite(estimate).all(axis=-1)
        near = np.where(np.abs(distance) < found.fwhm[:, None], estimate, -np.inf)[good]
        tops = near.argmax(axis=-1)
        return _median([_peak_width(*both) for both in zip(estimate[good], tops, strict=True)])

    def noise_gain(self, runner, name, estimate):
        """Root mean square of what added noise changes in a result, over that of the noise."""
        rows = sampling.spread_over(np.flatnonzero(self.seen.usable), MAX_PROBED)
        if not rows.size:
            return np.nan
        seen = self.seen.select(rows)
        variance = residual.expected_variance(seen.counts, seen.noise, seen.zero_loss.fwhm)
        rng = np.random.default_rng(0)
        noise = np.sqrt(variance) * rng.standard_normal(variance.shape)
        probe = _take(self.signal, rows)
        noisy = self.counts[rows] + noise
        probe.data = noisy[..., :: -1 if self.axis.reversed else 1].astype(
            np.result_type(self.signal.data.dtype, np.float32)
        )
        psf = self.psf
        if psf is not None and psf.axes_manager.navigation_dimension:
            psf = _take(psf, rows)
        try:
            changed = runner.run(probe, name, psf, show_progressbar=False, lazy_output=False)
        except Exception:  # the result itself is there: only this figure is not known
            return np.nan
        change = self.rising(changed) - estimate[rows]
        loss = np.arange(change.shape[-1]) >= self.start[rows][:, None]

        def power(x):
            return np.where(loss, x**2, 0).sum(axis=-1)

        with np.errstate(divide="ignore", invalid="ignore"):
            return _median(np.sqrt(power(change) / power(noise)))

    def errors(self, estimate):
        """Median errors against the truth, each spectrum after its best shift."""
        if self.truth is None:
            return {}
        rows = np.flatnonzero(self.seen.usable & np.isfinite(estimate).all(axis=-1))
        errors = [self._errors_of_one(estimate[row], row) for row in rows]
        return {
            name: _median([getattr(e, name) for e in errors]) for name in ("loss", "near", "sqrt")
        }

    def _errors_of_one(self, estimate, row):
        truth, start = self.truth[row], int(self.start[row])
        stop = start + int(np.ceil(4 * self.seen.zero_loss.fwhm[row]))
        peak = physics.find_zero_loss(truth)
        inelastic = truth
        if np.isfinite(peak.fwhm):
            area = peak.height * peak.fwhm * np.sqrt(np.pi / np.log(16))
            inelastic = truth - area * physics.gaussian(truth.size, peak.position, peak.fwhm)
        truth = nearest_truth(estimate, truth, start)
        return relative_errors(estimate, truth, inelastic, start, stop)


def _peak_width(spectrum, top):
    """Full width at half maximum of a peak, in channels; NaN where it is cut off.

    Between channels, the logarithms lie on parabolas, as those of a Gaussian do. Straight lines would make
    one that is two channels wide up to a sixth wider.
    """
    if not (0 < top < spectrum.size - 1 and spectrum[top] > 0):
        return np.nan
    logs = np.log(np.maximum(spectrum, LOWEST * spectrum[top]))
    before, highest, after = logs[top - 1 : top + 2]
    bend, slope = (before + after) / 2 - highest, (after - before) / 2
    if bend < 0 and abs(slope) < -2 * bend:  # the vertex is no farther than the next channel
        highest -= slope**2 / (4 * bend)
    half = logs - highest + np.log(2)
    return _first_crossing(half, top, 1) + _first_crossing(half, top, -1)


def _first_crossing(values, top, step):
    """Distance from a channel to where values become negative, in steps; NaN where they do not."""
    negative = np.flatnonzero(values[top::step] < 0)
    if not negative.size:
        return np.nan
    number = negative[0]
    three = values[[top + step * (number + x) for x in (-2, -1, 0)]]
    roots = np.roots(np.polyfit((-2, -1, 0), three, 2))
    return number + float(roots.real[np.abs(roots + 0.5).argmin()])


def few_of(signal, places):
    """The spectra at these places of a map as a line; what is one for all stays as it is."""
    if signal is None or (len(places[0]) and not signal.axes_manager.navigation_dimension):
        return signal
    return _line(signal, sampling.read_spectra(checks.plain_array(signal), places), places)


def _take(line, rows):
    """Some spectra of a line."""
    return _line(line, line.data[rows], rows[:, None])


def _line(signal, spectra, places):
    """Spectra of a signal as a line of their own, with its metadata and noise."""
    from exspy.signals import EELSSpectrum

    energy = signal.axes_manager.signal_axes[0].get_axis_dictionary()
    line = EELSSpectrum(spectra, axes=[{"size": len(spectra), "navigate": True}, energy])
    variance = signal.get_noise_variance()
    metadata = signal.metadata.deepcopy()
    if isinstance(variance, BaseSignal):
        del metadata.Signal.Noise_properties
    line.metadata.add_dictionary(metadata.as_dictionary())
    _pick_flags(line, signal.data.shape[:-1], places)
    if isinstance(variance, BaseSignal):
        line.set_noise_variance(few_of(variance, places))
    return line


def _pick_flags(line, shape, places):
    """Leave of each map of flags what belongs to the spectra of a line; they lay at these places."""
    for _, note in line.metadata.Signal:
        maps = note.get_item("flags.maps") if hasattr(note, "get_item") else None
        if maps is None:
            continue
        note.set_item("places", results.places(line))
        for name, raised in maps.as_dictionary().items():
            if raised.shape == shape:  # else the signal was cropped since: it is not known which
                maps.set_item(name, raised[tuple(places.T)])


def _median(values):
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan
