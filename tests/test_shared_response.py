"""A response that the spectra of a map share, and where it is not theirs."""

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import deconvolve, energy_axis

from exspy_deepdeconv import data, models
from exspy_deepdeconv import deconvolve as deconvolve_array
from exspy_deepdeconv._widget.interactive import DeepDeconvolution
from exspy_deepdeconv.estimate import batched, choice
from exspy_deepdeconv.estimate.quietest import quietest_sum
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.inference import estimate_response
from exspy_deepdeconv.physics import PSF_MISFIT, gaussian
from exspy_deepdeconv.simulate import simulate


@pytest.fixture(scope="module")
def rod():
    """A map that shows less of its losses in some places, its response and its truth."""
    s = data.plasmonic_map(shape=(10, 10))
    return s, s.estimate_psf(shared=True)


def median_errors(result, signal):
    """Loss and near errors against the truth, medians over the map."""
    resolution = result.metadata.Signal.deep_deconvolution.resolution
    channels = resolution / energy_axis(signal).scale
    made = data.simulations(signal.metadata.Simulation.as_dictionary())
    spectra = result.data.reshape(len(made), -1)
    found = [errors(x, y, channels) for x, y in zip(spectra, made, strict=True)]
    return np.median([[each.loss, each.near] for each in found], axis=0)


def test_shared_response_finds_what_single_spectra_take_for_tail(rod):
    s, psf = rod
    blind, near_blind = median_errors(deconvolve(s), s)
    shared, near_shared = median_errors(deconvolve(s, psf=psf), s)
    assert shared < 0.7 * blind
    assert near_shared < 0.5 * near_blind


def test_shared_response_is_one_and_tells_where_it_is_from(rod):
    s, psf = rod
    assert psf.data.shape == (1024,)
    assert psf.data.sum() == pytest.approx(1, rel=1e-5)
    assert energy_axis(psf).axis[psf.data.argmax()] == pytest.approx(0, abs=1e-9)
    where = psf.metadata.Signal.psf_estimation.shared
    assert where.shape == s.data.shape[:-1]
    assert where.sum() == 10  # a tenth
    assert not where[5, 3:7].any()  # none on the rod


@pytest.mark.parametrize("lazy", [False, True])
def test_shared_response_of_falling_axes_and_lazy_maps(rod, lazy):
    s, psf = rod
    falling = s.deepcopy()
    falling.data = np.ascontiguousarray(s.data[..., ::-1])
    energy_axis(falling).scale *= -1
    falling = falling.as_lazy() if lazy else falling
    found = falling.estimate_psf(shared=True)
    assert not found._lazy
    np.testing.assert_allclose(found.data[::-1], psf.data, atol=1e-7)
    assert energy_axis(found).axis[found.data.argmax()] == pytest.approx(0, abs=1e-9)


def test_intervals_of_an_estimated_response_are_no_narrower_than_blind_ones(rod):
    """It is known no better than from the spectra: a measured one makes them narrower."""
    s, psf = rod
    as_measured = psf.deepcopy()
    del as_measured.metadata.Signal.psf_estimation
    start = int(energy_axis(s).value2index(0.3))
    trusted, estimated, blind = (
        np.median(np.subtract(*(x.data for x in results[:0:-1]))[..., start:])
        for results in (
            deconvolve(s, psf=p, return_interval=True) for p in (as_measured, psf, None)
        )
    )
    assert trusted < 0.8 * estimated
    assert blind < estimated


def test_shared_response_of_a_map_with_unusable_spectra(rod):
    s, psf = rod
    spoilt = s.deepcopy()
    spoilt.data[0, 0], spoilt.data[0, 1] = 0, np.nan
    found = spoilt.estimate_psf(shared=True)
    assert not found.metadata.Signal.psf_estimation.shared[0, :2].any()
    np.testing.assert_allclose(found.data, psf.data, atol=0.01 * psf.data.max())


def test_dark_spectra_are_not_the_quietest():
    """Their few electrons may well leave the losses empty."""
    mean = 1e5 * gaussian(512, 100.0, 8.0) + 2e4 * gaussian(512, 150.0, 12.0)
    dark, scale = [3, 11, 25, 38], np.ones((40, 1))
    scale[dark] = 2e-3
    _, rows = quietest_sum(np.random.default_rng(0).poisson(scale * mean))
    assert len(rows) == 4 and not set(rows.tolist()) & set(dark)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_shared_response_of_a_single_spectrum_is_its_own(make_signal, shape):
    """There is nothing to share: a warning says so, and the metadata do not claim it."""
    s = make_signal(*shape)
    own = s.estimate_psf(show_progressbar=False)
    with pytest.warns(UserWarning, match="nothing to share") as warned:
        shared = s.estimate_psf(shared=True)
    assert [w.filename for w in warned] == [__file__]
    assert not shared.metadata.has_item("Signal.psf_estimation.shared")
    assert energy_axis(own).offset == energy_axis(shared).offset
    np.testing.assert_allclose(shared.data, own.data.ravel(), atol=2e-3 * own.data.max())


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_shared_response_that_was_saved_is_known_as_estimated(make_signal, shape, tmp_path):
    s = make_signal(*shape)
    psf = s.estimate_psf(shared=True)
    for path in (tmp_path / "psf.hspy", tmp_path / "psf.zspy"):
        psf.save(path)
        loaded = hs.load(path)
        np.testing.assert_array_equal(
            loaded.metadata.Signal.psf_estimation.shared, psf.metadata.Signal.psf_estimation.shared
        )
        result = deconvolve(s, psf=loaded)
        assert result.metadata.Signal.deep_deconvolution.psf == "estimated beforehand: simulated"
        np.testing.assert_array_equal(result.data, deconvolve(s, psf=psf).data)


def test_shared_response_of_arrays(rod):
    s, psf = rod
    response = estimate_response(s.data, shared=True, zero_channel=int(psf.data.argmax()))
    np.testing.assert_allclose(response, psf.data, atol=1e-6)
    dispersion = energy_axis(s).scale
    result = deconvolve_array(s.data, dispersion, response, psf_estimated=True)
    np.testing.assert_allclose(result, deconvolve(s, psf=psf).data, rtol=1e-4, atol=0.1)


def test_shared_response_of_large_arrays_is_read_off_as_many_spectra_as_of_large_maps(make_signal):
    s = make_signal(1500, channels=128, fwhm=6.0, position=30.0)
    psf = s.estimate_psf(shared=True)
    response = estimate_response(s.data, shared=True, zero_channel=int(psf.data.argmax()))
    np.testing.assert_allclose(response, psf.data, atol=1e-6)
    assert psf.metadata.Signal.psf_estimation.shared.sum() == 102  # a tenth of those that are read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: setattr(s, "data", s.data[:0]), "holds no spectra"),
        (
            lambda s: s.data.__setitem__(Ellipsis, np.minimum(s.data, 1e3)),
            "zero-loss peak that is not saturated",
        ),
    ],
)
def test_shared_response_refuses(make_signal, change, message):
    s = make_signal(3)
    change(s)
    s.axes_manager[0].size = len(s.data)
    with pytest.raises(ValueError, match=message):
        s.estimate_psf(shared=True)
    with pytest.raises(ValueError, match="lazy_output=True: a shared response"):
        s.estimate_psf(shared=True, lazy_output=True)
    with pytest.raises(ValueError, match="shared='yes' must be True or False"):
        make_signal(3).estimate_psf(shared="yes")


def test_intervals_of_a_shared_response_hold_the_truth(rod):
    s, psf = rod
    result, low, high = deconvolve(s, psf=psf, return_interval=True)
    true = data.truth(s, result.metadata.Signal.deep_deconvolution.resolution).data
    start = int(energy_axis(s).value2index(0.12))
    inside = (low.data <= true) & (true <= high.data)
    assert inside[..., start:].mean() > 0.87


def test_a_hot_channel_of_all_spectra_is_no_reason_to_refuse(rod):
    s, psf = rod
    hot = s.deepcopy()
    hot.data[..., 800] = 0.1 * s.data.max()
    found = hot.estimate_psf(shared=True)
    np.testing.assert_allclose(found.data, psf.data, atol=0.02 * psf.data.max())


def test_shared_response_reads_a_lazy_map_once(make_signal):
    s, read = make_signal(3, 4), []

    def counted(block, block_info):
        read.append(block_info[0]["chunk-location"])
        return block

    lazy = s.as_lazy()
    blocks = da.from_array(s.data, chunks=(1, 2, -1))
    lazy.data = blocks.map_blocks(counted, dtype=blocks.dtype, meta=blocks._meta)
    found = lazy.estimate_psf(shared=True, show_progressbar=False)
    assert sorted(read) == [(row, column, 0) for row in range(3) for column in range(2)]
    np.testing.assert_array_equal(found.data, s.estimate_psf(shared=True).data)


def test_shared_response_of_arrays_reaches_as_far_as_the_spectra_do():
    """What it lacks would count as losses: its tail was cut off where the spectra go on."""
    rng = np.random.default_rng([777, 6])
    simulation = simulate("gap", rng, channels=512)
    spectra = rng.poisson(100 * simulation.elastic, (20, 512))
    response = estimate_response(spectra, shared=True)
    assert response.argmax() == pytest.approx(simulation.position, abs=1)
    end = simulation.elastic[-50:].sum() / simulation.elastic.sum()
    assert response[-50:].sum() == pytest.approx(end, rel=0.2)


@pytest.fixture
def focused(make_signal):
    """A map whose zero-loss peaks are ten channels wide, twelve in six quiet spectra."""
    s, wide = make_signal(3, 8, fwhm=10.0), make_signal(3, 8, fwhm=12.0, seed=1)
    s.data[0, :6] = wide.data[0, :6]
    s.data[0, :6, 90:] = np.random.default_rng(2).poisson(2.0, (6, 166))  # no losses
    return s, s.estimate_psf(shared=True)


@pytest.mark.parametrize("lazy", [False, True])
def test_spectra_of_another_width_keep_their_own_response(focused, lazy):
    s, psf = focused
    other = np.ones((3, 8), bool)
    other[0, :6] = False
    assert not psf.metadata.Signal.psf_estimation.shared[other].any()
    blind = deconvolve(s)
    signal = s.as_lazy() if lazy else s
    with pytest.warns(
        UserWarning, match="of 24 spectra 18 that the psf does not fit .the response found"
    ):
        result = signal.deep_deconvolve(psf=psf, show_progressbar=False)
        result.compute(show_progressbar=False) if lazy else None
    np.testing.assert_array_equal(result.data[other], blind.data[other])
    assert not np.isclose(result.data[~other], blind.data[~other]).all()
    flags = result.metadata.Signal.deep_deconvolution.flags
    if not lazy:
        assert flags.psf_misfit == 18
        np.testing.assert_array_equal(flags.maps.psf_misfit, other)
    assert not deconvolve(s).metadata.Signal.deep_deconvolution.flags.has_item("psf_misfit")


@pytest.mark.filterwarnings("ignore:deep_deconvolve. of 24")
def test_the_residual_takes_the_response_that_the_result_was_made_with(focused):
    s, psf = focused
    result = deconvolve(s, psf=psf)
    _, chi2, _ = s.deconvolution_residual(result, psf, return_maps=True, show_progressbar=False)
    assert chi2.data.max() < 1.7
    as_measured = psf.deepcopy()
    del as_measured.metadata.Signal.psf_estimation
    _, chi2, _ = s.deconvolution_residual(
        result, as_measured, return_maps=True, show_progressbar=False
    )
    assert chi2.data[1:].min() > 2


def test_the_residual_takes_no_other_response_where_the_shared_one_fits_all(rod):
    """Not even where another one happens to leave less."""
    s, psf = rod
    result = deconvolve(s, psf=psf)
    assert result.metadata.Signal.deep_deconvolution.flags.psf_misfit == 0
    as_measured = psf.deepcopy()
    del as_measured.metadata.Signal.psf_estimation
    left, wanted = (
        s.deconvolution_residual(result, p, show_progressbar=False) for p in (psf, as_measured)
    )
    np.testing.assert_array_equal(left.data, wanted.data)


@pytest.mark.filterwarnings("ignore:deep_deconvolve. of 24", "ignore:.*result was made with a psf")
@pytest.mark.parametrize("kind", ["map", "lazy", "falling", "line", "pixel"])
def test_the_residual_takes_for_each_spectrum_the_response_that_it_was_made_with(focused, kind):
    """Not the one that happens to leave less."""
    s, psf = focused
    s = {"line": s.inav[:, 0], "pixel": s.inav[7, 0]}.get(kind, s)
    if kind == "falling":
        s.data = np.ascontiguousarray(s.data[..., ::-1])
        energy_axis(s).scale *= -1
    result = deconvolve(s, psf=psf)
    own = np.asarray(
        result.metadata.Signal.deep_deconvolution.flags.get_item("maps.psf_misfit", True)
    )
    s = s.as_lazy() if kind == "lazy" else s
    as_measured = psf.deepcopy()
    del as_measured.metadata.Signal.psf_estimation
    found, shared, blind = (
        np.asarray(s.deconvolution_residual(result, p, show_progressbar=False).data)
        for p in (psf, as_measured, None)
    )
    np.testing.assert_array_equal(found, np.where(own[..., None], blind, shared))


CUTS = {
    "crop": lambda s: s.inav[3:, 1:],
    "flip": lambda s: s.inav[::-1],
    "every other": lambda s: s.inav[1::2],
    "both": lambda s: s.inav[::-1, ::-1].inav[:4],
}


@pytest.mark.filterwarnings("ignore:deep_deconvolve. of 24", "ignore:.*result was made with a psf")
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_the_residual_of_a_part_takes_the_responses_of_that_part(focused, cut):
    s, psf = focused
    result = deconvolve(s, psf=psf)
    whole = s.deconvolution_residual(result, psf, show_progressbar=False)
    part = cut(s).deconvolution_residual(cut(result), psf, show_progressbar=False)
    # Offset and noise are read from fewer spectra: nearly the same.
    np.testing.assert_allclose(part.data, cut(whole).data, atol=0.1)
    # A calibration of the map moves no pixel.
    for signal in (s, result):
        signal.axes_manager[0].scale, signal.axes_manager[0].offset = 0.3, 5.0
    again = s.deconvolution_residual(result, psf, show_progressbar=False)
    np.testing.assert_array_equal(again.data, whole.data)


@pytest.mark.filterwarnings("ignore:deep_deconvolve. of 24")
def test_preview_takes_the_response_that_the_result_is_made_with(focused):
    s, psf = focused
    tool = DeepDeconvolution(s, psf=psf, return_interval=True, show_progressbar=False)
    tool.show_residual = True
    results = deconvolve(s, tool.resolution, psf, return_interval=True)
    residual = s.deconvolution_residual(results[0], psf, show_progressbar=False)
    for column, row, remark in (
        (0, 0, ""),
        (4, 2, "Spectrum that the psf does not fit"),
    ):
        s.axes_manager.indices = (column, row)
        shown = tool.preview
        for got, want in zip((shown.result, shown.lower, shown.upper), results, strict=True):
            top = want.data[row, column].max()
            np.testing.assert_allclose(got, want.data[row, column], atol=1e-5 * top)
        np.testing.assert_allclose(shown.residual, residual.data[row, column], atol=2e-3)
        assert shown.remark.startswith(remark) and bool(shown.remark) == bool(remark)


@pytest.mark.filterwarnings("ignore:deep_deconvolve. a spectrum")
@pytest.mark.parametrize(
    ("width", "remark"),
    [
        (10.0, ""),
        (9.0, "with a zero-loss peak wider than the psf"),
        (11.0, "that the psf does not fit"),
    ],
)
def test_preview_judges_a_measured_response_as_the_result_does(make_signal, width, remark):
    s, psf = make_signal(), make_signal()
    psf.data = np.random.default_rng(5).poisson(1e7 * gaussian(256, 60.0, width))
    tool = DeepDeconvolution(s, psf=psf, return_interval=True, show_progressbar=False)
    tool.show_residual = True
    results = deconvolve(s, tool.resolution, psf, return_interval=True)
    residual = s.deconvolution_residual(results[0], psf, show_progressbar=False)
    shown = tool.preview
    for got, want in zip((shown.result, shown.lower, shown.upper), results, strict=True):
        np.testing.assert_allclose(got, want.data, atol=1e-5 * want.data.max())
    np.testing.assert_allclose(shown.residual, residual.data, atol=2e-3)
    assert remark in shown.remark and bool(shown.remark) == bool(remark)


@pytest.mark.parametrize("fails", ["shared", "own"])
def test_a_result_that_is_not_finite_is_never_the_better_one(make_signal, monkeypatch, fails):
    s = make_signal(fwhm=10.0)
    psf = estimate_response(s.data)
    if fails == "own":  # a psf that leads to a result that does not explain the data
        psf = np.roll(psf, 40) + psf
    usual = choice.answers

    def answers(answer, seen, good, spectra, *others):
        found = usual(answer, seen, good, spectra, *others)
        return found * np.nan if (spectra.psf is None) == (fails == "own") else found

    monkeypatch.setattr(choice, "answers", answers)
    estimate, flags = batched.deconvolve_block(
        s.data, model=models.load(), resolution=2.5, psf=psf, estimated=True
    )
    assert np.isfinite(estimate).all()
    assert bool(flags & PSF_MISFIT) is (fails == "shared")
