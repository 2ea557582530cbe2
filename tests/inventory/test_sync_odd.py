"""Bad input: what is odd about what was read neither stops a sync nor is left out in silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.connectors import fake
from apps.connectors.base import AccountRecord, CredentialRecord, EntitlementRecord, PrincipalRecord, Scan
from apps.connectors.errors import Unreachable
from apps.inventory.models import Assignment, Entitlement, Identity, Principal, Resource, ScopeScan
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.oddities import Oddities
from tests.inventory.conftest import PROD, READ, SANDBOX, trust

NOW = datetime(2031, 1, 1, tzinfo=UTC)


# ---- without a database


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("a\0b", "ab"),
        ("\ud800 alone", "? alone"),
        ({"k\0": ["\0", {"x": "\udfff"}]}, {"k": ["", {"x": "?"}]}),
        ("emoji \U0001f600 stay", "emoji \U0001f600 stay"),
        ({"emoji": "\U0001f600"}, {"emoji": "\U0001f600"}),
        ({1: "a number as a name", "b": 2}, {"1": "a number as a name", "b": 2}),
        ({"a": float("nan")}, {"a": "nan"}),
        ({"at": NOW}, {"at": "2031-01-01T00:00:00+00:00"}),
        ({"literal": "\\u0000 as six letters"}, {"literal": "\\u0000 as six letters"}),
        ({"many": {"b", "a"}}, {"many": ["a", "b"]}),
    ],
)
def test_whatever_comes_can_be_stored(value, kept):
    found = as_rows.plain(value)
    if isinstance(found, dict) and "many" in found:
        found["many"].sort()
    assert found == kept
    as_rows.as_json(value).encode()


def test_a_document_that_nests_too_deeply_is_kept_as_one_that_is_none():
    document: dict[str, object] = {}
    for _ in range(100_000):
        document = {"Statement": document}
    record = EntitlementRecord("iam_policy", "p", "p", documents=(fake.DocumentRecord("p", document),))
    assert json.loads(as_rows.facts(record, None, None)["documents"]) == [
        {"name": "p", "document": "Nested too deeply to be kept."},
    ]


def test_names_of_ten_thousand_characters_are_cut_and_counted():
    odd = Oddities()
    records = [PrincipalRecord("iam_user", "u", "n" * 10_000), PrincipalRecord("iam_user", "v", "short")]
    kept = odd.kept(records, Principal, Principal.Kind.values)
    assert len(as_rows.principal(kept[0], None)["name"]) == 256
    assert [*odd.notes()] == ["1 principals have a name of more than 256 characters, which is shown cut."]
    assert not [*odd.problems()]


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u2060", "\ufeff", "\u00ad", "\U000e0041", "\u202e", "\u200f", "\u200d", "\0"]
)
def test_what_does_not_show_makes_no_two_names_look_the_same_and_is_counted(hidden):
    odd = Oddities()
    (kept,) = odd.kept([PrincipalRecord("iam_user", "u", f"Adm{hidden}in")], Principal, Principal.Kind.values)
    assert as_rows.principal(kept, None)["name"] == "Adm in"
    assert [*odd.notes()] == [
        "1 principals have characters in their name that do not show. A space is shown in their place."
    ]
    assert not as_rows.fits(Principal, f"arn{hidden}")


@pytest.mark.parametrize("name", ["نمی\u200cدانم", "क्\u200dष", "\U0001f469\u200d\U0001f4bb", "Zoë Müller", "李小龍"])
def test_joiners_stay_where_a_script_needs_them(name):
    odd = Oddities()
    odd.kept([PrincipalRecord("iam_user", "u", name)], Principal, Principal.Kind.values)
    assert as_rows.text(name, 256) == name
    assert not [*odd.notes()]


def test_the_same_twice_is_said_where_it_is_counted_and_else_proves_that_others_may_be_missing():
    one = PrincipalRecord("iam_user", "u", "one")
    counted, uncounted = Oddities(is_counted=True), Oddities()
    for odd in (counted, uncounted):
        assert odd.kept([one, one], Principal, Principal.Kind.values) == [one]
    assert [*counted.notes()] == ["1 principals were listed twice, the same both times."]
    assert not [*counted.problems()] and not [*uncounted.notes()]
    (problem,) = uncounted.problems()
    assert problem.startswith("1 principals were listed twice, so others may be missing.")


def test_two_with_one_id_make_it_incomplete():
    odd = Oddities(is_counted=True)
    one, other = PrincipalRecord("iam_user", "u", "one"), PrincipalRecord("iam_role", "u", "other")
    assert odd.kept([one, other], Principal, Principal.Kind.values) == [other]
    assert [*odd.problems()] == ["1 principals were listed twice, and not the same both times. The last one was kept."]


def test_secrets_are_told_apart_by_whose_they_are():
    odd = Oddities()
    records = [CredentialRecord(who, "password", "password") for who in ("u", "v")]
    assert len(odd.kept(records, Principal, ("password",))) == 2


def test_clocks_that_differ_are_noticed():
    odd = Oddities()
    late, fine = NOW + timedelta(days=400), NOW + timedelta(minutes=1)
    odd.look_at_dates([PrincipalRecord("iam_user", str(at), "u", created_at=at) for at in (late, fine)], NOW)
    assert [*odd.notes()] == ["1 say that they were made in the future. A clock is wrong, there or here."]


def test_a_digest_does_not_depend_on_the_order_or_the_parts():
    marks = [as_rows.number(f"row {n}") for n in range(20)]
    assert sum(marks) == sum(reversed(marks)) == sum(marks[:7]) + sum(marks[7:])
    assert sum(marks[1:]) != sum(marks)


@pytest.mark.parametrize(
    "document",
    [
        {"Statement": [{"Effect": "Allow", "Condition": {"DateLessThan": {"aws:CurrentTime": "2020-01-01"}}}]},
        '{"Condition": {"DateLessThan": {"aws:\\u0043urrentTime": "2020-01-01"}}}',
        "%7B%22aws%3A%43urrentTime",
    ],
)
def test_what_speaks_of_dates_is_assessed_every_time(document, monkeypatch):
    record = EntitlementRecord("iam_policy", "p", "p", documents=(fake.DocumentRecord("p", document),))
    before = as_rows.mark_of(record, as_rows.facts(record, None, None))
    monkeypatch.setattr(as_rows, "privilege", lambda _: {"privilege": "admin"})
    assert as_rows.mark_of(record, as_rows.facts(record, None, None)) != before


def test_the_same_documents_are_assessed_once_and_those_that_speak_of_dates_again(monkeypatch):
    asked = []
    real = as_rows.privilege_of
    monkeypatch.setattr(as_rows, "privilege_of", lambda *args, **more: asked.append(1) or real(*args, **more))
    plain = (fake.DocumentRecord("p", {**READ, "Id": "once"}),)
    dated = (fake.DocumentRecord("p", {**READ, "Id": "aws:CurrentTime"}),)
    for documents, times in ((plain, 1), (dated, 3)):
        records = [EntitlementRecord("iam_policy", f"p{n}", "p", documents=documents) for n in range(3)]
        assert [as_rows.privilege(record)["privilege"] for record in records] == ["read"] * 3
        assert (len(asked), asked.clear()) == (times, None)
    edge = [EntitlementRecord("iam_policy", "p", "p", documents=plain, boundary=b) for b in (dated[0], None)]
    assert [as_rows.privilege(record)["privilege"] for record in edge] == ["read"] * 2
    assert len(asked) == 1


def test_what_was_assessed_by_another_version_is_assessed_again(monkeypatch):
    record = EntitlementRecord("iam_policy", "p", "p", documents=(fake.DocumentRecord("p", READ),))
    before = as_rows.mark_of(record, as_rows.facts(record, None, None))
    assert as_rows.mark_of(record, as_rows.facts(record, None, None)) == before
    monkeypatch.setattr(as_rows, "version", lambda: "another")
    assert as_rows.mark_of(record, as_rows.facts(record, None, None)) != before


# ---- whole runs


def test_an_organization_full_of_oddities_is_read_and_each_is_said(read, world, monkeypatch):
    """Everything at once, in one run: nothing fails, nothing is lost, and the page of the run says all of it."""
    world.add_user("late", created_at=timezone.now() + timedelta(days=1), display_name="x" * 10_000)
    world.add_permission_set("Broken", PROD, "{not json")
    world.add_principal(
        "iam_user", "tagged", account_id=PROD, attributes={"tags": {"k\0": "v\ud800\u202e", "n": float("inf")}}
    )
    account = fake.FakeConnector.scan_account

    def with_a_key_of_nobody(self, *args):
        scan = account(self, *args)
        scan.credentials.append(CredentialRecord("nobody", "access_key", "AKIA1"))
        return scan

    monkeypatch.setattr(fake.FakeConnector, "scan_account", with_a_key_of_nobody)
    accounts = fake.FakeConnector.accounts

    def listed(self, *args):
        found = accounts(self, *args)
        return [*found, found[0], AccountRecord("9" * 100, "too long")]

    monkeypatch.setattr(fake.FakeConnector, "accounts", listed)
    directory = fake.FakeConnector.scan_directory

    def in_odd_parts(self, accounts, progress):
        first, *others = directory(self, accounts, progress)
        return [first, Scan(principals=first.principals[:1]), Scan(), *others, others[0]]

    monkeypatch.setattr(fake.FakeConnector, "scan_directory", in_odd_parts)
    run = read()
    scan = run.scopes.get(resource=None)
    twice, too_long, *repeated = scan.problems
    assert too_long == "too long has an account id that Gatehouse cannot store. It was not read."
    assert "was listed twice, so another one may be missing." in twice
    assert all("were listed twice, so others may be missing." in one for one in repeated) and len(repeated) == 3
    assert run.state == "incomplete"
    said = " ".join(scan.notes)
    for words in (
        "cannot be read, so it counts as unknown: Broken.",
        "made in the future",
    ):
        assert words in said
    assert run.scopes.exclude(state=ScopeScan.State.COMPLETE).count() == 1
    (of_prod,) = run.scopes.get(resource__external_id=PROD).notes
    assert of_prod == "1 credentials belong to somebody who is not listed (any more). They are not shown."
    assert Resource.objects.count() == 2
    assert Principal.objects.get(external_id="tagged").attributes["tags"] == {"k": "v?\u202e", "n": "inf"}
    assert Assignment.objects.open().count() == 5
    assert len(Identity.objects.get(external_id="late").name) == 256


def test_a_directory_that_breaks_off_in_the_middle_ends_nothing_and_what_came_is_kept(read, world, monkeypatch):
    read()
    directory = fake.FakeConnector.scan_directory
    world.unassign("bob", f"Read@{PROD}")
    world.add_user("newcomer")

    def breaks_off(self, accounts, progress):
        yield directory(self, accounts, progress)[0]
        raise Unreachable("AWS does not answer.")

    monkeypatch.setattr(fake.FakeConnector, "scan_directory", breaks_off)
    run = read()
    scan = run.scopes.get(resource=None)
    assert (run.state, scan.state, scan.problems) == ("incomplete", "failed", ["AWS does not answer."])
    assert Assignment.objects.open().filter(principal__external_id="bob").exists()
    assert Entitlement.objects.get(external_id=f"Read@{PROD}").ended_at is None
    assert Principal.objects.filter(external_id="newcomer").exists()
    assert run.changes["principal"] == {"added": 1}


def test_pages_of_the_directory_that_shift_end_nobody(read, world, monkeypatch):
    """Between two pages one person was made and another one deleted: Alice is shown twice, and Bob not at all."""
    read()
    directory = fake.FakeConnector.scan_directory

    def shifts(self, accounts, progress):
        whole = list(directory(self, accounts, progress))
        for part in whole:
            part.principals = [one for one in part.principals if one.external_id != "bob"]
            part.assignments = [one for one in part.assignments if one.principal_external_id != "bob"]
        alice = [one for part in whole for one in part.principals if one.external_id == "alice"]
        return [*whole, Scan(principals=alice)]

    with monkeypatch.context() as patch:
        patch.setattr(fake.FakeConnector, "scan_directory", shifts)
        run = read()
    assert run.state == "incomplete"
    assert "1 principals were listed twice, so others may be missing." in " ".join(
        run.scopes.get(resource=None).problems
    )
    assert Identity.objects.get(external_id="bob").ended_at is None
    assert Assignment.objects.open().filter(principal__external_id="bob").exists()
    assert read().state == "complete"


def test_a_list_of_accounts_that_shifts_ends_no_account_and_makes_it_no_stranger(read, world, monkeypatch):
    world.add_principal("iam_role", "ours", account_id=PROD, attributes=trust(AWS=f"arn:aws:iam::{SANDBOX}:root"))
    read()
    accounts = fake.FakeConnector.accounts

    def shifts(self, *args):
        prod = next(one for one in accounts(self, *args) if one.external_id == PROD)
        return [prod, prod]

    with monkeypatch.context() as patch:
        patch.setattr(fake.FakeConnector, "accounts", shifts)
        run = read()
    assert run.state == "incomplete"
    assert not Resource.objects.exclude(ended_at=None).exists()
    assert Identity.objects.get(external_id="ours").classification == "cross_account"
    assert read().state == "complete"


def test_a_part_that_cannot_be_written_leaves_the_earlier_ones_and_ends_nothing(read, world, monkeypatch):
    read()
    world.unassign("bob", f"Read@{PROD}")
    original = as_rows.facts

    def fail(record, *args):
        if record.external_id == f"Read@{PROD}":
            raise RuntimeError("a bug in writing")
        return original(record, *args)

    monkeypatch.setattr(as_rows, "facts", fail)
    world.add_user("newcomer")
    run = read()
    scan = run.scopes.get(resource=None)
    assert scan.state == "failed" and "RuntimeError" in scan.problems[0]
    assert Principal.objects.filter(external_id="newcomer").exists()
    assert Assignment.objects.open().filter(principal__external_id="bob").exists()
    assert run.scopes.get(resource__external_id=PROD).state == "complete"


def test_policies_that_did_not_change_are_not_assessed_again(read, world, monkeypatch):
    read()
    assessed = []
    monkeypatch.setattr(as_rows, "privilege", lambda record: assessed.append(record.name))
    assert read().changes == {}
    assert assessed == []
