"""That AWS takes the templates and finds no fault with their policies. Reads only."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from tests.deploy.templates import FOLDER, HUB, MANAGEMENT, MEMBER, Stack, policies, roles
from tests.live.sandbox import Sandbox, code

pytestmark = pytest.mark.live


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_cloudformation_takes_the_template(sandbox: Sandbox, name: str) -> None:
    sandbox.require_enforcement()
    sandbox.hub("cloudformation").validate_template(TemplateBody=(FOLDER / name).read_text())


def test_access_analyzer_finds_no_error_in_our_policies(sandbox: Sandbox) -> None:
    sandbox.require_enforcement()
    analyzer = sandbox.hub("accessanalyzer")
    found = []
    for kind, document in _documents():
        try:
            findings = analyzer.validate_policy(policyDocument=json.dumps(document), policyType=kind)["findings"]
        except ClientError as error:
            pytest.skip(f"these credentials may not validate policies: {code(error)}")
        found += [one["issueCode"] for one in findings if one["findingType"] in ("ERROR", "SECURITY_WARNING")]
    assert found == []


def _documents() -> list[tuple[str, object]]:
    made: list[tuple[str, object]] = []
    for account_id in (HUB, MEMBER):
        made += [("IDENTITY_POLICY", one) for one in policies(account_id).values()]
        for about in roles(account_id).values():
            made += [("IDENTITY_POLICY", one["PolicyDocument"]) for one in about.get("Policies", ())]
            made.append(("RESOURCE_POLICY", about["AssumeRolePolicyDocument"]))
    for about in Stack("organization.yaml", MANAGEMENT).of_kind("AWS::Organizations::Policy").values():
        made.append((about["Type"], about["Content"]))
    return made
