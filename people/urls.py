"""Addresses of the pages about people."""

from django.urls import path

from people import views

app_name = "people"
urlpatterns = [
    path("login/", views.log_in, name="login"),
    path("logout/", views.log_out, name="logout"),
    path("confirm/", views.confirm, name="confirm"),
    path("theme/", views.theme, name="theme"),
    path("activity/", views.activity, name="activity"),
    path("activity/activity.csv", views.activity_export, name="activity_export"),
    path("people/", views.people_page, name="people"),
    path("notices/", views.notices_page, name="notices"),
    path("notices/read/", views.notices_read, name="notices_read"),
    path("help/", views.help_page, name="help"),
]
