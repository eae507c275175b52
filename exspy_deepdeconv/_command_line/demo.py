"""What ``exspy-deepdeconv demo`` does: simulate, deconvolve, compare with the truth, write."""

import time

import matplotlib.pyplot as plt
import numpy as np
from prettytable import PrettyTable

from .. import data, models, plotting
from ..bounds.oracles import raw_errors
from ..evaluate import errors
from .reading import quietly

MAPPED = (0.42, 0.54)  # eV: the rod's second mode, four zero-loss widths from the peak
PLACE = (4, 12)  # a pixel at the end of the rod
SCORED_EVERY = 3  # pixels: enough for a median


def run_demo(output, model=None, echo=print):
    """Write the demo's files and print its table.

    Parameters
    ----------
    output : pathlib.Path
        Existing folder.
    model : str, optional
        A bundled model or a weights file.
    echo : callable
        Prints one line.

    Returns
    -------
    list of pathlib.Path
        The files written.
    """
    start = time.monotonic()
    model = models.load(model)  # a wrong name raises an error before any work
    with quietly():
        measured = data.plasmonic_map()
        vacuum = data.vacuum_spectrum(measured)
        echo(f"Deconvolving {measured.axes_manager.navigation_size} simulated spectra ...")
        blind = measured.deep_deconvolve(model=model)
        psf = measured.estimate_psf(model=model, shared=True)
        shared = measured.deep_deconvolve(model=model, psf=psf)
        told = measured.deep_deconvolve(model=model, psf=vacuum)
    note = blind.metadata.Signal.deep_deconvolution
    truth = data.truth(measured, note.resolution)
    results = {
        "deconvolved, blind": blind,
        "deconvolved, response shared by the map": shared,
        "deconvolved, measured response": told,
    }
    table = error_table(results, measured, truth, note)
    title = (
        f"Simulated nanorod: zero-loss peak {1e3 * note.zero_loss_fwhm:.0f} meV wide, "
        f"deconvolved to {1e3 * note.resolution:.0f} meV"
    )
    signals = {
        "simulated": measured,
        "vacuum": vacuum,
        "deconvolved": blind,
        "deconvolved_shared": shared,
        "truth": truth,
    }
    signals = {output / f"{name}.hspy": signal for name, signal in signals.items()}
    for path, signal in signals.items():
        signal.save(path, overwrite=True)
    figure, rows, text = (output / n for n in ("before_after.png", "errors.csv", "errors.txt"))
    shown = {"measured": measured, "blind": blind, "shared response": shared, "truth": truth}
    save_figure(shown, title, figure)
    rows.write_text(table.get_csv_string(lineterminator="\n"))
    text.write_text(table.get_string() + "\n")
    paths = [*signals, figure, rows, text]
    echo(title + ".\nErrors against the truth at that resolution (1 = 100 %), median over pixels:")
    echo(table.get_string())
    echo("\n".join(["Files:", *(f"  {path}" for path in paths)]))
    echo(f"Done in {time.monotonic() - start:.0f} s.")
    return paths


def error_table(results, measured, truth, note):
    """Errors of results against the truth, beside those of the data themselves.

    Parameters
    ----------
    results : dict of str to EELSSpectrum
        Deconvolved signals and what they are called.
    measured, truth : EELSSpectrum
        The data and what the results should be.
    note : DictionaryTreeBrowser
        ``metadata.Signal.deep_deconvolution`` of a result.

    Returns
    -------
    prettytable.PrettyTable
    """
    recipe = measured.metadata.Simulation.as_dictionary()
    simulations = data.simulations(recipe)[::SCORED_EVERY]
    channels = note.resolution / measured.axes_manager.signal_axes[0].scale
    table = PrettyTable(
        ["spectra", "loss error", "near error", "sqrt error", "map error", "counts"], align="r"
    )
    table.align["spectra"] = "l"
    scores = [errors(s.counts, s, channels) for s in simulations]
    table.add_row(["as measured", *_medians(scores), *_map_scores(measured, measured, truth)])
    scores = [raw_errors(s, channels) for s in simulations]
    table.add_row(["as measured, exact zero-loss peak taken off", *_medians(scores), "", ""])
    for name, result in results.items():
        spectra = result.data.reshape(-1, result.data.shape[-1])[::SCORED_EVERY]
        scores = [errors(x, s, channels) for x, s in zip(spectra, simulations, strict=True)]
        table.add_row([name, *_medians(scores), *_map_scores(result, measured, truth)])
    return table


def _medians(scores):
    return [f"{np.median([getattr(s, n) for s in scores]):.3f}" for n in ("loss", "near", "sqrt")]


def _map_scores(result, measured, truth):
    """Relative error of the map of a mode, and the counts relative to the data."""
    found, true = (plotting.energy_window(s, *MAPPED).data for s in (result, truth))
    error = np.linalg.norm(found - true) / np.linalg.norm(true)
    return f"{error:.3f}", f"{result.data.sum() / measured.data.sum():.4f}"


def save_figure(signals, title, path):
    """Write the figure of spectra and maps as a small PNG; no window is opened."""
    plt.switch_backend("agg")
    with plt.rc_context({"font.size": 9}):
        figure = plotting.plot_map_comparison(signals, MAPPED, place=PLACE, title=title)
        figure.savefig(path, dpi=100)
        plt.close(figure)
