"""The paper's plan of configurations, its numbers, tables and plots.

The engine is that of ``utils.experiment``. May import ``padim``, ``datasets`` and the other parts
of ``utils`` but ``utils.cli``.
"""
