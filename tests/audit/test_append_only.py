"""The audit log can be added to and nothing else, by nobody, on no way in."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.users.models import User
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db
REFUSED = r"Cannot (update|delete|truncate)"


@pytest.fixture
def event() -> AuditEvent:
    return audit.record("users.user.invited", by=audit.COMMAND, subject=UserFactory(name="Alice"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditevent SET actor_name = 'nobody'",
        "UPDATE audit_auditevent SET data = '{}' WHERE id = -1 OR true",
        "DELETE FROM audit_auditevent",
        "TRUNCATE audit_auditevent",
        "TRUNCATE audit_auditevent RESTART IDENTITY CASCADE",
        "INSERT INTO audit_auditevent SELECT * FROM audit_auditevent "
        "ON CONFLICT (id) DO UPDATE SET actor_name = 'nobody'",
        "MERGE INTO audit_auditevent a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_raw_sql_cannot_change_or_remove_it(event: AuditEvent, statement: str) -> None:
    with connection.cursor() as sql, pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
        sql.execute(statement)
    assert AuditEvent.objects.get(pk=event.pk).actor_name == "a command"


def test_the_orm_cannot_either(event: AuditEvent) -> None:
    acts: list[Any] = [
        lambda: AuditEvent.objects.update(actor_name="nobody"),
        lambda: AuditEvent.objects.all().delete(),
        event.save,
        event.delete,
        lambda: AuditEvent.objects.bulk_update([event], ["actor_name"]),
    ]
    for act in acts:
        with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
            act()


def test_an_event_outlives_what_it_is_about(event: AuditEvent) -> None:
    User.objects.filter(name="Alice").delete()
    assert AuditEvent.objects.get(pk=event.pk).subject_name == "Alice"
