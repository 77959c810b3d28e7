"""Tables, curves, figures and pages of what was measured, compared with the published numbers.

Imports `datasets`, `utils.evaluation` and `utils.system`.
"""
