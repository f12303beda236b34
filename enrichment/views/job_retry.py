"""Rows of a finished job without an answer: send them again by reason, or correct their cells first."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from enrichment import retry_page, review_page, selectors
from enrichment.choices import JobState
from enrichment.forms import ChoiceForm
from enrichment.models import EnrichmentJob
from enrichment.services import attempts, submission
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SPEND)
def job_retry(request: HttpRequest, number: int) -> HttpResponse:
    """Choose reasons and send their rows again."""
    assert isinstance(request.user, User)
    job = get_object_or_404(selectors.visible_to(request.user), id=number)
    error = ""
    chosen = request.POST.getlist("reason")
    if request.method == "POST":
        if not chosen:
            error = "Choose at least one reason."
        else:
            try:
                job = submission.retry_rows(Actor(request.user), job.id, chosen)
            except attempts.AttemptError as refused:
                error = refused.message
            else:
                messages.success(
                    request,
                    f"Attempt {job.attempt} is queued. Rows that were answered or paid are not sent again.",
                )
                return _see_other(_job_url(job))
    context = {
        **_common(job),
        "page": retry_page.page(job),
        "error": error,
        "ticked": chosen if request.method == "POST" else None,
        "may_see_rows": selectors.may_see_rows(request.user, job),
    }
    return render(request, "enrichment/job_retry.html", context, status=422 if error else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SPEND)
def job_correct(request: HttpRequest, number: int, position: int) -> HttpResponse:
    """Put something in the place of a row's cells; then the next row of the same reason, or where they are listed: the
    review of a draft, or the page of reasons."""
    assert isinstance(request.user, User)
    job = get_object_or_404(selectors.visible_to(request.user), id=number)
    if not selectors.may_see_rows(request.user, job):
        raise PermissionDenied(
            f"The rows of job #{job.id} hold people's data, and your role sees those of your own team only. "
            f"{who_can(Right.VIEW_ALL_ROWS)} can open them."
        )
    is_draft = job.state == JobState.DRAFT
    back = reverse("enrichment:job_review" if is_draft else "enrichment:job_retry", args=[job.id])
    choice = _choice_of(request) if is_draft else {}
    if choice:
        back += f"?{urlencode(choice)}"
    if closed := attempts.why_closed(job):
        messages.warning(request, closed)
        return _see_other(_job_url(job))
    opened = retry_page.correction(job, position, request.GET.get("reason", "")[:40])
    if opened is None:
        if job.rows.filter(position=position).exists():
            messages.warning(request, f"Row {position:,} has an answer or waits for one: nothing to correct.")
            return _see_other(_job_url(job))
        raise Http404
    form = retry_page.inputs_form(job, opened.row, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            attempts.correct_row(Actor(request.user), job.id, position, form.cleaned_data["told"])
        except attempts.AttemptError as refused:
            form.add_error(None, refused.message)
        else:
            later = "It is asked when you start the job." if is_draft else "It is not sent yet."
            messages.success(request, f"Row {position:,} is corrected. {later}")
            if "next" in request.POST and opened.following:
                return _see_other(review_page.correct_url(job.id, opened.following, opened.code, choice))
            return _see_other(back)
    context = {**_common(job), "opened": opened, "form": form, "is_draft": is_draft, "back_url": back}
    return render(request, "enrichment/job_correct.html", context, status=422 if form.errors else 200)


def _choice_of(request: HttpRequest) -> dict[str, int]:
    """Key and freshness that were chosen on the review, as its address has them."""
    asked = ChoiceForm(request.GET)
    asked.is_valid()
    return {name: value for name, value in asked.cleaned_data.items() if value is not None}


def _common(job: EnrichmentJob) -> dict[str, object]:
    return {
        "job": job,
        "job_number": f"#{job.id}",
        "job_url": _job_url(job),
        "retry_url": reverse("enrichment:job_retry", args=[job.id]),
    }


def _job_url(job: EnrichmentJob) -> str:
    return reverse("enrichment:job_detail", args=[job.id])


def _see_other(url: str) -> HttpResponseRedirect:
    return HttpResponseRedirect(url, status=303)
