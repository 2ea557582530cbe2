"""Why something cannot be decided."""


class NotPossible(Exception):
    """This cannot be done as things are. The text says why and what to do; nothing was written."""
