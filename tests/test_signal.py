"""deep_deconvolve as a method of EELSSpectrum: results, metadata, responses, masks."""

import warnings

import dask
import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import deconvolve, energy_axis

import exspy_deepdeconv
from exspy_deepdeconv import data, models, physics
from exspy_deepdeconv._signals import runner

OLDEST = models.available()[0]


# What comes back


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("lazy", [False, True])
def test_result_has_the_axes_of_the_input(make_signal, shape, lazy):
    s = make_signal(*shape)
    s = s.as_lazy() if lazy else s
    result = deconvolve(s)
    assert type(result) is type(s)
    assert result.data.dtype == np.float32
    assert result.data.shape == s.data.shape
    for got, want in zip(result.axes_manager._axes, s.axes_manager._axes, strict=True):
        assert got.get_axis_dictionary() == want.get_axis_dictionary()
    if lazy:
        result.compute(show_progressbar=False)
    assert np.isfinite(result.data).all()
    assert result.data.any(axis=-1).all()


def test_zero_loss_can_be_left_out(make_signal):
    s = make_signal(2)
    with_peak, without = deconvolve(s), deconvolve(s, zero_loss=False)
    peak = with_peak.data.argmax(axis=-1)
    for row, channel in enumerate(peak):
        assert without.data[row, channel] < 0.5 * with_peak.data[row, channel]


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64", ">f4", ">u2"])
def test_any_real_dtype(make_signal, dtype):
    s = make_signal(2)
    want = deconvolve(s).data
    s.data = s.data.astype(dtype)
    np.testing.assert_allclose(deconvolve(s).data, want, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("lazy_output", [None, False, True])
def test_lazy_output(make_signal, lazy, lazy_output):
    s = make_signal(3)
    result = deconvolve(s.as_lazy() if lazy else s, lazy_output=lazy_output)
    assert result._lazy is (lazy if lazy_output is None else lazy_output)
    np.testing.assert_array_equal(np.asarray(result.data), deconvolve(s).data)


@pytest.mark.parametrize("shown", [False, True])
def test_progressbar_and_workers_are_forwarded(make_signal, monkeypatch, capsys, shown):
    compute, seen = dask.compute, []
    monkeypatch.setattr(dask, "compute", lambda *a, **k: seen.append(k) or compute(*a, **k))
    make_signal(3).deep_deconvolve(show_progressbar=shown, num_workers=1)
    assert seen == [{"num_workers": 1}]
    assert ("it/s" in capsys.readouterr().err) == shown


# The caller's signal


def snapshot(signal):
    return (
        signal.data.tobytes() if isinstance(signal.data, np.ndarray) else signal.data.name,
        signal.metadata.as_dictionary(),
        signal.axes_manager.as_dictionary(),
        signal.tmp_parameters.as_dictionary(),
        getattr(signal.data, "chunks", None),
    )


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"resolution": 5.0}, {"model": "nonsense"}])
def test_input_is_never_changed(make_signal, lazy, arguments):
    s, psf = make_signal(3), make_signal(3, position=64)
    s.tmp_parameters.filename = "file"
    s.metadata.set_item("Signal.Noise_properties.variance", 4.0)
    if lazy:
        s, psf = s.as_lazy(chunks=(2, 100)), psf.as_lazy(chunks=(1, 70))
    else:
        s.data.flags.writeable = psf.data.flags.writeable = False
    before = snapshot(s), snapshot(psf)
    try:
        np.asarray(deconvolve(s, psf=psf, **arguments).data)
    except ValueError:
        assert arguments
    assert (snapshot(s), snapshot(psf)) == before


def test_result_shares_nothing_with_the_input(make_signal):
    s = make_signal(3)
    want = s.data.copy()
    result = deconvolve(s)
    result.data[:] = -1
    result.metadata.General.title = "other"
    np.testing.assert_array_equal(s.data, want)
    assert s.metadata.General.title == "simulated"


# Metadata


def test_results_of_a_file_suit_exspy(make_signal, tmp_path):
    """eXSpy asks for the extension of whatever has a file name."""
    make_signal(2).save(tmp_path / "measured.hspy")
    result = deconvolve(hs.load(tmp_path / "measured.hspy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        elastic = result.estimate_elastic_scattering_intensity(threshold=0.5).data
    assert (elastic > 0).all()


@pytest.mark.parametrize("extension", ["hspy", "zspy"])
@pytest.mark.parametrize("lazy", [False, True])
def test_metadata_survives_a_file(make_signal, tmp_path, extension, lazy):
    s = make_signal(3).as_lazy() if lazy else make_signal(3)
    s.tmp_parameters.filename = "file"
    s.metadata.set_item("Signal.Noise_properties.variance", 4.0)
    result = deconvolve(s, resolution=0.05, zero_loss=False)
    assert result.metadata.General.title == "simulated after deep deconvolution"
    assert result.tmp_parameters.filename == "file_after_deep_deconvolution"
    path = tmp_path / f"result.{extension}"
    result.save(path)
    loaded = hs.load(path)
    if lazy:  # the variance would be computed in a pass of its own
        assert not loaded.metadata.has_item("Signal.Noise_properties")
    else:
        want = result.get_noise_variance().data
        assert (want > 0).all() and not (want == 4.0).all()
        np.testing.assert_array_equal(loaded.get_noise_variance().data, want)
    note = loaded.metadata.Signal.deep_deconvolution.as_dictionary()
    kinds = dict.fromkeys(
        ("empty", "no_zero_loss", "not_finite", "saturated", "spike", "unexplained", "gains"), 0
    )
    odd = ("undersampled", "narrow", "wide", "no_gain_side", "few_electrons", "uneven", "elsewhere")
    assert note.pop("zero_loss_fwhm") == pytest.approx(0.1, rel=0.03)
    assert len(note.pop("weights_sha256")) == 64
    assert note == {
        "model": models.available()[-1],
        "package_version": exspy_deepdeconv.__version__,
        "resolution": pytest.approx(0.05),
        "psf": "estimated",
        "zero_loss": False,
        "dispersion": pytest.approx(0.01),
        "channels": 256,
        "flags": {"counted": not lazy} | dict.fromkeys(odd, False) | ({} if lazy else kinds),
    }


@pytest.mark.parametrize(("units", "per_eV"), [("eV", 1), ("meV", 1e3), ("keV", 1e-3)])
def test_resolution_is_in_eV_whatever_the_axis(make_signal, units, per_eV):
    s = make_signal(2, scale=0.01 * per_eV, units=units)
    want = deconvolve(make_signal(2), resolution=0.04)
    result = deconvolve(s, resolution=0.04)
    note = result.metadata.Signal.deep_deconvolution
    assert note.resolution == pytest.approx(0.04)
    assert note.zero_loss_fwhm == pytest.approx(0.1, rel=0.03)
    np.testing.assert_allclose(result.data, want.data, rtol=1e-5, atol=1e-3)
    assert result.axes_manager.signal_axes[0].units == units


@pytest.mark.parametrize(("fwhm", "want"), [(24.0, 6.0), (6.0, 2.0)])
def test_default_resolution(make_signal, fwhm, want):
    note = deconvolve(make_signal(3, fwhm=fwhm)).metadata.Signal.deep_deconvolution
    assert note.resolution == pytest.approx(want * 0.01, rel=0.05)


def test_undersampled_zero_loss_keeps_its_width(make_signal):
    note = deconvolve(make_signal(2, fwhm=2.4)).metadata.Signal.deep_deconvolution
    assert note.flags.undersampled
    assert note.resolution == pytest.approx(note.zero_loss_fwhm)


def test_bounds_of_the_resolution_are_allowed(make_signal):
    s = make_signal(2)
    note = deconvolve(s).metadata.Signal.deep_deconvolution
    for bound in (note.zero_loss_fwhm, np.float32(0.02)):
        kept = deconvolve(s, resolution=bound).metadata.Signal.deep_deconvolution.resolution
        assert kept == pytest.approx(bound)


# A measured response


@pytest.mark.parametrize("length", [40, 256, 500])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("lazy_psf", [False, True])
def test_one_response_for_all(make_signal, length, lazy, lazy_psf):
    s, psf = make_signal(2, 3), make_signal(channels=length, position=20)
    psf.metadata.General.title = "vacuum"
    want = deconvolve(s, psf=psf)
    result = deconvolve(
        s.as_lazy() if lazy else s, psf=psf.as_lazy(chunks=(30,)) if lazy_psf else psf
    )
    np.testing.assert_array_equal(np.asarray(result.data), want.data)
    assert result.metadata.Signal.deep_deconvolution.psf == "measured: vacuum"


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("lazy_psf", [False, True])
def test_one_response_for_each_spectrum(make_signal, monkeypatch, lazy, lazy_psf):
    monkeypatch.setattr(runner, "SPECTRA_PER_BLOCK", 4)
    s, psf = make_signal(4, 3), make_signal(4, 3, channels=120, seed=1)
    for place in np.ndindex(4, 3):
        psf.data[place] = np.roll(psf.data[place], 3 * place[0] + place[1])
    result = deconvolve(
        s.as_lazy(chunks=(3, 2, 100)) if lazy else s,
        psf=psf.as_lazy(chunks=(1, 3, 50)) if lazy_psf else psf,
    )
    data = np.asarray(result.data)
    # Away from the ends of the axis each spectrum is as if it were alone.
    resolution = result.metadata.Signal.deep_deconvolution.resolution
    for x, y in [(0, 0), (2, 3), (1, 2)]:
        alone = deconvolve(s.inav[x, y], psf=psf.inav[x, y], resolution=resolution)
        np.testing.assert_allclose(data[y, x], alone.data, rtol=1e-3, atol=1.0)


@pytest.mark.parametrize("lazy", [False, True])
def test_unusable_responses_of_a_map_are_flagged(make_signal, lazy):
    s, psf = make_signal(5), make_signal(5)
    s.data[1] = psf.data[1] = 0
    psf.data[2] = np.nan
    psf.data[3, 0] = 1e9
    with pytest.warns(UserWarning, match="1 empty .* 2 not finite"):
        result = deconvolve(s, psf=psf.as_lazy() if lazy else psf)
    assert (result.data[1] == 0).all()
    assert np.isnan(result.data[2:4]).all()
    assert np.isfinite(result.data[[0, 4]]).all()


# A mask over the map


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("as_signal", [False, True])
def test_masked_spectra_are_left_out(make_signal, network, lazy, as_signal):
    s = make_signal(3, 4)
    s.data[0, 1] = np.nan
    s.data[2, 3] = 0
    mask = np.zeros((3, 4), bool)
    mask[0, 1] = mask[2, 3] = mask[1, 1] = True
    given = hs.signals.BaseSignal(mask).T if as_signal else mask.T
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = deconvolve(s.as_lazy() if lazy else s, navigation_mask=given)
        data = np.asarray(result.data)
    assert (data[mask] == 0).all()
    assert data[~mask].any(axis=-1).all()
    assert sum(int(np.prod(shape[:-1])) for shape in network.calls) == 9


@pytest.mark.parametrize("lazy", [False, True])
def test_result_tells_which_spectra_were_left_out(make_signal, tmp_path, lazy):
    """Also in a file, and beside the maps of flags."""
    s = make_signal(2, 3)
    s.data[0, 2] = 0
    mask = np.zeros((2, 3), bool)
    mask[1, :2] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deconvolve(s.as_lazy() if lazy else s, navigation_mask=mask.T).save(tmp_path / "r.hspy")
    note = hs.load(tmp_path / "r.hspy").metadata.Signal.deep_deconvolution
    assert note.flags.masked == 2
    np.testing.assert_array_equal(note.flags.maps.masked, mask)
    assert [len(note.places[f"axis_{number}"]) for number in (0, 1)] == [2, 3]
    assert lazy or note.flags.maps.empty.tolist() == [[False, False, True], [False] * 3]
    unmasked = deconvolve(s, navigation_mask=np.zeros((3, 2), bool))
    assert not unmasked.metadata.has_item("Signal.deep_deconvolution.flags.masked")


# The noise variance: that of the user, and that of a result


def test_noise_variance_of_the_user_is_used():
    s = data.exciton_spectrum()
    plain = s.deep_deconvolve(show_progressbar=False).data
    noise = physics.estimate_noise(s.data)
    read = s.deepcopy()
    read.set_noise_variance(float(noise.gain * s.data.mean()))
    constant = read.deep_deconvolve(show_progressbar=False).data
    assert np.abs(constant - plain).max() > 1e-3 * plain[200:].max()
    per_channel = s.deepcopy()
    per_channel.set_noise_variance(s._deepcopy_with_new_data(noise.variance(s.data)))
    same = per_channel.deep_deconvolve(show_progressbar=False)
    assert np.abs(same.data - plain).max() < 0.02 * plain.max()
    predicted = same.get_noise_variance().data  # the result's own, not the data's
    assert not np.allclose(predicted, noise.variance(s.data), rtol=0.1)


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan])
def test_noise_variance_out_of_range(bad):
    s = data.exciton_spectrum()
    s.metadata.set_item("Signal.Noise_properties.variance", bad)
    with pytest.raises(ValueError, match="Noise_properties.variance"):
        s.deep_deconvolve(show_progressbar=False)


@pytest.mark.parametrize("scale", [1e-9, 1e6, 1e10])
def test_noise_variance_that_is_the_same_everywhere_scales_with_the_data(make_signal, scale):
    """What little is taken for the noise of electrons then must not grow faster than the counts."""
    results = []
    for factor in (1.0, scale):
        s = make_signal()
        s.data = factor * s.data.astype(float)
        s.set_noise_variance(900.0 * factor**2)
        results.append(s.deep_deconvolve(show_progressbar=False).data / factor)
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-6 * results[0].max())


def test_noise_variance_of_nothing_but_zeros(make_signal, network):
    s = make_signal(2)
    s.set_noise_variance(s * 0)
    with pytest.raises(ValueError, match="Noise_properties.variance holds nothing but zeros"):
        deconvolve(s)
    assert not network.calls


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_a_lazy_noise_variance_is_judged_as_it_is_read(make_signal, wrong):
    s = make_signal(2)
    variance = s * 0 + 1.0
    variance.data[1, 30] = wrong
    s.set_noise_variance(variance.as_lazy())
    with pytest.raises(
        ValueError, match="Noise_properties.variance holds values that are negative"
    ):
        s.as_lazy().deep_deconvolve(show_progressbar=False).compute(show_progressbar=False)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("method", ["deep_deconvolve", "rl_deconvolve"])
def test_a_spectrum_with_nan_may_have_a_variance_that_is_none(make_signal, method, lazy):
    s = make_signal(2, 3)
    s.data[1, 1, 7] = np.nan
    s.estimate_poissonian_noise_variance()
    assert np.isnan(s.get_noise_variance().data[1, 1, 7])
    with pytest.warns(UserWarning, match="1 not finite"):
        result = getattr(s.as_lazy() if lazy else s, method)(show_progressbar=False)
        if lazy:
            result.compute(show_progressbar=False)
    gone = np.isnan(result.data).all(axis=-1)
    assert gone[1, 1] and gone.sum() == 1 and np.isfinite(result.data[~gone]).all()


def test_the_instruments_words_are_kept_once(make_signal):
    s = make_signal(2)
    s.original_metadata.add_dictionary({"ImageTags": {"Probe": "tip"}, "Version": 3})
    result = deconvolve(s)
    kept = {"ImageTags": {"Probe": "tip"}, "Version": 3}
    assert s.original_metadata.as_dictionary() == result.original_metadata.as_dictionary() == kept
    assert not result.get_noise_variance().original_metadata.as_dictionary()


@pytest.mark.parametrize("left_out", ["empty", "masked", "not finite"])
def test_the_variance_of_spectra_without_a_result_lets_a_fit_of_the_map_go_on(
    make_signal, left_out
):
    s = make_signal(4)
    mask = np.arange(4) == 2
    if left_out != "masked":
        s.data[2] = 0 if left_out == "empty" else np.nan
    result = s.deep_deconvolve(
        navigation_mask=mask if left_out == "masked" else None, show_progressbar=False
    )
    variance = result.get_noise_variance().data
    assert np.isfinite(variance).all() and (variance > 0).all()
    assert variance[2].min() > 1e3 * variance[mask == 0].max()


@pytest.mark.parametrize("name", ["zero_loss", "return_interval"])
def test_words_are_neither_true_nor_false(make_signal, name):
    with pytest.raises(ValueError, match=f"{name}='no' must be True or False"):
        make_signal(2).deep_deconvolve(**{name: "no"}, show_progressbar=False)


def test_peaks_stay_where_they_are(make_signal):
    """Noise moves the highest channel of a broad peak more than the peak."""
    s = make_signal(100, channels=512)
    mean = 1e5 * physics.gaussian(512, 150.3, 16.0) + 2e4 * physics.gaussian(512, 270.3, 16.0)
    s.data = np.random.default_rng(0).poisson(mean, s.data.shape).astype(np.float32)
    result = s.deep_deconvolve(show_progressbar=False).data[:, 130:171]
    places = (result * np.arange(130, 171)).sum(-1) / result.sum(-1)
    assert places.std() < 0.15  # channels; 0.35 with a parabola through three channels
    assert abs(places.mean() - 150.3) < 0.05


def test_a_device_that_computes_nothing_is_refused(make_signal):
    s = make_signal()
    with pytest.raises(ValueError, match="device='meta'"):
        s.deep_deconvolve(device="meta")
    s.deep_deconvolve(show_progressbar=False)  # the model is as it was


def test_bounds_say_what_they_are(make_signal):
    result, *bounds = deconvolve(make_signal(), return_interval=True)
    assert not result.metadata.Signal.deep_deconvolution.has_item("bound")
    assert [b.metadata.Signal.deep_deconvolution.bound for b in bounds] == ["lower", "upper"]


def test_a_calibration_reaches_the_variance_of_a_result(make_signal):
    """Cut by energies, it once was that of other channels."""
    s = make_signal(2)
    result = deconvolve(s)
    whole = result.get_noise_variance().data.copy()
    axis = energy_axis(result)
    axis.offset += 0.2
    first = axis.value2index(0.3)
    part = result.isig[0.3:0.9].get_noise_variance()
    np.testing.assert_array_equal(part.data, whole[:, first : first + part.data.shape[-1]])
    axis.convert_to_units("meV")
    part = result.isig[300.0:900.0].get_noise_variance()
    np.testing.assert_array_equal(part.data, whole[:, first : first + part.data.shape[-1]])
    assert part.metadata.Signal.quantity == "Variance"
