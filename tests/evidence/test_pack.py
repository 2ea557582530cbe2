"""The evidence pack: the same state gives the same content, and its own verify.py finds whatever was changed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import time_machine
from celery import Task
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from apps.audit.models import AuditEvent
from apps.core import sheets
from apps.evidence import services
from apps.evidence.models import EvidencePack
from apps.evidence.pack import verify
from apps.evidence.pack.parts import PARTS
from apps.inventory.models import Identity
from apps.reviews import removals
from apps.reviews.models import Campaign
from apps.reviews.services import campaigns, items
from tests.factories.inventory import ScopeScanFactory
from tests.grants.system import START
from tests.reviews.conftest import REASON, Company, client_of, decide_all, item_of


@pytest.fixture  # real transactions: the pack reads one snapshot, in a transaction of its own
def company(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with time_machine.travel(START, tick=False):
        yield Company()


@pytest.fixture
def campaign(company: Company) -> Campaign:
    return review(company)


def review(company: Company) -> Campaign:
    """Carol kept what Alice holds and revoked what Bob holds, which is gone; an owner's task waits; Frank has not
    decided about the machine. Names are hostile, and one decision was taken back once."""
    totals = [{"name": "users", "read": 5, "expected": 5}, {"name": "groups", "read": 1, "expected": None}]
    ScopeScanFactory(run=company.run, totals=totals)
    Identity.objects.filter(pk=company.alice.identity_id).update(name='=cmd|"é')
    admins = company.group("admins", company.admin)
    admins.group.is_externally_owned = True
    admins.group.owner = company.frank.identity
    admins.group.save()
    company.holds(company.alice, company.read)
    company.holds(company.bob, company.read)
    company.holds(company.alice, admins)
    company.world.add_principal("iam_user", "robot", account_id=company.account.external_id)
    company.holds(company.machine("robot"), company.read)
    made = company.launch(holders=["human", "machine"], name='Q4 "2026"; =1+1')
    decide_all(made, "revoke", reviewer=company.carol_user)
    items.undo(campaign=made, by=company.carol_user)
    for who, what, choice in ((company.alice, company.read, "keep"), (company.bob, company.read, "revoke")):
        items.decide(item_of(made, who, what), choice=choice, reason=REASON, by=company.carol_user)
    items.decide(item_of(made, company.alice, admins), choice="revoke", reason="Zeile\n„zwei“ é", by=company.carol_user)
    items.submit(campaign=made, by=company.carol_user)
    removals.carry_out(made.pk, company.carol_user.pk)
    company.run_clock()
    return made


def make(campaign: Campaign, company: Company, folder: Path) -> tuple[EvidencePack, Path]:
    row, handout = services.make_pack(campaign.pk, by=company.dan)
    with handout.file, zipfile.ZipFile(handout.file) as archive:
        archive.extractall(folder)
    [inside] = folder.iterdir()
    return row, inside


@pytest.fixture(scope="module")
def original(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Path]:
    """One pack, made once: what is done to copies of it needs no database."""
    with (
        tempfile.TemporaryDirectory() as folder,
        django_db_blocker.unblock(),
        pytest.MonkeyPatch.context() as patch,
        time_machine.travel(START, tick=False),
    ):
        patch.setattr("time.sleep", lambda seconds: None)
        patch.setattr(Task, "apply_async", lambda *args, **kwargs: None)
        company = Company()
        made = make(review(company), company, Path(folder) / "pack")[1]
        call_command("flush", verbosity=0, interactive=False, inhibit_post_migrate=True)
        yield made


@pytest.fixture
def pack(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "pack"))


def run_verify(pack: Path, *args: str) -> tuple[int, str]:
    """As an auditor would: the script of the pack itself, with nothing of ours around it."""
    done = subprocess.run(
        [sys.executable, "-I", str(pack / "verify.py"), *args], capture_output=True, text=True, cwd="/", timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def rows(pack: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((pack / f"{name}.json").read_text())


# ---- what is in it


def test_every_list_is_there_as_csv_and_json_with_the_same_rows(pack: Path) -> None:
    for part in PARTS:
        lines = list(csv.reader(io.StringIO((pack / f"{part.name}.csv").read_bytes().decode("utf-8-sig"), newline="")))
        assert lines[0] == list(part.columns)
        assert lines[1:] == [[sheets.cell(row[name]) for name in part.columns] for row in rows(pack, part.name)]


def test_the_lists_say_what_happened(pack: Path) -> None:
    assert sorted(row["choice"] for row in rows(pack, "decisions")) == ["keep", "revoke", "revoke", "undecided"]
    assert len(rows(pack, "population")) == len(rows(pack, "assignments")) == 4
    assert len(rows(pack, "history")) == 9
    assert sorted(row["outcome"] for row in rows(pack, "remediation")) == ["owner_task", "removed"]
    [gone] = [row for row in rows(pack, "remediation") if row["outcome"] == "removed"]
    assert gone["gone_at"] and gone["proofs"] and gone["hours_from_sign_off"] is not None
    assert sorted(row["what"] for row in rows(pack, "exceptions")) == ["not decided", "not gone: waits for its owner"]
    [sign_off] = rows(pack, "sign_offs")
    assert (sign_off["reviewer"], sign_off["items"], sign_off["keep"], sign_off["revoke"]) == ("Carol", 3, 1, 2)
    assert rows(pack, "sync_runs")[0]["control_totals"][0] == {"name": "users", "read": 5, "expected": 5}
    names = {row["event"] for row in rows(pack, "events")}
    assert names >= {"reviews.campaign.launched", "reviews.sign_off.submitted", "grants.grant.revoked"}


def test_names_are_no_formulas_in_the_csv_and_as_they_are_in_the_json(pack: Path) -> None:
    assert '=cmd|"é' in {row["holder"] for row in rows(pack, "population")}
    for path in pack.glob("*.csv"):
        cells = [
            cell for line in csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")) for cell in line
        ]
        bad = [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t", "\r", "\n")]
        assert bad == [], path.name


def test_the_manifest_has_every_file_with_its_digest_and_rows(pack: Path) -> None:
    files = json.loads((pack / "manifest.json").read_text())["content"]["files"]
    assert set(files) == {path.name for path in pack.iterdir()} - {"manifest.json"}
    for name, facts in files.items():
        data = (pack / name).read_bytes()
        assert (facts["sha256"], facts["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert files["population.csv"]["rows"] == files["population.json"]["rows"] == 4


def test_the_readme_says_what_it_does_not_prove(pack: Path) -> None:
    text = (pack / "README.txt").read_text()
    assert "What it does not prove" in text and 'Q4 "2026"; =1+1' in text and "&quot;" not in text
    assert "the review is running" in text


# ---- the same again


def test_the_same_state_gives_the_same_bytes_whoever_asks_and_whenever(
    campaign: Campaign, company: Company, tmp_path: Path
) -> None:
    first, one = make(campaign, company, tmp_path / "one")
    with time_machine.travel(START.replace(day=23), tick=False):
        second, two = make(campaign, company, tmp_path / "two")
    assert first.content_digest == second.content_digest
    differ = {path.name for path in one.iterdir() if path.read_bytes() != (two / path.name).read_bytes()}
    assert differ == {"manifest.json"}
    parts = [json.loads((pack / "manifest.json").read_text()) for pack in (one, two)]
    assert {name for name in parts[0] if parts[0][name] != parts[1][name]} == {"handout"}


def test_another_state_gives_another_digest(campaign: Campaign, company: Company, tmp_path: Path) -> None:
    first, _ = make(campaign, company, tmp_path / "one")
    decide_all(campaign, "keep", reviewer=company.frank_user)
    second, _ = make(campaign, company, tmp_path / "two")
    assert first.content_digest != second.content_digest


def test_the_handout_is_on_the_record(campaign: Campaign, company: Company) -> None:
    row, handout = services.make_pack(campaign.pk, by=company.dan)
    with handout.file as file:
        data = file.read()
    event = AuditEvent.objects.get(event="evidence.pack.made")
    assert row.digest == event.data["sha256"] == hashlib.sha256(data).hexdigest()
    assert row.content_digest == event.data["content_sha256"]
    assert (row.made_by, row.size, row.rows["population"]) == (company.dan, len(data), 4)
    assert f"reviews.campaign:{campaign.pk}" in event.refs
    for act in (EvidencePack.objects.all().delete, lambda: EvidencePack.objects.update(size=0)):
        with pytest.raises(DatabaseError, match="Cannot"), transaction.atomic():
            act()


# ---- verify.py


def test_verify_finds_nothing_wrong_and_prints_the_digest_of_the_record(
    campaign: Campaign, company: Company, tmp_path: Path
) -> None:
    row, pack = make(campaign, company, tmp_path / "pack")
    code, said = run_verify(pack)
    assert code == 0, said
    assert row.content_digest in said and "4 items add up" in said
    assert run_verify(pack, row.content_digest)[0] == 0
    code, said = run_verify(pack, "0" * 64)
    assert code == 1 and "you expect 000" in said


def test_verify_finds_nothing_wrong_with_a_closed_campaign(
    campaign: Campaign, company: Company, tmp_path: Path
) -> None:
    decide_all(campaign, "keep", reviewer=company.frank_user)
    items.submit(campaign=campaign, by=company.frank_user)
    campaigns.close(campaign, by=company.erin_user)
    _, pack = make(campaign, company, tmp_path / "pack")
    code, said = run_verify(pack)
    assert code == 0, said
    assert {row["when"] for row in rows(pack, "sums")} == {"at the close", "in this pack"}


def change(pack: Path, name: str, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Tamper as somebody who knows the format: JSON, CSV, manifest and digest all agree afterwards."""
    found = rows(pack, name)
    edit(found)
    part = next(part for part in PARTS if part.name == name)
    path = pack / "manifest.json"
    manifest = json.loads(path.read_text())
    for ending, put in (
        ("json", lambda out: sheets.write_json(out, found)),
        ("csv", lambda out: sheets.write_csv(out, part.columns, found)),
    ):
        with (pack / f"{name}.{ending}").open("wb") as file:
            out = sheets.Hashed(file)
            count = put(out)
        manifest["content"]["files"][f"{name}.{ending}"] = {"sha256": out.digest, "bytes": out.size, "rows": count}
    manifest["content_sha256"] = hashlib.sha256(sheets.canonical(manifest["content"]).encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def first(found: list[dict[str, Any]], **match: Any) -> dict[str, Any]:
    return next(row for row in found if all(row[name] == value for name, value in match.items()))


CHANGES: dict[str, tuple[str, Callable[[list[dict[str, Any]]], object], str]] = {
    "somebody left out of the population": ("population", lambda rows: rows.pop(), "not the same in population"),
    "another holder": (
        "population",
        lambda rows: (rows[0].update(holder="X"), rows[0]["frozen"].update(holder="X")),
        "not the one that was frozen",
    ),
    "a column that was not frozen so": ("population", lambda rows: rows[0].update(account="X"), "not what was frozen"),
    "a decision turned round": (
        "decisions",
        lambda rows: first(rows, choice="revoke").update(choice="keep"),
        "not those that were signed",
    ),
    "another reason": (
        "decisions",
        lambda rows: first(rows, choice="keep").update(reason="Because."),
        "not those that were signed",
    ),
    "a decision made up": (
        "decisions",
        lambda rows: first(rows, choice="undecided").update(
            choice="keep", decided_by_id=1, decided_by="X", decided_at="2026-11-22T09:00:00.000000Z"
        ),
        "the history ends with another answer",
    ),
    "a signature taken away": ("sign_offs", lambda rows: rows.clear(), "covers nothing, or is missing"),
    "a reviewer of their own access": (
        "assignments",
        lambda rows: next(row for row in rows if row["subject_user_id"]).update(subject_user_id=rows[0]["reviewer_id"]),
        "reviews their own access",
    ),
    "another reviewer rule": ("assignments", lambda rows: rows[0].update(rule="owner"), "Everything has a reviewer"),
    "an open removal called gone": (
        "remediation",
        lambda rows: first(rows, outcome="owner_task").update(outcome="removed"),
        "gone without a proof",
    ),
    "an open removal called gone with a made-up proof": (
        "remediation",
        lambda rows: first(rows, outcome="owner_task").update(outcome="removed", gone_at="x", proofs=[{"what": "x"}]),
        "The exceptions are not what is left open",
    ),
    "a revocation left out": ("remediation", lambda rows: rows.pop(), "exactly one line in remediation"),
    "an exception hidden": ("exceptions", lambda rows: rows.pop(), "not what is left open"),
    "a sum that is off": ("sums", lambda rows: rows[0].update(total=5), "off by"),
    "an incomplete sync": ("sync_runs", lambda rows: rows[0].update(state="incomplete"), "not complete"),
    "a control total that is off": (
        "sync_runs",
        lambda rows: rows[0]["control_totals"][0].update(read=4),
        "4 of 5 users were read",
    ),
    "an audit event left out": (
        "events",
        lambda rows: rows.remove(
            [row for row in rows if row["event"] == "reviews.review_item.decided" and row["data"]["choice"] == "keep"][
                -1
            ]
        ),
        "the audit events end with another answer",
    ),
    "a signature's event left out": (
        "events",
        lambda rows: rows.remove(first(rows, event="reviews.sign_off.submitted")),
        "other sign-offs",
    ),
    "another population in the log": (
        "events",
        lambda rows: first(rows, event="reviews.campaign.launched")["data"].update(population=3),
        "another population",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_verify_finds_what_was_changed_even_with_new_digests(pack: Path, what: str) -> None:
    name, edit, said = CHANGES[what]
    change(pack, name, edit)
    code, out = run_verify(pack)
    assert code == 1
    assert said in out


@pytest.mark.parametrize("name", ["population.csv", "events.json", "README.txt", "verify.py"])
def test_verify_finds_a_single_changed_byte(pack: Path, name: str) -> None:
    with (pack / name).open("ab") as file:
        file.write(b"\n")
    code, said = run_verify(pack)
    assert code == 1 and f"{name}: changed since it was handed out" in said


def test_verify_finds_files_that_are_missing_added_or_broken(pack: Path) -> None:
    (pack / "history.json").unlink()
    (pack / "extra.csv").write_text("x")
    code, said = run_verify(pack)
    assert code == 1 and "history.json: missing" in said and "extra.csv: not in the manifest" in said
    (pack / "manifest.json").write_text("{")
    assert run_verify(pack)[0] == 1


def test_verify_reads_a_csv_that_says_something_else(pack: Path) -> None:
    path = pack / "decisions.csv"
    path.write_bytes(path.read_bytes().replace(b'"keep"', b'"revoke"'))
    assert "of the CSV is not that of the JSON" in run_verify(pack)[1]


@pytest.mark.parametrize(
    "value", ["=1", " -x", "＠x", "\t", "", "x", None, True, 1, -2, 1.5, ["-"], {"b": "é", "a": [None]}]
)
def test_verify_and_the_portal_write_cells_alike(value: Any) -> None:
    assert verify.cell(value) == sheets.cell(value)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value",
    [
        {"bb": 1, "a": [True, None, "é"], "é": '"\\/\b\f\n\r\t\u0001\u007f\u2028', "ccc": {"z": 0, "yy": -1}},
        [],
        {},
        {"10": 1, "9": 2, "B": 3, "a": 4},
    ],
)
def test_verify_writes_json_as_postgresql_does(value: Any) -> None:
    with connection.cursor() as sql:
        sql.execute("SELECT %s::jsonb::text", [json.dumps(value)])
        assert sql.fetchone() == (verify.as_jsonb(value),)


# ---- over HTTP


def test_auditors_and_administrators_take_it_and_nobody_else(campaign: Campaign, company: Company) -> None:
    url = f"/evidence/campaigns/{campaign.pk}/pack/"
    for user, code in ((company.dan, 200), (company.erin_user, 200), (company.mallory, 404), (company.carol_user, 404)):
        response = client_of(user).post(url)
        assert response.status_code == code, user
        if code == 200:
            data = b"".join(response)
            assert response["X-Content-SHA256"] == hashlib.sha256(data).hexdigest()
            assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    assert client_of(company.dan).get(url).status_code == 405
    page = client_of(company.dan).get("/evidence/").content.decode()
    assert EvidencePack.objects.latest("pk").content_digest in page


def test_of_a_draft_and_of_nothing_there_is_no_pack(company: Company) -> None:
    client = client_of(company.dan)
    for pk in (company.draft().pk, 999):
        assert client.post(f"/evidence/campaigns/{pk}/pack/").status_code == 404
    assert not EvidencePack.objects.exists()


def test_more_items_cost_no_more_queries(campaign: Campaign, company: Company) -> None:
    def queries(of: Campaign) -> int:
        with CaptureQueriesContext(connection) as captured:
            services.make_pack(of.pk, by=company.dan)[1].file.close()
        return len(captured)

    small = queries(campaign)
    for number in range(15):
        company.holds(company.person(f"person{number}"), company.read)
    larger = company.launch(holders=["human", "machine"], name="Larger")
    assert larger.population > campaign.population + 10
    assert queries(larger) == small


def test_the_page_costs_as_many_queries_with_many_campaigns(campaign: Campaign, company: Company) -> None:
    client = client_of(company.dan)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get("/evidence/").status_code == 200
        return len(captured)

    services.make_pack(campaign.pk, by=company.dan)[1].file.close()
    queries()
    one = queries()
    for number in range(9):
        made = company.launch(holders=["human"], name=f"Review {number}")
        services.make_pack(made.pk, by=company.dan)[1].file.close()
    assert queries() == one
