"""The tool and the notebook widget of ``deep_deconvolve(interactive=True)``."""

import gc
import subprocess
import sys
import weakref
from textwrap import dedent

import hyperspy.api as hs
import numpy as np
import pytest

from exspy_deepdeconv import data, models

ipywidgets = pytest.importorskip("ipywidgets")

from exspy_deepdeconv import widget  # noqa: E402
from exspy_deepdeconv._widget.interactive import DeepDeconvolution  # noqa: E402


@pytest.fixture
def open_widget():
    """Tool and parts of its widget, without a browser; closed at the end."""
    tools = []

    def open_(signal, **arguments):
        tools.append(DeepDeconvolution(signal, show_progressbar=False, **arguments))
        gui = tools[-1].gui(toolkit="ipywidgets", display=False)["ipywidgets"]
        assert gui["tool"] is tools[-1]
        return tools[-1], gui["wdict"]

    yield open_
    for tool in tools:
        tool.close()


def quiet(signal, *arguments, **settings):
    return signal.deep_deconvolve(*arguments, show_progressbar=False, **settings)


def assert_same_spectrum(got, want):
    np.testing.assert_allclose(got, want, atol=2e-6 * np.abs(want).max())


def test_a_signal_without_spectra_has_nothing_to_be_shown(make_signal):
    with pytest.raises(ValueError, match="The signal holds no spectra"):
        make_signal(0).deep_deconvolve(interactive=True)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 3)])
def test_preview_is_that_pixel_of_the_plain_call(make_signal, shape, lazy):
    s = make_signal(*shape)
    s = s.as_lazy(chunks=(1,) * len(shape) + (100,)) if lazy else s
    tool = DeepDeconvolution(s, return_interval=True, show_progressbar=False)
    tool.show_residual = True
    s.axes_manager.indices = tuple(size - 1 for size in s.axes_manager.navigation_shape)
    result, lower, upper = quiet(s, return_interval=True, lazy_output=False)
    residual = s.deconvolution_residual(result, show_progressbar=False, lazy_output=False)
    here = s.axes_manager.indices[::-1]
    np.testing.assert_array_equal(tool.preview.measured, np.asarray(s.data[here]))
    assert_same_spectrum(tool.preview.result, result.data[here])
    assert_same_spectrum(tool.preview.lower, lower.data[here])
    assert_same_spectrum(tool.preview.upper, upper.data[here])
    np.testing.assert_allclose(tool.preview.residual, residual.data[here], atol=2e-3)
    assert tool.message == ""


def test_preview_with_everything_given(make_signal):
    """Energy falling along the axis, a response and a variance for each pixel, no elastic peak."""
    s, psf = make_signal(2, 3), make_signal(2, 3, seed=1)
    psf.data[..., 95:] = 0  # the zero-loss peak alone
    variance = s.deepcopy()
    variance.data = variance.data * 2 + 5
    s.set_noise_variance(variance)
    for signal in (s, psf, variance):
        signal.data = signal.data[..., ::-1].copy()
        axis = signal.axes_manager.signal_axes[0]
        axis.offset, axis.scale = axis.high_value, -axis.scale
    tool = DeepDeconvolution(s, 0.05, psf, zero_loss=False)
    s.axes_manager.indices = (1, 0)
    tool.show_residual = True
    result = quiet(s, 0.05, psf, zero_loss=False)
    assert_same_spectrum(tool.preview.result, result.data[0, 1])
    residual = s.deconvolution_residual(result, psf, show_progressbar=False)
    np.testing.assert_allclose(tool.preview.residual, residual.data[0, 1], atol=2e-3)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("resolution", ["finest", "coarsest"])
def test_preview_of_a_wide_peak(make_signal, resolution, given):
    """Channels are taken together as for the whole signal; how many depends on the resolution, too."""
    s = make_signal(2, channels=1024, fwhm=48.0, position=300.0)
    psf = s.estimate_psf(shared=True) if given else None
    tool = DeepDeconvolution(s, psf=psf, return_interval=True, show_progressbar=False)
    tool.show_residual = True
    tool.resolution = getattr(tool, resolution)
    results = quiet(s, tool.resolution, psf, return_interval=True)
    shown = tool.preview.result, tool.preview.lower, tool.preview.upper
    for got, want in zip(shown, results, strict=True):
        assert_same_spectrum(got, want.data[0])
    residual = s.deconvolution_residual(results[0], psf, show_progressbar=False)
    np.testing.assert_allclose(tool.preview.residual, residual.data[0], atol=5e-3)


def test_preview_with_a_response_whose_tails_are_doubted(make_signal):
    """Its width is trusted, so that the network is asked twice: with its trust, and without."""
    distance, s = np.arange(512) - 200.0, make_signal(channels=512)
    shape, tail = np.exp(-((distance / 7.2) ** 2)), 1 / (1 + (2 * distance / 12) ** 2)
    losses = 0.05 * np.exp(-(((distance - 120) / 20) ** 2))
    s.data = np.random.default_rng(0).poisson(1e7 * (shape + 0.05 * tail + losses)) * 1.0
    psf = s.deepcopy()
    psf.data = 1e7 * (shape + 0.042 * tail)
    tool = DeepDeconvolution(s, psf=psf, return_interval=True, show_progressbar=False)
    results = quiet(s, tool.resolution, psf, return_interval=True)
    shown = tool.preview.result, tool.preview.lower, tool.preview.upper
    for got, want in zip(shown, results, strict=True):
        assert_same_spectrum(got, want.data)


def test_controls_show_the_settings(make_signal, open_widget):
    tool, parts = open_widget(make_signal(2))
    assert parts["resolution"].value == tool.resolution == pytest.approx(0.025, rel=0.1)
    assert parts["resolution"].min == tool.finest == pytest.approx(0.02)
    assert parts["resolution"].max == tool.coarsest == pytest.approx(0.1, rel=0.1)
    assert parts["model"].options == tuple(models.available())
    assert parts["model"].value == models.available()[-1]
    assert (parts["zero_loss"].value, parts["show_interval"].value) == (True, False)
    tool.zero_loss = False
    assert parts["zero_loss"].value is False
    assert "Apply" in parts["help"].children[0].value


def test_moving_the_slider_changes_preview_and_picture(make_signal, open_widget):
    s = make_signal()
    tool, parts = open_widget(s)
    before, picture = tool.preview, parts["picture"].value
    assert bytes(picture).startswith(b"\x89PNG")
    parts["resolution"].value = parts["resolution"].max
    assert tool.resolution == tool.coarsest
    assert not np.array_equal(tool.preview.result, before.result)
    assert_same_spectrum(tool.preview.result, quiet(s, tool.coarsest).data)
    assert parts["picture"].value != picture


@pytest.mark.parametrize("name", ["zero_loss", "show_interval", "show_residual", "log_scale"])
def test_every_switch_changes_the_picture_and_back(make_signal, open_widget, name):
    _, parts = open_widget(make_signal())
    picture = parts["picture"].value
    parts[name].value = not parts[name].value
    changed = parts["picture"].value
    assert changed != picture
    parts[name].value = not parts[name].value
    assert parts["picture"].value == picture


def test_labels_are_no_longer_than_their_panels(make_signal):
    tool = DeepDeconvolution(make_signal())
    tool.show_residual = True
    picture = widget._Picture("Energy loss (eV)")
    energy = tool.signal.axes_manager.signal_axes[0].axis
    limits = energy[0], energy[-1]
    picture.png(energy, tool.preview, limits=limits, log=True, with_residual=True)
    for panel in (picture.top, picture.bottom):
        label = panel.yaxis.label.get_window_extent()
        assert label.height <= panel.get_window_extent().height
    tool.close()


@pytest.mark.parametrize("units", ["eV", "meV"])
@pytest.mark.parametrize("falling", [False, True])
def test_losses_set_the_linear_scale_unless_only_the_peak_is_in_view(make_signal, units, falling):
    s = make_signal(scale=10.0 if units == "meV" else 0.01, units=units)
    axis, per_ev = s.axes_manager.signal_axes[0], 1000 if units == "meV" else 1
    axis.offset = -0.5 * per_ev
    if falling:
        s.data = s.data[::-1]
        axis.scale, axis.offset = -axis.scale, axis.high_value
    tool, picture, energy = DeepDeconvolution(s), widget._Picture("Energy loss"), axis.axis
    zero_loss, width = tool.zero_loss_peak()
    assert zero_loss == pytest.approx(0.103 * per_ev, abs=0.02 * per_ev)
    assert width == pytest.approx(0.1 * per_ev, rel=0.1)

    def top(*limits):
        picture.png(energy, tool.preview, limits=limits, log=False, with_residual=False,
                    peak=tool.zero_loss_peak())  # fmt: skip
        return picture.top.get_ylim()[1]

    losses = tool.preview.result[energy > 0.4 * per_ev].max()
    assert losses < top(energy.min(), energy.max()) < 1.5 * losses < 0.5 * s.data.max()
    assert top(-0.3 * per_ev, 0.25 * per_ev) > tool.preview.result.max()
    tool.close()


def test_energy_range_zooms(make_signal, open_widget):
    _, parts = open_widget(make_signal())
    picture = parts["picture"].value
    parts["energy_range"].value = (0.0, 1.0)
    assert parts["picture"].value != picture


def test_widget_and_navigator_go_together(make_signal, open_widget):
    s = make_signal(2, 3)
    tool, parts = open_widget(s)
    s.axes_manager.indices = (2, 1)
    np.testing.assert_array_equal(tool.preview.measured, s.data[1, 2])
    assert (parts["position_0"].value, parts["position_1"].value) == (2, 1)
    picture = parts["picture"].value
    parts["position_0"].value = 0
    assert s.axes_manager.indices == (0, 1)
    np.testing.assert_array_equal(tool.preview.measured, s.data[1, 0])
    assert parts["picture"].value != picture


def test_another_resolution_asks_the_network_no_second_time(make_signal, monkeypatch):
    """It is what makes the slider quick."""
    s = make_signal(2)
    tool = DeepDeconvolution(s)
    network, passes = models.load().network, []
    handle = network.register_forward_hook(lambda *_: passes.append(1))
    tool.resolution, tool.zero_loss, tool.show_residual = tool.finest, False, True
    assert passes == []
    s.axes_manager.indices = (1,)
    assert passes == [1]
    s.data *= 2
    s.events.data_changed.trigger(s)
    assert passes == [1, 1]
    np.testing.assert_array_equal(tool.preview.measured, s.data[1])
    handle.remove()


@pytest.mark.parametrize("lazy", [False, True])
def test_apply_gives_the_plain_result(make_signal, open_widget, lazy):
    s = make_signal(2, 3)
    s = s.as_lazy() if lazy else s
    tool, parts = open_widget(s)
    parts["resolution"].value = 0.06
    parts["zero_loss"].value = False
    assert tool.result is None
    parts["apply_button"].click()
    want = quiet(s, 0.06, zero_loss=False)
    assert tool.result._lazy == lazy
    np.testing.assert_allclose(np.asarray(tool.result.data), np.asarray(want.data), rtol=1e-5)
    assert (
        tool.result.metadata.as_dictionary()["Signal"]["deep_deconvolution"]["resolution"] == 0.06
    )
    assert "after deep deconvolution" in parts["message"].value
    assert "after deep deconvolution" in repr(tool)
    assert parts["apply_button"].disabled is False


def test_apply_with_the_interval_makes_its_bounds(make_signal, open_widget):
    s = make_signal(2)
    tool, parts = open_widget(s, confidence=0.8)
    parts["show_interval"].value = True
    parts["apply_button"].click()
    for got, want in zip(
        (tool.result, tool.lower, tool.upper),
        quiet(s, tool.resolution, return_interval=True, confidence=0.8),
        strict=True,
    ):
        np.testing.assert_allclose(got.data, want.data, rtol=1e-5)
    parts["show_interval"].value = False
    parts["apply_button"].click()
    assert (tool.lower, tool.upper) == (None, None)


def test_apply_passes_the_other_arguments_on(make_signal):
    s = make_signal(2)
    tool = DeepDeconvolution(
        s, navigation_mask=np.array([False, True]), lazy_output=True, show_progressbar=False
    )
    result = tool.apply()
    assert result._lazy
    assert not result.data[1].compute().any() and result.data[0].compute().any()


def test_close_disconnects_and_leaves_nothing_behind(make_signal):
    s = make_signal(3)
    events = s.axes_manager.events.indices_changed, s.events.data_changed
    before = [set(event.connected) for event in events]
    tool = DeepDeconvolution(s)
    parts = tool.gui(toolkit="ipywidgets", display=False)["ipywidgets"]["wdict"]
    assert [set(event.connected) for event in events] != before
    parts["close_button"].click()
    assert [set(event.connected) for event in events] == before
    shown, picture = tool.preview, parts["picture"].value
    s.axes_manager.indices = (2,)
    tool.resolution = tool.coarsest
    assert tool.preview is shown and parts["picture"].value is picture
    assert all(part.comm is None for part in parts.values())
    assert parts["apply_button"].disabled
    parts["apply_button"].click()
    assert tool.result is None
    tool.close()  # a second time does no harm
    alive = weakref.ref(tool)
    del tool, parts
    gc.collect()
    assert alive() is None


def test_an_empty_pixel_is_told_and_not_an_error(make_signal, open_widget):
    s = make_signal(2)
    s.data[1] = 0
    tool, parts = open_widget(s)
    s.axes_manager.indices = (1,)
    assert parts["message"].value == "Spectrum empty: there is nothing to deconvolve."
    assert tool.preview.result is None
    s.axes_manager.indices = (0,)
    assert parts["message"].value == "&nbsp;"
    assert tool.preview.result is not None


def test_a_doubtful_result_is_told(make_signal):
    s = make_signal()
    s.data[150] = 1e5
    assert "with a spike" in DeepDeconvolution(s).message


def test_errors_are_shown_on_one_line(make_signal, open_widget, monkeypatch):
    s = make_signal()
    tool, parts = open_widget(s)

    def fail(*_, **__):
        raise RuntimeError("out of\nmemory <sadly>")

    monkeypatch.setattr(type(s), "deep_deconvolve", fail)
    parts["apply_button"].click()
    assert parts["message"].value == "RuntimeError: out of memory &lt;sadly&gt;"
    assert parts["apply_button"].disabled is False
    parts["resolution"].value = tool.coarsest
    assert parts["message"].value == "&nbsp;"

    monkeypatch.setattr("exspy_deepdeconv._widget.preview.deconvolve_batch", fail)
    picture = parts["picture"].value
    parts["resolution"].value = tool.finest
    assert parts["message"].value == "RuntimeError: out of memory &lt;sadly&gt;"
    assert parts["picture"].value != picture  # the old result is gone, the data stay
    np.testing.assert_array_equal(tool.preview.measured, s.data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resolution": 5}, "resolution=5 eV is out of range"),
        ({"model": "newest"}, "model='newest' is neither"),
        ({"confidence": 90}, "confidence=90 must be"),
        ({"device": "abacus"}, "device='abacus' cannot be used"),
        ({"num_workers": 1.5}, "num_workers=1.5 must be"),
        ({"lazy_output": "no"}, "lazy_output='no' must be"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_shown(make_signal, arguments, words):
    with pytest.raises(ValueError, match=words):
        DeepDeconvolution(make_signal(), **arguments)


def test_a_model_of_ones_own_joins_the_choice(make_signal, tmp_path):
    path = models.save_model(models.load().network, tmp_path / "mine.safetensors", name="mine")
    tool = DeepDeconvolution(make_signal(), model=path, show_progressbar=False)
    assert tool.model_names == [*models.available(), "mine"]
    assert tool.apply().metadata.Signal.deep_deconvolution.model == "mine"
    tool.model = models.available()[-1]
    assert tool.apply().metadata.Signal.deep_deconvolution.model == models.available()[-1]


def test_an_undersampled_peak_has_nothing_to_choose(make_signal, open_widget):
    tool, parts = open_widget(make_signal(fwhm=1.5))
    assert parts["resolution"].disabled == (tool.finest == tool.coarsest)
    assert tool.preview.result is not None


def test_without_ipywidgets_the_extra_is_named(make_signal, monkeypatch):
    monkeypatch.setattr(widget, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"exspy_deepdeconv\[gui\]"):
        DeepDeconvolution(make_signal()).gui(toolkit="ipywidgets", display=False)


IMPORTS = {
    "api": "import hyperspy.api as hs",
    "registry": "import hyperspy.ui_registry",
    "class": "from exspy.signals import EELSSpectrum",
    "ours": "import exspy_deepdeconv",
}


@pytest.mark.parametrize("first", IMPORTS.values(), ids=IMPORTS)
def test_registered_whatever_is_imported_first_and_nothing_heavy(first):
    code = f"""
    import sys
    {first}
    import hyperspy.api
    from exspy.signals import EELSSpectrum
    from hyperspy.ui_registry import UI_REGISTRY
    specs = UI_REGISTRY["exspy_deepdeconv.DeepDeconvolution"]["ipywidgets"]
    assert specs == {{"module": "exspy_deepdeconv.widget", "function": "deep_deconvolution_ipy"}}
    heavy = {{"torch", "ipywidgets", "exspy_deepdeconv.plotting", "exspy_deepdeconv.widget"}}
    assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    process = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", ["zero_loss", "return_interval"])
def test_words_are_neither_true_nor_false(make_signal, name):
    with pytest.raises(ValueError, match=f"{name}='no' must be True or False"):
        make_signal().deep_deconvolve(interactive=True, display=False, **{name: "no"})


def test_picture_of_a_single_energy(make_signal, recwarn):
    """Both ends of the range on one value: a channel to either side is shown."""
    tool = DeepDeconvolution(make_signal())
    parts = tool.gui(display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]
    before = parts["picture"].value
    parts["energy_range"].value = (0.2, 0.2)
    assert parts["picture"].value != before
    assert not [w for w in recwarn if "identical" in str(w.message)]


def test_a_result_is_told_to_be_one_before_apply(make_signal):
    tool = DeepDeconvolution(quiet(make_signal()))
    assert "itself a result (deep_deconvolution)" in tool.message
    tool.close()


def test_what_is_odd_about_the_signal_is_said_before_apply(make_signal):
    """An undersampled peak, or a cut-off response, was told by ``deep_deconvolve`` alone."""
    s = make_signal(3)
    mask = hs.signals.BaseSignal(np.array([True, False, False])).T
    short = data.vacuum_spectrum(data.exciton_spectrum())
    peak = int(short.data.argmax())
    short = short.isig[peak - 6 : peak + 7]
    short.axes_manager[-1].scale = s.axes_manager[-1].scale
    tool = s.deep_deconvolve(psf=short, navigation_mask=mask, interactive=True, display=False)[
        "ipywidgets"
    ]["tool"]
    assert "cut off" in tool.message and "left out by the mask" in tool.message
    s.axes_manager.indices = (1,)
    assert "left out" not in tool.message
    tool.close()


@pytest.mark.parametrize("change", [{"scale": 0.02}, {"units": "meV"}, {"offset": 3.0}])
def test_on_another_axis_it_must_be_opened_again(make_signal, change):
    tool = DeepDeconvolution(make_signal(2), show_progressbar=False)
    tool.signal.axes_manager[-1].trait_set(**change)
    tool.update()
    assert "the energy axis was changed" in tool.message and tool.preview.result is None
    with pytest.raises(ValueError, match="the energy axis was changed"):
        tool.apply()
    tool.close()


def test_changed_data_are_looked_at_anew(make_signal):
    s = make_signal(2)
    tool = DeepDeconvolution(s, show_progressbar=False)
    s.data = make_signal(2, fwhm=14.0, seed=1).data
    s.events.data_changed.trigger(s)
    np.testing.assert_allclose(tool.preview.result, tool.apply().data[0], rtol=1e-5, atol=1e-2)
    s.data = s.data * np.nan
    s.events.data_changed.trigger(s)
    assert "NaN" in tool.message
    tool.close()


@pytest.mark.parametrize("fwhm", [40.0, 4.0])
def test_limits_and_remarks_follow_changed_data(make_signal, open_widget, fwhm):
    s = make_signal(2)
    tool, parts = open_widget(s, resolution=0.09)
    s.data = make_signal(2, fwhm=fwhm, position=50.3).data
    s.events.data_changed.trigger(s)
    anew, _ = open_widget(s)
    assert (tool.finest, tool.coarsest) == (anew.finest, anew.coarsest)
    slider = parts["resolution"]
    assert (slider.min, slider.max) == (tool.finest, tool.coarsest)
    assert tool.resolution == slider.value == pytest.approx(np.clip(0.09, slider.min, slider.max))
    assert tool.preview.result is not None
    assert tool.message == anew.message
    assert bool(tool.message) == (fwhm == 40)  # its gain side is cut off


def test_a_cropped_signal_with_a_variance_is_no_error_of_shapes(make_signal):
    s = make_signal(2)
    s.estimate_poissonian_noise_variance()
    tool = DeepDeconvolution(s, show_progressbar=False)
    s.crop(-1, start=10, end=240)
    s.events.data_changed.trigger(s)
    assert "broadcast" not in tool.message and tool.message
    tool.close()
