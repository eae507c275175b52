"""Fixtures that the tests share."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

import exspy_deepdeconv
from exspy_deepdeconv import physics

# The same examples in every run: a new one that fails says nothing of the change that it meets.
# No deadline: a machine that is slow for a moment is no failure.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


@pytest.fixture
def make_signal():
    """Factory of small simulated low-loss signals."""
    exspy_deepdeconv.register()
    from exspy.signals import EELSSpectrum

    def make(*shape, channels=256, fwhm=10.0, position=60.3, scale=0.01, units="eV", seed=0):
        """Signal whose data have the navigation shape ``shape`` (order of the data: y, x)."""
        rng = np.random.default_rng(seed)
        places = position + rng.uniform(-2, 2, shape)
        widths = np.full(shape, fwhm)
        mean = 1e5 * physics.gaussian(channels, places, widths)
        mean = mean + 2e4 * physics.gaussian(channels, places + 70, widths * 2) + 2.0
        signal = EELSSpectrum(rng.poisson(mean).astype(np.float32))
        axis = signal.axes_manager.signal_axes[0]
        axis.name, axis.scale, axis.units, axis.offset = "Energy loss", scale, units, -0.5
        signal.metadata.General.title = "simulated"
        return signal

    return make


@pytest.fixture
def network(monkeypatch):
    """The network behind ``deep_deconvolve``: ``.calls`` lists the shapes of its blocks."""
    from exspy_deepdeconv.estimate import batched

    calls, stacked_block = [], batched.stacked_block

    def counted(spectra, **arguments):
        calls.append(spectra.shape)
        return stacked_block(spectra, **arguments)

    monkeypatch.setattr(batched, "stacked_block", counted)
    return SimpleNamespace(calls=calls)


@pytest.fixture
def no_figures_left():
    """Close the figures of a test when it has ended."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture
def save(make_signal, tmp_path):
    """Write a small simulated signal; returns its path."""

    def write(name, *shape, **arguments):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        make_signal(*shape, **arguments).save(path, overwrite=True)
        return path

    return write
