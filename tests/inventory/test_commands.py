"""What an operator types."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from apps.connectors import fake_world
from apps.connectors.errors import Unreachable
from apps.inventory.models import Connection, Identity
from tests.factories import inventory as make

pytestmark = pytest.mark.django_db


def test_sync_reads_all_and_says_what_changed(org, world, capsys):
    call_command("sync")
    out = capsys.readouterr().out
    assert f"{org.name}: complete" in out
    assert "assignment: 5 added" in out
    call_command("sync", org.name)
    assert "nothing changed" in capsys.readouterr().out


def test_sync_exits_2_when_incomplete_and_names_the_scope(org, world, capsys):
    world.scan_problems["directory"].append("Page 2 could not be read.")
    with pytest.raises(SystemExit) as caught:
        call_command("sync")
    assert caught.value.code == 2
    assert "Directory: Incomplete\n    Page 2 could not be read." in capsys.readouterr().err


def test_sync_exits_1_when_it_failed_and_says_why(org, world, capsys):
    world.script("accounts", fake_world.raises(Unreachable("AWS does not answer. Check the network.")))
    with pytest.raises(SystemExit) as caught:
        call_command("sync")
    assert caught.value.code == 1
    assert "AWS does not answer. Check the network." in capsys.readouterr().err


def test_sync_says_what_is_wrong_with_its_argument(org):
    with pytest.raises(CommandError, match=f"no connection 'typo'. Known: {org.name}"):
        call_command("sync", "typo")
    make.SyncRunFactory(connection=org, state="running", finished_at=None)
    with pytest.raises(CommandError, match="being read right now"):
        call_command("sync", org.name)


def test_sync_without_any_connection_says_how_to_add_one(db):
    with pytest.raises(CommandError, match="add_connection"):
        call_command("sync")


def test_add_connection_prints_its_external_id(db, capsys):
    call_command("add_connection", "acme", region="eu-west-1", reader_role="audit/Reader")
    added = Connection.objects.get()
    assert (added.name, added.region, added.config["reader_role"]) == ("acme", "eu-west-1", "audit/Reader")
    assert added.external_id in capsys.readouterr().out
    with pytest.raises(CommandError, match="name"):
        call_command("add_connection", "acme")


def test_import_org_chart_reads_a_file(org, tmp_path, capsys):
    alice, bob = (make.IdentityFactory(connection=org, email=f"{name}@example.com") for name in ("alice", "bob"))
    file = tmp_path / "org.csv"
    file.write_text("\ufeffemail,manager\nalice@example.com,bob@example.com\nx@example.com,\n")
    call_command("import_org_chart", str(file))
    captured = capsys.readouterr()
    assert "1 changed, 0 were so already, 1 unknown." in captured.out
    assert "x@example.com is not in the directory." in captured.err
    assert Identity.objects.get(pk=alice.pk).manager == bob


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"email,manager\nalice,bob\n", "Nothing was changed"),
        (b"email,manager\n\xff\xfe\n", "not UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_import_org_chart_says_what_is_wrong(org, tmp_path, content, said):
    file = tmp_path / "org.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandError, match=said):
        call_command("import_org_chart", str(file))


def test_import_org_chart_asks_which_of_several_connections(org, tmp_path):
    make.ConnectionFactory()
    with pytest.raises(CommandError, match="--connection"):
        call_command("import_org_chart", str(tmp_path / "org.csv"))
