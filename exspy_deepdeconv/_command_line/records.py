"""What became of the inputs of a batch: a line of the log for each, and the table at the end."""

import json
import os
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from math import isclose

from prettytable import PrettyTable

from .. import __version__
from .reading import note_of_result, one_line

OTHERS = "belongs to another result; --overwrite replaces it"
SHARED = "shared by the spectra"  # in the place of a file with a response
FILES = {"input": "changed", "psf": "psf_changed"}  # settings that are files, and their age


class Record:
    """What became of one input, told while it happens.

    Parameters
    ----------
    path : pathlib.Path
        The input.
    model : Model
        The network that it is deconvolved with.
    settings : dict
        From `settings_of`.
    before : dict
        From `settings_before`.
    echo : callable
        Prints one line.
    """

    def __init__(self, path, model, settings, before, echo):
        self.path, self.model, self.echo = path, model, echo
        self.settings, self.before = settings, before
        self.start = time.monotonic()
        self.rows = []  # signal, outcome, result, F, R
        self.outputs, self.flags, self.notes, self.errors = [], {}, [], []
        self.spectra, self.seconds = 0, 0.0

    @property
    def status(self):
        """``failed`` where anything of it failed, ``skipped`` where there was nothing to do."""
        if self.errors:
            return "failed"
        return "done" if self.outputs else "skipped"

    def note(self, text):
        """Something that a user should know."""
        self.echo(f"  {text}")
        self.notes.append(text)

    def fail(self, error, name=""):
        """A signal, or the whole file, could not be deconvolved."""
        self.errors.append(one_line(error))
        self.echo(f"  failed: {self.errors[-1]}")
        self.rows.append([name, "failed", "", "", ""])

    def keep(self, target, bounds, name=""):
        """A result that exists is kept; that of another file or of other settings is a failure."""
        settings = self.settings
        # The settings in a result move with it; the log has the full paths of the files, too.
        logged, told = self.before.get(os.path.abspath(target), {}), self.told_by(target)
        before = logged | {key: told[key] for key in told if not _same_name(key, told, logged)}
        # A result that no batch made holds fewer settings: missing ones count as the same.
        differ = [key for key in settings if before.get(key, settings[key]) != settings[key]]
        differ = [key for key in differ if not _moved(key, before, settings)]
        if not differ:
            if missing := [bound for bound in bounds if not self._wrote(bound)]:
                self.fail(f"{target} exists, but {missing[0]} is missing or {OTHERS}", name)
            else:
                self.skip(f"{target} exists (--overwrite replaces it)", name, target)
            return
        made = ", ".join(f"{key}: {before.get(key)}" for key in differ)
        self.fail(
            f"{target} exists, but was made with other settings ({made}); --overwrite replaces it",
            name,
        )

    def of_others(self, bounds):
        """Those of the files of an interval that exist and were not written with these settings."""
        return [bound for bound in bounds if bound.exists() and not self._wrote(bound)]

    def _wrote(self, bound):
        return note_of_result(bound).get("batch") == kept_settings(self.settings)

    def told_by(self, target):
        """The settings that a result itself holds."""
        note = note_of_result(target)
        # Versions before intervals did not store whether there is one; a result itself tells.
        interval = {"interval": note.get("confidence")} if note else {}
        if settings := note.get("batch"):
            return interval | settings
        told = {key: note[key] for key in ("model", "weights_sha256", "zero_loss") if key in note}
        told |= interval
        wanted, found = self.settings["resolution"], note.get("resolution")
        if wanted is not None and found is not None and not isclose(wanted, found, rel_tol=0.02):
            told["resolution"] = found
        return told

    def skip(self, reason, name="", target=None):
        """A signal is left out."""
        self.note(f"skipped: {reason}")
        self.rows.append([name, "skipped", target.name if target else "", "", ""])

    def done(self, target, bounds, signal, note, name=""):
        """A result was written, and its bounds; ``note`` is what its metadata say of it."""
        for path in (*bounds, target):
            self.echo(f"  -> {path}")
            self.outputs.append(os.path.abspath(path))
        flags = note.flags.as_dictionary()
        flags.pop("maps", None)  # they are in the result
        self.flags[self.outputs[-1]] = flags
        self.spectra += max(int(signal.axes_manager.navigation_size), 1)
        widths = [f"{note[key]:.4g}" for key in ("zero_loss_fwhm", "resolution")]
        self.rows.append([name, "done", target.name, *widths])

    def write(self, log):
        """Add its line to the log at once: a run that is killed leaves the log of what is done."""
        self.seconds = time.monotonic() - self.start
        line = {
            "input": str(self.path),
            "outputs": self.outputs,
            "settings": self.settings,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "spectra": self.spectra,
            "flags": self.flags,
            "notes": self.notes,
            "errors": self.errors,
            "model": self.model.name,
            "weights_sha256": self.model.sha256,
            "version": __version__,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            self.fail(f"the log {log} cannot be written: {error.strerror}")


def kept_settings(settings):
    """The settings that are stored in a result: with the names of files, but not their folders."""
    return settings | {key: os.path.basename(settings[key] or "") or None for key in FILES}


def _same_name(key, told, logged):
    """Whether the log has the full path of a file of which the result holds the name."""
    places = told.get(key), logged.get(key)
    return key in FILES and all(places) and os.path.basename(places[1]) == places[0]


def _moved(key, before, settings):
    """Whether it is a file of the same name and age in another place."""
    if key not in FILES or not (before.get(key) and settings[key]):
        return False
    names = (os.path.basename(each[key]) for each in (before, settings))
    age = settings.get(FILES[key])  # one that is gone has none
    return len(set(names)) == 1 and age is not None and before.get(FILES[key]) == age


def settings_of(path, options, psf, chosen, shared_psf=False):
    """What a result depends on, as JSON can hold it: the file as it is now, and the options.

    Parameters
    ----------
    path : pathlib.Path
        The input.
    options : dict
        Arguments of ``deep_deconvolve``; the model is loaded.
    psf : pathlib.Path or None
        File with a measured response.
    chosen : str or None
        Which signal of the file.
    shared_psf : bool
        Whether one is estimated for the whole signal.

    Returns
    -------
    dict
    """
    response = {"psf": SHARED if shared_psf else None}
    return {
        **_file(path, "input", "changed"),
        "model": options["model"].name,
        "weights_sha256": options["model"].sha256,
        "resolution": options.get("resolution"),
        "zero_loss": options.get("zero_loss", True),
        "interval": options["confidence"] if options.get("return_interval") else None,
        **(response if psf is None else _file(psf, "psf", "psf_changed")),
        # None, not False: results of before say nothing of it, and are to be the same.
        "force_psf": options.get("force_psf") or None,
        "signal": chosen,
    }


def _file(path, name, changed):
    """The path of a file and when it was changed, under these names."""
    about = {name: os.path.abspath(path)}
    with suppress(OSError):  # for a file that cannot be read, the error comes later
        # Not in local time: a batch may go on in another time zone.
        age = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        about[changed] = age.isoformat(sep=" ", timespec="microseconds")
    return about


def settings_before(log):
    """The settings of results that a log knows of: a dictionary by output, an absolute path."""
    known = {}
    if not log.is_file():  # a device, as /dev/stdout
        return known
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        # A line may be half written, or --log name a file that is no log.
        with suppress(ValueError, AttributeError, KeyError, TypeError):
            about = json.loads(line)
            outputs = map(os.path.abspath, about.get("outputs", []))
            known |= dict.fromkeys(outputs, about["settings"])
    return known


def print_summary(records, log, echo):
    """The table of all signals, the count of files by outcome, and why files failed."""
    columns = ["input", "signal", "outcome", "result", "F (eV)", "R (eV)", "s"]
    table = PrettyTable(columns, align="l")
    for record in records:
        for row in record.rows:
            name = record.path.name or str(record.path)  # "." has none
            table.add_row([name, *row, f"{record.seconds:.1f}"])
    echo(table.get_string())
    count = Counter(record.status for record in records)
    words = ", ".join(f"{count[status]} {status}" for status in ("done", "skipped", "failed"))
    echo(f"{words}. Log: {log}")
    for record in records:
        if record.errors:
            echo(f"  {record.path}: {'; '.join(record.errors)}")
