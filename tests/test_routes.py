"""The route × role table: who gets which page. A route that is not listed here fails, so that nobody adds an open door by
forgetting it. "404" also hides that there is something; strangers to the portal are sent to sign in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from apps.users.models import User
from tests.people import ROLES, People

EVERYBODY = frozenset(ROLES)  # anybody who is signed in, Mallory too
LINKED = EVERYBODY - {"mallory"}  # whoever is a person of the inventory, or oversees it
OVERSEE = frozenset({"dan", "erin"})
ADMINS = frozenset({"erin"})
NOBODY: frozenset[str] = frozenset()

Args = Callable[[People], dict[str, Any]]


@dataclass(frozen=True)
class Route:
    """Who may GET it, and who may POST to it; `args` makes the address. `None`: the method is not answered at all."""

    get: frozenset[str] | None = None
    post: frozenset[str] | None = None
    args: Args = lambda _people: {}


def pk(name: str) -> Args:
    return lambda people: {"pk": getattr(people, name).pk}


def named(name: str) -> Args:
    return lambda people: {"name": people.connection.name}


def machine(people: People) -> dict[str, Any]:
    return {"pk": people.login.identity_id}


def campaign(item: str = "") -> Args:
    def args(people: People) -> dict[str, Any]:
        return {"campaign_id": people.campaign.pk, **({"pk": getattr(people, item).pk} if item else {})}

    return args


REVIEWER = frozenset({"carol"})  # of Alice's item, and nobody else, not even administrators
GRANT = frozenset({"alice", "bob", "carol", "dan", "erin"})  # holder, owner of the account, manager, overseers
REQUEST = frozenset({"alice", "bob", "carol", "dan", "erin"})  # requester, its approvers, overseers
IDENTITY = frozenset({"alice", "carol", "dan", "erin"})  # Alice's page: herself, her manager, overseers

TABLE: dict[str, Route] = {
    "healthz": Route(get=EVERYBODY),
    # access
    "access:home": Route(get=EVERYBODY),
    "access:catalogue": Route(get=EVERYBODY),
    "access:ask": Route(get=LINKED - OVERSEE, args=pk("offer")),
    "access:extend": Route(get=frozenset({"alice"}), args=pk("grant")),
    "access:detail": Route(get=REQUEST, args=pk("request")),
    "access:confirm": Route(post=frozenset({"alice"}), args=pk("request")),
    "access:decide": Route(post=frozenset({"bob", "carol"}), args=pk("request")),
    "access:withdraw": Route(post=frozenset({"alice"}), args=pk("request")),
    "access:approvals": Route(get=EVERYBODY),
    "access:offers": Route(get=ADMINS),
    "access:add_offer": Route(get=ADMINS, args=lambda people: {"entitlement": people.entitlement.pk}),
    "access:new_opening": Route(get=ADMINS),
    "access:new_policy": Route(get=ADMINS),
    "access:withdraw_offer": Route(post=ADMINS, args=pk("offer")),
    # grants
    "grants:mine": Route(get=EVERYBODY),
    "grants:every": Route(get=EVERYBODY),
    "grants:of_identity": Route(get=IDENTITY, args=pk("identity")),
    "grants:detail": Route(get=GRANT, args=pk("grant")),
    "grants:end": Route(post=frozenset({"alice", "bob", "erin"}), args=pk("grant")),
    "grants:session": Route(post=frozenset({"alice"}), args=pk("grant")),
    # emergency stops
    "stops:every": Route(get=OVERSEE),
    "stops:order": Route(post=ADMINS),
    "stops:detail": Route(get=OVERSEE, args=pk("stop")),
    "stops:propose_lift": Route(post=ADMINS, args=pk("stop")),
    "stops:lift": Route(post=ADMINS, args=pk("stop")),
    # people who left: overseers, and who answers for one of them
    "leavers:every": Route(get=OVERSEE | {"carol"}),
    "leavers:detail": Route(get=OVERSEE | {"carol"}, args=pk("leaving")),
    "leavers:propose_release": Route(post=ADMINS, args=pk("exodus")),
    "leavers:release": Route(post=ADMINS, args=pk("exodus")),
    "drift:every": Route(get=OVERSEE),
    "drift:detail": Route(get=OVERSEE, args=pk("drift")),
    "drift:accept": Route(post=ADMINS, args=pk("drift")),
    "drift:propose_release": Route(post=ADMINS, args=pk("comparison")),
    "drift:release": Route(post=ADMINS, args=pk("comparison")),
    # insights
    "grants:used_for": Route(get=GRANT, args=pk("grant")),
    "insights:findings": Route(get=LINKED),
    "insights:finding": Route(get=frozenset({"bob"}) | OVERSEE, args=pk("finding")),
    "insights:accept_finding": Route(post=ADMINS, args=pk("finding")),
    "insights:resolve_finding": Route(post=frozenset({"bob", "erin"}), args=pk("finding")),
    "insights:index": Route(get=OVERSEE),
    "insights:metrics": Route(get=NOBODY),
    # rules
    "rules:in_force": Route(get=EVERYBODY),
    # inventory
    "inventory:identities": Route(get=LINKED),
    "inventory:usage": Route(get=OVERSEE, args=machine),
    "inventory:usage_proposal": Route(get=OVERSEE, args=machine),
    "inventory:usage_proposal_json": Route(get=NOBODY, args=machine),
    "inventory:trail": Route(get=OVERSEE, args=named("connection")),
    "inventory:identity": Route(get=IDENTITY, args=pk("identity")),
    "inventory:paths": Route(get=IDENTITY, args=pk("identity")),
    "inventory:account_paths": Route(get=LINKED, args=pk("account")),
    "inventory:identity_history": Route(get=IDENTITY, args=pk("identity")),
    "inventory:entitlement_history": Route(get=frozenset({"bob"}) | OVERSEE, args=pk("entitlement")),
    "inventory:account_history": Route(get=frozenset({"bob"}) | OVERSEE, args=pk("account")),
    "inventory:own_identity": Route(post=ADMINS, args=pk("identity")),
    "inventory:link_user": Route(post=ADMINS, args=pk("identity")),
    "inventory:unlink_user": Route(post=ADMINS, args=pk("identity")),
    "inventory:correct_identity": Route(post=ADMINS, args=pk("identity")),
    "inventory:take_correction_back": Route(post=ADMINS, args=pk("identity")),
    "inventory:describe_identity": Route(post=ADMINS, args=pk("identity")),
    "inventory:set_successor": Route(post=ADMINS, args=pk("identity")),
    "inventory:logins": Route(get=OVERSEE),
    "inventory:accept_proposals": Route(post=ADMINS),
    "inventory:login": Route(get=OVERSEE, args=pk("login")),
    "inventory:decide_login": Route(post=ADMINS, args=pk("login")),
    "inventory:entitlements": Route(get=LINKED),
    "inventory:entitlement": Route(get=LINKED, args=pk("entitlement")),
    "inventory:own_entitlement": Route(post=ADMINS, args=pk("entitlement")),
    "inventory:accounts": Route(get=LINKED),
    "inventory:account": Route(get=LINKED, args=pk("account")),
    "inventory:own_account": Route(post=ADMINS, args=pk("account")),
    "inventory:environment": Route(post=ADMINS, args=pk("account")),
    "inventory:connections": Route(get=OVERSEE),
    "inventory:credentials": Route(get=LINKED),
    "inventory:add_connection": Route(get=ADMINS),
    "inventory:edit_connection": Route(get=ADMINS, args=named("connection")),
    "inventory:test_connection": Route(post=ADMINS, args=named("connection")),
    "inventory:connection_test": Route(
        get=OVERSEE, args=lambda people: {"name": people.connection.name, "pk": people.connection_test.pk}
    ),
    "inventory:test_progress": Route(
        get=OVERSEE, args=lambda people: {"name": people.connection.name, "pk": people.connection_test.pk}
    ),
    "inventory:connection": Route(get=OVERSEE, args=named("connection")),
    "inventory:progress": Route(get=OVERSEE, args=named("connection")),
    "inventory:sync": Route(post=ADMINS, args=named("connection")),
    "inventory:hr_file": Route(get=ADMINS, args=named("connection")),
    "inventory:apply_hr_file": Route(
        post=ADMINS, args=lambda people: {"name": people.connection.name, "pk": people.hr_file.pk}
    ),
    "inventory:discard_hr_file": Route(
        post=ADMINS, args=lambda people: {"name": people.connection.name, "pk": people.hr_file.pk}
    ),
    "inventory:baseline": Route(post=ADMINS, args=named("connection")),
    "inventory:propose_writing": Route(post=ADMINS, args=named("connection")),
    "inventory:approve_writing": Route(post=ADMINS, args=named("connection")),
    "inventory:pause": Route(post=ADMINS, args=named("connection")),
    "inventory:resume": Route(post=ADMINS, args=named("connection")),
    "inventory:confirm_drop": Route(
        post=ADMINS, args=lambda people: {"name": people.connection.name, "run_id": people.run.pk}
    ),
    # reviews
    "reviews:mine": Route(get=EVERYBODY),
    "reviews:review": Route(get=REVIEWER, args=campaign()),
    "reviews:sign": Route(get=REVIEWER, post=REVIEWER, args=campaign()),
    "reviews:decide_many": Route(post=REVIEWER, args=campaign()),
    "reviews:undo": Route(post=REVIEWER, args=campaign()),
    "reviews:pass_on": Route(post=REVIEWER, args=campaign()),
    "reviews:item": Route(get=REVIEWER, args=campaign("item")),
    "reviews:decide": Route(post=REVIEWER, args=campaign("item")),
    "reviews:campaigns": Route(get=OVERSEE),
    "reviews:new": Route(get=ADMINS),
    "reviews:campaign": Route(get=OVERSEE, args=pk("campaign")),
    "reviews:items": Route(get=OVERSEE, args=pk("campaign")),
    "reviews:campaign_item": Route(
        get=OVERSEE, args=lambda people: {"pk": people.campaign.pk, "item_id": people.item.pk}
    ),
    "reviews:launch": Route(post=ADMINS, args=pk("campaign")),
    "reviews:discard": Route(post=ADMINS, args=pk("campaign")),
    "reviews:remind": Route(post=ADMINS, args=pk("campaign")),
    "reviews:reassign": Route(post=ADMINS, args=pk("campaign")),
    "reviews:close": Route(post=ADMINS, args=pk("campaign")),
    "reviews:of_identity": Route(get=IDENTITY, args=pk("identity")),
    # evidence
    "evidence:index": Route(get=OVERSEE),
    "evidence:audit": Route(get=OVERSEE),
    "evidence:export_audit": Route(post=OVERSEE),
    "evidence:make_pack": Route(post=OVERSEE, args=pk("campaign")),
    # notifications
    "notifications:inbox": Route(get=EVERYBODY),
    "notifications:read_all": Route(post=EVERYBODY),
    "notifications:open": Route(get=frozenset({"alice"}), args=pk("notification")),
    "notifications:read": Route(post=frozenset({"alice"}), args=pk("notification")),
    # scim
    "scim:sources": Route(get=ADMINS),
    "scim:source": Route(get=ADMINS, args=pk("source")),
    "scim:make_token": Route(post=ADMINS, args=pk("source")),
    "scim:revoke_token": Route(post=ADMINS, args=lambda people: {"pk": people.source.pk, "token_id": people.token.pk}),
    "scim:link": Route(post=ADMINS, args=lambda people: {"pk": people.source.pk, "user_id": people.scim_user.pk}),
    "scim:unlink": Route(post=ADMINS, args=lambda people: {"pk": people.source.pk, "user_id": people.scim_user.pk}),
    "scim:door": Route(get=NOBODY, args=lambda _people: {"path": "/Users"}),
    # users
    "users:settings": Route(get=EVERYBODY),
    "users:step_up": Route(get=EVERYBODY),
    "users:sign_in_again": Route(get=EVERYBODY),
    "users:people": Route(get=ADMINS),
    "users:invite": Route(get=ADMINS),
    "users:person": Route(get=ADMINS, args=pk("user")),
    "users:person_role": Route(post=ADMINS, args=pk("user")),
    "users:person_active": Route(post=ADMINS, args=pk("user")),
    "users:person_emergency": Route(post=ADMINS, args=pk("user")),
    "users:person_invite_again": Route(post=ADMINS, args=pk("user")),
    "users:person_reset_authenticators": Route(post=ADMINS, args=pk("user")),
}
# What pages read from their address.
TYPED = (
    *("account", "after", "all", "as", "choice", "classification", "days", "department", "env", "environment", "kind"),
    *("left", "mfa", "mine", "next", "on", "only", "outcome", "owner", "page", "privilege", "q", "reviewer", "risk"),
    *("role", "rule", "run", "severity", "show", "signed", "since", "stale", "state", "without"),
    *("actor", "area", "event", "from", "subject", "to"),
)
OPEN_TO_STRANGERS = {"healthz"}
LOCKED_BY_A_TOKEN = {"insights:metrics", "scim:door"}
ALLAUTH = "accounts/"  # allauth's own pages: tests/users/test_doors.py


def routes() -> dict[str, str]:
    """Every named route of ours."""
    found: dict[str, str] = {}

    def walk(patterns: list[URLPattern | URLResolver], prefix: str, namespace: str) -> None:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if path.startswith(ALLAUTH):
                continue
            if isinstance(pattern, URLResolver):
                inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
                walk(pattern.url_patterns, path, inner)
            else:
                found[f"{namespace}{pattern.name}"] = path

    walk(get_resolver().url_patterns, "", "")
    return found


@pytest.fixture
def people(db: None) -> People:
    return People()


def test_every_route_is_in_the_table() -> None:
    assert set(routes()) == set(TABLE)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_role_gets_exactly_its_pages(people: People, role: str) -> None:
    client = sign_in(people.users[role])
    for name, route in TABLE.items():
        if route.get is None:
            continue
        status = client.get(reverse(name, kwargs=route.args(people))).status_code
        wanted = {200, 302} if role in route.get else {404, 401} if name in LOCKED_BY_A_TOKEN else {404}
        assert status in wanted, f"GET {name} as {role}: {status}"


def test_no_page_falls_over_what_is_typed_into_its_address(people: People) -> None:
    """A NUL is what PostgreSQL takes in no text, and a number can be larger than any key."""
    client = sign_in(people.users["erin"])
    for name, route in TABLE.items():
        if "erin" in (route.get or ()):
            url = reverse(name, kwargs=route.args(people))
            for typed in ("\0'%_", "9" * 40, "-1", "²"):
                answer = client.get(url, dict.fromkeys(TYPED, typed))
                assert answer.status_code < 500, f"{name} with {typed!r}"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_role_may_only_do_what_is_its_own(people: People, role: str) -> None:
    client = sign_in(people.users[role])
    for name, route in TABLE.items():
        if route.post is None or role in route.post:
            continue  # what the allowed ones get done is for each app's own tests
        status = client.post(reverse(name, kwargs=route.args(people))).status_code
        assert status == 404, f"POST {name} as {role}: {status}"


def test_what_only_answers_to_post_changes_nothing_by_get(people: People) -> None:
    client = sign_in(people.users["erin"])
    for name, route in TABLE.items():
        if route.get is None:
            assert client.get(reverse(name, kwargs=route.args(people))).status_code == 405, name


def test_strangers_are_sent_to_sign_in(people: People, client: Client) -> None:
    for name, route in TABLE.items():
        url = reverse(name, kwargs=route.args(people))
        for answer in (client.get(url), client.post(url)):
            if name in OPEN_TO_STRANGERS:
                assert answer.status_code in (200, 405), name
            elif name in LOCKED_BY_A_TOKEN:
                assert answer.status_code in (401, 404, 405), name
            else:
                assert answer.status_code == 302, name
                assert answer["Location"].startswith("/accounts/login/"), name


def sign_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client
