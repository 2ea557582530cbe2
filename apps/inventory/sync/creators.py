"""Who made a role or a user, from the audit trail: the last word on who could answer for a machine.

Only what AWS itself says about who acted counts: an Identity Center user, an IAM user that is known to be a person's, or
the session of a role that Identity Center made, which it names after its user. Any other session carries whatever name was
chosen when it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from django.db.models import Q
from django.db.models.functions import Upper

from apps.inventory.models import Connection, Creation, Identity, Principal

T = TypeVar("T")

OF_IDENTITY_CENTER = ":role/aws-reserved/sso.amazonaws.com/"


def creators(connection: Connection, made: Mapping[T, str]) -> dict[T, int]:
    """The person who made each of these principals ({its key: unique id}) and is still here. Two queries."""
    names = {unique_id: key for key, unique_id in made.items() if unique_id}
    known = Creation.objects.filter(connection=connection, made_id__in=[*names])
    by_person = Q(actor__principal__identity__kind=Identity.Kind.HUMAN, actor__principal__identity__ended_at=None)
    acted = known.filter(by_person).values_list("made_id", "actor__principal__identity")
    found = {names[made_id]: person for made_id, person in acted}
    by_session = known.filter(actor__arn__contains=OF_IDENTITY_CENTER).exclude(session_name="")
    sessions = dict(by_session.values_list("made_id", "session_name"))
    people = _named(connection, sessions.values())
    found |= {names[key]: people[name.upper()] for key, name in sessions.items() if name.upper() in people}
    return found


def _named(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Whose these user names of Identity Center are, in capitals; one that two people have is nobody's."""
    wanted = {name.upper() for name in names}
    if not wanted:
        return {}
    users = Principal.objects.present().filter(
        connection=connection, kind=Principal.Kind.IDC_USER, identity__ended_at=None
    )
    people: dict[str, set[int]] = {}
    for name, person in users.annotate(upper=Upper("name")).filter(upper__in=wanted).values_list("upper", "identity"):
        if person:
            people.setdefault(name, set()).add(person)
    return {name: next(iter(whose)) for name, whose in people.items() if len(whose) == 1}
