"""The audit log. It is also the outbox: consumers follow it in commit order (`AuditEventQuerySet.after`)."""

from __future__ import annotations

from collections.abc import Iterable

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def about(self, *refs: str) -> AuditEventQuerySet:
        """Events whose subject, or anything they touch, is one of `refs` ("grants.grant:42")."""
        return self.filter(refs__overlap=list(refs))

    def between(self, start: object, end: object) -> AuditEventQuerySet:
        """Events recorded from `start` (included) to `end` (excluded)."""
        return self.filter(at__gte=start, at__lt=end)

    def settled(self) -> AuditEventQuerySet:
        """Events no running transaction can still slip in before.

        A row becomes visible when its transaction commits, which is not the order of ids. All rows with an xid below the
        oldest running transaction are visible, so reading only those in the order (xid, id) skips nothing. A long
        writer anywhere in the cluster delays this feed, it never makes it lose an event.
        """
        return self.annotate(
            _horizon=RawSQL("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", [], models.BigIntegerField())
        ).filter(xid__lt=models.F("_horizon"))

    def after(self, cursor: tuple[int, int]) -> AuditEventQuerySet:
        """Settled events after `(xid, id)`, in feed order."""
        xid, pk = cursor
        beyond = models.Q(xid__gt=xid) | models.Q(xid=xid, pk__gt=pk)
        from_here = models.Q(xid__gte=xid)  # implied; PostgreSQL enters an index only by a condition outside the OR
        return self.settled().filter(from_here & beyond).order_by("xid", "pk")


class AuditEvent(models.Model):
    """One thing that happened: a decision of a person, or an act of a clock, a worker or a sync.

    Rows are inserted in the transaction of what they tell about, and never change: database triggers refuse UPDATE,
    DELETE and TRUNCATE. There are no foreign keys, so the log never interferes with live data and outlives it.
    """

    class ActorKind(models.TextChoices):
        PERSON = "person", "a person"
        CLOCK = "clock", "the clock"
        WORKER = "worker", "a worker"
        COMMAND = "command", "a command"
        PROGRAM = "program", "a program"

    xid = models.BigIntegerField(
        db_default=RawSQL("pg_current_xact_id()::text::bigint", []),
        editable=False,
        help_text="The transaction that wrote it; with id the commit-safe order of the feed.",
    )
    at = models.DateTimeField(db_default=Now(), db_index=True)
    event = models.CharField(max_length=80, db_index=True, help_text="<app>.<model>.<what happened>")
    actor_kind = models.CharField(max_length=10, choices=ActorKind.choices)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=200)
    subject = models.CharField(max_length=120, help_text='What it is about: "grants.grant:42"')
    subject_name = models.CharField(max_length=300, blank=True)
    refs = ArrayField(models.CharField(max_length=120), help_text="The subject and everything else it touches.")
    data = models.JSONField(default=dict, help_text="Facts of this event. Never a secret.")
    origin = models.JSONField(default=dict, help_text="Where a person did it: address, device, session digest.")
    written_as = models.CharField(
        max_length=63, blank=True, editable=False, help_text="The database role that wrote it, as PostgreSQL knows it."
    )

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["xid", "id"], name="audit_feed"),
            models.Index(fields=["actor_id", "-id"], name="audit_by_actor"),
            GinIndex(fields=["refs"], name="audit_refs"),
        ]
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="at_its_time",  # nobody says that it happened earlier, later or for ever unread, or in another process
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                # with its schema, since whoever makes temporary tables could put one of their own in its place
                func="""
                IF NOT pg_has_role((SELECT relowner FROM pg_catalog.pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
                    NEW.at = statement_timestamp();
                    NEW.xid = pg_current_xact_id()::text::bigint;
                END IF;
                NEW.written_as = current_user;
                RETURN NEW;
                """,
            ),
            pgtrigger.Trigger(
                name="no_truncate",
                level=pgtrigger.Statement,
                when=pgtrigger.Before,
                operation=pgtrigger.Truncate,
                func="RAISE EXCEPTION 'pgtrigger: Cannot truncate audit_auditevent: the audit log is append-only';",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.subject} by {self.actor_name}"

    @property
    def cursor(self) -> tuple[int, int]:
        """Where this event stands in the feed. Needs a row read from the database."""
        return self.xid, self.pk


def ref(obj: models.Model) -> str:
    """How the log names a row: "<app>.<model>:<pk>"."""
    return f"{obj._meta.label_lower}:{obj.pk}"


def refs_of(objs: Iterable[models.Model]) -> list[str]:
    """`ref` of each, in order, without repeats."""
    return list(dict.fromkeys(ref(obj) for obj in objs))
