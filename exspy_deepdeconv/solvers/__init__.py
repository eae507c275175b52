"""The classical methods' parts: Fourier ratio, total generalised variation, when to stop.

`exspy_deepdeconv.classical` gathers them.
"""
