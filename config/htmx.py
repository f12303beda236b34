"""The one module of `config` that apps may import: how a view tells a region from a page."""

from __future__ import annotations

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails


class HtmxHttpRequest(HttpRequest):
    """A request that went through `HtmxMiddleware`; annotate views with it."""

    htmx: HtmxDetails


def wants_partial(request: HtmxHttpRequest) -> bool:
    """True when the answer should be the region alone.

    Boosted links and history restores come with the HX-Request header too, but put the answer in place of the whole
    page. A view that switches on this must send `Vary: HX-Request`.
    """
    htmx = request.htmx
    return bool(htmx) and not htmx.boosted and not htmx.history_restore_request
