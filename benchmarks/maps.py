"""What summing, binning and PCA of the bundled map do to its results: see docs/limits.md.

    python benchmarks/maps.py [--part rebin pca few] [--model NAME_OR_PATH] [--rows 24]

``rebin``: errors of a blind result that is binned over the energy-loss map, root mean square over its
channels from three zero-loss widths on, in units of the standard deviation that its variance tells; the
truth is binned alike. ``pca``: how many channels the 90 % interval holds, from one width past the peak on,
of the map with a hundredth of its counts: as it is, rebuilt by `decomposition` from six components
(Poisson noise), and that with the variance of the counts before (`set_noise_variance`). ``few``: the map is
recorded with fewer electrons in each spectrum, deconvolved and summed: losses from three widths on, and those
from three to eight ("near"), over those of the summed truth; blind or with a vacuum spectrum of 4 million
electrons as the psf, and of bins of 4 x 4 pixels, and the sum of the map, made before.
"""

import argparse
import warnings

import hyperspy.api as hs
import numpy as np
from _held_out import announced
from prettytable import PrettyTable

from exspy_deepdeconv import data, register

BLOCKS = (1, 2, 4, 8)
COMPONENTS, THINNED = 6, 100
ELECTRONS = (1_000_000, 300_000, 100_000, 30_000, 10_000, 3000, 1000, 500, 300, 200, 100)
BEYOND, NEAR = 3.0, 8.0  # zero-loss widths
BIN = 4  # pixels


def recorded(signal, share, seed):
    """The expected counts of a simulated map, recorded anew with a share of its electrons."""
    made = data.simulations(signal.metadata.Simulation.as_dictionary())
    expected = [simulation.expected for simulation in made]
    thin = signal.deepcopy()
    mean = np.reshape(expected, signal.data.shape) * share
    thin.data = np.random.default_rng(seed).poisson(mean).astype(np.float32)
    return thin


def deconvolved(signal, model, **arguments):
    """Quietly: of doubtful spectra there are many here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return signal.deep_deconvolve(model=model, show_progressbar=False, **arguments)


def first_channel(signal, result, widths):
    """The channel so many zero-loss widths past the peak."""
    note = result.metadata.Signal.deep_deconvolution
    return int(signal.axes_manager[-1].value2index(widths * note.zero_loss_fwhm)) + 1


def rebin(signal, model):
    """Errors over the standard deviations that are told."""
    result = deconvolved(signal, model)
    truth = data.truth(signal, result.metadata.Signal.deep_deconvolution.resolution)
    start = first_channel(signal, result, BEYOND)
    table = PrettyTable(["pixels", "error / standard deviation"], align="r")
    for block in BLOCKS:
        scale = (block, block, 1)
        binned, true = result.rebin(scale=scale), truth.rebin(scale=scale)
        sigma = np.sqrt(binned.get_noise_variance().data)
        missed = ((binned.data - true.data) / sigma)[..., start:]
        table.add_row([f"{block} x {block}", f"{np.sqrt(np.mean(missed**2)):.2f}"])
    return table


def pca(signal, model):
    """Coverage of maps that PCA rebuilt."""
    thin = recorded(signal, 1 / THINNED, 1)
    thin.decomposition(normalize_poissonian_noise=True, print_info=False)
    rebuilt = thin.get_decomposition_model(COMPONENTS)
    rebuilt.data = np.maximum(rebuilt.data, 0)
    told = rebuilt.deepcopy()
    told.set_noise_variance(thin.deepcopy())
    table = PrettyTable(["map", "coverage"], align="r")
    for name, each in (
        ("as recorded", thin),
        ("rebuilt", rebuilt),
        ("rebuilt, variance set", told),
    ):
        result, low, high = deconvolved(each, model, return_interval=True)
        note = result.metadata.Signal.deep_deconvolution
        true = data.truth(signal, note.resolution).data / THINNED
        inside = ((low.data <= true) & (true <= high.data))[..., first_channel(each, result, 1) :]
        table.add_row([name, f"{inside.mean():.3f}"])
    return table


def few(signal, model):
    """Losses that are left."""
    bins, psf = f"{BIN} x {BIN}", {"psf": data.vacuum_spectrum(signal)}
    near = ("blind", "psf", f"{bins} blind", f"{bins} psf", "sum blind")
    table = PrettyTable(["electrons", "all blind", *(f"near {each}" for each in near)], align="r")
    for electrons in ELECTRONS:
        share = electrons / signal.data.sum(-1).mean()
        thin = recorded(signal, share, 2)
        binned = thin.rebin(scale=(BIN, BIN, 1))
        ways = (thin, {}), (thin, psf), (binned, {}), (binned, psf), (thin.sum(), {})
        left = [
            losses_left(signal, share, deconvolved(each, model, **given)) for each, given in ways
        ]
        shares = [left[0][0], *(each for _, each in left)]
        table.add_row([electrons, *(f"{each:.2f}" for each in shares)])
    return table


def losses_left(signal, share, result):
    """Losses beyond three widths, and those up to eight, over the true ones; all summed over the map."""
    true = data.truth(signal, result.metadata.Signal.deep_deconvolution.resolution)
    true, found = (
        each.data.reshape(-1, each.data.shape[-1]).sum(axis=0) for each in (true, result)
    )
    start, stop = (first_channel(signal, result, widths) for widths in (BEYOND, NEAR))
    beyond, near = slice(start, None), slice(start, stop)
    return [found[part].sum() / (share * true[part].sum()) for part in (beyond, near)]


PARTS = {part.__name__: part for part in (rebin, pca, few)}


def main():
    """Print the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=24, help="and columns of the map")
    options = parser.parse_args()
    register()
    model = announced(options.model)
    signal = data.plasmonic_map(shape=(options.rows, options.rows))
    for name in options.part:
        print(f"{name}: {PARTS[name].__doc__.rstrip('.')}")
        print(PARTS[name](signal, model), flush=True)


if __name__ == "__main__":
    hs.set_log_level("ERROR")
    main()
