"""How well `vacuum_psf` measures a response: see docs/limits.md.

    python benchmarks/vacuum.py [--part width alarms specimen electrons] [--cases 60]

All responses are drawn as in the training, by other seeds. ``width``: of frames between which the peak drifts
by a third of its width (standard deviation), 6, 10 or 20 channels wide, by how many per cent the sum is wider
than the response (fitted: what the second derivative of the response adds): root mean square, largest, and
root mean square of the sum as it is. ``alarms``: which share of clean vacuum spectra is left out, and in which
share of the stacks it is warned of losses, with random detectors, doses and drifts. ``specimen``: how often a
spectrum with losses is left out among nineteen without, and how often losses that are in all of them are
told, 3 to 12 zero-loss widths from the peak. ``electrons``: errors near the zero-loss peak of results of
spectra of a million electrons with a response of fewer or more, over those with the exact one (medians of
the cases' ratios).
"""

import argparse
import shlex
import sys
import warnings

import numpy as np
import scipy.fft as fft
from _held_out import SCENES, held_out
from exspy.signals import EELSSpectrum
from prettytable import PrettyTable

from exspy_deepdeconv import deconvolve, register
from exspy_deepdeconv.evaluate import errors
from exspy_deepdeconv.experiment.detectors import Detector, random_detector
from exspy_deepdeconv.experiment.grid import grid_for
from exspy_deepdeconv.experiment.instruments import random_response
from exspy_deepdeconv.physics import gaussian, half_height_width
from exspy_deepdeconv.simulate import redraw

SEED = 20_261_128
DISPERSION = 0.01
WIDTHS = (6.0, 10.0, 20.0)  # channels
FRAMES = 2000  # at most, or as many as hold these electrons
TOTAL = 3e6
DOSES = ((100, 0.0), (300, 0.0), (1000, 0.0), (100_000, 0.0), (100, 2.0), (300, 2.0), (1000, 2.0))
RESPONSES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 10_000_000)


class Instrument:
    """A random response, and what it records in vacuum."""

    def __init__(self, rng, width, channels=512, detector=None):
        self.width, self.channels = width, channels
        self.detector = Detector() if detector is None else detector
        self.grid = grid_for(channels, width)
        spread = self.detector.spread_channels
        self.transform = fft.rfft(random_response(self.grid, width, spread, rng, (), 0.2))

    def peak(self, position):
        """Without noise, of one electron."""
        grid = self.grid
        phase = -2j * np.pi * grid.frequency * (position + grid.pad) * grid.oversampling
        return np.maximum(grid.to_channels(self.transform * np.exp(phase)), 0)

    def frames(self, positions, electrons, rng, losses=0.0):
        """Spectra, with losses (of one electron) in them."""
        clean = (electrons * (self.peak(position) + losses) for position in positions)
        return np.array([self.detector.record(each, rng) for each in clean])


def measure(counts):
    """The response as a signal, and what is warned of; None where no spectrum can be used."""
    signal = EELSSpectrum(counts)
    signal.axes_manager[-1].scale, signal.axes_manager[-1].units = DISPERSION, "eV"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            psf = signal.vacuum_psf(show_progressbar=False)
        except ValueError:
            return None, []
    return psf, [str(each.message) for each in heard]


def width_of(counts):
    return float(half_height_width(counts, np.asarray(int(counts.argmax()))))


def broader(counts, instrument):
    """By how many per cent a sum is wider than the response."""
    place = float(counts.argmax())
    for _ in range(3):
        true = instrument.peak(place)
        first = np.gradient(true)
        second = np.gradient(first)
        near = np.abs(np.arange(true.size) - place) < 2.5 * instrument.width
        columns = np.stack([true, first, second, np.full(true.size, true.max())], axis=1)[near]
        weight = 1 / np.sqrt(np.maximum(true[near], 1e-2 * true.max()))
        fit, *_ = np.linalg.lstsq(columns * weight[:, None], counts[near] * weight, rcond=None)
        place -= fit[1] / fit[0]
    curved = fit[2] / fit[0]
    step = 1e-3 * width_of(true) ** 2  # small enough for the width to follow in proportion
    return 100 * (width_of(true + step * second) / width_of(true) - 1) / step * curved


def width(cases):
    """Width of the sum against that of the response."""
    names = ["electrons", "readout", "frames", "RMS (%)", "largest (%)", "unaligned (%)"]
    table = PrettyTable([*names, "left out (%)"], align="r")
    for electrons, readout in DOSES:
        number = int(np.clip(TOTAL / electrons, 30, FRAMES))
        found, plain, left_out = [], [], 0
        for case in range(cases):
            rng = np.random.default_rng([SEED, case])
            each = Instrument(rng, WIDTHS[case % len(WIDTHS)], detector=Detector(readout=readout))
            drift = each.width / 3
            moved = drift * (np.linspace(-1.2, 1.2, number) + 0.7 * rng.standard_normal(number))
            counts = each.frames(150.0 + moved, electrons, rng)
            psf, _ = measure(counts)
            note = psf.metadata.Signal.vacuum_psf
            left_out += number - note.used
            first = int(np.rint(150 + psf.axes_manager[-1].offset / DISPERSION))
            whole = np.zeros(512)
            whole[max(first, 0) :][: psf.data.size] = psf.data[: 512 - max(first, 0)]
            found.append(broader(whole, each))
            plain.append(broader(counts.sum(axis=0), each))
        rms, unaligned = (np.sqrt(np.mean(np.square(x))) for x in (found, plain))
        out = 100 * left_out / (number * cases)
        row = [rms, np.abs(found).max(), unaligned, out]
        table.add_row([electrons, readout, number, *(f"{x:.2g}" for x in row)])
    return table


def drawn(case):
    """A random instrument with a random detector, electrons in a frame, positions of frames."""
    rng = np.random.default_rng([SEED, 1, case])
    wide, channels = np.exp(rng.uniform(*np.log([3, 30]))), int(rng.choice([512, 1024, 2048]))
    electrons = np.exp(rng.uniform(*np.log([300, 3e7])))
    each = Instrument(rng, wide, channels, random_detector(rng, electrons / wide))
    number, drift = int(rng.choice([1, 3, 20, 60])), wide * rng.choice([0, 0.1, 0.5])
    place = rng.uniform(4 * wide, channels / 3)
    return rng, each, electrons, place + drift * rng.standard_normal(number)


def alarms(cases):
    """Clean spectra that are left out, and sums in which losses are seen."""
    spectra = left_out = losses = refused = 0
    for case in range(cases):
        rng, each, electrons, positions = drawn(case)
        psf, said = measure(each.frames(positions, electrons, rng))
        if psf is None:
            refused += 1
            continue
        spectra += len(positions)
        left_out += len(positions) - psf.metadata.Signal.vacuum_psf.used
        losses += any("rises again" in text for text in said)
    table = PrettyTable(["stacks", "refused", "spectra", "left out", "stacks with losses"])
    table.add_row([cases, refused, spectra, left_out, losses])
    return table


def specimen(cases):
    """Losses in one of twenty spectra, and in all of them."""
    shares = (0.001, 0.003, 0.01, 0.03)
    table = PrettyTable(["losses over elastic counts", "one left out (%)", "in all, told (%)"])
    for share in shares:
        hits, told = 0, 0
        for case in range(cases):
            rng, each, electrons, positions = drawn(case)
            electrons = max(electrons, 1e5)
            place, moved = positions[0], 0.2 * each.width * rng.standard_normal(20)
            far, wide = each.width * rng.uniform(3, 12), each.width * rng.uniform(0.7, 3)
            peak = share * gaussian(each.channels, place + far, np.hypot(wide, each.width))
            counts = each.frames(place + moved, electrons, rng)
            counts[7] = each.frames(place + moved[7:8], electrons, rng, peak)[0]
            psf, _ = measure(counts)
            note = psf.metadata.Signal.vacuum_psf
            hits += note.has_item("map") and bool(note.map[7])
            _, said = measure(each.frames(place + moved, electrons, rng, peak))
            told += any("rises again" in text for text in said)
        table.add_row([share, *(f"{100 * x / cases:.0f}" for x in (hits, told))])
    return table


def electrons(cases):
    """Errors with noisy responses over those with the exact one."""
    table = PrettyTable(["scene", *(f"{number:.0e}" for number in RESPONSES), "blind"], align="r")
    for scene in SCENES:
        ratios = []
        for case, (made, _) in enumerate(held_out(scene, cases, 1024)):
            rng = np.random.default_rng([SEED, case])
            made = redraw(made, rng, 1e6)
            given = [rng.poisson(made.psf * number).astype(float) for number in RESPONSES]
            near = [near_error(made, psf) for psf in (made.psf, *given, None)]
            ratios.append(np.divide(near[1:], near[0]))
        table.add_row([scene, *(f"{x:.2f}" for x in np.median(ratios, axis=0))])
    return table


def near_error(made, psf):
    """Error from one to five zero-loss widths past the peak."""
    resolution = max(made.fwhm / 4, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = deconvolve(made.counts, made.dispersion, psf, resolution * made.dispersion)
    return errors(result, made, resolution).near


def main():
    parts = {each.__name__: each for each in (width, alarms, specimen, electrons)}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--cases", type=int, default=60)
    arguments = parser.parse_args()
    register()
    print("python", shlex.join(sys.argv))
    for part in arguments.part:
        print(f"\n{part}\n{parts[part](arguments.cases)}", flush=True)


if __name__ == "__main__":
    main()
