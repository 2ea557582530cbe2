from django.apps import AppConfig


class InventoryConfig(AppConfig):
    name = "apps.inventory"

    def ready(self) -> None:
        from django.conf import settings
        from redis import Redis

        from apps.connectors import budget
        from apps.core import navigation
        from apps.core.navigation import Place
        from apps.inventory import baselines, checks, extensions, permissions, roles  # noqa: F401  checks registers itself
        from apps.inventory.extensions import Tab
        from apps.users import roles as portal_roles

        portal_roles.register(roles.derived)
        extensions.add_tab(Tab(subject="inventory.identity", label="Paths", url_name="inventory:paths", order=10))
        extensions.add_tab(
            Tab(
                subject="inventory.identity",
                label="Usage",
                url_name="inventory:usage",
                order=15,
                visible=lambda _request, row: baselines.has_usage(row),  # type: ignore[arg-type]
            )
        )
        extensions.add_tab(
            Tab(subject="inventory.resource", label="Who gets in", url_name="inventory:account_paths", order=10)
        )
        for subject, url_name, visible in (
            ("identity", "inventory:identity_history", lambda _request, _row: True),
            ("entitlement", "inventory:entitlement_history", lambda r, row: permissions.can_view_holders(r.user, row)),
            ("resource", "inventory:account_history", lambda r, row: permissions.can_view_contents(r.user, row)),
        ):
            extensions.add_tab(
                Tab(subject=f"inventory.{subject}", label="History", url_name=url_name, order=50, visible=visible)
            )
        budget.begin(
            settings.AWS_BUDGET, lambda: Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
        )

        group = navigation.LOOK_UP
        navigation.register(
            Place(
                label="Identities",
                icon="users",
                url_name="inventory:identities",
                group=group,
                order=10,
                visible=lambda request: permissions.sees_others(request.user),  # type: ignore[arg-type]
                search=True,
            ),
            Place(
                label="Entitlements",
                icon="list-details",
                url_name="inventory:entitlements",
                group=group,
                order=20,
                visible=lambda request: permissions.can_look_up(request.user),  # type: ignore[arg-type]
                search=True,
            ),
            Place(
                label="AWS accounts",
                icon="cloud",
                url_name="inventory:accounts",
                group=group,
                order=30,
                visible=lambda request: permissions.can_look_up(request.user),  # type: ignore[arg-type]
                search=True,
            ),
            Place(
                label="Credentials",
                icon="key",
                url_name="inventory:credentials",
                group=group,
                order=40,
                visible=lambda request: permissions.can_see_everything(request.user),  # type: ignore[arg-type]
                search=True,
            ),
            Place(
                label="Logins",
                icon="user-check",
                url_name="inventory:logins",
                group=navigation.ADMIN,
                order=20,
                visible=lambda request: permissions.can_see_everything(request.user),  # type: ignore[arg-type]
            ),
            Place(
                label="Connections",
                icon="plug",
                url_name="inventory:connections",
                group=navigation.ADMIN,
                order=10,
                visible=lambda request: permissions.can_view_connections(request.user),  # type: ignore[arg-type]
            ),
        )
