"""Wheel, sdist and editable install hold everything, and their entry points work."""

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exspy_deepdeconv"


def run(*command, folder):
    process = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout.strip()


def package_files():
    """Every file the package needs: its modules and all data that is not a cache."""
    return {
        str(file.relative_to(ROOT))
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with an sdist and the wheel that was built from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, folder=out)
    return out


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("*.whl"))


@pytest.fixture
def environment(tmp_path):
    """Python of a new environment that sees the packages of this one behind its own."""
    builder = venv.EnvBuilder(with_pip=False, symlinks=True)
    builder.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    site_packages = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path
    )
    behind = [path for path in sys.path if path.endswith("site-packages")]
    Path(site_packages, "behind.pth").write_text("\n".join(behind))
    return python


def install(environment, *what, folder):
    # ignore-installed: the environment sees the copy that these tests run with, too
    options = "--no-deps --no-build-isolation --no-index --ignore-installed".split()
    pip = [sys.executable, "-m", "pip", "--python", environment]
    run(*pip, "install", *options, *what, folder=folder)


def imported_from(environment, folder):
    """Check that the methods come without importing us; return the package's folder."""
    code = """
from exspy.signals import EELSSpectrum, LazyEELSSpectrum
for cls in (EELSSpectrum, LazyEELSSpectrum):
    assert cls.deep_deconvolve.__module__ == "exspy_deepdeconv.signal"
import exspy_deepdeconv
print(exspy_deepdeconv.__path__[0])
"""
    return Path(run(environment, "-I", "-c", code, folder=folder).splitlines()[-1])


def test_wheel_holds_the_whole_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert package_files() <= names
    version = wheel.name.split("-")[1]
    top = {name.partition("/")[0] for name in names}
    assert top == {"exspy_deepdeconv", f"exspy_deepdeconv-{version}.dist-info"}


def test_data_files_that_must_ship_are_there():
    names = package_files()
    assert "exspy_deepdeconv/hyperspy_extension.yaml" in names
    assert "exspy_deepdeconv/models/MODEL_CARD.md" in names
    assert any(name.endswith(".safetensors") for name in names)


def test_sdist_holds_package_tests_and_licence(built):
    archive = next(built.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert package_files() <= names
    assert {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"} <= names
    assert "tests/test_packaging.py" in names


def test_extension_file_at_top_is_a_link_into_the_package():
    link = ROOT / "hyperspy_extension.yaml"
    assert link.is_symlink()
    assert link.resolve() == (PACKAGE / "hyperspy_extension.yaml").resolve()


def test_wheel_install(wheel, environment, tmp_path):
    install(environment, wheel, folder=tmp_path)
    assert imported_from(environment, tmp_path).is_relative_to(tmp_path)


def test_sdist_install(built, environment, tmp_path):
    install(environment, next(built.glob("*.tar.gz")), folder=tmp_path)
    assert imported_from(environment, tmp_path).is_relative_to(tmp_path)


def test_editable_install(environment, tmp_path):
    install(environment, "--editable", ROOT, folder=tmp_path)
    assert imported_from(environment, tmp_path) == PACKAGE


def test_command_is_installed(wheel, environment, tmp_path):
    install(environment, wheel, folder=tmp_path)
    assert "deconvolve" in run(environment.with_name("exspy-deepdeconv"), "--help", folder=tmp_path)
    assert "deconvolve" in run(environment, "-m", "exspy_deepdeconv", "--help", folder=tmp_path)


def test_dependencies_are_pinned_in_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    pinned = {
        line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    names = {re.split(r"[\[<>=]", name)[0].lower().replace("_", "-") for name in wanted}
    assert names - {"exspy-deepdeconv"} <= pinned  # one extra brings another
