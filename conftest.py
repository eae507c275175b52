"""For the tests and for the examples in docstrings and README alike."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _hyperspy_has_spoken():
    """Import HyperSpy before any example: without numba it prints so, once, while it is imported."""
    import exspy.signals  # noqa: F401
    import hyperspy.api as hs

    hs.signals.Signal1D([0.0]).as_lazy()
