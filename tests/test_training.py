"""The pair generator and the loop, on a tiny network."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from exspy_deepdeconv import models
from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.training import SimulatedPairs
from exspy_deepdeconv.training.loop import Plan, learning_rate, to_spectra, train
from exspy_deepdeconv.training.loss import training_loss

TINY = Config(response_width=(4,) * 5, estimate_width=(4,) * 5, iterates=(1, 2, 3, 4))
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


def test_learning_rate_schedule():
    plan = Plan(steps=1000, warmup=100, learning_rate=1e-3)
    rates = [learning_rate(plan, step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5) and max(rates) == pytest.approx(1e-3)
    assert np.argmax(rates) in (99, 100) and rates[-1] < 3e-5
    assert all(type(rate) is float for rate in rates)


def test_interrupted_run_ends_with_the_same_weights(tmp_path):
    unbroken = train(PLAN, tmp_path / "one", pairs=PAIRS, config=TINY)

    class Interrupted:
        def batch(self, number):
            if number == 3:
                raise KeyboardInterrupt
            return PAIRS.batch(number)

    every_step = Plan(**(PLAN.__dict__ | {"checkpoint_minutes": 0.0}))
    with pytest.raises(KeyboardInterrupt):
        train(every_step, tmp_path / "two", pairs=Interrupted(), config=TINY)
    resumed = train(PLAN, tmp_path / "two", pairs=PAIRS, config=TINY)
    assert unbroken.read_bytes() == resumed.read_bytes()


def test_sigterm_writes_a_checkpoint(tmp_path):
    """The whole process group is told to stop, workers included."""
    command = [sys.executable, "-m", "exspy_deepdeconv.training.loop", "--folder", str(tmp_path),
               "--steps", "100000", "--workers", "1", "--log-every", "1"]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (tmp_path / "log.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    _, words = process.communicate(timeout=120)
    assert b"stopped at step" in words
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] >= 1


def test_trained_model_loads_and_runs(tmp_path):
    path = train(PLAN, tmp_path, pairs=PAIRS, config=TINY, name="tiny")
    model = models.load(path)
    assert model.provenance["plan"]["seed"] == 3 and model.network.config == TINY
    from exspy_deepdeconv import deconvolve
    from exspy_deepdeconv.physics import gaussian

    counts = 1e5 * gaussian(256, 80.0, 10.0)
    assert np.isfinite(deconvolve(counts, 0.01, model=path)).all()


def test_training_goes_on_from_a_saved_model(tmp_path):
    start = models.load(train(PLAN, tmp_path / "one", pairs=PAIRS, config=TINY)).network
    again = models.load(train(PLAN, tmp_path / "two", pairs=PAIRS, init=start)).network
    before, after = (torch.cat([p.ravel() for p in n.parameters()]) for n in (start, again))
    assert 0 < float((after - before).abs().max()) < 0.1


def test_log_is_written(tmp_path):
    train(Plan(**(PLAN.__dict__ | {"log_every": 2})), tmp_path, pairs=PAIRS, config=TINY)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
