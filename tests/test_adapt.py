"""Fine-tuning on one's own instrument, from Python and on the command line."""

import itertools
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from _helpers import small_nanorod
from scipy.ndimage import gaussian_filter1d
from typer.testing import CliRunner

import exspy_deepdeconv
from exspy_deepdeconv import cli, models
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.experiment.specimens import EnergyAxis, bell, lorentzian
from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.simulate import Detector, compose, grid_for
from exspy_deepdeconv.training import Plan, SimulatedPairs, fine_tune, loop, measured_pairs, train
from exspy_deepdeconv.training.adapt import InstrumentPairs

CHANNELS, FWHM, DISPERSION, ZERO = 512, 10.0, 0.01, 110.0
TINY = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A network that runs quickly and knows nothing."""
    folder = tmp_path_factory.mktemp("tiny")
    return models.load(
        models.save_model(DeconvolutionNet(TINY), folder / "t.safetensors", name="t")
    )


@pytest.fixture(scope="module")
def nanorod():
    return small_nanorod()


def quick(model, signal, psf=None, **options):
    options = {"minutes": None, "steps": 2, "workers": 0, "show_progressbar": False} | options
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fine_tune: on simulations")
        return fine_tune(model, signal, psf, **options)


def test_model_of_ones_own_instrument(tiny, nanorod, tmp_path):
    signal, vacuum = nanorod
    before = signal.data.copy()
    model = quick(tiny, signal, vacuum, folder=tmp_path, name="mine")
    np.testing.assert_array_equal(signal.data, before)
    assert model.provenance["recipe"] == "fine_tune" and model.provenance["steps"] == 2
    assert len(model.provenance["signal_sha256"]) == len(model.provenance["psf_sha256"]) == 64
    assert model.provenance["psf"].startswith("measured: ")
    for chosen in (model, tmp_path / "mine.safetensors"):
        result = signal.inav[:2, 0].deep_deconvolve(model=chosen, show_progressbar=False)
        assert result.metadata.Signal.deep_deconvolution.weights_sha256 == model.sha256
    assert (tmp_path / "mine.md").exists() and (tmp_path / "log.csv").exists()


def test_an_estimated_response_is_not_called_measured(tiny, nanorod, tmp_path):
    signal, _ = nanorod
    psf = signal.estimate_psf(shared=True, show_progressbar=False)
    quick(tiny, signal, psf, folder=tmp_path, name="mine")
    assert "| psf | estimated beforehand: simulated nanorod" in (tmp_path / "mine.md").read_text()
    assert quick(tiny, signal).provenance["psf"] == "estimated"


def test_same_seed_same_weights(tiny, nanorod):
    pairs = measured_pairs(*nanorod)
    one, again, other = (quick(tiny, pairs, seed=seed) for seed in (0, 0, 1))
    kernels = [m.network.state_dict()["estimate.stem.weight"] for m in (one, again, other)]
    assert (kernels[0] == kernels[1]).all() and not (kernels[0] == kernels[2]).all()


# A response unlike all simulated ones: the spectrometer shows each line a second time.


def instrument_with_a_ghost():
    grid = grid_for(CHANNELS, FWHM)
    distance = grid.wrapped_channels
    lines = ((0.0, 1.0, 1.0), (3.0 * FWHM, 0.12, 1.0))  # place, height, width in units of F
    response = sum(
        h * np.exp(-np.log(16) * ((distance - x) / (w * FWHM)) ** 2) for x, h, w in lines
    )
    return grid, response / response.sum()


def spectrum(rng, blank=False):
    """A specimen of two lines and an edge on that instrument."""
    grid, response = instrument_with_a_ghost()
    position = ZERO + rng.uniform(-1, 1)
    step = DISPERSION / grid.oversampling
    axis = EnergyAxis((grid.fine_channels - position) * DISPERSION, step, FWHM * DISPERSION)
    specimen = np.zeros(grid.size)
    if not blank:
        for _ in range(2):
            place, width = rng.uniform(0.25, 3.5), rng.uniform(0.02, 0.3)
            specimen += lorentzian(axis, place, width, rng.uniform(0.005, 0.03))
        specimen += bell(axis, 3.5, 2.0, rng.uniform(0.02, 0.1))
    detector, counts = Detector(gain=2.0, readout=3.0), 2e6
    specimen = specimen * (axis.energy > 0)
    return compose(grid, response, specimen, position, counts, detector, DISPERSION, rng, "free")


def as_signal(spectra, shape=()):
    exspy_deepdeconv.register()
    from exspy.signals import EELSSpectrum

    signal = EELSSpectrum(np.stack([s.counts for s in spectra]).reshape((*shape, CHANNELS)))
    axis = signal.axes_manager.signal_axes[0]
    axis.scale, axis.units, axis.offset = DISPERSION, "eV", -ZERO * DISPERSION
    return signal


def blind_error(model, spectra):
    found = [
        errors(deconvolve_block(s.counts, model=model, resolution=2.5)[0], s, 2.5).loss
        for s in spectra
    ]
    return float(np.median(found))


def test_a_measured_map_teaches_what_the_simulator_does_not_know(tmp_path):
    """The same number of steps on simulations alone is no match for it."""
    rng = np.random.default_rng(0)
    line, vacuum = [spectrum(rng) for _ in range(60)], spectrum(rng, blank=True)
    held_out = [spectrum(np.random.default_rng(1)) for _ in range(1)]
    held_out += [spectrum(rng) for _ in range(15)]
    steps, start = 40, models.load()
    tuned = quick(
        start, as_signal(line, (60,)), as_signal([vacuum]), steps=steps, seed=1, learning_rate=1e-3
    )
    plan = Plan(steps=steps, learning_rate=1e-3, warmup=20, ema=0.99, workers=0, held_out=0,
                cases=0)  # fmt: skip
    simulated = train(plan, tmp_path, pairs=SimulatedPairs(1), init=start)
    before, alone, with_map = (blind_error(m, held_out) for m in (start, simulated, tuned))
    assert with_map < 0.7 * min(before, alone)


# The command


@pytest.fixture
def run(tmp_path):
    def call(*arguments, code=0):
        command = ["train", "--folder", str(tmp_path / "run"), *map(str, arguments)]
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == code, result.output
        return result.output

    return call


def test_command_adapts_a_model_to_a_map(run, tiny, nanorod, tmp_path):
    signal, vacuum = nanorod
    signal.save(tmp_path / "map.hspy")
    vacuum.save(tmp_path / "vacuum.hspy")
    start = tmp_path / "start.safetensors"
    models.save_model(tiny.network, start, name="start")
    printed = run("--map", tmp_path / "map.hspy", "--psf", tmp_path / "vacuum.hspy", "--init",
                  start, "--steps", 2, "--workers", 0, "--name", "mine", "--components", 2,
                  "--keep-start", 0.5)  # fmt: skip
    path = tmp_path / "run" / "mine.safetensors"
    assert f"-> {path} (2 steps)" in printed
    provenance = models.load(path).provenance
    assert (provenance["recipe"], provenance["plan"]["keep_start"]) == ("fine_tune", 0.5)
    again = run("--map", tmp_path / "map.hspy", "--steps", 2, code=1)
    assert "--resume goes on from it" in again


def test_command_trains_on_simulations(run, tiny, tmp_path):
    start = tmp_path / "start.safetensors"
    models.save_model(tiny.network, start, name="start")
    assert "(1 steps)" in run("--steps", 1, "--workers", 0, "--init", start)
    assert models.load(tmp_path / "run" / "model.safetensors").provenance["plan"]["steps"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--psf", "vacuum.hspy"], "--psf needs a --map"),
        (["--components", "3"], "--components needs a --map"),
        (["--map", "missing.hspy"], "missing.hspy"),
        (["--init", "nope", "--steps", "1"], "nope"),
        (["--minutes", "-3", "--steps", "1"], "minutes=-3"),
    ],
)
def test_command_names_what_is_wrong(run, arguments, words):
    assert words in run(*arguments, code=1)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"minutes": None, "steps": None}, ValueError, "minutes=None"),
        ({"minutes": -1}, ValueError, "minutes=-1"),
        ({"minutes": "1"}, ValueError, "minutes='1'"),
        ({"minutes": np.inf}, ValueError, "minutes=inf"),
        ({"steps": 1.5}, ValueError, "steps=1.5 must be a whole number"),
        ({"seed": 1.5}, ValueError, "seed=1.5 must be a whole number"),
        ({"workers": None, "seed": -1}, ValueError, "seed=-1"),
        ({"learning_rate": "1e-4"}, ValueError, "learning_rate='1e-4' must be a number"),
        ({"resume": True}, ValueError, "resume=True"),
        ({"keep_start": 1.5}, ValueError, "keep_start=1.5"),
        ({"name": "a/b"}, ValueError, "name='a/b'"),
        ({"name": ".."}, ValueError, "name='..'"),
        ({"name": 3}, ValueError, "name=3"),
        ({"resume": "no", "folder": "nowhere"}, ValueError, "resume='no'"),
    ],
)
def test_bad_arguments_are_named(tiny, nanorod, arguments, error, words):
    with pytest.raises(error, match=words):
        quick(tiny, *nanorod, **arguments)


@pytest.mark.parametrize("seed", [0, 4])
def test_a_run_is_not_resumed_on_another_map(tiny, nanorod, tmp_path, seed):
    """Whether a batch of the map or one of simulations happens to be the first."""
    signal, vacuum = nanorod
    quick(tiny, signal, vacuum, folder=tmp_path, seed=seed)
    dimmer = signal.deepcopy()
    dimmer.data = np.random.default_rng(1).poisson(0.5 * np.maximum(signal.data, 0)).astype(float)
    with pytest.raises(ValueError, match="of a run on other data"):
        quick(tiny, dimmer, vacuum, folder=tmp_path, seed=seed, resume=True, steps=3)


def test_an_instrument_is_that_of_pairs(nanorod):
    with pytest.raises(TypeError, match="measured must be MeasuredPairs, not EELSSpectrum"):
        InstrumentPairs.of(nanorod[0])


def test_finished_pairs_take_no_response_any_more(tiny, nanorod):
    pairs = measured_pairs(*nanorod)
    with pytest.raises(ValueError, match="psf= comes too late"):
        quick(tiny, pairs, nanorod[1])


def test_what_is_odd_about_a_map_is_told_at_the_line_of_the_caller(tiny, nanorod):
    signal, vacuum = nanorod
    with pytest.warns(UserWarning, match="Training pairs from 40 spectra") as heard:
        quick(tiny, signal.inav[:5], vacuum)
    with pytest.warns(UserWarning, match="response does not fit 64 of 64") as wider:
        quick(tiny, signal, vacuum.map(_widened, inplace=False, show_progressbar=False))
    for warning in [*heard, *wider]:
        assert warning.filename == __file__, warning.message


def test_time_for_next_to_no_steps_is_told(tiny, nanorod, run, monkeypatch):
    clock, over = itertools.count(), "the time was over after 1 step, within the warm-up"
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    pairs, options = measured_pairs(*nanorod), {"workers": 0, "show_progressbar": False}
    with pytest.warns(UserWarning, match=f"fine_tune: {over}") as heard:
        fine_tune(tiny, pairs, minutes=1e-4, steps=30, **options)
    assert [w.filename for w in heard if over in str(w.message)] == [__file__]
    assert f"note: train: {over}" in run("--minutes", 1e-5, "--workers", 0)


def test_a_model_is_compared_with_what_it_started_from(tiny, nanorod, run, tmp_path):
    """On many of the same spectra, each with its standard error: in the model, on its card, as printed."""
    model = quick(
        tiny, measured_pairs(*nanorod), minutes=1e-4, steps=None, folder=tmp_path, name="m"
    )
    gain = model.provenance["gain"]
    assert gain["instrument"]["cases"] == 128 and gain["other instruments"]["cases"] == 80
    assert all(g["ratio"] == pytest.approx(1, abs=0.1) and g["error"] < 0.1 for g in gain.values())
    told = "{ratio:.3f} ± {error:.3f}".format(**gain["instrument"])
    assert f"| instrument | {told} | 128 |" in (tmp_path / "m.md").read_text(encoding="utf-8")
    nanorod[0].save(tmp_path / "map.hspy")
    models.save_model(tiny.network, tmp_path / "start.safetensors", name="start")
    printed = run("--map", tmp_path / "map.hspy", "--init", tmp_path / "start.safetensors",
                  "--minutes", 1e-4, "--workers", 0)  # fmt: skip
    assert "error after / before, instrument: 1.0" in printed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (-0.15, None),
        (0.15, r"the loss error did not fall \(1\.1.. ± 0\.0.. of what it was, 128 cases\)"),
        (0.0, "it cannot be told whether the loss error fell"),
    ],
    ids=["fell", "rose", "unclear"],
)
def test_the_verdict_is_that_of_many_cases(tiny, nanorod, monkeypatch, change, words):
    """Whatever the first four say: these become worse where all others gain, and the other way round."""
    logs = change + 0.3 * np.random.default_rng(0).standard_normal(10_000)
    logs[:4] = -3 * change
    after = iter(np.exp(logs))

    def error(model, *_):
        return next(after) if model.name == "fine-tuned" else 1.0

    monkeypatch.setattr("exspy_deepdeconv.training.gain.loss_error", error)
    pairs, options = measured_pairs(*nanorod), {"workers": 0, "show_progressbar": False}
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        fine_tune(tiny, pairs, minutes=1e-4, **options)
    told = [w for w in heard if "on simulations of this instrument" in str(w.message)]
    assert len(told) == (words is not None)
    for warning in told:
        assert re.search(words, str(warning.message)) and warning.filename == __file__


def _widened(counts):
    return gaussian_filter1d(counts, 10)


def test_counts_are_drawn_far_below_and_above_the_measured_ones(nanorod):
    """An instrument is used at other doses than that of one map: a third to three times, mostly."""
    pairs = InstrumentPairs.of(measured_pairs(*nanorod))
    rng, measured = np.random.default_rng(0), nanorod[0].data.sum(axis=-1).mean()
    drawn = [pairs.simulation(rng).elastic_counts / measured for _ in range(100)]
    assert 0.8 < np.std(np.log(drawn)) < 1.8
    assert np.abs(np.median(np.log(drawn))) < 0.7
