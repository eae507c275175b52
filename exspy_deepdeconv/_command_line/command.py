"""What the commands share: a folder that can be written, errors in one line."""

from pathlib import Path

import typer


def at_home(path: Path | None):
    """A path with its ``~`` replaced: no shell does that in ``--output=~/results``."""
    return path and path.expanduser()


def prepare(folder):
    """Make the folder and see that it can be written, before any work; import HyperSpy quietly."""
    import tempfile
    import warnings

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is not a folder" if folder.is_file() else error.strerror or error
        fail(f"cannot write to {folder}: {reason}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HyperSpy's and exspy's words to each other
        import hyperspy.api as hs

        hs.set_log_level("ERROR")  # nor a word on optional packages that are not needed here
        import exspy.signals  # noqa: F401


def run(function, *args, **kwargs):
    """Call it; an error that a user can cause ends in one line."""
    try:
        return function(*args, **kwargs)
    except (OSError, ValueError, TypeError, NotImplementedError, FloatingPointError) as error:
        fail(error)


def fail(message):
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(1)
