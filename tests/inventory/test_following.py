"""Following the change feed: what is marked is read again, nothing else is believed, and a full reading goes first."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors import fake_world
from apps.connectors.changes import Change
from apps.connectors.errors import Denied, Unreachable
from apps.core import locks
from apps.inventory import periodic, sync, tasks
from apps.inventory.models import (
    Assignment,
    ChangeFeed,
    ChangeMark,
    Connection,
    Identity,
    Principal,
    ScopeScan,
    SyncRun,
)
from apps.inventory.sync import following
from tests.inventory.conftest import PROD, SANDBOX, trust

pytestmark = pytest.mark.django_db

ADMIN_IN_PROD = f"Admin@{PROD}"


@pytest.fixture
def followed(org: Connection, world: fake_world.World, read: Any, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """An organization that was read completely, and has a change feed whose marks are due at once."""
    org.options["change_queue"] = "gatehouse-changes"
    org.save()
    monkeypatch.setattr(ChangeMark, "SETTLES_FOR", timedelta(0))
    monkeypatch.setattr(ChangeMark, "RESTS_FOR", timedelta(0))
    read()
    return org


def tell(world: fake_world.World, *said: tuple[str, str, str] | str, at: datetime | None = None) -> None:
    """Put events into the queue: (kind, account id, key), or what nobody understands."""
    for one in said:
        number = str(len(world.messages) + 1) + str(timezone.now().timestamp())
        message: Change | str = (
            one if isinstance(one, str) else Change(number, "Event", at or timezone.now(), one[1], one[0], one[2])
        )
        world.messages[number] = message


def follow(org: Connection) -> None:
    following.listen(org.pk)
    for account_id in following.due_places(org, timezone.now()):
        following.reread(org.pk, account_id)


def holders(external_id: str) -> set[str]:
    held = Assignment.objects.open().filter(entitlement__external_id=external_id)
    return set(held.values_list("principal__external_id", flat=True))


def test_an_assignment_made_outside_is_seen_without_reading_everything(
    followed: Connection, world: fake_world.World
) -> None:
    runs = SyncRun.objects.count()
    world.assign("bob", ADMIN_IN_PROD)
    world.unassign("engineers", ADMIN_IN_PROD)
    tell(world, ("holders", "", ADMIN_IN_PROD))
    follow(followed)
    assert holders(ADMIN_IN_PROD) == {"bob"}
    assert not Assignment.objects.get(principal__external_id="bob", entitlement__external_id=ADMIN_IN_PROD).is_standing
    assert SyncRun.objects.count() == runs, "it is no full reading"
    event = AuditEvent.objects.filter(event="inventory.connection.changes_followed").get()
    assert event.data["changes"]["assignment"] == {"added": 1, "ended": 1}
    assert event.data["changes"]["entitlement"] == {"changed": 1}, "being an engineer is worth less now"


def test_what_an_event_says_is_looked_at_and_not_believed(followed: Connection, world: fake_world.World) -> None:
    before = holders(ADMIN_IN_PROD)
    tell(world, ("holders", "", ADMIN_IN_PROD))
    follow(followed)
    assert holders(ADMIN_IN_PROD) == before
    assert not AuditEvent.objects.filter(event="inventory.connection.changes_followed").exists()


def test_a_change_inside_an_account_has_it_read_again(followed: Connection, world: fake_world.World) -> None:
    world.add_principal("iam_role", "newcomer", account_id=PROD, attributes=trust(Service="ec2.amazonaws.com"))
    scans = ScopeScan.objects.count()
    tell(world, ("account", PROD, ""))
    follow(followed)
    assert Principal.objects.filter(external_id="newcomer").exists()
    assert ScopeScan.objects.count() == scans, "a scope is complete only by a full reading"


def test_an_account_that_left_is_a_stranger_also_when_another_is_read_again(
    followed: Connection, world: fake_world.World, read: Any
) -> None:
    sold = "777788889999"
    world.add_account(sold, "sold")
    world.add_principal("iam_role", "partner", account_id=PROD, attributes=trust(AWS=f"arn:aws:iam::{sold}:root"))
    read()
    world.accounts.pop(sold)
    read()
    tell(world, ("account", PROD, ""))
    follow(followed)
    assert Identity.objects.get(external_id="partner").classification == "third_party"


def test_a_membership_that_ended_is_found_by_its_own_id(followed: Connection, world: fake_world.World) -> None:
    Assignment.objects.filter(entitlement__external_id="membership:engineers").update(
        attributes={"membership_id": "m-1"}
    )
    world.unassign("alice", "membership:engineers")
    tell(world, ("membership", "", "m-1"))
    follow(followed)
    assert holders("membership:engineers") == set()


def test_messages_are_done_only_when_their_marks_are_kept(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(world, ("account", PROD, ""))
    monkeypatch.setattr(following, "_note_heard", lambda *_: (_ for _ in ()).throw(RuntimeError("the process dies")))
    with pytest.raises(RuntimeError):
        following.listen(followed.pk)
    assert len(world.messages) == 1
    assert not ChangeMark.objects.exists()


def test_the_same_event_twice_marks_once_and_is_read_once(followed: Connection, world: fake_world.World) -> None:
    tell(world, ("account", PROD, ""))
    [message] = world.messages.values()
    follow(followed)
    world.messages["again"] = message
    follow(followed)
    assert ChangeMark.objects.get().read_at
    world.messages["later"] = Change("another-id", "Event", timezone.now(), PROD, "account")
    following.listen(followed.pk)
    assert ChangeMark.objects.get().read_at is None, "another event takes that away"


def test_what_cannot_be_understood_is_counted_dropped_and_told(followed: Connection, world: fake_world.World) -> None:
    tell(world, "It is not JSON.", ("account", PROD, ""))
    following.listen(followed.pk)
    feed = ChangeFeed.objects.get()
    assert (feed.received, feed.malformed, feed.last_malformed) == (2, 1, "It is not JSON.")
    assert world.messages == {}


def test_a_flood_of_events_leaves_one_mark_each_and_does_not_put_the_reading_off(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChangeMark, "SETTLES_FOR", timedelta(seconds=10))
    tell(world, ("account", PROD, ""))
    following.listen(followed.pk)
    first = ChangeMark.objects.get().try_at
    tell(world, *[("account", PROD, "")] * 30)
    with CaptureQueriesContext(database) as asked:
        following.listen(followed.pk)
    assert ChangeMark.objects.get().try_at == first
    assert len([one for one in asked if "INSERT INTO inventory_changemark" in one["sql"]]) <= 4, "one a batch"


def test_what_is_marked_rests_after_it_was_read(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChangeMark, "RESTS_FOR", timedelta(minutes=1))
    tell(world, ("account", PROD, ""))
    follow(followed)
    tell(world, ("account", PROD, ""))
    following.listen(followed.pk)
    assert following.due_places(followed, timezone.now()) == []
    assert following.due_places(followed, timezone.now() + timedelta(minutes=1)) == [PROD]


def test_while_everything_is_read_nothing_is_read_again(followed: Connection, world: fake_world.World) -> None:
    run = SyncRun.objects.create(connection=followed)
    world.assign("bob", ADMIN_IN_PROD)
    tell(world, ("holders", "", ADMIN_IN_PROD))
    follow(followed)
    assert "bob" not in holders(ADMIN_IN_PROD)
    assert ChangeMark.objects.unread().count() == 1
    run.delete()


def test_a_full_reading_that_begins_meanwhile_goes_first(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.assign("bob", ADMIN_IN_PROD)
    tell(world, ("holders", "", ADMIN_IN_PROD))
    following.listen(followed.pk)
    found = following._Again.entitlement

    def begin_first(self: Any, one: ChangeMark) -> Any:
        SyncRun.objects.create(connection=followed)
        return found(self, one)

    monkeypatch.setattr(following._Again, "entitlement", begin_first)
    following.reread(followed.pk, "")
    assert "bob" not in holders(ADMIN_IN_PROD)
    assert ChangeMark.objects.unread().exists()


def test_a_full_reading_settles_what_was_marked_before_it(
    followed: Connection, world: fake_world.World, read: Any
) -> None:
    tell(world, ("holders", "", ADMIN_IN_PROD), ("account", PROD, ""), ("account", SANDBOX, ""), ("rest", "", ""))
    following.listen(followed.pk)
    world.scan_problems[SANDBOX].append("Page 2 could not be read.")
    following.settle(read())
    left = set(ChangeMark.objects.unread().values_list("kind", "account_id"))
    assert left == {("account", SANDBOX)}, "what was read incompletely is still to be read"
    world.scan_problems.clear()
    following.settle(read())
    assert not ChangeMark.objects.unread().exists()


def test_a_full_reading_settles_nothing_that_aws_may_not_have_shown_it(
    followed: Connection, world: fake_world.World, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(world, ("holders", "", ADMIN_IN_PROD), ("account", PROD, ""), ("rest", "", ""))
    following.listen(followed.pk)
    monkeypatch.setattr(ChangeMark, "SETTLES_FOR", timedelta(seconds=10))
    following.settle(read())
    assert ChangeMark.objects.unread().count() == 3, "these events are a moment old"
    ChangeMark.objects.update(seen_at=timezone.now() - ChangeMark.SETTLES_FOR)
    following.settle(read())
    assert not ChangeMark.objects.unread().exists()


def test_an_account_that_cannot_be_read_does_not_have_everything_read_every_hour(
    followed: Connection, world: fake_world.World, read: Any
) -> None:
    def needs_all() -> bool:
        last = SyncRun.objects.latest("pk").started_at
        return following.needs_all(followed, last, timezone.now() + following.EARLY_AFTER)

    world.scan_problems[PROD].append("Page 2 could not be read.")
    tell(world, ("account", PROD, ""))
    follow(followed)
    assert needs_all(), "the full reading says what is wrong"
    following.settle(read())
    tell(world, ("account", PROD, ""))
    follow(followed)
    assert not needs_all(), "it has said so"
    tell(world, ("account", PROD, ""))
    following.listen(followed.pk)
    for _ in range(following.MOST_TRIES):
        world.script("scan_account", fake_world.raises(Unreachable("AWS does not answer.")))
        ChangeMark.objects.update(try_at=timezone.now())
        following.reread(followed.pk, PROD)
    assert not ChangeMark.objects.unread().exists()
    tell(world, ("rest", "", ""))
    following.listen(followed.pk)
    assert needs_all(), "this may be about what can be read"


def test_while_the_directory_cannot_be_read_an_unspecific_change_has_everything_read_ever_more_seldom(
    followed: Connection, world: fake_world.World, read: Any
) -> None:
    tell(world, ("rest", "", ""))
    following.listen(followed.pk)
    waits = []
    for tries in (0, 1, following.MOST_TRIES):
        ChangeMark.objects.update(tries=tries)
        world.script("scan_directory", fake_world.raises(Denied("Deploy hub.yaml again.")))
        run = read()
        following.settle(run)
        waits.append((ChangeMark.objects.unread().get().try_at - run.started_at) / timedelta(hours=1))
    assert waits == [2, 4, 32]
    following.settle(read())
    assert not ChangeMark.objects.unread().exists()


def test_so_much_gone_at_once_is_left_to_a_full_reading(followed: Connection, world: fake_world.World) -> None:
    for number in range(5):
        world.add_user(f"u{number}")
        world.assign(f"u{number}", ADMIN_IN_PROD)
    sync.run(followed.pk, by=audit.WORKER)
    for number in range(5):
        world.unassign(f"u{number}", ADMIN_IN_PROD)
    tell(world, ("holders", "", ADMIN_IN_PROD))
    follow(followed)
    assert len(holders(ADMIN_IN_PROD)) == 6, "nothing of it ended"
    assert ChangeMark.objects.unread().get().kind == "rest"


@pytest.mark.parametrize(
    "said", [("holders", "", "nobody@knows"), ("membership", "", "m-unknown"), ("account", "999999999999", "")]
)
def test_what_is_not_known_has_everything_read_early(
    followed: Connection, world: fake_world.World, said: tuple[str, str, str]
) -> None:
    tell(world, said)
    follow(followed)
    assert ChangeMark.objects.unread().get().kind == "rest"
    last, now = SyncRun.objects.latest("pk").started_at, timezone.now()
    assert not following.needs_all(followed, last, now), "not sooner than an hour after the last"
    assert following.needs_all(followed, last, now + timedelta(hours=1))


def test_what_cannot_be_read_is_tried_again_later_and_at_last_left_to_a_full_reading(
    followed: Connection, world: fake_world.World
) -> None:
    tell(world, ("account", PROD, ""))
    following.listen(followed.pk)
    for _ in range(following.MOST_TRIES):
        world.script("scan_account", fake_world.raises(Unreachable("AWS does not answer.")))
        ChangeMark.objects.update(try_at=timezone.now())
        following.reread(followed.pk, PROD)
    assert ChangeMark.objects.get(kind="account").problem == "AWS does not answer."
    assert ChangeMark.objects.unread().get().kind == "rest"


def test_a_queue_that_does_not_answer_is_said_and_nothing_is_lost(
    followed: Connection, world: fake_world.World
) -> None:
    tell(world, ("account", PROD, ""))
    world.script("receive", fake_world.raises(Denied("Deploy feed.yaml in the hub.")))
    assert following.listen(followed.pk) == 0
    assert ChangeFeed.objects.get().problem == "Deploy feed.yaml in the hub."
    assert following.listen(followed.pk) == 1
    assert ChangeFeed.objects.get().problem == ""


def test_a_paused_connection_hears_nothing(followed: Connection, world: fake_world.World) -> None:
    tell(world, ("account", PROD, ""))
    followed.paused_at = timezone.now()
    followed.save()
    follow(followed)
    assert len(world.messages) == 1


def test_full_readings_are_seldom_only_while_the_feed_is_heard(followed: Connection, settings: Any) -> None:
    settings.SYNC_EVERY_MINUTES, settings.FULL_SYNC_EVERY_MINUTES = 15, 360
    assert followed.full_reading_every(is_heard=True) == timedelta(hours=6)
    assert followed.full_reading_every(is_heard=False) == timedelta(minutes=15)
    followed.options = {}
    assert followed.full_reading_every(is_heard=True) == timedelta(minutes=15)
    feed = ChangeFeed(connection=followed, polled_at=timezone.now() - ChangeFeed.SILENT_FOR)
    assert not feed.is_heard(timezone.now())


def test_the_clock_listens_where_there_is_a_feed(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(tasks.listen, "apply_async", lambda args, **_: asked.append(args))
    periodic.follow_changes()
    assert asked == [(followed.pk,)]


def test_marks_are_forgotten_long_after_they_were_read(followed: Connection, world: fake_world.World) -> None:
    tell(world, ("account", PROD, ""), ("account", SANDBOX, ""))
    following.listen(followed.pk)
    following.reread(followed.pk, PROD)
    following.forget(timezone.now() + ChangeMark.KEPT_FOR + timedelta(hours=1))
    assert ChangeMark.objects.get().account_id == SANDBOX, "what was never read stays"


def test_a_mark_on_which_gatehouse_itself_fails_is_said_and_stops_no_other(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.assign("bob", ADMIN_IN_PROD)
    tell(world, ("holders", "", "breaks"), ("holders", "", ADMIN_IN_PROD))
    following.listen(followed.pk)
    found = following._Again.entitlement

    def breaks(self: Any, one: ChangeMark) -> Any:
        if one.key == "breaks":
            raise KeyError("a bug")
        return found(self, one)

    monkeypatch.setattr(following._Again, "entitlement", breaks)
    following.reread(followed.pk, "")
    assert "bob" in holders(ADMIN_IN_PROD)
    broken = ChangeMark.objects.unread().get()
    assert (broken.key, broken.tries) == ("breaks", 1)
    assert broken.problem.startswith("Gatehouse itself failed (KeyError).")


def test_a_membership_that_we_know_to_have_ended_needs_no_full_reading(
    followed: Connection, world: fake_world.World
) -> None:
    Assignment.objects.filter(entitlement__external_id="membership:engineers").update(
        attributes={"membership_id": "m-1"}
    )
    world.unassign("alice", "membership:engineers")
    for _ in range(2):
        tell(world, ("membership", "", "m-1"))
        follow(followed)
    assert not Assignment.objects.open().of_membership("m-1").exists()
    assert not ChangeMark.objects.unread().exists()


def test_an_event_too_fresh_for_aws_to_show_it_is_read_once_more(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChangeMark, "SETTLES_FOR", timedelta(seconds=10))
    tell(world, ("holders", "", ADMIN_IN_PROD))
    following.listen(followed.pk)
    ChangeMark.objects.update(try_at=timezone.now())  # an earlier event has settled, this one came just now
    following.reread(followed.pk, "")
    world.assign("bob", ADMIN_IN_PROD)
    assert ChangeMark.objects.unread().exists()
    ChangeMark.objects.update(seen_at=timezone.now() - ChangeMark.SETTLES_FOR, try_at=timezone.now())
    following.reread(followed.pk, "")
    assert "bob" in holders(ADMIN_IN_PROD)
    assert not ChangeMark.objects.unread().exists()


def test_groups_are_left_to_a_full_reading_that_began_meanwhile(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.unassign("engineers", ADMIN_IN_PROD)
    tell(world, ("holders", "", ADMIN_IN_PROD))
    following.listen(followed.pk)
    rate = following._Again.rate

    def begin_first(self: Any) -> None:
        SyncRun.objects.create(connection=followed)
        rate(self)

    monkeypatch.setattr(following._Again, "rate", begin_first)
    following.reread(followed.pk, "")
    event = AuditEvent.objects.filter(event="inventory.connection.changes_followed").get()
    assert event.data["changes"] == {"assignment": {"ended": 1}}, "what being an engineer is worth is that run's to say"


def test_one_process_at_a_time_listens(followed: Connection, world: fake_world.World) -> None:
    tell(world, ("account", PROD, ""))
    with locks.exclusive("listen", str(followed.pk)):
        assert following.listen(followed.pk) == 0
    assert len(world.messages) == 1
    assert following.listen(followed.pk) == 1


def test_what_no_worker_read_again_in_time_is_asked_for_anew(
    followed: Connection, world: fake_world.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(tasks.sync_changes, "apply_async", lambda args, **options: asked.append((args, options)))
    tell(world, ("account", PROD, ""))
    tasks.listen(followed.pk)
    assert asked == [((followed.pk, PROD), {"expires": 20})]
