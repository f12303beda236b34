"""Spend: budgets of a month, and whether receipts and balances agree."""

from __future__ import annotations

from datetime import date

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from enrichment import spend_page
from keys import budgets
from keys.budget_forms import BudgetForm
from people.audit import Actor
from people.models import User
from people.permissions import require_proof, require_right
from people.rights import Right
from people.selectors import who_can


@require_safe
@require_right(Right.VIEW_JOBS)
def spend(request: HttpRequest) -> HttpResponse:
    """One month; the address says which."""
    assert isinstance(request.user, User)
    page = spend_page.page(request.user, _month(request.GET.get("month", "")))
    here = reverse("enrichment:spend")
    context = {
        "page": page,
        "earlier_url": f"{here}?month={page.earlier:%Y-%m}",
        "later_url": f"{here}?month={page.later:%Y-%m}" if page.later else "",
        "sees_all": request.user.may(Right.VIEW_ALL_JOBS),
        "may_set": request.user.may(Right.SET_BUDGETS),
        "who_sets": who_can(Right.SET_BUDGETS),
    }
    return render(request, "enrichment/spend.html", context)


def _month(text: str) -> date:
    """ "2026-11"; what makes no sense, and a month to come, is the present one."""
    today = timezone.localdate()
    try:
        month = date.fromisoformat(f"{text}-01")
    except ValueError:
        month = today
    return min(month, today).replace(day=1)


def _budget_page(request: HttpRequest, form: BudgetForm, status: int = 200) -> HttpResponse:
    return render(request, "enrichment/spend_budget.html", {"form": form}, status=status)


def _budget_again(request: HttpRequest) -> HttpResponse:
    """The form as it was typed, for the password beside it."""
    return _budget_page(request, BudgetForm(request.POST), status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SET_BUDGETS)
@require_proof(_budget_again)
def budget_set(request: HttpRequest) -> HttpResponse:
    """Set a monthly budget, with a reason."""
    assert isinstance(request.user, User)
    initial = {"owner": request.GET.get("owner", ""), "credits": request.GET.get("credits", "")}
    form = BudgetForm(request.POST if request.method == "POST" else None, initial=initial)
    if form.is_valid():
        told = form.cleaned_data
        try:
            budget = budgets.set_budget(
                Actor(request.user),
                **form.chosen(),
                first_month=told["first_month"],
                credits=told["credits"],
                reason=told["reason"],
            )
        except budgets.BudgetError as error:
            for field, text in error.fields.items():
                form.add_error(field, text)
        else:
            messages.success(
                request, f"The budget of {budget} is set. Jobs that run keep what they have reserved."
            )
            return HttpResponseRedirect(reverse("enrichment:spend"), status=303)
    return _budget_page(request, form, status=422 if form.errors else 200)
