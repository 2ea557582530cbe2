"""The test harness keeps its promises."""

import socket
from pathlib import Path

import boto3
import pytest
from celery import shared_task
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.template import Context, Origin, Template, engines

from tests.conftest import Enqueued, NetworkUsed
from tests.plugins.aws import Aws


def test_a_test_cannot_leave_the_machine() -> None:
    with socket.socket() as line, pytest.raises(NetworkUsed):
        line.connect(("192.0.2.1", 443))
    with pytest.raises(NetworkUsed):
        socket.create_connection(("example.com", 443))


def test_aws_is_empty_and_numbered_the_same_every_time(aws: Aws) -> None:
    iam = aws.client("iam")
    iam.create_user(UserName="alice")
    aws.reset()
    assert iam.list_users()["Users"] == []
    assert iam.list_policies(Scope="AWS", PathPrefix="/job-function/")["Policies"]


def test_aws_is_found_through_the_environment(aws: Aws) -> None:
    assert boto3.client("sts").get_caller_identity()["Account"] == "123456789012"


@pytest.mark.django_db
def test_the_database_is_postgresql_18() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        assert cursor.fetchone()[0].startswith("18.")


def test_the_cache_is_shared_and_real() -> None:
    cache.set("harness", 1)
    assert cache.get("harness") == 1


def render(source: str, origin: str) -> str:
    engine = engines["django"].engine  # type: ignore[attr-defined]
    return Template(source, origin=Origin(origin), engine=engine).render(Context({"known": "yes"}))


def test_an_unknown_variable_fails_in_our_templates_only() -> None:
    ours = str(Path(settings.BASE_DIR) / "templates" / "access" / "page.html")
    with pytest.raises(AssertionError, match=r"Unknown template variable nobody\.name"):
        render("{{ nobody.name }}", ours)
    with pytest.raises(AssertionError):
        render("{% for a in known %}{{ a.absent }}{% endfor %}", ours)
    assert render("{{ known }}{% if nobody %}!{% endif %}", ours) == "yes"
    assert render("{{ nobody }}{{ nobody|default:'none' }}", "/site-packages/allauth/login.html") == "none"


def test_tasks_wait_and_run_on_demand(enqueued: Enqueued) -> None:
    done: list[int] = []

    @shared_task(name="tests.remember")
    def remember(number: int) -> None:
        done.append(number)
        if number:
            remember.delay(number - 1)

    remember.delay(2)
    assert enqueued.names == ["tests.remember"]
    assert done == []
    enqueued.run()
    assert done == [2, 1, 0]
