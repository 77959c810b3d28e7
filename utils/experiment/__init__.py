"""The one engine that runs configurations over the classes of data sets.

``main_*`` runs one configuration, ``--seeds`` several, ``reproduce.py`` many. May import ``padim``,
``datasets`` and the other parts of ``utils``, but neither ``utils.cli`` nor ``utils.reproduction``.
"""
