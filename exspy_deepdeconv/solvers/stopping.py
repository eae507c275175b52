"""When to stop an iteration that fits the signal first and the noise later."""

import numpy as np

from ..physics import prepare

# Iteration counts at which the misfit is computed, each about a quarter more than the one before.
COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30, 38, 48, 60, 75, 95, 120, 150, 190, 240, 300,
          380, 480, 600)  # fmt: skip
LEVEL = 0.018  # relative fall per iteration that counts as level, for a peak one channel wide
ZERO_LOSS_WIDTHS = 2.0  # past the maximum of the zero-loss peak, where the misfit is judged


def loss_region(spectra):
    """Where the misfit is judged, and how wide the zero-loss peaks are.

    The zero-loss peak holds nearly all counts and nearly all misfit, and says nothing about the
    loss spectrum: it is left out up to two widths past its maximum.

    Parameters
    ----------
    spectra : numpy.ndarray
        Shape ``(spectra, channels)``.

    Returns
    -------
    mask : numpy.ndarray of bool
        Shape ``(spectra, channels)``; all channels where no zero-loss peak is found.
    width : numpy.ndarray
        In channels, shape ``(spectra,)``.
    """
    channels = spectra.shape[-1]
    zero_loss = prepare(np.nan_to_num(spectra, posinf=0.0, neginf=0.0))[1]
    start = zero_loss.position + ZERO_LOSS_WIDTHS * zero_loss.fwhm
    start = np.minimum(np.nan_to_num(np.ceil(start), nan=0.0), channels - 16)
    mask = np.arange(channels) >= start[:, None]
    return mask, zero_loss.some_width


def stop_when_level(advance, misfit, width):
    """Iterate each spectrum until its misfit has levelled off.

    As the number of iterations grows, the misfit Q first falls steeply, while the features of the
    spectrum are fitted, and then slowly, while noise is. A spectrum is stopped at the first of
    `COUNTS` after which Q falls by less than ``LEVEL / width`` of itself per iteration. The rule
    needs no noise level, so a wrong one cannot mislead it.

    Parameters
    ----------
    advance : callable
        ``advance(estimate, rows, count)`` is the estimate of the spectra ``rows`` after ``count``
        more iterations; ``estimate`` is None at the start.
    misfit : callable
        ``misfit(estimate, rows)`` is the sum of squared residuals in the loss region.
    width : numpy.ndarray
        Zero-loss width of each spectrum, in channels.

    Returns
    -------
    estimate : numpy.ndarray
        Each spectrum's estimate where it was stopped.
    chosen : numpy.ndarray of int
        Its number of iterations.

    References
    ----------
    E. P. Bellido, D. Rossouw, G. A. Botton, Microsc. Microanal. 20 (2014) 767, stop
    Richardson-Lucy where its slope shows that nothing more is gained. The measure of the slope
    and its limit are our own, set on simulations (`benchmarks/classical.py` checks them).
    """
    rows = np.arange(width.size)
    current = advance(None, rows, COUNTS[0])
    answer, chosen = current.copy(), np.full(width.size, COUNTS[0])
    before = misfit(current, rows)
    for done, count in zip(COUNTS[:-1], COUNTS[1:], strict=True):
        following = advance(current, rows, count - done)
        after = misfit(following, rows)
        # An empty spectrum has no misfit: it is level at once. So is one that is not finite.
        going = before - after > LEVEL / width[rows] * (count - done) * before
        rows, current, before = rows[going], following[going], after[going]
        if not rows.size:
            break
        answer[rows], chosen[rows] = current, count
    return answer, chosen
