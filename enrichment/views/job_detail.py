"""A job from queued to finished: figures, results, receipts, stopping, exports."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from config.htmx import HtmxHttpRequest, wants_partial
from enrichment import csv_export, job_page, operations, selectors
from enrichment.choices import JobState, PauseReason, RowState
from enrichment.job_page import Address
from enrichment.job_page_forms import CancelForm
from enrichment.models import EnrichmentJob
from enrichment.operations.leads import words_of
from enrichment.services import exporting, submission
from enrichment.views.post_only import post_only
from keys import ledger
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can

RESULTS = "results"  # id of the region that filters, pager and receipts swap


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the log-in middleware let nobody else through
    return request.user


def _job_or_404(request: HttpRequest, number: int) -> EnrichmentJob:
    return get_object_or_404(selectors.visible_to(_person(request)), id=number)


def _address(request: HttpRequest, job: EnrichmentJob) -> Address:
    return job_page.read_address(reverse("enrichment:job_detail", args=[job.id]), request.GET)


def _shown_address(request: HtmxHttpRequest, job: EnrichmentJob) -> Address:
    """What the page that polls shows: its filter and open row are in its own address, not in the poll's."""
    try:
        query = urlsplit(request.htmx.current_url or "").query
    except ValueError:  # no address of ours
        query = ""
    return job_page.read_address(reverse("enrichment:job_detail", args=[job.id]), dict(parse_qsl(query)))


def _see_other(url: str) -> HttpResponseRedirect:
    return HttpResponseRedirect(url, status=303)


def _refuse_strangers(request: HttpRequest, job: EnrichmentJob) -> None:
    """403 for a person who may see the job and not the people in it."""
    if not selectors.may_see_rows(_person(request), job):
        raise PermissionDenied(
            f"The rows of job #{job.id} hold people's data, and your role sees those of your own team only. "
            f"{who_can(Right.VIEW_ALL_ROWS)} can open them."
        )


def _figures(request: HttpRequest, job: EnrichmentJob, address: Address) -> dict[str, Any]:
    """Context of everything above the results."""
    person = _person(request)
    progress = selectors.progress(job)
    operation = operations.get(job.operation)
    figures: dict[str, Any] = {
        "job": job,
        "operation": operation,
        "progress": progress,
        "live": job_page.live(progress),
        "kept_days": settings.RESERVATION_KEPT_DAYS,
        "words": job_page.words_of(progress),
        "urls": _urls(job, address),
        "export": job_page.export_words(job),
        "job_number": f"#{job.id}",
        "events": job_page.events(job),
        "address": address,
        "state_urls": {state: f"{address.filtered(state=state)}#{RESULTS}" for state in RowState.values},
        "PauseReason": PauseReason,
        "may_spend": person.may(Right.SPEND),
        "may_see_rows": selectors.may_see_rows(person, job),
        "may_view_keys": person.may(Right.VIEW_KEYS),
        "who_spends": who_can(Right.SPEND),
        "who_manages": who_can(Right.MANAGE_KEYS),
        "who_sees_rows": who_can(Right.VIEW_ALL_ROWS),
        "cancel_form": CancelForm(),
        "resume": job_page.resume_of(job),
        "search_words": words_of(operation.filters, job.query),
        "continued_by": selectors.visible_to(person).filter(continues=job).exclude(state=JobState.CANCELLED),
    }
    if job.is_finished:
        figures["outcome"] = job_page.outcome(progress, address)
    return figures


def _urls(job: EnrichmentJob, address: Address) -> dict[str, str]:
    """Addresses of what can be done with the job; what changes it comes back to the same filter and row."""
    urls = {
        name: address.at(reverse(f"enrichment:job_{name}", args=[job.id]))
        for name in ("pause", "resume", "cancel")
    }
    export = reverse("enrichment:job_export", args=[job.id])
    these = Address(export, address.wanted)
    for preset in csv_export.PRESETS:
        urls[preset] = f"{export}?preset={preset}"
        urls[f"{preset}_these"] = f"{these}&preset={preset}" if these.query else urls[preset]
    return urls


def _results(request: HtmxHttpRequest, job: EnrichmentJob, address: Address) -> dict[str, Any]:
    """Context of the results: one page of rows, the filters, and the open row's receipt."""
    person = _person(request)
    common = {"job": job, "address": address}
    if not selectors.may_see_rows(person, job):
        return {**common, "may_see_rows": False, "who_sees_rows": who_can(Right.VIEW_ALL_ROWS)}
    page = selectors.list_rows(job, address.wanted, after=address.after, before=address.before)
    opened = address.row and job_page.row_page(job, address.wanted, address.row, selectors.visible_to(person))
    operation = operations.get(job.operation)
    return {
        **common,
        "may_see_rows": True,
        "operation": operation,
        "columns": job_page.columns_of(operation),
        "page": page,
        "pager": job_page.pager(page, address),
        "lines": job_page.lines(job, page.rows),
        "chips": job_page.chips(job, address),
        "list_query": address.list_query,
        "urls": _urls(job, address),
        "opened": opened or None,
        "panel": job_page.panel(opened, address) if opened else None,
        "gone_title": f"Row {address.row:,}" if address.row else "",
        "export_these": f"Export these {page.total:,} row{'' if page.total == 1 else 's'}",
        "is_gone": bool(address.row) and not opened,
        "done": job.rows_total - job.rows_open,
        "returning_to": _closed_row(request, job),
        "may_view_keys": person.may(Right.VIEW_KEYS),
        "may_spend": person.may(Right.SPEND),
    }


def _closed_row(request: HtmxHttpRequest, job: EnrichmentJob) -> int | None:
    """The row whose receipt was just closed: its link gets the focus back."""
    if not request.htmx or request.htmx.trigger != "row-close":
        return None
    return _shown_address(request, job).row


def _wants_results(request: HtmxHttpRequest) -> bool:
    """True when only the results are swapped; links in them are boosted, so the target tells."""
    return bool(request.htmx) and request.htmx.target == RESULTS and not request.htmx.history_restore_request


@require_safe
@require_right(Right.VIEW_JOBS)
def job_detail(request: HtmxHttpRequest, number: int) -> HttpResponseBase:
    """The whole page; a draft is still on its review page."""
    job = _job_or_404(request, number)
    if job.state == JobState.DRAFT:
        return redirect("enrichment:job_review", number=job.id)
    if _wants_results(request):
        return _results_region(request, job)
    address = _address(request, job)
    context = {**_results(request, job, address), **_figures(request, job, address)}
    response = render(request, "enrichment/job_detail.html", context)
    patch_vary_headers(response, ("HX-Request", "HX-Target"))
    return response


def _results_region(request: HtmxHttpRequest, job: EnrichmentJob) -> HttpResponse:
    context = _results(request, job, _address(request, job))
    response = render(request, "enrichment/partials/job_rows.html", context)
    patch_vary_headers(response, ("HX-Request", "HX-Target"))
    return response


@require_safe
@require_right(Right.VIEW_JOBS)
def job_rows(request: HtmxHttpRequest, number: int) -> HttpResponseBase:
    """The results alone; without HTMX their place on the page."""
    job = _job_or_404(request, number)
    if not wants_partial(request):
        return redirect(f"{_address(request, job)}#{RESULTS}")
    return _results_region(request, job)


@require_safe
@require_right(Right.VIEW_JOBS)
def job_progress(request: HtmxHttpRequest, number: int) -> HttpResponseBase:
    """The live figures: 204 while nothing changed since `v`, all above the results when the layout changed. When the job ends
    the results come with it, unless somebody reads a row: beside final figures the table would still say "waiting"."""
    job = _job_or_404(request, number)
    if not wants_partial(request):
        return redirect(str(_address(request, job)))
    address = _shown_address(request, job)
    figures = _figures(request, job, address)
    seen, live = request.GET.get("v", ""), figures["live"]
    if seen == live.version:
        return HttpResponse(status=204)
    if job_page.is_layout_of(seen, live.layout):
        response = render(request, "enrichment/partials/job_tick.html", figures)
    else:
        is_over = job.is_finished and address.row is None
        context = {**_results(request, job, address), **figures} if is_over else figures
        response = render(request, "enrichment/partials/job_turn.html", {**context, "has_results": is_over})
        response["HX-Retarget"] = "#job-body"
        response["HX-Reswap"] = "outerHTML"
    patch_vary_headers(response, ("HX-Request",))
    return response


@require_safe
@require_right(Right.VIEW_JOBS)
def job_row(request: HtmxHttpRequest, number: int, position: int) -> HttpResponse:
    """A receipt as a page of its own."""
    job = _job_or_404(request, number)
    _refuse_strangers(request, job)
    person, address = _person(request), _address(request, job)
    opened = job_page.row_page(job, address.wanted, position, selectors.visible_to(person))
    if opened is None:
        raise Http404
    context = {
        "job": job,
        "job_number": f"#{job.id}",
        "operation": operations.get(job.operation),
        "address": address,
        "opened": opened,
        "lead_url": _row_url(address, job, opened.lead),
        "previous": _row_url(address, job, opened.previous),
        "following": _row_url(address, job, opened.following),
        "may_view_keys": person.may(Right.VIEW_KEYS),
        "may_spend": person.may(Right.SPEND),
    }
    return render(request, "enrichment/job_row.html", context)


def _row_url(address: Address, job: EnrichmentJob, position: int | None) -> str:
    return address.at(reverse("enrichment:job_row", args=[job.id, position])) if position else ""


@require_safe
@require_right(Right.VIEW_JOBS)
def row_raw(request: HttpRequest, number: int, position: int) -> JsonResponse:
    """The item as Icypeas sent it; with `?second` the other one, where it answered twice and not alike."""
    job = _job_or_404(request, number)
    _refuse_strangers(request, job)
    receipt = selectors.get_receipt(job, position)
    answer = receipt.row.answer if receipt else None
    raw = receipt.second if receipt and "second" in request.GET else answer and answer.raw
    if raw is None:
        raise Http404
    return JsonResponse(raw, json_dumps_params={"indent": 2, "ensure_ascii": False})


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SPEND)
def job_pause(request: HttpRequest, number: int) -> HttpResponse:
    """What the dialog of the job's page says, as a page; and the answer to both."""
    job = _job_or_404(request, number)
    if request.method != "POST" and job.state in (JobState.QUEUED, JobState.RUNNING):
        address = _address(request, job)
        context = {
            "job": job,
            "job_number": f"#{job.id}",
            "address": address,
            "urls": _urls(job, address),
            "progress": selectors.progress(job),
            "kept_days": settings.RESERVATION_KEPT_DAYS,
        }
        return render(request, "enrichment/job_pause.html", context)
    if (
        request.method == "POST"
        and submission.pause_job(Actor(_person(request)), job.id).state == JobState.PAUSED
    ):
        messages.success(request, "Paused. Nothing new is sent; rows at Icypeas still come back.")
        _tell_what_left_meanwhile(request, job)
    else:
        messages.warning(request, f"Job #{job.id} was not running any more, so there was nothing to pause.")
    return _see_other(str(_address(request, job)))


def _tell_what_left_meanwhile(request: HttpRequest, job: EnrichmentJob) -> None:
    """The figures before the click were those of a running job: say so when it can end dearer than they said."""
    try:
        said = Decimal(request.POST.get("at_most", ""))
    except InvalidOperation:  # a form without the figure, as a script may send it
        return
    now = selectors.progress(get_object_or_404(EnrichmentJob, id=job.id))
    if now.at_most_if_stopped > said:
        messages.warning(
            request,
            f"More rows had gone to Icypeas since this page showed its figures: {now.at_provider:,} are there now and can "
            f"cost at most {ledger.words(now.at_risk)} credits, so the job ends at "
            f"{ledger.words(now.at_most_if_stopped)} at most instead of {ledger.words(said)}.",
        )


@post_only
@require_right(Right.SPEND)
def job_resume(request: HttpRequest, number: int) -> HttpResponse:
    job = _job_or_404(request, number)
    try:
        resumed = submission.resume_job(Actor(_person(request)), job.id)
    except submission.SubmissionError as error:
        messages.error(request, error.message)
        return _see_other(str(_address(request, job)))
    if resumed.is_active:
        messages.success(request, "Resumed. The waiting rows go on.")
    else:
        messages.warning(request, f"Job #{job.id} has ended meanwhile, so there was nothing to resume.")
    return _see_other(str(_address(request, job)))


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SPEND)
def job_cancel(request: HttpRequest, number: int) -> HttpResponseBase:
    """What the dialog of the job's page asks, as a page; and the answer to both."""
    job = _job_or_404(request, number)
    address = _address(request, job)
    if not job.is_active or job.state == JobState.CANCELLING:
        messages.warning(request, f"Job #{job.id} is {job.get_state_display().lower()} already.")
        return _see_other(str(address))
    form = CancelForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        submission.cancel_job(Actor(_person(request)), job.id, reason=form.cleaned_data["reason"])
        messages.success(request, f"Job #{job.id} is cancelled. What was found stays.")
        _tell_what_left_meanwhile(request, job)
        return _see_other(str(address))
    context = {
        "job": job,
        "job_number": f"#{job.id}",
        "address": address,
        "urls": _urls(job, address),
        "progress": selectors.progress(job),
        "cancel_form": form,
    }
    return render(request, "enrichment/job_cancel.html", context, status=422 if form.is_bound else 200)


@require_GET
@require_right(Right.VIEW_JOBS)
def job_export(request: HttpRequest, number: int) -> StreamingHttpResponse:
    """The list with our columns, streamed; only the rows of the filter when there is one."""
    job = _job_or_404(request, number)
    _refuse_strangers(request, job)
    preset = request.GET.get("preset", csv_export.EXCEL)
    if preset not in csv_export.PRESETS:
        raise BadRequest(f"There is no preset {preset!r}.")
    if job.upload is None or job.state == JobState.DRAFT:
        raise Http404
    wanted = _address(request, job).wanted
    response = StreamingHttpResponse(
        exporting.hand_out(Actor(_person(request)), job, preset, wanted),
        content_type="text/csv; charset=utf-8",
    )
    name = exporting.file_name(job, preset, wanted)
    response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    return response
