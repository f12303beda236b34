"""Addresses."""

from django.urls import include, path

from config import health, styleguide

handler400 = "config.errors.bad_request"
handler403 = "config.errors.forbidden"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("styleguide/", styleguide.styleguide, name="styleguide"),
    path("", include("people.urls")),
    path("keys/", include("keys.urls")),
    path("", include("enrichment.urls")),
]
