"""Why a call failed, with evidence; reached from the key's calls and from a job that is paused for it."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from enrichment import selectors
from enrichment.choices import JobState, PauseReason
from keys import calls, explainer
from keys.choices import Outcome
from keys.clock import db_now
from keys.models import Call, KeyRecord
from people.models import User
from people.permissions import require_right
from people.rights import Right

# Reasons that a call gave, and how such a call ended.
KEY_PAUSES = {
    PauseReason.KEY: (
        Outcome.VENDOR_401,
        Outcome.UNPAID,
        Outcome.POLICY_STATE,
        Outcome.POLICY_ENVIRONMENT,
        Outcome.SECRET_MISSING,
    ),
    PauseReason.POLICY: (Outcome.POLICY_SCOPE, Outcome.POLICY_BUDGET),
    PauseReason.PROVIDER: (Outcome.VENDOR_403, Outcome.UNPAID, Outcome.VENDOR_REJECTED),
    PauseReason.CREDITS: (Outcome.OUT_OF_CREDITS,),
}


@require_safe
@require_right(Right.VIEW_KEYS)
def call_why(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """The explanation of one failed call of a key."""
    failed = Call.objects.select_related("key__account", "key__owner").exclude(outcome=Outcome.OK)
    call = failed.filter(id=number, key__name=name).first()
    if call is None:
        key = get_object_or_404(KeyRecord, name=name)
        if not calls.is_forgotten(key, number):
            raise Http404
        context = {"key": key, "number": number, "kept_since": calls.kept_since()}
        return render(request, "enrichment/call_gone.html", context, status=410)
    return _page(request, explainer.explain(call))


def _page(request: HttpRequest, why: explainer.Explanation) -> HttpResponse:
    assert isinstance(request.user, User)
    key = why.call.key
    outcome = Outcome(why.call.outcome)
    reasons = [reason for reason, outcomes in KEY_PAUSES.items() if outcome in outcomes]
    is_told_to_account = outcome in explainer.TOLD_TO_ACCOUNT
    same = {"key__account": key.account_id} if is_told_to_account else {"key": key}
    paused = selectors.visible_to(request.user).filter(state=JobState.PAUSED, pause_reason__in=reasons)
    held_up = paused.filter(**same)
    context = {
        "why": why,
        "call": why.call,
        "key": key,
        "held_up": held_up[:10],
        "is_told_to_account": is_told_to_account,
        "outcome": outcome.label,
        "address": request.build_absolute_uri(),
    }
    return render(request, "enrichment/call_why.html", context)


@require_safe
@require_right(Right.VIEW_JOBS)
def job_why(request: HttpRequest, number: int) -> HttpResponse:
    """To the explanation of the call that paused a job, which another job may have made; of one that is not paused, of its
    last call that failed. To the job where there is none."""
    assert isinstance(request.user, User)
    job = get_object_or_404(selectors.visible_to(request.user).select_related("key__account"), id=number)
    if job.key is None:
        raise Http404
    here = HttpResponseRedirect(reverse("enrichment:job_detail", args=[job.id]))
    if not request.user.may(Right.VIEW_KEYS):
        return here
    outcomes = KEY_PAUSES.get(PauseReason(job.pause_reason)) if job.state == JobState.PAUSED else None
    at = job.paused_at or db_now()
    call = (
        explainer.call_that_stopped(job.id, job.key, outcomes, at=at)
        if outcomes
        else explainer.failed_calls(job.key, job.id)
    )
    if call is not None:
        return HttpResponseRedirect(reverse("enrichment:call_why", args=[call.key.name, call.id]))
    if outcomes and job.pause_reason == PauseReason.CREDITS:
        # Icypeas took the list and left rows undone for want of credits: no call failed.
        return _page(
            request,
            explainer.explain_pause(job.key, Outcome.OUT_OF_CREDITS, message=job.state_text, at=at),
        )
    if outcomes:
        messages.info(
            request, "No call is kept that explains this pause; the job's own story says what happened."
        )
    return here
