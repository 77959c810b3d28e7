"""The error a bad data set raises."""


class DataError(ValueError):
    """A folder or a file of the data set cannot be used; the message is one line for the user."""
