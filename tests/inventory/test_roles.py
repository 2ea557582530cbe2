"""Manager and entitlement owner are derived, with where they come from."""

from apps.users import roles
from tests.people import People


def names(people: People, who: str) -> dict[str, str]:
    return {role.name: role.source for role in roles.held_by(people.users[who])}


def test_a_manager_is_whom_somebody_reports_to_with_the_source_named(db: None) -> None:
    people = People()
    people.identity.manager_source = "Identity Center"
    people.identity.save()
    assert names(people, "carol")["Manager"] == "1 report to them, says Identity Center"
    assert "Manager" not in names(people, "alice")


def test_an_owner_is_who_was_named(db: None) -> None:
    people = People()
    assert "Entitlement owner" in names(people, "bob")
    assert "Entitlement owner" not in names(people, "mallory")


def test_somebody_who_left_has_no_derived_role(db: None) -> None:
    people = People()
    people.bob.identity.ended_at = people.bob.first_seen_at
    people.bob.identity.save()
    bob = type(people.users["bob"]).objects.get(pk=people.users["bob"].pk)
    assert {role.name for role in roles.held_by(bob)} == {"Member"}
