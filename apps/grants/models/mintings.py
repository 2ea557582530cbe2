"""Sessions that the broker made."""

from __future__ import annotations

import pgtrigger
from django.db import models

from apps.grants.models.grants import Grant


class Minting(models.Model):
    """One session that the broker made for a grant, and handed to its holder. The secret itself is nowhere: what is kept
    is the access key's id, by which CloudTrail names every call that was made with it."""

    class Kind(models.TextChoices):
        CLI = "cli", "Command line"
        CONSOLE = "console", "Console"

    grant = models.ForeignKey(Grant, models.PROTECT, related_name="mintings")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    access_key_id = models.CharField(max_length=128)
    session_name = models.CharField(max_length=64)
    signed_digest = models.CharField(
        max_length=64, null=True, unique=True, help_text="What the holder's passkey signed to get it: it serves once."
    )
    minted_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["access_key_id"], name="minting_by_key")]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} session of {self.grant_id}"
