"""The instrument's response: its width, convolution with it, the elastic peak seen through it.

A result blurred with it again should be the spectrum: whether it is tells how far to trust it.
"""
