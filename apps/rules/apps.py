from django.apps import AppConfig


class RulesConfig(AppConfig):
    name = "apps.rules"

    def ready(self) -> None:
        from apps.rules import checks  # noqa: F401  registers the system check
