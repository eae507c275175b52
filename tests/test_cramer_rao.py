"""cramer_rao.py against textbook cases, numerical derivatives and the scatter of fits."""

import numpy as np
import pytest

from exspy_deepdeconv.bounds.cramer_rao import (
    fisher_information,
    fit_two_peaks,
    two_peak_bound,
    two_peaks,
)
from exspy_deepdeconv.physics import FWHM_PER_SIGMA, gaussian

CHANNELS = 128
IDEAL = np.eye(1, 2 * CHANNELS, CHANNELS)[0]
SKEWED = gaussian(2 * CHANNELS, CHANNELS, 8.0) + 0.1 * gaussian(2 * CHANNELS, CHANNELS + 6, 20.0)
SKEWED = SKEWED / SKEWED.sum()
PEAKS = [58.2, 64.9, 3e4, 2e4, 20.0]


def test_peaks_are_gaussians_where_the_response_blurs_nothing():
    counts, _ = two_peaks([40.3, 60.0, 100.0, 50.0, 2.0], 5.0, IDEAL)
    expected = 100 * gaussian(CHANNELS, 40.3, 5.0) + 50 * gaussian(CHANNELS, 60.0, 5.0) + 2.0
    np.testing.assert_allclose(counts, expected, atol=1e-5)


def test_peaks_are_convolved_with_the_response():
    counts, _ = two_peaks([50.0, 70.0, 100.0, 0.0, 0.0], 4.0, SKEWED)
    full = np.convolve(100 * gaussian(CHANNELS, 50.0, 4.0), SKEWED)
    np.testing.assert_allclose(counts, full[CHANNELS : 2 * CHANNELS], atol=1e-4)


def test_slopes_are_the_derivatives():
    _, slopes = two_peaks(PEAKS, 4.0, SKEWED)
    for number, step in enumerate((1e-4, 1e-4, 1.0, 1.0, 1e-2)):
        up, down = (np.array(PEAKS, float) for _ in range(2))
        up[number] += step
        down[number] -= step
        change = two_peaks(up, 4.0, SKEWED)[0] - two_peaks(down, 4.0, SKEWED)[0]
        np.testing.assert_allclose(slopes[number], change / (2 * step), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("sigma", [3.0, 6.0])
def test_a_peak_far_from_the_other_is_placed_within_sigma_over_root_n(sigma):
    peaks, fwhm = [35.0, 95.0, 1e4, 4e4, 1e-6], sigma * FWHM_PER_SIGMA
    counts, _ = two_peaks(peaks, fwhm, IDEAL)
    bound = two_peak_bound(peaks, fwhm, IDEAL, np.maximum(counts, 1e-6))
    np.testing.assert_allclose(bound.positions, [sigma / 100, sigma / 200], rtol=0.01)
    assert bound.separation == pytest.approx(np.hypot(*bound.positions), rel=0.01)
    # An area is known as well as its electrons can be counted.
    np.testing.assert_allclose(bound.areas, [100, 200], rtol=0.01)


def test_closer_peaks_are_harder_to_part():
    def separation(distance):
        peaks = [60.0, 60.0 + distance, 1e4, 1e4, 5.0]
        return two_peak_bound(peaks, 4.0, SKEWED, two_peaks(peaks, 4.0, SKEWED)[0]).separation

    assert separation(40.0) < separation(5.0) < separation(2.5)
    # Close together, equal peaks only broaden their sum, by the square of their distance.
    assert separation(0.5) == pytest.approx(2 * separation(1.0), rel=0.03)


def test_more_readout_noise_raises_the_bound():
    counts, _ = two_peaks(PEAKS, 4.0, SKEWED)
    quiet, loud = (two_peak_bound(PEAKS, 4.0, SKEWED, counts + extra) for extra in (0.0, 900.0))
    assert (quiet.positions < loud.positions).all()
    assert quiet.separation < loud.separation


@pytest.mark.parametrize("readout", [0.0, 20.0])
def test_maximum_likelihood_scatters_as_the_bound_says(readout):
    """400 simulated recordings: the scatter of a standard deviation is then 3.5 %."""
    rng = np.random.default_rng(0)
    counts, _ = two_peaks(PEAKS, 4.0, SKEWED)
    variance = counts + readout**2
    bound = two_peak_bound(PEAKS, 4.0, SKEWED, variance)
    drawn = rng.poisson(counts, (400, CHANNELS)) + readout * rng.standard_normal((400, CHANNELS))
    found = np.array([fit_two_peaks(row, PEAKS, 4.0, SKEWED, variance) for row in drawn])
    np.testing.assert_allclose(found.mean(0)[:2], PEAKS[:2], atol=0.3 * bound.positions.max())
    np.testing.assert_allclose(found.std(0)[:2], bound.positions, rtol=0.12)
    np.testing.assert_allclose(found.std(0)[2:4], bound.areas, rtol=0.12)
    assert np.diff(found[:, :2]).std() == pytest.approx(bound.separation, rel=0.12)


def test_a_fit_that_starts_the_wrong_way_round_gives_the_lower_peak_first():
    counts, _ = two_peaks(PEAKS, 4.0, SKEWED)
    start = [66.0, 57.0, 2e4, 3e4, 0.0]
    np.testing.assert_allclose(fit_two_peaks(counts, start, 4.0, SKEWED), PEAKS, rtol=1e-5)


def test_a_channel_of_infinite_variance_is_left_out():
    counts, slopes = two_peaks(PEAKS, 4.0, SKEWED)
    part = slice(40, 90)
    variance = np.full(CHANNELS, np.inf)
    variance[part] = counts[part]
    left = fisher_information(slopes, variance)
    np.testing.assert_allclose(left, fisher_information(slopes[:, part], counts[part]))


@pytest.mark.parametrize(
    ("slopes", "variance", "message"),
    [
        (np.ones((2, 8)), np.ones(9), "do not fit"),
        (np.ones(8), np.ones(8), "do not fit"),
        (np.ones((2, 8)), np.zeros(8), "variance must be positive"),
    ],
)
def test_bad_input_of_the_information_is_named(slopes, variance, message):
    with pytest.raises(ValueError, match=message):
        fisher_information(slopes, variance)


def test_peaks_that_cannot_be_told_apart_have_no_bound():
    peaks = [60.0, 60.0, 1e4, 1e4, 5.0]
    with pytest.raises(ValueError, match="one place"):
        two_peak_bound(peaks, 4.0, SKEWED, two_peaks(peaks, 4.0, SKEWED)[0])
    with pytest.raises(ValueError, match="areas must be positive"):
        two_peak_bound([50.0, 60.0, 0.0, 1e4, 5.0], 4.0, SKEWED, np.ones(CHANNELS))


@pytest.mark.parametrize("area", [0.0, -1e4])
def test_areas_are_positive(area):
    with pytest.raises(ValueError, match="both areas must be positive"):
        two_peak_bound([60.0, 90.0, 1e4, area, 5.0], 5.0, np.eye(1, 256, 128)[0], np.ones(128))


def test_a_fit_needs_a_response_of_the_right_length():
    with pytest.raises(ValueError, match="twice as long"):
        fit_two_peaks(np.ones(100), PEAKS, 4.0, SKEWED)
