"""Compare methods on a file: what ``exspy-deepdeconv compare`` does once its options are read."""

import warnings

import matplotlib.pyplot as plt
import numpy as np

from .. import models
from ..compare import check_methods
from .reading import check_one_psf, only_low_loss, quietly, read_response
from .writing import write_safely


def compare_file(
    path,
    output,
    methods,
    *,
    psf=None,
    shared_psf=False,
    resolution=None,
    model=None,
    chosen=None,
    overwrite=False,
    echo=print,
):
    """Deconvolve a file with several methods; write the results, the table and the figure.

    Parameters
    ----------
    path : pathlib.Path
        File of any format that HyperSpy reads, with one low-loss signal or a chosen one.
    output : pathlib.Path
        Existing folder for the results.
    methods : sequence of str
        As for ``compare_deconvolution``.
    psf : pathlib.Path, optional
        File with a measured response.
    shared_psf : bool
        Estimate one from the file instead, as ``estimate_psf(shared=True)``.
    resolution : float, optional
        In eV.
    model : str, optional
        A bundled model or a weights file.
    chosen : str, optional
        Number or title of the signal to take.
    overwrite : bool
        Replace existing results.
    echo : callable
        Prints one line.

    Returns
    -------
    int
        Number of methods that failed.

    Raises
    ------
    OSError, ValueError
        If input, response or arguments cannot be used, or results exist: then nothing is done.
    """
    methods, model = check_methods(methods), models.load(model)
    check_one_psf(psf, shared_psf)
    results = {name: output / f"{path.stem}_{name}.hspy" for name in methods}
    table, rows, figure = (
        output / f"{path.stem}_comparison.{extension}" for extension in ("txt", "csv", "png")
    )
    targets = (table, rows, figure, *results.values())
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        verb, them = ("exist", "them") if len(existing) > 1 else ("exists", "it")
        raise ValueError(f"{', '.join(existing)} {verb} (--overwrite replaces {them}).")
    with quietly() as heard:
        warnings.filterwarnings("always", category=UserWarning, message=r"\w+_(deconvolve|psf): ")
        signal = only_low_loss(path, path, chosen=chosen)
        if shared_psf:
            psf = signal.estimate_psf(model=model, shared=True)
        elif psf is not None:
            psf = read_response(psf, [path])
        comparison = signal.compare_deconvolution(
            methods, psf=psf, resolution=resolution, model=model
        )
        for name, target in results.items():
            if name in comparison.signals:
                write_safely(comparison.signals[name], target)
            else:  # nothing of an older run must pass for a result of this one
                target.unlink(missing_ok=True)
        text = comparison.table()
        table.write_text(text.get_string() + "\n")
        rows.write_text(text.get_csv_string(lineterminator="\n"))
        _write_figure(comparison, figure)
    for warning in dict.fromkeys(str(w.message) for w in heard):
        echo(f"note: {warning}")
    echo(text.get_string())
    echo("\n".join(["Files:", *(f"  {target}" for target in targets if target.exists())]))
    return len(methods) - len(comparison.signals) + 1


def _write_figure(comparison, path):
    """A PNG of the brightest spectrum; no window is opened."""
    plt.switch_backend("agg")
    with plt.rc_context({"font.size": 9}):
        total = np.nan_to_num(np.sum(comparison.signals["data"].data, axis=-1, dtype=float))
        brightest = np.unravel_index(total.argmax(), total.shape) if total.ndim else ()
        index = tuple(int(place) for place in brightest[::-1])
        top, _ = comparison.plot(index=index)
        pixel = index[0] if len(index) == 1 else index
        name = path.stem.removesuffix("_comparison")
        # The name of a file is no mathematics, which "$" would make of it.
        top.set_title(f"{name}, pixel {pixel}" if index else name, parse_math=False)
        top.figure.set_size_inches(8, 6)
        top.figure.savefig(path, dpi=120)
        plt.close(top.figure)
