"""What is read from one spectrum: its zero-loss peak, its flat offset, its noise, its flags.

`exspy_deepdeconv.physics` gathers it; the Gaussians and shifts that all others use are here, too.
"""
