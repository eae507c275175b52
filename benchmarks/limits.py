"""Where it does not hold: the limits that the model card states, measured.

    python benchmarks/limits.py [--cases 60] [--model NAME_OR_PATH] [--workers 2]
        [--part widths wide offsets negative spread position lines windows gain_side psf]

``widths``: zero-loss widths read over the true ones (5 to 50 channels wide, 1024 channels, white noise of
electrons alone; "half of both" is the mean of a Gaussian and a Lorentzian, "flat top" a Gaussian whose
exponent is 3.5), median and half of what 68 % lie within. ``wide``: zero-loss peaks of 24 to 120 channels in 2048, 1e4 to
3e7 electrons, the five scenes together: loss errors of results on bins
(`exspy_deepdeconv.estimate.binning`) over those of results without (geometric mean and its standard
error), and how many channels with visible losses the intervals hold. ``offsets``: how far intervals hold where a map
of 12 spectra, of the five scenes in turn and with 3e5 counts in the highest channel, has a dark level; it
is told where what the map shares is within half of it, and beside it stands the coverage of the same maps
without the level. ``negative``: the same of single spectra whose losses fill the axis, which begins 4 to
16 widths before the peak (5 to 12 channels wide, half of both, 1e5 to 1e7 electrons), above a negative
level; found is what is within a fifth. ``spread``: the noise of the peak as it is read over the true one,
where a detector spreads electrons over 2 to 3 channels (FWHM) under a white readout (in electrons), and
how many results are flagged as not explained; the five scenes together. ``position``: root mean square
errors of the energy zero, in the data and in the results, in units of the zero-loss width F, and the
share within what the intervals allow for at 90 %; peaks lean by having their axis stretched by 1 +
tanh(x) / 2, x in widths, or are made of halves of two Gaussians 0.75 and 1.25 times as wide. ``lines``:
Gaussian lines beside Gaussian peaks (the table that `lost_peaks.py` calls smooth). ``windows``: the
largest change of the losses, over the highest, when a spectrum begins 37 channels later; "two losses" is
that of `tests/test_inference.py`, the others are drawn from the scenes, with at least four zero-loss
widths of gain side and losses of 25 electrons in a channel. ``gain_side``: spectra of the five scenes, of 1024
channels, whose gain side is cut so many zero-loss widths before the peak, beside the whole ones (12 widths and
more): the medians of the cases' ratios of errors, what nine cases in ten do not exceed, and how much the 90 %
intervals hold between one and five widths from the peak.

``psf``: a given response that is too narrow or too wide, its tails too, or whose tails alone are too low or too
high, as it is used (it is trusted only where the zero-loss peak is as wide and the gain-side tail as high:
`exspy_deepdeconv.response.psf_fit`) and as it would be if it were
trusted; medians of the cases' ratios to blind errors, and what nine cases in ten do not exceed.

Coverage is that of the channels from one width past the peak on; results are blind, at R = F/4.
"""

import argparse
from functools import partial

import hyperspy.api as hs
import lost_peaks
import numpy as np
from _held_out import SCENES, announced, workers
from _limits import (
    begun_later,
    cut_before,
    energy_zero,
    full_axis,
    map_with_offset,
    of_another_shape,
    on_bins,
    spread_electrons,
    width_read,
)
from prettytable import PrettyTable

PEAKS = (
    ("Gaussian", 16, 1e5, 0.0), ("leaning", 20, 1e5, 0.0), ("leaning", 20, 1e8, 0.0),
    ("two halves", 20, 1e5, 0.0), ("two halves", 20, 1e8, 0.0),
    ("Gaussian", 20, 1e5, 2.0), ("Gaussian", 20, 1e5, 3.5), ("Gaussian", 60, 1e6, 3.5),
)  # fmt: skip


def by_setting(function, settings, options, run, **fixed):
    """What ``function(*setting, case)`` returns of all cases, an array for each setting."""
    arguments = [(*setting, case) for setting in settings for case in range(options.cases)]
    found = np.array(run(partial(function, **fixed), arguments), float)
    return found.reshape(len(settings), options.cases, -1)


def share(inside):
    """Channels inside over all of them, ``(cases, 2)``."""
    return f"{inside[:, 0].sum() / inside[:, 1].sum():.2f}" if len(inside) else "-"


def worst_tenth(inside):
    """The share inside that a tenth of the cases does not reach."""
    return f"{np.quantile(inside[:, 0] / inside[:, 1], 0.1):.2f}" if len(inside) else "-"


def widths(options, run):
    """Widths of peaks of few and many electrons."""
    table = PrettyTable(["electrons", "peak", "width read / true", "scatter"], align="r")
    settings = [
        (shape, electrons)
        for electrons in (1e3, 3e3, 1e4, 3e4, 1e5, 1e6, 1e7)
        for shape in ("flat top", "Gaussian", "half of both", "Lorentzian")
    ]
    ratios = by_setting(width_read, settings, options, run)
    for (shape, electrons), ratio in zip(settings, ratios, strict=True):
        low, middle, high = np.nanquantile(ratio, [0.16, 0.5, 0.84])
        row = f"{electrons:.0e}", shape, f"{middle:.3f}", f"{(high - low) / 2:.3f}"
        table.add_row(row, divider=shape == "Lorentzian")
    return table


def wide(options, run):
    """Wide peaks on bins of several channels."""
    table = PrettyTable(
        ["channels", "result", "error / that without bins", "coverage", "without bins"], align="r"
    )
    for width in (24, 30, 40, 60, 90, 120):
        settings = [(width, scene) for scene in SCENES]
        found = by_setting(on_bins, settings, options, run, model=options.model).reshape(-1, 12)
        for name, both in zip(("blind", "given"), np.split(found, 2, axis=1), strict=True):
            ratio = np.log(both[:, 0] / both[:, 3])
            mean, error = np.exp(ratio.mean()), ratio.std() / np.sqrt(len(ratio))
            covered = share(both[:, 1:3]), share(both[:, 4:])
            table.add_row([width, name, f"{mean:.2f} +- {error:.2f}", *covered])
    return table


def offsets(options, run):
    """Maps above a dark level."""
    table = PrettyTable(
        ["level", "told", "told: coverage", "without the level", "untold: coverage", "without it",
         "worst tenth", "of those without it"],
        align="r",
    )  # fmt: skip
    levels = (0.0, 5.0, 10.0, 20.0, 40.0)
    settings = [(level,) for level in levels]
    plain, *maps = by_setting(map_with_offset, settings, options, run, model=options.model)
    for level, cases in zip(levels[1:], maps, strict=True):
        told = cases[:, 0] > 0
        parts = [share(x[where, 1:]) for where in (told, ~told) for x in (cases, plain)]
        worst = (worst_tenth(x[~told, 1:]) for x in (cases, plain))
        table.add_row([level, f"{told.mean():.2f}", *parts, *worst])
    return table


def negative(options, run):
    """Losses that fill the axis above a negative level."""
    table = PrettyTable(
        ["level / peak", "gain side / F", "found", "flagged", "coverage where found", "where not"],
        align="r",
    )
    settings = [(level, side) for level in (0.0, -1e-3, -1e-2) for side in (4, 8, 16)]
    spectra = by_setting(full_axis, settings, options, run, model=options.model)
    for (level, side), cases in zip(settings, spectra, strict=True):
        found = cases[:, 0] > 0
        parts = (share(chosen[:, 2:]) for chosen in (cases[found], cases[~found]))
        shares = f"{found.mean():.2f}" if level else "-", f"{cases[:, 1].mean():.2f}"
        table.add_row([level, side, *shares, *parts])
    return table


def spread(options, run):
    """Electrons that spread under a white readout."""
    table = PrettyTable(
        ["spread", "readout", "noise read / true", "under a third", "under a tenth", "over three",
         "unexplained"],
        align="r",
    )  # fmt: skip
    settings = [(width, readout) for width in (0.0, 2.0, 2.5, 3.0) for readout in (2.0, 10.0)]
    for setting in settings:
        each = [(*setting, scene) for scene in SCENES]
        found = by_setting(spread_electrons, each, options, run, model=options.model)
        ratio, flagged = found.reshape(-1, 2).T
        shares = [np.mean(x) for x in (ratio < 1 / 3, ratio < 0.1, ratio > 3, flagged)]
        table.add_row([*setting, f"{np.median(ratio):.2f}", *(f"{x:.3f}" for x in shares)])
    return table


def position(options, run):
    """Energy zeros of leaning peaks and of detectors that spread."""
    table = PrettyTable(
        ["peak", "channels", "electrons", "spread", "in the data / F", "in results / F", "within"],
        align="r",
    )
    found = by_setting(energy_zero, PEAKS, options, run, model=options.model)
    for (shape, width, electrons, over), cases in zip(PEAKS, found, strict=True):
        errors = (f"{x:.4f}" for x in np.sqrt(np.nanmean(cases[:, :2] ** 2, axis=0)))
        row = shape, width, f"{electrons:.0e}", over, *errors, f"{cases[:, 2].mean():.2f}"
        table.add_row(row)
    return table


def lines(options, run):
    """Gaussian lines beside Gaussian peaks."""
    return lost_peaks.table_of(lost_peaks.SMOOTH, options, run)


def windows(options, run):
    """Spectra that begin later."""
    table = PrettyTable(
        ["spectrum", "flat offset", "median change", "nine tenths below", "largest"], align="r"
    )
    settings = [(kind, offset) for kind in ("two losses", *SCENES) for offset in (0.0, 3.0)]
    changes = by_setting(begun_later, settings, options, run, model=options.model)
    for setting, change in zip(settings, changes, strict=True):
        table.add_row([*setting, *(f"{np.quantile(change, q):.1e}" for q in (0.5, 0.9, 1.0))])
    return table


def gain_side(options, run):
    """Gain sides that are cut"""
    table = PrettyTable(
        ["widths left", "loss / whole", "near / whole", "loss: nine in ten", "near: nine in ten",
         "coverage near", "of the whole"],
        align="r",
    )  # fmt: skip
    settings = [(left, scene) for left in (1.5, 2.0, 3.0, 4.0, 6.0, 8.0) for scene in SCENES]
    cases = by_setting(cut_before, settings, options, run, model=options.model)
    pooled = cases.reshape(-1, len(SCENES) * options.cases, 2, 4)
    for (left, _), (whole, cut) in zip(
        settings[:: len(SCENES)], pooled.swapaxes(1, 2), strict=True
    ):
        ratios = cut[:, :2] / whole[:, :2]
        ratios = *np.nanmedian(ratios, axis=0), *np.nanquantile(ratios, 0.9, axis=0)
        table.add_row([left, *(f"{x:.2f}" for x in ratios), share(cut[:, 2:]), share(whole[:, 2:])])
    return table


def psf(options, run):
    """Responses of another width, or with other tails."""
    table = PrettyTable(
        [
            "scene",
            "psf",
            "too large",
            "by",
            "loss / blind",
            "near / blind",
            "loss: nine in ten",
            "near: nine in ten",
            "coverage",
            "near",
            "flagged",
            "trusted",
        ],
        align="r",
    )
    shapes = [("width", x) for x in (1.0, 0.95, 0.98, 1.02, 1.05)]
    shapes += [("tails", x) for x in (0.5, 0.7, 0.85, 1.2, 1.4)]
    settings = [(*shape, scene) for scene in SCENES for shape in shapes]
    every = by_setting(of_another_shape, settings, options, run, model=options.model)
    for (kind, factor, scene), cases in zip(settings, every, strict=True):
        blind, *others = np.split(cases, 3, axis=1)
        for name, found in zip(("as it is used", "if it were trusted"), others, strict=True):
            ratios = found[:, :2] / blind[:, :2]
            ratios = *np.nanmedian(ratios, axis=0), *np.nanquantile(ratios, 0.9, axis=0)
            held = share(found[:, 2:4]), share(found[:, 4:6])
            shares = found[:, 6:].mean(axis=0)
            errors, shares = ([f"{x:.2f}" for x in values] for values in (ratios, shares))
            table.add_row([scene, name, kind, factor, *errors, *held, *shares])
    return table


PARTS = {
    part.__name__: part
    for part in (widths, wide, offsets, negative, spread, position, lines, windows, gain_side, psf)
}


def main(arguments=None):
    """Print the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--model")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    if options.cases < 1 or options.workers < 1:
        parser.error("--cases and --workers must be at least 1.")
    announced(options.model, arguments)
    with workers(options.workers) as run:
        for name in options.part:
            print(f"{name}: {PARTS[name].__doc__.rstrip('.')}, {options.cases} cases")
            print(PARTS[name](options, run), flush=True)


if __name__ == "__main__":
    hs.set_log_level("ERROR")
    main()
