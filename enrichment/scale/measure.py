"""Times of pages, as a browser on the same machine meets them: a web process, HTTP, a session."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from typing import Final

import httpx
from django.core.management.base import CommandError
from django.utils import timezone

from enrichment.scale.fill import READER, Filled

WARM: Final = 3
LATER: Final = 5  # the page that is opened by pressing *Next* so often
NEXT: Final = re.compile(r'href="([^"]+)" rel="next"')


@dataclass(frozen=True)
class Timing:
    """One page: milliseconds from the request to the last byte."""

    page: str
    url: str
    median_ms: float
    p95_ms: float
    slowest_ms: float
    kilobytes: int


def time_pages(port: int, filled: Filled, *, password: str, requests: int) -> list[Timing]:
    """Every page of keys, as the reader sees it who logs in with `password`."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        _enter(client, password)
        pages = _inventory(client) | _key_pages(client, filled)
        return [_time(client, page, url, requests) for page, url in pages.items()]


def _enter(client: httpx.Client, password: str) -> None:
    """Log in by the form, as a person does."""
    client.get("/login/")
    token = client.cookies["csrftoken"]
    form = {"username": READER, "password": password, "csrfmiddlewaretoken": token}
    answer = client.post("/login/", data=form, headers={"Referer": str(client.base_url)})
    if answer.status_code != 303:
        raise CommandError(f"The log-in answered {answer.status_code}.")


def _inventory(client: httpx.Client) -> dict[str, str]:
    list_url = "/keys/"
    return {
        "Inventory": list_url,
        "Inventory, a later page": _later(client, list_url),
        "Inventory, with findings": f"{list_url}?view=findings",
        "Inventory, unused": f"{list_url}?view=unused",
        "Inventory, environment and state": f"{list_url}?environment=prod&state=active",
        "Inventory, scope": f"{list_url}?scope=email-search:bulk",
        "Inventory, search": f"{list_url}?q=webinar",
    }


def _key_pages(client: httpx.Client, filled: Filled) -> dict[str, str]:
    heavy = f"/keys/{filled.heavy}/"
    calls = f"{heavy}calls/"
    today = timezone.localdate()
    return {
        "Key, a tenth of all calls": heavy,
        "Key, a tenth of all calls, chart of calls": f"{heavy}?chart=calls",
        "Key, a tenth of all calls, chart of errors": f"{heavy}?chart=errors",
        "Key, usual": f"/keys/{filled.usual}/",
        "Key, never used": f"/keys/{filled.unused}/",
        "Calls of the heaviest key": calls,
        "Calls, a later page": _later(client, calls),
        "Calls, those that did not go well": f"{calls}?outcome=failed",
        "Calls, an outcome that never came": f"{calls}?outcome=vendor_401",
        "Calls, a day of a month ago": f"{calls}?day={today - timedelta(days=30)}",
        "Calls, failed on a day of long ago": f"{calls}?outcome=failed&day={today - timedelta(days=150)}",
        "Calls, a scope": f"{calls}?scope=email-search:bulk",
        "Calls, a scope never used": f"{calls}?scope=domain-search:bulk",
        "Calls, a person": f"{calls}?person=Person+7",
    }


def _later(client: httpx.Client, url: str) -> str:
    """The address that *Next* leads to after some presses."""
    for _ in range(LATER):
        found = NEXT.search(_get(client, url).text)
        if found is None:
            break
        url = str(httpx.URL(url).join(unescape(found.group(1))))
    return url


def _get(client: httpx.Client, url: str) -> httpx.Response:
    try:
        answer = client.get(url)
    except httpx.HTTPError as error:  # a web process ends a request that takes half a minute
        raise CommandError(f"{url} was not answered: {error}") from error
    if answer.status_code != 200:
        raise CommandError(f"{url} answered {answer.status_code}.")
    return answer


def _time(client: httpx.Client, page: str, url: str, requests: int) -> Timing:
    for _ in range(WARM):
        answer = _get(client, url)
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        answer = _get(client, url)
        took.append((time.perf_counter() - began) * 1000)
    p95 = statistics.quantiles(took, n=20, method="inclusive")[-1]
    return Timing(
        page,
        url,
        round(statistics.median(took), 1),
        round(p95, 1),
        round(max(took), 1),
        len(answer.content) // 1024,
    )
