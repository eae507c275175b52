"""Texts that the docstrings of the signal methods share, HyperSpy's own words."""

from hyperspy.docstrings.signal import LAZY_OUTPUT_ARG, NUM_WORKERS_ARG, SHOW_PROGRESSBAR_ARG

# HyperSpy's texts are indented for a method inside a class.
SHARED_ARGUMENTS = tuple(
    text.replace("\n    ", "\n")
    for text in (SHOW_PROGRESSBAR_ARG, NUM_WORKERS_ARG, LAZY_OUTPUT_ARG)
)
