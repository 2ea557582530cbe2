from django.urls import path

from apps.grants.views import activity, credentials, looking

app_name = "grants"

urlpatterns = [
    path("", looking.mine, name="mine"),
    path("all/", looking.every, name="every"),
    path("of/<int:pk>/", looking.of_identity, name="of_identity"),
    path("<int:pk>/", looking.detail, name="detail"),
    path("<int:pk>/used-for/", activity.used_for, name="used_for"),
    path("<int:pk>/end/", looking.end, name="end"),
    path("<int:pk>/session/", credentials.session, name="session"),
]
