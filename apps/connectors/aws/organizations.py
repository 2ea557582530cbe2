"""The accounts of an organization, with where they stand in it and their tags (AWS Organizations)."""

from __future__ import annotations

from typing import Any

from apps.connectors.aws import reading
from apps.connectors.aws.errors import code_of
from apps.connectors.aws.session import Api
from apps.connectors.base import AccountRecord, Progress, unwatched
from apps.connectors.errors import ConnectorError

NO_ORGANIZATION = "AWSOrganizationsNotInUseException"


def management_account_id(api: Api) -> str:
    """The account that pays, in which service control policies do not hold; our own where there is no organization."""
    try:
        answer = api.call(api.hub_id, "organizations", "describe_organization")
    except ConnectorError as error:
        if code_of(error) == NO_ORGANIZATION:
            return api.hub_id
        raise
    organization = answer["Organization"]
    return str(organization.get("MasterAccountId") or organization["ManagementAccountId"])


def list_accounts(api: Api, progress: Progress = unwatched) -> list[AccountRecord]:
    """Every account of the organization, by id; only our own where there is no organization."""
    progress(0, 1, "all of them")
    try:
        listed = list(api.items(api.hub_id, "organizations", "list_accounts", "Accounts"))
    except ConnectorError as error:
        if code_of(error) != NO_ORGANIZATION:
            raise
        return [AccountRecord(api.hub_id, api.hub_id, is_management=True)]
    management_id = management_account_id(api)
    found, paths = _tree(api, progress)
    known = {account["Id"] for account in listed}
    listed += [account for account_id, account in found.items() if account_id not in known]  # a page was short
    records = []
    for done, account in enumerate(sorted(listed, key=lambda account: str(account["Id"]))):
        name = reading.name(account.get("Name"))
        progress(done, len(listed), f"the tags of {name or account['Id']}")  # a call each: minutes for a thousand
        records.append(
            AccountRecord(
                external_id=account["Id"],
                name=name,
                email=reading.name(account.get("Email")),
                path=paths.get(account["Id"], ""),
                state=str(account.get("State") or account.get("Status") or "unknown").lower(),
                tags=_tags(api, account["Id"]),
                is_management=account["Id"] == management_id,
                is_placed=account["Id"] in paths,
            )
        )
    return records


def _tags(api: Api, account_id: str) -> dict[str, str]:
    return reading.tags(
        list(api.items(api.hub_id, "organizations", "list_tags_for_resource", "Tags", ResourceId=account_id))
    )


def _tree(api: Api, progress: Progress) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The accounts that the units list, and the names of the units above each, "Workloads/Production"; empty right under
    the root. By account id. One that moves meanwhile may be missing."""
    found: dict[str, dict[str, Any]] = {}
    paths: dict[str, str] = {}
    above = [(root["Id"], "") for root in api.items(api.hub_id, "organizations", "list_roots", "Roots")]
    while above:
        parent_id, path = above.pop()
        progress(0, 1, f"the unit {path or parent_id}")
        for account in _children(api, "list_accounts_for_parent", "Accounts", parent_id):
            found[account["Id"]], paths[account["Id"]] = account, path
        for unit in _children(api, "list_organizational_units_for_parent", "OrganizationalUnits", parent_id):
            unit_name = reading.name(unit["Name"]).replace("/", "%2F")  # a unit called "A/B" is not B inside A
            above.append((unit["Id"], f"{path}/{unit_name}".lstrip("/")))
    return found, paths


def _children(api: Api, operation: str, key: str, parent_id: str) -> list[dict[str, Any]]:
    return list(api.items(api.hub_id, "organizations", operation, key, ParentId=parent_id))
