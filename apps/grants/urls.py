from django.urls import path

from apps.grants import views

app_name = "grants"

urlpatterns = [
    path("", views.mine, name="mine"),
    path("all/", views.every, name="every"),
    path("of/<int:pk>/", views.of_identity, name="of_identity"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/end/", views.end, name="end"),
]
