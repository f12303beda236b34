"""Pages of the key inventory: list, detail, and the form that makes and changes a record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe
from django.views.decorators.vary import vary_on_headers

from config.htmx import HtmxHttpRequest, wants_partial
from keys import addresses, calls_page, inventory, selectors, services, use_chart
from keys.call_filter import CallFilterForm
from keys.forms import REFERENCES, KeyCreateForm, KeyEditForm, KeyFilterForm, NameForm
from keys.lifecycle import FINAL
from keys.models import KeyRecord
from people import audit, csv_out
from people.audit import Actor
from people.models import User
from people.permissions import require_proof, require_right
from people.rights import Right
from people.selectors import list_teams, who_can


def _person(request: HttpRequest) -> User:
    """The person of a page that is closed to others."""
    assert isinstance(request.user, User)
    return request.user


def _admin_context(user: User) -> dict[str, Any]:
    may = user.may(Right.MANAGE_KEYS)
    return {"may_manage": may, "who_may": "" if may else f"{who_can(Right.MANAGE_KEYS)} can"}


@require_safe
@require_right(Right.VIEW_KEYS)
@vary_on_headers("HX-Request")
def key_list(request: HtmxHttpRequest) -> HttpResponse:
    """The inventory: worst first, then by last use."""
    user = _person(request)
    wanted = KeyFilterForm(request.GET).wanted()
    after = request.GET.get("after", "")
    page = inventory.list_page(wanted, user, after=after)
    context = {
        "wanted": wanted,
        "page": page,
        "chips": addresses.chips(wanted, list_teams(), selectors.people_with_keys(), _chosen(wanted)),
        "clear": addresses.clear(wanted),
        "export": f"{reverse('keys:key_export')}{addresses.address(wanted)}",
        "first": addresses.address(wanted) if after else "",
        "next": addresses.address(wanted, after=page.next_after) if page.next_after else "",
        "may_manage": user.may(Right.MANAGE_KEYS),
    }
    if context["may_manage"]:
        count = selectors.filter_keys(wanted, user).count()
        context["all_label"] = f"Select all {count:,} that match"
        context["all_url"] = f"{reverse('keys:hand_over')}{addresses.address(wanted)}&all=yes"
    if wants_partial(request):
        return render(request, "keys/partials/key_results.html", {**context, "is_region": True})
    counts = selectors.count_views(user)
    context |= {
        "counts": counts,
        "tabs": addresses.tabs(wanted, counts),
        "hidden": addresses.hidden(wanted),
        **_admin_context(user),
    }
    return render(request, "keys/key_list.html", context)


def _chosen(wanted: selectors.KeyFilter) -> User | None:
    """The person whose records, owned or stood in for, are shown."""
    return User.objects.filter(id=wanted.person).first() if wanted.person else None


@require_safe
@require_right(Right.VIEW_KEYS)
def key_export(request: HttpRequest) -> StreamingHttpResponse:
    """The records of the filter as CSV: where secrets are found, never what they are."""
    user = _person(request)
    wanted = KeyFilterForm(request.GET).wanted()
    audit.record(
        Actor(user), "person.took_keys", user, detail={"records": selectors.filter_keys(wanted, user).count()}
    )
    return _csv(inventory.EXPORT_COLUMNS, inventory.export_rows(wanted, user), "keys")


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(csv_out.write(columns, rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}-{timezone.localdate()}.csv"'
    response["Cache-Control"] = "no-store"
    return response


@require_safe
@require_right(Right.VIEW_KEYS)
@vary_on_headers("HX-Request")
def key_detail(request: HtmxHttpRequest, name: str) -> HttpResponse:
    """One key: what it is, what it really does, whether it is healthy."""
    user = _person(request)
    key = get_object_or_404(selectors.all_keys(), name=name)
    kind = use_chart.kind_of(request.GET.get("chart"))
    if wants_partial(request):
        context = {"key": key, "chart": use_chart.get_chart(key, kind)}
        return render(request, "keys/partials/use_chart.html", context)
    detail = inventory.get_detail(key, user, chart=kind)
    context = {"key": key, "detail": detail, "chart": detail.chart, **_admin_context(user)}
    return render(request, "keys/key_detail.html", context)


@require_safe
@require_right(Right.VIEW_KEYS)
@vary_on_headers("HX-Request")
def key_calls(request: HtmxHttpRequest, name: str) -> HttpResponse:
    """All calls and refusals of one key, newest first."""
    key = get_object_or_404(selectors.all_keys(), name=name)
    wanted = CallFilterForm(request.GET).wanted()
    context = {
        "key": key,
        "wanted": wanted,
        "page": calls_page.get_page(key, wanted, _person(request)),
        "chips": calls_page.chips(key, wanted),
        "clear": "?" if wanted.is_set else "",
        "export": f"{reverse('keys:key_calls_export', args=[key.name])}{wanted.address()}",
        "is_region": wants_partial(request),
    }
    page = "keys/partials/key_calls.html" if context["is_region"] else "keys/key_calls.html"
    return render(request, page, context)


@require_safe
@require_right(Right.VIEW_KEYS)
def key_calls_export(request: HttpRequest, name: str) -> StreamingHttpResponse:
    """The calls of the filter as CSV, newest first. That they were taken is told."""
    key = get_object_or_404(selectors.all_keys(), name=name)
    wanted = CallFilterForm(request.GET).wanted()
    user = _person(request)
    audit.record(
        Actor(user), "person.took_calls", user, detail={"key": key.name, "filter": wanted.address()[1:]}
    )
    return _csv(calls_page.EXPORT_COLUMNS, calls_page.export_rows(key, wanted, user), f"calls-{key.name}")


def _create_again(request: HttpRequest) -> HttpResponse:
    """The form as it was typed, for the password beside it."""
    form = KeyCreateForm(request.POST)
    return _create_page(request, KeyCreateForm(initial=form.typed()), status=422)


@sensitive_post_parameters(*REFERENCES)
@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_create_again)
def key_create(request: HttpRequest) -> HttpResponse:
    """A new record. *Apply preset* sends the same form and gets it back with the preset's scopes ticked."""
    if request.method != "POST":
        person = _person(request)
        initial = {"owner": person.id, "time_zone": person.time_zone, **NameForm(request.GET).parts()}
        return _create_page(request, KeyCreateForm(initial=initial))
    form = KeyCreateForm(request.POST)
    if request.POST.get("apply") == "preset":
        values, applied = form.with_preset()
        form = KeyCreateForm(initial=values)
        form.applied = applied
        return _create_page(request, form)
    if form.is_valid():
        try:
            key = services.create_key(Actor(_person(request)), form.spec())
        except services.KeyRecordError as error:
            form.take_errors(error.fields)
        else:
            messages.success(request, f"{key.name} is made.")
            return _see_other(key)
    return _create_page(request, form, status=422)


def _create_page(request: HttpRequest, form: KeyCreateForm, status: int = 200) -> HttpResponse:
    parts = {name: str(form[name].value() or "") for name in ("environment", "system", "label")}
    preview = selectors.name_preview(parts["environment"], parts["system"], parts["label"])
    context = {"form": form, "preview": preview}
    return render(request, "keys/key_create.html", context, status=status)


def _edit_again(request: HttpRequest, name: str) -> HttpResponse:
    """The form as it was typed, for the password beside it."""
    key = get_object_or_404(selectors.all_keys(), name=name)
    form = KeyEditForm(key, request.POST)
    return _edit_page(request, key, KeyEditForm(key, initial=form.typed()), status=422)


@sensitive_post_parameters(*REFERENCES)
@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_edit_again)
def key_edit(request: HttpRequest, name: str) -> HttpResponse:
    """Change everything but the name, with a reason. Whoever is overtaken by another change gets the form back with it."""
    key = get_object_or_404(selectors.all_keys(), name=name)
    if key.state in FINAL:
        return closed_page(request, key)
    if request.method != "POST":
        return _edit_page(request, key, KeyEditForm(key))
    form = KeyEditForm(key, request.POST)
    if request.POST.get("apply") == "preset":
        values, applied = form.with_preset(key.environment)
        form = KeyEditForm(key, initial=values)
        form.applied = applied
        return _edit_page(request, key, form)
    if form.is_valid():
        try:
            given = form.cleaned_data
            services.change_key(
                Actor(_person(request)), key, form.spec(), reason=given["reason"], version=given["version"]
            )
        except services.StaleError as error:
            key = selectors.all_keys().get(id=key.id)
            form = form.with_changes_of_others(key, error)
        except services.KeyRecordError as error:
            form.take_errors(error.fields)
        else:
            messages.success(request, f"{key.name} is changed.")
            return _see_other(key)
    return _edit_page(request, key, form, status=422)


def _edit_page(request: HttpRequest, key: KeyRecord, form: KeyEditForm, status: int = 200) -> HttpResponse:
    return render(request, "keys/key_edit.html", {"form": form, "key": key}, status=status)


def _see_other(key: KeyRecord) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("keys:key_detail", args=[key.name]), status=303)


def closed_page(request: HttpRequest, key: KeyRecord) -> HttpResponseRedirect:
    """A revoked record is for reading: back to its page, which says so."""
    messages.warning(request, f"{key.name} is revoked for good. Nothing was changed; it can be read here.")
    return _see_other(key)


@require_safe
@require_right(Right.MANAGE_KEYS)
@vary_on_headers("HX-Request")
def name_preview(request: HtmxHttpRequest) -> HttpResponse:
    """The region that shows a name as it forms. Opened as a page, it leads to the form with these parts filled in."""
    form = NameForm(request.GET)
    parts = form.parts()
    number = form.renamed()
    renamed = selectors.all_keys().filter(id=number).first() if number else None
    if not wants_partial(request):
        query = urlencode({name: value for name, value in parts.items() if value})
        return redirect(f"{reverse('keys:key_create')}?{query}" if query else "keys:key_create")
    if renamed is not None:
        parts["environment"] = renamed.environment
    preview = selectors.name_preview(parts["environment"], parts["system"], parts["label"], of=renamed)
    context = {"preview": preview, "renamed": renamed}
    return render(request, "keys/partials/name_preview.html", context)
