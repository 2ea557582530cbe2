from django.urls import path

from apps.grants.views import drift

app_name = "drift"

urlpatterns = [
    path("", drift.every, name="every"),
    path("<int:pk>/", drift.detail, name="detail"),
    path("<int:pk>/accept/", drift.accept, name="accept"),
    path("comparisons/<int:pk>/propose/", drift.propose_release, name="propose_release"),
    path("comparisons/<int:pk>/release/", drift.release, name="release"),
]
