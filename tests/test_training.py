"""The training loop, on a tiny network."""

import copy
import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import exspy_deepdeconv
from exspy_deepdeconv import models
from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.training import MixedPairs, SimulatedPairs, loop
from exspy_deepdeconv.training.batches import tensors
from exspy_deepdeconv.training.card import data_hash
from exspy_deepdeconv.training.loop import Plan, learning_rate, train
from exspy_deepdeconv.training.monitor import HELD_OUT, Monitor
from exspy_deepdeconv.training.plan import CHECKPOINT
from exspy_deepdeconv.training.state import TrainingState

TINY = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
PAIRS = SimulatedPairs(seed=3, channels_per_batch=2048)
PLAN = Plan(steps=6, seed=3, warmup=2, workers=0, bf16=False, checkpoint_minutes=1e6)


def test_learning_rate_schedule():
    plan = Plan(steps=1000, warmup=100, learning_rate=1e-3)
    rates = [learning_rate(plan, step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5) and max(rates) == pytest.approx(1e-3)
    assert np.argmax(rates) in (99, 100) and rates[-1] < 3e-5
    assert all(type(rate) is float for rate in rates)


def weights(model):
    """All weights of a model in one vector."""
    return torch.cat([value.ravel() for value in model.network.state_dict().values()])


def same(model, other):
    """Bit for bit the same weights, and the same history but for the time it took."""
    assert torch.equal(weights(model), weights(other))
    one, two = (dict(m.provenance, seconds=0) for m in (model, other))
    assert one.pop("plan") | {"checkpoint_minutes": 0, "workers": 0} == two.pop("plan") | {
        "checkpoint_minutes": 0,
        "workers": 0,
    }
    assert one == two


def test_same_seed_same_weights(tmp_path):
    one, again = (train(PLAN, tmp_path / name, pairs=PAIRS, config=TINY) for name in ("1", "2"))
    same(one, again)
    other = train(replace(PLAN, seed=4), tmp_path / "3", pairs=PAIRS, config=TINY)
    assert not torch.equal(weights(one), weights(other))


def test_interrupted_run_ends_with_the_same_weights(tmp_path):
    unbroken = train(PLAN, tmp_path / "one", pairs=PAIRS, config=TINY)

    class Interrupted:
        def batch(self, number):
            if number == 3:
                raise KeyboardInterrupt
            return PAIRS.batch(number)

    every_step = replace(PLAN, checkpoint_minutes=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(every_step, tmp_path / "two", pairs=Interrupted(), config=TINY)
    resumed = train(PLAN, tmp_path / "two", pairs=PAIRS, config=TINY)
    same(unbroken, resumed)


# Batches that take their time, so that there is time for a kill.
SLOW_RUN = """
import sys, time
from exspy_deepdeconv.network import Config
from exspy_deepdeconv.training import Plan, SimulatedPairs, train

class Slow(SimulatedPairs):
    def batch(self, number):
        time.sleep(0.1 if number < 8 else 1.0)  # a held-up parent must not come too late
        return super().batch(number)

config = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
plan = Plan(steps=24, seed=3, warmup=2, workers=1, checkpoint_minutes=0.0, log_every=1,
            evaluate_every=4, held_out=1, cases=0, patience=5)
train(plan, sys.argv[1], pairs=Slow(3, 2048), config=config)
"""
SLOW_PLAN = Plan(
    steps=24, seed=3, warmup=2, workers=0, log_every=1, evaluate_every=4, held_out=1, cases=0,
    patience=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(SLOW_PLAN, tmp_path_factory.mktemp("unbroken"), pairs=PAIRS, config=TINY)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_run_ends_with_the_same_weights(kind, unbroken, tmp_path):
    """Everything is in the checkpoint: averages, optimiser, and what early stopping has seen."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, tmp_path], start_new_session=True, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and rows_of(tmp_path)[5:] == []:
        time.sleep(0.02)
    os.killpg(process.pid, kind)
    process.communicate(timeout=120)
    assert process.returncode != 0
    step = torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"]
    assert 1 <= step < SLOW_PLAN.steps
    resumed = train(SLOW_PLAN, tmp_path, pairs=PAIRS, config=TINY)
    same(unbroken, resumed)
    assert [int(row["step"]) for row in rows_of(tmp_path)] == list(range(1, 25))


def rows_of(folder):
    path = folder / "log.csv"
    if not path.exists():
        return []
    with open(path) as file:
        return list(csv.DictReader(file))


def test_sigterm_writes_a_checkpoint(tmp_path):
    """The whole process group is told to stop, workers included."""
    command = [sys.executable, "-m", "exspy_deepdeconv.training.loop", "--folder", str(tmp_path),
               "--steps", "100000", "--workers", "1", "--log-every", "1"]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not rows_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    _, words = process.communicate(timeout=120)
    assert b"stopped at step" in words
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] >= 1


def test_trained_model_loads_and_runs(tmp_path):
    trained = train(PLAN, tmp_path, pairs=PAIRS, config=TINY, name="tiny")
    path = tmp_path / "tiny.safetensors"
    model = models.load(path)
    assert model.sha256 == trained.sha256
    assert model.provenance["plan"]["seed"] == 3 and model.network.config == TINY
    from exspy_deepdeconv import deconvolve
    from exspy_deepdeconv.physics import gaussian

    counts = 1e5 * gaussian(256, 80.0, 10.0)
    result = deconvolve(counts, 0.01, model=path)
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(result, deconvolve(counts, 0.01, model=trained))


def test_training_goes_on_from_a_saved_model(tmp_path):
    start = train(PLAN, tmp_path / "one", pairs=PAIRS, config=TINY)
    path = tmp_path / "one" / "model.safetensors"
    again = train(PLAN, tmp_path / "two", pairs=PAIRS, init=start)
    assert 0 < float((weights(again) - weights(start)).abs().max()) < 0.1
    by_path = train(PLAN, tmp_path / "three", pairs=PAIRS, init=path)
    assert torch.equal(weights(again), weights(by_path))


def test_a_run_goes_on_with_what_it_began_with(tmp_path):
    """Else its card would name the wrong start, and intervals would take their factors from there."""
    one, two = (
        train(replace(PLAN, seed=seed), tmp_path / name, pairs=PAIRS, config=TINY, name=name)
        for seed, name in ((1, "one"), (2, "two"))
    )
    train(PLAN, tmp_path / "on", pairs=PAIRS, init=one)
    for other in ({"init": two}, {"config": TINY}):
        with pytest.raises(ValueError, match=r"of a run with init='one \(\w+\)', not "):
            train(PLAN, tmp_path / "on", pairs=PAIRS, **other)


def test_weights_to_start_from_have_their_own_design(tmp_path):
    start = train(PLAN, tmp_path / "start", pairs=PAIRS, config=TINY)
    with pytest.raises(ValueError, match="config and init are both given"):
        train(PLAN, tmp_path / "on", pairs=PAIRS, config=TINY, init=start)
    assert not (tmp_path / "on").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--init=nothing", "model='nothing'"),
        ("--name=a/b", "name='a/b'"),
        ("--minutes=-1", "minutes=-1"),
    ],
)
def test_command_line_of_a_bare_node_tells_what_is_wrong_in_one_line(tmp_path, option, words):
    with pytest.raises(SystemExit, match=words) as end:
        loop.main(["--folder", str(tmp_path / "run"), option])
    assert str(end.value).startswith("Error: ")


@pytest.mark.parametrize(("step", "kept"), [(0, 0.1), (10_000, 0.8)])
def test_the_average_follows_the_weights(tmp_path, step, kept):
    """By what the decay leaves; at first, when it would hold the random start, by more."""
    plan = replace(PLAN, ema=0.8, steps=20_000)
    state = TrainingState(DeconvolutionNet(TINY), plan, False, tmp_path / CHECKPOINT, step=step)
    before = copy.deepcopy(state.average)
    loop.training_step(state, plan, tensors(PAIRS.batch(0)), "cpu")
    for old, mean, new in zip(
        *(each.parameters() for each in (before, state.average, state.network)), strict=True
    ):
        torch.testing.assert_close(mean, kept * old + (1 - kept) * new)
    assert state.step == step + 1


def test_part_of_the_start_is_kept(tmp_path):
    """The same training, and weights on the straight line between its two ends."""
    start = train(PLAN, tmp_path / "start", pairs=PAIRS, config=TINY)
    ends = [start, train(PLAN, tmp_path / "end", pairs=PAIRS, init=start)]
    plan = replace(PLAN, keep_start=0.25)
    between = train(plan, tmp_path / "between", pairs=PAIRS, init=start)
    wanted = 0.25 * weights(ends[0]) + 0.75 * weights(ends[1])
    torch.testing.assert_close(weights(between), wanted)
    assert not torch.allclose(wanted, weights(ends[1]))
    whole = train(replace(plan, keep_start=1.0), tmp_path / "whole", pairs=PAIRS, init=start)
    assert torch.equal(weights(whole), weights(start))
    with pytest.raises(ValueError, match=r"keep_start=0\.25 needs init="):
        train(plan, tmp_path / "nothing", pairs=PAIRS, config=TINY)


def test_training_leaves_torch_as_it_was(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state(), torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    train(PLAN, tmp_path, pairs=PAIRS, config=TINY)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), signal.getsignal(signal.SIGTERM))


def test_log_is_written(tmp_path):
    train(replace(PLAN, log_every=2), tmp_path, pairs=PAIRS, config=TINY)
    rows = rows_of(tmp_path)
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    for key in ("loss", "gradient", "learning_rate", "spectra_per_s"):
        assert all(np.isfinite(float(row[key])) for row in rows)


def test_a_log_that_a_power_cut_has_spoiled_stops_no_run(tmp_path):
    train(PLAN, tmp_path, pairs=PAIRS, config=TINY)
    before = rows_of(tmp_path)
    for spoiled in (bytes(20) + b"\n", b"1,0.1,0.001,1.0,5,1e-"):
        with open(tmp_path / "log.csv", "ab") as file:
            file.write(spoiled)
        train(PLAN, tmp_path, pairs=PAIRS, config=TINY)
        assert rows_of(tmp_path) == before


def test_held_out_scores_and_figure(tmp_path):
    """They are of the averaged weights, on data that were not trained on, beside the oracle."""
    plan = replace(PLAN, evaluate_every=3, held_out=1, cases=1)
    model = train(plan, tmp_path, pairs=PAIRS, config=TINY)
    rows = rows_of(tmp_path)
    assert [int(row["step"]) for row in rows if row["held_out_loss"]] == [3, 6]
    monitor = Monitor(PAIRS, 1, 1, "cpu")
    for key, value in monitor.scores(model.network).items():
        assert float(rows[-1][key]) == pytest.approx(value, rel=1e-3)
        assert model.provenance["scores"]["after"][key] == pytest.approx(value, rel=1e-5)
    held_out = PAIRS.batch(HELD_OUT)["position"]
    assert not any(np.array_equal(held_out, PAIRS.batch(n)["position"]) for n in range(plan.steps))
    assert (tmp_path / "log.png").read_bytes()[1:4] == b"PNG"
    assert not list(tmp_path.glob("*.part"))


def test_early_stop_keeps_the_best_weights(tmp_path):
    """With a learning rate that spoils everything, the best weights are early ones."""
    plan = replace(PLAN, steps=40, learning_rate=3.0, muon=False, warmup=1, ema=0.0, evaluate_every=1,
                   held_out=1, cases=0, patience=3)  # fmt: skip
    model = train(plan, tmp_path, pairs=PAIRS, config=TINY)
    losses = [float(row["held_out_loss"]) for row in rows_of(tmp_path)]
    assert len(losses) == int(np.nanargmin(losses)) + 1 + 3 == model.provenance["steps"] < 40
    kept = Monitor(PAIRS, 1, 0, "cpu").scores(model.network)["held_out_loss"]
    assert kept == pytest.approx(np.nanmin(losses), rel=1e-3)
    # The scores on the card are those of the weights that it lies beside, not of the last ones.
    assert model.provenance["scores"]["after"]["held_out_loss"] == pytest.approx(kept, rel=1e-5)


def test_a_score_that_is_no_number_is_not_the_best(tmp_path, monkeypatch):
    scores = iter([np.nan, 3.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    monkeypatch.setattr(Monitor, "scores", lambda *_: {"held_out_loss": next(scores)})
    plan = replace(PLAN, steps=40, evaluate_every=1, held_out=1, cases=0, patience=3)
    assert train(plan, tmp_path, pairs=PAIRS, config=TINY).provenance["steps"] == 6


@pytest.mark.parametrize("clocked", [False, True], ids=["early", "by the clock"])
def test_a_run_that_has_ended_is_not_trained_on(tmp_path, monkeypatch, clocked):
    """The same command once more gives the same weights, however the run has come to its end."""
    clock = itertools.count(0, 0.05)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    rate, patience = (1e-3, 0) if clocked else (3.0, 3)  # the high one spoils everything
    plan = replace(PLAN, steps=1000, learning_rate=rate, warmup=1, ema=0.0, evaluate_every=1,
                   held_out=1, cases=0, patience=patience)  # fmt: skip
    options = {"pairs": PAIRS, "config": TINY, "minutes": 0.02 if clocked else None}
    first, again = (train(plan, tmp_path, **options) for _ in range(2))
    assert first.provenance["steps"] < 1000
    same(first, again)


def test_fewer_steps_than_were_gone_are_refused(tmp_path):
    train(PLAN, tmp_path, pairs=PAIRS, config=TINY)
    with pytest.raises(ValueError, match="6 steps, more than steps=4"):
        train(replace(PLAN, steps=4), tmp_path, pairs=PAIRS, config=TINY)


def test_a_device_of_torch_is_as_good_as_its_name(tmp_path):
    model = train(PLAN, tmp_path, pairs=PAIRS, config=TINY, device=torch.device("cpu"))
    assert model.provenance["device"] == "cpu"


def test_time_limit_is_kept(tmp_path, monkeypatch):
    """By a clock of its own: a real one makes the last step's rate a matter of the machine."""
    clock = itertools.count(0, 0.05)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    plan = replace(PLAN, steps=100_000)
    model = train(plan, tmp_path, pairs=PAIRS, config=TINY, minutes=0.05)
    assert 3 <= model.provenance["seconds"] < 3.2
    assert 20 <= model.provenance["steps"] <= 60
    assert float(rows_of(tmp_path)[-1]["learning_rate"]) < 0.1 * plan.learning_rate


def test_a_run_that_ends_within_its_warm_up_is_warned_of(tmp_path, recwarn):
    few = replace(PLAN, warmup=90)  # as many steps as were asked for
    train(few, tmp_path / "all", pairs=PAIRS, config=TINY, minutes=5)
    assert not recwarn.list
    plan, over = replace(PLAN, steps=100_000, warmup=90_000), "train: the time was over after"
    with pytest.warns(UserWarning, match=rf"{over} .*within the warm-up .90000 steps") as heard:
        train(plan, tmp_path / "short", pairs=PAIRS, config=TINY, minutes=0.001)
    assert heard[0].filename == __file__


def test_a_short_run_is_scored_at_its_end(tmp_path, monkeypatch):
    """Of fine-tuning below 100 steps there was a score before, and none after it."""
    clock = itertools.count(0, 0.05)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    plan = replace(PLAN, steps=100_000, held_out=1, cases=1)
    start = models.save_model(DeconvolutionNet(TINY), tmp_path / "start.safetensors", name="start")
    model = train(plan, tmp_path, pairs=PAIRS, init=start, minutes=0.02)
    assert model.provenance["steps"] < plan.evaluate_every
    assert set(model.provenance["scores"]) == {"before", "after"}


def test_model_card_and_provenance(tmp_path):
    model = train(PLAN, tmp_path, pairs=PAIRS, config=TINY, name="mine")
    about = model.provenance
    assert about["plan"]["seed"] == 3 and about["steps"] == 6 and about["seconds"] > 0
    assert about["versions"]["exspy_deepdeconv"] == exspy_deepdeconv.__version__
    assert about["data_sha256"] == data_hash(PAIRS) != data_hash(SimulatedPairs(4, 2048))
    drawn_from = [replace(PAIRS, measured=(np.hanning(size),)) for size in (41, 61)]
    assert data_hash(drawn_from[0]) != data_hash(drawn_from[1])
    mixed = [MixedPairs((PAIRS, 0.5), (drawn_from[0], 0.5), seed=seed) for seed in (0, 0, 1)]
    assert data_hash(mixed[0]) == data_hash(mixed[1]) != data_hash(mixed[2])
    card = (tmp_path / "mine.md").read_text()
    assert card.startswith("# mine") and about["data_sha256"] in card and "| seed | 3 |" in card
    assert "Intervals are not calibrated" in card
    train(PLAN, tmp_path / "on", pairs=PAIRS, init=model, name="on")  # nor was what it started from
    assert "Intervals are not calibrated" in (tmp_path / "on" / "on.md").read_text()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"minutes": -1}, "minutes=-1"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"init": "nope"}, "nope"),
        ({"resume": "no"}, "resume='no'"),
    ],
)
def test_bad_arguments_are_named(change, word, tmp_path):
    with pytest.raises(ValueError, match=word):
        train(PLAN, tmp_path, pairs=PAIRS, **change)


def test_what_is_no_plan_and_no_source_of_batches_is_named(tmp_path):
    with pytest.raises(TypeError, match="plan must be a Plan, not int"):
        train(5, tmp_path / "a", pairs=PAIRS, config=TINY)
    with pytest.raises(
        TypeError, match=r"pairs must have a method batch\(number\), unlike ndarray"
    ):
        train(PLAN, tmp_path / "b", pairs=np.zeros((3, 64)), config=TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "key", ["steps", "learning_rate", "log_every", "ema", "patience", "keep_start"]
)
def test_bad_plans_are_refused(key):
    with pytest.raises(ValueError, match=f"{key}=-1"):
        replace(PLAN, **{key: -1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight_decay", -1e-3),
        ("checkpoint_minutes", float("nan")),
        ("checkpoint_minutes", "5"),
        ("bf16", "no"),
        ("muon", 1),
    ],
)
def test_settings_that_would_be_misread_are_refused(key, value):
    with pytest.raises(ValueError, match=f"{key}="):
        replace(PLAN, **{key: value})


def test_settings_may_be_numbers_of_numpy(tmp_path):
    """Neither weights file nor checkpoint can hold those: all that was learnt would be lost."""
    settings = {"steps": np.int64(6), "seed": np.int32(3), "learning_rate": np.float32(1e-3)}
    plan = replace(PLAN, **settings, muon=np.False_)
    model = train(plan, tmp_path, pairs=PAIRS, config=TINY)
    assert model.provenance["plan"]["steps"] == 6
    longer = train(replace(plan, steps=7), tmp_path, pairs=PAIRS, config=TINY)
    assert longer.provenance["steps"] == 7


def test_checkpoints_are_not_trained_over(tmp_path):
    train(PLAN, tmp_path, pairs=PAIRS, config=TINY)
    with pytest.raises(FileExistsError, match="holds a checkpoint"):
        train(PLAN, tmp_path, pairs=PAIRS, config=TINY, resume=False)
    for key, value in {"seed": 9, "learning_rate": 1e-5, "keep_start": 0.5}.items():
        with pytest.raises(ValueError, match=f"of a run with {key}="):
            train(replace(PLAN, **{key: value}), tmp_path, pairs=PAIRS, config=TINY)
    with pytest.raises(ValueError, match="not a checkpoint of this run"):
        train(replace(PLAN, muon=True), tmp_path, pairs=PAIRS, config=TINY)
    longer = train(replace(PLAN, steps=7), tmp_path, pairs=PAIRS, config=TINY)
    assert longer.provenance["steps"] == 7
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="not a checkpoint"):
        train(PLAN, tmp_path, pairs=PAIRS, config=TINY)


# A bare node

BARE = """
import sys

missing = {"hyperspy", "exspy", "matplotlib", "tqdm", "sklearn", "click", "typer", "prettytable",
           "dask", "ipywidgets", "pandas", "h5py"}
sys.modules.update(dict.fromkeys(missing))  # importing them fails
from exspy_deepdeconv.network import Config
from exspy_deepdeconv.training import Plan, SimulatedPairs, train
from exspy_deepdeconv.training.loop import main

config = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
plan = Plan(steps=2, workers=1, log_every=1, evaluate_every=2, held_out=1, cases=1)
model = train(plan, sys.argv[1], pairs=SimulatedPairs(0, 2048), config=config, name="bare")
assert model.provenance["scores"]["after"]["bulk"] > 0
assert not any(sys.modules[name] for name in missing)
try:
    main(["--help"])
except SystemExit as end:
    sys.exit(end.code)
"""


def test_runs_without_hyperspy_and_all_that_is_not_needed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BARE, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bare.safetensors").exists() and not (tmp_path / "log.png").exists()


def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path):
    wild = replace(PLAN, learning_rate=1e12, clip=1e12, warmup=0, steps=30)
    with pytest.raises(FloatingPointError, match=r"learning_rate=1e\+12 may be too high"):
        train(wild, tmp_path, pairs=PAIRS, config=TINY, name="wild")
    assert not list(tmp_path.glob("*.safetensors")) and not (tmp_path / CHECKPOINT).exists()
    network = DeconvolutionNet(TINY)
    with torch.no_grad():
        network.response.head.bias.fill_(np.nan)
    path = models.save_model(network, tmp_path / "nan.safetensors", name="nan")
    with pytest.raises(ValueError, match="weights that are not finite"):
        models.load(path)


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    train(replace(PLAN, steps=1), tmp_path, pairs=PAIRS, config=TINY)
    others = replace(PAIRS, seed=99)
    with pytest.raises(ValueError, match="of a run on other data: choose another folder"):
        train(replace(PLAN, steps=2), tmp_path, pairs=others, config=TINY)


def test_a_device_that_is_not_there_is_named_at_once(tmp_path):
    with pytest.raises(ValueError, match="device='nowhere' cannot be used"):
        train(PLAN, tmp_path, pairs=PAIRS, config=TINY, device="nowhere")
    assert not list(tmp_path.iterdir())


def test_a_model_is_one_line():
    name = models.available()[0]
    assert repr(models.load(name)) == f"<Model {name}, sha256 {models.REGISTRY[name][:12]}>"


def test_scores_survive_an_interruption(tmp_path):
    def run(folder, steps):
        plan = Plan(steps=steps, warmup=1, workers=0, evaluate_every=2, held_out=1, cases=1)
        return train(plan, folder, pairs=PAIRS, config=TINY, name="tiny")

    whole = run(tmp_path / "whole", 5)
    run(tmp_path / "parts", 4)
    resumed = run(tmp_path / "parts", 5).provenance["scores"]
    assert resumed["after"].keys() == whole.provenance["scores"]["after"].keys()
    again = run(tmp_path / "whole", 5)  # nothing is left to do
    assert again.sha256 == whole.sha256


def test_a_bundled_name_is_taken(tmp_path):
    """Results would say that the bundled model made them."""
    with pytest.raises(ValueError, match="is that of a bundled model"):
        train(PLAN, tmp_path, pairs=PAIRS, config=TINY, name=models.available()[-1])
