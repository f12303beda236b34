"""What the frame of every page shows: navigation, available credits, the sandbox strip."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from enrichment import selectors
from keys import findings as key_findings
from keys import selectors as key_selectors
from people import notices
from people.rights import Right


def _item(
    request: HttpRequest, label: str, name: str, icon: str, *, prefix: str = "", **extra: Any
) -> dict[str, Any]:
    url = reverse(name)
    is_current = request.path == url if url == "/" else request.path.startswith(prefix or url)
    return {"label": label, "url": url, "icon": icon, "is_current": is_current, **extra}


def frame(request: HttpRequest) -> dict[str, Any]:
    """`frame` for base.html; only the sandbox strip before the log-in. HTMX regions need none of it."""
    if getattr(request, "htmx", False) and not request.htmx.boosted:  # type: ignore[attr-defined]
        return {}
    shown: dict[str, Any] = {"is_sandbox": key_selectors.has_only_sandbox_money(), "theme": theme(request)}
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"frame": shown}
    # A paused job is not over and does not run: the words fit every job that is counted.
    unfinished = selectors.count_unfinished(user)
    main = [
        _item(request, "Overview", "enrichment:overview", "layout-dashboard"),
        _item(
            request,
            "Jobs",
            "enrichment:job_list",
            "list-checks",
            count=f"{unfinished} not finished" if unfinished else "",
        ),
        _item(request, "Look-up", "enrichment:lookup", "scan-search"),
        _item(request, "Leads", "enrichment:leads", "users"),
    ]
    groups = [{"label": "", "items": main}]
    if user.may(Right.VIEW_KEYS):
        findings = key_findings.count_findings()
        groups.append(
            {
                "label": "Access",
                "items": [
                    _item(
                        request,
                        "Keys",
                        "keys:key_list",
                        "key-round",
                        count=str(findings) if findings else "",
                        tone="warn" if findings else "",
                    )
                ],
            }
        )
    review = []
    if user.may(Right.VIEW_JOBS):
        review.append(_item(request, "Spend", "enrichment:spend", "wallet"))
    if user.may(Right.VIEW_ACTIVITY):
        review.append(_item(request, "Activity", "people:activity", "scroll-text"))
    review.append(_item(request, "People", "people:people", "users-round"))
    if review:
        groups.append({"label": "Review", "items": review})
    shown.update(
        nav=groups,
        available=key_selectors.shown_balance(),
        help_url=reverse("people:help"),
        unread=notices.count_unread(user),
        search_url=reverse("enrichment:job_list"),
        can_see_styleguide=user.may(Right.VIEW_STYLEGUIDE),
    )
    return {"frame": shown}


def theme(request: HttpRequest) -> str:
    """`light`, `dark` or "" (the system's), from the cookie that the theme form sets."""
    value = request.COOKIES.get("theme", "")
    return value if value in ("light", "dark") else ""
