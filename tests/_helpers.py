"""Functions that several files of tests use; what is made anew for each test is in conftest.py."""

from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

import exspy_deepdeconv
from exspy_deepdeconv import data

DATA = Path(__file__).parents[2] / "shared" / "data"


def deconvolve(signal, *args, **kwargs):
    return signal.deep_deconvolve(*args, show_progressbar=False, **kwargs)


def energy_axis(signal):
    return signal.axes_manager.signal_axes[0]


def non_uniform(signal):
    energy_axis(signal).convert_to_non_uniform_axis()


def complex_data(signal):
    signal.data = signal.data.astype(complex)


def loss_region(simulation):
    """Channels from one zero-loss width past the peak on."""
    return slice(int(np.ceil(simulation.position + simulation.fwhm)), None)


def small_nanorod():
    """A small simulated map, and the vacuum spectrum of its instrument."""
    signal = data.plasmonic_map(shape=(8, 8), channels=512)
    return signal, data.vacuum_spectrum(signal)


def measured(name):
    """A measured spectrum; skips the test where there are none beside the checkout."""
    if not DATA.is_dir():
        pytest.skip("no measured spectra at ../shared/data")
    exspy_deepdeconv.register()
    signal = hs.load(DATA / name)
    signal = signal[0] if isinstance(signal, list) else signal
    signal.set_signal_type("EELS")
    return signal
