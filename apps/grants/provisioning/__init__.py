"""Carrying grants out in the governed system, and settling them by what it answers.

Every function may run at any time, twice, late, or be killed between any two lines: what is in the database before a
call is the intent, what is read back after it is the truth, and the object in AWS is only touched under its lock. No
transaction is open round a call. The end is written and read back before access opens.
"""

from apps.grants.provisioning.denying import deny
from apps.grants.provisioning.ending import clear, deprovision
from apps.grants.provisioning.extending import extend
from apps.grants.provisioning.opening import narrow, provision
from apps.grants.provisioning.stopping import lift_stop, write_stop

__all__ = ["clear", "deny", "deprovision", "extend", "lift_stop", "narrow", "provision", "write_stop"]
