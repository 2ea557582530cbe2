from django.urls import path

from apps.grants.views import leavers

app_name = "leavers"

urlpatterns = [
    path("", leavers.every, name="every"),
    path("<int:pk>/", leavers.detail, name="detail"),
    path("held/<int:pk>/propose/", leavers.propose_release, name="propose_release"),
    path("held/<int:pk>/release/", leavers.release, name="release"),
]
