"""The noise is read from the data: variance against known detectors, correlation, invariances."""

import numpy as np
import pytest
from _helpers import loss_region
from hypothesis import given, settings
from hypothesis import strategies as st

from exspy_deepdeconv.physics import estimate_noise, gaussian, prepare, smooth
from exspy_deepdeconv.simulate import Detector, simulate

SCENES = ("vibrational", "plasmonic", "gap", "doublet", "bulk")


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("detector", [Detector(), Detector(gain=0.2, readout=3.0)])
def test_mean_square_of_the_true_residual_is_one(scene, detector):
    ratios = []
    for seed in range(25):
        one = simulate(scene, np.random.default_rng([77, seed]), 1024, detector)
        counts, found, level = prepare(one.counts)
        if np.isfinite(found.position):
            variance = estimate_noise(counts).variance(one.expected - level)
            residual = (one.counts - one.expected) ** 2 / variance
            ratios.append(residual[loss_region(one)].mean())
    low, median, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    assert len(ratios) > 20
    assert 0.9 < median < 1.15
    assert 0.65 < low and high < 1.4


@pytest.mark.parametrize("spread", [2.0, 3.0])
def test_correlated_noise_is_not_mistaken_for_little(spread):
    level = 400.0 * (2 + np.sin(np.arange(2048) / 150))
    recorded = Detector(spread_channels=spread, gain=2.0).record(level, np.random.default_rng(1))
    noise = estimate_noise(recorded)
    sigma = spread / 2.3548
    # White noise blurred by a Gaussian: both numbers have closed forms.
    variance = 4 * level / (2 * np.sqrt(np.pi) * sigma)
    assert noise.variance(2 * level).mean() == pytest.approx(variance.mean(), rel=0.25)
    assert noise.correlation == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.05)


@pytest.mark.parametrize("counts", [0.02, 1.0, 100.0])
def test_rare_electrons_in_white_noise(counts):
    data = np.random.default_rng(2).poisson(counts, (20, 1024)) * 5.0
    noise = estimate_noise(data)
    assert (noise.correlation == 0).all()
    variance = noise.variance(np.full((20, 1), 5 * counts))
    assert np.median(variance) == pytest.approx(25 * counts, rel=0.35)


def test_structure_does_not_pass_for_noise():
    mean = 1e5 * gaussian(1024, 200.3, 6) + sum(
        3e4 * gaussian(1024, centre, 7.0) for centre in np.linspace(260, 700, 12)
    )
    data = np.random.default_rng(3).poisson(mean + 50, (10, 1024))
    quiet = estimate_noise(data).variance(np.full((10, 1), 50.0))
    assert np.median(quiet) == pytest.approx(50, rel=0.35)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(1e-9, 1e9))
def test_scales_with_the_data(seed, factor):
    rng = np.random.default_rng(seed)
    data = rng.poisson(rng.uniform(0, 200) * gaussian(256, 90, 9) + rng.uniform(0, 3), 256)
    one, other = estimate_noise(data), estimate_noise(factor * data)
    if data.max() > 0:
        assert other.gain == pytest.approx(factor * one.gain, rel=1e-5)
        assert other.floor == pytest.approx(factor**2 * one.floor, rel=1e-5)
    assert one.gain > 0 and one.floor > 0 and 0 <= one.correlation < 1


def test_stack_gives_what_single_spectra_give():
    data = np.random.default_rng(4).poisson(30.0, (2, 3, 300)).astype(float)
    noise = estimate_noise(data)
    assert noise.gain.shape == noise.floor.shape == noise.correlation.shape == (2, 3)
    np.testing.assert_allclose(noise.gain[1, 2], estimate_noise(data[1, 2]).gain)


@pytest.mark.parametrize("data", [np.zeros(64), np.ones(64), -np.ones(64), np.eye(1, 64)[0]])
def test_hopeless_data_give_usable_numbers(data):
    noise = estimate_noise(data)
    assert np.isfinite([noise.gain, noise.floor, noise.correlation]).all()
    assert noise.gain > 0 and noise.floor > 0


def test_shifted_spectrum_has_the_same_noise():
    rng = np.random.default_rng(5)
    data = rng.poisson(1e5 * gaussian(2048, 300.0, 10) + 1e5 * gaussian(2048, 900.0, 300) + 5)
    one, other = (estimate_noise(data[start : start + 1800], 300.0 - start) for start in (40, 77))
    assert other.gain == pytest.approx(one.gain, rel=0.03)
    assert other.variance(np.array([100.0])) == pytest.approx(one.variance(np.array([100.0])), 0.03)


@pytest.mark.parametrize("spread", [1.5, 2.0, 2.8])
def test_electrons_that_spread_under_white_readout_noise(spread):
    """A scintillator's electrons are shared by neighbours, the camera's readout noise is not.

    It hides what little the neighbours show of the electrons: these were read 10 to 100 times too
    cheap.
    """
    rng = np.random.default_rng(6)
    mean = 1e5 * gaussian(1024, 200.3, 9) + 2e4 * gaussian(1024, 600, 150) + 2
    detector = Detector(spread_channels=spread, readout=4.0)
    noise = estimate_noise(np.stack([detector.record(mean, rng) for _ in range(20)]), [200] * 20)
    # Of white noise that a Gaussian has blurred; the readout's 16 beside it.
    gain = 1 / (2 * np.sqrt(np.pi) * spread / 2.3548)
    assert np.median(noise.gain) == pytest.approx(gain, rel=0.3)
    assert np.median(noise.floor) == pytest.approx(16, rel=0.3)


def test_a_spike_is_no_electron_that_spreads():
    rng = np.random.default_rng(7)
    data = rng.poisson(1e6 * gaussian(512, 150, 10) + 3, (40, 512)).astype(float)
    data[:, 350] += 500
    assert np.mean(estimate_noise(data - 3, [150] * 40).correlation > 0) < 0.05


def test_channels_without_electrons_tell_no_noise():
    """A counting detector whose electrons spread: most of the axis is empty, and exactly so."""
    rng = np.random.default_rng(8)
    mean = 2e4 * gaussian(1024, 200.3, 10) + 0.5 * (np.arange(1024) > 700)
    data = np.stack([Detector(spread_channels=2.0).record(mean, rng) for _ in range(20)])
    noise = estimate_noise(data, [200] * 20)
    # Of single electrons that a Gaussian of two channels has blurred.
    assert np.median(noise.gain) == pytest.approx(0.33, rel=0.3)


@pytest.mark.filterwarnings("error")
def test_a_spectrum_that_is_nearly_all_negative_is_read_without_a_warning():
    counts = np.random.default_rng(0).normal(-1e12, 1e11, (2, 512))
    counts[:, 100] = 1e-9
    noise = estimate_noise(counts)
    assert np.isfinite(noise.gain).all() and np.isfinite(noise.floor).all()


@pytest.mark.parametrize(("channels", "width"), [(64, 2.5), (64, 4.0), (80, 4.0), (96, 2.5)])
def test_short_windows_are_not_ruled_by_the_zero_loss_peak(channels, width):
    """Two segments, both on the flanks of the peak, once made the gain ten thousand times too high."""
    place = channels / 4
    mean = 1e6 * gaussian(channels, place, width) + 3e4 * gaussian(channels, 0.7 * channels, 14.0)
    counts = np.random.default_rng(4).poisson(np.broadcast_to(mean + 20, (20, channels)))
    gain = estimate_noise(counts, np.full(20, place)).gain
    assert np.median(gain) < 20
    assert np.quantile(gain, 0.9) < 50


@pytest.mark.parametrize("channels", [64, 96, 128])
def test_white_noise_on_a_short_axis(channels):
    """Four channels apart everything touches the peak: the noise was read hundreds of times too high."""
    peaks = 1e6 * gaussian(channels, 16.0, 8.0) + 2e5 * gaussian(channels, 38.0, 8.0) + 20
    counts = np.random.default_rng(0).poisson(peaks, (100, channels))
    noise = estimate_noise(counts, np.full(100, 16.0))
    assert 0.3 < np.median(noise.gain) < 3 and not noise.correlation.any()


def test_no_readout_is_believed_to_be_free_of_noise():
    """Of counted electrons alone no floor is seen: a twentieth of one is left in empty channels."""
    noise = estimate_noise(3.0 * np.random.default_rng(9).poisson(200.0, (50, 1024)))
    assert (noise.floor > 0.99 * (0.05 * noise.gain) ** 2).all()
    counts = np.random.default_rng(10).poisson(1e4 * gaussian(512, 200.0, 60.0), (50, 512))
    noise = estimate_noise(counts)
    assert (noise.floor > 0.99 * (0.05 * noise.gain) ** 2).all()


@pytest.mark.parametrize("white", [True, False])
def test_readout_before_and_after_the_spread(white):
    """Neighbours share the noise of a dark channel only where its readout was spread as well."""
    rng = np.random.default_rng(11)
    mean = 1e7 * gaussian(2048, 1000.0, 12.0) + 1e4 * (np.arange(2048) > 1024)
    electrons, readout = rng.poisson(mean, (20, 2048)) - mean, rng.normal(0, 30.0, (20, 2048))
    left = smooth(electrons, 2.5) + readout if white else smooth(electrons + readout, 2.5)
    noise = estimate_noise(mean + left)
    found = noise.correlations(noise.variance(np.tile(mean, (20, 1))))
    for part in (slice(50, 900), slice(1100, 2000)):
        here = left[:, part]
        lag_1 = np.mean(here[:, 1:] * here[:, :-1]) / np.mean(here**2)
        assert np.median(found[:, part]) == pytest.approx(lag_1, abs=0.1)
    assert (noise.white_floor == white).mean() > 0.9


def test_an_offset_left_in_does_not_hide_the_noise():
    """The darkest channels pull the line under all others, which are most of the spectrum."""
    mean = np.where(np.arange(1024) < 350, 2.0, 1000.0)
    counts = np.random.default_rng(12).poisson(mean, (20, 1024)) + 1000.0
    variance = estimate_noise(counts).variance(np.full((20, 1), 2000.0))
    assert 500 < np.median(variance) < 2000


@pytest.mark.parametrize("readout", [1.0, 5.0])
def test_a_narrow_peak_above_the_readout_is_not_free_of_noise(readout):
    """Only its steep flanks tell what an electron is worth; at some places between channels, not even they."""
    rng, place = np.random.default_rng(0), 400 + np.linspace(0, 1, 40)
    counts = rng.poisson(1e5 * gaussian(2048, place, np.full(40, 4.0)))
    counts = 3.0 * (counts + readout * rng.standard_normal(counts.shape))
    gain = estimate_noise(counts, place).gain / 3.0
    assert ((0.015 < gain) & (gain < 30)).all()  # it was 1e-5 and less in a fifth of them


def test_hardly_any_noise_is_read_from_data_without_noise():
    """What shows at the wide stride alone is structure, beyond what a spread of electrons can hide."""
    smooth_losses = 3e5 * gaussian(1024, 600.0, 30.0) + 10
    noise = estimate_noise(1e6 * gaussian(1024, 300.3, 10.0) + smooth_losses, np.array(300.3))
    assert noise.gain < 0.01


def undershooting(first=0, negative=1.0):
    """A bright peak before which a dark reference that does not fit leaves waves, below zero, too.

    As measured aluminium has them: 2e4 counts beside a peak of 4e8, far above its noise.
    """
    channel = np.arange(1024)
    peak = 4e8 * gaussian(1024, 300.0, 8.0) / gaussian(1, 0.0, 8.0) + 2e6 / (
        1 + ((channel - 300) / 8) ** 2
    )
    waves = 2e4 * np.sin(channel / 12.0) * (channel < 260)
    counts = (
        10.0 * np.random.default_rng(0).poisson(peak / 10)
        + np.where(waves < 0, negative, 1.0) * waves
    )
    return counts[first:]


@pytest.mark.parametrize("first", [0, 20, 50])
def test_negative_counts_are_a_floor_of_the_noise(first):
    counts = undershooting(first)
    noise = estimate_noise(counts, np.array(300.0 - first))
    assert 0.3e4 < np.sqrt(noise.floor) < 3e4
    assert noise.gain == pytest.approx(10.0, rel=0.5)
    assert np.sqrt(estimate_noise(undershooting(first, negative=0.0), np.array(300.0)).floor) < 1e3


def test_a_few_negative_channels_are_none():
    rng = np.random.default_rng(2)
    counts = rng.poisson(1e4 * (1 + np.sin(np.arange(1024) / 40) ** 2)).astype(float)
    before = estimate_noise(counts)
    counts[100:110] = -1e4
    assert estimate_noise(counts).floor < 4 * max(before.floor, 1e4)


def test_waves_below_zero_are_no_spikes(make_signal):
    """Nor are they features that a result must explain to within the noise of electrons."""
    s = make_signal(channels=1024)
    s.data = undershooting(20)
    result = s.deep_deconvolve(show_progressbar=False)
    flags = result.metadata.Signal.deep_deconvolution.flags
    assert (flags.spike, flags.unexplained) == (0, 0)
    residual = s.deconvolution_residual(result, show_progressbar=False)
    assert np.abs(residual.data[:200]).max() < 10
