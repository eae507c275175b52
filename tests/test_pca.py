"""Training pairs from measured maps: HyperSpy's PCA, references, noise, the exported file."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import measured, small_nanorod
from scipy.interpolate import PchipInterpolator
from sklearn.decomposition import NMF, PCA

from exspy_deepdeconv import data, physics
from exspy_deepdeconv.experiment.grid import grid_for
from exspy_deepdeconv.training.exported import MeasuredPairs, _varied
from exspy_deepdeconv.training.pca import measured_pairs, plot_scree
from exspy_deepdeconv.training.references import (
    captured_response,
    sampled_response,
    white_rows,
    without_elastic,
)

KEYS = {"counts", "position", "fwhm", "elastic", "inelastic", "dark", "psf", "has_psf", "same", "gain",
        "floor"}  # fmt: skip


def tungsten_disulfide():
    return measured("ws2_mono_specimen.hspy"), measured("ws2_mono_vacuum.hspy")


def manganite_line():
    return measured("lsmo_line.hspy"), None


def boron_nitride_frames():
    return measured("boron_nitride_100_frames.dm3"), None


MAPS = [small_nanorod, tungsten_disulfide, manganite_line, boron_nitride_frames]
several_maps = pytest.mark.parametrize("pair", MAPS, ids=[m.__name__ for m in MAPS])
few_spectra = pytest.mark.filterwarnings(
    "ignore:Training pairs from", "ignore:measured_pairs. the response does not fit"
)


@pytest.fixture(scope="module")
def pairs():
    signal, vacuum = small_nanorod()
    return replace(measured_pairs(signal, vacuum), channels_per_batch=16 * 512)


def same_batches(one, other, numbers=(0, 1)):
    for number in numbers:
        first, second = one.batch(number), other.batch(number)
        for key, value in first.items():
            np.testing.assert_array_equal(value, second[key])


def test_few_spectra_are_told_of():
    s = data.plasmonic_map(shape=(4, 4), channels=512)
    with pytest.warns(
        UserWarning, match=r"from 16 spectra.*simulated pairs, as fine_tune\(\) does"
    ):
        measured_pairs(s)


@few_spectra
@several_maps
def test_runs_end_to_end(pair):
    """From map to batches; what is told of them explains the counts within the noise told."""
    signal, vacuum = pair()
    before = signal.data.copy()
    pairs = replace(measured_pairs(signal, vacuum), channels_per_batch=12 * signal.data.shape[-1])
    np.testing.assert_array_equal(signal.data, before)
    batches = [pairs.batch(number) for number in range(2)]
    for batch in batches:
        assert set(batch) == KEYS
        assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in batch.values())
        assert batch["counts"].shape == (12, signal.data.shape[-1])
        _, losses, peak = explained(batch)
        assert abs(losses) < 0.01 and abs(peak) < 0.01
    # Shared noise hides from a single spectrum. Of a dozen the mean scatters by a tenth.
    assert 0.75 < np.mean([explained(batch)[0] for batch in batches]) < 1.5
    assert len({row.tobytes() for batch in batches for row in batch["counts"]}) == 24
    same_batches(pairs, measured_pairs_again(pairs), (1,))


def measured_pairs_again(pairs):
    """The same arrays without anything that a batch may have left behind."""
    return replace(pairs, losses=pairs.losses.copy(), noise=pairs.noise.copy())


def explained(batch):
    """Chi-square per channel of the losses, and relative errors of their sum and of the peak's.

    What is held against the counts is the elastic peak plus the losses, told as seen with two
    channels or a sixteenth of F, which hardly counts, blurred by the response of the pair.
    """
    channels = batch["counts"].shape[-1]
    rows = []
    for row in range(len(batch["counts"])):
        one = {key: value[row] for key, value in batch.items()}
        losses = one["inelastic"] - one["dark"]
        continued = np.concatenate([losses, np.full(channels, losses[-1])])
        psf = one["psf"]
        blurred = np.convolve(continued, psf)[channels:][:channels]
        expected = one["elastic"] + blurred + one["dark"]
        left, distance = one["counts"] - expected, np.arange(channels) - one["position"]
        far = (distance > 5 * one["fwhm"]) & (np.arange(channels) < 0.9 * channels)
        near = np.abs(distance) < one["fwhm"]
        variance = one["gain"] * np.maximum(expected, 0) + one["floor"]
        chi = np.mean(left[far] ** 2 / variance[far])
        sums = [left[part].sum() / expected[part].sum() for part in (far, near)]
        rows.append([chi, *sums])
    return np.median(rows, axis=0)


def high_frequency_power(spectrum, cutoff):
    power = np.abs(np.fft.rfft(np.hanning(spectrum.size) * (spectrum - spectrum.mean()))) ** 2
    return power[np.fft.rfftfreq(spectrum.size) > cutoff].sum()


def cutoff_frequency(response, channels):
    """Where the response lets a tenth through, in cycles per channel."""
    transfer = np.abs(np.fft.rfft(sampled_response(response, channels)))
    return np.fft.rfftfreq(2 * channels)[np.argmax(transfer < 0.1)]


@few_spectra
@several_maps
@pytest.mark.parametrize("seed", [0, 1])
def test_references_hold_no_noise(pair, seed):
    """Rebuilt from random halves, they differ by 10 dB less than the halves' means, and more.

    Eight spectra are the fewest: of the ten of the WS2 line, both "halves" hold eight.
    """
    signal, vacuum = pair()
    vacuum = signal.estimate_psf(show_progressbar=False).mean() if vacuum is None else vacuum
    rows = signal.data.reshape(-1, signal.data.shape[-1]).astype(float)
    order = np.random.default_rng(seed).permutation(len(rows))
    size = max(len(rows) // 2, 8)
    means, references = [], []
    for chosen in (order[:size], order[-size:]):
        half = type(signal)(rows[chosen])
        half.axes_manager[-1].scale = signal.axes_manager[-1].scale
        half.axes_manager[-1].units = "eV"
        pairs = measured_pairs(half, vacuum)
        shift = pairs.zero - physics.find_zero_loss(rows[chosen]).position
        elastic = pairs.loadings @ pairs.elastic
        means.append((physics.shift_channels(rows[chosen], shift) / elastic[:, None]).mean(axis=0))
        references.append(pairs.references().mean(axis=0))
    first = pairs.zero + int(2 * pairs.fwhm) + 1
    cutoff = cutoff_frequency(pairs.response, pairs.channels)
    raw, rebuilt = (
        high_frequency_power((one - other)[first:], cutoff) for one, other in (means, references)
    )
    assert 10 * np.log10(raw / rebuilt) > 10


def test_response_is_captured_where_the_map_loses_the_least():
    """Read off its mean, a tenth of the tail beside the peak would be losses."""
    signal = data.plasmonic_map(shape=(10, 10))
    alone, told = (measured_pairs(signal, psf) for psf in (None, data.vacuum_spectrum(signal)))
    tails = []
    for pairs in (alone, told):
        distance, height = pairs.response
        tail = (distance > pairs.fwhm) & (distance < 3 * pairs.fwhm)
        tails.append(np.interp(np.linspace(12, 36, 25), distance[tail], np.exp(height[tail])))
    assert np.abs(tails[0] - tails[1]).sum() < 0.04 * tails[1].sum()


def test_references_are_the_specimen():
    """Against the simulated map's truth at the resolution that the references claim."""
    signal = data.plasmonic_map(shape=(8, 8), channels=1024)
    pairs = measured_pairs(signal, data.vacuum_spectrum(signal))
    energy = np.arange(pairs.channels) - pairs.zero
    far = energy > pairs.fwhm
    errors, raw = [], []
    measured = signal.data.reshape(-1, pairs.channels)
    simulations = data.simulations(signal.metadata.Simulation.as_dictionary())
    for reference, simulation, counts in zip(
        pairs.references(), simulations, measured, strict=True
    ):
        at = energy + simulation.position
        truth, seen = (
            np.interp(at, np.arange(pairs.channels), x) / simulation.elastic_counts
            for x in (simulation.inelastic(pairs.resolution), counts)
        )
        size = np.linalg.norm(truth[far])
        errors.append(np.linalg.norm((reference - truth)[far]) / size)
        raw.append(np.linalg.norm((seen - truth)[far]) / size)
    assert np.median(errors) < 0.15
    assert np.median(errors) < 0.2 * np.median(raw)


def test_loadings_are_drawn_between_and_beyond_the_measured_ones(pairs):
    """The rod's modes beside the membrane's losses: never the same, a little beyond the map's."""

    def modes(losses):
        start = pairs.zero + 24
        return losses[:, start : start + 100].sum(axis=1) / losses[:, start + 200 :].sum(axis=1)

    measured = modes(pairs.references())
    drawn = modes(np.concatenate([pairs.batch(number)["inelastic"] for number in range(8)]))
    assert len(np.unique(drawn)) == len(drawn)
    between = (drawn > measured.min()) & (drawn < measured.max())
    assert 0.5 < between.mean() < 1
    assert drawn.min() >= 0 and drawn.max() < 2 * measured.max()


def test_measured_noise_is_kept_as_it_was():
    """Noise that neighbouring channels share stays shared, and has the size that it had."""
    rng = np.random.default_rng(0)
    line = data.plasmonic_map(shape=(8, 8), channels=512)
    expected = np.stack(
        [s.expected for s in data.simulations(line.metadata.Simulation.as_dictionary())]
    )
    white = rng.standard_normal((64, 513)) * np.sqrt(0.5)
    noise = (white[:, 1:] + white[:, :-1]) * np.sqrt(expected + 400)
    line.data = (expected + noise).reshape(line.data.shape)
    pairs = measured_pairs(line, data.vacuum_spectrum(line))
    rows = pairs.noise
    correlation = np.mean(rows[:, 1:] * rows[:, :-1]) / np.mean(rows**2)
    assert correlation == pytest.approx(0.5, abs=0.1)
    counts = np.array([10.0, 300.0])  # as in the losses
    size = np.median(pairs.excess) * (pairs.gain * counts + pairs.floor)
    np.testing.assert_allclose(size, counts + 400, rtol=0.3)


@few_spectra
def test_noise_that_the_components_took_is_counted_too():
    """Eight components leave half of the noise of sixteen spectra."""
    signal = data.plasmonic_map(shape=(4, 4), channels=512)
    pairs = measured_pairs(signal, data.vacuum_spectrum(signal), components=8)
    assert np.median(pairs.excess) == pytest.approx(1.0, abs=0.15)


def test_drawn_spectra_are_as_noisy_as_the_measured_ones(pairs):
    rng, response = np.random.default_rng(0), PchipInterpolator(*pairs.response)
    ratios = []
    for _ in range(60):
        made = pairs._simulation(pairs.specimens(), response, rng)
        variance = pairs.gain * np.maximum(made.expected - made.dark, 0) + pairs.floor
        ratios.append((made.counts - made.expected) ** 2 / (variance * pairs.excess))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)


def test_batches_do_not_depend_on_the_unit_of_the_counts(pairs):
    """A detector that counts ten for each electron, under an offset, shows the same spectra."""
    one = replace(pairs, level=40.0)
    ten = replace(
        one, elastic=10 * one.elastic, losses=10 * one.losses, gain=10 * one.gain,
        floor=100 * one.floor, level=10 * one.level,
    )  # fmt: skip
    for key, value in one.batch(0).items():
        np.testing.assert_allclose(ten.batch(0)[key], value, rtol=1e-3, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(("width", "skew"), [(1.5, 1.0), (0.7, 1.0), (1.0, 1.2)])
def test_a_varied_response_is_wider_or_leans(pairs, width, skew):
    """Both halves are stretched, that of the losses by width times skew."""
    grid = grid_for(512, pairs.fwhm)
    response = PchipInterpolator(*pairs.response)
    halves = []
    for stretch in ((1.0, 1.0), (width, skew)):
        shape = _varied(response, grid, *stretch)
        assert shape.sum() == pytest.approx(1)
        high = grid.wrapped_channels[shape > 0.5 * shape.max()]
        halves.append((high.max(), -high.min()))
    wanted = np.array(halves[0]) * [width * skew, width / skew]
    np.testing.assert_allclose(halves[1], wanted, atol=1.5 / grid.oversampling)


def test_lazy_and_integer_maps_give_the_same(pairs):
    signal, vacuum = small_nanorod()
    lazy = replace(measured_pairs(signal.as_lazy(), vacuum), channels_per_batch=16 * 512)
    same_batches(pairs, lazy)
    whole = signal.deepcopy()
    whole.data = np.rint(np.maximum(whole.data, 0)).astype(np.uint32)
    cast = measured_pairs(whole, vacuum)
    far = np.arange(512) > cast.zero + 2 * cast.fwhm
    references, others = (p.references()[:, far] for p in (pairs, cast))
    assert np.linalg.norm(references - others) < 0.03 * np.linalg.norm(references)


@few_spectra
def test_vacuum_pixels_of_the_map_serve_as_response():
    """As a mask in HyperSpy's order (x, y), as a signal, and as the same spectra given apart."""
    signal = data.plasmonic_map(shape=(8, 6), channels=512)
    vacuum = data.vacuum_spectrum(signal)
    signal.data[:, 4:] = np.random.default_rng(0).poisson(np.maximum(vacuum.data, 0), (8, 2, 512))
    mask = np.zeros((6, 8), bool)
    mask[4:] = True
    masked = measured_pairs(signal, vacuum=mask)
    assert len(masked.loadings) == 32
    as_signal = measured_pairs(signal, vacuum=hs.signals.Signal2D(mask.T).T)
    same_batches(masked, as_signal, (0,))
    apart = measured_pairs(signal.inav[:4], signal.inav[4:])
    same_batches(masked, apart, (0,))


def test_blind_response_is_like_the_measured_one(pairs):
    signal, _ = small_nanorod()
    blind = measured_pairs(signal)
    one, other = (sampled_response(p.response, 512) for p in (blind, pairs))
    assert np.abs(one - other).sum() < 0.2


def test_a_captured_response_is_freed_of_noise_and_broadened_to_the_map():
    rng = np.random.default_rng(0)
    wide = 1 / (1 + ((np.arange(512) - 150.3) / 5) ** 2)
    truth = 1 / (1 + (np.arange(-512, 512) / 5) ** 2)
    captured = sampled_response(captured_response(rng.poisson(1e5 * wide, (4, 512)), 10.0), 512)
    near = slice(412, 612)
    np.testing.assert_allclose(captured[near] / captured[512], truth[near], rtol=0.1, atol=2e-3)
    broad = sampled_response(captured_response(rng.poisson(1e5 * wide, (4, 512)), 14.0), 512)
    assert physics.half_height_width(broad, np.array(512)) == pytest.approx(14, rel=0.05)


@pytest.mark.parametrize(
    "algorithm", [PCA(5, random_state=0), NMF(5, random_state=0, max_iter=3000), "sklearn_pca"]
)
def test_algorithms_of_scikit_learn(pairs, algorithm):
    other = measured_pairs(*small_nanorod(), algorithm=algorithm)
    references, others = pairs.references(), other.references()
    assert np.linalg.norm(references - others) < 0.05 * np.linalg.norm(references)


def test_number_of_components_and_scree_plot(pairs):
    assert 2 <= pairs.elastic.size <= 8
    assert measured_pairs(*small_nanorod(), components=3).elastic.size == 3
    axes = plot_scree(pairs)
    signal, noise = axes.lines[:2]
    assert len(signal.get_ydata()) == pairs.elastic.size
    np.testing.assert_allclose(noise.get_ydata()[0], pairs.variance_ratio[pairs.elastic.size])
    assert plot_scree(pairs, ax=axes) is axes
    with pytest.raises(ValueError, match="no scree plot"):
        plot_scree(measured_pairs(*small_nanorod(), frames=True))
    with pytest.raises(TypeError, match=r"measured_pairs\(signal\) returns, not .* EELSSpectrum"):
        plot_scree(small_nanorod()[0])


def test_frames_of_one_area_are_one_reference():
    signal, vacuum = small_nanorod()
    expected = data.simulations(signal.metadata.Simulation.as_dictionary())[28].expected
    bright = np.random.default_rng(1).uniform(0.8, 1.2, (60, 1))
    counts = np.random.default_rng(2).poisson(np.maximum(expected, 0) * bright)
    frames = type(signal)(counts.astype(np.int32))
    frames.axes_manager[-1].scale, frames.axes_manager[-1].units = 0.01, "eV"
    found, told = measured_pairs(frames, vacuum), measured_pairs(frames, vacuum, frames=True)
    same_batches(found, told, (0,))
    assert found.elastic.size == 1 and np.ptp(found.references(), axis=0).max() < 1e-12
    assert measured_pairs(frames, vacuum, frames=False).elastic.size > 1


def test_exported_file_needs_no_hyperspy(pairs, tmp_path):
    path = pairs.export(tmp_path / "map.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["map.npz"]
    same_batches(pairs, MeasuredPairs.load(path))
    code = """
import sys
for name in ("hyperspy", "exspy", "sklearn", "dask", "matplotlib"):
    sys.modules[name] = None
import numpy as np
from exspy_deepdeconv.experiment.grid import grid_for
from exspy_deepdeconv.training.exported import MeasuredPairs, _varied
np.savez(sys.argv[2], **MeasuredPairs.load(sys.argv[1]).batch(3))
"""
    out = tmp_path / "batch.npz"
    subprocess.run(
        [sys.executable, "-c", code, str(path), str(out)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    with np.load(out) as other:
        for key, value in pairs.batch(3).items():
            np.testing.assert_array_equal(value, other[key])


def test_exported_file_in_the_home_folder(pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pairs.export("~/pairs.npz") == tmp_path / "pairs.npz"
    same_batches(pairs, MeasuredPairs.load("~/pairs.npz"), numbers=(0,))


def test_exported_file_is_checked(pairs, tmp_path):
    with pytest.raises(ValueError, match="must end in .npz"):
        pairs.export(tmp_path / "map.npy")
    np.savez(tmp_path / "other.npz", counts=np.zeros(3))
    with pytest.raises(ValueError, match="no measured pairs"):
        MeasuredPairs.load(tmp_path / "other.npz")
    np.save(tmp_path / "other.npy", np.zeros(3))
    with pytest.raises(ValueError, match="no measured pairs"):
        MeasuredPairs.load(tmp_path / "other.npy")


def test_a_damaged_file_of_pairs_is_named(pairs, tmp_path):
    path = tmp_path / "pairs.npz"
    whole = pairs.export(path).read_bytes()
    for place in (100, len(whole) // 2):  # in the data of an array, not in the table of contents
        path.write_bytes(whole[:place] + bytes(8) + whole[place + 8 :])
        with pytest.raises(ValueError, match="no measured pairs"):
            MeasuredPairs.load(path)


def test_few_spectra():
    signal, vacuum = small_nanorod()
    with pytest.raises(ValueError, match="7 usable .* at least 8 .* simulated pairs"):
        measured_pairs(signal.inav[:7, 0], vacuum)
    with pytest.warns(UserWarning, match="from 8 spectra"):
        measured_pairs(signal.inav[:, 0], vacuum)
    signal.data[:7] = 0  # empty pixels do not count
    with pytest.raises(ValueError, match=r"8 usable|7 usable"):
        measured_pairs(signal.inav[:7], vacuum)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"components": 0}, ValueError, "components=0"),
        ({"components": True}, ValueError, "components=True"),
        ({"seed": None}, ValueError, "seed=None"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"frames": "yes"}, ValueError, "frames='yes'"),
        ({"frames": 1}, ValueError, "frames=1"),
        ({"psf": np.ones(100)}, TypeError, "not ndarray"),
        ({"vacuum": np.ones((8, 8), bool)}, ValueError, "psf and vacuum"),
        ({"psf": None, "vacuum": np.ones((3, 8), bool)}, ValueError, r"vacuum .*\(8, 8\)"),
        ({"psf": None, "vacuum": np.ones((8, 8))}, ValueError, "vacuum must hold bool"),
        ({"psf": None, "vacuum": np.zeros((8, 8), bool)}, ValueError, "True nowhere"),
        ({"psf": None, "vacuum": np.ones((8, 8), bool)}, ValueError, "vacuum leaves out every"),
        ({"algorithm": "NMF"}, ValueError, "components=None.*'NMF'"),
        ({"algorithm": PCA}, TypeError, "algorithm=.*PCA.* is a class"),
    ],
)
def test_bad_arguments(arguments, error, words):
    signal, vacuum = small_nanorod()
    with pytest.raises(error, match=words):
        measured_pairs(signal, **({"psf": vacuum} | arguments))


@pytest.mark.parametrize("algorithm", ["SVD", "NMF"])
def test_more_components_than_there_can_be(algorithm):
    s, vacuum = small_nanorod()
    few = s.inav[:6, :8]
    with pytest.raises(ValueError, match="components=1000 must be at most 24 for 48 "):
        measured_pairs(few, vacuum, components=1000, algorithm=algorithm)


def test_bad_signals():
    signal, vacuum = small_nanorod()
    with pytest.raises(TypeError, match="signal must be an EELSSpectrum"):
        measured_pairs(signal.data)
    coarse = vacuum.deepcopy()
    coarse.axes_manager[-1].scale *= 2
    with pytest.raises(ValueError, match="same dispersion"):
        measured_pairs(signal, coarse)
    with pytest.raises(ValueError, match="zero-loss peak"):
        measured_pairs(signal, vacuum * 0)


def test_a_map_without_a_zero_loss_peak_is_refused_in_plain_words():
    losses = data.plasmonic_map(shape=(8, 8), channels=512).isig[2.0:]
    with pytest.raises(ValueError, match="no zero-loss peak"):
        measured_pairs(losses)


def test_pairs_are_one_line(pairs):
    assert repr(pairs).startswith("<MeasuredPairs of ") and "\n" not in repr(pairs)


def test_results_are_no_measurements():
    """Of a sharpened map the response would be a sharpened one; a residual holds none."""
    quietly = {"show_progressbar": False}
    s = data.plasmonic_map((8, 8), 512)
    vacuum = data.vacuum_spectrum(s)
    sharp = [each.deep_deconvolve(**quietly) for each in (s, vacuum)]
    left = [
        each.deconvolution_residual(result, **quietly)
        for each, result in zip((s, vacuum), sharp, strict=True)
    ]
    for (bad_map, bad_psf), kind in ((sharp, "itself a result"), (left, "a residual")):
        with pytest.raises(ValueError, match=f"signal is {kind}.*: measured spectra are needed"):
            measured_pairs(bad_map, vacuum)
        with pytest.raises(ValueError, match=f"psf is {kind}.*, not a measured zero-loss peak"):
            measured_pairs(s, bad_psf)
    responses = s.estimate_psf(**quietly)
    with pytest.raises(ValueError, match="signal is an estimated response"):
        measured_pairs(responses, vacuum)
    measured_pairs(s, responses)  # which may stand for a measured one


def twice_as_wide(psf):
    channels = np.arange(psf.data.size)
    psf.data = np.interp(channels / 2 + psf.data.argmax() / 2, channels, psf.data)


def saturated(psf):
    psf.data = np.minimum(psf.data, 0.3 * psf.data.max())


def cut_off(psf):
    psf.crop(-1, start=-0.25, end=0.25)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (twice_as_wide, "2 times as wide"),
        (
            twice_as_wide,
            "response does not fit 64 of 64 spectra .* not the one that recorded the map",
        ),
        (saturated, "saturated"),
        (cut_off, "psf is cut off"),
    ],
)
def test_a_response_that_is_none_is_told(spoil, words):
    s = data.plasmonic_map(shape=(8, 8), channels=512)
    psf = data.vacuum_spectrum(s)
    spoil(psf)
    with pytest.warns(UserWarning, match=words):
        measured_pairs(s, psf)


def test_a_good_response_is_no_matter_for_a_warning():
    s = data.plasmonic_map(shape=(8, 8), channels=512)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        measured_pairs(s, data.vacuum_spectrum(s))


def heard_of(signal, psf=None, **options):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        pairs = measured_pairs(signal, psf, **options)
    assert isinstance(pairs, MeasuredPairs)
    return " ".join(str(w.message) for w in heard)


def test_a_measured_response_that_deep_deconvolve_rejects_is_told():
    """That of WS2 has other tails than the spectra of the map."""
    signal, vacuum = tungsten_disulfide()
    with pytest.warns(UserWarning, match="of 10 spectra 10 that the psf does not fit"):
        signal.deep_deconvolve(psf=vacuum.vacuum_psf(show_progressbar=False))
    assert "the response does not fit 10 of 10 spectra of the map" in heard_of(signal, vacuum)
    assert "does not fit" not in heard_of(signal)


def test_a_response_that_is_narrower_is_told_and_broadened():
    s = data.plasmonic_map(shape=(8, 8), channels=512)
    vacuum = data.vacuum_spectrum(s)
    s.data = physics.smooth(s.data, 6.0)
    s.data = np.random.default_rng(0).poisson(np.maximum(s.data, 0)).astype(float)
    told = "narrower than the zero-loss peaks of 64 of 64 spectra of the map: it is broadened"
    assert told in heard_of(s, vacuum)


@pytest.mark.parametrize("wide", [False, True])
def test_vacuum_of_the_map_is_judged_too(wide):
    s = data.plasmonic_map(shape=(8, 8), channels=512)
    spectrum = data.vacuum_spectrum(s)
    if wide:
        twice_as_wide(spectrum)
    empty = np.zeros((8, 8), bool)
    empty[:1] = True
    s.data[empty] = spectrum.data
    told = "does not fit 56 of 56 spectra of the map" in heard_of(s, vacuum=empty.T)
    assert told == wide


def test_what_cannot_be_a_source_of_pairs():
    s = data.plasmonic_map(shape=(8, 8), channels=512)
    with pytest.raises(ValueError, match="psf is the signal itself"):
        measured_pairs(s, s)
    with pytest.raises(ValueError, match="frames=True has one component, not components=3"):
        measured_pairs(s, frames=True, components=3)
    s.data = np.minimum(s.data, 0.3 * s.data.max())
    with pytest.raises(ValueError, match="signal has 0 usable low-loss spectra"):
        measured_pairs(s)


def test_white_noise_keeps_its_variance_though_slow_variations_are_taken_out():
    left = np.random.default_rng(0).standard_normal((200, 1024))
    rows, excess = white_rows(left, fwhm=3.0, zero=100)
    assert excess.mean() == pytest.approx(1, abs=0.02)
    assert rows.std() == pytest.approx(1, abs=0.02)


def test_a_peak_that_drift_has_broadened_leaves_no_losses_beside_it():
    """What it leaves on the gain side is no loss on the other."""
    peak, loss = 1e5 * physics.gaussian(512, 150.0, 9.0), 2e3 * physics.gaussian(512, 260.0, 20.0)
    response = physics.gaussian(1024, 512.0, 8.0)
    losses = without_elastic((peak + loss)[None], np.full(512, 100.0), response, 8.0, 150)[1][0]
    assert np.abs(losses[:200]).max() < 1
    assert losses[200:].sum() == pytest.approx(2e3, rel=0.01)


def test_a_response_that_is_too_short_is_told_so():
    s = data.plasmonic_map((4, 4), 512)
    short = data.vacuum_spectrum(s).isig[85:120]
    with pytest.raises(ValueError, match=r"35 channels: they must be more than four"):
        measured_pairs(s, short)
