"""All addresses. Each app brings its own; this table says under which prefix."""

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path

from config.health import healthz

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", healthz, name="healthz"),
    path("accounts/", include("apps.users.accounts")),
    path("settings/", include("apps.users.urls")),
    path("rules/", include("apps.rules.urls")),
    path("grants/", include("apps.grants.urls")),
    path("stops/", include("apps.grants.stop_urls")),
    path("leavers/", include("apps.grants.leavers_urls")),
    path("drift/", include("apps.grants.drift_urls")),
    path("", include("apps.inventory.urls")),
    path("reviews/", include("apps.reviews.urls")),
    path("inbox/", include("apps.notifications.urls")),
    path("scim/", include("apps.scim.urls")),
    path("evidence/", include("apps.evidence.urls")),
    path("", include("apps.insights.urls")),
    path("", include("apps.access.urls")),
]
if settings.DEMO:
    urlpatterns.append(path("demo/", include("apps.demo.urls")))
