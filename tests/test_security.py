"""Weights run no code, damage is refused, no network, nothing written but what the user names."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from exspy_deepdeconv import cli, models

# Weights: no pickle, no damage


class Planted:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def plain_pickle(path, trap):
    path.write_bytes(pickle.dumps(Planted(trap)))


def torch_checkpoint(path, trap):
    torch.save({"weights": torch.zeros(3), "extra": Planted(trap)}, path)


def old_torch_checkpoint(path, trap):
    torch.save({"extra": Planted(trap)}, path, _use_new_zipfile_serialization=False)


WRITERS = [plain_pickle, torch_checkpoint, old_torch_checkpoint]


def test_the_trap_works(tmp_path):
    """Else the tests below could not fail."""
    for number, write in enumerate(WRITERS):
        path, trap = tmp_path / "weights", tmp_path / f"trap{number}"
        write(path, trap)
        if write is plain_pickle:
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
        assert trap.exists()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pt", "model='.*model.pt' is neither one of the bundled models"),
        ("model.safetensors", "model='.*model.safetensors' is not a usable weights file"),
    ],
    ids=["by-its-name", "renamed"],
)
def test_pickles_are_refused_and_not_run(make_signal, tmp_path, write, name, message):
    path, trap = tmp_path / name, tmp_path / "trap"
    write(path, trap)
    for method in (make_signal().deep_deconvolve, make_signal().estimate_psf):
        for model in (path, str(path)):
            with pytest.raises(ValueError, match=message):
                method(model=model, show_progressbar=False)
    with pytest.raises(ValueError, match=message):
        models.load(path)
    assert not trap.exists()


def test_pickle_on_the_command_line(make_signal, tmp_path):
    path, trap = tmp_path / "model.safetensors", tmp_path / "trap"
    torch_checkpoint(path, trap)
    make_signal().save(tmp_path / "scan.hspy")
    command = ["deconvolve", tmp_path / "scan.hspy", "--output", tmp_path / "out", "--model", path]
    done = CliRunner().invoke(cli.app, list(map(str, command)))
    assert done.exit_code == 1
    assert done.output.startswith("Error: model=") and "not a usable weights file" in done.output
    assert not trap.exists() and list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def own_copy(tmp_path, monkeypatch):
    """The bundled weights in a folder of their own, which may be damaged."""
    name = models.available()[-1]
    path = Path(shutil.copy(models.FOLDER / f"{name}.safetensors", tmp_path))
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    return path


def flip_a_bit(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGES = {
    "first-byte": lambda data: flip_a_bit(data, 0),
    "header": lambda data: flip_a_bit(data, 100),
    "weights": lambda data: flip_a_bit(data, len(data) // 2),
    "last-byte": lambda data: flip_a_bit(data, len(data) - 1),
    "longer": lambda data: data + b"\0",
    "truncated": lambda data: data[:-1],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_bundled_weights(make_signal, own_copy, damage):
    own_copy.write_bytes(damage(own_copy.read_bytes()))
    with pytest.raises(ValueError, match=f"model='{own_copy.stem}': the sha256 of .* reinstall"):
        make_signal().deep_deconvolve(show_progressbar=False)


def test_undamaged_copy(make_signal, own_copy):
    """Else the tests above could not tell damage from a copy."""
    result = make_signal().deep_deconvolve(show_progressbar=False)
    assert result.metadata.Signal.deep_deconvolution.model == own_copy.stem


def header_length(length):
    return lambda data: length.to_bytes(8, "little") + data[8:]


USERS_DAMAGES = {
    "truncated-header": lambda data: data[:50],
    "truncated-weights": lambda data: data[:-1000],
    "longer": lambda data: data + b"\0",
    "header-of-2**63-bytes": header_length(2**63),
    "header-of-0-bytes": header_length(0),
    "other-weights": lambda data: other_weights(),
    "text": lambda data: b"no weights" * 100,
}


def other_weights():
    import safetensors.torch

    return safetensors.torch.save({"a": torch.zeros(3)})


@pytest.mark.parametrize("damage", USERS_DAMAGES.values(), ids=USERS_DAMAGES)
def test_damaged_weights_of_the_user(make_signal, own_copy, tmp_path, damage):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(damage(own_copy.read_bytes()))
    with pytest.raises(ValueError, match="model='.*mine.safetensors' is not a usable weights file"):
        make_signal().deep_deconvolve(model=path, show_progressbar=False)


def test_weights_of_the_user_are_known_by_their_hash(make_signal, own_copy, tmp_path):
    """A path has no registered hash: the metadata tell which weights it was."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes(flip_a_bit(own_copy.read_bytes(), own_copy.stat().st_size - 2))
    note = make_signal().deep_deconvolve(model=path, show_progressbar=False).metadata
    note = note.Signal.deep_deconvolution
    assert note.model == "mine" and note.weights_sha256 not in models.REGISTRY.values()


# Processes of their own: without a network, in folders that are empty

NO_NETWORK = """
import socket
def refuse(*arguments, **_):
    raise AssertionError(f"network: {arguments[1:]}")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse)
"""

ALL_OF_IT = """
import hyperspy.api as hs
import exspy_deepdeconv
from exspy_deepdeconv import cli, data, models
from exspy_deepdeconv._command_line import demo
s = data.exciton_spectrum(channels=256)
result, lower, upper = s.deep_deconvolve(return_interval=True, show_progressbar=False)
psf = s.estimate_psf(show_progressbar=False)
s.as_lazy().deep_deconvolve(psf=psf).compute(show_progressbar=False)
assert result.data.sum() > 0 and models.load().name
result.save("{named}/result.hspy")
cli.app(["deconvolve", "{inputs}/scan.hspy", "--output", "{named}/out"], standalone_mode=False)
make, demo.PLACE = data.plasmonic_map, (1, 2)
data.plasmonic_map = lambda: make(shape=(4, 5), channels=512)  # a quick demo
cli.app(["demo", "--output", "{named}/demo"], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of a process: ``inputs`` holds a file, ``named`` is for results, the rest is empty.

    Caches of matplotlib, HyperSpy and others are theirs; they go to ``caches``.
    """
    names = ("inputs", "named", "work", "home", "temporary", "caches")
    return {name: tmp_path_factory.mktemp(name) for name in names}


@pytest.fixture(scope="module")
def finished(folders):
    """The process that did all of it, after it has ended."""
    from exspy_deepdeconv.data import exciton_spectrum

    s = exciton_spectrum(channels=256)
    s.save(folders["inputs"] / "scan.hspy")
    caches = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    environment = os.environ | dict.fromkeys(caches, str(folders["caches"]))
    environment |= {
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    code = NO_NETWORK + ALL_OF_IT.format(**folders)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folders["work"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_needs_a_network(finished):
    assert finished.returncode == 0, finished.stderr
    assert "1 done" in finished.stdout


def test_only_what_was_named_is_written(finished, folders):
    assert finished.returncode == 0, finished.stderr
    written = {
        name: sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        for name, folder in folders.items()
        if name != "caches"
    }
    theirs = {".exspy", ".exspy/exspyrc", ".hyperspy", ".hyperspy/hyperspyrc"}  # preferences
    written["home"] = [path for path in written["home"] if path not in theirs]
    demo = "before_after.png deconvolved.hspy deconvolved_shared.hspy errors.csv errors.txt"
    demo += " simulated.hspy truth.hspy vacuum.hspy"
    out = ["demo", *(f"demo/{name}" for name in demo.split())]
    out += ["out", "out/deconvolve_log.jsonl", "out/scan_deconvolved.hspy", "result.hspy"]
    nothing = {"work": [], "home": [], "temporary": []}
    assert written == {"inputs": ["scan.hspy"], "named": out} | nothing
    assert hs.load(folders["named"] / "result.hspy").data.shape == (256,)


def test_the_blocked_network_would_have_told():
    """Else the test above could not fail."""
    for call in (
        "urllib.request.urlopen('http://192.0.2.1/')",
        "socket.getaddrinfo('a.example', 80)",
    ):
        code = NO_NETWORK + f"import urllib.request\n{call}"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0 and "AssertionError: network" in done.stderr


def test_inputs_are_not_written_to(finished, folders):
    from exspy_deepdeconv.data import exciton_spectrum

    want = exciton_spectrum(channels=256)
    assert np.array_equal(hs.load(folders["inputs"] / "scan.hspy").data, want.data)


@pytest.mark.parametrize(
    "change", ["calibration of another version", "ragged table", "no provenance"]
)
def test_headers_that_do_not_fit_are_refused(tmp_path, change):
    import safetensors.torch

    model = models.load()
    path = models.save_model(model.network, tmp_path / "x.safetensors", name="x")
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"]["exspy_deepdeconv"])
    if change == "no provenance":
        del about["provenance"]
    elif change == "ragged table":
        about["calibration"]["blind"] = [[1.0, 2.0]]
    else:
        about["calibration"]["future"] = 1.0
    tensors = safetensors.torch.load(data)
    about = {"exspy_deepdeconv": json.dumps(about)}
    safetensors.torch.save_file(tensors, path, metadata=about)
    with pytest.raises(ValueError, match="not a usable weights file"):
        models.load(path)


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_weights_can_be_read_by_whom_files_can_be_read(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    path = models.save_model(models.load().network, tmp_path / "x.safetensors", name="x")
    assert path.stat().st_mode == plain.stat().st_mode
