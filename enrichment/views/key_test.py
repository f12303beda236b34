"""Test a key with free calls, in a worker; the result is a checklist."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_safe

from config.htmx import HtmxHttpRequest, wants_partial
from enrichment import tasks
from enrichment.services import key_tests, submission
from keys import explainer, selectors
from keys.clock import db_now
from keys.models import KeyRecord, KeyTest
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


def _may_test(user: User, key: KeyRecord) -> bool:
    """Key admins, and whoever answers for the key."""
    return user.may(Right.MANAGE_KEYS) or user.id in (key.owner_id, key.deputy_id)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.VIEW_KEYS)
def key_test(request: HttpRequest, name: str) -> HttpResponseBase:
    """The last test and a button for the next; a POST asks for one."""
    assert isinstance(request.user, User)
    key = get_object_or_404(selectors.all_keys(), name=name)
    if request.method == "POST":
        if not _may_test(request.user, key):
            raise PermissionDenied(
                f"{who_can(Right.MANAGE_KEYS)}, and whoever owns or stands in for the key, can test it."
            )
        try:
            test = key_tests.ask(Actor(request.user), key)
        except key_tests.TestTooSoonError as error:
            messages.warning(request, str(error))
        else:
            submission.wake(tasks.test_key, test.id, queue=tasks.URGENT)
        return HttpResponseRedirect(reverse("enrichment:key_test", args=[key.name]), status=303)
    context = {
        "key": key,
        "may_test": _may_test(request.user, key),
        "who_tests": who_can(Right.MANAGE_KEYS),
        "earlier": key.tests.filter(done_at__isnull=False).select_related("asked_by")[1:6],
        **_result(key, key.tests.select_related("asked_by").first()),
    }
    return render(request, "enrichment/key_test.html", context)


def _why_url(key: KeyRecord, test: KeyTest | None) -> str:
    """Where the call is explained that the test ended at; "" where none was made."""
    if test is None or not any(check["state"] == "bad" for check in test.checks):
        return ""
    call = explainer.failed_calls(key)
    if call is None or not call.is_probe or call.at < test.asked_at:
        return ""
    return reverse("enrichment:call_why", args=[key.name, call.id])


def _result(key: KeyRecord, test: KeyTest | None) -> dict[str, Any]:
    waits = test is not None and test.done_at is None and test.asked_at > db_now() - key_tests.PATIENCE
    return {
        "test": test,
        "waits": waits,
        "why_url": _why_url(key, test),
        "checks": [{**check, "state": check["state"].replace(" ", "_")} for check in test.checks]
        if test
        else [],
        "result_url": reverse("enrichment:key_test_result", args=[key.name, test.id]) if test else "",
    }


@require_safe
@require_right(Right.VIEW_KEYS)
def key_test_result(request: HtmxHttpRequest, name: str, number: int) -> HttpResponseBase:
    """The region of one test, polled until a worker has made it."""
    key = get_object_or_404(selectors.all_keys(), name=name)
    test = get_object_or_404(KeyTest.objects.select_related("asked_by"), id=number, key=key)
    if not wants_partial(request):
        return redirect("enrichment:key_test", name=key.name)
    context = _result(key, test)
    if context["waits"]:
        return HttpResponse(status=204)
    response = render(request, "enrichment/partials/key_checks.html", {"key": key, **context})
    patch_vary_headers(response, ("HX-Request",))
    return response
