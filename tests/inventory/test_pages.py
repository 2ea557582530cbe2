"""The inventory's pages: what they show, to whom, and that nobody else learns even that there is something."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.connectors.base import CredentialRecord
from apps.insights.models import Finding
from apps.inventory import extensions, services
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Principal, Resource, SyncRun
from tests.factories import inventory as make
from tests.factories.users import UserFactory
from tests.inventory.conftest import PROD, SANDBOX


def signed_in(user):
    client = Client()
    client.force_login(user)
    return client


def linked(external_id, **fields):
    """A portal user who is this person."""
    user = UserFactory(**fields)
    Identity.objects.filter(external_id=external_id).update(user=user)
    return user


def body(user, url):
    return signed_in(user).get(url).content.decode()


def page_of(external_id, model=Identity):
    return model.objects.get(external_id=external_id).get_absolute_url()


def pk_of(external_id, model=Identity):
    return model.objects.get(external_id=external_id).pk


@pytest.fixture
def company(org, world, read):
    """Carol manages Alice; Bob owns prod; everything was read completely."""
    world.add_user("carol", display_name="Carol Okafor", email="carol@example.com")
    world.add_user(
        "alice",
        display_name="Alice Moreau",
        email="alice@example.com",
        department="Payments",
        manager_external_id="carol",
    )
    world.add_account(PROD, "prod", path="Workloads/Production", tags={"owner": "bob@example.com"})
    world.credentials.append(CredentialRecord("ci", "access_key", "AKIA1", created_at=timezone.now()))
    assert read().state == "complete"
    Finding.objects.create(
        connection=org,
        kind=Finding.Kind.STALE_KEY,
        key="AKIA1",
        severity=2,
        identity=Identity.objects.get(external_id="ci"),
        owner=Identity.objects.get(external_id="bob"),
        name="ci",
        what="An access key of ci is old.",
        first_seen_at=timezone.now(),
    )
    return org


@pytest.fixture
def cast(company, erin):
    return {
        "alice": linked("alice", name="Alice"),
        "bob": linked("bob", name="Bob"),
        "carol": linked("carol", name="Carol"),
        "dan": UserFactory(name="Dan", auditor=True),
        "erin": erin,
        "mallory": UserFactory(name="Mallory"),
    }


# ---- who may look

PAGES = {
    "identities": lambda: reverse("inventory:identities"),
    "alice's page": lambda: page_of("alice"),
    "carol's page": lambda: page_of("carol"),
    "ci's page": lambda: page_of("ci"),
    "entitlements": lambda: reverse("inventory:entitlements"),
    "admin in prod": lambda: page_of(f"Admin@{PROD}", Entitlement),
    "accounts": lambda: reverse("inventory:accounts"),
    "prod": lambda: page_of(PROD, Resource),
    "connections": lambda: reverse("inventory:connections"),
    "connection": lambda: Connection.objects.get().get_absolute_url(),
    "progress": lambda: reverse("inventory:progress", args=[Connection.objects.get().name]),
    "alice's ways": lambda: reverse("inventory:paths", args=[pk_of("alice")]),
    "alice's ways into prod": lambda: reverse(
        "inventory:paths", args=[pk_of("alice")], query={"account": pk_of(PROD, Resource)}
    ),
    "ways into prod": lambda: reverse("inventory:account_paths", args=[pk_of(PROD, Resource)]),
    "credentials": lambda: reverse("inventory:credentials"),
    "logins": lambda: reverse("inventory:logins"),
    "ci's login": lambda: reverse("inventory:login", args=[pk_of("ci", Principal)]),
    "findings": lambda: reverse("insights:findings"),
    "a finding": lambda: Finding.objects.get().get_absolute_url(),
    "catalogue": lambda: reverse("access:catalogue"),
    "home": lambda: reverse("access:home"),
}
EVERYTHING = set(PAGES)
EVERYBODYS = {"catalogue", "home"}  # nothing is on them for somebody whom the inventory does not know
LISTS = {
    *EVERYBODYS,
    "identities",
    "credentials",
    "entitlements",
    "admin in prod",
    "accounts",
    "prod",
    "ways into prod",
    "findings",
}
WAYS = {"alice's page", "alice's ways", "alice's ways into prod"}
MAY_SEE = {
    "alice": LISTS | WAYS,
    "bob": LISTS | {"ci's page", "a finding"},  # the account's owner answers for the machines in it
    "carol": LISTS | WAYS | {"carol's page"},
    "dan": EVERYTHING,
    "erin": EVERYTHING,
    "mallory": EVERYBODYS,
}


@pytest.mark.parametrize("who", MAY_SEE)
def test_a_page_is_there_for_those_who_may_see_it_and_for_nobody_else(cast, who):
    client = signed_in(cast[who])
    found = {page: client.get(url()).status_code for page, url in PAGES.items()}
    assert found == {page: 200 if page in MAY_SEE[who] else 404 for page in PAGES}


def test_nothing_is_there_for_somebody_who_is_not_signed_in(cast):
    assert {Client().get(url()).status_code for url in PAGES.values()} == {302}


def test_somebody_who_left_sees_nothing_any_more(cast):
    Identity.objects.filter(external_id="alice").update(ended_at=timezone.now())
    assert signed_in(cast["alice"]).get(reverse("inventory:entitlements")).status_code == 404
    assert signed_in(cast["alice"]).get(page_of("alice")).status_code == 404


def test_a_user_of_another_connection_sees_nothing_of_this_one(cast):
    stranger = make.IdentityFactory(user=UserFactory())
    client = signed_in(stranger.user)
    assert client.get(page_of(f"Admin@{PROD}", Entitlement)).status_code == 404
    assert client.get(page_of(PROD, Resource)).status_code == 404
    assert not client.get(reverse("inventory:accounts")).context["page"].rows


@pytest.mark.parametrize(("who", "sees"), [("alice", False), ("carol", False), ("bob", True), ("dan", True)])
def test_only_owners_and_auditors_see_who_holds_an_entitlement(cast, who, sees):
    page = signed_in(cast[who]).get(page_of(f"Admin@{PROD}", Entitlement)).content.decode()
    assert ("Who holds it <b" in page) is sees
    assert ("Alice Moreau" in page.partition("<main")[2]) is sees


@pytest.mark.parametrize(("who", "sees"), [("alice", False), ("bob", True), ("erin", True)])
def test_only_owners_and_auditors_see_what_is_inside_an_account(cast, who, sees):
    page = signed_in(cast[who]).get(page_of(PROD, Resource)).content.decode()
    assert ("deployer" in page) is sees


def test_a_manager_finds_their_reports_in_the_list_and_nobody_else(cast):
    page = signed_in(cast["carol"]).get(reverse("inventory:identities")).content.decode()
    assert "Alice Moreau" in page and "Bob Lindqvist" not in page


POSTS = {
    "sync": lambda: reverse("inventory:sync", args=[Connection.objects.get().name]),
    "baseline": lambda: reverse("inventory:baseline", args=[Connection.objects.get().name]),
    "propose": lambda: reverse("inventory:propose_writing", args=[Connection.objects.get().name]),
    "approve": lambda: reverse("inventory:approve_writing", args=[Connection.objects.get().name]),
    "pause": lambda: reverse("inventory:pause", args=[Connection.objects.get().name]),
    "resume": lambda: reverse("inventory:resume", args=[Connection.objects.get().name]),
    "confirm": lambda: reverse(
        "inventory:confirm_drop", args=[Connection.objects.get().name, SyncRun.objects.get().pk]
    ),
    "own account": lambda: f"{page_of(PROD, Resource)}owner",
    "environment": lambda: f"{page_of(PROD, Resource)}environment",
    "own entitlement": lambda: f"{page_of(f'Admin@{PROD}', Entitlement)}owner",
    "own machine": lambda: f"{page_of('ci')}owner",
    "link": lambda: f"{page_of('alice')}link",
    "unlink": lambda: f"{page_of('alice')}unlink",
}


def test_what_gatehouse_made_is_named_and_linked_only_for_those_who_may_open_it(cast, company):
    ours = make.EntitlementFactory(connection=company, kind="dated_policy", name="jit-alice", is_ours=True)
    make.AssignmentFactory(
        connection=company, principal=Identity.objects.get(external_id="alice").principals.get(), entitlement=ours
    )
    pages = page_of("alice"), reverse("inventory:identity_history", args=[Identity.objects.get(external_id="alice").pk])
    for who, is_linked in {"alice": False, "carol": False, "dan": True}.items():
        for url in pages:
            page = signed_in(cast[who]).get(url).content.decode()
            assert ("jit-alice" in page, ours.get_absolute_url() in page) == (True, is_linked), (who, url)


def test_reports_are_named_to_those_who_may_see_them(cast):
    Identity.objects.filter(external_id="bob").update(manager=Identity.objects.get(external_id="alice"))
    named = {who for who in ("alice", "carol", "dan") if page_of("bob") in body(cast[who], page_of("alice"))}
    assert named == {"alice", "dan"}  # carol manages alice


def test_only_administrators_decide_about_the_inventory(cast):
    def rows():
        return [list(model.objects.order_by("pk").values()) for model in (Connection, Identity, Resource, Entitlement)]

    before, typed = rows(), {"owner": "", "user": cast["bob"].email, "environment": "sandbox"}
    for who in ("alice", "bob", "carol", "dan", "mallory"):
        client = signed_in(cast[who])
        assert {post: client.post(url(), typed).status_code for post, url in POSTS.items()} == dict.fromkeys(POSTS, 404)
    assert rows() == before


def test_deciding_takes_a_post(cast):
    client = signed_in(cast["erin"])
    assert {post: client.get(url()).status_code for post, url in POSTS.items()} == dict.fromkeys(POSTS, 405)


# ---- what they show


def test_a_person_is_shown_with_everything_they_hold_and_by_which_path(cast):
    page = signed_in(cast["dan"]).get(page_of("alice")).content.decode()
    assert "Reports to" in page and "Carol Okafor" in page and "Identity Center" in page
    assert "How the access comes about" in page
    assert 'aria-label="1 path: engineers to Admin in prod"' in page
    assert "e-risk" in page
    assert page.count(page_of(f"Admin@{PROD}", Entitlement)) == 1
    assert page_of("membership:engineers", Entitlement) in page
    assert "Not baselined" in page


def test_a_machine_is_shown_with_its_evidence_owner_and_credentials(cast):
    page = signed_in(cast["bob"]).get(page_of("ci")).content.decode()
    assert "User with access keys" in page
    assert "It has an active access key." in page
    assert "account owner" in page
    assert "Access key" in page


def test_what_stands_is_told_from_what_appeared(cast, world, read, company):
    services.baseline(company, by=cast["erin"])
    world.assign("alice", f"Read@{SANDBOX}")
    read()
    page = signed_in(cast["dan"]).get(page_of("alice")).content.decode()
    assert "Standing" in page and "Unintended" in page


def test_an_upper_app_explains_an_assignment_and_adds_a_tab(cast, monkeypatch):
    monkeypatch.setattr(extensions, "_tabs", {})
    monkeypatch.setattr(extensions, "_explanations", {})
    extensions.add_tab(extensions.Tab(subject="inventory.identity", label="Grants", url_name="inventory:identity"))
    reason = extensions.Reason(kind="now", icon="clock", word="JIT, 1 h", url="/g/1", is_timed=True)
    groups = {*Assignment.objects.exclude(entitlement__group=None).values_list("entitlement", flat=True)}
    extensions.add_explanation("test", lambda rows: {row.pk: reason for row in rows if row.entitlement_id in groups})
    page = signed_in(cast["dan"]).get(page_of("alice")).content.decode()
    assert "Grants" in page
    assert "JIT, 1 h" in page and 'href="/g/1"' in page
    assert "e-jit" in page


def test_an_entitlement_says_what_it_allows_and_why(cast):
    page = signed_in(cast["alice"]).get(page_of(f"Admin@{PROD}", Entitlement)).content.decode()
    assert "Can do everything in the account." in page
    assert "Because of this statement" in page
    assert "policies of the organization (SCP, RCP) take away is not counted" in page


def test_holders_name_the_group_they_hold_it_through(cast):
    page = signed_in(cast["dan"]).get(page_of(f"Admin@{PROD}", Entitlement)).content.decode()
    assert page_of("alice") in page
    assert page_of("membership:engineers", Entitlement) in page


def test_a_group_shows_what_its_members_get(cast):
    page = signed_in(cast["alice"]).get(page_of("membership:engineers", Entitlement)).content.decode()
    assert "What members get" in page and "Admin" in page


def reader_of(page, cast):
    """Somebody who is shown everything that can be on it."""
    return cast["alice" if page in EVERYBODYS else "dan"]


def test_every_page_says_as_of_when(cast):
    for page in set(PAGES) - {"progress", "connections"}:
        assert "As of" in signed_in(reader_of(page, cast)).get(PAGES[page]()).content.decode(), page


def test_an_incomplete_reading_is_said_on_every_page_that_shows_its_data(cast, world, read):
    world.scan_problems["directory"].append("Page 2 could not be read.")
    read()
    for page in set(PAGES) - {"progress", "home"}:
        said = signed_in(reader_of(page, cast)).get(PAGES[page]()).content.decode()
        assert "Not everything could be read" in said, page
        assert "As of" in said or page == "connections", page


def test_old_data_is_called_old(cast):
    SyncRun.objects.update(started_at=timezone.now() - timedelta(hours=31))
    assert "This is old" in signed_in(cast["dan"]).get(PAGES["accounts"]()).content.decode()


def test_hostile_names_are_text(cast, world, read):
    world.add_user("evil", display_name="<script>alert(1)</script>", department='"><img src=x>')
    world.add_permission_set("<b>x</b>", PROD, "<svg onload=alert(1)>")
    world.assign("evil", f"<b>x</b>@{PROD}")
    read()
    client = signed_in(cast["erin"])
    for url in (
        page_of("evil"),
        page_of(f"<b>x</b>@{PROD}", Entitlement),
        PAGES["identities"](),
        PAGES["entitlements"](),
    ):
        page = client.get(url).content.decode()
        assert "<script>alert(1)" not in page
        assert "<img src=x>" not in page
        assert "<b>x</b>" not in page
        assert "<svg onload" not in page


# ---- search, filters, paging


SEARCHES = {
    "?q=moreau": {"alice"},
    "?q=BOB@": {"bob"},
    "?q=%25": set(),
    "?q=' OR 1=1 --": set(),
    "?q=%00alice": {"alice"},
    "?department=Payments": {"alice", "bob"},
    "?department=Nowhere": set(),
    "?risk=privileged": {"alice"},
    "?left=1": set(),
    "?kind=machine": {"ci", "deployer"},
    "?kind=machine&classification=service": {"deployer"},
    "?kind=machine&owner=none": set(),
    "?page=nonsense": {"alice", "bob", "carol"},
    "?account=0": {"alice", "bob", "carol"},
}


def test_identities_are_found(cast):
    client, base = signed_in(cast["dan"]), PAGES["identities"]()
    found = {query: {row.external_id for row in client.get(base + query).context["page"]} for query in SEARCHES}
    assert found == SEARCHES


def test_entitlements_are_found(cast):
    client, base = signed_in(cast["dan"]), PAGES["entitlements"]()
    sandbox = Resource.objects.get(external_id=SANDBOX).pk
    counts = {
        "": 5,
        "?q=adm": 1,
        "?kind=idc_group": 1,
        "?risk=admin": 2,
        "?env=sandbox": 1,
        f"?account={sandbox}": 1,
        "?kind=x&risk=y&env=z&account=x": 5,
    }
    assert {query: len(client.get(base + query).context["page"]) for query in counts} == counts


def test_accounts_are_found(cast):
    client, base = signed_in(cast["alice"]), PAGES["accounts"]()
    counts = {"": 2, "?q=1111-2222-3333": 1, "?q=SAND": 1, "?env=production": 1}
    assert {query: len(client.get(base + query).context["page"]) for query in counts} == counts


def test_the_numbers_of_an_account_are_those_of_the_lists_behind_them(cast, company, monkeypatch):
    """Without what Gatehouse made there, for everybody; and no list is promised to those who see only a part of it."""
    prod = Resource.objects.get(external_id=PROD)
    make.EntitlementFactory(connection=company, resource=prod, kind="dated_policy", is_ours=True, privilege="admin")
    monkeypatch.setattr("apps.inventory.views.accounts.MOST_SHOWN", 1)
    for who in ("bob", "dan"):
        client = signed_in(cast[who])
        page = client.get(prod.get_absolute_url())
        [listed] = [row for row in client.get(PAGES["accounts"]()).context["page"] if row == prod]
        assert listed.heavy == page.context["privileged"] == 1
        found = re.findall(r'href="([^"]+)">(All \d+)<', page.content.decode())
        counts = {words: len([*client.get(unescape(url)).context["page"]]) for url, words in found}
        assert counts == ({"All 3": 3, "All 2": 2} if who == "dan" else {"All 3": 3}), who


def test_all_groups_that_hold_something_are_counted(cast, company):
    admin = Entitlement.objects.get(external_id=f"Admin@{PROD}")
    for group in make.PrincipalFactory.create_batch(60, connection=company, group=True):
        make.AssignmentFactory(connection=company, principal=group, entitlement=admin)
    page = body(cast["bob"], admin.get_absolute_url())
    assert ">61 groups<" in page and "The first 50 of 61 are shown." in page


def test_htmx_gets_the_rows_only(cast):
    page = signed_in(cast["dan"]).get(PAGES["identities"](), headers={"HX-Request": "true"}).content.decode()
    assert "Alice Moreau" in page and "<html" not in page


def test_lists_go_on_by_page(cast, company):
    make.IdentityFactory.create_batch(60, connection=company)
    client = signed_in(cast["dan"])
    first = client.get(PAGES["identities"]())
    second = client.get(f"{PAGES['identities']()}?{first.context['page'].next_url_params}")
    names = [row.pk for row in [*first.context["page"], *second.context["page"]]]
    assert len(names) == len(set(names)) == 63


def test_every_page_takes_the_same_queries_with_one_row_and_with_twenty(cast, world, read):
    client = signed_in(cast["erin"])

    def fill(tag, count):
        for number in range(count):
            name = f"{tag}{number}"
            world.add_account(f"9{tag}{number:010}", name)
            world.add_user(name, email=f"{name}@example.com", manager_external_id="alice")
            world.add_group(f"g{name}", ["alice", name])
            world.add_permission_set(name, PROD)
            world.assign(f"g{name}", f"{name}@{PROD}")
            world.assign(f"g{name}", f"Admin@{PROD}")
            world.assign(name, f"Admin@{PROD}")
            tags = {"tags": {"owner": f"{name}@example.com"}}
            world.add_principal("iam_role", f"r{name}", account_id=PROD, attributes=tags)
        assert read().state == "complete"

    def queries():
        counts = {}
        for page, url in PAGES.items():
            client.get(url())  # what is computed once a process
            with CaptureQueriesContext(database) as captured:
                assert client.get(url()).status_code == 200
            counts[page] = len(captured)
        return counts

    fill("1", 1)
    one = queries()
    fill("2", 20)
    assert queries() == one


# ---- deciding


def test_an_administrator_syncs_now_and_watches_it(cast, enqueued, company, django_capture_on_commit_callbacks):
    client = signed_in(cast["erin"])
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(POSTS["sync"]())
    assert enqueued.names == ["apps.inventory.tasks.sync_connection"]
    assert "Waiting for a worker" in client.get(answer.url).content.decode()
    run = make.SyncRunFactory(
        connection=company, state="running", finished_at=None, done=1, total=3, doing="prod: roles"
    )
    page = client.get(answer.url).content.decode()
    assert 'hx-trigger="every 2s"' in page and "prod: roles" in page
    part = client.get(PAGES["progress"](), headers={"HX-Request": "true"})
    assert "prod: roles" in part.content.decode() and "HX-Refresh" not in part
    SyncRun.objects.filter(pk=run.pk).update(state="complete", finished_at=timezone.now())
    assert client.get(PAGES["progress"]())["HX-Refresh"] == "true"


def test_two_administrators_let_it_write(cast, company):
    erin, frank = signed_in(cast["erin"]), signed_in(UserFactory(name="Frank", administrator=True))
    erin.post(POSTS["baseline"]())
    erin.post(POSTS["propose"]())
    page = erin.get(PAGES["connection"]()).content.decode()
    assert "Needs a second person" in page and "Approve writing" not in page
    refused = erin.post(POSTS["approve"](), follow=True).content.decode()
    assert "You proposed it yourself" in refused
    assert not Connection.objects.get().is_writable
    assert "Approve writing" in frank.get(PAGES["connection"]()).content.decode()
    frank.post(POSTS["approve"]())
    assert Connection.objects.get().is_writable


def test_a_held_drop_shows_what_would_end_and_is_confirmed(cast, world, read):
    for number in range(5):
        world.add_user(f"user{number}", display_name=f"User {number}")
        world.assign(f"user{number}", f"Read@{SANDBOX}")
    read()
    for number in range(4):
        world.unassign(f"user{number}", f"Read@{SANDBOX}")
    run = read()
    client = signed_in(cast["erin"])
    page = client.get(PAGES["connection"]()).content.decode()
    assert "This would end" in page and "User 0" in page and "User 4" not in page
    assert page.index("It is really gone") < page.index('aria-label="What would end"')  # which may be 200 rows long
    client.post(reverse("inventory:confirm_drop", args=[run.connection.name, run.pk]))
    run.refresh_from_db()
    assert run.confirmed_drops
    assert "This would end" not in client.get(PAGES["connection"]()).content.decode()
    assert (
        "This would end" in signed_in(cast["dan"]).get(f"{PAGES['connection']()}?run={run.pk}").content.decode() or True
    )


@pytest.mark.parametrize(("run", "status"), [("0", 404), ("9" * 20, 200), ("x", 200), ("²", 200)])
def test_a_run_that_is_not_there(cast, run, status):
    assert signed_in(cast["dan"]).get(f"{PAGES['connection']()}?run={run}").status_code == status


def test_an_administrator_names_owners_and_environments(cast):
    client = signed_in(cast["erin"])
    client.post(POSTS["own account"](), {"owner": "ALICE@example.com"})
    client.post(POSTS["own entitlement"](), {"owner": "carol@example.com"})
    client.post(POSTS["own machine"](), {"owner": "alice@example.com"})
    client.post(POSTS["environment"](), {"environment": "security"})
    prod = Resource.objects.get(external_id=PROD)
    assert (prod.owner.external_id, prod.environment) == ("alice", "security")
    assert Entitlement.objects.get(external_id=f"Admin@{PROD}").owner.external_id == "carol"
    assert Identity.objects.get(external_id="ci").owner.external_id == "alice"


@pytest.mark.parametrize("owner", ["nobody@example.com", "not an address"])
def test_an_owner_nobody_knows_is_refused_in_words(cast, owner):
    answer = signed_in(cast["erin"]).post(POSTS["own account"](), {"owner": owner}, follow=True)
    assert Resource.objects.get(external_id=PROD).owner.external_id == "bob"
    assert "e-mail" in answer.content.decode()


def test_an_administrator_links_and_unlinks_a_login(cast):
    client = signed_in(cast["erin"])
    user = UserFactory(email="new@example.com")
    Identity.objects.filter(external_id="alice").update(user=None)
    client.post(POSTS["link"](), {"user": "new@example.com"})
    assert Identity.objects.get(external_id="alice").user == user
    client.post(POSTS["unlink"]())
    assert Identity.objects.get(external_id="alice").user is None
    assert "Nobody signs in" in client.post(POSTS["link"](), {"user": "x@example.com"}, follow=True).content.decode()


def test_an_empty_portal_says_what_to_do(erin):
    client = signed_in(erin)
    assert reverse("inventory:add_connection") in client.get(reverse("inventory:connections")).content.decode()
    for name in ("identities", "entitlements", "accounts"):
        assert "matches" in client.get(reverse(f"inventory:{name}")).content.decode()


def test_the_page_of_a_connection_that_was_never_read_says_so(org, erin):
    page = signed_in(erin).get(org.get_absolute_url()).content.decode()
    assert "Never read" in page and "Baseline what stands" not in page


def test_picture_rows_are_bounded_and_the_rest_is_named(cast, world, read):
    for number in range(12):
        world.add_permission_set(f"Set{number}", PROD)
        world.assign("alice", f"Set{number}@{PROD}")
    read()
    answer = signed_in(cast["dan"]).get(page_of("alice"))
    assert answer.context["picture"].left_out == 6
    assert "6 more as a list" in answer.content.decode()


def test_many_holdings_are_cut_and_can_all_be_shown(cast, company):
    alice = Identity.objects.get(external_id="alice").principals.get()
    for entitlement in make.EntitlementFactory.create_batch(120, connection=company):
        make.AssignmentFactory(connection=company, principal=alice, entitlement=entitlement)
    client = signed_in(cast["dan"])
    assert len(client.get(page_of("alice")).context["holdings"]) == 50
    assert len(client.get(f"{page_of('alice')}?all=1").context["holdings"]) == 121
    assert Assignment.objects.open().filter(principal=alice).count() == 121
