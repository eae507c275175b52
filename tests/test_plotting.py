"""Figures: what is on them, not how they look."""

import hyperspy.api as hs
import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

matplotlib.use("agg")

import matplotlib.pyplot as plt

from exspy_deepdeconv import data, plotting

pytestmark = pytest.mark.usefixtures("no_figures_left")


@pytest.fixture(scope="module")
def signals():
    measured = data.plasmonic_map(shape=(2, 3), channels=512)
    return {"measured": measured, "truth": data.truth(measured, 0.03)}


def test_spectra_are_drawn_with_labels_and_units(signals):
    _, ax = plt.subplots()
    spectra = {label: signal.inav[1, 0] for label, signal in signals.items()}
    assert plotting.plot_spectra(spectra, ax) is ax
    assert [line.get_label() for line in ax.lines] == ["measured", "truth"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), signals["measured"].data[0, 1])
    assert ax.get_xlabel() == "Energy loss (eV)"
    assert ax.get_ylabel() == "Counts"
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert 0 < low < 1e3 < ax.lines[0].get_ydata().max() < high < 1e8


def test_energy_range_and_linear_counts(signals):
    spectra = {"measured": signals["measured"].inav[0, 0]}
    ax = plotting.plot_spectra(spectra, energy_range=(0.2, 0.5), log=False)
    energy = ax.lines[0].get_xdata()
    assert 0.19 < energy.min() < energy.max() < 0.51
    assert ax.get_yscale() == "linear"


@pytest.mark.parametrize("wrong", [0.5, (0.5, 0.2), (0.2,), ("a", "b"), (1e4, 2e4)])
def test_wrong_energy_ranges_are_named(signals, wrong):
    with pytest.raises(ValueError, match="energy_range="):
        plotting.plot_spectra({"measured": signals["measured"].inav[0, 0]}, energy_range=wrong)


def test_colours_belong_to_labels(signals):
    spectrum = signals["measured"].inav[0, 0]
    ax = plotting.plot_spectra({"one": spectrum, "deconvolved": spectrum, "two": spectrum})
    colours = [to_hex(line.get_color()).upper() for line in ax.lines]
    assert colours[1] == plotting.COLOURS["deconvolved"]
    assert len(set(colours)) == 3


@pytest.mark.parametrize("value", [0, np.nan])
def test_empty_spectra_can_be_drawn(signals, recwarn, value):
    """On a linear axis: a logarithmic one has no place for them, as matplotlib warns."""
    empty = signals["measured"].inav[0, 0] * value
    ax = plotting.plot_spectra({"empty": empty})
    assert ax.get_yscale() == "linear"
    plotting.plot_interval(empty, empty, empty, ax).figure.canvas.draw()
    assert not [w for w in recwarn if "log" in str(w.message)]


def test_a_map_is_no_spectrum(signals):
    with pytest.raises(ValueError, match="single spectrum"):
        plotting.plot_spectra(signals)


@pytest.mark.parametrize("lazy", [False, True])
def test_energy_window_sums_the_counts(signals, lazy):
    signal = signals["measured"].as_lazy() if lazy else signals["measured"]
    image = plotting.energy_window(signal, 0.2, 0.3)
    energy = signal.axes_manager.signal_axes[0].axis
    inside = (energy > 0.195) & (energy < 0.295)
    want = signals["measured"].data[..., inside].sum(axis=-1)
    np.testing.assert_allclose(image.data, want, rtol=1e-6)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("place", [(), (slice(None), 0), (0, 0)])
def test_energy_window_is_no_spectrum(signals, place, lazy):
    """Of a line scan it lies along the positions: nothing to deconvolve."""
    s = signals["measured"].inav[place] if place else signals["measured"]
    image = plotting.energy_window(s.as_lazy() if lazy else s, 0.2, 0.3)
    assert not hasattr(image, "deep_deconvolve")
    assert image.metadata.Signal.signal_type == ""
    assert image._lazy is lazy


@pytest.mark.parametrize("window", [("a", 0.3), (0.2, None), (slice(0.2, 0.3), 0.4)])
def test_energy_window_of_no_energies(signals, window):
    with pytest.raises(ValueError, match="must be two energies"):
        plotting.energy_window(signals["measured"], *window)


def test_map_has_axes_and_a_colour_bar(signals):
    image = plotting.energy_window(signals["measured"], 0.2, 0.3)
    ax = plotting.plot_map(image, title="mode")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("x (nm)", "y (nm)", "mode")
    assert ax.images[0].get_extent() == [-2, 10, 6, -2]
    np.testing.assert_array_equal(ax.images[0].get_array(), image.data)


def test_pixels_of_a_map_lie_where_its_axes_say_also_where_these_fall():
    image = hs.signals.Signal2D(np.arange(6.0).reshape(2, 3))
    for axis, scale in zip(image.axes_manager.signal_axes, (-2.0, -1.0), strict=True):
        axis.scale, axis.offset = scale, 10.0
    ax = plotting.plot_map(image)
    assert ax.images[0].get_extent() == [11, 5, 8.5, 10.5]  # first pixel at 10, 10


def test_colour_bar_names_what_is_mapped(signals):
    """Counts are counts, chi-squares are none."""
    s = signals["measured"]
    result = s.deep_deconvolve(show_progressbar=False)
    _, chi2, _ = s.deconvolution_residual(result, return_maps=True, show_progressbar=False)
    unnamed = hs.signals.Signal2D(np.ones((2, 3)))
    shown = [(plotting.energy_window(s, 0.2, 0.3), {}), (chi2, {}), (unnamed, {})]
    shown.append((chi2, {"label": "misfit"}))
    bars = [plotting.plot_map(image, **given).child_axes[0] for image, given in shown]
    assert [bar.get_ylabel() for bar in bars] == [
        "Electrons (Counts)",
        "Reduced chi-square",
        "Counts",
        "misfit",
    ]


@pytest.mark.parametrize("shape", [(2, 12), (12, 2)])
def test_the_colour_bar_is_as_high_as_the_map_and_as_narrow_whatever_its_shape(shape):
    ax = plotting.plot_map(hs.signals.Signal2D(np.ones(shape)))
    ax.figure.canvas.draw()
    (bar,) = ax.child_axes
    bar, area = bar.get_window_extent(), ax.get_window_extent()
    np.testing.assert_allclose([bar.y0, bar.y1], [area.y0, area.y1], atol=1)
    assert 0.02 < bar.width / max(area.width, area.height) < 0.1


def test_comparison_shows_spectra_and_one_map_each(signals):
    figure = plotting.plot_map_comparison(signals, (0.2, 0.3), place=(1, 0), title="rod")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles.count("measured") == titles.count("truth") == 1
    assert len(figure.axes) == 2 + len(signals)
    figure.canvas.draw()


def test_what_is_mapped_fills_its_panel(signals):
    """A window whose surroundings hold the zero-loss peak is not a flat line below it."""
    figure = plotting.plot_map_comparison(signals, (1.0, 1.6), place=(1, 0))
    close = figure.axes[1]
    mapped = max(s.inav[1, 0].isig[1.0:1.6].data.max() for s in signals.values())
    assert mapped < close.get_ylim()[1] < 4 * mapped
    assert "zero-loss" not in close.get_title()


@pytest.fixture(scope="module")
def deconvolved():
    """A spectrum, result, bounds and residual."""
    s = data.exciton_spectrum()
    result, lower, upper = s.deep_deconvolve(return_interval=True, show_progressbar=False)
    residual = s.deconvolution_residual(result, show_progressbar=False)
    return {"s": s, "result": result, "lower": lower, "upper": upper, "residual": residual}


@pytest.mark.parametrize("units", ["eV", "meV"])
def test_zero_loss_peak_does_not_set_the_scale_of_a_residual(units):
    """Richardson-Lucy stops before it explains the many counts there, in a tenth of these channels."""
    s = data.plasmonic_map(shape=(3, 4), channels=512).inav[1, 1]
    residual = s.deconvolution_residual(s.rl_deconvolve(iterations=5), show_progressbar=False)
    far_off = np.abs(residual.data) > 20
    assert far_off.mean() > 0.05
    assert np.ptp(residual.axes_manager[-1].axis[far_off]) < 0.6  # all of it at the peak
    residual.axes_manager[-1].convert_to_units(units)
    other = residual * 0.1
    for drawn in ([residual], [residual, other], [other, residual]):
        ax = None
        for each in drawn:
            ax = plotting.plot_residual(each, ax)
        low, high = ax.get_ylim()
        assert low == -high
        assert 5 <= high < 15


def test_scale_of_a_residual_is_that_of_the_peak_where_nothing_else_is_shown(deconvolved):
    residual = deconvolved["residual"] * 10
    fwhm = residual.metadata.Signal.deconvolution_residual.zero_loss_fwhm
    ax = plotting.plot_residual(residual, energy_range=(-fwhm, fwhm))
    near = residual.isig[-fwhm:fwhm].data
    assert ax.get_ylim()[1] > np.quantile(np.abs(near), 0.9)


def bounds(deconvolved):
    return [deconvolved[name] for name in ("result", "lower", "upper")]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def assert_nothing_is_clipped(ax):
    """All words of the axes lie inside the figure."""
    figure = ax.figure
    figure.canvas.draw()
    inner, outer = ax.get_tightbbox(), figure.bbox
    assert outer.x0 <= inner.x0 < inner.x1 <= outer.x1
    assert outer.y0 <= inner.y0 < inner.y1 <= outer.y1


@pytest.mark.parametrize("log", [False, True])
def test_interval_is_a_band_between_its_bounds(deconvolved, log):
    ax = plotting.plot_interval(*bounds(deconvolved), log=log)
    (band,) = ax.collections
    energy = deconvolved["result"].axes_manager.signal_axes[0].axis
    channel = int(deconvolved["result"].data.argmax())
    drawn = band.get_paths()[0].vertices
    drawn = drawn[np.isclose(drawn[:, 0], energy[channel]), 1]
    want = [deconvolved[name].data[channel] for name in ("lower", "upper")]
    np.testing.assert_allclose([drawn.min(), drawn.max()], want, rtol=1e-5)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), deconvolved["result"].data)
    assert legend(ax) == ["deconvolved", "90 % interval"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Energy loss (eV)", "Counts")
    assert ax.get_yscale() == ("log" if log else "linear")
    assert_nothing_is_clipped(ax)


def test_interval_over_spectra_draws_the_result_once(deconvolved):
    spectra = {"measured": deconvolved["s"], "deconvolved": deconvolved["result"]}
    ax = plotting.plot_spectra(spectra)
    before = ax.get_ylim()
    assert plotting.plot_interval(*bounds(deconvolved), ax) is ax
    assert legend(ax) == ["measured", "deconvolved", "90 % interval"]
    assert ax.get_ylim()[0] <= before[0] and ax.get_ylim()[1] >= before[1]


def test_interval_needs_spectra_that_belong_together(deconvolved, signals):
    result, lower, upper = bounds(deconvolved)
    with pytest.raises(ValueError, match="same energies.*'lower': 100"):
        plotting.plot_interval(result, lower.isig[:100], upper)
    with pytest.raises(ValueError, match="'upper' must be a single spectrum"):
        plotting.plot_interval(result, lower, signals["measured"])
    with pytest.raises(ValueError, match="lower is above upper in .* were the two exchanged"):
        plotting.plot_interval(result, upper, lower)
    plotting.plot_interval(result, lower, lower * (1 - 1e-6))  # rounding


def test_residual_has_the_band_of_the_noise_and_a_scale_without_outliers(deconvolved):
    residual = deconvolved["residual"].deepcopy()
    residual.data[100] = 1e4
    _, ax = plt.subplots(layout="constrained")
    assert plotting.plot_residual(residual, ax, energy_range=(-1, 3)) is ax
    assert 5 <= ax.get_ylim()[1] < 100 and ax.get_ylim()[0] == -ax.get_ylim()[1]
    assert ax.patches[0].get_extents().y0 < ax.patches[0].get_extents().y1
    assert -1.01 < ax.lines[0].get_xdata().min() < ax.lines[0].get_xdata().max() < 3.01
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Energy loss (eV)", "Residual (noise)")
    assert_nothing_is_clipped(ax)


def test_comparison_has_spectra_above_residuals(deconvolved):
    spectra = {"data": deconvolved["s"], "deep": deconvolved["result"]}
    top, bottom = plotting.plot_comparison(spectra, {"deep": deconvolved["residual"]})
    assert [line.get_label() for line in top.lines] == ["data", "deep"]
    (line,) = bottom.lines
    np.testing.assert_array_equal(line.get_ydata(), deconvolved["residual"].data)
    assert line.get_color() == top.lines[1].get_color()
    assert (top.get_xlabel(), bottom.get_xlabel()) == ("", "Energy loss (eV)")
    assert_nothing_is_clipped(top)
    assert_nothing_is_clipped(bottom)


def test_an_axis_without_a_name_is_called_energy_loss():
    from exspy.signals import EELSSpectrum

    s = EELSSpectrum(np.ones(64))
    assert plotting.plot_spectra({"measured": s}).get_xlabel() == "Energy loss"
    s.axes_manager[-1].name, s.axes_manager[-1].units = "", "eV"  # as .msa files may have it
    assert plotting.plot_spectra({"measured": s}).get_xlabel() == "Energy loss (eV)"


def test_calibration_is_drawn_in_per_cent_beside_the_diagonal():
    nominal = [0.5, 0.8, 0.9]
    ax = plotting.plot_calibration(nominal, {"gap": [0.6, 0.7, 1.0], "bulk": nominal})
    ideal, gap, bulk = ax.lines
    np.testing.assert_array_equal(ideal.get_xdata(), ideal.get_ydata())
    np.testing.assert_allclose(gap.get_xydata(), [[50, 60], [80, 70], [90, 100]])
    assert len({line.get_marker() for line in (gap, bulk)}) == 2
    assert len({line.get_color() for line in ax.lines}) == 3
    assert legend(ax) == ["ideal", "gap", "bulk"]
    assert ax.get_xlabel() == "Nominal coverage (%)"
    assert_nothing_is_clipped(ax)


def test_calibration_of_one_curve_on_given_axes():
    _, ax = plt.subplots()
    assert plotting.plot_calibration([0.9], [0.8], ax) is ax
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[90, 80]])


@pytest.mark.parametrize(
    ("nominal", "observed", "words"),
    [
        ([0.5, 0.9], [0.5], "observed must hold 2 shares"),
        ([50, 90], [0.5, 0.9], "nominal must be shares from 0 to 1"),
        ([0.5, 0.9], {"gap": [0.5, np.nan]}, "gap must be shares"),
    ],
)
def test_calibration_takes_shares_only(nominal, observed, words):
    with pytest.raises(ValueError, match=words):
        plotting.plot_calibration(nominal, observed)


LOG = """step,learning_rate,loss_error,near_error,loss,held_out_loss
100,0.001,0.9,1.2,2.5,3.5
200,0.002,0.6,1.0,0.1,
300,0.002,0.7,0.9,0.2,2.0
300,0.002,0.5,0.8,-1.5,-1.2
"""


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    return tmp_path / "log.csv"


def test_training_history_shows_errors(log):
    ax = plotting.plot_training_history(log)
    assert legend(ax) == ["loss error", "near error"]
    assert ax.lines[0].get_xydata().tolist() == [[100, 0.9], [200, 0.6], [300, 0.5]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Training step", "Relative error")
    assert ax.get_yscale() == "log"
    assert_nothing_is_clipped(ax)


def test_what_a_power_cut_has_spoiled_is_left_out_of_the_history(log):
    whole = plotting.plot_training_history(log).lines[0].get_xydata()
    with open(log, "ab") as file:
        file.write(bytes(9) + b"\n400,0.002,0.5,8e-")
    np.testing.assert_array_equal(plotting.plot_training_history(log).lines[0].get_xydata(), whole)


def test_training_history_of_one_column(log):
    ax = plotting.plot_training_history(log, columns="loss_error")
    assert len(ax.lines) == 1


def test_training_history_of_one_line_is_seen(log):
    log.write_text(LOG[: LOG.index("\n", LOG.index("\n") + 1) + 1])
    assert {line.get_marker() for line in plotting.plot_training_history(log).lines} == {"o"}


def test_training_history_of_a_folder_on_given_axes(log):
    _, ax = plt.subplots()
    columns = ["loss", "held_out_loss"]
    assert plotting.plot_training_history(log.parent, ax, columns=columns, log=False) is ax
    loss, held_out = ax.lines
    assert loss.get_ydata().tolist() == [2.5, 0.1, -1.5]
    assert held_out.get_xydata().tolist() == [[100, 3.5], [300, -1.2]]
    assert (loss.get_marker(), held_out.get_marker()) == ("None", "o")
    assert (ax.get_yscale(), ax.get_ylabel()) == ("linear", "Loss")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"columns": ["lose"]}, r"columns=\['lose'\].*has step, learning_rate"),
        ({"columns": ["loss"]}, r"columns=\['loss'\] are not positive everywhere: use log=False"),
    ],
)
def test_training_history_says_what_is_wrong(log, arguments, words):
    with pytest.raises(ValueError, match=words):
        plotting.plot_training_history(log, **arguments)


def test_an_empty_log_is_no_history(tmp_path):
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no log of a training run"):
        plotting.plot_training_history(tmp_path)


def test_training_history_of_a_real_run(tmp_path):
    """What the training loop writes is what is read."""
    from exspy_deepdeconv.network import Config
    from exspy_deepdeconv.training.loop import Plan, train
    from exspy_deepdeconv.training.pairs import SimulatedPairs

    tiny = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
    plan = Plan(steps=2, workers=0, log_every=1, warmup=1, bf16=False)
    train(plan, tmp_path, pairs=SimulatedPairs(3, channels_per_batch=2048), config=tiny)
    ax = plotting.plot_training_history(tmp_path)
    assert legend(ax) == ["loss error", "near error", "sqrt error"]
    assert ax.lines[0].get_xdata().tolist() == [1, 2]


def test_an_energy_window_has_its_lower_end_first(signals):
    with pytest.raises(ValueError, match="low=0.5 must be below high=0.4"):
        plotting.energy_window(signals["measured"], 0.5, 0.4)


def in_meV(signal):
    converted = signal.deepcopy()
    converted.axes_manager.signal_axes[0].convert_to_units("meV")
    return converted


def test_spectra_in_several_units_are_drawn_in_those_of_the_first(signals):
    spectrum = signals["measured"].inav[0, 0]
    other = in_meV(spectrum)
    for pair, units, window in (
        ((spectrum, other), "eV", (0.2, 0.5)),
        ((other, spectrum), "meV", (200, 500)),
    ):
        shown = dict(zip(("one", "two"), pair, strict=True))
        ax = plotting.plot_spectra(shown, energy_range=window)
        one, two = (line.get_xydata() for line in ax.lines)
        assert len(one) > 20
        np.testing.assert_allclose(one, two, rtol=1e-6)
        assert ax.get_xlabel() == f"Energy loss ({units})"
    assert spectrum.axes_manager[-1].units == "eV" and other.axes_manager[-1].units == "meV"


def test_comparisons_in_several_units_are_drawn_in_those_of_the_first(signals, deconvolved):
    spectra = {"data": deconvolved["s"], "deep": in_meV(deconvolved["result"])}
    residuals = {"deep": in_meV(deconvolved["residual"])}
    top, bottom = plotting.plot_comparison(spectra, residuals)
    for line in (*top.lines, *bottom.lines):
        np.testing.assert_allclose(line.get_xdata(), top.lines[0].get_xdata(), rtol=1e-6, atol=1e-9)
    shown = {"a": signals["measured"], "b": in_meV(signals["measured"])}
    figure = plotting.plot_map_comparison(shown, (0.2, 0.3), place=(1, 0))
    one, two = (ax.images[0].get_array() for ax in figure.axes if ax.images)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("uncalibrated", [0, 1])
def test_what_has_no_units_of_energy_is_not_drawn_with_what_has(signals, uncalibrated):
    spectrum = signals["measured"].inav[0, 0]
    other = spectrum.deepcopy()
    other.axes_manager[-1].units = "channels"
    pair = (spectrum, other) if uncalibrated else (other, spectrum)
    with pytest.raises(ValueError, match="in units of 'channels', which cannot become eV"):
        plotting.plot_spectra(dict(zip(("one", "two"), pair, strict=True)))


def test_window_of_a_falling_energy_axis(make_signal):
    s = make_signal(2, 3)
    falling = s.deepcopy()
    falling.data = falling.data[..., ::-1].copy()
    axis = falling.axes_manager.signal_axes[0]
    axis.offset, axis.scale = s.axes_manager.signal_axes[0].high_value, -axis.scale
    maps = [plotting.energy_window(each, 0.4, 0.6).data for each in (s, falling)]
    np.testing.assert_allclose(maps[1], maps[0])
    assert maps[0].max() > 0


def test_window_without_a_channel(make_signal):
    with pytest.raises(ValueError, match="hold none of the energies"):
        plotting.energy_window(make_signal(2, 3), 90.0, 95.0)


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("width", [0.001, 0.3, 0.99])
def test_window_narrower_than_a_channel(make_signal, falling, width):
    """Its map is that of a channel that the window touches, or the nearest."""
    s = make_signal(2, 3)
    if falling:
        s.data = s.data[..., ::-1].copy()
        axis = s.axes_manager.signal_axes[0]
        axis.offset, axis.scale = axis.high_value, -axis.scale
    energy = s.axes_manager.signal_axes[0].axis
    for middle in np.linspace(0.5, 0.52, 9) + 0.001:
        window = (middle - 0.005 * width, middle + 0.005 * width)
        image = plotting.energy_window(s, *window)
        (mapped,) = np.flatnonzero((s.data == image.data[..., None]).all(axis=(0, 1)))
        assert abs(energy[mapped] - middle) <= 0.005 * (1 + width) + 1e-9
    outside = (energy.max() + 0.02, energy.max() + 0.021)
    with pytest.raises(ValueError, match="hold none of the energies, -0.5 to 2.05"):
        plotting.energy_window(s, *outside)


@pytest.mark.parametrize("window", [(0.452, 0.453), (0.446, 0.454)])
def test_comparison_of_a_window_narrower_than_a_channel(make_signal, window):
    """The panel beside the maps still shows the channels around it."""
    s = make_signal(2, 3)
    figure = plotting.plot_map_comparison({"a": s, "b": s}, window, place=(1, 0))
    images = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    np.testing.assert_array_equal(images[0], s.data[..., 95])
    close = figure.axes[1]
    assert close.lines[0].get_xdata().size >= 4
    assert s.data[0, 1, 95] < close.get_ylim()[1]
    with pytest.raises(ValueError, match="low=0.5 must be below high=0.4"):
        plotting.plot_map_comparison({"a": s}, (0.5, 0.4), place=(1, 0))
    with pytest.raises(ValueError, match="low=90 and high=95 hold none of the energies"):
        plotting.plot_map_comparison({"a": s}, (90, 95), place=(1, 0))


def test_window_of_an_uneven_energy_axis():
    axes = [{"size": 3, "navigate": True}, {"axis": np.arange(100) ** 1.1, "units": "eV"}]
    signal = hs.signals.Signal1D(np.ones((3, 100)), axes=axes)
    assert (plotting.energy_window(signal, 5.0, 20.0).data > 5).all()


def test_a_curve_below_the_logarithmic_axis_is_not_lost():
    """A result next to nothing was in the legend and nowhere in the figure."""
    s = data.exciton_spectrum()
    nothing = s.deepcopy()
    nothing.data = np.full(nothing.data.shape, 1e-5)
    ax = plotting.plot_spectra({"measured": s, "deep": nothing}, energy_range=(0.5, 3))
    dots = ax.lines[-1]
    assert dots.get_linestyle() == ":" and dots.get_color() == ax.lines[1].get_color()
    low, high = ax.get_ylim()
    assert ((dots.get_ydata() > low) & (dots.get_ydata() < 1.5 * low)).all()
    plt.close(ax.figure)


def test_what_is_no_map_is_refused(signals):
    s = signals["measured"].inav[0, 0]
    with pytest.raises(ValueError, match="no map and no line.*Use plot_spectra"):
        plotting.plot_map_comparison({"a": s}, (0.4, 0.5), place=(1,))
    stack = hs.signals.BaseSignal(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"two uniform axes.*image\.plot\(\)"):
        plotting.plot_map(stack)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_line_scan_is_a_curve_over_the_position(signals, lazy):
    line = signals["measured"].inav[:, 1]
    image = plotting.energy_window(line.as_lazy() if lazy else line, 0.2, 0.3)
    ax = plotting.plot_map(image, title="mode")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (nm)", "Electrons (Counts)")
    assert ax.get_title() == "mode"
    (curve,) = ax.lines
    np.testing.assert_array_equal(curve.get_xdata(), [0, 4, 8])
    np.testing.assert_allclose(curve.get_ydata(), plotting.energy_window(line, 0.2, 0.3).data)


@pytest.mark.parametrize("place", [1, (1,), -2])
def test_comparison_of_line_scans(signals, place):
    lines = {label: signal.inav[:, 1] for label, signal in signals.items()}
    figure = plotting.plot_map_comparison(lines, (0.2, 0.3), place=place)
    wide, _, profile = figure.axes
    np.testing.assert_array_equal(wide.lines[0].get_ydata(), lines["measured"].data[1])
    for spectrum, drawn, signal in zip(wide.lines, profile.lines, lines.values(), strict=False):
        assert drawn.get_color() == spectrum.get_color()
        image = plotting.energy_window(signal, 0.2, 0.3)
        np.testing.assert_array_equal(drawn.get_ydata(), image.data)
    assert profile.lines[-1].get_xdata() == [4, 4]  # the pixel
    assert_nothing_is_clipped(profile)


@pytest.mark.parametrize("place", [(1, 0), 3, 1.0])
def test_line_scans_that_lack_the_pixel_are_refused(signals, place):
    with pytest.raises(ValueError, match="place=.* (must hold the number|lies outside)"):
        plotting.plot_map_comparison({"a": signals["measured"].inav[:, 1]}, (0.2, 0.3), place=place)


@pytest.mark.parametrize("wrong", [0.4, (0.4,), (0.4, 0.5, 0.6), ("a", "b"), None])
def test_a_window_has_two_ends(signals, wrong):
    with pytest.raises(ValueError, match="window="):
        plotting.plot_map_comparison(signals, wrong, place=(1, 1))


def test_a_window_in_other_units_is_named(signals):
    with pytest.raises(ValueError, match="low=420 and high=540 hold none"):
        plotting.plot_map_comparison(signals, (420, 540), place=(1, 1))


@pytest.mark.parametrize("wrong", [{}, "a signal", [1]])
def test_spectra_come_with_labels(signals, wrong):
    wrong = signals["measured"].inav[0, 0] if wrong == "a signal" else wrong
    with pytest.raises(ValueError, match="spectra must be a dictionary of labels and spectra"):
        plotting.plot_spectra(wrong)


@pytest.mark.parametrize(
    ("labels", "place", "message"),
    [
        ((), (1, 0), "signals must be a dictionary"),
        (("a", "cropped"), (3, 1), r"place=\(3, 1\) lies outside of the map \(2, 2\) of 'cropped'"),
        (("a",), (0, 2), r"place=\(0, 2\) lies outside of the map \(4, 2\) of 'a'"),
        (("a",), 3, "place=3 must hold the column and the row"),
        (("a",), (1.0, 0), r"place=\(1\.0, 0\) must hold the column and the row"),
    ],
)
def test_maps_that_lack_the_pixel_are_refused(labels, place, message):
    s = data.plasmonic_map((2, 4), 512)
    signals = {"a": s, "cropped": s.inav[:2]}
    with pytest.raises(ValueError, match=message):
        plotting.plot_map_comparison({k: signals[k] for k in labels}, (0.4, 0.5), place=place)


def test_response_is_shown_beside_the_given_one():
    s = data.exciton_spectrum()
    vacuum = data.vacuum_spectrum(s)
    ax = plotting.plot_response(s, vacuum)
    curves = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert list(curves) == ["measured", "gain side, mirrored", "given response", "response found"]
    energy, counts = curves["measured"].T
    assert abs(energy[counts.argmax()]) < 0.01 and counts.max() == pytest.approx(1, rel=0.02)
    # The mirror image of what lies before the peak.
    x, mirrored = curves["gain side, mirrored"].T
    assert x.min() >= 0
    np.testing.assert_allclose(np.sort(x), np.sort(-energy[energy <= 0]))
    np.testing.assert_allclose(mirrored[x.argmax()], counts[energy.argmin()])
    # Both responses are that of the data, up to the tail under the losses.
    near = np.linspace(-0.5, 0.3, 50)
    found, given = (
        np.interp(near, *curves[name].T) for name in ("response found", "given response")
    )
    np.testing.assert_allclose(found, given, rtol=0.15)
    assert ax.get_yscale() == "log" and ax.get_xlim()[1] == pytest.approx(12 * 0.15, rel=0.05)


@pytest.mark.parametrize("units, factor", [("eV", 1), ("meV", 1000)])
@pytest.mark.parametrize("reverse", [False, True])
def test_response_is_shown_in_electronvolts(units, factor, reverse):
    s = data.exciton_spectrum()
    plain = plotting.plot_response(s, reach=0.5).lines[0].get_xydata()
    axis = s.axes_manager.signal_axes[0]
    axis.scale, axis.offset, axis.units = factor * axis.scale, factor * axis.offset, units
    if reverse:
        s.data = s.data[::-1].copy()
        axis.offset, axis.scale = axis.high_value, -axis.scale
    np.testing.assert_allclose(plotting.plot_response(s, reach=0.5).lines[0].get_xydata(), plain)


def test_response_of_what_has_none_is_refused(make_signal):
    s = data.exciton_spectrum()
    with pytest.raises(ValueError, match="reach=-1"):
        plotting.plot_response(s, reach=-1)
    with pytest.raises(ValueError, match="'spectrum' must be a single spectrum"):
        plotting.plot_response(make_signal(3))
    empty = s.deepcopy()
    empty.data = np.zeros_like(empty.data)
    with pytest.raises(ValueError, match="psf has no zero-loss peak"):
        plotting.plot_response(s, empty)
