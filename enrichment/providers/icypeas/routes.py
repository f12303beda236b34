"""Every route of Icypeas that we use: where it is, how often it may be called, whether it costs.

Paths are relative to the base URL, which ends in `/api`. The limits are the documented ones per account;
`interval_s` is the distance between two calls that keeps the safety margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Route:
    """One route. At most `limit_calls` calls in `limit_window_s` seconds are documented.

    `is_paid`: a call can cost credits, so a lost answer must not be asked for again.
    `is_read`: reads results of earlier calls; any refusal without a known reason is transient.
    `is_slow`: gets the longer total deadline (bulk submits and lead searches).
    `demands_success`: its 200 carries a `success` flag that must be true.
    `catch_up`: slots that nobody took in time and that may be taken late, within the safety margin.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    limit_calls: int
    limit_window_s: float
    is_paid: bool
    is_read: bool = False
    is_slow: bool = False
    demands_success: bool = True
    catch_up: int = 0


_ALL = (
    Route("email-search", "POST", "/email-search", 10, 1, is_paid=True),
    Route("email-verification", "POST", "/email-verification", 10, 1, is_paid=True),
    Route("domain-search", "POST", "/domain-search", 10, 1, is_paid=True),
    Route("bulk-search", "POST", "/bulk-search", 1, 1, is_paid=True, is_slow=True),
    # In any minute at most 24 slots, the one at its edge and two late ones: 27 of 30. The others may be late on the way.
    Route("items-read", "POST", "/bulk-single-searchs/read", 30, 60, is_paid=False, is_read=True, catch_up=2),
    Route("files-read", "POST", "/search-files/read", 15, 60, is_paid=False, is_read=True),
    # What a URL search costs is not published: it counts as paid.
    Route("url-search-profile", "POST", "/url-search/profile", 20, 1, is_paid=True),
    Route("url-search-company", "POST", "/url-search/company", 20, 1, is_paid=True),
    Route("url-search", "POST", "/url-search", 20, 1, is_paid=True),
    Route("reverse-email-lookup", "POST", "/reverse-email-lookup", 20, 1, is_paid=True),
    Route("reverse-email-lookups", "POST", "/reverse-email-lookups", 15, 1, is_paid=True),
    Route("scrape-profile", "GET", "/scrape/profile", 20, 1, is_paid=True),
    Route("scrape-company", "GET", "/scrape/company", 20, 1, is_paid=True),
    Route("scrape", "POST", "/scrape", 20, 1, is_paid=True),
    Route("find-people-count", "POST", "/find-people/count", 10, 1, is_paid=False),
    Route("find-people", "POST", "/find-people", 30, 1, is_paid=True, is_slow=True),
    Route("find-companies-count", "POST", "/find-companies/count", 10, 1, is_paid=False),
    Route("find-companies", "POST", "/find-companies", 30, 1, is_paid=True, is_slow=True),
    # No limit is published for this one; once a second is ours. Its answer is a flat object without a flag.
    Route(
        "subscription-information",
        "POST",
        "/a/actions/subscription-information",
        1,
        1,
        is_paid=False,
        demands_success=False,
    ),
)

ROUTES: dict[str, Route] = {route.name: route for route in _ALL}


def interval_s(route: Route, *, share: float = 0.8) -> float:
    """Seconds between two calls of one account that use `share` of the documented limit."""
    return route.limit_window_s / (route.limit_calls * share)
