from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "apps.notifications"

    def ready(self) -> None:
        from apps.core import navigation
        from apps.core.badges import USER
        from apps.notifications.models import Notification

        navigation.register(
            navigation.Place(
                label="Inbox",
                icon="bell",
                url_name="notifications:inbox",
                group=navigation.BAR,
                order=10,
                waiting=lambda: Notification.objects.of(USER).unread(),
            )
        )
