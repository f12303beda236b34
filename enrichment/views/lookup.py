"""One question at a time: a form, and its answer on the same page."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_safe

from config.htmx import HtmxHttpRequest, wants_partial
from enrichment import lookup_page, operations, prices, selectors
from enrichment.choices import Mode, Source
from enrichment.lookup_forms import LookupForm, cost_text
from enrichment.models import EnrichmentJob
from enrichment.operations.base import Operation
from enrichment.services import refusals, submission
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the log-in middleware let nobody else through
    return request.user


def _operation_or_404(name: str) -> Operation:
    if name not in operations.ASKED:
        raise Http404
    return operations.get(name)


def _url(operation: str, job: EnrichmentJob | None = None) -> str:
    url = reverse("enrichment:lookup_form", args=[operation])
    return f"{url}?job={job.id}" if job else url


def _earlier(request: HttpRequest, name: str) -> EnrichmentJob | None:
    """The look-up that `?job=` or `?from=` names, if the person may see what it found."""
    number = request.GET.get(name, "")
    if not (number.isascii() and number.isdigit() and len(number) < 12):
        return None
    job = selectors.visible_to(_person(request)).filter(id=int(number), source=Source.LOOKUP).first()
    return job if job and selectors.may_see_rows(_person(request), job) else None


@require_safe
@require_right(Right.VIEW_JOBS)
def lookup(request: HttpRequest) -> HttpResponse:
    """To the form of the first operation."""
    return redirect(_url(next(iter(operations.ASKED))))


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.VIEW_JOBS)
def lookup_form(request: HtmxHttpRequest, operation: str) -> HttpResponseBase:
    """The form; a POST asks, and answers with the waiting region or the way to it."""
    chosen = _operation_or_404(operation)
    person = _person(request)
    choices = selectors.key_choices(chosen.name, Mode.SINGLE, person)
    if request.method != "POST":
        return _page(
            request,
            chosen,
            LookupForm(chosen, choices, settings.FRESHNESS_DAYS, initial=_initial(request, chosen)),
        )
    if not person.may(Right.SPEND):
        raise PermissionDenied(f"Your role does not let you {Right.SPEND.label}. {who_can(Right.SPEND)} can.")
    form = LookupForm(chosen, choices, settings.FRESHNESS_DAYS, request.POST)
    if not form.is_valid():
        nameless = refusals.nameless(chosen, Mode.SINGLE, person)
        refusals.note_choice(choices, request.POST.get("key", ""), nameless)
        return _refused(request, chosen, form)
    job = _ask(person, chosen, form)
    if job is None:
        return _refused(request, chosen, form)
    if not wants_partial(request):
        return HttpResponseRedirect(_url(chosen.name, job), status=303)
    context = _answer_context(request, job)
    if "mends" in request.POST:  # the form on the page shows errors that are mended now
        again = {
            **request.POST.dict(),
            "token": context["token"],
            "use_known": form.cleaned_data["use_known"],
        }
        fresh = LookupForm(chosen, choices, settings.FRESHNESS_DAYS, initial=again)
        context.update(_form_context(request, chosen, fresh))
    response = render(request, "enrichment/partials/lookup_sent.html", context)
    response["HX-Push-Url"] = _url(chosen.name, job)
    return response


def _ask(person: User, operation: Operation, form: LookupForm) -> EnrichmentJob | None:
    """The look-up that was started, or None with the reason on the form."""
    data = form.cleaned_data
    try:
        return submission.look_up(
            Actor(person),
            operation=operation.name,
            told=data["told"],
            key=data["key_record"],
            purpose=data["purpose"],
            freshness_days=settings.FRESHNESS_DAYS if data["use_known"] else 0,
            token=data["token"],
        )
    except submission.SubmissionError as error:
        form.add_error(error.field if error.field in form.fields else None, error.message)
        return None


def _initial(request: HttpRequest, operation: Operation) -> dict[str, Any]:
    """A fresh token, and what an earlier look-up asked or found."""
    initial: dict[str, Any] = {"token": submission.new_token(), "use_known": True}
    shown, source = _earlier(request, "job"), _earlier(request, "from")
    if shown and shown.operation == operation.name:
        names = LookupForm(operation, [], 0).input_names
        initial.update(lookup_page.told_of(shown, names), key=str(shown.key_id))
    elif source:
        initial.update(lookup_page.carried_over(source, operation))
    return initial


def _page(
    request: HtmxHttpRequest, operation: Operation, form: LookupForm, status: int = 200
) -> HttpResponse:
    shown = _earlier(request, "job")
    if shown and shown.operation != operation.name:
        shown = None
    urls = {name: _url(name) for name in operations.ASKED}
    context = {
        **_form_context(request, operation, form),
        **(_answer_context(request, shown) if shown else {}),
        "tabs": lookup_page.tabs(urls, operation.name),
        "tab_label": operation.look_up_label,
        "last_lines": lookup_page.last_lines(_person(request)),
    }
    response = render(request, "enrichment/lookup.html", context, status=status)
    patch_vary_headers(response, ("HX-Request",))
    return response


def _form_context(request: HttpRequest, operation: Operation, form: LookupForm) -> dict[str, Any]:
    return {
        "operation": operation,
        "form": form,
        "form_url": _url(operation.name),
        "verb": operation.verb,
        "cost": _cost(operation),
        "purpose_note": _purpose_note(operation),
        "may_spend": _person(request).may(Right.SPEND),
        "who_spends": who_can(Right.SPEND),
        "who_manages": who_can(Right.MANAGE_KEYS),
        "refused_keys": [choice for choice in form.key_choices if choice.refusal],
        "freshness_days": settings.FRESHNESS_DAYS,
    }


def _purpose_note(operation: Operation) -> str | bool:
    """How far the purpose is optional; False where the price alone is above that."""
    free = settings.PURPOSE_FREE_CREDITS
    price = prices.price_of(operation, prices.shown_realm()).credits
    return False if price is not None and price > free else f"optional up to {free:f} credits"


def _cost(operation: Operation) -> str:
    return cost_text(prices.price_of(operation, prices.shown_realm()))


def _refused(request: HtmxHttpRequest, operation: Operation, form: LookupForm) -> HttpResponse:
    """422 with the form and its errors; HTMX swaps the form alone and leaves the answer beside it."""
    if not wants_partial(request):
        return _page(request, operation, form, status=422)
    context = _form_context(request, operation, form)
    response = render(request, "enrichment/partials/lookup_form.html", context, status=422)
    response["HX-Retarget"], response["HX-Reswap"] = "#lookup-form", "outerHTML show:none"
    patch_vary_headers(response, ("HX-Request",))
    return response


def _answer_context(request: HttpRequest, job: EnrichmentJob) -> dict[str, Any]:
    person, found = _person(request), lookup_page.looked_up(job)
    operation = found.operation
    return {
        "found": found,
        "operation": operation,
        "answer_url": f"{reverse('enrichment:lookup_answer', args=[job.id])}?v={found.version}",
        "page_url": _url(job.operation, job),
        "again_url": _url(job.operation),
        "again_told": lookup_page.told_of(job, LookupForm(operation, [], 0).input_names)
        if found.is_cached
        else {},
        "again_token": submission.new_token(),
        "token": submission.new_token(),
        "cost": _cost(operation),
        "may_spend": person.may(Right.SPEND),
        "may_view_keys": person.may(Right.VIEW_KEYS),
        "who_manages": who_can(Right.MANAGE_KEYS),
        "who_decides": who_can(Right.APPROVE),
        "next_steps": [
            (step, f"{_url(step.name)}?from={job.id}", _cost(step))
            for step in lookup_page.next_operations(found)
        ],
    }


@require_safe
@require_right(Right.VIEW_JOBS)
def lookup_answer(request: HtmxHttpRequest, number: int) -> HttpResponseBase:
    """The answer's region, polled until it is final; without HTMX the page that has it."""
    job = get_object_or_404(selectors.visible_to(_person(request)), id=number, source=Source.LOOKUP)
    if not selectors.may_see_rows(_person(request), job):
        raise Http404
    if not wants_partial(request):
        return redirect(_url(job.operation, job))
    context = _answer_context(request, job)
    found = context["found"]
    if request.GET.get("v") == found.version:
        return HttpResponse(status=204)
    if found.is_final:
        context["last_lines"] = lookup_page.last_lines(_person(request))
    response = render(request, "enrichment/partials/lookup_news.html", context)
    patch_vary_headers(response, ("HX-Request",))
    return response
