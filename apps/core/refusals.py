"""What a service answers when it will not do what it was asked."""


class NotPossible(Exception):
    """This cannot be done as things are. The text says why and what to do, for people; nothing was written."""
