from django.urls import path

from apps.evidence import views

app_name = "evidence"

urlpatterns = [
    path("", views.index, name="index"),
    path("audit/", views.audit_log, name="audit"),
    path("audit/export/", views.export_audit, name="export_audit"),
    path("campaigns/<int:pk>/pack/", views.make_pack, name="make_pack"),
]
