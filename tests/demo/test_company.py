"""The demo company is consistent, believable to AWS, and worth reviewing."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import permutations

import pytest

from apps.connectors.aws.privilege import NamedDocument, privilege_of
from apps.demo.company.harbourline import HARBOURLINE
from apps.demo.company.model import Document, IamUser, Role
from apps.demo.company.people import CAST
from apps.demo.company.policies import GUARD, GUARD_NAME, GUARD_PATH

EMAILS = {person.email for person in HARBOURLINE.people}
PRIVILEGED = {"AdministratorAccess", "PowerUser", "DatabaseAdmin"}
PORTAL = {"PortalReader", "PortalProvisioner", "PortalRemover", "PortalScheduler"}
TOKENS = {"self", "org", "region", *(account.key for account in HARBOURLINE.accounts)}


def all_documents() -> Iterator[tuple[str, Document, int]]:
    """Every document with a name and how many characters AWS allows it (a principal's inline ones together)."""
    for policy in HARBOURLINE.policies:
        yield from ((policy.name, document, 6144) for document in policy.versions)
    for role in (*HARBOURLINE.portal_roles, *HARBOURLINE.roles):
        yield from inline(role, 10_240)
        if not role.service_linked:
            yield f"{role.name} trust", role.trust, 2048
    for user in HARBOURLINE.iam_users:
        yield from inline(user, 2048)
    for one in HARBOURLINE.permission_sets:
        yield from ((one.name, document, 32_768) for document in [one.inline] if document)


def inline(row: Role | IamUser, limit: int) -> Iterator[tuple[str, Document, int]]:
    for name, document in row.inline.items():
        yield f"{row.name} {name}", document, limit // len(row.inline)


def test_it_has_the_size_that_the_demo_promises() -> None:
    assert len(HARBOURLINE.accounts) == 6
    assert (len(HARBOURLINE.people), len(EMAILS)) == (60, 60)
    assert len({group.name for group in HARBOURLINE.groups}) == 12
    assert len({one.name for one in HARBOURLINE.permission_sets}) == 11
    assert 110 <= len(HARBOURLINE.roles) <= 130
    assert 14 <= len(HARBOURLINE.iam_users) <= 20


def test_everybody_named_anywhere_works_there() -> None:
    named = {
        *(person.manager for person in HARBOURLINE.people if person.manager),
        *(account.owner for account in HARBOURLINE.accounts),
        *(group.owner for group in HARBOURLINE.groups),
        *(email for group in HARBOURLINE.groups for email in group.members),
        *(row.person for row in HARBOURLINE.assignments if row.person),
        *HARBOURLINE.auditors,
        *HARBOURLINE.administrators,
        *CAST.values(),
        *(value for role in HARBOURLINE.roles for value in role.tags.values() if "@" in value),
        *(value for user in HARBOURLINE.iam_users for value in user.tags.values() if "@" in value),
    }
    assert named <= EMAILS


def test_following_managers_upwards_ends() -> None:
    for person in HARBOURLINE.people:
        seen = {person.email}
        while person.manager:
            assert person.manager not in seen
            seen.add(person.manager)
            person = HARBOURLINE.person(person.manager)


def test_people_without_a_manager_are_the_chief_and_somebody_whose_access_needs_the_fallback() -> None:
    without = [person for person in HARBOURLINE.people if not person.manager]
    assert [person.title for person in without] == ["Chief executive", "Database consultant"]
    assert any(row.person == without[1].email and row.account == "production" for row in HARBOURLINE.assignments)


def test_the_cast_has_the_parts_that_the_documentation_gives_it() -> None:
    assert HARBOURLINE.person(CAST["alice"]).manager == CAST["carol"]
    assert HARBOURLINE.account("production").owner == CAST["bob"]
    assert HARBOURLINE.auditors == (CAST["dan"],)
    assert HARBOURLINE.administrators == (CAST["erin"], CAST["farid"])
    mallorys = [row for row in HARBOURLINE.assignments if row.person == CAST["mallory"]]
    assert [(row.account, row.permission_set) for row in mallorys] == [("sandbox", "ReadOnly")]
    assert not any(CAST["mallory"] in group.members for group in HARBOURLINE.groups)


def privileged_in_production() -> list[tuple[str, str]]:
    """What a review would ask about, with whom: an assignment, a membership, or a group's own assignment."""
    items = []
    rows = [r for r in HARBOURLINE.assignments if r.account == "production" and r.permission_set in PRIVILEGED]
    for row in rows:
        if row.person:
            items.append((HARBOURLINE.person(row.person).manager or "nobody", row.person))
            continue
        group = next(group for group in HARBOURLINE.groups if group.name == row.group)
        items.append((group.owner, group.name))
        items += [(HARBOURLINE.person(email).manager or "nobody", email) for email in group.members]
    return items


def test_a_review_of_privileged_access_in_production_has_work_for_several_managers() -> None:
    items = privileged_in_production()
    reviewers = Counter(reviewer for reviewer, _ in items)
    assert 25 <= len(items) <= 40
    assert len(reviewers) >= 5
    assert reviewers[CAST["carol"]] == max(reviewers.values()), "Carol's queue is the one that the documentation shows"


def test_a_reviewing_manager_holds_privileged_access_herself() -> None:
    items = privileged_in_production()
    assert (HARBOURLINE.person(CAST["carol"]).manager, CAST["carol"]) in items


def test_alice_has_something_to_ask_for_in_production() -> None:
    groups = {group.name for group in HARBOURLINE.groups if CAST["alice"] in group.members}
    held = {
        row.permission_set
        for row in HARBOURLINE.assignments
        if row.account == "production" and (row.person == CAST["alice"] or row.group in groups)
    }
    on_offer = {one.name for one in HARBOURLINE.permission_sets if one.is_jit}
    assert held == {"ReadOnly", "JitBase"}
    assert len(on_offer) == 7


def test_just_in_time_sets_end_their_sessions_within_the_hour() -> None:
    assert {one.session for one in HARBOURLINE.permission_sets if one.is_jit} == {"PT1H"}


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("SupportView", "read"),
        ("Deployer", "write"),
        ("NetworkOperator", "write"),
        ("DatabaseAdmin", "privileged"),
    ],
)
def test_a_permission_set_has_the_privilege_that_its_tier_is_shown_with(name: str, level: str) -> None:
    (document,) = [one.inline for one in HARBOURLINE.permission_sets if one.name == name]
    assert document
    assert privilege_of([NamedDocument(name, document)]).level == level


def test_roles_have_every_level_of_privilege() -> None:
    levels = {
        privilege_of([NamedDocument(name, document)]).level
        for role in HARBOURLINE.roles
        for name, document in role.inline.items()
    }
    assert levels == {"admin", "privileged", "write", "read", "none"}, "none: its time is over"


def test_no_permission_set_name_would_match_the_roles_of_another() -> None:
    names = [one.name for one in HARBOURLINE.permission_sets]
    assert not any(other.startswith(f"{name}_") for name, other in permutations(names, 2))


def test_assignments_name_one_holder_and_are_not_repeated() -> None:
    rows = HARBOURLINE.assignments
    assert len(set(rows)) == len(rows)
    assert all((row.person is None) != (row.group is None) for row in rows)
    assert {row.group for row in rows if row.group} <= {group.name for group in HARBOURLINE.groups}
    assert {row.permission_set for row in rows} <= {one.name for one in HARBOURLINE.permission_sets}


def test_every_account_has_the_portals_roles_and_the_guard() -> None:
    for account in HARBOURLINE.accounts:
        assert {role.name for role in HARBOURLINE.portal_roles if role.account == account.key} >= PORTAL
    guards = [policy for policy in HARBOURLINE.policies if (policy.path, policy.name) == (GUARD_PATH, GUARD_NAME)]
    assert {policy.account for policy in guards} == {account.key for account in HARBOURLINE.accounts}


def test_the_guard_starts_with_a_denial_whose_day_is_long_past() -> None:
    (anchor,) = GUARD["Statement"]
    assert anchor["Effect"] == "Deny"
    assert anchor["Condition"] == {"DateLessThan": {"aws:CurrentTime": "2000-01-01T00:00:00Z"}}


def test_the_portals_roles_in_accounts_can_neither_make_keys_nor_pass_roles() -> None:
    for role in HARBOURLINE.portal_roles:
        for statement in role.inline["permissions"]["Statement"]:
            actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            if statement["Effect"] == "Allow":
                assert not {"iam:CreateAccessKey", "iam:*", "*"} & set(actions)
                assert "iam:PassRole" not in actions or statement["Resource"].endswith("role/portal/PortalScheduler")


def test_documents_are_ones_that_aws_would_take() -> None:
    for name, document, limit in all_documents():
        text = json.dumps(document, separators=(",", ":"))
        assert set(re.findall(r"<(\w+)>", text)) <= TOKENS, name
        filled = re.sub(r"<\w+>", "123456789012", text)
        assert len(re.sub(r"\s", "", filled)) <= limit, name
        assert document["Version"] == "2012-10-17", name
        for statement in document["Statement"]:
            assert statement["Effect"] in {"Allow", "Deny"}, name
            assert {"Action", "NotAction"} & statement.keys(), name


def test_names_tags_and_descriptions_are_ones_that_aws_would_take() -> None:
    for row in (*HARBOURLINE.portal_roles, *HARBOURLINE.roles, *HARBOURLINE.iam_users):
        assert re.fullmatch(r"[\w+=,.@-]{1,64}", row.name, re.ASCII)
        assert re.fullmatch(r"/|/[!-~]+/", row.path)
        for text in (*row.tags, *row.tags.values()):
            assert re.fullmatch(r"[\w .:/=+\-@]{1,128}", text)
    for account in HARBOURLINE.accounts:
        assert re.fullmatch(r"[\w .:/=+\-@]{1,256}", account.purpose)
    for one in HARBOURLINE.permission_sets:
        assert re.fullmatch(r"[\w+=,.@-]{1,32}", one.name, re.ASCII)
        assert re.fullmatch(r"[ -~]{1,700}", one.description)


def test_names_are_unique_in_their_account_whatever_their_path() -> None:
    roles = (*HARBOURLINE.portal_roles, *HARBOURLINE.roles)
    for rows in (roles, HARBOURLINE.iam_users, HARBOURLINE.iam_groups, HARBOURLINE.policies):
        names = Counter((row.account, row.name.lower()) for row in rows)
        assert max(names.values()) == 1


def test_roles_and_users_refer_to_policies_and_groups_of_their_own_account() -> None:
    own = {(policy.account, policy.arn) for policy in HARBOURLINE.policies}
    groups = {(group.account, group.name) for group in HARBOURLINE.iam_groups}
    for row in (*HARBOURLINE.roles, *HARBOURLINE.iam_users):
        for arn in row.attached:
            assert arn.startswith("arn:aws:iam::aws:policy/") or (row.account, arn) in own
    assert {(user.account, name) for user in HARBOURLINE.iam_users for name in user.groups} <= groups


@pytest.mark.parametrize(
    "pattern",
    [
        '"iam:PassRole"',
        '"iam:CreatePolicyVersion"',
        '"iam:AttachUserPolicy"',
        '"iam:UpdateAssumeRolePolicy"',
        '"iam:AddUserToGroup"',
        '"iam:SetDefaultPolicyVersion"',
        '"NotAction"',
        '"NotResource"',
        "IAM:createaccesskey",
        r"CreateAccessKe\?",
        "system:serviceaccount:\\*:\\*",
        "repo:harbourline/\\*",
        "AROA4EXAMPLE",
        "rolesanywhere",
        "saml-provider",
        '"Principal": {"AWS": "\\*"}',
        "444455556666:root",
    ],
)
def test_some_document_shows_this_shape(pattern: str) -> None:
    assert re.search(pattern, json.dumps([document for _, document, _ in all_documents()]))


def test_most_roles_say_who_owns_them_and_some_do_not() -> None:
    ours = [role for role in HARBOURLINE.roles if not role.service_linked]
    owned = [role for role in ours if any(key.lower() in {"owner", "owner-email", "team-owner"} for key in role.tags)]
    assert 0.8 < len(owned) / len(ours) < 0.95


def test_a_trimmed_company_is_consistent_too() -> None:
    small = HARBOURLINE.trimmed(people=13, roles_per_account=3)
    emails = {person.email for person in small.people}
    assert set(CAST.values()) <= emails
    assert {person.manager for person in small.people if person.manager} <= emails
    assert {email for group in small.groups for email in group.members} <= emails
    assert {row.person for row in small.assignments if row.person} <= emails
    assert max(Counter(role.account for role in small.roles).values()) == 3


def test_it_is_the_same_company_in_every_process() -> None:
    program = "from apps.demo.company.harbourline import HARBOURLINE; print(HARBOURLINE)"
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert told == {f"{HARBOURLINE}\n"}
