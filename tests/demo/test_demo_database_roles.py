"""The demo's processes sign in as the roles that they have in production, where the cluster is the demo's own."""

from __future__ import annotations

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, connection

from apps.core import database_roles
from apps.demo import database_roles as demo
from config import env

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_process_gets_in_as_its_own_role(monkeypatch: pytest.MonkeyPatch) -> None:
    password = demo.separate()
    for name, value in demo.environ("web", password).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GATEHOUSE_DB_NAME", raising=False)
    found = env.database()
    assert found["NAME"] == settings.DATABASES["default"]["NAME"]
    with psycopg.connect(
        host=found["HOST"], user=found["USER"], password=found["PASSWORD"], dbname=connection.settings_dict["NAME"]
    ) as web:
        assert web.execute("SELECT current_user").fetchone() == ("gatehouse_web",)
        assert web.execute("SELECT count(*) FROM grants_grant").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            web.execute("DELETE FROM grants_grant")


def test_where_roles_cannot_be_made_every_process_stays_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_password: str) -> None:
        raise DatabaseError("permission denied to create role")

    monkeypatch.setattr(database_roles, "create", refuse)
    assert demo.separate() == ""
    assert demo.environ("web", "") == {}
