"""Tables, curves, figures and pages of what was measured, beside the published numbers.

Imports `datasets`, `utils.evaluation` and `utils.system`.
"""
