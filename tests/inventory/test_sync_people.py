"""Who the principals are, who answers for them, and where accounts stand."""

from __future__ import annotations

import pytest

from apps.connectors.base import AccountRecord, CredentialRecord
from apps.inventory.checks import ou_environments
from apps.inventory.models import Entitlement, Identity, Principal, Resource
from apps.inventory.sync.environments import environment_of
from tests.inventory.conftest import ADMIN, PROD, READ, SANDBOX, trust


def identity(external_id):
    return Identity.objects.get(external_id=external_id)


# ---- people


def test_a_user_of_the_directory_is_a_person(read):
    read()
    alice = identity("alice")
    assert (alice.kind, alice.name, alice.email, alice.department) == (
        "human",
        "Alice Moreau",
        "alice@example.com",
        "Payments",
    )
    assert list(alice.principals.values_list("external_id", flat=True)) == ["alice"]


def test_the_directory_says_who_reports_to_whom(read, world):
    world.add_user("alice", manager_external_id="bob")
    read()
    assert (identity("alice").manager, identity("alice").manager_source) == (identity("bob"), "Identity Center")
    world.add_user("alice")
    read()
    assert (identity("alice").manager, identity("alice").manager_source) == (None, "")


def test_what_a_csv_said_about_managers_stays(read, world):
    read()
    Identity.objects.filter(external_id="alice").update(manager=identity("bob"), manager_source="org.csv")
    world.add_user("carol")
    world.add_user("alice", manager_external_id="carol")
    read()
    assert (identity("alice").manager, identity("alice").manager_source) == (identity("bob"), "org.csv")


def test_a_person_who_names_themselves_as_manager_has_none_and_a_circle_is_kept_as_said(read, world):
    world.add_user("boss", manager_external_id="boss")
    world.add_user("alice", manager_external_id="bob")
    world.add_user("bob", manager_external_id="alice")
    assert read().state == "complete"
    assert identity("boss").manager is None
    assert identity("alice").manager == identity("bob")
    assert identity("bob").manager == identity("alice")


def test_managers_of_people_who_were_not_read_stay(read, world):
    world.add_user("alice", manager_external_id="bob")
    read()
    del world.principals["alice"]
    world.scan_problems["directory"].append("Page 2 could not be read.")
    read()
    assert identity("alice").manager == identity("bob")


def test_a_disabled_user_has_left_even_when_the_reading_is_incomplete(read, world):
    read()
    world.add_user("alice", attributes={"status": "disabled"})
    world.scan_problems["directory"].append("Page 2 could not be read.")
    read()
    assert identity("alice").ended_at
    assert Principal.objects.get(external_id="alice").ended_at is None
    world.add_user("alice", attributes={"status": "enabled"})
    read()
    assert identity("alice").ended_at is None


# ---- machines


def test_roles_and_iam_users_are_machines_with_their_evidence(read, world):
    world.credentials += [
        CredentialRecord("ci", "access_key", "AKIA1"),
        CredentialRecord("ci", "access_key", "AKIA2", is_active=False),
    ]
    read()
    deployer, ci = identity("deployer"), identity("ci")
    assert (deployer.kind, deployer.classification) == ("machine", "service")
    assert deployer.evidence == "Its trust policy lets lambda.amazonaws.com assume it."
    assert (ci.classification, ci.evidence) == ("iam_user_with_keys", "It has an active access key.")


@pytest.mark.parametrize("path", ["/aws-service-role/x/", "/aws-reserved/sso.amazonaws.com/"])
def test_roles_that_aws_made_for_itself_are_nobody(read, world, path):
    world.add_principal("iam_role", "reserved", account_id=PROD, attributes={"path": path})
    read()
    assert not Identity.objects.filter(external_id="reserved").exists()
    assert Principal.objects.get(external_id="reserved").is_reserved


# ---- owners


def test_a_tag_names_the_owner_by_email_and_else_the_account_owner_answers(read, world):
    world.add_account(PROD, "prod", tags={"Owner": "ALICE@example.com"})
    world.add_principal("iam_role", "tagged", account_id=PROD, attributes={"tags": {"OWNER": " bob@example.com "}})
    read()
    prod = Resource.objects.get(external_id=PROD)
    assert (prod.owner, prod.owner_source) == (identity("alice"), "tag owner")
    assert (identity("tagged").owner, identity("tagged").owner_source) == (identity("bob"), "tag owner")
    assert (identity("ci").owner, identity("ci").owner_source) == (identity("alice"), "account owner")


@pytest.mark.parametrize("value", ["payments-team", "nobody@example.com", "", "twin@example.com"])
def test_a_tag_that_names_nobody_for_sure_leaves_a_machine_unowned(read, world, value):
    world.add_user("twin1", email="twin@example.com")
    world.add_user("twin2", email="Twin@example.com")
    world.add_principal("iam_role", "tagged", account_id=PROD, attributes={"tags": {"owner": value}})
    read()
    assert identity("tagged").owner is None
    assert identity("tagged") in Identity.objects.unowned()


@pytest.mark.parametrize("first", ["left@example.com", "nobody@example.com", "twin@example.com", "payments-team"])
def test_where_one_tag_names_nobody_for_sure_the_next_is_asked(read, world, settings, first):
    settings.OWNER_TAGS = ["owner", "contact", "team"]
    world.add_user("left", email="left@example.com", attributes={"status": "disabled"})
    for twin in ("twin1", "twin2"):
        world.add_user(twin, email="twin@example.com")
    tags = {"team": "alice@example.com", "Contact": "bob@example.com", "owner": first}
    world.add_account(PROD, "prod", tags=tags)
    world.add_principal("iam_role", "tagged", account_id=SANDBOX, attributes={"tags": tags})
    read()
    prod, tagged = Resource.objects.get(external_id=PROD), identity("tagged")
    assert (prod.owner, prod.owner_source) == (identity("bob"), "tag contact")
    assert (tagged.owner, tagged.owner_source) == (identity("bob"), "tag contact")


def test_an_owner_who_left_answers_for_nothing(read, world):
    world.add_account(PROD, "prod", tags={"owner": "bob@example.com"})
    read()
    assert identity("ci").owner == identity("bob")
    world.add_user("bob", email="bob@example.com", attributes={"status": "disabled"})
    read()
    assert Resource.objects.get(external_id=PROD).owner is None
    assert identity("ci").owner is None


def test_an_owner_that_a_person_set_stays(read, world):
    world.add_account(PROD, "prod", tags={"owner": "bob@example.com"})
    read()
    Resource.objects.filter(external_id=PROD).update(owner=identity("alice"), owner_source="set by Erin")
    Identity.objects.filter(external_id="ci").update(owner=identity("alice"), owner_source="set by Erin")
    read()
    assert Resource.objects.get(external_id=PROD).owner == identity("alice")
    assert identity("ci").owner == identity("alice")
    assert identity("deployer").owner == identity("alice")  # the account's


# ---- accounts


@pytest.mark.parametrize(
    ("path", "environment"),
    [
        ("Workloads/Production", "production"),
        ("Workloads/NonProduction", "staging"),
        ("Workloads/non-prod", "staging"),
        ("Workloads/EU Prod", "production"),
        ("Production/Dev", "development"),
        ("prod-and-dev", "production"),
        ("Sandbox", "sandbox"),
        ("Security/Payments", "security"),
        ("Reproduction", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_organization_says_the_environment(path, environment):
    assert environment_of(AccountRecord("1", "n", path=path)) == environment


def test_a_tag_or_a_name_never_says_the_environment():
    account = AccountRecord("1", "sandbox", path="Workloads", tags={"environment": "sandbox"})
    assert environment_of(account) == "unknown"


def test_a_setting_can_teach_it_the_companys_words(settings):
    settings.OU_ENVIRONMENTS = {"Kunden Systeme": "production", "prod": "sandbox"}
    assert environment_of(AccountRecord("1", "n", path="Kunden-Systeme")) == "production"
    assert environment_of(AccountRecord("1", "n", path="prod")) == "sandbox"


def test_an_environment_that_does_not_exist_is_said_before_a_sync_stumbles_over_it(settings):
    assert not ou_environments()
    settings.OU_ENVIRONMENTS = {"Labor": "sandbox", "Kunden": "prodution", "": ""}
    assert [error.msg for error in ou_environments()] == [
        "OU_ENVIRONMENTS says 'Kunden' is 'prodution', which is no environment.",
        "OU_ENVIRONMENTS says '' is '', which is no environment.",
    ]


def test_the_management_account_is_its_own_environment():
    assert environment_of(AccountRecord("1", "n", path="Sandbox", is_management=True)) == "management"


def test_an_environment_that_a_person_confirmed_stays(read, world):
    read()
    Resource.objects.filter(external_id=SANDBOX).update(
        environment="production", environment_source="confirmed by Erin"
    )
    world.add_account(SANDBOX, "sandbox", path="Playground")
    read()
    sandbox = Resource.objects.get(external_id=SANDBOX)
    assert (sandbox.environment, sandbox.path) == ("production", "Playground")


# ---- how much a membership is worth


def membership():
    return Entitlement.objects.get(external_id="membership:engineers")


def test_a_membership_is_worth_the_most_that_its_group_holds(read, world):
    world.assign("engineers", f"Read@{SANDBOX}")
    read()
    assert membership().privilege == "admin"
    assert membership().privilege_reason.startswith("It brings Admin in prod: ")
    assert membership().privilege_statement == ADMIN["Statement"][0]
    world.unassign("engineers", f"Admin@{PROD}")
    read()
    assert membership().privilege == "read"
    world.unassign("engineers", f"Read@{SANDBOX}")
    read()
    assert (membership().privilege, membership().privilege_reason) == ("none", "The group holds nothing.")


def test_a_group_is_not_called_empty_when_not_all_was_read(read, world):
    world.unassign("engineers", f"Admin@{PROD}")
    world.scan_problems["directory"].append("Assignments in prod could not be read.")
    read()
    assert membership().privilege == "unknown"


@pytest.mark.parametrize(("other", "worst"), [(ADMIN, "admin"), (READ, "unknown")])
def test_unknown_is_worse_than_all_but_a_known_admin(read, world, other, worst):
    world.unassign("engineers", f"Admin@{PROD}")
    world.add_permission_set("Broken", PROD, "{not json")
    world.add_permission_set("Other", PROD, other)
    world.assign("engineers", f"Broken@{PROD}")
    world.assign("engineers", f"Other@{PROD}")
    read()
    assert membership().privilege == worst


def test_an_iam_group_is_worth_what_is_attached_to_it(read, world):
    world.add_principal("iam_group", "admins", account_id=PROD)
    world.add_entitlement("iam_group", "membership:admins", account_id=PROD, makes_external_id="admins")
    world.add_entitlement("iam_policy", "everything", account_id=PROD)
    world.assign("admins", "everything")
    read()
    row = Entitlement.objects.get(external_id="membership:admins")
    assert (row.group.external_id, row.resource.external_id) == ("admins", PROD)
    assert row.privilege_reason.startswith("It brings everything in prod: ")


def test_a_role_is_known_by_its_trust(read, world):
    world.add_principal("iam_role", "partner", account_id=PROD, attributes=trust(AWS="999900001111"))
    read()
    assert identity("partner").classification == "third_party"
