"""Energy gains that exceed the losses: how many counts are enough to be sure."""

from dataclasses import replace

import numpy as np
import pytest

from exspy_deepdeconv.physics import Noise, gaussian, inspect
from exspy_deepdeconv.response.gains import impossible_gains


@pytest.mark.parametrize(("sigmas", "flagged"), [(4.6, False), (5.4, True)])
def test_gains_count_from_five_standard_deviations_on(sigmas, flagged):
    """Twelve pairs of channels, each of a variance of 100, hold them: one width to 20 channels away."""
    counts = 1e4 * gaussian(256, 90.0, 8.0)
    seen = inspect(counts[None])
    width = int(np.ceil(seen.zero_loss.fwhm[0]))
    seen = replace(seen, noise=Noise(np.array([1e-9]), np.array([100.0])))
    sigma = np.sqrt(2 * (20 - width + 1) * 100.0)
    result = counts + sigmas * sigma * np.eye(1, 256, 70)[0]
    assert sigmas * sigma > 0.003 * counts.sum()  # not too few of all counts
    assert impossible_gains(result[None], seen, 2.0).tolist() == [flagged]
