"""How often the warnings of `deep_deconvolve` are false, and how often they come when they should.

    python benchmarks/flags.py [--cases 40] [--model NAME_OR_PATH]

Each simulated spectrum goes through the signal method; what is counted are the flags in the metadata
of the result (`metadata.Signal.deep_deconvolution.flags`) and the warnings. The first table has
spectra of the five scenes as they are drawn, blind and with their own response given. A few of them
lack most of their gain side or have a negative dark level: these are counted as such, and what is said of
them is no false alarm. In the second table one thing is wrong with all of them.
"""

import argparse
import warnings
from collections import Counter
from dataclasses import replace

import hyperspy.api as hs
import numpy as np
from _held_out import SCENES
from _limits import stretched
from exspy.signals import EELSSpectrum
from prettytable import PrettyTable

from exspy_deepdeconv._signals.sampling import LEAST_GAIN_SIDE
from exspy_deepdeconv.physics import gaussian, smooth
from exspy_deepdeconv.simulate import SCENES as RANGES
from exspy_deepdeconv.simulate import simulate

SEED = 20_251_107
FLAGS = (
    "undersampled",
    "narrow",
    "wide",
    "no_gain_side",
    "uneven",
    "saturated",
    "spike",
    "unexplained",
    "gains",
    "elsewhere",
    "psf_misfit",
    "psf_narrow",
)
# Words of the warnings of what a spectrum may well have.
GAIN_SIDE, OFFSET = "the gain side of the zero-loss peak", "a flat offset of"


def signal_of(counts, dispersion):
    """Counts, one spectrum or several, as a signal."""
    signal = EELSSpectrum(counts)
    signal.axes_manager[-1].scale, signal.axes_manager[-1].units = dispersion, "eV"
    return signal


def flags_of(signal, model, psf=None):
    """Names of the flags that are set, and the warnings; an error has a name of its own."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            result = signal.deep_deconvolve(model=model, psf=psf, show_progressbar=False)
        except ValueError:
            return {"error"}, []
    flags = result.metadata.Signal.deep_deconvolution.flags.as_dictionary()
    set_ones = {name for name in FLAGS if flags.get(name)}
    said = [str(w.message) for w in heard]
    return set_ones, [text for text in said if text.startswith("deep_deconvolve")]


def with_width(family, channels_wide, rng):
    """A spectrum whose zero-loss peak is this many channels wide."""
    scene = RANGES[family]
    fwhm = float(np.exp(rng.uniform(*np.log(scene.fwhm_ev))))
    odd = replace(
        scene,
        fwhm_ev=(fwhm, fwhm),
        dispersion_ev=(fwhm / channels_wide,) * 2,
        fwhm_channels=(channels_wide, channels_wide),
    )
    return simulate(odd, rng, 2048)


def narrow(simulation, rng):
    """A zero-loss peak of one to one and a half channels."""
    odd = with_width(simulation.family, float(rng.uniform(1.0, 1.5)), rng)
    return signal_of(odd.counts, odd.dispersion), {}


def wide(simulation, rng):
    """A zero-loss peak of 80 to 120 channels."""
    odd = with_width(simulation.family, float(rng.uniform(80, 120)), rng)
    return signal_of(odd.counts, odd.dispersion), {}


def no_gain_side(simulation, rng):
    """The axis begins half a width before the peak."""
    first = int(max(simulation.position - 0.5 * simulation.fwhm, 0))
    return signal_of(simulation.counts[first:], simulation.dispersion), {}


def uneven(simulation, rng):
    """A line of spectra whose energy width doubles from one end to the other."""
    widths = simulation.fwhm * np.sqrt(np.linspace(1, 2.2, 12) ** 2 - 1)
    line = np.stack([rng.poisson(np.maximum(smooth(simulation.expected, w), 0)) for w in widths])
    return signal_of(line.astype(float), simulation.dispersion), {}


def saturated(simulation, rng):
    """The detector is full at seven tenths of the peak."""
    full = 0.7 * simulation.counts.max()
    return signal_of(np.minimum(simulation.counts, full), simulation.dispersion), {}


def spike(simulation, rng):
    """A cosmic ray in one channel of the losses."""
    counts = simulation.counts.copy()
    place = int(rng.uniform(simulation.position + 5 * simulation.fwhm, counts.size - 2))
    scatter = np.abs(np.diff(counts)).std() + simulation.detector.gain
    counts[place] += 5 * max(counts[place - 1 : place + 2].max(), 0) + 30 * scatter
    return signal_of(counts, simulation.dispersion), {}


def wrong_response(simulation, rng):
    """The response that is handed over is 1.6 times too wide."""
    psf = smooth(simulation.psf, 1.25 * simulation.fwhm)
    signal = signal_of(simulation.counts, simulation.dispersion)
    return signal, {"psf": signal_of(psf * 1e7, simulation.dispersion)}


def another_width(simulation, rng):
    """The response that is handed over is 6 to 15 % wider or narrower, tails included."""
    wider = (1 + rng.uniform(0.06, 0.15)) ** rng.choice([-1, 1])
    psf = stretched(simulation.psf, simulation.psf.argmax(), wider)
    signal = signal_of(simulation.counts, simulation.dispersion)
    return signal, {"psf": signal_of(psf * 1e7, simulation.dispersion)}


def gain_side_tail(simulation, rng):
    """A twentieth of the counts lies on the gain side; the response that is handed over has none there."""
    tail = gaussian(
        simulation.counts.size,
        simulation.position - rng.uniform(2, 3) * simulation.fwhm,
        simulation.fwhm,
    )
    gain = simulation.detector.gain
    electrons = 0.05 * simulation.elastic_counts / gain * tail
    signal = signal_of(simulation.counts + gain * rng.poisson(electrons), simulation.dispersion)
    return signal, {"psf": signal_of(simulation.psf * 1e7, simulation.dispersion)}


def core_loss(simulation, rng):
    """A core-loss spectrum: an edge on a falling background."""
    energy = np.linspace(rng.uniform(80, 400), rng.uniform(600, 1200), 1024)
    mean = 10 ** rng.uniform(3, 6) * (energy[0] / energy) ** rng.uniform(2.5, 5)
    edge = rng.uniform(energy[100], energy[-200])
    mean += rng.uniform(0.05, 2) * mean[np.searchsorted(energy, edge)] * (energy > edge)
    return signal_of(rng.poisson(mean).astype(float), energy[1] - energy[0]), {}


def without_peak(simulation, rng):
    """Low losses only: cut behind the zero-loss peak (a plasmon may pass for one), axis not calibrated."""
    first = int(simulation.position + 6 * simulation.fwhm)
    return signal_of(simulation.counts[first:], simulation.dispersion), {}


def without_peak_calibrated(simulation, rng):
    """The same, 0 eV where the zero-loss peak was."""
    signal, arguments = without_peak(simulation, rng)
    behind = simulation.counts.size - signal.axes_manager[-1].size - simulation.position
    signal.axes_manager[-1].offset = behind * simulation.dispersion
    return signal, arguments


FAULTS = {
    # Its sampled width is about two channels, as in good data: there is a flag, no warning yet.
    narrow: ("undersampled",),
    wide: ("wide",),
    no_gain_side: ("no_gain_side",),
    uneven: ("uneven",),
    saturated: ("saturated",),
    spike: ("spike",),
    wrong_response: ("psf_misfit",),
    another_width: ("psf_misfit", "psf_narrow"),
    gain_side_tail: ("psf_misfit",),
    core_loss: ("error",),
    without_peak: ("error",),
    without_peak_calibrated: ("elsewhere",),
}


def cases_of(number, seed):
    """Simulated spectra of every scene with their random generators."""
    for index, family in enumerate(SCENES):
        rng = np.random.default_rng([SEED, index, seed])
        for _ in range(number):
            yield simulate(family, rng, int(rng.choice((512, 1024, 2048)))), rng


def false_alarms(cases, model):
    """The share of ordinary spectra with each flag, blind and with the response given."""
    true = ["short gain side told", "negative offset told"]
    false = ["any false flag", "any false warning"]
    table = PrettyTable(["", "spectra", *true, *FLAGS, *false], align="r")
    for name in ("blind", "given"):
        table.add_row([name, *_alarms(cases, model, name == "given")])
    return table


def _alarms(cases, model, given):
    heard, total, cut, negative, flagged, warned = Counter(), 0, 0, 0, 0, 0
    for simulation, _ in cases_of(cases, 0):
        psf = signal_of(simulation.psf * 1e7, simulation.dispersion) if given else None
        signal = signal_of(simulation.counts, simulation.dispersion)
        found, said = flags_of(signal, model, psf)
        # A width is measured, not known.
        if simulation.position < 1.1 * LEAST_GAIN_SIDE * simulation.fwhm:
            cut += "no_gain_side" in found
            found = found - {"no_gain_side"}
            said = [text for text in said if GAIN_SIDE not in text]
        if simulation.dark < 0:
            before = len(said)
            said = [text for text in said if OFFSET not in text]
            negative += len(said) < before
        total, flagged, warned = total + 1, flagged + bool(found), warned + bool(said)
        heard.update(found)
    shares = [
        f"{number / total:.3f}" for number in (*(heard[name] for name in FLAGS), flagged, warned)
    ]
    return [total, cut, negative, *shares]


def hits(cases, model):
    """One row for each fault: how often it is told, and how often anything is."""
    table = PrettyTable(["what is wrong", "asked", "hits", "any warning or error"], align="r")
    for fault, asked in FAULTS.items():
        hit = told = total = 0
        for simulation, rng in cases_of(cases, 1):
            signal, arguments = fault(simulation, rng)
            if signal.axes_manager[-1].size < 64:
                continue
            found, said = flags_of(signal, model, **arguments)
            total += 1
            hit += bool(found & {*asked, "error"})
            told += "error" in found or bool(said)
        what = fault.__doc__.splitlines()[0].rstrip(".")
        table.add_row([what, ", ".join(asked), f"{hit / total:.2f}", f"{told / total:.2f}"])
    return table


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=40, help="of each scene (hits: a quarter)")
    parser.add_argument("--model")
    options = parser.parse_args()
    hs.set_log_level("ERROR")
    print(f"{options.cases} spectra of each of {', '.join(SCENES)}: share with each flag")
    print(false_alarms(options.cases, options.model))
    print("spectra with a fault: share with the flag (or an error)")
    print(hits(max(options.cases // 4, 1), options.model))


if __name__ == "__main__":
    main()
