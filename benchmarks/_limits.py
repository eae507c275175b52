"""The spectra that `limits.py` is about, and what is measured of one of them."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import numpy as np
import scipy.fft as fft
from _held_out import SCENES, SEED
from _methods import INTERVAL

from exspy_deepdeconv import evaluate, models
from exspy_deepdeconv._signals.sampling import typical_zero_loss
from exspy_deepdeconv.estimate import binning
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.estimate.intervals import normal_reach, position_error
from exspy_deepdeconv.experiment.instruments import tapered
from exspy_deepdeconv.experiment.specimens import EnergyAxis, bell
from exspy_deepdeconv.physics import (
    FWHM_PER_SIGMA,
    PSF_MISFIT,
    PSF_NARROW,
    UNEXPLAINED,
    default_resolution,
    find_zero_loss,
    gaussian,
    inspect,
)
from exspy_deepdeconv.response import psf_fit
from exspy_deepdeconv.simulate import SCENES as RANGES
from exspy_deepdeconv.simulate import Detector, compose, grid_for, redraw, simulate
from exspy_deepdeconv.spectrum.blur import gaussian_transfer

CHANNELS = 1024
MAP = 12  # spectra: from eight on they share one dark level
MAP_PEAK = 3e5  # counts in the highest channel
FULL = 512  # channels of the axis that losses fill
LATER, EDGE = 37, 124  # channels; at the end of the axis other data come in
FEWEST = 25.0  # electrons in the highest channel of the losses: less is no unit of a change
SHAPES = {
    "Lorentzian": lambda x: 1 / (1 + (2 * x) ** 2),
    "Gaussian": lambda x: np.exp(-np.log(2) * (2 * x) ** 2),
    "flat top": lambda x: np.exp(-np.log(2) * np.abs(2 * x) ** 3.5),
    "half of both": lambda x: 0.5 * (SHAPES["Lorentzian"](x) + SHAPES["Gaussian"](x)),
    "leaning": lambda x: SHAPES["Gaussian"](x * (1 + 0.5 * np.tanh(x))),
    "two halves": lambda x: SHAPES["Gaussian"](x / (1 + 0.25 * np.sign(x))),
}


def rng_of(*numbers):
    """A generator for one case of one part."""
    return np.random.default_rng([SEED, 405, *numbers])


def recorded(
    shape, width, electrons, rng, detector=None, losses=None, channels=CHANNELS, position=None
):
    """A spectrum with a zero-loss peak of this shape, at a quarter of the axis if not elsewhere.

    ``losses`` makes a specimen of an axis whose unit is a channel; there is none by default.
    """
    detector = Detector() if detector is None else detector
    grid = grid_for(channels, width)
    response = tapered(SHAPES[shape](grid.wrapped_channels / width), grid)
    if detector.spread_channels:
        spread = detector.spread_channels * grid.oversampling
        transfer = gaussian_transfer(fft.rfftfreq(grid.size), spread)
        response = fft.irfft(fft.rfft(response) * transfer, grid.size)
    position = channels / 4 if position is None else position
    position += float(rng.uniform(-0.5, 0.5))
    axis = EnergyAxis(grid.fine_channels - position, 1 / grid.oversampling, width)
    specimen = np.zeros(grid.size) if losses is None else losses(axis)
    return compose(
        grid, response / response.sum(), specimen, position, electrons, detector, 1.0, rng, "free"
    )


def answer(simulation, model, counts=None, dark=None, psf=None):
    """Estimate, flags and bounds at R = F/4 (of the true width), and the resolution."""
    resolution = default_resolution(simulation.fwhm)
    found = deconvolve_block(
        simulation.counts if counts is None else counts,
        model=models.load(model),
        resolution=resolution,
        dispersion=simulation.dispersion,
        psf=psf,
        dark=dark,
        interval=INTERVAL,
    )
    return *found, resolution


def held(estimate, lower, upper, simulation, resolution):
    """Channels from one zero-loss width past the peak on whose truth is inside, and all of them."""
    found = evaluate.coverage(estimate, lower, upper, simulation, resolution)
    return found.loss + found.elsewhere


def width_read(shape, electrons, case):
    """The zero-loss width that is read over the true one."""
    rng = rng_of(0, case)
    width = float(np.exp(rng.uniform(np.log(5), np.log(50))))
    simulation = recorded(
        shape, width, electrons, rng, losses=lambda axis: bell(axis, 500.0, 120.0, 0.02)
    )
    return float(find_zero_loss(simulation.counts).fwhm) / simulation.fwhm


def on_bins(width, scene, case, model):
    """Loss errors and coverage (channels inside, all) of a wide peak, on bins and channel by channel.

    Blind on bins, blind without, and the same with the response given: an error and two numbers each.
    """
    rng = rng_of(6, SCENES.index(scene), case)
    wide = replace(RANGES[scene], fwhm_channels=(width, width), elastic_counts=(1e4, 3e7))
    simulation = simulate(wide, rng, 2 * CHANNELS, Detector())
    found = []
    for psf in (None, simulation.psf):
        for most in (binning.MOST, 1):
            with patch.object(binning, "MOST", most):
                estimate, _, *bounds, resolution = answer(simulation, model, psf=psf)
            error = evaluate.errors(estimate, simulation, resolution).loss
            inside = evaluate.coverage(estimate, *bounds, simulation, resolution).loss
            found += [error, *inside]
    return found


def cut_before(widths, scene, case, model):
    """What is left of a gain side that is cut so many zero-loss widths before the peak.

    Loss and near error of the whole spectrum (it begins 12 widths before the peak or more), the same of
    what is left, and channels inside and all near the peak, of both.
    """
    rng = rng_of(13, SCENES.index(scene), case)
    simulation = simulate(scene, rng, CHANNELS, Detector())
    while simulation.position < 12 * simulation.fwhm:
        simulation = simulate(scene, rng, CHANNELS, Detector())
    found = []
    for first in (0, int(np.ceil(simulation.position - widths * simulation.fwhm))):
        estimate, _, *bounds, resolution = answer(simulation, model, simulation.counts[first:])
        estimate, *bounds = (np.pad(x, (first, 0)) for x in (estimate, *bounds))
        errors = evaluate.errors(estimate, simulation, resolution)
        inside = evaluate.coverage(estimate, *bounds, simulation, resolution).near
        found.append([errors.loss, errors.near, *inside])
    return found


def stretched(peak, position, wider):
    """A peak so many times as wide, its tails too, of the same counts."""
    distance = np.arange(peak.size) - position
    found = np.interp(distance / wider, distance, peak)
    return found * peak.sum() / found.sum()


def with_other_tails(psf, fwhm, factor):
    """A response whose tails are so many times as high: from 0.75 widths on, in full from two on."""
    distance = np.abs(np.arange(psf.size) - psf.argmax()) / fwhm
    found = psf * factor ** ((distance - 0.75) / 1.25).clip(0, 1)
    return found / found.sum()


def of_another_shape(kind, factor, scene, case, model):
    """Errors and coverage with a response whose width ("width"), or tails ("tails"), are so many times too large.

    Blind, as it is used, and if it were trusted: loss and near error, channels inside and all of
    them (loss, near), whether it is flagged, whether it is the last of these.
    """
    simulation = simulate(scene, rng_of(7, SCENES.index(scene), case), CHANNELS)
    if kind == "width":
        response = stretched(simulation.psf, simulation.psf.argmax(), factor)
    else:
        response = with_other_tails(simulation.psf, simulation.fwhm, factor)
    with ExitStack() as believing:
        for name in ("TRUSTED", "SAME", "TAILS_TRUSTED", "TAILS_TOO_LOW", "TAILS_TOO_HIGH"):
            believing.enter_context(patch.object(psf_fit, name, (np.inf, 1.0)))
        trusted = answer(simulation, model, psf=response)
    found = []
    for each in (answer(simulation, model), answer(simulation, model, psf=response), trusted):
        estimate, flags, *bounds, resolution = each
        errors = evaluate.errors(estimate, simulation, resolution)
        inside = evaluate.coverage(estimate, *bounds, simulation, resolution)
        flagged, same = (
            int(flags) & (PSF_MISFIT | PSF_NARROW) > 0,
            np.array_equal(bounds, trusted[2:4]),
        )
        found += [errors.loss, errors.near, *inside.loss, *inside.near, flagged, same]
    return found


def map_with_offset(level, case, model):
    """Whether a map tells its dark level, and in how many channels the intervals hold."""
    rng = rng_of(1, case)
    drawn = simulate(SCENES[case % len(SCENES)], rng, CHANNELS, Detector())
    electrons = MAP_PEAK * drawn.elastic_counts / drawn.elastic.max()
    pixels = [redraw(drawn, rng, electrons, Detector(dark=level)) for _ in range(MAP)]
    counts = np.stack([pixel.counts for pixel in pixels])
    dark = typical_zero_loss(counts, np.zeros(MAP, bool)).dark
    *found, resolution = answer(drawn, model, counts, dark)
    rows = zip(found[0], found[2], found[3], pixels, strict=True)
    inside = sum(held(*row, resolution) for row in rows)
    told = dark is not None and abs(dark.level - level) < level / 2
    return told, *inside


def full_axis(share, before, case, model):
    """Whether a dark level (as a share of the peak) is found, whether a flag is set, what is held.

    The axis begins ``before`` widths before the peak; losses lie everywhere behind it.
    """
    rng = rng_of(2, case)
    width, electrons = float(rng.uniform(5, 12)), float(10 ** rng.uniform(5, 7))

    def losses(axis):
        filled = sum(bell(axis, c * FULL, 0.3 * FULL, 0.5) for c in (0.2, 0.45, 0.7, 0.95))
        return filled * (axis.energy > 0)

    place = before * width
    plain = recorded("half of both", width, electrons, rng, None, losses, FULL, place)
    level = share * plain.elastic.max()
    simulation = redraw(plain, rng, electrons, Detector(dark=level))
    estimate, flags, lower, upper, resolution = answer(simulation, model)
    found = abs(float(inspect(simulation.counts).level) - level) < abs(level) / 5
    return found, flags > 0, *held(estimate, lower, upper, simulation, resolution)


def spread_electrons(spread, readout, scene, case, model):
    """Noise of the peak read over the true one, and whether the result is flagged as unexplained."""
    rng = rng_of(3, SCENES.index(scene), case)
    simulation = simulate(scene, rng, CHANNELS, Detector(spread_channels=spread, readout=readout))
    seen = inspect(simulation.counts)
    # An electron that a Gaussian has spread adds the sum of its squares to the variance.
    share = min(FWHM_PER_SIGMA / (2 * np.sqrt(np.pi) * spread), 1.0) if spread else 1.0
    top = simulation.elastic.max()
    read = seen.noise.variance(np.array([top]))[0] / (share * top + readout**2)
    return read, bool(answer(simulation, model)[1] & UNEXPLAINED)


def energy_zero(shape, width, electrons, spread, case, model):
    """Errors of the energy zero in the data and in the result over F, and whether both are allowed."""
    rng = rng_of(4, case)
    detector = Detector(spread_channels=spread)
    simulation = recorded(
        shape, width, electrons, rng, detector, lambda axis: bell(axis, 500.0, 120.0, 0.1)
    )
    places = [find_zero_loss(x).position for x in (simulation.counts, answer(simulation, model)[0])]
    errors = (np.array(places, float) - simulation.position) / simulation.fwhm
    return *errors, abs(errors[1]) < normal_reach(INTERVAL) * position_error(1.0, electrons)


def begun_later(kind, offset, case, model):
    """Largest change of the losses over the highest when the spectrum begins 37 channels later."""
    rng = rng_of(5, case)
    draw = _two_losses if kind == "two losses" else partial(_of_scene, kind)
    counts, losses, position, fwhm = draw(offset, rng)
    cuts = np.stack([counts[first : first + CHANNELS] for first in (0, LATER)])
    found = deconvolve_block(cuts, model=models.load(model), resolution=default_resolution(fwhm))
    start, stop = int(np.ceil(position + fwhm)), CHANNELS - EDGE
    one, other = found[0][0, start:stop], found[0][1, start - LATER : stop - LATER]
    return np.abs(one - other).max() / losses[start:stop].max()


def _two_losses(offset, rng):
    """Counts and losses of a peak with tails, a narrow and a wide loss; the peak's place and width."""

    def mean(*parts):
        return sum(1e6 * a * gaussian(CHANNELS + LATER, 250.3 + x, w) for x, w, a in parts)

    losses = mean((40, 12, 0.02), (150, 60, 0.1))
    peak = mean((0, 9, 0.97), (0, 24, 0.03))
    return rng.poisson(peak + losses + offset).astype(float), losses, 250.3, 9.2


def _of_scene(scene, offset, rng):
    """The same of a spectrum of a scene with losses, and with a gain side in both windows."""
    while True:
        drawn = simulate(scene, rng, CHANNELS + LATER, Detector(dark=offset))
        losses = drawn.inelastic(default_resolution(drawn.fwhm)) - drawn.dark
        highest = losses[int(drawn.position + drawn.fwhm) : CHANNELS - EDGE].max()
        if drawn.position > LATER + 4 * drawn.fwhm and highest > FEWEST:
            return drawn.counts, losses, drawn.position, drawn.fwhm
