from django.apps import AppConfig


class RulesConfig(AppConfig):
    name = "apps.rules"

    def ready(self) -> None:
        from apps.core import navigation
        from apps.rules import checks  # noqa: F401  registers the system check

        navigation.register(
            navigation.Place(label="Rules", icon="gavel", url_name="rules:in_force", group=navigation.LOOK_UP, order=90)
        )
