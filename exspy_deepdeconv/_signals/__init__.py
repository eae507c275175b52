"""HyperSpy signals: checked, sampled, run block by block, put back together, and scored.

Imported inside the methods, not by ``import hyperspy.api``.
"""
