"""The methods that accuracy is measured of: ``f(simulation, resolution, model) -> Errors``.

All but the blind one are given the exact, noise-free response; "reflected tail" is oracle
Richardson-Lucy with the tail of the gain side on both sides (`oracles.reflected_tail`). What has no
resolution of its own is smoothed to the one asked for, as the signal methods do. A result that is not
finite is infinitely wrong.
"""

import numpy as np
from scipy.stats import bootstrap

from exspy_deepdeconv import classical, evaluate, models
from exspy_deepdeconv.bounds import oracles
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.physics import smooth

MEASURES = ("loss", "sqrt", "near")
INTERVAL = 0.9
SIGMAS = 2 * 1.6449  # standard deviations across an interval of 90 %


def exspy_richardson_lucy(counts, psf, iterations=15):
    """What exspy's own method makes of a spectrum."""
    from exspy.signals import EELSSpectrum  # logs when imported, unless told not to before

    start = (psf.size - counts.shape[-1]) // 2
    response = EELSSpectrum(psf[start : start + counts.shape[-1]])
    signal = EELSSpectrum(np.asarray(counts, float))
    return signal.richardson_lucy_deconvolution(response, iterations, show_progressbar=False).data


def estimate(simulation, resolution, model, given=False):
    """The network's estimate, blind or with the response given, and its 90 % interval."""
    psf = simulation.psf if given else None
    found, _, lower, upper = deconvolve_block(
        simulation.counts,
        model=models.load(model),
        resolution=resolution,
        dispersion=simulation.dispersion,
        psf=psf,
        interval=INTERVAL,
    )
    return found, lower, upper


def _raw(simulation, resolution, model):
    return oracles.raw_errors(simulation, resolution)


def _exspy(simulation, resolution, model):
    found = exspy_richardson_lucy(simulation.counts, simulation.psf)
    if not np.isfinite(found).all():
        return evaluate.Errors(np.inf, np.inf, np.inf)
    return evaluate.errors(smooth(found, resolution), simulation, resolution)


def _automatic(simulation, resolution, model):
    found = classical.richardson_lucy(simulation.counts, simulation.psf, "auto")
    return evaluate.errors(smooth(found, resolution), simulation, resolution)


def _oracle_rl(simulation, resolution, model):
    return oracles.oracle_richardson_lucy(simulation, resolution)


def _reflected_tail(simulation, resolution, model):
    return oracles.oracle_richardson_lucy(oracles.reflected_tail(simulation), resolution)


def _oracle_fourier(simulation, resolution, model):
    return oracles.oracle_fourier(simulation, resolution)


def _oracle_tgv(simulation, resolution, model):
    return oracles.oracle_total_generalised_variation(simulation, resolution)


def _blind(simulation, resolution, model):
    return evaluate.errors(estimate(simulation, resolution, model)[0], simulation, resolution)


def _given(simulation, resolution, model):
    found = estimate(simulation, resolution, model, given=True)[0]
    return evaluate.errors(found, simulation, resolution)


METHODS = {
    "raw": _raw,
    "exspy RL-15": _exspy,
    "automatic RL": _automatic,
    "oracle RL": _oracle_rl,
    "reflected tail": _reflected_tail,
    "oracle Fourier": _oracle_fourier,
    "oracle TGV": _oracle_tgv,
    "ours, blind": _blind,
    "ours, given": _given,
}
OURS = ("ours, blind", "ours, given")
RIVALS = tuple(name for name in METHODS if name not in OURS)


def all_errors(simulation, resolution, model, names=tuple(METHODS)):
    """Errors of each method, keyed by its name."""
    return {name: METHODS[name](simulation, resolution, model) for name in names}


def ratio(cases, name, unit, measure="loss"):
    """Ratio of two methods' median errors +- standard error (median of the cases' own ratios)."""
    ours, theirs = (
        np.array([getattr(case[each], measure) for case in cases]) for each in (name, unit)
    )
    known = np.isfinite(ours) & np.isfinite(theirs)  # some have no losses there
    ours, theirs = ours[known], theirs[known]
    error = _standard_error(ours, theirs) if len(ours) > 1 else np.nan
    whole, own = _ratio_of_medians(ours, theirs), np.median(ours / theirs)
    return f"{whole:.2f} +- {error:.2f} ({own:.2f})"


def _standard_error(ours, theirs):
    settings = dict(paired=True, method="percentile", n_resamples=999, rng=0)
    return bootstrap((ours, theirs), _ratio_of_medians, **settings).standard_error


def _ratio_of_medians(ours, theirs, axis=-1):
    return np.median(ours, axis=axis) / np.median(theirs, axis=axis)
