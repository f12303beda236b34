"""The uncertain batches of a job, and what a person decides about them."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from enrichment import selectors, uncertain_page
from enrichment.choices import RowState
from enrichment.job_page_forms import DecisionForm
from enrichment.models import EnrichmentJob
from enrichment.services import submission
from enrichment.services.decisions import Act, DecisionError
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right

# What costs is asked once more, as this question.
QUESTIONS = {Act.ACCEPT: "Accept {rows} as paid?", Act.SEND_AGAIN: "Send {rows} again?"}
DONE = {
    Act.LOOK_AGAIN: "Icypeas is asked again about {rows}. This is free; the job shows what comes of it.",
    Act.ACCEPT: "{rows} accepted as paid: {credits} credits are booked as charged.",
    Act.SEND_AGAIN: "{rows} are sent again. {credits} credits are booked as charged and as many are reserved anew.",
}


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SPEND)
def job_uncertain(request: HttpRequest, number: int) -> HttpResponse:
    """Choose batches, say why, and decide. What books credits is asked once more, with what it costs."""
    assert isinstance(request.user, User)
    job = get_object_or_404(selectors.visible_to(request.user), id=number)
    form = DecisionForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return _whole_page(request, job, form)
    act, chosen = form.cleaned_data["act"], form.cleaned_data["batches"]
    page = uncertain_page.page(job, chosen)
    rows = f"{page.rows:,} row{'' if page.rows == 1 else 's'}"
    if act in QUESTIONS and not form.cleaned_data["is_confirmed"] and page.lines:
        context = {
            "job": job,
            "job_number": f"#{job.id}",
            "page": page,
            "form": form,
            "address": _url(job),
            "act": act,
            "act_label": Act(act).label,
            "question": QUESTIONS[act].format(rows=rows),
        }
        return render(request, "enrichment/job_decide.html", context)
    try:
        submission.decide(Actor(request.user), job.id, act, chosen, reason=form.cleaned_data["reason"])
    except DecisionError as error:
        form.add_error(None, error.message)
        return _whole_page(request, job, form)
    messages.success(request, DONE[act].format(rows=rows, credits=f"{page.at_risk.normalize():,f}"))
    job.refresh_from_db()
    here = _url(job) if job.rows_uncertain else reverse("enrichment:job_detail", args=[job.id])
    return HttpResponseRedirect(here, status=303)


def _url(job: EnrichmentJob) -> str:
    return reverse("enrichment:job_uncertain", args=[job.id])


def _whole_page(request: HttpRequest, job: EnrichmentJob, form: DecisionForm) -> HttpResponse:
    assert isinstance(request.user, User)
    chosen = {str(one) for one in form.cleaned_data.get("batches", [])} if form.is_bound else None
    context = {
        "job": job,
        "job_number": f"#{job.id}",
        "page": uncertain_page.page(job),
        "form": form,
        "ticked": chosen,
        "address": _url(job),
        "may_see_rows": selectors.may_see_rows(request.user, job),
        "rows_url": f"{reverse('enrichment:job_detail', args=[job.id])}?state={RowState.UNCERTAIN}",
    }
    return render(request, "enrichment/job_uncertain.html", context, status=422 if form.is_bound else 200)
