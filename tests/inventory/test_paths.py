"""Every way into an account: what is held, chains of roles, other accounts' trusts; and what remains when one goes."""

from __future__ import annotations

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from apps.inventory import paths, tracing
from apps.inventory.models import Connection, Identity
from tests.inventory.company import EVERYTHING, Company, allow, trust

pytestmark = pytest.mark.django_db


@pytest.fixture
def company() -> Company:
    return Company()


def find(company: Company, principal, account=None) -> paths.Found:
    tracing.trace(company.connection)
    return paths.find(Identity.objects.get(pk=principal.identity_id), account)


def lines(found: paths.Found) -> list[str]:
    return [path.words for path in found.paths]


@pytest.fixture
def alice(company):
    """Holds Deploy in tools, through Engineers, which may become deployer in prod."""
    alice = company.person("alice")
    engineers = company.group("Engineers", alice)
    deploy = company.permission_set("Deploy", allow("sts:AssumeRole", company.arn("*")), account=company.tools)
    company.holds(engineers.group, deploy)
    company.role("deployer", trust(company.root(company.tools)), may=[EVERYTHING])
    return alice


def test_what_is_held_and_what_it_leads_to_are_paths(company, alice):
    company.holds(alice, company.permission_set("Read", allow("s3:GetObject")))
    found = find(company, alice, company.prod)
    assert lines(found) == ["Deploy, through Engineers → deployer", "Read, held directly"]
    assert [(path.privilege, path.name) for path in found.paths] == [("admin", "deployer"), ("read", "Read")]
    [chain, _] = found.paths
    assert chain.hops[0].is_foreign
    assert chain.hops[0].why == (
        f"deployer trusts the account {company.tools.external_id[:4]}-{company.tools.external_id[4:8]}-"
        f"{company.tools.external_id[8:]}, and a policy lets Deploy assume it."
    )


def test_every_account_at_once(company, alice):
    found = find(company, alice)
    assert lines(found) == ["Deploy, through Engineers", "Deploy, through Engineers → deployer"]
    assert [path.resource_id for path in found.paths] == [company.tools.pk, company.prod.pk]


def test_the_accounts_are_counted_as_the_paths_into_each(company, alice):
    company.holds(alice, company.permission_set("Read", allow("s3:GetObject")))
    company.role("next", trust({"AWS": company.arn("deployer")}))
    found = find(company, alice)
    everywhere = paths.everywhere(company.identity(alice))
    assert everywhere.accounts == [company.tools.pk, company.prod.pk]
    for account in map(everywhere.reached, everywhere.accounts):
        into = [path for path in found.paths if path.resource_id == account.pk]
        assert account.worst == into[0]
        assert (account.ways, account.by_role) == (len(into), sum(bool(path.hops) for path in into))


def test_a_trust_without_a_policy_is_no_path_from_another_account(company, alice):
    company.role("closed", trust(company.root()), may=[EVERYTHING])
    company.role("named", trust({"AWS": company.arn("x")}), may=[EVERYTHING])
    [to_deployer, further] = find(company, alice, company.prod).paths
    assert to_deployer.words == "Deploy, through Engineers → deployer"
    assert further.words == "Deploy, through Engineers → deployer → closed"  # in its own account it may knock at all


def test_roles_lead_to_roles_as_far_as_is_followed(company, alice):
    before = "deployer"
    for n in range(paths.DEPTH):
        company.role(f"r{n}", trust({"AWS": company.arn(before)}))
        before = f"r{n}"
    found = lines(find(company, alice, company.prod))
    assert found == [
        "Deploy, through Engineers → deployer",
        "Deploy, through Engineers → deployer → r0",
        "Deploy, through Engineers → deployer → r0 → r1",
    ]


def test_a_circle_is_walked_once(company, alice):
    company.role(
        "a",
        trust(
            {"AWS": company.arn("deployer")},
        ),
        trust({"AWS": company.arn("b")}),
    )
    company.role("b", trust({"AWS": company.arn("a")}))
    company.role("deployer2", trust({"AWS": [company.arn("b"), company.arn("a")]}))
    found = find(company, alice, company.prod).paths
    assert all(len({hop.role.pk for hop in path.hops}) == len(path.hops) for path in found)
    assert {path.name for path in found} == {"deployer", "a", "b", "deployer2"}


def test_a_condition_makes_it_may(company, alice):
    company.role(
        "careful",
        trust(company.root(company.tools), Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
        may=[EVERYTHING],
    )
    found = find(company, alice, company.prod)
    assert lines(found) == [
        "Deploy, through Engineers → deployer",
        "Deploy, through Engineers → careful (may, with MFA)",
    ]
    assert [path.is_conditional for path in found.paths] == [False, True]


def test_the_role_that_a_permission_set_became_is_named_by_its_exact_arn(company):
    alice = company.person("alice")
    company.holds(alice, company.permission_set("Deploy", allow("s3:GetObject"), account=company.tools))
    name = "AWSReservedSSO_Deploy_0123456789abcdef"
    reserved = company.role(name, account=company.tools)
    reserved.external_id = company.arn(f"aws-reserved/sso.amazonaws.com/{name}", company.tools)
    reserved.is_reserved, reserved.identity = True, None
    reserved.save()
    company.role("ours", trust({"AWS": reserved.external_id}), account=company.tools)
    company.role("theirs", trust({"AWS": reserved.external_id.replace("Deploy", "Read")}), account=company.tools)
    assert lines(find(company, alice, company.tools))[-1] == "Deploy, held directly → ours"
    assert len(find(company, alice, company.tools).paths) == 2


def test_a_machine_has_paths_of_its_own(company):
    ci = company.role("ci", may=[allow("sts:AssumeRole")], account=company.tools)
    company.role("deployer", trust({"AWS": company.arn("ci", company.tools)}), may=[EVERYTHING])
    assert lines(find(company, ci, company.prod)) == ["deployer"]
    assert lines(find(company, ci, company.tools)) == ["ci-policy, held directly"]
    user = company.user("bot", allow("sts:AssumeRole", company.arn("deployer")))
    company.role("open", trust(company.root()), may=[])
    assert lines(find(company, user, company.prod)) == ["bot-policy, held directly"]


def test_when_one_goes_what_goes_with_it_goes_too(company, alice):
    company.holds(alice, company.permission_set("Read", allow("s3:GetObject")))
    company.role("next", trust({"AWS": company.arn("deployer")}), may=[EVERYTHING])
    company.role("beside", trust(company.root(company.tools)))
    found = find(company, alice, company.prod)
    first = next(path for path in found.paths if path.name == "deployer")
    assert lines(found.without(first)) == ["Read, held directly", "Deploy, through Engineers → beside"]
    assert found.without(first).worst.privilege == "read"
    read = next(path for path in found.paths if path.name == "Read")
    assert "Read, held directly" not in lines(found.without(read))
    assert len(found.without(read).paths) == len(found.paths) - 1


def test_losing_a_group_loses_all_that_it_brings(company, alice):
    engineers = alice.assignments.get().entitlement
    company.holds(engineers.group, company.permission_set("Read", allow("s3:GetObject")))
    found = find(company, alice)
    held = next(path for path in found.paths if path.name == "Read")
    assert lines(found.without(held)) == []


def remaining(company: Company, principal, name: str) -> list[str]:
    """The ways into prod without what is held under that name."""
    found = find(company, principal, company.prod)
    return lines(found.without(next(path for path in found.paths if not path.hops and path.held.name == name)))


def test_what_a_role_becomes_goes_with_the_only_policy_that_lets_it(company):
    company.role("deployer", trust(company.root()), may=[EVERYTHING])
    company.role("named", trust({"AWS": company.arn("ci")}))
    company.role("next", trust({"AWS": company.arn("deployer")}))
    ci = company.role("ci", may=[allow("sts:AssumeRole", company.arn("deployer"))])
    assert {"deployer", "named", "deployer → next"} < {*lines(find(company, ci, company.prod))}
    assert remaining(company, ci, "ci-policy") == ["named"]
    company.holds(ci, company.policy("read", allow("s3:*"), {"Effect": "Deny", "Action": "sts:*", "Resource": "x"}))
    assert "deployer" not in remaining(company, ci, "ci-policy")
    assert "deployer" in remaining(company, ci, "read")
    company.holds(ci, company.policy("other", allow("sts:*")))
    assert "deployer → next" in remaining(company, ci, "ci-policy")


def test_what_a_user_becomes_goes_with_the_only_group_that_lets_it(company):
    company.role("deployer", trust(company.root()), may=[EVERYTHING])
    bot = company.user("bot", allow("s3:GetObject"))
    knocks = company.policy("knocks", allow("sts:AssumeRole"))
    company.holds(company.group("Deployers", bot).group, knocks)
    assert remaining(company, bot, "knocks") == ["bot-policy, held directly"]
    assert "deployer" in remaining(company, bot, "bot-policy")
    company.holds(bot, knocks)
    found = find(company, bot, company.prod)
    for path in [path for path in found.paths if path.name == "knocks"]:
        assert "deployer" in lines(found.without(path))


def test_another_way_to_the_same_role_remains(company, alice):
    company.holds(alice, company.permission_set("Other", allow("sts:AssumeRole"), account=company.tools))
    found = find(company, alice, company.prod)
    assert lines(found.without(found.paths[0])) in (
        ["Other, held directly → deployer"],
        ["Deploy, through Engineers → deployer"],
    )


def test_a_path_is_found_again_by_its_key_and_by_no_other(company, alice):
    found = find(company, alice, company.prod)
    assert found.by_key(found.paths[0].key) == found.paths[0]
    assert found.by_key("0" * 12) is None
    again = paths.find(alice.identity, company.prod)
    assert again.paths[0].key == found.paths[0].key


def test_before_it_was_worked_out_nothing_is_claimed(company, alice):
    found = paths.find(alice.identity, company.prod)
    assert (found.paths, found.is_traced) == ([], False)
    tracing.trace(company.connection)
    assert paths.find(Identity.objects.get(pk=alice.identity.pk), company.prod).is_traced


def test_the_role_of_one_grant_is_no_path(company, alice):
    company.role("jit-1", trust(company.root(company.tools)), may=[EVERYTHING], is_ours=True)
    assert lines(find(company, alice, company.prod)) == ["Deploy, through Engineers → deployer"]


def test_a_role_of_another_connection_is_none_of_ours(company, alice):
    other = Company()
    other.connection.name = "elsewhere"
    other.role("deployer", trust("*"), may=[EVERYTHING])
    tracing.trace(other.connection)
    assert {path.resource_id for path in find(company, alice).paths} == {company.prod.pk, company.tools.pk}
    assert Connection.objects.count() == 2


def test_a_search_stays_within_its_bounds_and_says_so(company, alice, monkeypatch):
    monkeypatch.setattr(paths, "MOST_ROLES", 3)
    monkeypatch.setattr(paths, "MOST_WALKED", 4)
    for n in range(6):
        company.role(f"open{n}", trust("*"))
    found = find(company, alice, company.prod)
    assert found.is_cut
    assert len(found.paths) <= 4
    assert found.paths[0].name == "deployer"  # the most powerful are looked at first


def test_the_queries_are_the_same_for_one_path_and_for_twenty(company, alice):
    def queries() -> int:
        tracing.trace(company.connection)
        with CaptureQueriesContext(database) as captured:
            found = paths.find(Identity.objects.get(pk=alice.identity.pk), company.prod)
            assert all(path.words and path.account_name and path.reason for path in found.paths)
            assert all(hop.why for path in found.paths for hop in path.hops)
        return len(captured)

    company.role("next0", trust({"AWS": company.arn("deployer")}))
    few = queries()
    for n in range(1, 20):
        company.role(f"next{n}", trust({"AWS": company.arn("deployer")}))
        company.role(f"open{n}", trust(company.root(company.tools)))
    assert queries() == few


@pytest.mark.parametrize("pattern", ["arn:aws:iam::*:role/dep*", "arn:aws:iam::*:role/deplo?er", "*"])
def test_patterns_are_compared_in_the_database_as_they_are_in_aws(company, pattern):
    bob = company.person("bob")
    company.holds(bob, company.permission_set("Some", allow("sts:AssumeRole", pattern)))
    company.role("deployer", trust(company.root()))
    company.role("deploy.er", trust(company.root()))
    company.role("other", trust(company.root()))
    names = {path.name for path in find(company, bob, company.prod).paths} - {"Some"}
    assert (
        names
        == {
            "arn:aws:iam::*:role/dep*": {"deployer", "deploy.er"},
            "arn:aws:iam::*:role/deplo?er": {"deployer"},
            "*": {"deployer", "deploy.er", "other"},
        }[pattern]
    )
