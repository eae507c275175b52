"""Several methods on one signal: their results, a table and a figure.

Imported inside the methods, not by ``import hyperspy.api``.
"""

import re
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from prettytable import PrettyTable

from . import _arguments, models
from ._signals import checks, responses, sampling
from ._signals.inputs import Input
from ._signals.scoring import Sample, few_of

KNOWN = ("deep", "rl", "ml", "fourier", "tgv")
AT_A_RESOLUTION = ("deep", "fourier")  # the others need none
MAX_SCORED = 64  # spectra of a map that the figures of the table are read from


@dataclass(frozen=True, repr=False)
class Comparison:
    """What ``compare_deconvolution`` returns.

    Attributes
    ----------
    signals : dict of str to EELSSpectrum
        The data (``"data"``) and the results of the methods that did not fail.
    scores : dict of str to exspy_deepdeconv._signals.scoring.Scores
        Of the data and of every method.
    psf, truth : EELSSpectrum or None
        The response that the results are blurred with, and the truth, if given.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> s = data.exciton_spectrum()
    >>> comparison = s.compare_deconvolution(("deep",), show_progressbar=False)
    >>> comparison.table().field_names[:3]
    ['method', 'time (s)', 'resolution (eV)']
    """

    signals: dict
    scores: dict
    psf: object = None
    truth: object = None

    def __repr__(self):
        """One line; `print` and notebooks show the table."""
        return f"<Comparison of {', '.join(self.scores)}>"

    def __str__(self):
        """The table."""
        return str(self.table())

    def _repr_html_(self):
        return self.table().get_html_string()

    def table(self):
        """The figures of all methods.

        Returns
        -------
        prettytable.PrettyTable
            One row for each method; the columns are told in
            ``exspy_deepdeconv._signals.scoring.Scores``. A chi2 far below 1, with a whiteness far below
            0, is no merit: such a result follows the noise.
        """
        columns = {
            "time (s)": "seconds",
            "resolution (eV)": "resolution",
            "noise gain": "noise_gain",
            "chi2": "chi2",
            "whiteness": "whiteness",
        }
        if self.truth is not None:
            columns |= {f"{name} error": name for name in ("loss", "near", "sqrt")}
        failed = any(scores.failure for scores in self.scores.values())
        table = PrettyTable(["method", *columns, *(["failure"] if failed else [])], align="r")
        table.align["method"] = table.align["failure"] = "l"
        table.max_width["failure"] = 60
        for name, scores in self.scores.items():
            values = [getattr(scores, attribute) for attribute in columns.values()]
            cells = ["" if np.isnan(value) else f"{value:.3g}" for value in values]
            table.add_row([name, *cells, *([scores.failure] if failed else [])])
        return table

    def plot(self, ax=None, *, index=None, log=True, energy_range=None):
        """Draw the spectra of one pixel, and below what each result leaves unexplained.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or pair of them, optional
            Where to draw; room for the residuals is taken from a single one. A new figure by
            default.
        index : tuple of int, optional
            The pixel of a map, as for ``.inav``; by default the one where the navigator of the
            data stands, or, if there is no zero-loss peak, of 64 spread over the map the first
            that has one.
        log : bool
            Logarithmic counts.
        energy_range : (float, float), optional
            Part of the energy axis to show, in its units.

        Returns
        -------
        tuple of matplotlib.axes.Axes
            That of the spectra and that of the residuals.

        Raises
        ------
        ValueError
            If `index` is no pixel of the map.
        """
        from .plotting import plot_comparison

        data = self.signals["data"]
        shape = data.axes_manager.navigation_shape
        index = _shown_pixel(data) if index is None else index
        index = tuple(index) if isinstance(index, (tuple, list, np.ndarray)) else (index,)
        if not all(map(_arguments.is_whole, index)):
            raise ValueError(f"index={index} must hold whole numbers.")
        if len(index) != len(shape):
            raise ValueError(f"index={index} must hold {len(shape)} numbers, for the map {shape}.")
        if not all(-size <= i < size for i, size in zip(index, shape, strict=True)):
            raise ValueError(f"index={index} lies outside of the map {shape}.")
        spectra = {name: _pixel(signal, index) for name, signal in self.signals.items()}
        psf = None if self.psf is None else _pixel(self.psf, index)
        residuals = {}
        for name, spectrum in spectra.items():
            if name != "data" and _is_usable(spectra["data"]):
                residuals[name] = spectra["data"].deconvolution_residual(
                    spectrum, psf, show_progressbar=False
                )
        if self.truth is not None:
            spectra["truth"] = _pixel(self.truth, index)
        axes = plot_comparison(spectra, residuals, ax, log=log, energy_range=energy_range)
        for line in axes[0].lines:
            if line.get_label() in ("deep", "truth"):  # noisier ones would cover them
                line.set_zorder(line.get_zorder() + 0.5)
        return axes


def _shown_pixel(data):
    """Where the navigator stands, or the first of some pixels that has a zero-loss peak."""
    here = data.axes_manager.indices
    shape = data.axes_manager.navigation_shape
    if not shape or _is_usable(_pixel(data, here)):
        return here
    places = sampling.spread_over(np.argwhere(np.ones(shape, bool)), MAX_SCORED)
    places = [tuple(place) for place in places.tolist()]
    return next((place for place in places if _is_usable(_pixel(data, place))), here)


def _is_usable(spectrum):
    """Whether it has a zero-loss peak: an empty pixel has no residuals to be shown."""
    mask, axis = np.zeros((), dtype=bool), checks.check_energy_axis(spectrum)
    try:
        sampling.typical_zero_loss(spectrum.data, mask, axis.reversed)
    except ValueError:
        return False
    return True


def _pixel(signal, index):
    """One spectrum of a map, in memory."""
    spectrum = signal.inav[index] if signal.axes_manager.navigation_dimension else signal
    if spectrum._lazy:
        spectrum = spectrum.deepcopy()
        spectrum.compute(show_progressbar=False)
    return spectrum


def compare(
    signal, methods, psf, truth, resolution, *, model, show_progressbar, num_workers, lazy_output
):
    """Run the methods and score them; see ``compare_deconvolution`` for the arguments.

    Returns
    -------
    Comparison
    """
    _arguments.check_num_workers(num_workers)
    resolutions, places, axis = _checked(signal, check_methods(methods), psf, truth, resolution)
    psf = responses.without_map(psf)
    lazy_output = checks.wants_lazy(signal, lazy_output)
    model = models.load(model)  # torch comes with it: not to be timed
    options = {"show_progressbar": show_progressbar, "num_workers": num_workers}
    runner = _Runner(resolutions, model, options)

    with _warnings_at_the_call():
        used, outcomes = runner.run_all(signal, psf, lazy_output)
    few, few_truth, few_psf = (few_of(x, places) for x in (signal, truth, psf))
    if lazy_output:  # what can be timed and scored at once
        with _warnings_at_the_call():
            few_used, scored = runner.run_all(few, few_psf, lazy=False)
    else:
        few_used = few_of(used, places)
        scored = {name: o._replace(result=few_of(o.result, places)) for name, o in outcomes.items()}
    sample = Sample(few, few_psf, few_used, few_truth, axis)
    scores = {"data": sample.scores_of_data()} | {
        name: sample.scores(runner, name, outcome) for name, outcome in scored.items()
    }
    signals = {"data": signal} | {
        name: outcome.result for name, outcome in outcomes.items() if not outcome.failure
    }
    return Comparison(signals, scores, used, truth)


def _checked(signal, methods, psf, truth, resolution):
    """Check all arguments; the resolution of each method in eV, places to score, energy axis."""
    _arguments.check_resolution_number(resolution)
    given = Input.of(signal, psf)
    if truth is not None:
        checks.check_like(truth, signal, "truth", stacklevel=5)
    width, dispersion = given.zero_loss.fwhm, given.axis.dispersion
    if np.isnan(width):
        raise ValueError("The signal holds no spectra: there is nothing to compare.")
    reached = _arguments.check_resolution(resolution, width, dispersion) * dispersion
    resolutions = {
        name: reached if name in AT_A_RESOLUTION or resolution is not None else None
        for name in methods
    }
    usable = sampling.usable_places(given.data, given.mask, given.axis.reversed)
    return resolutions, sampling.spread_over(usable, MAX_SCORED), given.axis


def check_methods(methods):
    """The names of methods without repetition; a ValueError names what is unknown."""
    try:
        names = (methods,) if isinstance(methods, str) else tuple(methods)
    except TypeError:
        raise ValueError(
            f"methods={methods!r} must be names; the known ones are {', '.join(KNOWN)}."
        ) from None
    for name in names:
        if name not in KNOWN:
            raise ValueError(f"methods holds {name!r}; the known ones are {', '.join(KNOWN)}.")
    if not names:
        raise ValueError(f"methods is empty; the known ones are {', '.join(KNOWN)}.")
    return tuple(dict.fromkeys(names))


@contextmanager
def _warnings_at_the_call():
    """Let the methods' warnings name the line that called ``compare_deconvolution``."""
    heard = []
    try:
        with warnings.catch_warnings(record=True) as heard:
            yield
    finally:
        _say_again(heard)


def _say_again(heard):
    for warning in heard:
        if re.match(r"\w+_deconvolve: |estimate_psf: ", str(warning.message)):
            # Of this function, the generator, contextlib, `compare`, the method and its caller.
            warnings.warn(warning.message, stacklevel=6)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


class _Outcome(NamedTuple):
    """A result and the seconds it took, or why there is none."""

    result: object = None
    seconds: float = np.nan
    failure: str = ""


@dataclass(frozen=True)
class _Runner:
    """Runs methods by name; ``resolutions`` in eV, None where a method needs none."""

    resolutions: dict
    model: models.Model
    options: dict

    @property
    def has_own_model(self):
        """Whether it is not the one that the classical methods take by themselves."""
        return self.model is not models.load()

    def response(self, signal, **options):
        """The response that the model reads."""
        return signal.estimate_psf(model=self.model, **self.options | options)

    def run(self, signal, name, psf, **options):
        """The result of one method."""
        method, own = getattr(signal, f"{name}_deconvolve"), {}
        if name == "deep":
            own["model"] = self.model
        elif psf is None and self.has_own_model:
            psf = self.response(signal, **options)
        checked = _arguments.RESOLUTION_IS_CHECKED.set(True)
        try:
            resolution = self.resolutions[name]
            return method(psf=psf, resolution=resolution, **own, **self.options | options)
        finally:
            _arguments.RESOLUTION_IS_CHECKED.reset(checked)

    def run_all(self, signal, psf, lazy):
        """The response that results are to be blurred with, and the outcomes of all methods.

        One estimate of the response serves all classical methods; in a lazy signal it would be
        computed anew for each anyway.
        """
        start = time.perf_counter()
        shared = psf
        if psf is None and (not lazy or self.has_own_model):
            shared = self.response(signal, lazy_output=lazy)
        before = time.perf_counter() - start
        outcomes = {}
        for name in self.resolutions:
            own = psf if name == "deep" else shared
            start = time.perf_counter()
            try:
                result = self.run(signal, name, own, lazy_output=lazy)
            except Exception as error:  # whatever one method stumbles over, the others go on
                reason = " ".join(str(error).split())
                outcomes[name] = _Outcome(failure=f"{type(error).__name__}: {reason}")
                continue
            seconds = time.perf_counter() - start + (before if own is not psf else 0)
            outcomes[name] = _Outcome(result, seconds)
        return shared, outcomes
