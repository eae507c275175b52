"""Simulated pairs: what is in a batch, where batches come from, and what the loss makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.physics import half_height_width, parabola_vertex
from exspy_deepdeconv.simulate import simulate
from exspy_deepdeconv.training import MixedPairs, SimulatedPairs
from exspy_deepdeconv.training.batches import tensors, to_spectra
from exspy_deepdeconv.training.handed import altered_response
from exspy_deepdeconv.training.loop import main
from exspy_deepdeconv.training.loss import training_loss
from exspy_deepdeconv.training.options import read_options
from exspy_deepdeconv.training.pairs import Cut, training_rows

TINY = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
PAIRS = SimulatedPairs(seed=3, channels_per_batch=2048)


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


def test_errors_are_relative_to_the_losses_whatever_is_left_of_the_dark_level():
    batch = tensors(PAIRS.batch(2))
    answer = DeconvolutionNet(TINY)(to_spectra(batch))
    truth, answer.elastic = (answer.frame.put(batch[k]) for k in ("inelastic", "elastic"))
    found = []
    for left in (0.0, 0.1):  # of the height of the zero-loss peak
        answer.inelastic = 1.05 * truth + left
        above = batch | {"inelastic": batch["inelastic"] + left, "dark": batch["dark"] + left}
        found.append(training_loss(answer, above)[1])
    for key in ("loss_error", "near_error"):
        assert found[0][key] == pytest.approx(found[1][key], rel=1e-2)


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


@pytest.mark.parametrize("first", [0, 40])
def test_the_response_of_a_cut_is_the_whole_spectrums(first):
    """Its energy zero is in the middle, as in a simulation of that length."""
    longer = simulate("plasmonic", np.random.default_rng(1), 640)
    cut = Cut(longer, first, 600)
    assert cut.psf.shape == (1200,) and cut.psf.sum() == pytest.approx(1)
    whole = longer.psf[40:-40]
    np.testing.assert_allclose(cut.psf, whole / whole.sum())
    assert parabola_vertex(cut.psf, np.asarray(600)) == pytest.approx(600, abs=0.02)
    np.testing.assert_array_equal(cut.counts, longer.counts[first : first + 600])
    assert cut.position == longer.position - first


def test_a_window_whose_other_one_is_left_out_is_compared_with_none():
    """Else it would be held against the spectrum before, which is another one."""
    other, longer = (simulate("bulk", np.random.default_rng(n), 640) for n in (1, 2))
    behind = int(longer.position + 8 * longer.fwhm)  # the first window does not show the peak
    spectra = [Cut(other, 0, 256), Cut(longer, behind, 256), Cut(longer, 0, 256)]
    rows = training_rows(spectra, 0.5, np.random.default_rng(0))
    assert [bool(row["same"]) for row in rows] == [False, False]
    rows = training_rows(
        [spectra[0], spectra[2], Cut(longer, 3, 256)], 0.5, np.random.default_rng(0)
    )
    assert [bool(row["same"]) for row in rows] == [False, False, True]


def test_spectra_are_shown_again_with_their_response():
    plain = SimulatedPairs(seed=3, channels_per_batch=4096, psf_share=0.0)
    batch = replace(plain, shown_again=0.5).batch(4)
    number = len(plain.batch(4)["counts"])
    assert len(batch["counts"]) == number + round(number / 2)
    np.testing.assert_array_equal(batch["has_psf"], np.arange(len(batch["counts"])) >= number)
    for key in set(batch) - {"has_psf"}:
        np.testing.assert_array_equal(batch[key][:number], plain.batch(4)[key])
        np.testing.assert_array_equal(batch[key][number:], plain.batch(4)[key][: number // 2])


def test_responses_may_be_a_little_off():
    """Of what is handed over, widths differ from those of the spectra by some per cent, or they do not."""

    def apart(altered):
        pairs = SimulatedPairs(seed=3, channels_per_batch=64 * 1024, altered=altered)
        batch = pairs.batch(7)
        psf, elastic = batch["psf"].astype(float), batch["elastic"].astype(float)
        widths = [half_height_width(x, x.argmax(axis=-1)) for x in (psf, elastic)]
        clean = (batch["fwhm"] > 8) & (batch["position"] > 2 * batch["fwhm"])
        assert clean.sum() > 10
        return np.abs(widths[0] / widths[1] - 1)[clean]

    assert np.median(apart(0.0)) < 3e-3
    off = apart(1.0)
    assert 7e-3 < np.median(off) < 0.03 and off.max() < 0.1


def test_altered_responses_keep_area_and_energy_zero():
    psf = simulate("bulk", np.random.default_rng(5), 512).psf
    for seed in range(5):
        altered = altered_response(psf, 10.0, np.random.default_rng(seed))
        assert altered.sum() == pytest.approx(1) and altered.min() >= 0
        vertex = [parabola_vertex(x, np.asarray(int(x.argmax()))) for x in (psf, altered)]
        assert vertex[0] == pytest.approx(vertex[1], abs=0.02)
        assert np.abs(altered - psf).sum() > 1e-3


@pytest.mark.parametrize(
    "bad",
    [{"psf_share": -0.1}, {"shown_again": 1.5}, {"altered": 2.0}, {"channels_per_batch": 0}],
)
def test_what_no_batch_can_be_drawn_with_is_refused(bad, tmp_path, capsys):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=name):
        SimulatedPairs(**bad)
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path), f"--{name.replace('_', '-')}={value}"])
    assert f"{name}={value}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", -1), ("seed", 0.5), ("channels_per_batch", 1e4), ("psf_share", "a")],
)
def test_what_is_no_number_of_its_kind_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r} must be"):
        SimulatedPairs(**{name: value})


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("--steps=0", "steps=0"),
        ("--measured=nothing.npy", "nothing.npy"),
        ("--pairs=nothing.npz", "nothing.npz"),
        ("--muon=maybe", "maybe"),
        ("--recipe-share=1.5", "--recipe-share 1.5"),
        ("--recipe-share=-0.1", "--recipe-share -0.1"),
    ],
)
def test_options_that_cannot_be_used_end_the_process_with_a_message(option, word, tmp_path, capsys):
    with pytest.raises(SystemExit):
        read_options(["--folder", str(tmp_path), option])
    assert word in capsys.readouterr().err


def test_the_recipe_can_be_mixed_in():
    _, options = read_options(["--folder", "there", "--seed", "3", "--recipe-share", "0.3"])
    pairs = options["pairs"]
    sources = [pairs.source(number) for number in range(300)]
    assert np.mean(sources) == pytest.approx(0.3, abs=0.08)
    batch = pairs.batch(sources.index(1))
    assert batch["counts"].shape == (16, 2048)  # as many channels as the others have
    assert isinstance(read_options(["--folder", "there"])[1]["pairs"], SimulatedPairs)


@pytest.mark.parametrize(
    ("word", "meant"), [("on", True), ("Yes", True), ("0", False), ("off", False)]
)
def test_words_for_yes_and_no(word, meant):
    plan, _ = read_options(["--folder", "there", "--muon", word])
    assert plan.muon is meant


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
