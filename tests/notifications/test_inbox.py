"""The inbox page: mine alone, unread first, read by opening."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.notifications.models import Delivery, Notification
from apps.users.models import User
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db
INBOX = "/inbox/"


@pytest.fixture
def alice() -> User:
    return UserFactory(name="Alice")


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def note(user: User, event: int, **fields) -> Notification:
    values = {"kind": "grants.grant.active", "subject": "s", "title": f"Note {event}", "url": "/settings/", **fields}
    return Notification.objects.create(event=event, recipient=user, **values)


def test_it_shows_mine_and_nobody_elses(alice: User) -> None:
    note(alice, 1, title="For Alice")
    note(UserFactory(name="Mallory"), 2, title="For Mallory")
    page = client_of(alice).get(INBOX).content.decode()
    assert "For Alice" in page and "For Mallory" not in page


def test_unread_comes_first_and_every_page_is_reached(alice: User) -> None:
    for number in range(60):
        note(alice, number, read_at=timezone.now() if number % 2 else None)
    client, seen, params = client_of(alice), [], ""
    while True:
        page = client.get(f"{INBOX}?{params}").context["page"]
        seen += [(row.is_read, row.pk) for row in page]
        params = page.next_url_params
        if not params:
            break
    assert len(seen) == 60
    assert seen == sorted(seen, key=lambda row: (row[0], -row[1]))


def test_opening_marks_it_read_and_leads_to_its_page(alice: User) -> None:
    row = note(alice, 1)
    response = client_of(alice).get(reverse("notifications:open", args=[row.pk]))
    assert (response.status_code, response["Location"]) == (302, "/settings/")
    row.refresh_from_db()
    assert row.is_read


@pytest.mark.parametrize("url", ["/\\evil.example", "/\t/evil.example"])
def test_opening_never_leads_out_of_the_portal(alice: User, url: str) -> None:
    row = note(alice, 1, url=url)
    assert client_of(alice).get(reverse("notifications:open", args=[row.pk]))["Location"] == INBOX


@pytest.mark.parametrize(("name", "method"), [("open", "get"), ("read", "post")])
def test_somebody_elses_is_not_there(alice: User, name: str, method: str) -> None:
    row = note(alice, 1)
    mallory = client_of(UserFactory(name="Mallory"))
    assert getattr(mallory, method)(reverse(f"notifications:{name}", args=[row.pk])).status_code == 404
    row.refresh_from_db()
    assert not row.is_read


def test_marking_one_and_all_read(alice: User) -> None:
    first, second, late = note(alice, 1), note(alice, 2), note(alice, 3)
    others = note(UserFactory(), 4)
    client = client_of(alice)
    client.post(reverse("notifications:read", args=[first.pk]))
    client.post(reverse("notifications:read_all"), {"up_to": second.pk})
    assert set(Notification.objects.unread()) == {late, others}  # what came in meanwhile stays


@pytest.mark.parametrize("up_to", ["", "x", "-1", "9" * 30, "٣"])
def test_nonsense_marks_nothing(alice: User, up_to: str) -> None:
    note(alice, 1)
    assert client_of(alice).post(reverse("notifications:read_all"), {"up_to": up_to}).status_code == 302
    assert Notification.objects.unread().count() == 1


def test_reading_takes_a_post(alice: User) -> None:
    row = note(alice, 1)
    assert client_of(alice).get(reverse("notifications:read", args=[row.pk])).status_code == 405


def test_hostile_text_is_only_text(alice: User) -> None:
    note(alice, 1, title="<script>alert(1)</script>", text="<img src=x onerror=alert(2)>")
    page = client_of(alice).get(INBOX).content.decode()
    assert "<script>alert" not in page and "<img src=x" not in page


def test_the_bell_counts_what_is_unread(alice: User) -> None:
    note(alice, 1)
    note(alice, 2, read_at=timezone.now())
    assert 'aria-label="Inbox, 1 unread"' in client_of(alice).get("/settings/").content.decode()


def test_an_empty_inbox_says_so(alice: User) -> None:
    assert "Nothing was told to you yet" in client_of(alice).get(INBOX).content.decode()


def test_twenty_rows_cost_as_many_queries_as_one(alice: User) -> None:
    client = client_of(alice)

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            client.get(INBOX)
        return len(captured)

    note(alice, 0)
    queries()
    one = queries()
    for number in range(1, 20):
        note(alice, number)
    assert queries() == one


def test_administrators_see_that_mail_does_not_leave(alice: User) -> None:
    row = note(alice, 1)
    refused = Delivery.objects.create(
        notification=row, channel="email", problem="ConnectionRefusedError: no", attempts=3
    )
    erin = UserFactory(name="Erin", administrator=True)
    assert "Mail does not leave" in client_of(erin).get(INBOX).content.decode()
    assert "Mail does not leave" not in client_of(alice).get(INBOX).content.decode()
    Delivery.objects.filter(pk=refused.pk).update(made_at=timezone.now() - timedelta(days=8))
    assert "Mail does not leave" not in client_of(erin).get(INBOX).content.decode()
