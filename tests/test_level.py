"""The flat offset of a spectrum, and how well it is known."""

import warnings

import numpy as np
import pytest

from exspy_deepdeconv.physics import (
    EMPTY,
    NOT_FINITE,
    centred_response,
    find_zero_loss,
    gaussian,
    inspect,
    smooth,
)
from exspy_deepdeconv.spectrum.level import Dark, flat_level, level_behind, shared_dark


def spectra_with_tail(number, tail, offset, seed=0):
    """Zero-loss peaks with a tail of the inverse square distance, on a flat offset."""
    distance = np.arange(1024) - 400.0
    mean = 1e6 * (np.exp(-0.5 * (distance / 4) ** 2) + tail / (1 + (distance / 8) ** 2))
    rng = np.random.default_rng(seed)
    return rng.poisson(mean, (number, 1024)) + rng.normal(offset, 3, (number, 1024))


@pytest.mark.parametrize("tail", [0.0, 0.01])
def test_offset_and_its_error(tail):
    """The tail of the response is not taken for an offset, and the error told is the real one."""
    spectra = spectra_with_tail(100, tail, 200.0)
    peaks = find_zero_loss(spectra)
    level, error = flat_level(spectra, peaks)
    assert np.median(level) == pytest.approx(200, abs=1)
    beside_peak = spectra[:, :180].mean(axis=-1)
    assert np.median(beside_peak) > 202 or not tail
    # Told for neighbours that share their noise: twice that of this white noise, or a little more.
    scatter = (level - 200) / error
    assert 0.2 < scatter.std() < 0.7


def test_no_offset_no_error():
    spectra = spectra_with_tail(5, 0.0, 0.0)
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert (level == 0).all() and (error == 0).all()


def test_spectrum_that_is_negative_everywhere():
    """Too much was taken off: its highest channel is no scale, but its lowest channels tell how much."""
    channel, rng = np.arange(1024), np.random.default_rng(0)
    mean = np.exp(-0.5 * ((channel - 15) / 4) ** 2) + 0.1 * np.exp(-(((channel - 500) / 80) ** 2))
    spectra = rng.poisson(1e4 * mean) - 2e4 + rng.normal(0, 3, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = inspect(spectra)
    assert seen.usable and seen.level == pytest.approx(-2e4, abs=20)


@pytest.mark.parametrize("channels", [3, 5, 64, 95, 96, 97, 112])
def test_short_spectra_have_offsets_of_their_own_length(channels):
    """Responses of a few channels are looked at, too."""
    spectra = np.zeros((2, channels))
    spectra[:, channels // 2] = 1e4
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert level.shape == error.shape == (2,) and (level == 0).all()


def spectra_without_gain_side(number, offset, gain=1.0, seed=0):
    """They begin two widths before the peak: no channel holds the offset alone."""
    distance = np.arange(1024) - 20.0
    mean = 3e5 * (np.exp(-0.5 * (distance / 4) ** 2) + 0.03 / (1 + (distance / 8) ** 2))
    mean = mean + 200 * np.exp(-0.5 * ((distance - 300) / 80) ** 2)
    return gain * np.random.default_rng(seed).poisson(mean, (number, 1024)) + offset


@pytest.mark.parametrize("gain", [0.02, 1.0, 50.0])
def test_the_noise_tells_an_offset_where_nothing_else_does(gain):
    """Its counts do not scatter as electrons do; what these are worth is unknown."""
    offset = 80 * gain
    spectra = spectra_without_gain_side(60, offset, gain)
    level, error = flat_level(spectra, find_zero_loss(spectra))
    told = level > 0
    assert told.mean() > 0.9
    assert np.median(level[told]) == pytest.approx(offset, rel=0.03)
    assert np.mean(np.abs(level - offset)[told] < 3 * error[told]) > 0.9


@pytest.mark.parametrize("readout", [1.0, 3.0, 5.0])
def test_readout_noise_makes_the_offset_of_the_noise_uncertain(readout):
    """It adds to the variance, as electrons do: the error told was three to six times too small."""
    spectra = spectra_without_gain_side(60, 300.0)
    spectra = spectra + np.random.default_rng(1).normal(0, readout, spectra.shape)
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert (level > 0).mean() > 0.9
    assert np.mean(np.abs(level - 300) < 1.645 * error) > 0.8


@pytest.mark.parametrize("tail", [0.0, 0.03])
def test_the_noise_invents_no_offset(tail):
    """Electrons everywhere, with readout noise or without."""
    clean = spectra_without_gain_side(100, 0.0)
    noisy = clean + np.random.default_rng(1).normal(0, 5, clean.shape)
    blank = spectra_with_tail(100, tail, 0.0)[:, 380:]
    without_noise = np.random.default_rng(2).uniform(1, 2, (100, 1)) * clean.mean(axis=0)
    for spectra in (clean, noisy, blank, smooth(without_noise, 8.0)):
        level, _ = flat_level(spectra, find_zero_loss(spectra))
        assert np.mean(level != 0) < 0.03


def test_noise_is_read_right_above_an_offset():
    """Taken for counts, an offset would make each electron seem worth next to nothing."""
    gain = inspect(spectra_without_gain_side(60, 80.0)).noise.gain
    assert np.median(gain) == pytest.approx(1.0, rel=0.15) and np.mean(gain > 0.5) > 0.9


def test_a_low_stretch_does_not_lift_the_spectrum():
    """Bad channels, or a response from which too much was taken off: no offset of all channels."""
    spectra = spectra_without_gain_side(20, 0.0)
    spectra[:, 420:460] = -2000
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert (level == 0).all() and (error == 0).all()


@pytest.mark.parametrize("low", [-3000.0, -50.0, -5.0])
def test_a_lower_part_of_the_detector_is_no_offset_of_all(low):
    """Its last 130 channels; the long gain side lies at zero."""
    channel, rng = np.arange(1024), np.random.default_rng(5)
    mean = 1e5 * np.exp(-0.5 * ((channel - 300) / 4) ** 2)
    mean += 20 * np.exp(-(((channel - 600) / 80.0) ** 2))
    spectrum = rng.poisson(mean) + 2 * rng.standard_normal(1024)
    spectrum[-130:] = low + (2 * rng.standard_normal(130) if low > -1000 else 0)
    assert inspect(spectrum[None]).level == 0


def test_a_negative_offset_is_read_where_most_channels_tell_it():
    """45 channels of the gain side tell it ten times worse than the empty loss side does."""
    channel, rng = np.arange(1024), np.random.default_rng(0)
    mean = 1e5 * np.exp(-0.5 * ((channel - 130) / 3.4) ** 2)
    mean += 20 * np.exp(-(((channel - 280) / 36.0) ** 2))
    spectra = rng.poisson(mean, (60, 1024)) + rng.normal(-40, 20, (60, 1024))
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert np.sqrt(np.mean((level + 40) ** 2)) < 2
    assert np.median(error) < 2


@pytest.mark.parametrize("offset", [-30.0, -100.0])
def test_the_error_of_a_negative_offset_knows_of_tails(offset):
    """The lowest channels hold some of the response's tail: the level is too high by it."""
    tail = 3.0 / (1 + ((np.arange(1024) - 200) / 300.0) ** 2)
    mean = 1e6 * gaussian(1024, 200.0, 10.0) + tail
    spectra = np.random.default_rng(0).poisson(mean, (40, 1024)) + offset
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert (level < 0).all()
    assert np.sqrt(np.mean(((level - offset) / error) ** 2)) < 5  # it was 6.7


def test_the_error_of_a_negative_offset_knows_that_stretches_differ():
    """By tails that are in all of them: the told error was half of the real one without."""
    rng, distance = np.random.default_rng(0), np.arange(1024) - 200.0
    mean = 1e5 * (np.exp(-0.5 * (distance / 4) ** 2) + 0.03 / (1 + (distance / 8) ** 2))
    spectra = rng.poisson(mean, (60, 1024)) + rng.normal(-200, 3, (60, 1024))
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert (level < 0).all()
    assert np.mean(np.abs(level + 200) < 1.645 * error) > 0.7


def with_lorentzian_tail(number, offset, position):
    """The response falls off with the square of the distance, all over the axis."""
    tail = 1 / (1 + ((np.arange(1024) - position) / 5.0) ** 2)
    return np.random.default_rng(0).poisson(1e6 * tail, (number, 1024)) + offset


def test_a_tail_that_still_falls_makes_a_negative_offset_uncertain():
    """The lowest channels all hold about 30 counts of the tail, and scatter by less."""
    spectra = with_lorentzian_tail(40, -1000.0, 90)
    level, error = flat_level(spectra, find_zero_loss(spectra))
    assert (level > -990).all()
    assert np.sqrt(np.mean(((level + 1000) / error) ** 2)) < 3  # it was 16
    assert np.median(error) < 60


@pytest.mark.parametrize("offset", [1000.0, -1000.0])
def test_what_a_tail_leaves_uncertain_is_common_to_all_spectra_of_a_map(offset):
    dark = shared_dark(inspect(with_lorentzian_tail(16, offset, 300)))
    assert abs(dark.level - offset) < 3 * dark.error < 600


@pytest.mark.parametrize("error", [1.0, 400.0])
def test_an_empty_spectrum_has_no_share_in_the_offset_of_a_map(error):
    """However uncertain that is: else it were not empty any more."""
    spectra = spectra_with_tail(3, 0.0, 1000.0)
    spectra[1], spectra[2, 7] = 0, np.nan
    seen = inspect(spectra, Dark(1000.0, error))
    assert seen.flags.tolist() == [0, EMPTY, NOT_FINITE]
    assert not seen.counts[1:].any() and not seen.level[1:].any()
    assert seen.level[0] == pytest.approx(1000, abs=10)


@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize(("position", "tail"), [(60, 0.003), (150, 0.03)])
def test_offset_of_a_response_is_read_behind_its_peak(position, tail, offset):
    """It has no losses there: what is flat is no tail, and would be counted as one.

    The gain side is too short to tell it, or the tail has not come down to it there.
    """
    distance = np.arange(2048.0) - position
    shape = np.exp(-0.5 * (distance / 4) ** 2) + tail / (1 + (distance / 8) ** 2)
    rng = np.random.default_rng(0)
    measured = rng.poisson(2e5 * shape) + rng.normal(offset, 5, 2048)
    assert flat_level(measured, find_zero_loss(measured))[0] == 0
    far = centred_response(measured, 2048)[2048 + 100 :].sum()
    assert far == pytest.approx(shape[position + 100 :].sum() / shape.sum(), abs=2e-3)


def test_gain_side_may_contradict_an_offset_behind_the_peak():
    """What is higher behind the peak than before it is a tail, or a loss."""
    distance = np.arange(2048) - 400.0
    mean = 1e6 * np.exp(-0.5 * (distance / 4) ** 2) + np.where(distance > 0, 50.0, 0.0)
    measured = np.random.default_rng(0).poisson(mean)[None] + 0.0
    assert (level_behind(measured, find_zero_loss(measured)) == 0).all()
