"""Searches for leads: filters, a live count that costs nothing, and the start of a job that fetches some."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from config.htmx import HtmxHttpRequest, wants_partial
from enrichment import leads_page, operations, prices, selectors
from enrichment.choices import Mode
from enrichment.lead_forms import FetchForm, SearchForm
from enrichment.models import LeadCount
from enrichment.operations.base import Operation
from enrichment.operations.leads import values_with_commas
from enrichment.services import refusals, searching, submission
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the log-in middleware let nobody else through
    return request.user


def _search_or_404(name: str) -> Operation:
    if name not in operations.SEARCHES:
        raise Http404
    return operations.get(name)


def _url(operation: Operation) -> str:
    return reverse("enrichment:lead_search", args=[operation.name])


@require_safe
@require_right(Right.VIEW_JOBS)
def leads(request: HttpRequest) -> HttpResponse:
    """To the first search."""
    return redirect(_url(next(iter(operations.SEARCHES.values()))))


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.VIEW_JOBS)
def search(request: HtmxHttpRequest, operation: str) -> HttpResponseBase:
    """The filters, from the address; a POST starts the job that fetches."""
    chosen = _search_or_404(operation)
    person = _person(request)
    choices = selectors.key_choices(chosen.name, Mode.BULK, person)
    if request.method != "POST":
        initial = {
            "token": submission.new_token(),
            "wanted": leads_page.FIRST_WANTED,
            **leads_page.initial_of(chosen, request.GET),
        }
        return _page(request, chosen, FetchForm(chosen, choices, initial=initial))
    if not person.may(Right.SPEND):
        raise PermissionDenied(f"Your role does not let you {Right.SPEND.label}. {who_can(Right.SPEND)} can.")
    form = FetchForm(chosen, choices, request.POST)
    if form.is_valid():
        data = form.cleaned_data
        try:
            job = searching.fetch(
                Actor(person),
                operation=chosen.name,
                query=data["query"],
                wanted=data["wanted"],
                key=data["key_record"],
                purpose=data["purpose"],
                token=data["token"],
                pay_again_limit=data["pay_again"] or Decimal(0),
            )
        except submission.SubmissionError as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
        else:
            return HttpResponseRedirect(reverse("enrichment:job_detail", args=[job.id]), status=303)
    else:
        nameless = refusals.nameless(chosen, Mode.BULK, person)
        refusals.note_choice(choices, request.POST.get("key", ""), nameless)
    return _page(request, chosen, form, status=422)


def _page(request: HtmxHttpRequest, operation: Operation, form: FetchForm, status: int = 200) -> HttpResponse:
    person = _person(request)
    price = prices.price_of(operation, prices.shown_realm())
    names = {name: reverse("enrichment:lead_search", args=[name]) for name in operations.SEARCHES}
    context = {
        "operation": operation,
        "form": form,
        "form_url": _url(operation),
        "count_url": reverse("enrichment:lead_count", args=[operation.name]),
        "price": price,
        "cost": leads_page.cost_of(form["wanted"].value(), price),
        "has_filters": any(form[name].value() for name in form.filter_names),
        "tabs": leads_page.tabs(names, operation.name),
        "earlier": leads_page.earlier(person, operation),
        "may_spend": person.may(Right.SPEND),
        "who_spends": who_can(Right.SPEND),
        "who_manages": who_can(Right.MANAGE_KEYS),
        "refused_keys": [choice for choice in form.key_choices if choice.refusal],
        "most": settings.MAX_LEADS,
    }
    response = render(request, "enrichment/leads.html", context, status=status)
    patch_vary_headers(response, ("HX-Request",))
    return response


@require_POST
@require_right(Right.SPEND)
def count(request: HtmxHttpRequest, operation: str) -> HttpResponseBase:
    """How many leads the filters have, asked while a person types; the region and the cost for HTMX."""
    chosen = _search_or_404(operation)
    form = SearchForm(chosen, request.POST)
    price = prices.price_of(chosen, prices.shown_realm())
    context: dict[str, Any] = {
        "operation": chosen,
        "cost": leads_page.cost_of(request.POST.get("wanted"), price),
        "with_cost": True,
    }
    told = {name: value for name in form.filter_names if (value := request.POST.getlist(name)) and any(value)}
    if not told:
        context["figure"] = None
    elif not form.is_valid():
        context["mistakes"] = [message for messages in form.errors.values() for message in messages]
    else:
        key = _key(request, chosen)
        if key is None:
            context["mistakes"] = ["No key can be used for this."]
        else:
            asked = searching.ask_for_count(
                Actor(_person(request)), chosen.name, form.cleaned_data["query"], key
            )
            context.update(_figure(request, chosen, asked))
    response = render(request, "enrichment/partials/lead_figure.html", context)
    response["HX-Replace-Url"] = f"{_url(chosen)}?{urlencode(told, doseq=True)}" if told else _url(chosen)
    return response


def _key(request: HttpRequest, operation: Operation) -> Any:
    """The key that the form names, or the first that may."""
    offered = [
        choice.key
        for choice in selectors.key_choices(operation.name, Mode.BULK, _person(request))
        if not choice.refusal
    ]
    wanted = request.POST.get("key", "")
    return next((key for key in offered if str(key.id) == wanted), offered[0] if offered else None)


def _figure(request: HttpRequest, operation: Operation, asked: LeadCount) -> Mapping[str, Any]:
    return {
        "figure": leads_page.figure_of(asked),
        "counted_url": reverse("enrichment:lead_counted", args=[operation.name, asked.id]),
        "same": leads_page.same_search(_person(request), operation, asked.query),
        "with_commas": values_with_commas(operation.filters, asked.query),
    }


@require_safe
@require_right(Right.SPEND)
def counted(request: HtmxHttpRequest, operation: str, number: int) -> HttpResponseBase:
    """A count that was asked for, polled until it has its answer. A person sees their own."""
    chosen = _search_or_404(operation)
    asked = get_object_or_404(LeadCount, id=number, operation=chosen.name)
    if not wants_partial(request):
        return redirect(_url(chosen))
    context = {"operation": chosen, **_figure(request, chosen, asked)}
    figure = context["figure"]
    if request.GET.get("v") == figure.version:
        return HttpResponse(status=204)
    return render(request, "enrichment/partials/lead_figure.html", context)
