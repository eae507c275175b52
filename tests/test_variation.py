"""variation.py and admm.py against SciPy's own minimum and known answers."""

import numpy as np
import pytest
from scipy.optimize import minimize

from exspy_deepdeconv.bounds.oracles import (
    oracle_richardson_lucy,
    oracle_total_generalised_variation,
)
from exspy_deepdeconv.classical import richardson_lucy, total_generalised_variation
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.physics import (
    MIN_RESOLUTION_CHANNELS,
    Noise,
    default_resolution,
    gaussian,
    parabola_vertex,
    smooth,
)
from exspy_deepdeconv.response.convolution import response_convolution
from exspy_deepdeconv.simulate import Detector, simulate
from exspy_deepdeconv.solvers.admm import Problem, minimise
from exspy_deepdeconv.solvers.variation import solve_weights


def problem_without_peak(data, precision, psf=(0.0, 1.0, 0.0)):
    """Data on the padded axis itself, to be explained by a response without an elastic peak."""
    blur = response_convolution(np.asarray(psf), 16)
    assert blur.size == data.shape[-1]
    return Problem(data, precision, np.zeros_like(data), np.zeros_like(data), blur)


@pytest.fixture
def padded():
    """A noisy kink on the padded axis."""
    size = response_convolution(np.array([0.0, 1.0, 0.0]), 16).size
    rng = np.random.default_rng(0)
    data = np.maximum(8.0 - np.abs(np.arange(size) - size // 2), 0) + rng.normal(0, 1, size)
    return data[None], rng.uniform(0.5, 2.0, (1, size))


def test_a_small_weight_leaves_the_data_and_a_large_one_their_mean(padded):
    data, precision = padded
    problem, one = problem_without_peak(data, precision), np.ones_like(data)
    close = minimise(problem, 1e-6 * one, 1e-6 * one, np.abs(data), 2000)[0]
    np.testing.assert_allclose(close, np.maximum(data, 0), atol=1e-3)
    flat = minimise(problem, 1e3 * one, 1e3 * one, np.abs(data), 4000)[0]
    np.testing.assert_allclose(flat, np.average(data, weights=precision), rtol=1e-2)


def test_reaches_the_minimum_that_scipy_finds(padded):
    """The same problem as a quadratic programme in x, t and bounds of both terms."""
    data, precision = padded
    size, psf, first, second = data.size, (0.0, 0.25, 0.5, 0.25, 0.0), 0.7, 1.5
    problem = problem_without_peak(data, precision, psf)
    blur = np.array([problem.blur.forward(row) for row in np.eye(size)]).T
    difference = np.roll(np.eye(size), 1, axis=1) - np.eye(size)

    def objective(z):
        x, _, a, b = z.reshape(4, size)
        residual = blur @ x - data[0]
        value = 0.5 * precision[0] @ residual**2 + first * a.sum() + second * b.sum()
        ones = np.ones(size)
        slope = blur.T @ (precision[0] * residual)
        return value, np.concatenate([slope, 0 * ones, first * ones, second * ones])

    zero, one = np.zeros((size, size)), np.eye(size)
    rows = [np.hstack([sign * difference, -sign * one, one, zero]) for sign in (1, -1)] + [
        np.hstack([zero, sign * difference, zero, one]) for sign in (1, -1)
    ]
    bounds = np.vstack(rows)
    constraint = {"type": "ineq", "fun": lambda z: bounds @ z, "jac": lambda z: bounds}
    start = np.concatenate([np.abs(data[0]), np.zeros(size), *np.full((2, size), 10.0)])
    theirs = minimize(
        objective, start, jac=True, method="SLSQP", constraints=[constraint],
        bounds=[(0, None)] * size + [(None, None)] * (3 * size), options={"maxiter": 500},
    )  # fmt: skip
    ours = minimise(problem, first + 0 * data, second + 0 * data, np.abs(data), 3000)[0]
    assert theirs.success
    np.testing.assert_allclose(ours[0], theirs.x[:size], atol=0.02 * data.max())


def test_finds_the_elastic_counts_beside_the_loss():
    psf = gaussian(129, 64.0, 8.0)
    mean = 1e6 * gaussian(512, 120.3, 8.0) + 1e5 * gaussian(512, 160.0, 16.0)
    counts = np.random.default_rng(1).poisson(mean)
    estimate = total_generalised_variation(counts, psf, 1.0)
    assert estimate[112:129].sum() == pytest.approx(1e6, rel=0.01)
    assert estimate.sum() == pytest.approx(counts.sum(), rel=5e-3)
    around = np.arange(118, 124)
    assert np.average(around, weights=estimate[around]) == pytest.approx(120.3, abs=0.05)


def test_keeps_a_kink_that_richardson_lucy_ripples():
    channel = np.arange(600)
    truth = np.where(channel > 300, 0.4 * (channel - 300.0), 0.0)
    psf = gaussian(129, 64.0, 12.0)
    mean = 1e6 * gaussian(600, 120.0, 12.0) + smooth(truth, 12.0)
    counts = np.random.default_rng(2).poisson(mean)

    def error(estimate):
        return np.linalg.norm((estimate - truth)[200:560])

    ours = error(total_generalised_variation(counts, psf))
    assert ours < 0.5 * min(error(richardson_lucy(counts, psf, n)) for n in (3, 10, 30, 100))


def test_oracle_is_not_worse_than_that_of_richardson_lucy():
    ratios = []
    for seed in range(4):
        simulation = simulate("gap", np.random.default_rng([8, seed]), 512, Detector())
        resolution = simulation.fwhm / 4
        ours = oracle_total_generalised_variation(simulation, resolution)
        theirs = oracle_richardson_lucy(simulation, resolution)
        ratios.append(ours.loss / theirs.loss)
    assert np.median(ratios) < 1.0


def test_automatic_weight_goes_up_where_more_noise_is_reported():
    psf = gaussian(65, 32.0, 8.0)
    mean = 1e5 * gaussian(256, 60.0, 8.0) + 2e4 * gaussian(256, 140.0, 9.0)
    counts = np.random.default_rng(3).poisson(mean).astype(float)
    noise = Noise(np.array([1e-4, 30.0]), np.array([1e-4, 30.0]))
    spectra = np.stack([counts, counts])
    estimate, chosen = total_generalised_variation(spectra, psf, noise=noise, return_chosen=True)
    assert 10 * chosen[0] < chosen[1]
    given = total_generalised_variation(
        counts, psf, chosen[1], noise=Noise(np.array(30.0), np.array(30.0))
    )
    np.testing.assert_allclose(estimate[1], given, rtol=1e-6, atol=1e-6 * given.max())


def test_automatic_weight_is_heavier_for_a_broad_loss_than_for_a_narrow_one():
    psf, channel = gaussian(65, 32.0, 8.0), np.arange(512)
    shapes = [np.exp(-4 * np.log(2) * ((channel - 300) / width) ** 2) for width in (9.0, 120.0)]
    counts = 1e6 * gaussian(512, 60.0, 8.0) + 2e3 * np.array(shapes)
    noise = Noise(np.array(1.0), np.array(100.0))
    _, chosen = total_generalised_variation(counts, psf, noise=noise, return_chosen=True)
    assert chosen[1] > 3 * chosen[0]


def loss_error(estimate, simulation, resolution):
    own = np.sqrt(resolution**2 - MIN_RESOLUTION_CHANNELS**2)
    return errors(smooth(estimate, own), simulation, resolution).loss


def test_automatic_weight_costs_little_on_bulk_plasmons():
    cost = []
    for seed in range(4):
        simulation = simulate("bulk", np.random.default_rng([9, seed]), 512, Detector())
        resolution = default_resolution(simulation.fwhm)
        chosen = total_generalised_variation(simulation.counts, simulation.psf)
        others = solve_weights(simulation.counts, simulation.psf, [0.1, 0.3, 1.0, 3.0])
        best = min(loss_error(other, simulation, resolution) for other in others)
        cost.append(loss_error(chosen, simulation, resolution) / best)
    assert np.median(cost) < 1.15


def test_a_flat_offset_stays_in_the_answer():
    psf = gaussian(129, 64.0, 8.0)
    mean = 1e6 * gaussian(512, 150.0, 8.0) + 1e5 * gaussian(512, 200.0, 16.0)
    counts = np.random.default_rng(4).poisson(mean).astype(float)
    plain = total_generalised_variation(counts, psf, 1.0)
    lifted = total_generalised_variation(counts + 500.0, psf, 1.0)
    np.testing.assert_allclose(lifted, plain + 500.0, atol=1e-3 * plain.max())


def test_losses_under_the_zero_loss_peak_are_not_counted_twice():
    """The first fit of the peak takes them for a part of it; its height stays free."""
    mean = 1e5 * (gaussian(512, 150.0, 10.0) + gaussian(512, 157.0, 12.8))
    counts = np.random.default_rng(0).poisson(mean + 2e4 * gaussian(512, 300.0, 40.0))
    sharp = total_generalised_variation(counts, gaussian(300, 150.0, 10.0))
    assert sharp.sum() == pytest.approx(counts.sum(), rel=0.01)


def test_the_elastic_peak_moves_away_from_a_loss_beside_it():
    """The first fit is drawn towards the loss, by a whole channel; what is put back is not."""
    peak, loss = gaussian(512, 150.3, 10.0), gaussian(512, 156.0, 10.5)
    mean = 1e6 * peak + 3e5 * loss + 1e5 * gaussian(512, 300.0, 40.0)
    counts = np.random.default_rng(5).poisson(mean)
    sharp = total_generalised_variation(counts, gaussian(300, 150.0, 10.0), 0.1)
    top = parabola_vertex(sharp, np.asarray(sharp.argmax()))
    assert top == pytest.approx(150.3, abs=0.2)
