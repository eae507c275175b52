"""Responses that are narrower than the zero-loss peak: blurred to its width, and only then."""

import numpy as np
import pytest

from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.models import load
from exspy_deepdeconv.physics import (
    Noise,
    centred_response,
    default_resolution,
    find_zero_loss,
    gaussian,
    half_height_width,
    inspect,
    shift_channels,
)
from exspy_deepdeconv.response.broadening import broadened, doubtful_width
from exspy_deepdeconv.response.reblur import fitted_response
from exspy_deepdeconv.simulate import Detector, simulate


def lorentzian(width, size=1024):
    shape = 1 / (1 + (2 * (np.arange(size) - size // 2) / width) ** 2)
    return shape / shape.sum()


def test_a_response_with_tails_is_brought_to_the_width_that_is_seen():
    """Widths of Lorentzians do not add up in squares: this once ended a tenth too wide."""
    response = lorentzian(10.0)
    wide = broadened(response[None], np.array([100.0]), np.array([13.0]))
    assert half_height_width(wide, np.array([512]))[0] == pytest.approx(13.0, rel=5e-3)


@pytest.mark.parametrize("width", [2.6, 3.0, 3.5, 4.0, 6.0])
@pytest.mark.parametrize("position", [100.0, 100.25, 100.5, 100.8])
def test_an_exact_response_stays_as_it_is_wherever_the_peak_lies(width, position):
    """Between two channels a narrow peak is seen up to a tenth wider."""
    response = lorentzian(width)
    peak = 1e6 * shift_channels(response, position - 512.0)
    found = find_zero_loss(peak[None])
    same = broadened(response[None], found.position, found.fwhm)
    np.testing.assert_array_equal(same[0], response)


def test_a_difference_within_the_noise_is_none():
    noise = Noise(np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    fwhm, height = np.array([8.0, 8.0]), np.array([30.0, 3e6])
    doubt = doubtful_width(fwhm, height, noise)
    assert doubt[0] > 1.0 > 0.02 > doubt[1]
    response = gaussian(256, 128.0, 7.0)[None]
    few, many = broadened(response, np.array([60.0, 60.0]), fwhm, doubt)
    np.testing.assert_array_equal(few, response[0])
    assert half_height_width(many[None], np.array([128]))[0] == pytest.approx(8.0, rel=5e-3)


def test_one_response_for_many_and_one_for_each():
    both = np.stack([gaussian(256, 128.0, 6.0), gaussian(256, 128.0, 9.0)])
    place, fwhm = np.array([50.0, 60.0, 70.0]), np.array([8.0, 9.0, 6.0])
    shared = broadened(both[:1], place, fwhm)
    each = broadened(both[[0, 1, 0]], place, fwhm)
    np.testing.assert_allclose(shared[[0, 2]], each[[0, 2]])
    np.testing.assert_array_equal(each[1], both[1])


def test_a_given_response_tells_where_the_energy_zero_is():
    """The vertex of a broad, noisy peak does not, or not as well."""
    off = []
    for seed in range(12):
        simulation = simulate("gap", np.random.default_rng(seed), 1024, detector=Detector())
        width = simulation.fwhm
        resolution = default_resolution(width)
        if simulation.position < 3 * width or simulation.elastic_counts > 1e7:
            continue
        result, _ = deconvolve_block(
            simulation.counts[None], model=load(), resolution=resolution, psf=simulation.psf
        )
        found = (find_zero_loss(result).position[0], find_zero_loss(simulation.counts).position)
        off.append(np.array(found, float) - simulation.position)
    drawn, vertex = np.sqrt(np.mean(np.square(off), axis=0))
    assert len(off) >= 4
    assert drawn < 0.5 * vertex


def broadened_for(counts, response):
    """Whether a response is broadened to explain spectra, one by one."""
    seen = inspect(counts)
    before = centred_response(response, 512)
    after = fitted_response(response, 512, seen).shape
    return np.abs(after - before).max(axis=-1) > 1e-3 * before.max()


def test_a_loss_beside_the_peak_is_no_reason_to_broaden():
    """It widens the loss side alone; blurred for it, the response took the loss for its own."""
    response, rng = gaussian(600, 300.0, 10.0), np.random.default_rng(0)
    peak = 1e6 * gaussian(512, 150.0, 10.0)
    beside = rng.poisson(peak + 2e5 * gaussian(512, 162.0, 11.0) + 5, (10, 512))
    assert (find_zero_loss(beside).fwhm > 1.03 * 10).all()
    assert broadened_for(beside, response).sum() <= 1
    drifted = rng.poisson(1e6 * gaussian(512, 150.0, 11.5) + 5, (10, 512))
    assert broadened_for(drifted, response).all()
