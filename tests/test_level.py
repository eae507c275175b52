"""The flat offset of a spectrum, and how well it is known."""

import numpy as np
import pytest

from exspy_deepdeconv.level import flat_level, flat_level_error
from exspy_deepdeconv.physics import find_zero_loss


def spectra_with_tail(number, tail, offset, seed=0):
    """Zero-loss peaks with a tail of the inverse square distance, on a flat offset."""
    distance = np.arange(1024) - 400.0
    mean = 1e6 * (np.exp(-0.5 * (distance / 4) ** 2) + tail / (1 + (distance / 8) ** 2))
    rng = np.random.default_rng(seed)
    return rng.poisson(mean, (number, 1024)) + rng.normal(offset, 3, (number, 1024))


@pytest.mark.parametrize("tail", [0.0, 0.01])
def test_offset_and_its_error(tail):
    """The tail of the response is not taken for an offset, and the error told is the real one."""
    spectra = spectra_with_tail(100, tail, 200.0)
    peaks = find_zero_loss(spectra)
    level = flat_level(spectra, peaks)
    error = flat_level_error(spectra, peaks, level)
    assert np.median(level) == pytest.approx(200, abs=1)
    beside_peak = spectra[:, :180].mean(axis=-1)
    assert np.median(beside_peak) > 202 or not tail
    # Told for neighbours that share their noise: twice that of this white noise, or a little more.
    scatter = (level - 200) / error
    assert 0.2 < scatter.std() < 0.7


def test_no_offset_no_error():
    spectra = spectra_with_tail(5, 0.0, 0.0)
    peaks = find_zero_loss(spectra)
    level = flat_level(spectra, peaks)
    assert (level == 0).all()
    assert (flat_level_error(spectra, peaks, level) == 0).all()


def test_offset_read_before_or_after_it_is_taken_off():
    spectra = spectra_with_tail(3, 0.01, 50.0)
    peaks = find_zero_loss(spectra)
    level = flat_level(spectra, peaks)
    assert (level > 0).all()
    before, after = (flat_level_error(s, peaks, level) for s in (spectra, spectra - level[:, None]))
    np.testing.assert_allclose(before, after, rtol=1e-9)
