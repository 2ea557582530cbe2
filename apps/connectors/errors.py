"""What can go wrong between us and a governed system, in words the rest of the portal understands.

Each provider maps its own error codes to these classes in one place (`connectors/aws/errors.py`); nothing above this
package knows an AWS error code. `str(error)` is a sentence for people that says what to do next.
"""


class ConnectorError(Exception):
    """Something between us and the governed system failed. The subclass says what to do about it."""


class Throttled(ConnectorError):
    """The provider asked us to slow down, or answered with a passing fault: the same call later may succeed."""


class Busy(Throttled):
    """Another change to the same object is under way (AWS: ConflictException). Try the same call again."""


class Unreachable(Throttled):
    """No answer came: we do not know whether the provider did it. Read back before doing anything else."""


class Denied(ConnectorError):
    """The provider refuses our credentials or our right to do this. A person must change something."""


class Gone(ConnectorError):
    """The object we named does not exist (any more)."""


class Refused(ConnectorError):
    """This cannot be done safely or at all: a limit would be passed, or what we would write is not what was asked.

    Raised before anything is written, or after what was written has been taken back.
    """


class Unproven(ConnectorError):
    """We wrote, but what we read back is not what we wrote. Never reported as done; tried again."""
