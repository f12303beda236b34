"""Pages that change what a record is: its name, its state, its last day, and who answers for many at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from keys import addresses, lifecycle, selectors, services, state_page
from keys.choices import KeyState
from keys.clock import utc_today
from keys.forms import ID_DIGITS, HandOverForm, KeyFilterForm, RenameForm, RenewForm, StateForm
from keys.lifecycle import FINAL, MOVES, Step
from keys.models import KeyRecord
from keys.views import closed_page
from people.audit import Actor
from people.models import User
from people.permissions import require_proof, require_right
from people.rights import Right
from people.selectors import list_teams


def _actor(request: HttpRequest) -> Actor:
    """The person of a page that is closed to others."""
    assert isinstance(request.user, User)
    return Actor(request.user)


def _key(name: str) -> KeyRecord:
    return get_object_or_404(selectors.all_keys(), name=name)


def _see_other(key: KeyRecord) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("keys:key_detail", args=[key.name]), status=303)


# --- another name --------------------------------------------------------------------------------------------------------


def _rename_page(request: HttpRequest, key: KeyRecord, form: RenameForm, status: int = 200) -> HttpResponse:
    parts = {name: str(form[name].value() or "") for name in ("system", "label")}
    is_same = (parts["system"], parts["label"]) == (key.system, key.label)
    preview = selectors.name_preview(key.environment, **parts, of=None if is_same else key)
    context = {"key": key, "form": form, "preview": preview, "is_same": is_same, "renamed": key}
    return render(request, "keys/key_rename.html", context, status=status)


def _rename_again(request: HttpRequest, name: str) -> HttpResponse:
    return _rename_page(request, _key(name), RenameForm(request.POST), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_rename_again)
def key_rename(request: HttpRequest, name: str) -> HttpResponse:
    """Another system or owner part, with a reason; the old name keeps leading here."""
    key = _key(name)
    if key.state in FINAL:
        return closed_page(request, key)
    if request.method != "POST":
        return _rename_page(request, key, RenameForm(initial={"system": key.system, "label": key.label}))
    form = RenameForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data
        try:
            key = services.rename_key(
                _actor(request), key, system=given["system"], label=given["label"], reason=given["reason"]
            )
        except services.KeyRecordError as error:
            form.take_errors(error.fields)
        else:
            messages.success(request, f"{name} is now named {key.name}. The old name leads here.")
            return _see_other(key)
    return _rename_page(request, key, form, status=422)


# --- another state -------------------------------------------------------------------------------------------------------


def _state_page(
    request: HttpRequest, key: KeyRecord, step: Step, form: StateForm, status: int = 200
) -> HttpResponse:
    page = state_page.page(key, step)
    context = {"key": key, "step": step, "page": page, "form": form, "FINAL": FINAL}
    return render(request, "keys/key_state.html", context, status=status)


def _state_again(request: HttpRequest, name: str, step: str) -> HttpResponse:
    return _state_page(request, _key(name), _step(step), StateForm(request.POST), status=422)


def _step(step: str) -> Step:
    if step not in Step.values or not MOVES[Step(step)].is_offered:
        raise Http404
    return Step(step)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_state_again)
def key_state(request: HttpRequest, name: str, step: str) -> HttpResponse:
    """Quarantine, release, revoke or activate a record: what follows is said first, and a reason is asked for."""
    key, wanted = _key(name), _step(step)
    if key.state in FINAL:
        return closed_page(request, key)
    if wanted not in lifecycle.offered(key.state):
        state = KeyState(key.state).label.lower()
        messages.warning(request, f"{key.name} is {state}, so there was nothing to do. Nothing was changed.")
        return _see_other(key)
    form = StateForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            services.change_state(_actor(request), key, wanted, reason=form.cleaned_data["reason"])
        except services.KeyRecordError as error:
            form.take_errors(error.fields)
        else:
            messages.success(request, state_page.DONE[wanted].format(name=key.name))
            return _see_other(key)
    return _state_page(request, key, wanted, form, status=422 if form.is_bound else 200)


# --- another last day ----------------------------------------------------------------------------------------------------


def _renew_page(request: HttpRequest, key: KeyRecord, form: RenewForm, status: int = 200) -> HttpResponse:
    context = {"key": key, "form": form, "today": utc_today()}
    return render(request, "keys/key_renew.html", context, status=status)


def _renew_again(request: HttpRequest, name: str) -> HttpResponse:
    return _renew_page(request, _key(name), RenewForm(request.POST), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_renew_again)
def key_renew(request: HttpRequest, name: str) -> HttpResponse:
    """Another last day for a record that has expired or soon will."""
    key = _key(name)
    if key.state in FINAL:
        return closed_page(request, key)
    if request.method != "POST":
        return _renew_page(request, key, RenewForm())
    form = RenewForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data
        try:
            key = services.renew_key(
                _actor(request), key, expires_at=given["expires_at"], reason=given["reason"]
            )
        except services.KeyRecordError as error:
            form.take_errors(error.fields)
        else:
            until = (
                f"until {key.expires_at.day} {key.expires_at:%b %Y}" if key.expires_at else "without an end"
            )
            messages.success(request, f"{key.name} is valid {until}.")
            return _see_other(key)
    return _renew_page(request, key, form, status=422)


# --- other people for many records ---------------------------------------------------------------------------------------


def _chosen_set(request: HttpRequest) -> dict[str, Any]:
    """The records of the address: those that were ticked, or all of a filter, as they are at this moment."""
    assert isinstance(request.user, User)
    wanted = KeyFilterForm(request.GET).wanted()
    person = User.objects.filter(id=wanted.person).first() if wanted.person else None
    if request.GET.get("all"):
        ids = selectors.filter_keys(wanted, request.user).values_list("id", flat=True)
        words = addresses.words(wanted, list_teams(), selectors.people_with_keys(), person)
        words = f"All that matched: {words}"
    else:
        ticked = _numbers(request.GET.getlist("key"))[:500]
        ids = selectors.all_keys().filter(id__in=ticked).values_list("id", flat=True)
        words = "Ticked one by one"
    return {"keys": ",".join(map(str, ids)), "words": words, "leaver": person.id if person else None}


def _hand_over_page(request: HttpRequest, form: HandOverForm, status: int = 200) -> HttpResponse:
    ids = _numbers(str(form["keys"].value() or "").split(","))
    records = list(selectors.all_keys().filter(id__in=ids).order_by("name"))
    context = {
        "form": form,
        "records": records,
        "words": form["words"].value() or "",
        "leaver": _person(str(form["leaver"].value() or "")),
    }
    return render(request, "keys/hand_over.html", context, status=status)


def _numbers(texts: Iterable[str]) -> list[int]:
    """Those of the texts that can be the id of a row."""
    return [int(text) for text in texts if text.isdecimal() and len(text) <= ID_DIGITS]


def _person(number: str) -> User | None:
    return User.objects.filter(id__in=_numbers([number])).first()


def _leaver(request: HttpRequest) -> User | None:
    return _person(request.POST.get("leaver", ""))


def _hand_over_again(request: HttpRequest) -> HttpResponse:
    return _hand_over_page(request, HandOverForm(request.POST, leaver=_leaver(request)), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_hand_over_again)
def hand_over(request: HttpRequest) -> HttpResponse:
    """Other owners or deputies for a set of records, frozen when this page was opened."""
    if request.method != "POST":
        initial = _chosen_set(request)
        leaver = _person(str(initial["leaver"] or ""))
        return _hand_over_page(request, HandOverForm(initial=initial, leaver=leaver))
    form = HandOverForm(request.POST, leaver=_leaver(request))
    if form.is_valid():
        records = list(selectors.all_keys().filter(id__in=form.ids()).order_by("name"))
        try:
            results = services.hand_over(
                _actor(request), records, form.handover(), reason=form.cleaned_data["reason"]
            )
        except services.KeyRecordError as error:
            form.take_errors(error.fields)
        else:
            return _handed_over(request, form, results)
    return _hand_over_page(request, form, status=422)


def _handed_over(
    request: HttpRequest, form: HandOverForm, results: list[services.HandedOver]
) -> HttpResponse:
    """Back to the inventory when all went, else what became of each record."""
    changed = [result for result in results if not result.refusal]
    refused = [result for result in results if result.refusal]
    if not refused:
        word = "record has" if len(changed) == 1 else "records have"
        messages.success(request, f"{len(changed):,} {word} other people now.")
        return HttpResponseRedirect(reverse("keys:key_list"), status=303)
    context = {"changed": changed, "refused": refused, "handover": form.handover()}
    return render(request, "keys/handed_over.html", context)
