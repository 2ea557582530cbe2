from django.apps import AppConfig
from django.http import HttpRequest


class UsersConfig(AppConfig):
    name = "apps.users"

    def ready(self) -> None:
        from apps.core import navigation
        from apps.users import receivers

        receivers.connect()
        navigation.register(
            navigation.Place(
                label="People",
                icon="users",
                url_name="users:people",
                group=navigation.ADMIN,
                order=10,
                visible=_administers,
                search=True,
            ),
            navigation.Place(
                label="Settings", icon="settings", url_name="users:settings", group=navigation.ME, order=10
            ),
        )


def _administers(request: HttpRequest) -> bool:
    from apps.users import permissions

    return permissions.can_administer(request.user)  # type: ignore[arg-type]
