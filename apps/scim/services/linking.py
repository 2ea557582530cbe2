"""Who a user of an identity provider is here, by rule.

Identity Center knows them by the same external id; or, where that is the subject of sign-ins, it is how somebody signs in
whom the portal knows as a person. Never an e-mail address. What an administrator said about a link, no rule undoes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from apps.inventory.models import Identity, Principal
from apps.scim.models import ScimUser, Source
from apps.users import oidc
from apps.users.models import User

RULE = "Identity Center's external id"
BY_SUBJECT = "the subject they sign in with"
LEFT = "known by another external id when they left"  # linked or not: the present one is not theirs
RULES = (RULE, BY_SUBJECT, LEFT)
BY_PRESENT_ID = ("", RULE, BY_SUBJECT)  # nobody said that they are somebody else than their external id says


def link_again(row: ScimUser, before: Mapping[str, Any]) -> None:
    """Who this is by the rule, after a call. Only an active user's other external id moves a link, to whom it is. One that
    was not sent, that is nobody's yet, or that comes with or after the word that they left leaves it where it is: that word
    is about who they were, also where that was nobody yet. Whoever comes back by an id that is not theirs is nobody, until
    it is somebody's."""
    if row.identity_source not in ("", *RULES):
        return
    was, is_back = row.identity_id, row.active and not before["active"]
    if row.active and row.identity_source == LEFT:
        row.identity_source = RULE if was else ""
    if was is None and row.identity_source != LEFT:
        link_by_rule(row, row.external_id if row.active else before["external_id"] or row.external_id)
    elif was and row.active and row.external_id and (is_back or before["external_id"] != row.external_id):
        is_known = link_by_rule(row, row.external_id) or _known_by(row, row.external_id).filter(identity=was).exists()
        if is_back and not is_known:
            row.identity, row.identity_source = None, ""
    if not row.active and before["external_id"] != row.external_id and (was or before["external_id"]):
        row.identity_source = LEFT
    if row.identity_id != was:
        row.kept_out = None  # that was about somebody else


def link_by_rule(row: ScimUser, external_id: str) -> bool:
    """Link the one person whom Identity Center knows by this external id; whom it knew, only where it knows nobody by it
    now. Two are nobody: it would be a guess. Where it has no answer and the id is the subject of sign-ins, the person who
    signs in with it. Whether there is one, whom no other user is."""
    known = _known_by(row, external_id).order_by().values_list("identity_id", flat=True).distinct()
    found, rule = list(known.filter(ended_at=None)[:2]) or list(known[:2]), RULE
    login = login_of(row.source, external_id) if len(found) != 1 else None
    if login:
        theirs = Identity.objects.human().filter(connection=row.source.connection_id, user=login)
        found, rule = list(theirs.values_list("pk", flat=True)), BY_SUBJECT
    if len(found) != 1 or ScimUser.objects.filter(identity=found[0]).exclude(pk=row.pk).exists():
        return False
    row.identity_id, row.identity_source = found[0], rule
    return True


def login_of(source: Source, subject: str) -> User | None:
    """The portal user who signs in with this subject, where external ids are subjects."""
    if not (subject and source.subject_is_external_id and settings.OIDC_ISSUER):
        return None
    provider = oidc.provider_id(settings.OIDC_ISSUER)
    account = SocialAccount.objects.filter(provider=provider, uid=subject).select_related("user").first()
    return account.user if account else None


def _known_by(row: ScimUser, external_id: str) -> QuerySet[Principal]:
    """The users of Identity Center, those who are gone too, who have this external id."""
    if not external_id:
        return Principal.objects.none()
    return Principal.objects.filter(
        connection=row.source.connection_id,
        kind=Principal.Kind.IDC_USER,
        attributes__external_ids__contains=[external_id],
    ).exclude(identity=None)


def waiting(source: Source, most: int) -> dict[int, int]:
    """Rows whose external id exactly one Identity Center user has who is nobody's row yet: one who is there, or where none
    is, one who was. Only for rows that are linked to nobody; or by the rule to somebody who has ended, or to somebody whom
    Identity Center does not know by it: for these only one who is there, and in the latter case only for active ones, since
    who left was who they were, and for those whom the subject linked, which was no word of Identity Center's. One
    statement, hashed: it reads each table once."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT u.id, coalesce(min(p.identity_id) FILTER (WHERE p.is_present), min(p.identity_id))
            FROM scim_scimuser u LEFT JOIN inventory_identity old ON old.id = u.identity_id
            JOIN (SELECT p.identity_id, p.ended_at IS NULL AS is_present,
                         jsonb_array_elements_text(p.attributes->'external_ids') AS external_id
                  FROM inventory_principal p
                  WHERE p.connection_id = %s AND p.kind = 'idc_user' AND p.identity_id IS NOT NULL
                    AND jsonb_typeof(p.attributes->'external_ids') = 'array') p ON p.external_id = u.external_id
            WHERE u.source_id = %s AND u.external_id <> ''
              AND (u.identity_id IS NULL AND u.identity_source = ''
                   OR u.identity_source = ANY(%s) AND (u.active OR old.ended_at IS NOT NULL))
              AND NOT EXISTS (SELECT FROM scim_scimuser other WHERE other.identity_id = p.identity_id AND other.id <> u.id)
            GROUP BY u.id, old.id
            HAVING count(DISTINCT p.identity_id) FILTER (WHERE p.is_present) = 1
                   AND min(p.identity_id) FILTER (WHERE p.is_present) IS DISTINCT FROM u.identity_id
                   AND (u.identity_id IS NULL
                        OR CASE WHEN bool_or(p.identity_id = u.identity_id) THEN old.ended_at IS NOT NULL
                                ELSE u.active OR u.identity_source = %s END)
                OR u.identity_id IS NULL AND count(*) FILTER (WHERE p.is_present) = 0
                   AND count(DISTINCT p.identity_id) = 1
            ORDER BY u.id LIMIT %s
            """,
            [source.connection_id, source.pk, [*RULES], BY_SUBJECT, most],
        )
        return dict(cursor.fetchall())
