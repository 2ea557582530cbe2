from django.urls import path

from apps.grants.views import stops

app_name = "stops"

urlpatterns = [
    path("", stops.every, name="every"),
    path("order/", stops.order, name="order"),
    path("<int:pk>/", stops.detail, name="detail"),
    path("<int:pk>/propose-lift/", stops.propose_lift, name="propose_lift"),
    path("<int:pk>/lift/", stops.lift, name="lift"),
]
