"""Command line: ``exspy-deepdeconv train``."""

from pathlib import Path
from typing import Annotated

import typer

from .command import at_home, fail, prepare, run


def train(
    folder: Annotated[
        Path,
        typer.Option(help="Folder for weights, model card, log and checkpoint.", callback=at_home),
    ],
    init: Annotated[
        str | None,
        typer.Option(
            help="A bundled model or a .safetensors file to start from.",
            show_default="with --map the newest bundled, else from scratch",
        ),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="A low-loss map (or a line, or frames) of the instrument to adapt the network to.",
            callback=at_home,
        ),
    ] = None,
    psf: Annotated[
        Path | None,
        typer.Option(
            help="File with the zero-loss peak of that instrument, measured in vacuum.",
            callback=at_home,
            show_default="estimated from the map",
        ),
    ] = None,
    signal: Annotated[
        str | None,
        typer.Option(
            help="If the map's file holds several signals: number (from 0) or title of the one.",
            show_default="the only low-loss signal",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="End after this time: reading a map and first scores count, the last scores do not.",
            show_default="10 with --map and no --steps, else none",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="End after this many batches.", show_default="20000 without --map"
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="The highest learning rate.",
            show_default="0.0001 with --map, else 0.001",
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Components of the map that are signal.",
            show_default="the elbow of its scree plot",
        ),
    ] = None,
    keep_start: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the weights started from that the outcome keeps.",
            show_default="0.3 with --map, else 0",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and simulations.")] = 2021,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model.", show_default="fine-tuned with --map, else model"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that draw batches.", show_default="1")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where the network runs, e.g. cpu.", show_default="cuda if there is one"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")
    ] = False,
):
    """Train a network, or adapt one to your own instrument.

    With --map, minutes of training adapt the bundled network to the instrument that recorded it.
    Without, a network is trained on simulations, from scratch or from --init; that takes hours.

    A run that was stopped or killed goes on with the same command and --resume. The result is
    used by "exspy-deepdeconv deconvolve --model FOLDER/NAME.safetensors".
    """
    from ..training.gain import in_words
    from ..training.plan import CHECKPOINT

    for option, value in (("psf", psf), ("signal", signal), ("components", components)):
        if map_file is None and value is not None:
            fail(f"--{option} needs a --map to go with")
    if not resume and (folder / CHECKPOINT).exists():
        fail(f"{folder} holds a checkpoint: --resume goes on from it, or name another folder")
    prepare(folder)
    plan = {"steps": steps, "seed": seed, "learning_rate": learning_rate, "workers": workers}
    plan = _given(plan | {"keep_start": keep_start})
    options = {"folder": folder, "name": name, "resume": resume, "device": device}
    options = _given(options | {"minutes": minutes})
    if map_file is None:
        model = run(_from_simulations, init, plan, options)
    else:
        if steps is not None:
            options.setdefault("minutes", None)  # steps alone say when to end
        options |= plan | _given({"components": components})
        model = run(_on_map, init, map_file, psf, signal, options)
    typer.echo(f"-> {folder / model.name}.safetensors ({model.provenance['steps']} steps)")
    for moment, scores in model.provenance["scores"].items():
        told = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
        typer.echo(f"   {moment}: {told}")
    for name, gain in model.provenance.get("gain", {}).items():
        typer.echo(f"   error after / before, {name}: {in_words(gain)}")


def _given(options):
    """Without those that are left to their defaults."""
    return {key: value for key, value in options.items() if value is not None}


def _from_simulations(init, plan, options):
    from ..training import Plan, train

    return _with_notes(train, Plan(**plan), init=init, **options)


def _on_map(init, map_file, psf, chosen, options):
    from ..training import fine_tune
    from .reading import only_low_loss, quietly, read_response

    with quietly() as heard:
        signal = only_low_loss(map_file, f"--map {map_file}", lazy=True, chosen=chosen)
        response = None if psf is None else read_response(psf, [map_file])
    for warning in heard:
        typer.echo(f"note: {warning.message}", err=True)
    return _with_notes(fine_tune, init, signal, response, **options)


def _with_notes(function, *args, **kwargs):
    """Call it; what it warns of is told in one line each."""
    import warnings

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        model = function(*args, **kwargs)
    for text in dict.fromkeys(str(w.message) for w in heard if w.category is UserWarning):
        typer.echo(f"note: {text}", err=True)
    return model
