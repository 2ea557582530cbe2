"""`/healthz` says what is well and what is not, to anyone, and nothing else."""

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test import Client


@pytest.mark.django_db
def test_well(client: Client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"web": "well", "database": "well", "broker": "well"}
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
def test_the_broker_is_down(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nonexistent/valkey.sock?db=0")
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json() == {"web": "well", "database": "well", "broker": "down"}


def test_the_database_is_down(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OperationalError("connection to db.internal as portal failed")

    monkeypatch.setattr(connection, "cursor", refuse)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json() == {"web": "well", "database": "down", "broker": "well"}


def test_it_can_only_be_read(client: Client) -> None:
    assert client.post("/healthz").status_code == 405
