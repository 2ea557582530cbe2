from django.apps import AppConfig


class GrantsConfig(AppConfig):
    name = "apps.grants"

    def ready(self) -> None:
        from apps.core import navigation
        from apps.core.badges import NOW, USER
        from apps.grants import attribution, outside, permissions, reasons
        from apps.grants.models import Drift, Exodus, Grant, Stop
        from apps.inventory import extensions, trails

        trails.add_event_reader("grants", attribution.read)
        trails.add_event_reader("outside changes", outside.read)
        extensions.add_explanation("grants", reasons.explain)
        extensions.add_tab(
            extensions.Tab(subject="inventory.identity", label="Grants", url_name="grants:of_identity", order=20)
        )

        navigation.register(
            navigation.Place(
                label="My grants",
                short="Grants",
                icon="key",
                url_name="grants:mine",
                order=30,
                waiting=lambda: Grant.objects.of(USER).unfinished(),
                phone=True,
            ),
            navigation.Place(
                label="Stops",
                icon="player-stop",
                url_name="stops:every",
                group=navigation.LOOK_UP,
                order=45,
                visible=lambda request: permissions.can_see_all(request.user),  # type: ignore[arg-type]
                waiting=Stop.objects.in_force,
            ),
            navigation.Place(
                label="Leavers",
                icon="user-x",
                url_name="leavers:every",
                group=navigation.LOOK_UP,
                order=15,
                visible=lambda request: permissions.can_see_leavers(request.user),  # type: ignore[arg-type]
                waiting=Exodus.objects.held,
                search=True,
            ),
            navigation.Place(
                label="Drift",
                icon="arrows-exchange",
                url_name="drift:every",
                group=navigation.LOOK_UP,
                order=43,
                visible=lambda request: permissions.can_see_drift(request.user),  # type: ignore[arg-type]
                waiting=lambda: Drift.objects.open().critical().unaccepted(NOW),
            ),
            navigation.Place(
                label="Grants", icon="history", url_name="grants:every", group=navigation.LOOK_UP, order=40
            ),
        )
