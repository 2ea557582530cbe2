"""How rows are written: all at once, and with what nobody named as saving an object would have it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DataError, transaction
from django.utils import timezone

from apps.connectors.base import AssignmentRecord
from apps.inventory.models import Assignment, Connection, Entitlement, Identity
from apps.inventory.models.access import Privilege
from apps.inventory.sync import people, staging
from apps.inventory.sync.assignments import Difference, stage
from apps.inventory.sync.upserts import Changes, known, one_of, point, upsert
from tests.factories import inventory as make

pytestmark = pytest.mark.django_db

ODD = ["\\N", "a\\tb", 'quoted "twice"', "it's", "back\\\\slash", "snow \u2603 \U0001f600", "%s {0}", "", "NULL", "{}"]


@pytest.fixture
def org(db: None) -> Connection:
    return make.ConnectionFactory()


def values(name: str = "Read", **more: object) -> dict[str, object]:
    attributes = json.dumps(more.pop("attributes", {}))
    return {"kind": "iam_policy", "name": name, "attributes": attributes, "session_for": None, **more}


def record(principal: str, entitlement: str, **attributes: object) -> AssignmentRecord:
    return AssignmentRecord(principal, entitlement, attributes)


def write(org: Connection, rows: dict[str, dict[str, object]], digest: str = "one") -> dict[str, dict[str, int]]:
    changes, before = Changes(), known(Entitlement.objects.filter(connection=org), "external_id")
    marks = dict.fromkeys(rows, digest)
    fixed = {"connection_id": org.pk}
    upsert(Entitlement, before, rows, marks, keys=["external_id"], fixed=fixed, changes=changes)
    return changes.as_json()


def test_any_text_comes_out_as_it_went_in(org):
    write(org, {f"policy {n}": values(text, attributes={"said": text, text: [text]}) for n, text in enumerate(ODD)})
    for n, text in enumerate(ODD):
        row = Entitlement.objects.get(external_id=f"policy {n}")
        assert (row.name, row.attributes) == (text, {"said": text, text: [text]})


def test_every_kind_of_column_can_be_written(org):
    at, account = datetime(2031, 1, 1, 12, 30, 15, 250, tzinfo=UTC), make.ResourceFactory(connection=org)
    facts = {"session_for": timedelta(hours=8, microseconds=5), "can_escalate": True, "resource_id": account.pk}
    rated = {"privilege": Privilege.ADMIN, "privilege_statement": '{"a": 1}', "ended_at": at}
    nothing = dict.fromkeys((*facts, *rated)) | {"can_escalate": False, "privilege": Privilege.NONE}
    write(org, {"full": values(**facts, **rated), "empty": values(**nothing)})
    row, empty = Entitlement.objects.get(external_id="full"), Entitlement.objects.get(external_id="empty")
    assert (row.session_for, row.can_escalate, row.resource, row.ended_at) == (*list(facts.values())[:2], account, at)
    assert (row.privilege, row.privilege_statement) == (Privilege.ADMIN, {"a": 1})
    assert (empty.session_for, empty.resource, empty.ended_at, empty.privilege) == (None, None, None, Privilege.NONE)
    assert Entitlement.objects.filter(privilege_statement__isnull=True).get() == empty  # NULL, and not JSON's null


def test_what_nobody_names_is_as_the_model_says(org):
    before = timezone.now()
    write(org, {"policy": values()})
    row, plain = Entitlement.objects.get(), Entitlement(connection=org, kind="iam_policy", external_id="p", name="Read")
    assert before <= row.first_seen_at <= timezone.now()
    for field in Entitlement._meta.concrete_fields:
        if field.attname not in ("id", "first_seen_at", "external_id", "digest"):
            assert getattr(row, field.attname) == getattr(plain, field.attname), field


def test_what_the_database_fills_itself_is_left_to_it(org):
    row = {"name": "Alice", "kind": "human"}
    fixed = {"connection_id": org.pk}
    upsert(Identity, {}, {"a": row}, {"a": "one"}, keys=["external_id"], fixed=fixed, changes=Changes())
    found = Identity.objects.get()
    assert (found.signs, found.purpose, found.email, found.owner, found.ended_at) == ([], "", "", None, None)


def test_what_is_there_is_changed_and_keeps_what_nobody_named(org):
    make.EntitlementFactory(connection=org, external_id="other", digest="one")
    write(org, {"policy": values()})
    owner, first = make.IdentityFactory(connection=org), Entitlement.objects.get(external_id="policy")
    Entitlement.objects.filter(pk=first.pk).update(owner=owner, description="said by hand")
    rows = {"policy": values("Renamed"), "new": values()}
    assert write(org, rows, "two") == {"entitlement": {"added": 1, "changed": 1}}
    row = Entitlement.objects.get(external_id="policy")
    assert (row.pk, row.name, row.owner, row.description) == (first.pk, "Renamed", owner, "said by hand")
    assert row.first_seen_at == first.first_seen_at
    assert write(org, rows, "two") == {}


def test_an_ended_row_comes_back_as_the_same_row(org):
    write(org, {"policy": values()})
    Entitlement.objects.update(ended_at=timezone.now())
    pk = Entitlement.objects.get().pk
    assert write(org, {"policy": values()}) == {"entitlement": {"changed": 1}}
    row = Entitlement.objects.get()
    assert (row.pk, row.ended_at) == (pk, None)


def test_what_does_not_fit_is_an_error_of_the_database_and_leaves_nothing(org):
    with pytest.raises(DataError), transaction.atomic():
        write(org, {"fits": values(), "does not": values("x" * 300)})
    assert not Entitlement.objects.exists()
    write(org, {"fits": values()})
    assert Entitlement.objects.count() == 1, "what was copied before did not stay beside the table"


def test_two_models_and_two_sets_of_columns_in_one_transaction(org):
    write(org, {"policy": values()})
    write(org, {"other": {"kind": "iam_policy", "name": "Other", "description": "more columns"}})
    assert set(Entitlement.objects.values_list("name", "description")) == {("Read", ""), ("Other", "more columns")}


def test_any_number_of_keys_is_one_parameter(org):
    keys = ["plain", "it's", 'quoted "so"', "snow \u2603"]
    for key in keys:
        make.EntitlementFactory(connection=org, external_id=key)
    make.EntitlementFactory(connection=org, external_id="other")
    assert sorted(one_of(Entitlement.objects.all(), keys).values_list("external_id", flat=True)) == sorted(keys)
    assert not one_of(Entitlement.objects.all(), []).exists()


def test_who_is_pointed_at_changes_only_where_nobody_said_otherwise_meanwhile(org):
    alice, bob = (make.IdentityFactory(connection=org, name=name) for name in ("Alice", "Bob"))
    tagged, said = (make.ResourceFactory(connection=org, name=name) for name in ("tagged", "said"))
    now = {tagged.pk: (None, ""), said.pk: (None, "")}
    said.owner, said.owner_source = bob, "Erin"  # after `now` was read
    said.save()
    changes = Changes()
    staging.begin()
    point(type(said), "owner", now, dict.fromkeys(now, (alice.pk, "tag owner")), changes)
    tagged.refresh_from_db()
    said.refresh_from_db()
    assert (tagged.owner, tagged.owner_source) == (alice, "tag owner")
    assert (said.owner, said.owner_source) == (bob, "Erin")
    assert changes.as_json() == {"resource": {"changed": 1}}


def test_an_address_names_one_person_who_is_here_or_nobody(org):
    alice = make.IdentityFactory(connection=org, email="Alice@example.com")
    for email in ("two@example.com", "TWO@example.com"):
        make.IdentityFactory(connection=org, email=email)
    make.IdentityFactory(connection=org, email="left@example.com", ended_at=timezone.now())
    make.IdentityFactory(email="elsewhere@example.com")
    asked = ["alice@EXAMPLE.com", "two@example.com", "left@example.com", "elsewhere@example.com", "", "\0@\ud800"]
    assert people.by_address(org, asked) == {"ALICE@EXAMPLE.COM": alice.pk}
    assert people.by_address(org, []) == {}


def test_a_scope_begins_with_nothing_that_an_earlier_one_left(org):
    staging.begin()
    staging.add("sync_read", [("somebody", "something", "{}")])
    staging.add("sync_seen", [("principals", "p")])
    staging.begin()
    found = Difference.of(org, Entitlement.objects.filter(connection=org).values("id"))
    assert (found.strangers, found.new, found.missing, found.changed) == (0, 0, 0, 0)
    assert staging.repeated() == {}


def test_the_difference_is_counted_by_what_is_to_be_done(org):
    held = [make.AssignmentFactory(connection=org, attributes={"n": n}) for n in range(3)]
    principal, entitlement = make.PrincipalFactory(connection=org), make.EntitlementFactory(connection=org)
    staging.begin()
    names = [(one.principal.external_id, one.entitlement.external_id) for one in held]
    records = [
        record(*names[0], n=0),  # as it was
        record(*names[1], n=7),  # with another fact
        record(principal.external_id, entitlement.external_id),  # new, and twice
        record(principal.external_id, entitlement.external_id),
        record("nobody", entitlement.external_id),
    ]
    stage(records)
    found = Difference.of(org, Entitlement.objects.filter(connection=org).values("id"))
    assert (found.strangers, found.new, found.missing, found.changed) == (1, 1, 1, 1)
    changes, at = Changes(), timezone.now()
    found.begin(org, at, at, changes)
    assert changes.as_json() == {"assignment": {"added": 1, "changed": 1}}
    assert Assignment.objects.get(pk=held[1].pk).attributes == {"n": 7}
