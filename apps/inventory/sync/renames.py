"""IAM users that were renamed: in AWS the unique id stays and the ARN is another one, so a reading sees one user go and
another come. What people said was about the user and not about its name.

Nobody can rename a role, and groups are read without their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connection as database

from apps.audit import services as audit
from apps.inventory.models import Correction, Identity, Resource
from apps.inventory.sync import correlation
from apps.inventory.sync.upserts import Changes, is_derived, yields
from apps.inventory.sync.writing import Outcome, Scope

# What people say about a machine, and the columns that hold it. An owner that sync worked out, it works out again.
SAID = {
    "owner": ("owner_id", "owner_source"),
    "successor": ("successor_id", "successor_source"),
    "purpose": ("purpose",),
    "consumers": ("consumers",),
}

# One look into the index of unique ids for each IAM user of the account: fenced off (OFFSET 0), since during a first sync
# the planner knows nothing yet, and would read all IAM users there are. The name that ended last comes last. Followed once:
# when the old name ends or the new one comes, or what is taken back later would come back from the old name.
_RENAMED = """
    SELECT new.id, old.id, was.ended_at IS NOT NULL
    FROM inventory_principal was
    CROSS JOIN LATERAL (
        SELECT id, kind, resource_id, ended_at, connection_id, external_id FROM inventory_principal
        WHERE connection_id = was.connection_id AND (attributes ->> 'unique_id') = (was.attributes ->> 'unique_id') OFFSET 0
    ) now
    LEFT JOIN inventory_identity new ON new.connection_id = now.connection_id AND new.external_id = now.external_id
    LEFT JOIN inventory_identity old ON old.connection_id = was.connection_id AND old.external_id = was.external_id
    WHERE was.resource_id = %(resource)s AND was.kind = 'iam_user' AND (was.attributes ->> 'unique_id') <> ''
      AND now.id <> was.id AND now.kind = was.kind AND now.resource_id = was.resource_id AND now.ended_at IS NULL
      AND (now.external_id = ANY(%(news)s) OR was.ended_at IS NOT NULL AND was.external_id = ANY(%(news)s))
    ORDER BY was.ended_at, was.id
"""


def settle(scope: Scope, outcome: Outcome, *, by: Any) -> None:
    """Let what people said follow an account's IAM users to their new names, and ask anew where an old name is somebody
    else's. Inside the transaction that wrote the account. Nothing is looked for where no principal came or went."""
    is_renamed = scope.resource is not None and bool(outcome.news) and _follow(scope.resource, outcome, by)
    if outcome.has_reborn or is_renamed:
        correlation.correlate(scope.connection, by=by, with_rules=False)


def _follow(resource: Resource, outcome: Outcome, by: Any) -> bool:
    """Whether any IAM user of the account got another name just now. What was said about a machine whose name ended is
    moved to the present one, with an event each."""
    with database.cursor() as cursor:
        cursor.execute(_RENAMED, {"resource": resource.pk, "news": sorted(outcome.news)})
        rows = cursor.fetchall()
    if old_of := {now: was for now, was, has_ended in rows if has_ended}:
        _move(old_of, outcome.changes, by)
    return bool(rows)


def _move(old_of: Mapping[int, int], changes: Changes, by: Any) -> None:
    pks = {*old_of.keys(), *old_of.values()}
    locked = Identity.objects.machine().select_for_update(no_key=True).filter(pk__in=pks).order_by("pk")
    machines = {one.pk: one for one in locked}
    corrections = {one.identity_id: one for one in Correction.objects.select_for_update().filter(identity__in=pks)}
    described, corrected, events = list[Identity](), list[Correction](), []
    for new, old in ((machines.get(now), machines.get(was)) for now, was in old_of.items()):
        if new is None or old is None:
            continue
        moved = [what for what in SAID if _take(new, old, what)]
        described += [new, old] if moved else []
        if old.pk in corrections and new.pk not in corrections:
            corrections[new.pk] = corrections.pop(old.pk)
            corrections[new.pk].identity = new
            corrected.append(corrections[new.pk])
            moved.append("correction")
        if moved:
            data = {"from": old.external_id, "to": new.external_id, "kept": moved}
            events.append(audit.event("inventory.identity.renamed", by=by, subject=new, about=[old], data=data))
    fields = [column.removesuffix("_id") for columns in SAID.values() for column in columns]
    Identity.objects.bulk_update(described, fields, batch_size=500)
    Correction.objects.bulk_update(corrected, ["identity"], batch_size=500)
    audit.record_all(events)
    changes.add(Identity, "changed", len(described))


def _take(new: Identity, old: Identity, what: str) -> bool:
    """Move what a person said, where there is nothing that a person said."""
    is_free = is_derived(new.owner_source) if what == "owner" else not getattr(new, SAID[what][0])
    is_said = not yields(old.owner_source, new.owner_source) if what == "owner" else getattr(old, SAID[what][0])
    if not is_free or not is_said:
        return False
    blank = Identity()
    for column in SAID[what]:
        setattr(new, column, getattr(old, column))
        setattr(old, column, getattr(blank, column))
    return True
