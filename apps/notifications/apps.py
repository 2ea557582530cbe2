from django.apps import AppConfig
from django.http import HttpRequest


class NotificationsConfig(AppConfig):
    name = "apps.notifications"

    def ready(self) -> None:
        from apps.core import navigation

        navigation.register(
            navigation.Place(
                label="Inbox",
                icon="bell",
                url_name="notifications:inbox",
                group=navigation.BAR,
                order=10,
                count=_unread,
            )
        )


def _unread(request: HttpRequest) -> int:
    from apps.notifications.models import Notification

    return Notification.objects.of(request.user).unread().count()  # type: ignore[arg-type]
