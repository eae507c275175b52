"""Wrong signals and arguments are refused before any work."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import complex_data, deconvolve, energy_axis, non_uniform

import exspy_deepdeconv
from exspy_deepdeconv import data, models

OLDEST = models.available()[0]


def with_axis(**values):
    def change(s):
        for name, value in values.items():
            setattr(energy_axis(s), name, value)

    return change


def set_data(value, place=...):
    def change(s):
        s.data[place] = value

    return change


def masked_data(s):
    s.data = np.ma.masked_array(s.data, np.arange(256) == 100)


@pytest.mark.parametrize(
    ("shape", "change", "error", "message"),
    [
        ((), non_uniform, NotImplementedError, "non-uniform energy axes"),
        ((), with_axis(units="nm"), ValueError, r"'Energy loss'.*'nm'.*cannot become eV"),
        ((), with_axis(units="furlong"), ValueError, "'furlong'"),
        ((), with_axis(units=""), ValueError, r'units = "eV"'),
        ((), masked_data, ValueError, "NaN, infinite"),
        ((), set_data(0), ValueError, "nothing but zeros"),
        ((), set_data(7), ValueError, "[Nn]o zero-loss peak"),
        ((), set_data(np.nan, 100), ValueError, "NaN, infinite"),
        ((), set_data(np.inf, 100), ValueError, "NaN, infinite"),
        ((3,), set_data(0), ValueError, r"None of 3 spectra.*3 empty.*are needed\.$"),
        ((3,), set_data(np.nan), ValueError, "All of 3 spectra"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_unfit_signal(make_signal, network, shape, change, error, message, lazy):
    s = make_signal(*shape)
    change(s)
    with pytest.raises(error, match=message):
        deconvolve(s.as_lazy() if lazy else s)
    assert network.calls == []


def test_complex_data(make_signal):
    s = make_signal()
    complex_data(s)
    with pytest.raises(ValueError, match="complex128"):
        deconvolve(s)


def test_missing_units_say_how_to_set_them(make_signal):
    s = type(make_signal())(make_signal().data)
    with pytest.raises(ValueError, match=r'units = "eV"'):
        deconvolve(s)


def test_too_few_channels(make_signal):
    with pytest.raises(ValueError, match="63 channels; at least 64"):
        deconvolve(make_signal(2, channels=63, position=20))
    deconvolve(make_signal(2, channels=64, position=20, fwhm=6.0))


def test_signal_axis_must_be_the_energy(make_signal):
    s = make_signal(3, 70)
    with pytest.raises(ValueError, match="one signal axis"):
        type(s).deep_deconvolve(s.as_signal2D((0, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 0.2}, r"resolution=0\.2 eV.*0\.02 to 0\.(09|10)"),
        ({"resolution": 0.01}, r"resolution=0\.01 eV.*0\.02 to"),
        ({"resolution": -1}, "resolution=-1"),
        ({"resolution": 0}, "resolution=0"),
        ({"resolution": float("nan")}, "resolution=nan"),
        ({"resolution": True}, "resolution=True"),
        ({"resolution": "0.05 eV"}, "resolution='0.05 eV'"),
        ({"confidence": 1.0}, "confidence=1.0"),
        ({"interactive": "yes"}, "interactive='yes' must be True or False"),
        ({"confidence": 0}, "confidence=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"batch_size": True}, "batch_size=True"),
        ({"num_workers": -3}, "num_workers=-3"),
        ({"num_workers": 2.5}, "num_workers=2.5"),
        ({"num_workers": "all"}, "num_workers='all'"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"model": "nonsense"}, f"nonsense.*{OLDEST}"),
    ],
)
def test_wrong_argument(make_signal, network, arguments, message):
    with pytest.raises(ValueError, match=message):
        deconvolve(make_signal(2), **arguments)
    assert network.calls == []


@pytest.mark.parametrize("method", ["rl_deconvolve", "estimate_psf", "compare_deconvolution"])
def test_workers_that_are_no_number(make_signal, method):
    with pytest.raises(ValueError, match="num_workers='all' must be a whole number"):
        getattr(make_signal(2), method)(num_workers="all")


def test_a_response_in_the_place_of_the_resolution(make_signal, network):
    """The classical methods take it first."""
    with pytest.raises(ValueError, match=r"resolution=<EELSSpectrum.*psf="):
        deconvolve(make_signal(2), make_signal())
    assert network.calls == []


def test_a_variance_that_was_not_cropped_says_what_to_do(make_signal):
    """HyperSpy's ``crop_signal`` changes the data in place, but not their noise variance."""
    s = make_signal(2)
    s.estimate_poissonian_noise_variance()
    s.crop_signal(0, 200)
    with pytest.raises(ValueError, match="the same.*del s.metadata.Signal.Noise_properties"):
        deconvolve(s)
    del s.metadata.Signal.Noise_properties
    assert deconvolve(s).data.shape == s.data.shape


def test_model_of_another_kind(make_signal, network):
    with pytest.raises(ValueError, match="model=3 must be a name"):
        deconvolve(make_signal(), model=3)
    assert network.calls == []


def test_damaged_weights(make_signal, network, monkeypatch, tmp_path):
    (tmp_path / f"{OLDEST}.safetensors").write_bytes(b"not the registered ones")
    monkeypatch.setattr(exspy_deepdeconv.models, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="sha256"):
        deconvolve(make_signal(), model=OLDEST)
    assert network.calls == []


def test_loaded_model(make_signal):
    s = make_signal()
    model = exspy_deepdeconv.models.load()
    result = deconvolve(s, model=model)
    np.testing.assert_array_equal(result.data, deconvolve(s).data)
    assert result.metadata.Signal.deep_deconvolution.weights_sha256 == model.sha256


def test_misspelt_argument(make_signal):
    with pytest.raises(TypeError, match="resolutoin"):
        deconvolve(make_signal(), resolutoin=0.1)


@pytest.mark.parametrize(
    ("shape", "change", "message"),
    [
        ((), with_axis(scale=0.0102), r"0\.0102 eV per channel, the signal 0\.01"),
        ((), with_axis(units="meV"), "1e-05 eV per channel"),
        ((), with_axis(units="nm"), "psf is in units of 'nm'"),
        (
            (3,),
            set_data(1, (0, 0)),
            r"shape \(3,\).*psf\.vacuum_psf\(\), which aligns and sums them",
        ),
        ((), set_data(0), "psf must hold a zero-loss peak"),
        ((), set_data(np.nan, 3), "psf must hold a zero-loss peak"),
        ((), set_data(1e9, 0), "maximum inside its energy axis"),
        ((), complex_data, "psf must hold real numbers"),
    ],
)
def test_unfit_response(make_signal, network, shape, change, message):
    psf = make_signal(*shape)
    change(psf)
    with pytest.raises(ValueError, match=message):
        deconvolve(make_signal(10), psf=psf)
    assert network.calls == []


@pytest.mark.parametrize("make", [lambda s: s.data, lambda s: hs.signals.Signal1D(s.data), str])
def test_response_of_another_class(make_signal, make):
    s = make_signal(2)
    with pytest.raises(TypeError, match="psf must be an EELSSpectrum"):
        deconvolve(s, psf=make(s.inav[0]))


def test_non_uniform_response(make_signal):
    psf = make_signal()
    non_uniform(psf)
    with pytest.raises(NotImplementedError, match="psf"):
        deconvolve(make_signal(2), psf=psf)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 4), bool), r"\(3, 4\).*mask\.T"),
        (np.zeros(4, bool), r"navigation_mask has the shape \(4,\)"),
        (np.zeros((4, 3)), "bool"),
        (np.ones((4, 3), bool), "every spectrum"),
        (hs.signals.BaseSignal(np.zeros((3, 4), bool)), "signal axes"),
    ],
)
def test_wrong_mask(make_signal, network, mask, message):
    with pytest.raises(ValueError, match=message):
        deconvolve(make_signal(3, 4), navigation_mask=mask)
    assert network.calls == []


@pytest.mark.parametrize("method", ["deep_deconvolve", "rl_deconvolve", "estimate_psf"])
def test_lazy_output_is_no_word(make_signal, method):
    with pytest.raises(ValueError, match="lazy_output='no' must be True or False"):
        getattr(make_signal(), method)(lazy_output="no")


def test_return_maps_is_no_word(make_signal):
    s = make_signal()
    with pytest.raises(ValueError, match="return_maps='no' must be True or False"):
        s.deconvolution_residual(s, return_maps="no")


@pytest.mark.parametrize(
    "method",
    ["deep_deconvolve", "rl_deconvolve", "estimate_psf", "vacuum_psf", "compare_deconvolution"],
)
def test_chunks_of_unknown_size_are_an_error(make_signal, method):
    lazy = make_signal(4).as_lazy()
    lazy.data = lazy.data[da.from_array(np.array([True, True, False, True]))]
    with pytest.raises(ValueError, match=r"call signal\.data\.compute_chunk_sizes\(\)"):
        getattr(lazy, method)()


def test_the_signal_is_no_response_of_itself():
    s = data.exciton_spectrum()
    shared = s.deepcopy()
    shared.data = s.data
    for psf in (s, s.deepcopy(), shared, s * 0.37):
        with pytest.raises(ValueError, match="psf is the signal itself"):
            s.deep_deconvolve(psf=psf)
