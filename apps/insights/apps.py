from django.apps import AppConfig
from django.http import HttpRequest


class InsightsConfig(AppConfig):
    name = "apps.insights"

    def ready(self) -> None:
        from apps.core import navigation

        navigation.register(
            navigation.Place(
                label="Findings",
                icon="flag",
                url_name="insights:findings",
                group=navigation.GOVERN,
                order=60,
                visible=_sees_findings,
                search=True,
            ),
            navigation.Place(
                label="Speed",
                icon="activity",
                url_name="insights:index",
                group=navigation.GOVERN,
                order=90,
                visible=_may_look,
            ),
        )


def _sees_findings(request: HttpRequest) -> bool:
    from apps.insights import permissions

    return permissions.sees_findings(request.user)  # type: ignore[arg-type]


def _may_look(request: HttpRequest) -> bool:
    from apps.insights import permissions

    return permissions.can_see_insights(request.user)  # type: ignore[arg-type]
