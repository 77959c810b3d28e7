"""Scores, metrics and the record of a class. Imports `padim`, `datasets` and nothing of `utils`."""
