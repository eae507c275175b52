"""What a fine-tuning gained on its instrument, and cost on others: the same cases before and after it."""

from functools import partial

import numpy as np

from ..models import Model
from .monitor import SCENES, fixed_cases, loss_error, simulation_of

# Errors of single cases change by a quarter and more to either side: so many tell the mean to a few per cent.
CASES = 128  # on the instrument
SCENE_CASES = 16  # of each scene, on other instruments
SURE = 2.0  # standard errors


def gains(start, network, instrument, device):
    """Ratios of blind loss errors, after over before, of the same simulated spectra.

    Parameters
    ----------
    start : Model
        What was started from.
    network : DeconvolutionNet
        What came out.
    instrument : callable
        ``instrument(rng)`` gives a `~exspy_deepdeconv.simulate.Simulation` of the instrument.
    device : str
        Where both are run.

    Returns
    -------
    dict of str to dict
        For the ``instrument``, for each scene and for all of these together (``other instruments``): the
        geometric mean of the cases' own ratios (``ratio``), its standard error (``error``) and the number of
        ``cases``.
    """
    compared = partial(_log_ratios, start, Model("fine-tuned", "", network, {}), device)
    own = compared(instrument, len(SCENES), CASES)  # a scene more
    scenes = {
        scene: compared(partial(simulation_of, scene), number, SCENE_CASES)
        for number, scene in enumerate(SCENES)
    }
    others = np.concatenate(list(scenes.values()))
    logs = {"instrument": own, "other instruments": others} | scenes
    return {name: _mean_ratio(values) for name, values in logs.items()}


def in_words(gain):
    """A ratio of `gains` with its standard error.

    Examples
    --------
    >>> from exspy_deepdeconv.training.gain import in_words
    >>> in_words({"ratio": 0.912, "error": 0.023, "cases": 128})
    '0.912 ± 0.023'
    """
    return f"{gain['ratio']:.3f} ± {gain['error']:.3f}"


def of_no_gain(gain):
    """A sentence where the error on the instrument did not fall, or where that cannot be told; else none.

    Parameters
    ----------
    gain : dict
        One of `gains`.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from exspy_deepdeconv.training.gain import of_no_gain
    >>> of_no_gain({"ratio": 0.912, "error": 0.023, "cases": 128})
    []
    """
    ratio, margin = gain["ratio"], SURE * gain["error"]
    if ratio + margin < 1:
        return []
    found = f"({in_words(gain)} of what it was, {gain['cases']} cases)"
    where = "on simulations of this instrument"
    if ratio - margin >= 1:
        return [
            f"{where} the loss error did not fall {found}: use the model that it started from, or give it "
            "more time."
        ]
    return [f"{where} it cannot be told whether the loss error fell {found}: give it more time."]


def _log_ratios(before, after, device, make, scene, number):
    """Logarithms of the errors' ratios, one for each case."""
    return np.array(
        [
            np.log(loss_error(after, device, *case) / loss_error(before, device, *case))
            for case in fixed_cases(make, scene, number)
        ]
    )


def _mean_ratio(logs):
    ratio = float(np.exp(logs.mean()))
    error = ratio * float(logs.std(ddof=1)) / np.sqrt(logs.size)
    return {"ratio": ratio, "error": float(error), "cases": int(logs.size)}
