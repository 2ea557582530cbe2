"""What machines really do, in a real browser: readable, accessible, whole on a phone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from apps.connectors.trail import LastUse
from apps.inventory.models import TrailRun
from apps.inventory.sync import last_accessed
from tests.factories.users import UserFactory
from tests.inventory.test_browser import WCAG
from tests.inventory.test_usage import Deployer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CALLS = {
    "ec2:DescribeInstances": 1843,
    "ecs:UpdateService": 212,
    "iam:GetRole": 88,
    "kms:Decrypt": 640,
    "s3:ListAllMyBuckets": 12,
    "secretsmanager:GetSecretValue": 96,
}


def test_the_pages_about_usage_are_accessible_and_fit(page: Page, live_server: LiveServer) -> None:
    deployer = Deployer()
    deployer.reads(100)
    for n, (action, done) in enumerate(CALLS.items()):
        deployer.does(action, days_ago=n + 1, done=done, networks=[f"203.0.{k}.0/24" for k in range(n + 1)])
    deployer.does("ec2:RunInstances", denied=9)
    deployer.does("signin:ConsoleLogin", done=1, is_mapped=False)
    deployer.does("ec2:CreateTags", by_services=40, services=["autoscaling.amazonaws.com"])
    last_accessed.keep(deployer.principal, [LastUse("s3"), LastUse("sqs")])
    TrailRun.objects.create(
        connection=deployer.connection,
        state=TrailRun.State.INCOMPLETE,
        files=288,
        events=41_204,
        repeated=3,
        of_nobody=1_208,
        calls=301,
        skipped=[
            {
                "file": "AWSLogs/o-abcdefghij/111122223333/CloudTrail/eu-west-1/2031/01/31/"
                "111122223333_CloudTrail_eu-west-1_20310131T1220Z_sM25jC0Ku0QcGkDa.json.gz",
                "reason": "The compressed file ends in the middle.",
                "count": 1,
            }
        ],
        skipped_count=1,
    )
    client = Client()
    client.force_login(UserFactory(name="Erin", administrator=True))
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    urls = {
        "usage": reverse("inventory:usage", args=[deployer.identity.pk]),
        "proposal": reverse("inventory:usage_proposal", args=[deployer.identity.pk]),
        "trail": reverse("inventory:trail", args=[deployer.connection.name]),
        "connection": deployer.connection.get_absolute_url(),
    }
    pictures = os.environ.get("GATEHOUSE_PICTURES")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for name, url in urls.items():
            page.goto(live_server.url + url)
            found = Axe().run(page, options=WCAG)
            assert found.violations_count == 0, f"{url}\n{found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), url
            for scheme in ("light", "dark") if pictures else ():
                page.emulate_media(color_scheme=scheme)
                page.screenshot(path=Path(pictures) / f"{name}-{width}-{scheme}.png", full_page=True)
            page.emulate_media(color_scheme="light")
