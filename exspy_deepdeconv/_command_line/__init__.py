"""The commands of `exspy_deepdeconv.cli`: files read, deconvolved, compared, written and logged."""
