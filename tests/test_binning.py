"""Wide zero-loss peaks are seen on bins of several channels, and the answer comes back to all of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from exspy_deepdeconv import evaluate, models
from exspy_deepdeconv.estimate import binning
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.inference import estimate_response
from exspy_deepdeconv.layers.frame import Frame
from exspy_deepdeconv.network import Answer, Spectra
from exspy_deepdeconv.physics import default_resolution, gaussian
from exspy_deepdeconv.simulate import SCENES, Detector, simulate

CHANNELS = 1003  # no multiple of any bin


def bell(frame, channel, width):
    """A Gaussian around a channel of the data, on the frame."""
    distance = torch.arange(frame.size) - (frame.left[:, None] + channel[:, None])
    return torch.exp(-0.5 * (distance / width) ** 2)


def knowing(seen):
    """A network that answers with a Gaussian 100 channels behind the peak, whatever the bins."""

    def network(spectra):
        seen.spectra = spectra
        frame = Frame(spectra.position, spectra.counts.shape[1])
        ratio = 40.0 / spectra.fwhm  # channels in a bin
        there = spectra.position + 100 / ratio
        broad = bell(frame, there, (8.0 / ratio)[:, None])
        told = torch.ones(len(there), 2, 4, frame.size)
        return Answer(broad, broad, broad.sum(1), 0.5 / ratio, 1 + broad, told, spectra.fwhm, frame)

    return network


def spectra_at(*positions, psf=None):
    position = torch.tensor(positions)
    each = torch.ones_like(position)
    counts = torch.exp(-0.5 * ((torch.arange(CHANNELS) - position[:, None]) / 17.0) ** 2)
    return Spectra(counts, position, 40 * each, 1e-3 * each, 1e-6 * each, psf)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 7])
def test_an_answer_on_bins_comes_back_to_its_channels(number):
    seen = SimpleNamespace()
    spectra = spectra_at(200.0, 301.3, 402.7)
    answer = binning.answer_of(knowing(seen), spectra, number)
    expected = bell(answer.frame, spectra.position + 100, 8.0)
    torch.testing.assert_close(answer.inelastic, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(answer.frame.take(answer.frame.put(spectra.counts)), spectra.counts)
    torch.testing.assert_close(answer.elastic_counts, answer.elastic.sum(1), rtol=3e-3, atol=0)
    torch.testing.assert_close(answer.shift, torch.full((3,), 0.5))
    assert answer.frame.channels == CHANNELS and (answer.told == 1).all()
    assert float(answer.finest[0]) == max(40 / 16, 2 * number)


@pytest.mark.parametrize("number", [3, 5])
def test_interpolation_goes_through_the_bins_whatever_they_hold(number):
    noise = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    fine = binning._finer(noise, number)
    torch.testing.assert_close(fine[:, number // 2 :: number], noise, atol=1e-5, rtol=0)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_what_is_seen_on_bins_lies_where_it_is_said_to(number):
    """Peak and measured response, by their centres of mass; noise, by adding up electrons."""
    seen = SimpleNamespace()
    zero = CHANNELS + 96
    psf = torch.exp(-0.5 * ((torch.arange(2 * zero) - zero) / 17.0) ** 2)[None]
    binning.answer_of(knowing(seen), spectra_at(200.2, 401.7, psf=psf), number)
    found = seen.spectra
    index = torch.arange(found.counts.shape[1])
    centre = (found.counts * index).sum(1) / found.counts.sum(1)
    torch.testing.assert_close(centre, found.position, atol=2e-3, rtol=0)
    nearest = torch.floor(torch.tensor([200.2, 401.7]) + 0.5)
    middle = found.position - (torch.tensor([200.2, 401.7]) - nearest) / number
    assert ((middle - middle.round()).abs() <= 0.5 / number + 1e-3).all()
    index = torch.arange(found.psf.shape[1])
    centre = (found.psf * index).sum(1) / found.psf.sum(1)
    assert centre == pytest.approx(found.psf.shape[1] // 2, abs=2e-3)
    assert float(found.gain[0]) == pytest.approx(1e-3 / number)
    assert float(found.floor[0]) == pytest.approx(1e-6 / number)


def wide(scene, width, seed, channels=1024):
    rng = np.random.default_rng([seed, width])
    fixed = replace(SCENES[scene], fwhm_channels=(width, width), elastic_counts=(1e6, 1e6))
    return simulate(fixed, rng, channels, Detector())


def test_wide_peaks_of_a_map_are_each_seen_on_their_own_bins():
    """One by one or together, with one response or each its own: the same."""
    each = [wide("plasmonic", width, 1) for width in (12, 40, 70)]
    stack = np.stack([simulation.counts for simulation in each])
    psf = np.stack([simulation.psf for simulation in each])
    for response in (None, psf):
        found = deconvolve_block(
            stack, model=models.load(), resolution=12.0, psf=response, interval=0.9
        )
        for row, counts in enumerate(stack):
            own = None if response is None else response[row]
            alone = deconvolve_block(
                counts, model=models.load(), resolution=12.0, psf=own, interval=0.9
            )
            for one, other in zip(found, alone, strict=True):
                np.testing.assert_allclose(one[row], other, rtol=1e-3, atol=1e-5 * counts.max())
        estimate, _, lower, upper = found
        assert (lower <= estimate).all() and (estimate <= upper).all() and (estimate >= 0).all()
        np.testing.assert_allclose(estimate.sum(-1), stack.sum(-1), rtol=1e-3)


@pytest.mark.parametrize("given", [False, True])
def test_wide_peaks_are_sharpened_as_narrow_ones_are(given):
    """Seen channel by channel the median errors were 0.15, and 0.12 with the response given."""
    found = []
    for seed in range(6):
        simulation = wide("doublet", 90, seed, 2048)
        resolution = default_resolution(simulation.fwhm)
        psf = simulation.psf if given else None
        answer = deconvolve_block(
            simulation.counts, model=models.load(), resolution=resolution, psf=psf
        )[0]
        found.append(evaluate.errors(answer, simulation, resolution).loss)
    assert np.median(found) < (0.1 if given else 0.12)


def test_response_of_a_wide_peak():
    simulation = wide("plasmonic", 60, 3)
    found = estimate_response(simulation.counts, zero_channel=512)
    truth = simulation.psf[512:-512]
    assert np.abs(found - truth / truth.sum()).sum() < 0.05
    assert abs((found * np.arange(1024)).sum() - (truth * np.arange(1024)).sum()) < 1


def test_a_wide_peak_elsewhere_is_the_same():
    """The bins go with the peak: a spectrum that begins a channel later is seen alike."""
    mean = 1e6 * gaussian(1100, 300.0, 40.0) + 2e5 * gaussian(1100, 520.0, 40.0)
    counts = np.random.default_rng(0).poisson(mean)
    whole = deconvolve_block(counts[:1024], model=models.load(), resolution=10.0)[0]
    for later in (1, 2, 3, 37):
        part = deconvolve_block(counts[later : later + 1024], model=models.load(), resolution=10.0)[
            0
        ]
        change = np.abs(whole[later:900] - part[: 900 - later])[345:]
        assert change.max() < 2e-3 * whole[400:].max()
