"""The simulator against closed forms."""

from math import factorial

import numpy as np
import pytest
from hyperspy.signals import Signal1D

from exspy_deepdeconv.experiment import specimens
from exspy_deepdeconv.experiment.instruments import random_response, read_response
from exspy_deepdeconv.experiment.specimens import EnergyAxis, lorentzian, plural_scattering
from exspy_deepdeconv.physics import (
    find_zero_loss,
    gaussian,
    parabola_vertex,
    shift_channels,
    smooth,
)
from exspy_deepdeconv.simulate import (
    FAMILIES,
    SCENES,
    Detector,
    compose,
    grid_for,
    random_detector,
    redraw,
    simulate,
)

NOISELESS = Detector()


def lorentz_density(x, fwhm):
    return 0.5 * fwhm / np.pi / (x**2 + 0.25 * fwhm**2)


def composed(response_of, specimen_of, channels=1024, fwhm=8.0, position=200.3, counts=1e6):
    """A spectrum with a chosen response(distance) and specimen(axis), energies in channels."""
    grid = grid_for(channels, fwhm)
    response = response_of(grid.wrapped_channels)
    axis = EnergyAxis(grid.fine_channels - position, 1 / grid.oversampling, fwhm)
    rng = np.random.default_rng(0)
    return compose(grid, response / response.sum(), specimen_of(axis), position, counts, NOISELESS,
                   1.0, rng, "free")  # fmt: skip


def test_lorentzian_convolved_with_lorentzian():
    """Widths of Lorentzians add: y of a Lorentzian response and line is known in closed form."""
    s = composed(lambda d: lorentz_density(d, 8.0), lambda axis: lorentzian(axis, 150.0, 6.0, 0.1))
    x = np.arange(1024) - s.position
    expected = 1e6 * (lorentz_density(x, 8.0) + 0.1 * lorentz_density(x - 150, 14.0))
    middle = slice(50, 900)
    np.testing.assert_allclose(s.expected[middle], expected[middle], rtol=0.02)
    assert s.fwhm == pytest.approx(8.0, rel=0.02)


@pytest.mark.parametrize("resolution", [2.0, 4.0, 9.0])
def test_truth_of_a_gaussian_line_is_exact(resolution):
    """A Gaussian line seen through a Gaussian of width R: widths add in quadrature."""
    s = composed(
        lambda d: np.exp(-0.5 * (d / 3.4) ** 2),
        lambda axis: specimens.bell(axis, 150.25, 5.0, 0.1),
    )
    seen = 1e5 * gaussian(1024, s.position + 150.25, np.hypot(5.0, resolution))
    np.testing.assert_allclose(s.inelastic(resolution), seen, atol=2e-3 * seen.max())


def test_truth_at_the_response_is_the_noise_free_spectrum():
    """With a Gaussian response, the truth at the response's own width is what is measured."""
    sigma = 9.0 / 2.3548
    s = composed(
        lambda d: np.exp(-0.5 * (d / sigma) ** 2),
        lambda axis: lorentzian(axis, 90.0, 12.0, 0.2) + lorentzian(axis, 300.0, 3.0, 0.05),
        fwhm=9.0,
    )
    middle = slice(0, 900)
    np.testing.assert_allclose(
        s.expected[middle], s.truth(9.0)[middle], atol=2e-3 * s.expected.max()
    )


def test_truths_of_different_resolution_agree():
    s = simulate("plasmonic", np.random.default_rng(5), 1024, detector=NOISELESS)
    finer = smooth(s.truth(3.0), np.sqrt(6.0**2 - 3.0**2))
    exact = s.truth(6.0)
    np.testing.assert_allclose(finer[20:-20], exact[20:-20], rtol=0.01, atol=1e-4 * exact.max())


def test_plural_scattering_of_a_single_line():
    """A line at E0 is repeated at n E0 with the weights of a Poisson distribution."""
    energy = np.arange(-20, 200, 0.05)
    axis = EnergyAxis(energy, 0.05, 0.5)
    thickness = 1.3
    single = specimens.bell(axis, 20.0, 0.5, 1.0)
    series = plural_scattering(axis, single, thickness)
    weights = [series[np.abs(energy - n * 20.0) < 8].sum() for n in (1, 2, 3, 4)]
    expected = [thickness, thickness**2 / 2, thickness**3 / 6, thickness**4 / 24]
    np.testing.assert_allclose(weights, expected, rtol=1e-3)
    peak = energy[np.argmax(np.where(energy > 30, series, 0))]
    assert peak == pytest.approx(40.0, abs=0.06)


@pytest.mark.parametrize("offset", [0.0, 0.02, 0.04])
def test_plural_scattering_of_an_axis_that_has_no_channel_at_zero(offset):
    """Each order is where it belongs whatever part of a channel the axis is off: a Poisson sum of Gaussians."""
    axis = EnergyAxis(np.arange(-20, 200, 0.05) + offset, 0.05, 0.5)
    series = plural_scattering(axis, specimens.bell(axis, 20.0, 1.0, 1.0), 1.3)
    orders = (
        specimens.bell(axis, 20.0 * n, np.sqrt(n), 1.3**n / factorial(n)) for n in range(1, 10)
    )
    np.testing.assert_allclose(series, sum(orders), atol=1e-3 * series.max())


def test_plural_scattering_does_not_wrap():
    """Orders beyond the end of the axis are gone, not back at its beginning."""
    axis = EnergyAxis(np.arange(-20, 200, 0.05), 0.05, 0.5)
    series = plural_scattering(axis, specimens.bell(axis, 180.0, 0.5, 1.0), 1.3)
    assert series.sum() == pytest.approx(1.3, rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_gains_more_energy_than_heat_allows(family):
    rng = np.random.default_rng(3)
    x = np.arange(-200, 900.0)
    for _ in range(20):
        s = specimens.random_specimen(family, x, 1e-2, 8.0, 1.0, rng)
        loss = np.interp(-x[x < 0], x, s)
        bound = loss * np.exp(x[x < 0] * 1e-2 / (8.617e-5 * 1000)) * (1 + 1e-6)
        assert (s[x < 0] <= bound + 1e-15).all()


def test_drude_plasmon_has_its_energy_and_width():
    energy = np.arange(0.01, 40, 0.01)
    loss = specimens.drude_lorentz(energy, [(0.0, 15.0, 0.6)])
    above = energy[loss > 0.5 * loss.max()]
    assert energy[loss.argmax()] == pytest.approx(15.0, abs=0.05)
    assert above[-1] - above[0] == pytest.approx(0.6, rel=0.05)
    surface = specimens.drude_lorentz(energy, [(0.0, 15.0, 0.6)], core=2.0)
    assert energy[surface.argmax()] == pytest.approx(15.0 / np.sqrt(2), abs=0.05)


@pytest.mark.parametrize("temperature", [80.0, 300.0, 1000.0])
def test_gain_side_obeys_detailed_balance(temperature):
    axis = EnergyAxis(np.linspace(-0.3, 0.5, 1601), 5e-4, 0.01)
    loss = lorentzian(axis, 0.1, 0.01, 1.0) * (axis.energy > 0)
    both = specimens.gain_side(axis, loss, temperature)
    at = np.interp([-0.1, 0.1], axis.energy, both)
    assert at[0] / at[1] == pytest.approx(np.exp(-0.1 / (8.617333e-5 * temperature)), rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family):
    rng = np.random.default_rng(7)
    scene = SCENES[family]
    for channels in (512, 777, 4096):
        s = simulate(scene, rng, channels)
        assert s.counts.shape == (channels,) and np.isfinite(s.counts).all()
        assert (s.inelastic(2.0) >= min(s.dark, 0)).all()
        # The response is stretched to the width drawn; the detector's spread comes on top.
        assert 2.5 <= s.fwhm <= 70
        assert 0 < s.position < channels / 3 + 1
        assert s.elastic.argmax() == pytest.approx(s.position, abs=1.0)


def test_counts_are_conserved():
    """The truth holds the counts of the data, where nothing leaves the window."""
    s = composed(
        lambda d: np.exp(-0.5 * (d / 4) ** 2) * (1 + 0.3 * np.tanh(d / 3)),
        lambda axis: specimens.bell(axis, 300.0, 60.0, 0.5),
    )
    assert s.truth(2.0).sum() == pytest.approx(s.expected.sum(), rel=1e-3)
    assert s.truth(2.0).sum() == pytest.approx(1.5e6, rel=1e-3)


def test_same_seed_same_spectrum():
    one, other = (simulate("gap", np.random.default_rng(9), 512) for _ in range(2))
    np.testing.assert_array_equal(one.counts, other.counts)
    assert not np.array_equal(one.counts, simulate("gap", np.random.default_rng(8), 512).counts)


def test_poisson_detector():
    rng = np.random.default_rng(0)
    counts = Detector().record(np.full(200_000, 50.0), rng)
    assert counts.mean() == pytest.approx(50, rel=5e-3)
    assert counts.var() == pytest.approx(50, rel=2e-2)


def test_detector_spread_correlates_the_noise():
    rng = np.random.default_rng(0)
    noise = Detector(spread_channels=2.5, gain=3.0).record(np.full(200_000, 50.0), rng) - 150
    lag1 = np.mean(noise[1:] * noise[:-1]) / noise.var()
    # A Gaussian kernel of sigma s: exp(-1 / (4 s^2)).
    assert lag1 == pytest.approx(np.exp(-1 / (4 * (2.5 / 2.3548) ** 2)), abs=0.02)


def test_dark_level_and_gain():
    rng = np.random.default_rng(0)
    counts = Detector(gain=2.0, readout=4.0, dark=10.0).record(np.zeros(100_000), rng)
    assert counts.mean() == pytest.approx(20.0, rel=0.01)
    assert counts.std() == pytest.approx(8.0, rel=0.02)


def test_gain_errors_are_in_proportion_to_the_counts():
    counts = Detector(gain_error=0.01).record(np.full(100_000, 1e8), np.random.default_rng(0))
    assert counts.std() / counts.mean() == pytest.approx(0.01, rel=0.02)


def test_measured_responses_are_used():
    """A response with a side peak that no synthetic kind has turns up where it is offered."""
    x = np.arange(400.0)
    peak = np.exp(-0.5 * ((x - 100) / 4) ** 2) + 0.3 * np.exp(-0.5 * ((x - 160) / 4) ** 2)
    grid = grid_for(1024, 10.0)

    def side_peaks(measured):
        rng = np.random.default_rng(2)
        found = 0
        for _ in range(60):
            response = random_response(grid, 10.0, 0.0, rng, measured)
            side = response[50 * grid.oversampling : 80 * grid.oversampling]
            found += side.max() > 0.2 * response.max()
        return found

    assert side_peaks([]) == 0
    assert side_peaks([peak]) > 5


@pytest.mark.parametrize("fwhm", [3.5, 7.0, 10.0, 25.0])
@pytest.mark.parametrize("channels", [512, 777, 1024, 2048])
def test_response_of_a_simulation_is_its_elastic_peak(channels, fwhm):
    """Centred at its vertex and moved to the zero-loss position it is the elastic peak."""
    s = composed(
        lambda d: np.exp(-np.log(2) * (2 * d / fwhm) ** 2) + 0.05 / (1 + ((d - 2) / fwhm) ** 2),
        lambda axis: 0 * axis.energy,
        channels=channels,
        fwhm=fwhm,
        position=channels / 4 + 0.37,
    )
    vertex = parabola_vertex(s.psf, np.asarray(s.psf.argmax()))
    assert vertex == pytest.approx(channels, abs=0.02)
    moved = shift_channels(s.psf, np.asarray(s.position - channels // 4))
    placed = moved[channels - channels // 4 :][:channels]
    expected = s.elastic / s.elastic_counts
    np.testing.assert_allclose(placed, expected, atol=0.01 * expected.max())


def test_response_of_a_simulation_reaches_to_the_end_of_the_loss_side():
    """Zero-loss peak early in the window: its tail in the last channels is the response's."""
    s = composed(
        lambda d: lorentz_density(d, 8.0), lambda axis: 0 * axis.energy, 1024, 8.0, position=60.0
    )
    end = slice(850, 1020)
    tail = s.psf[1024 - 60 :][:1024][end]
    np.testing.assert_allclose(tail, s.elastic[end] / s.elastic_counts, rtol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("nope", 256), "scene='nope' must be .* gap"), (("gap", 10), "channels=10 must be"),
     (("gap", 1e3), "channels=1000.0 must be")],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(arguments, message):
    scene, channels = arguments
    with pytest.raises(ValueError, match=message):
        simulate(scene, np.random.default_rng(0), channels)


def test_responses_are_read_from_files(tmp_path):
    counts = np.round(1e4 * gaussian(200, 80.0, 9.0), 3)
    np.save(tmp_path / "a.npy", counts)
    table = "Energy (eV),Intensity\n" + "\n".join(f"{i * 0.01},{c}" for i, c in enumerate(counts))
    (tmp_path / "b.csv").write_text(table)
    for name in ("a.npy", "b.csv"):
        np.testing.assert_allclose(read_response(tmp_path / name), counts)
    (tmp_path / "c.csv").write_text("nothing\n")
    with pytest.raises(ValueError, match="no zero-loss peak"):
        read_response(tmp_path / "c.csv")


def test_several_spectra_of_a_file_are_one_response(tmp_path):
    """One after the other they would be a peak with others in its tails."""
    counts = 1e4 * gaussian(200, 80.0, 9.0)
    for number, stack in enumerate(([counts, counts], counts[:, None], [[counts], [counts]])):
        path = tmp_path / f"{number}.npy"
        np.save(path, stack)
        shares = {0: 2, 1: 1, 2: 2}
        np.testing.assert_allclose(read_response(path), shares[number] * counts)


def test_several_signals_of_a_file_are_no_response(tmp_path, monkeypatch):
    monkeypatch.setattr("hyperspy.api.load", lambda _: [Signal1D(np.ones(64))] * 2)
    with pytest.raises(ValueError, match="several signals"):
        read_response(tmp_path / "a.hspy")


@pytest.mark.parametrize("place", [0, -1])
def test_a_response_with_its_maximum_at_an_end_is_none(tmp_path, place):
    """Half of it is not there; one in ten spectra that were drawn of it could not be made."""
    counts = 1e4 * gaussian(64, 0.0 if place == 0 else 63.0, 9.0)
    np.save(tmp_path / "a.npy", counts)
    with pytest.raises(ValueError, match="no zero-loss peak"):
        read_response(tmp_path / "a.npy")


def test_a_response_on_a_falling_axis_is_read_rising(tmp_path):
    counts = 1e4 * gaussian(200, 80.0, 9.0)
    for step, values in ((0.01, counts), (-0.01, counts[::-1].copy())):
        s = Signal1D(values)
        s.axes_manager[-1].scale = step
        s.save(tmp_path / "a.hspy", overwrite=True)
        np.testing.assert_array_equal(read_response(tmp_path / "a.hspy"), counts)


def test_shoulders_stand_beside_the_peak():
    """From one to four widths, on both sides."""
    grid = grid_for(512, 10.0)
    sides = []
    for shoulders in (0.0, 1.0):
        rng = np.random.default_rng(1)
        drawn = [random_response(grid, 10.0, 0.0, rng, shoulders=shoulders) for _ in range(60)]
        step = 10 * grid.oversampling
        loss, gain = (
            np.array([each[side].sum() / each.max() for each in drawn])
            for side in (slice(step, 4 * step), slice(-4 * step, -step))
        )
        sides.append((np.median(loss), np.median(gain)))
    plain, with_shoulders = sides
    assert with_shoulders[0] > 1.2 * plain[0] and with_shoulders[1] > 1.2 * plain[1]


def test_zero_loss_peaks_have_one_top():
    rng = np.random.default_rng(4)
    for _ in range(150):
        grid = grid_for(512, 6.0)
        response = random_response(grid, 6.0, 0.0, rng)
        above = np.roll(response > 0.5 * response.max(), 200)
        assert np.count_nonzero(np.diff(above.astype(int)) == 1) == 1


def test_redraw_keeps_specimen_and_response():
    rng = np.random.default_rng(1)
    s = simulate("bulk", rng, 1024)
    few = redraw(s, rng, 1e4)
    ratio = (s.truth(4.0) - s.dark) / s.elastic_counts
    np.testing.assert_allclose((few.truth(4.0) - few.dark) / few.elastic_counts, ratio)
    assert few.counts.sum() < 1e6


def test_random_detectors_differ():
    rng = np.random.default_rng(0)
    assert len({random_detector(rng) for _ in range(20)}) > 8


def test_zero_loss_is_found_in_nearly_all_simulations():
    rng = np.random.default_rng(11)
    close = []
    for number in range(140):
        s = simulate(FAMILIES[number % len(FAMILIES)], rng, 1024)
        found = find_zero_loss(s.counts)
        close.append(abs(found.position - s.position) < 0.5 * s.fwhm)
    assert np.mean(close) > 0.97
