"""The error of an option or an output folder."""


class OptionError(ValueError):
    """An option cannot be used as given. The message is one line for the user."""
