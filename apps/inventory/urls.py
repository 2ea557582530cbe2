from django.urls import path

from apps.inventory.views import accounts, connections, entitlements, identities

app_name = "inventory"

urlpatterns = [
    path("identities/", identities.identities, name="identities"),
    path("identities/<int:pk>/", identities.identity, name="identity"),
    path("identities/<int:pk>/owner", identities.own, name="own_identity"),
    path("identities/<int:pk>/link", identities.link, name="link_user"),
    path("identities/<int:pk>/unlink", identities.unlink, name="unlink_user"),
    path("entitlements/", entitlements.entitlements, name="entitlements"),
    path("entitlements/<int:pk>/", entitlements.entitlement, name="entitlement"),
    path("entitlements/<int:pk>/owner", entitlements.own, name="own_entitlement"),
    path("aws-accounts/", accounts.accounts, name="accounts"),
    path("aws-accounts/<int:pk>/", accounts.account, name="account"),
    path("aws-accounts/<int:pk>/owner", accounts.own, name="own_account"),
    path("aws-accounts/<int:pk>/environment", accounts.environment, name="environment"),
    path("connections/", connections.connections, name="connections"),
    path("connections/<slug:name>/", connections.connection, name="connection"),
    path("connections/<slug:name>/progress", connections.progress, name="progress"),
    path("connections/<slug:name>/sync", connections.sync, name="sync"),
    path("connections/<slug:name>/baseline", connections.baseline, name="baseline"),
    path("connections/<slug:name>/propose-writing", connections.propose_writing, name="propose_writing"),
    path("connections/<slug:name>/approve-writing", connections.approve_writing, name="approve_writing"),
    path("connections/<slug:name>/pause", connections.pause, name="pause"),
    path("connections/<slug:name>/resume", connections.resume, name="resume"),
    path("connections/<slug:name>/runs/<int:run_id>/confirm", connections.confirm_drop, name="confirm_drop"),
]
