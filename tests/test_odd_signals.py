"""What is odd about data or responses: flagged, warned of, and a dark level taken off."""

import warnings

import numpy as np
import pytest
from _helpers import deconvolve

from exspy_deepdeconv import data, physics


def test_unexplained_spectra_are_flagged(make_signal):
    s = make_signal(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        honest = deconvolve(s)
    assert honest.metadata.Signal.deep_deconvolution.flags.unexplained == 0
    wrong = make_signal(fwhm=25.0)  # as from another instrument
    with pytest.warns(
        UserWarning, match="of 3 spectra 3 that the psf does not fit.*another width in 3"
    ):
        result = deconvolve(s, psf=wrong)
    np.testing.assert_array_equal(result.data, honest.data)
    with pytest.warns(UserWarning, match="of 3 spectra 3 not explained by the result"):
        result = deconvolve(s, psf=wrong, force_psf=True)
    assert result.metadata.Signal.deep_deconvolution.flags.unexplained == 3


def test_more_gains_than_losses_are_flagged(make_signal):
    """The zero-loss peak has a tail on its gain side that the response which is given lacks."""
    s, psf = make_signal(3), make_signal().isig[:100]
    tail = physics.gaussian(256, 35.0, 25.0)
    s.data += np.random.default_rng(1).poisson(3e3 * tail, s.data.shape).astype(np.float32)
    with pytest.warns(UserWarning, match="3 that the psf does not fit.*too low a tail.* in 3"):
        result = deconvolve(s, psf=psf)
    assert result.metadata.Signal.deep_deconvolution.flags.gains == 0
    with pytest.warns(UserWarning, match="of 3 spectra .*3 with more energy gains than losses"):
        result = deconvolve(s, psf=psf, force_psf=True)
    assert result.metadata.Signal.deep_deconvolution.flags.gains == 3
    backwards = make_signal(3)  # the losses pass for gains, and few channels are left for losses
    backwards.data = backwards.data[..., ::-1].copy()
    with pytest.warns(UserWarning, match="more energy gains than losses"):
        result = deconvolve(backwards)
    assert result.metadata.Signal.deep_deconvolution.flags.gains == 3
    mirrored = make_signal(3)  # losses of the same size are none of its business
    mirrored.data += np.roll(tail[::-1], -134) * np.float32(3e3)
    assert deconvolve(mirrored, psf=psf).metadata.Signal.deep_deconvolution.flags.gains == 0


@pytest.mark.parametrize(
    ("arguments", "flag", "words"),
    [
        ({"fwhm": 0.7}, "narrow", "channels wide"),
        ({"fwhm": 80.0, "channels": 1024, "position": 300.0}, "wide", "wider than any"),
        ({"position": 11.0}, "no_gain_side", "zero-loss widths long"),
        ({"position": 24.0}, "no_gain_side", "zero-loss widths long"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_out_of_range_is_told_once(make_signal, arguments, flag, words, lazy):
    s = make_signal(3, **arguments)
    s = s.as_lazy() if lazy else s
    with pytest.warns(UserWarning) as heard:
        result = deconvolve(s)
    told = [str(w.message) for w in heard if words in str(w.message)]
    assert len(told) == 1
    assert result.metadata.Signal.deep_deconvolution.flags.as_dictionary()[flag]


def test_widths_that_differ_are_told(make_signal):
    s = make_signal(8, fwhm=8.0)
    s.data[:4] = make_signal(4, fwhm=18.0).data
    with pytest.warns(UserWarning, match="zero-loss widths differ by a factor of 2"):
        result = deconvolve(s)
    assert result.metadata.Signal.deep_deconvolution.flags.uneven


def behind_its_zero_loss_peak(make_signal):
    """Low losses cropped behind their zero-loss peak (at 0.1 eV): what is left looks like one."""
    s = make_signal(channels=512)
    return s.isig[0.4:]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "method", ["deep_deconvolve", "rl_deconvolve", "tgv_deconvolve", "estimate_psf"]
)
def test_a_peak_that_cannot_be_the_zero_loss_peak_is_told(make_signal, method, reverse):
    s = behind_its_zero_loss_peak(make_signal)
    if reverse:
        s.data = np.ascontiguousarray(s.data[::-1])
        axis = s.axes_manager.signal_axes[0]
        axis.offset, axis.scale = axis.high_value, -axis.scale
    with pytest.warns(UserWarning) as heard:
        result = getattr(s, method)(show_progressbar=False)
    told = [str(w.message) for w in heard if "begins above 0 eV" in str(w.message)]
    assert len(told) == 1 and "lies at 0.8" in told[0] and told[0].startswith(method)
    assert all(w.filename == __file__ for w in heard)
    if method == "deep_deconvolve":
        assert result.metadata.Signal.deep_deconvolution.flags.elsewhere


def thick(make_signal, width, offset=-20.0, shape=(), height=1.0):
    """A plasmon above a zero-loss peak of so many channels, of some height; 0.5 eV a channel."""
    s = make_signal(*shape, channels=512)
    peak = physics.gaussian(512, 40.0, width)
    counts = height * peak / peak.max() + 1.5 / (1 + ((np.arange(512) - 70.0) / 6) ** 2)
    s.data = np.random.default_rng(0).poisson(np.broadcast_to(1e5 * counts, s.data.shape))
    s.axes_manager[-1].scale, s.axes_manager[-1].offset = 0.5, offset
    return s


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_plasmon_that_was_taken_for_the_zero_loss_peak_at_0_eV_is_told(make_signal, shape):
    with pytest.warns(UserWarning, match="has another peak at 0 eV; what was taken .* lies at 15"):
        result = deconvolve(thick(make_signal, 1.6, shape=shape))
    assert result.metadata.Signal.deep_deconvolution.flags.elsewhere


@pytest.mark.parametrize(("width", "offset"), [(4.0, -20.0), (4.0, -35.0), (4.0, 5.0), (1.6, 0.0)])
def test_what_is_taken_for_the_zero_loss_peak_has_no_rival(make_signal, width, offset):
    """It is the right one, or nothing peaks at 0 eV: an axis may well be off."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        deconvolve(thick(make_signal, width, offset))
    assert not [w for w in heard if "another peak at 0 eV" in str(w.message)]


@pytest.mark.parametrize(("height", "rival"), [(0.05, False), (0.2, True)])
def test_a_rival_stands_out_of_what_is_beside_it(make_signal, height, rival):
    """Far lower, it is a ripple on the flank of the plasmon."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = deconvolve(thick(make_signal, 1.6, height=height))
    assert result.metadata.Signal.deep_deconvolution.flags.elsewhere == rival


@pytest.mark.parametrize(("height", "rival"), [(0.01, False), (0.1, True)])
def test_a_rival_has_some_height(make_signal, height, rival):
    s = make_signal(channels=512)
    peaks = [physics.gaussian(512, place, width) for place, width in ((40.0, 1.6), (150.0, 8.0))]
    counts = sum(h * x / x.max() for h, x in zip((height, 1.0), peaks, strict=True))
    s.data = np.random.default_rng(0).poisson(1e7 * counts + 10)
    s.axes_manager[-1].scale, s.axes_manager[-1].offset = 0.5, -20.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = deconvolve(s)
    assert result.metadata.Signal.deep_deconvolution.flags.elsewhere == rival


def test_pixels_whose_zero_loss_peak_has_jumped_are_no_rivals(make_signal):
    s = make_signal(9, channels=512)
    for pixel, place in enumerate([100.0] * 4 + [160.0] * 5):
        s.data[pixel] = np.random.default_rng(pixel).poisson(
            1e6 * physics.gaussian(512, place, 8.0) + 5
        )
    s.axes_manager[-1].offset = -100 * s.axes_manager[-1].scale
    result = deconvolve(s)
    assert not result.metadata.Signal.deep_deconvolution.flags.elsewhere


@pytest.mark.parametrize("offset", [-0.5, 0.0, -9.0, 0.05])
def test_an_axis_that_begins_below_zero_need_not_have_its_peak_there(make_signal, offset):
    s = make_signal()
    s.axes_manager[-1].offset = offset
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = deconvolve(s)
    assert not result.metadata.Signal.deep_deconvolution.flags.elsewhere


def test_with_a_response_a_classical_method_needs_no_zero_loss_peak(make_signal):
    s, psf = behind_its_zero_loss_peak(make_signal), make_signal(seed=1)
    psf.data[95:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        s.rl_deconvolve(psf=psf, show_progressbar=False)


def test_with_a_response_the_gain_side_does_not_matter(make_signal):
    s, psf = make_signal(position=11.0), make_signal()
    psf.data[95:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        result = deconvolve(s, psf=psf)
    assert not result.metadata.Signal.deep_deconvolution.flags.no_gain_side


def test_which_spectra_are_flagged_is_told(make_signal):
    s = make_signal(2, 3)
    s.data[1, 2] = 0
    flags = deconvolve(s).metadata.Signal.deep_deconvolution.flags
    np.testing.assert_array_equal(np.argwhere(flags.maps.empty), [[1, 2]])
    assert list(flags.maps.keys()) == ["empty"]
    assert not deconvolve(make_signal(2)).metadata.Signal.deep_deconvolution.flags.has_item("maps")


def test_a_result_is_not_deconvolved_again_without_a_word(make_signal):
    s = make_signal(2)
    result = deconvolve(s)
    for method in (result.deep_deconvolve, result.rl_deconvolve, result.estimate_psf):
        with pytest.warns(UserWarning, match=r"itself a result \(deep_deconvolution\)") as heard:
            method(show_progressbar=False)
        assert heard[0].filename == __file__
    with pytest.raises(ValueError, match=r"psf is itself a result \(deep_deconvolution\)"):
        s.deep_deconvolve(psf=result.inav[0], show_progressbar=False)


def test_a_peak_that_keeps_its_width_is_told(make_signal):
    with pytest.warns(
        UserWarning, match="only 2.6 channels wide: under 3 there is nothing to sharpen"
    ):
        deconvolve(make_signal(2, fwhm=2.5))


@pytest.mark.parametrize("share", [1e-4, 1e-3])
def test_a_dark_level_below_zero_under_a_vacuum_spectrum_is_taken_off(share):
    s = data.exciton_spectrum()
    vacuum = data.vacuum_spectrum(s)
    kwargs = {"resolution": 0.0375, "show_progressbar": False}
    plain = s.deep_deconvolve(psf=vacuum, **kwargs)
    vacuum.data = vacuum.data - share * vacuum.data.max()
    lowered = s.deep_deconvolve(psf=vacuum, **kwargs)
    truth = data.truth(s, 0.0375)
    errors = [np.abs(r.isig[0.3:].data - truth.isig[0.3:].data).sum() for r in (plain, lowered)]
    assert errors[1] < 1.2 * errors[0]


def test_a_response_that_is_cut_off_is_told_of():
    s = data.exciton_spectrum()
    vacuum = data.vacuum_spectrum(s)
    with pytest.warns(UserWarning, match="psf is cut off 2 zero-loss widths from its maximum"):
        s.deep_deconvolve(psf=vacuum.isig[70:130], show_progressbar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s.deep_deconvolve(psf=vacuum, show_progressbar=False)
        vacuum.data = vacuum.data + 0.01 * vacuum.data.max()  # a dark level is no tail
        s.deep_deconvolve(psf=vacuum, show_progressbar=False)


@pytest.mark.parametrize(("offset", "kept"), [(40.0, 40.0), (-20.0, 0.0)])
def test_one_dark_level_for_a_map(offset, kept):
    """A detector has one: read pixel by pixel it came and went, a step in every map (up to 51 counts)."""
    s = data.plasmonic_map((6, 6), 1024)
    s.data = s.data + offset
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = deconvolve(s, 0.03)
    axis = result.axes_manager[-1]
    gain_side = result.data[..., axis.value2index(-1.5) : axis.value2index(-0.5)].mean(axis=-1)
    assert np.ptp(gain_side) < 1 and gain_side.mean() == pytest.approx(kept, abs=2)
    told = result.metadata.Signal.deep_deconvolution.dark_level
    assert abs(told.counts - offset) < min(7, told.error) and told.error < 20
    pixel = s.inav[2, 3].deconvolution_residual(
        result.inav[2, 3], return_maps=True, show_progressbar=False
    )[1]
    assert 0.5 < float(pixel.data[0]) < 1.5


def test_a_negative_dark_level_is_said():
    """What is taken off is lifted counts: the sum is another one."""
    s = data.plasmonic_map((3, 3), 512)
    s.data = s.data - 60.0
    with pytest.warns(UserWarning, match="a flat offset of -5.* counts lies under all spectra"):
        deconvolve(s, 0.03)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_negative_dark_level_of_a_few_spectra_is_said(shape):
    s = data.plasmonic_map((3, 3), 512).inav[:, 0]
    s = s if shape else s.inav[1]
    s.data = s.data - 600.0
    with pytest.warns(UserWarning, match="a flat offset of -5.* counts lies under the spectra"):
        result = deconvolve(s, 0.03)
    assert result.data.sum() > s.data.sum() + 500 * s.data.size


def test_a_spectrum_with_another_dark_level_keeps_its_own():
    """One frame read out in another way does not take the others' level."""
    s = data.plasmonic_map((4, 4), 1024)
    s.data = s.data + 300.0
    s.data[1, 2] += 700.0
    result = deconvolve(s, 0.03)
    axis = result.axes_manager[-1]
    gain_side = result.data[..., axis.value2index(-1.5) : axis.value2index(-0.5)].mean(axis=-1)
    assert gain_side[1, 2] == pytest.approx(1000, abs=15)
    assert np.delete(gain_side.ravel(), 6) == pytest.approx(300, abs=15)


@pytest.mark.parametrize(("units", "scale"), [("meV", 10.0), ("eV", 0.01)])
def test_a_resolution_in_mev_is_asked_about(make_signal, units, scale):
    s = make_signal(scale=scale, units=units)
    for method in (s.deep_deconvolve, s.rl_deconvolve):
        with pytest.raises(ValueError, match=r"It is in eV: did you mean 0.03 \(30 meV\)\?"):
            method(resolution=30)
    with pytest.raises(ValueError, match="out of range") as error:
        s.deep_deconvolve(resolution=5)
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    "method",
    ["rl_deconvolve", "ml_deconvolve", "fourier_deconvolve", "tgv_deconvolve", "estimate_psf"],
)
def test_all_that_read_the_response_from_the_data_tell_what_is_out_of_range(make_signal, method):
    s = make_signal(position=11.0)
    with pytest.warns(UserWarning, match=f"{method}: the gain side .* is only 1.* widths long"):
        getattr(s, method)(show_progressbar=False)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("method", ["fourier_deconvolve", "tgv_deconvolve"])
def test_a_negative_offset_that_is_subtracted_is_told(make_signal, method, given):
    s = make_signal(channels=512)
    psf = make_signal(channels=512).isig[:110] if given else None
    s.data = s.data - np.float32(300)
    with pytest.warns(UserWarning, match=f"{method}: a flat offset of -(29|30)"):
        getattr(s, method)(psf=psf, show_progressbar=False)
