"""Write results whole or not at all: under a temporary name beside them, then renamed."""

import errno
import hashlib
import os
import re
import shutil
import socket
import sys
from contextlib import contextmanager
from glob import escape

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
BESIDE_DATA = 2**16  # bytes of a result that are not data, about
RESERVED_AT_MOST = 2**30  # bytes: some file systems reserve room by writing all of it


class DiskFullError(OSError):
    """No room for a result: nothing of it was kept, and others will not fit either."""


def write_safely(signal, target):
    """The same as `write_together` of one signal."""
    write_together({target: signal})


def write_together(signals):
    """Save under temporary names in the same folder, then rename: whole or not at all.

    What a run that was killed left of the same targets is removed.

    Parameters
    ----------
    signals : dict of pathlib.Path to BaseSignal
        By their targets, ``.hspy`` files or ``.zspy`` folders, which are replaced if they exist. None
        is renamed before all are saved, the last one last. Lazy ones are computed while they are
        written.

    Raises
    ------
    DiskFullError
        If there is no room; what was there before is still there.
    OSError
        If it cannot be written for another reason.
    """
    parts = {target: _part(target) for target in signals}
    try:
        for target, signal in signals.items():
            _remove_left_over(target)
            _write_part(signal, parts[target])
        for target, part in parts.items():
            _rename(part, target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError(f"no room on the disk for {target}; nothing of it was kept") from error
    finally:
        for part in parts.values():
            _remove(part)


def _part(target):
    return target.with_name(f"{_prefix(target)}{os.getpid()}.part{target.suffix}")


def _write_part(signal, part):
    _make_sure_of_room(part, signal)
    with _hdf5_silent():
        signal.save(part, overwrite=True)
    _flush_to_disk(part)


def _prefix(target):
    # Parts of a run on another computer are not ours to remove. File names have a limit.
    host = re.sub(r"\W", "", socket.gethostname())[:20]
    name = hashlib.sha256(target.name.encode()).hexdigest()[:8]  # long ones may begin alike
    return f".{target.stem[:40]}.{name}.{host}."


def _remove_left_over(target):
    prefix = _prefix(target)
    for end in (f".part.old{target.suffix}", f".part{target.suffix}"):
        for part in target.parent.glob(f"{escape(prefix)}*{end}"):
            pid = part.name[len(prefix) : -len(end)]
            if pid.isdecimal() and _has_ended(int(pid)):
                if ".old" in end and not target.exists():  # it was killed between two renamings
                    os.replace(part, target)
                _remove(part)


def _has_ended(pid):
    if os.name != "posix":  # elsewhere os.kill ends the process that is asked for
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _make_sure_of_room(part, signal):
    """Reserve the room that a result takes, and give it back: HDF5 may crash on a full disk."""
    variance = signal.get_noise_variance()
    needed = signal.data.nbytes + BESIDE_DATA
    needed += getattr(getattr(variance, "data", None), "nbytes", 0)
    if shutil.disk_usage(part.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))
    if hasattr(os, "posix_fallocate") and needed <= RESERVED_AT_MOST:
        with part.open("wb") as file:
            _reserve(file, needed)
        part.unlink()


def _reserve(file, needed):
    try:
        os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        if error.errno in FULL:
            raise
        # Some file systems cannot reserve room, which says nothing about whether there is some.


def _flush_to_disk(part):
    """Else the new name may reach the disk before the data, and a power cut leaves an empty file."""
    if part.is_file():
        with part.open("rb+") as file:
            os.fsync(file.fileno())


def _rename(part, target):
    if not target.is_dir():
        os.replace(part, target)
        return
    old = part.with_name(f"{part.stem}.old{part.suffix}")  # a folder cannot replace a full one
    os.replace(target, old)
    try:
        os.replace(part, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old)


def _remove(part):
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


@contextmanager
def _hdf5_silent():
    """Keep h5py from printing a traceback for each object that a full disk does not let it close."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
