from django.apps import AppConfig
from django.http import HttpRequest


class EvidenceConfig(AppConfig):
    name = "apps.evidence"

    def ready(self) -> None:
        from apps.core import navigation

        navigation.register(
            navigation.Place(
                label="Evidence",
                icon="certificate",
                url_name="evidence:index",
                group=navigation.GOVERN,
                order=70,
                visible=_may_look,
            ),
            navigation.Place(
                label="Audit log",
                icon="list-details",
                url_name="evidence:audit",
                group=navigation.GOVERN,
                order=80,
                visible=_may_look,
                search=True,
            ),
        )


def _may_look(request: HttpRequest) -> bool:
    from apps.evidence import permissions

    return permissions.can_see_evidence(request.user)  # type: ignore[arg-type]
