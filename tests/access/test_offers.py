"""What can be offered, by what it is opened and ended, and what is refused; groups from the offer to the end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from apps.access.services import offers, requests
from apps.access.services.offers import NotAllowed
from apps.connectors import registry
from apps.grants import provisioning
from apps.grants import services as grants
from apps.grants.models import EndReason, State
from apps.inventory.models import Entitlement
from tests.access.conftest import LAPTOP, Company
from tests.factories.inventory import ConnectionFactory, EntitlementFactory, PrincipalFactory, ResourceFactory
from tests.grants.system import START


def group(company: Company, name: str = "operators", *, is_externally_owned: bool = False, **fields) -> Entitlement:
    """A group of the directory, there and in the inventory."""
    record = company.world.add_group(name, is_externally_owned=is_externally_owned)
    principal = PrincipalFactory(
        connection=company.connection,
        kind="idc_group",
        external_id=name,
        name=name,
        identity=None,
        is_externally_owned=is_externally_owned,
    )
    values = {"kind": "idc_group", "privilege": "read", **fields}
    return EntitlementFactory(
        connection=company.connection,
        resource=None,
        external_id=record.external_id,
        name=name,
        group=principal,
        **values,
    )


@pytest.fixture
def erin(company: Company, client: Client) -> Client:
    client.force_login(company.erin)
    return client


def test_every_kind_is_offered_by_what_can_open_it(company: Company) -> None:
    assert [way.name for way in offers.ways_to_open(company.read)] == ["idc_assignment"]
    assert [way.name for way in offers.ways_to_open(group(company))] == ["group_membership"]
    for kind in ("idc_group", "iam_group", "permission_set", "dated_policy"):
        for system in ("aws", "fake"):
            assert registry.provisioners_for(system, kind), (system, kind)


def test_a_privileged_group_is_never_offered(company: Company) -> None:
    admins = group(company, privilege="admin")
    (way,) = offers.ways_to_open(admins)
    assert "no ender strong enough" in way.why_not
    with pytest.raises(NotAllowed, match="no ender strong enough"):
        company.offer(admins, provisioner="group_membership")


def test_a_group_of_the_identity_provider_is_never_offered(company: Company) -> None:
    owned = group(company, is_externally_owned=True)
    with pytest.raises(NotAllowed, match="identity provider manages"):
        company.offer(owned, provisioner="group_membership")


def test_another_ones_provisioner_cannot_be_chosen(company: Company) -> None:
    with pytest.raises(NotAllowed, match="Identity Center assignment cannot open this kind"):
        company.offer(group(company), provisioner="idc_assignment")


def test_a_group_can_be_asked_for_held_and_ended(company: Company) -> None:
    operators = group(company)
    row = company.offer(operators, provisioner="group_membership")
    request = requests.ask(
        row,
        principal=company.alice,
        duration=timedelta(hours=1),
        reason="On call this week.",
        by=company.alice_user,
        place=LAPTOP,
    )
    assert (request.tier, request.state) == ("auto", "allowed")
    grant = request.grant
    assert grant
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE
    assert company.can_use(company.alice, operators)
    assert not company.can_use(company.alice, operators, at=START + timedelta(hours=1))  # the portal need not live
    grants.end(grant, reason=EndReason.DONE, by=company.alice_user)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED
    assert grant.denied_at is None  # a schedule denies nothing, and the page must not say so
    assert not company.can_use(company.alice, operators)


def test_who_is_in_a_group_for_good_is_not_put_in_for_a_time(company: Company) -> None:
    operators = group(company)
    row = company.offer(operators, provisioner="group_membership")
    company.holds(company.alice, operators)
    with pytest.raises(NotAllowed):
        requests.ask(
            row,
            principal=company.alice,
            duration=timedelta(hours=1),
            reason="On call this week.",
            by=company.alice_user,
            place=LAPTOP,
        )


# ---- the page


@pytest.mark.parametrize("kind", ["group", "permission set"])
def test_the_page_shows_each_way_with_what_it_promises(company: Company, erin: Client, kind: str) -> None:
    what = group(company) if kind == "group" else company.read
    page = erin.get(f"/offers/add/{what.pk}/").content.decode()
    for way in offers.ways_to_open(what):
        assert way.title in page
        assert way.promise.ends_by in page.replace("&#x27;", "'")
        assert way.promise.survives in page
    assert page.count('name="provisioner"') == 1
    assert "checked" in page  # the only way there is


def test_where_several_fit_the_administrator_chooses(erin: Client) -> None:
    connection = ConnectionFactory(kind="aws", writable=True)
    account = ResourceFactory(connection=connection)
    dated = EntitlementFactory(connection=connection, resource=account, kind="dated_policy", privilege="read")
    names = {way.name for way in offers.ways_to_open(dated)}
    assert names >= {"iam_timeboxed_policy", "iam_jit_role"}
    page = erin.get(f"/offers/add/{dated.pk}/").content.decode()
    assert page.count('name="provisioner"') == len(names)
    assert "checked" not in page.partition("</fieldset>")[0].partition("Opened and ended by")[2]
    assert erin.post(f"/offers/add/{dated.pk}/", {"hours": 4}).status_code == 422
    assert erin.post(f"/offers/add/{dated.pk}/", {"provisioner": "iam_jit_role", "hours": 4}).status_code == 302
    assert dated.offers.get().provisioner == "iam_jit_role"


def test_a_way_that_may_not_is_shown_with_its_reason_and_cannot_be_posted(company: Company, erin: Client) -> None:
    admins = group(company, privilege="admin")
    page = erin.get(f"/offers/add/{admins.pk}/").content.decode()
    assert "no ender strong enough" in page
    assert "Put it into the catalogue" not in page
    answer = erin.post(f"/offers/add/{admins.pk}/", {"provisioner": "group_membership", "hours": 4})
    assert answer.status_code == 422
    assert not admins.offers.exists()


def test_a_way_of_another_kind_cannot_be_posted(company: Company, erin: Client) -> None:
    answer = erin.post(f"/offers/add/{company.read.pk}/", {"provisioner": "iam_timeboxed_policy", "hours": 4})
    assert answer.status_code == 422
    assert not company.read.offers.exists()


def test_a_group_is_offered_on_the_page(company: Company, erin: Client) -> None:
    operators = group(company)
    answer = erin.post(f"/offers/add/{operators.pk}/", {"provisioner": "group_membership", "hours": 4})
    assert answer.status_code == 302
    page = erin.get("/offers/").content.decode()
    assert "operators" in page
    assert "Group membership" in page


def test_what_nothing_can_open_is_said_so_and_has_no_link(company: Company, erin: Client) -> None:
    inline = EntitlementFactory(connection=company.connection, resource=company.account, kind="iam_inline_policy")
    page = erin.get(f"/offers/add/{inline.pk}/").content.decode()
    assert "Nothing can open this for a time" in page
    link = "/offers/add/"
    assert f"{link}{inline.pk}/" not in erin.get(inline.get_absolute_url()).content.decode()
    assert f"{link}{company.read.pk}/" in erin.get(company.read.get_absolute_url()).content.decode()


def test_the_catalogue_says_which_kinds_can_be_offered(company: Company, erin: Client) -> None:
    page = erin.get("/offers/").content.decode()
    for kind in ("permission_set", "idc_group", "iam_group"):
        assert f"?kind={kind}" in page
    assert "?kind=iam_inline_policy" not in page


def test_asking_for_a_group_says_what_lives_on(company: Company, client: Client) -> None:
    row = company.offer(group(company), provisioner="group_membership")
    client.force_login(company.alice_user)
    page = client.get(f"/request/{row.pk}/").content.decode()
    assert "Sessions that the group brought run to their own end" in page
    assert "denied from the end on" not in page


def test_only_faces_of_the_directory_fit_a_group_of_it(company: Company) -> None:
    row = company.offer(group(company), provisioner="group_membership")
    company.machine(owner=company.alice.identity)  # an IAM user is nobody in the directory
    assert offers.holders_for(company.alice_user, row) == [company.alice]
