"""Files that models are kept in; a reader of the method may skip it.

``files`` writes them complete or not at all, ``tensor_file`` reads tensors that were checked first,
and ``model_file`` with ``model_header`` says what a model's file holds.
"""
