"""IAM users that were renamed: in AWS the unique id stays and the ARN is another one, so a reading sees one user go and
another come. What people said was about the user and not about its name.

Nobody can rename a role, and groups are read without their ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy as copy_of
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
# the planner knows nothing yet, and would read all IAM users there are. The name that ended last comes last, after it one
# that is somebody else's since this reading. Followed once: when the old name ends or the new one comes, or what is taken
# back later would come back from the old name.
_RENAMED = """
    SELECT new.id, old.id, was.ended_at IS NOT NULL
    FROM (
        SELECT attributes ->> 'unique_id' AS unique_id, external_id, ended_at, id FROM inventory_principal
        WHERE resource_id = %(resource)s AND kind = 'iam_user'
        UNION ALL
        SELECT taken.*, 'infinity', 0 FROM unnest(%(ids)s::text[], %(names)s::text[]) taken
    ) was
    CROSS JOIN LATERAL (
        SELECT kind, resource_id, ended_at, external_id FROM inventory_principal
        WHERE connection_id = %(connection)s AND (attributes ->> 'unique_id') = was.unique_id OFFSET 0
    ) now
    LEFT JOIN inventory_identity new ON new.connection_id = %(connection)s AND new.external_id = now.external_id
    LEFT JOIN inventory_identity old ON old.connection_id = %(connection)s AND old.external_id = was.external_id
    WHERE was.unique_id <> '' AND now.external_id <> was.external_id
      AND now.kind = 'iam_user' AND now.resource_id = %(resource)s AND now.ended_at IS NULL
      AND (now.external_id = ANY(%(news)s) OR was.ended_at IS NOT NULL AND was.external_id = ANY(%(news)s))
    ORDER BY was.ended_at, was.id
"""


def settle(scope: Scope, outcome: Outcome, *, by: Any) -> None:
    """Let what people said follow an account's IAM users to their new names, and ask anew where an old name is somebody
    else's. Inside the transaction that wrote the account. Nothing is looked for where no principal came or went."""
    news = {*outcome.news, *outcome.reborn.values()}
    is_renamed = scope.resource is not None and bool(news) and _follow(scope.resource, outcome, news, by)
    if outcome.reborn or is_renamed:
        correlation.correlate(scope.connection, by=by, with_rules=False)


def _follow(resource: Resource, outcome: Outcome, news: Collection[str], by: Any) -> bool:
    """Whether any IAM user of the account got another name just now. What was said about a machine whose name ended, or
    is somebody else's now, is moved to the present one, with an event each. Who was deleted and made again has no other
    name: what was said stays with the name."""
    asked: dict[str, Any] = {"resource": resource.pk, "connection": resource.connection_id, "news": sorted(news)}
    asked |= {"ids": [*outcome.reborn], "names": [*outcome.reborn.values()]}
    with database.cursor() as cursor:
        cursor.execute(_RENAMED, asked)
        rows = cursor.fetchall()
    old_of = {now: was for now, was, has_ended in rows if has_ended}
    if new_of := {was: now for now, was in old_of.items() if now and was}:
        _move(new_of, {*outcome.reborn.values()}, outcome.changes, by)
    return bool(rows)


def _move(new_of: Mapping[int, int], strangers: Collection[str], changes: Changes, by: Any) -> None:
    """Give what was said under each old name to the new one, all at once, since two users may have swapped names. Names
    that are `strangers` now keep nothing of it, and what is said of one there gives way."""
    pks = {*new_of.keys(), *new_of.values()}
    locked = Identity.objects.machine().select_for_update(no_key=True).filter(pk__in=pks).order_by("pk")
    machines = {one.pk: one for one in locked}
    corrections = {one.identity_id: one for one in Correction.objects.select_for_update().filter(identity__in=pks)}
    before = {pk: _said(one, corrections.get(pk)) for pk, one in machines.items()}
    left = {pk for pk in machines.keys() & new_of.keys() if machines[pk].external_id in strangers}
    said = {pk: {} if pk in left else dict(about) for pk, about in before.items()}
    events = []
    for old, new in ((machines.get(was), machines.get(now)) for was, now in new_of.items()):
        if new is None or old is None:
            continue
        free = before[old.pk].keys() - (() if new.external_id in strangers else said[new.pk].keys())
        if "owner" in free and yields(old.owner_source, new.owner_source):
            free.remove("owner")
        if moved := [what for what in before[old.pk] if what in free]:
            said[new.pk] |= {what: before[old.pk][what] for what in moved}
            if old.pk not in left:
                said[old.pk] = {what: value for what, value in said[old.pk].items() if what not in free}
            data = {"from": old.external_id, "to": new.external_id, "kept": moved}
            events.append(audit.event("inventory.identity.renamed", by=by, subject=new, about=[old], data=data))
    _write([machines[pk] for pk in machines if said[pk] != before[pk]], before, said, changes)
    audit.record_all(events)


def _said(one: Identity, correction: Correction | None) -> dict[str, Any]:
    """What people said about a machine: the values of the columns of `SAID`, and the correction."""
    found = {what: [getattr(one, column) for column in columns] for what, columns in SAID.items()}
    is_said = {what: bool(values[0]) for what, values in found.items()} | {"owner": not is_derived(one.owner_source)}
    about: dict[str, Any] = {what: values for what, values in found.items() if is_said[what]}
    return about | {"correction": correction} if correction else about


def _write(
    changed: Sequence[Identity],
    before: Mapping[int, Mapping[str, Any]],
    said: Mapping[int, Mapping[str, Any]],
    changes: Changes,
) -> None:
    blank, lost, kept = Identity(), list[int](), list[Correction]()
    for one in changed:
        was, now = before[one.pk], said[one.pk]
        for what in SAID.keys() & (was.keys() | now.keys()):
            for column, value in zip(SAID[what], now.get(what) or [getattr(blank, c) for c in SAID[what]], strict=True):
                setattr(one, column, value)
        if was.get("correction") != now.get("correction"):
            lost += [was["correction"].pk] if "correction" in was else []
            kept += [_copied(now["correction"], one)] if "correction" in now else []
    fields = [column.removesuffix("_id") for columns in SAID.values() for column in columns]
    Identity.objects.bulk_update(changed, fields, batch_size=500)
    Correction.objects.filter(pk__in=lost).delete()
    Correction.objects.bulk_create(kept)
    changes.add(Identity, "changed", len(changed))


def _copied(correction: Correction, to: Identity) -> Correction:
    """A row of its own: two that swap places could not both be there for a moment."""
    copy = copy_of(correction)
    copy.pk, copy.identity = None, to
    return copy
