"""The first page: is anything wrong, and what is mine?"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from config.htmx import HtmxHttpRequest, wants_partial
from enrichment import overview_page, selectors
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the log-in middleware let nobody else through
    return request.user


@require_safe
@require_right(Right.VIEW_JOBS)
def overview(request: HtmxHttpRequest) -> HttpResponse:
    """The overview; for HTMX the running jobs alone."""
    person = _person(request)
    if wants_partial(request):
        running = overview_page.running(person)
        context: dict[str, Any] = {"running": running, "running_note": overview_page.running_note(running)}
        response = render(request, "enrichment/partials/running.html", context)
    else:
        page = overview_page.overview(person)
        now = timezone.now()
        context = {
            "page": page,
            "running": page.running,
            "running_note": overview_page.running_note(page.running),
            "greeting": overview_page.greeting(person, now),
            "now": now,
            "worker_seen_at": selectors.worker_seen_at(),
            "has_worker": selectors.has_live_worker(),
            "may_spend": person.may(Right.SPEND),
            "who_spends": who_can(Right.SPEND),
            "who_manages": who_can(Right.MANAGE_KEYS),
        }
        response = render(request, "enrichment/overview.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response
