"""What surrounds the method: command line, experiments, evaluation, reports and prediction.

May import ``datasets`` and ``padim``, which import nothing from here.
"""
