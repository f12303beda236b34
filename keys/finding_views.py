"""Pages about findings: all of them, exceptions, and scopes that nobody used."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from django.views.decorators.vary import vary_on_headers

from config.htmx import HtmxHttpRequest, wants_partial
from keys import finding_exceptions, finding_selectors, findings, services
from keys.choices import FindingCode
from keys.finding_forms import ExceptionForm, FindingFilterForm, ReasonForm, RemoveScopesForm
from keys.models import Finding
from people import audit, csv_out
from people.audit import Actor
from people.models import User
from people.permissions import require_proof, require_right
from people.rights import Right
from people.selectors import who_can


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


@require_safe
@require_right(Right.VIEW_KEYS)
@vary_on_headers("HX-Request")
def finding_list(request: HtmxHttpRequest) -> HttpResponse:
    """Every open finding over all records, by due date."""
    user = _person(request)
    wanted = FindingFilterForm(request.GET).wanted()
    after = request.GET.get("after", "")
    page = finding_selectors.list_page(wanted, user, after=after)
    may = user.may(Right.MANAGE_KEYS)
    context = {
        "wanted": wanted,
        "page": page,
        "chips": finding_selectors.chips(wanted, finding_selectors.owners_with_findings()),
        "clear": finding_selectors.FindingFilter(view=wanted.view).address() if wanted.is_set else "",
        "export": f"{reverse('keys:finding_export')}{wanted.address()}",
        "first": wanted.address() if after else "",
        "next": wanted.address(after=page.next_after) if page.next_after else "",
        "may_manage": may,
        "who_may": "" if may else f"{who_can(Right.MANAGE_KEYS)} can",
    }
    if wants_partial(request):
        return render(request, "keys/partials/finding_results.html", {**context, "is_region": True})
    counts = finding_selectors.count_views(user)
    hidden = [(name, value) for name, value in vars(wanted).items() if value and name != "search"]
    context |= {
        "counted": finding_selectors.words_of_counts(counts),
        "tabs": finding_selectors.tabs(wanted, counts),
        "hidden": hidden,
    }
    return render(request, "keys/finding_list.html", context)


@require_safe
@require_right(Right.VIEW_KEYS)
def finding_export(request: HttpRequest) -> StreamingHttpResponse:
    """The findings of the filter as CSV; that they were taken is told."""
    user = _person(request)
    wanted = FindingFilterForm(request.GET).wanted()
    count = finding_selectors.filter_findings(wanted, user).count()
    audit.record(Actor(user), "person.took_findings", user, detail={"findings": count})
    rows = csv_out.write(finding_selectors.EXPORT_COLUMNS, finding_selectors.export_rows(wanted, user))
    response = StreamingHttpResponse(rows, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="findings-{timezone.localdate()}.csv"'
    response["Cache-Control"] = "no-store"
    return response


def _finding(name: str, number: int) -> Finding:
    rows = findings.open_findings().select_related("key__owner", "key__deputy", "excepted_by")
    return get_object_or_404(rows, id=number, key__name=name)


def _back(finding: Finding) -> HttpResponseRedirect:
    url = reverse("keys:key_detail", args=[finding.key.name])
    return HttpResponseRedirect(f"{url}#findings", status=303)


def _except_again(request: HttpRequest, name: str, number: int) -> HttpResponse:
    return _page(
        request, "keys/finding_except.html", _finding(name, number), ExceptionForm(request.POST), 422
    )


def _resume_again(request: HttpRequest, name: str, number: int) -> HttpResponse:
    return _page(request, "keys/finding_resume.html", _finding(name, number), ReasonForm(request.POST), 422)


def _remove_again(request: HttpRequest, name: str, number: int) -> HttpResponse:
    finding = _finding(name, number)
    form = RemoveScopesForm(finding.scopes, request.POST)
    return _page(request, "keys/scopes_remove.html", finding, form, 422)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_except_again)
def finding_except(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Let a finding rest until a day, with a reason."""
    finding = _finding(name, number)
    form = ExceptionForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        told = form.cleaned_data
        try:
            finding_exceptions.except_finding(
                Actor(_person(request)), finding, until=told["until"], reason=told["reason"]
            )
        except finding_exceptions.FindingError as error:
            form.take_errors(error.fields)
        else:
            messages.success(request, "The finding rests. It counts again when the exception is over.")
            return _back(finding)
    return _page(request, "keys/finding_except.html", finding, form)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_resume_again)
def finding_resume(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """End an exception before its day."""
    finding = _finding(name, number)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            finding_exceptions.end_exception(
                Actor(_person(request)), finding, reason=form.cleaned_data["reason"]
            )
        except finding_exceptions.FindingError as error:
            form.take_errors(error.fields)
        else:
            messages.success(request, "The exception is over; the finding counts again.")
            return _back(finding)
    return _page(request, "keys/finding_resume.html", finding, form)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.MANAGE_KEYS)
@require_proof(_remove_again)
def scopes_remove(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Take scopes from a record that it never used."""
    finding = _finding(name, number)
    if finding.code != FindingCode.SCOPE:
        return _back(finding)
    form = RemoveScopesForm(finding.scopes, request.POST if request.method == "POST" else None)
    if form.is_valid():
        told = form.cleaned_data
        try:
            services.remove_scopes(
                Actor(_person(request)), finding.key, told["scopes"], reason=told["reason"]
            )
        except services.KeyRecordError as error:
            form.take_errors(error.fields)
        else:
            messages.success(request, f"Removed from {finding.key.name}: {', '.join(told['scopes'])}.")
            return _back(finding)
    return _page(request, "keys/scopes_remove.html", finding, form)


def _page(
    request: HttpRequest, template: str, finding: Finding, form: ReasonForm, status: int = 200
) -> HttpResponse:
    context = {
        "key": finding.key,
        "finding": finding,
        "form": form,
        "last_day": finding_exceptions.last_day_of_exception(),
    }
    return render(request, template, context, status=422 if form.errors else status)
