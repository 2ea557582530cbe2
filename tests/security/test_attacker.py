"""Somebody holds the web process: its code, its SECRET_KEY, its database role, and Redis. Whatever they write and send,
workers open nothing beyond what the rules give, and an alarm is raised that they cannot take back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from celery import current_app
from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.grants import provisioning, services, warrants
from apps.grants.models import Extension, Grant, State, Stop, StopWrite, Warrant
from apps.grants.services import stops
from apps.inventory import responsibilities
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Principal, Resource, Responsibility
from apps.inventory.services import define_policy
from apps.notifications.notes import TELLERS
from apps.users import passkeys
from apps.users.models import Passkey, PortalRole, User
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.lifting import known, signed
from tests.grants.signing import draft, give_key, let_stand, sign
from tests.grants.system import System
from tests.security.conftest import Acting
from tests.users.soft_key import SoftKey

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
HUGE = {"tier": "approval", "cap_seconds": 10**9, "rule_id": "admin-production"}


@dataclass
class Attack:
    """The system, who is who in it, and what the attacker can do. Mallory is a colleague: linked, with a passkey."""

    system: System
    acting: Acting
    erin: User
    mallory: Principal
    key: SoftKey  # Bob's, who owns the account; the attacker cannot use it
    own_key: SoftKey  # Mallory's, which the attacker can

    @property
    def bob(self) -> User:
        return self.system.bob.identity.user  # type: ignore[union-attr, return-value]

    @property
    def mallory_user(self) -> User:
        return self.mallory.identity.user  # type: ignore[union-attr, return-value]

    def wanted(self, **fields: Any) -> Grant:
        """Admin for Mallory, as a row would ask for it."""
        return draft(self.mallory, self.system.admin, **{"ticket_ref": "INC-1", "origin": "request", **fields})

    def forge(self, grant: Grant | None = None, *approvals: dict[str, Any], **fields: Any) -> Grant:
        """Write a grant and a warrant that agrees with it, with the rights of the web process."""
        grant = grant or self.wanted()
        grant.save()
        spec = warrants.spec_of(grant)
        values = {"spec": spec, "digest": warrants.digest(spec), "requester": spec["requester"], "verdict": HUGE}
        Warrant.objects.create(grant=grant, approvals=list(approvals), **{**values, **fields})
        return grant

    def signed(self, approval: dict[str, Any]) -> dict[str, Any]:
        """The fields of a warrant that keeps this approval as its signature."""
        spec = warrants.spec_of(self.wanted())
        return {"signed_digest": warrants.signatures.digest_of(spec, [approval])}

    def work(self) -> None:
        """The clock ticks and workers do all that there is to do, twice."""
        with self.acting("worker"):
            passkeys.follow()
            responsibilities.follow()
            for _ in range(2):
                for pk in Grant.objects.filter(state=State.PENDING).values_list("pk", flat=True):
                    provisioning.provision(pk)
                for pk in Extension.objects.unsettled().values_list("pk", flat=True):
                    provisioning.extend(pk)
                self.system.run_clock()

    def nothing_opened(self) -> None:
        assert not self.system.can_use(self.mallory, self.system.admin)
        assert not self.system.world.assignments
        assert not Grant.objects.filter(state=State.ACTIVE).exclude(origin="found").exists()

    def alarm(self) -> None:
        """On record, where the attacker cannot reach it, and told to administrators."""
        events = AuditEvent.objects.filter(event="grants.grant.warrant_refused")
        assert events.exists()
        told = [note for event in events for note in TELLERS[event.event](event)]
        assert any(note.to == self.erin and "warrant does not hold" in note.title for note in told)
        with self.acting("web"):
            for change in (events.delete, lambda: events.update(data={})):
                denied(change)


@pytest.fixture
def attack(acting: Acting, system: System) -> Attack:
    erin = UserFactory(name="Erin", administrator=True)
    PrincipalFactory(connection=system.connection, external_id="erin", name="erin", identity__user=erin)
    mallory = system.person("mallory")
    bob, colleague = system.bob.identity.user, mallory.identity.user
    return Attack(system, acting, erin, mallory, give_key(bob), give_key(colleague))


def denied(act: Callable[[], Any]) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        act()


# Privileged access: every way to say that somebody approved it


def unsigned(a: Attack) -> dict[str, Any]:
    return {"user": str(a.bob.pk), "name": "Bob", "step_up": {"method": "passkey"}}


def over_something_else(a: Attack) -> dict[str, Any]:
    """Bob really signed: read access, for an hour, for Mallory."""
    return sign(warrants.spec_of(draft(a.mallory, a.system.read)), a.key, a.bob)


def self_made(a: Attack) -> dict[str, Any]:
    """A key of the attacker's own under the name of Bob's."""
    forged = SoftKey(origin=settings.BASE_URL, host="localhost")
    forged.id = a.key.id
    return sign(warrants.spec_of(a.wanted()), forged, a.bob)


def enrolled_just_now(a: Attack) -> dict[str, Any]:
    """A key that the attacker enrols as Bob's, long ago as it says."""
    key = SoftKey(origin=settings.BASE_URL, host="localhost")
    Authenticator.objects.filter(pk=key.enrol(a.bob).pk).update(created_at=timezone.now() - timedelta(days=300))
    return sign(warrants.spec_of(a.wanted()), key, a.bob)


def from_another_site(a: Attack) -> dict[str, Any]:
    a.key.origin = "https://gatehouse.example.org"
    return sign(warrants.spec_of(a.wanted()), a.key, a.bob)


def of_the_requester(a: Attack) -> dict[str, Any]:
    return sign(warrants.spec_of(a.wanted()), a.own_key, a.mallory_user)


def of_the_requester_as_bob(a: Attack) -> dict[str, Any]:
    return sign(warrants.spec_of(a.wanted()), a.own_key, a.bob)


def expired(a: Attack) -> dict[str, Any]:
    return sign(warrants.spec_of(a.wanted()), a.key, a.bob, expires=timezone.now() - HOUR)


def good_for_years(a: Attack) -> dict[str, Any]:
    return sign(warrants.spec_of(a.wanted()), a.key, a.bob, expires=timezone.now() + timedelta(days=900))


FORGERIES = [
    unsigned,
    over_something_else,
    self_made,
    enrolled_just_now,
    from_another_site,
    of_the_requester,
    of_the_requester_as_bob,
    expired,
    good_for_years,
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("keeps_digest", [True, False])
def test_no_forged_approval_opens_privileged_access(
    attack: Attack, forgery: Callable[[Attack], dict[str, Any]], keeps_digest: bool
) -> None:
    with attack.acting("web"):
        approval = forgery(attack)
        attack.forge(None, approval, **(attack.signed(approval) if keeps_digest else {}))
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_the_same_rows_with_what_bob_really_signed_open_it(attack: Attack) -> None:
    """So that the tests above fail for the approval, and for nothing else."""
    with attack.acting("web"):
        approval = sign(warrants.spec_of(attack.wanted()), attack.key, attack.bob)
        attack.forge(None, approval, **attack.signed(approval))
    attack.work()
    assert attack.system.can_use(attack.mallory, attack.system.admin)


def test_beside_a_forged_name_the_own_signature_opens_nothing(attack: Attack) -> None:
    """Mallory's real signature for somebody else's request, with Bob's name beside it."""
    with attack.acting("web"):
        grant = draft(attack.system.alice, attack.system.admin, ticket_ref="INC-1", origin="request")
        spec = warrants.spec_of(grant)
        own = sign(spec, attack.own_key, attack.mallory_user)
        bobs = {**own, "user": str(attack.bob.pk)}
        attack.forge(grant, own, bobs, signed_digest=warrants.signatures.digest_of(spec, [own]))
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_an_approval_that_was_really_given_serves_once(attack: Attack) -> None:
    system = attack.system
    alice = draft(system.alice, system.admin, ticket_ref="INC-1", origin="request")
    real = sign(warrants.spec_of(alice), attack.key, attack.bob)
    with attack.acting("web"):
        grant = system.issue(
            what=system.admin, ticket_ref="INC-1", authority=services.Authority(HUGE | {"cap_seconds": 3600}, (real,))
        )
    attack.work()
    assert system.can_use(what=system.admin)
    with attack.acting("web"):
        services.end(grant, by=attack.erin, reason=Grant.EndReason.DONE)
    attack.work()
    assert not system.can_use(what=system.admin)
    with attack.acting("web"):
        again = draft(system.alice, system.admin, ticket_ref="INC-1", origin="request")
        denied(lambda: attack.forge(again, real, signed_digest=grant.warrant.signed_digest))
        again = draft(system.alice, system.admin, ticket_ref="INC-1", origin="request")
        attack.forge(again, real)
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_naming_oneself_owner_or_administrator_opens_nothing(attack: Attack) -> None:
    """The web process sets owners and roles. What it says now has to stand before it opens privileged access."""
    carol = attack.system.person("carol")
    key = give_key(carol.identity.user)
    with attack.acting("web"):
        Resource.objects.update(owner=carol.identity)
        Entitlement.objects.update(owner=carol.identity)
        PortalRole.objects.create(user=carol.identity.user, role="administrator")
        approval = sign(warrants.spec_of(attack.wanted()), key, carol.identity.user)
        attack.forge(None, approval, **attack.signed(approval))
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_taking_somebodys_place_opens_nothing(attack: Attack) -> None:
    """Mallory's login becomes Bob's person; she asks as Alice and signs as the owner."""
    system = attack.system
    with attack.acting("web"):
        Identity.objects.filter(pk=attack.mallory.identity_id).update(user=None)
        Identity.objects.filter(pk=system.bob.identity_id).update(user=attack.mallory_user)
        grant = draft(system.alice, system.admin, ticket_ref="INC-1", origin="request")
        spec = warrants.spec_of(grant)
        approval = sign(spec, attack.own_key, attack.mallory_user)
        attack.forge(grant, approval, signed_digest=warrants.signatures.digest_of(spec, [approval]))
    attack.work()
    attack.nothing_opened()
    attack.alarm()


# Verdicts, rows and states


@pytest.mark.parametrize("tier", ["auto", "self", "royal", "", None, 7])
def test_a_verdict_in_a_row_opens_nothing_privileged(attack: Attack, tier: Any) -> None:
    with attack.acting("web"):
        attack.forge(verdict={"tier": tier, "cap_seconds": 10**9})
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_a_verdict_in_a_row_gives_no_more_than_the_rules(attack: Attack) -> None:
    """Write access in production takes an approval, reading it four hours at most."""
    write = attack.system.permission_set("Operator", "write")
    with attack.acting("web"):
        for what, duration in ((write, HOUR), (attack.system.read, 5 * HOUR)):
            grant = draft(attack.mallory, what, duration=duration, origin="request")
            attack.forge(grant, verdict={"tier": "auto", "cap_seconds": 10**9})
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_what_the_rules_give_her_anyway_she_gets(attack: Attack) -> None:
    with attack.acting("web"):
        attack.forge(
            draft(attack.mallory, attack.system.read, origin="request"), verdict={"tier": "auto", "cap_seconds": 3600}
        )
    attack.work()
    assert attack.system.can_use(attack.mallory, attack.system.read)
    assert not attack.system.can_use(attack.mallory, attack.system.admin)


def test_an_approval_of_an_outsider_opens_nothing_at_all(attack: Attack) -> None:
    """Not privileged: no signature is asked for, but who is named must be one who may."""
    write = attack.system.permission_set("Operator", "write")
    alice = draft(attack.system.alice, write, origin="request")
    with attack.acting("web"):
        attack.forge(alice, {"user": str(attack.mallory_user.pk), "name": "Mallory", "step_up": {"method": "totp"}})
    attack.work()
    attack.nothing_opened()
    attack.alarm()


@pytest.mark.parametrize("provisioner", ["iam_timeboxed_policy", "group_membership", "sts_broker", "", "../../x"])
def test_another_way_to_open_it_opens_nothing(attack: Attack, provisioner: str) -> None:
    with attack.acting("web"), transaction.atomic():
        grant = draft(attack.mallory, attack.system.read, provisioner=provisioner or "none", origin="request")
        attack.forge(grant, verdict={"tier": "auto", "cap_seconds": 3600})
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_a_row_without_a_warrant_opens_nothing(attack: Attack) -> None:
    with attack.acting("web"):
        attack.wanted().save()
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_a_policy_that_says_less_than_it_allows_opens_nothing(attack: Attack) -> None:
    """Defined by the web process, with a privilege of its own choosing."""
    system = attack.system
    robot = PrincipalFactory(
        connection=system.connection, iam_user=True, resource=system.account, identity__owner=attack.mallory.identity
    )
    with attack.acting("web"):
        policy = define_policy(
            system.account, slug="all", name="All", actions=["iam:*"], resources=["*"], by=attack.erin
        )
        harmless = {
            name: getattr(policy, name) for name in ("connection", "resource", "kind", "documents", "attributes")
        }
        lie = Entitlement.objects.create(
            **harmless, external_id="gatehouse:policy:lie", name="Lie", privilege="read", can_escalate=False
        )
        grant = draft(
            robot, lie, provisioner="iam_timeboxed_policy", requested_by=attack.mallory_user, origin="request"
        )
        bob = {"user": str(attack.bob.pk), "name": "Bob", "step_up": {"method": "totp"}}
        attack.forge(grant, bob)
    attack.work()
    attack.nothing_opened()
    attack.alarm()


def test_an_active_grant_is_not_stretched(attack: Attack) -> None:
    system = attack.system
    grant = system.active(system.alice)
    before = grant.ends_at
    with attack.acting("web"):
        for fields in ({"ends_at": before + HOUR}, {"not_after": before + HOUR}, {"duration": 9 * HOUR}):
            denied(lambda fields=fields: Grant.objects.filter(pk=grant.pk).update(**fields))
        spec = warrants.spec_of_extension(grant, 7 * HOUR)
        Extension.objects.create(
            grant=grant,
            duration=7 * HOUR,
            spec=spec,
            digest=warrants.digest(spec),
            requester=spec["requester"],
            verdict={"tier": "auto", "cap_seconds": 10**9},
        )
    attack.work()
    grant.refresh_from_db()
    assert grant.ends_at == before
    attack.alarm()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: Entitlement.objects.update(privilege="read"),
        lambda a: Entitlement.objects.update(documents=[]),
        lambda a: Entitlement.objects.update(is_ours=False),
        lambda a: Principal.objects.update(identity=a.mallory.identity),
        lambda a: Principal.objects.update(is_reserved=False),
        lambda a: Assignment.objects.all().delete(),
        lambda a: Identity.objects.exclude(ended_at=None).update(ended_at=None),
        lambda a: Identity.objects.update(kind="machine"),
        lambda a: Identity.objects.update(classification="service"),
        lambda a: Resource.objects.update(is_management=False),
        lambda a: Connection.objects.update(options={"provisioner_role": "Admin"}),
        lambda a: Connection.objects.update(external_id="known"),
        lambda a: Passkey.objects.update(user=a.mallory_user),
        lambda a: Passkey.objects.update(counts_from=timezone.now()),
        lambda a: Passkey.objects.create(
            user=a.bob, authenticator=99, credential_id="x", public_key="x",
            first_seen_at=timezone.now(), counts_from=timezone.now(),
        ),
        lambda a: Responsibility.objects.update(counts_from=timezone.now()),
        lambda a: Responsibility.objects.create(
            user=a.mallory_user, kind="administrator", about=0,
            first_seen_at=timezone.now(), counts_from=timezone.now(),
        ),
        lambda a: Warrant.objects.update(approvals=[]),
        lambda a: Warrant.objects.all().delete(),
        lambda a: Grant.objects.all().delete(),
        lambda a: AuditEvent.objects.all().delete(),
    ],
)  # fmt: skip
def test_what_workers_go_by_cannot_be_changed(attack: Attack, change: Callable[[Attack], Any]) -> None:
    attack.system.issue()
    attack.system.holds(attack.system.bob, attack.system.read)
    left = PrincipalFactory(connection=attack.system.connection, attributes={"status": "disabled"}).identity
    Identity.objects.filter(pk=left.pk).update(ended_at=timezone.now())
    let_stand()
    with attack.acting("web"):
        denied(lambda: change(attack))


# Redis


IDS = [10**9, -1, 0, "1 OR 1=1", "../../etc/passwd", "", None, [1], {"pk": 1}, 1.5, "é" * 1000]


def our_tasks() -> list[Any]:
    current_app.loader.import_default_modules()
    return [task for name, task in sorted(current_app.tasks.items()) if name.startswith("apps.")]


GRANT_TASKS = [task for task in our_tasks() if task.name.startswith("apps.grants.tasks")]


@pytest.mark.parametrize("task", GRANT_TASKS, ids=lambda task: task.name)
def test_a_task_for_anything_else_does_nothing(attack: Attack, task: Any) -> None:
    for value in IDS:
        with attack.acting("worker"), transaction.atomic():
            try:
                with transaction.atomic():
                    task(value)
            except Exception:  # it may fail in whatever way, as long as nothing is done
                continue
    assert not attack.system.world.calls_of("open")
    attack.nothing_opened()


def test_tasks_carry_ids_and_nothing_to_decide_by(attack: Attack) -> None:
    """A message says which row to look at. What is to be done with it is for the row, and the warrant, to say."""
    for task in our_tasks():
        parameters = [name for name in task.run.__annotations__ if name != "return"]
        assert all(name.endswith(("_id", "_key")) for name in parameters), task.name


def test_a_foreign_grant_that_is_woken_early_or_twice_is_what_it_was(attack: Attack) -> None:
    grant = attack.system.active(attack.system.alice)
    for _ in range(3):
        with attack.acting("worker"):
            provisioning.provision(grant.pk)
            provisioning.deprovision(grant.pk)
            provisioning.narrow(grant.pk)
            provisioning.clear(grant.pk)
    assert attack.system.can_use(attack.system.alice)
    assert len(attack.system.world.assignments) == 1


# Emergency stops: every way to say that two administrators let one go


@dataclass
class Stopped:
    """A stop that is in force in AWS, two administrators with passkeys, and what the attacker says of them."""

    attack: Attack
    stop: Stop
    first: User
    second: User
    keys: dict[User, SoftKey]

    def says(self, first: User, proposal: dict[str, Any], second: User, consent: dict[str, Any]) -> None:
        now = timezone.now()
        said = {"lift_proposed_at": now, "lift_proposed_by": first, "lift_reason": "x", "lift_proposal": proposal}
        said |= {"lift_asked_at": now, "lift_asked_by": second, "lift_consent": consent}
        Stop.objects.filter(pk=self.stop.pk).update(**said)

    def really(self, by: User, **fields: Any) -> dict[str, Any]:
        return signed(fields.pop("stop", self.stop), by, self.keys[by], **fields)


@pytest.fixture
def stopped(attack: Attack) -> Stopped:
    frank = known(UserFactory(name="Frank", administrator=True))
    known(attack.erin)
    attack.system.world.assign("alice", attack.system.admin.external_id)
    step_up = {"method": "passkey"}
    stop = stops.order(
        scope="account", subject=attack.system.account, reason="The web is stolen.", by=attack.erin, step_up=step_up
    )
    [row] = stop.writes.all()
    provisioning.write_stop(row.pk)
    return Stopped(attack, stop, attack.erin, frank, {user: give_key(user) for user in (attack.erin, frank)})


def lift_without_a_word(a: Stopped) -> None:
    a.says(a.first, {}, a.second, {})


def lift_on_one_signature(a: Stopped) -> None:
    a.says(a.first, a.really(a.first), a.second, {})


def lift_on_one_signature_twice(a: Stopped) -> None:
    a.says(a.first, a.really(a.first), a.second, a.really(a.first))


def lift_by_one_person(a: Stopped) -> None:
    a.says(a.first, a.really(a.first), a.first, a.really(a.first))


def lift_by_somebody_unknown(a: Stopped) -> None:
    Identity.objects.filter(user=a.second).update(user=None)
    a.says(a.first, a.really(a.first), a.second, a.really(a.second))


def lift_another_stop(a: Stopped) -> None:
    other = stops.order(scope="all", reason="A drill, really.", by=a.first, step_up={"method": "passkey"})
    a.says(a.first, a.really(a.first, stop=other), a.second, a.really(a.second, stop=other))


def lift_with_old_signatures(a: Stopped) -> None:
    ago = timezone.now() - HOUR
    a.says(a.first, a.really(a.first, expires=ago), a.second, a.really(a.second))


def lift_with_signatures_for_years(a: Stopped) -> None:
    years = timezone.now() + timedelta(days=900)
    a.says(a.first, a.really(a.first), a.second, a.really(a.second, expires=years))


def lift_with_keys_enrolled_just_now(a: Stopped) -> None:
    key = SoftKey(origin=settings.BASE_URL, host="localhost")
    key.enrol(a.second)
    a.says(a.first, a.really(a.first), a.second, signed(a.stop, a.second, key))


def lift_as_administrators_named_just_now(a: Stopped) -> None:
    users = {a.attack.bob: a.attack.key, a.attack.mallory_user: a.attack.own_key}
    for user in users:
        PortalRole.objects.create(user=user, role="administrator")
    (first, its), (second, others) = users.items()
    a.says(first, signed(a.stop, first, its), second, signed(a.stop, second, others))


@pytest.mark.parametrize(
    "forgery",
    [
        lift_without_a_word,
        lift_on_one_signature,
        lift_on_one_signature_twice,
        lift_by_one_person,
        lift_by_somebody_unknown,
        lift_another_stop,
        lift_with_old_signatures,
        lift_with_signatures_for_years,
        lift_with_keys_enrolled_just_now,
        lift_as_administrators_named_just_now,
    ],
    ids=lambda each: each.__name__,
)
def test_no_forged_word_lifts_a_stop(stopped: Stopped, forgery: Callable[[Stopped], None]) -> None:
    attack = stopped.attack
    with attack.acting("web"):
        forgery(stopped)
    with attack.acting("worker"):
        passkeys.follow()
        responsibilities.follow()
        provisioning.lift_stop(stopped.stop.pk)
        StopWrite.objects.update(next_try_at=timezone.now())
        for row in stopped.stop.writes.all():
            provisioning.write_stop(row.pk)
    stopped.stop.refresh_from_db()
    assert stopped.stop.is_in_force
    assert stopped.stop.lift_problem
    assert not attack.system.can_use(attack.system.alice, attack.system.admin)
    [event] = AuditEvent.objects.filter(event="grants.stop.lift_refused")
    assert any(note.to == attack.erin for note in TELLERS[event.event](event))


def test_the_same_rows_with_what_two_administrators_really_signed_lift_it(stopped: Stopped) -> None:
    """So that the tests above fail for what was signed, and for nothing else."""
    with stopped.attack.acting("web"):
        stopped.says(stopped.first, stopped.really(stopped.first), stopped.second, stopped.really(stopped.second))
    with stopped.attack.acting("worker"):
        provisioning.lift_stop(stopped.stop.pk)
    stopped.stop.refresh_from_db()
    assert stopped.stop.lifted_by == stopped.second


def test_the_web_process_lifts_no_stop_itself(stopped: Stopped) -> None:
    now, who = timezone.now(), {"lift_proposed_by": stopped.first, "lifted_by": stopped.second}
    with stopped.attack.acting("web"):
        denied(lambda: Stop.objects.update(lift_proposed_at=now, lifted_at=now, **who))
        denied(lambda: Stop.objects.update(lift_problem=""))
        denied(lambda: StopWrite.objects.update(cleared_at=now))
