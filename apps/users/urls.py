from django.urls import path

from apps.users import views

app_name = "users"
urlpatterns = [
    path("", views.settings_page, name="settings"),
    path("step-up/", views.step_up, name="step_up"),
    path("sign-in-again/", views.sign_in_again, name="sign_in_again"),
    path("people/", views.people, name="people"),
    path("people/invite/", views.invite, name="invite"),
    path("people/<int:pk>/", views.person, name="person"),
    path("people/<int:pk>/role/", views.role, name="person_role"),
    path("people/<int:pk>/active/", views.active, name="person_active"),
    path("people/<int:pk>/emergency/", views.emergency, name="person_emergency"),
    path("people/<int:pk>/invite-again/", views.invite_again, name="person_invite_again"),
    path("people/<int:pk>/reset-authenticators/", views.reset_authenticators, name="person_reset_authenticators"),
]
