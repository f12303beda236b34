"""One person: roles, team, and whether they can log in. What follows is said before.

It stands in this app because what follows is about keys and jobs; every rule is in `people.services`.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from enrichment import selectors
from keys import selectors as key_selectors
from people import services
from people.audit import Actor
from people.forms import AccessForm, PersonForm
from people.models import User
from people.permissions import require_proof, require_right
from people.rights import Right
from people.selectors import history_of, people_with, who_can


def _actor(request: HttpRequest) -> Actor:
    assert isinstance(request.user, User)
    return Actor(request.user)


def _person(number: int) -> User:
    people = User.objects.select_related("team").prefetch_related("role_grants")
    return get_object_or_404(people, id=number)


def _consequences(request: HttpRequest, person: User) -> dict[str, Any]:
    """What hangs on a person: their keys, their jobs under way, and rights that nobody else holds."""
    owned, deputised = key_selectors.count_keys_of(person)
    lonely = [right for right in (Right.MANAGE_PEOPLE, Right.MANAGE_KEYS) if _is_alone(person, right)]
    return {
        "owned": owned,
        "deputised": deputised,
        "keys_url": f"{reverse('keys:key_list')}?person={person.id}",
        "hand_over_url": f"{reverse('keys:hand_over')}?person={person.id}&all=yes",
        "jobs": selectors.jobs_under_way_of(person),
        "lonely": [right.label for right in lonely],
        "may_hand_over": request.user.is_authenticated and request.user.may(Right.MANAGE_KEYS),
        "who_hands_over": f"{who_can(Right.MANAGE_KEYS)} can",
    }


def _is_alone(person: User, right: Right) -> bool:
    return person.may(right) and [one.id for one in people_with(right, limit=2)] == [person.id]


def _page(request: HttpRequest, person: User, form: PersonForm, status: int = 200) -> HttpResponse:
    context = {
        "person": person,
        "form": form,
        "is_self": person == request.user,
        "history": [
            {
                "icon": "pencil",
                "text": "; ".join([entry.words, *(f"{name}: {change}" for name, change in entry.facts)]),
                "at": entry.at,
                "by": entry.actor.name if entry.actor else entry.via,
                "note": entry.reason,
            }
            for entry in history_of("user", person.id)
        ],
        **_consequences(request, person),
    }
    return render(request, "people/person.html", context, status=status)


def _again(request: HttpRequest, number: int) -> HttpResponse:
    return _page(request, _person(number), PersonForm(request.POST), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_PEOPLE)
@require_proof(_again)
def person(request: HttpRequest, number: int) -> HttpResponse:
    """Roles and team, with a reason."""
    one = _person(number)
    if request.method != "POST":
        return _page(request, one, PersonForm(initial={"roles": one.roles, "team": one.team_id}))
    form = PersonForm(request.POST)
    if form.is_valid():
        try:
            services.change_person(_actor(request), one, **form.cleaned_data)
        except services.PersonError as error:
            form.add_error(error.field or None, str(error))
        else:
            messages.success(request, f"{one.name} is changed. It holds from their next page on.")
            return HttpResponseRedirect(reverse("people:people"), status=303)
    return _page(request, one, form, status=422)


def _access_page(request: HttpRequest, one: User, form: AccessForm, status: int = 200) -> HttpResponse:
    context = {"person": one, "form": form, **_consequences(request, one)}
    return render(request, "people/person_access.html", context, status=status)


def _access_again(request: HttpRequest, number: int) -> HttpResponse:
    return _access_page(request, _person(number), AccessForm(request.POST), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_PEOPLE)
@require_proof(_access_again)
def person_access(request: HttpRequest, number: int) -> HttpResponse:
    """Disable a person who can log in, or let a disabled one in again, with a reason."""
    one = _person(number)
    form = AccessForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        act = services.disable_person if one.is_active else services.enable_person
        # Two who press the same button: the second would undo what the first did.
        if request.POST.get("act") != ("disable" if one.is_active else "enable"):
            messages.warning(request, f"Somebody was faster. Nothing was changed for {one.name}.")
            return HttpResponseRedirect(reverse("people:people"), status=303)
        try:
            act(_actor(request), one, reason=form.cleaned_data["reason"])
        except services.PersonError as error:
            form.add_error("reason" if error.field == "reason" else None, str(error))
        else:
            done = "is disabled, and their sessions are over" if one.is_active else "can log in again"
            messages.success(request, f"{one.name} {done}.")
            return HttpResponseRedirect(reverse("people:people"), status=303)
    return _access_page(request, one, form, status=422 if form.is_bound else 200)
