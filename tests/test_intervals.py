"""Intervals: the arithmetic on known distributions, and the public face."""

import dask
import numpy as np
import pytest

from exspy_deepdeconv import deconvolve, models, physics
from exspy_deepdeconv.estimate import intervals
from exspy_deepdeconv.estimate.intervals import AXES, CONFIDENCES, Calibration, Regime
from exspy_deepdeconv.simulate import simulate

PLAIN = Calibration()


def regime(losses=0.1, electrons=1e6, scattered=0.1, **settings):
    return Regime(losses, electrons, scattered, **settings)


def table_of(*along):
    """A table of both sides: for each axis ``along(row, place)``, logarithms; nothing for the others."""
    along = along + (lambda *_: 0.0,) * (len(AXES) - len(along))
    one = tuple(
        tuple(by(row, x) for by, knots in zip(along, AXES, strict=True) for x in knots)
        for row in range(len(CONFIDENCES))
    )
    return one, one


def two_sided(rng, above, below, size):
    """Truth minus answer, drawn from a two-sided exponential distribution."""
    low = rng.random(size) < above / (above + below)
    return np.where(low, -rng.exponential(above, size), rng.exponential(below, size))


@pytest.mark.parametrize("confidence", [0.5, 0.6827, 0.9, 0.99])
@pytest.mark.parametrize("above, below", [(1.0, 1.0), (0.3, 2.0)])
def test_reach_is_the_quantile_of_what_is_told(confidence, above, below):
    missed = two_sided(np.random.default_rng(0), above, below, 200_000)
    down, up = PLAIN.reaches(np.array(above), np.array(below), confidence, regime())
    # A side that holds less than its half of what is left out is left out whole.
    share = above / (above + below)
    for got, whole in ((missed < -down, share), (missed > up, 1 - share)):
        assert np.mean(got) == pytest.approx(min((1 - confidence) / 2, whole), abs=0.01)


def test_a_side_with_hardly_any_share_reaches_nowhere():
    down, _ = PLAIN.reaches(np.array(0.01), np.array(1.0), 0.9, regime())
    assert down < 1e-4


def test_variance_is_that_of_a_normal_distribution_of_the_same_interval():
    size = np.full((1, 1), 3.0)
    got = intervals.variance(0.0, size, size, PLAIN, regime(np.array([[0.1]])))
    # An exponential distribution on either side holds 68.27 % within this many of its widths.
    np.testing.assert_allclose(got, (-3.0 * np.log(1 - 0.6827)) ** 2, rtol=1e-3)


@pytest.mark.parametrize(
    ("electrons", "scattered", "wanted"),
    [
        (1e6, 0.1, 0.0),
        (10**4.5, 0.1, -0.3),
        (1e2, 0.1, -0.6),
        (1e6, 10**-0.75, 0.1),
        (1e6, 0.0, -0.8),
    ],
)
def test_factors_are_interpolated_in_electrons_and_scattering(electrons, scattered, wanted):
    """Decimal logarithms of both; beyond the last knot, its factor holds."""
    nothing = (lambda *_: 0.0,) * 2
    along = lambda _, place: 0.2 * (place - 6), lambda _, place: 0.4 * (place + 1)  # noqa: E731
    calibration = Calibration(blind=table_of(*nothing, *along))
    at = regime(np.full((1, 3), 0.1), np.array([[electrons]]), np.array([[scattered]]))
    down, up = calibration.reaches(np.ones((1, 3)), np.ones((1, 3)), 0.9, at)
    np.testing.assert_allclose([down, up], np.exp(wanted), rtol=1e-6)


def test_tables_without_electrons_and_scattering_hold_for_all():
    """Those of lowloss-v12."""
    found = models.load("lowloss-v12").calibration
    one = np.ones((1, 1))
    settings = [(n, t) for n in (1e3, 1e6, 1e9) for t in (1e-3, 1.0)]
    reach = [found.reaches(one, one, 0.9, regime(0.1 * one, n * one, t * one)) for n, t in settings]
    assert np.ptp(reach, axis=0).max() == 0 and np.min(reach) > 1


@pytest.mark.parametrize(
    ("skew", "losses", "confidence", "wanted"),
    [
        (0.0, 1e-3, 0.9, 1.0), (1.5, 1e-3, 0.9, np.exp(0.75)), (9.0, 1e-3, 0.9, np.exp(1.5)),
        (0.0, 10**-2.5, 0.9, np.exp(0.05)), (0.0, 0.0, 0.9, np.exp(-0.3)), (1.5, 1e-2, 0.9, np.exp(0.85)),
    ],
)  # fmt: skip
def test_factors_are_interpolated_in_skew_and_height(skew, losses, confidence, wanted):
    blind = table_of(lambda row, skew: 0.5 * skew, lambda row, height: 0.1 * (height + 3))
    calibration = Calibration(blind=blind)
    above, below = np.array([2.0]), 2.0 * np.exp([skew])
    down, up = calibration.reaches(above, below, confidence, regime(np.array([losses])))
    np.testing.assert_allclose([down / above, up / below], wanted, rtol=1e-6)
    # The tables for measured responses are others.
    untold = calibration.reaches(above, below, confidence, regime(np.array([losses]), given=True))
    assert not np.isclose(untold[0] / above, wanted)


def test_factors_are_interpolated_between_confidences():
    """In the logarithm of what is left out: from nothing, and on in proportion."""
    factor = np.arange(1.0, len(CONFIDENCES) + 1)
    calibration = Calibration(blind=table_of(lambda row, _: np.log(factor[row]), lambda *_: 0.0))
    one = np.ones(1)

    def at(confidence):
        return float(calibration.reaches(one, one, confidence, regime())[0][0])

    for confidence, wanted in zip(CONFIDENCES, factor, strict=True):
        assert at(confidence) == pytest.approx(wanted)
    assert at(1 - np.sqrt(0.1 * 0.05)) == pytest.approx(4.5)
    assert at(1 - np.sqrt(0.5)) == pytest.approx(0.5)
    assert at(0.999) == pytest.approx(6 * 1.5)
    assert at(1 - 1e-12) == at(1 - intervals.LEAST_ALPHA) == pytest.approx(12)


def test_estimated_responses_have_wider_intervals():
    sizes = np.ones(1), np.ones(1), 0.9
    plain, wider = (PLAIN.reaches(*sizes, regime(estimated=x))[0] for x in (False, True))
    assert wider == pytest.approx(intervals.ESTIMATED * plain)


def test_tables_of_older_weights_are_not_used(tmp_path, network):
    """Their answers are the same as ever; of their intervals it is said that they are not calibrated."""
    old = {"dominances": [0.5, 1.2], "blind": [[1.0, 2.0]], "elastic": [0.1] * 6}
    assert Calibration.from_dict(old) == PLAIN
    for name in ("lowloss-v10", "lowloss-v11"):
        assert models.load(name).calibration == PLAIN
    for name in ("lowloss-v12", "lowloss-v13"):
        assert models.load(name).calibration != PLAIN


@pytest.mark.parametrize("name", ["blind", "given", "elastic"])
def test_tables_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must have the shape"):
        Calibration(**{name: ((1.0, 2.0),)})


def test_calibration_travels_through_json():
    calibration = Calibration(elastic=((0.1,) * 6,) * 2)
    assert Calibration.from_dict(calibration.to_dict()) == calibration


def test_calibration_is_stored_with_the_weights(tmp_path, network):
    calibration = Calibration(elastic=((0.25,) * 6,) * 2)
    path = models.save_model(
        models.load().network, tmp_path / "m.safetensors", name="m", calibration=calibration
    )
    assert models.load(path).calibration == calibration


@pytest.mark.parametrize(("given", "share"), [(False, 0.1), (True, 0.02)])
def test_error_of_the_elastic_counts_is_part_of_interval_and_variance(given, share):
    """Where the network tells of no error: that share of the peak, above and below."""
    calibration = Calibration(elastic=((0.1,) * 6, (0.02,) * 6))
    nothing, peak = np.full((1, 3), 1e-9), np.array([[0.0, 50.0, 200.0]])
    common = nothing, nothing
    lower, upper = intervals.bounds(
        peak, peak, *common, 0.9, calibration, regime(np.ones((1, 3)), given=given)
    )
    np.testing.assert_allclose([peak - lower, upper - peak], [share * peak] * 2, atol=1e-6)
    found = intervals.variance(peak, *common, calibration, regime(np.ones((1, 3)), given=given))
    np.testing.assert_allclose(found, (share * peak) ** 2, atol=1e-6)


def test_error_of_the_elastic_counts_grows_with_the_confidence():
    """Also beyond those that it is known at."""
    peak, nothing = np.full((1, 1), 100.0), np.full((1, 1), 1e-9)
    calibration = Calibration(elastic=((0.1, 0.2, 0.3, 0.4, 0.5, 0.6),) * 2)

    def reach(confidence):
        _, upper = intervals.bounds(
            peak, peak, nothing, nothing, confidence, calibration, regime(np.ones((1, 1)))
        )
        return float((upper - peak)[0, 0])

    reaches = [reach(confidence) for confidence in (0.1, 0.4, *CONFIDENCES, 0.995, 0.999)]
    assert (np.diff(reaches) > 0.1).all()
    assert reaches[2:-2] == pytest.approx([10, 20, 30, 40, 50, 60])
    assert reach(0.999) == pytest.approx(90)


def test_common_errors_are_standard_errors():
    """Of the offset, say: 90 % of a normal distribution lie within 1.645 of them."""
    nothing, estimate = np.full((1, 2), 1e-9), np.full((1, 2), 100.0)
    common = 0.0, nothing, nothing
    lower, upper = intervals.bounds(estimate, *common, 0.9, PLAIN, regime(np.ones((1, 2))), 4.0)
    np.testing.assert_allclose([estimate - lower, upper - estimate], 1.645 * 4, rtol=1e-3)
    found = intervals.variance(*common, PLAIN, regime(np.ones((1, 2))), 4.0)
    np.testing.assert_allclose(found, 16.0, rtol=1e-6)


# The public face


@pytest.fixture(scope="module")
def spectrum():
    return simulate("plasmonic", np.random.default_rng(5), channels=512)


def test_array_face_warns_of_what_is_doubtful(spectrum, network):
    """As the methods of signals do, with the counts of each kind."""
    lost = np.full_like(spectrum.counts, np.nan)
    with pytest.warns(UserWarning, match="deconvolve: of 3 spectra .*1 empty.*1 not finite"):
        deconvolve(np.stack([spectrum.counts, np.zeros_like(lost), lost]), spectrum.dispersion)


def test_array_face_returns_bounds_around_the_answer(spectrum, network):
    common = {"resolution": spectrum.fwhm / 3 * spectrum.dispersion}
    plain = deconvolve(spectrum.counts, spectrum.dispersion, **common)
    got, lower, upper = deconvolve(
        spectrum.counts, spectrum.dispersion, return_interval=True, **common
    )
    np.testing.assert_array_equal(got, plain)
    assert (lower <= got).all() and (got <= upper).all() and (lower >= 0).all()
    _, lower2, upper2 = deconvolve(
        spectrum.counts, spectrum.dispersion, return_interval=True, confidence=0.5, **common
    )
    assert (lower2 >= lower).all() and (upper2 <= upper).all() and (upper2 < upper).any()


def test_bounds_scale_with_the_counts_and_the_variance_with_their_square(make_signal, network):
    s = make_signal()
    one = s.deep_deconvolve(return_interval=True, show_progressbar=False)
    s.data = s.data * 256.0
    many = s.deep_deconvolve(return_interval=True, show_progressbar=False)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(b.data, 256.0 * a.data, rtol=1e-3, atol=1e-4 * b.data.max())
    ratio = many[0].get_noise_variance().data / one[0].get_noise_variance().data
    np.testing.assert_allclose(ratio, 256.0**2, rtol=0.02)


def test_signal_face_returns_three_signals(make_signal, network):
    s = make_signal(2, 3)
    result, lower, upper = s.deep_deconvolve(return_interval=True, show_progressbar=False)
    assert [x.axes_manager.shape for x in (result, lower, upper)] == [s.axes_manager.shape] * 3
    assert (lower.data <= result.data).all() and (result.data <= upper.data).all()
    assert lower.metadata.General.title.endswith("lower bound of the truth")
    assert upper.metadata.Signal.deep_deconvolution.confidence == 0.9
    assert not lower.metadata.has_item("Signal.Noise_properties")


def test_lazy_intervals_come_from_one_pass(make_signal, network, monkeypatch):
    from exspy_deepdeconv.estimate import batched

    s = make_signal(4)
    want = s.deep_deconvolve(return_interval=True, show_progressbar=False)
    passes = []
    run = batched.deconvolve_batch
    monkeypatch.setattr(
        batched, "deconvolve_batch", lambda *a, **k: passes.append(len(a[5])) or run(*a, **k)
    )
    lazy = s.as_lazy().deep_deconvolve(return_interval=True)
    assert all(x._lazy for x in lazy)
    got = dask.compute(*(x.data for x in lazy))
    assert sum(passes) == 4
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b.data, rtol=1e-4, atol=1e-5 * b.data.max())


def test_the_highest_confidence_has_an_interval(spectrum):
    highest = float(np.nextafter(1, 0))
    found, one, other = (
        np.stack(
            deconvolve(spectrum.counts, spectrum.dispersion, return_interval=True, confidence=x)
        )
        for x in (highest, 0.9999, 0.99)
    )
    np.testing.assert_allclose(found, one, rtol=1e-6)
    assert (found[1] <= other[1]).all() and (found[2] >= other[2]).all()
    top = found[0].argmax()
    assert found[1, top] < other[1, top] and found[2, top] > other[2, top]


@pytest.mark.parametrize("confidence", [0, 1, 1.5, "high", None])
def test_confidence_out_of_range(make_signal, network, spectrum, confidence):
    with pytest.raises(ValueError, match="confidence"):
        make_signal().deep_deconvolve(confidence=confidence)
    with pytest.raises(ValueError, match="confidence"):
        deconvolve(spectrum.counts, spectrum.dispersion, confidence=confidence)


def test_intervals_that_are_not_calibrated_are_told(tmp_path):
    counts = simulate("gap", np.random.default_rng(0), 256).counts
    path = models.save_model(models.load().network, tmp_path / "m.safetensors", name="m")
    with pytest.warns(UserWarning, match="model='m': its intervals"):
        deconvolve(counts, 0.01, model=path, return_interval=True)
    deconvolve(counts, 0.01, model=path)  # no interval, no warning


def test_interval_knows_the_error_of_an_offset():
    """A flat offset is read from the spectrum, and it is not exact."""
    distance = np.arange(512) - 200.0
    mean = 1e6 * (np.exp(-0.5 * (distance / 4) ** 2) + 0.003 / (1 + (distance / 8) ** 2))
    mean += 2e4 * np.exp(-0.5 * ((distance - 100) / 15) ** 2)
    rng = np.random.default_rng(0)
    offset = 300.0
    spectra = rng.poisson(mean, (24, 512)) + rng.normal(offset, 20, (24, 512))
    _, lower, upper = deconvolve(spectra, 0.01, return_interval=True)
    empty = np.abs(distance - 100) > 150
    inside = (lower <= offset) & (offset <= upper)
    assert inside[:, empty & (distance < -100)].mean() > 0.87


def test_steep_flanks_are_as_uncertain_as_the_place_of_the_peak(make_signal):
    """Of 100 noisy spectra: the zero-loss peak's flanks lie a little to the left or to the right."""
    mean = 1e5 * physics.gaussian(512, 150.3, 16.0)
    s = make_signal(100, channels=512)
    s.data = np.random.default_rng(0).poisson(mean, s.data.shape).astype(np.float32)
    resolution = 4 * s.axes_manager[-1].scale
    _, low, high = s.deep_deconvolve(resolution, return_interval=True, show_progressbar=False)
    truth, near = 1e5 * physics.gaussian(512, 150.3, 4.0), slice(146, 155)
    inside = (low.data <= truth) & (truth <= high.data)
    assert 0.8 < inside[:, near].mean()


@pytest.mark.parametrize("factor", [1e-12, 1e-18, 1e-21])
def test_a_variance_below_single_precision_is_still_one(make_signal, factor):
    s = make_signal(2)
    s.data = s.data.astype(float) * factor
    predicted = s.deep_deconvolve(show_progressbar=False).get_noise_variance()
    assert (predicted.data < 1e-10).all() and (predicted.data > 0).all()
