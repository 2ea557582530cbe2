"""People who sign in. `UserFactory(administrator=True)` and `UserFactory(auditor=True)` give the portal roles."""

from __future__ import annotations

import factory

from apps.users.models import PortalRole, User


class UserFactory(factory.django.DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"Person {n}")
    email = factory.Sequence(lambda n: f"person{n}@example.com")

    class Params:
        administrator = factory.Trait(
            given=factory.RelatedFactory(
                "tests.factories.users.PortalRoleFactory", "user", role=PortalRole.Role.ADMINISTRATOR
            )
        )
        auditor = factory.Trait(
            held=factory.RelatedFactory("tests.factories.users.PortalRoleFactory", "user", role=PortalRole.Role.AUDITOR)
        )


class PortalRoleFactory(factory.django.DjangoModelFactory[PortalRole]):
    class Meta:
        model = PortalRole

    user = factory.SubFactory(UserFactory)
    role = PortalRole.Role.AUDITOR
    source = "a test"
