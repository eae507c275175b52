"""What the array function promises, with the bundled weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exspy_deepdeconv import deconvolve, inference, models
from exspy_deepdeconv.estimate import forward
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.physics import EMPTY, NO_ZERO_LOSS, NOT_FINITE, find_zero_loss, gaussian
from exspy_deepdeconv.simulate import Detector, simulate

DISPERSION = 0.01


def low_loss(seed=0, channels=512, position=150.3, counts=1e6, shape=(), offset=3.0):
    """Zero-loss peak 10 channels wide, a narrow and a wide loss, both ends flat."""
    rng = np.random.default_rng(seed)
    mean = counts * (
        0.97 * gaussian(channels, position, 9.0) + 0.03 * gaussian(channels, position, 24)
    )
    mean = mean + counts * (
        0.02 * gaussian(channels, position + 40, 12.0)
        + 0.1 * gaussian(channels, position + 150, 60.0)
    )
    return rng.poisson(np.broadcast_to(mean + offset, shape + (channels,))).astype(float)


def loss_maximum(answer, position=150.3):
    return answer[..., int(position) + 15 :].max()


@pytest.mark.parametrize("gain_side", [False, True])
def test_lone_loss_near_the_peak_is_no_shoulder(gain_side):
    """Two zero-loss widths from the peak, 3 % as high: it stays. Alike on both sides, it goes."""
    channels, position, found = 512, 150.3, []
    peak = 0.95 * gaussian(channels, position, 9.0) + 0.05 * gaussian(channels, position, 27.0)
    bump = gaussian(channels, position + 19, 10.0)
    bump *= 0.03 * peak.max() / bump.max()
    if gain_side:
        bump = bump + bump[np.clip(2 * 150 - np.arange(channels), 0, channels - 1)]
    near = slice(int(position) + 10, int(position) + 29)
    for seed in range(3):
        counts = np.random.default_rng(seed).poisson(1e6 * (peak + bump) + 3.0)
        answer = deconvolve(counts, DISPERSION, resolution=0.025)
        found.append(answer[near].sum() / (1e6 * bump[near].sum()))
    assert max(found) < 0.3 if gain_side else min(found) > 0.7, found


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_scale_equivariance(factor):
    counts = low_loss()
    one, other = deconvolve(counts, DISPERSION), deconvolve(factor * counts, DISPERSION) / factor
    assert np.abs(other - one).max() < 1e-3 * loss_maximum(one)


def cut_37_channels_later(offset=0.0, seed=0):
    """Results of one spectrum cut twice from a longer one, where they overlap; and the difference."""
    longer = low_loss(seed, channels=1200, position=250.3, offset=offset)
    one, other = (
        deconvolve(longer[start : start + 1024], DISPERSION, resolution=0.03) for start in (0, 37)
    )
    # All but the ends, which hold other data.
    return one, np.abs(other[50:863] - one[87:900])


@pytest.mark.parametrize(("offset", "usual", "most"), [(0.0, 5e-4, 1e-3), (3.0, 1e-2, 5e-2)])
def test_shift_equivariance(offset, usual, most):
    """An offset is read from other channels after a shift, within its error."""
    changes = []
    for seed in range(9):  # noise changes it, too
        one, difference = cut_37_channels_later(offset, seed)
        changes.append(difference[180:].max() / loss_maximum(one, 250))  # beyond the zero-loss peak
        assert difference.max() < 1e-3 * one.max()
    assert np.median(changes) < usual and max(changes) < most


def test_shift_of_a_peak_between_two_channels():
    """Two highest channels alike: the grid must lock to the same one after a shift."""
    counts = np.round(1e6 * gaussian(1024, 300.5, 9.0) + 1e5 * gaussian(1024, 500, 40.0) + 3)
    assert counts[300] == counts[301]
    one = deconvolve(counts, DISPERSION, resolution=0.03)
    other = deconvolve(np.roll(counts, 37), DISPERSION, resolution=0.03)
    difference = np.abs(np.roll(other, -37) - one)[100:-100]
    assert difference.max() < 1e-3 * loss_maximum(one, 300)


@pytest.mark.parametrize("share", [1e-3, 3e-2, 0.5])
def test_flat_offset_stays_in_the_answer(share):
    counts = low_loss(channels=1024, position=300.3)
    level = share * counts.max()
    plain = deconvolve(counts, DISPERSION, resolution=0.03)
    raised = deconvolve(counts + level, DISPERSION, resolution=0.03)
    assert np.median(raised[20:200]) == pytest.approx(level, rel=0.05)
    difference = np.abs(raised - level - plain)[320:-50]
    assert difference.max() < 0.03 * loss_maximum(plain, 300)


@pytest.mark.parametrize("position", [15.3, 20.3, 30.3])
def test_cut_gain_side(position):
    """The elastic counts beyond the window are not made up by the rest of the circle."""
    counts = low_loss(position=position)
    rest, whole = (
        deconvolve(counts, DISPERSION, resolution=0.03, zero_loss=z) for z in (False, True)
    )
    assert (whole - rest).sum() == pytest.approx(1e6, rel=0.15)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), counts=st.floats(1e4, 1e8), resolution=st.floats(0.025, 0.08))
def test_counts_are_conserved_and_never_negative(seed, counts, resolution):
    data = low_loss(seed, counts=counts)
    answer = deconvolve(data, DISPERSION, resolution=resolution)
    assert answer.sum() == pytest.approx(data.sum(), rel=0.01)
    assert (answer >= 0).all()


def test_a_faint_spectrum_is_not_lost_because_its_readout_sums_to_less_than_nothing():
    """The sum of the data says nothing of the counts there: the result was multiplied by it, and was zero."""
    rng = np.random.default_rng(0)
    mean = 2000 * gaussian(4096, 400.0, 6.0)
    spectra = rng.poisson(np.broadcast_to(mean, (40, 4096))) + rng.normal(0, 20, (40, 4096))
    spectra -= spectra.mean(axis=-1, keepdims=True)  # all sums are zero, or hardly negative
    spectra[::2] -= 1e-3
    answers = deconvolve(spectra, DISPERSION, resolution=0.03)
    assert (answers.sum(axis=-1) > 1500).all()


@pytest.mark.parametrize("position", [100.0, 100.15, 100.3])
def test_a_response_is_fitted_to_three_channels_at_least(position):
    """To a single one any shift and any counts can be fitted: 1e30 times those of the data."""
    counts = 1e6 * gaussian(256, position, 1.1) + 2e5 * gaussian(256, 160.0, 20.0)
    arguments = {"model": models.load(), "resolution": 2.0}
    given = deconvolve_block(counts, psf=gaussian(201, 100.0, 1.1), **arguments)[0]
    blind = deconvolve_block(counts, **arguments)[0]
    assert np.isfinite(given).all() and given.sum() < 1.2 * blind.sum()


def test_sharpens_to_the_stated_resolution():
    answer = deconvolve(low_loss(), DISPERSION, resolution=0.03)
    assert float(find_zero_loss(answer).fwhm) == pytest.approx(3.0, rel=0.12)
    assert float(find_zero_loss(answer).position) == pytest.approx(150.3, abs=0.15)


def test_finer_resolution_smoothed_is_the_coarser_one():
    from exspy_deepdeconv.physics import smooth

    data = low_loss()
    fine, coarse = (deconvolve(data, DISPERSION, resolution=r) for r in (0.03, 0.06))
    smoothed = smooth(fine, np.sqrt(6.0**2 - 3.0**2))
    inner = slice(20, -20)
    assert np.abs(smoothed - coarse)[inner].max() < 0.01 * coarse.max()


def test_without_the_zero_loss_peak():
    data = low_loss()
    whole = deconvolve(data, DISPERSION, resolution=0.03)
    rest = deconvolve(data, DISPERSION, resolution=0.03, zero_loss=False)
    peak = whole - rest
    assert peak.sum() == pytest.approx(1e6, rel=0.03)
    assert abs(peak[200:]).max() < 1e-6 * whole.max()


def test_batches_do_not_matter():
    data = np.stack([low_loss(seed) for seed in range(5)]).reshape(5, 1, -1)
    together = deconvolve(data, DISPERSION, resolution=0.03)
    alone = [deconvolve(d, DISPERSION, resolution=0.03) for d in data]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-4 * together.max())
    small = deconvolve(data, DISPERSION, resolution=0.03, batch_size=2)
    np.testing.assert_allclose(small, together, atol=1e-4 * together.max())


def test_flagged_spectra():
    data = np.stack([low_loss(), np.zeros(512), np.full(512, 9.0), low_loss()])
    data[3, 7] = np.nan
    answer, flags = deconvolve_block(data, model=models.load(), resolution=3.0)
    assert flags.tolist() == [0, EMPTY, NO_ZERO_LOSS, NOT_FINITE]
    assert answer[0].sum() > 0 and not answer[1].any() and not answer[2].any()
    assert np.isnan(answer[3]).all()


def test_empty_blocks():
    answer, flags = deconvolve_block(np.zeros((0, 3, 256)), model=models.load(), resolution=3.0)
    assert answer.shape == (0, 3, 256) and flags.shape == (0, 3)


@pytest.mark.parametrize("dtype", ["u2", "i4", ">f4", "f2", "f8"])
def test_types_and_read_only_arrays(dtype):
    counts = low_loss(counts=2e4).astype(dtype)
    reference = deconvolve(counts.astype(float), DISPERSION)
    counts.setflags(write=False)
    before = counts.tobytes()
    answer = deconvolve(counts, DISPERSION)
    assert answer.dtype == np.float32 and counts.tobytes() == before
    np.testing.assert_allclose(answer, reference, atol=1e-5 * reference.max())


def test_measured_response():
    """With the response given, a doublet hidden in asymmetric tails comes out."""
    s = simulate("doublet", np.random.default_rng(3), 1024, detector=Detector())
    blind, given_ = (
        deconvolve(s.counts, s.dispersion, psf=psf) for psf in (None, 1e6 * s.psf[600:-600])
    )
    resolution = max(2.0, float(find_zero_loss(s.counts).fwhm) / 4)
    truth = s.truth(resolution)
    start = int(s.position + s.fwhm)
    errors = [np.linalg.norm((x - truth)[start:]) for x in (blind, given_)]
    raw = np.linalg.norm((s.counts - s.elastic - truth)[start:])
    assert max(errors) < raw
    assert errors[1] < 1.1 * errors[0]
    each = deconvolve(np.stack([s.counts] * 2), s.dispersion, psf=np.stack([s.psf] * 2))
    np.testing.assert_allclose(each[1], deconvolve(s.counts, s.dispersion, psf=s.psf), rtol=1e-3,
                               atol=1e-5 * each.max())  # fmt: skip


def test_response_narrower_than_the_peak_makes_no_losses():
    rng = np.random.default_rng(1)
    counts = rng.poisson(1e6 * gaussian(512, 150.3, 11.0) + 2.0).astype(float)
    narrow = 1e6 * gaussian(512, 256.0, 10.0)
    rest = deconvolve(counts, DISPERSION, psf=narrow, resolution=0.03, zero_loss=False)
    assert rest[165:].sum() - 2.0 * 347 < 2e-3 * counts.sum()


def test_user_state_is_left_alone():
    deconvolve(low_loss(), DISPERSION)
    assert float(torch.tensor([1e-310], dtype=torch.float64).mul(1.0)[0]) > 0
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spectra": np.ones(32)}, "at least 64 channels"),
        ({"spectra": np.ones(256, complex)}, "real numbers"),
        ({"spectra": np.ones((0, 256))}, "hold nothing"),
        ({"spectra": np.zeros(256)}, "The spectrum holds nothing but zeros"),
        ({"psf": np.ones(64, complex)}, "psf must be real numbers, not complex128"),
        ({"psf": np.array(["a"] * 64)}, "psf must be real numbers"),
        ({"dispersion": 0.0}, "dispersion"),
        ({"dispersion": np.inf}, "dispersion must be a positive number of eV, not inf"),
        ({"resolution": 0.5}, "resolution=0.5 eV is out of range"),
        ({"resolution": 1e-3}, "resolution=0.001 eV is out of range"),
        ({"model": "none"}, "model='none'"),
        ({"psf": np.zeros(64)}, "psf"),
        ({"psf": 5.0}, "psf has the shape"),
        ({"psf": np.linspace(9, 1, 32)}, "psf must hold a zero-loss peak.*inside"),
        ({"dispersion": "0.01"}, "dispersion must be a positive number of eV, not '0.01'"),
        ({"dispersion": None}, "dispersion must be a positive number of eV, not None"),
        ({"psf": np.ones((3, 64))}, "psf has the shape"),
        ({"psf_estimated": True}, "psf_estimated=True needs a psf"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"batch_size": True}, "batch_size=True"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"resolution": "0.03"}, "resolution='0.03'"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"model": 3}, "model=3"),
        ({"spectra": np.full(256, np.nan)}, "The spectrum holds NaN"),
    ],
)
def test_errors(arguments, message):
    arguments = {"spectra": low_loss(), "dispersion": DISPERSION} | arguments
    with pytest.raises(ValueError, match=message):
        deconvolve(**arguments)


@pytest.mark.parametrize("channel", [True, 0, -1, 1.5])
def test_zero_channel_lies_inside(channel):
    with pytest.raises(ValueError, match=f"zero_channel={channel}"):
        inference.estimate_response(low_loss(), zero_channel=channel)


def test_a_large_map_goes_to_a_graphics_card(monkeypatch, make_signal):
    """If there is one; a small map stays, and so does one that is told to."""
    asked = []
    monkeypatch.setattr(inference, "MANY_SPECTRA", 6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(True) and False)
    for shape, device, wanted in (((5,), None, False), ((6,), "cpu", False), ((6,), None, True)):
        asked.clear()
        result = make_signal(*shape).deep_deconvolve(device=device, show_progressbar=False)
        assert bool(asked) == wanted
        assert np.isfinite(result.data).all()


@pytest.mark.gpu
def test_a_graphics_card_gives_the_same(make_signal):
    s = make_signal(8, 8)
    here, there = (s.deep_deconvolve(device=d, show_progressbar=False) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(there.data, here.data, atol=1e-3 * here.data.max())


def test_newer_switches_of_torch_do_not_matter():
    """Once they are set, torch refuses to tell of the older one."""
    want, before = deconvolve(low_loss(), DISPERSION), torch.backends.fp32_precision
    try:
        torch.backends.fp32_precision = "tf32"
        found = deconvolve(low_loss(), DISPERSION)
    finally:
        torch.backends.fp32_precision = before
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-3 * want.max())


@pytest.mark.skipif(not forward.has_bfloat16(), reason="the processor has no bfloat16")
def test_lower_precision_where_torch_was_told_so():
    spectrum = low_loss()

    def made():
        return np.stack(deconvolve(spectrum, DISPERSION, return_interval=True))

    want, before = made(), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = made()
    finally:
        torch.set_float32_matmul_precision(before)
    assert not np.array_equal(found, want)
    assert np.abs(found[0] - want[0]).max() < 0.02 * want[0].max()
    assert np.abs(found - want).max() < 0.2 * want.max()
    np.testing.assert_array_equal(made(), want)


def few_electrons(counts):
    return np.random.default_rng(1).poisson(counts / 2e4).astype(float)


@pytest.mark.parametrize(
    ("spectra", "psf", "words"),
    [
        (low_loss(position=8.0), None, "the gain side of the zero-loss peak"),
        (few_electrons(low_loss(shape=(9,))), None, "fewer than any in the training"),
        (low_loss(shape=(9,), offset=0.0) - 60.0, None, "since it is negative, it is subtracted"),
        (low_loss(), 1e6 * gaussian(31, 15.0, 9.0), "psf is cut off"),
        (low_loss(), np.minimum(1e6 * gaussian(200, 99.0, 9.0), 4e4), "saturated"),
    ],
    ids=["gain side", "few electrons", "negative offset", "short response", "saturated response"],
)
def test_what_is_odd_is_told_as_by_the_method(spectra, psf, words):
    with pytest.warns(UserWarning) as heard:
        deconvolve(spectra, DISPERSION, psf=psf)
    told = [w for w in heard if words in str(w.message)]
    assert len(told) == 1 and str(told[0].message).startswith("deconvolve: ")
    assert told[0].filename == __file__


def test_the_spectra_are_no_response_of_their_own():
    spectra = low_loss()
    for psf in (spectra, spectra.copy(), spectra / spectra.sum(axis=-1, keepdims=True)):
        with pytest.raises(ValueError, match="psf is the signal itself"):
            deconvolve(spectra, DISPERSION, psf=psf)


def test_masked_channels_are_not_counts():
    spectra = np.ma.array(low_loss(shape=(2,)))
    spectra[1, 300] = 1e9
    spectra[1, 300] = np.ma.masked
    with pytest.warns(UserWarning, match="of 2 spectra 1 not finite"):
        answer = deconvolve(spectra, DISPERSION)
    assert np.isnan(answer[1]).all() and np.isfinite(answer[0]).all()
    responses = inference.estimate_response(spectra)
    assert np.isnan(responses[1]).all() and np.isfinite(responses[0]).all()


def test_masked_channels_of_a_response_are_not_counts():
    response = np.ma.array(1e6 * gaussian(256, 128.0, 9.0))
    response[200] = 1e9
    response[200] = np.ma.masked
    with pytest.raises(ValueError, match="psf must be finite"):
        deconvolve(low_loss(), DISPERSION, psf=response)


def test_a_stack_of_one_response_is_one_for_all():
    spectra = np.random.default_rng(0).poisson(1e5 * gaussian(256, 60.0, 8.0), (3, 256))
    psf = gaussian(128, 60.0, 8.0)
    results = [inference.deconvolve(spectra, 0.01, p) for p in (psf, psf[None])]
    np.testing.assert_array_equal(*results)


def test_spectra_without_a_response_of_their_own_do_not_stop_the_others(make_signal):
    """As the method of the signals: zeros or NaN for them, counted in the warning."""
    s = make_signal(2, 3)
    s.data[0, 1], s.data[1, 0, 7] = 0, np.nan
    psf = inference.estimate_response(s.data)
    psf[1, 2] = 0  # an estimate may lack where a spectrum is usable, too
    signal = s.deepcopy()
    signal.data = psf
    signal.metadata.Signal.psf_estimation = {"channels": 256}
    for estimated in (True, False):
        with pytest.warns(UserWarning, match="of 6 spectra 1 empty .*1 without .*1 not finite"):
            results = deconvolve(s.data, 0.01, psf, psf_estimated=estimated, return_interval=True)
        for result in results:
            assert result.dtype == np.float32
            assert not result[0, 1].any() and not result[1, 2].any()
            assert np.isnan(result[1, 0]).all()
            assert (result[0, 0].sum() > 0) and np.isfinite(result[0, 2]).all()
    with pytest.warns(UserWarning, match="of 6 spectra 1 empty .*1 without .*1 not finite"):
        wanted = s.deep_deconvolve(psf=signal, show_progressbar=False).data
    found = deconvolve(s.data, 0.01, psf, psf_estimated=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.nanmax(wanted))


def test_responses_of_which_none_is_usable():
    spectra = low_loss(shape=(2,))
    for psf in (np.zeros((2, 64)), np.full((2, 64), np.nan)):
        with pytest.raises(ValueError, match="psf must hold a zero-loss peak"):
            deconvolve(spectra, DISPERSION, psf=psf)
