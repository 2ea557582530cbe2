"""Who held what on a given day, and what changed between two."""

from __future__ import annotations

import csv
import io
import random
import re
from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest
from django.db import connection as database
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.inventory import extensions, history, statements
from apps.inventory.history import Day
from apps.inventory.models import Assignment
from apps.inventory.statements import BEGAN, ENDED, STAYED
from tests.factories import inventory as make
from tests.factories.users import UserFactory

OCTOBER = Day(date(2026, 10, 1))


def at(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def period(since: datetime, until: datetime | None = None) -> DateTimeTZRange:
    return DateTimeTZRange(since, until)


class Firm:
    """Alice and Bob; Admin in prod; the group engineers. Read completely since the first of September 2026."""

    def __init__(self) -> None:
        self.org = make.ConnectionFactory(baselined=True)
        make.SyncRunFactory(connection=self.org, started_at=at(9, 1, 6))
        for day in range(2, 31):
            make.SyncRunFactory(connection=self.org, started_at=at(9, day))
        for day in range(1, 32):
            make.SyncRunFactory(connection=self.org, started_at=at(10, day, 12))
        self.alice, self.bob = (self.person(name) for name in ("alice", "bob"))
        self.prod = make.ResourceFactory(connection=self.org, name="prod")
        self.admin = make.EntitlementFactory(connection=self.org, resource=self.prod, name="Admin", privilege="admin")
        self.read = make.EntitlementFactory(connection=self.org, resource=self.prod, name="Read")
        self.member = make.EntitlementFactory(connection=self.org, membership=True)

    def person(self, name: str):
        return make.PrincipalFactory(connection=self.org, external_id=name, identity__name=name.title())

    def holds(
        self, principal, entitlement, since: datetime, until: datetime | None = None, **fields: object
    ) -> Assignment:
        return make.AssignmentFactory(
            connection=self.org, principal=principal, entitlement=entitlement, period=period(since, until), **fields
        )


@pytest.fixture
def firm(db: None) -> Firm:
    return Firm()


def held(subject, day: Day) -> list[tuple[str, str, bool]]:
    rows = history.held(subject, day).rows
    return sorted((row.login, row.what, row.via_id is not None) for row in rows)


# ---- what was held


@pytest.mark.parametrize(
    ("since", "until", "counts"),
    [
        (at(9, 5), None, True),
        (at(9, 5), at(10, 1), False),  # ended at the first instant of the day
        (at(9, 5), at(10, 1, 1), True),
        (at(10, 1, 10), at(10, 1, 11), True),  # an hour of it
        (at(10, 1, 23), at(10, 9), True),
        (at(10, 2), None, False),  # the first instant after it
    ],
)
def test_a_day_knows_what_was_held_at_any_moment_of_it(firm, since, until, counts):
    firm.holds(firm.alice, firm.admin, since, until)
    for subject in (firm.alice.identity, firm.admin, firm.prod):
        assert bool(held(subject, OCTOBER)) is counts


def test_a_membership_brings_what_the_group_held_on_that_day(firm):
    firm.holds(firm.alice, firm.member, at(9, 5))
    firm.holds(firm.member.group, firm.admin, at(9, 5), at(9, 20))
    firm.holds(firm.member.group, firm.read, at(9, 28))
    assert held(firm.alice.identity, OCTOBER) == [
        ("alice", "Read", True),
        ("alice", firm.member.name, False),
    ]
    assert ("alice", "Admin", True) in held(firm.alice.identity, Day(date(2026, 9, 10)))
    assert held(firm.read, OCTOBER) == [("alice", "Read", True)]
    assert held(firm.prod, OCTOBER) == [("alice", "Read", True)]


def test_somebody_who_joined_after_the_group_lost_it_never_held_it(firm):
    firm.holds(firm.member.group, firm.admin, at(9, 5), at(10, 1, 9))
    firm.holds(firm.alice, firm.member, at(10, 1, 10))
    assert held(firm.admin, OCTOBER) == []
    assert held(firm.alice.identity, OCTOBER) == [("alice", firm.member.name, False)]


def test_a_path_is_as_long_as_its_shorter_half(firm):
    firm.holds(firm.member.group, firm.admin, at(9, 5), at(10, 20))
    firm.holds(firm.alice, firm.member, at(9, 15), None)
    [row] = history.held(firm.admin, OCTOBER).rows
    assert (row.since, row.until) == (at(9, 15), at(10, 20))


def test_a_group_stands_for_itself_only_where_nobody_can_be_its_member(firm):
    firm.holds(firm.member.group, firm.admin, at(9, 5))
    lonely = make.PrincipalFactory(connection=firm.org, group=True, name="lonely")
    firm.holds(lonely, firm.read, at(9, 5))
    assert held(firm.prod, OCTOBER) == [("lonely", "Read", False)]


def test_a_list_is_told_in_pages_and_counted_whole(firm):
    for number in range(7):
        firm.holds(firm.person(f"p{number}"), firm.admin, at(9, 5))
    pages = [history.held(firm.admin, OCTOBER, start=start, size=3) for start in (0, 3, 6)]
    assert [page.total for page in pages] == [7, 7, 7]
    assert len({row.pk for page in pages for row in page.rows}) == 7


# ---- two days


def test_two_days_are_compared_by_who_holds_what(firm):
    firm.holds(firm.alice, firm.admin, at(9, 5), at(9, 20))  # ended
    firm.holds(firm.alice, firm.read, at(9, 5))  # stayed
    firm.holds(firm.bob, firm.admin, at(9, 25))  # began
    firm.holds(firm.bob, firm.read, at(9, 15), at(9, 20))  # came and went in between
    before = Day(date(2026, 9, 10))
    found = {change: history.compared(firm.prod, before, OCTOBER, change=change) for change in (BEGAN, ENDED, STAYED)}
    assert found[BEGAN].counts == {BEGAN: 1, ENDED: 1, STAYED: 1}
    names = {change: [(row.login, row.what) for row in one.rows] for change, one in found.items()}
    assert names == {BEGAN: [("bob", "Admin")], ENDED: [("alice", "Admin")], STAYED: [("alice", "Read")]}


def test_the_same_by_another_path_stayed(firm):
    firm.holds(firm.alice, firm.admin, at(9, 5), at(9, 20))
    firm.holds(firm.alice, firm.member, at(9, 20))
    firm.holds(firm.member.group, firm.admin, at(9, 5))
    found = history.compared(firm.admin, Day(date(2026, 9, 10)), OCTOBER, change=STAYED)
    assert found.counts == {BEGAN: 0, ENDED: 0, STAYED: 1}
    assert len(found.rows) == 1


@pytest.mark.parametrize("seed", range(3))
def test_two_days_are_told_as_by_whoever_looks_at_each_path(firm, seed):
    days = Day(date(2026, 10, 3)), Day(date(2026, 10, 6))
    people = [firm.alice, firm.bob, firm.person("carol")]
    teams = [firm.member, make.EntitlementFactory(connection=firm.org, membership=True)]
    sets = [firm.admin, firm.read]
    at_random(firm, [*product(people, sets + teams), *product([team.group for team in teams], sets)], seed)
    expected = told_path_by_path(days)
    ours = [(one, {one.name}) for one in (firm.admin, firm.read, firm.member)]
    theirs = [(one.identity, {one.name}) for one in people]
    for subject, names in [*ours, *theirs, (firm.prod, {one.name for one in sets})]:
        told = {change: {pair for pair in pairs if names & {*pair}} for change, pairs in expected.items()}
        for change, pairs in told.items():
            found = history.compared(subject, *days, change=change)
            assert {(row.login, row.what) for row in found.rows} == pairs
            assert found.counts == {name: len(of_it) for name, of_it in told.items()}


def at_random(firm: Firm, pairs: list, seed: int) -> None:
    """Each pair, most of the time, from one instant till another, and perhaps again from a third on."""
    chance = random.Random(seed)
    for principal, entitlement in pairs:
        edges = [at(10, 1) + timedelta(hours=12 * half) for half in sorted(chance.sample(range(16), 3))]
        for since, until in ((edges[0], edges[1]), (edges[2], None)):
            if chance.random() < 0.6:
                firm.holds(principal, entitlement, since, until)


def told_path_by_path(days: tuple[Day, Day]) -> dict[str, set[tuple[str, str]]]:
    rows = [*Assignment.objects.select_related("principal", "entitlement")]
    paths = [(row, row) for row in rows if row.principal.identity_id]
    paths += [(one, other) for one, other in product(rows, rows) if one.entitlement.group_id == other.principal_id]

    def on(day: Day) -> set[tuple[str, str]]:
        return {
            (one.principal.name, other.entitlement.name)
            for one, other in paths
            if max(day.start, one.period.lower, other.period.lower)
            < min(day.end, one.period.upper or day.end, other.period.upper or day.end)
        }

    earlier, later = map(on, days)
    return {BEGAN: later - earlier, ENDED: earlier - later, STAYED: earlier & later}


def test_nothing_to_compare_is_three_zeros(firm):
    found = history.compared(firm.admin, Day(date(2026, 9, 10)), OCTOBER, change=BEGAN)
    assert (found.rows, found.counts) == ([], {BEGAN: 0, ENDED: 0, STAYED: 0})


# ---- pages


@pytest.fixture
def dan(firm) -> Client:
    client = Client()
    client.force_login(UserFactory(name="Dan", auditor=True))
    return client


def url_of(subject, **query: str) -> str:
    name = {"identity": "identity_history", "entitlement": "entitlement_history", "resource": "account_history"}
    return reverse(f"inventory:{name[subject._meta.model_name]}", args=[subject.pk], query=query)


def subjects(firm: Firm) -> list:
    return [firm.alice.identity, firm.admin, firm.prod]


def test_each_page_shows_a_day_and_a_comparison(firm, dan):
    firm.holds(firm.alice, firm.member, at(9, 5))
    firm.holds(firm.member.group, firm.admin, at(9, 25), is_standing=True)
    for subject in subjects(firm):
        page = dan.get(url_of(subject, on="2026-10-01")).content.decode()
        assert "On 1 October 2026" in page and firm.member.name in page
        page = dan.get(url_of(subject, on="2026-10-01", since="2026-09-10")).content.decode()
        assert "From 10 September 2026 to 1 October 2026" in page
        assert 'Began <b class="gh-num">1</b>' in page
        assert "Nothing ended" in dan.get(url_of(subject, on="2026-10-01", since="2026-09-10", show="ended")).text


def test_it_is_said_that_a_past_day_goes_by_whose_login_it_is_today(firm, dan):
    login = make.PrincipalFactory(connection=firm.org, iam_user=True, name="old", identity=firm.alice.identity)
    firm.holds(login, firm.admin, at(9, 5))
    type(login).objects.filter(pk=login.pk).update(identity=firm.bob.identity)
    assert ("old", "Admin", False) in held(firm.bob.identity, OCTOBER)
    page = dan.get(reverse("inventory:identity_history", args=[firm.bob.identity_id])).content.decode()
    assert "Each login counts for whoever it belongs to today." in page


def test_a_day_before_the_first_complete_reading_is_not_called_empty(firm, dan):
    for subject in subjects(firm):
        page = dan.get(url_of(subject, on="2026-08-31")).content.decode()
        assert "Gatehouse did not look then" in page
        assert "Nothing was held" not in page and "As CSV" not in page
        assert "text/html" in dan.get(url_of(subject, on="2026-08-31", **{"as": "csv"}))["Content-Type"]
        page = dan.get(url_of(subject, on="2026-10-01", since="2026-08-31")).content.decode()
        assert "Gatehouse did not look then" in page
    assert "did not look then" not in dan.get(url_of(firm.prod, on="2026-09-01")).content.decode()


def test_nothing_is_said_to_have_begun_since_a_day_that_is_not_known(firm, dan):
    firm.holds(firm.alice, firm.admin, at(9, 1, 6))
    for subject in subjects(firm):
        page = dan.get(url_of(subject, on="2026-10-01", since="2026-08-31", show="ended")).content.decode()
        assert "Gatehouse did not look then" in page
        assert 'On 1 October 2026 <b class="gh-num">1</b>' in page and "As CSV" in page
        assert not any(claim in page for claim in ("Began", "Ended", "Stayed", "From 31 August"))
    assert "Not known" in dan.get(url_of(firm.prod, on="2026-08-31", since="2026-08-30")).content.decode()


def test_a_day_between_two_readings_far_apart_is_told(firm, dan):
    assert "Between two readings" not in dan.get(url_of(firm.prod, on="2026-10-15")).content.decode()
    firm.org.runs.filter(started_at__range=(at(10, 10), at(10, 20))).update(state="incomplete")
    assert "Between two readings" in dan.get(url_of(firm.prod, on="2026-10-15")).content.decode()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"on": "2999-01-01"}, "has not come yet"),
        ({"on": "yesterday"}, "valid date"),
        ({"on": "2026-10-01", "since": "2026-10-01"}, "before the other"),
        ({"on": "0000-00-00"}, "valid date"),
    ],
)
def test_a_day_that_cannot_be_is_said(firm, dan, query, said):
    answer = dan.get(url_of(firm.prod, **query))
    assert answer.status_code == 422
    assert said in answer.content.decode()


@pytest.mark.parametrize(
    "query", [{"on": "0001-01-01"}, {"page": "9" * 18}, {"page": "-1"}, {"show": "x"}, {"as": "x"}]
)
def test_odd_addresses_are_answered(firm, dan, query):
    assert dan.get(url_of(firm.prod, **query)).status_code == 200


def test_a_page_past_the_end_is_not_called_empty(firm, dan):
    firm.holds(firm.alice, firm.admin, at(9, 5))
    for query in ({}, {"since": "2026-09-10", "show": "stayed"}):
        page = dan.get(url_of(firm.prod, on="2026-10-01", page="7", **query)).text
        assert "Past the end" in page and "Nothing" not in page and '<b class="gh-num">1</b>' in page


def test_the_list_is_handed_out_as_csv_that_no_spreadsheet_runs(firm, dan):
    evil = make.PrincipalFactory(connection=firm.org, identity__name="=cmd()")
    firm.holds(evil, firm.member, at(9, 5))
    firm.holds(firm.member.group, firm.admin, at(9, 5))
    answer = dan.get(url_of(firm.admin, on="2026-10-01", **{"as": "csv"}))
    assert answer["Content-Disposition"] == f'attachment; filename="held-entitlement-{firm.admin.pk}-2026-10-01.csv"'
    [row] = csv.DictReader(io.StringIO(b"".join(answer).decode("utf-8-sig")))
    assert (row["day"], row["who"], row["what"], row["through"]) == ("2026-10-01", "'=cmd()", "Admin", firm.member.name)
    assert row["complete_reading"].startswith("2026-10-01T12:00")


def test_why_comes_from_whoever_knows_and_else_from_the_baseline(firm, dan, monkeypatch):
    firm.org.baselined_at = at(9, 15)
    firm.org.save()
    firm.holds(firm.alice, firm.admin, at(9, 5), at(9, 12))  # before anybody was to decide
    firm.holds(firm.bob, firm.admin, at(9, 20))
    firm.holds(firm.bob, firm.read, at(9, 5), is_standing=True)
    monkeypatch.setattr(extensions, "_explanations", {})
    words = [line.reason.word for line in dan.get(url_of(firm.prod, on="2026-09-10")).context["page"]]
    assert words == ["Not baselined", "Standing"]
    words = [line.reason.word for line in dan.get(url_of(firm.prod, on="2026-10-01")).context["page"]]
    assert words == ["Unintended", "Standing"]
    reason = extensions.Reason(kind="idle", icon="clock", word="JIT, ended", url="/g/1")
    extensions.add_explanation("test", lambda rows: {row.pk: reason for row in rows})
    assert 'href="/g/1"' in dan.get(url_of(firm.prod, on="2026-09-10")).content.decode()


def test_the_tab_is_there_for_those_who_may_open_it(firm):
    owner = make.IdentityFactory(connection=firm.org, user=UserFactory())
    firm.prod.owner = owner
    firm.prod.save()
    stranger = make.IdentityFactory(connection=firm.org, user=UserFactory())
    for person, sees in ((owner, True), (stranger, False)):
        client = Client()
        client.force_login(person.user)
        for subject in (firm.prod, firm.admin):
            assert ("/history" in client.get(subject.get_absolute_url()).content.decode()) is sees
            assert client.get(url_of(subject)).status_code == (200 if sees else 404)
        assert client.get(url_of(firm.alice.identity)).status_code == 404


def test_pages_take_the_same_queries_with_one_row_and_with_many(firm, dan):
    def queries() -> list[int]:
        counts = []
        for subject in subjects(firm):
            for query in ({"on": "2026-10-01"}, {"on": "2026-10-01", "since": "2026-09-10"}):
                with CaptureQueriesContext(database) as captured:
                    assert dan.get(url_of(subject, **query)).status_code == 200
                counts.append(len(captured))
        return counts

    firm.holds(firm.alice, firm.member, at(9, 25))
    firm.holds(firm.member.group, firm.admin, at(9, 5))
    queries()
    one = queries()
    for number in range(20):
        firm.holds(firm.person(f"p{number}"), firm.member, at(9, 5))
        firm.holds(firm.person(f"q{number}"), firm.admin, at(9, 5), at(9, 5) + timedelta(days=number + 1))
    assert queries() == one


def test_a_day_is_answered_from_indexes_alone(firm):
    with database.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        for subject in subjects(firm):
            asked = history._asked(subject, [Day(date(2026, 9, 10)), OCTOBER]) | {"start": 0, "limit": 50}
            for statement in (statements.on_a_day(subject), statements.between_two(subject, STAYED)):
                cursor.execute(f"EXPLAIN {statement}", asked)
                plan = "\n".join(row[0] for row in cursor.fetchall())
                visits = re.findall(r"((?:Only )?Scan)(?: using (\S+))? on inventory_assignment (\w+)", plan)
                # the rows that are shown are found by their key, or however else a table of a few rows is read
                assert {"a", "m"} <= {alias for *_, alias in visits}, plan
                found = {(how, index) for how, index, alias in visits if alias not in ("a", "m")}
                assert found <= {("Only Scan", "assignment_history"), ("Only Scan", "assignment_history_of")}, plan
