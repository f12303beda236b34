"""Addresses of the key pages. A key's name always has an underscore, so it never meets `new`, `keys.csv` or `name-preview`."""

from django.urls import path

from keys import views

app_name = "keys"
urlpatterns = [
    path("", views.key_list, name="key_list"),
    path("keys.csv", views.key_export, name="key_export"),
    path("new/", views.key_create, name="key_create"),
    path("name-preview/", views.name_preview, name="name_preview"),
    path("<str:name>/", views.key_detail, name="key_detail"),
    path("<str:name>/calls/", views.key_calls, name="key_calls"),
    path("<str:name>/calls.csv", views.key_calls_export, name="key_calls_export"),
    path("<str:name>/edit/", views.key_edit, name="key_edit"),
]
