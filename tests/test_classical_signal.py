"""The classical methods of EELSSpectrum: results, settings, responses, metadata, bad input."""

import warnings

import dask
import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import complex_data, energy_axis, non_uniform

import exspy_deepdeconv
from exspy_deepdeconv import models, physics
from exspy_deepdeconv._methods import classical_blocks
from exspy_deepdeconv._signals import results, runner

METHODS = ("rl", "ml", "fourier", "tgv")
# A setting of its own for each method, so that nothing has to be chosen.
FIXED = {"rl": {"iterations": 10}, "ml": {"iterations": 10}, "tgv": {"weight": 1.0}, "fourier": {}}
PER_METHOD = pytest.mark.parametrize("name", METHODS)
EAGER_AND_LAZY = pytest.mark.parametrize("lazy", [False, True])


def run(signal, name, *args, **kwargs):
    kwargs = (FIXED[name] if not args[1:] else {}) | kwargs
    return getattr(signal, f"{name}_deconvolve")(*args, show_progressbar=False, **kwargs)


def note_of(result, name):
    return result.metadata.Signal.get_item(f"{name}_deconvolution")


@pytest.fixture
def response(make_signal):
    """A response without noise, about as wide as those of the signals."""
    psf = make_signal(channels=101, position=50.0)
    psf.data = physics.gaussian(101, 50.0, 10.0)
    psf.metadata.General.title = "vacuum"
    return psf


# What comes back


SHAPES = [(), (1,), (3,), (2, 3), (2, 1, 2)]


@pytest.mark.parametrize(
    ("name", "shape", "lazy", "given"),
    [("rl", shape, lazy, given) for shape in SHAPES for lazy in (0, 1) for given in (0, 1)]
    + [(name, (2, 3), given, given) for name in METHODS[1:] for given in (0, 1)],
)
def test_result_has_the_axes_of_the_input(make_signal, response, name, lazy, shape, given):
    s = make_signal(*shape)
    s = s.as_lazy() if lazy else s
    result = run(s, name, response if given else None)
    assert type(result) is type(s)
    assert result.data.dtype == np.float32
    for got, want in zip(result.axes_manager._axes, s.axes_manager._axes, strict=True):
        assert got.get_axis_dictionary() == want.get_axis_dictionary()
    data = np.asarray(result.data)
    assert np.isfinite(data).all()
    assert (data.max(axis=-1) > 1.2 * np.asarray(s.data).max(axis=-1)).all()  # sharper


@pytest.mark.parametrize(("name", "given"), [("rl", False), *((name, True) for name in METHODS)])
def test_eager_and_lazy_agree_whatever_the_chunks(make_signal, response, monkeypatch, name, given):
    monkeypatch.setattr(runner, "SPECTRA_PER_BLOCK", 4)
    s = make_signal(2, 3)
    psf = response if given else None
    want = run(s, name, psf).data
    lazy = s.as_lazy(chunks=((1, 1), (1, 2), (200, 56)))
    result = run(lazy, name, psf)
    assert lazy.data.chunks == ((1, 1), (1, 2), (200, 56))
    np.testing.assert_allclose(np.asarray(result.data), want, atol=1e-5 * want.max())
    assert run(lazy, name, psf, lazy_output=False)._lazy is False
    assert run(s, name, psf, lazy_output=True)._lazy is True


@PER_METHOD
@pytest.mark.parametrize("shown", [False, True])
def test_progressbar_and_workers_are_forwarded(
    make_signal, response, monkeypatch, capsys, name, shown
):
    compute, seen = dask.compute, []
    monkeypatch.setattr(dask, "compute", lambda *a, **k: seen.append(k) or compute(*a, **k))
    getattr(make_signal(3), f"{name}_deconvolve")(
        response, show_progressbar=shown, num_workers=1, **FIXED[name]
    )
    assert seen == [{"num_workers": 1}]
    assert ("it/s" in capsys.readouterr().err) == shown


@pytest.mark.parametrize(
    ("name", "dtype", "wanted"),
    [("rl", "u1", "f4"), ("rl", "i2", "f4"), ("rl", "u4", "f4"), ("rl", "i8", "f4"),
     ("rl", "f2", "f4"), ("rl", ">f4", "f4"), ("rl", ">f8", "f8"), ("rl", "?", "f4"),
     ("ml", "u2", "f4"), ("fourier", "i4", "f4"), ("tgv", "u2", "f4"), ("ml", "f8", "f8"),
     ("fourier", "f8", "f8"), ("tgv", "f8", "f8")],
)  # fmt: skip
def test_every_real_dtype(make_signal, response, name, dtype, wanted):
    s = make_signal(2)
    s.data = np.minimum(s.data // 100, 100) if dtype != "?" else s.data > 500
    s.data = s.data.astype(dtype)
    reference = s.deepcopy()
    reference.data = reference.data.astype("f8")
    result = run(s, name, response)
    assert result.data.dtype == np.dtype(wanted)
    want = run(reference, name, response).data
    np.testing.assert_allclose(result.data, want, atol=1e-4 * want.max())


@pytest.mark.parametrize("name", ["rl", "ml", "tgv"])
def test_readout_noise_and_negative_counts(make_signal, response, name):
    s = make_signal(3)
    s.data += np.random.default_rng(0).normal(-5, 3, s.data.shape).astype("f4")
    assert s.data.min() < 0
    result = run(s, name, response)
    assert np.isfinite(result.data).all()
    assert (result.data >= 0).all()


def test_richardson_lucy_is_that_of_exspy(make_signal):
    s = make_signal(2, channels=512)
    s.data = s.data.astype("f8") + 5.0
    psf = make_signal(channels=512)
    psf.data = physics.gaussian(512, 256.0, 10.0)
    theirs = s.richardson_lucy_deconvolution(psf, 15, show_progressbar=False).data
    ours = s.rl_deconvolve(psf, 15, show_progressbar=False).data
    assert ours.dtype == np.float64
    assert np.abs(ours - theirs)[..., 60:-60].max() < 1e-5 * theirs.max()


# Spectra that cannot be deconvolved


@pytest.mark.parametrize(("name", "lazy"), [("rl", False), *((name, True) for name in METHODS)])
def test_given_response_needs_no_zero_loss_peak(make_signal, response, name, lazy):
    s = make_signal(4)
    s.data[0] = 0
    s.data[1] = 7
    s.data[2, 3] = np.inf
    data = run(s.as_lazy() if lazy else s, name, response, lazy_output=True)
    with pytest.warns(UserWarning, match=f"^{name}_deconvolve: of 4 spectra 1 empty .* 1 not fin"):
        data = np.asarray(data.data)
    assert not data[0].any()
    np.testing.assert_allclose(data[1, 60:-60], 7, rtol=0.05)
    assert np.isnan(data[2]).all()
    assert data[3].any()


@PER_METHOD
def test_estimated_response_needs_a_zero_loss_peak(make_signal, name):
    s = make_signal(4)
    s.data[0] = 0
    s.data[1] = 7
    s.data[2, 3] = np.nan
    with pytest.warns(UserWarning, match=f"^{name}_deconvolve: of 4 spectra") as caught:
        result = run(s, name)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not result.data[:2].any()
    assert np.isnan(result.data[2]).all()
    flags = note_of(result, name).flags.as_dictionary()
    assert flags.pop("maps")["not_finite"].tolist() == [False, False, True, False]
    judged = {} if name in ("rl", "ml") else {"unexplained": 0}  # they were stopped early
    assert flags == {
        "counted": True, "empty": 1, "no_zero_loss": 1, "not_finite": 1, "saturated": 0,
        "spike": 0, **judged,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "lazy"), [("rl", True), *((name, False) for name in METHODS)])
def test_unusable_responses_of_a_map(make_signal, name, lazy):
    s, psf = make_signal(4), make_signal(4)
    s.data[0] = psf.data[0] = 0
    psf.data[1] = np.nan
    psf.data[2, 0] = 1e9
    with pytest.warns(UserWarning, match="1 empty .* 2 not finite"):
        result = run(s, name, psf.as_lazy() if lazy else psf)
    assert not result.data[0].any()
    assert np.isnan(result.data[1:3]).all()
    assert result.data[3].any()


@PER_METHOD
def test_map_without_spectra(make_signal, response, name):
    s = make_signal(0)
    assert run(s, name, response).data.shape == (0, 256)
    assert run(s, name).data.shape == (0, 256)


# The response


@PER_METHOD
def test_estimated_response_can_be_given_back(make_signal, name):
    s = make_signal(2, 2)
    psf = s.estimate_psf(show_progressbar=False)
    blind, told = run(s, name), run(s, name, psf)
    np.testing.assert_allclose(told.data, blind.data, atol=1e-6 * blind.data.max())
    assert note_of(told, name).psf == "estimated beforehand: simulated"


@PER_METHOD
def test_one_response_for_each_spectrum(make_signal, name):
    s, psf = make_signal(2, 2), make_signal(2, 2, channels=101, position=50.0)
    psf.data = physics.gaussian(101, np.full((2, 2), 50.0), np.array([[8.0, 9.0], [10.0, 11.0]]))
    resolution = {"resolution": 0.04} if name == "fourier" else {}
    together = run(s, name, psf, **resolution)
    for x, y in [(0, 0), (1, 0), (0, 1)]:
        part = (slice(x, x + 1), slice(y, y + 1))
        alone = run(s.inav[part], name, psf.inav[part], **resolution).data[0, 0]
        np.testing.assert_allclose(together.data[y, x], alone, atol=1e-5 * alone.max())
        # One response for all is padded as far as it reaches, and no farther.
        single = run(s.inav[x, y], name, psf.inav[x, y], **resolution).data
        np.testing.assert_allclose(single, alone, atol=5e-3 * alone.max())


@PER_METHOD
def test_falling_energy_axis(make_signal, response, name):
    s = make_signal(2)
    falling = s.deepcopy()
    falling.data = np.ascontiguousarray(s.data[..., ::-1])
    energy_axis(falling).scale *= -1
    for psf in (response,) if name == "tgv" else (response, None):
        want = run(s, name, psf).data
        got = run(falling, name, psf).data[..., ::-1]
        np.testing.assert_allclose(got, want, atol=1e-5 * want.max())


# Resolution


@pytest.mark.parametrize("name", ["rl", "ml", "tgv"])
def test_result_is_smoothed_to_the_resolution(make_signal, response, name):
    s = make_signal(2)
    plain, smoothed = run(s, name, response), run(s, name, response, resolution=0.05)
    added = np.sqrt(5.0**2 - 2.0**2) if name == "tgv" else 5.0  # tgv's are at two channels as is
    want = physics.smooth(plain.data, added)
    np.testing.assert_allclose(smoothed.data, want, rtol=1e-5, atol=1e-6 * want.max())
    assert note_of(plain, name).resolution == (0.02 if name == "tgv" else None)
    assert note_of(smoothed, name).resolution == pytest.approx(0.05)


def test_fourier_resolution_is_a_quarter_of_the_zero_loss_width(make_signal, response):
    s = make_signal(3, fwhm=24.0)
    assert note_of(run(s, "fourier"), "fourier").resolution == pytest.approx(0.06, rel=0.05)
    told = run(s, "fourier", response)
    assert note_of(told, "fourier").resolution == pytest.approx(0.06, rel=0.05)
    s.data[:] = 1.0 + np.arange(256)  # no zero-loss peak: that of the response counts
    told = run(s, "fourier", response)
    assert note_of(told, "fourier").resolution == pytest.approx(0.025, rel=0.01)
    s = make_signal()
    assert note_of(run(s, "fourier", response, 0.03), "fourier").resolution == pytest.approx(0.03)


def test_width_of_a_cut_response_is_not_known(make_signal, response):
    cut = response.isig[47:]
    s = make_signal()
    s.data[:] = 1.0 + np.arange(256)
    assert run(s, "rl", cut).data.any()
    with pytest.raises(ValueError, match="resolution must be given"):
        run(s, "fourier", cut)
    run(s, "fourier", cut, resolution=0.05)


# Metadata


@pytest.mark.parametrize(
    ("name", "setting", "words", "extension", "lazy"),
    [
        *(
            ("rl", "iterations", "Richardson-Lucy", extension, lazy)
            for extension in ("hspy", "zspy")
            for lazy in (False, True)
        ),
        ("ml", "iterations", "maximum-likelihood", "zspy", False),
        ("tgv", "weight", "TGV", "hspy", False),
        ("tgv", "weight", "TGV", "zspy", True),
    ],
)
def test_automatic_choices_survive_a_file(
    make_signal, response, tmp_path, name, setting, words, extension, lazy
):
    s = make_signal(1, 2)
    s.tmp_parameters.filename = "file"
    s = s.as_lazy() if lazy else s
    s.tmp_parameters.filename = "file"
    result = run(s, name, response, "auto")
    assert result.metadata.General.title == f"simulated after {words} deconvolution"
    assert result.tmp_parameters.filename == f"file_after_{words}_deconvolution"
    path = tmp_path / f"result.{extension}"
    result.save(path)
    note = note_of(hs.load(path), name)
    assert note.method == words
    assert note.get_item(setting) == "auto"
    assert note.psf == "measured: vacuum"
    assert note.package_version == exspy_deepdeconv.__version__
    assert note.flags.counted == (not lazy)
    assert note.chosen.counted == (not lazy)
    if not lazy:
        assert note.chosen.map.shape == (1, 2)
        assert (note.chosen.map > 0).all()
        assert note.chosen.lowest <= note.chosen.median <= note.chosen.highest


def test_fixed_settings_are_noted(make_signal, response):
    s = make_signal()
    note = note_of(run(s, "rl", response, 7), "rl").as_dictionary()
    assert note["iterations"] == 7
    assert "chosen" not in note
    assert note_of(run(s, "tgv", response, 2.5), "tgv").weight == 2.5
    estimated = note_of(run(s, "rl"), "rl")
    assert (estimated.psf, estimated.model) == ("estimated", models.available()[-1])
    chosen = note_of(run(s, "rl", response, "auto"), "rl").chosen.as_dictionary()
    assert "map" not in chosen
    assert chosen["median"] == chosen["highest"]


# The noise


@pytest.mark.filterwarnings("ignore:tgv_deconvolve")  # the data are no result
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_noise_that_the_user_has_set_reaches_the_array_function(
    make_signal, response, monkeypatch, lazy, per_channel
):
    from exspy_deepdeconv import classical

    seen = []

    def spy(spectra, psf, weight, *, noise=None, return_chosen=False):
        seen.append(noise)
        return spectra

    monkeypatch.setattr(classical, "total_generalised_variation", spy)
    s = make_signal(2)
    np.asarray(run(s, "tgv", response).data)
    assert seen.pop() is None
    variance = s * 2.0 + 9.0
    s.set_noise_variance(variance if per_channel else 4.0)
    np.asarray(run(s.as_lazy() if lazy else s, "tgv", response).data)
    (noise,) = seen
    want = (2.0, 9.0) if per_channel else (0.0, 4.0)
    np.testing.assert_allclose(noise.gain, want[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(noise.floor, want[1], rtol=1e-2)


# The caller's signal


@pytest.mark.parametrize(("name", "lazy"), [("rl", True), *((name, False) for name in METHODS)])
def test_input_is_never_changed(make_signal, name, lazy):
    s, psf = make_signal(3), make_signal(3, channels=100, position=50.0)
    s.data.flags.writeable = psf.data.flags.writeable = False
    if lazy:
        s, psf = s.as_lazy(chunks=(2, 100)), psf.as_lazy(chunks=(1, 70))
    before = [(x.metadata.as_dictionary(), np.asarray(x.data).tobytes()) for x in (s, psf)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.asarray(run(s, name, psf).data)
    after = [(x.metadata.as_dictionary(), np.asarray(x.data).tobytes()) for x in (s, psf)]
    assert after == before


# Bad input


def in_nm(s):
    energy_axis(s).units = "nm"


def empty(s):
    s.data[:] = 0


@pytest.mark.parametrize("name", ["rl", "fourier"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (non_uniform, NotImplementedError, "non-uniform energy axes"),
        (in_nm, ValueError, "cannot become eV"),
        (complex_data, ValueError, "complex128"),
        (empty, ValueError, "nothing but zeros"),
    ],
)
def test_unfit_signal(make_signal, name, change, error, message):
    s = make_signal()
    change(s)
    with pytest.raises(error, match=message):
        run(s, name)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("rl", {"iterations": 0}, "iterations=0"),
        ("rl", {"iterations": 2.5}, "iterations=2.5"),
        ("rl", {"iterations": True}, "iterations=True"),
        ("rl", {"iterations": "many"}, "iterations='many'"),
        ("ml", {"iterations": -3}, "iterations=-3"),
        ("ml", {"iterations": None}, "iterations=None"),
        ("tgv", {"weight": 0}, "weight=0"),
        ("tgv", {"weight": float("nan")}, "weight=nan"),
        ("tgv", {"weight": "heavy"}, "weight='heavy'"),
        ("tgv", {"weight": float("inf")}, "weight=inf"),
        ("rl", {"resolution": 0}, "resolution=0"),
        ("ml", {"resolution": float("inf")}, "resolution=inf"),
        ("tgv", {"resolution": "fine"}, "resolution='fine'"),
        (
            "fourier",
            {"resolution": 0.01},
            r"resolution=0\.01 eV is out of range.*0\.02 to 0\.(09|10)",
        ),
        ("rl", {"resolution": 0.2}, r"resolution=0\.2 eV is out of range"),
    ],
)
def test_wrong_argument(make_signal, response, network, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(make_signal(2), name, response, **arguments)


@PER_METHOD
def test_wrong_response(make_signal, response, name):
    s = make_signal(3)
    with pytest.raises(TypeError, match="psf must be an EELSSpectrum"):
        run(s, name, response.data)
    other = response.deepcopy()
    energy_axis(other).scale = 0.02
    with pytest.raises(ValueError, match=r"psf has 0\.02 eV per channel"):
        run(s, name, other)
    with pytest.raises(ValueError, match="navigation shape"):
        run(s, name, make_signal(2))
    with pytest.raises(ValueError, match="63 channels; at least 64"):
        run(make_signal(2, channels=63, position=20), name, response)


def test_block_of_spectra_to_be_left_alone():
    """Nothing usable: the array function must not be called at all."""

    def fail(*_, **__):
        raise AssertionError

    estimate, flags, chosen = classical_blocks.deconvolve_block(
        np.array([[0.0] * 64, [np.nan] * 64]),
        np.ones(8),
        function=fail,
        respond=None,
        smoothing=0.0,
        automatic=False,
    )
    assert flags.tolist() == [physics.EMPTY, physics.NOT_FINITE]
    assert not estimate[0].any() and np.isnan(estimate[1]).all() and np.isnan(chosen).all()


def test_pixel_without_a_zero_loss_peak_spoils_no_residual(make_signal):
    s, psf = make_signal(2, 2), make_signal(channels=101, position=50.0)
    s.data[0, 1] = 100.0
    result = s.rl_deconvolve(psf, iterations=5, show_progressbar=False)
    _, chi2, _ = s.deconvolution_residual(result, psf, return_maps=True, show_progressbar=False)
    assert np.isfinite(chi2.data).all()
    assert "rl" in s.compare_deconvolution(("rl",), psf, show_progressbar=False).signals


def test_residual_of_a_result_of_a_result_reads_the_last_one(make_signal):
    first = make_signal().tgv_deconvolve(weight=3.0, show_progressbar=False)
    again = first.deep_deconvolve(show_progressbar=False)
    only = again.deepcopy()
    del only.metadata.Signal.tgv_deconvolution
    one, other = (
        first.deconvolution_residual(x, show_progressbar=False).data for x in (again, only)
    )
    np.testing.assert_array_equal(one, other)
    assert again.metadata.Signal.deconvolved_by == "deep_deconvolution"


def test_estimated_response_leaves_pixels_without_a_peak_at_zero(make_signal):
    s = make_signal(3)
    s.data[1] = 100.0
    with pytest.warns(UserWarning, match="1 without a zero-loss peak"):
        psf = s.estimate_psf(show_progressbar=False)
    with pytest.warns(UserWarning, match="1 without a zero-loss peak"):
        result = s.rl_deconvolve(psf, iterations=3, show_progressbar=False)
    assert (result.data[1] == 0).all() and np.isfinite(result.data).all()


@pytest.mark.parametrize("name", ["fourier", "tgv"])
def test_saturated_peak_is_flagged_with_a_measured_response(make_signal, name):
    s, psf = make_signal(2), make_signal(channels=101, position=50.0)
    s.data[0] = np.minimum(s.data[0], 0.4 * s.data[0].max())
    with pytest.warns(UserWarning, match="1 with a saturated"):
        getattr(s, f"{name}_deconvolve")(psf, show_progressbar=False)


@pytest.mark.parametrize("name", ["fourier", "tgv"])
def test_values_that_are_too_high_are_flagged_with_a_measured_response(make_signal, name):
    s, psf = make_signal(2), make_signal(channels=101, position=50.0)
    s.data = s.data.astype(float)
    s.data[0] *= 1e16
    with pytest.warns(UserWarning, match="1 not finite"):
        result = getattr(s, f"{name}_deconvolve")(psf, show_progressbar=False)
    assert np.isnan(result.data[0]).all() and np.isfinite(result.data[1]).all()
    assert note_of(result, name).flags.not_finite == 1


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_variance_signal_with_hopeless_values(make_signal, bad):
    s = make_signal(2)
    variance = s._deepcopy_with_new_data(np.maximum(s.data, 1.0))
    variance.data[1, 5] = bad
    s.set_noise_variance(variance)
    with pytest.raises(ValueError, match="Noise_properties.variance"):
        s.tgv_deconvolve(show_progressbar=False)


# Results that do not explain the data

JUDGED = {"rl": {}, "ml": {}, "fourier": {}, "tgv": {"weight": 1.0}}


def too_wide(make_signal):
    psf = make_signal(channels=101, position=50.0)
    psf.data = physics.gaussian(101, 50.0, 25.0)
    return psf


def judged(signal, name, psf, **kwargs):
    method = getattr(signal, f"{name}_deconvolve")
    return method(psf, show_progressbar=False, **JUDGED[name] | kwargs)


@pytest.mark.parametrize(("name", "shape"), [("rl", ()), *((name, (2,)) for name in METHODS)])
def test_wrong_response_is_told_of_once(make_signal, response, name, shape):
    s = make_signal(*shape)
    number = shape[0] if shape else 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert note_of(judged(s, name, response), name).flags.unexplained == 0
    with pytest.warns(UserWarning) as caught:
        result = judged(s, name, too_wide(make_signal))
    (warning,) = caught
    whom = "of 2 spectra 2" if shape else "a spectrum"
    wanted = f"{name}_deconvolve: {whom} not explained by the result"
    assert str(warning.message).startswith(wanted)
    assert warning.filename == __file__
    assert note_of(result, name).flags.unexplained == number


@pytest.mark.parametrize("name", ["rl", "fourier"])
def test_wrong_response_is_told_of_when_a_lazy_result_is_complete(make_signal, name):
    result = judged(make_signal(2, 2).as_lazy(), name, too_wide(make_signal))
    with pytest.warns(UserWarning, match="of 4 spectra 4 not explained"):
        np.asarray(result.data)


def test_estimated_response_that_is_not_that_of_the_data(make_signal, monkeypatch):
    def respond(spectra, **_):
        wide = physics.gaussian(256, np.full(spectra.shape[:-1], 128.0), np.array(25.0))
        return wide, np.zeros(spectra.shape[:-1], np.uint8)

    monkeypatch.setattr(results, "responder", lambda *_: respond)
    with pytest.warns(UserWarning, match="of 40 spectra 40 not explained"):
        judged(make_signal(40), "rl", None)


@pytest.mark.parametrize("name", ["rl", "ml"])
def test_fewer_than_fifteen_iterations_are_a_wish_for_a_misfit(make_signal, name):
    s, psf = make_signal(2), too_wide(make_signal)
    with pytest.warns(UserWarning) as caught:
        result = judged(s, name, psf, iterations=14)
    assert [str(w.message).partition(": ")[2] for w in caught] == [
        "of 2 spectra 2 that the psf does not fit (used all the same)."
    ]
    assert not note_of(result, name).flags.has_item("unexplained")
    with pytest.warns(UserWarning, match="2 not explained"):
        judged(s, name, psf, iterations=15)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("lazy", [False, True])
def test_a_response_of_another_width_is_told_of_once(make_signal, name, lazy):
    s, psf = make_signal(3), make_signal(3, channels=101, position=50.0)
    psf.data = physics.gaussian(101, np.full(3, 50.0), np.array([10.0, 9.0, 10.0]))
    with pytest.warns(UserWarning) as caught:
        result = judged(s.as_lazy() if lazy else s, name, psf)
        result.compute(show_progressbar=False) if lazy else None
    (told,) = [w for w in caught if "does not fit" in str(w.message)]
    assert "1 that the psf does not fit (used all the same)" in str(told.message)
    if not lazy:
        maps = note_of(result, name).flags.maps
        assert maps.psf_misfit.tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["rl", "fourier"])
def test_a_response_that_the_map_shares_fits_it(make_signal, name):
    s = make_signal(3, 4)
    psf = s.estimate_psf(shared=True, show_progressbar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert note_of(judged(s, name, psf), name).flags.psf_misfit == 0


@pytest.mark.parametrize("name", ["rl", "ml"])
def test_only_the_spectrum_with_the_wrong_response_is_flagged(make_signal, name):
    s, psf = make_signal(3), make_signal(3, channels=101, position=50.0)
    psf.data = physics.gaussian(101, np.full(3, 50.0), np.array([10.0, 25.0, 10.0]))
    with pytest.warns(UserWarning, match="of 3 spectra 1 not explained"):
        judged(s, name, psf)


def test_pixels_without_a_peak_are_not_judged(make_signal, response):
    s = make_signal(3)
    s.data[1] = 100.0
    assert note_of(judged(s, "rl", response), "rl").flags.unexplained == 0


@pytest.mark.parametrize("name", ["rl", "fourier"])
def test_misfit_is_judged_by_the_noise_that_the_user_has_set(make_signal, name):
    s = make_signal(2)
    s.set_noise_variance(1e12)
    assert note_of(judged(s, name, too_wide(make_signal)), name).flags.unexplained == 0


@pytest.mark.parametrize(
    ("wide", "name", "blocks"),
    [(False, "rl", [16]), (True, "rl", [16, 24]), (False, "fourier", [40])],
)
def test_quick_methods_look_at_a_few_spectra_first(
    make_signal, response, monkeypatch, wide, name, blocks
):
    seen, explain = [], classical_blocks.residual.explain

    def spy(estimate, *arguments):
        seen.append(len(estimate))
        return explain(estimate, *arguments)

    monkeypatch.setattr(classical_blocks.residual, "explain", spy)
    s = make_signal(40)
    psf = too_wide(make_signal) if wide else response
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = judged(s, name, psf)
    assert seen == blocks
    assert note_of(result, name).flags.unexplained == (40 if wide else 0)


@pytest.mark.parametrize("name", METHODS)
def test_noise_of_an_offset_is_noise_but_no_counts(make_signal, name):
    """A dark level with HyperSpy's own Poisson variance: as good as without, and not flagged."""
    psf = make_signal(channels=512, position=200.0)
    psf.data = 1e6 * physics.gaussian(512, 200.0, 12.0)
    s = make_signal(channels=1024)
    clean = (
        1e5 * physics.gaussian(1024, 200.0, 12.0)
        + 5e3 * physics.gaussian(1024, 500.0, 30.0)
        + 2000.0
    )
    s.data = np.random.default_rng(0).poisson(clean).astype(float)
    plain = run(s, name, psf)
    s.estimate_poissonian_noise_variance()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        told = run(s, name, psf)
    truth = 5e3 * physics.gaussian(1024, 500.0, np.sqrt(30.0**2 - 12.0**2)) + 2000.0
    errors = [np.linalg.norm((x.data - truth)[400:600]) for x in (plain, told)]
    assert errors[1] < 1.2 * errors[0]


def test_num_workers_are_all_that_work(make_signal, response, monkeypatch):
    from exspy_deepdeconv.response import convolution

    made = []

    class Pool(convolution.ThreadPoolExecutor):
        def __init__(self, number):
            made.append(number)
            super().__init__(number)

    monkeypatch.setattr(convolution, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(convolution, "BATCH_BYTES", 1)
    make_signal(4).rl_deconvolve(response, iterations=2, num_workers=1, show_progressbar=False)
    assert not made
    make_signal(4).rl_deconvolve(response, iterations=2, num_workers=3, show_progressbar=False)
    assert made and set(made) == {3}
