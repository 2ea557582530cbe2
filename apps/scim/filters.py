"""SCIM filters and orders as SQL. What an index or a column answers is asked there; the rest narrows as far as columns
can, and is judged in Python over a bounded number of rows, or refused (`tooMany`)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import and_, or_
from typing import Any

from django.db.models import Q
from scim2_models import ScimFilter
from scim2_models.path import (
    AttributeBinding,
    CompareOperator,
    Comparison,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
    coerce_value,
)

from apps.scim.documents import key_of
from apps.scim.models import ScimMember

NOTHING = Q(pk__in=[])


@dataclass(frozen=True)
class Narrowed:
    """Rows that can match: exactly those that do, or (not `is_exact`) those and maybe others."""

    q: Q
    is_exact: bool


CANNOT_SAY = Narrowed(Q(), False)
Answer = Callable[[CompareOperator, Any], Narrowed]


def _exact(q: Q) -> Narrowed:
    return Narrowed(q, True)


def _can_be_stored(said: str) -> bool:
    """Whether PostgreSQL has such texts at all: none with a NUL or half a surrogate pair."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in said)


def text(column: str, *, fold: bool) -> Answer:
    """A column that is empty where there is no value. Case counts unless `fold`."""

    def answer(op: CompareOperator, value: Any) -> Narrowed:
        if value is None:
            is_none = Q(**{column: ""})
            return _exact({"eq": is_none, "ne": ~is_none}.get(op.value, NOTHING))
        said = key_of(str(value)) if fold else str(value)
        if not _can_be_stored(said):
            return _exact(~NOTHING if op == CompareOperator.ne else NOTHING)
        if op == CompareOperator.ne:
            return _exact(~Q(**{column: said}))
        lookup = TEXT_LOOKUPS.get(op)
        return _exact(Q(**{f"{column}{lookup}": said}) & ~Q(**{column: ""})) if lookup is not None else CANNOT_SAY

    return answer


TEXT_LOOKUPS = {
    CompareOperator.eq: "",
    CompareOperator.co: "__contains",
    CompareOperator.sw: "__startswith",
    CompareOperator.ew: "__endswith",
}


def identifier(column: str) -> Answer:
    """A SCIM id. Whatever is no UUID is nobody's."""

    def answer(op: CompareOperator, value: Any) -> Narrowed:
        if op not in (CompareOperator.eq, CompareOperator.ne):
            return CANNOT_SAY
        try:
            found = Q(**{column: uuid.UUID(str(value))}) if str(value) == str(uuid.UUID(str(value))) else NOTHING
        except ValueError:
            found = NOTHING
        return _exact(found if op == CompareOperator.eq else ~found)

    return answer


def flag(column: str) -> Answer:
    def answer(op: CompareOperator, value: Any) -> Narrowed:
        if not isinstance(value, bool) or op not in (CompareOperator.eq, CompareOperator.ne):
            return CANNOT_SAY
        return _exact(Q(**{column: value if op == CompareOperator.eq else not value}))

    return answer


def instant(column: str) -> Answer:
    lookups = {"eq": "", "gt": "__gt", "ge": "__gte", "lt": "__lt", "le": "__lte"}

    def answer(op: CompareOperator, value: Any) -> Narrowed:
        if not isinstance(value, datetime) or value.tzinfo is None or op.value not in lookups:
            return CANNOT_SAY
        return _exact(Q(**{f"{column}{lookups[op.value]}": value}))

    return answer


def one_of(column: str) -> Answer:
    """A list of texts, by a whole one of them."""

    def answer(op: CompareOperator, value: Any) -> Narrowed:
        if op != CompareOperator.eq or not isinstance(value, str):
            return CANNOT_SAY
        if not _can_be_stored(value):
            return _exact(NOTHING)
        return _exact(Q(**{f"{column}__contains": [key_of(value)]}))

    return answer


def member(op: CompareOperator, value: Any) -> Narrowed:
    """Groups by somebody who is in them."""
    if op != CompareOperator.eq:
        return CANNOT_SAY
    user, nested = identifier("user__key")(op, value), identifier("nested__key")(op, value)
    return _exact(Q(pk__in=ScimMember.objects.filter(user.q | nested.q).values("group")))


COMMON: Mapping[str, Answer] = {
    "id": identifier("key"),
    "externalid": text("external_id", fold=False),
    "displayname": text("display_name_key", fold=True),
    "meta.created": instant("created_at"),
    "meta.lastmodified": instant("modified_at"),
}
ATTRIBUTES: Mapping[str, Mapping[str, Answer]] = {
    "User": {
        **COMMON,
        "username": text("user_name_key", fold=True),
        "active": flag("active"),
        "emails.value": one_of("email_keys"),
    },
    "Group": {**COMMON, "members.value": member},
}
PRESENT: Mapping[str, Q] = {
    "id": ~NOTHING,
    "username": ~NOTHING,
    "externalid": ~Q(external_id=""),
    "displayname": ~Q(display_name_key=""),
    "emails": ~Q(email_keys=[]),
    "emails.value": ~Q(email_keys=[]),
}
COMMON_ORDERS: Mapping[str, str] = {
    "id": "key",
    "externalid": "external_id",
    "displayname": "display_name_key",
    "meta.created": "created_at",
    "meta.lastmodified": "modified_at",
}
ORDERS: Mapping[str, Mapping[str, str]] = {
    "User": {**COMMON_ORDERS, "username": "user_name_key"},
    "Group": COMMON_ORDERS,
}
CORE = "urn:ietf:params:scim:schemas:core:2.0:"


def name_of(binding: AttributeBinding | None) -> str:
    """The name of a core attribute in small letters, like "meta.created"; empty for those of extensions."""
    urn = binding.urn if binding else ""
    return urn.removeprefix(CORE).partition(":")[2].lower() if urn.startswith(CORE) else ""


def narrow(scim_filter: ScimFilter[Any], resource: str) -> Narrowed:
    """The rows of a resource type ("User", "Group") that a filter can match."""
    return _Narrower(scim_filter, resource).visit(scim_filter.ast)


class _Narrower(FilterVisitor[Narrowed]):
    def __init__(self, scim_filter: ScimFilter[Any], resource: str) -> None:
        self.filter, self.resource = scim_filter, resource

    def visit_comparison(self, node: Comparison) -> Narrowed:
        binding = self.filter.resolve_comparison(node.attr_path, strict=False)
        if binding is None:
            return _exact(NOTHING)  # an attribute that nobody has matches nobody (RFC 7644 §3.4.2.1)
        answer = ATTRIBUTES[self.resource].get(name_of(binding))
        return answer(node.op, coerce_value(binding, node.value, node.op)) if answer else CANNOT_SAY

    def visit_present(self, node: Present) -> Narrowed:
        found = PRESENT.get(name_of(self.filter.resolve(node.attr_path, strict=False)))
        return CANNOT_SAY if found is None else _exact(found)

    def visit_not(self, node: Not) -> Narrowed:
        inner = self.visit(node.expr)
        return _exact(~inner.q) if inner.is_exact else CANNOT_SAY

    def visit_logical_expr(self, node: LogicalExpr) -> Narrowed:
        terms = [self.visit(term) for term in node.terms]
        is_exact = all(term.is_exact for term in terms)
        if node.op == LogicalOperator.and_:
            return Narrowed(reduce(and_, [term.q for term in terms]), is_exact)
        # One side that cannot say anything opens the whole union.
        if any(not term.is_exact and not term.q for term in terms):
            return CANNOT_SAY
        return Narrowed(reduce(or_, [term.q for term in terms]), is_exact)

    def visit_value_path(self, node: ValuePath) -> Narrowed:
        """`emails[type eq "work" and value eq "a@b.c"]`: those with that value, and Python judges the rest."""
        head = name_of(self.filter.resolve(node.attr_path, strict=False))
        inner = node.val_filter
        terms = inner.terms if isinstance(inner, LogicalExpr) and inner.op == LogicalOperator.and_ else (inner,)
        for term in terms:
            answer = ATTRIBUTES[self.resource].get(f"{head}.value")
            if answer and isinstance(term, Comparison) and term.attr_path.attr.lower() == "value":
                found = answer(term.op, term.value)
                return Narrowed(found.q, found.is_exact and len(terms) == 1)
        return CANNOT_SAY
