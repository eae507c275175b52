"""A response from spectra of a vacuum: aligned, chosen, summed."""

import warnings

import dask.array as da
import numpy as np
import pytest
from _helpers import complex_data, deconvolve, energy_axis, measured, non_uniform

import exspy_deepdeconv
from exspy_deepdeconv import data
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.physics import (
    gaussian,
    half_height_width,
    parabola_vertex,
    shift_channels,
    smooth,
)
from exspy_deepdeconv.response.faulty import faulty_channels
from exspy_deepdeconv.response.rises import loss_peak
from exspy_deepdeconv.response.vacuum import EMPTY, Found, Usual, Vacuum

exspy_deepdeconv.register()
from exspy.signals import EELSSpectrum  # noqa: E402

RECIPE = {"name": "exciton_spectrum", "shape": [], "channels": 512, "seed": 0}
(CLEAN,) = data.simulations(RECIPE | {"vacuum_seed": 1})
RESPONSE = CLEAN.elastic / CLEAN.elastic.sum()  # without noise, 15 channels wide, in channel 100.3
DISPERSION = data.SPECTRUM_DISPERSION


def signal_of(counts):
    s = EELSSpectrum(counts)
    axis = energy_axis(s)
    axis.name, axis.scale, axis.units, axis.offset = "Energy loss", DISPERSION, "eV", -0.7
    s.metadata.General.title = "frames"
    return s


def frames(number, electrons, drift=3.0, readout=0.0, seed=0):
    """Vacuum spectra whose peak moves slowly and jitters, by ``drift`` channels (standard deviation)."""
    rng = np.random.default_rng(seed)
    moved = drift * (np.linspace(-1.2, 1.2, number) + 0.7 * rng.standard_normal(number))
    mean = shift_channels(np.broadcast_to(RESPONSE, (number, 512)), moved).clip(0)
    noise = readout * rng.standard_normal(mean.shape)
    return signal_of(rng.poisson(electrons * mean) + noise)


def measure(s, **arguments):
    """The response, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        psf = s.vacuum_psf(show_progressbar=False, **arguments)
    return psf, [str(each.message) for each in caught if "vacuum_psf" in str(each.message)]


def broader(counts):
    """By which share a response is wider than the true one: what its second derivative adds, fitted."""
    place = 100.3 + peak_of(counts) - peak_of(CLEAN.elastic)
    true = shift_channels(RESPONSE, place - 100.3)
    curved = np.gradient(np.gradient(true))
    near = np.abs(np.arange(512) - place) < 40
    columns = np.stack([true, np.gradient(true), curved, np.ones(512) * true.max()], axis=1)
    weight = 1 / np.sqrt(np.maximum(true, 1e-2 * true.max()))[near, None]
    fit, *_ = np.linalg.lstsq(columns[near] * weight, counts[near] * weight[:, 0], rcond=None)
    return width_of(true + fit[2] / fit[0] * curved) / width_of(true) - 1


def peak_of(counts):
    return float(parabola_vertex(counts, np.asarray(int(counts.argmax()))))


def width_of(counts):
    return float(half_height_width(counts, np.asarray(int(counts.argmax()))))


@pytest.mark.parametrize(
    ("electrons", "number", "readout", "within"),
    [
        (100, 4000, 0.0, 0.01),
        (300, 2000, 2.0, 0.01),
        (1000, 1000, 0.0, 0.006),
        (100_000, 60, 0.0, 0.003),
    ],
)
def test_width_is_that_of_the_instrument(electrons, number, readout, within):
    s = frames(number, electrons, readout=readout)
    psf, _ = measure(s)
    note = psf.metadata.Signal.vacuum_psf
    assert note.used > 0.99 * number
    assert note.drift == pytest.approx(3.0 * DISPERSION, rel=0.15)
    assert abs(broader(whole(psf))) < within
    assert broader(s.data.sum(axis=0)) > 0.1


@pytest.mark.parametrize("electrons", [100, 1000])
def test_nothing_is_sharpened_where_nothing_drifts(electrons):
    s = frames(200_000 // electrons * 2, electrons, drift=0.0)
    psf, _ = measure(s)
    assert abs(broader(whole(psf)) - broader(s.data.sum(axis=0))) < 0.004


def whole(psf):
    """The counts on 512 channels again, zeros where an end was cut off."""
    axis = energy_axis(psf)
    first = round((-axis.offset - 1.0) / axis.scale)
    counts = np.zeros(512)
    start = max(-first, 0)
    counts[start : start + axis.size] = psf.data[: 512 - start]
    return counts


def test_counts_axis_title_and_note():
    s = frames(30, 1e5)
    psf, said = measure(s)
    assert not said
    assert psf.axes_manager.navigation_dimension == 0
    assert psf.data.dtype == np.float64
    assert psf.data.sum() == pytest.approx(s.data.sum(), rel=0.01)
    zero = parabola_vertex(psf.data, np.asarray(int(psf.data.argmax())))
    axis = energy_axis(psf)
    assert axis.offset + float(zero) * axis.scale == pytest.approx(0, abs=1e-9)
    assert axis.scale == DISPERSION
    assert psf.metadata.General.title == "frames vacuum response"
    note = psf.metadata.Signal.vacuum_psf
    assert note.used == 30
    assert note.electrons == pytest.approx(3e6, rel=0.2)
    assert note.zero_loss_fwhm == pytest.approx(width_of(RESPONSE) * DISPERSION, rel=0.05)
    assert not note.has_item("map")


def test_noise_is_still_that_of_counts():
    psf, _ = measure(frames(100, 1e4))
    far = psf.data[200:450]
    expected = np.interp(np.arange(200, 450), np.arange(512), RESPONSE) * 1e6
    assert np.var(far - expected) == pytest.approx(expected.mean(), rel=0.3)


def test_signal_stays_as_it_is():
    s = frames(20, 1e4)
    before = s.deepcopy()
    measure(s)
    assert s.data.tobytes() == before.data.tobytes()
    assert energy_axis(s).get_axis_dictionary() == energy_axis(before).get_axis_dictionary()
    assert s.metadata.as_dictionary() == before.metadata.as_dictionary()


def test_bad_spectra_and_those_of_the_specimen_are_left_out():
    s = frames(40, 1e5)
    rng = np.random.default_rng(1)
    counts = s.data
    bad = {
        3: ("not_finite", np.full(512, np.nan)),
        7: ("empty", np.zeros(512)),
        11: ("saturated", np.minimum(counts[11], 0.5 * counts[11].max())),
        15: ("spike", counts[15] + 5e4 * (np.arange(512) == 300)),
        19: ("no_zero_loss", rng.normal(0, 3, 512)),
        23: ("wider", rng.poisson(1e5 * gaussian(512, 100.0, 18.0))),
        27: ("losses", counts[27] + rng.poisson(2e3 * gaussian(512, 160.0, 30.0))),
        31: ("losses", counts[31] + rng.poisson(2e3 * gaussian(512, 400.0, 90.0))),
    }
    for row, (_, spectrum) in bad.items():
        counts[row] = spectrum
    psf, said = measure(s)
    note = psf.metadata.Signal.vacuum_psf
    assert note.used == 32
    assert np.flatnonzero(note.map).tolist() == list(bad)
    assert note.left_out.losses == 2
    assert all(note.left_out[name] == 1 for row, (name, _) in bad.items() if name != "losses")
    assert len(said) == 1
    assert said[0].startswith("vacuum_psf: 8 of 40 spectra left out: 1 not finite, 1 empty, ")
    clean = signal_of(counts[~note.map])
    assert psf.data[20:500] == pytest.approx(measure(clean)[0].data[20:500], rel=0.02, abs=100)


def test_vacuum_is_found_where_most_of_a_map_is_specimen():
    s = frames(60, 1e5)
    loss = np.random.default_rng(2).uniform(0.01, 0.1, 40)[:, None] * gaussian(512, 250.0, 60.0)
    s.data[20:] += np.random.default_rng(3).poisson(1e5 * loss)
    note = measure(s)[0].metadata.Signal.vacuum_psf
    assert np.flatnonzero(~note.map).tolist() == list(range(20))


def test_deconvolution_is_as_good_as_with_the_true_response():
    s = data.exciton_spectrum()
    (simulation,) = data.simulations(s.metadata.Simulation.as_dictionary())
    drifting = frames(200, 1e5)
    psf, said = measure(drifting)
    assert not said
    found = {}
    for name, given in (
        ("true", signal_of(CLEAN.elastic)),
        ("ours", psf),
        ("plain", drifting.sum()),
        ("blind", None),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = deconvolve(s, psf=given)
        channels = result.metadata.Signal.deep_deconvolution.resolution / DISPERSION
        found[name] = errors(result.data, simulation, channels)
    assert found["ours"].loss < 1.1 * found["true"].loss
    assert found["ours"].near < 1.2 * found["true"].near
    assert found["ours"].near < 0.7 * found["plain"].near


@pytest.mark.parametrize("chunks", [(7, 512), (40, 100)])
def test_lazy_frames_give_the_same(chunks):
    s = frames(40, 1e4)
    s.data[5] = 0
    eager, said = measure(s)
    lazy = s.as_lazy()
    lazy.data = da.from_array(s.data, chunks=chunks)
    psf, said_lazily = measure(lazy, num_workers=1)
    assert not psf._lazy
    assert said_lazily == said
    assert psf.data == pytest.approx(eager.data, rel=1e-9)
    assert lazy.data.chunks == da.from_array(s.data, chunks=chunks).chunks


def test_lazy_maps_are_read_block_by_block():
    largest = 0

    def block(block_info=None):
        nonlocal largest
        place = block_info[None]["array-location"]
        shape = [stop - start for start, stop in place]
        largest = max(largest, int(np.prod(shape)))
        rng = np.random.default_rng(place[0][0] * 100 + place[1][0])
        return rng.poisson(1e4 * np.broadcast_to(RESPONSE, shape))

    counts = da.map_blocks(block, chunks=((16,) * 4, (16,) * 4, (512,)), dtype=int)
    lazy = signal_of(np.zeros((64, 64, 512), np.int64)).as_lazy()
    lazy.data = counts
    psf, _ = measure(lazy)
    assert psf.metadata.Signal.vacuum_psf.used == 64 * 64
    assert psf.data.sum() == pytest.approx(64 * 64 * 1e4, rel=0.01)
    assert largest <= 16 * 16 * 512


def test_maps_and_falling_axes_are_as_lines_and_rising_ones():
    s = frames(24, 1e4)
    s.data[2] = 0
    line, _ = measure(s)
    square = signal_of(s.data.reshape(4, 6, 512))
    psf, _ = measure(square)
    assert psf.data == pytest.approx(line.data, rel=1e-9)
    assert psf.metadata.Signal.vacuum_psf.map.shape == (4, 6)
    falling = signal_of(np.ascontiguousarray(s.data[:, ::-1]))
    energy_axis(falling).scale *= -1
    psf, _ = measure(falling)
    assert psf.data[::-1] == pytest.approx(line.data, rel=1e-9)
    axis, other = energy_axis(psf), energy_axis(line)
    assert axis.scale == -DISPERSION
    assert axis.axis[::-1] == pytest.approx(other.axis, abs=1e-9)


def test_one_spectrum_is_its_own_response():
    s = signal_of(np.random.default_rng(0).poisson(1e6 * RESPONSE))
    psf, said = measure(s)
    assert not said
    assert (psf.data == s.data).all()


@pytest.mark.parametrize("lazy", [False, True])
def test_a_sum_stays_as_it_is(lazy):
    psf, _ = measure(frames(30, 1e4))
    again, said = measure(psf.as_lazy() if lazy else psf)
    assert not said
    assert again is not psf
    assert not again._lazy
    assert (again.data == psf.data).all()
    assert again.metadata.as_dictionary() == psf.metadata.as_dictionary()


def test_channels_that_drift_out_of_view_are_scaled_up_or_cut():
    counts = np.array([1e5, 1e5, 1e5, 1e5])[:, None] * gaussian(
        512, np.array([90.0, 100.0, 100.0, 130.0]), np.full(4, 12.0)
    )
    psf, _ = measure(signal_of(np.random.default_rng(0).poisson(counts + 50)))
    assert psf.data[:20].mean() == pytest.approx(200, rel=0.1)
    assert psf.data[-20:].mean() == pytest.approx(200, rel=0.1)
    assert psf.data.size < 512


def test_few_electrons_losses_and_short_axes_are_told():
    _, said = measure(frames(20, 1000))
    assert len(said) == 1
    assert "electrons: near the zero-loss peak, its noise will count as losses" in said[0]
    s = frames(10, 1e5)
    s.data = s.data + np.random.default_rng(0).poisson(2e3 * gaussian(512, 300.0, 40.0), (10, 512))
    _, said = measure(s)
    assert len(said) == 1
    assert "rises again 13 zero-loss widths behind its peak" in said[0]
    _, said = measure(frames(10, 1e5).isig[:125])
    assert any("psf is cut off" in each for each in said)


@pytest.mark.parametrize("lazy", [False, True])
def test_nothing_usable_is_an_error(lazy):
    s = frames(4, 1e4)
    s.data[:2], s.data[2:] = 0, np.nan
    s = s.as_lazy() if lazy else s
    with pytest.raises(ValueError, match="None of 4 spectra can be used: 2 not finite, 2 empty"):
        measure(s)
    with pytest.raises(ValueError, match="holds no spectra"):
        measure(signal_of(np.zeros((0, 512))))


def test_it_is_an_error_if_the_sum_leaves_all_out(monkeypatch):
    def nothing(self, spectra):
        zeros = np.zeros(spectra.shape[-1])
        return zeros, zeros, np.full(len(spectra), EMPTY, np.uint8)

    monkeypatch.setattr(Vacuum, "sum", nothing)
    with pytest.raises(ValueError, match="None of 4 spectra can be used: 4 empty"):
        measure(frames(4, 1e4))


def test_wrong_signals_are_errors():
    s = frames(4, 1e4)
    with pytest.raises(ValueError, match="64 are needed"):
        measure(s.isig[:40])
    with pytest.raises(ValueError, match="an estimated response"):
        measure(s.estimate_psf(show_progressbar=False))
    with pytest.raises(ValueError, match="num_workers"):
        measure(s, num_workers=-1)
    for spoil, error in ((complex_data, ValueError), (non_uniform, NotImplementedError)):
        spoiled = s.deepcopy()
        spoil(spoiled)
        with pytest.raises(error):
            measure(spoiled)


@pytest.mark.parametrize("width", [2.2, 3.2, 3.6, 4.0])
def test_narrow_peaks_do_not_ring(width):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1e5 * gaussian(256, 60 + rng.uniform(-2, 2, 30), np.full(30, width)))
    psf, _ = measure(signal_of(counts))
    assert psf.data.min() > -1e-6


def test_measured_vacuum_is_its_own_response():
    s = measured("ws2_mono_vacuum.hspy")
    psf, said = measure(s)
    assert not said
    assert psf.metadata.Signal.vacuum_psf.used == 3
    assert width_of(psf.data) == pytest.approx(width_of(s.data.sum(axis=0)), rel=2e-3)


def test_measured_vacuum_is_found_beside_a_specimen():
    vacuum, specimen = (measured(f"ws2_mono_{name}.hspy") for name in ("vacuum", "specimen"))
    both = signal_of(np.concatenate([specimen.data[:4], vacuum.data]).astype(float))
    note = measure(both)[0].metadata.Signal.vacuum_psf
    assert note.map.tolist() == [True] * 4 + [False] * 3


def peak_at(position, width):
    """A peak with Lorentzian tails, of one electron in its Gaussian."""
    off = np.arange(512) - np.asarray(position)[:, None]
    tail = 0.1 / np.pi * (width / 2) / (off**2 + (width / 2) ** 2)
    return gaussian(512, np.asarray(position), np.full(len(position), float(width))) + tail


def narrow(number, electrons, width, seed=0):
    """Vacuum frames that drift by a third of the width of their peak."""
    rng = np.random.default_rng(seed)
    mean = electrons * peak_at(150 + rng.normal(0, width / 3, number), width)
    return rng.poisson(mean) + rng.normal(0, 1, mean.shape)


def deconvolved_with(psf, electrons, width):
    """What is said of the electrons of a response when a spectrum is deconvolved by it."""
    clean = peak_at([150.2], width)[0] + 0.05 * gaussian(512, 250.0, 20.0)
    s = signal_of(np.random.default_rng(1).poisson(electrons * clean))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        deconvolve(s, psf=psf)
    return [str(each.message) for each in caught if "of the electrons" in str(each.message)]


@pytest.mark.parametrize("width", [3.5, 4.0, 6.0, 10.0])
def test_aligned_sums_are_not_taken_for_few_electrons(width):
    psf, said = measure(signal_of(narrow(30, 1e5, width)))
    assert not said
    assert not deconvolved_with(psf, 3e6, width)


@pytest.mark.parametrize("width", [4.0, 10.0])
def test_sums_of_few_electrons_are_told_where_they_are_used(width):
    psf, _ = measure(signal_of(narrow(20, 1e4, width)))
    assert deconvolved_with(psf, 1e7, width)


@pytest.mark.parametrize("width", [4.0, 10.0])
@pytest.mark.parametrize(("number", "electrons"), [(100, 1e3), (30, 1e5), (30, 1e6)])
def test_electrons_of_the_sum(width, number, electrons):
    counts = 7.0 * narrow(number, electrons, width)
    psf, _ = measure(signal_of(counts))
    held = number * electrons
    assert psf.metadata.Signal.vacuum_psf.electrons == pytest.approx(held, rel=0.25)


@pytest.mark.parametrize("number", [4, 30])
def test_electrons_of_few_frames_or_of_frames_without_noise_are_not_told(number):
    place = 100 + np.linspace(-2, 2, number)
    counts = 1e3 * gaussian(512, place, np.full(number, 10.0))
    if number == 4:
        counts = np.random.default_rng(0).poisson(counts)
    psf, said = measure(signal_of(counts))
    assert not said
    assert not psf.metadata.Signal.vacuum_psf.has_item("electrons")


def drifting(width=10.0):
    rng = np.random.default_rng(1)
    return rng.poisson(1e5 * gaussian(512, 100 + rng.normal(0, 3, 40), np.full(40, width))) + 0.0


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("channel", "height"),
    [(103, 5e3), (103, 2e4), (103, -1e5)]
    + [(at, height) for at in (140, 250, 300, 350) for height in (50, 200, 2e3, 2e4)],
)
def test_a_faulty_channel_is_interpolated_before_it_is_smeared(channel, height, lazy):
    counts = drifting()
    clean, _ = measure(signal_of(counts))
    counts[:, channel] = np.maximum(counts[:, channel] + height, 0)
    s = signal_of(counts)
    psf, said = measure(s.as_lazy() if lazy else s)
    assert psf.metadata.Signal.vacuum_psf.used == 40
    assert len(said) == 1
    assert "1 channel of the detector, hot or dead in most spectra, interpolated" in said[0]
    first = round((energy_axis(psf).offset - energy_axis(clean).offset) / DISPERSION)
    assert abs(first) <= 1
    assert psf.data[20:480] == pytest.approx(
        clean.data[20 + first : 480 + first], rel=0.02, abs=600
    )
    assert s.data[0, channel] == counts[0, channel]


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("position", [100.0, 100.25, 100.5])
def test_a_narrow_peak_that_stays_in_place_is_no_faulty_channel(position, width):
    mean = np.tile(1e5 * gaussian(512, position, width) + 0.3, (20, 1))
    psf, said = measure(signal_of(np.random.default_rng(0).poisson(mean) + 0.0))
    assert not [each for each in said if "detector" in each]
    assert psf.data.max() == pytest.approx(20 * mean.max(), rel=0.02)


def test_a_spike_that_most_of_few_spectra_have_does_not_leave_them_out():
    counts = drifting()[:3]
    counts[:, 300] += 5e4
    psf, said = measure(signal_of(counts))
    assert psf.metadata.Signal.vacuum_psf.used == 3
    assert len(said) == 1
    assert "most spectra have a spike or a dead channel" in said[0]


def test_noise_that_neighbours_share_leaves_no_spectra_out():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1e4 * gaussian(512, 100 + rng.normal(0, 3, 100), np.full(100, 10.0)))
    shared = smooth(rng.normal(0, 3, counts.shape), 6.0) * np.sqrt(6.0)
    psf, _ = measure(signal_of(counts + shared))
    assert psf.metadata.Signal.vacuum_psf.left_out.losses == 0
    assert psf.metadata.Signal.vacuum_psf.used > 80


def test_width_is_that_of_the_spectra_that_are_used():
    rng = np.random.default_rng(0)
    place, width = 100 + rng.normal(0, 3, 40), np.repeat([10.0, 14.0], [22, 18])
    psf, _ = measure(signal_of(rng.poisson(1e5 * gaussian(512, place, width))))
    note = psf.metadata.Signal.vacuum_psf
    assert note.left_out.wider == 18
    assert note.zero_loss_fwhm == pytest.approx(10 * DISPERSION, rel=0.03)


@pytest.mark.parametrize(("before", "told"), [(1.0, False), (0.5, True)])
def test_what_rises_on_both_sides_alike_is_no_loss(before, told):
    """A monochromator out of tune makes bells to either side; losses lie behind the peak alone."""
    tail = 1e4 / (1 + (np.arange(512) - 200.0) ** 2 / 30)
    sides = before * gaussian(512, 144.0, 10.0) + gaussian(512, 256.0, 10.0)
    assert bool(loss_peak(1e6 * gaussian(512, 200.0, 8.0) + tail + 1e4 * sides)) == told


@pytest.mark.parametrize(("share", "faulty"), [(0.3, []), (0.7, [150])])
def test_a_faulty_channel_is_so_in_most_spectra(share, faulty):
    counts = np.random.default_rng(0).poisson(1e4 * gaussian(256, 100.0, 8.0) + 1.0, (200, 256))
    counts[: int(share * 200), 150] += 300
    assert faulty_channels(counts).tolist() == faulty


def test_what_is_usual_behind_the_peak_is_the_middle_of_normal_numbers():
    """Though it is read from the quietest spectra."""
    beside = np.random.default_rng(0).normal(1.0, 0.1, (20_000, 4))
    found = Found(np.zeros(20_000), np.ones(20_000), beside, np.full_like(beside, 0.1))
    np.testing.assert_allclose(Usual.of(found).beside, 1.0, atol=0.01)


def test_noise_alone_is_no_response():
    noise = np.random.default_rng(0).normal(0, 3, (20, 512))
    with pytest.raises(ValueError, match="20 without a clear zero-loss peak"):
        measure(signal_of(noise))
