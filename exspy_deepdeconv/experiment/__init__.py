"""The parts of a simulated experiment: energy grid, specimen, instrument, detector.

`exspy_deepdeconv.simulate` puts them together.
"""
