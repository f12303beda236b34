"""The price table: what each operation costs, since when, and who says so."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from enrichment import operations, prices
from enrichment.forms import PriceForm
from enrichment.models import Price
from keys.choices import Realm
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


@require_safe
@require_right(Right.VIEW_JOBS)
def price_list(request: HttpRequest) -> HttpResponse:
    """Today's prices, and every price that was ever entered."""
    assert isinstance(request.user, User)
    lines = [
        {"operation": operation, "realm": realm, "now": prices.price_of(operation, realm)}
        for operation in operations.OPERATIONS.values()
        for realm in Realm
    ]
    entered = [
        {"price": price, "operation": operations.OPERATIONS.get(price.operation)}
        for price in Price.objects.select_related("entered_by")[:200]
    ]
    context = {
        "lines": lines,
        "entered": entered,
        "may_set": request.user.may(Right.SET_PRICES),
        "who_sets": who_can(Right.SET_PRICES),
    }
    return render(request, "enrichment/prices.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SET_PRICES)
def price_enter(request: HttpRequest) -> HttpResponse:
    """Enter a price with its date and source."""
    assert isinstance(request.user, User)
    form = PriceForm(request.POST if request.method == "POST" else None, initial=request.GET.dict())
    if form.is_valid():
        try:
            price = prices.enter_price(Actor(request.user), **form.cleaned_data)
        except prices.PriceError as error:
            for field, text in error.fields.items():
                form.add_error(field, text)
        else:
            messages.success(request, f"{price} is entered. Jobs that have started keep their price.")
            return HttpResponseRedirect(reverse("enrichment:price_list"), status=303)
    return render(request, "enrichment/price_enter.html", {"form": form}, status=422 if form.errors else 200)
