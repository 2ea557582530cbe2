from django.urls import path

from apps.grants.views import looking

app_name = "grants"

urlpatterns = [
    path("", looking.mine, name="mine"),
    path("all/", looking.every, name="every"),
    path("of/<int:pk>/", looking.of_identity, name="of_identity"),
    path("<int:pk>/", looking.detail, name="detail"),
    path("<int:pk>/end/", looking.end, name="end"),
]
