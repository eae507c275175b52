"""Blind results of measured spectra, beside what is known of them: see the model card.

    python benchmarks/measured.py [--data ../shared/data] [--model NAME_OR_PATH]

Counts are those of the result over those of the data; chi-square is that of the result blurred again
(median over the spectra), left is what the result has between one and two zero-loss widths from the peak,
over its height in the data. The same of maps with the response that their quietest spectra share
(`estimate_psf(shared=True)`), and how many spectra it does not fit, so that they keep their own. Of
monochromated WS2: mean counts between 0.6 and 1.2 eV, as measured, with its vacuum response (where that is
used) and blind, and in how many channels the 90 % intervals of the last two overlap (medians over ten
spectra). The spectra are not part of the repository.
"""

import argparse
import warnings
from pathlib import Path

import hyperspy.api as hs
import numpy as np
from _held_out import announced
from prettytable import PrettyTable

from exspy_deepdeconv import register
from exspy_deepdeconv.physics import find_zero_loss

NAMES = (
    "aluminium_mono.dm3", "diamond_mono.dm3", "srtio3.dm3", "boron_nitride_100_frames.dm3",
    "lsmo_line.hspy", "manganese_oxide.msa", "ws2_mono_specimen.hspy",
)  # fmt: skip
MAPS = ("boron_nitride_100_frames.dm3", "lsmo_line.hspy", "ws2_mono_specimen.hspy")
SPECIMEN, VACUUM = "ws2_mono_specimen.hspy", "ws2_mono_vacuum.hspy"
WINDOWS = ((0.3, 0.6), (0.6, 1.2), (1.5, None))  # eV


def read(path):
    """The first signal of a file, as EELS."""
    signal = hs.load(path)
    signal = signal[0] if isinstance(signal, list) else signal
    if signal.metadata.Signal.signal_type != "EELS":
        signal.set_signal_type("EELS")
    return signal


def row_of(signal, model, psf=None):
    """Counts, chi-square, what is left beside the peak, how many are flagged and how many fit no psf."""
    result = signal.deep_deconvolve(model=model, psf=psf, show_progressbar=False)
    _, chi2, _ = signal.deconvolution_residual(
        result, psf, return_maps=True, show_progressbar=False
    )
    before, after = (np.atleast_2d(s.data).sum(-1, dtype=float) for s in (signal, result))
    found = find_zero_loss(np.atleast_2d(signal.data).astype(float))
    left = []
    for spectrum, position, width, height in zip(
        result.data.reshape(-1, result.data.shape[-1]),
        *(np.ravel(x) for x in (found.position, found.fwhm, found.height)),
        strict=True,
    ):
        first, last = (int(position + n * width) for n in (1, 2))
        left.append(spectrum[first:last].mean() / height)
    flags = result.metadata.Signal.deep_deconvolution.flags
    flagged, own = flags.unexplained + flags.gains, flags.get_item("psf_misfit", "")
    columns = np.mean(after / before), np.median(chi2.data), np.nanmedian(left)
    return [
        *(f"{x:.4f}" for x in columns[:1]),
        f"{columns[1]:.2f}",
        f"{columns[2]:.4f}",
        flagged,
        own,
    ]


def sulfide(folder, model):
    """The windows of WS2."""
    specimen, vacuum = read(folder / SPECIMEN), read(folder / VACUUM).mean()
    arguments = {"return_interval": True, "model": model, "show_progressbar": False}
    results = [specimen.deep_deconvolve(psf=psf, **arguments) for psf in (vacuum, None)]
    table = PrettyTable(["eV", "as measured", "given", "blind", "intervals overlap"], align="r")
    for low, high in WINDOWS:
        window = slice(low, high)
        counts = [s.isig[window].data for s in (specimen, results[0][0], results[1][0])]
        (low_given, high_given), (low_blind, high_blind) = (
            [bound.isig[window].data for bound in bounds] for _, *bounds in results
        )
        both = (low_blind <= high_given) & (low_given <= high_blind)
        means = (f"{np.median(x.mean(-1, dtype=float)):.0f}" for x in counts)
        table.add_row([f"{low} to {high or 'the end'}", *means, f"{both.mean():.2f}"])
    return table


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"--data {options.data} is no folder")
    warnings.simplefilter("ignore")
    register()
    model = announced(options.model)
    table = PrettyTable(["spectra", "counts", "chi-square", "left", "flagged", "own"], align="r")
    for name in NAMES:
        table.add_row([Path(name).stem, *row_of(read(options.data / name), model)])
    for name in MAPS:
        signal = read(options.data / name)
        psf = signal.estimate_psf(model=model, shared=True)
        table.add_row([f"{Path(name).stem}, shared response", *row_of(signal, model, psf)])
    print(table)
    print(sulfide(options.data, model))


if __name__ == "__main__":
    hs.set_log_level("ERROR")
    main()
