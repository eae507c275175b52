"""Residuals of arrays: re-blurred truths, forged peaks, the noise that is expected."""

from dataclasses import replace

import numpy as np
import pytest
from _helpers import loss_region

from exspy_deepdeconv import physics
from exspy_deepdeconv.response import reblur, residual
from exspy_deepdeconv.simulate import SCENES, Detector, simulate

CHANNELS = 1024
FAMILIES = ("vibrational", "plasmonic", "gap", "bulk", "free")


def scene(family, seed, **detector):
    """A simulation whose zero-loss peak is whole, and what is read off its counts."""
    rng = np.random.default_rng(seed)
    while True:
        simulation = simulate(family, rng, CHANNELS, detector=Detector(**detector))
        seen = physics.inspect(simulation.counts[None])
        if seen.usable.all() and simulation.position > 4 * simulation.fwhm:
            return simulation, seen


def chi2_of(simulation, seen, estimate, resolution, zero_loss=True):
    response = reblur.Response(simulation.psf, CHANNELS)
    return float(residual.explain(estimate[None], seen, response, resolution, zero_loss).chi2[0])


def test_white_readout_under_electrons_that_spread():
    """Neighbours share the noise of the electrons alone: of all of the noise, it was taken off."""
    channel, rng = np.arange(1024), np.random.default_rng(1)
    mean = 1e6 * physics.gaussian(1024, 200.0, 12.0) + 1e5 * physics.gaussian(1024, 420.0, 60.0)
    detector = Detector(spread_channels=2.5, gain=2.0, readout=3.0)
    counts = np.array([detector.record(mean, rng) for _ in range(40)])
    seen = physics.inspect(counts)
    variance = residual.expected_variance(seen.counts, seen.noise, seen.zero_loss.fwhm)
    left = (counts - 2.0 * mean) / np.sqrt(variance)
    beyond = channel > 260
    verdict = residual.judge(left, seen.zero_loss, seen.noise.correlations(variance))
    lag_1 = np.array([np.corrcoef(row[beyond][1:], row[beyond][:-1])[0, 1] for row in left])
    assert (lag_1 < 0.5).all() and (seen.noise.correlation > 0.6).all()
    assert abs(verdict.whiteness.mean()) < 3


def test_narrow_peak_between_two_channels_does_not_ring():
    """What a peak of four channels holds near the highest frequency stays where the peak is."""
    narrow = replace(SCENES["free"], fwhm_ev=(0.04, 0.04), dispersion_ev=(0.01, 0.01))
    narrow = replace(narrow, elastic_counts=(3e6, 3e6))
    rng, found = np.random.default_rng(6), []
    for _ in range(20):
        simulation = simulate(narrow, rng, CHANNELS, detector=Detector())
        seen = physics.inspect(simulation.counts[None])
        found.append(chi2_of(simulation, seen, simulation.truth(2.0), 2.0))
    assert np.mean(np.array(found) < 1.4) >= 0.7


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("finer", [1, 2, 4, 8])
def test_truth_blurred_again_is_the_expected_spectrum(family, finer):
    simulation, seen = scene(family, 3)
    resolution = max(simulation.fwhm / finer, 2.0)
    response = reblur.Response(simulation.psf, CHANNELS)
    variance = residual.expected_variance(seen.counts, seen.noise, seen.zero_loss.fwhm)
    again = reblur.blur_again(
        simulation.expected[None],
        simulation.truth(resolution)[None],
        response,
        seen.zero_loss,
        variance,
        resolution=resolution,
    )
    error = (again[0] - simulation.expected) / np.sqrt(variance[0])
    ends = int(simulation.fwhm)  # what lies beyond them is not known
    assert np.abs(error)[ends : -2 * ends].max() < 1.0
    assert np.sqrt(np.mean(error[loss_region(simulation)] ** 2)) < 0.3


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_result_without_the_peak_and_a_response_off_its_zero(shift):
    """Counts and place of the elastic peak are found in the data."""
    simulation, seen = scene("gap", 5)
    resolution = max(simulation.fwhm / 4, 2.0)
    moved = physics.shift_channels(simulation.psf, np.asarray(shift))
    response = reblur.Response(np.maximum(moved, 0), CHANNELS)
    variance = residual.expected_variance(seen.counts, seen.noise, seen.zero_loss.fwhm)
    models = [
        reblur.blur_again(
            simulation.counts[None],
            estimate[None],
            response,
            seen.zero_loss,
            variance,
            resolution=resolution,
            zero_loss=zero_loss,
        )[0]
        for estimate, zero_loss in (
            (simulation.truth(resolution), True),
            (simulation.inelastic(resolution), False),
        )
    ]
    for model in models:
        error = (model - simulation.expected) / np.sqrt(variance[0])
        core = np.abs(np.arange(CHANNELS) - simulation.position) < simulation.fwhm
        assert np.sqrt(np.mean(error[core] ** 2)) < 2.0
        assert np.sqrt(np.mean(error[loss_region(simulation)] ** 2)) < 0.5


def test_result_without_a_resolution_is_blurred_with_the_response():
    rng = np.random.default_rng(0)
    sharp = np.zeros((1, 256))
    sharp[0, [60, 120, 140]] = 1e5, 3e3, 2e3
    response = reblur.Response(physics.gaussian(101, 50.0, 8.0), 50)
    want = sum(a * physics.gaussian(256, c, 8.0) for a, c in ((1e5, 60), (3e3, 120), (2e3, 140)))
    counts = rng.poisson(want[None] + 1.0) - 1.0
    seen = physics.inspect(counts)
    model = reblur.blur_again(counts, sharp, response, seen.zero_loss, np.ones((1, 256)))
    np.testing.assert_allclose(model[0, :220], want[:220], atol=1e-4 * want.max())


def test_expected_variance_of_narrow_peaks_does_not_depend_on_the_neighbours():
    counts = np.random.default_rng(9).poisson([[5.0], [80.0], [900.0]], (3, 200)).astype(float)
    noise = physics.estimate_noise(counts)
    stacked = residual.expected_variance(counts, noise, np.full(3, 1.3))
    for row in range(3):
        alone = physics.estimate_noise(counts[row : row + 1])
        alone = residual.expected_variance(counts[row : row + 1], alone, np.array([1.3]))
        np.testing.assert_allclose(stacked[row], alone[0])


@pytest.mark.parametrize("beyond", [3, 30, 120])
def test_a_peak_beyond_the_end_is_no_misfit(beyond):
    """Its gain side reaches into the window: the result cannot hold what it comes from."""
    rng = np.random.default_rng(4)
    channel = np.arange(2 * CHANNELS)
    tailed = 1 / (1 + ((channel - CHANNELS) / 5.0) ** 2)  # a Lorentzian response, 10 channels wide
    spikes = np.zeros(2 * CHANNELS)
    spikes[[200, 500, CHANNELS + beyond]] = 1e6, 3e4, 2e5
    blurred = np.convolve(spikes, tailed / tailed.sum())[CHANNELS : 2 * CHANNELS]
    seen_sharply = physics.smooth(spikes, 3.0)[:CHANNELS]
    counts = rng.poisson(blurred, CHANNELS)[None]
    seen = physics.inspect(counts)
    response = reblur.Response(tailed / tailed.sum(), CHANNELS)
    verdict = residual.explain(seen_sharply[None] + seen.level, seen, response, 3.0, True)
    assert 0.7 < verdict.chi2[0] < 1.4


@pytest.mark.parametrize("family", FAMILIES)
def test_forged_peak_shows(family):
    """A peak 12 local sigmas high, two zero-loss widths wide, twelve past the peak."""
    simulation, seen = scene(family, 11)
    resolution = physics.default_resolution(simulation.fwhm)
    truth = simulation.truth(resolution)
    place = simulation.position + 12 * simulation.fwhm
    sigma = np.sqrt(simulation.expected[int(place)])
    channels = np.arange(CHANNELS)
    bump = np.exp(-4 * np.log(2) * ((channels - place) / (2 * simulation.fwhm)) ** 2)
    honest = chi2_of(simulation, seen, truth, resolution)
    forged = chi2_of(simulation, seen, truth + 12 * sigma * bump, resolution)
    assert 0.7 < honest < 1.4
    assert forged > 1.5 * honest


def test_claiming_counts_does_not_buy_noise():
    """The noise is that of the data: empty channels stay quiet whatever the result says."""
    counts = np.zeros((1, 256))
    counts[0] = np.random.default_rng(1).poisson(1e4 * physics.gaussian(256, 60, 8.0) + 0.2)
    seen = physics.inspect(counts)
    variance = residual.expected_variance(seen.counts, seen.noise, seen.zero_loss.fwhm)
    assert (variance[0, 100:] < 1.5).all()
    assert (variance > 0).all()


@pytest.mark.parametrize(
    ("correlated", "told", "white"), [(False, 0.0, True), (True, 0.5, True), (True, 0.0, False)]
)
def test_whiteness_is_judged_against_the_noise(correlated, told, white):
    noise = np.random.default_rng(2).standard_normal((50, 2001))
    noise = (noise[:, 1:] + noise[:, :-1]) / np.sqrt(2) if correlated else noise[:, 1:]
    found = physics.ZeroLoss(np.full(50, 100.0), np.full(50, 10.0), np.ones(50))
    verdict = residual.judge(noise, found, told)
    assert verdict.chi2.mean() == pytest.approx(1, abs=0.03)
    assert (np.abs(np.median(verdict.whiteness)) < 1) == white
    assert (verdict.worst > verdict.chi2).all()
    assert not verdict.misfit.any()


def test_whiteness_is_in_units_of_its_standard_error():
    """Of white noise it scatters by one, however many channels lie past the peak."""
    noise = np.random.default_rng(3).standard_normal((1000, 400))
    found = physics.ZeroLoss(np.full(1000, 90.0), np.full(1000, 10.0), np.ones(1000))
    for channels in (200, 400):
        whiteness = residual.judge(noise[:, :channels], found).whiteness
        assert whiteness.std() == pytest.approx(1, abs=0.1)
    noise[:, 1:] += 0.2 * noise[:, :-1].copy()  # neighbours share 0.2 / 1.04 of their noise
    whiteness = residual.judge(noise, found).whiteness
    assert whiteness.mean() == pytest.approx(0.2 / 1.04 * np.sqrt(300), rel=0.05)


def test_what_is_beyond_the_end_is_blurred_from_its_own_place():
    """A level that begins in the first channel beyond the window: its stretches must begin there, too."""
    response = reblur.Response(physics.gaussian(101, 50.0, 12.0), 50)
    level = np.where(np.arange(600) >= 256, 1e4, 0.0) + 1e6 * np.eye(1, 600, 100)[0]
    counts = np.convolve(level, response.shape, mode="same")[None, :256]
    found = physics.ZeroLoss(np.array([100.0]), np.array([12.0]), np.ones(1))
    estimate = 1e6 * np.eye(1, 256, 100)
    model = reblur.blur_again(counts, estimate, response, found, np.ones((1, 256)))
    np.testing.assert_allclose(model[0, 200:], counts[0, 200:], atol=10.0)


def test_nothing_past_the_peak():
    found = physics.ZeroLoss(np.array([95.0]), np.array([10.0]), np.ones(1))
    verdict = residual.judge(np.ones((1, 100)), found)
    assert np.isnan([verdict.chi2, verdict.whiteness, verdict.worst]).all()
    assert not verdict.misfit.any()


@pytest.mark.parametrize("kind", ["poisson", "spliced", "floor"])
def test_an_honest_variance_is_believed(kind):
    """It follows the counts closely, since the zero-loss peak does, but is not read from them."""
    rng, channel = np.random.default_rng(0), np.arange(512)
    zero_loss, losses = physics.gaussian(512, 150.0, 12.0), physics.gaussian(512, 300.0, 40.0)
    mean = 3e7 * zero_loss + 2e4 * losses + 20
    variance = {
        "poisson": mean,
        "spliced": np.where(channel > 200, 0.02 * mean, mean),  # losses measured 50 times longer
        "floor": mean + 100.0,
    }[kind]
    counts = mean + rng.normal(size=(20, 512)) * np.sqrt(variance)
    losses = physics.gaussian(512, 300.0, np.sqrt(40.0**2 - 12.0**2 + 4.0**2))
    result = np.tile(3e7 * physics.gaussian(512, 150.0, 4.0) + 2e4 * losses + 20, (20, 1))
    psf = physics.gaussian(400, 200.0, 12.0)
    found, _, _ = residual.residual_block(
        counts, psf, result=result, resolution=4.0, variance=np.tile(variance, (20, 1))
    )
    assert 0.9 < found[:, -2].mean() < 1.1


def test_sparse_channels_are_not_judged_by_the_flank_of_the_peak():
    """Where hardly an electron comes, next to no noise is expected: it was a hundred times too much."""
    mean = 2e5 * physics.gaussian(1024, 200.0, 8.0) + 0.01
    counts = np.random.default_rng(0).poisson(mean, (40, 1024)).astype(float)
    noise = physics.Noise(np.ones(40), np.full(40, 1e-9))
    expected = residual.expected_variance(counts, noise, np.full(40, 8.0))
    assert 0.1 < np.mean(((counts - mean) ** 2 / expected)[:, 250:]) < 1.5


def test_a_noise_that_was_set_decides_whether_a_response_is_too_narrow():
    """As for the result, whose response was not broadened either."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1e7 * physics.gaussian(512, 120.3, 10.5))[None].astype(float)
    psf, result = physics.gaussian(400, 200.0, 10.0), 1e7 * physics.gaussian(512, 120.3, 3.0)[None]
    options = {"result": result, "resolution": 3.0}
    for variance, alike in ((4e8, True), (np.full((1, 512), 4e8), True), (None, False)):
        broadened, as_it_is = (
            residual.residual_block(counts, psf, variance=variance, broaden=x, **options)[0]
            for x in (True, False)
        )
        assert np.array_equal(broadened, as_it_is) is alike
