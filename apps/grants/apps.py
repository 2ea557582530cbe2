from django.apps import AppConfig


class GrantsConfig(AppConfig):
    name = "apps.grants"

    def ready(self) -> None:
        from django.http import HttpRequest
        from django.utils import timezone

        from apps.core import navigation
        from apps.grants import attribution, outside, permissions, reasons
        from apps.grants.models import Drift, Exodus, Grant, Stop
        from apps.inventory import extensions, trails

        trails.add_event_reader("grants", attribution.read)
        trails.add_event_reader("outside changes", outside.read)
        extensions.add_explanation("grants", reasons.explain)
        extensions.add_tab(
            extensions.Tab(subject="inventory.identity", label="Grants", url_name="grants:of_identity", order=20)
        )

        def active(request: HttpRequest) -> int:
            return Grant.objects.of(request.user).unfinished().count()  # type: ignore[arg-type]

        navigation.register(
            navigation.Place(
                label="My grants",
                short="Grants",
                icon="key",
                url_name="grants:mine",
                order=30,
                count=active,
                phone=True,
            ),
            navigation.Place(
                label="Stops",
                icon="player-stop",
                url_name="stops:every",
                group=navigation.LOOK_UP,
                order=45,
                visible=lambda request: permissions.can_see_all(request.user),  # type: ignore[arg-type]
                count=lambda _request: Stop.objects.in_force().count(),
            ),
            navigation.Place(
                label="Leavers",
                icon="user-x",
                url_name="leavers:every",
                group=navigation.LOOK_UP,
                order=15,
                visible=lambda request: permissions.can_see_leavers(request.user),  # type: ignore[arg-type]
                count=lambda _request: Exodus.objects.held().count(),
                search=True,
            ),
            navigation.Place(
                label="Drift",
                icon="arrows-exchange",
                url_name="drift:every",
                group=navigation.LOOK_UP,
                order=43,
                visible=lambda request: permissions.can_see_drift(request.user),  # type: ignore[arg-type]
                count=lambda _request: Drift.objects.open().critical().unaccepted(timezone.now()).count(),
            ),
            navigation.Place(
                label="Grants", icon="history", url_name="grants:every", group=navigation.LOOK_UP, order=40
            ),
        )
