"""Make the intervals of a trained network honest: conformal factors from simulations.

    python -m exspy_deepdeconv.training.calibrate runs/mine/mine.safetensors --output FILE

The spectra are of the scenes that accuracy is measured on, with a seed that is used for nothing else.
"""

import argparse
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
from ..estimate.intervals import Calibration, Regime
from ..evaluate import visible_losses
from ..inference import check_device
from ..network import SHARPENINGS
from ..physics import MIN_RESOLUTION_CHANNELS
from ..simulate import simulate
from .handed import noisy_response
from .monitor import SCENES

SEED = 20_240_229  # of no other set
LENGTHS = (512, 1024, 2048, 4096)
# Up to this confidence no factor is larger than the first, beyond than the second: more is asked by a
# few spectra and would make the intervals of all others useless. (Chosen on other seeds than the
# benchmark's.)
USUAL, LARGEST, LARGEST_OF_RARE = 0.9, 4.0, 10.0
ROUNDS = 5  # of fitting the factors of electrons and of dominance in turn


def calibrate(model, cases=64, seed=SEED, device=None):
    """Find the factors under which intervals hold the wanted share of the truth.

    For each channel with visible losses (`exspy_deepdeconv.evaluate.visible_losses`), the factor
    that would just bring the truth into the interval is noted, at sharpenings F/R of 2, 4, 8 and 16.
    The factor of a confidence is the quantile of these, all scenes counting alike, among the channels
    where the elastic peak is about as dominant (`exspy_deepdeconv.estimate.intervals.Regime`), times
    a factor for the number of electrons. The latter are fitted at a confidence of 90 %, and have a mean of 1.

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
    >>> from exspy_deepdeconv.estimate.intervals import Regime
    >>> from exspy_deepdeconv.training.calibrate import calibrate
    >>> found = calibrate(models.load(), cases=1)
    >>> bool(found.factor(0.9, Regime(dominance=4.0, electrons=1e6)) > 0)
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
            seen = physics.inspect(simulation.counts[None])
            if not seen.usable[0]:
                continue
            measured = noisy_response(simulation.psf, rng)[None] if given else None
            psf = centred(measured, simulation.counts.size) if given else None
            with quick_and_quiet(device, model) as (where, network):
                spectra, _ = batch_of(seen, seen.usable, psf, where)
                answer_on = cache(partial(answer_of, network, spectra))  # most ratios have one
                if given and not tails_of(answer_on(1), seen, seen.usable).trusted[0]:
                    continue  # not one that is trusted
                for ratio in reversed(SHARPENINGS):
                    needed, at, error = _needed(answer_on, seen, spectra, simulation, ratio)
                    found[given].append((simulation.family, needed, at))
            elastic[given].append(error)
    (blind, *of_blind), (given, *of_given) = (_factors(found[given]) for given in (False, True))
    shares = (np.quantile(elastic[given], Calibration().confidences) for given in (False, True))
    shares = tuple(tuple(row.tolist()) for row in shares)
    return Calibration(
        blind=blind, given=given, by_electrons=(*of_blind, *of_given), elastic=shares
    )


def _simulations(cases, seed):
    for number, scene in enumerate(SCENES):
        rng = np.random.default_rng([seed, number, 1])
        for _ in range(cases):
            yield simulate(scene, rng, int(rng.choice(LENGTHS))), rng


def _needed(answer_on, seen, spectra, simulation, ratio):
    """Factors that single channels need, ``(confidences, channels)``, their `Regime`, error of I0."""
    resolution = max(float(seen.zero_loss.fwhm[0]) / ratio, MIN_RESOLUTION_CHANNELS)
    number = channels_in_bins(seen.zero_loss.fwhm, simulation.counts.size, resolution)
    answer = answer_on(int(number[0]))
    inelastic, peak, unit = parts(answer, seen, seen.usable, spectra, resolution)
    above, below = (size[0] * unit[0] for size in error_sizes(answer, resolution))
    estimate = (inelastic + peak)[0] * unit[0] + max(seen.level[0], 0)
    truth, where = visible_losses(estimate, simulation, resolution)
    missed = (truth - estimate)[where]
    found = regime(answer, spectra, inelastic)
    moved = intervals.shift_error(estimate, float(seen.zero_loss.fwhm[0]), found.electrons[0])
    common = np.hypot(float(seen.level_error[0]), moved[where])
    needed = []
    for confidence in Calibration().confidences:
        down, up = intervals.reaches(above[where], below[where], confidence)
        reach = np.where(missed < 0, down, up)
        # Errors of a flat offset and of the position are known beside what the network tells.
        beyond = missed**2 - (intervals.normal_reach(confidence) * common) ** 2
        beyond = np.sqrt(np.maximum(beyond, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            needed.append(np.where(beyond == 0, 0.0, beyond / reach))
    counts = float(answer.elastic_counts[0]) * unit[0]
    dominance = found.dominance[0][where]
    electrons = np.full(dominance.shape, float(found.electrons[0, 0]))
    at = Regime(dominance, electrons, found.given)
    return np.array(needed), at, abs(counts / simulation.elastic_counts - 1)


def _factors(found):
    """Factors for dominance and confidence, and for electrons; all scenes of the same weight."""
    plain = Calibration()
    number = {
        scene: sum(x.dominance.size for s, _, x in found if s == scene) for scene, _, _ in found
    }
    weights = np.concatenate(
        [np.full(x.dominance.size, 1 / max(number[s], 1)) for s, _, x in found]
    )
    values = np.concatenate([needed for _, needed, _ in found], axis=1)
    dominance, electrons = (
        np.concatenate([getattr(x, key) for _, _, x in found]) for key in ("dominance", "electrons")
    )
    chosen = _nearest(dominance, np.array(plain.dominances))
    dose = _nearest(np.log(electrons), np.log(plain.electrons))
    usual = values[plain.confidences.index(USUAL)]
    by_electrons = _by_electrons(usual, chosen, dose, weights)
    table = _table(values / by_electrons[dose], chosen, weights)
    return table, tuple(by_electrons.tolist())


def _by_electrons(needed, chosen, dose, weights):
    """Factors of electrons beside those of the dominance, fitted in turn; their mean is 1."""
    plain = Calibration()
    ours, others = np.ones(len(plain.electrons)), np.ones(len(plain.dominances))

    def fit(factors, bins, left):
        for level in np.unique(bins):  # a factor of 1 where no spectrum was drawn
            here = bins == level
            factor = _quantile(left[here], weights[here], USUAL)
            factors[level] = np.clip(factor, 1 / LARGEST, LARGEST)

    for _ in range(ROUNDS):
        fit(others, chosen, needed / ours[dose])
        fit(ours, dose, needed / others[chosen])
        ours /= np.exp(np.average(np.log(ours[dose]), weights=weights))
    return ours


def _nearest(values, known):
    """Index of the nearest of the known values."""
    return np.searchsorted(np.add(known[:-1], known[1:]) / 2, values)


def _table(values, chosen, weights):
    """Quantiles for each dominance and confidence."""
    plain = Calibration()
    table = []
    for level in range(len(plain.dominances)):
        here = chosen == level
        if not here.any():  # too few spectra were asked for
            here = np.ones_like(here)
        factors = [
            _quantile(row[here], weights[here], confidence)
            for row, confidence in zip(values, plain.confidences, strict=True)
        ]
        usual = np.array(plain.confidences) <= USUAL
        factors = np.minimum(factors, np.where(usual, LARGEST, LARGEST_OF_RARE))
        table.append(tuple(_nested(factors, np.array(plain.confidences)).tolist()))
    return tuple(table)


def _nested(factors, confidences):
    """Raised where an interval would be narrower than one of a lower confidence.

    `intervals.reaches` grow least where all of the error is expected on one side.
    """
    longest = np.log(2 / (1 - confidences))
    return np.maximum.accumulate(factors * longest) / longest


def _quantile(values, weights, share):
    """Weighted quantile; the highest finite value where it is infinite."""
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    values = values[order][: min(np.searchsorted(below, share), values.size - 1) + 1]
    return float(values[np.isfinite(values)][-1])


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
