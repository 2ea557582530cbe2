"""How a password is checked."""

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth.base_user import AbstractBaseUser

from apps.users import permissions
from apps.users.models import User


class PasswordBackend(AuthenticationBackend):
    """allauth's, for those who may use a password. The others are answered like unknown addresses, and as slowly."""

    def _check_password(self, user: AbstractBaseUser | None, password: str) -> AbstractBaseUser | None:
        if not isinstance(user, User) or not permissions.can_use_password(user):
            return None
        return super()._check_password(user, password)
