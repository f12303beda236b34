"""A page is closed unless it says otherwise; sessions end; times are the viewer's."""

from __future__ import annotations

import time
import zoneinfo
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.middleware import LoginRequiredMiddleware as DjangoLoginRequired
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

GetResponse = Callable[[HttpRequest], HttpResponse]


class LoginRequiredMiddleware(DjangoLoginRequired):
    """Django's, but an HTMX request gets 401 and the log-in address instead of a redirect that it would swap in."""

    def handle_no_permission(self, request: HttpRequest, view_func: Any) -> HttpResponse:  # type: ignore[override]
        if request.headers.get("HX-Request") == "true":
            return HttpResponse(
                "Your session is over. Log in again.", status=401, headers={"X-Login": "required"}
            )
        return super().handle_no_permission(request, view_func)


def end_stale_session(get_response: GetResponse) -> GetResponse:
    """Log out after `SESSION_IDLE_S` without a request, and `SESSION_COOKIE_AGE` after the log-in whatever happens."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            now = int(time.time())
            started = request.session.setdefault("started_at", now)
            seen = request.session.get("seen_at", now)
            if now - seen > settings.SESSION_IDLE_S or now - started > settings.SESSION_COOKIE_AGE:
                logout(request)
            elif now - seen > 60 or "seen_at" not in request.session:
                request.session["seen_at"] = now
        return get_response(request)

    return middleware


def viewer_time_zone(get_response: GetResponse) -> GetResponse:
    """Show times in the person's own zone."""

    def middleware(request: HttpRequest) -> HttpResponse:
        name = getattr(request.user, "time_zone", "UTC")
        try:
            timezone.activate(zoneinfo.ZoneInfo(name))
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            timezone.deactivate()
        return get_response(request)

    return middleware
