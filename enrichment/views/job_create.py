"""From an operation and a list to a started job."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import content_disposition_header
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from config.htmx import HtmxHttpRequest, wants_partial
from enrichment import job_list_page, operations, prices, review_page, selectors
from enrichment.choices import JobState, Mode, RowState
from enrichment.csv_import import UploadError
from enrichment.forms import ChoiceForm, ColumnsForm, ReadingForm, StartForm, UploadForm
from enrichment.models import EnrichmentJob
from enrichment.operations.base import Operation
from enrichment.prices import PriceNow
from enrichment.services import exporting, refusals, submission, uploads
from enrichment.views.post_only import post_only
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can

AGAIN_SAMPLE = "sample"  # "run it again all the same", as the sample that was asked for


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the log-in middleware let nobody else through
    return request.user


def _see_other(url: str) -> HttpResponseRedirect:
    return HttpResponseRedirect(url, status=303)


def _price(operation: Operation) -> PriceNow:
    return prices.price_of(operation, prices.shown_realm())


def _steps(current: int, **urls: str) -> list[dict[str, str]]:
    labels = ("Operation", "List", "Review and start")
    states = ["done"] * current + ["current"] + ["todo"] * (len(labels) - current - 1)
    return [
        {"label": label, "state": state, "url": urls.get(label.split()[0].lower(), "")}
        for label, state in zip(labels, states, strict=True)
    ]


@require_safe
@require_right(Right.SPEND)
def job_new(request: HttpRequest) -> HttpResponse:
    """What should be done?"""
    context = {
        "offers": [(operation, _price(operation)) for operation in operations.ASKED.values()],
        "searches": [(operation, _price(operation)) for operation in operations.SEARCHES.values()],
        "steps": _steps(0),
        "drafts": job_list_page.lines(selectors.drafts_of(_person(request))),
    }
    return render(request, "enrichment/job_new.html", context)


@csrf_exempt  # the view inside is protected; out here a body that is too large to be read gets its answer
@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SPEND)
def job_upload(request: HttpRequest, operation: str) -> HttpResponseBase:
    """Which list? A file or pasted rows become a draft."""
    if operation not in operations.ASKED:
        raise Http404
    try:
        return _take_upload(request, operation)
    except RequestDataTooBig:
        while request.read(64 * 1024):
            pass  # a browser shows an answer only when it could send everything
        return _upload_page(request, operation, UploadForm({}, is_paste_too_large=True))


@csrf_protect
def _take_upload(request: HttpRequest, operation: str) -> HttpResponse:
    form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
    if form.is_bound and form.is_valid():
        stream, file_name = form.stream()
        try:
            job = submission.draft_from_upload(
                Actor(_person(request)),
                operation=operation,
                stream=stream,
                file_name=file_name,
                name=form.cleaned_data["name"],
                **form.reading,
            )
        except UploadError as error:
            form.add_error(form.source_field, error.message)
        else:
            return _see_other(reverse("enrichment:job_review", args=[job.id]))
    return _upload_page(request, operation, form)


def _upload_page(request: HttpRequest, operation: str, form: UploadForm) -> HttpResponse:
    context = {
        "form": form,
        "operation": operations.get(operation),
        "price": _price(operations.get(operation)),
        "steps": _steps(1, operation=reverse("enrichment:job_new")),
    }
    return render(request, "enrichment/job_upload.html", context, status=422 if form.errors else 200)


# --- the draft -------------------------------------------------------------------------------------------------------------


def _job_or_404(request: HttpRequest, number: int) -> EnrichmentJob:
    """A list's job whose rows the person may see; others are not there, or not theirs."""
    person = _person(request)
    job = get_object_or_404(selectors.visible_to(person), id=number, mode=Mode.BULK, upload__isnull=False)
    if not selectors.may_see_rows(person, job):
        raise PermissionDenied(
            f"The rows of job #{job.id} hold people's data, and your role sees those of your own team only. "
            f"{who_can(Right.VIEW_ALL_ROWS)} can open them."
        )
    return job


def _refuse_without_right(request: HttpRequest) -> None:
    if not _person(request).may(Right.SPEND):
        raise PermissionDenied(f"Your role does not let you {Right.SPEND.label}. {who_can(Right.SPEND)} can.")


def _context(
    request: HttpRequest,
    job: EnrichmentJob,
    *,
    columns_form: ColumnsForm | None = None,
    reading_form: ReadingForm | None = None,
    start_form: StartForm | None = None,
) -> dict[str, Any]:
    """Everything on the review page. Key and freshness come from the address or from the form that was sent."""
    assert job.upload is not None
    operation = operations.get(job.operation)
    choices = selectors.key_choices(job.operation, Mode.BULK, _person(request))
    asked = ChoiceForm({**request.GET.dict(), **request.POST.dict()})
    asked.is_valid()
    key = review_page.choose_key(choices, asked.cleaned_data.get("key"))
    days = asked.cleaned_data.get("freshness_days")
    freshness_days = job.freshness_days if days is None else days
    review = review_page.review(
        _person(request),
        job,
        choices=choices,
        key=key,
        freshness_days=freshness_days,
        sample=uploads.sample(job),
        columns_form=columns_form or ColumnsForm(operation, job.upload.header, mapping=job.mapping),
    )
    has_worker = selectors.has_live_worker()
    initial = {
        "key": key.id if key else None,
        "freshness_days": freshness_days,
        "purpose": request.POST.get("purpose", job.purpose),
        "token": job.start_token,
        "max_credits": review.estimate.at_most if review.estimate else None,
    }
    reading = {
        "encoding": review.layout.encoding,
        "delimiter": review.layout.delimiter,
        "has_header": "yes" if review.layout.has_header else "no",
    }
    return {
        "job": job,
        "review": review,
        "operation": operation,
        "reading_form": reading_form or ReadingForm(initial=reading),
        "start_form": start_form
        or StartForm(choices, initial=initial, can_pay_again=bool(operation.direct_rows)),
        "steps": _steps(
            2,
            operation=reverse("enrichment:job_new"),
            list=reverse("enrichment:job_upload", args=[job.operation]),
        ),
        "may_spend": _person(request).may(Right.SPEND),
        "who_spends": who_can(Right.SPEND),
        "worker_seen_at": selectors.worker_seen_at(),
        "has_worker": has_worker,
        "version": f"{review.version}-{int(has_worker)}",
        "who_manages": who_can(Right.MANAGE_KEYS),
        "may_view_keys": _person(request).may(Right.VIEW_KEYS),
    }


def _answer(request: HtmxHttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """The page, or for HTMX the region that was asked for and those that change with it."""
    template = "enrichment/job_review.html"
    if wants_partial(request):
        target = request.htmx.target or ""
        # The columns only when they changed: a select that is open stays as it is.
        context |= {"target": target, "has_columns": target == "review-columns", "is_region": True}
        template = "enrichment/partials/review_regions.html"
    response = render(request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.VIEW_JOBS)
def job_review(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Look at a draft, or change how it is read; a change checks the rows again."""
    job = _job_or_404(request, number)
    if job.state != JobState.DRAFT:
        return _go(request, reverse("enrichment:job_detail", args=[job.id]))
    if request.method == "POST":
        _refuse_without_right(request)
        return _change(request, job)
    context = _context(request, job)
    if wants_partial(request) and request.GET.get("v") == context["version"]:
        return HttpResponse(status=204)
    return _answer(request, context)


def _go(request: HtmxHttpRequest, url: str) -> HttpResponse:
    """To another page, for a form as well as for HTMX, which would put the page into its region."""
    if wants_partial(request):
        return HttpResponse(status=204, headers={"HX-Redirect": url})
    return _see_other(url)


def _change(request: HtmxHttpRequest, job: EnrichmentJob) -> HttpResponse:
    """One of the small forms of the page: reading, columns, a warning to skip or to ask, other key and freshness."""
    assert job.upload is not None
    posted = request.POST
    if "keep" in posted:
        submission.keep_purpose(job, posted.get("purpose", ""))
        return HttpResponse(status=204)
    if "recalculate" in posted:
        return _answer(request, _context(request, job))
    if "encoding" in posted:
        reading = ReadingForm(posted)
        if not reading.is_valid() or not _reread(job, reading):
            return _answer(request, _context(request, job, reading_form=reading), status=422)
    elif "skip" in posted:
        submission.change_columns(job, job.mapping, sorted({*job.skip_codes, posted["skip"]}))
    elif "ask" in posted:
        submission.change_columns(job, job.mapping, sorted({*job.skip_codes} - {posted["ask"]}))
    else:
        columns = ColumnsForm(operations.get(job.operation), job.upload.header, posted)
        if not columns.is_valid():
            return _answer(request, _context(request, job, columns_form=columns), status=422)
        submission.change_columns(job, columns.mapping, job.skip_codes)
    if wants_partial(request):
        return _answer(request, _context(request, _job_or_404(request, job.id)))
    asked = request.GET.urlencode()
    return _see_other(f"{reverse('enrichment:job_review', args=[job.id])}{'?' if asked else ''}{asked}")


def _reread(job: EnrichmentJob, form: ReadingForm) -> bool:
    """Read the file as the person says; False when that cannot be done, with the reason at the form."""
    told = form.cleaned_data
    try:
        submission.reread(
            job, encoding=told["encoding"], delimiter=told["delimiter"], has_header=told["has_header"]
        )
    except UploadError as error:
        form.add_error("encoding", error.message)
        return False
    return True


@post_only
@require_right(Right.SPEND)
def job_balance(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Ask a worker for a fresh balance of the chosen key's account."""
    job = _job_or_404(request, number)
    asked = ChoiceForm({**request.GET.dict(), **request.POST.dict()})
    asked.is_valid()
    key = review_page.choose_key(
        selectors.key_choices(job.operation, Mode.BULK, _person(request)), asked.cleaned_data.get("key")
    )
    if key is not None:
        submission.ask_for_balance(key.account)
    if wants_partial(request):
        return _answer(request, _context(request, job))
    query = request.GET.urlencode()
    return _see_other(f"{reverse('enrichment:job_review', args=[job.id])}{'?' if query else ''}{query}")


@post_only
@require_right(Right.SPEND)
def job_start(request: HtmxHttpRequest, number: int) -> HttpResponse:
    """Reserve and queue. Pressing twice starts one job; a refusal keeps the draft and says why."""
    job = _job_or_404(request, number)
    detail = reverse("enrichment:job_detail", args=[job.id])
    if job.state != JobState.DRAFT:
        return _see_other(detail)
    choices = selectors.key_choices(job.operation, Mode.BULK, _person(request))
    form = StartForm(
        choices,
        data=request.POST,
        can_pay_again=bool(operations.get(job.operation).direct_rows),
    )
    extra: dict[str, Any] = {}
    if form.is_valid():
        order = submission.StartOrder(
            key=form.chosen_key,
            purpose=form.cleaned_data["purpose"],
            freshness_days=form.cleaned_data["freshness_days"],
            token=form.cleaned_data["token"],
            max_credits=form.cleaned_data["max_credits"],
            is_again=form.cleaned_data["again"],
            pay_again_limit=form.cleaned_data.get("pay_again") or Decimal(0),
            is_sample=form.cleaned_data["sample"] or request.POST.get("again") == AGAIN_SAMPLE,
        )
        try:
            submission.start_job(Actor(_person(request)), job.id, order)
        except submission.SameFileError as error:
            extra = {"same_job": error.job, "again_as": AGAIN_SAMPLE if order.is_sample else "on"}
        except submission.SubmissionError as error:
            _add_refusal(form, error)
        else:
            return _see_other(detail)
    else:
        refusals.note_choice(choices, request.POST.get("key", ""), job)
    context = _context(request, _job_or_404(request, number), start_form=form)
    return _answer(request, context | extra, status=422)


def _add_refusal(form: StartForm, error: submission.SubmissionError) -> None:
    """A refusal of the service, at its field where the page has one."""
    if error.field == "max_credits":
        form.add_error(None, "The figures changed since you saw them. Look at them again, then press Start.")
    else:
        form.add_error(
            error.field if error.field in ("key", "purpose", "freshness_days") else None, error.message
        )


@post_only
@require_right(Right.SPEND)
def job_discard(request: HttpRequest, number: int) -> HttpResponse:
    """Throw a draft away; a job that was started meanwhile is shown instead."""
    job = submission.discard_draft(Actor(_person(request)), _job_or_404(request, number).id)
    if job.state != JobState.CANCELLED:
        return _see_other(reverse("enrichment:job_detail", args=[job.id]))
    messages.success(request, f"Draft “{job.name}” is discarded. Nothing was sent or paid.")
    return _see_other(reverse("enrichment:job_list"))


@require_safe
@require_right(Right.VIEW_JOBS)
def job_skipped(request: HttpRequest, number: int) -> HttpResponseBase:
    """The rows that are not asked, with the reason of each, as a CSV of the upload's own kind."""
    job = _job_or_404(request, number)
    skipped = selectors.RowFilter(state=RowState.SKIPPED)
    assert job.upload is not None
    stem = job.upload.name.rsplit(".", 1)[0] or "list"
    response = StreamingHttpResponse(
        exporting.export(job, "raw", skipped), content_type="text/csv; charset=utf-8"
    )
    response["Content-Disposition"] = content_disposition_header(True, f"{stem}-{job.id}-skipped.csv")
    return response
