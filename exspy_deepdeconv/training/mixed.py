"""Batches from several sources (NumPy only)."""

import numpy as np


class MixedPairs:
    """A stream whose batches come from one source or another, in fixed shares.

    Batch number ``n`` is the chosen source's batch ``n``; which source that is depends on the seed
    and ``n`` alone.

    Parameters
    ----------
    *sources : (pairs, float)
        Objects with a ``batch(number)`` method and their shares; only their ratios matter.
    seed : int
        Seed of the choice.

    Raises
    ------
    ValueError
        If there is no source, or a share is not a positive number.

    Examples
    --------
    >>> from exspy_deepdeconv.training import MixedPairs, SimulatedPairs
    >>> pairs = MixedPairs((SimulatedPairs(seed=0), 0.7), (SimulatedPairs(seed=1), 0.3), seed=5)
    >>> [pairs.source(number) for number in range(8)]
    [1, 1, 1, 1, 1, 0, 0, 1]
    """

    def __init__(self, *sources, seed=0):
        if not sources:
            raise ValueError("MixedPairs needs at least one (pairs, share).")
        self.pairs, shares = zip(*sources, strict=True)
        if not all(0 < share < np.inf for share in shares):
            raise ValueError(f"The shares {shares} must all be positive.")
        self.shares = np.array(shares, float) / sum(shares)
        self.seed = seed

    def source(self, number):
        """Which source batch ``number`` comes from: its index."""
        # The sources draw their batches from (seed, number): with the same stream, choice of source
        # and length of batch would go together, and some lengths never come from some sources.
        rng = np.random.default_rng([self.seed, number, 1])
        return int(rng.choice(len(self.pairs), p=self.shares))

    def batch(self, number):
        """Batch ``number``: a dictionary of float32 arrays, as from `SimulatedPairs.batch`."""
        return self.pairs[self.source(number)].batch(number)
