"""Addresses of the key pages. A key's name always has an underscore, so it never meets `new`, `owner`, `findings`,
`keys.csv` or `name-preview`."""

from django.urls import path, register_converter

from keys import finding_views, record_views, views
from keys.lifecycle import MOVES


class StepConverter:
    """One of the steps that a person may take; the addresses beside them stay free for other pages."""

    regex = "|".join(step.value for step, move in MOVES.items() if move.is_offered)

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(StepConverter, "step")
app_name = "keys"
urlpatterns = [
    path("", views.key_list, name="key_list"),
    path("keys.csv", views.key_export, name="key_export"),
    path("new/", views.key_create, name="key_create"),
    path("name-preview/", views.name_preview, name="name_preview"),
    path("owner/", record_views.hand_over, name="hand_over"),
    path("findings/", finding_views.finding_list, name="finding_list"),
    path("findings/findings.csv", finding_views.finding_export, name="finding_export"),
    path("<str:name>/", views.key_detail, name="key_detail"),
    path("<str:name>/calls/", views.key_calls, name="key_calls"),
    path("<str:name>/calls.csv", views.key_calls_export, name="key_calls_export"),
    path("<str:name>/edit/", views.key_edit, name="key_edit"),
    path("<str:name>/rename/", record_views.key_rename, name="key_rename"),
    path("<str:name>/renew/", record_views.key_renew, name="key_renew"),
    path("<str:name>/<step:step>/", record_views.key_state, name="key_state"),
    path("<str:name>/findings/<int:number>/except/", finding_views.finding_except, name="finding_except"),
    path("<str:name>/findings/<int:number>/resume/", finding_views.finding_resume, name="finding_resume"),
    path("<str:name>/findings/<int:number>/scopes/", finding_views.scopes_remove, name="scopes_remove"),
]
