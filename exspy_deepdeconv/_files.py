"""Deconvolve files: what ``exspy-deepdeconv deconvolve`` does once its options are read."""

import os
import time
from collections import Counter
from pathlib import Path

from prettytable import PrettyTable

from . import models
from ._reading import low_loss, one_line, quietly, read_response, read_signals


def deconvolve_files(
    inputs,
    output,
    options,
    *,
    psf=None,
    chosen=None,
    overwrite=False,
    lazy=True,
    workers=None,
    echo=print,
):
    """Deconvolve the low-loss signals of files, one file after the other.

    Parameters
    ----------
    inputs : sequence of pathlib.Path
        Files of any format that HyperSpy reads; one named twice is read once.
    output : pathlib.Path
        Existing folder for the results.
    options : dict
        Arguments of ``deep_deconvolve``.
    psf : pathlib.Path, optional
        File with a measured response.
    chosen : str, optional
        Number or title of the signal to take from each file.
    overwrite : bool
        Replace existing results.
    lazy : bool
        Read lazily where the format allows.
    workers : int, optional
        Number of dask's threads.
    echo : callable
        Prints one line.

    Returns
    -------
    int
        Number of inputs that failed.

    Raises
    ------
    OSError, ValueError
        If the model or the response cannot be used: then nothing is done.
    """
    import dask

    options = options | {"model": models.load(options.get("model"))}
    if psf is not None:
        with quietly():
            options["psf"] = read_response(psf)
    inputs = list(dict.fromkeys(Path(path) for path in inputs))
    table = PrettyTable(
        ["input", "signal", "outcome", "result", "F (eV)", "R (eV)", "s"], align="l"
    )
    failed = 0
    with dask.config.set({"num_workers": workers} if workers else {}):
        for number, (path, stem) in enumerate(zip(inputs, result_stems(inputs), strict=True), 1):
            echo(f"[{number}/{len(inputs)}] {path}")
            try:
                with quietly():
                    signals = read_signals(path, lazy)
                rows = _deconvolve_file(signals, stem, output, options, chosen, overwrite, echo)
                for row in rows:
                    table.add_row([path.name, *row])
            except Exception as error:  # whatever a file holds must not stop the others
                failed += 1
                reason = one_line(error)
                echo(f"  failed: {reason}")
                table.add_row([path.name, "", "failed", "", "", "", ""])
    echo(table.get_string())
    return failed


def result_stems(inputs):
    """Stems of the results, one for each input, all different.

    The stem of the input if no other input has it; else with its extension, and if that does not
    help, with as many of its folders as it takes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from exspy_deepdeconv._files import result_stems
    >>> result_stems([Path("a/x.dm3"), Path("a/x.msa"), Path("y.dm3")])
    ['x_dm3', 'x_msa', 'y']
    """
    paths = [Path(os.path.abspath(path)) for path in inputs]
    stems = [path.stem for path in paths]
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        count = Counter(stem.casefold() for stem in stems)
        stems = [
            stem
            if count[stem.casefold()] == 1
            else "_".join((*path.parts[-parts:-1], path.stem, path.suffix[1:])).strip("_/\\")
            for path, stem in zip(paths, stems, strict=True)
        ]
    return stems


def _deconvolve_file(signals, stem, output, options, chosen, overwrite, echo):
    """Rows of the table, one for each signal of a file."""
    wanted, several, notes = low_loss(signals, chosen)
    for note in notes:
        echo(f"  {note}")
    rows = []
    for number, signal in wanted:
        target = output / f"{stem}{f'_signal{number}' if several else ''}_deconvolved.hspy"
        name = signal.metadata.General.title or str(number)
        if target.exists() and not overwrite:
            echo(f"  skipped: {target} exists (--overwrite replaces it)")
            rows.append([name, "skipped", target.name, "", "", ""])
            continue
        start = time.monotonic()
        with quietly() as heard:
            result = signal.deep_deconvolve(**options)
            write_safely(result, target)
        for warning in dict.fromkeys(str(w.message) for w in heard):
            echo(f"  note: {warning}")
        note = result.metadata.Signal.deep_deconvolution
        widths = [f"{note[key]:.4g}" for key in ("zero_loss_fwhm", "resolution")]
        rows.append([name, "done", target.name, *widths, f"{time.monotonic() - start:.1f}"])
        echo(f"  -> {target}")
    return rows


def write_safely(signal, target):
    """Save under a temporary name in the same folder, then rename: whole or not at all.

    Parameters
    ----------
    signal : BaseSignal
        Lazy ones are computed while they are written.
    target : pathlib.Path
        A ``.hspy`` file, replaced if it exists.
    """
    part = target.with_name(f".{target.stem}.{os.getpid()}.part.hspy")
    try:
        signal.save(part, overwrite=True)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
