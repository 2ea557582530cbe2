from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "apps.access"

    def ready(self) -> None:
        from django.db.models import Model
        from django.http import HttpRequest

        from apps.access import permissions
        from apps.access.models import AccessRequest
        from apps.access.services import leaving, offers
        from apps.core import navigation
        from apps.core.badges import USER
        from apps.grants import leaving as leavers
        from apps.inventory import extensions
        from apps.inventory.models import Entitlement

        def can_offer(request: HttpRequest) -> bool:
            return permissions.can_offer(request.user)  # type: ignore[arg-type]

        def can_be_offered(request: HttpRequest, row: Model) -> bool:
            return can_offer(request) and isinstance(row, Entitlement) and bool(offers.ways_to_open(row))

        leavers.ends_with_them("access.requests", leaving.end_requests)
        leavers.ends_with_them("access.approvals", leaving.refuse_unopened)
        leavers.ends_with_them("access.approvers", leaving.ask_others)
        extensions.add_tab(
            extensions.Tab(
                subject="inventory.entitlement",
                label="Offer it",
                url_name="access:add_offer",
                visible=can_be_offered,
            )
        )
        navigation.register(
            navigation.Place(label="Home", icon="home", url_name="access:home", order=10, phone=True),
            navigation.Place(
                label="Request access",
                short="Request",
                icon="search",
                url_name="access:catalogue",
                order=20,
                phone=True,
                search=True,
            ),
            navigation.Place(
                label="Approvals",
                icon="users",
                url_name="access:approvals",
                order=40,
                waiting=lambda: AccessRequest.objects.waiting_for(USER),
                phone=True,
            ),
            navigation.Place(
                label="Offers",
                icon="list-details",
                url_name="access:offers",
                group=navigation.ADMIN,
                order=50,
                visible=can_offer,
            ),
        )
