"""estimate_psf as a method of EELSSpectrum: the response that the network finds."""

import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import deconvolve, energy_axis

from exspy_deepdeconv import data, models, physics
from exspy_deepdeconv import deconvolve as deconvolve_array
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.inference import estimate_response

OLDEST = models.available()[0]


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
@pytest.mark.parametrize("lazy", [False, True])
def test_estimated_response(make_signal, shape, lazy):
    s = make_signal(*shape)
    psf = (s.as_lazy() if lazy else s).estimate_psf(show_progressbar=False)
    assert type(psf) is type(s.as_lazy() if lazy else s)
    assert psf.axes_manager.navigation_shape == s.axes_manager.navigation_shape
    axis, own = energy_axis(psf), energy_axis(s)
    assert (axis.size, axis.scale, axis.units) == (own.size, own.scale, own.units)
    data = np.asarray(psf.data)
    assert (data >= 0).all()
    np.testing.assert_allclose(data.sum(axis=-1), 1, rtol=1e-5)
    tops = physics.parabola_vertex(data, data.argmax(axis=-1))
    np.testing.assert_allclose(axis.offset + tops * axis.scale, 0, atol=1e-3)
    widths = physics.half_height_width(data, data.argmax(axis=-1))
    np.testing.assert_allclose(widths, 10, rtol=0.1)
    if shape == ():
        assert psf.metadata.General.title == "simulated estimated response"


def test_response_near_the_start_of_the_axis_keeps_its_flank(make_signal):
    s = make_signal(position=16.0)
    psf = s.estimate_psf(show_progressbar=False)
    assert psf.data.argmax() == 41  # four widths, instead of the 16 channels there are
    reference = make_signal().estimate_psf(show_progressbar=False).data
    flank, whole = psf.data[16:41], reference[reference.argmax() - 25 : reference.argmax()]
    np.testing.assert_allclose(flank, whole, atol=0.15 * psf.data.max())


def test_falling_axis_has_its_response_at_zero(make_signal):
    s = make_signal(2)
    rising = s.estimate_psf(show_progressbar=False)
    s.data = np.ascontiguousarray(s.data[..., ::-1])
    axis = energy_axis(s)
    axis.scale *= -1
    psf = s.estimate_psf(show_progressbar=False)
    np.testing.assert_allclose(psf.data[..., ::-1], rising.data, atol=1e-7)
    energy = energy_axis(psf).axis
    np.testing.assert_allclose(energy[psf.data.argmax(axis=-1)], 0, atol=1e-9)


def test_response_of_unusable_spectra(make_signal):
    s = make_signal(4)
    s.data[0], s.data[1], s.data[2, 3] = 0, 7, np.nan
    with pytest.warns(UserWarning, match="^estimate_psf: of 4 spectra 1 empty") as caught:
        psf = s.estimate_psf(show_progressbar=False)
    assert caught[0].filename == __file__
    assert not psf.data[:2].any()
    assert np.isnan(psf.data[2]).all()
    assert psf.data[3].sum() == pytest.approx(1, rel=1e-5)
    flags = psf.metadata.Signal.psf_estimation.flags
    assert (flags.empty, flags.no_zero_loss, flags.not_finite) == (1, 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nonsense"}, f"nonsense.*{OLDEST}"),
        ({"model": 3}, "model=3"),
    ],
)
def test_estimate_psf_refuses(make_signal, change, message):
    with pytest.raises(ValueError, match=message):
        make_signal().estimate_psf(**change)


def test_estimated_response_can_be_given_back(make_signal):
    s = make_signal(2, 2)
    psf = s.estimate_psf(show_progressbar=False)
    blind, told = deconvolve(s), deconvolve(s, psf=psf)
    assert told.metadata.Signal.deep_deconvolution.psf.startswith("estimated beforehand")
    # The estimator is told that the response is known, so the answers are near, not equal.
    loss = slice(85, None)
    error = np.linalg.norm((told.data - blind.data)[..., loss])
    assert error < 0.1 * np.linalg.norm(blind.data[..., loss])


@pytest.fixture(scope="module")
def rod():
    """A map that shows less of its losses in some places, its response and its truth."""
    s = data.plasmonic_map(shape=(10, 10))
    return s, s.estimate_psf(shared=True)


def median_errors(result, signal):
    """Loss and near errors against the truth, medians over the map."""
    resolution = result.metadata.Signal.deep_deconvolution.resolution
    channels = resolution / energy_axis(signal).scale
    made = data.simulations(signal.metadata.Simulation.as_dictionary())
    spectra = result.data.reshape(len(made), -1)
    found = [errors(x, y, channels) for x, y in zip(spectra, made, strict=True)]
    return np.median([[each.loss, each.near] for each in found], axis=0)


def test_shared_response_finds_what_single_spectra_take_for_tail(rod):
    s, psf = rod
    blind, near_blind = median_errors(deconvolve(s), s)
    shared, near_shared = median_errors(deconvolve(s, psf=psf), s)
    assert shared < 0.7 * blind
    assert near_shared < 0.5 * near_blind


def test_shared_response_is_one_and_tells_where_it_is_from(rod):
    s, psf = rod
    assert psf.data.shape == (1024,)
    assert psf.data.sum() == pytest.approx(1, rel=1e-5)
    assert energy_axis(psf).axis[psf.data.argmax()] == pytest.approx(0, abs=1e-9)
    where = psf.metadata.Signal.psf_estimation.shared
    assert where.shape == s.data.shape[:-1]
    assert where.sum() == 10  # a tenth
    assert not where[5, 3:7].any()  # none on the rod


@pytest.mark.parametrize("lazy", [False, True])
def test_shared_response_of_falling_axes_and_lazy_maps(rod, lazy):
    s, psf = rod
    falling = s.deepcopy()
    falling.data = np.ascontiguousarray(s.data[..., ::-1])
    energy_axis(falling).scale *= -1
    falling = falling.as_lazy() if lazy else falling
    found = falling.estimate_psf(shared=True)
    assert not found._lazy
    np.testing.assert_allclose(found.data[::-1], psf.data, atol=1e-7)
    assert energy_axis(found).axis[found.data.argmax()] == pytest.approx(0, abs=1e-9)


def test_intervals_of_an_estimated_response_are_no_narrower_than_blind_ones(rod):
    """It is known no better than from the spectra: a measured one makes them narrower."""
    s, psf = rod
    as_measured = psf.deepcopy()
    del as_measured.metadata.Signal.psf_estimation
    start = int(energy_axis(s).value2index(0.3))
    trusted, estimated, blind = (
        np.median(np.subtract(*(x.data for x in results[:0:-1]))[..., start:])
        for results in (
            deconvolve(s, psf=p, return_interval=True) for p in (as_measured, psf, None)
        )
    )
    assert trusted < 0.8 * estimated
    assert blind < estimated


def test_shared_response_of_a_map_with_unusable_spectra(rod):
    s, psf = rod
    spoilt = s.deepcopy()
    spoilt.data[0, 0], spoilt.data[0, 1] = 0, np.nan
    found = spoilt.estimate_psf(shared=True)
    assert not found.metadata.Signal.psf_estimation.shared[0, :2].any()
    np.testing.assert_allclose(found.data, psf.data, atol=0.01 * psf.data.max())


def test_shared_response_of_a_single_spectrum_is_its_own(make_signal):
    s = make_signal()
    own, shared = (s.estimate_psf(shared=x, show_progressbar=False) for x in (False, True))
    assert energy_axis(own).offset == energy_axis(shared).offset
    np.testing.assert_allclose(shared.data, own.data, atol=2e-3 * own.data.max())


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_shared_response_that_was_saved_is_known_as_estimated(make_signal, shape, tmp_path):
    s = make_signal(*shape)
    psf = s.estimate_psf(shared=True)
    for path in (tmp_path / "psf.hspy", tmp_path / "psf.zspy"):
        psf.save(path)
        loaded = hs.load(path)
        np.testing.assert_array_equal(
            loaded.metadata.Signal.psf_estimation.shared, psf.metadata.Signal.psf_estimation.shared
        )
        result = deconvolve(s, psf=loaded)
        assert result.metadata.Signal.deep_deconvolution.psf == "estimated beforehand: simulated"
        np.testing.assert_array_equal(result.data, deconvolve(s, psf=psf).data)


def test_shared_response_of_arrays(rod):
    s, psf = rod
    response = estimate_response(s.data, shared=True, zero_channel=int(psf.data.argmax()))
    np.testing.assert_allclose(response, psf.data, atol=1e-6)
    dispersion = energy_axis(s).scale
    result = deconvolve_array(s.data, dispersion, response, psf_estimated=True)
    np.testing.assert_allclose(result, deconvolve(s, psf=psf).data, rtol=1e-4, atol=0.1)


def test_shared_response_of_large_arrays_is_read_off_as_many_spectra_as_of_large_maps(make_signal):
    s = make_signal(1500, channels=128, fwhm=6.0, position=30.0)
    psf = s.estimate_psf(shared=True)
    response = estimate_response(s.data, shared=True, zero_channel=int(psf.data.argmax()))
    np.testing.assert_allclose(response, psf.data, atol=1e-6)
    assert psf.metadata.Signal.psf_estimation.shared.sum() == 102  # a tenth of those that are read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: setattr(s, "data", s.data[:0]), "holds no spectra"),
        (
            lambda s: s.data.__setitem__(Ellipsis, np.minimum(s.data, 1e3)),
            "zero-loss peak that is not saturated",
        ),
    ],
)
def test_shared_response_refuses(make_signal, change, message):
    s = make_signal(3)
    change(s)
    s.axes_manager[0].size = len(s.data)
    with pytest.raises(ValueError, match=message):
        s.estimate_psf(shared=True)
    with pytest.raises(ValueError, match="shared='yes' must be True or False"):
        make_signal(3).estimate_psf(shared="yes")


def test_intervals_of_a_shared_response_hold_the_truth(rod):
    s, psf = rod
    result, low, high = deconvolve(s, psf=psf, return_interval=True)
    true = data.truth(s, result.metadata.Signal.deep_deconvolution.resolution).data
    start = int(energy_axis(s).value2index(0.12))
    inside = (low.data <= true) & (true <= high.data)
    assert inside[..., start:].mean() > 0.87


def test_a_hot_channel_of_all_spectra_is_no_reason_to_refuse(rod):
    s, psf = rod
    hot = s.deepcopy()
    hot.data[..., 800] = 0.1 * s.data.max()
    found = hot.estimate_psf(shared=True)
    np.testing.assert_allclose(found.data, psf.data, atol=0.02 * psf.data.max())
