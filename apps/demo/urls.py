from django.urls import path

from apps.demo import views

app_name = "demo"

urlpatterns = [
    path("people/", views.people, name="people"),
    path("sign-in/", views.sign_in, name="sign_in"),
]
