"""Addresses of the key pages. A key's name always has an underscore, so it never meets `new`,
`findings`, `keys.csv` or `name-preview`."""

from django.urls import path

from keys import finding_views, views

app_name = "keys"
urlpatterns = [
    path("", views.key_list, name="key_list"),
    path("keys.csv", views.key_export, name="key_export"),
    path("new/", views.key_create, name="key_create"),
    path("name-preview/", views.name_preview, name="name_preview"),
    path("findings/", finding_views.finding_list, name="finding_list"),
    path("findings/findings.csv", finding_views.finding_export, name="finding_export"),
    path("<str:name>/", views.key_detail, name="key_detail"),
    path("<str:name>/edit/", views.key_edit, name="key_edit"),
    path("<str:name>/findings/<int:number>/except/", finding_views.finding_except, name="finding_except"),
    path("<str:name>/findings/<int:number>/resume/", finding_views.finding_resume, name="finding_resume"),
    path("<str:name>/findings/<int:number>/scopes/", finding_views.scopes_remove, name="scopes_remove"),
]
