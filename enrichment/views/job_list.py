"""The history: every job that a person may see, by filters that stand in the address."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from config.htmx import HtmxHttpRequest, wants_partial
from enrichment import job_list_page, selectors
from enrichment.forms import JobFilterForm
from people.models import User
from people.permissions import require_right
from people.rights import Right
from people.selectors import who_can


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the log-in middleware let nobody else through
    return request.user


@require_safe
@require_right(Right.VIEW_JOBS)
def job_list(request: HtmxHttpRequest) -> HttpResponse:
    """Views, filters, totals of exactly this filter, and a page of jobs; the region alone for HTMX."""
    person = _person(request)
    people = selectors.job_people(person)
    form = JobFilterForm(request.GET, people)
    wanted = form.wanted()
    jobs = selectors.filter_jobs(person, wanted)
    totals = selectors.totals(jobs)
    counts = selectors.count_views(person)
    context = {
        "wanted": wanted,
        "totals": totals,
        "notes": job_list_page.total_notes(totals),
        "page": job_list_page.job_page(
            selectors.list_jobs(jobs, before_id=form.before_id, after_id=form.after_id),
            wanted,
            before_id=form.before_id,
            after_id=form.after_id,
            total=totals.jobs,
        ),
        "tabs": job_list_page.tabs(wanted, counts),
        "chips": job_list_page.chips(wanted, people),
        "kept": job_list_page.kept(wanted),
        "clear": job_list_page.address(selectors.JobFilter(view=wanted.view)) if wanted.is_set else "",
        "filter_words": job_list_page.filter_words(wanted, people),
        "without_filter": counts[wanted.view],
        "is_first_day": not any(counts.values()),
        "may_spend": person.may(Right.SPEND),
        "who_spends": who_can(Right.SPEND),
    }
    is_region = wants_partial(request)
    response = render(request, f"enrichment/{'partials/jobs' if is_region else 'job_list'}.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response
