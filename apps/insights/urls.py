from django.urls import path

from apps.insights.views import findings, speed

app_name = "insights"

urlpatterns = [
    path("insights/", speed.index, name="index"),
    path("findings/", findings.findings, name="findings"),
    path("findings/<int:pk>/", findings.finding, name="finding"),
    path("findings/<int:pk>/accept", findings.accept, name="accept_finding"),
    path("findings/<int:pk>/resolve", findings.resolve, name="resolve_finding"),
    path("metrics", speed.metrics, name="metrics"),
]
