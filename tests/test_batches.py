"""Batches of files: killed and resumed, with corrupt files among them, on a full disk; the log."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from typer.testing import CliRunner

import exspy_deepdeconv
from exspy_deepdeconv import cli, data
from exspy_deepdeconv._command_line import files, reading, writing


@pytest.fixture
def run(tmp_path):
    """Deconvolve files into ``results``: ``run(path, code=1)`` gives what was printed."""

    def call(*arguments, code=0):
        command = ["deconvolve", *map(str, arguments), "--output", str(tmp_path / "results")]
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == code, result.output
        return result.output

    return call


@pytest.fixture
def results(tmp_path):
    """Names in the folder of results, hidden ones included, the log excluded."""

    def names():
        found = {path.name for path in (tmp_path / "results").iterdir()}
        return sorted(found - {files.LOG_NAME})

    return names


@pytest.fixture
def log(tmp_path):
    def lines(path=None):
        text = (path or tmp_path / "results" / files.LOG_NAME).read_text()
        return [json.loads(line) for line in text.splitlines()]

    return lines


def in_a_process(tmp_path, before, *inputs):
    """Run the command in a process of its own, after some lines of Python."""
    arguments = ["deconvolve", *map(str, inputs), "--output", str(tmp_path / "results")]
    code = f"{before}\nfrom exspy_deepdeconv import cli\ncli.app({arguments!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


# Killed and resumed

KILL_WHILE_SAVING_B = """
import os, signal
import hyperspy.api as hs
from hyperspy.signal import BaseSignal
save = BaseSignal.save
def half(self, path, **options):
    save(self, path, **options)
    if path.name.startswith(".b_"):
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
BaseSignal.save = half
"""


@pytest.mark.skipif(os.name != "posix", reason="kills like a POSIX system")
def test_a_killed_run_is_resumed(run, save, results, log, tmp_path):
    inputs = [save(f"{name}.hspy") for name in "abc"]
    killed = in_a_process(tmp_path, KILL_WHILE_SAVING_B, *inputs)
    assert killed.returncode < 0
    half, whole = results()  # hidden, under a temporary name; and complete
    assert half.startswith(".b_deconvolved.") and whole == "a_deconvolved.hspy"
    assert [line["status"] for line in log()] == ["done"]
    first = (tmp_path / "results" / whole).read_bytes()

    printed = run(*inputs)
    assert "a_deconvolved.hspy exists (--overwrite replaces it)" in printed
    assert "2 done, 1 skipped, 0 failed" in printed
    assert results() == [f"{name}_deconvolved.hspy" for name in "abc"]
    assert (tmp_path / "results" / whole).read_bytes() == first
    assert [line["status"] for line in log()] == ["done", "skipped", "done", "done"]
    assert hs.load(tmp_path / "results" / "b_deconvolved.hspy").data.shape == (256,)


def test_a_finished_file_is_not_read_again(run, save, monkeypatch):
    path = save("a.hspy")
    run(path)
    monkeypatch.setattr(reading, "read_signals", None)
    assert "skipped" in run(path)


def test_results_among_the_inputs_are_skipped(run, save, results, tmp_path):
    path = save("a.hspy")
    run(path)
    made = tmp_path / "results" / "a_deconvolved.hspy"
    assert "itself a result (deep_deconvolution)" in run(path, made)
    assert results() == ["a_deconvolved.hspy"]


@pytest.mark.parametrize(
    ("method", "words"),
    [("rl_deconvolve", "itself a result (rl_deconvolution)"), ("estimate_psf", "an estimated response"),
     ("residual", "a residual")],
)  # fmt: skip
def test_whatever_this_package_made_is_skipped(run, make_signal, results, tmp_path, method, words):
    s = make_signal(channels=512)
    if method == "residual":
        made = s.deconvolution_residual(s.rl_deconvolve(psf=None, show_progressbar=False))
    else:
        made = getattr(s, method)(show_progressbar=False)
    made.save(tmp_path / "made.hspy")
    assert words in run(tmp_path / "made.hspy")
    assert results() == []


def test_a_tilde_is_the_home_folder(save, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = ["deconvolve", str(save("a.hspy")), "--output=~/there", "--psf=~/b.hspy"]
    save("b.hspy", fwhm=9.0)
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "there" / "a_deconvolved.hspy").exists()
    assert not (tmp_path / "~").exists()


def test_an_input_is_no_response_of_its_own(run, save, results):
    path = save("a.hspy")
    assert "this is one of the inputs" in run(path, "--psf", path, code=1)
    assert results() == []


def test_parts_of_a_run_at_work_are_left_alone(make_signal, tmp_path):
    target = tmp_path / "x.hspy"
    prefix = writing._prefix(target)
    at_work = tmp_path / f"{prefix}{os.getppid()}.part.hspy"
    elsewhere = tmp_path / ".x.another_computer.99999999.part.hspy"
    ended = tmp_path / f"{prefix}99999999.part.hspy"  # more than a process may be numbered
    for part in (at_work, elsewhere, ended):
        part.write_text("")
    writing.write_safely(make_signal(), target)
    left = {path for path in tmp_path.iterdir()}
    if os.name == "posix":
        assert left == {target, at_work, elsewhere}


# Both of HyperSpy's formats


def test_zspy_results(run, save, results, tmp_path):
    path = save("a.hspy", 2, 3)
    run(path, "--zspy")
    target = tmp_path / "results" / "a_deconvolved.zspy"
    want = hs.load(path).deep_deconvolve(show_progressbar=False).data
    np.testing.assert_allclose(hs.load(target).data, want, rtol=1e-5)
    assert "skipped" in run(path, "--zspy")
    save("a.hspy", 2)
    run(path, "--zspy", "--overwrite")
    assert hs.load(target).data.shape == (2, 256)
    assert results() == ["a_deconvolved.zspy"]


@pytest.mark.parametrize("extension", [".hspy", ".zspy"])
def test_a_failed_write_leaves_what_was_there(make_signal, tmp_path, monkeypatch, extension):
    target = tmp_path / f"x{extension}"
    s, old = make_signal(), make_signal(seed=1)
    old.save(target)
    save = s.save

    def fail(path, **options):
        save(path, **options)
        raise OSError("the network drive is gone")

    monkeypatch.setattr(s, "save", fail)
    with pytest.raises(OSError, match="network drive"):
        writing.write_safely(s, target)
    np.testing.assert_array_equal(hs.load(target).data, old.data)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no room is reserved here")
def test_a_file_system_that_cannot_reserve_room_is_written_to(make_signal, tmp_path, monkeypatch):
    """As ZFS or some network drives: EINVAL or EOPNOTSUPP say nothing about how much room there is."""

    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    s, target = make_signal(), tmp_path / "x.hspy"
    writing.write_safely(s, target)
    np.testing.assert_array_equal(hs.load(target).data, s.data)
    assert list(tmp_path.iterdir()) == [target]


def test_large_maps_are_written_piece_by_piece(run, save, log, results, monkeypatch, tmp_path):
    path = save("a.hspy", 4, 3)
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", 0)
    run(path)
    want = hs.load(path).deep_deconvolve(show_progressbar=False).data
    np.testing.assert_array_equal(hs.load(tmp_path / "results" / "a_deconvolved.hspy").data, want)
    assert list(log()[0]["flags"].values())[0]["counted"] is False


# A response for each map


@pytest.fixture
def rod(tmp_path):
    path = tmp_path / "rod.hspy"
    data.plasmonic_map(shape=(4, 5), channels=512).save(path)
    return path


def test_a_shared_response_is_estimated_from_each_map(run, rod, log, tmp_path):
    run(rod, "--shared-psf")
    result = hs.load(tmp_path / "results/rod_deconvolved.hspy")
    s = hs.load(rod)
    psf = s.estimate_psf(shared=True)
    want = s.deep_deconvolve(psf=psf, show_progressbar=False)
    np.testing.assert_array_equal(result.data, want.data)
    note = result.metadata.Signal.deep_deconvolution
    assert note.psf == "estimated beforehand: simulated nanorod"
    assert log()[0]["settings"]["psf"] == "shared by the spectra"
    assert "0 done, 1 skipped" in run(rod, "--shared-psf")  # resumed
    assert "was made with other settings (psf: shared by the spectra)" in run(rod, code=1)


def test_an_estimated_response_may_come_from_a_file(run, rod, tmp_path):
    path = tmp_path / "psf.hspy"
    hs.load(rod).estimate_psf(shared=True).save(path)
    run(rod, "--psf", path)
    from_file = hs.load(tmp_path / "results/rod_deconvolved.hspy")
    assert from_file.metadata.Signal.deep_deconvolution.psf.startswith("estimated beforehand")
    run(rod, "--shared-psf", "--overwrite")
    result = hs.load(tmp_path / "results/rod_deconvolved.hspy")
    np.testing.assert_allclose(from_file.data, result.data, rtol=1e-3, atol=1.0)


@pytest.mark.parametrize("command", ["deconvolve", "compare"])
def test_only_one_response(save, tmp_path, command):
    arguments = [command, str(save("a.hspy")), "--output", str(tmp_path / "results")]
    arguments += ["--psf", str(save("b.hspy", fwhm=9.0)), "--shared-psf"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code != 0
    assert "there can be only one response" in " ".join(result.output.split())
    assert not list((tmp_path / "results").iterdir())


# Corrupt files among the inputs


def test_corrupt_files_do_not_stop_the_batch(run, save, results, log, tmp_path):
    whole = save("a.hspy", 3)
    broken = {"truncated.hspy": whole.read_bytes()[:9000], "empty.dm4": b"", "text.dm3": b"text",
              "zeros.msa": bytes(5000), "b.hspy": save("last.hspy").read_bytes()}  # fmt: skip
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.zspy").mkdir()
    names = ["truncated.hspy", "empty.dm4", "text.dm3", "zeros.msa", "folder.zspy", "missing.dm4"]
    paths = [tmp_path / name for name in names]
    printed = run(*paths[:3], whole, *paths[3:], tmp_path / "b.hspy", code=1)
    assert "2 done, 0 skipped, 6 failed" in printed
    assert "Traceback" not in printed
    assert results() == ["a_deconvolved.hspy", "b_deconvolved.hspy"]
    summary = printed[printed.index("2 done") :]
    for name in names:
        assert f"{tmp_path / name}: " in summary
    status = {Path(line["input"]).name: line["status"] for line in log()}
    assert status == dict.fromkeys(names, "failed") | {"a.hspy": "done", "b.hspy": "done"}


def test_one_bad_signal_of_a_file_does_not_stop_the_others(
    run, make_signal, results, log, tmp_path, monkeypatch
):
    bad, good = make_signal(), make_signal(2, seed=1)
    bad.axes_manager[-1].convert_to_non_uniform_axis()
    bad.metadata.General.title = "bad"
    path = tmp_path / "dual.dm4"
    path.write_text("")
    monkeypatch.setattr(reading, "read_signals", lambda *_: [bad, good])
    monkeypatch.setattr(files, "low_loss", lambda *_: ([(0, bad), (1, good)], True, []))
    assert "not uniform" in run(path, code=1)
    assert results() == ["dual_signal1_deconvolved.hspy"]
    (line,) = log()
    assert line["status"] == "failed" and len(line["outputs"]) == len(line["errors"]) == 1


# The log


def test_log(run, save, log, make_signal, tmp_path):
    s = make_signal(5)
    s.data[1] = 0
    s.save(tmp_path / "a.hspy")
    named = tmp_path / "named.jsonl"
    missing = tmp_path / "missing.dm4"
    run(tmp_path / "a.hspy", missing, "--log", named, "--workers", 1, code=1)
    done, failed = log(named)
    assert not (tmp_path / "results" / files.LOG_NAME).exists()
    target = str(tmp_path / "results" / "a_deconvolved.hspy")
    assert done["input"] == str(tmp_path / "a.hspy") and done["outputs"] == [target]
    assert (done["status"], done["spectra"], done["errors"]) == ("done", 5, [])
    assert done["flags"][target]["empty"] == 1 and "1 empty" in done["notes"][0]
    assert 0 < done["seconds"] < 600
    assert done["model"] == exspy_deepdeconv.models.available()[-1]
    assert done["version"] == exspy_deepdeconv.__version__
    assert (failed["status"], failed["errors"]) == ("failed", ["no such file"])
    assert failed["outputs"] == [] and failed["spectra"] == 0
    run(tmp_path / "a.hspy", "--log", named)
    assert [line["status"] for line in log(named)] == ["done", "failed", "skipped"]


def test_log_that_cannot_be_written(run, save, results, tmp_path):
    printed = run(save("a.hspy"), "--log", tmp_path / "no" / "folder" / "x.jsonl", code=1)
    assert printed.startswith("Error: ") and len(printed.splitlines()) == 1
    assert results() == []


@pytest.mark.skipif(not Path(os.devnull).exists(), reason="no such device")
def test_log_that_is_a_device_is_not_read(run, save, results, monkeypatch):
    """Some are read without end."""
    monkeypatch.setattr(Path, "read_text", None)
    run(save("a.hspy"), "--log", os.devnull)
    assert results() == ["a_deconvolved.hspy"]


# Intervals

TRIPLE = ["a_deconvolved.hspy", "a_deconvolved_lower.hspy", "a_deconvolved_upper.hspy"]


@pytest.mark.parametrize("large", [False, True])
def test_interval_is_written_beside_the_result(
    run, save, results, log, tmp_path, monkeypatch, large
):
    if large:
        monkeypatch.setattr(files, "IN_MEMORY_BYTES", 0)
    path = save("a.hspy", 2)
    run(path, "--interval", "--confidence", 0.5)
    assert results() == TRIPLE
    made = [hs.load(tmp_path / "results" / name) for name in TRIPLE]
    options = {"return_interval": True, "confidence": 0.5, "show_progressbar": False}
    for got, want in zip(made, hs.load(path).deep_deconvolve(**options), strict=True):
        np.testing.assert_allclose(got.data, want.data, rtol=1e-5)
    notes = [each.metadata.Signal.deep_deconvolution for each in made]
    assert [note.get_item("bound") for note in notes] == [None, "lower", "upper"]
    assert {note.confidence for note in notes} == {0.5}
    outputs = {str(tmp_path / "results" / name) for name in TRIPLE}
    assert set(log()[0]["outputs"]) == outputs and log()[0]["settings"]["interval"] == 0.5


def test_results_with_and_without_an_interval_are_not_taken_for_each_other(
    run, save, results, tmp_path
):
    path = save("a.hspy")
    run(path, "--interval")
    assert "1 skipped" in run(path, "--interval", "--confidence", 0.9)
    told = " ".join(run(path, "--interval", "--confidence", 0.8, code=1).split())
    assert "made with other settings (interval: 0.9)" in told
    upper = tmp_path / "results" / TRIPLE[2]
    upper.unlink()
    told = " ".join(run(path, "--interval", code=1).split())
    assert f"{upper} is missing or belongs to another result; --overwrite" in told
    run(path, "--overwrite")
    told = " ".join(run(path, "--interval", code=1).split())
    assert "made with other settings (interval: None)" in told
    assert "1 skipped" in run(path)


@pytest.mark.parametrize("mine", [False, True])
def test_bounds_without_their_result(run, save, results, tmp_path, mine):
    """A run that was killed between two renamings goes on; nothing else is replaced."""
    path = save("a.hspy")
    run(path, "--interval")
    result, lower, _ = (tmp_path / "results" / name for name in TRIPLE)
    result.unlink()
    if mine:
        lower.write_text("mine")
    told = " ".join(run(path, "--interval", code=int(mine)).split())
    assert (f"{lower} exists, but belongs to another result" in told) is mine
    assert result.exists() is not mine
    if mine:
        assert lower.read_text() == "mine"
        run(path, "--interval", "--overwrite")
    assert results() == TRIPLE and hs.load(lower).data.shape == (256,)


def test_interval_that_fails_half_way_leaves_nothing(run, save, results, monkeypatch):
    def fail(part, signal):
        if "upper" in signal.metadata.General.title:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = save("a.hspy")
    monkeypatch.setattr(writing, "_make_sure_of_room", fail)
    assert "no room on the disk" in run(path, "--interval", code=1)
    assert results() == []


# What ends a run before it begins, or at once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resolution", "-1"), "resolution=-1.0"),
        (("--device", "abacus"), "device='abacus'"),
        (("--confidence", "0.5"), "--confidence needs --interval"),
        (("--interval", "--confidence", "1"), "confidence=1.0"),
        (("--psf", "missing.dm4"), "--psf missing.dm4: no such file"),
    ],
)
def test_wrong_options(run, save, results, tmp_path, arguments, message):
    printed = run(save("a.hspy"), *arguments, code=1)
    assert printed.startswith("Error: ") and message in printed
    assert list((tmp_path / "results").glob("*")) == []


def test_read_only_target(save, tmp_path):
    target = tmp_path / "results"
    target.mkdir(mode=0o500)
    if os.access(target, os.W_OK):  # an administrator may write everywhere
        target = Path("/proc/results")
        if not target.parent.is_dir():
            pytest.skip("no folder that cannot be written")
    printed = CliRunner().invoke(
        cli.app, ["deconvolve", str(save("a.hspy")), "--output", str(target)]
    )
    assert printed.exit_code == 1
    assert printed.output.startswith(f"Error: cannot write to {target}: ")
    assert len(printed.output.splitlines()) == 1


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))  # larger files meet a full disk
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files")
def test_full_disk(run, save, results, log, tmp_path):
    inputs = [save("a.hspy"), save("b.hspy", 20, 20), save("c.hspy")]
    done = in_a_process(tmp_path, FULL, *inputs)
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    lines = [line for line in printed.splitlines() if line.startswith("  failed: ")]
    target = tmp_path / "results" / "b_deconvolved.hspy"
    assert lines == [f"  failed: no room on the disk for {target}; nothing of it was kept"]
    assert "Traceback" not in printed
    assert "1 inputs were not tried" in printed
    assert results() == ["a_deconvolved.hspy"]
    assert [line["status"] for line in log()] == ["done", "failed"]
    run(*inputs)  # now there is room
    assert results() == [f"{name}_deconvolved.hspy" for name in "abc"]


# A result that exists


def test_a_result_tells_its_settings_by_itself(run, make_signal, tmp_path):
    """With another log, or moved to another folder: it was taken for that of any file of this name."""
    paths = [tmp_path / name / "a.hspy" for name in ("one", "other")]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        make_signal(seed=seed).save(path)
    run(paths[0])
    log = "--log", tmp_path / "another.jsonl"
    assert "1 skipped" in run(paths[0], *log)
    assert "made with other settings (input" in " ".join(run(paths[1], *log, code=1).split())
    told = run(paths[0], *log, "--psf", paths[1], code=1)
    assert "made with other settings (psf: None)" in " ".join(told.split())


def test_a_folder_of_data_and_results_can_be_moved(save, tmp_path):
    """Nothing is deconvolved again, and no place on this machine is told by the result."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    save("a.hspy").rename(before / "a.hspy")

    def call(folder):
        arguments = ["deconvolve", str(folder / "a.hspy"), "--output", str(folder)]
        return CliRunner().invoke(cli.app, arguments)

    assert "1 done" in call(before).output
    before.rename(after)
    again = call(after)
    assert again.exit_code == 0 and "1 skipped" in again.output
    result = hs.load(after / "a_deconvolved.hspy")
    assert result.metadata.Signal.deep_deconvolution.batch.input == "a.hspy"


def test_a_result_of_other_settings_is_not_taken_for_this_one(run, save, log, tmp_path):
    path = save("a.hspy")
    run(path)
    assert "1 skipped" in run(path)
    told = " ".join(run(path, "--resolution", 0.05, code=1).split())
    assert "a_deconvolved.hspy exists, but was made with other settings (resolution: None)" in told
    assert [line["status"] for line in log()] == ["done", "skipped", "failed"]
    psf = save("vacuum.hspy")
    assert "made with other settings (psf: None)" in " ".join(
        run(path, "--psf", psf, code=1).split()
    )
    assert "1 done" in run(path, "--resolution", 0.05, "--overwrite")
    assert "1 skipped" in run(path, "--resolution", 0.05)


def test_a_result_of_another_file_of_that_name_is_not_taken_for_this_one(run, save, tmp_path):
    path = save("a.hspy")
    run(path)
    (tmp_path / "scan2").mkdir()
    other = tmp_path / "scan2" / "a.hspy"
    other.write_bytes(path.read_bytes())
    told = " ".join(run(other, code=1).split())
    assert f"made with other settings (input: {path}" in told
    os.utime(path, (1, 1))
    assert "made with other settings (changed: " in " ".join(run(path, code=1).split())


def test_an_input_that_is_gone_is_told_of_in_words(run, save, tmp_path):
    path = save("a.hspy")
    run(path)
    told = " ".join(run(tmp_path / "elsewhere" / "a.hspy", code=1).split())
    assert f"made with other settings (input: {path}" in told


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone is that of the computer")
def test_a_result_is_known_in_another_time_zone(run, save, monkeypatch):
    path = save("a.hspy")
    try:
        for zone in ("UTC", "Asia/Tokyo"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert ("1 done" if zone == "UTC" else "1 skipped") in run(path)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_lines_of_a_log_that_are_none_stop_nothing(run, save, tmp_path):
    path = save("a.hspy")
    run(path)
    log = tmp_path / "results" / files.LOG_NAME
    log.write_text('{"outputs": ["x"]}\n[1]\nno json\n')
    assert "1 skipped" in run(path)


# The same settings, or others


def test_a_result_is_known_by_any_spelling_of_its_path(run, save, tmp_path, monkeypatch):
    path = save("x.hspy")
    run(path, "--resolution", 0.05)
    monkeypatch.chdir(tmp_path)
    command = ["deconvolve", str(path), "--output", "results", "--resolution", "0.06"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 1
    assert "was made with other settings (resolution: 0.05)" in " ".join(result.output.split())


def test_a_response_that_was_replaced_makes_another_result(run, save):
    path, psf = save("x.hspy"), save("v.hspy")
    run(path, "--psf", psf)
    assert "skipped" in run(path, "--psf", psf)
    os.utime(psf, (1, 1))
    assert "made with other settings (psf_changed" in " ".join(
        run(path, "--psf", psf, code=1).split()
    )


def test_a_result_whose_log_is_gone_tells_how_it_was_made(run, save, tmp_path):
    path = save("x.hspy")
    run(path, "--resolution", 0.05)
    (tmp_path / "results" / files.LOG_NAME).unlink()
    assert "skipped" in run(path, "--resolution", 0.05)
    assert "made with other settings (resolution" in " ".join(
        run(path, "--resolution", 0.06, code=1).split()
    )


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_two_inputs_with_one_name_of_their_results(run, save, monkeypatch, make_signal, overwrite):
    """One file holds two signals, and the other is named as the first one's result will be."""
    both, other = save("y.hspy"), save("y_signal1.hspy")
    read = reading.read_signals

    def two(path, lazy):
        return [*read(path, lazy), make_signal()] if path == both else read(path, lazy)

    monkeypatch.setattr(reading, "read_signals", two)
    printed = " ".join(run(both, other, *overwrite, code=1).split())
    assert "rename one of the two" in printed and "1 failed" in printed


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_files_that_are_read_lazily_are_closed(run, save):
    paths = [save(f"{number}.hspy") for number in range(3)]
    run(*paths)
    still_open = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert not set(map(str, paths)) & set(still_open)


def test_a_star_in_a_name_is_no_pattern(run, save, results):
    save("ab.hspy")
    run(save("a*.hspy"))
    assert results() == ["a*_deconvolved.hspy"]


def test_a_folder_whose_renaming_fails_is_put_back(run, save, results, tmp_path, monkeypatch):
    """The second of two renamings finds the disk full."""
    path = save("x.hspy")
    run(path, "--zspy")
    before = hs.load(tmp_path / "results" / "x_deconvolved.zspy").data
    rename, calls = os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, os.strerror(28))
        rename(source, target)

    monkeypatch.setattr(writing.os, "replace", full)
    run(path, "--zspy", "--overwrite", code=1)
    monkeypatch.undo()
    assert results() == ["x_deconvolved.zspy"]
    np.testing.assert_array_equal(hs.load(tmp_path / "results" / "x_deconvolved.zspy").data, before)


@pytest.mark.parametrize("there", [False, True])
def test_what_a_killed_renaming_left_is_put_back_or_removed(make_signal, tmp_path, there):
    target = tmp_path / "x.zspy"
    signal = make_signal()
    pid = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    left = tmp_path / f"{writing._prefix(target)}{int(pid.stdout)}.part.old.zspy"
    signal.save(left)
    if there:
        signal.save(target)
    writing._remove_left_over(target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zspy"]


def test_a_file_under_two_paths_is_one_input(run, save, results, tmp_path):
    path = save("a.hspy")
    (tmp_path / "sub").mkdir()
    printed = run(path, tmp_path / "sub" / ".." / "a.hspy")
    assert "[1/1]" in printed
    assert results() == ["a_deconvolved.hspy"]
