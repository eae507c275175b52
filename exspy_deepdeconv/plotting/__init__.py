"""Figures of spectra and maps before and after deconvolution.

The functions take and return matplotlib axes.
"""

from ._curves import COLOURS
from .maps import energy_window, plot_map, plot_map_comparison
from .responses import plot_response
from .spectra import plot_comparison, plot_interval, plot_residual, plot_spectra
from .trust import plot_calibration, plot_training_history

__all__ = [
    "COLOURS",
    "energy_window",
    "plot_calibration",
    "plot_comparison",
    "plot_interval",
    "plot_map",
    "plot_map_comparison",
    "plot_residual",
    "plot_response",
    "plot_spectra",
    "plot_training_history",
]
