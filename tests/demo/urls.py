"""The addresses as they are in demo mode."""

from django.urls import include, path

from config.urls import urlpatterns as all_others

urlpatterns = [*all_others, path("demo/", include("apps.demo.urls"))]
