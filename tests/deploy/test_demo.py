"""The demo calls things as the templates do, so that what is seen there is what a customer would see."""

from __future__ import annotations

from apps.demo.company import portal
from apps.demo.company.harbourline import HARBOURLINE
from tests.deploy.templates import HUB, Stack, policies, roles


def test_the_demos_portal_roles_are_roles_of_the_templates() -> None:
    made = {f"{one.path}{one.name}".lstrip("/") for one in HARBOURLINE.portal_roles if one.path == portal.PATH}
    assert made
    assert made <= set(roles(HUB))


def test_the_demos_policies_under_jit_are_policies_of_the_templates() -> None:
    made = {f"{one.path}{one.name}" for one in HARBOURLINE.policies if one.path == "/jit/"}
    assert made
    assert made <= {arn.partition(":policy")[2] for arn in policies(HUB)}


def test_the_demos_function_and_schedules_are_called_as_in_the_templates() -> None:
    (function,) = Stack("hub.yaml", HUB).of_kind("AWS::Lambda::Function").values()
    (group,) = Stack("region.yaml", HUB).of_kind("AWS::Scheduler::ScheduleGroup").values()
    (entry,) = Stack("hub.yaml", HUB).of_kind("AWS::SSO::PermissionSet").values()
    assert function["FunctionName"] == portal.ENDER_FUNCTION
    assert group["Name"] == portal.SCHEDULE_GROUP
    assert entry["Name"] in {one.name for one in HARBOURLINE.permission_sets}
