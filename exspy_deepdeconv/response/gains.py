"""Whether a result gains more energy than it loses, which no specimen does (NumPy only)."""

import numpy as np

LEAST_SHARE = 0.003  # of the counts
SIGNIFICANT = 5.0  # standard deviations of the data
CLEAR_OF_PEAK = 3.0  # resolutions from the middle of an elastic peak


def impossible_gains(results, seen, resolution):
    """Where energy gains exceed the losses of the same energies, ``(batch,)`` of bool.

    For each electron that loses the energy E, only exp(-E/kT) electrons gain it from a specimen at
    the temperature T. With a response that does not fit, the tail of the zero-loss peak is left over on
    the gain side of the result, even where the result explains the data once it is blurred again.

    Parameters
    ----------
    results : numpy.ndarray
        Shape ``(batch, channels)``; with or without the elastic peak and a flat offset.
    seen : Inspected
        The same spectra before, from `exspy_deepdeconv.physics.inspect`; all of them usable.
    resolution : float
        Of the results: FWHM in channels.

    Returns
    -------
    numpy.ndarray
        True where, from one zero-loss width on to any distance, gains exceed losses by more than
        5 standard deviations of the data and 0.3 % of the counts. All losses are counted, but only
        those gains that are clear of the elastic peak of the result: a coarse result is flagged more
        rarely.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.response.gains import impossible_gains
    >>> from exspy_deepdeconv.physics import gaussian, inspect
    >>> peak, beside = 1e6 * gaussian(256, 90.0, 8.0), 2e4 * gaussian(256, 70.0, 8.0)
    >>> seen = inspect(np.stack([peak + beside, peak + beside[::-1]]))
    >>> impossible_gains(np.stack([peak + beside, peak + beside[::-1]]), seen, 2.0).tolist()
    [True, False]
    """
    position, width = seen.zero_loss.position[:, None], seen.zero_loss.fwhm[:, None]
    channels = results.shape[-1]
    results = results - np.maximum(seen.level, 0)[:, None]
    distance = np.arange(int(position.max(initial=0)) + 1) + np.ceil(width)
    gain_side, loss_side = position - distance, position + distance
    measured = gain_side >= 0
    clear = measured & (distance >= CLEAR_OF_PEAK * resolution)
    # Where the window ends before the losses do, gains are compared with the losses inside.
    inside = measured & (loss_side <= channels - 1)
    net, variance = np.zeros(inside.shape), np.zeros(inside.shape)
    noise = seen.noise.variance(seen.counts)
    for side, sign, counted in ((gain_side, 1.0, clear), (loss_side, -1.0, inside)):
        side = np.where(counted, side, 0)
        net += sign * counted * between(results, side)
        variance += counted * between(noise, side)
    excess, variance = (np.cumsum(x, axis=-1) for x in (net, variance))
    counts = np.maximum(seen.counts.sum(axis=-1, keepdims=True), 0)
    over = (excess > LEAST_SHARE * counts) & (excess > SIGNIFICANT * np.sqrt(variance))
    return over.any(axis=-1)


def between(spectra, place):
    """Values at fractional channels, ``(batch, ...)``."""
    left = np.minimum(place.astype(int), spectra.shape[-1] - 2)
    share = place - left
    before, after = (np.take_along_axis(spectra, left + step, axis=-1) for step in (0, 1))
    return (1 - share) * before + share * after
