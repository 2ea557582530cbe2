"""Let an account at the identity provider sign in as a user."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from apps.audit.services import COMMAND
from apps.users import oidc, services
from apps.users.models import User


class Command(BaseCommand):
    help = (
        "Link a user to an account at the identity provider, by issuer and subject. Only linked users can sign in with "
        "single sign-on; an e-mail address is never enough."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the user's e-mail address")
        parser.add_argument("--subject", help='the "sub" of the account, as the identity provider shows it')
        parser.add_argument(
            "--issuer", default=settings.OIDC_ISSUER, help="the address of the identity provider (default: OIDC_ISSUER)"
        )
        parser.add_argument("--unlink", action="store_true", help="take the link away")

    def handle(self, *_: Any, email: str, subject: str, issuer: str, unlink: bool, **__: Any) -> None:
        user = User.objects.filter(email__iexact=email).first()
        if user is None:
            raise CommandError(f"There is no user {email}. Invite them first, or see the list on the page People.")
        if not issuer:
            raise CommandError("Name the identity provider with --issuer, or set OIDC_ISSUER.")
        if bool(subject) == unlink:
            raise CommandError("Give --subject to link, or --unlink to take the link away.")
        try:
            if unlink:
                services.unlink_user(user=user, issuer=issuer, by=COMMAND)
            else:
                services.link_user(user=user, issuer=issuer, subject=subject, by=COMMAND)
        except services.Refused as refused:
            raise CommandError(str(refused)) from None
        callback = reverse("openid_connect_callback", kwargs={"provider_id": oidc.provider_id(issuer)})
        self.stdout.write(
            f"{user.email} is no longer linked to {issuer}."
            if unlink
            else f"{user.email} is linked to subject {subject} at {issuer}.\n"
            f"The callback address to register there is {settings.BASE_URL}{callback}"
        )
