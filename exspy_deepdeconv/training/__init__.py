"""Training: pairs, simulated and measured, the loop, and adaptation to one's own instrument.

Everything is loaded on first use: torch only with the loop, HyperSpy only with measured maps.
"""

import importlib

from .pairs import SimulatedPairs

__all__ = [
    "MeasuredPairs",
    "MixedPairs",
    "Plan",
    "SimulatedPairs",
    "fine_tune",
    "measured_pairs",
    "plot_scree",
    "train",
]

_PLACES = {
    "MeasuredPairs": "exported",
    "MixedPairs": "mixed",
    "Plan": "plan",
    "fine_tune": "adapt",
    "measured_pairs": "pca",
    "plot_scree": "pca",
    "train": "loop",
}


def __getattr__(name):
    if name in _PLACES:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
