"""The simulated signals: what they hold, and that their truth is the truth."""

import re
import subprocess
import sys

import hyperspy.api as hs
import numpy as np
import pytest

from exspy_deepdeconv import data, physics


@pytest.fixture(scope="module")
def small_map():
    return data.plasmonic_map(shape=(2, 3))


def test_map_is_a_calibrated_eels_signal(small_map):
    assert small_map.metadata.Signal.signal_type == "EELS"
    assert small_map.data.shape == (2, 3, 1024)
    assert small_map.axes_manager.navigation_shape == (3, 2)
    energy = small_map.axes_manager.signal_axes[0]
    assert (energy.units, energy.scale) == ("eV", data.MAP_DISPERSION)
    peak = physics.find_zero_loss(small_map.data)
    assert np.median(peak.fwhm) * energy.scale == pytest.approx(data.MAP_FWHM, rel=0.02)
    drift = np.ptp(peak.position)
    assert 1 < drift < 8
    assert abs(energy.axis[int(np.median(peak.position))]) < 3 * energy.scale


@pytest.mark.parametrize("make", [data.plasmonic_map, data.exciton_spectrum])
def test_same_seed_same_data(make):
    shape = {"shape": (2, 2)} if make is data.plasmonic_map else {}
    first = make(**shape, channels=256)
    np.testing.assert_array_equal(first.data, make(**shape, channels=256).data)
    assert not np.array_equal(first.data, make(**shape, channels=256, seed=1).data)


def test_truth_blurred_by_the_response_gives_the_data(small_map):
    """Taken through both ways, p * truth and g_R * data have the same mean."""
    resolution = 0.03
    channels = small_map.data.shape[-1]
    truth = data.truth(small_map, resolution).data
    for spectrum, true, simulation in zip(
        small_map.data.reshape(-1, channels),
        truth.reshape(-1, channels),
        data.simulations(small_map.metadata.Simulation.as_dictionary()),
        strict=True,
    ):
        blurred_truth = np.convolve(true, simulation.psf, "full")[channels : 2 * channels]
        blurred_data = physics.smooth(spectrum, resolution / data.MAP_DISPERSION)
        middle = slice(60, -60)  # what lies beyond the ends is not in the truth
        difference = (blurred_truth - blurred_data)[middle]
        assert np.abs(difference).max() < 0.01 * spectrum.max()
        loss = slice(int(simulation.position + 2 * simulation.fwhm), -60)
        scatter = (blurred_truth - blurred_data)[loss] / np.sqrt(blurred_data[loss] + 4)
        assert np.abs(np.mean(scatter)) < 0.3
        assert np.std(scatter) < 1.0


def test_truth_is_consistent_between_resolutions():
    s = data.exciton_spectrum()
    fine, coarse = (data.truth(s, r).data for r in (0.03, 0.05))
    smoothed = physics.smooth(fine, 4.0)  # 3 channels and 4 channels make 5
    np.testing.assert_allclose(smoothed[20:-20], coarse[20:-20], atol=2e-4 * coarse.max())


def test_excitons_merge_in_the_data_and_part_in_the_truth():
    s = data.exciton_spectrum()
    (simulation,) = data.simulations(s.metadata.Simulation.as_dictionary())
    energy = s.axes_manager[-1].axis
    window = (energy > 1.7) & (energy < 2.2)

    def maxima(spectrum):
        return np.sum(np.diff(np.sign(np.diff(spectrum[window]))) < 0)

    assert maxima(simulation.expected) == 1
    assert maxima(data.truth(s, 0.04).data) == 2


def test_first_rod_mode_is_hidden_in_the_data():
    s = data.plasmonic_map(shape=(24, 24)).inav[4, 12]
    near = s.isig[0.18:0.34].data
    smooth = physics.smooth(near, 3.0)
    assert (np.diff(smooth) < 0).all()  # the tail just falls


def test_vacuum_spectrum_is_the_response(small_map):
    vacuum = data.vacuum_spectrum(small_map)
    assert vacuum.axes_manager.navigation_size == 0
    assert vacuum.axes_manager[-1].scale == small_map.axes_manager[-1].scale
    simulation = data.simulations(small_map.metadata.Simulation.as_dictionary())[0]
    measured = physics.centred_response(vacuum.data, 512)
    exact = physics.centred_response(simulation.psf, 512)
    assert np.abs(measured - exact).sum() < 0.02


def test_truth_survives_saving_and_loading(small_map, tmp_path):
    small_map.save(tmp_path / "map.hspy")
    loaded = hs.load(tmp_path / "map.hspy", lazy=True)
    want, truth = (data.truth(s, 0.03) for s in (small_map, loaded))
    np.testing.assert_array_equal(truth.data, want.data)
    assert not truth._lazy and type(truth) is type(want)


def test_truth_of_a_cropped_or_foreign_signal(small_map, make_signal):
    with pytest.raises(ValueError, match="cropped"):
        data.truth(small_map.inav[0], 0.03)
    with pytest.raises(ValueError, match="not made by"):
        data.truth(make_signal(), 0.03)
    with pytest.raises(ValueError, match="two channels"):
        data.truth(small_map, 0.01)


def test_import_loads_no_hyperspy():
    code = "import sys, exspy_deepdeconv.data; sys.exit('hyperspy.api' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s * 2,
        lambda s: s.inav[::-1],
        lambda s: s.isig[::-1],
        lambda s: s.transpose(navigation_axes=[1, 0]),
    ],
    ids=["scaled", "mirrored", "reversed", "transposed"],
)
def test_a_changed_signal_has_no_known_truth(change):
    with pytest.raises(ValueError, match="cropped or changed"):
        data.truth(change(data.plasmonic_map(shape=(3, 3), channels=512)), 0.03)


def test_truth_of_a_signal_in_other_units_and_types():
    s = data.plasmonic_map(shape=(2, 2), channels=512)
    want = data.truth(s, 0.03).data
    s.change_dtype("float64")
    s.axes_manager[-1].convert_to_units("meV")
    np.testing.assert_array_equal(data.truth(s, 0.03).data, want)
    assert data.vacuum_spectrum(s).axes_manager[-1].scale == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (data.plasmonic_map, {"shape": 3}),
        (data.plasmonic_map, {"shape": (3,)}),
        (data.plasmonic_map, {"shape": (0, 3)}),
        (data.plasmonic_map, {"shape": (2.5, 2)}),
        (data.plasmonic_map, {"channels": 63}),
        (data.plasmonic_map, {"channels": "512"}),
        (data.plasmonic_map, {"seed": None}),
        (data.exciton_spectrum, {"channels": 100}),
        (data.exciton_spectrum, {"channels": 512.0}),
        (data.exciton_spectrum, {"seed": -1}),
    ],
)
def test_arguments_that_make_no_signal_are_named(make, arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r} must be")):
        make(**arguments)


@pytest.mark.parametrize("resolution", [0.0, np.nan, np.inf, "0.03", None])
def test_resolutions_of_no_truth_are_named(small_map, resolution):
    with pytest.raises(ValueError, match="resolution=.* must be at least two channels"):
        data.truth(small_map, resolution)


def test_plain_arrays_have_no_truth(small_map):
    for wrong in (small_map.data, None):
        with pytest.raises(ValueError, match="not made by"):
            data.truth(wrong, 0.03)
        with pytest.raises(ValueError, match="not made by"):
            data.vacuum_spectrum(wrong)
    with pytest.raises(ValueError, match="seed=-1"):
        data.vacuum_spectrum(small_map, seed=-1)
