"""The inventory's rows. Everything made in one call shares one connection: give `connection=` to join others."""

from __future__ import annotations

import factory
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from apps.inventory.models import (
    Assignment,
    Connection,
    Credential,
    Entitlement,
    Identity,
    Principal,
    Resource,
    ScopeScan,
    SyncRun,
)
from apps.inventory.models.access import Privilege
from apps.inventory.models.resources import Environment


class ConnectionFactory(factory.django.DjangoModelFactory[Connection]):
    """Observe-only, as connections start. `baselined=True`; `writable=True`: baselined, and two people let it write."""

    class Meta:
        model = Connection

    name = factory.Sequence(lambda n: f"org-{n}")
    kind = Connection.Kind.FAKE
    options = factory.LazyAttribute(lambda o: {"world": o.name})

    class Params:
        baselined = factory.Trait(
            baselined_at=factory.LazyFunction(timezone.now),
            baselined_by=factory.SubFactory("tests.factories.users.UserFactory", administrator=True),
        )
        writable = factory.Trait(
            baselined=True,
            write_proposed_at=factory.LazyFunction(timezone.now),
            write_proposed_by=factory.SubFactory("tests.factories.users.UserFactory", administrator=True),
            write_approved_at=factory.LazyFunction(timezone.now),
            write_approved_by=factory.SubFactory("tests.factories.users.UserFactory", administrator=True),
        )


class ResourceFactory(factory.django.DjangoModelFactory[Resource]):
    class Meta:
        model = Resource

    connection = factory.SubFactory(ConnectionFactory)
    external_id = factory.Sequence(lambda n: f"{100000000000 + n}")
    name = factory.Sequence(lambda n: f"account-{n}")
    path = "Workloads/Production"
    environment = Environment.PRODUCTION


class IdentityFactory(factory.django.DjangoModelFactory[Identity]):
    """A person, unless `machine=True`."""

    class Meta:
        model = Identity

    connection = factory.SubFactory(ConnectionFactory)
    kind = Identity.Kind.HUMAN
    external_id = factory.Sequence(lambda n: f"identity-{n}")
    name = factory.Sequence(lambda n: f"Human {n}")
    email = factory.LazyAttribute(lambda o: f"{o.external_id}@example.com")
    title = "Engineer"
    department = "Payments"

    class Params:
        human = factory.Trait(kind=Identity.Kind.HUMAN)
        machine = factory.Trait(
            kind=Identity.Kind.MACHINE,
            name=factory.Sequence(lambda n: f"machine-{n}"),
            email="",
            title="",
            department="",
            classification="service",
            evidence="Its trust policy lets ec2.amazonaws.com assume it.",
        )


class PrincipalFactory(factory.django.DjangoModelFactory[Principal]):
    """A person's Identity Center user with its identity, unless `group=True`, `iam_user=True` or `iam_role=True`."""

    class Meta:
        model = Principal

    connection = factory.SubFactory(ConnectionFactory)
    kind = Principal.Kind.IDC_USER
    external_id = factory.Sequence(lambda n: f"principal-{n}")
    name = factory.LazyAttribute(lambda o: o.external_id)
    identity = factory.SubFactory(
        IdentityFactory,
        connection=factory.SelfAttribute("..connection"),
        external_id=factory.SelfAttribute("..external_id"),
    )

    class Params:
        group = factory.Trait(kind=Principal.Kind.IDC_GROUP, identity=None)
        iam_group = factory.Trait(
            kind=Principal.Kind.IAM_GROUP,
            identity=None,
            resource=factory.SubFactory(ResourceFactory, connection=factory.SelfAttribute("..connection")),
        )
        iam_user = factory.Trait(
            kind=Principal.Kind.IAM_USER,
            resource=factory.SubFactory(ResourceFactory, connection=factory.SelfAttribute("..connection")),
            identity=factory.SubFactory(
                IdentityFactory,
                machine=True,
                connection=factory.SelfAttribute("..connection"),
                external_id=factory.SelfAttribute("..external_id"),
            ),
        )
        iam_role = factory.Trait(
            kind=Principal.Kind.IAM_ROLE,
            resource=factory.SubFactory(ResourceFactory, connection=factory.SelfAttribute("..connection")),
            identity=factory.SubFactory(
                IdentityFactory,
                machine=True,
                connection=factory.SelfAttribute("..connection"),
                external_id=factory.SelfAttribute("..external_id"),
            ),
        )


class EntitlementFactory(factory.django.DjangoModelFactory[Entitlement]):
    """A permission set in an account, unless `membership=True` (of a group made with it, or `group=`)."""

    class Meta:
        model = Entitlement

    connection = factory.SubFactory(ConnectionFactory)
    resource = factory.SubFactory(ResourceFactory, connection=factory.SelfAttribute("..connection"))
    kind = Entitlement.Kind.PERMISSION_SET
    external_id = factory.Sequence(lambda n: f"entitlement-{n}")
    name = factory.Sequence(lambda n: f"PermissionSet{n}")
    privilege = Privilege.READ
    privilege_reason = "It only lists and reads."

    class Params:
        membership = factory.Trait(
            kind=Entitlement.Kind.IDC_GROUP,
            resource=None,
            group=factory.SubFactory(PrincipalFactory, group=True, connection=factory.SelfAttribute("..connection")),
            name=factory.SelfAttribute("group.name"),
        )


def open_period() -> DateTimeTZRange:
    """From now on, with no end."""
    return DateTimeTZRange(timezone.now(), None)


class AssignmentFactory(factory.django.DjangoModelFactory[Assignment]):
    """Held now, and standing nowhere: `is_standing=True` makes it what a baseline found."""

    class Meta:
        model = Assignment

    connection = factory.SubFactory(ConnectionFactory)
    principal = factory.SubFactory(PrincipalFactory, connection=factory.SelfAttribute("..connection"))
    entitlement = factory.SubFactory(EntitlementFactory, connection=factory.SelfAttribute("..connection"))
    period = factory.LazyFunction(open_period)


class CredentialFactory(factory.django.DjangoModelFactory[Credential]):
    class Meta:
        model = Credential

    principal = factory.SubFactory(PrincipalFactory, iam_user=True)
    kind = Credential.Kind.ACCESS_KEY
    external_id = factory.Sequence(lambda n: f"AKIA{n:016}")


class SyncRunFactory(factory.django.DjangoModelFactory[SyncRun]):
    """A finished, complete reading of a connection."""

    class Meta:
        model = SyncRun

    connection = factory.SubFactory(ConnectionFactory)
    state = SyncRun.State.COMPLETE
    finished_at = factory.LazyFunction(timezone.now)


class ScopeScanFactory(factory.django.DjangoModelFactory[ScopeScan]):
    class Meta:
        model = ScopeScan

    run = factory.SubFactory(SyncRunFactory)
    state = ScopeScan.State.COMPLETE
    started_at = factory.LazyFunction(timezone.now)
    finished_at = factory.LazyFunction(timezone.now)
