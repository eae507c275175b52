"""physics.py against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exspy_deepdeconv import physics
from exspy_deepdeconv.physics import (
    estimate_noise,
    find_zero_loss,
    gaussian,
    half_height_width,
    parabola_vertex,
    smooth,
)
from exspy_deepdeconv.simulate import SCENES, Detector, redraw, simulate


@settings(max_examples=50)
@given(position=st.floats(40, 200), fwhm=st.floats(3, 40), scale=st.floats(1e-6, 1e9))
def test_zero_loss_of_a_gaussian(position, fwhm, scale):
    found = find_zero_loss(scale * gaussian(512, position, fwhm))
    # The parabola through three samples of a narrow Gaussian is off by under 0.05 channels.
    assert found.position == pytest.approx(position, abs=0.06)
    # Half of the highest channel, which a narrow peak between two channels hardly reaches.
    assert found.fwhm == pytest.approx(fwhm, rel=0.08 if fwhm < 6 else 0.02)


@pytest.mark.parametrize("counts", [1e3, 1e5, 1e7])
@pytest.mark.parametrize("fwhm", [3.0, 10.0, 60.0])
def test_zero_loss_in_noise(counts, fwhm):
    rng = np.random.default_rng(1)
    expected = counts * gaussian(1024, 300.3, fwhm) + 2e-4 * counts / fwhm
    found = find_zero_loss(rng.poisson(np.broadcast_to(expected, (20, 1024))))
    assert np.median(np.abs(found.position - 300.3)) < 0.1 * fwhm
    assert np.median(found.fwhm) == pytest.approx(fwhm, rel=0.08)


def test_plasmon_above_the_zero_loss_peak_is_not_mistaken_for_it():
    spectrum = 1e4 * gaussian(1024, 100, 5) + 4e5 * gaussian(1024, 400, 120)
    assert spectrum.argmax() > 300
    assert find_zero_loss(spectrum).position == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("height", [0.4, 0.5, 0.6])
def test_strong_losses_are_not_merged_with_the_zero_loss_peak(height):
    channel = np.arange(1024)
    losses = height * 5600 * np.exp(-0.5 * ((channel - 170) / 25) ** 2)
    mean = 6e4 * gaussian(1024, 115, 10) + losses
    counts = np.random.default_rng(0).poisson(np.broadcast_to(mean, (8, 1024)))
    found = find_zero_loss(np.concatenate([counts, mean[None]]))
    assert found.position == pytest.approx(115, abs=0.5)
    assert found.fwhm == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(
    "spectrum",
    [
        np.zeros(256),
        np.full(256, 7.0),
        np.linspace(0, 1, 256),
        1e4 * np.exp(-np.arange(256) / 40),  # a core-loss background
        np.where(np.arange(256) == 100, 1e4, 0.0),  # a spike
    ],
    ids=["zeros", "constant", "ramp", "background", "spike"],
)
def test_no_zero_loss(spectrum):
    assert np.isnan(find_zero_loss(spectrum).position)


def test_flags():
    peak = 1e4 * gaussian(256, 80, 10)
    spiky, clipped, nan = peak.copy(), np.minimum(peak, 500), peak.copy()
    spiky[200], nan[3] = 2e4, np.nan
    stack = np.stack([peak, np.zeros(256), np.full(256, 3.0), nan, clipped, spiky])
    flags = physics.spectrum_flags(stack, find_zero_loss(stack))
    expected = [0, physics.EMPTY, physics.NO_ZERO_LOSS, physics.NOT_FINITE]
    assert flags.tolist() == [*expected, physics.SATURATED, physics.SPIKE]


def test_parabola_vertex_is_exact_for_a_parabola():
    x = np.arange(64.0)
    assert parabola_vertex(50 - (x - 20.3) ** 2, np.asarray(20)) == pytest.approx(20.3)


def test_width_of_a_triangle():
    x = np.arange(101.0)
    triangle = np.maximum(20 - np.abs(x - 50), 0)
    assert half_height_width(triangle, np.asarray(50)) == pytest.approx(20)


def test_whole_numbers_are_smoothed_without_rounding():
    counts = np.zeros(64, int)
    counts[32] = 10
    np.testing.assert_allclose(smooth(counts, 6.0), smooth(counts.astype(float), 6.0))


def test_smoothing_adds_widths_in_quadrature():
    blurred = smooth(gaussian(256, 128, 6.0), 8.0)
    np.testing.assert_allclose(blurred, gaussian(256, 128, 10.0), atol=2e-5)


@pytest.mark.parametrize(("gain", "readout"), [(1.0, 0.0), (5.0, 3.0), (1e-3, 10.0), (1.0, 1.0)])
def test_noise_is_read_from_the_data(gain, readout):
    rng = np.random.default_rng(3)
    expected = 1e6 * gaussian(2048, 300, 10) + 2e6 * gaussian(2048, 900, 300) + 20
    counts = rng.poisson(np.broadcast_to(expected, (10, 2048)))
    counts = gain * (counts + readout * rng.standard_normal(counts.shape))
    noise = estimate_noise(counts)
    at = np.array([30.0, 3000.0])  # electrons
    read = np.median([noise.variance(gain * at[None])[i] for i in range(10)], axis=0)
    np.testing.assert_allclose(read, gain**2 * (at + readout**2), rtol=0.35)


def test_noise_scales_with_the_data():
    rng = np.random.default_rng(4)
    counts = rng.poisson(1e5 * gaussian(512, 100, 8) + 50)
    one, other = (estimate_noise(k * counts) for k in (1.0, 1e-6))
    assert other.gain == pytest.approx(1e-6 * one.gain)
    assert other.floor == pytest.approx(1e-12 * one.floor)


def test_centred_response():
    measured = 3e5 * gaussian(300, 77.4, 9.0)
    centred = physics.centred_response(measured, 64)
    assert centred.sum() == pytest.approx(1)
    np.testing.assert_allclose(centred, gaussian(128, 64.0, 9.0), atol=2e-4)


@pytest.mark.parametrize("bad", [np.zeros(64), np.full(64, np.nan), -np.ones(64)])
def test_unusable_response(bad):
    with pytest.raises(ValueError, match="psf"):
        physics.centred_response(bad, 32)


@pytest.mark.parametrize(
    ("fwhm", "default", "low", "high"),
    [(40, 10, 2.5, 40), (6, 2, 2, 6), (2.5, 2.5, 2, 2.5), (1.5, 2, 2, 2), (100, 25, 6.25, 100)],
)
def test_resolutions(fwhm, default, low, high):
    assert physics.default_resolution(fwhm) == pytest.approx(default)
    assert physics.resolution_range(fwhm) == pytest.approx((low, high))


def test_noise_on_the_gain_side_is_not_the_zero_loss_peak():
    rng = np.random.default_rng(5)
    mean = 1e4 * gaussian(2048, 300.3, 40)
    counts = rng.poisson(np.broadcast_to(mean, (30, 2048))) + 20 * rng.standard_normal((30, 2048))
    assert (np.abs(find_zero_loss(counts).position - 300.3) < 10).all()


def test_hot_channels_on_the_gain_side_are_not_the_zero_loss_peak():
    spectrum = 1e6 * gaussian(512, 200, 10)
    spectrum[100:102] = 0.3 * spectrum.max()
    assert find_zero_loss(spectrum).position == pytest.approx(200, abs=0.1)


@pytest.mark.parametrize(
    ("counts", "fwhm", "readout"),
    [(1e3, 10, 3), (1e3, 60, 0), (1e4, 10, 20), (1e7, 3, 0), (1e7, 1.2, 0)],
)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_clean_spectra_are_not_flagged(counts, fwhm, readout, dtype):
    rng = np.random.default_rng(6)
    mean = counts * gaussian(1024, 300.0, fwhm) + 5
    mean *= min(6e4 / mean.max(), 1)  # 16 bits hold no more
    data = rng.poisson(np.broadcast_to(mean, (40, 1024))) + readout * rng.standard_normal(
        (40, 1024)
    )
    data = np.clip(data, 0, 65535).astype(dtype)
    flags = physics.inspect(data).flags
    assert (flags == 0).mean() > 0.97


@pytest.mark.parametrize("shift", [-40.0, 16.5, 100.0])
def test_shifts_by_many_channels_repeat_the_ends(shift):
    """They wrapped around the axis beyond 16 channels."""
    rising = np.linspace(1.0, 2.0, 256)
    moved = physics.shift_channels(np.stack([rising, rising]), np.array([shift, 0.0]))
    expected = np.interp(np.arange(256) - shift, np.arange(256), rising)
    assert np.abs(moved[0] - expected).max() < 0.01
    np.testing.assert_allclose(moved[1], rising, atol=1e-9)


@pytest.mark.parametrize(
    ("place", "factor", "added"),
    [
        (slice(199, 200), 0.0, 0.0),  # dead, beside the maximum
        (slice(205, 206), 1.5, 0.0),  # hot, on the flank
        (slice(205, 207), 1.5, 0.0),  # two of them, as at the seam of a Medipix detector
        (slice(400, 402), 1.0, 285.0),  # a cosmic ray
        (slice(400, 403), 1.0, 285.0),
        (slice(0, 1), 1.0, 1e4),  # at the end of the axis
        (slice(511, 512), 1.0, 1e4),
        (slice(300, 302), 0.0, 0.0),  # two dead ones on the losses
    ],
)
def test_bad_channels_are_flagged(place, factor, added):
    """One on the zero-loss peak moves the energy zero, and nothing else tells of it."""
    mean = 1e6 * gaussian(512, 200.0, 15.0) + 1e5 * gaussian(512, 300.0, 60.0) + 90.0
    spectra = np.random.default_rng(0).poisson(mean, (10, 512)).astype(float)
    assert not (physics.inspect(spectra).flags & physics.SPIKE).any()
    spectra[:, place] = factor * spectra[:, place] + added
    assert (physics.inspect(spectra).flags & physics.SPIKE > 0).all()


@pytest.mark.parametrize("family", SCENES)
def test_no_bad_channels_in_simulated_spectra(family):
    rng = np.random.default_rng(4)
    spectra = np.stack([simulate(family, rng, 512).counts for _ in range(40)])
    assert np.mean(physics.inspect(spectra).flags & physics.SPIKE > 0) <= 1 / 40


def test_no_bad_channels_in_other_draws_of_the_same_scenes():
    """As in a map: where the noise is misread in one spectrum, it is in many."""
    rng, flagged = np.random.default_rng(17), []
    for number in range(40):
        scene = simulate(list(SCENES)[number % len(SCENES)], rng, 512)
        again = [redraw(scene, rng, scene.elastic_counts, scene.detector) for _ in range(25)]
        found = physics.inspect(np.stack([each.counts for each in again])).flags
        flagged.append(np.mean(found & physics.SPIKE > 0))
    assert np.mean(flagged) < 0.005 and max(flagged) < 0.1


def test_spikes_and_plateaus_are_flagged_in_noise():
    rng = np.random.default_rng(7)
    mean = 1e6 * gaussian(512, 150, 10) + 3
    spiky = rng.poisson(np.broadcast_to(mean, (20, 512))).astype(float)
    spiky[:, 350] += 500
    clipped = np.minimum(rng.poisson(np.broadcast_to(mean, (20, 512))), 4e4) * (
        1 + 1e-3 * rng.standard_normal((20, 512))
    )
    assert (physics.inspect(spiky).flags == physics.SPIKE).all()
    assert (physics.inspect(clipped).flags & physics.SATURATED > 0).all()


@pytest.mark.parametrize("height", [1.5, 3.0])
def test_a_plasmon_above_the_zero_loss_peak_is_not_saturated(height):
    """That of a thick specimen: it is flatter than a peak of the zero-loss width would be."""
    mean = 1e6 * gaussian(2048, 100.0, 8.0) / gaussian(2048, 100.0, 8.0).max()
    mean += height * 1e6 / (1 + ((np.arange(2048) - 850.0) / 75) ** 2)
    seen = physics.inspect(np.random.default_rng(0).poisson(mean, (4, 2048)))
    assert seen.zero_loss.position == pytest.approx(100.0, abs=0.1)
    assert not seen.flags.any()


@pytest.mark.parametrize("fwhm", [4.0, 8.0, 16.0])
def test_correlated_noise_is_read_in_full(fwhm):
    """Neighbours that share electrons hide most of their noise from second differences."""
    rng = np.random.default_rng(8)
    mean = np.full((10, 2048), 3000.0) + 1e6 * gaussian(2048, 300, fwhm)
    counts = np.stack([Detector(spread_channels=2.0).record(m, rng) for m in mean])
    true = np.var((counts - mean)[:, 600:])
    noise = estimate_noise(counts)
    read = np.median(noise.variance(np.full((10, 1), 3000.0)))
    assert 0.5 < read / true < 2.0


@pytest.mark.parametrize("offset", [-2e-3, 3e-4, 3e-2, 1.0])
def test_flat_offset_is_found(offset):
    rng = np.random.default_rng(9)
    mean = 1e6 * gaussian(1024, 300.2, 9.0) + 2e5 * gaussian(1024, 600, 100)
    level = offset * mean.max()
    seen = physics.inspect(rng.poisson(mean) + 3 * rng.standard_normal(1024) + level)
    assert seen.level == pytest.approx(level, rel=0.1)
    assert seen.zero_loss.fwhm == pytest.approx(9.0, rel=0.03)


def test_tail_of_a_response_is_no_offset():
    x = np.arange(1024) - 300.2
    lorentzian = 1e7 * 4.5 / np.pi / (x**2 + 4.5**2)
    assert physics.inspect(np.random.default_rng(0).poisson(lorentzian)).level == 0


@pytest.mark.parametrize("fault", ["pedestal", "hot channel"])
def test_measured_response_with_a_fault(fault):
    measured = 1e6 * gaussian(1024, 300.4, 9.0)
    if fault == "pedestal":
        measured = measured + np.random.default_rng(0).poisson(np.full(1024, 500.0))
    else:
        measured[600] = 2 * measured.max()
    centred = physics.centred_response(measured, 512)
    core = centred[512 - 20 : 512 + 21]
    assert core.argmax() == 20
    if fault == "pedestal":
        assert core.sum() == pytest.approx(1, abs=0.03)
