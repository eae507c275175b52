"""Several methods side by side: results, table, figure, failures."""

import copy
import warnings
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

import matplotlib.pyplot as plt

from exspy_deepdeconv import compare, data, models, physics
from exspy_deepdeconv._methods import classical_methods
from exspy_deepdeconv.evaluate import errors

pytestmark = pytest.mark.usefixtures("no_figures_left")


def run(signal, *args, **kwargs):
    return signal.compare_deconvolution(*args, show_progressbar=False, **kwargs)


@pytest.fixture
def truth(make_signal):
    """What make_signal's spectra would be at 0.03 eV, for one position."""

    def make(*shape):
        s = make_signal(*shape)
        places = 60.3 + np.random.default_rng(0).uniform(-2, 2, shape)
        s.data = 1e5 * physics.gaussian(256, places, np.full(shape, 3.0))
        loss = physics.gaussian(256, places + 70, np.full(shape, np.hypot(3.0, np.sqrt(300))))
        s.data = s.data + 2e4 * loss + 2.0
        return s

    return make


# Results


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_results_are_those_of_the_methods(make_signal, shape):
    s = make_signal(*shape)
    comparison = run(s, ("deep", "rl"))
    assert list(comparison.signals) == ["data", "deep", "rl"]
    assert comparison.signals["data"] is s
    want = s.deep_deconvolve(show_progressbar=False).data
    np.testing.assert_allclose(comparison.signals["deep"].data, want, rtol=1e-5)
    want = s.rl_deconvolve(show_progressbar=False).data
    np.testing.assert_allclose(comparison.signals["rl"].data, want, atol=1e-5 * want.max())


@pytest.mark.parametrize("methods", ["deep", ["rl", "rl"], ("tgv", "ml")])
def test_names_of_methods(make_signal, methods):
    names = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
    assert list(run(make_signal(), methods).signals) == ["data", *names]


def test_all_methods_with_a_response_and_a_resolution(make_signal):
    s = make_signal(2)
    psf = make_signal(channels=101, position=50.0)
    psf.data = physics.gaussian(101, 50.0, 10.0)
    comparison = run(s, compare.KNOWN, psf=psf, resolution=0.05)
    for name in compare.KNOWN:
        note = comparison.signals[name].metadata.Signal.get_item(f"{name}_deconvolution")
        assert note.psf.startswith("measured")
        assert note.resolution == pytest.approx(0.05)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_line_of_one_response_is_one_for_all(make_signal, lazy):
    s, psf = make_signal(2, 3), make_signal(1, channels=101, position=50.0)
    psf.data = physics.gaussian(101, 50.0, 10.0)[None]
    s, psf = (x.as_lazy() if lazy else x for x in (s, psf))
    comparison = run(s, ("deep", "rl"), psf=psf)
    assert comparison.psf.data.shape == (101,)
    single = run(s, ("deep", "rl"), psf=psf.inav[0])
    for name in ("deep", "rl"):
        assert comparison.scores[name].chi2 == single.scores[name].chi2
        assert comparison.scores[name].noise_gain == single.scores[name].noise_gain
    comparison.plot(index=(2, 1))


def test_input_is_never_changed(make_signal):
    s = make_signal(2)
    s.data.flags.writeable = False
    before = s.metadata.as_dictionary(), s.axes_manager.as_dictionary()
    run(s, ("deep", "rl")).plot()
    assert (s.metadata.as_dictionary(), s.axes_manager.as_dictionary()) == before


@pytest.fixture
def own_model(tmp_path):
    """A model of one's own, which reads another response than the bundled one."""
    start = models.load()
    network = copy.deepcopy(start.network)
    for name, weights in network.named_parameters():
        if "response" in name:
            weights.data *= 0.9
    path = tmp_path / "mine.safetensors"
    return models.save_model(network, path, name="mine", calibration=start.calibration)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_model_of_ones_own(make_signal, own_model, lazy):
    """It makes the result of the network, and reads the response for the classical methods."""
    s = make_signal(4)
    psf = s.estimate_psf(model=own_model, show_progressbar=False)
    assert abs(psf.data - s.estimate_psf(show_progressbar=False).data).max() > 1e-3 * psf.data.max()
    comparison = run(s.as_lazy() if lazy else s, ("deep", "rl"), model=str(own_model))
    deep, rl = (comparison.signals[name] for name in ("deep", "rl"))
    assert deep.metadata.Signal.deep_deconvolution.model == "mine"
    assert comparison.psf.metadata.Signal.psf_estimation.model == "mine"
    want = s.deep_deconvolve(model=own_model, show_progressbar=False).data
    np.testing.assert_allclose(np.asarray(deep.data), want, rtol=1e-5, atol=1e-3)
    want = s.rl_deconvolve(psf, show_progressbar=False).data
    np.testing.assert_allclose(np.asarray(rl.data), want, atol=1e-5 * want.max())
    for name in ("deep", "rl"):
        assert np.isfinite([comparison.scores[name].chi2, comparison.scores[name].noise_gain]).all()
    comparison.plot()


# The table


def test_figures_of_the_table(make_signal, truth):
    s = make_signal(2, 3)
    comparison = run(s, ("deep", "rl"), truth=truth(2, 3), resolution=0.03)
    scores = comparison.scores
    assert list(scores) == ["data", "deep", "rl"]
    assert scores["data"].resolution == pytest.approx(0.1, rel=0.03)
    assert scores["data"].noise_gain == 1.0
    assert scores["deep"].resolution == pytest.approx(0.03, rel=0.02)
    assert scores["deep"].resolution < scores["rl"].resolution < scores["data"].resolution
    for name in ("deep", "rl"):
        assert scores[name].seconds > 0
        assert 0.02 < scores[name].noise_gain < 5
        assert scores[name].loss < scores["data"].loss
        assert scores[name].near < scores["data"].near
        assert scores[name].sqrt < scores["data"].sqrt
    _, chi2, whiteness = s.deconvolution_residual(
        comparison.signals["deep"], return_maps=True, show_progressbar=False
    )
    assert scores["deep"].chi2 == pytest.approx(np.median(chi2.data), rel=0.05)
    assert scores["deep"].whiteness == pytest.approx(np.median(whiteness.data), abs=0.5)
    table = comparison.table()
    assert table.field_names == [
        "method", "time (s)", "resolution (eV)", "noise gain", "chi2", "whiteness", "loss error",
        "near error", "sqrt error",
    ]  # fmt: skip
    assert [row[0] for row in table.rows] == list(scores)
    assert float(table.rows[1][2]) == pytest.approx(scores["deep"].resolution, rel=1e-2)


@pytest.mark.parametrize("position", [60.0, 60.2, 60.5, 60.7])
def test_the_width_of_narrow_peaks_is_the_resolution_wherever_they_lie(make_signal, position):
    """Two or three channels wide, between channels: straight lines would make them up to a sixth wider."""
    s = make_signal(position=position)
    s.data = 1e6 * physics.gaussian(256, position, 10.0) + 3e3 * physics.gaussian(256, 150.0, 20.0)
    for resolution in (0.02, 0.027):
        scores = run(s, ("deep", "fourier", "tgv"), resolution=resolution).scores
        for name in ("deep", "fourier", "tgv"):
            assert scores[name].resolution == pytest.approx(resolution, rel=0.02)


def test_the_truth_itself_has_no_error(make_signal, truth, monkeypatch):
    s, exact = make_signal(2), truth(2)

    def perfect(self, **_):
        return exact.deepcopy()

    monkeypatch.setattr(type(s), "deep_deconvolve", perfect)
    scores = run(s, "deep", truth=exact, resolution=0.03).scores["deep"]
    assert max(scores.loss, scores.near, scores.sqrt) < 1e-6
    assert scores.noise_gain == 0
    assert scores.resolution == pytest.approx(0.03, rel=0.02)


def test_errors_are_those_that_accuracy_is_measured_by():
    """Though all that is known here of the truth is what it looks like."""
    s = data.plasmonic_map(shape=(1, 3), channels=512)
    comparison = run(s, "rl", truth=data.truth(s, 0.03), resolution=0.03)
    made = data.simulations(s.metadata.Simulation.as_dictionary())
    for name, scores in comparison.scores.items():
        spectra = comparison.signals[name].data.reshape(3, -1)
        wanted = [errors(x, each, 3.0) for x, each in zip(spectra, made, strict=True)]
        for key in ("loss", "near", "sqrt"):
            median = np.median([getattr(each, key) for each in wanted])
            assert getattr(scores, key) == pytest.approx(median, rel=0.01)


def test_noise_gain_of_a_linear_method(make_signal, monkeypatch):
    """Smoothing white noise with a Gaussian lowers it by a known factor."""
    s = make_signal(8)

    def smoothed(self, **_):
        result = self.deepcopy()
        result.data = physics.smooth(self.data.astype(float), 8.0)
        return result

    monkeypatch.setattr(type(s), "deep_deconvolve", smoothed)
    sigma = 8.0 / physics.FWHM_PER_SIGMA
    want = 1 / np.sqrt(2 * np.sqrt(np.pi) * sigma)
    assert run(s, "deep").scores["deep"].noise_gain == pytest.approx(want, rel=0.2)


def test_added_noise_is_as_strong_as_that_of_the_data(make_signal, monkeypatch):
    s, seen = make_signal(8), []

    def noted(self, **_):
        seen.append(self.data.astype(float))
        return self.deepcopy()

    monkeypatch.setattr(type(s), "deep_deconvolve", noted)
    run(s, "deep")
    before, after = seen[0], seen[-1]
    variance = ((after - before) ** 2).sum(axis=-1)
    expected = physics.inspect(before).noise.variance(before).sum(axis=-1)
    assert np.median(variance / expected) == pytest.approx(1, rel=0.25)


def test_what_is_shown_of_a_comparison(make_signal):
    """A line of it in a list, the table where it is printed or ends a cell of a notebook."""
    comparison = run(make_signal(), ("deep", "rl"))
    assert repr(comparison) == "<Comparison of data, deep, rl>"
    assert str(comparison) == str(comparison.table())
    assert comparison._repr_html_().startswith("<table>")
    assert "<td>deep</td>" in comparison._repr_html_()


def test_time_includes_the_estimate_of_the_response_where_it_is_used(make_signal, monkeypatch):
    """By a clock that stands still but for that."""
    s, clock = make_signal(), [0.0]
    estimate = type(s).estimate_psf

    def slow(self, **options):
        clock[0] += 5.0
        return estimate(self, **options)

    monkeypatch.setattr(type(s), "estimate_psf", slow)
    monkeypatch.setattr(compare, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    scores = run(s, ("deep", "rl", "ml")).scores
    assert [scores[name].seconds for name in ("deep", "rl", "ml")] == [0.0, 5.0, 5.0]


def test_without_truth_there_are_no_errors(make_signal):
    assert run(make_signal(), "rl").table().field_names[-1] == "whiteness"


def test_a_failing_method_does_not_stop_the_others(make_signal, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr(classical_methods.classical, "richardson_lucy", fail)
    comparison = run(make_signal(2), ("rl", "deep"))
    assert list(comparison.signals) == ["data", "deep"]
    table = comparison.table()
    assert table.field_names[-1] == "failure"
    failures = {row[0]: row[-1] for row in table.rows}
    assert failures["rl"] == "RuntimeError: out of luck"
    assert failures["deep"] == ""
    comparison.plot()


def test_unusable_spectra_do_not_enter_the_figures(make_signal):
    s = make_signal(4)
    s.data[0], s.data[1, 3] = 0, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = run(s, ("deep", "rl")).scores
    for name in ("deep", "rl"):
        assert np.isfinite([scores[name].resolution, scores[name].chi2]).all()
        assert np.isfinite(scores[name].noise_gain)


@pytest.mark.filterwarnings("ignore:.*spectra .* empty")
@pytest.mark.parametrize("given", [False, True])
def test_a_map_with_hardly_any_spectrum(make_signal, given):
    """Those that the figures are read from are chosen among the usable ones."""
    one, s, psf = make_signal(), make_signal(20, 20), make_signal(channels=101, position=50.0)
    psf.data = physics.gaussian(101, 50.0, 10.0)
    s.data[:] = 0
    s.data[0, 1] = s.data[7, 9] = one.data
    psf = psf if given else None
    scores, alone = (run(x, ("rl", "fourier"), psf=psf).scores for x in (s, one))
    for name in ("rl", "fourier"):
        assert scores[name].chi2 == pytest.approx(alone[name].chi2, rel=1e-3)
        assert np.isfinite(scores[name].noise_gain)


@pytest.mark.parametrize("shape", [(8,), (2, 4)])
def test_each_scored_spectrum_is_blurred_with_the_response_that_was_used_for_it(
    make_signal, monkeypatch, shape
):
    """Where an estimated one does not fit, that is its own: as told by the map of the whole result."""
    monkeypatch.setattr(compare, "MAX_SCORED", 4)
    s, psf = make_signal(*shape), make_signal().estimate_psf(show_progressbar=False)
    wide = make_signal(*shape, fwhm=16.0).data.reshape(8, -1)
    rows = s.data.reshape(8, -1)
    rows[[2, 4, 7]] = wide[[2, 4, 7]]
    with pytest.warns(UserWarning, match="psf"):
        comparison = run(s, "deep", psf=psf)
    result = comparison.signals["deep"]
    misfit = result.metadata.Signal.deep_deconvolution.flags.maps.psf_misfit
    assert np.flatnonzero(misfit).tolist() == [2, 4, 7]
    chi2 = s.deconvolution_residual(result, psf, return_maps=True, show_progressbar=False)[1]
    wanted = np.median(chi2.data.ravel()[[0, 2, 4, 7]])
    assert comparison.scores["deep"].chi2 == pytest.approx(wanted, rel=1e-2)


# Lazy signals


def test_lazy_signals_stay_lazy(make_signal, monkeypatch):
    monkeypatch.setattr(compare, "MAX_SCORED", 3)
    s = make_signal(4, 2)
    comparison = run(s.as_lazy(chunks=(1, 2, 100)), ("deep", "rl"))
    assert all(signal._lazy for signal in comparison.signals.values())
    want = s.rl_deconvolve(show_progressbar=False).data
    got = np.asarray(comparison.signals["rl"].data)
    np.testing.assert_allclose(got, want, atol=1e-5 * want.max())
    assert comparison.scores["deep"].seconds > 0
    assert 0.5 < comparison.scores["deep"].chi2 < 1.5
    comparison.plot(index=(1, 2))
    assert not run(s.as_lazy(), "rl", lazy_output=False).signals["rl"]._lazy


# The figure


def test_figure_shows_spectra_and_residuals(make_signal, truth):
    s = make_signal(2, 3)
    comparison = run(s, ("deep", "rl"), truth=truth(2, 3))
    top, bottom = comparison.plot(index=(2, 1))
    assert [line.get_label() for line in top.lines] == ["data", "deep", "rl", "truth"]
    np.testing.assert_array_equal(top.lines[0].get_ydata(), s.data[1, 2])
    assert len({line.get_color() for line in top.lines}) == 4
    assert [line.get_label() for line in bottom.lines] == ["deep", "rl"]
    assert top.get_yscale() == "log"
    assert top.get_legend() is not None
    assert (bottom.get_xlabel(), top.get_ylabel()) == ("Energy loss (eV)", "Counts")
    assert bottom.get_ylabel() == "Residual (noise)"
    assert bottom.lines[0].get_color() == top.lines[1].get_color()
    loss = bottom.lines[0].get_ydata()[90:]
    assert 0.5 < np.mean(loss**2) < 1.5


def test_figure_of_the_pixel_where_the_navigator_stands(make_signal):
    s = make_signal(2, 3)
    comparison = run(s, "rl")
    s.axes_manager.indices = (1, 1)
    top, _ = comparison.plot()
    np.testing.assert_array_equal(top.lines[0].get_ydata(), s.data[1, 1])


@pytest.mark.filterwarnings("ignore:(deep|rl)_deconvolve", "ignore:Data has no positive values")
def test_empty_pixel_has_no_residuals(make_signal):
    s = make_signal(3)
    s.data[1] = 0
    top, bottom = run(s, ("deep", "rl")).plot(index=(1,))
    assert len(top.lines) == 3
    assert not bottom.lines
    assert bottom.get_xlabel() == "Energy loss (eV)"


@pytest.mark.parametrize("single", [False, True])
def test_axes_of_the_caller(make_signal, single):
    comparison = run(make_signal(), "rl")
    figure, axes = plt.subplots(1 if single else 2)
    top, bottom = comparison.plot(axes, log=False, energy_range=(-0.1, 1.0))
    assert top is (axes if single else axes[0])
    assert top.figure is bottom.figure is figure
    assert top.get_yscale() == "linear"
    for line in (*top.lines, *bottom.lines):
        energy = line.get_xdata()
        assert -0.11 < energy.min() < energy.max() < 1.01
    figure.canvas.draw()


@pytest.mark.filterwarnings("ignore:rl_deconvolve")
def test_empty_pixel_is_passed_over(make_signal):
    s = make_signal(2, 3)
    s.data[0, :2] = 0
    top, bottom = run(s, "rl").plot()
    np.testing.assert_array_equal(top.lines[0].get_ydata(), s.data[1, 0])
    assert bottom.lines


def test_ours_is_not_covered_by_noisier_results(make_signal):
    top, _ = run(make_signal(), ("deep", "rl", "ml")).plot()
    highest = max(top.lines, key=lambda line: line.get_zorder())
    assert highest.get_label() == "deep"


def test_the_truth_is_seen_where_ours_lies_upon_it(make_signal, truth):
    top, _ = run(make_signal(), ("deep", "rl"), truth=truth()).plot()
    shown = sorted(top.lines, key=lambda line: line.get_zorder())
    assert [line.get_label() for line in shown][-2:] == ["deep", "truth"]


@pytest.mark.parametrize("lazy", [False, True])
def test_warnings_name_the_line_of_the_caller(make_signal, lazy):
    s = make_signal(3)
    s.data[1, 180] = 3e4
    s = s.as_lazy() if lazy else s
    with pytest.warns(UserWarning, match="_deconvolve: of 3 spectra 1 with a spike") as caught:
        s.compare_deconvolution(("deep", "rl"), show_progressbar=False)
    named = [w.filename for w in caught if "of 3 spectra" in str(w.message)]
    assert named == [__file__] * 3  # of the response and of both methods


@pytest.mark.parametrize(
    "index", [(1,), 1, (0, 0, 0), (3, 0), (0, -3), (1.5, 0), ("a", 0), (True, 0), slice(2)]
)
def test_wrong_index(make_signal, index):
    with pytest.raises(ValueError, match="index="):
        run(make_signal(2, 3), "rl").plot(index=index)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": ("deep", "lucy")}, ValueError, "'lucy'.*deep, rl, ml, fourier, tgv"),
        ({"methods": "best"}, ValueError, "'best'"),
        ({"methods": ()}, ValueError, "methods is empty"),
        ({"methods": (3,)}, ValueError, "methods holds 3"),
        ({"resolution": -1}, ValueError, "resolution=-1"),
        ({"resolution": 0.5}, ValueError, r"resolution=0\.5 eV is out of range"),
        ({"model": "none"}, ValueError, "model='none'"),
        ({"psf": 5}, TypeError, "psf must be an EELSSpectrum"),
        ({"truth": np.ones(3)}, TypeError, "truth must be an EELSSpectrum"),
    ],
)
def test_wrong_argument(make_signal, network, arguments, error, message):
    with pytest.raises(error, match=message):
        run(make_signal(2), **arguments)
    assert network.calls == []


def test_truth_of_other_data(make_signal, network):
    with pytest.raises(ValueError, match="truth has the navigation and signal shapes"):
        run(make_signal(2), truth=make_signal(3))
    assert network.calls == []


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_data_that_cannot_be_compared(make_signal, network, value):
    s = make_signal()
    s.data[:] = value
    with pytest.raises(ValueError):
        run(s)
    with pytest.raises(ValueError, match="no spectra"):
        run(make_signal(0))
    assert network.calls == []
