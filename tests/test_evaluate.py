"""evaluate.py on results that are known to be right or wrong, and the benchmark that prints it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exspy_deepdeconv.bounds import oracles
from exspy_deepdeconv.evaluate import coverage, errors, false_peaks, resolves
from exspy_deepdeconv.physics import gaussian
from exspy_deepdeconv.simulate import SCENES, Detector, redraw, simulate

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESOLUTION = 4.0


@pytest.fixture(scope="module")
def bulk():
    """Losses in every channel beyond the peak."""
    return simulate("bulk", np.random.default_rng(3), 512, Detector())


@pytest.fixture(scope="module")
def featureless():
    return simulate("featureless", np.random.default_rng(0), 512, Detector())


def start_of(simulation):
    return int(np.ceil(simulation.position + simulation.fwhm))


def visible(simulation):
    """The channels that coverage is asked of, from the definition."""
    electrons = (simulation.expected - simulation.dark) / simulation.detector.gain
    inelastic = simulation.inelastic(RESOLUTION) - simulation.dark
    clear = inelastic / simulation.detector.gain > 0.3 * np.sqrt(electrons)
    return clear & (np.arange(electrons.size) >= start_of(simulation))


def test_an_interval_around_the_truth_covers_it(bulk):
    truth = bulk.truth(RESOLUTION)
    found = coverage(truth, truth - 1, truth + 2, bulk, RESOLUTION)
    assert found.loss[0] == found.loss[1] == visible(bulk).sum()
    assert 0 < found.near[1] < found.loss[1]
    assert found.loss[1] + found.elsewhere[1] == truth.size - start_of(bulk)
    assert found.width == pytest.approx(3.0)


def test_channels_outside_are_counted_where_they_are(bulk):
    truth = bulk.truth(RESOLUTION)
    wrong = np.flatnonzero(visible(bulk))[-20:]  # far from the peak
    lower, upper = truth - 1, truth + 1
    upper[wrong] = truth[wrong] - 0.5
    found = coverage(truth, lower, upper, bulk, RESOLUTION)
    assert found.loss[1] - found.loss[0] == 20
    assert found.near[1] == found.near[0]


def test_where_nothing_is_visible_is_counted_elsewhere():
    simulation = simulate("gap", np.random.default_rng(5), 512, Detector())
    faint = redraw(simulation, np.random.default_rng(0), 200.0)
    truth = faint.truth(RESOLUTION)
    held = [coverage(truth, truth - 1, truth + 1, s, RESOLUTION) for s in (simulation, faint)]
    assert held[0].loss[1] > held[1].loss[1]
    assert held[1].elsewhere[1] == (~visible(faint))[start_of(faint) :].sum() > 0


def test_coverage_asks_for_electrons_not_for_data_units(bulk):
    gained = redraw(
        bulk, np.random.default_rng(1), bulk.elastic_counts, Detector(gain=50.0, dark=3.0)
    )
    truth = gained.truth(RESOLUTION)
    found = coverage(truth, truth - 1, truth + 1, gained, RESOLUTION)
    assert found.loss[1] == visible(bulk).sum()


def test_the_interval_moves_with_the_best_shift_of_the_estimate(bulk):
    truth = bulk.truth(RESOLUTION)
    narrow = 0.02 * truth + 1.0
    channel = np.arange(truth.size)
    moved = np.interp(channel - 0.7, channel, truth)  # up by 0.7 channels
    still = coverage(truth, moved - narrow, moved + narrow, bulk, RESOLUTION)
    found = coverage(moved, moved - narrow, moved + narrow, bulk, RESOLUTION)
    assert still.loss[0] < 0.95 * still.loss[1]
    assert found.loss[0] == found.loss[1]


@pytest.mark.parametrize(("sigmas", "expected"), [(4.8, 0), (5.2, 1)])
def test_a_bump_is_a_false_peak_from_five_sigma_on(featureless, sigmas, expected):
    truth, sigma = featureless.truth(RESOLUTION), np.full(512, 5.0)
    flat = replace(featureless, _specimen=0 * featureless._specimen)
    bump = gaussian(512, 430.0, RESOLUTION)
    wrong = flat.truth(RESOLUTION) + sigmas * 5.0 * bump / bump.max()
    assert false_peaks(wrong, sigma, flat, RESOLUTION) == expected
    assert false_peaks(truth, sigma, featureless, RESOLUTION) == 0


def test_peaks_of_the_truth_are_not_false():
    doublet = simulate("doublet", np.random.default_rng(2), 512, Detector())
    truth = doublet.truth(RESOLUTION)
    sigma = np.full(512, 1e-3 * truth[start_of(doublet) :].max())
    assert false_peaks(truth, sigma, doublet, RESOLUTION) == 0
    flat = replace(doublet, _specimen=0 * doublet._specimen)
    assert false_peaks(truth, sigma, flat, RESOLUTION) >= 2


def test_one_broad_maximum_may_lie_elsewhere_on_its_top_but_a_second_one_is_false(featureless):
    hill = 1e4 * gaussian(512, 0.0, 1.0)[0] * np.exp(-(((np.arange(512) - 380) / 60.0) ** 2))
    hill = replace(featureless, _specimen=0 * featureless._specimen), hill

    class Hill:
        """A featureless spectrum with one broad maximum."""

        position, fwhm = hill[0].position, hill[0].fwhm

        def truth(self, resolution):
            return hill[0].truth(resolution) + hill[1]

    truth, sigma = Hill().truth(RESOLUTION), np.full(512, 30.0)
    tilted = truth * (1 + 0.002 * (np.arange(512) - 380))
    assert abs(int(tilted[350:].argmax()) + 350 - 380) > 2
    assert false_peaks(tilted, sigma, Hill(), RESOLUTION) == 0
    second = truth + 3e3 * np.exp(-(((np.arange(512) - 500) / 4.0) ** 2))
    assert false_peaks(second, sigma, Hill(), RESOLUTION) == 1


def doublet(distance, width=6.0, ratio=1.0):
    return gaussian(128, 60.0, width) + ratio * gaussian(128, 60.0 + distance, width)


def test_a_doublet_is_resolved_where_a_valley_parts_it():
    assert resolves(doublet(10.0), (60.0, 70.0))
    assert resolves(doublet(10.0), (70.0, 60.0))
    assert resolves(doublet(10.0, ratio=0.4), (60.0, 70.0))
    assert not resolves(doublet(4.0), (60.0, 64.0))  # one maximum
    shallow = doublet(5.5)
    assert 0.95 * shallow[64] < shallow[63] < shallow[64] < shallow[61]
    assert not resolves(shallow, (60.0, 65.5))
    assert resolves(doublet(7.0), (60.0, 67.0))


@pytest.mark.parametrize("dark", [-40.0, 40.0])
def test_a_negative_offset_is_no_error_and_a_positive_one_belongs_to_the_result(bulk, dark):
    shifted = redraw(bulk, np.random.default_rng(1), bulk.elastic_counts, Detector(dark=dark))
    right = bulk.truth(RESOLUTION) + max(dark, 0)
    assert errors(right, shifted, RESOLUTION).loss < 1e-6
    assert errors(right - dark, shifted, RESOLUTION).loss > 1e-4
    untouched = redraw(bulk, np.random.default_rng(1), bulk.elastic_counts, Detector())
    # Rivals know the level: the same noise above another one costs them nothing.
    for rival in (oracles.oracle_richardson_lucy, oracles.oracle_fourier, oracles.raw_errors):
        found, wanted = (rival(each, RESOLUTION) for each in (shifted, untouched))
        assert (found.loss, found.near) == pytest.approx((wanted.loss, wanted.near), rel=1e-5)


def test_a_single_or_misplaced_peak_resolves_nothing():
    assert not resolves(gaussian(128, 60.0, 6.0), (60.0, 70.0))
    assert not resolves(doublet(10.0), (70.0, 80.0))


def test_best_estimate_is_the_one_that_best_errors_finds(bulk):
    truth = bulk.truth(RESOLUTION) - bulk.dark
    candidates = [1.2 * truth, 1.01 * truth, 0.9 * truth]
    best = oracles.best_estimate(candidates, bulk, RESOLUTION)
    np.testing.assert_allclose(best, candidates[1] + bulk.dark)
    found = oracles.best_errors(candidates, bulk, RESOLUTION).loss
    assert errors(best, bulk, RESOLUTION).loss == pytest.approx(found)


@pytest.fixture
def accuracy(monkeypatch):
    """benchmarks/accuracy.py, with so few values that it ends soon."""
    if not BENCHMARKS.is_dir():
        pytest.skip("no benchmarks beside the tests")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import accuracy
    import dose_and_width
    import doublets
    import intervals

    monkeypatch.setattr(dose_and_width, "COUNTS", (1e4, 1e6))
    monkeypatch.setattr(dose_and_width, "WIDTHS", (4, 12))
    monkeypatch.setattr(doublets, "SEPARATIONS", (0.6, 1.4))
    for module in (accuracy, dose_and_width, intervals):
        monkeypatch.setattr(module, "SCENES", ("doublet", "bulk"))
    for module in (dose_and_width, intervals):
        if hasattr(module, "SHARPENINGS"):
            monkeypatch.setattr(module, "SHARPENINGS", (4,))
    return accuracy


def rows_of(printed, first):
    """Cells of the table rows that begin with ``first``."""
    cells = [line.strip("| ").split("|") for line in printed.splitlines() if "|" in line]
    return [[cell.strip() for cell in row] for row in cells if row[0].strip() == first]


def test_the_benchmark_prints_a_table(accuracy, network, capsys):
    accuracy.main("--part table --cases 1 --channels 512 --workers 1 --rivals raw".split())
    printed = capsys.readouterr().out
    (loss, root, near) = rows_of(printed, "bulk")
    assert [row[1] for row in (loss, root, near)] == ["loss", "sqrt", "near"]
    assert len(loss) == 5 and all(0 < float(value) < 10 for value in loss[2:])
    assert "lowloss" in printed and "--rivals raw" in printed


def test_the_benchmark_prints_coverage(accuracy, network, capsys):
    accuracy.main(["--part", "coverage", "--cases", "1", "--channels", "512", "--workers", "1"])
    (blind, given) = rows_of(capsys.readouterr().out, "bulk")
    assert (blind[2], given[2]) == ("ours, blind", "ours, given")
    assert 0 <= float(blind[3].split(" ± ")[0]) <= 1 and float(blind[6]) > 0


def test_the_benchmark_draws_error_against_dose(accuracy, network, capsys, tmp_path):
    accuracy.main(
        ["--part", "dose", "--cases", "1", "--channels", "512", "--workers", "1",
         "--output", str(tmp_path / "new")]
    )  # fmt: skip
    assert len(rows_of(capsys.readouterr().out, "doublet")) == 2
    assert (tmp_path / "new" / "accuracy_dose.png").stat().st_size > 10_000


def test_the_benchmark_of_limits_prints_what_it_is_asked_for(accuracy, network, capsys):
    import limits

    limits.main("--part widths lines --cases 1 --workers 1".split())
    printed = capsys.readouterr().out
    assert len(rows_of(printed, "1e+07")) == 4 and len(rows_of(printed, "0.3")) == 6
    for _, _, ratio, _ in rows_of(printed, "1e+07"):
        assert float(ratio) == pytest.approx(1, abs=0.1)


def test_the_doublets_of_the_benchmark_reach_the_bound_when_fitted_to_the_data(accuracy):
    """The bound fits the simulator: a fit that is told everything scatters about as it says."""
    import doublets

    from exspy_deepdeconv.bounds.cramer_rao import fit_two_peaks, two_peak_bound

    found = []
    for case in range(40):
        simulation, truth, width = doublets.doublet(1.0, case, 512)
        variance, inside = doublets.fitted_part(simulation, truth)
        bound = two_peak_bound(truth, width, simulation.psf, variance)
        data = simulation.counts - simulation.elastic
        fitted = fit_two_peaks(data, truth, width, simulation.psf, variance, inside)
        found.append((fitted - truth)[:2] / bound.positions)
    assert 0.8 < np.std(found) < 1.3


def test_the_benchmark_refuses_no_cases(accuracy, capsys):
    with pytest.raises(SystemExit):
        accuracy.main(["--cases", "0"])
    assert "--cases must be at least 1, not 0" in capsys.readouterr().err


def test_reflected_tail_knows_the_gain_side_only(bulk):
    """The core and the gain side are the response's own, the loss side is the gain side mirrored."""
    known = oracles.reflected_tail(bulk)
    zero, width = bulk.psf.size // 2, int(np.ceil(bulk.fwhm))
    scale = bulk.psf[zero] / known.psf[zero]
    own = slice(zero - 5 * width, zero + width)
    np.testing.assert_allclose(scale * known.psf[own], bulk.psf[own], rtol=1e-9)
    loss, gain = (known.psf[zero + sign * np.arange(2 * width, 8 * width)] for sign in (1, -1))
    np.testing.assert_allclose(loss, gain, rtol=1e-9)
    assert not np.allclose(
        loss * scale, bulk.psf[zero + np.arange(2 * width, 8 * width)], rtol=0.01
    )
    assert known.psf.sum() == pytest.approx(1)


@pytest.mark.parametrize("family", ["plasmonic", "vibrational", "doublet"])
def test_a_rigid_shift_costs_nothing_where_peaks_are_two_channels_wide(family):
    """Moving the estimate by a Fourier shift once left errors of a tenth: its peak rang."""
    narrow = replace(SCENES[family], fwhm_channels=(6.0, 6.001))
    simulation = simulate(narrow, np.random.default_rng(8), 1024, Detector())
    grid = simulation._grid
    turns = np.exp(-2j * np.pi * grid.frequency * 0.4 * grid.oversampling)
    moved = replace(
        simulation, position=simulation.position + 0.4, _specimen=simulation._specimen * turns
    )
    estimate = moved.truth(2.0)
    assert errors(estimate, simulation, 2.0, shift=False).loss > 0.02
    assert errors(estimate, simulation, 2.0).loss < 0.02
