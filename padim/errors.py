"""The errors the method raises for what a user gave it."""


class ModelError(ValueError):
    """An option, a weights file or a model file cannot be used; the message is one line."""
