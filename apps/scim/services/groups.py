"""Groups as identity providers say them. They are text here: nobody gets anything by being in one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from scim2_models import InvalidValueException, NotFoundException, PreconditionFailedException, UniquenessException

from apps.audit import services as audit
from apps.scim.models import ScimGroup, ScimMember, ScimUser, Source
from apps.scim.services.sources import actor_of

Values = Mapping[str, Any]
Members = Mapping[str, str]  # SCIM id → what the group calls it; empty: by its own name
Key = tuple[int | None, int | None]  # a user's row, or a group's
BATCH = 2_000


@transaction.atomic
def create(source: Source, values: Values, members: Members, *, token: str) -> ScimGroup:
    row = ScimGroup(source=source, **values)
    _save(row)
    _record("scim.group.created", row, token, _set_members(row, members))
    return row


@transaction.atomic
def update(
    source: Source,
    key: uuid.UUID,
    values: Values,
    members: Members,
    *,
    expected_version: int | None,
    token: str,
) -> ScimGroup:
    row = _locked(source, key, expected_version)
    for name, value in values.items():
        setattr(row, name, value)
    row.version, row.modified_at = row.version + 1, timezone.now()
    _save(row)
    _record("scim.group.updated", row, token, _set_members(row, members))
    return row


@transaction.atomic
def delete(source: Source, key: uuid.UUID, *, expected_version: int | None, token: str) -> None:
    row = _locked(source, key, expected_version)
    _record("scim.group.deleted", row, token, {"members": row.memberships.count()})
    row.delete()


def _set_members(row: ScimGroup, members: Members) -> dict[str, int]:
    """Let exactly these be in it; returns how many came and went. Ids that are nobody's here are refused."""
    wanted = _resolved(row.source, members)
    if (None, row.pk) in wanted:
        raise InvalidValueException(detail="A group cannot be in itself")
    now = {(one.user_id, one.nested_id): one for one in row.memberships.all().iterator()}
    new = [
        ScimMember(group=row, user_id=key[0], nested_id=key[1], display=display)
        for key, display in wanted.items()
        if key not in now
    ]
    gone = [one.pk for key, one in now.items() if key not in wanted]
    renamed = [one for key, one in now.items() if wanted.get(key, one.display) not in ("", one.display)]
    for one in renamed:
        one.display = wanted[one.user_id, one.nested_id]
    if gone:
        ScimMember.objects.filter(pk__in=gone).delete()
    ScimMember.objects.bulk_create(new, batch_size=BATCH)
    ScimMember.objects.bulk_update(renamed, ["display"], batch_size=BATCH)
    return {"members": len(wanted), "added": len(new), "removed": len(gone)}


def _resolved(source: Source, members: Members) -> dict[Key, str]:
    if not members:
        return {}
    named: dict[uuid.UUID, str] = {}
    for said, display in members.items():
        try:
            named[uuid.UUID(said)] = display
        except ValueError:
            raise InvalidValueException(detail=f"There is no member {said[:100]!r}") from None
    users = dict(ScimUser.objects.filter(source=source, key__in=named).values_list("key", "pk"))
    rest = named.keys() - users.keys()
    groups = dict(ScimGroup.objects.filter(source=source, key__in=rest).values_list("key", "pk")) if rest else {}
    unknown = rest - groups.keys()
    if unknown:
        raise InvalidValueException(detail=f"There is no member {min(map(str, unknown))!r}")
    return {(pk, None): named[key] for key, pk in users.items()} | {
        (None, pk): named[key] for key, pk in groups.items()
    }


def _locked(source: Source, key: uuid.UUID, expected_version: int | None) -> ScimGroup:
    rows = ScimGroup.objects.select_for_update(of=("self",)).select_related("source")
    row = rows.filter(source=source, key=key).first()
    if row is None:
        raise NotFoundException(detail="There is no such group")
    if expected_version is not None and row.version != expected_version:
        raise PreconditionFailedException
    return row


def _save(row: ScimGroup) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise UniquenessException(detail="Another group has this externalId") from None


def _record(name: str, row: ScimGroup, token: str, counts: Mapping[str, int]) -> None:
    data = {"display_name": row.display_name, "external_id": row.external_id, "token": token, **counts}
    audit.record(name, by=actor_of(row.source), subject=row, about=[row.source], data=data)
