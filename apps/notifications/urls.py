from django.urls import path

from apps.notifications import views

app_name = "notifications"

urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("read/", views.read_all, name="read_all"),
    path("<int:pk>/", views.open_one, name="open"),
    path("<int:pk>/read/", views.read, name="read"),
]
