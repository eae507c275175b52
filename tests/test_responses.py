"""Measured responses that are none, or not what they should be; and what is noted of them."""

import re
import warnings

import numpy as np
import pytest

from exspy_deepdeconv import physics
from exspy_deepdeconv._signals import responses
from exspy_deepdeconv.physics import gaussian

METHODS = ("deep", "rl", "ml", "fourier", "tgv")


@pytest.fixture
def pair(make_signal):
    """A spectrum and a vacuum spectrum of 300 channels."""
    s, vacuum = make_signal(channels=512), make_signal(channels=300)
    rng = np.random.default_rng(2)
    x = gaussian(512, 150.0, 12.0) + 0.2 * gaussian(512, 300.0, 40.0)
    s.data, vacuum.data = rng.poisson(1e6 * x), rng.poisson(1e6 * gaussian(300, 140.0, 12.0))
    vacuum.metadata.General.title = "vacuum"
    return s, vacuum


def warnings_of(s, method, psf):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        getattr(s, f"{method}_deconvolve")(psf=psf, show_progressbar=False)
    return [text for w in heard if re.search("psf (is|holds)", text := str(w.message))]


@pytest.mark.parametrize("method", METHODS)
def test_a_good_response_is_not_warned_of(pair, method):
    assert not warnings_of(pair[0], method, pair[1])


def test_noise_of_a_good_response_is_no_spike():
    """A tail that sinks into the readout noise where it is some 3e-4 as high as the peak."""
    distance = (np.arange(2000) - 400) / 16
    shape = 0.98 * np.exp(-4 * np.log(2) * distance**2) + 0.02 / (1 + 4 * distance**2)
    rng = np.random.default_rng(0)
    for _ in range(12):
        counts = rng.poisson(1e6 * shape) + rng.normal(0, 30, 2000)
        assert not responses.remarks(counts)
        counts[700] += 2e4
        assert "spike or a dead channel" in " ".join(responses.remarks(counts))


@pytest.mark.parametrize("method", METHODS)
def test_saturated_response(pair, method):
    s, vacuum = pair
    vacuum.data = np.minimum(vacuum.data, 0.85 * vacuum.data.max())
    (told,) = warnings_of(s, method, vacuum)
    assert told.startswith(
        f"{method}_deconvolve: psf is a spectrum with a saturated zero-loss peak"
    )


@pytest.mark.parametrize("method", METHODS)
def test_response_with_a_hot_channel(pair, method):
    s, vacuum = pair
    vacuum.data[146] = 1.6 * vacuum.data[146]
    (told,) = warnings_of(s, method, vacuum)
    assert "psf is a spectrum with a spike or a dead channel" in told


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_response_that_is_cut_off(make_signal, pair, method, shape):
    """One for all or one a pixel."""
    s, vacuum = pair
    few, short = make_signal(*shape, channels=512), make_signal(*shape, channels=24)
    few.data = np.broadcast_to(s.data, (*shape, 512)).copy()
    short.data = np.broadcast_to(vacuum.data[128:152], (*shape, 24)).copy()
    (told,) = warnings_of(few, method, short)
    assert "psf is cut off" in told


def test_how_high_a_cut_response_still_is_is_told_in_plain_figures(pair):
    s, vacuum = pair
    place = int(vacuum.data.argmax())
    (told,) = warnings_of(s, "fourier", vacuum.isig[place - 9 : place + 10])
    assert re.search(r"still [1-9]\d % of its maximum", told)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["noise", "upside down"])
def test_noise_is_no_response(pair, method, kind):
    s, vacuum = pair
    noise = np.random.default_rng(0).normal(0, 10, 300)
    vacuum.data = noise if kind == "noise" else noise - 1.0 * vacuum.data
    with pytest.raises(ValueError, match="psf must hold a zero-loss peak"):
        getattr(s, f"{method}_deconvolve")(psf=vacuum, show_progressbar=False)


@pytest.mark.parametrize("method", ["deep", "rl"])
def test_a_lazy_map_of_responses_is_not_read_before_the_result_is(make_signal, method):
    s, psf = make_signal(4, channels=512).as_lazy(), make_signal(4, channels=300).as_lazy()
    read = []

    def note(block):
        read.append(block.shape)
        return block

    psf.data = psf.data.rechunk((1, 300)).map_blocks(note, meta=np.zeros((0, 0)))
    result = getattr(s, f"{method}_deconvolve")(psf=psf, lazy_output=True)
    assert not read
    result.compute(show_progressbar=False)
    assert read


def test_three_channels_are_a_response(pair):
    """Of so few it cannot be told whether they are noise."""
    s, vacuum = pair
    short = vacuum.isig[:3]
    short.data = np.array([100.0, 1000.0, 120.0])
    assert s.rl_deconvolve(psf=short, show_progressbar=False).data.any()


def test_a_response_estimated_beforehand_is_noted_as_such(pair):
    s, vacuum = pair
    estimated = vacuum.estimate_psf(show_progressbar=False)
    result = s.deep_deconvolve(psf=estimated, show_progressbar=False)
    note = result.metadata.Signal.deep_deconvolution
    assert note.psf == "estimated beforehand: vacuum"
    with pytest.warns(UserWarning, match="pass the same psf"):
        s.deconvolution_residual(result, show_progressbar=False)
    # Also of a signal of the same title: many acquisitions have the same.
    own = s.rl_deconvolve(psf=s.estimate_psf(show_progressbar=False), show_progressbar=False)
    assert own.metadata.Signal.rl_deconvolution.psf.startswith("estimated beforehand: ")


def test_residual_of_a_result_that_was_calibrated_afterwards(pair):
    """Both by the same factor, which is the usual mistake: nothing else has changed."""
    s, _ = pair
    result = s.deep_deconvolve(show_progressbar=False)

    def chi2():
        maps = s.deconvolution_residual(result, return_maps=True, show_progressbar=False)
        return float(maps[1].data[0])

    before = chi2()
    for signal in (s, result):
        signal.axes_manager[-1].scale *= 20
    assert chi2() == pytest.approx(before, rel=1e-6)
    s, result = s.isig[10:500], result.isig[10:500]  # cropped after that
    assert chi2() == pytest.approx(before, rel=0.1)


def test_residual_of_a_result_whose_channels_were_summed(pair):
    s, _ = pair
    result = s.deep_deconvolve(resolution=0.06, show_progressbar=False)
    s, result = s.rebin(scale=[2]), result.rebin(scale=[2])
    maps = s.deconvolution_residual(result, return_maps=True, show_progressbar=False)
    assert maps[1].data[0] < 2


def test_results_can_be_compared_again(pair):
    """The second time each method warns, and no psf is complained of that nobody gave."""
    result = pair[0].deep_deconvolve(show_progressbar=False)
    with pytest.warns(UserWarning, match="the signal is itself a result"):
        compared = result.compare_deconvolution(("rl",), show_progressbar=False)
    assert not compared.scores["rl"].failure


@pytest.mark.parametrize("lazy", [False, True])
def test_a_residual_holds_no_zero_loss_peak(make_signal, lazy):
    s = make_signal(2, channels=512)
    residual = s.deconvolution_residual(
        s.rl_deconvolve(show_progressbar=False), show_progressbar=False, lazy_output=lazy
    )
    for name in ("deep_deconvolve", "rl_deconvolve", "fourier_deconvolve", "estimate_psf"):
        with pytest.raises(
            ValueError, match="The signal is a residual: it holds no zero-loss peak"
        ):
            getattr(residual, name)(show_progressbar=False)
    for name in ("deep_deconvolve", "rl_deconvolve"):
        with pytest.raises(ValueError, match="psf is a residual"):
            getattr(s, name)(psf=residual, show_progressbar=False)


def test_spectra_of_nothing_but_nan_say_what_to_do(make_signal):
    s = make_signal(3)
    s.data[:, :2] = np.nan
    with pytest.raises(ValueError, match="All of 3 spectra .* hold NaN.*crop these channels"):
        s.deep_deconvolve(show_progressbar=False)


def test_too_few_electrons_are_told(make_signal):
    s = make_signal(8, channels=512)
    mean = 400 * gaussian(512, 150.0, 8.0) + 100 * gaussian(512, 300.0, 60.0)
    s.data = np.random.default_rng(1).poisson(mean, (8, 512))
    with pytest.warns(UserWarning, match="electrons, fewer than any in the training.*sum or bin"):
        result = s.deep_deconvolve(show_progressbar=False)
    assert result.metadata.Signal.deep_deconvolution.flags.few_electrons


def test_an_estimated_response_that_was_cropped_is_cut_off(pair):
    s, _ = pair
    psf = s.estimate_psf()
    width = psf.metadata.Signal.psf_estimation.zero_loss_fwhm
    assert not warnings_of(s, "rl", psf)
    assert not warnings_of(s, "rl", psf.isig[-4 * width : 4 * width])
    (told,) = warnings_of(s, "rl", psf.isig[-width : 1.2 * width])
    assert "psf is cut off" in told


def test_a_response_without_units_is_named(pair):
    s, vacuum = pair
    vacuum.axes_manager[-1].units = ""
    with pytest.raises(ValueError, match=r"the psf is in units of ''.* set psf\.axes_manager"):
        s.rl_deconvolve(psf=vacuum, show_progressbar=False)


def with_interval(s, psf):
    """Result and bounds, and the mean width of the interval."""
    results = s.deep_deconvolve(psf=psf, return_interval=True, show_progressbar=False)
    return results, float((results[2].data - results[1].data).mean())


def of_width(vacuum, width):
    """A vacuum spectrum with another zero-loss width."""
    other = vacuum.deepcopy()
    other.data = np.random.default_rng(3).poisson(1e6 * gaussian(300, 140.0, width))
    return other


def test_a_response_of_nearly_the_width_is_used_but_not_trusted(pair):
    s, vacuum = pair
    results = [with_interval(s, psf) for psf in (vacuum, None, of_width(vacuum, 12.2))]
    (result, _), (blind, _), (doubted, _) = results
    for each in (result, doubted):
        assert each[0].metadata.Signal.deep_deconvolution.flags.psf_misfit == 0
    assert not np.array_equal(doubted[0].data, blind[0].data)
    narrow, usual, wide = (width for _, width in results)
    assert narrow < usual < wide


def test_a_narrower_response_is_broadened_and_not_trusted(pair):
    s, vacuum = pair
    message = (
        "a spectrum with a zero-loss peak wider than the psf .the psf broadened, and not trusted.*"
    )
    with pytest.warns(UserWarning, match=message):
        (result, *_), wide = with_interval(s, of_width(vacuum, 11.4))
    flags = result.metadata.Signal.deep_deconvolution.flags
    assert (flags.psf_narrow, flags.psf_misfit) == (1, 0)
    (blind, *_), usual = with_interval(s, None)
    assert wide > usual and not np.array_equal(result.data, blind.data)


def test_a_wider_response_is_not_used(pair):
    s, vacuum = pair
    message = "a spectrum that the psf does not fit .the response found in the data used.*"
    with pytest.warns(UserWarning, match=message):
        told, _ = with_interval(s, of_width(vacuum, 12.6))
    assert told[0].metadata.Signal.deep_deconvolution.flags.psf_misfit == 1
    for mine, blind in zip(told, with_interval(s, None)[0], strict=True):
        np.testing.assert_array_equal(mine.data, blind.data)


def with_tails(s, share):
    """A response with Lorentzian tails of this share, and a spectrum whose tails hold a twentieth."""

    def mean(shape, share):
        lorentzian = 1 / (1 + (2 * (np.arange(shape) - 140.0) / 12.0) ** 2)
        return (1 - share) * gaussian(shape, 140.0, 12.0) + share * lorentzian / lorentzian.sum()

    psf, (rng, channels) = s.deepcopy(), (np.random.default_rng(4), s.data.size)
    psf.data = 1e7 * mean(channels, share)
    s.data = rng.poisson(1e6 * mean(channels, 0.05) + 1e4 * gaussian(channels, 200.0, 20.0))
    return s, psf


@pytest.mark.parametrize("dispersion", [0.02, 0.001])
def test_a_response_without_the_tails_of_the_data_is_not_used(pair, dispersion):
    """But where the gain side may hold gains of the specimen (0.1 eV from the peak)."""
    s, psf = with_tails(pair[0], 0.0)
    for each in (s, psf):
        each.axes_manager[-1].scale = dispersion
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = s.deep_deconvolve(psf=psf, show_progressbar=False)
    told = any("that the psf does not fit" in str(w.message) for w in caught)
    same = np.array_equal(result.data, s.deep_deconvolve(show_progressbar=False).data)
    assert told == same == (dispersion == 0.02)
    assert result.metadata.Signal.deep_deconvolution.flags.psf_misfit == told


def test_a_response_with_the_tails_of_the_data_is_used(pair):
    s, psf = with_tails(pair[0], 0.05)
    assert not warnings_of(s, "deep", psf)
    blind = s.deep_deconvolve(show_progressbar=False)
    assert not np.array_equal(s.deep_deconvolve(psf=psf, show_progressbar=False).data, blind.data)


@pytest.mark.parametrize("share, why", [(0.0, "psf_tail_low"), (0.1, "psf_tail_high")])
def test_why_a_response_does_not_fit_is_told(pair, share, why):
    s, psf = with_tails(pair[0], share)
    words = {"psf_tail_low": "too low a tail", "psf_tail_high": "too high a tail"}[why]
    with pytest.warns(
        UserWarning, match=f"a spectrum that the psf does not fit.*: {words} on the gain side"
    ):
        result = s.deep_deconvolve(psf=psf, show_progressbar=False)
    flags = result.metadata.Signal.deep_deconvolution.flags
    assert flags.psf_misfit == flags.get_item(why) == 1
    assert flags.psf_tail_low + flags.psf_tail_high + flags.psf_width == 1


def test_a_response_can_be_forced(pair):
    """Losses then are what its tail lacks; the intervals are those of an estimated response."""
    s, psf = with_tails(pair[0], 0.0)
    with pytest.warns(
        UserWarning, match="with a higher tail on the gain side than the psf .the psf used"
    ):
        forced = s.deep_deconvolve(psf=psf, force_psf=True, show_progressbar=False)
    note = forced.metadata.Signal.deep_deconvolution
    assert note.force_psf and (note.flags.psf_misfit, note.flags.psf_tail_low) == (0, 1)
    blind = s.deep_deconvolve(show_progressbar=False)
    assert forced.isig[160:180].data.sum() > 3 * blind.isig[160:180].data.sum()
    # Its residual is that of the response that was used.
    chi2 = s.deconvolution_residual(forced, psf, return_maps=True, show_progressbar=False)[1]
    assert chi2.data[0] < 1.5
    wide = of_width(pair[1], 12.6)
    with pytest.warns(UserWarning, match="of another width than the psf .the psf used"):
        forced = pair[0].deep_deconvolve(psf=wide, force_psf=True, show_progressbar=False)
    with pytest.raises(ValueError, match="force_psf='no'"):
        s.deep_deconvolve(psf=psf, force_psf="no")
    with pytest.raises(ValueError, match="force_psf=True needs a psf"):
        s.deep_deconvolve(force_psf=True)


def test_a_response_with_which_a_result_does_not_explain_the_data_is_not_used(pair):
    """It has the width and the gain-side tail of the spectrum, but losses of its own."""
    s, vacuum = pair
    vacuum.data = vacuum.data + np.random.default_rng(5).poisson(2e5 * gaussian(300, 220.0, 12.0))
    with pytest.warns(UserWarning, match="psf does not fit .the response found in the data used"):
        told = s.deep_deconvolve(psf=vacuum, show_progressbar=False)
    blind = s.deep_deconvolve(show_progressbar=False)
    np.testing.assert_array_equal(told.data, blind.data)


@pytest.mark.parametrize("method", METHODS)
def test_losses_in_a_response_are_warned_of(pair, method):
    """As of a spectrum that was taken on the specimen."""
    s, vacuum = pair
    psf = vacuum.deepcopy()
    psf.data = vacuum.data + np.random.default_rng(5).poisson(3e4 * gaussian(300, 220.0, 20.0))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        getattr(s, f"{method}_deconvolve")(psf=psf, show_progressbar=False)
    (told,) = {str(w.message) for w in heard if "psf rises again" in str(w.message)}
    assert "6 zero-loss widths behind its peak" in told or "7 zero-loss widths" in told


def test_a_response_with_few_electrons_is_warned_of(pair):
    s, vacuum = pair
    faint = vacuum.deepcopy()
    faint.data = np.random.default_rng(3).poisson(1e4 * gaussian(300, 140.0, 12.0))
    with pytest.warns(UserWarning, match="psf holds about [12] % of the electrons of a spectrum"):
        s.deep_deconvolve(psf=faint, show_progressbar=False)
    assert len(warnings_of(s, "deep", faint)) == 1
    assert not warnings_of(s, "deep", vacuum)


@pytest.mark.parametrize("length", [300, 1024])
@pytest.mark.parametrize("width", [3.0, 4.0, 5.0, 8.0, 12.0, 20.0])
def test_a_response_without_noise_has_no_few_electrons(width, length):
    """What its peak is taken for: it was told to hold 0.6 % of the electrons, and to be noisy."""
    for area in (1.0, 1e6):
        psf = area * gaussian(length, 140.2, width)
        assert not responses.remarks(psf, electrons=1e9)
        assert not responses.remarks(psf.astype(np.float32), electrons=1e9)


@pytest.mark.parametrize("width", [6.0, 12.0, 20.0])
@pytest.mark.parametrize("tail", [0.0, 0.3])
def test_noise_of_a_smooth_response_is_seen(width, tail):
    distance = (np.arange(512) - 140.2) / width
    shape = (1 - tail) * np.exp(-4 * np.log(2) * distance**2) + tail / (1 + 4 * distance**2)
    rng = np.random.default_rng(0)
    for _ in range(8):
        (told,) = responses.remarks(rng.poisson(1e5 * shape / shape.sum()), electrons=1e8)
        assert "of the electrons of a spectrum" in told


@pytest.mark.parametrize("electrons", [0.0949, 0.0951, 0.0999])
def test_a_share_of_electrons_is_told_in_plain_figures(electrons):
    psf = np.random.default_rng(3).poisson(1e5 * gaussian(300, 140.0, 12.0))
    own = responses.zero_loss_electrons(physics.inspect(psf[None]))[0]
    (told,) = responses.remarks(psf, electrons=own / electrons)
    assert re.match(r"psf holds about (9|10) % of the electrons", told)


@pytest.mark.parametrize(("position", "offset"), [(256.0, 2000), (40.0, 30)])
def test_a_flat_offset_is_no_cut_response(position, offset):
    """It is subtracted, be it read before the peak or behind it."""
    psf = 1.5e4 * gaussian(512, position, 12.0) + offset
    assert not responses.remarks(np.random.default_rng(0).poisson(psf))


def test_a_response_that_ends_on_its_flank_is_told_to(pair):
    s, vacuum = pair
    (told,) = warnings_of(s, "fourier", vacuum.isig[int(vacuum.data.argmax()) - 1 :])
    assert told.endswith(
        "psf is cut off on a flank of its peak, above half its height. Use a longer one."
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_a_map_of_one_response_is_one_for_all(make_signal, lazy):
    s, psf = make_signal(3), make_signal(1)
    one = psf.inav[0]
    results = [
        s.deep_deconvolve(psf=p, show_progressbar=False).data
        for p in (one, psf.as_lazy() if lazy else psf)
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_part_of_the_spectra_as_a_response_is_told_of(make_signal, method, shape):
    """With its losses it would take all of them out, without a word."""
    s = make_signal(*shape, channels=512)
    (told, *_) = warnings_of(s, method, s.isig[:200])
    assert "psf is a part of the spectra themselves" in told


def test_a_pixel_of_the_map_may_be_its_response(make_signal):
    s = make_signal(2, 3, channels=512)
    told = warnings_of(s, "deep", s.inav[0, 0].isig[:110])
    assert not any("part of the spectra" in text for text in told)
