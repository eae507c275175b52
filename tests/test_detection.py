"""How high a loss must be to be found: what is promised holds for losses that are really there."""

import warnings

import numpy as np
import pytest
from _helpers import deconvolve, energy_axis, non_uniform

import exspy_deepdeconv
from exspy_deepdeconv import data
from exspy_deepdeconv.physics import gaussian

exspy_deepdeconv.register()
from exspy.signals import EELSSpectrum  # noqa: E402

FWHM, ZERO, CHANNELS = 12.0, 120.0, 512
SIGMA = FWHM / 2.3548
CHANNEL = np.arange(CHANNELS)


def peak(place, fwhm, tail=0.0):
    """A Gaussian of unit area with a Lorentzian tail that holds so much of it."""
    lorentzian = 2 / (np.pi * fwhm) / (1 + (2 * (CHANNEL - place) / fwhm) ** 2)
    return (1 - tail) * gaussian(CHANNELS, place, fwhm) + tail * lorentzian


def spectrum(mean, seed=0):
    s = EELSSpectrum(np.random.default_rng(seed).poisson(mean).astype(float))
    axis = energy_axis(s)
    axis.name, axis.scale, axis.units, axis.offset = "Energy loss", 0.01, "eV", -0.01 * ZERO
    s.metadata.General.title = "one"
    return s


def low_loss(electrons=1e6, tail=0.1, floor=20.0, seed=0):
    """A zero-loss peak, 0.12 eV wide, on losses that are everywhere the same."""
    losses = floor * (CHANNEL > ZERO + FWHM)
    return spectrum(electrons * peak(ZERO, FWHM, tail) + losses, seed)


def limit_of(s, *args, **kwargs):
    return s.detection_limit(*args, show_progressbar=False, **kwargs)


def line_of_height(energy, height, resolution, electrons=1e6, tail=0.1, floor=20.0, seed=1):
    """The same spectrum with a line of this height, as a result shows it, half as wide as the peak."""
    place, width = ZERO + energy / 0.01, FWHM / 2
    area = height / gaussian(1, 0.0, np.hypot(width, resolution / 0.01))[0]
    blurred = area * peak(place, np.hypot(width, FWHM), tail)
    losses = floor * (CHANNEL > ZERO + FWHM)
    return spectrum(electrons * peak(ZERO, FWHM, tail) + losses + blurred, seed)


@pytest.fixture(scope="module")
def blind():
    return limit_of(low_loss())


@pytest.mark.parametrize("energy", [0.3, 0.6, 1.5])
def test_a_line_of_that_height_is_found(blind, energy):
    """One that is really there, with noise of its own."""
    resolution = blind.metadata.Signal.detection_limit.resolution
    height = float(blind.isig[energy].data[0])
    counts = []
    for there in (height, 0.0):
        s = line_of_height(energy, there, resolution)
        result = deconvolve(s, zero_loss=False, resolution=resolution)
        counts.append(result.isig[energy - 0.05 : energy + 0.05].data.sum())
    width = np.hypot(FWHM / 2, resolution / 0.01)
    line = height * gaussian(CHANNELS, 300.0, width) / gaussian(1, 0.0, width)[0]
    assert counts[0] - counts[1] > 0.5 * line[295:306].sum()


def test_far_from_the_peak_it_is_set_by_the_noise(blind):
    """There it is some times the height of a line with three times the counts of the noise."""
    resolution = blind.metadata.Signal.detection_limit.resolution / 0.01
    wide, shown = np.hypot(FWHM / 2, FWHM), np.hypot(FWHM / 2, resolution)
    line = gaussian(CHANNELS, 300.0, wide)
    window = np.abs(CHANNEL - 300) <= 0.75 * wide
    mean = 20 + 1e6 * peak(ZERO, FWHM, 0.1)[300]
    area = 3 * np.sqrt(mean * window.sum()) / line[window].sum()
    smallest = area * gaussian(1, 0.0, shown)[0]
    found = blind.isig[1.6:2.0].data
    assert (2.5 * smallest < found).all() and (found < 12 * smallest).all()


def test_nearer_to_the_peak_it_is_higher(blind):
    near, middle, far = (float(blind.isig[energy].data[0]) for energy in (0.22, 0.5, 2.0))
    assert near > 3 * middle > 3 * far


def test_it_is_known_from_a_peak_width_on_to_the_last_whole_line(blind):
    known = np.flatnonzero(np.isfinite(blind.data))
    energies = energy_axis(blind).axis[known[[0, -1]]]
    assert 0.14 < energies[0] < 0.21 and 3.7 < energies[1] < 3.9
    assert np.isfinite(blind.isig[0.21:3.5].data).all()


def test_more_electrons_show_more():
    """A hundred times as many, a tenth of their noise: of the same losses, smaller parts are seen."""
    few, many = (limit_of(low_loss(n, floor=n / 5e4)).isig[1.5].data[0] / n for n in (1e5, 1e7))
    assert 4 < few / many < 25


def test_a_response_that_is_given_shows_more_on_the_tail():
    s = low_loss(tail=0.3)
    vacuum = spectrum(1e8 * peak(ZERO, FWHM, 0.3), seed=5)
    blind, given = limit_of(s), limit_of(s, psf=vacuum)
    assert given.metadata.Signal.detection_limit.psf.startswith("measured")
    near = slice(0.2, 0.4)
    assert np.nanmedian(given.isig[near].data) < 0.7 * np.nanmedian(blind.isig[near].data)


def test_a_response_that_does_not_fit_is_not_used(blind):
    s, wide = low_loss(), spectrum(1e8 * peak(ZERO, 1.5 * FWHM, 0.1))
    with pytest.warns(UserWarning, match="detection_limit: a spectrum.*response"):
        found = limit_of(s, psf=wide)
    np.testing.assert_allclose(found.data, blind.data, rtol=1e-5)


def test_wider_lines_are_lower():
    """Their counts are spread over more channels."""
    s = low_loss()
    narrow, wide = (limit_of(s, width=w).isig[2.0].data[0] for w in (0.03, 0.3))
    assert wide < 0.7 * narrow


def test_it_follows_the_scale_of_the_data(blind):
    s = low_loss()
    s.data *= 1e-3
    np.testing.assert_allclose(limit_of(s).data, 1e-3 * blind.data, rtol=0.02)


def test_a_noise_that_was_set_counts(blind):
    s = low_loss()
    s.set_noise_variance(s._deepcopy_with_new_data(25.0 * np.maximum(s.data, 25.0)))
    far = slice(1.5, 3.5)
    ratio = np.median(limit_of(s).isig[far].data) / np.median(blind.isig[far].data)
    assert 3 < ratio < 8


def test_result_describes_itself(blind):
    note = blind.metadata.Signal.detection_limit
    assert blind.metadata.General.title == "one detection limit"
    assert note.model == exspy_deepdeconv.models.load().name
    assert note.width == pytest.approx(0.06, rel=0.1) and note.resolution == pytest.approx(
        0.03, 0.1
    )
    s = low_loss()
    s.set_noise_variance(30.0)
    assert not limit_of(s).metadata.Signal.has_item("Noise_properties")


@pytest.mark.parametrize("kind", ["reversed", "lazy", "meV", "read-only", "integers", "size one"])
def test_it_is_the_same_for_all_kinds_of_signals(blind, kind):
    s = low_loss()
    if kind == "reversed":
        axis = energy_axis(s)
        s.data = s.data[::-1].copy()
        axis.offset, axis.scale = axis.high_value, -axis.scale
    elif kind == "lazy":
        s = s.as_lazy()
    elif kind == "meV":
        energy_axis(s).convert_to_units("meV")
    elif kind == "read-only":
        s.data.flags.writeable = False
    elif kind == "integers":
        s.change_dtype("uint32")
    elif kind == "size one":
        s = EELSSpectrum(s.data[None])
        axis = energy_axis(s)
        axis.scale, axis.units, axis.offset = 0.01, "eV", -0.01 * ZERO
    before = np.array(s.data)
    found = limit_of(s)
    assert found.data.shape == s.data.shape and not found._lazy
    np.testing.assert_array_equal(s.data, before)
    values = found.data.ravel()[:: -1 if kind == "reversed" else 1]
    np.testing.assert_allclose(values, blind.data, rtol=1e-3)


@pytest.mark.parametrize("width", [0, -0.1, np.nan, np.inf, "0.1", True, 2.0])
def test_bad_widths_are_named(width):
    with pytest.raises(ValueError, match="width="):
        limit_of(low_loss(), width=width)


def test_other_bad_input(make_signal):
    with pytest.raises(ValueError, match="holds 6 spectra"):
        limit_of(make_signal(2, 3))
    with pytest.raises(ValueError, match="resolution=5"):
        limit_of(low_loss(), resolution=5)
    empty = low_loss()
    empty.data[:] = 0
    with pytest.raises(ValueError, match="zeros"):
        limit_of(empty)
    s = low_loss()
    non_uniform(s)
    with pytest.raises(NotImplementedError):
        limit_of(s)
    with pytest.raises(ValueError, match="ends before a line fits in"):
        limit_of(low_loss().isig[:136])


def test_it_warns_as_the_deconvolution_does():
    s = low_loss()
    s.data[CHANNEL > 100] = np.minimum(s.data[CHANNEL > 100], 4e4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit_of(s)
    (said,) = {str(w.message) for w in caught if "saturated" in str(w.message)}
    assert said.startswith("detection_limit: a spectrum")


def test_no_line_is_promised_that_hides_behind_the_peak():
    """A line that is as high as the tail, and which the network takes for tail, is below the limit."""
    s = data.exciton_spectrum()
    result = deconvolve(s)
    limit = limit_of(s)
    resolution = result.metadata.Signal.deep_deconvolution.resolution
    truth = data.truth(s, resolution)
    missed = truth.isig[0.25:1.2].data - result.isig[0.25:1.2].data
    assert (missed < limit.isig[0.25:1.2].data).all()
