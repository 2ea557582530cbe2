"""Joiner, mover, leaver: what a call means for the one person it is about, and for nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.test import override_settings
from django.utils import timezone

from apps.audit.models import AuditEvent, ref
from apps.grants.models import Leaving
from apps.inventory.models import Departure, Identity, Principal
from apps.scim import periodic
from apps.scim.models import ScimUser
from apps.scim.services import linking, people
from apps.scim.services.sources import NotPossible
from apps.users import oidc
from apps.users import services as users
from apps.users.models import PortalRole
from tests.factories.inventory import ConnectionFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.scim.conftest import ENTERPRISE, Provider

pytestmark = pytest.mark.django_db


def person(okta: Provider, name: str, connection: Any = None) -> Identity:
    """Somebody of Identity Center whom it knows by the external id "00u-<name>"."""
    principal = PrincipalFactory(
        connection=connection or okta.source.connection,
        external_id=name,
        attributes={"external_ids": [f"00u-{name}"], "status": "enabled"},
    )
    return principal.identity


def again(identity: Identity) -> Identity:
    return Identity.objects.get(pk=identity.pk)


def add(okta: Provider, name: str, **more: Any) -> Any:
    return okta.add(f"{name}@example.com", externalId=f"00u-{name}", **more)


def test_the_external_id_of_identity_center_links_and_an_e_mail_address_does_not(okta: Provider) -> None:
    alice = person(okta, "alice")
    okta.add("other", externalId="something", emails=[{"value": alice.email}])
    assert ScimUser.objects.get().identity is None
    add(okta, "alice")
    row = ScimUser.objects.get(external_id="00u-alice")
    assert (row.identity, row.identity_source) == (alice, linking.RULE)


def test_an_external_id_that_two_people_have_is_nobodys(okta: Provider) -> None:
    person(okta, "alice")
    Principal.objects.update(attributes={"external_ids": ["00u-alice"]})
    PrincipalFactory(connection=okta.source.connection, attributes={"external_ids": ["00u-alice"]})
    add(okta, "alice")
    assert ScimUser.objects.get().identity is None


def test_people_of_another_connection_are_out_of_reach(okta: Provider) -> None:
    mallory = person(okta, "mallory", ConnectionFactory())
    user = add(okta, "mallory")
    okta.active(user, False)
    assert again(mallory).ended_at is None


@pytest.mark.parametrize("how", ["patch", "put", "delete", "create"])
def test_who_is_not_active_any_more_has_left(okta: Provider, how: str) -> None:
    alice = person(okta, "alice")
    portal_user = UserFactory()
    Identity.objects.filter(pk=alice.pk).update(user=portal_user)
    user = add(okta, "alice", **({"active": False} if how == "create" else {}))
    if how == "patch":
        okta.active(user, False)
    elif how == "put":
        answer = okta.call("PUT", f"/Users/{user['id']}", {**user, "active": False})
        assert answer.status_code == 200
    elif how == "delete":
        assert okta.call("DELETE", f"/Users/{user['id']}").status_code == 204
        assert okta.get(f"/Users/{user['id']}").status_code == 404
    assert again(alice).ended_at
    portal_user.refresh_from_db()
    assert not portal_user.is_active
    mine = AuditEvent.objects.filter(event__startswith="scim.user.").order_by("pk")
    assert mine.count() == (1 if how == "create" else 2)
    assert mine.last().data["ended"] == [alice.pk]
    assert (mine.last().actor_kind, mine.last().actor_name) == ("program", "Okta")


def test_active_again_brings_back_and_lets_in_whom_it_had_kept_out(okta: Provider) -> None:
    alice = person(okta, "alice")
    portal_user = UserFactory()
    Identity.objects.filter(pk=alice.pk).update(user=portal_user)
    user = add(okta, "alice")
    okta.active(user, False)
    okta.active(user, True)
    portal_user.refresh_from_db()
    assert (again(alice).ended_at, portal_user.is_active) == (None, True)


def test_whoever_had_a_portal_role_or_was_kept_out_before_waits_for_an_administrator(okta: Provider, erin: Any) -> None:
    alice, bob = person(okta, "alice"), person(okta, "bob")
    auditor, banned = UserFactory(auditor=True), UserFactory()
    Identity.objects.filter(pk=alice.pk).update(user=auditor)
    Identity.objects.filter(pk=bob.pk).update(user=banned)
    users.deactivate_user(user=banned, by=erin)
    roles = list(PortalRole.objects.order_by("pk").values())
    for name in ("alice", "bob"):
        user = add(okta, name)
        okta.active(user, False)
        okta.active(user, True)
    auditor.refresh_from_db()
    banned.refresh_from_db()
    assert (auditor.is_active, banned.is_active) == (False, False)
    assert list(PortalRole.objects.order_by("pk").values()) == roles


@pytest.mark.parametrize("how", ["let_in_between", "left_again", "unlinked", "another_user"])
def test_what_an_administrator_decided_meanwhile_is_not_undone(okta: Provider, erin: Any, how: str) -> None:
    alice, portal_user = person(okta, "alice"), UserFactory()
    Identity.objects.filter(pk=alice.pk).update(user=portal_user)
    user = add(okta, "alice")
    okta.active(user, False)
    portal_user.refresh_from_db()
    if how == "left_again":  # they were back by this word, and gone by another, when an administrator decided
        Departure.objects.create(identity=alice, source="hr_file", said_by="CSV", leaves_at=timezone.now())
        okta.active(user, True)
    if how == "unlinked":
        people.unlink(ScimUser.objects.get(), by=erin)
        people.link(ScimUser.objects.get(), alice, by=erin)
    elif how == "another_user":
        Identity.objects.filter(pk=alice.pk).update(user=UserFactory())
    else:
        users.reactivate_user(user=portal_user, by=erin)
        users.deactivate_user(user=portal_user, by=erin)
    if how == "left_again":
        Departure.objects.all().delete()
        Identity.objects.filter(pk=alice.pk).update(ended_at=None)
        okta.active(user, False)
        assert ScimUser.objects.get().kept_out is None, "it kept nobody out this time"
    okta.active(user, True)
    portal_user.refresh_from_db()
    assert not portal_user.is_active
    assert again(alice).ended_at is None


def test_no_attribute_gives_a_portal_role(okta: Provider) -> None:
    alice = person(okta, "alice")
    Identity.objects.filter(pk=alice.pk).update(user=UserFactory())
    before = list(PortalRole.objects.order_by("pk").values())
    wanted = [{"value": "administrator", "primary": True}]
    user = add(okta, "alice", roles=wanted, entitlements=wanted, userType="administrator", title="Administrator")
    okta.patch(f"/Users/{user['id']}", {"op": "add", "path": "roles", "value": [{"value": "auditor"}]})
    group = okta.call(
        "POST",
        "/Groups",
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
            "displayName": "administrator",
            "members": [{"value": user["id"]}],
        },
    )
    assert group.status_code == 201
    okta.active(user, False)
    okta.active(user, True)
    okta.call("DELETE", f"/Users/{user['id']}")
    assert list(PortalRole.objects.order_by("pk").values()) == before


def test_a_mover_gets_department_title_and_manager_with_their_source(okta: Provider) -> None:
    alice, carol = person(okta, "alice"), person(okta, "carol")
    boss = add(okta, "carol")
    job = {"department": "Treasury", "manager": {"value": boss["id"]}}
    user = add(okta, "alice", title="Lead", **{ENTERPRISE: job})
    now = again(alice)
    assert (now.department, now.title, now.manager, now.manager_source) == ("Treasury", "Lead", carol, "Okta")
    okta.patch(f"/Users/{user['id']}", {"op": "remove", "path": f"{ENTERPRISE}:manager"})
    assert again(alice).manager is None


def test_a_manager_who_comes_later_is_named_then_and_may_be_called_by_external_id(okta: Provider) -> None:
    alice, carol = person(okta, "alice"), person(okta, "carol")
    add(okta, "alice", **{ENTERPRISE: {"manager": {"value": "00u-carol"}}})
    assert again(alice).manager is None
    add(okta, "carol")
    assert again(alice).manager == carol


def test_a_user_name_that_is_somebody_elses_external_id_makes_nobody_a_manager(okta: Provider) -> None:
    """Whoever may choose their user name could so become anybody's manager."""
    alice, carol, _ = person(okta, "alice"), person(okta, "carol"), person(okta, "mallory")
    add(okta, "carol")
    add(okta, "alice", **{ENTERPRISE: {"manager": {"value": "00u-carol"}}})
    okta.add("00u-carol", externalId="00u-mallory")
    assert again(alice).manager == carol


def test_an_external_id_may_look_like_a_scim_id(okta: Provider) -> None:
    key = "5b1d0e3c-7c44-4f57-9a35-0c7b7b3ddc11"
    alice, carol = person(okta, "alice"), person(okta, "carol")
    Principal.objects.filter(identity=carol).update(attributes={"external_ids": [key]})
    okta.add("carol", externalId=key)
    add(okta, "alice", **{ENTERPRISE: {"manager": {"value": key}}})
    assert again(alice).manager == carol


def test_what_did_not_change_is_not_said_again_over_a_later_word(okta: Provider, erin: Any) -> None:
    alice, bob, carol = person(okta, "alice"), person(okta, "bob"), person(okta, "carol")
    boss = add(okta, "carol")
    user = add(
        okta, "alice", title="Lead", **{ENTERPRISE: {"department": "Treasury", "manager": {"value": boss["id"]}}}
    )
    assert again(alice).manager == carol
    Identity.objects.filter(pk=alice.pk).update(title="Head", manager=bob)  # the HR file, since
    for who in (boss, user):
        okta.patch(f"/Users/{who['id']}", {"op": "add", "path": "nickName", "value": "Al"})
    now = again(alice)
    assert (now.title, now.department, now.manager) == ("Head", "Treasury", bob)
    okta.patch(f"/Users/{user['id']}", {"op": "replace", "path": "title", "value": "Boss"})
    now = again(alice)
    assert (now.title, now.manager) == ("Boss", bob)
    assert okta.call("DELETE", f"/Users/{user['id']}").status_code == 204
    assert again(alice).ended_at


def test_an_absent_department_says_nothing(okta: Provider) -> None:
    alice = person(okta, "alice")
    before = alice.department
    user = add(okta, "alice")
    okta.patch(f"/Users/{user['id']}", {"op": "add", "path": "nickName", "value": "Al"})
    assert again(alice).department == before != ""


def test_a_new_external_id_moves_the_rules_link_and_never_an_administrators(okta: Provider, erin: Any) -> None:
    alice, bob = person(okta, "alice"), person(okta, "bob")
    user = add(okta, "alice")
    change = {"op": "replace", "path": "externalId", "value": "00u-bob"}
    okta.patch(f"/Users/{user['id']}", change)
    row = ScimUser.objects.get()
    assert row.identity == bob
    people.unlink(row, by=erin)
    people.link(row, alice, by=erin)
    okta.patch(f"/Users/{user['id']}", {**change, "value": "00u-nobody"})
    okta.patch(f"/Users/{user['id']}", change)
    assert ScimUser.objects.get().identity == alice


LEAVES, BACK = {"active": False}, {"active": True}


def named(name: str) -> dict[str, str]:
    return {"externalId": f"00u-{name}" if name else ""}


# What is said of Alice, whom the rule linked, call by call; whom the user is linked to then; and who has ended.
WORDS = {
    "leaves, without id": ([LEAVES | named("")], "alice", "alice"),
    "leaves, by an id that is nobody's": ([LEAVES | named("other")], "alice", "alice"),
    "leaves, by Bob's id": ([LEAVES | named("bob")], "alice", "alice"),
    "leaves, and is Bob then": ([LEAVES, named("bob")], "alice", "alice"),
    "loses her id and changes her name": ([named("") | {"userName": "al", "title": "Lead"}], "alice", ""),
    "loses her id, and leaves": ([named(""), LEAVES], "alice", "alice"),
    "loses her id, and leaves by Bob's": ([named(""), LEAVES | named("bob")], "alice", "alice"),
    "gets an id that is nobody's": ([named("other")], "alice", ""),
    "gets an id that is nobody's, and leaves": ([named("other"), LEAVES], "alice", "alice"),
    "is Bob": ([named("bob")], "bob", ""),
    "is Bob, who leaves": ([named("bob"), LEAVES], "bob", "bob"),
    "loses her id, and is Bob": ([named(""), named("bob")], "bob", ""),
    "comes back": ([LEAVES, BACK], "alice", ""),
    "leaves without id, and comes back": ([LEAVES | named(""), BACK], "alice", ""),
    "comes back as Bob": ([LEAVES, BACK | named("bob")], "bob", "alice"),
    "comes back as nobody": ([LEAVES, BACK | named("other")], "", "alice"),
    "leaves by Bob's id, and comes back": ([LEAVES | named("bob"), BACK], "bob", "alice"),
    "leaves by nobody's id, and comes back": ([LEAVES | named("other"), BACK], "", "alice"),
    "leaves by nobody's id, and comes back by hers": ([LEAVES | named("other"), BACK | named("alice")], "alice", ""),
}


@pytest.mark.parametrize("how", ["patch", "put"])
@pytest.mark.parametrize("words", [*WORDS])
def test_only_an_active_users_other_id_that_is_somebodys_moves_a_link(okta: Provider, words: str, how: str) -> None:
    known = {"": None, "alice": person(okta, "alice"), "bob": person(okta, "bob")}
    calls, linked, ended = WORDS[words]
    where = f"/Users/{add(okta, 'alice')['id']}"
    for said in calls:
        if how == "patch":
            answer = okta.patch(where, {"op": "replace", "value": said})
        else:
            body = {**okta.get(where).json(), **said}
            answer = okta.call("PUT", where, {name: value for name, value in body.items() if value != ""})
        assert answer.status_code in (200, 204), answer.content
    for _ in range(2):  # and it stays so when the clock looks
        assert ScimUser.objects.get().identity == known[linked]
        gone = Identity.objects.exclude(ended_at=None)
        assert [*gone] == [one for name, one in known.items() if name and name == ended]
        periodic.link_waiting()
    if "title" in calls[0]:
        assert again(known["alice"]).title == "Lead"


@pytest.mark.parametrize("active", [True, False])
def test_an_id_that_becomes_somebodys_later_moves_an_active_users_link_then(okta: Provider, active: bool) -> None:
    alice = person(okta, "alice")
    user = add(okta, "alice")
    okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": named("bob") | {"active": active}})
    bob = person(okta, "bob")
    periodic.link_waiting()
    assert ScimUser.objects.get().identity == (bob if active else alice)
    assert (bool(again(alice).ended_at), again(bob).ended_at) == (not active, None)


@pytest.mark.parametrize("how", ["call", "clock", "nobody"])
def test_whose_link_moves_away_reads_so_in_their_own_log(okta: Provider, how: str) -> None:
    alice = person(okta, "alice")
    to = [] if how == "clock" else [person(okta, "bob")]
    user = add(okta, "alice")
    if how == "nobody":
        okta.active(user, False)
    said = BACK | named("other") if how == "nobody" else named("bob")
    okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": said})
    if how == "clock":
        assert "was" not in AuditEvent.objects.about(ref(alice)).latest("pk").data, "she is who she was"
        to = [person(okta, "bob")]
        periodic.link_waiting()
    event = AuditEvent.objects.about(ref(alice)).latest("pk")
    assert (event.data["was"], event.data["identity"]) == (alice.pk, None if how == "nobody" else to[0].pk)
    assert how == "nobody" or event in AuditEvent.objects.about(ref(to[0]))


def test_a_link_stays_where_identity_center_says_that_the_new_id_is_hers(okta: Provider) -> None:
    alice = person(okta, "alice")
    user = add(okta, "alice")
    okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": named("new")})
    Principal.objects.update(attributes={"external_ids": ["00u-new"]})
    periodic.link_waiting()
    assert ScimUser.objects.get().identity == alice
    assert not AuditEvent.objects.filter(event="scim.user.linked").exists()


def test_who_left_here_and_is_new_in_identity_center_by_the_same_id_has_left(okta: Provider) -> None:
    old = person(okta, "alice")
    okta.active(add(okta, "alice"), False)
    Principal.objects.filter(identity=old).update(ended_at=timezone.now())
    new = PrincipalFactory(connection=okta.source.connection, attributes={"external_ids": ["00u-alice"]}).identity
    periodic.link_waiting()
    assert again(new).ended_at


@pytest.mark.parametrize("is_linked", [True, False])
@pytest.mark.parametrize(
    "calls",
    [
        [LEAVES | named("bob")],
        [LEAVES | named("bob"), {"title": "x"}],
        [LEAVES, named("bob")],
        [LEAVES | named("")],
        [LEAVES | named(""), named("bob")],
    ],
)
def test_whoever_leaves_by_anothers_subject_is_out_and_the_other_is_not(
    okta: Provider, settings: Any, calls: list[dict[str, Any]], is_linked: bool
) -> None:
    settings.OIDC_ISSUER = "https://sso.example.com"
    okta.source.subject_is_external_id = True
    okta.source.save()
    if is_linked:
        person(okta, "alice")
    bob, logins = person(okta, "bob"), [UserFactory(), UserFactory()]
    Identity.objects.filter(pk=bob.pk).update(user=logins[1])
    for login, name in zip(logins, ("alice", "bob"), strict=True):
        SocialAccount.objects.create(user=login, provider=oidc.provider_id(settings.OIDC_ISSUER), uid=f"00u-{name}")
    user = add(okta, "alice")
    for said in calls:
        okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": said})
    periodic.link_waiting()
    for login in logins:
        login.refresh_from_db()
    assert ([login.is_active for login in logins], again(bob).ended_at) == ([False, True], None)
    okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": BACK | named("bob")})
    assert ScimUser.objects.get().identity == bob, "who is active is whose id it is"


@pytest.mark.parametrize("how", ["deleted", "another word", "let in", "not theirs"])
def test_who_signs_in_first_after_they_left_is_out_by_the_next_word_unless_let_in(
    okta: Provider, settings: Any, erin: Any, how: str
) -> None:
    settings.OIDC_ISSUER = "https://sso.example.com"
    okta.source.subject_is_external_id = True
    okta.source.save()
    user = add(okta, "alice")
    if how == "not theirs":
        people.link(ScimUser.objects.get(), person(okta, "alice"), by=erin)
    said = LEAVES | (named("bob") if how == "not theirs" else {})
    okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": said})
    login, name = UserFactory(), "bob" if how == "not theirs" else "alice"
    SocialAccount.objects.create(user=login, provider=oidc.provider_id(settings.OIDC_ISSUER), uid=f"00u-{name}")
    if how in ("another word", "let in"):
        okta.patch(f"/Users/{user['id']}", {"op": "add", "path": "title", "value": "Lead"})
    if how == "let in":
        login.refresh_from_db()
        users.reactivate_user(user=login, by=erin)
        okta.patch(f"/Users/{user['id']}", {"op": "add", "path": "title", "value": "Head"})
    if how != "another word":
        okta.call("DELETE", f"/Users/{user['id']}")
    login.refresh_from_db()
    assert login.is_active == (how in ("let in", "not theirs"))


def test_whoever_left_by_a_link_that_was_wrong_is_here_again(okta: Provider, erin: Any) -> None:
    alice, portal_user = person(okta, "alice"), UserFactory()
    Identity.objects.filter(pk=alice.pk).update(user=portal_user)
    user = add(okta, "alice")
    okta.active(user, False)
    people.unlink(ScimUser.objects.get(), by=erin)
    portal_user.refresh_from_db()
    assert (again(alice).ended_at, portal_user.is_active) == (None, False)
    assert AuditEvent.objects.get(event="scim.user.unlinked").data["returned"] == [alice.pk]
    okta.active(user, True)
    okta.active(user, False)
    assert again(alice).ended_at is None, "it says nothing about her any more"


def test_two_users_are_never_one_person(okta: Provider, erin: Any) -> None:
    alice = person(okta, "alice")
    add(okta, "alice")
    okta.add("second")
    with pytest.raises(NotPossible, match="another user already"):
        people.link(ScimUser.objects.get(user_name="second"), alice, by=erin)


def test_an_administrator_links_nobody_to_their_own_person(okta: Provider, erin: Any) -> None:
    alice = person(okta, "alice")
    Identity.objects.filter(pk=alice.pk).update(user=erin)
    okta.add("second")
    with pytest.raises(NotPossible, match="Another administrator"):
        people.link(ScimUser.objects.get(), alice, by=erin)


def test_who_was_spoken_of_before_identity_center_knew_them_is_linked_later(okta: Provider) -> None:
    user = add(okta, "alice", title="Lead")
    okta.active(user, False)
    assert ScimUser.objects.get().identity is None
    alice = person(okta, "alice")
    periodic.link_waiting()
    assert again(alice).ended_at
    assert again(alice).title == "Lead"
    assert AuditEvent.objects.filter(event="scim.user.linked").count() == 1
    periodic.link_waiting()
    assert AuditEvent.objects.filter(event="scim.user.linked").count() == 1


def test_who_came_back_as_somebody_new_in_identity_center_is_who_is_there(okta: Provider) -> None:
    old = person(okta, "alice")
    user = add(okta, "alice")
    now = timezone.now()
    Principal.objects.filter(identity=old).update(ended_at=now)
    Identity.objects.filter(pk=old.pk).update(ended_at=now)
    periodic.link_waiting()
    assert ScimUser.objects.get().identity == old, "nobody else is there"
    new = PrincipalFactory(connection=okta.source.connection, attributes={"external_ids": ["00u-alice"]}).identity
    periodic.link_waiting()
    assert ScimUser.objects.get().identity == new
    okta.active(user, False)
    assert again(new).ended_at
    periodic.link_waiting()
    assert AuditEvent.objects.filter(event="scim.user.linked").count() == 1
    ScimUser.objects.all().delete()
    add(okta, "alice")
    assert ScimUser.objects.get().identity == new, "whoever is there comes first"


def test_where_external_ids_are_subjects_who_leaves_is_out_before_anybody_linked_them(okta: Provider) -> None:
    issuer = "https://sso.example.com"
    okta.source.subject_is_external_id = True
    okta.source.save()
    portal_user = UserFactory()
    SocialAccount.objects.create(user=portal_user, provider=oidc.provider_id(issuer), uid="00u-alice")
    with override_settings(OIDC_ISSUER=issuer):
        user = add(okta, "alice")
        okta.active(user, False)
    portal_user.refresh_from_db()
    assert not portal_user.is_active


@pytest.mark.parametrize(
    "how", ["leaves", "deleted", "leaves without id", "not subjects", "elsewhere", "another user's"]
)
def test_who_leaves_by_their_subject_leaves_as_a_person_too(okta: Provider, settings: Any, how: str) -> None:
    settings.OIDC_ISSUER = "https://sso.example.com"
    okta.source.subject_is_external_id = how != "not subjects"
    okta.source.save()
    where = ConnectionFactory() if how == "elsewhere" else okta.source.connection
    alice = PrincipalFactory(connection=where, attributes={"status": "enabled"}).identity
    login = UserFactory()
    SocialAccount.objects.create(user=login, provider=oidc.provider_id(settings.OIDC_ISSUER), uid="00u-alice")
    user = add(okta, "alice")
    Identity.objects.filter(pk=alice.pk).update(user=login)
    if how == "another user's":
        ScimUser.objects.create(source=okta.source, user_name_key="other", payload={}, identity=alice)
    if how == "deleted":
        okta.call("DELETE", f"/Users/{user['id']}")
    else:
        said = LEAVES | (named("") if how == "leaves without id" else {})
        okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": said})
    login.refresh_from_db()
    is_theirs = how in ("leaves", "deleted", "leaves without id")
    assert (bool(again(alice).ended_at), Leaving.objects.filter(identity=alice).exists()) == (is_theirs, is_theirs)
    assert login.is_active == (how == "not subjects")
    if how != "deleted":
        assert ScimUser.objects.get(user_name="alice@example.com").identity == (alice if is_theirs else None)
    if how == "leaves":
        assert ScimUser.objects.get().identity_source == linking.BY_SUBJECT
        okta.active(user, True)
        login.refresh_from_db()
        assert (again(alice).ended_at, login.is_active) == (None, True)


def signs_in(okta: Provider, settings: Any) -> Identity:
    """Alice, whom Identity Center does not know by her external id, which is the subject that she signs in with."""
    settings.OIDC_ISSUER = "https://sso.example.com"
    okta.source.subject_is_external_id = True
    okta.source.save()
    alice, login = PrincipalFactory(connection=okta.source.connection, attributes={}).identity, UserFactory()
    Identity.objects.filter(pk=alice.pk).update(user=login)
    SocialAccount.objects.create(user=login, provider=oidc.provider_id(settings.OIDC_ISSUER), uid="00u-alice")
    return alice


def test_identity_center_comes_before_the_subject_and_an_administrator_before_both(
    okta: Provider, settings: Any, erin: Any
) -> None:
    alice = signs_in(okta, settings)
    user = add(okta, "alice")
    assert ScimUser.objects.get().identity == alice
    known = person(okta, "alice")
    periodic.link_waiting()
    row = ScimUser.objects.get()
    assert (row.identity, row.identity_source) == (known, linking.RULE)
    people.unlink(row, by=erin)
    okta.active(user, False)
    assert ScimUser.objects.get().identity is None
    assert not Identity.objects.exclude(ended_at=None).exists()


@pytest.mark.parametrize(
    ("calls", "has_left"),
    [([LEAVES], True), ([LEAVES | named("bob")], False), ([named(""), LEAVES, named("bob")], False)],
)
def test_who_left_by_their_subject_has_left_as_whom_identity_center_knows_by_it_since_too(
    okta: Provider, settings: Any, calls: list[dict[str, Any]], has_left: bool
) -> None:
    alice = signs_in(okta, settings)
    user = add(okta, "alice")
    for said in calls:
        okta.patch(f"/Users/{user['id']}", {"op": "replace", "value": said})
    known = person(okta, "alice" if has_left else "bob")
    periodic.link_waiting()
    assert (bool(again(alice).ended_at), bool(again(known).ended_at)) == (True, has_left)


def test_one_call_is_one_event_with_the_token_that_was_shown(okta: Provider) -> None:
    user = add(okta, "alice")
    before = AuditEvent.objects.count()
    okta.patch(f"/Users/{user['id']}", {"op": "add", "path": "title", "value": "Lead"})
    [event] = AuditEvent.objects.order_by("pk")[before:]
    assert (event.event, event.data["changed"]) == ("scim.user.updated", {"title": "Lead"})
    assert event.data["token"] in okta.secret
    assert okta.secret not in str(event.data)
    okta.patch(f"/Users/{user['id']}", {"op": "add", "path": "title", "value": "Lead"})
    assert AuditEvent.objects.count() == before + 1  # nothing changed, nothing happened


def test_a_password_is_never_kept(okta: Provider) -> None:
    okta.add("alice", password="correct horse")
    assert "correct horse" not in str(ScimUser.objects.values().get())
    assert "correct horse" not in str(list(AuditEvent.objects.values()))
    assert timezone.now()
