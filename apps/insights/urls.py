from django.urls import path

from apps.insights import views

app_name = "insights"

urlpatterns = [
    path("insights/", views.index, name="index"),
    path("metrics", views.metrics, name="metrics"),
]
