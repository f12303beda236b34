"""Log-in and log-out, theme, the audit log, and help."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from axes.helpers import get_cool_off
from django.conf import settings
from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_not_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from config.htmx import HtmxHttpRequest, wants_partial
from people import audit, audit_export, digests, notices, proof, selectors
from people.forms import ActivityFilter, ActivityFilterForm, LogInForm
from people.models import AuditEntry, User
from people.permissions import require_right
from people.rights import RIGHTS, Right, Role

THEMES = ("light", "dark")
YEAR_S = 365 * 24 * 3600
PAGE = 50


def _see_other(url: str) -> HttpResponseRedirect:
    return HttpResponseRedirect(url, status=303)


def _safe_next(request: HttpRequest, otherwise: str) -> str:
    """Where `next` leads, when that is a page of ours."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_ours else resolve_url(otherwise)


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@login_not_required
def log_in(request: HttpRequest) -> HttpResponse:
    """The log-in page. What was wrong is not told: neither whether the address exists nor which part failed."""
    target = _safe_next(request, settings.LOGIN_REDIRECT_URL)
    if request.user.is_authenticated:
        return _see_other(target)
    form = LogInForm(request, data=request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        login(request, form.get_user())
        return _see_other(target)
    return render(
        request,
        "registration/login.html",
        _log_in_context(request, form),
        status=422 if form.is_bound else 200,
    )


def _log_in_context(request: HttpRequest, form: LogInForm) -> dict[str, Any]:
    return {
        "form": form,
        "next": _safe_next(request, settings.LOGIN_REDIRECT_URL),
        "admins": [person.name for person in selectors.people_with(Right.MANAGE_KEYS)],
    }


def locked_out(
    request: HttpRequest,
    original_response: HttpResponse | None = None,
    credentials: dict[str, Any] | None = None,
) -> HttpResponse:
    """What django-axes answers with after too many failed tries; every further try starts the wait again. Who is logged in
    and gave a wrong password again keeps the page that says so, with what was typed."""
    wait = get_cool_off(request)
    if request.user.is_authenticated and original_response is not None:
        original_response.status_code = 429
        original_response.headers["Retry-After"] = str(int(wait.total_seconds()))
        return original_response
    context = _log_in_context(request, LogInForm(request))
    context["locked_until"] = timezone.now() + wait
    response = render(request, "registration/login.html", context, status=429)
    response.headers["Retry-After"] = str(int(wait.total_seconds()))
    return response


@sensitive_post_parameters(proof.FIELD)
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """The password again, before something that matters; then on to `next`."""
    target = _safe_next(request, settings.LOGIN_REDIRECT_URL)
    is_wrong = False
    if request.method == "POST":
        if proof.check(request, request.POST.get(proof.FIELD, "")):
            return _see_other(target)
        is_wrong = True
    elif proof.is_fresh(request):
        return _see_other(target)
    request.proof_asked = proof.asked(request, is_wrong=is_wrong)  # type: ignore[attr-defined]
    return render(request, "people/confirm.html", {"next": target}, status=422 if is_wrong else 200)


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return _see_other(resolve_url(settings.LOGOUT_REDIRECT_URL))


@require_POST
@login_not_required
def theme(request: HttpRequest) -> HttpResponse:
    """Keep light or dark in a cookie for a year; anything else follows the system again."""
    response = _see_other(_safe_next(request, "/"))
    wanted = request.POST.get("theme", "")
    if wanted in THEMES:
        response.set_cookie(
            "theme", wanted, max_age=YEAR_S, samesite="Lax", httponly=True, secure=request.is_secure()
        )
    else:
        response.delete_cookie("theme", samesite="Lax")
    return response


@require_safe
@require_right(Right.VIEW_ACTIVITY)
@vary_on_headers("HX-Request")
def activity(request: HtmxHttpRequest) -> HttpResponse:
    """The audit log, newest first."""
    wanted = ActivityFilterForm(request.GET).wanted()
    entries = selectors.list_activity(_entries_of(wanted), before_id=wanted.before, limit=PAGE)
    has_older, entries = len(entries) > PAGE, entries[:PAGE]
    is_region = wants_partial(request)
    people = selectors.people_in_activity()
    context = {
        "wanted": wanted,
        "entries": entries,
        "shown": f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} on this page",
        "areas": [
            {"label": label, "url": wanted.address(action=prefix)}
            for prefix, label in selectors.AREAS.items()
        ],
        "area": selectors.AREAS.get(wanted.action, wanted.action),
        "without_area": wanted.address(action=""),
        "people": [{"label": one.name, "url": wanted.address(person=one.id)} for one in people],
        "person": next((one.name for one in people if one.id == wanted.person), ""),
        "without_person": wanted.address(person=None),
        "periods": _periods(wanted),
        "period": _period(wanted),
        "without_period": wanted.address(since=None, until=None),
        "clear": "?" if wanted.is_set else "",
        "hidden": [
            (name, value)
            for name, value in (
                ("action", wanted.action),
                ("person", wanted.person),
                ("since", wanted.since),
                ("until", wanted.until),
            )
            if value
        ],
        "newest": wanted.address() if wanted.before else "",
        "older": wanted.address(before=entries[-1].id) if has_older else "",
        "export": f"{reverse('people:activity_export')}{wanted.address()}",
        "is_region": is_region,
    }
    name = "people/partials/activity_entries.html" if is_region else "people/activity.html"
    return render(request, name, context)


def _entries_of(wanted: ActivityFilter) -> QuerySet[AuditEntry]:
    return selectors.filter_activity(
        search=wanted.search,
        action=wanted.action,
        person=wanted.person,
        since=wanted.since,
        until=wanted.until,
    )


def _periods(wanted: ActivityFilter) -> list[dict[str, str]]:
    """Usual stretches of days; others stand in the address."""
    today = timezone.localdate()
    days = {"Today": 0, "Last 7 days": 6, "Last 30 days": 29, "Last 90 days": 89}
    return [
        {"label": label, "url": wanted.address(since=today - timedelta(days=back), until=None)}
        for label, back in days.items()
    ]


def _period(wanted: ActivityFilter) -> str:
    since, until = (f"{day.day} {day:%b %Y}" if day else "" for day in (wanted.since, wanted.until))
    return (
        f"{since} to {until}"
        if since and until
        else f"since {since}"
        if since
        else f"until {until}"
        if until
        else ""
    )


@require_safe
@require_right(Right.VIEW_ACTIVITY)
def activity_export(request: HttpRequest) -> StreamingHttpResponse:
    """The entries of the filter as CSV, oldest first. That it was taken is told, too."""
    assert isinstance(request.user, User)
    wanted = ActivityFilterForm(request.GET).wanted()
    entries = _entries_of(wanted).order_by("id")
    audit.record(
        audit.Actor(request.user), "person.took_activity", request.user, detail={"entries": entries.count()}
    )
    response = StreamingHttpResponse(audit_export.write(entries), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="activity-{timezone.localdate()}.csv"'
    response["Cache-Control"] = "no-store"
    return response


@require_safe
def people_page(request: HttpRequest) -> HttpResponse:
    """Who is here with which roles, and what each role may do."""
    roles = [(Role(role), rights) for role, rights in RIGHTS.items()]
    context = {
        "people": selectors.list_people(),
        "roles": [role.label for role, _ in roles],
        "matrix": [(right.label, [right in rights for _, rights in roles]) for right in Right],
        "may_change": isinstance(request.user, User) and request.user.may(Right.MANAGE_PEOPLE),
        "who_changes": f"{selectors.who_can(Right.MANAGE_PEOPLE)} can",
    }
    return render(request, "people/people.html", context)


@require_safe
def notices_page(request: HttpRequest) -> HttpResponse:
    """What this person was told, newest first."""
    assert isinstance(request.user, User)
    before = request.GET.get("before", "")
    found = notices.list_notices(
        request.user, before_id=int(before) if before.isdecimal() and len(before) < 19 else None, limit=PAGE
    )
    has_older, found = len(found) > PAGE, found[:PAGE]
    context = {
        "notices": found,
        "unread": notices.count_unread(request.user),
        "shown": f"{len(found)} notice{'' if len(found) == 1 else 's'} on this page",
        "newest": "?" if before else "",
        "older": f"?before={found[-1].id}" if has_older else "",
        "is_mailed": digests.is_on(),
        "hour": settings.DIGEST_HOUR,
    }
    return render(request, "people/notices.html", context)


@require_POST
def notices_read(request: HttpRequest) -> HttpResponse:
    """One notice of this person was read, or all."""
    assert isinstance(request.user, User)
    number = request.POST.get("notice", "")
    if not number:
        notices.mark_read(request.user)
    elif number.isdecimal() and len(number) < 19:
        notices.mark_read(request.user, int(number))
    return _see_other(reverse("people:notices"))


@require_safe
def help_page(request: HttpRequest) -> HttpResponse:
    """How the app works, its words, its keys, and whom to ask."""
    who = {
        "spenders": selectors.who_can(Right.SPEND),
        "key_admins": selectors.who_can(Right.MANAGE_KEYS),
        "approvers": selectors.who_can(Right.APPROVE),
    }
    return render(request, "people/help.html", who)
