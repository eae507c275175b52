"""Calibration: intervals of a network whose errors are told wrongly become honest."""

from functools import partial

import numpy as np
import pytest

from exspy_deepdeconv import models
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.estimate.binning import answer_of
from exspy_deepdeconv.estimate.forward import batch_of, centred, quick_and_quiet
from exspy_deepdeconv.estimate.intervals import Calibration, Regime
from exspy_deepdeconv.evaluate import coverage, visible_losses
from exspy_deepdeconv.models import Model
from exspy_deepdeconv.physics import inspect
from exspy_deepdeconv.simulate import Detector, simulate
from exspy_deepdeconv.training import calibrate as module
from exspy_deepdeconv.training.calibrate import calibrate

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


def test_factors_rise_with_confidence_and_elastic_errors_too(few):
    _, calibration = few
    assert (np.diff(calibration.elastic) >= 0).all() and np.max(calibration.elastic) < 0.5
    regime = Regime(dominance=4.0, electrons=1e6)
    reach = [calibration.factor(c, regime) * np.log(1 / (1 - c)) for c in (0.5, 0.9, 0.99)]
    assert (np.diff(reach) > 0).all()


def test_what_few_electrons_need_is_found():
    """Needed factors of known sizes, apart from a scatter."""
    rng = np.random.default_rng(0)
    plain, found = Calibration(), []
    for _ in range(400):
        electrons = rng.choice(plain.electrons)
        size = np.full(50, 2.0 if electrons == 3e4 else 1.0)
        at = Regime(rng.choice(plain.dominances, 50), electrons * np.ones(50))
        found.append((rng.choice(["a", "b"]), size * rng.exponential(1, (6, 50)), at))
    table, by_electrons = module._factors(found)
    assert by_electrons[0] / by_electrons[2] == pytest.approx(2.0, rel=0.1)
    whole = Calibration(blind=table, by_electrons=(by_electrons,) * 2)
    for confidence, wanted in ((0.5, np.log(2)), (0.9, np.log(10))):
        assert whole.factor(confidence, Regime(1.75, 3e4)) == pytest.approx(2 * wanted, rel=0.1)


def test_scenes_count_alike_whatever_their_number_of_channels():
    at = {size: Regime(np.full(size, 1.75), np.full(size, 3e6)) for size in (2000, 100)}
    found = [("a", np.ones((6, 2000)), at[2000]), ("b", np.full((6, 100), 3.0), at[100])]
    table, by_electrons = module._factors(found)
    whole = Calibration(blind=table, by_electrons=(by_electrons,) * 2)
    assert whole.factor(0.9, Regime(1.75, 3e6)) == pytest.approx(3.0)


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
        needed, _, _ = module._needed(answer_on, seen, spectra, simulation, ratio)
    resolution = float(seen.zero_loss.fwhm[0]) / ratio
    for factors, confidence in zip(needed, Calibration().confidences, strict=True):
        estimate, _, lower, upper = deconvolve_block(
            simulation.counts, model=plain, resolution=resolution, psf=psf, interval=confidence
        )
        truth, visible = visible_losses(estimate, simulation, resolution)
        inside = ((lower <= truth) & (truth <= upper))[visible]
        assert np.mean(inside == (factors <= 1)) > 0.99 and visible.sum() > 200


def test_calibration_is_repeatable(monkeypatch):
    monkeypatch.setattr(module, "SCENES", ("gap",))
    monkeypatch.setattr(module, "LENGTHS", (512,))
    one, again, other = (calibrate(models.load(), 2, seed) for seed in (1, 1, 2))
    assert one == again != other


def test_command_writes_the_weights_again(monkeypatch, tmp_path, capsys):
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
    """Half of the errors are far larger than told: there the factor is at its limit."""
    rng, plain = np.random.default_rng(0), Calibration()
    needed = np.array([4.0, 4.0, 1.0, 1.0, 1.0, 1.0])[:, None] * rng.uniform(0.9, 1.1, (6, 500))
    at = Regime(rng.choice(plain.dominances, 500), np.full(500, 3e6))
    table, by_electrons = module._factors([("a", needed, at)])
    found = Calibration(blind=table, by_electrons=(by_electrons,) * 2)
    reach = [found.factor(c, Regime(1.75, 3e6)) * np.log(2 / (1 - c)) for c in plain.confidences]
    assert (np.diff(reach) > -1e-9).all()


def test_factors_leave_out_what_the_error_of_the_position_explains(monkeypatch):
    """It is added to every interval on its own: else it would count twice."""
    monkeypatch.setattr(module, "SCENES", (SCENE,))
    monkeypatch.setattr(module, "LENGTHS", (512,))
    plain = calibrate(models.load(), cases=2)
    monkeypatch.setattr("exspy_deepdeconv.estimate.intervals.POSITION_LEAN", 10.0)
    assert np.max(calibrate(models.load(), cases=2).blind) < 0.5 * np.max(plain.blind)
