from django.apps import AppConfig


class GrantsConfig(AppConfig):
    name = "apps.grants"

    def ready(self) -> None:
        from django.http import HttpRequest

        from apps.core import navigation
        from apps.grants import reasons
        from apps.grants.models import Grant
        from apps.inventory import extensions

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
                label="Grants", icon="history", url_name="grants:every", group=navigation.LOOK_UP, order=40
            ),
        )
