from django.apps import AppConfig


class ReviewsConfig(AppConfig):
    name = "apps.reviews"

    def ready(self) -> None:
        from django.db.models import Count, Exists, OuterRef, Subquery
        from django.http import HttpRequest

        from apps.core import navigation
        from apps.grants import leaving as leavers
        from apps.inventory import extensions
        from apps.reviews import permissions
        from apps.reviews.models import Campaign, ReviewItem, State
        from apps.reviews.services import leaving
        from apps.users.models import User

        def mine(request: HttpRequest) -> tuple[bool, int]:
            """Whether a person ever had an item, and how many wait for them now; asked once a page."""
            known: dict[str, tuple[bool, int]] = request.__dict__
            if "_reviews" not in known:
                items = ReviewItem.objects.filter(reviewer=OuterRef("pk"))
                waiting = items.filter(choice="undecided", campaign__state=State.RUNNING).order_by().values("reviewer")
                counted = Subquery(waiting.annotate(n=Count("pk")).values("n"))
                row = User.objects.filter(pk=request.user.pk or 0).values_list(Exists(items), counted).first()
                known["_reviews"] = (row[0], row[1] or 0) if row else (False, 0)
            return known["_reviews"]

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
                visible=lambda request: mine(request)[0],
                count=lambda request: mine(request)[1],
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
