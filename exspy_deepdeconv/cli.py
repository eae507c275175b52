"""Command line: ``exspy-deepdeconv demo``, ``deconvolve``, ``compare`` and ``train``.

Everything that takes time to import is imported inside the commands: ``--help`` is quick.
"""

from pathlib import Path
from typing import Annotated

import typer

from ._command_line.command import at_home, fail, prepare, run
from ._command_line.training_cli import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
)


def _command(function):
    """Register a command; its help is wrapped by the terminal, not where the source is."""
    paragraphs = function.__doc__.split("\n\n")
    return app.command(help="\n\n".join(" ".join(text.split()) for text in paragraphs))(function)


def _print_version(wanted: bool):
    if wanted:
        from . import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
):
    """Blind deconvolution of low-loss EELS spectra with a trained network."""


ModelOption = Annotated[
    str | None,
    typer.Option(help="A bundled model or a .safetensors file.", show_default="the newest bundled"),
]
OutputOption = Annotated[
    Path, typer.Option(help="Folder for the results; made if it is missing.", callback=at_home)
]
PsfOption = Annotated[
    Path | None,
    typer.Option(
        help="File with a measured response (a vacuum spectrum; several are aligned and summed).",
        callback=at_home,
        show_default="estimated from the data",
    ),
]
SharedPsfOption = Annotated[
    bool,
    typer.Option(
        "--shared-psf",
        help="Estimate one response for each map, from its quietest spectra (instead of --psf).",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that exist already.")
]


@_command
def demo(
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the results; those of an earlier demo are replaced.", callback=at_home
        ),
    ] = Path("exspy_deepdeconv_demo"),
    model: ModelOption = None,
):
    """Deconvolve a simulated spectrum image and compare the result with the truth.

    Writes the simulated data and the result (.hspy), a figure (.png) and the table of errors
    (.csv and .txt).
    """
    prepare(output)
    from ._command_line.demo import run_demo

    run(run_demo, output, model)


@_command
def deconvolve(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Files of any format that HyperSpy reads.", metavar="INPUT"),
    ],
    output: OutputOption,
    psf: PsfOption = None,
    shared_psf: SharedPsfOption = False,
    force_psf: Annotated[
        bool, typer.Option("--force-psf", help="Use the response also where it does not fit.")
    ] = False,
    resolution: Annotated[
        float | None,
        typer.Option(
            help="Resolution of the results: FWHM in eV.",
            show_default="a quarter of the zero-loss width",
        ),
    ] = None,
    interval: Annotated[
        bool,
        typer.Option(
            "--interval",
            help="Write the bounds of an interval as well: <name>_deconvolved_lower and _upper. (Maps of "
            "over 256 MB, which are written piece by piece, then take three times as long.)",
        ),
    ] = False,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="With --interval: share of the channels in which it is to contain the true spectrum.",
            show_default="0.9",
        ),
    ] = None,
    model: ModelOption = None,
    signal: Annotated[
        str | None,
        typer.Option(
            help="In files with several signals: the number (from 0) or title of the one to take.",
            show_default="every low-loss signal",
        ),
    ] = None,
    zero_loss: Annotated[
        bool, typer.Option("--zero-loss/--no-zero-loss", help="Keep the elastic peak.")
    ] = True,
    overwrite: OverwriteOption = False,
    lazy: Annotated[
        bool,
        typer.Option(
            "--lazy/--no-lazy", help="Read and write piece by piece where the format allows it."
        ),
    ] = True,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where the network runs, e.g. cuda.",
            show_default="cpu; for large maps cuda, if there is one",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of pieces worked on at the same time.")
    ] = None,
    zspy: Annotated[
        bool,
        typer.Option(
            "--zspy/--hspy", help="Write .zspy folders (large maps, in parallel) or .hspy files."
        ),
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            help="File that one line of JSON is added to for each input.",
            callback=at_home,
            show_default="deconvolve_log.jsonl in the output folder",
        ),
    ] = None,
):
    """Deconvolve files and write the results as <name>_deconvolved.hspy.

    A run that was stopped or killed is resumed by the same command: inputs whose results exist, made
    from the same file with the same settings, are skipped; that is not a failure. A result that was
    made otherwise is kept and counts as a failure, unless --overwrite is given. A result that is not
    complete never has its final name. A file that fails is reported and does not stop the others;
    only a full disk ends the run. The exit code is 0 if nothing failed, 1 otherwise.
    """
    if confidence is not None and not interval:
        fail("--confidence needs --interval")
    if force_psf and psf is None and not shared_psf:
        fail("--force-psf needs --psf or --shared-psf")
    prepare(output)
    from ._command_line.files import deconvolve_files

    options = {"model": model, "resolution": resolution, "zero_loss": zero_loss, "device": device}
    if force_psf:
        options["force_psf"] = True
    if interval:
        options |= {
            "return_interval": True,
            "confidence": 0.9 if confidence is None else confidence,
        }
    failed = run(
        deconvolve_files,
        inputs,
        output,
        options,
        psf=psf,
        shared_psf=shared_psf,
        chosen=signal,
        overwrite=overwrite,
        lazy=lazy,
        workers=workers,
        extension=".zspy" if zspy else ".hspy",
        log=log,
    )
    if failed:
        raise typer.Exit(1)


@_command
def compare(
    input: Annotated[
        Path, typer.Argument(help="A file of any format that HyperSpy reads.", metavar="INPUT")
    ],
    output: OutputOption,
    methods: Annotated[
        str, typer.Option(help="Of deep, rl, ml, fourier and tgv, with commas between them.")
    ] = "deep,rl,fourier",
    psf: PsfOption = None,
    shared_psf: SharedPsfOption = False,
    resolution: Annotated[
        float | None,
        typer.Option(
            help="FWHM in eV of the Gaussian that all results are seen through. Those of rl and ml may stay "
            "coarser: the table tells the width that was reached.",
            show_default="a quarter of the zero-loss width, for methods that need one",
        ),
    ] = None,
    model: ModelOption = None,
    signal: Annotated[
        str | None,
        typer.Option(
            help="In files with several signals: the number (from 0) or title of the one to take.",
            show_default="the low-loss signal",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
):
    """Deconvolve a file with several methods and put the results side by side.

    Writes the table (<name>_comparison.txt and .csv), the figure (.png) and the result of each
    method (<name>_<method>.hspy). The exit code is 1 if a method failed.
    """
    prepare(output)
    from ._command_line.compare_files import compare_file

    failed = run(
        compare_file,
        input,
        output,
        [name.strip() for name in methods.split(",") if name.strip()],
        psf=psf,
        shared_psf=shared_psf,
        resolution=resolution,
        model=model,
        chosen=signal,
        overwrite=overwrite,
    )
    if failed:
        raise typer.Exit(1)


_command(train)


def main():
    """Run the command line; ends the process with an exit code."""
    app(prog_name="exspy-deepdeconv")
