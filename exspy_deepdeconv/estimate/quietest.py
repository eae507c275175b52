"""The spectra of a map with the fewest losses, whose tails show the response best (NumPy)."""

import numpy as np

from .. import physics
from ..spectrum.level import shared_dark

MOST_READ = 1024  # spectra of a map, of which the quietest are wanted
SHARE, FEWEST = 0.1, 4  # of the spectra that are summed; or all of fewer
# Zero-loss widths from the peak between which losses are counted: nearer, the peak's own flank and its
# drift weigh more than they do.
FROM, TO = 1.5, 20.0
BRIGHT = 0.5  # of the median elastic counts: of darker spectra noise alone may make quiet ones


def quietest_sum(spectra):
    """The sum of the spectra with the fewest losses, for a response to be estimated from it.

    A blind answer takes weak losses on the tail of the zero-loss peak for tail. Where a map shows less
    of them in some places (beside a particle, past an edge, between the antinodes of a mode), the tail
    there is nearer to the instrument's.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts of one specimen and one instrument, ``(spectra, channels)``.

    Returns
    -------
    total : numpy.ndarray
        Sum of the tenth of the spectra (at least 4) with the least counts between 1.5 and 20
        zero-loss widths beyond the peak, over those of the peak; moved to one zero-loss position, without
        flat offset, ``(channels,)``.
    rows : numpy.ndarray of int
        Which of the spectra these are, the quietest first.

    Raises
    ------
    ValueError
        If there is no spectrum with a zero-loss peak that is not saturated.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.physics import gaussian
    >>> from exspy_deepdeconv.estimate.quietest import quietest_sum
    >>> peak, loss = 1e5 * gaussian(512, 100.0, 8.0), 1e4 * gaussian(512, 150.0, 12.0)
    >>> total, rows = quietest_sum(np.stack([peak + loss * share for share in np.linspace(1, 0, 40)]))
    >>> rows.tolist()
    [39, 38, 37, 36]
    """
    seen = physics.inspect(spectra)
    dark = shared_dark(seen)
    if dark is not None and dark.level:
        seen = physics.inspect(spectra, dark)
    usable = seen.usable & (seen.flags & physics.SATURATED == 0)
    plain = usable & (seen.flags & physics.SPIKE == 0)
    rows = np.flatnonzero(plain if plain.any() else usable)  # a hot channel is in all of them
    if not rows.size:
        raise ValueError(
            "No spectrum has a zero-loss peak that is not saturated, from which a shared response could "
            "be estimated."
        )
    found = seen.zero_loss.select(rows)
    place, width = np.median(found.position), np.median(found.fwhm)
    aligned = physics.shift_channels(seen.counts[rows], place - found.position)
    distance = (np.arange(spectra.shape[-1]) - place) / width
    elastic = aligned[:, np.abs(distance) < 1].sum(axis=-1)
    losses = aligned[:, (distance > FROM) & (distance < TO)].sum(axis=-1)
    bright = np.flatnonzero(elastic > BRIGHT * np.median(elastic))
    order = np.argsort(losses[bright] / elastic[bright], kind="stable")
    chosen = bright[order[: max(round(SHARE * len(rows)), FEWEST)]]
    return aligned[chosen].sum(axis=0), rows[chosen]
