from django.urls import path

from apps.access import views

app_name = "access"

urlpatterns = [
    path("", views.home, name="home"),
    path("request/", views.catalogue, name="catalogue"),
    path("request/<int:pk>/", views.ask, name="ask"),
    path("extend/<int:pk>/", views.extend, name="extend"),
    path("requests/<int:pk>/", views.detail, name="detail"),
    path("requests/<int:pk>/confirm/", views.confirm, name="confirm"),
    path("requests/<int:pk>/decide/", views.decide, name="decide"),
    path("requests/<int:pk>/withdraw/", views.withdraw, name="withdraw"),
    path("approvals/", views.approvals, name="approvals"),
    path("offers/", views.offers, name="offers"),
    path("offers/new-opening/", views.new_opening, name="new_opening"),
    path("offers/new-policy/", views.new_policy, name="new_policy"),
    path("offers/<int:pk>/withdraw/", views.withdraw_offer, name="withdraw_offer"),
    path("offers/add/<int:entitlement>/", views.add_offer, name="add_offer"),
]
