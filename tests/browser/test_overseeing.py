"""Dan reads the audit log and takes a file; Erin reads AWS again and keeps the catalogue."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from apps.access.models import AccessRequest
from apps.inventory.models import SyncRun
from tests.access.conftest import Company
from tests.browser.conftest import Enter, install_clock, poll
from tests.conftest import Enqueued
from tests.factories.inventory import SyncRunFactory
from tests.factories.users import UserFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_he_narrows_the_audit_log_and_exports_a_day(asked: AccessRequest, enter: Enter) -> None:
    page = enter(UserFactory(name="Dan", auditor=True), "/evidence/audit/", before=install_clock)
    lines = page.locator("#rows tbody tr")
    expect(lines).to_have_count(2)
    page.keyboard.press("/")
    page.keyboard.type("Erin")
    poll(page)
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("into the catalogue")
    page.get_by_role("searchbox").fill("")
    page.get_by_text("About", exact=True).first.click()
    page.get_by_role("link", name="Requests and offers").click()
    lines.filter(has_text="asked for").get_by_role("link", name="Alice").click()
    expect(lines).to_have_count(1)
    page.get_by_role("link", name="By Alice").click()
    expect(lines).to_have_count(2)

    page.get_by_role("link", name="Export a period").click()
    today = timezone.now().date().isoformat()
    page.get_by_label("From", exact=True).fill(today)
    page.get_by_label("To", exact=True).fill(today)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    assert download.value.suggested_filename.endswith(".csv")
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    assert [row["event"] for row in rows] == ["access.offer.made", "access.access_request.asked"]


def test_she_starts_a_sync_and_sees_it_move(company: Company, enter: Enter, enqueued: Enqueued) -> None:
    page = enter(company.erin, company.connection.get_absolute_url(), before=install_clock)
    page.get_by_role("button", name="Sync now").click()
    progress = page.locator("#progress")
    expect(progress).to_contain_text("Waiting for a worker")
    assert any("sync" in name for name in enqueued.names)

    run = SyncRunFactory(connection=company.connection, state=SyncRun.State.RUNNING, finished_at=None, total=4)
    poll(page)
    expect(progress).to_contain_text("0 of 4 read")
    SyncRun.objects.filter(pk=run.pk).update(done=3, doing="production")
    poll(page)
    expect(progress).to_contain_text("3 of 4 read")
    expect(progress).to_contain_text("production")
    SyncRun.objects.filter(pk=run.pk).update(state=SyncRun.State.COMPLETE, finished_at=timezone.now())
    poll(page)
    expect(progress).to_be_empty()
    expect(page.get_by_role("heading", name="What was read")).to_be_visible()
    expect(page.get_by_role("button", name="Sync now")).to_be_enabled()


def test_she_offers_what_can_be_held_and_takes_it_back(company: Company, enter: Enter) -> None:
    page = enter(company.erin, company.read.get_absolute_url())
    page.get_by_role("link", name="Offer it").click()
    page.get_by_label("At most, hours at a time").fill("2")
    page.get_by_role("button", name="Put it into the catalogue").click()
    row = page.get_by_role("row", name="Read")
    expect(row).to_contain_text("2 h")
    row.get_by_role("button", name="Withdraw").click()
    page.get_by_role("dialog", name="Withdraw Read?").get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("Nothing is on offer")).to_be_visible()
