"""Constants and signs whose change would go unnoticed elsewhere, each held by a known answer."""

import numpy as np
import pytest
from exspy.signals import EELSSpectrum

from exspy_deepdeconv import physics
from exspy_deepdeconv._signals.sampling import typical_zero_loss
from exspy_deepdeconv.classical import total_generalised_variation
from exspy_deepdeconv.estimate.forward import counts_differ
from exspy_deepdeconv.estimate.intervals import Calibration, Regime, position_error
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.experiment.instruments import random_response
from exspy_deepdeconv.experiment.specimens import EnergyAxis, bell, plural_scattering
from exspy_deepdeconv.inference import estimate_response
from exspy_deepdeconv.models import load
from exspy_deepdeconv.physics import Noise, find_zero_loss, gaussian, inspect
from exspy_deepdeconv.response import residual
from exspy_deepdeconv.response.broadening import doubtful_width
from exspy_deepdeconv.response.convolution import response_convolution
from exspy_deepdeconv.response.elastic import fit_elastic
from exspy_deepdeconv.simulate import Detector, grid_for, redraw, simulate
from exspy_deepdeconv.training.pca import measured_pairs


def test_energy_zero_of_a_response_read_between_two_channels():
    """It lies in the channel asked for wherever the peak was: a wrong sign doubles the distance."""
    places = np.array([150.0, 150.25, 150.4, 150.75])
    counts = np.random.default_rng(0).poisson(1e7 * gaussian(512, places, np.full(4, 8.0)))
    response = estimate_response(counts, zero_channel=200).astype(float)
    np.testing.assert_allclose(find_zero_loss(response).position, 200, atol=0.1)


def test_reach_of_rare_errors():
    """One in a thousand is believed to be one in a thousand."""
    down, up = Calibration().reaches(np.ones(1), np.ones(1), 0.999, Regime(0.1, 1e6, 0.1))
    np.testing.assert_allclose([down, up], np.log(1000), rtol=1e-6)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("losses", [0.0, 3e-4, 0.05])
def test_more_confidence_is_no_narrower(given, losses):
    """Also between the confidences that are tabulated."""
    calibration, regime = load().calibration, Regime(losses, 1e6, 0.1, given)
    for share in (0.02, 0.5, 0.9):
        sizes = np.array(share), np.array(1 - share)
        confidences = np.linspace(0.01, 0.999, 300)
        reaches = np.array([calibration.reaches(*sizes, c, regime) for c in confidences])
        assert (np.diff(reaches, axis=0) > -1e-9).all() and (reaches >= 0).all()


@pytest.mark.parametrize("width", [8.0, 20.0])
def test_claimed_error_of_the_position_is_that_which_is_seen(width):
    places = 150 + np.random.default_rng(1).uniform(-0.5, 0.5, 400)
    peaks = 1e4 * gaussian(512, places, np.full(400, width))
    missed = find_zero_loss(np.random.default_rng(2).poisson(peaks)).position - places
    ratio = np.sqrt(np.mean(missed**2)) / position_error(width, 1e4)
    assert 0.3 < ratio < 1.0
    assert np.sqrt(np.mean(missed**2)) < 3.8 * width / 2.355 / 100  # times the Cramer-Rao bound


@pytest.mark.parametrize(("place", "differ"), [(20.0, False), (40.0, True)])
def test_counts_are_compared_where_the_gain_side_is_whole(place, differ):
    counts = np.random.default_rng(3).poisson(1e6 * gaussian(512, place, 10.0) + 5)[None]
    seen = inspect(counts)
    estimate = 1.2 * counts
    assert counts_differ(estimate, seen, seen.usable).tolist() == [differ]


def test_the_readout_of_many_channels_is_no_difference_of_counts():
    """Their sum scatters by as much as a tenth of the counts: 40 of 48 correct answers were flagged."""
    rng, mean = np.random.default_rng(3), 1e4 * gaussian(4096, 500.0, 10.0) + 0.3
    counts = rng.poisson(mean, (48, 4096)) + rng.normal(0, 20.0, (48, 4096))
    seen = inspect(counts)
    estimate = np.tile(mean, (48, 1))
    assert counts_differ(estimate[seen.usable], seen, seen.usable).sum() <= 1
    assert counts_differ(2 * estimate[seen.usable], seen, seen.usable).all()


@pytest.mark.parametrize(("place", "width"), [(2.8, 5.0), (2.8, 5.5), (3.5, 5.0)])
def test_a_peak_at_the_edge_of_the_axis(place, width):
    """Smoothing repeats the last value: it moved such peaks by a third of a channel, or lost them."""
    found = find_zero_loss(1e7 * gaussian(512, place, width))
    assert found.position == pytest.approx(place, abs=0.05)
    assert found.fwhm == pytest.approx(width, rel=0.05)


@pytest.mark.parametrize(("share", "misfit"), [(0.05, False), (0.2, True)])
def test_a_fifth_of_many_counts_is_a_misfit_and_a_twentieth_none(share, misfit):
    found = physics.ZeroLoss(np.array([50.0]), np.array([10.0]), np.ones(1))
    clarity = np.full((1, 400), 1000.0)
    assert residual.judge(share * clarity, found, clarity=clarity).misfit.tolist() == [misfit]


@pytest.mark.parametrize("readout", [0.0, 120.0])
def test_doubt_of_a_width_is_three_of_its_standard_errors(readout):
    rng = np.random.default_rng(4)
    peaks = 1e5 * gaussian(512, 150 + rng.uniform(-0.5, 0.5, 300), np.full(300, 12.0))
    counts = rng.poisson(peaks) + readout * rng.standard_normal(peaks.shape)
    found, one = find_zero_loss(counts), np.ones(300)
    doubt = doubtful_width(found.fwhm, found.height, Noise(one, one * readout**2))
    assert 2.4 < np.median(doubt) / found.fwhm.std() < 7  # smoothed peaks scatter less


def test_elastic_counts_are_those_of_the_core():
    """Of a loss beside it, hardly any are the peak's: only its core is fitted."""
    peak, loss = 1e6 * gaussian(512, 150.0, 10.0), 3e5 * gaussian(512, 162.0, 10.0)
    blur = response_convolution(gaussian(256, 128.0, 10.0), 512, padding=512)
    counts = (peak + loss)[None]
    elastic = fit_elastic(counts, counts + 1, find_zero_loss(counts), blur)
    assert elastic.counts[0] == pytest.approx(1e6, rel=0.05)
    assert elastic.position[0] == pytest.approx(150, abs=0.4)


def test_empty_channels_do_not_outweigh_the_zero_loss_peak():
    """A response with a tail that the data lack: it was given up for channels that hold nothing."""
    tail = 1e-4 / (1 + ((np.arange(400) - 200) / 8.0) ** 2)
    counts = np.random.default_rng(5).poisson(1e6 * gaussian(512, 150.0, 8.0)).astype(float)
    sharp = total_generalised_variation(counts, gaussian(400, 200.0, 8.0) + tail, 0.3)
    assert sharp.sum() == pytest.approx(counts.sum(), rel=0.03)


@pytest.mark.parametrize(("widths", "near"), [(4.5, True), (5.6, False)])
def test_near_ends_five_widths_past_the_peak(widths, near):
    spectrum = simulate("bulk", np.random.default_rng(0), 512)
    truth, place = spectrum.truth(4.0), int(spectrum.position + widths * spectrum.fwhm)
    truth[place] *= 2
    found = errors(truth, spectrum, 4.0, shift=False)
    assert (found.near > 1e-6) == near and found.loss > 1e-6


def test_gain_error_is_a_relative_standard_deviation():
    counts = Detector(gain_error=0.01).record(np.full(20000, 1e8), np.random.default_rng(0))
    assert counts.std() / counts.mean() == pytest.approx(0.01, rel=0.05)


def test_redrawn_offset_is_in_data_units():
    rng = np.random.default_rng(0)
    again = redraw(simulate("gap", rng, 512), rng, 1e5, Detector(gain=3.0, dark=20.0))
    assert again.dark == 60
    assert (again.expected >= 60).all()


def test_orders_of_plural_scattering_lie_at_multiples_of_the_loss():
    """Also where no sample lies at zero loss: the mean of a Poisson series is known."""
    energy = 0.1 * (np.arange(-50, 1950) + 0.3)
    axis = EnergyAxis(energy, 0.1, 1.0)
    series = plural_scattering(axis, bell(axis, 15.0, 2.0, 1.0), 1.0)
    assert series.sum() == pytest.approx(np.e - 1, rel=1e-3)
    mean = (energy * series).sum() / series.sum()
    assert mean == pytest.approx(15 * np.e / (np.e - 1), abs=2e-3)


def test_components_take_their_share_of_the_noise():
    """Six components of 24 spectra hold a quarter of it: what is left is scaled up again."""

    def signal(counts):
        made = EELSSpectrum(counts.astype(float))
        made.axes_manager[-1].scale, made.axes_manager[-1].units = 0.01, "eV"
        return made

    rng = np.random.default_rng(0)
    losses = gaussian(512, np.array([[220.0], [320.0]]), np.array([[20.0], [40.0]]))[:, 0]
    mean = 2e6 * gaussian(512, 120.0, 10.0) + rng.uniform(0, 2e5, (24, 2)) @ losses
    mean = mean + 3e5 * gaussian(512, 300.0, 250.0)
    vacuum = signal(rng.poisson(1e8 * gaussian(512, 120.0, 10.0)))
    with pytest.warns(UserWarning, match="24 spectra"):
        pairs = measured_pairs(signal(rng.poisson(mean)), vacuum, components=6)
    assert np.median(pairs.excess) == pytest.approx(1, abs=0.12)


def test_width_of_a_peak_that_is_no_gaussian():
    """It is read from a smoothed peak only where electrons are few: what is taken off is a Gaussian's."""
    channel, rng = np.arange(512), np.random.default_rng(0)
    place = 200 + rng.random((30, 1))
    shape = 1 / (1 + (2 * (channel - place) / 20.0) ** 2)
    found = physics.find_zero_loss(rng.poisson(3e6 * shape / shape.sum(axis=-1, keepdims=True)))
    assert found.fwhm == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize(("tails", "most"), [(0.0, 0.01), (0.5, 0.025), (1.0, 0.07)])
def test_width_of_a_peak_of_few_electrons(tails, most):
    """Smoothing widens a peak with tails by more than a Gaussian: it was read 10 % too wide."""
    x = 2 * (np.arange(512) - 200 - np.random.default_rng(0).random((100, 1))) / 16.0
    shape = (1 - tails) * np.exp(-np.log(2) * x**2) + tails / (1 + x**2)
    counts = np.random.default_rng(1).poisson(1e4 * shape / shape.sum(axis=-1, keepdims=True))
    found = physics.find_zero_loss(counts).fwhm
    assert np.median(found) == pytest.approx(16, rel=most)
    assert found.std() < 0.06 * 16


@pytest.mark.parametrize(("kept", "odd"), [(0.5, False), (0.15, True), (0.0, True)])
def test_a_channel_that_lacks_most_of_its_counts_is_dead(kept, odd):
    mean = 1e6 * physics.gaussian(512, 100.0, 9.0) + 1e7 * physics.gaussian(512, 250.0, 90.0)
    counts = np.random.default_rng(0).poisson(mean).astype(float)
    counts[270] *= kept
    assert bool(physics.inspect(counts).flags & physics.SPIKE) == odd


def test_a_narrow_response_is_one_that_a_channel_has_integrated():
    """A channel is blind to what oscillates once within it."""
    grid = grid_for(256, 3.0)
    for seed in range(5):
        response = random_response(grid, 3.0, 0.0, np.random.default_rng(seed))
        once = grid.size // grid.oversampling
        assert np.abs(np.fft.rfft(response))[once] < 1e-6


@pytest.mark.parametrize(("wide", "spread"), [(1, 1.0), (8, 2.0)])
def test_single_odd_widths_make_no_uneven_map(wide, spread):
    """The spread is that of nine tenths of the spectra."""
    widths = np.where(np.arange(40) < wide, 16.0, 8.0)
    counts = 1e6 * physics.gaussian(256, np.full(40, 80.0), widths)
    found = typical_zero_loss(counts, np.zeros(40, bool))
    assert found.spread == pytest.approx(spread, rel=0.02)
