"""What the web process and the ender may do with the rows of grants, whatever their code says: begin and narrow them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.connectors import registry
from apps.grants import services
from apps.grants.models import EndReason, Extension, Grant, State, Stop, Warrant
from apps.inventory.models import Entitlement, Principal
from tests.factories.inventory import ConnectionFactory, EntitlementFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.security.conftest import Acting
from tests.security.test_roles import denied

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def values(system: System, **fields: Any) -> dict[str, Any]:
    return {
        "connection": system.connection,
        "identity": system.alice.identity,
        "principal": system.alice,
        "entitlement": system.admin,
        "provisioner": "idc_assignment",
        "duration": HOUR,
        "reason": "Because.",
        "origin": "request",
        **fields,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "active", "active_at": "now", "ends_at": "later", "not_after": "later"},
        {"state": "provisioning", "claimed_at": "now", "not_after": "later"},
        {"state": "revoked", "end_reason": "done"},
        {"state": "failed"},
        {"active_at": "now"},
        {"shared_key": "fake:guard"},
        {"attempt": 3},
        {"ticket": {"verb": "open"}},
        {"receipt": [{"what": "gone"}]},
        {"deny_left_out": True},
        {"not_after": "later"},
        {"ends_at": "later"},
        {"sessions_until": "now"},
        {"end_note": "It is over."},
        {"origin": "break_glass"},
        {"origin": "found", "remover": "permission_set", "state": "pending", "assignment": "held"},
        {"origin": "found", "remover": "permission_set", "state": "active", "active_at": "now", "assignment": "held"},
    ],
    ids=str,
)
def test_the_web_process_adds_nothing_but_requests_that_begin(
    acting: Acting, system: System, fields: dict[str, Any]
) -> None:
    now = timezone.now()
    words = {"now": now, "later": now + HOUR}
    held = system.holds(system.alice, system.admin) if "assignment" in fields else None
    said = {key: words.get(value, value) if isinstance(value, str) else value for key, value in fields.items()}
    if held:
        said["assignment"] = held
    with acting("web"):
        denied(lambda: Grant.objects.create(**values(system, **said)))


BEGINS_WITH = {
    *("id", "connection", "identity", "principal", "entitlement", "assignment", "origin", "provisioner", "remover"),
    *("reference", "state", "reason", "ticket_ref", "duration", "requested_by", "created_at", "next_try_at"),
    *("task_owner", "due_at", "active_at"),
}


def test_the_web_process_says_nothing_else_of_a_new_grant(acting: Acting, system: System) -> None:
    examples = {"DateTimeField": timezone.now(), "JSONField": {"a": 1}, "BooleanField": True, "CharField": "x"}
    examples |= {"PositiveIntegerField": 3, "ForeignKey": system.bob.identity.user}
    others = [field for field in Grant._meta.concrete_fields if field.name not in BEGINS_WITH]
    assert "not_after" in {field.name for field in others}
    with acting("web"):
        for field in others:
            said = values(system, **{field.name: examples[field.get_internal_type()]})
            assert f"does not say {field.column}." in denied(lambda said=said: Grant.objects.create(**said))


@pytest.mark.parametrize("start", list(State))
@pytest.mark.parametrize("to", list(State))
def test_the_web_process_moves_grants_only_towards_their_end(
    acting: Acting, system: System, start: State, to: State
) -> None:
    now = timezone.now()
    grant = system.issue()
    facts = {"not_after": now + HOUR, "active_at": now, "end_reason": "done"}
    facts |= {"revoked_at": now, "receipt": [{"what": "gone", "read_at": now.isoformat()}]}
    Grant.objects.filter(pk=grant.pk).update(state=start, **facts)
    narrowing = {(State.PENDING, State.CANCELLED), (State.PROVISIONING, State.REVOKING), (State.ACTIVE, State.REVOKING)}
    with acting("web"):
        if (start, to) in narrowing:
            Grant.objects.filter(pk=grant.pk).update(state=to)
        else:
            assert "narrows nothing" in denied(lambda: Grant.objects.filter(pk=grant.pk).update(state=to))


@pytest.mark.parametrize(
    "column",
    ["not_after", "ends_at", "active_at", "claimed_at", "duration", "shared_key", "receipt", "ticket", "attempt"],
)
@pytest.mark.parametrize("process", ["web", "ender"])
def test_who_only_narrows_writes_no_other_column(acting: Acting, system: System, process: str, column: str) -> None:
    grant = system.active()
    value = getattr(grant, column)
    with acting(process):
        denied(lambda: Grant.objects.filter(pk=grant.pk).update(state="revoking", **{column: value}))


def test_an_end_in_the_future_is_now(acting: Acting, system: System) -> None:
    """AWS is told when it ended, and workers when to try: neither may be put off by who only narrows."""
    grant = system.active()
    never = timezone.now() + timedelta(days=9999)
    with acting("web"):
        Grant.objects.filter(pk=grant.pk).update(
            state="revoking", end_reason="done", revoking_at=never, next_try_at=never, problem_count=2**31 - 1
        )
    grant.refresh_from_db()
    assert grant.revoking_at < never
    assert grant.next_try_at < never
    assert grant.problem_count == 0  # the more there were, the later it is tried again


def test_switching_triggers_off_for_oneself_does_nothing(acting: Acting, system: System) -> None:
    grant = system.active()
    with acting("web"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
            names = ",".join(name for (name,) in cursor.fetchall())
            cursor.execute("SELECT set_config('pgtrigger.ignore', %s, false)", [f"{{{names}}}"])
        denied(lambda: Grant.objects.filter(pk=grant.pk).update(state="revoked"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('pgtrigger.ignore', '{}', false)")


def now_or_never() -> None:
    """What is checked when a transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def standing(system: System, **fields: Any) -> dict[str, Any]:
    held = system.holds(system.alice, system.admin)
    return values(
        system,
        origin="found",
        active_at=timezone.now(),
        duration=None,
        **{"assignment": held, "state": "active", "provisioner": "", "remover": "permission_set", **fields},
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"remover": "owner"},
        {"remover": "nobody"},
        {"identity": None},
        {"entitlement": "another"},
        {"principal": "another"},
        {"connection": "another"},
        {"assignment": "another"},
        {"provisioner": "idc_assignment"},
        {"state": "pending"},
    ],
    ids=str,
)
def test_what_the_web_process_finds_is_removed_by_what_can(
    acting: Acting, system: System, fields: dict[str, Any]
) -> None:
    """A task that no owner knows of, or an ending of somebody else's, would keep it for good."""
    others = {"entitlement": system.read, "principal": system.bob, "connection": ConnectionFactory()}
    others["assignment"] = system.holds(system.bob, system.read)
    # None of these says anything of what is found: each has an owner that removes it.
    PrincipalFactory(connection=system.connection, identity=system.alice.identity, is_reserved=True)
    PrincipalFactory(connection=system.connection, kind="idc_group", is_externally_owned=True)
    EntitlementFactory(connection=ConnectionFactory(kind="another"), kind="iam_trust")
    found = standing(system, **{name: others[name] if value == "another" else value for name, value in fields.items()})
    with acting("web"):
        assert "begins as a request, or is found" in denied(lambda: Grant.objects.create(**found))


def test_what_the_web_process_finds_ends_at_once(acting: Acting, system: System) -> None:
    """Until then no comparison calls it strange, and nobody can take it away."""
    found = standing(system, due_at=timezone.now() + timedelta(days=92))
    with acting("web"):
        grant = Grant.objects.create(**found)
        assert "What is found ends" in denied(now_or_never)
        Grant.objects.filter(pk=grant.pk).update(state="revoking", end_reason="review", revoking_at=timezone.now())
        now_or_never()
    grant.refresh_from_db()
    assert grant.due_at < timezone.now() + timedelta(days=91)


@pytest.mark.parametrize("process", ["web", "worker"])
@pytest.mark.parametrize("what", ["ours", "scim", "reserved", "of a kind that we cannot remove"])
def test_standing_access_ends_by_who_can_remove_it(acting: Acting, system: System, process: str, what: str) -> None:
    held = system.holds(system.alice, system.admin)
    system.active(system.bob)
    if what.startswith("of a kind"):
        kind = next(kind for kind in Entitlement.Kind if ("fake", kind) not in registry.REMOVERS)
        Entitlement.objects.filter(pk=system.admin.pk).update(kind=kind)
    if what == "scim":
        group = PrincipalFactory(connection=system.connection, kind="idc_group", is_externally_owned=True)
        Entitlement.objects.filter(pk=system.admin.pk).update(kind="idc_group", group=group)
    if what == "reserved":
        Principal.objects.filter(pk=system.alice.pk).update(is_reserved=True)
    with acting(process):
        grant = services.remove_standing(held, by=system.bob.identity.user, reason="Not needed any more.")
        now_or_never()
    assert grant.remover == ("permission_set" if what == "ours" else Grant.BY_OWNER)
    grant.refresh_from_db()
    assert grant.due_at is None


def test_what_the_web_process_adds_was_carried_out_by_nobody(acting: Acting, system: System) -> None:
    """An extension that is called applied makes the ender wait; a stop that is called lifted stops nothing, and is said."""
    grant, erin, now = system.active(), UserFactory(administrator=True), timezone.now()
    longer = {"grant": grant, "duration": HOUR, "spec": {}, "digest": "", "requester": "", "verdict": {}}
    lifted = {"lifted_at": now, "lifted_by": erin, "lift_proposed_by": UserFactory()}
    with acting("web"):
        for said in ({"applied_at": now}, {"refused_at": now}):
            assert "only begun" in denied(lambda said=said: Extension.objects.create(**longer, **said))
        assert "only begun" in denied(lambda: Stop.objects.create(scope="all", reason="x", ordered_by=erin, **lifted))


def test_what_the_web_process_adds_is_as_old_as_it_is(acting: Acting, system: System) -> None:
    """The ender goes by when a warrant was made, and a guard denies from when a stop was ordered."""
    grant = system.issue()
    Warrant.objects.all().delete()
    never = timezone.now() + timedelta(days=9999)
    authority = {"spec": {}, "digest": "", "requester": "", "verdict": {}, "made_at": never}
    with acting("web"):
        rows = [
            Warrant.objects.create(grant=grant, **authority),
            Extension.objects.create(grant=grant, duration=HOUR, **authority),
            Stop.objects.create(scope="all", reason="x", ordered_by=UserFactory(), ordered_at=never),
            Grant.objects.create(**values(system, created_at=never, next_try_at=never)),
        ]
    for row in rows:
        row.refresh_from_db()
    said = [rows[0].made_at, rows[1].made_at, rows[2].ordered_at, rows[3].created_at, rows[3].next_try_at]
    assert max(said) <= timezone.now()


def test_the_ender_opens_nothing_again(acting: Acting, system: System) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    with acting("ender"):
        for state in (State.ACTIVE, State.REVOKED):
            assert "narrows nothing" in denied(
                lambda state=state: Grant.objects.filter(pk=grant.pk).update(state=state)
            )


@pytest.mark.parametrize("kind", [kind for kind in Entitlement.Kind if kind not in ("dated_policy", "network_rule")])
def test_the_web_process_adds_no_entitlement_that_aws_should_have_shown(
    acting: Acting, system: System, kind: str
) -> None:
    with acting("web"):
        denied(lambda: Entitlement.objects.create(connection=system.connection, kind=kind, external_id="x", name="x"))
