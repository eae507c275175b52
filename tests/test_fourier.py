"""fourier.py against known answers."""

import numpy as np
import pytest
from scipy.special import voigt_profile

from exspy_deepdeconv.bounds.oracles import oracle_fourier, raw_errors
from exspy_deepdeconv.classical import fourier_ratio
from exspy_deepdeconv.evaluate import errors as errors_of
from exspy_deepdeconv.physics import FWHM_PER_SIGMA, Noise, gaussian, smooth
from exspy_deepdeconv.simulate import Detector, simulate
from exspy_deepdeconv.solvers.fourier import damped_ratio

SILENT = Noise(np.array(1e-16), np.array(1e-16))


def lorentzian_pair(width):
    """A zero-loss peak and two Lorentzians seen through a Gaussian of ``width`` channels."""
    channel, sigma = np.arange(1024), width / FWHM_PER_SIGMA
    lines = [(420.0, 4.0, 3e3), (436.0, 5.0, 2e3)]
    return 1e5 * gaussian(1024, 300.0, width) + sum(
        area * voigt_profile(channel - place, sigma, half) for place, half, area in lines
    )


@pytest.mark.parametrize(("sharpening", "error"), [(1.5, 1e-3), (2.0, 3e-3), (3.0, 2e-2)])
def test_lorentzian_pair_without_noise(sharpening, error):
    psf = gaussian(257, 128.0, 16.0)
    sharp = fourier_ratio(lorentzian_pair(16.0), psf, 16.0 / sharpening, noise=SILENT)
    truth = lorentzian_pair(16.0 / sharpening)
    assert np.abs(sharp - truth)[40:-40].max() < error * truth[400:460].max()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_free_simulation_gives_its_truth(seed):
    simulation = simulate("bulk", np.random.default_rng([5, seed]), 1024, Detector())
    resolution = simulation.fwhm / 2
    sharp = fourier_ratio(simulation.expected, simulation.psf, resolution, noise=SILENT)
    truth, start = simulation.truth(resolution), int(simulation.position + simulation.fwhm)
    beyond = slice(start, -100)
    assert np.abs(sharp - truth)[beyond].max() < 0.01 * truth[beyond].max()


def test_counts_are_kept_though_nothing_is_negative():
    rng = np.random.default_rng(2)
    counts = rng.poisson(1e5 * gaussian(512, 150.0, 10.0)) + rng.normal(0, 20.0, 512)
    sharp = fourier_ratio(counts, gaussian(129, 64.0, 10.0), 4.0)
    assert (sharp >= 0).all()
    assert sharp.sum() == pytest.approx(counts.sum(), rel=0.02)


def test_cutting_off_leaves_distant_channels_alone():
    """Nothing is sharpened here: noise around zero is cut off, a level far from it is not."""
    counts = 1e5 * gaussian(512, 60.0, 6.0) + 1000.0 / (1 + np.exp((380 - np.arange(512)) / 10))
    counts[100:300] += np.random.default_rng(6).normal(0, 10.0, 200)
    sharp = fourier_ratio(counts, gaussian(65, 32.0, 6.0), 6.0, noise=SILENT)
    assert (sharp >= 0).all()
    assert (sharp[100:300] == 0).any()
    # All channels lowered alike would be 2.2 too low there, and 3.1 too high here.
    np.testing.assert_allclose(sharp[440:480], counts[440:480], atol=1.0)
    assert sharp[130:270].mean() == pytest.approx(counts[130:270].mean(), abs=1.5)
    assert sharp.sum() == pytest.approx(counts.sum(), rel=1e-6)


def test_a_response_that_is_too_wide_does_not_wipe_out_the_losses():
    """It leaves less than nothing of the elastic peak, more than there are losses."""
    counts = 1e6 * gaussian(1024, 200.0, 12.0) + 2e4 * gaussian(1024, 600.0, 200.0)
    sharp = fourier_ratio(counts, gaussian(1024, 512.0, 13.2), 3.0)
    assert sharp[500:700].sum() == pytest.approx(counts[500:700].sum(), rel=0.15)


def test_response_that_passes_nothing_of_the_data():
    """Far too wide a Gaussian, whose transfer function is zero where the data are not."""
    counts = 1e6 * gaussian(512, 150.0, 4.0) + 1e4 * gaussian(512, 250.0, 4.0)
    with np.errstate(over="raise", invalid="raise"):
        sharp = fourier_ratio(counts, gaussian(513, 256.0, 60.0), 4.0)
    assert np.isfinite(sharp).all()


def test_more_noise_is_damped_more():
    rng = np.random.default_rng(3)
    mean = 1e4 * gaussian(512, 150.0, 10.0) + 2e3 * gaussian(512, 300.0, 12.0)
    counts, psf = rng.poisson(mean), gaussian(129, 64.0, 10.0)

    def roughness(damping):
        return np.abs(np.diff(damped_ratio(counts, psf, 4.0, damping)[200:], 2)).sum()

    assert roughness(0.1) > roughness(1.0) > roughness(30.0)


def test_oracle_beats_the_raw_data():
    simulation = simulate("bulk", np.random.default_rng(9), 512, Detector())
    resolution = simulation.fwhm / 4
    assert oracle_fourier(simulation, resolution).loss < raw_errors(simulation, resolution).loss


def test_a_flat_offset_stays_in_the_answer():
    psf = gaussian(129, 64.0, 8.0)
    mean = 1e6 * gaussian(512, 150.0, 8.0) + 1e5 * gaussian(512, 200.0, 16.0)
    counts = np.random.default_rng(4).poisson(mean).astype(float)
    plain, lifted = (fourier_ratio(counts + offset, psf, 4.0) for offset in (0.0, 500.0))
    np.testing.assert_allclose(lifted, plain + 500.0, atol=1e-3 * plain.max())


@pytest.mark.parametrize("width", [0.9, 0.97, 1.03, 1.1])
def test_a_response_that_does_not_fit_raises_no_noise(width):
    rng = np.random.default_rng(3)
    mean = 1e6 * gaussian(1024, 200.0, 12.0) + 1e5 * gaussian(1024, 500.0, 150.0)
    counts = rng.poisson(mean).astype(float)
    sharp = fourier_ratio(counts, gaussian(1024, 512.0, 12.0 * width), 3.0)
    far = slice(350, 1000)
    roughness = [np.std(np.diff(spectrum[far], 2)) for spectrum in (sharp, counts)]
    assert roughness[0] < 1.5 * roughness[1]
    assert np.abs(sharp - mean)[far].max() < 0.8 * mean[far].max()


@pytest.mark.parametrize(("too_wide", "most"), [(1.0, 0.25), (1.08, 0.35)])
def test_what_is_near_the_peak_decides_nothing_beyond(too_wide, most):
    """Noise on the peak, and what an unfit response leaves of it (before: 0.33 and 0.70)."""
    errors = []
    for seed in range(12):
        simulation = simulate("gap", np.random.default_rng([6, seed]), 1024)
        resolution = max(simulation.fwhm / 4, 2.0)
        psf = smooth(simulation.psf, simulation.fwhm * np.sqrt(too_wide**2 - 1))
        sharp = fourier_ratio(simulation.counts, psf, resolution)
        errors.append(errors_of(sharp, simulation, resolution).loss)
    assert np.exp(np.mean(np.log(errors))) < most


def test_a_loss_one_zero_loss_width_away_is_kept():
    """With the exact response; what is left of the elastic peak's fit is then no sum of counts."""
    rng = np.random.default_rng(1)
    mean = 1e6 * (gaussian(1024, 200.0, 12.0) + gaussian(1024, 212.0, 12.2))
    truth = 1e6 * (gaussian(1024, 200.0, 3.0) + gaussian(1024, 212.0, 3.6))
    sharp = fourier_ratio(rng.poisson(mean).astype(float), gaussian(1024, 512.0, 12.0), 3.0)
    loss = slice(206, None)
    assert np.abs(sharp - truth)[loss].sum() < 0.4 * truth[loss].sum()


def test_losses_near_the_peak_are_kept_apart():
    """Two, three and four zero-loss widths from it; beats between them are no noise."""
    width, channel = 12.0, slice(310, 360)

    def losses(w):
        return sum(0.02e8 * gaussian(1024, 300.0 + d * 12.0, np.hypot(w, 3.0)) for d in (2, 3, 4))

    mean = 1e8 * gaussian(1024, 300.0, width) + losses(width)
    counts = np.random.default_rng(0).poisson(mean).astype(float)
    sharp = fourier_ratio(counts, gaussian(512, 256.0, width), width / 3)
    truth = 1e8 * gaussian(1024, 300.0, width / 3) + losses(width / 3)
    assert np.abs(sharp - truth)[channel].sum() < 0.3 * truth[channel].sum()
    assert sharp[330] < 0.2 * sharp[324]  # the valley


def test_the_peak_of_a_faint_spectrum_is_kept():
    """The readout of thousands of empty channels may sum to less than nothing."""
    rng = np.random.default_rng(5)
    peak = gaussian(4096, 900.0, 12.0)
    counts = rng.poisson(2000 * peak, (40, 4096)) + rng.normal(0, 20, (40, 4096))
    sharp = fourier_ratio(counts, peak, resolution=6.0)
    assert (sharp[:, 880:921].sum(axis=-1) > 1000).all()
