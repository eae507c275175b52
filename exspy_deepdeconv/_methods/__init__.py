"""The methods that exspy's EELSSpectrum gains: docstrings in ``*_signal``, work in ``*_methods``.

`exspy_deepdeconv.signal` lists them; the work is imported when a method is called.
"""
