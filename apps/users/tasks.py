"""What workers do about people: the invitation, whose link is made here so that no secret waits in a queue; and following
the passkeys that were enrolled."""

from smtplib import SMTPException

from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from celery import shared_task
from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse

from apps.users import passkeys, permissions
from apps.users.models import User


@shared_task(autoretry_for=(SMTPException, OSError), retry_backoff=True, max_retries=5)
def send_invitation(user_id: int) -> None:
    """Tell a new user how to come in: by setting a password, or with single sign-on."""
    user = User.objects.filter(pk=user_id, is_active=True, last_login=None).first()
    if user is None:
        return
    key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
    path = reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"}).replace("UID-KEY", key)
    facts = {
        "name": user.name,
        "company": settings.COMPANY,
        "sso": "" if permissions.can_use_password(user) else settings.OIDC_NAME,
        "password_url": f"{settings.BASE_URL}{path}",
        "sign_in_url": f"{settings.BASE_URL}{reverse('account_login')}",
        "hours": settings.PASSWORD_RESET_TIMEOUT // 3600,
    }
    message = render_to_string("users/email/invitation.txt", facts)
    send_mail(f"Your access to Gatehouse at {settings.COMPANY}", message, settings.DEFAULT_FROM_EMAIL, [user.email])


@shared_task
def follow_passkeys() -> None:
    """Note new passkeys and end those that are gone. The clock asks too: the wake-up call may get lost."""
    passkeys.follow()
