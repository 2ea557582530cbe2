"""The authority that grants rest on."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.utils import timezone

from apps.grants.models.grants import Grant


class Warrant(models.Model):
    """The authority one grant rests on: exactly what was asked, by whom, which rule allowed it, who approved. Made by
    access, kept and checked by grants before anything is written in AWS; it can never be changed."""

    grant = models.OneToOneField(Grant, models.CASCADE, related_name="warrant")
    spec = models.JSONField(help_text="What may be provisioned: principal, entitlement, duration, provisioner.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the canonical spec.")
    requester = models.CharField(max_length=64, help_text="User id.")
    approvals = models.JSONField(default=list, help_text="[{user, name, at, method}]")
    verdict = models.JSONField(help_text="The rule set's answer: tier, cap, rule, digest of the rule set.")
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update)]

    def __str__(self) -> str:
        return f"Warrant of {self.grant_id}"
