"""The inventory's rows as the facts that rules read. What is not known here is said as unknown, never guessed."""

from datetime import timedelta
from typing import Any

from apps.inventory.models import Assignment, Entitlement, Identity, Principal
from apps.inventory.models.resources import Environment, Resource
from apps.rules.evaluation import EntitlementFacts, IdentityFacts, Question


def about(
    who: IdentityFacts,
    entitlement: Entitlement,
    *,
    asked_for: timedelta | None = None,
    has_ticket: bool = False,
    is_on_call: bool = False,
) -> Question:
    """May `who` have this entitlement? Reads nothing when its `resource` is loaded (`select_related("resource")`).

    Without `asked_for` it asks what could be had at all, as a catalogue does. Raises ValueError for a duration that is
    not positive.
    """
    return Question(who, entitlement_facts(entitlement), asked_for, has_ticket, is_on_call)


def identity_facts(identity: Identity) -> IdentityFacts:
    """What rules may know about somebody, in three queries (four when a linked `user` is not loaded): once a page.

    Who left, whose portal user was closed or whom the directory disabled is not active. Only standing memberships in
    groups of the identity's own directory count: one that is lent or unexplained must not lower a tier, and the name of
    an IAM group can be chosen by whoever runs an account.
    """
    told = _told_by_directory(identity)
    return IdentityFacts(
        id=str(identity.pk),
        kind=identity.kind,
        is_active=(
            identity.ended_at is None
            and (identity.user is None or identity.user.is_active)
            and not any(facts.get("status") == "disabled" for facts in told)
        ),
        is_manager=identity.reports.filter(ended_at=None).exists(),
        department=identity.department.strip().lower(),
        employment=_employment(told),
        title=identity.title,
        groups=frozenset(
            Assignment.objects.standing()
            .filter(
                principal__identity=identity,
                entitlement__kind=Entitlement.Kind.IDC_GROUP,
                entitlement__connection=identity.connection_id,
                entitlement__group__isnull=False,
            )
            .values_list("entitlement__group__name", flat=True)
        ),
    )


def _told_by_directory(identity: Identity) -> list[dict[str, Any]]:
    users = Principal.objects.present().filter(
        identity=identity, connection=identity.connection_id, kind=Principal.Kind.IDC_USER
    )
    return list(users.values_list("attributes", flat=True))


def _employment(told: list[dict[str, Any]]) -> str:
    """The directory's word. Where it has several for one person, one that is not "employee" counts."""
    words = {str(facts.get("user_type") or "").strip().lower() for facts in told}
    return min(words - {"", "employee"}, default="employee" if "employee" in words else "")


def entitlement_facts(entitlement: Entitlement) -> EntitlementFacts:
    """What rules may know about an entitlement. Tags and descriptions are not among it: outsiders write them."""
    resource = entitlement.resource
    return EntitlementFacts(
        id=str(entitlement.pk),
        kind=entitlement.kind,
        name=entitlement.name,
        privilege=entitlement.privilege,
        environment=_environment(resource),
        is_sensitive_read=entitlement.is_sensitive_read,
        can_escalate=entitlement.can_escalate,
        resource_id=resource.external_id if resource else "",
    )


def _environment(resource: Resource | None) -> str:
    """The management account is that whatever else was said about it; what lies in no account is not known."""
    if resource is None:
        return Environment.UNKNOWN.value
    return Environment.MANAGEMENT.value if resource.is_management else resource.environment
