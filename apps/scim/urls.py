from django.urls import path, re_path

from apps.scim.views import door, pages

app_name = "scim"

urlpatterns = [
    path("", pages.sources, name="sources"),
    path("<int:pk>/", pages.source, name="source"),
    path("<int:pk>/token", pages.make_token, name="make_token"),
    path("<int:pk>/tokens/<int:token_id>/revoke", pages.revoke_token, name="revoke_token"),
    path("<int:pk>/users/<int:user_id>/link", pages.link, name="link"),
    path("<int:pk>/users/<int:user_id>/unlink", pages.unlink, name="unlink"),
    re_path(r"^v2(?P<path>/.*)?$", door.door, name="door"),
]
