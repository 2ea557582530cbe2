from django.apps import AppConfig


class ReviewsConfig(AppConfig):
    name = "apps.reviews"

    def ready(self) -> None:
        from apps.core import navigation
        from apps.core.badges import USER
        from apps.grants import leaving as leavers
        from apps.inventory import extensions
        from apps.reviews import permissions
        from apps.reviews.models import Campaign, ReviewItem
        from apps.reviews.services import leaving

        leavers.passes_on("reviews.items", leaving.pass_items)
        extensions.add_tab(
            extensions.Tab(subject="inventory.identity", label="Reviews", url_name="reviews:of_identity", order=30)
        )
        extensions.keep_runs("reviews.campaigns", Campaign.objects.exclude(run=None).values("run").all)
        navigation.register(
            navigation.Place(
                label="My review",
                short="Review",
                icon="clipboard-check",
                url_name="reviews:mine",
                group=navigation.REVIEW,
                order=10,
                waiting=lambda: ReviewItem.objects.waiting_for(USER),
                only_with=lambda: ReviewItem.objects.filter(reviewer=USER),
                phone=True,
            ),
            navigation.Place(
                label="Campaigns",
                icon="report-analytics",
                url_name="reviews:campaigns",
                group=navigation.GOVERN,
                order=10,
                visible=lambda request: permissions.can_see(request.user),  # type: ignore[arg-type]
                search=True,
            ),
        )
