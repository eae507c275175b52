"""Calibration: intervals of a network whose errors are told wrongly become honest."""

import numpy as np
import pytest

from exspy_deepdeconv import models
from exspy_deepdeconv.batched import deconvolve_block
from exspy_deepdeconv.evaluate import coverage
from exspy_deepdeconv.intervals import Calibration, Regime
from exspy_deepdeconv.models import Model
from exspy_deepdeconv.simulate import simulate
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
    monkeypatch.setattr("exspy_deepdeconv.intervals.POSITION_LEAN", 10.0)
    assert np.max(calibrate(models.load(), cases=2).blind) < 0.5 * np.max(plain.blind)
