"""Blind deconvolution of low-loss EELS spectra, as methods of HyperSpy's EELSSpectrum.

HyperSpy imports this package while it loads its extensions, so nothing heavy may be
imported here: everything but the registration is loaded on first use.
"""

import importlib

from ._register import register

__version__ = "0.1.0"

_SUBMODULES = (
    "classical",
    "data",
    "evaluate",
    "inference",
    "models",
    "physics",
    "plotting",
    "simulate",
    "training",
)

__all__ = ["__version__", "deconvolve", "register", *_SUBMODULES]


def __getattr__(name):
    if name == "deconvolve":
        return importlib.import_module(".inference", __name__).deconvolve
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


register()
