"""Mails leave once, with a subject on one line and a link to this portal, and a crash costs a minute and no mail."""

from __future__ import annotations

import smtplib
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone
from pytest_django import Settings

from apps.notifications import mailing
from apps.notifications.models import Delivery, Notification
from apps.users.models import User
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _address(settings: Settings) -> None:
    settings.BASE_URL = "https://gatehouse.example.com"


@pytest.fixture
def alice() -> User:
    return UserFactory(name="Alice", email="alice@example.com")


def waiting(user: User, event: int = 1, **fields: Any) -> Delivery:
    values = {"title": "Bob approved Read", "text": "It starts in a moment.", "url": "/requests/7/", **fields}
    note = Notification.objects.create(event=event, recipient=user, kind="k", subject="s", **values)
    return Delivery.objects.create(notification=note, channel="email")


def test_a_mail_says_what_happened_and_links_to_it(alice: User) -> None:
    delivery = waiting(alice)
    assert mailing.send_due() == 1
    [message] = mail.outbox
    assert (message.subject, message.to) == ("Bob approved Read", ["alice@example.com"])
    assert "https://gatehouse.example.com/requests/7/" in message.body
    assert message.body.startswith("Bob approved Read\n\nIt starts in a moment.\n")
    delivery.refresh_from_db()
    assert delivery.sent_at is not None


def test_what_has_left_does_not_leave_again(alice: User) -> None:
    waiting(alice)
    mailing.send_due()
    assert mailing.send_due() == 0
    assert len(mail.outbox) == 1


def test_names_are_not_escaped_in_a_plain_text_mail(alice: User) -> None:
    waiting(alice, title="Tom & <Jerry>", text="“a < b”")
    mailing.send_due()
    assert "Tom & <Jerry>" in mail.outbox[0].body


def test_killed_between_sending_and_marking_it_is_tried_again_after_a_minute_and_not_before(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = waiting(alice)

    def die(self: EmailBackend, messages: list[Any]) -> int:
        mail.outbox.extend(messages)  # it left
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(EmailBackend, "send_messages", die)
        with pytest.raises(KeyboardInterrupt):
            mailing.send_due()
    assert mailing.send_due() == 0
    Delivery.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))
    assert mailing.send_due() == 1
    first, second = mail.outbox
    assert first.extra_headers["Message-ID"] == second.extra_headers["Message-ID"]
    delivery.refresh_from_db()
    assert delivery.attempts == 2


def test_a_mail_that_is_refused_says_why_and_holds_back_no_other(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = waiting(alice, 1), waiting(UserFactory(name="Bob"), 2)
    original = EmailBackend.send_messages

    def picky(self: EmailBackend, messages: list[Any]) -> int:
        if messages[0].to == ["alice@example.com"]:
            raise smtplib.SMTPRecipientsRefused({"alice@example.com": (550, b"No such mailbox")})
        return original(self, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", picky)
    mailing.send_due()
    assert mailing.send_due() == 1
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.sent_at is None and "No such mailbox" in first.problem
    assert first.next_try_at > timezone.now()
    assert second.sent_at is not None


def test_much_at_once_for_one_person_is_one_mail(alice: User) -> None:
    for number in range(6):
        waiting(alice, number, title=f"Note {number}", url=f"/grants/{number}/")
    waiting(UserFactory(name="Bob"), 9)
    assert mailing.send_due() == 2
    many, single = mail.outbox
    assert many.subject == "6 things from Gatehouse, first: Note 0"
    assert all(f"Note {n}\n" in many.body and f"example.com/grants/{n}/" in many.body for n in range(6))
    assert single.subject == "Bob approved Read"
    assert not Delivery.objects.waiting().exists()


def test_of_two_senders_one_sends(alice: User) -> None:
    delivery = waiting(alice)
    assert mailing._claim(delivery.pk, 0) is True
    assert mailing._claim(delivery.pk, 0) is False


def test_yesterdays_mail_and_that_of_somebody_kept_out_do_not_leave(alice: User) -> None:
    waiting(alice, 1)
    Delivery.objects.update(made_at=timezone.now() - timedelta(hours=25))
    waiting(UserFactory(is_active=False), 2)
    assert mailing.send_due() == 0
