"""Make the intervals of a trained network honest: quantiles of errors in simulations.

    python -m exspy_deepdeconv.training.calibrate runs/mine/mine.safetensors --output FILE

The spectra are of the scenes that accuracy is measured on, with a seed that is used for nothing else.
"""

import argparse
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from .. import models, physics
from .._arguments import is_whole
from ..estimate import intervals
from ..estimate.binning import answer_of, channels_in_bins
from ..estimate.forward import (
    batch_of,
    centred,
    error_sizes,
    parts,
    quick_and_quiet,
    regime,
    tails_of,
)
from ..estimate.intervals import CONFIDENCES, Calibration
from ..evaluate import visible_losses
from ..inference import check_device
from ..network import SHARPENINGS
from ..physics import MIN_RESOLUTION_CHANNELS
from ..simulate import simulate
from .handed import noisy_response
from .monitor import SCENES
from .quantiles import conform, fit_factors

SEED = 20_240_229  # of no other set
LENGTHS = (512, 1024, 2048, 4096)
NEAR = 5.0  # zero-loss widths from the peak
CHANNELS = 20  # of each kind that are looked at in a spectrum: neighbours err alike


@dataclass(frozen=True)
class Channels:
    """Channels of one spectrum, and what their intervals would need.

    Attributes
    ----------
    scene : str
        Where it is from.
    needed : numpy.ndarray
        Factors on the predicted sizes that would just bring the truth into the interval: for errors
        above the truth and below it, for each confidence, ``(2, confidences, channels)``.
    at : numpy.ndarray
        What factors depend on, `exspy_deepdeconv.estimate.intervals.AXES`, ``(4, channels)``.
    stands_for : numpy.ndarray
        For how many channels of the spectrum each one stands: of all with visible losses, and of those
        near the peak, ``(2, channels)``.
    """

    scene: str
    needed: np.ndarray
    at: np.ndarray
    stands_for: np.ndarray


def calibrate(model, cases=64, seed=SEED, device=None):
    """Find the factors under which intervals hold the wanted share of the truth.

    For channels with visible losses (`exspy_deepdeconv.evaluate.visible_losses`), the factor that
    would just bring the truth into the interval is noted, at sharpenings F/R of 2, 4, 8 and 16.
    Quantiles of these are fitted for either side (`exspy_deepdeconv.training.quantiles`). All scenes
    count alike, and in each the channels near the peak as much as all. (Where no losses are visible,
    intervals begin at 0 and hold the truth trivially: fitted to such channels, too, they would become
    narrower, and false peaks would stand out.)

    Parameters
    ----------
    model : Model
        What is calibrated.
    cases : int
        Simulated spectra of each scene.
    seed : int
        Their seed.
    device : str, optional
        A torch device.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        If an argument cannot be used.

    References
    ----------
    Y. Romano, E. Patterson, E. Candès, "Conformalized quantile regression", NeurIPS 2019.

    Examples
    --------
    >>> from exspy_deepdeconv import models
    >>> from exspy_deepdeconv.training.calibrate import calibrate
    >>> found = calibrate(models.load(), cases=1)
    >>> bool(found.elastic_error(0.9) > 0)
    True
    """
    for name, value, least in (("cases", cases, 1), ("seed", seed, 0)):
        if not (is_whole(value) and value >= least):
            raise ValueError(f"{name}={value!r} must be a whole number from {least}.")
    check_device(device)
    found = {False: [], True: []}
    elastic = {False: [], True: []}
    for simulation, rng in _simulations(cases, seed):
        for given in (False, True):
            channels, error = _of_one(model, simulation, rng, given, device)
            found[given].extend(channels)
            elastic[given].extend(error)
    blind, given = (_table(found[given]) for given in (False, True))
    shares = [np.quantile(elastic[given], CONFIDENCES).tolist() for given in (False, True)]
    return Calibration.from_dict({"blind": blind, "given": given, "elastic": shares})


def _simulations(cases, seed):
    for number, scene in enumerate(SCENES):
        rng = np.random.default_rng([seed, number, 1])
        for _ in range(cases):
            yield simulate(scene, rng, int(rng.choice(LENGTHS))), rng


def _of_one(model, simulation, rng, given, device):
    """`Channels` of a spectrum at each sharpening, and the error of its elastic counts; or nothing."""
    seen = physics.inspect(simulation.counts[None])
    if not seen.usable[0]:
        return [], []
    psf = None
    if given:
        psf = centred(noisy_response(simulation.psf, rng)[None], simulation.counts.size)
    with quick_and_quiet(device, model) as (where, network):
        spectra, _ = batch_of(seen, seen.usable, psf, where)
        answer_on = cache(partial(answer_of, network, spectra))  # most ratios have one
        if given and not tails_of(answer_on(1), seen, seen.usable).trusted[0]:
            return [], []  # not one that is trusted
        channels = [
            _channels(answer_on, seen, spectra, simulation, ratio, rng) for ratio in SHARPENINGS
        ]
        answer = answer_on(1)
        *_, unit = parts(answer, seen, seen.usable, spectra, answer.finest)
    counts = float(answer.elastic_counts[0]) * unit[0]
    return channels, [abs(counts / simulation.elastic_counts - 1)]


def _channels(answer_on, seen, spectra, simulation, ratio, rng):
    """Some of the channels with visible losses, and what they need, as `Channels`."""
    needed, at, visible = _needed(answer_on, seen, spectra, simulation, ratio)
    near = np.arange(visible.size) < simulation.position + NEAR * simulation.fwhm
    kinds = visible, visible & near
    drawn, stands_for = [], []
    for number, kind in enumerate(kinds):
        some = rng.permutation(np.flatnonzero(kind))[:CHANNELS]
        drawn.append(some)
        stands_for.append(np.zeros((len(kinds), some.size)))
        stands_for[-1][number] = kind.sum() / max(some.size, 1)
    chosen = np.concatenate(drawn)
    return Channels(simulation.family, needed[..., chosen], at[:, chosen], np.hstack(stands_for))


def _needed(answer_on, seen, spectra, simulation, ratio):
    """Factors that all channels need, where they are, and whether their losses are visible."""
    resolution = max(float(seen.zero_loss.fwhm[0]) / ratio, MIN_RESOLUTION_CHANNELS)
    number = channels_in_bins(seen.zero_loss.fwhm, simulation.counts.size, resolution)
    answer = answer_on(int(number[0]))
    inelastic, peak, unit = parts(answer, seen, seen.usable, spectra, resolution)
    estimate = (inelastic + peak)[0] * unit[0] + max(seen.level[0], 0)
    truth, visible = visible_losses(estimate, simulation, resolution)
    found = regime(answer, spectra, inelastic)
    moved = intervals.shift_error(estimate, float(seen.zero_loss.fwhm[0]), found.electrons[0])
    common, missed = np.hypot(float(seen.level_error[0]), moved), truth - estimate
    sizes = [size[0] * unit[0] for size in error_sizes(answer, resolution)]
    needed = np.zeros((2, len(CONFIDENCES), missed.size))
    for row, confidence in enumerate(CONFIDENCES):
        # Errors of a flat offset and of the position are known beside what the network tells.
        beyond = missed**2 - (intervals.normal_reach(confidence) * common) ** 2
        beyond = np.sqrt(np.maximum(beyond, 0))
        for side, (size, wrong) in enumerate(zip(sizes, (missed < 0, missed > 0), strict=True)):
            needed[side, row, wrong] = beyond[wrong] / size[wrong]
    at = [np.broadcast_to(np.squeeze(x), visible.shape) for x in found.at(*sizes)]
    return needed, np.stack(at), visible


def _table(found):
    """Log factors for both sides (lists), with which intervals hold their share of the channels."""
    needed, *where = _pooled(found)
    table = np.stack([fit_factors(side, *where) for side in needed])
    return conform(table, needed, *where).round(4).tolist()


def _pooled(found):
    """All channels: what they need, where they are, and weights that are the same for scenes and kinds."""
    scenes = np.concatenate([np.full(x.at.shape[1], x.scene) for x in found])
    needed, at, stands_for = (
        np.concatenate([getattr(x, key) for x in found], axis=-1)
        for key in ("needed", "at", "stands_for")
    )
    weights = np.zeros(scenes.size)
    for scene in np.unique(scenes):
        here = scenes == scene
        for kind in stands_for[:, here]:
            weights[here] += kind / max(kind.sum(), 1)
    return needed, at, weights


def main(arguments=None):
    """Command line: write the weights again with their calibration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="weights file")
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--device")
    options = parser.parse_args(arguments)
    if options.output.suffix != ".safetensors" or not options.output.parent.is_dir():
        parser.error(
            f"--output {options.output}: must be a .safetensors file in a folder that exists"
        )
    try:
        model = models.load(options.model)
        found = calibrate(model, options.cases, device=options.device)
    except ValueError as error:
        parser.error(str(error))
    provenance = model.provenance | {"calibration": {"cases": options.cases, "seed": SEED}}
    models.save_model(
        model.network, options.output, name=options.output.stem, provenance=provenance,
        calibration=found,
    )  # fmt: skip
    print(models.load(options.output).sha256, options.output)


if __name__ == "__main__":
    main()
