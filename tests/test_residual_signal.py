"""``deconvolution_residual`` of signals: results of all kinds, wrong ones, noise that the user knows."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import deconvolve

from exspy_deepdeconv import data, models, physics
from exspy_deepdeconv.simulate import simulate

OLDEST = models.available()[0]


def residual_of(signal, *args, **kwargs):
    return signal.deconvolution_residual(*args, show_progressbar=False, **kwargs)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
def test_residual_and_maps(make_signal, shape, lazy):
    s = make_signal(*shape)
    result = deconvolve(s)
    if lazy:
        s, result = s.as_lazy(), result.as_lazy()
    before = s.metadata.as_dictionary(), result.metadata.as_dictionary()
    left, chi2, whiteness = residual_of(s, result, return_maps=True)
    assert type(left) is type(s)
    for got, want in zip(left.axes_manager._axes, s.axes_manager._axes, strict=True):
        assert got.get_axis_dictionary() == want.get_axis_dictionary()
    for image in (chi2, whiteness):
        assert image._lazy is lazy
        assert image.axes_manager.signal_dimension == 0
        assert image.data.shape == (shape or (1,))
    if shape:
        assert [a.size for a in chi2.axes_manager._axes] == list(shape)
    values = np.asarray(left.data)
    assert (np.abs(np.mean(values[..., 75:] ** 2, axis=-1) - 1) < 0.5).all()
    want = np.mean(values[..., 75:] ** 2, axis=-1).ravel()
    np.testing.assert_allclose(np.asarray(chi2.data).ravel(), want, rtol=0.1)
    assert (np.abs(np.asarray(whiteness.data)) < 5).all()
    assert (s.metadata.as_dictionary(), result.metadata.as_dictionary()) == before
    alone = residual_of(s, result)
    np.testing.assert_array_equal(np.asarray(alone.data), values)


def test_response_is_read_by_the_model_that_made_the_result(make_signal, tmp_path):
    """Two models tell two responses: a result is blurred again with its own."""
    s = make_signal()
    path = models.save_model(
        models.load(OLDEST).network, tmp_path / "mine.safetensors", name="mine"
    )
    for model in (OLDEST, path):
        result = deconvolve(s, model=model)
        psf = s.estimate_psf(model=model, show_progressbar=False)
        left, own = residual_of(s, result), residual_of(s, result, psf)
        np.testing.assert_allclose(left.data, own.data, atol=1e-2)
        of_default = residual_of(s, result, s.estimate_psf(show_progressbar=False))
        assert np.abs(left.data - of_default.data).max() > 0.05


def test_model_of_a_result_is_not_at_hand(make_signal):
    s = make_signal()
    result = deconvolve(s)
    note = result.metadata.Signal.deep_deconvolution
    note.weights_sha256, note.model = "0" * 64, "lost"
    with pytest.warns(UserWarning, match=r"made the result \(lost\) is not at hand") as warned:
        s.deconvolution_residual(result, show_progressbar=False)
    assert warned[0].filename == __file__
    del note.model
    with pytest.warns(UserWarning, match=r"made the result \(None\) is not at hand"):
        residual_of(s, result)


@pytest.mark.parametrize("note", [{}, "a word"])
def test_result_whose_note_is_lost(make_signal, note):
    """Taken for one that was made with the response itself, as any signal is."""
    s = make_signal()
    result = deconvolve(s)
    result.metadata.Signal.set_item("deep_deconvolution", note)
    assert np.isfinite(residual_of(s, result).data).all()


def test_classical_result_is_blurred_with_the_response_it_was_made_with(make_signal, monkeypatch):
    """Also after the default model has become another one."""
    s = make_signal()
    with monkeypatch.context() as before:
        before.setattr(models, "available", lambda: [OLDEST])
        result = s.rl_deconvolve(iterations=8, show_progressbar=False)
        psf = s.estimate_psf(show_progressbar=False)
    np.testing.assert_allclose(
        residual_of(s, result).data, residual_of(s, result, psf).data, atol=1e-2
    )
    of_default = residual_of(s, result, s.estimate_psf(show_progressbar=False))
    assert np.abs(residual_of(s, result).data - of_default.data).max() > 0.1


def test_eager_and_lazy_agree_whatever_the_chunks(make_signal):
    s = make_signal(3, 2)
    result = deconvolve(s)
    want = residual_of(s, result).data
    lazy = residual_of(s.as_lazy(chunks=(1, 2, 100)), result.as_lazy(chunks=(2, 1, 256)))
    np.testing.assert_allclose(np.asarray(lazy.data), want, atol=1e-3)
    mixed = residual_of(s.as_lazy(), result, lazy_output=False)
    assert not mixed._lazy
    np.testing.assert_allclose(mixed.data, want, atol=1e-3)


@pytest.mark.parametrize(
    "options", [{}, {"zero_loss": False}, {"resolution": 0.1}, {"resolution": 0.02}]
)
@pytest.mark.parametrize("given", [False, True])
def test_honest_results_pass(make_signal, options, given):
    s = make_signal(4, seed=2)
    psf = make_signal(seed=4, position=80.0, channels=120) if given else None
    if given:
        psf.data = 1e6 * physics.gaussian(120, 60.0, 10.0)
    if "resolution" in options:
        width = deconvolve(s).metadata.Signal.deep_deconvolution.zero_loss_fwhm
        options = {"resolution": min(options["resolution"], width)}
    result = deconvolve(s, psf=psf, **options)
    chi2 = residual_of(s, result, psf, return_maps=True)[1]
    assert (chi2.data > 0.7).all()
    assert (chi2.data < 1.4).all()


def test_wrong_results_do_not(make_signal):
    s = make_signal(3)
    result = deconvolve(s)
    honest = residual_of(s, result, return_maps=True)[1].data
    forged = result.deepcopy()
    place, height = 130, 12 * np.sqrt(s.data[:, 120:140].mean())
    forged.data[:, 90:] += np.float32(20 * height * physics.gaussian(256, place, 20.0))[90:]
    assert (residual_of(s, forged, return_maps=True)[1].data > 1.5 * honest).all()
    wide = make_signal(fwhm=25.0)
    assert (residual_of(s, result, wide, return_maps=True)[1].data > 2 * honest).all()
    unsharpened = s.deepcopy()  # "deconvolved" by doing nothing
    assert (residual_of(s, unsharpened, return_maps=True)[1].data > 2 * honest).all()


def test_classical_results(make_signal):
    s = make_signal(2)
    psf = make_signal(channels=101, position=50.0)
    psf.data = physics.gaussian(101, 50.0, 10.0)
    few, many = (s.rl_deconvolve(psf, n, show_progressbar=False) for n in (3, 300))
    far, near = (residual_of(s, r, psf, return_maps=True)[1].data for r in (few, many))
    assert (near < 1.4).all()
    assert (far > near).all()
    smoothed = s.rl_deconvolve(psf, 300, resolution=0.03, show_progressbar=False)
    np.testing.assert_allclose(
        residual_of(s, smoothed, psf).data[:, 90:230],
        residual_of(s, many, psf).data[:, 90:230],
        atol=0.1,
    )


def test_falling_energy_axis(make_signal):
    s = make_signal(2)
    result = deconvolve(s)
    want = residual_of(s, result, return_maps=True)
    for x in (s, result):
        x.data = np.ascontiguousarray(x.data[..., ::-1])
        x.axes_manager.signal_axes[0].scale *= -1
    got = residual_of(s, result, return_maps=True)
    np.testing.assert_allclose(got[0].data[..., ::-1], want[0].data, atol=1e-4)
    np.testing.assert_allclose(got[1].data, want[1].data, rtol=1e-4)


def test_noise_that_the_user_has_set(make_signal):
    s = make_signal(2)
    result = deconvolve(s)
    s.set_noise_variance(4.0)
    constant = residual_of(s, result).data
    variance = s.deepcopy()
    variance.data = np.full(s.data.shape, 16.0)
    s.set_noise_variance(variance)
    per_channel = residual_of(s, result).data
    np.testing.assert_allclose(per_channel, constant / 2, rtol=1e-4, atol=1e-5)
    lazy = s.as_lazy()
    np.testing.assert_allclose(
        np.asarray(residual_of(lazy, result).data), per_channel, rtol=1e-3, atol=1e-3
    )


def test_unusable_spectra(make_signal):
    s = make_signal(4)
    s.data[0], s.data[1], s.data[2, 9] = 0, 7, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left, chi2, _ = residual_of(s, deconvolve(s), return_maps=True)
    assert not left.data[0].any()
    assert np.isnan(left.data[1:3]).all()
    assert np.isnan(chi2.data[:3]).all()
    assert np.isfinite(left.data[3]).all()


@pytest.mark.parametrize("lazy", [False, True])
def test_without_a_response_of_its_own_a_spectrum_has_no_residual(make_signal, lazy):
    s, psf = make_signal(4), make_signal(4)
    result = s.rl_deconvolve(make_signal(), iterations=3, show_progressbar=False)
    psf.data[0], psf.data[1], psf.data[2] = 0, np.nan, 0
    s.data[2] = result.data[2] = 0
    if lazy:
        s, result, psf = s.as_lazy(), result.as_lazy(), psf.as_lazy()
    maps = residual_of(s, result, psf, return_maps=True, lazy_output=False)
    left, *measures = (made.data for made in maps)
    assert np.isnan(left[:2]).all() and not left[2].any() and np.isfinite(left[3]).all()
    for values in measures:
        assert np.isnan(values).tolist() == [True, True, True, False]


def test_doubtful_spectra_are_judged(make_signal):
    """A spike is flagged, but what its result leaves unexplained can be told."""
    s = make_signal(3)
    s.data[1, 200] += s.data.max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left, chi2, _ = residual_of(s, deconvolve(s), return_maps=True)
    assert np.isfinite(left.data).all() and np.isfinite(chi2.data).all()


def test_pixels_left_out_have_no_residual(make_signal):
    s = make_signal(3)
    result = deconvolve(s, navigation_mask=np.array([False, True, False]))
    left, chi2, _ = residual_of(s, result, return_maps=True)
    assert np.isnan(left.data[1]).all() and np.isnan(chi2.data[1])
    assert np.isfinite(chi2.data[[0, 2]]).all()


def test_result_that_begins_elsewhere(make_signal):
    s = make_signal(2)
    result = deconvolve(s)
    result.axes_manager[-1].offset += 3 * result.axes_manager[-1].scale
    with pytest.warns(UserWarning, match="result begins 3 channels later") as caught:
        s.deconvolution_residual(result, show_progressbar=False)
    assert caught[0].filename == __file__


def test_map_without_spectra(make_signal):
    s = make_signal(0)
    left, chi2, _ = residual_of(s, s.deepcopy(), return_maps=True)
    assert left.data.shape == (0, 256)
    assert chi2.data.shape == (0,)


def crop(result):
    return result.isig[:200]


def other_scale(result):
    result.axes_manager.signal_axes[0].scale = 0.02
    return result


def reversed_axis(result):
    result.axes_manager.signal_axes[0].scale *= -1
    return result


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (crop, ValueError, r"result has the navigation and signal shapes .*\(200,\)"),
        (lambda r: r.inav[:2], ValueError, r"result has the navigation .*\(2,\)"),
        (other_scale, ValueError, r"result has 0\.02 eV per channel, the data 0\.01"),
        (reversed_axis, ValueError, r"result has -0\.01 eV per channel"),
        (lambda r: r.data, TypeError, "result must be an EELSSpectrum, not ndarray"),
        (lambda r: hs.signals.Signal1D(r.data), TypeError, "not Signal1D"),
    ],
)
def test_result_of_other_data(make_signal, make, error, message):
    s = make_signal(3)
    with pytest.raises(error, match=message):
        residual_of(s, make(s.deepcopy()))


@pytest.mark.parametrize("variance", [-1.0, 0, "much", float("nan")])
def test_wrong_variance(make_signal, variance):
    s = make_signal(2)
    s.metadata.set_item("Signal.Noise_properties.variance", variance)
    with pytest.raises(ValueError, match="Noise_properties.variance is"):
        residual_of(s, s.deepcopy())


def test_variance_of_another_shape(make_signal):
    s = make_signal(2)
    s.metadata.set_item("Signal.Noise_properties.variance", make_signal(3))
    with pytest.raises(ValueError, match=r"variance has the shape \(3, 256\)"):
        residual_of(s, s.deepcopy())


def test_poisson_rule_of_hyperspy_is_a_usable_variance(make_signal):
    """It gives channels that happen to be empty no variance at all."""
    s = make_signal(4)
    s.data = np.random.default_rng(1).poisson(s.data / 100).astype(float)
    s.estimate_poissonian_noise_variance()
    result = s.deep_deconvolve(show_progressbar=False)
    chi2 = s.deconvolution_residual(result, return_maps=True, show_progressbar=False)[1]
    assert 0.5 < chi2.data.min() and chi2.data.max() < 1.5


@pytest.mark.parametrize("offset", [0.0, 300.0, -100.0])
def test_poisson_rule_of_hyperspy_knows_neither_readout_nor_offset(make_signal, offset):
    """Channels that read zero or less are given no variance at all, an offset that of electrons."""
    s, rng = make_signal(6, channels=1024), np.random.default_rng(3)
    mean = 1e5 * physics.gaussian(1024, 250.0, 8.0) + 5e3 * physics.gaussian(1024, 500.0, 40.0)
    s.data = rng.poisson(mean, (6, 1024)) + rng.normal(offset, 2.0, (6, 1024))
    unknown = s.deep_deconvolve(show_progressbar=False).data
    s.estimate_poissonian_noise_variance()
    result = s.deep_deconvolve(show_progressbar=False)
    assert np.abs(result.data - unknown).max() < 0.02 * unknown.max()
    for each in (result, s.fourier_deconvolve(show_progressbar=False)):
        chi2 = s.deconvolution_residual(each, return_maps=True, show_progressbar=False)[1].data
        assert 0.8 < chi2.mean() < 1.2


def test_result_of_a_measured_response_asks_for_it(make_signal):
    s, vacuum = make_signal(), make_signal(seed=1)
    result = s.deep_deconvolve(psf=vacuum, show_progressbar=False)
    with pytest.warns(UserWarning, match="pass the same psf"):
        s.deconvolution_residual(result, show_progressbar=False)


@pytest.mark.parametrize("method", ["deep", "rl"])
def test_result_of_no_measured_response_takes_none(make_signal, method, recwarn):
    s, vacuum = make_signal(), make_signal(seed=1)
    result = getattr(s, f"{method}_deconvolve")(show_progressbar=False)
    s.deconvolution_residual(result, show_progressbar=False)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="found in the spectra.*measured: simulated") as heard:
        s.deconvolution_residual(result, vacuum, show_progressbar=False)
    assert heard[0].filename == __file__


@pytest.mark.parametrize("method", ["residual", "comparison"])
def test_result_of_a_narrower_response_is_blurred_as_it_was_deconvolved(make_signal, method):
    """Deep results are made with it broadened to the width of the peak; that is none of its misfits."""
    s, vacuum = make_signal(channels=1024), make_signal(channels=400)
    rng = np.random.default_rng(1)
    plasmon = 0.2 * physics.gaussian(1024, 500.0, np.hypot(30.0, 12.0))
    s.data = rng.poisson(1e7 * (physics.gaussian(1024, 250.0, 12.0) + plasmon))
    vacuum.data = rng.poisson(1e7 * physics.gaussian(400, 200.0, 10.0))
    if method == "residual":
        result = s.deep_deconvolve(psf=vacuum, show_progressbar=False)
        maps = s.deconvolution_residual(result, vacuum, return_maps=True, show_progressbar=False)
        chi2 = float(maps[1].data[0])
    else:
        compared = s.compare_deconvolution(("deep",), psf=vacuum, show_progressbar=False)
        chi2 = compared.scores["deep"].chi2
    assert 0.5 < chi2 < 2


@pytest.mark.parametrize("scale", [4, 2.5, 1.5, 0.5])
def test_results_whose_channels_were_summed_since_are_blurred_with_a_wider_gaussian(scale):
    """They are seen through the box of the summed channels, too: chi2 was 184.

    Other numbers than whole ones counted as a calibration, of the resolution as well.
    """
    simulation = simulate("gap", np.random.default_rng(3), 1024)
    spectrum = hs.signals.Signal1D(simulation.counts)
    spectrum.set_signal_type("EELS")
    axis = spectrum.axes_manager[-1]
    axis.scale, axis.units = simulation.dispersion, "eV"
    result = spectrum.deep_deconvolve(show_progressbar=False)
    found = spectrum.rebin(scale=(scale,)).deconvolution_residual(
        result.rebin(scale=(scale,)), return_maps=True, show_progressbar=False
    )[1]
    assert found.data[0] < 20


def test_a_crop_without_the_zero_loss_peak_has_no_residual():
    """With a psf it crashed: the width of no peak is no number."""
    spectrum = data.exciton_spectrum()
    vacuum = data.vacuum_spectrum(spectrum)
    result = spectrum.deep_deconvolve(psf=vacuum, show_progressbar=False)
    with pytest.raises(ValueError, match="No zero-loss peak was found"):
        spectrum.isig[0.0:].deconvolution_residual(result.isig[0.0:], vacuum)


def test_a_result_that_forgot_its_resolution_is_told(tmp_path):
    """Files of other formats keep the title, not the metadata: chi2 was 3 without a word."""
    spectrum = data.plasmonic_map((1, 2), 512).inav[0, 0]
    result = spectrum.deep_deconvolve(show_progressbar=False)
    result.save(tmp_path / "result.msa", overwrite=True)
    with pytest.warns(UserWarning, match="no longer says at which resolution"):
        spectrum.deconvolution_residual(hs.load(tmp_path / "result.msa"), show_progressbar=False)


def test_a_bound_is_no_result(make_signal):
    s = make_signal()
    _, lower, _ = s.deep_deconvolve(return_interval=True, show_progressbar=False)
    with pytest.raises(ValueError, match="result is the lower bound of an interval"):
        s.deconvolution_residual(lower, show_progressbar=False)


def test_a_residual_and_a_response_are_no_results(make_signal):
    s = make_signal()
    residual = residual_of(s, deconvolve(s))
    with pytest.raises(ValueError, match="result is a residual, not what a deconvolution made"):
        residual_of(s, residual)
    with pytest.raises(ValueError, match="result is an estimated response: pass it as psf"):
        residual_of(s, s.estimate_psf(show_progressbar=False))


@pytest.mark.parametrize("lazy", [False, True])
def test_spectra_whose_zero_loss_peak_is_cut_off_are_told(lazy):
    """Their residual is NaN: nobody should find that out from an empty figure."""
    s = data.plasmonic_map(shape=(3, 4), channels=512)
    s, result = (x.isig[0.5:] for x in (s, deconvolve(s)))
    if lazy:
        s, result = s.as_lazy(), result.as_lazy()
    words = (
        r"^deconvolution_residual: of 12 spectra \d+ without a zero-loss peak \(NaN returned\)\.$"
    )
    with pytest.warns(UserWarning, match=words) as caught:
        left = residual_of(s, result)
        left.data = np.asarray(left.data)
    unknown = np.isnan(left.data).all(axis=-1).sum()
    (told,) = [str(w.message) for w in caught if "NaN returned" in str(w.message)]
    assert f" {unknown} without" in told
    if not lazy:
        assert {warning.filename for warning in caught} == {__file__}


def test_spectra_that_have_no_result_are_not_told_again(make_signal):
    """The deconvolution has warned of them."""
    s = make_signal(3)
    s.data[0], s.data[1, 5] = 0, np.nan
    s.data[2] = np.random.default_rng(0).poisson(1, s.data.shape[-1])
    s = hs.stack([*s, make_signal()])
    result = deconvolve(s)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        left = residual_of(s, result)
    np.testing.assert_array_equal(np.isnan(left.data).all(axis=-1), [False, True, True, False])


@pytest.mark.parametrize("given", ["the data", "itself"])
def test_data_and_result_that_were_exchanged(given):
    s = data.exciton_spectrum()
    result = s.deep_deconvolve(show_progressbar=False)
    other = s if given == "the data" else result
    with pytest.warns(UserWarning, match="itself a result.*were the two exchanged") as caught:
        result.deconvolution_residual(other, show_progressbar=False)
    assert caught[0].filename == __file__


def test_result_of_a_result_is_held_against_it():
    s = data.exciton_spectrum()
    result = s.deep_deconvolve(0.1, show_progressbar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "deep_deconvolve: the signal is itself a result")
        again = result.deep_deconvolve(0.05, show_progressbar=False)
        result.deconvolution_residual(again, show_progressbar=False)


def test_an_axis_that_begins_above_zero_is_told():
    """An exciton passed for the zero-loss peak, as it does not for deep_deconvolve."""
    s = data.exciton_spectrum()
    result = deconvolve(s)
    words = "deconvolution_residual: the energy axis begins above 0 eV"
    with pytest.warns(UserWarning, match=words) as caught:
        residual_of(s.isig[0.5:], result.isig[0.5:])
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("lazy", [False, True])
def test_results_that_hold_other_counts_than_their_data_are_warned_of(make_signal, lazy):
    """Rescaled ones, and such whose zero-loss peak has been taken out since."""
    s = make_signal(2, 3)
    result = deconvolve(s)
    without_peak = result.deepcopy()
    without_peak.data[..., :90] = 0
    for wrong, ratio in ((result * 2, 2.0), (without_peak, 1 / 6)):
        with pytest.warns(UserWarning, match="times the counts of the data") as warned:
            left = residual_of(*(x.as_lazy() if lazy else x for x in (s, wrong)))
            assert left._lazy is lazy
            np.asarray(left.data)  # of a lazy one, it comes when all of it is computed
        (message,) = [str(w.message) for w in warned]
        told = float(message.split("holds ")[1].split()[0])
        assert told == pytest.approx(ratio, rel=0.05)
        assert lazy or warned[0].filename == __file__


def test_results_that_need_not_hold_the_counts_of_their_data_are_not_warned_of(make_signal):
    """Without the elastic peak, cut off in it, under a mask, with a negative offset."""
    s = make_signal(4)
    mask = np.array([True, True, True, False])
    below = s - 300.0
    honest = [
        (s, deconvolve(s, zero_loss=False)),
        (s, deconvolve(s, navigation_mask=mask)),
        (s.isig[55:], deconvolve(s).isig[55:]),
        (s.isig[40:], deconvolve(s).isig[40:]),
    ]
    with pytest.warns(UserWarning, match="negative"):
        honest.append((below, deconvolve(below)))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        for signal, result in honest:
            residual_of(signal, result)
    assert not [str(w.message) for w in heard if "times the counts" in str(w.message)]
