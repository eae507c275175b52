"""The command line: real files in, real files out."""

import subprocess
import sys
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest
from _helpers import energy_axis
from hyperspy.signals import BaseSignal, Signal1D, Signal2D
from matplotlib.figure import Figure
from typer.testing import CliRunner

import exspy_deepdeconv
from exspy_deepdeconv import cli, data, models
from exspy_deepdeconv._command_line import demo, files, reading, training_cli, writing

OLDEST = models.available()[0]


@pytest.fixture
def run(tmp_path):
    """Call the command line: ``run("deconvolve", path, code=1)`` gives what it printed."""

    def call(*arguments, code=0, output="results"):
        arguments = [str(argument) for argument in arguments]
        if output:
            arguments += ["--output", str(tmp_path / output)]
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == code, result.output
        return result.output

    return call


def results(tmp_path, folder="results"):
    """Names of all files but the log."""
    names = sorted(path.name for path in (tmp_path / folder).iterdir())
    return [name for name in names if name != files.LOG_NAME]


# What is written


@pytest.mark.parametrize("lazy", ["--lazy", "--no-lazy"])
def test_result_is_that_of_the_method(run, save, tmp_path, lazy):
    path = save("scan.hspy", 2, 3)
    printed = run("deconvolve", path, lazy)
    assert "done" in printed
    assert results(tmp_path) == ["scan_deconvolved.hspy"]
    result = hs.load(tmp_path / "results" / "scan_deconvolved.hspy")
    want = hs.load(path).deep_deconvolve(show_progressbar=False)
    np.testing.assert_allclose(result.data, want.data, rtol=1e-5)
    assert result.metadata.Signal.signal_type == "EELS"
    assert result.metadata.Signal.deep_deconvolution.resolution == pytest.approx(
        want.metadata.Signal.deep_deconvolution.resolution
    )


def test_options_reach_the_method(run, save, tmp_path, make_signal):
    path = save("scan.hspy", 2)
    vacuum = save("vacuum.hspy", 3, seed=5)
    run("deconvolve", path, "--psf", vacuum, "--resolution", 0.05, "--no-zero-loss", "--workers", 1)
    note = hs.load(
        tmp_path / "results" / "scan_deconvolved.hspy"
    ).metadata.Signal.deep_deconvolution
    assert note.resolution == pytest.approx(0.05)
    assert note.zero_loss is False
    assert note.psf.startswith("measured")


def test_text_format_without_lazy_reading(run, save, tmp_path):
    run("deconvolve", save("spectrum.msa"))
    assert results(tmp_path) == ["spectrum_deconvolved.hspy"]


def test_untyped_spectra_on_an_energy_axis_are_taken_for_eels(run, make_signal, tmp_path):
    s = make_signal(2)
    s.set_signal_type("")
    s.save(tmp_path / "plain.hspy")
    run("deconvolve", tmp_path / "plain.hspy")
    result = hs.load(tmp_path / "results" / "plain_deconvolved.hspy")
    assert result.metadata.Signal.signal_type == "EELS"


def test_names_with_brackets(run, save, tmp_path):
    run("deconvolve", save("scan [1].hspy"))
    assert results(tmp_path) == ["scan [1]_deconvolved.hspy"]


def test_flagged_spectra_are_told_of(run, make_signal, tmp_path):
    s = make_signal(3)
    s.data[1] = 0
    s.save(tmp_path / "scan.hspy")
    assert "1 empty" in " ".join(run("deconvolve", tmp_path / "scan.hspy").split())


# What is not overwritten


def test_existing_results_are_left_alone(run, save, tmp_path):
    path = save("scan.hspy")
    (tmp_path / "results").mkdir()
    target = tmp_path / "results" / "scan_deconvolved.hspy"
    target.write_text("mine")
    assert "skipped" in run("deconvolve", path)
    assert target.read_text() == "mine"
    run("deconvolve", path, "--overwrite")
    assert hs.load(target).data.shape == (256,)


def test_same_stem_gives_two_results(run, save, tmp_path):
    paths = [save("scan.hspy"), save("scan.msa"), save("b/scan.hspy", seed=1)]
    run("deconvolve", *paths, "--overwrite")
    assert len(results(tmp_path)) == 3
    sums = {float(hs.load(p).data.sum()) for p in (tmp_path / "results").glob("*.hspy")}
    assert len(sums) >= 2


@pytest.mark.parametrize(
    ("inputs", "stems"),
    [
        (["a/x.dm3", "y.dm3"], ["x", "y"]),
        (["x.dm3", "x.msa"], ["x_dm3", "x_msa"]),
        (["a/x.dm3", "b/x.dm3", "z.dm3"], ["a_x_dm3", "b_x_dm3", "z"]),
        (["c/a/x.dm3", "d/a/x.dm3"], ["c_a_x_dm3", "d_a_x_dm3"]),
        (["X.dm3", "x.msa"], ["X_dm3", "x_msa"]),
    ],
)
def test_result_stems_differ(inputs, stems):
    assert files.result_stems([Path(path) for path in inputs]) == stems


def test_nothing_half_written_is_left(tmp_path, make_signal, monkeypatch):
    target = tmp_path / "x_deconvolved.hspy"
    target.write_text("old")
    s = make_signal()

    def fail(path, **_):
        Path(path).write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(s, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        writing.write_safely(s, target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# What fails


def test_a_failing_file_does_not_stop_the_others(run, save, tmp_path):
    broken = tmp_path / "broken.hspy"
    broken.write_text("not a file")
    printed = run("deconvolve", broken, tmp_path / "missing.dm3", save("scan.hspy"), code=1)
    assert printed.count("  failed: ") == 2
    assert "no such file" in printed
    assert "Traceback" not in printed
    assert results(tmp_path) == ["scan_deconvolved.hspy"]


def test_data_that_cannot_be_deconvolved_fail_in_one_line(run, tmp_path, make_signal):
    Signal2D(np.ones((4, 5))).save(tmp_path / "image.hspy")
    s = make_signal()
    s.data[:] = 0
    s.save(tmp_path / "empty.hspy")
    printed = run("deconvolve", tmp_path / "image.hspy", tmp_path / "empty.hspy", code=1)
    assert "no EELS signal" in printed
    assert "nothing but zeros" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "unknown"), OLDEST),
        (("--psf", "missing.hspy"), "--psf missing.hspy: no such file"),
    ],
)
def test_unusable_options_end_before_any_work(run, save, tmp_path, arguments, message):
    printed = run("deconvolve", save("scan.hspy"), *arguments, code=1)
    assert printed.startswith("Error: ")
    assert message in printed
    assert results(tmp_path) == []


def test_output_that_cannot_be_written(run, save, tmp_path):
    (tmp_path / "file").write_text("")
    printed = run("deconvolve", save("scan.hspy"), output="file", code=1)
    assert printed.startswith("Error: cannot write to")
    assert len(printed.splitlines()) == 1


# Files with several signals


@pytest.fixture
def dual(make_signal):
    """A DualEELS file: survey image, low loss, core loss, and a second low loss."""
    low, low_2, core = make_signal(2), make_signal(2, seed=1), make_signal(2)
    core.data = 1e4 * np.linspace(2, 1, 256, dtype="float32") * np.ones((2, 1), "float32")
    core.axes_manager.signal_axes[0].offset = 400
    core.data[:, 100:110] *= 5  # an edge's white line must not pass for a zero-loss peak
    signals = [Signal2D(np.ones((4, 5))), low, core, low_2]
    for signal, title in zip(signals, ("survey", "low", "core", "low 2"), strict=True):
        signal.metadata.General.title = title
    return signals


@pytest.fixture
def dual_file(dual, monkeypatch, tmp_path):
    # HyperSpy itself writes no format with several signals.
    path = tmp_path / "dual.dm4"
    path.write_text("")
    monkeypatch.setattr(reading.hs, "load", lambda *_, **__: dual)
    return path


def test_each_low_loss_signal_is_deconvolved(run, dual_file, tmp_path):
    printed = run("deconvolve", dual_file)
    assert "signal 2 (core) skipped: starts at 400 eV" in printed
    names = ["dual_signal1_deconvolved.hspy", "dual_signal3_deconvolved.hspy"]
    assert results(tmp_path) == names


@pytest.mark.parametrize(("chosen", "number"), [("3", 3), ("low 2", 3), ("low", 1)])
def test_one_signal_is_chosen(run, dual_file, tmp_path, chosen, number):
    run("deconvolve", dual_file, "--signal", chosen)
    assert results(tmp_path) == [f"dual_signal{number}_deconvolved.hspy"]


@pytest.mark.parametrize(
    ("chosen", "message"), [("7", "no such signal"), ("survey", "not an EELS signal")]
)
def test_choosing_what_is_not_there(run, dual_file, chosen, message):
    assert message in " ".join(run("deconvolve", dual_file, "--signal", chosen, code=1).split())


def test_low_loss_signals_of_a_file(dual):
    wanted, several, notes = reading.low_loss(dual)
    assert [number for number, _ in wanted] == [1, 3]
    assert several
    assert len(notes) == 1
    with pytest.raises(ValueError, match="no low-loss signal"):
        reading.low_loss([dual[0], dual[2]])
    assert reading.low_loss([dual[0], dual[1]])[1] is False


@pytest.mark.parametrize("kind", [Signal1D, BaseSignal])
def test_spectra_of_other_kinds_are_not_eels(kind):
    assert reading.as_eels(kind(np.ones(100))) is None


def test_a_line_of_vacuum_spectra_is_aligned_and_summed(save):
    response = reading.read_response(save("vacuum.hspy", 6, fwhm=6.0))
    assert response.axes_manager.navigation_size == 0
    width = response.data.max() / 2 < response.data
    assert width.sum() <= 7  # positions scatter by 4 channels


def test_what_is_odd_about_a_line_of_vacuum_spectra_is_told(run, save):
    path, vacuum = save("scan.hspy", 2), save("vacuum.hspy", 3, seed=5)
    printed = run("deconvolve", path, "--psf", vacuum)
    assert "note: vacuum_psf: psf rises again" in printed  # it is none: there are losses


def test_a_response_can_be_forced_on_files(run, save, tmp_path):
    """With one that is too wide; the next run without it does not take its result for its own."""
    path, wide = save("scan.hspy", 2), save("wide.hspy", fwhm=14.0)
    printed = run("deconvolve", path, "--psf", wide, "--force-psf")
    assert "of another width than the psf (the psf used all the same)" in " ".join(printed.split())
    (made,) = (p for p in tmp_path.rglob("scan_deconvolved.hspy"))
    assert hs.load(made).metadata.Signal.deep_deconvolution.force_psf
    assert "with other settings" in " ".join(run("deconvolve", path, "--psf", wide, code=1).split())
    assert "--force-psf needs --psf" in run("deconvolve", path, "--force-psf", code=1)


@pytest.mark.parametrize("filling", [np.nan, 0.0])
def test_a_single_response_without_a_peak_is_one_error_before_any_work(
    run, save, make_signal, tmp_path, filling
):
    path, vacuum = save("scan.hspy", 2), tmp_path / "vacuum.hspy"
    s = make_signal()
    s.data = np.full_like(s.data, filling, float)
    s.save(vacuum)
    printed = " ".join(run("deconvolve", path, "--psf", vacuum, code=1).split())
    assert printed.count("no zero-loss peak was found.") == 1
    assert "vacuum.hspy: no zero-loss peak was found." in printed
    assert "[1/1]" not in printed
    assert "no zero-loss peak" in run("compare", path, "--psf", vacuum, code=1, output="other")


@pytest.mark.parametrize("odd", ["scan.hspy", "vacuum.hspy"])
@pytest.mark.parametrize("command", ["deconvolve", "compare", "train"])
def test_a_non_uniform_axis_is_one_error(run, save, tmp_path, command, odd):
    path, vacuum = save("scan.hspy", 2), save("vacuum.hspy", seed=5)
    s = hs.load(tmp_path / odd)
    energy_axis(s).convert_to_non_uniform_axis()
    s.save(tmp_path / odd, overwrite=True)
    arguments = ("--map", path, "--folder") if command == "train" else (path, "--output")
    printed = run(command, *arguments, tmp_path / "out", "--psf", vacuum, code=1, output=None)
    assert "not yet implemented for non-uniform" in " ".join(printed.split())
    assert results(tmp_path, "out") == []


def test_what_is_odd_about_vacuum_spectra_is_told_before_training(save, monkeypatch, capsys):
    monkeypatch.setattr("exspy_deepdeconv.training.fine_tune", lambda *args, **kwargs: args[2])
    path, vacuum = save("scan.hspy", 2), save("vacuum.hspy", 3, seed=5)
    response = training_cli._on_map(None, path, vacuum, None, {})
    assert response.metadata.has_item("Signal.vacuum_psf")
    assert "note: vacuum_psf: psf rises again" in capsys.readouterr().err


# Several methods on one file


def test_compare_writes_table_figure_and_results(run, save, tmp_path):
    path, vacuum = save("scan.hspy", 2), save("vacuum.hspy", 3, seed=5)
    printed = run("compare", path, "--methods", "deep, rl", "--psf", vacuum)
    assert results(tmp_path) == [
        "scan_comparison.csv", "scan_comparison.png", "scan_comparison.txt", "scan_deep.hspy",
        "scan_rl.hspy",
    ]  # fmt: skip
    folder = tmp_path / "results"
    assert "noise gain" in printed
    assert (folder / "scan_comparison.txt").read_text().strip() in printed
    rows = (folder / "scan_comparison.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["method", "data", "deep", "rl"]
    assert (folder / "scan_comparison.png").stat().st_size > 10_000
    note = hs.load(folder / "scan_rl.hspy").metadata.Signal.rl_deconvolution
    assert note.psf.startswith("measured")
    again = run("compare", path, "--methods", "rl", code=1)
    assert "scan_rl.hspy exist (--overwrite replaces them)" in " ".join(again.split())
    run("compare", path, "--methods", "rl", "--overwrite", "--resolution", 0.05)
    note = hs.load(folder / "scan_rl.hspy").metadata.Signal.rl_deconvolution
    assert note.resolution == pytest.approx(0.05)


def test_compare_with_a_response_that_the_map_shares(run, save, tmp_path):
    path = save("scan.hspy", 5)
    run("compare", path, "--methods", "deep,rl", "--shared-psf")
    s = hs.load(path)
    psf = s.estimate_psf(shared=True)
    want = s.deep_deconvolve(psf=psf, show_progressbar=False)
    result, other = (hs.load(tmp_path / f"results/scan_{name}.hspy") for name in ("deep", "rl"))
    np.testing.assert_allclose(result.data, want.data, rtol=1e-5, atol=1e-3)
    for note in (
        result.metadata.Signal.deep_deconvolution,
        other.metadata.Signal.rl_deconvolution,
    ):
        assert note.psf == "estimated beforehand: simulated"


def test_compare_with_a_model_of_ones_own(run, save, tmp_path):
    start = models.load()
    mine = tmp_path / "mine.safetensors"
    models.save_model(start.network, mine, name="mine", calibration=start.calibration)
    run("compare", save("scan.hspy", 2), "--methods", "deep", "--shared-psf", "--model", mine)
    result = hs.load(tmp_path / "results/scan_deep.hspy")
    assert result.metadata.Signal.deep_deconvolution.model == "mine"


def test_compare_of_a_file_with_dollars_in_its_name(run, save, tmp_path):
    """matplotlib takes what lies between two of them for mathematics."""
    run("compare", save("a $x_$ b.hspy"), "--methods", "rl")
    assert "a $x_$ b_comparison.png" in results(tmp_path)


def test_compare_of_flagged_spectra_and_a_failing_method(run, make_signal, tmp_path, monkeypatch):
    from exspy_deepdeconv import classical

    s = make_signal(3)
    s.data[1] = 0
    s.save(tmp_path / "scan.hspy")

    def fail(*_, **__):
        raise RuntimeError("no luck")

    monkeypatch.setattr(classical, "image_space_reconstruction", fail)
    printed = run("compare", tmp_path / "scan.hspy", "--methods", "ml,rl", code=1)
    assert "RuntimeError: no luck" in printed
    assert "note: rl_deconvolve: of 3 spectra 1 empty" in " ".join(printed.split())
    assert "scan_rl.hspy" in results(tmp_path)
    assert "scan_ml.hspy" not in results(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "deep,best"), "'best'"),
        (("--methods", ","), "methods is empty"),
        (("--psf", "missing.hspy"), "--psf missing.hspy: no such file"),
        (("--resolution", "5"), "resolution=5.0 eV is out of range"),
        (("--model", "none"), "model='none'"),
    ],
)
def test_compare_with_unusable_options(run, save, tmp_path, arguments, message):
    printed = run("compare", save("scan.hspy"), *arguments, code=1)
    assert printed.startswith("Error: ")
    assert message in " ".join(printed.split())
    assert results(tmp_path) == []


def test_compare_without_a_usable_file(run, tmp_path, dual_file):
    assert "no such file" in run("compare", tmp_path / "missing.dm3", code=1)
    assert "several low-loss signals" in run("compare", dual_file, code=1)
    run("compare", dual_file, "--signal", "low 2", "--methods", "deep")
    assert "dual_deep.hspy" in results(tmp_path)


# The demo, and the commands as such


def test_demo(run, tmp_path, monkeypatch):
    make = data.plasmonic_map
    monkeypatch.setattr(demo.data, "plasmonic_map", lambda: make(shape=(4, 5), channels=512))
    monkeypatch.setattr(demo, "PLACE", (1, 2))
    printed = run("demo")
    names = [
        "before_after.png", "deconvolved.hspy", "deconvolved_shared.hspy", "errors.csv", "errors.txt",
        "simulated.hspy", "truth.hspy", "vacuum.hspy",
    ]  # fmt: skip
    assert results(tmp_path) == names
    for name in names:
        assert name in printed
    assert "loss error" in printed
    assert (tmp_path / "results/before_after.png").stat().st_size > 10_000
    table = (tmp_path / "results/errors.csv").read_text().splitlines()
    assert len(table) == 6
    result = hs.load(tmp_path / "results/deconvolved.hspy")
    assert result.data.shape == (4, 5, 512)
    run("demo")  # a second time, into the same folder


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom exspy_deepdeconv import cli\n"
        "try: cli.app(['deconvolve', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'hyperspy.api', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--overwrite" in done.stdout


def test_module_and_exit_code(tmp_path):
    command = [sys.executable, "-m", "exspy_deepdeconv", "deconvolve", str(tmp_path / "no.dm3")]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no such file" in done.stdout
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_version(run):
    assert run("--version", output=None).strip() == exspy_deepdeconv.__version__


@pytest.mark.parametrize("command", ["compare", "deconvolve"])
@pytest.mark.parametrize("name", ["broken.hspy", "broken.dm3", "unknown.foo", "notes.txt"])
def test_files_that_cannot_be_read_are_named(run, tmp_path, command, name):
    (tmp_path / name).write_bytes(b"no spectrum")
    said = run(command, tmp_path / name, code=1)
    assert f"{name}: not a file that HyperSpy can read (" in said
    assert "len()" not in said  # what a lazy reader stumbles over tells nobody anything


def test_a_folder_is_called_one(run, tmp_path):
    assert f"{tmp_path}: a folder: name the files in it" in run("compare", tmp_path, code=1)
    assert "| .     |" in run("deconvolve", ".", code=1)


def test_training_that_diverges_ends_in_one_line(tmp_path):
    command = ["train", "--folder", str(tmp_path / "x"), "--steps", "8", "--learning-rate", "1e30"]
    result = CliRunner().invoke(cli.app, [*command, "--workers", "0", "--init", OLDEST])
    assert result.exit_code == 1 and "loss is no number any more" in result.output


@pytest.mark.parametrize("command", ["demo", "deconvolve", "compare", "train"])
def test_help_is_wrapped_by_the_terminal_alone(command):
    printed = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "80"}).output
    words = [line.strip() for line in printed.partition("╭")[0].splitlines()]
    for line, following in zip(words, words[1:], strict=False):
        if line and following:  # of one paragraph: the next word would not have fitted
            assert len(f" {line} {following.split()[0]} ") > 80


def test_usage_says_once_that_there_may_be_several_inputs():
    printed = CliRunner().invoke(cli.app, ["deconvolve", "--help"]).output
    (usage,) = (line for line in printed.splitlines() if "Usage:" in line)
    assert usage.count("...") == 1


@pytest.mark.parametrize(
    ("shape", "pixel"), [((), ""), ((3,), ", pixel 2"), ((2, 3), ", pixel (2, 1)")]
)
def test_figure_of_a_comparison_names_the_pixel(run, save, monkeypatch, shape, pixel):
    path = save("scan.hspy", *shape)
    s = hs.load(path)
    s.data[(-1,) * len(shape)] *= 2  # the brightest is shown
    s.save(path, overwrite=True)
    titles = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *args, **kwargs: (
            titles.append(figure.axes[0].get_title()),
            savefig(figure, *args, **kwargs),
        ),
    )
    run("compare", path, "--methods", "fourier")
    assert titles == [f"scan{pixel}"]
