"""Measured spectra, where the development data lie beside the checkout (they are not packaged)."""

import warnings

import numpy as np
import pytest
from _helpers import measured
from scipy.optimize import curve_fit

from exspy_deepdeconv.physics import find_zero_loss, shift_channels, smooth


def quiet(signal, **arguments):
    """Deconvolve with every warning of ours an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*under 3 there is nothing to sharpen")  # LSMO's
        return signal.deep_deconvolve(show_progressbar=False, **arguments)


@pytest.mark.parametrize(
    "name",
    ["diamond_mono.dm3", "srtio3.dm3", "boron_nitride_100_frames.dm3", "lsmo_line.hspy",
     "manganese_oxide.msa", "aluminium_mono.dm3"],
)  # fmt: skip
def test_runs_without_warnings_and_conserves_counts(name):
    signal = measured(name)
    result = quiet(signal)
    before, after = signal.data.sum(-1, dtype=float), result.data.sum(-1, dtype=float)
    np.testing.assert_allclose(after, before, rtol=0.01)
    assert (result.data >= 0).all()
    assert result.axes_manager[-1].offset == signal.axes_manager[-1].offset


def test_aluminium_plasmon():
    """15.03 eV above the zero-loss maximum; 0.66 eV wide as measured with a 0.16 eV response."""
    result = quiet(measured("aluminium_mono.dm3"))
    axis = result.axes_manager[-1]
    zero = axis.offset + axis.scale * float(find_zero_loss(result.data).position)
    energy = axis.axis - zero
    near = (energy > 14.0) & (energy < 16.2)

    def plasmon(e, height, centre, width, level, slope):
        return height / (1 + (2 * (e - centre) / width) ** 2) + level + slope * (e - 15)

    start = (result.data[near].max(), 15.0, 0.6, result.data[near].min(), 0.0)
    _, centre, width, _, _ = curve_fit(plasmon, energy[near], result.data[near], start)[0]
    assert centre == pytest.approx(15.03, abs=0.05)
    assert 0.55 < width < 0.62


WINDOW = slice(0.6, 1.2)  # eV, where the zero-loss tail covers the specimen's own losses


def mean_counts(signal):
    return signal.isig[WINDOW].data.mean(-1).astype(float)


def test_tungsten_disulfide_with_its_vacuum_response():
    """Which is not its response: two thirds of the gain-side tail are missing, or more."""
    specimen, vacuum = measured("ws2_mono_specimen.hspy"), measured("ws2_mono_vacuum.hspy").mean()
    with pytest.warns(UserWarning, match="of 10 spectra 10 that the psf does not fit"):
        told = specimen.deep_deconvolve(psf=vacuum, show_progressbar=False)
    np.testing.assert_array_equal(told.data, quiet(specimen).data)
    for resolution in (None, 0.08):
        blind = quiet(specimen, resolution=resolution)
        assert blind.metadata.Signal.deep_deconvolution.flags.gains == 0


def test_tungsten_disulfide_blind():
    """Most of the tail goes, and nothing of what lies beyond it."""
    specimen = measured("ws2_mono_specimen.hspy")
    blind = quiet(specimen)
    assert np.median(mean_counts(specimen) / mean_counts(blind)) > 3
    far = [s.isig[4.0:].data.mean(0).astype(float) for s in (specimen, blind)]
    assert np.linalg.norm(far[0] - far[1]) < 0.1 * np.linalg.norm(far[0])


def test_tungsten_disulfide_is_explained_by_classical_results():
    """With its vacuum response, though its width is not quite theirs; not with one half as wide again."""
    specimen, vacuum = measured("ws2_mono_specimen.hspy"), measured("ws2_mono_vacuum.hspy").mean()
    for method in (specimen.rl_deconvolve, specimen.fourier_deconvolve):
        with pytest.warns(UserWarning) as caught:
            method(vacuum, show_progressbar=False)
        (told,) = (str(w.message) for w in caught)  # as of the network's result
        assert told.endswith("of 10 spectra 8 that the psf does not fit (used all the same).")
    vacuum.data = smooth(vacuum.data, 19.0)  # 17 channels wide before
    for method in (specimen.rl_deconvolve, specimen.fourier_deconvolve):
        with pytest.warns(UserWarning, match="of 10 spectra 10 not explained by the result"):
            method(vacuum, show_progressbar=False)


def test_tungsten_disulfide_gains_no_noise_from_a_vacuum_response_that_hardly_fits():
    """The Fourier ratio had 6 to 14 times the noise of the data where there are no lines."""
    specimen, vacuum = measured("ws2_mono_specimen.hspy"), measured("ws2_mono_vacuum.hspy").mean()
    sharp = specimen.fourier_deconvolve(vacuum, show_progressbar=False)
    steps = [np.diff(s.isig[5.0:9.0].data.astype(float)).std(-1) for s in (specimen, sharp)]
    assert (steps[1] < 1.5 * steps[0]).all()


@pytest.fixture
def used_all_the_same():
    """The result of WS2 with its vacuum response, where it is used although it does not fit."""
    specimen, vacuum = measured("ws2_mono_specimen.hspy"), measured("ws2_mono_vacuum.hspy").mean()
    with pytest.warns(UserWarning, match=".* of 10 spectra .* with more energy gains than losses"):
        return specimen.deep_deconvolve(
            psf=vacuum, force_psf=True, return_interval=True, show_progressbar=False
        )


def intervals_of(results):
    """Lower and upper bounds, over the energies of the window."""
    return [bound.isig[WINDOW].data for bound in results[1:]]


def test_tungsten_disulfide_blind_agrees_with_its_vacuum_response(used_all_the_same):
    """Under its tail the intervals of both overlap; blind, next to nothing may be the likeliest."""
    specimen = measured("ws2_mono_specimen.hspy")
    low, high = intervals_of(quiet(specimen, return_interval=True))
    low_told, high_told = intervals_of(used_all_the_same)
    assert ((low <= high_told) & (low_told <= high)).mean() > 0.95
    # They may be wide, but by far not as wide as the tail is high.
    assert (high - low).mean() < mean_counts(specimen).mean()


def test_shoulders_of_tungsten_disulfide_are_response():
    """Of two spectra the gain side is the higher one; the data are explained, gains are none."""
    specimen = measured("ws2_mono_specimen.hspy").inav[6::3]
    blind = quiet(specimen)
    gains = [s.isig[-0.6:-0.2].data.mean(-1) for s in (specimen, blind)]
    assert (gains[1] < 0.02 * gains[0]).all()
    chi2 = specimen.deconvolution_residual(blind, return_maps=True, show_progressbar=False)[1]
    assert chi2.data.max() < 2.0  # lowloss-v7 3.0


def reblurred(signal, result, psf):
    """The result blurred again: with a noise of 1, the residual is the difference in counts."""
    plain = signal.deepcopy()
    plain.set_noise_variance(1.0)
    residual = plain.deconvolution_residual(result, psf, show_progressbar=False)
    return signal.data - residual.data


@pytest.fixture(scope="module")
def predictions():
    """Mean squares beside the mean of the other frames: raw, ours and theirs, blurred again."""
    frames = measured("boron_nitride_100_frames.dm3")
    data = frames.data.astype(float)
    places = find_zero_loss(data).position  # the beam drifts by a quarter of a channel
    raw, ours, theirs = [], [], []
    start = int(places.mean() + 8)
    for row in range(0, 100, 10):
        frame = frames.inav[row]
        others = [shift_channels(data[n], places[row] - places[n]) for n in range(100) if n != row]
        others = np.mean(others, axis=0)
        others *= frame.data.sum(dtype=float) / others.sum()
        psf = frame.estimate_psf(show_progressbar=False)
        results = quiet(frame), frame.rl_deconvolve(psf, show_progressbar=False)
        predicted = (reblurred(frame, result, psf) for result in results)
        for errors, spectrum in zip((raw, ours, theirs), (frame.data, *predicted), strict=True):
            errors.append(np.mean((spectrum - others)[start:] ** 2))
    raw, ours, theirs = (float(np.median(x)) for x in (raw, ours, theirs))
    print(f"raw {raw:.4g}, ours {ours / raw:.3f} of it, automatic RL {theirs / raw:.3f}")
    return raw, ours, theirs


def test_one_frame_of_boron_nitride_predicts_the_others(predictions):
    """Deconvolved and blurred again, it is nearer to the mean of the other frames than it was."""
    raw, ours, theirs = predictions
    assert ours < 0.65 * raw and ours < theirs


@pytest.mark.xfail(
    strict=True, reason="0.51 of the raw mean square with lowloss-v13", raises=AssertionError
)
def test_one_frame_of_boron_nitride_predicts_the_others_three_times_better(predictions):
    raw, ours, _ = predictions
    assert ours < raw / 3


@pytest.fixture
def overlap(used_all_the_same):
    """Where the blind interval of WS2 above 1.5 eV and the one with the vacuum response overlap."""
    blind = quiet(measured("ws2_mono_specimen.hspy"), return_interval=True)[1:]
    given = used_all_the_same[1:]
    (low, high), (low_given, high_given) = ([s.isig[1.5:].data for s in x] for x in (blind, given))
    both = (low <= high_given) & (low_given <= high)
    print(f"in {both.mean():.3f} of the channels")
    return both


def test_intervals_of_tungsten_disulfide_blind_and_given_overlap(overlap):
    """Above 1.5 eV, where the tail of the response is no matter."""
    assert overlap.mean() > 0.95
