"""How well results, and the truth itself, explain simulated data when they are blurred again.

    python benchmarks/residual.py [--cases 60] [--channels 1024] [--part deep|classical|both]

For every scene: the share of spectra whose reduced chi-square in the loss region lies between 0.7
and 1.4, for the truth blurred with the exact response and for the blind result of the network; how
often a forged peak (12 local sigmas high, two zero-loss widths wide, twelve widths past the peak)
raises it more than 1.5 times; and the share flagged as unexplained: blind, forged, and with a
response 1.6 times too wide. Detectors are drawn at random, faults included.

The second table has the share of results of the classical methods that are flagged, with the exact
response and with the one that is too wide; and of the truth, which they cannot do better than.
"""

import argparse
from functools import partial

import numpy as np
from prettytable import PrettyTable

from exspy_deepdeconv import classical, models
from exspy_deepdeconv._methods.classical_blocks import Check
from exspy_deepdeconv._methods.classical_methods import METHODS
from exspy_deepdeconv.estimate.batched import deconvolve_block
from exspy_deepdeconv.inference import estimate_response
from exspy_deepdeconv.physics import PSF_MISFIT, UNEXPLAINED, default_resolution, inspect, smooth
from exspy_deepdeconv.response import reblur, residual
from exspy_deepdeconv.simulate import FAMILIES, simulate

SEED = 20_231_105
WRONG = UNEXPLAINED | PSF_MISFIT
AUTOMATIC = {
    "RL": ("rl", "auto"),
    "RL 15": ("rl", 15),
    "ISRA": ("ml", "auto"),
    "ISRA 15": ("ml", 15),
    "Fourier": ("fourier", None),
    "TGV": ("tgv", "auto"),
}


def one_case(simulation, model):
    """What the columns of the table are the means of; None for an unusable spectrum."""
    counts = simulation.counts[None]
    seen = inspect(counts)
    if not seen.usable.all():
        return None
    channels, found = counts.shape[-1], seen.zero_loss
    width = float(found.fwhm[0])
    resolution = default_resolution(width)
    truth = simulation.truth(resolution)[None] - seen.level + max(float(seen.level[0]), 0)
    exact = reblur.Response(simulation.psf, channels)
    blind, flags = deconvolve_block(counts, model=model, resolution=resolution)
    # As far to the loss side as the spectrum reaches, as `deep_deconvolve` and `estimate_psf` do.
    zero = int(round(float(found.position[0])))
    found_response = estimate_response(counts, model=model, zero_channel=zero)
    found_response = reblur.measured_response(found_response, channels)
    wide = smooth(simulation.psf, 1.25 * simulation.fwhm)
    flags_wide = deconvolve_block(counts, model=model, resolution=resolution, psf=wide)[1]
    row = {"flagged": flags[0] & UNEXPLAINED > 0, "flagged, wide": flags_wide[0] & WRONG > 0}
    forged = forged_peak(seen, width)
    for name, estimate, response in (("truth", truth, exact), ("blind", blind, found_response)):
        honest = residual.explain(estimate, seen, response, resolution, True)
        row[f"{name} in range"] = 0.7 < honest.chi2[0] < 1.4
        if forged is not None:
            verdict = residual.explain(estimate + forged, seen, response, resolution, True)
            row[f"{name} forged > 1.5"] = verdict.chi2[0] > 1.5 * honest.chi2[0]
            row["forged flagged"] = bool(verdict.misfit[0])
    return row


def forged_peak(seen, width):
    """A Gaussian 12 local sigmas high; None where the window ends before it."""
    centre = seen.zero_loss.position[0] + 12 * width
    channels = seen.counts.shape[-1]
    if centre > channels - 2 * width:
        return None
    variance = residual.expected_variance(seen.counts, seen.noise, seen.zero_loss.fwhm)[0]
    height = 12 * np.sqrt(variance[int(round(centre))])
    distance = (np.arange(channels) - centre) / (2 * width)
    return height * np.exp(-4 * np.log(2) * distance**2)


def classical_case(simulation):
    """Which results of the classical methods are flagged, exact response and too wide a one."""
    counts = simulation.counts[None]
    seen = inspect(counts)
    if not seen.usable.all():
        return None
    resolution = default_resolution(float(seen.zero_loss.fwhm[0]))
    truth = simulation.truth(resolution)[None] - seen.level + max(float(seen.level[0]), 0)
    exact = reblur.Response(simulation.psf, counts.shape[-1])
    row = {"truth": residual.explain(truth, seen, exact, resolution, True).misfit[0]}
    for name, (key, setting) in AUTOMATIC.items():
        method = METHODS[key]
        check = Check.of(method, resolution)
        function = getattr(classical, method.function)
        setting = resolution if setting is None else setting
        for words, psf in (
            ("", simulation.psf),
            (", wide", smooth(simulation.psf, 1.25 * simulation.fwhm)),
        ):
            estimate = function(counts, psf, setting)
            row[name + words] = check.flags(counts, psf, estimate)[0] > 0
    return row


def print_table(case, columns, options):
    """Means of the columns over the cases of each scene."""
    table = PrettyTable(["scene", "cases", *columns], align="r")
    for number, family in enumerate(FAMILIES):
        rng = np.random.default_rng([SEED, number])
        drawn = (simulate(family, rng, options.channels) for _ in range(options.cases))
        rows = [row for row in map(case, drawn) if row is not None]
        shares = [np.mean([row[c] for row in rows if c in row]) for c in columns]
        table.add_row([family, len(rows), *(f"{share:.3f}" for share in shares)])
    print(table, flush=True)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--part", choices=("deep", "classical", "both"), default="both")
    options = parser.parse_args()
    print(f"{options.channels} channels")
    if options.part != "classical":
        model = models.load()
        print(f"model {model.name} ({model.sha256[:12]})")
        columns = ("truth in range", "blind in range", "truth forged > 1.5", "blind forged > 1.5",
                   "flagged", "forged flagged", "flagged, wide")  # fmt: skip
        print_table(partial(one_case, model=model), columns, options)
    if options.part != "deep":
        columns = ("truth", *(name + words for name in AUTOMATIC for words in ("", ", wide")))
        print_table(classical_case, columns, options)


if __name__ == "__main__":
    main()
