"""Training: simulated pairs, the loss and the loop (imports torch only when used)."""

from .pairs import SimulatedPairs

__all__ = ["SimulatedPairs"]
