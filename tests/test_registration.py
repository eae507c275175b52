"""The methods reach exspy's classes through the entry points of the installed package.

Registration happens once per process and at import, so every case runs in an
interpreter of its own, in a folder outside the source tree.
"""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from textwrap import dedent

import pytest


def run(*code, folder, path=""):
    """Run the pieces of code in a fresh interpreter; return its stdout and stderr."""
    process = subprocess.run(
        [sys.executable, "-W", "always", "-c", "\n".join(map(dedent, code))],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


CHECK_METHODS = """
    assert "deep_deconvolve" in vars(EELSSpectrum)
    from exspy_deepdeconv.signal import METHODS
    for name, function in METHODS.items():
        assert getattr(EELSSpectrum, name) is function, name
        assert getattr(LazyEELSSpectrum, name) is function, name
    import sys
    assert "torch" not in sys.modules
    """

# Stands before the import of hyperspy: as if this package were not installed.
WITHOUT_PLUGIN = """
    import importlib.metadata
    installed = importlib.metadata.entry_points
    importlib.metadata.entry_points = lambda **selection: importlib.metadata.EntryPoints(
        e for e in installed(**selection) if not e.value.startswith("exspy_deepdeconv")
    )
    """

IMPORT_ORDERS = {
    "hyperspy first": """
        import hyperspy.api as hs
        s = hs.signals.Signal1D([0.0] * 8)
        s.set_signal_type("EELS")
        EELSSpectrum, LazyEELSSpectrum = type(s), type(s.as_lazy())
        """,
    "exspy first": """
        import exspy
        EELSSpectrum = exspy.signals.EELSSpectrum
        LazyEELSSpectrum = exspy.signals.LazyEELSSpectrum
        """,
    "class first": "from exspy.signals import EELSSpectrum, LazyEELSSpectrum",
    "lazy class first": """
        from exspy.signals import LazyEELSSpectrum
        from exspy.signals import EELSSpectrum
        """,
    "ours first": """
        import exspy_deepdeconv
        from exspy.signals import EELSSpectrum, LazyEELSSpectrum
        """,
    "ours, then hyperspy": """
        import exspy_deepdeconv
        import hyperspy.api as hs
        s = hs.signals.Signal1D([0.0] * 8).as_lazy()
        s.set_signal_type("EELS")
        LazyEELSSpectrum, EELSSpectrum = type(s), type(s).__mro__[1]
        """,
    "ours last": f"""{WITHOUT_PLUGIN}
    from exspy.signals import EELSSpectrum, LazyEELSSpectrum
    assert not hasattr(EELSSpectrum, "deep_deconvolve")
    import exspy_deepdeconv
    """,
}


def test_entry_points_are_installed():
    names = {e.name for e in entry_points(group="hyperspy.extensions")}
    assert {"exspy_deepdeconv", "exspy_deepdeconv._register"} <= names, (
        "install the package first: python -m pip install ."
    )


@pytest.mark.parametrize("imports", IMPORT_ORDERS.values(), ids=IMPORT_ORDERS)
def test_every_import_order(imports, tmp_path):
    _, stderr = run(imports, CHECK_METHODS, folder=tmp_path)
    assert "exspy_deepdeconv" not in stderr  # no warning of ours


def test_loaded_signal_has_the_methods(tmp_path):
    code = """
        import hyperspy.api as hs
        import numpy as np
        hs.signals.Signal1D(np.ones((2, 64))).save("spectra.hspy")  # no EELS class yet

        for lazy in (False, True):
            s = hs.load("spectra.hspy", lazy=lazy, signal_type="EELS")
            assert s._lazy is lazy
            assert type(s).deep_deconvolve.__module__ == "exspy_deepdeconv.signal"
        """
    run(code, folder=tmp_path)


# -- exspy's development layout ------------------------------------------------------

STAND_IN = {
    "hyperspy_extension.yaml": """
        signals:
          EELSSpectrum: &eels
            signal_type: EELS
            signal_dimension: 1
            dtype: real
            lazy: False
            module: exspy.signals
          LazyEELSSpectrum:
            <<: *eels
            lazy: True
        # Else the widgets of hyperspy_gui_ipywidgets, where it is installed, have no tools.
        GUI:
          toolkeys:
            - exspy.Preferences
            - exspy.EELSCLEdge_Component
            - exspy.microscope_parameters_EELS
            - exspy.microscope_parameters_EDS_TEM
            - exspy.microscope_parameters_EDS_SEM
            - exspy.EELSSpectrum.print_edges_table
        """,
    "__init__.py": "from . import signals",
    "signals/__init__.py": """
        import importlib

        _HOME = {"EELSSpectrum": "_eels", "LazyEELSSpectrum": "_lazy_eels"}

        def __getattr__(name):
            if name in _HOME:
                return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
            raise AttributeError(name)
        """,
    # hyperspy, and with it our package, is imported before the class is there
    "signals/_eels.py": """
        import hyperspy.api
        from hyperspy.signals import Signal1D

        class EELSSpectrum(Signal1D):
            _signal_type = "EELS"
        """,
    "signals/_lazy_eels.py": """
        from hyperspy.signals import LazySignal1D
        from ._eels import EELSSpectrum

        class LazyEELSSpectrum(EELSSpectrum, LazySignal1D):
            pass
        """,
    "signals/eels.py": """
        import warnings
        warnings.warn("exspy.signals.eels: import from exspy.signals", DeprecationWarning)
        from ._eels import EELSSpectrum
        from ._lazy_eels import LazyEELSSpectrum
        """,
}

# The other shape a shim may have: it warns when the class is asked for.
SHIM_WITH_GETATTR = """
    import warnings

    def __getattr__(name):
        warnings.warn("exspy.signals.eels: import from exspy.signals", DeprecationWarning)
        from exspy import signals
        return getattr(signals, name)
    """


@pytest.fixture
def write_exspy(tmp_path):
    """Write the stand-in, some of its files replaced; return the folder to import from."""

    def write(**replaced):
        for name, text in (STAND_IN | replaced).items():
            file = tmp_path / "path" / "exspy" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text))
        return tmp_path / "path"

    return write


@pytest.mark.parametrize("imports", IMPORT_ORDERS.values(), ids=IMPORT_ORDERS)
def test_development_layout_every_import_order(imports, tmp_path, write_exspy):
    _, stderr = run(imports, CHECK_METHODS, folder=tmp_path, path=write_exspy())
    assert "exspy.signals.eels" not in stderr  # the deprecated shim was left alone
    assert "exspy_deepdeconv" not in stderr


@pytest.mark.parametrize("shim", [STAND_IN["signals/eels.py"], SHIM_WITH_GETATTR])
def test_development_layout_shim_warns_only_for_the_user(shim, tmp_path, write_exspy):
    path = write_exspy(**{"signals/eels.py": shim})
    imports = """
        from exspy.signals.eels import EELSSpectrum
        from exspy.signals import LazyEELSSpectrum
        """
    _, stderr = run(imports, CHECK_METHODS, folder=tmp_path, path=path)
    # `from x import y` asks a module's __getattr__ more than once by itself
    _, alone = run(WITHOUT_PLUGIN, imports, folder=tmp_path, path=path)
    warning = "exspy.signals.eels: import from exspy.signals"
    assert stderr.count(warning) == alone.count(warning) >= 1


def test_existing_attribute_is_kept_with_one_warning(tmp_path, write_exspy):
    taken = (
        STAND_IN["signals/_eels.py"]
        + """
            def deep_deconvolve(self):
                return "theirs"
        """
    )
    code = """
        from exspy.signals.eels import EELSSpectrum
        import exspy_deepdeconv
        from exspy_deepdeconv.signal import METHODS

        exspy_deepdeconv.register()
        assert EELSSpectrum.deep_deconvolve(None) == "theirs"
        for name in set(METHODS) - {"deep_deconvolve"}:
            assert getattr(EELSSpectrum, name) is METHODS[name], name
        """
    _, stderr = run(code, folder=tmp_path, path=write_exspy(**{"signals/_eels.py": taken}))
    assert stderr.count("EELSSpectrum.deep_deconvolve exists already") == 1


def test_explicit_register_helps_a_class_that_came_unseen(tmp_path, write_exspy):
    # A package object of a class of its own is not watched, so the class that appears
    # after our hook ran on the half-imported module is missed.
    own_class = (
        STAND_IN["signals/__init__.py"]
        + """
        import sys, types
        sys.modules[__name__].__class__ = type("Package", (types.ModuleType,), {})
        """
    )
    imports = """
        from exspy.signals import EELSSpectrum, LazyEELSSpectrum
        assert not hasattr(EELSSpectrum, "deep_deconvolve")
        import exspy_deepdeconv
        exspy_deepdeconv.register()
        """
    path = write_exspy(**{"signals/__init__.py": own_class})
    run(imports, CHECK_METHODS, folder=tmp_path, path=path)


def test_register_helps_after_reload(tmp_path):
    imports = """
        import importlib
        import exspy.signals.eels
        importlib.reload(exspy.signals.eels)
        from exspy.signals.eels import EELSSpectrum, LazyEELSSpectrum
        assert not hasattr(EELSSpectrum, "deep_deconvolve")
        import exspy_deepdeconv
        exspy_deepdeconv.register()
        """
    run(imports, CHECK_METHODS, folder=tmp_path)


# -- what an import brings along -----------------------------------------------------


def test_import_of_hyperspy_brings_only_us_and_wrapt(tmp_path):
    code = """
        import hyperspy.api, sys
        print(*sorted({name.partition(".")[0] for name in sys.modules}))
        """
    with_plugin, _ = run(code, folder=tmp_path)
    without, _ = run(WITHOUT_PLUGIN, code, folder=tmp_path)
    added = set(with_plugin.split()) - set(without.split()) - set(sys.stdlib_module_names)
    assert added == {"exspy_deepdeconv", "wrapt"}


def test_import_of_this_package_brings_only_wrapt(tmp_path):
    code = """
        import sys
        before = set(sys.modules)
        import exspy_deepdeconv
        print(*{name.partition(".")[0] for name in set(sys.modules) - before})
        """
    stdout, _ = run(code, folder=tmp_path)
    added = set(stdout.split()) - set(sys.stdlib_module_names)
    assert added == {"exspy_deepdeconv", "wrapt"}


def test_gui_registry_knows_this_extension(tmp_path):
    code = """
        from hyperspy import ui_registry
        from hyperspy.extensions import ALL_EXTENSIONS
        # toolkeys are looked up by the part before the dot
        assert "exspy_deepdeconv" in ui_registry._EXTENSION_NAMES
        assert "EELSSpectrum" in ALL_EXTENSIONS["signals"]
        """
    run(code, folder=tmp_path)


def test_public_names_are_found(tmp_path):
    code = """
        import exspy_deepdeconv
        for name in exspy_deepdeconv.__all__:
            assert getattr(exspy_deepdeconv, name) is not None
        assert exspy_deepdeconv.classical.richardson_lucy and exspy_deepdeconv.simulate.simulate
        try:
            exspy_deepdeconv.no_such_name
        except AttributeError as error:
            assert "no_such_name" in str(error)
        else:
            raise AssertionError
        """
    run(code, folder=tmp_path)
