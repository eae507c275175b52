"""Read signals from files and choose those that hold a low-loss spectrum."""

import logging
import warnings
from contextlib import contextmanager

import hyperspy.api as hs
import numpy as np
from exspy.signals import EELSSpectrum

from .._signals import checks, responses, sampling

# A window that starts above this energy is no low loss, whatever peak stands in it (eV).
HIGHEST_START_EV = 30.0
FOLDERS = (".zspy", ".zarr")  # endings of formats that are folders


def read_signals(path, lazy):
    """All signals of a file as a list, lazy where asked for and possible."""
    if not path.exists():
        raise FileNotFoundError("no such file")
    if path.is_dir() and path.suffix.lower() not in FOLDERS:
        raise IsADirectoryError("a folder: name the files in it")
    try:
        signals = _load(path, lazy)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # each format's reader has its own
        raise ValueError(f"not a file that HyperSpy can read ({one_line(error)})") from error
    return signals if isinstance(signals, list) else [signals]


def _load(path, lazy):
    try:
        return hs.load(path, lazy=lazy)  # a Path: HyperSpy takes strings for patterns
    except (PermissionError, MemoryError):
        raise
    except Exception:  # not every format can be read piece by piece, nor does every reader say so
        if not lazy:
            raise
    return _load(path, lazy=False)


def as_eels(signal):
    """The signal as an EELSSpectrum, or None if it is of another kind.

    Files of some formats do not say what they hold: a spectrum on an axis of energy is taken for
    EELS.
    """
    if isinstance(signal, EELSSpectrum):
        return signal
    if signal.axes_manager.signal_dimension != 1 or signal.metadata.Signal.signal_type:
        return None
    try:
        checks.check_energy_axis(signal)
    except (NotImplementedError, ValueError):
        return None
    signal.set_signal_type("EELS")
    return signal


def low_loss(signals, chosen=None):
    """Choose the signals to deconvolve.

    Parameters
    ----------
    signals : list of BaseSignal
        All signals of a file.
    chosen : str, optional
        Number or title of one of them.

    Returns
    -------
    wanted : list of (int, EELSSpectrum)
        Numbers and signals.
    several : bool
        Whether the file holds more than one EELS signal, so that names need numbers.
    notes : list of str
        Why the others are left out.

    Raises
    ------
    ValueError
        If there is nothing to deconvolve.
    """
    eels = {number: as_eels(signal) for number, signal in enumerate(signals)}
    eels = {number: signal for number, signal in eels.items() if signal is not None}
    if chosen is not None:
        number = _find_chosen(signals, chosen)
        if number not in eels:
            raise ValueError(f"{_name(number, signals[number])} is not an EELS signal")
        return [(number, eels[number])], len(eels) > 1, []
    if not eels:
        raise ValueError("no EELS signal in the file: " + _listed(signals))
    if len(signals) == 1:
        return [(0, eels[0])], False, []  # if it is no low loss, deep_deconvolve says why
    reasons = {number: _why_not_low_loss(signal) for number, signal in eels.items()}
    wanted = [(number, eels[number]) for number, reason in reasons.items() if not reason]
    notes = [
        f"{_name(number, signals[number])} skipped: {reason}"
        for number, reason in reasons.items()
        if reason
    ]
    if not wanted:
        raise ValueError("no low-loss signal in the file: " + "; ".join(notes))
    return wanted, len(eels) > 1, notes


def only_low_loss(path, label, lazy=False, chosen=None, remedy="choose with --signal"):
    """The one low-loss signal of a file, or the chosen one; a ValueError begins with ``label``."""
    try:
        wanted, _, _ = low_loss(read_signals(path, lazy), chosen)
    except Exception as error:  # a file can fail in any way
        raise ValueError(f"{label}: {one_line(error)}") from error
    if len(wanted) > 1:
        names = ", ".join(_name(number, signal) for number, signal in wanted)
        raise ValueError(f"{label} holds several low-loss signals ({names}): {remedy}.")
    return wanted[0][1]


def _find_chosen(signals, chosen):
    titles = [signal.metadata.General.title for signal in signals]
    matching = [number for number, title in enumerate(titles) if title == chosen]
    if len(matching) == 1:
        return matching[0]
    if chosen.isdecimal() and int(chosen) < len(signals):
        return int(chosen)
    problem = "several signals have that title" if matching else "no such signal"
    raise ValueError(f"--signal {chosen}: {problem}; the file holds {_listed(signals)}")


def _name(number, signal):
    return f"signal {number} ({signal.metadata.General.title or 'untitled'})"


def _listed(signals):
    return ", ".join(_name(number, signal) for number, signal in enumerate(signals))


def _why_not_low_loss(signal):
    """An empty string for a low-loss signal."""
    try:
        axis = checks.check_energy_axis(signal)
        if axis.lowest > HIGHEST_START_EV:
            return f"starts at {axis.lowest:.4g} eV"
        mask = np.zeros(signal.data.shape[:-1], bool)
        sampling.typical_zero_loss(signal.data, mask, axis.reversed)
    except (NotImplementedError, ValueError) as error:
        return one_line(error)
    return ""


def check_one_psf(psf, shared_psf):
    """Raise a ValueError if a response is both given and to be estimated."""
    if psf is not None and shared_psf:
        raise ValueError(f"--psf {psf} and --shared-psf: there can be only one response.")


def read_response(path, inputs=()):
    """A measured response from a file: one spectrum; several are aligned and summed (``vacuum_psf``).

    Parameters
    ----------
    path : pathlib.Path
        Any format that HyperSpy reads.
    inputs : iterable of pathlib.Path
        The files it is for; it must not be one of them.

    Returns
    -------
    exspy.signals.EELSSpectrum

    Raises
    ------
    ValueError
        If it is one of the inputs, cannot be read or holds no zero-loss peak.
    """
    if path.resolve() in {each.resolve() for each in inputs}:
        raise ValueError(
            f"--psf {path}: this is one of the inputs, whose losses would count as part of the response."
        )
    signal = only_low_loss(path, f"--psf {path}", remedy="save one of them alone")
    try:
        checks.check_energy_axis(signal, "psf")
        if signal.axes_manager.navigation_size:
            return signal.vacuum_psf(show_progressbar=False)
        if not responses.usable_responses(signal.data):
            raise ValueError("no zero-loss peak was found.")
        return signal
    except (NotImplementedError, ValueError) as error:
        raise ValueError(f"--psf {path}: {one_line(error)}") from error


def one_line(error):
    """The message of an error, or its kind where it has none."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


@contextmanager
def signals_of(path, lazy):
    """The signals of a file; in the end it is closed, which HyperSpy leaves to its users."""
    with quietly():
        signals = read_signals(path, lazy)
    try:
        yield signals
    finally:
        with quietly():
            for signal in signals:
                if signal._lazy:
                    signal.close_file()


def note_of_result(path):
    """The metadata of a result: a dictionary, empty if it cannot be read or is of another kind."""
    try:
        with signals_of(path, lazy=True) as signals:
            note = signals[0].metadata.get_item("Signal.deep_deconvolution")
            return note.as_dictionary()
    except Exception:  # a file of any kind may be there: it tells nothing, and that is no error
        return {}


@contextmanager
def quietly():
    """Collect warnings instead of printing them, and drop what HyperSpy logs on failure."""
    loggers = [logging.getLogger(name) for name in ("hyperspy", "rsciio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("ignore")
            warnings.filterwarnings(
                "always", category=UserWarning, message="(deep_deconvolve|vacuum_psf)"
            )
            yield heard
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
