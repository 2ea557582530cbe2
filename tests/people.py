"""The cast with one of everything, for tests that go through all pages: Alice asks, Bob owns and approves, Carol manages,
Dan audits, Erin administers, Mallory may see nothing."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from apps.access.models import AccessRequest
from apps.access.services import offers, requests
from apps.access.services.requests import Place
from apps.grants.models import Drift, Exodus, Leaving, Reconciliation, Stop
from apps.insights.models import Finding, Severity
from apps.inventory.models import ConnectionTest
from apps.inventory.services import hr_files
from apps.notifications.models import Notification
from apps.reviews.models import ReviewItem
from apps.reviews.services import campaigns
from apps.scim.models import ScimUser, Source, Token
from tests.factories.inventory import PrincipalFactory, SyncRunFactory
from tests.factories.users import UserFactory
from tests.grants.system import System

ROLES = ("alice", "bob", "carol", "dan", "erin", "mallory")


class People(System):
    def __init__(self) -> None:
        super().__init__()
        carol = self.person("carol")
        self.alice.identity.manager = carol.identity
        self.alice.identity.save()
        self.account.owner = self.bob.identity
        self.account.save()
        self.users = {
            "alice": self.alice.identity.user,
            "bob": self.bob.identity.user,
            "carol": carol.identity.user,
            "dan": UserFactory(name="Dan", auditor=True),
            "erin": UserFactory(name="Erin", administrator=True),
            "mallory": UserFactory(name="Mallory"),
        }
        self.identity, self.entitlement, self.user = self.alice.identity, self.read, self.users["alice"]
        self.login = PrincipalFactory(connection=self.connection, iam_user=True, resource=self.account)
        self.run = SyncRunFactory(connection=self.connection)
        self.connection_test = ConnectionTest.objects.create(connection=self.connection)
        self.grant = self.issue()
        former = self.person("former").identity  # reported to Carol
        type(former).objects.filter(pk=former.pk).update(manager=carol.identity, ended_at=timezone.now())
        self.leaving = Leaving.objects.create(identity=former, left_at=timezone.now(), passes_to=carol.identity)
        self.exodus = Exodus.objects.create(connection=self.connection, people_before=9, state=Exodus.State.OVER)
        write = self.permission_set("Operator", "write")
        self.stop = Stop.objects.create(
            scope="person", identity=carol.identity, reason="A drill.", ordered_by=self.users["erin"]
        )
        self.comparison = Reconciliation.objects.create(
            connection=self.connection, database="here", next_at=timezone.now(), state=Reconciliation.State.SETTLED
        )
        self.drift = Drift.objects.create(
            connection=self.connection,
            kind=Drift.Kind.UNINTENDED,
            key="0" * 64,
            what="Bob holds Admin, and nobody decided that here.",
            first_seen_at=timezone.now(),
            seen_at=timezone.now(),
            seen_in=self.comparison,
        )
        self.finding = Finding.objects.create(
            connection=self.connection,
            kind=Finding.Kind.ESCALATION,
            key=f"entitlement:{write.pk}",
            severity=Severity.HIGH,
            entitlement=write,
            resource=self.account,
            owner=self.bob.identity,
            name=write.name,
            what="Operator is not an administrator's, but lets its holders become one.",
            first_seen_at=timezone.now(),
        )
        self.offer = offers.offer(
            write, provisioner="idc_assignment", max_for=timedelta(hours=4), by=self.users["erin"]
        )
        self.request: AccessRequest = requests.ask(
            self.offer,
            principal=self.alice,
            duration=timedelta(hours=1),
            reason="Card payments are slow.",
            by=self.users["alice"],
            place=Place(device="laptop", session="s1"),
        )
        standing = self.permission_set("Root", "admin")
        self.holds(self.alice, standing)
        self.campaign = campaigns.draft(
            name="Standing privilege",
            connection=self.connection,
            holders=["human"],
            environments=[],
            privileged_only=True,
            due_at=timezone.now() + timedelta(days=14),
            fallback=self.users["bob"],
            by=self.users["erin"],
        )
        campaigns.launch(self.campaign, by=self.users["erin"])
        self.item = ReviewItem.objects.get(campaign=self.campaign)
        self.source = Source.objects.create(name="Okta", connection=self.connection)
        self.token = Token.objects.create(
            source=self.source, prefix="0" * 12, digest="0" * 64, created_by=self.users["erin"]
        )
        self.scim_user = ScimUser.objects.create(source=self.source, user_name="x", user_name_key="x", payload={})
        self.hr_file = hr_files.look_at(
            self.connection, [b"email,title\nnobody@example.com,Lead\n"], name="hr.csv", by=self.users["erin"]
        )
        self.notification = Notification.objects.create(
            recipient=self.users["alice"], event=1, kind="grants.grant.active", title="Ready", url="/grants/"
        )
