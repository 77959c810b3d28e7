"""The machine and the process: device, files, lock, console, and all that is done for speed.

May import ``padim.storage.files`` and ``utils.errors``; nothing else of this project.
"""
