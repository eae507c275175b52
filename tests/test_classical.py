"""classical.py against exspy's and SciPy's own results and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import nnls

from exspy_deepdeconv import classical
from exspy_deepdeconv.classical import image_space_reconstruction, richardson_lucy
from exspy_deepdeconv.physics import Noise, gaussian, smooth
from exspy_deepdeconv.simulate import simulate
from exspy_deepdeconv.solvers.stopping import COUNTS, loss_region

METHODS = {
    "rl": lambda spectra, psf, **more: classical.richardson_lucy(spectra, psf, 5, **more),
    "rl auto": lambda spectra, psf, **more: classical.richardson_lucy(spectra, psf, "auto", **more),
    "ml": lambda spectra, psf, **more: classical.image_space_reconstruction(
        spectra, psf, 5, **more
    ),
    "fourier": lambda spectra, psf, **more: classical.fourier_ratio(spectra, psf, 4.0, **more),
    "tgv": lambda spectra, psf, **more: classical.total_generalised_variation(
        spectra, psf, 0.5, **more
    ),
}
EACH_METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@pytest.fixture
def blurred():
    """Two lines behind a zero-loss peak, noise included; and the response."""
    rng = np.random.default_rng(0)
    psf = gaussian(512, 256.0, 9.0) + 0.05 * gaussian(512, 262.0, 20.0)
    truth = np.zeros(512)
    truth[[150, 300, 340]] = 1e5, 3e3, 2e3
    mean = np.convolve(truth, psf / psf.sum(), mode="same")
    return rng.poisson(np.roll(mean, 1) + 5.0).astype(float), psf


# Beside exspy


def test_equals_exspy(blurred):
    """exspy centres a response on its highest channel, we on the vertex of its peak."""
    from exspy.signals import EELSSpectrum

    counts, psf = blurred
    signal, response = EELSSpectrum(counts), EELSSpectrum(psf)
    theirs = signal.richardson_lucy_deconvolution(response, 15, show_progressbar=False).data
    ours = richardson_lucy(counts, psf, 15)
    middle = slice(60, -60)
    assert np.abs(ours - theirs)[middle].max() < 0.02 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=1e-3)


@pytest.mark.parametrize("tail", [0.0, 1e-3])
def test_equals_exspy_for_a_response_centred_on_a_channel(tail):
    """A response with far tails needs all its length, one without is cut short."""
    from exspy.signals import EELSSpectrum

    rng = np.random.default_rng(1)
    channel = np.arange(512)
    psf = gaussian(512, 256.0, 9.0) + tail / (1 + ((channel - 256) / 9.0) ** 2)
    counts = rng.poisson(1e5 * gaussian(512, 200.0, 10.0) + 2e3 * gaussian(512, 260.0, 15.0) + 20)
    counts = counts.astype(float)
    # exspy pads with zeros: a response that reaches over the whole window feels the difference.
    counts[:60] = counts[-60:] = 0 if tail else counts[:60]
    theirs = EELSSpectrum(counts).richardson_lucy_deconvolution(
        EELSSpectrum(psf), 15, show_progressbar=False
    )
    middle = slice(100, -100)
    difference = np.abs(richardson_lucy(counts, psf, 15) - theirs.data)[middle]
    assert difference.max() < 1e-5 * theirs.data.max()


# Known answers


def test_resolves_a_doublet_without_noise():
    psf = gaussian(256, 128.0, 12.0)
    counts = 1e4 * (gaussian(256, 121.0, 12.5) + gaussian(256, 130.0, 12.5))
    assert counts[125:127].min() > counts[121]  # one hump
    sharp = richardson_lucy(counts, psf, 2000)
    peaks = np.flatnonzero((sharp[1:-1] > sharp[:-2]) & (sharp[1:-1] > sharp[2:])) + 1
    tallest = sorted(peaks[np.argsort(sharp[peaks])[-2:]])
    assert tallest == pytest.approx([121, 130], abs=1)


def test_image_space_reconstruction_goes_to_the_non_negative_least_squares():
    rng = np.random.default_rng(3)
    psf = gaussian(33, 16.0, 4.0)
    truth = np.zeros(96)
    truth[[40, 47, 60]] = 500.0, 300.0, 800.0
    blur = np.array([np.convolve(row, psf, mode="same") for row in np.eye(96)]).T
    counts = blur @ truth + rng.normal(0, 3.0, 96)
    best = nnls(blur, np.maximum(counts, 0))[1] ** 2
    fits = [
        np.sum((blur @ image_space_reconstruction(counts, psf, count) - np.maximum(counts, 0)) ** 2)
        for count in (10, 100, 10_000)
    ]
    assert fits[0] > fits[1] > fits[2]
    assert best <= fits[2] * (1 + 1e-9) and fits[2] < 1.05 * best


def test_richardson_lucy_climbs_the_poisson_likelihood():
    rng = np.random.default_rng(4)
    psf = gaussian(65, 32.0, 8.0)
    mean = 1e4 * gaussian(256, 100.0, 9.0) + 2e3 * gaussian(256, 150.0, 14.0)
    counts = rng.poisson(mean).astype(float)
    likelihoods = []
    for estimate in classical.richardson_lucy_iterates(counts, psf, [1, 3, 10, 30, 100]):
        model = np.maximum(np.convolve(estimate, psf / psf.sum(), mode="same"), 1e-12)
        likelihoods.append(np.sum(counts * np.log(model) - model))
    assert (np.diff(likelihoods) > 0).all()


# Invariants


def test_counts_are_conserved(blurred):
    counts, psf = blurred
    assert richardson_lucy(counts, psf, 50).sum() == pytest.approx(counts.sum(), rel=1e-3)


def test_counts_are_conserved_exactly_where_the_ends_are_empty():
    rng = np.random.default_rng(5)
    counts = rng.poisson(1e4 * gaussian(400, 200.0, 20.0)).astype(float)
    assert not counts[:100].any() and not counts[-100:].any()
    total = richardson_lucy(counts, gaussian(65, 32.0, 12.0), 20).sum()
    assert total == pytest.approx(counts.sum(), rel=1e-9)


@pytest.mark.parametrize("method", [richardson_lucy, image_space_reconstruction])
@pytest.mark.parametrize("factor", [1e-24, 1e20])
def test_automatic_stop_in_single_precision(blurred, method, factor):
    """Squares of what single precision holds are beyond it: the iteration stopped at the first."""
    counts, psf = blurred
    found = [
        method((scale * counts).astype(np.float32), psf, "auto", return_chosen=True)[1]
        for scale in (1.0, factor)
    ]
    assert found[0] == found[1] > 1


@EACH_METHOD
@pytest.mark.parametrize("factor", [1e-6, 37.5])
def test_scale_equivariance(blurred, method, factor):
    counts, psf = blurred
    one, other = method(counts, psf), method(factor * counts, psf)
    np.testing.assert_allclose(other, factor * one, rtol=1e-5, atol=1e-6 * factor * one.max())


@EACH_METHOD
@settings(max_examples=8)
@given(
    data=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int32, np.uint8]),
        hnp.array_shapes(min_dims=1, max_dims=1, min_side=96, max_side=96),
        elements=st.integers(0, 200),
    ),
    peak=st.integers(0, 100_000),
    offset=st.integers(-100, 100),
)
def test_any_input_gives_finite_and_non_negative_answers(method, data, peak, offset):
    psf = gaussian(31, 15.0, 5.0)
    spectrum = data
    if data.dtype != np.uint8:
        spectrum = (data + offset + peak * gaussian(96, 30.0, 5.0)).astype(data.dtype)
    estimate = method(spectrum, psf)
    assert estimate.shape == data.shape
    assert estimate.dtype == (np.float32 if data.dtype == np.float32 else np.float64)
    assert np.isfinite(estimate).all() and (estimate >= 0).all()


@EACH_METHOD
def test_empty_and_readout_noise_spectra(blurred, method):
    counts, psf = blurred
    rng = np.random.default_rng(6)
    spectra = np.stack([counts - 40.0, np.zeros(512), -np.ones(512), rng.normal(0, 3, 512)])
    estimates = method(spectra, psf)
    assert np.isfinite(estimates).all() and (estimates >= 0).all()
    assert not estimates[1].any() and not estimates[2].any()


@EACH_METHOD
def test_batches_shapes_and_types(blurred, method):
    counts, psf = blurred
    one = method(counts, psf)
    stack = method(np.stack([counts, 2 * counts]).reshape(1, 2, -1), psf)
    np.testing.assert_allclose(stack[0, 0], one, rtol=1e-6, atol=1e-6 * one.max())
    np.testing.assert_allclose(stack[0, 1], 2 * one, rtol=1e-5, atol=1e-5 * one.max())
    single = method(counts.astype(np.float32), psf)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, one, atol=1e-4 * one.max())
    assert method(counts.astype(np.uint16), psf).dtype == np.float64
    each = method(np.stack([counts, counts]), np.stack([psf, psf[::-1]]))
    np.testing.assert_allclose(each[0], one, rtol=1e-6, atol=1e-6 * one.max())
    assert np.abs(each[1] - one).max() > 1e-3 * one.max()


@pytest.mark.parametrize("method", [METHODS[name] for name in ("fourier", "tgv")])
def test_noise_of_navigation_shape(blurred, method):
    counts, psf = blurred
    noise = Noise(np.array([1.0, 50.0]), np.array([0.1, 50.0]))
    estimates = method(np.stack([counts, counts]), psf, noise=noise)
    one = method(counts, psf, noise=Noise(np.array(1.0), np.array(0.1)))
    np.testing.assert_allclose(estimates[0], one, rtol=1e-6, atol=1e-6 * one.max())


@pytest.mark.parametrize("length", [41, 100, 2000])
@EACH_METHOD
def test_response_of_any_length_and_area(blurred, length, method):
    counts, _ = blurred
    short = gaussian(length, length // 2, 9.0)
    reference = method(counts, gaussian(512, 256.0, 9.0))
    np.testing.assert_allclose(
        method(counts, 77 * short), reference, rtol=1e-3, atol=2e-4 * reference.max()
    )


@EACH_METHOD
def test_not_finite_spectra_do_not_spoil_their_neighbours(blurred, method):
    counts, psf = blurred
    broken = counts.copy()
    broken[10] = np.nan
    estimates = method(np.stack([broken, counts]), psf)
    one = method(counts, psf)
    np.testing.assert_allclose(estimates[1], one, rtol=1e-6, atol=1e-6 * one.max())
    assert np.isnan(estimates[0]).all()


# When to stop


@EACH_METHOD
def test_masked_channels_are_not_counts(blurred, method):
    """They make a spectrum not finite; of a response they are no part that could be left out."""
    counts, psf = blurred
    spectra, response = np.ma.array(np.stack([counts, counts])), np.ma.array(psf)
    for array, place in ((spectra, (1, 400)), (response, 400)):
        array[place] = 1e9
        array[place] = np.ma.masked
    answer = method(spectra, psf)
    assert np.isnan(answer[1]).all()
    np.testing.assert_array_equal(answer[0], method(counts, psf))
    with pytest.raises(ValueError, match="psf must be finite"):
        method(counts, response)


def test_stops_later_where_there_are_more_counts():
    rng = np.random.default_rng(7)
    psf = gaussian(512, 256.0, 10.0)
    mean = gaussian(512, 100.0, 10.0) + 0.02 * (
        gaussian(512, 200.0, 11.0) + gaussian(512, 212.0, 11.0)
    )
    counts = np.stack([rng.poisson(total * mean) for total in (1e4, 1e6, 1e8)])
    chosen = richardson_lucy(counts, psf, "auto", return_chosen=True)[1]
    assert chosen[0] < chosen[1] < chosen[2]
    assert set(chosen) <= set(COUNTS)


@pytest.mark.parametrize("method", [richardson_lucy, image_space_reconstruction])
def test_automatic_answer_is_that_of_the_chosen_number(blurred, method):
    counts, psf = blurred
    estimate, chosen = method(counts, psf, "auto", return_chosen=True)
    assert chosen.shape == ()
    expected, same = method(counts, psf, int(chosen), return_chosen=True)
    assert same == chosen
    np.testing.assert_allclose(estimate, expected, rtol=1e-9)


def test_automatic_number_is_about_the_best():
    """Errors beyond the zero-loss peak beside those of the best of all numbers."""
    costs = []
    for seed in range(24):
        family = ("plasmonic", "gap", "doublet", "bulk")[seed % 4]
        simulation = simulate(family, np.random.default_rng([32, seed]), 512)
        counts, resolution = simulation.counts, simulation.fwhm / 4
        truth, start = simulation.truth(resolution), int(simulation.position + simulation.fwhm) + 1

        def error(estimate, truth=truth, start=start, resolution=resolution):
            return np.linalg.norm((smooth(estimate, resolution) - truth)[start:])

        iterates = classical.richardson_lucy_iterates(counts, simulation.psf, COUNTS)
        best = min(error(estimate) for estimate in iterates)
        costs.append(error(richardson_lucy(counts, simulation.psf, "auto")) / best)
    assert np.median(costs) < 1.25


def test_loss_region_begins_beyond_the_zero_loss_peak():
    mask, width = loss_region(np.stack([1e4 * gaussian(256, 60.0, 8.0), np.zeros(256)]))
    assert np.flatnonzero(mask[0])[0] == 76 and mask[0, 76:].all()
    assert width[0] == pytest.approx(8.0, abs=0.1)
    assert mask[1].all()


# Wrong arguments


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("richardson_lucy", (0,), "iterations=0 must be"),
        ("richardson_lucy", (2.5,), "iterations=2.5 must be"),
        ("richardson_lucy", (15.0,), "iterations=15.0 must be"),
        ("richardson_lucy", (np.inf,), "iterations=inf must be"),
        ("richardson_lucy", ("best",), "iterations='best' must be"),
        ("image_space_reconstruction", (-1,), "iterations=-1 must be"),
        ("total_generalised_variation", (0.0,), "weight=0.0 must be"),
        ("total_generalised_variation", ("best",), "weight='best' must be"),
        ("total_generalised_variation", (np.nan,), "weight=nan must be"),
        ("fourier_ratio", (0.0,), "resolution=0.0 must be"),
        ("fourier_ratio", (np.inf,), "resolution=inf must be"),
        ("fourier_ratio", ("a",), "resolution='a' must be"),
        ("fourier_ratio", (None,), "resolution=None must be"),
        ("fourier_ratio", (True,), "resolution=True must be"),
    ],
)
def test_settings_that_make_no_sense(blurred, name, settings, message):
    with pytest.raises(ValueError, match=message):
        getattr(classical, name)(*blurred, *settings)


@EACH_METHOD
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda counts: counts.astype(complex), "real numbers, not complex128"),
        (lambda counts: counts.sum(), r"of shape \(\) must have channels"),
        (lambda counts: counts[:0], r"of shape \(0,\) must have channels"),
    ],
)
def test_spectra_that_are_none(blurred, method, change, message):
    counts, psf = blurred
    with pytest.raises(ValueError, match="spectra .*" + message):
        method(change(counts), psf)
    with pytest.raises(ValueError, match="psf"):
        method(counts, change(psf))


@pytest.mark.parametrize("numbers", [(50, 5), (0, 5), (5, 5), (2.5,), ("auto",)])
def test_iterates_are_of_numbers_that_grow(blurred, numbers):
    with pytest.raises(ValueError, match="iterations must be whole numbers that grow"):
        list(classical.richardson_lucy_iterates(*blurred, numbers))


@EACH_METHOD
def test_responses_that_make_no_sense(blurred, method):
    counts, psf = blurred
    with pytest.raises(ValueError, match="psf must be finite and hold a positive"):
        method(counts, np.zeros(64))
    with pytest.raises(ValueError, match=r"psf must be one response or one per spectrum.*\(3, 512"):
        method(np.stack([counts, counts]), np.stack([psf] * 3))


@EACH_METHOD
@pytest.mark.parametrize("shape", [(3,), (2, 2), ()])
def test_a_stack_of_one_response_is_one_for_all(blurred, method, shape):
    counts, psf = blurred
    counts = np.broadcast_to(counts, (*shape, counts.size))
    np.testing.assert_array_equal(method(counts, psf[None]), method(counts, psf))


@EACH_METHOD
def test_the_response_of_a_lone_spectrum_is_its_own(blurred, method):
    """As in a longer stack: how far it reaches must not matter there."""
    counts, psf = (x[None] for x in blurred)
    two = method(np.repeat(counts, 2, 0), np.repeat(psf, 2, 0))
    np.testing.assert_allclose(method(counts, psf)[0], two[0], rtol=1e-9, atol=1e-9 * two.max())


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 12, 16, 24, 31, 32])
@pytest.mark.parametrize(
    ("name", "fewest"), [("rl", 1), ("ml", 1), ("rl auto", 3), ("fourier", 32), ("tgv", 32)]
)
def test_few_channels_work_or_are_named(channels, name, fewest):
    """Steps of a given number need no peak, an automatic stop does, and the others its noise."""
    spectrum, psf = 1e4 * gaussian(channels, channels / 3, 3.0) + 5.0, gaussian(9, 4.0, 3.0)
    if channels < fewest:
        with pytest.raises(ValueError, match=rf"\((1, )?{channels},?\).* at least (3|32) channels"):
            METHODS[name](spectrum, psf)
    else:
        answer = METHODS[name](spectrum, psf)
        assert answer.shape == (channels,)
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("length", [3, 4, 5, 6])
def test_a_short_response_without_flanks(blurred, length):
    """Of four channels, all above half their height, no scatter can be told."""
    response = np.ones(length)
    response[1] = 1.5
    answer = richardson_lucy(blurred[0], response, 1)
    assert answer.sum() == pytest.approx(blurred[0].sum(), rel=1e-3)


@pytest.mark.parametrize("length", [0, 1, 2])
@EACH_METHOD
def test_a_response_takes_three_channels(blurred, length, method):
    with pytest.raises(ValueError, match=f"psf of shape .*{length}.* at least 3"):
        method(blurred[0], np.ones(length))
