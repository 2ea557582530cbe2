"""Who the principals are, and who answers for them: identities, managers, owners."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection as database
from django.db.models import F, OuterRef, QuerySet, Subquery

from apps.connectors.base import CredentialRecord, PrincipalRecord
from apps.inventory.models import Connection, Identity, Principal, Resource
from apps.inventory.sync import creators, staging
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.machines import classify
from apps.inventory.sync.upserts import (
    ACCOUNT_OWNER,
    CREATOR,
    IDENTITY_CENTER,
    NOBODY,
    STACK,
    TAG,
    Changes,
    Known,
    Pointing,
    is_derived,
    point,
)

NOT_MACHINES = frozenset({Principal.Kind.IDC_USER, Principal.Kind.IDC_GROUP, Principal.Kind.IAM_GROUP})


def humans(records: Iterable[PrincipalRecord], before: Mapping[Any, Known], at: Any) -> dict[str, as_rows.Values]:
    """A person for each user of the directory. One that is disabled there has left: known, and ended."""
    return {
        record.external_id: {
            "kind": Identity.Kind.HUMAN,
            "name": as_rows.text(record.display_name or record.name, 256) or record.external_id[:256],
            "email": as_rows.text(record.email, 254),
            "title": as_rows.text(record.title, 200),
            "department": as_rows.text(record.department, 200),
            **_ending(record, before, at),
        }
        for record in records
        if record.kind == Principal.Kind.IDC_USER
    }


def _ending(record: PrincipalRecord, before: Mapping[Any, Known], at: Any) -> as_rows.Values:
    if record.attributes.get("status") != "disabled":
        return {"ended_at": None}
    old = before.get(record.external_id)
    return {"ended_at": (old.ended_at if old else None) or at}


def machines(
    records: Iterable[PrincipalRecord],
    credentials: Iterable[CredentialRecord],
    known_accounts: Collection[str],
    logins: Collection[str] = (),
) -> dict[str, as_rows.Values]:
    """A machine for each IAM user and role that somebody made. Roles that AWS made for itself are nobody, and `logins`
    are known to be people's."""
    held: dict[str, list[CredentialRecord]] = {}
    for credential in credentials:
        held.setdefault(credential.principal_external_id, []).append(credential)
    found = {}
    for record in records:
        if record.kind in NOT_MACHINES or record.external_id in logins:
            continue
        if as_rows.is_reserved(record):
            continue
        found_out = classify(record, held.get(record.external_id, ()), known_accounts)
        found[record.external_id] = {
            "kind": Identity.Kind.MACHINE,
            "name": as_rows.text(record.name, 256) or record.external_id[:256],
            "classification": found_out.classification,
            "evidence": as_rows.text(found_out.evidence, 500),
            "confidence": found_out.confidence,
            "signs": as_rows.as_json([sign.as_json() for sign in found_out.signs]),
        }
    return found


class Face(NamedTuple):
    """What the inventory has of one principal of an account: the machine it made us know, if any, and whose it is."""

    principal: Known
    is_linked: bool
    is_login: bool  # of a person
    machine: Known | None
    owner: Pointing


# One look into an index for each principal, whatever the planner knows: during a first sync it knows nothing yet.
_FACES = """
    SELECT p.external_id, p.id, p.digest, p.ended_at, p.identity_id IS NOT NULL,
           p.kind = 'iam_user' AND (SELECT i.kind = 'human' FROM inventory_identity i WHERE i.id = p.identity_id),
           m.id, m.digest, m.ended_at, m.owner_id, m.owner_source
    FROM inventory_principal p
    LEFT JOIN LATERAL (
        SELECT * FROM inventory_identity m
        WHERE m.connection_id = p.connection_id AND m.external_id = p.external_id AND m.kind = 'machine' LIMIT 1
    ) m ON true
    WHERE p.resource_id = %s AND p.connection_id = %s
"""


def faces(resource: Resource) -> dict[str, Face]:
    """The principals of an account by external id. One query."""
    with database.cursor() as cursor:
        cursor.execute(_FACES, [resource.pk, resource.connection_id])
        return {
            key: Face(Known(*own), is_linked, is_login, Known(*machine) if machine[0] else None, (owner, source or ""))
            for key, *own, is_linked, is_login, m, mark, ended_at, owner, source in cursor.fetchall()
            for machine in [(m, mark, ended_at)]
        }


def link(principals: QuerySet[Principal]) -> None:
    """Give each principal of the scope the identity it made us know, unless it is somebody's already. One statement."""
    identity = Identity.objects.filter(connection=OuterRef("connection"), external_id=OuterRef("external_id"))
    unlinked = principals.filter(identity=None).annotate(found=Subquery(identity.values("pk")[:1]))
    unlinked.exclude(found=None).update(identity_id=F("found"))


def note_managers(records: Iterable[PrincipalRecord]) -> None:
    """Collect who reports to whom, as the directory says. It is written when all people are there."""
    said = ((one.external_id, one.manager_external_id) for one in records if one.kind == Principal.Kind.IDC_USER)
    staging.add("sync_manager", ((as_rows.plain(person), as_rows.plain(manager)) for person, manager in said))


_MANAGERS = """
    UPDATE inventory_identity i SET manager_id = w.manager_id, manager_source = w.source
    FROM (
        SELECT DISTINCT ON (p.id) p.id, m.id AS manager_id,
               CASE WHEN m.id IS NULL THEN '' ELSE %(directory)s END AS source
        FROM sync_manager s
        JOIN inventory_identity p ON p.connection_id = %(connection)s AND p.external_id = s.person AND p.kind = 'human'
        LEFT JOIN inventory_identity m ON m.connection_id = %(connection)s AND m.external_id = s.manager
             AND m.kind = 'human' AND m.id <> p.id
        ORDER BY p.id, m.id
    ) w
    WHERE i.id = w.id AND (i.manager_id, i.manager_source) IS DISTINCT FROM (w.manager_id, w.source)
      AND i.manager_source IN ('', %(directory)s)
"""


def managers(connection: Connection, changes: Changes) -> None:
    """Write what `note_managers` collected, in one statement. A person who names themselves as manager has none, and
    what a person said about somebody's manager stays."""
    with database.cursor() as cursor:
        cursor.execute(_MANAGERS, {"connection": connection.pk, "directory": IDENTITY_CENTER})
        changes.add(Identity, "changed", cursor.rowcount)


def resource_owners(connection: Connection, changes: Changes) -> None:
    """Who answers for each account: whom its tags name by e-mail, unless a person said who."""
    rows = Resource.objects.filter(connection=connection).values_list("pk", "tags", "owner_id", "owner_source")
    named, now = {}, {}
    for pk, tags, owner, source in rows:
        named[pk], now[pk] = _named_in(tags), (owner, source)
    wanted = dict.fromkeys(named, NOBODY) | _by_email(connection, named)
    point(Resource, "owner", now, wanted, changes)


def machine_owners(
    resource: Resource, records: Iterable[PrincipalRecord], found: Mapping[str, Face], changes: Changes
) -> None:
    """Who answers for each machine of an account, the first that says so: its tags, by e-mail; the account's owner; the
    stack it was made with; who made it. Else nobody."""
    machines = {record.external_id: found[record.external_id] for record in records if record.external_id in found}
    facts = {
        face.machine.pk: record.attributes
        for record in records
        if (face := machines.get(record.external_id)) and face.machine
    }
    now = {face.machine.pk: face.owner for face in machines.values() if face.machine}
    named = {pk: _named_in(said.get("tags")) for pk, said in facts.items()}
    owner = Resource.objects.filter(pk=resource.pk, owner__ended_at=None).values_list("owner_id", flat=True).first()
    wanted: dict[int, Pointing] = dict.fromkeys(now, (owner, ACCOUNT_OWNER) if owner else NOBODY)
    if not owner:
        made = {pk: str(said.get("unique_id") or "") for pk, said in facts.items()}
        wanted |= {pk: (maker, CREATOR) for pk, maker in creators.creators(resource.connection, made).items()}
        wanted |= _by_stack({pk: _stack_of(said.get("tags")) for pk, said in facts.items()})
    point(Identity, "owner", now, wanted | _by_email(resource.connection, named), changes)


def _by_stack(stacks: Mapping[int, str]) -> dict[int, Pointing]:
    """Whom people named for another of these machines that is of the same stack, if that is one person and still here."""
    if not any(stacks.values()):
        return {}
    said: dict[str, set[int]] = {}
    owned = Identity.objects.filter(pk__in=[*stacks], owner__isnull=False, owner__ended_at=None)
    for pk, owner, source in owned.values_list("pk", "owner_id", "owner_source"):
        if owner and not is_derived(source) and stacks.get(pk):
            said.setdefault(stacks[pk], set()).add(owner)
    return {
        pk: (next(iter(said[stack])), as_rows.text(f"{STACK}{stack}", 120))
        for pk, stack in stacks.items()
        if len(said.get(stack, ())) == 1
    }


def _stack_of(tags: object) -> str:
    """What CloudFormation or Terraform wrote about the stack a role was made with; empty where nothing is said."""
    if not isinstance(tags, Mapping):
        return ""
    lowered = {str(key).lower(): as_rows.text(value, 256) for key, value in tags.items()}
    return next((lowered[key.lower()] for key in settings.STACK_TAGS if lowered.get(key.lower())), "")


def _named_in(tags: object) -> list[tuple[str, str]]:
    """(tag key, e-mail) of each owner tag that holds an e-mail address, in their order; keys are compared without case."""
    if not isinstance(tags, Mapping):
        return []
    lowered = {str(key).lower(): str(value) for key, value in tags.items()}
    return [(key, value.strip()) for key in settings.OWNER_TAGS if "@" in (value := lowered.get(key.lower(), ""))]


def _by_email(connection: Connection, named: Mapping[int, Sequence[tuple[str, str]]]) -> dict[int, Pointing]:
    """Whom the first tag of each row names that names exactly one present person. One query."""
    people = by_address(connection, (email for tags in named.values() for _, email in tags))
    found: dict[int, Pointing] = {}
    for row, tags in named.items():
        for key, email in tags:
            if row not in found and (person := people.get(email.upper())):
                found[row] = (person, f"{TAG}{key}")
    return found


def by_address(connection: Connection, addresses: Iterable[str]) -> dict[str, int]:
    """The person whom each address names, by the address in capitals. Two people with one address are nobody: it would
    be a guess. One query."""
    wanted = as_rows.as_json(sorted({address.upper() for address in addresses if address}))
    with database.cursor() as cursor:
        cursor.execute(_BY_ADDRESS, [wanted, connection.pk])
        return dict(cursor.fetchall())


# One look into the index of addresses for each: fenced off (OFFSET 0), since a table that a first sync has just filled
# counts as empty, and all people of the connection would be read for each address.
_BY_ADDRESS = """
    SELECT a.address, p.id
    FROM jsonb_array_elements_text(%s) AS a (address) CROSS JOIN LATERAL (
        SELECT min(i.id) AS id, count(*) AS people
        FROM (SELECT * FROM inventory_identity WHERE upper(email) = a.address OFFSET 0) i
        WHERE i.connection_id = %s AND i.kind = 'human' AND i.ended_at IS NULL
    ) p
    WHERE p.people = 1
"""
