"""estimate_psf as a method of EELSSpectrum: the response that the network finds."""

import numpy as np
import pytest
from _helpers import deconvolve, energy_axis

from exspy_deepdeconv import models, physics

OLDEST = models.available()[0]


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
@pytest.mark.parametrize("lazy", [False, True])
def test_estimated_response(make_signal, shape, lazy):
    s = make_signal(*shape)
    psf = (s.as_lazy() if lazy else s).estimate_psf(show_progressbar=False)
    assert type(psf) is type(s.as_lazy() if lazy else s)
    assert psf.axes_manager.navigation_shape == s.axes_manager.navigation_shape
    axis, own = energy_axis(psf), energy_axis(s)
    assert (axis.size, axis.scale, axis.units) == (own.size, own.scale, own.units)
    data = np.asarray(psf.data)
    assert (data >= 0).all()
    np.testing.assert_allclose(data.sum(axis=-1), 1, rtol=1e-5)
    tops = physics.parabola_vertex(data, data.argmax(axis=-1))
    np.testing.assert_allclose(axis.offset + tops * axis.scale, 0, atol=1e-3)
    widths = physics.half_height_width(data, data.argmax(axis=-1))
    np.testing.assert_allclose(widths, 10, rtol=0.1)
    if shape == ():
        assert psf.metadata.General.title == "simulated estimated response"


def test_response_near_the_start_of_the_axis_keeps_its_flank(make_signal):
    s = make_signal(position=16.0)
    psf = s.estimate_psf(show_progressbar=False)
    assert psf.data.argmax() == 41  # four widths, instead of the 16 channels there are
    reference = make_signal().estimate_psf(show_progressbar=False).data
    flank, whole = psf.data[16:41], reference[reference.argmax() - 25 : reference.argmax()]
    np.testing.assert_allclose(flank, whole, atol=0.15 * psf.data.max())


def test_falling_axis_has_its_response_at_zero(make_signal):
    s = make_signal(2)
    rising = s.estimate_psf(show_progressbar=False)
    s.data = np.ascontiguousarray(s.data[..., ::-1])
    axis = energy_axis(s)
    axis.scale *= -1
    psf = s.estimate_psf(show_progressbar=False)
    np.testing.assert_allclose(psf.data[..., ::-1], rising.data, atol=1e-7)
    energy = energy_axis(psf).axis
    np.testing.assert_allclose(energy[psf.data.argmax(axis=-1)], 0, atol=1e-9)


def test_response_of_unusable_spectra(make_signal):
    s = make_signal(4)
    s.data[0], s.data[1], s.data[2, 3] = 0, 7, np.nan
    with pytest.warns(UserWarning, match="^estimate_psf: of 4 spectra 1 empty") as caught:
        psf = s.estimate_psf(show_progressbar=False)
    assert caught[0].filename == __file__
    assert not psf.data[:2].any()
    assert np.isnan(psf.data[2]).all()
    assert psf.data[3].sum() == pytest.approx(1, rel=1e-5)
    flags = psf.metadata.Signal.psf_estimation.flags
    assert (flags.empty, flags.no_zero_loss, flags.not_finite) == (1, 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "nonsense"}, f"nonsense.*{OLDEST}"),
        ({"model": 3}, "model=3"),
    ],
)
def test_estimate_psf_refuses(make_signal, change, message):
    with pytest.raises(ValueError, match=message):
        make_signal().estimate_psf(**change)


def test_estimated_response_can_be_given_back(make_signal):
    s = make_signal(2, 2)
    psf = s.estimate_psf(show_progressbar=False)
    blind, told = deconvolve(s), deconvolve(s, psf=psf)
    assert told.metadata.Signal.deep_deconvolution.psf.startswith("estimated beforehand")
    # The estimator is told that the response is known, so the answers are near, not equal.
    loss = slice(85, None)
    error = np.linalg.norm((told.data - blind.data)[..., loss])
    assert error < 0.1 * np.linalg.norm(blind.data[..., loss])
