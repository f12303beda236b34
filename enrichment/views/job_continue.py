"""From a finished job to the next operation with its rows."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from enrichment import operations, prices, selectors
from enrichment.csv_import import UploadError
from enrichment.lead_forms import GoOnForm
from enrichment.services import chains, submission
from people.audit import Actor
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


@require_http_methods(["GET", "HEAD", "POST"])
@require_right(Right.SPEND)
def job_continue(request: HttpRequest, number: int) -> HttpResponseBase:
    """Which operation, and with which rows? A POST makes the checked draft and leads to its review."""
    assert isinstance(request.user, User)
    job = get_object_or_404(selectors.visible_to(request.user), id=number)
    if not job.is_finished or job.upload is None:
        raise Http404
    if not selectors.may_see_rows(request.user, job):
        raise PermissionDenied(
            f"The rows of job #{job.id} hold people's data, and your role sees those of your own team only. "
            f"{who_can(Right.VIEW_ALL_ROWS)} can open them."
        )
    offers = chains.offers(job)
    good = chains.good_rows(job).count()
    chosen = operations.get(job.operation)
    label = f"with {chosen.answer_words}" if chosen.answer_noun else f"that are {chosen.found_label.lower()}"
    initial = {"operation": request.GET.get("operation", ""), "rows": "good" if good else "all"}
    data = request.POST if request.method == "POST" else None
    form = GoOnForm(offers, good, job.rows_total, label, data, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            draft = chains.go_on(
                Actor(request.user),
                job,
                form.cleaned_data["operation"],
                only_good=form.cleaned_data["rows"] == "good",
            )
        except (submission.SubmissionError, UploadError) as error:
            form.add_error(None, error.message)
        else:
            return HttpResponseRedirect(reverse("enrichment:job_review", args=[draft.id]), status=303)
    realm = prices.shown_realm()
    context = {
        "job": job,
        "form": form,
        "offers": [(offer, prices.price_of(offer.operation, realm)) for offer in offers],
    }
    return render(request, "enrichment/job_continue.html", context, status=422 if form.errors else 200)
