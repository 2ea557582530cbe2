"""The storage behind scim2-server: one identity provider's users and groups, read with SQL and changed by the services."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, cast

from django.db import transaction
from django.db.models import QuerySet
from scim2_models import (
    NotFoundException,
    NotImplementedException,
    PreconditionFailedException,
    Resource,
    ResourceType,
    ResponseParameters,
    SearchRequest,
    TooManyException,
)
from scim2_server.storage import ScimStorage, SearchPage

from apps.scim import documents, filters
from apps.scim.models import ScimGroup, ScimUser, Token
from apps.scim.protocol import MOST_RESULTS, USER
from apps.scim.services import groups, people

MEMBERSHIP = {"members", "groups"}
BEYOND = 2**31  # no table is as long; PostgreSQL counts no further than 2**63
MOST_JUDGED = 1_000  # rows that a filter or an order without a column is worked out over, in Python


class Storage(ScimStorage):
    """What one token may see and say: the users and groups of its identity provider, and nobody else's. Unless it
    `only_reads`, what it gets stays as it is until the operation ends: of two changes at once the second begins with what
    the first made."""

    def __init__(self, token: Token, *, only_reads: bool = False) -> None:
        self.source, self.token, self.only_reads = token.source, token.prefix, only_reads

    def operation(self) -> AbstractContextManager[None]:
        return cast("AbstractContextManager[None]", transaction.atomic())

    def get(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        response_parameters: ResponseParameters[Any] | None = None,
    ) -> Resource[Any]:
        rows = self.rows(resource_type).filter(key=_key(resource_id))
        if not self.only_reads:
            if resource_type.name == USER:
                people.hold(self.source)
            rows = rows.select_for_update(of=("self",))
        row = rows.first()
        if row is None:
            raise NotFoundException(detail=f"There is no such {resource_type.name}")
        return self.shown(resource_type, [row], with_members=_wants_members(response_parameters))[0]

    def search(
        self, resource_types: list[ResourceType], search_request: SearchRequest[Any], *, position: Any = None
    ) -> SearchPage:
        assert position is None  # cursors are not offered
        if len(resource_types) != 1:
            raise NotImplementedException(detail="Search /Users or /Groups")
        return _Search(self, resource_types[0], search_request).page()

    def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        row: Any
        if resource_type.name == USER:
            row = people.create(self.source, documents.user_values(resource), token=self.token)
        else:
            values, members = documents.group_values(resource), documents.members_of(resource)
            row = groups.create(self.source, values, members, token=self.token)
        return self.shown(resource_type, [row])[0]

    def update(
        self, resource_type: ResourceType, resource: Resource[Any], *, expected_version: str | None = None
    ) -> Resource[Any]:
        key, version = _key(resource.id), _version(expected_version)
        row: Any
        if resource_type.name == USER:
            values = documents.user_values(resource)
            row = people.update(self.source, key, values, expected_version=version, token=self.token)
        else:
            values, members = documents.group_values(resource), documents.members_of(resource)
            row = groups.update(self.source, key, values, members, expected_version=version, token=self.token)
        return self.shown(resource_type, [row])[0]

    def delete(self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None) -> None:
        verbs = people if resource_type.name == USER else groups
        verbs.delete(self.source, _key(resource_id), expected_version=_version(expected_version), token=self.token)

    def rows(self, resource_type: ResourceType) -> QuerySet[Any]:
        model = ScimUser if resource_type.name == USER else ScimGroup
        return model._default_manager.filter(source=self.source)

    def shown(self, resource_type: ResourceType, rows: list[Any], *, with_members: bool = True) -> list[Resource[Any]]:
        if resource_type.name == USER:
            return documents.users(rows, with_groups=with_members)
        return documents.groups(rows, with_members=with_members)


class _Search:
    """One search: which rows, in which order, which page of them."""

    def __init__(self, storage: Storage, resource_type: ResourceType, request: SearchRequest[Any]) -> None:
        self.storage, self.resource_type, self.request = storage, resource_type, request
        self.name = str(resource_type.name)
        self.start = min(request.start_index_0 or 0, BEYOND)
        self.count = MOST_RESULTS if request.count is None else request.count

    def page(self) -> SearchPage:
        rows = self.storage.rows(self.resource_type)
        is_exact = True
        if self.request.filter is not None:
            narrowed = filters.narrow(self.request.filter, self.name)
            rows, is_exact = rows.filter(narrowed.q), narrowed.is_exact
        column = self.column()
        if is_exact and column is not None:
            return self.by_sql(rows, column)
        return self.by_judging(rows)

    def column(self) -> str | None:
        """The column that orders the rows; None where none does."""
        if self.request.sort_by is None:
            return "pk"
        return filters.ORDERS[self.name].get(filters.name_of(self.request.sort_by.resolve()))

    def by_sql(self, rows: QuerySet[Any], column: str) -> SearchPage:
        """The keys of the page come from an index; only its rows are read."""
        is_descending = self.request.sort_order == SearchRequest.SortOrder.descending
        sign = "-" if is_descending and self.request.sort_by is not None else ""
        total = rows.count()
        pks = list(rows.order_by(f"{sign}{column}", f"{sign}pk").values_list("pk", flat=True)[self.start : self.stop])
        found = self.storage.rows(self.resource_type).in_bulk(pks)
        return SearchPage(total, self.shown([found[pk] for pk in pks if pk in found]))

    def by_judging(self, rows: QuerySet[Any]) -> SearchPage:
        """Few enough rows to look at each of them; else the client is told to ask for less."""
        candidates = list(rows.order_by("pk")[: MOST_JUDGED + 1])
        if len(candidates) > MOST_JUDGED:
            detail = (
                f"More than {MOST_JUDGED:,} resources would have to be looked at. Filter by userName or externalId too"
            )
            raise TooManyException(detail=detail)
        found = self.shown(candidates)
        if self.request.filter is not None:
            found = [resource for resource in found if self.request.filter.match(resource)]
        if self.request.sort_by is not None:
            found.sort(key=self.sort_key, reverse=self.request.sort_order == SearchRequest.SortOrder.descending)
        return SearchPage(len(found), found[self.start : self.stop])

    def sort_key(self, resource: Resource[Any]) -> tuple[bool, Any, str]:
        value = self.request.sort_value(resource)
        return value is None, "" if value is None else value, str(resource.id)

    def shown(self, rows: list[Any]) -> list[Resource[Any]]:
        return self.storage.shown(self.resource_type, rows, with_members=_wants_members(self.request))

    @property
    def stop(self) -> int:
        return self.start + self.count


def _wants_members(parameters: ResponseParameters[Any] | None) -> bool:
    """Whether an answer shows who is in a group. Large groups are asked for without, to rename them."""
    if parameters is None:
        return True
    asked, left_out = _heads(parameters.attributes), _heads(parameters.excluded_attributes)
    return bool(MEMBERSHIP & asked) if asked else not MEMBERSHIP & left_out


def _heads(paths: Iterable[Any] | None) -> set[str]:
    """The attributes that paths begin with, without their schema."""
    return {str(path).rpartition(":")[2].partition(".")[0].lower() for path in paths or ()}


def _key(said: str | None) -> uuid.UUID:
    """A SCIM id as we write them. Another spelling of one is another id."""
    try:
        key = uuid.UUID(said or "")
    except ValueError:
        key = uuid.UUID(int=0)
    if str(key) != said:
        raise NotFoundException(detail="There is no such resource")
    return key


def _version(said: str | None) -> int | None:
    """The number in an entity tag of ours."""
    if said is None:
        return None
    number = said.removeprefix('W/"').removesuffix('"')
    if not number.isdecimal():
        raise PreconditionFailedException
    return int(number)
