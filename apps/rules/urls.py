from django.urls import path

from apps.rules import views

app_name = "rules"

urlpatterns = [path("", views.in_force, name="in_force")]
