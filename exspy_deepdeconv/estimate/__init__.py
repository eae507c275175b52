"""From spectra to the network's estimate: bins, batches, a shared response, calibrated intervals.

`exspy_deepdeconv.inference` checks arguments and runs it.
"""
