"""The tool behind `exspy_deepdeconv.widget`: its settings and the live preview."""
