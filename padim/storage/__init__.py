"""Model files; a reader of the method may skip this package.

``files`` writes files completely or not at all. ``tensor_file`` checks and reads tensors.
``model_file`` and ``model_header`` define the format.
"""
