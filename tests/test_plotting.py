"""Figures: what is on them, not how they look."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

matplotlib.use("agg")

import matplotlib.pyplot as plt

from exspy_deepdeconv import data, plotting


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


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


def test_colours_belong_to_labels(signals):
    spectrum = signals["measured"].inav[0, 0]
    ax = plotting.plot_spectra({"one": spectrum, "deconvolved": spectrum, "two": spectrum})
    colours = [to_hex(line.get_color()).upper() for line in ax.lines]
    assert colours[1] == plotting.COLOURS["deconvolved"]
    assert len(set(colours)) == 3


@pytest.mark.filterwarnings("ignore:Data has no positive values")
def test_empty_spectra_can_be_drawn(signals):
    plotting.plot_spectra({"empty": signals["measured"].inav[0, 0] * 0})


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


def test_map_has_axes_and_a_colour_bar(signals):
    image = plotting.energy_window(signals["measured"], 0.2, 0.3)
    ax = plotting.plot_map(image, title="mode")
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("x (nm)", "y (nm)", "mode")
    assert ax.images[0].get_extent() == [-2, 10, 6, -2]
    np.testing.assert_array_equal(ax.images[0].get_array(), image.data)
    assert len(ax.figure.axes) == 2


def test_comparison_shows_spectra_and_one_map_each(signals):
    figure = plotting.plot_map_comparison(signals, (0.2, 0.3), place=(1, 0), title="rod")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles.count("measured") == titles.count("truth") == 1
    assert len(figure.axes) == 2 + 2 * len(signals)
    figure.canvas.draw()
