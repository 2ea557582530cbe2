"""The audit page: for auditors and administrators, every event, in words and as it is."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.audit.models import AuditEvent
from apps.evidence.wording import PAGES, PHRASES, Line, page_of
from apps.users.models import User
from tests.evidence.conftest import client_of, happened
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db
URL = "/evidence/audit/"
NOON = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)


def shown(user: User, **params: str) -> list[int]:
    return [line.event.pk for line in client_of(user).get(URL, params).context["lines"]]


@pytest.mark.parametrize("url", [URL, "/evidence/"])
def test_only_auditors_and_administrators_find_it(dan: User, erin: User, mallory: User, url: str) -> None:
    codes = [client_of(user).get(url).status_code for user in (dan, erin, mallory)]
    assert codes == [200, 200, 404]


def test_an_auditor_who_was_kept_out_finds_nothing(dan: User) -> None:
    client = client_of(dan)
    User.objects.update(is_active=False)
    assert client.get(URL).status_code == 302


def test_an_event_reads_as_a_sentence_with_its_own_name_below(dan: User, erin: User) -> None:
    happened("users.user.invited", by=erin, about=UserFactory(name="Alice"))
    [line] = client_of(dan).get(URL).context["lines"]
    assert f"{line.event.actor_name} {line.before} {line.subject}{line.after}" == "Erin invited Alice"
    assert "users.user.invited" in client_of(dan).get(URL).content.decode()


def test_an_event_without_words_still_says_what_it_is() -> None:
    line = Line(AuditEvent(event="later.new_thing.came_up", subject="later.newthing:1", subject_name="", data={}))
    assert f"{line.before} {line.subject}{line.after}" == "recorded “new thing came up” about later.newthing:1"


def test_every_event_that_the_code_records_has_words() -> None:
    def named(call: ast.Call) -> list[ast.expr]:
        called = getattr(call.func, "attr", getattr(call.func, "id", ""))
        first = call.args[:1] if called in ("record", "event") else []
        return [*first, *(keyword.value for keyword in call.keywords if keyword.arg == "event")]

    trees = [ast.parse(path.read_text()) for path in Path(settings.BASE_DIR, "apps").rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {name.value for call in calls for name in named(call) if isinstance(name, ast.Constant)}
    assert len(names) > 30
    assert {name for name in names if isinstance(name, str) and name.count(".") == 2} - set(PHRASES) == set()


def test_every_phrase_has_one_place_for_its_subject_or_needs_none() -> None:
    assert [name for name, phrase in PHRASES.items() if phrase.count("{}") > 1] == []
    without = {name for name, phrase in PHRASES.items() if "{}" not in phrase}
    assert without == {"users.user.signed_in", "users.user.stepped_up", "users.user.step_up_failed"}


@pytest.mark.parametrize("subject", ["grants.grant:x", "grants.grant:", "nothing", "users.user:1", "grants.grant:-1"])
def test_what_has_no_page_is_no_link(subject: str) -> None:
    assert page_of(subject) == ""


def test_what_has_a_page_is_a_link() -> None:
    assert page_of("grants.grant:7") == "/grants/7/"
    assert page_of("access.accessrequest:7") == "/requests/7/"
    assert set(PAGES) >= {"grants.grant", "access.accessrequest", "reviews.campaign"}


def test_the_period_includes_both_days_whole(dan: User) -> None:
    first = happened(at=datetime(2026, 3, 30, tzinfo=UTC))
    last = happened(at=datetime(2026, 4, 1, tzinfo=UTC) - timedelta(microseconds=1))
    happened(at=datetime(2026, 3, 30, tzinfo=UTC) - timedelta(microseconds=1))
    happened(at=datetime(2026, 4, 1, tzinfo=UTC))
    assert shown(dan, start="2026-03-30", end="2026-03-31") == [last.pk, first.pk]


def test_filters_by_area_actor_subject_and_text(dan: User, erin: User) -> None:
    alice = UserFactory(name="Alice Moreau")
    grant = happened("grants.grant.active", about=alice)
    invited = happened("users.user.invited", by=erin, about=alice)
    other = happened("users.user.invited", by=erin, about=UserFactory(name="Bob"))
    assert shown(dan, kind="grants") == [grant.pk]
    assert shown(dan, kind="users", q="moreau") == [invited.pk]
    assert shown(dan, actor=str(erin.pk)) == [other.pk, invited.pk]
    assert shown(dan, ref=f"users.user:{alice.pk}") == [invited.pk, grant.pk]
    assert shown(dan, q="ERIN", ref=f"users.user:{alice.pk}") == [invited.pk]
    assert shown(dan, q="%") == []


@pytest.mark.parametrize("params", [{"start": "yesterday"}, {"end": "9999-12-31"}, {"kind": "nothing"}])
def test_a_filter_that_makes_no_sense_shows_nothing_and_says_so(dan: User, params: dict[str, str]) -> None:
    happened()
    response = client_of(dan).get(URL, params)
    assert response.context["lines"] == []
    assert "This cannot be shown" in response.content.decode()


def test_pages_run_down_without_gap_or_repeat(dan: User) -> None:
    made = [happened().pk for _ in range(120)]
    client, seen, params = client_of(dan), [], ""
    while True:
        page = client.get(f"{URL}?{params}").context["page"]
        seen += [row.pk for row in page]
        if not (params := page.next_url_params):
            break
    assert seen == made[::-1]
    assert all(later > earlier for later, earlier in pairwise(seen))


def test_hostile_names_and_facts_are_only_text(dan: User) -> None:
    happened(
        subject_name="<script>alert(1)</script>",
        actor_name="<img src=x onerror=alert(2)>",
        data={"reason": "</pre><script>alert(3)</script>", "<i id=x>": 1},
        origin={"agent": "<svg onload=alert(4)>"},
    )
    page = client_of(dan).get(URL).content.decode()
    assert not [
        bad for bad in ("<script>alert", "<img src=x", "</pre><script>", "<i id=x", "<svg onload") if bad in page
    ]
    assert "&lt;script&gt;alert(3)" in page


def test_twenty_events_cost_as_many_queries_as_one(dan: User, erin: User) -> None:
    client = client_of(dan)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(URL)
        return len(captured)

    happened(by=erin)
    queries()
    one = queries()
    for _ in range(19):
        happened(by=erin)
    assert queries() == one


def test_a_live_search_gets_the_rows_alone(dan: User) -> None:
    happened()
    page = client_of(dan).get(URL, headers={"HX-Request": "true"}).content.decode()
    assert "<table" in page and "<html" not in page
