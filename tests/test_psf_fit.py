"""Whether a response may be that of a spectrum, by the width and the tails of its zero-loss peak."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.models import load
from exspy_deepdeconv.physics import centred_response, gaussian, inspect
from exspy_deepdeconv.response.psf_fit import tail_fit, width_fit
from exspy_deepdeconv.simulate import Detector, simulate


def fit_of(psf, seen):
    return width_fit(centred_response(psf[None], seen.counts.shape[-1]), seen)


def spectrum(fwhm, electrons=1e8, position=120.3):
    """A zero-loss peak and a plasmon, ``(1, channels)``."""
    mean = gaussian(512, position, fwhm) + 0.3 * gaussian(512, position + 150, 60.0)
    return np.random.default_rng(1).poisson(electrons * mean)[None].astype(float)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("share", "trusted", "same", "usable"),
    [
        (0.005, True, True, True),
        (0.02, False, True, True),
        (0.046, False, False, True),
        (0.07, False, False, False),
    ],
)
def test_each_use_has_its_own_tolerance(sign, share, trusted, same, usable):
    width = 12 * (1 + sign * share)
    fit = fit_of(1e9 * gaussian(400, 200.0, 12.0), inspect(spectrum(width)))
    assert [bool(x[0]) for x in (fit.trusted, fit.same, fit.usable)] == [trusted, same, usable]
    assert fit.apart[0] == pytest.approx(sign * share, abs=3e-3)


@pytest.mark.parametrize("share", [0.0, -0.04, 0.04])
def test_broad_losses_under_the_peak_are_no_reason_to_doubt_a_response(share):
    """They widen the peak at half height by 3 %."""
    channel = np.arange(512)
    losses = 0.0035 / (1 + ((channel - 130) / 60) ** 2)
    mean = 1e8 * (gaussian(512, 120.3, 12.0) + losses)
    seen = inspect(np.random.default_rng(2).poisson(mean)[None].astype(float))
    assert seen.zero_loss.fwhm[0] == pytest.approx(12.4, abs=0.05)
    fit = fit_of(gaussian(400, 200.0, 12 / (1 + share)), seen)
    assert bool(fit.trusted[0]) == (share == 0)
    assert bool(fit.same[0]) == (
        share <= 0
    )  # too wide by as much as losses widen the peak: not clearly another


def test_few_electrons_excuse_a_difference():
    seen = inspect(np.concatenate([spectrum(12.0, 3e3), spectrum(12.0)]))
    fit = fit_of(gaussian(400, 200.0, 12.25), seen)
    assert fit.trusted.tolist() == [True, False]
    assert fit.same.tolist() == [True, True]


def test_a_response_whose_width_cannot_be_read_is_neither_trusted_nor_usable():
    """It has no flanks within eight widths of the zero-loss peak."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_of(np.ones(400) + gaussian(400, 200.0, 8.0), inspect(spectrum(6.0)))
        wide = fit_of(gaussian(2000, 1000.0, 200.0), inspect(spectrum(6.0)))
    assert np.isnan(wide.apart[0])
    for found in (fit, wide):
        assert not (found.trusted | found.same | found.usable)[0]


def sampled(positions, fwhm):
    """Peaks with tails of few channels, as a detector counts them; ``(positions, channels)``."""
    fine = (np.arange(21) - 10) / 21
    x = (np.arange(256)[:, None] + fine - np.asarray(positions)[:, None, None]) / fwhm
    peaks = (1 / (1 + 4 * x**2) + np.exp(-4 * np.log(2) * x**2)).mean(axis=-1)
    return peaks / peaks.sum(axis=-1, keepdims=True)


def test_an_undersampled_peak_elsewhere_between_two_channels_is_no_misfit():
    """Its width, read from two channels, depends on where it lies; this is no reason to trust it."""
    places = 100 + np.linspace(-0.5, 0.5, 12)
    seen = inspect(np.random.default_rng(0).poisson(1e7 * sampled(places, 2.0)))
    fits = [fit_of(psf, seen) for psf in sampled(places, 2.0)]
    assert np.mean([fit.same for fit in fits]) > 0.95
    assert np.mean([fit.trusted for fit in fits]) < 0.8
    assert not fit_of(sampled([100.2], 2.5)[0], seen).same.any()


@pytest.mark.parametrize(("tails", "trusted"), [(1.0, True), (0.8, False), (0.85, False)])
def test_a_response_with_other_tails_is_not_trusted(tails, trusted):
    """Its width is right. Not trusted, it leads to what an estimated one does, intervals included."""
    simulation = simulate("gap", np.random.default_rng(2), 700, detector=Detector())
    widths_away = np.abs(np.arange(1400) - 700) / simulation.fwhm
    psf = simulation.psf * tails ** np.clip((widths_away - 0.75) / 1.25, 0, 1)
    assert fit_of(psf, inspect(simulation.counts[None])).trusted[0]
    options = {"model": load(), "resolution": 2.5, "psf": psf, "interval": 0.9}
    given = deconvolve_block(simulation.counts, **options)
    doubted = deconvolve_block(simulation.counts, **options, estimated=True)
    same = all(np.array_equal(*pair) for pair in zip(given, doubted, strict=True))
    assert same != trusted


@pytest.mark.parametrize(("missing", "same"), [("an offset", True), ("a tail", False)])
def test_what_is_left_of_a_flat_offset_is_no_tail(missing, same):
    """2e-4 of the height in every channel of the gain side; the same on average as a tail."""
    distance = (np.arange(512) - 120.0) / 12.0
    used = np.exp(-4 * np.log(2) * distance**2) + 1e-3 / (1 + (2 * distance) ** 2)
    tail = 6e-3 / (1 + (2 * distance) ** 2)
    more = np.full(512, 2e-4) if missing == "an offset" else tail
    counts = np.random.default_rng(3).poisson(1e7 * (used + more))[None].astype(float)
    seen = inspect(counts)
    seen = replace(seen, counts=counts, level=np.zeros(1), level_error=np.zeros(1))
    found = (used + more)[None]
    assert tail_fit(found, used[None], seen, dispersion=0.05).same[0] == same


@pytest.mark.parametrize(("dispersion", "same"), [(0.002, True), (0.05, False), (None, True)])
def test_gains_of_a_hot_specimen_are_no_tail(dispersion, same):
    """Up to exp(-E / kT) of the losses of the same energy, at 1000 K: that depends on the energy."""
    distance = np.arange(512) - 200.0
    used = np.exp(-4 * np.log(2) * (distance / 12) ** 2) + 1e-3 / (1 + (distance / 6) ** 2)
    gains, losses = (0.01 * np.exp(-4 * np.log(2) * ((distance + at) / 8) ** 2) for at in (30, -30))
    counts = (
        np.random.default_rng(3).poisson(1e7 * (used + 0.4 * gains + losses))[None].astype(float)
    )
    found = (used + 0.4 * gains)[None]
    assert tail_fit(found, used[None], inspect(counts), dispersion).same[0] == same


@pytest.mark.parametrize("electrons", [1e5, 1e6])
def test_a_high_loss_that_draws_the_energy_zero_along_is_no_misfit(electrons):
    """Three tenths as high as the peak, on its flank: what a measured response is most needed for."""
    channel, fwhm = np.arange(1024) - 256.0, 12.0

    def bell(place, width):
        return np.exp(-4 * np.log(2) * ((channel - place) / width) ** 2)

    response = bell(0, fwhm) + 0.001 / (1 + (2 * channel / fwhm) ** 2)
    mean = electrons / fwhm * (response + 0.3 * bell(1.5 * fwhm, 1.4 * fwhm))
    counts = np.random.default_rng(0).poisson(mean, (8, 1024))
    told = {"resolution": fwhm / 4, "dispersion": 0.05, "psf": 1e7 * response}
    result, flags = deconvolve_block(counts, model=load(), **told)
    assert not flags.any()
    lost = 0.3 * electrons / fwhm * 1.0645 * 1.4 * fwhm
    found = result[:, int(256 + fwhm) : int(256 + 3 * fwhm)].sum(axis=-1)
    np.testing.assert_allclose(found, lost, rtol=0.25)


@pytest.mark.parametrize(("electrons", "same"), [(300, True), (3000, False)])
def test_a_tail_of_few_electrons_may_be_missing_by_chance(electrons, same):
    """Before the peak, the response holds some six of 300 electrons, and the spectrum none."""
    channel = np.arange(512)
    found = np.exp(-(((channel - 200) / 7.2) ** 2))
    used = found + 0.05 / (1 + (2 * (channel - 200) / 12) ** 2)
    mean = gaussian(512, 200.0, 12.0) + 0.3 * gaussian(512, 350.0, 60.0)
    counts = np.random.default_rng(0).poisson(electrons * mean)[None].astype(float)
    counts[:, :188] = 0
    fit = tail_fit(found[None], used[None], inspect(counts), dispersion=0.05)
    assert fit.same.tolist() == [same]
