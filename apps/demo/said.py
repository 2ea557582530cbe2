"""What people and an identity provider said: about machines what AWS does not know, about people who they are."""

from __future__ import annotations

from apps.demo.company.people import CAST, email
from apps.inventory import services as inventory
from apps.inventory.models import Connection, Identity, Principal
from apps.inventory.models.holders import Classification
from apps.scim import documents
from apps.scim.models import ScimUser, Source
from apps.scim.protocol import EnterpriseUser, Users
from apps.scim.services import people, sources
from apps.users.models import User

MACHINE = "ci-legacy-deployer"  # an IAM user of which AWS shows only that it has keys
KNOWN = email("Freya Lund")
JOINER = ("ines.duarte", "Inês Duarte")  # starts on Monday: Identity Center does not know her yet


def about_machines(connection: Connection) -> Identity | None:
    """Erin makes it Bob's, and he says what the old deployer really is, what it is for, and who comes after him."""
    machine = Identity.objects.machine().filter(connection=connection, principals__name=MACHINE).first()
    if machine is None:
        return None
    bob, erin = (User.objects.get(email=CAST[name]) for name in ("bob", "erin"))
    human = Identity.objects.human().filter(connection=connection)
    inventory.set_owner(machine, human.get(email=CAST["bob"]), by=erin)
    inventory.correct(
        machine,
        classification=Classification.GITHUB,
        reason="Its one live key is a secret of our GitHub organization. Nothing else signs in with it.",
        by=bob,
    )
    inventory.describe(
        machine,
        purpose="Deployed everything before GitHub could sign in without keys.",
        consumers="The release workflow of ticket-printing, until it moves.",
        by=bob,
    )
    return inventory.set_successor(machine, human.get(email=CAST["carol"]), by=bob)


def about_people(connection: Connection) -> list[ScimUser]:
    """The identity provider knows two people. Erin says who the one is; the other waits until Identity Center has her.
    It has no token, so nobody can call in its name."""
    erin = User.objects.get(email=CAST["erin"])
    source = sources.add_source(name="Okta", connection=connection, subject_is_external_id=False, by=erin)
    there = Principal.objects.filter(connection=connection, kind=Principal.Kind.IDC_USER, name=KNOWN).first()
    rows = [_speak_of(source, *JOINER, title="Support engineer")]
    if there and there.identity:
        row = _speak_of(source, "freya.lund", there.identity.name, title="Senior support engineer")
        rows.append(people.link(row, there.identity, by=erin))
    return rows


def _speak_of(source: Source, name: str, display_name: str, *, title: str) -> ScimUser:
    job = {"department": "Support"}
    user = Users.model_validate(
        {
            "schemas": [Users.__schema__, EnterpriseUser.__schema__],
            "userName": f"{name}@harbourline.example",
            "externalId": f"00u-{name}",
            "displayName": display_name,
            "title": title,
            "active": True,
            str(EnterpriseUser.__schema__): job,
        }
    )
    return people.create(source, documents.user_values(user), token="")
