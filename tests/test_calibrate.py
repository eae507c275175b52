"""Calibration: intervals of a network whose errors are told wrongly become honest."""

from functools import partial

import numpy as np
import pytest

from exspy_deepdeconv import models
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.estimate.binning import answer_of
from exspy_deepdeconv.estimate.forward import batch_of, centred, quick_and_quiet
from exspy_deepdeconv.estimate.intervals import CONFIDENCES, Calibration, Regime, factors
from exspy_deepdeconv.evaluate import coverage, visible_losses
from exspy_deepdeconv.models import Model
from exspy_deepdeconv.physics import inspect
from exspy_deepdeconv.simulate import Detector, simulate
from exspy_deepdeconv.training import calibrate as module
from exspy_deepdeconv.training import quantiles
from exspy_deepdeconv.training.calibrate import Channels, calibrate

SCENE = "bulk"


@pytest.fixture(scope="module")
def few():
    """One scene of short spectra instead of five of any length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SCENES", (SCENE,))
        patch.setattr(module, "LENGTHS", (512,))
        model = models.load()
        yield model, calibrate(model, cases=40)


def share_inside(model, calibration, confidence, ratio, given, seed):
    """Share of the channels inside, spectra of other seeds."""
    calibrated = Model("mine", "", model.network, {}, calibration)
    inside = np.zeros(2)
    rng = np.random.default_rng(seed)
    for _ in range(40):
        simulation = simulate(SCENE, rng, 512)
        resolution = max(simulation.fwhm / ratio, 2.0)
        estimate, _, lower, upper = deconvolve_block(
            simulation.counts, model=calibrated, resolution=resolution,
            psf=simulation.psf if given else None, interval=confidence,
        )  # fmt: skip
        inside += coverage(estimate, lower, upper, simulation, resolution).loss
    return inside[0] / inside[1]


@pytest.mark.parametrize("confidence", [0.6827, 0.9])
@pytest.mark.parametrize("given", [False, True])
def test_calibrated_intervals_hold_their_share(few, confidence, given):
    model, calibration = few
    found = share_inside(model, calibration, confidence, 4.0, given, seed=11)
    assert found == pytest.approx(confidence, abs=0.12)  # 40 spectra, errors shared by channels


def test_reaches_rise_with_confidence_and_elastic_errors_too(few):
    _, calibration = few
    assert (np.diff(calibration.elastic) >= 0).all() and np.max(calibration.elastic) < 0.5
    for given in (False, True):
        reach = [
            calibration.reaches(np.ones(1), np.ones(1), c, Regime(1e-3, 1e6, 0.1, given))
            for c in (0.5, 0.9, 0.99)
        ]
        assert (np.diff(reach, axis=0) >= 0).all() and np.ptp(reach) > 0.1


USUAL = {"skew": 0.0, "height": -2.0, "electrons": 6.0, "scattered": -1.0}


def drawn(rng, scene, size, scale=1.0, **place):
    """Channels whose errors are exponential to either side, so many times larger than told."""
    errors = scale * rng.exponential(1, size) * rng.choice([-1, 1], size)
    needed = np.stack([np.maximum(-errors, 0), np.maximum(errors, 0)])
    needed = np.repeat(needed[:, None], len(CONFIDENCES), axis=1)
    once = np.ones(size)
    at = np.outer(list((USUAL | place).values()), once)
    return Channels(scene, needed, at, np.tile(once, (2, 1)))


@pytest.mark.parametrize(
    "key, places",
    [
        ("skew", (-1.0, 1.0)),
        ("height", (-4.0, -2.0)),
        ("electrons", (4.0, 6.0)),
        ("scattered", (-2.0, 0.0)),
    ],
)
def test_what_errors_depend_on_is_found(key, places):
    """Three times as large at a skew, a height, a dose or a thickness as at others."""
    rng = np.random.default_rng(0)
    found = [
        drawn(rng, scene, 4000, scale, **{key: place})
        for scene in "ab" for place, scale in zip(places, (1.0, 3.0), strict=True)
    ]  # fmt: skip
    table = np.array(module._table(found))
    for confidence in (0.5, 0.9, 0.95):
        row = table[:, CONFIDENCES.index(confidence)]
        reach = [
            [factors(side, list((USUAL | {key: place}).values())) for side in row]
            for place in places
        ]
        wanted = -np.log(1 - confidence) * np.array([[1.0], [3.0]])
        # Factors of neighbouring knots are drawn to each other a little.
        np.testing.assert_allclose(reach, np.tile(wanted, 2), rtol=0.4)
        assert np.min(np.divide(*reach[::-1])) > 1.7


def test_sides_are_told_apart():
    """Errors to one side only: the interval need not reach to the other."""
    one = drawn(np.random.default_rng(0), "a", 4000)
    one.needed[0] = 0.0
    table = np.array(module._table([one]))
    down, up = (factors(side[3], list(USUAL.values())) for side in table)
    assert down < 0.1 * up


def test_intervals_hold_their_share_in_all_where_one_side_holds_little():
    rng = np.random.default_rng(0)
    one = drawn(rng, "a", 4000)
    one.needed[0] *= 0.01
    table = np.array(module._table([one]))
    for row, confidence in enumerate(CONFIDENCES):
        reach = np.array([[factors(side[row], list(USUAL.values()))] for side in table])
        inside = (one.needed[:, row] <= reach).all(axis=0)
        assert inside.mean() == pytest.approx(confidence, abs=0.01)


def test_scenes_count_alike_whatever_their_number_of_channels():
    rng = np.random.default_rng(0)
    found = [drawn(rng, "a", 4000), drawn(rng, "b", 400, 3.0)]
    _, _, weights = module._pooled(found)
    assert weights[:4000].sum() == pytest.approx(weights[4000:].sum())


def test_kinds_of_channels_count_alike(few):
    """All with visible losses, and those near the peak."""
    model, _ = few
    rng = np.random.default_rng(1)
    channels, _ = module._of_one(model, simulate(SCENE, rng, 2048), rng, False, None)
    for one in channels:
        assert one.at.shape[1] <= 2 * module.CHANNELS
        visible, near = one.stands_for.sum(axis=1)
        assert 0 < near < visible
    weights = module._pooled(channels)[-1]
    kinds = np.concatenate([one.stands_for > 0 for one in channels], axis=1)
    np.testing.assert_allclose([weights[kind].sum() for kind in kinds], 1)


@pytest.mark.parametrize("dark", [0.0, 300.0])
@pytest.mark.parametrize("given", [False, True])
def test_a_channel_needs_a_factor_above_one_where_the_interval_without_factors_misses(dark, given):
    """Channel by channel what `deconvolve_block` tells: sides, offset and other errors are the same."""
    plain = Model("plain", "", models.load().network, {}, Calibration())
    simulation = simulate(SCENE, np.random.default_rng(3), 512, Detector(dark=dark))
    seen, ratio = inspect(simulation.counts[None]), 4
    psf = simulation.psf[None] if given else None
    with quick_and_quiet(None, plain) as (where, network):
        response = centred(psf, 512) if given else None
        spectra, _ = batch_of(seen, seen.usable, response, where)
        answer_on = partial(answer_of, network, spectra)
        needed, at, visible = module._needed(answer_on, seen, spectra, simulation, ratio)
    resolution = float(seen.zero_loss.fwhm[0]) / ratio
    for row, confidence in enumerate(CONFIDENCES):
        estimate, _, lower, upper = deconvolve_block(
            simulation.counts, model=plain, resolution=resolution, psf=psf, interval=confidence
        )
        truth, _ = visible_losses(estimate, simulation, resolution)
        inside = (lower <= truth) & (truth <= upper)
        reached = [factors(side[row], at) for side in np.array(Calibration().blind)]
        held = (needed[:, row] <= reached).all(axis=0)
        assert np.mean((inside == held)[visible]) > 0.99 and visible.sum() > 200


def test_calibration_is_repeatable(monkeypatch):
    monkeypatch.setattr(quantiles, "STEPS", 50)
    monkeypatch.setattr(module, "SCENES", ("gap",))
    monkeypatch.setattr(module, "LENGTHS", (512,))
    one, again, other = (calibrate(models.load(), 2, seed) for seed in (1, 1, 2))
    assert one == again != other


def test_command_writes_the_weights_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(quantiles, "STEPS", 50)
    monkeypatch.setattr(module, "SCENES", ("gap",))
    monkeypatch.setattr(module, "LENGTHS", (512,))
    path = tmp_path / "mine.safetensors"
    module.main([models.available()[-1], "--output", str(path), "--cases", "2"])
    made = models.load(path)
    assert made.sha256 in capsys.readouterr().out
    assert made.calibration == calibrate(models.load(), 2)
    assert made.provenance["calibration"] == {"cases": 2, "seed": module.SEED}
    for key, value in models.load().network.state_dict().items():
        assert (made.network.state_dict()[key] == value).all()


@pytest.mark.parametrize("output", ["mine", "mine.npz", "nowhere/mine.safetensors"])
def test_an_output_that_cannot_be_is_told_before_any_work(monkeypatch, tmp_path, capsys, output):
    monkeypatch.setattr(module, "calibrate", None)
    with pytest.raises(SystemExit):
        module.main([models.available()[-1], "--output", str(tmp_path / output)])
    assert str(tmp_path / output) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("nothing", [], "model='nothing'"),
        (None, ["--cases", "0"], "cases=0"),
        (None, ["--device", "nowhere"], "device='nowhere'"),
    ],
)
def test_command_tells_what_is_wrong_without_a_traceback(tmp_path, capsys, model, options, words):
    output = str(tmp_path / "mine.safetensors")
    with pytest.raises(SystemExit):
        module.main([model or models.available()[-1], "--output", output, *options])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [{"cases": 0}, {"cases": 1.5}, {"device": "nowhere"}, {"seed": -1}]
)
def test_bad_arguments_are_named_before_any_work(monkeypatch, arguments):
    monkeypatch.setattr(module, "_simulations", None)
    (name,) = arguments
    with pytest.raises(ValueError, match=f"^{name}="):
        calibrate(models.load(), **arguments)


def test_an_interval_of_more_confidence_is_no_narrower_whatever_the_spectra_need():
    """Even where the errors beside 80 % were smaller than those beside 50 %."""
    one = drawn(np.random.default_rng(0), "a", 1000)
    one.needed[:, 2:] *= 0.2
    table = np.array(module._table([one]))
    assert (np.diff(table, axis=1) >= 0).all()


def test_factors_leave_out_what_the_error_of_the_position_explains(monkeypatch):
    """It is added to every interval on its own: else it would count twice."""
    monkeypatch.setattr(module, "SCENES", (SCENE,))
    monkeypatch.setattr(module, "LENGTHS", (512,))

    def reach():
        found = calibrate(models.load(), cases=2)
        return np.sum(found.reaches(np.ones(1), np.ones(1), 0.9, Regime(1e-2, 1e6, 0.1)))

    plain = reach()
    monkeypatch.setattr("exspy_deepdeconv.estimate.intervals.POSITION_LEAN", 10.0)
    assert reach() < 0.5 * plain
