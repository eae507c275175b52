"""What the network stands on: the axis on which it works and the classical steps under it (torch).

`exspy_deepdeconv.network` puts them together.
"""
