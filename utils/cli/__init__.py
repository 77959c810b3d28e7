"""The command line: text in, options out; errors in, one line and an exit status out.

May import ``datasets.layouts.catalogue``, ``padim.config``, the errors of every package and the
options and entry functions of ``utils``; nothing that imports PyTorch before the options are good.
"""
