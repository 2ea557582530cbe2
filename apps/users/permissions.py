"""Who may do what with people."""

from django.conf import settings

from apps.users.models import User


def can_administer(user: User) -> bool:
    """See the people of the portal and what they may do here."""
    return user.is_active and user.is_administrator


def can_change(user: User, person: User) -> bool:
    """Change somebody's portal roles or whether they may sign in. Nobody changes their own."""
    return can_administer(user) and user.pk != person.pk


def can_use_password(user: User) -> bool:
    """Sign in without the identity provider. With single sign-on that is for emergencies, by named users."""
    return user.is_active and (user.is_emergency or not settings.OIDC_ISSUER)
