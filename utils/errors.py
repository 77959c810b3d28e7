"""The error a bad option or an unusable output folder raises."""


class OptionError(ValueError):
    """An option cannot be used as given; the message is one line for the user."""
