"""classical.py against exspy's own result and known answers."""

import numpy as np
import pytest

from exspy_deepdeconv.classical import richardson_lucy
from exspy_deepdeconv.physics import gaussian


@pytest.fixture
def blurred():
    """Two lines behind a zero-loss peak, noise included; and the response."""
    rng = np.random.default_rng(0)
    psf = gaussian(512, 256.0, 9.0) + 0.05 * gaussian(512, 262.0, 20.0)
    truth = np.zeros(512)
    truth[[150, 300, 340]] = 1e5, 3e3, 2e3
    mean = np.convolve(truth, psf / psf.sum(), mode="same")
    return rng.poisson(np.roll(mean, 1) + 5.0).astype(float), psf


def test_equals_exspy(blurred):
    """exspy pads with zeros, so only the middle can agree."""
    from exspy.signals import EELSSpectrum

    counts, psf = blurred
    signal, response = EELSSpectrum(counts), EELSSpectrum(psf)
    theirs = signal.richardson_lucy_deconvolution(response, 15, show_progressbar=False).data
    ours = richardson_lucy(counts, psf, 15)
    # exspy centres the response on its highest channel, we on the parabola's vertex.
    middle = slice(60, -60)
    assert np.abs(ours - theirs)[middle].max() < 0.02 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=1e-3)


def test_equals_exspy_for_a_response_centred_on_a_channel():
    from exspy.signals import EELSSpectrum

    rng = np.random.default_rng(1)
    psf = gaussian(512, 256.0, 9.0)
    counts = rng.poisson(1e5 * gaussian(512, 200.0, 10.0) + 2e3 * gaussian(512, 260.0, 15.0) + 20)
    counts = counts.astype(float)
    theirs = EELSSpectrum(counts).richardson_lucy_deconvolution(
        EELSSpectrum(psf), 15, show_progressbar=False
    )
    middle = slice(60, -60)
    difference = np.abs(richardson_lucy(counts, psf, 15) - theirs.data)[middle]
    assert difference.max() < 1e-5 * theirs.data.max()


def test_resolves_a_doublet_without_noise():
    psf = gaussian(256, 128.0, 12.0)
    counts = 1e4 * (gaussian(256, 121.0, 12.5) + gaussian(256, 130.0, 12.5))
    assert counts[125:127].min() > counts[121]  # one hump
    sharp = richardson_lucy(counts, psf, 2000)
    peaks = np.flatnonzero((sharp[1:-1] > sharp[:-2]) & (sharp[1:-1] > sharp[2:])) + 1
    tallest = sorted(peaks[np.argsort(sharp[peaks])[-2:]])
    assert tallest == pytest.approx([121, 130], abs=1)


def test_batches_shapes_and_types(blurred):
    counts, psf = blurred
    one = richardson_lucy(counts, psf, 10)
    stack = richardson_lucy(np.stack([counts, 2 * counts]).reshape(1, 2, -1), psf, 10)
    np.testing.assert_allclose(stack[0, 0], one)
    np.testing.assert_allclose(stack[0, 1], 2 * one)
    single = richardson_lucy(counts.astype(np.float32), psf, 10)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, one, atol=1e-4 * one.max())
    assert richardson_lucy(counts.astype(np.uint16), psf, 2).dtype == np.float64
    each = richardson_lucy(np.stack([counts, counts]), np.stack([psf, psf]), 10)
    np.testing.assert_allclose(each[1], one)


@pytest.mark.parametrize("length", [41, 100, 2000])
def test_response_of_any_length_and_area(blurred, length):
    counts, _ = blurred
    short = gaussian(length, length // 2, 9.0)
    reference = richardson_lucy(counts, gaussian(512, 256.0, 9.0), 10)
    np.testing.assert_allclose(
        richardson_lucy(counts, 77 * short, 10), reference, rtol=1e-3, atol=1
    )


def test_negative_and_empty_spectra_stay_finite(blurred):
    counts, psf = blurred
    noisy = counts - 40.0
    for data in (noisy, np.zeros(512), -np.ones(512)):
        answer = richardson_lucy(data, psf, 10)
        assert np.isfinite(answer).all() and (answer >= 0).all()


def test_counts_are_conserved(blurred):
    counts, psf = blurred
    assert richardson_lucy(counts, psf, 50).sum() == pytest.approx(counts.sum(), rel=1e-3)


def test_at_least_one_iteration(blurred):
    with pytest.raises(ValueError, match="iterations must be at least 1, not 0"):
        richardson_lucy(*blurred, iterations=0)
