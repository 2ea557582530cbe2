"""A review from its launch to the evidence: what was revoked is gone from AWS, nothing else is, and the pack proves it."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.e2e.conftest import Browser, Demo, wait_for


def everything_held(demo: Demo) -> set[tuple[str, ...]]:
    """Every account assignment and every membership, as AWS tells it."""
    sso, store = demo.aws("sso-admin"), demo.aws("identitystore")
    instance = sso.list_instances()["Instances"][0]
    where = {"InstanceArn": instance["InstanceArn"]}
    held: set[tuple[str, ...]] = set()
    accounts = [account["Id"] for account in demo.aws("organizations").list_accounts()["Accounts"]]
    for arn in sso.list_permission_sets(**where)["PermissionSets"]:
        for account in accounts:
            found = sso.list_account_assignments(**where, AccountId=account, PermissionSetArn=arn)
            held |= {(account, arn, one["PrincipalId"]) for one in found["AccountAssignments"]}
    directory = {"IdentityStoreId": instance["IdentityStoreId"]}
    for group in store.list_groups(**directory)["Groups"]:
        members = store.list_group_memberships(**directory, GroupId=group["GroupId"])["GroupMemberships"]
        held |= {(group["GroupId"], member["MemberId"]["UserId"]) for member in members}
    return held


def launch(erin: Browser) -> str:
    page = erin.get("/reviews/campaigns/new/")
    connection = re.search(r'<option value="(\d+)"[^>]*>\s*harbourline', page)
    assert connection
    answer = erin.post(
        "/reviews/campaigns/new/",
        name="Standing privilege in production",
        connection=connection[1],
        holders=["human"],
        privileged_only="on",
        environments=["production"],
        due_on=f"{datetime.now(UTC) + timedelta(days=14):%Y-%m-%d}",
        fallback="farid.haddad@harbourline.example",
    )
    campaign = re.search(r"/reviews/campaigns/(\d+)/", answer.url)
    assert campaign, answer.text[:3000]
    erin.post(f"/reviews/campaigns/{campaign[1]}/launch/", page=f"/reviews/campaigns/{campaign[1]}/")
    return campaign[1]


def test_what_a_review_revokes_is_gone_from_aws_and_proved(demo: Demo, tmp_path: Path) -> None:
    before = everything_held(demo)
    erin, carol, dan = demo.sign_in("erin"), demo.sign_in("carol"), demo.sign_in("dan")
    campaign = launch(erin)

    wait_for(lambda: f"/reviews/{campaign}/mine/" in mails(demo), "the mail that links straight to Carol's items")
    desk = f"/reviews/{campaign}/mine/"
    items = list(dict.fromkeys(re.findall(rf"{desk}(\d+)/", carol.get(desk))))
    assert items, "Carol has nothing to review"
    assert "Carol Okafor holds" not in carol.get(desk)

    for number, item in enumerate(items):
        choice = "revoke" if number == 0 else "keep"
        reason = "No longer needed for this job." if number == 0 else "Needed for the platform on call."
        carol.post(f"{desk}{item}/decide/", page=f"{desk}{item}/", choice=choice, reason=reason)
    assert everything_held(demo) == before  # nothing is taken away before it is signed
    carol.post(f"{desk}sign/", page=f"{desk}sign/")

    wait_for(lambda: "Removed and checked" in erin.get(f"/reviews/campaigns/{campaign}/items/"), "the removal")
    gone = before - everything_held(demo)
    assert len(gone) == 1, gone

    close = f"/reviews/campaigns/{campaign}/close/"
    erin.post(close, page=f"/reviews/campaigns/{campaign}/", force="on", note="The rest follows next quarter.")
    assert "Closed" in erin.get(f"/reviews/campaigns/{campaign}/")

    answer = dan.post(f"/evidence/campaigns/{campaign}/pack/", page="/evidence/")
    assert answer.headers["Content-Type"] == "application/zip", answer.text[:2000]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as pack:
        pack.extractall(tmp_path)
    [verify] = tmp_path.rglob("verify.py")
    checked = subprocess.run(
        [sys.executable, verify.name], cwd=verify.parent, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

    today = f"{datetime.now(UTC):%Y-%m-%d}"
    export = dan.post("/evidence/audit/export/", page="/evidence/", start=today, end=today)
    events = {row["event"] for row in csv.DictReader(io.StringIO(export.content.decode("utf-8-sig")))}
    assert {"reviews.campaign.launched", "grants.grant.revoked", "evidence.pack.made"} <= events


def mails(demo: Demo) -> str:
    """Everything that left by mail so far."""
    return "".join(mail.read_text() for mail in (demo.logs / "mail").glob("*"))
