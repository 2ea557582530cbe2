"""The people team's file: what would change is shown first, exactly that is applied, and an exodus needs two people."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.inventory import periodic
from apps.inventory.models import Connection, Departure, HrFile, Identity
from apps.inventory.services import NotPossible, OrgChartError, hr_files, import_org_chart
from apps.inventory.services.said import Said, take_said
from tests.factories import inventory as make
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db
YESTERDAY = (timezone.now() - timedelta(days=1)).date().isoformat()
TOMORROW = (timezone.now() + timedelta(days=1)).date().isoformat()


@pytest.fixture
def erin(db: None) -> Any:
    return UserFactory(name="Erin", administrator=True)


@pytest.fixture
def people(org: Connection) -> dict[str, Identity]:
    return {
        name: make.IdentityFactory(connection=org, external_id=name, email=f"{name}@example.com")
        for name in ("alice", "bob", "carol", *(f"p{n}" for n in range(7)))
    }


def csv(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def look(org: Connection, erin: Any, *lines: str, name: str = "hr.csv") -> HrFile:
    return hr_files.look_at(org, [csv(*lines)], name=name, by=erin)


def again(identity: Identity) -> Identity:
    return Identity.objects.get(pk=identity.pk)


def test_a_look_changes_nothing_and_applying_does_exactly_what_was_shown(org, people, erin):
    lines = (
        "Email,Manager,Department,Title,Last day,Cost centre",
        f"alice@example.com,carol@example.com,Treasury,Lead,{YESTERDAY},7",
        "bob@example.com,,Payments,Engineer,,8",
        "new@example.com,,Payments,Engineer,,9",
    )
    file = look(org, erin, *lines)
    assert again(people["alice"]).department == "Payments"
    assert file.digest == hashlib.sha256(csv(*lines)).hexdigest()
    assert file.ignored == ["cost centre"]
    assert file.joiners == ["Line 4: new@example.com is not in the directory."]
    assert {name: file.counts[name] for name in ("movers", "leavers", "unknown", "confirmed", "not_in_file")} == {
        "movers": 1,
        "leavers": 1,
        "unknown": 1,
        "confirmed": 1,
        "not_in_file": 8,
    }
    hr_files.apply(file, by=erin)
    alice = again(people["alice"])
    assert (alice.department, alice.title, alice.manager) == ("Treasury", "Lead", people["carol"])
    assert (alice.manager_source, bool(alice.ended_at)) == ("CSV hr.csv", True)
    assert again(people["carol"]).ended_at is None  # not in the file is not gone
    event = AuditEvent.objects.get(event="inventory.connection.org_chart_imported")
    assert (event.data["digest"], event.data["ended"]) == (file.digest, [alice.pk])
    with pytest.raises(NotPossible, match="already"):
        hr_files.apply(file, by=erin)


def test_a_look_asks_as_little_about_many_people_as_about_one(org, people, erin, django_assert_num_queries):
    with CaptureQueriesContext(connection) as one:
        look(org, erin, "email,title", "alice@example.com,Lead")
    with django_assert_num_queries(len(one)):
        look(org, erin, "email,title", *(f"{name}@example.com,Head" for name in people))


def test_what_was_shown_does_not_hold_for_an_inventory_that_moved_on(org, people, erin):
    file = look(org, erin, "email,title", "alice@example.com,Lead")
    Identity.objects.filter(external_id="bob").update(title="Other")
    Identity.objects.filter(external_id="alice").update(department="Elsewhere")
    with pytest.raises(NotPossible, match="changed since"):
        hr_files.apply(file, by=erin)
    assert again(people["alice"]).title == "Engineer"


def said_by_hr(org: Connection, *lines: str) -> None:
    import_org_chart(org, [f"{line}\n" for line in lines], by=audit.CLOCK, source="later.csv")


def said_by_scim(org: Connection, *said: Said) -> None:
    take_said(org, said, source=Departure.Source.SCIM, said_by="Okta", by=audit.CLOCK)


@pytest.mark.parametrize("source", ["hr", "scim"])
def test_a_last_day_or_a_leaving_since_the_look_is_not_overwritten(org, people, erin, source):
    alice = people["alice"]
    file = look(org, erin, "email,title,last day", "alice@example.com,Lead,2099-01-01")
    if source == "hr":
        said_by_hr(org, "email,last day", "alice@example.com,2030-05-05")
    else:
        said_by_scim(org, Said(alice.pk, says_presence=True, leaves_at=timezone.now()))
    before = Departure.objects.values_list("source", "leaves_at").get(identity=alice)
    with pytest.raises(NotPossible, match=r"changed since .* Upload the file again"):
        hr_files.apply(file, by=erin)
    assert Departure.objects.values_list("source", "leaves_at").get(identity=alice) == before
    hr_files.apply(look(org, erin, "email,title,last day", "alice@example.com,Lead,2099-01-01"), by=erin)
    assert alice.departures.get(source="hr_file").leaves_at.year == 2099


def test_a_last_day_that_is_not_in_the_file_counts_as_seen_too(org, people, erin):
    said_by_hr(org, "email,last day", f"alice@example.com,{TOMORROW}")
    hr_files.apply(look(org, erin, "email,title", "alice@example.com,Lead"), by=erin)
    assert again(people["alice"]).title == "Lead"


@pytest.mark.parametrize("source", ["hr", "scim"])
def test_who_left_since_the_look_counts_for_the_brake(org, people, erin, settings, source):
    settings.LEAVERS_MOST_PERCENT = org.drop_percent = 50
    org.save()
    file = look(org, erin, "email,last day", *(f"p{n}@example.com,{YESTERDAY}" for n in range(4)))
    assert not file.needs_second
    if source == "hr":
        said_by_hr(org, "email,last day", *(f"{name}@example.com,{YESTERDAY}" for name in ("alice", "bob", "carol")))
    else:
        gone = (people[name].pk for name in ("alice", "bob", "carol"))
        said_by_scim(org, *(Said(pk, says_presence=True, leaves_at=timezone.now()) for pk in gone))
    with pytest.raises(NotPossible, match=r"It ends 4 people\. Another administrator"):
        hr_files.apply(file, by=erin)
    assert Identity.objects.exclude(ended_at=None).count() == 3
    hr_files.apply(file, by=UserFactory(administrator=True))
    assert Identity.objects.exclude(ended_at=None).count() == 7


@pytest.mark.parametrize("how", ["no address", "gone"])
def test_a_circle_through_somebody_of_whom_no_file_can_speak_stops_none(org, people, erin, how):
    bob = Identity.objects.filter(pk=people["bob"].pk)
    bob.update(manager=people["alice"], **({"email": ""} if how == "no address" else {"ended_at": timezone.now()}))
    if how == "gone":
        make.IdentityFactory(connection=org, external_id="bob again", email="bob@example.com")
    Identity.objects.filter(pk=people["carol"].pk).update(manager=people["bob"])
    file = look(org, erin, "email,manager", "alice@example.com,carol@example.com")
    assert hr_files.apply(file, by=erin).applied_at


@pytest.mark.parametrize("source", ["hr", "scim"])
def test_a_manager_named_since_the_look_closes_no_circle(org, people, erin, source):
    lines = "email,manager", "alice@example.com,bob@example.com"
    file = look(org, erin, *lines)
    if source == "hr":
        said_by_hr(org, "email,manager", "bob@example.com,carol@example.com", "carol@example.com,alice@example.com")
    else:
        said_by_scim(org, Said(people["bob"].pk, says_manager=True, manager_id=people["alice"].pk))
    with pytest.raises(NotPossible, match=r"circle\. Upload the file again"):
        hr_files.apply(file, by=erin)
    assert again(people["alice"]).manager is None
    with pytest.raises(OrgChartError, match=r"closes a circle: alice.* → bob"):
        look(org, erin, *lines)


def test_a_newer_file_replaces_one_that_waits_and_an_old_look_lapses(org, people, erin):
    first = look(org, erin, "email,title", "alice@example.com,Lead")
    second = look(org, erin, "email,title", "alice@example.com,Head")
    with pytest.raises(NotPossible, match="replaced"):
        hr_files.apply(first, by=erin)
    HrFile.objects.filter(pk=second.pk).update(looked_at=timezone.now() - timedelta(days=2))
    with pytest.raises(NotPossible, match="more than a day"):
        hr_files.apply(second, by=erin)


def test_one_exodus_in_many_small_files_is_still_one(org, people, erin):
    def leavers(*names: str) -> tuple[str, ...]:
        return "email,last day", *(f"{name}@example.com,{YESTERDAY}" for name in names)

    hr_files.apply(look(org, erin, *leavers("p0", "p1", "p2")), by=erin)
    assert look(org, erin, *leavers("p3")).needs_second
    with pytest.raises(OrgChartError, match="second administrator"):
        import_org_chart(org, [f"{line}\n" for line in leavers("p3")], by=audit.CLOCK, source="hr.csv")
    Departure.objects.update(said_at=timezone.now() - timedelta(days=2))
    assert not look(org, erin, *leavers("p3")).needs_second


def test_a_file_is_judged_by_the_stricter_brake(org, settings):
    settings.LEAVERS_MOST_PERCENT = 10
    org.drop_percent = 50
    assert hr_files.is_exodus(org, 11, 100) and not hr_files.is_exodus(org, 10, 100)


def test_so_many_leavers_need_a_second_administrator(org, people, erin):
    leavers = [f"p{n}@example.com,{YESTERDAY}" for n in range(7)]
    file = look(org, erin, "email,last day", *leavers)
    assert file.needs_second
    with pytest.raises(NotPossible, match="Another administrator"):
        hr_files.apply(file, by=erin)
    with pytest.raises(OrgChartError, match="It would end 7 of 10 people"):
        import_org_chart(org, ["email,last day\n", *(f"{line}\n" for line in leavers)], by=audit.COMMAND, source="x")
    assert not Identity.objects.exclude(ended_at=None).exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        HrFile.objects.filter(pk=file.pk).update(applied_at=timezone.now(), applied_by=erin)
    hr_files.apply(file, by=UserFactory(administrator=True))
    assert Identity.objects.exclude(ended_at=None).count() == 7


def test_a_last_day_to_come_is_kept_and_ends_when_it_is_over(org, people, erin):
    hr_files.apply(look(org, erin, "email,last day", f"alice@example.com,{TOMORROW}"), by=erin)
    alice = people["alice"]
    departure = alice.departures.get()
    assert departure.leaves_at == datetime.combine(
        datetime.fromisoformat(TOMORROW).date() + timedelta(days=1), datetime.min.time(), UTC
    )
    periodic.end_departed()
    assert again(alice).ended_at is None
    same = look(org, erin, "email,last day", f"alice@example.com,{TOMORROW}")
    assert same.counts["leavers"] == 0
    alice.departures.update(leaves_at=timezone.now())
    periodic.end_departed()
    assert again(alice).ended_at
    assert AuditEvent.objects.filter(event="inventory.identity.departed").count() == 1


def test_a_last_day_that_is_taken_back_brings_back_whom_the_directory_still_lists(org, people, erin):
    make.PrincipalFactory(connection=org, identity=people["alice"], attributes={"status": "enabled"})
    hr_files.apply(look(org, erin, "email,last day", f"alice@example.com,{YESTERDAY}"), by=erin)
    hr_files.apply(look(org, erin, "email,last day", "alice@example.com,"), by=erin)
    assert again(people["alice"]).ended_at is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfee\x00m\x00", "not UTF-8"),
        ("email,title\nalice@example.com,Zo\xeb\n".encode("latin-1"), "not UTF-8"),
        (b"email,shoe size\nalice@example.com,43\n", "Line 1: the first line names the columns"),
        (
            b"email,last day\nalice@example.com,31/03/2026\n",
            "Line 2: '31/03/2026' is not a day. Write it as 2026-03-31.",
        ),
        (b"email,last day\nalice@example.com,9999-12-31\n", "is not a day"),
        (b"email,last day\nalice@example.com,20991231\n", "'20991231' is not a day. Write it as 2026-03-31."),
        (b"email,last day\nalice@example.com,2099-W01-1\n", "'2099-W01-1' is not a day. Write it as 2026-03-31."),
        (b"email,title\nalice@example.com," + b"x" * 300 + b"\n", "Line 2: the title is longer than 200"),
        (b"email,title\nalice@example.com," + b"x" * 200_000 + b"\n", "it is not CSV"),
        (
            b"email,title\nalice@example.com,Lead\nalice@example.com,Head\n",
            "Line 3: alice@example.com has another title",
        ),
        (b'email,title\n"alice@example.com,Lead\n', "it is not CSV"),
        (b"", "Line 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(org, people, erin, content, problem):
    with pytest.raises(OrgChartError) as caught:
        hr_files.look_at(org, [content], name="hr.csv", by=erin)
    assert problem in str(caught.value)
    assert not HrFile.objects.exists()


def test_the_same_line_twice_a_byte_order_mark_and_chunks_inside_a_letter_do_no_harm(org, people, erin):
    content = (
        "\ufeffemail,department\r\nalice@example.com,Zoë \u202eX\0\r\nalice@example.com,Zoë \u202eX\0\r\n".encode()
    )
    file = hr_files.look_at(org, [content[n : n + 1] for n in range(len(content))], name="a\0b", by=erin)
    hr_files.apply(file, by=erin)
    assert again(people["alice"]).department == "Zoë X"


def test_the_page_shows_the_difference_and_applies_it(org, people, erin):
    client = Client()
    client.force_login(erin)
    url = reverse("inventory:hr_file", args=[org.name])
    upload = SimpleUploadedFile("hr.csv", csv("email,title,x", "alice@example.com,<b>Lead</b>,1", "who@example.com,,"))
    page = client.post(url, {"file": upload}, follow=True).content.decode()
    assert "&lt;b&gt;Lead&lt;/b&gt;" in page
    assert "who@example.com is not in the directory" in page
    file = HrFile.objects.get()
    client.post(reverse("inventory:apply_hr_file", args=[org.name, file.pk]))
    assert again(people["alice"]).title == "<b>Lead</b>"
    bad = client.post(url, {"file": SimpleUploadedFile("hr.csv", b"nonsense")})
    assert (bad.status_code, b"Nothing was taken" in bad.content) == (422, True)


def test_the_command_can_look_first(org, people, tmp_path, capsys):
    file = tmp_path / "hr.csv"
    file.write_text(f"email,title,last day\nalice@example.com,Lead,{YESTERDAY}\n")
    call_command("import_org_chart", str(file), "--dry-run")
    out = capsys.readouterr().out
    assert "alice@example.com, title: Engineer → Lead" in out
    assert "1 would change (1 leave)" in out
    assert again(people["alice"]).title == "Engineer"
    call_command("import_org_chart", str(file))
    assert again(people["alice"]).ended_at
