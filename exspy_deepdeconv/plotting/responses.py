"""Zero-loss peaks over each other: that of a spectrum, the response found in it, a measured one."""

import warnings

import matplotlib.pyplot as plt
import numpy as np

from .._signals.checks import check_low_loss
from ..physics import prepare
from ._curves import BLUE, GREY, ORANGE, curve, log_limits

REACH = 12.0  # zero-loss widths to either side
MIRRORED = "gain side, mirrored"


def plot_response(spectrum, psf=None, ax=None, *, reach=None):
    """Plot the response that is found in a spectrum, beside the spectrum and a measured response.

    All are moved so that their zero-loss peaks lie at 0, and divided by their heights. The mirror image of
    the gain side, which hardly holds losses, shows what the tail under the losses may be. Where a measured
    response is not used (see ``deep_deconvolve``), its width or its gain-side tail differs here.

    Parameters
    ----------
    spectrum : EELSSpectrum
        A single spectrum.
    psf : EELSSpectrum, optional
        A measured response on the same dispersion.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.
    reach : float, optional
        Energy to either side of the peak that is shown, in eV; 12 zero-loss widths by default.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a signal holds more than one spectrum or has no zero-loss peak; if ``reach`` is not positive.

    Examples
    --------
    >>> from exspy_deepdeconv import data, plotting
    >>> s = data.exciton_spectrum()
    >>> ax = plotting.plot_response(s, psf=data.vacuum_spectrum(s))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['measured', 'gain side, mirrored', 'given response', 'response found']
    """
    if reach is not None and not reach > 0:
        raise ValueError(f"reach={reach!r} must be a positive number of eV, or None.")
    energy, counts, fwhm = _peak(spectrum, "spectrum")
    shown = {
        "measured": (energy, counts, GREY, "-"),
        MIRRORED: (-energy, counts, GREY, ":"),
    }
    if psf is not None:
        shown["given response"] = (*_peak(psf, "psf")[:2], ORANGE, "-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what the deconvolution warns of as well
        found = spectrum.estimate_psf(show_progressbar=False)
    shown["response found"] = (*_peak(found, "response")[:2], BLUE, "-")
    reach = REACH * fwhm if reach is None else float(reach)
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    for label, (x, y, colour, style) in shown.items():
        inside = (np.abs(x) <= reach) & ((x >= 0) | (label != MIRRORED))
        ax.plot(x[inside], y[inside], color=colour, ls=style, lw=1.4, label=label)
    ax.set_yscale("log")
    ax.set_ylim(log_limits([line.get_ydata() for line in ax.lines]))
    ax.set(xlim=(-reach, reach), xlabel="Energy from the zero-loss peak (eV)")
    ax.set_ylabel("Counts / height of the peak")
    ax.legend(frameon=False)
    return ax


def _peak(signal, name):
    """Energies in eV from the zero-loss peak, counts over its height, and its width."""
    _, counts = curve(signal, name, None)
    axis = check_low_loss(signal)
    counts = np.asarray(counts, float)[:: -1 if axis.reversed else 1]
    without_offset, found, _ = prepare(counts)
    if not np.isfinite(found.position):
        raise ValueError(f"{name} has no zero-loss peak.")
    energy = (np.arange(counts.size) - float(found.position)) * axis.dispersion
    return energy, without_offset / float(found.height), float(found.fwhm) * axis.dispersion
