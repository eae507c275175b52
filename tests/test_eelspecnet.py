"""EELSpecNet's recipe: its spectra are as published, and so are its measures."""

from dataclasses import fields

import numpy as np
import pytest

from exspy_deepdeconv import models
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.network import Config
from exspy_deepdeconv.physics import find_zero_loss, shift_channels
from exspy_deepdeconv.training import Plan, eelspecnet, train
from exspy_deepdeconv.training.eelspecnet import (
    Recipe,
    RecipePairs,
    evaluation_set,
    mean_absolute_percentage_error,
    mean_squared_error,
)


@pytest.fixture(scope="module")
def recipe_set():
    return evaluation_set(60)


def test_responses_are_the_peaks_of_the_input(recipe_set):
    """With their energy zero, channel 2048 of them, where that of the target is."""
    for elastic, psf in zip(recipe_set.elastic, recipe_set.psf, strict=True):
        seen = psf[2048 - 400 : 4096 - 400]
        np.testing.assert_allclose(elastic, seen * (elastic.sum() / seen.sum()), rtol=1e-6)


def test_recipe_is_as_published(recipe_set):
    """2048 channels of 5 meV, responses 35 to 200 meV wide and smeared, noise up to 1e-3."""
    counts, target = recipe_set.counts, recipe_set.target
    assert counts.shape == target.shape == (60, 2048)
    assert eelspecnet.DISPERSION == 0.005
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


def test_recipe_sets_are_repeatable(recipe_set):
    again = evaluation_set(2)
    np.testing.assert_array_equal(again.counts, recipe_set.counts[:2])


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
    tiny = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
    model = train(Plan(steps=2, workers=0), tmp_path, pairs=RecipePairs(size=2), config=tiny)
    assert all(np.isfinite(value).all() for value in RecipePairs(size=2).batch(1).values())
    assert model.provenance["steps"] == 2


def test_measures_are_free_of_a_shift_by_part_of_a_channel(recipe_set):
    """The target itself, moved by up to half a channel, scores next to nothing of what is asked (4.5e-10)."""
    moved = shift_channels(recipe_set.target, np.linspace(-0.5, 0.5, len(recipe_set.target)))
    assert mean_squared_error(moved, recipe_set.target) > 1e-6
    assert eelspecnet.scores(moved, recipe_set)["mse"] < 2e-11
