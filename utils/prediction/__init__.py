"""Using a fitted model: judging folders of images, and the export to ONNX.

May import ``datasets``, ``padim``, ``utils.errors``, ``utils.report`` and ``utils.system``.
"""
