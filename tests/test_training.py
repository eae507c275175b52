"""The pair generator and the loop, on a tiny network."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import exspy_deepdeconv
from exspy_deepdeconv import models
from exspy_deepdeconv.batched import deconvolve_block
from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.physics import find_zero_loss
from exspy_deepdeconv.training import MixedPairs, SimulatedPairs, eelspecnet, loop
from exspy_deepdeconv.training.card import data_hash
from exspy_deepdeconv.training.eelspecnet import (
    Recipe,
    RecipePairs,
    evaluation_set,
    mean_absolute_percentage_error,
    mean_squared_error,
    training_set,
)
from exspy_deepdeconv.training.loop import Plan, learning_rate, main, to_spectra, train
from exspy_deepdeconv.training.loss import training_loss
from exspy_deepdeconv.training.monitor import HELD_OUT, Monitor
from exspy_deepdeconv.training.plan import CHECKPOINT

TINY = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
PAIRS = SimulatedPairs(seed=3, channels_per_batch=2048)
PLAN = Plan(steps=6, seed=3, warmup=2, workers=0, bf16=False, checkpoint_minutes=1e6)


def tensors(batch):
    return {key: torch.from_numpy(value) for key, value in batch.items()}


def test_batches_depend_on_seed_and_number_alone():
    one, again = PAIRS.batch(5), SimulatedPairs(seed=3, channels_per_batch=2048).batch(5)
    for key, value in one.items():
        np.testing.assert_array_equal(value, again[key])
        assert np.isfinite(value).all() and value.dtype == np.float32
    assert not np.array_equal(one["position"], PAIRS.batch(6)["position"])


def test_targets_explain_the_counts():
    """Elastic peak plus blurred losses are what was counted, up to noise."""
    batch = PAIRS.batch(1)
    start = (batch["position"] - 0.3 * batch["fwhm"]).astype(int)
    for row, first in enumerate(start):
        core = slice(first, first + max(int(0.6 * batch["fwhm"][row]), 2))
        elastic, counts = batch["elastic"][row, core].sum(), batch["counts"][row, core].sum()
        assert elastic == pytest.approx(counts, rel=0.35)


def test_one_batch_is_learnt():
    torch.manual_seed(0)
    batch = tensors(PAIRS.batch(0))
    network = DeconvolutionNet(TINY)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        loss, parts = training_loss(network(to_spectra(batch)), batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5
    assert set(parts) >= {"loss_error", "response_error"}


def test_the_truth_is_the_best_answer():
    """No answer scores better than the truth itself."""
    batch = tensors(PAIRS.batch(2))
    answer = DeconvolutionNet(TINY)(to_spectra(batch))
    frame = answer.frame
    answer.inelastic, answer.elastic = (frame.put(batch[k]) for k in ("inelastic", "elastic"))
    perfect = training_loss(answer, batch)[0]
    answer.inelastic = 1.02 * answer.inelastic
    worse = training_loss(answer, batch)[0]
    answer.elastic = 1.02 * answer.elastic
    assert perfect < worse < training_loss(answer, batch)[0]


def cut_twice():
    """A batch in which spectra are seen through two windows, and the places of the second ones."""
    for number in range(20):
        batch = PAIRS.batch(number)
        if batch["same"].any():
            return batch, np.flatnonzero(batch["same"])
    raise AssertionError("no spectrum is cut twice")


def test_narrow_peaks_are_not_rare():
    """Over a quarter is under six channels wide, as on many instruments; some are hardly sampled."""
    pairs = SimulatedPairs(seed=3)
    widths = np.concatenate([pairs.batch(number)["fwhm"] for number in range(12)])
    assert np.mean(widths < 6) > 0.25 and np.mean(widths < 3) > 0.01 and widths.max() > 30


def test_spectra_are_cut_twice():
    """Both windows hold the same counts, truth and response, so many channels apart."""
    batch, places = cut_twice()
    for second in places:
        first = second - 1
        later = int(np.round(batch["position"][first] - batch["position"][second]))
        assert 0 < later < 96
        for key in ("counts", "elastic"):
            one, other = batch[key][first, later:], batch[key][second, :-later]
            np.testing.assert_allclose(one, other, atol=1e-3)  # offsets are read from each window
        assert batch["has_psf"][first] == batch["has_psf"][second]
        np.testing.assert_array_equal(batch["psf"][first], batch["psf"][second])


def test_spectra_are_shown_again_with_their_response():
    plain = SimulatedPairs(seed=3, channels_per_batch=4096, psf_share=0.0)
    batch = replace(plain, shown_again=0.5).batch(4)
    number = len(plain.batch(4)["counts"])
    assert len(batch["counts"]) == number + round(number / 2)
    np.testing.assert_array_equal(batch["has_psf"], np.arange(len(batch["counts"])) >= number)
    for key in set(batch) - {"has_psf"}:
        np.testing.assert_array_equal(batch[key][:number], plain.batch(4)[key])
        np.testing.assert_array_equal(batch[key][number:], plain.batch(4)[key][: number // 2])


@pytest.mark.parametrize(
    "bad", [{"psf_share": -0.1}, {"shown_again": 1.5}, {"channels_per_batch": 0}]
)
def test_what_no_batch_can_be_drawn_with_is_refused(bad, tmp_path, capsys):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=name):
        SimulatedPairs(**bad)
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path), f"--{name.replace('_', '-')}={value}"])
    assert f"{name}={value}" in capsys.readouterr().err


def test_windows_that_disagree_cost():
    """Of the same errors, those that both windows share cost less than those of one alone."""
    batch, places = cut_twice()
    batch, second = tensors(batch), int(places[0])
    answer = DeconvolutionNet(TINY)(to_spectra(batch))
    frame = answer.frame
    truth, answer.elastic = (frame.put(batch[k]) for k in ("inelastic", "elastic"))

    def loss(*rows):
        answer.inelastic = truth.clone()
        answer.inelastic[list(rows)] *= 1.05
        return training_loss(answer, batch)[0]

    alone = loss(second - 1) + loss(second) - loss()
    assert loss(second - 1, second) < alone - 0.01


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
    again = train(PLAN, tmp_path / "two", pairs=PAIRS, init=start.network)
    assert 0 < float((weights(again) - weights(start)).abs().max()) < 0.1
    for init in (start, path):  # whatever it is named by
        assert torch.equal(
            weights(again), weights(train(PLAN, tmp_path / init.name, pairs=PAIRS, init=init))
        )


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


def test_time_limit_is_kept(tmp_path, monkeypatch):
    """By a clock of its own: a real one makes the last step's rate a matter of the machine."""
    clock = itertools.count(0, 0.05)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    plan = replace(PLAN, steps=100_000)
    model = train(plan, tmp_path, pairs=PAIRS, config=TINY, minutes=0.05)
    assert 3 <= model.provenance["seconds"] < 3.2
    assert 20 <= model.provenance["steps"] <= 60
    assert float(rows_of(tmp_path)[-1]["learning_rate"]) < 0.1 * plan.learning_rate


def test_a_short_run_is_scored_at_its_end(tmp_path, monkeypatch):
    """Of fine-tuning below 100 steps there was a score before, and none after it."""
    clock = itertools.count(0, 0.05)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    plan = replace(PLAN, steps=100_000, held_out=1, cases=1)
    start = DeconvolutionNet(TINY)
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
    card = (tmp_path / "mine.md").read_text()
    assert card.startswith("# mine") and about["data_sha256"] in card and "| seed | 3 |" in card
    assert "Intervals are not calibrated" in card
    train(PLAN, tmp_path / "on", pairs=PAIRS, init=model, name="on")  # nor was what it started from
    assert "Intervals are not calibrated" in (tmp_path / "on" / "on.md").read_text()


@pytest.mark.parametrize(
    ("change", "word"),
    [({"minutes": -1}, "minutes=-1"), ({"name": "a/b"}, "name='a/b'"), ({"init": "nope"}, "nope")],
)
def test_bad_arguments_are_named(change, word, tmp_path):
    with pytest.raises(ValueError, match=word):
        train(PLAN, tmp_path, pairs=PAIRS, config=TINY, **change)


@pytest.mark.parametrize(
    "key", ["steps", "learning_rate", "log_every", "ema", "patience", "keep_start"]
)
def test_bad_plans_are_refused(key):
    with pytest.raises(ValueError, match=f"{key}=-1"):
        replace(PLAN, **{key: -1})


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


# Sources


def test_mixed_pairs_are_the_sources_own():
    other = SimulatedPairs(seed=9, channels_per_batch=2048)
    mixed = MixedPairs((PAIRS, 3), (other, 1), seed=1)
    sources = [mixed.source(number) for number in range(400)]
    assert 0.68 < sources.count(0) / 400 < 0.82
    for number in (sources.index(0), sources.index(1)):
        want = mixed.pairs[sources[number]].batch(number)
        for key, value in mixed.batch(number).items():
            np.testing.assert_array_equal(value, want[key])


def test_each_source_keeps_all_its_lengths():
    # As `fine_tune` and the command line make it: one seed for the choice and for the sources.
    small = replace(PAIRS, channels_per_batch=512)
    mixed = MixedPairs((small, 0.7), (small, 0.3), seed=small.seed)
    lengths = ([], [])
    for number in range(60):
        lengths[mixed.source(number)].append(mixed.batch(number)["counts"].shape[1])
    for of_source in lengths:
        assert {512, 1024, 2048} <= set(of_source)


@pytest.mark.parametrize("sources", [(), ((PAIRS, 0.0),), ((PAIRS, 1.0), (PAIRS, -1.0))])
def test_bad_shares_are_refused(sources):
    with pytest.raises(ValueError):
        MixedPairs(*sources)


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


# EELSpecNet's recipe


@pytest.fixture(scope="module")
def recipe_set():
    return evaluation_set(60)


def test_recipe_is_as_published(recipe_set):
    """2048 channels of 5 meV, responses 35 to 200 meV wide and smeared, noise up to 1e-3."""
    counts, target = recipe_set.counts, recipe_set.target
    assert counts.shape == target.shape == (60, 2048)
    assert (eelspecnet.DISPERSION, eelspecnet.START) == (0.005, -2.0)
    # The target's zero-loss peak: 15 meV wide at 0 eV.
    found = find_zero_loss(target)
    np.testing.assert_allclose(found.position, 400, atol=0.02)
    np.testing.assert_allclose(found.fwhm, 3.0, atol=0.1)
    # A Lorentzian of 7 to 40 channels, smeared over 20, through the 3 of the target.
    widths = find_zero_loss(counts).fwhm
    assert 7 < widths.min() and widths.max() < 60 and widths.std() > 5
    # Losses are 0 to 15 lines at most 1/300 as high as the peak, and at least half of 1/4000.
    lines = recipe_set.inelastic.max(-1) / target[:, 400]
    assert (lines < 15 / 300).all() and ((lines == 0) | (lines > 1 / 4001)).all()
    # White noise of up to a thousandth of the maximum, the same at both ends.
    blurred = recipe_set.psf[:, 1648:3696] + 0
    noise = np.diff(counts[:, -400:]).std(-1) / np.sqrt(2) / counts.max(-1)
    assert 0 < noise.min() and noise.max() < 1.15e-3 and 3e-4 < noise.mean() < 7e-4
    assert ((0 <= recipe_set.dark) & (recipe_set.dark <= 1e-7 * counts.max(-1) * 1.01)).all()
    np.testing.assert_allclose(blurred.argmax(-1), counts.argmax(-1), atol=3)


def test_recipe_counts_are_the_blurred_target(recipe_set):
    """Deconvolved by division in Fourier space, where that is allowed: at low frequencies."""
    row = int(np.argmin(recipe_set.psf.max(-1)))
    size = 4096
    inelastic = np.fft.rfft(recipe_set.inelastic[row], size)
    psf = np.fft.rfft(np.roll(recipe_set.psf[row], -2048), size)
    seen = np.fft.irfft(psf * inelastic, size)[600:1500]
    noise_free = (recipe_set.counts - recipe_set.elastic)[row, 600:1500]
    noise = np.diff(noise_free).std() / np.sqrt(2)
    # The lines' flanks beyond the window are missing here; the target's 3 channels are twice in.
    assert np.std(seen - noise_free) < 1.3 * noise + 0.02 * seen.max()


def test_recipe_sets_are_repeatable_and_disjoint(recipe_set):
    again = evaluation_set(2)
    np.testing.assert_array_equal(again.counts, recipe_set.counts[:2])
    assert not np.isin(training_set(2).target[:, 700], recipe_set.target[:, 700]).any()


def test_recipe_measures():
    """By hand: two channels, 1/4 and 3/4 for 1/2 and 1/2."""
    estimate, target = np.array([[1.0, 3.0]]), np.array([[2.0, 2.0]])
    assert mean_squared_error(estimate, target) == pytest.approx(1 / 16)
    assert mean_absolute_percentage_error(estimate, target) == pytest.approx(25 / 0.501)
    assert mean_squared_error(7 * target, target) == 0
    where = np.array([[True, False]])
    assert mean_squared_error([[1.0, 2.0, 1.0]], [[1.0, 1.0, 2.0]], [[True, False, False]]) == 0
    assert mean_squared_error(estimate, target, where) == pytest.approx(1 / 16)


def test_recipe_scores_of_truth_and_of_the_default_model(recipe_set):
    """A rigid shift costs nothing; the truth is perfect; the network beats the data by far."""
    perfect = eelspecnet.scores(recipe_set.target, recipe_set)
    assert perfect["mse"] < 1e-12 and perfect["mape"] < 1e-3
    few = Recipe(*(getattr(recipe_set, f.name)[:16] for f in fields(Recipe)))
    estimate = deconvolve_block(
        few.counts, model=models.load(), resolution=eelspecnet.RESOLUTION, psf=few.psf
    )[0]
    ours, raw = eelspecnet.scores(estimate, few), eelspecnet.scores(few.counts, few)
    assert ours["mse"] < 1e-3 * raw["mse"] and ours["loss_mape"] < 0.2 * raw["loss_mape"]


def test_recipe_can_be_trained_on(tmp_path):
    model = train(replace(PLAN, steps=2), tmp_path, pairs=RecipePairs(size=2), config=TINY)
    assert all(np.isfinite(value).all() for value in RecipePairs(size=2).batch(1).values())
    assert model.provenance["steps"] == 2


def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path):
    wild = replace(PLAN, learning_rate=1e12, clip=1e12, warmup=0, steps=30)
    with pytest.raises(FloatingPointError, match=r"learning_rate=1e\+12 may be too high"):
        train(wild, tmp_path, pairs=PAIRS, config=TINY, name="wild")
    assert not list(tmp_path.glob("*.safetensors")) and not (tmp_path / CHECKPOINT).exists()
    network = DeconvolutionNet(TINY)
    with torch.no_grad():
        network.response.head.bias.fill_(np.nan)
    path = models.save_model(network, tmp_path / "nan.safetensors", name="nan")
    with pytest.raises(ValueError, match="weights that are no numbers"):
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
