from django.apps import AppConfig
from django.http import HttpRequest


class ScimConfig(AppConfig):
    name = "apps.scim"

    def ready(self) -> None:
        from apps.core import navigation

        navigation.register(
            navigation.Place(
                label="Identity providers",
                icon="users-group",
                url_name="scim:sources",
                group=navigation.ADMIN,
                order=15,
                visible=_may_manage,
            )
        )


def _may_manage(request: HttpRequest) -> bool:
    from apps.scim import permissions

    return permissions.can_manage(request.user)  # type: ignore[arg-type]
