"""Addresses that only change something: what a form sends there is taken, a reload leads back to the job."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods


def post_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A GET changes nothing and goes to the job, which sends a draft on to its review. A form that was refused leaves
    its address in the browser, and whoever reloads or keeps it should not meet a bare 405."""

    @wraps(view)
    def wrapper(request: HttpRequest, number: int, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return HttpResponseRedirect(reverse("enrichment:job_detail", args=[number]), status=303)
        return view(request, number, *args, **kwargs)

    return require_http_methods(["GET", "HEAD", "POST"])(wrapper)
