"""Deconvolve files: what ``exspy-deepdeconv deconvolve`` does once its options are read."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import models
from .._arguments import check_settings
from .._signals.checks import already_made
from .reading import check_one_psf, low_loss, quietly, read_response, signals_of
from .records import OTHERS, Record, kept_settings, print_summary, settings_before, settings_of
from .writing import DiskFullError, write_together

LOG_NAME = "deconvolve_log.jsonl"
IN_MEMORY_BYTES = 2**28


def deconvolve_files(
    inputs,
    output,
    options,
    *,
    psf=None,
    shared_psf=False,
    chosen=None,
    overwrite=False,
    lazy=True,
    workers=None,
    extension=".hspy",
    log=None,
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
    shared_psf : bool
        Estimate one for each signal instead, as ``estimate_psf(shared=True)``.
    chosen : str, optional
        Number or title of the signal to take from each file.
    overwrite : bool
        Replace existing results.
    lazy : bool
        Read lazily where the format allows.
    workers : int, optional
        Number of dask's threads.
    extension : str
        Of the results: ``".hspy"`` or ``".zspy"``.
    log : pathlib.Path, optional
        File that one line of JSON is added to for each input: ``input``, ``outputs``, ``status``
        (done, skipped or failed), ``settings`` (input and options that the result depends on; one
        that exists is skipped if they are the same, and a failure if not), ``seconds``,
        ``spectra``, ``flags`` (by output), ``notes``, ``errors``, ``model``, ``weights_sha256``,
        ``version`` and ``time`` (UTC). In the output folder by default.
    echo : callable
        Prints one line.

    Returns
    -------
    int
        Number of inputs that failed.

    Raises
    ------
    OSError, ValueError
        If the model, the response, the resolution, the confidence or the device cannot be used: then
        nothing is done.
    """
    import dask

    from ..inference import check_device

    resolution, interval = options.get("resolution"), options.get("return_interval", False)
    check_settings(resolution, options.get("confidence", 0.9), None, True, interval)
    check_device(options.get("device"))
    options = options | {"model": models.load(options.get("model"))}
    inputs = list({path.resolve(): path for path in map(Path, inputs)}.values())
    check_one_psf(psf, shared_psf)
    if psf is not None:
        with quietly() as heard:
            options["psf"] = read_response(psf, inputs)
        for warning in heard:
            echo(f"note: {warning.message}")
    stems = result_stems(inputs)
    log = output / LOG_NAME if log is None else log
    log.open("a").close()  # a log that cannot be written is better known now than in the morning
    before = settings_before(log)
    records, batch = [], _Batch(output, extension, options, shared_psf, chosen, overwrite, lazy)
    with dask.config.set({"num_workers": workers} if workers else {}):
        for number, (path, stem) in enumerate(zip(inputs, stems, strict=True), 1):
            echo(f"[{number}/{len(inputs)}] {path}")
            settings = settings_of(path, options, psf, chosen, shared_psf)
            record, full = Record(path, options["model"], settings, before, echo), False
            try:
                _deconvolve_file(record, stem, batch)
            except Exception as error:  # whatever a file holds must not stop the others
                record.fail(error)
                full = isinstance(error, DiskFullError)
            record.write(log)
            records.append(record)
            if full:  # what cannot be written need not be computed
                break
    not_tried = len(inputs) - len(records)
    if not_tried:
        echo(f"{not_tried} inputs were not tried. Make room and run the same command again.")
    print_summary(records, log, echo)
    return sum(record.status == "failed" for record in records) + not_tried


def result_stems(inputs):
    """Stems of the results, one for each input, all different.

    The stem of the input if no other input has it; else with its extension, and if that does not
    help, with as many of its folders as it takes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from exspy_deepdeconv._command_line.files import result_stems
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


@dataclass(frozen=True)
class _Batch:
    """What is the same for all inputs; see `deconvolve_files`."""

    output: Path
    extension: str
    options: dict
    shared_psf: bool
    chosen: str | None
    overwrite: bool
    lazy: bool
    written: dict = field(default_factory=dict)  # input by result

    @property
    def interval(self):
        """Whether the bounds of an interval are written beside each result."""
        return self.options.get("return_interval", False)

    def target(self, stem, signal=None):
        """The result of a file, or of one of its signals."""
        ending = "_deconvolved" if signal is None else f"_signal{signal}_deconvolved"
        return self.output / f"{stem}{ending}{self.extension}"

    def bounds(self, target):
        """The files of the interval of a result: lower and upper bound, or none."""
        names = ("lower", "upper") if self.interval else ()
        return [target.with_stem(f"{target.stem}_{name}") for name in names]

    def keeps(self, target):
        """Whether what is there stays."""
        return target.exists() and not self.overwrite


def _deconvolve_file(record, stem, batch):
    """Deconvolve each low-loss signal of a file; what becomes of them is noted in ``record``."""
    whole = batch.target(stem)
    if whole not in batch.written and batch.keeps(whole):
        record.keep(
            whole, batch.bounds(whole)
        )  # a batch that resumes reads none of its finished files
        return
    with signals_of(record.path, batch.lazy) as signals:
        wanted, several, notes = low_loss(signals, batch.chosen)
        for note in notes:
            record.note(note)
        for number, signal in wanted:
            name = signal.metadata.General.title or str(number)
            target = batch.target(stem, number if several else None)
            _deconvolve_signal(record, name, signal, target, batch)


def _deconvolve_signal(record, name, signal, target, batch):
    """One of the signals of a file, unless there is a reason to leave it out."""
    if target in batch.written:
        other = batch.written[target]
        record.fail(f"{target} is already the result of {other}: rename one of the two", name)
    elif batch.keeps(target):
        record.keep(target, batch.bounds(target), name)
    elif made := already_made(signal):
        record.skip(f"it is {made}", name)
    elif other := [] if batch.overwrite else record.of_others(batch.bounds(target)):
        record.fail(f"{other[0]} exists, but {OTHERS}", name)
    else:
        try:
            _write_result(record, name, signal, target, batch)
            batch.written[target] = record.path
        except DiskFullError:
            raise
        except Exception as error:  # the other signals may be sound
            record.fail(error, name)


def _write_result(record, name, signal, target, batch):
    # A result in memory knows its flags; a larger one is written piece by piece.
    small = signal.data.size * np.dtype(np.float32).itemsize <= IN_MEMORY_BYTES
    options = dict(batch.options)
    with quietly() as heard:
        if batch.shared_psf:
            options["psf"] = signal.estimate_psf(model=options["model"], shared=True)
        made = signal.deep_deconvolve(**options, lazy_output=False if small else None)
        result, *bounds = made if batch.interval else [made]
        for each in (result, *bounds):
            each.metadata.Signal.deep_deconvolution.batch = kept_settings(record.settings)
        # The result itself comes last: where there is one, its interval is complete.
        paths = batch.bounds(target)
        write_together(dict(zip([*paths, target], [*bounds, result], strict=True)))
    for warning in dict.fromkeys(str(w.message) for w in heard):
        record.note(f"note: {warning}")
    record.done(target, paths, signal, result.metadata.Signal.deep_deconvolution, name)
