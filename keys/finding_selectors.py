"""Reads for the page of all findings: the filter, its pages by due date, the fix of each finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from keys import finding_rules, findings
from keys.choices import FindingCode, Tone
from keys.clock import db_now
from keys.lifecycle import Step
from keys.models import Finding, KeyRecord
from people.models import User
from people.rights import Right
from people.selectors import everyone_with

PAGE = 50
VIEWS = {"": "Open", "mine": "Mine", "excepted": "Excepted"}
DUE = {"late": "Late", "week": "Within 7 days"}


@dataclass(frozen=True)
class FindingFilter:
    """Filter of the findings page; it is the address."""

    view: str = ""
    code: str = ""
    tone: str = ""
    owner: int | None = None
    due: str = ""
    search: str = ""

    @property
    def is_set(self) -> bool:
        return any((self.code, self.tone, self.owner, self.due, self.search))

    def address(self, *, after: str = "", **changes: Any) -> str:
        """The query string with some parts changed, without what is not set."""
        given = asdict(replace(self, **changes)) | {"after": after}
        given["q"] = given.pop("search")
        return "?" + urlencode({name: value for name, value in given.items() if value})


@dataclass(frozen=True)
class Fix:
    """The one thing that mends a finding: a page of ours."""

    label: str
    url: str
    needs_manage: bool = True


@dataclass(frozen=True)
class FindingLine:
    """A finding with who answers for it and as what, its fix, and the addresses of its exception."""

    finding: Finding
    who: str
    role: str
    is_late: bool
    fix: Fix | None
    exception_url: str
    end_url: str


@dataclass(frozen=True)
class Page:
    lines: Sequence[FindingLine]
    next_after: str

    @property
    def shown(self) -> str:
        count = len(self.lines)
        return f"{count} finding{'' if count == 1 else 's'} on this page"


# The page on which a finding is mended, and the field there. Tests are open to whoever may see keys, the rest is not.
FIXES = {
    FindingCode.OWNER: ("Choose an owner…", "keys:key_edit", "#id_owner"),
    FindingCode.OWNER_DISABLED: ("Choose an owner…", "keys:key_edit", "#id_owner"),
    FindingCode.DEPUTY: ("Choose a deputy…", "keys:key_edit", "#id_deputy"),
    FindingCode.DEPUTY_DISABLED: ("Choose a deputy…", "keys:key_edit", "#id_deputy"),
    FindingCode.ROTATION: ("Change the date…", "keys:key_edit", "#id_rotate_by"),
    FindingCode.EXPIRY: ("Renew…", "keys:key_renew", ""),
    FindingCode.SHARING: ("Change the reference…", "keys:key_edit", "#id_secret_ref"),
    FindingCode.SYSTEMS: ("Change the reference…", "keys:key_edit", "#id_secret_ref"),
    FindingCode.SECRET: (TEST := "Test this key…", "enrichment:key_test", ""),
    FindingCode.FINGERPRINT: (TEST, "enrichment:key_test", ""),
    FindingCode.ACCOUNT: (TEST, "enrichment:key_test", ""),
    FindingCode.WARNING: (TEST, "enrichment:key_test", ""),
    FindingCode.OUTCOME: (TEST, "enrichment:key_test", ""),
}


def fix_of(key: KeyRecord, finding: Finding) -> Fix | None:
    """The fix of a finding, where one exists."""
    code = FindingCode(finding.code)
    if code == FindingCode.SCOPE:
        label = "Remove scope…" if len(finding.scopes) == 1 else f"Remove {len(finding.scopes)} scopes…"
        return Fix(label, reverse("keys:scopes_remove", args=[key.name, finding.id]))
    if code == FindingCode.UNUSED:
        return Fix("Revoke…", reverse("keys:key_state", args=[key.name, Step.REVOKE.value]))
    if code == FindingCode.NAME and finding.tone == Tone.BAD:
        return Fix("Choose an account…", f"{reverse('keys:key_edit', args=[key.name])}#id_account")
    if code == FindingCode.NAME:
        return Fix("Rename…", reverse("keys:key_rename", args=[key.name]))
    if code not in FIXES:
        return None
    label, page, field = FIXES[code]
    return Fix(label, reverse(page, args=[key.name]) + field, needs_manage=label != TEST)


def lines_of(key: KeyRecord, found: Sequence[Finding]) -> list[FindingLine]:
    """Findings of one record, ready to be shown."""
    if not found:
        return []
    admins, today = _names(everyone_with(Right.MANAGE_KEYS)), db_now().date()
    return [_line(key, finding, admins, today) for finding in found]


def _line(key: KeyRecord, finding: Finding, admins: str, today: date) -> FindingLine:
    found = finding_rules.responsible(key, ())
    role = "key admins" if not found else "owner" if found[0] == key.owner else "deputy"
    where = [key.name, finding.id]
    return FindingLine(
        finding,
        found[0].name if found else admins or "nobody yet",
        role,
        finding.due < today,
        fix_of(key, finding),
        reverse("keys:finding_except", args=where),
        reverse("keys:finding_resume", args=where),
    )


def _names(people: QuerySet[User]) -> str:
    return ", ".join(people.order_by("name").values_list("name", flat=True)[:3])


def filter_findings(wanted: FindingFilter, user: User) -> QuerySet[Finding]:
    """Findings of one filter by due date, with their records."""
    rows = findings.open_findings() if wanted.view == "excepted" else findings.counted()
    rows = rows.filter(_view(wanted.view, user))
    if wanted.code:
        rows = rows.filter(code=wanted.code)
    if wanted.tone:
        rows = rows.filter(tone=wanted.tone)
    if wanted.owner:
        rows = rows.filter(key__owner_id=wanted.owner)
    today = db_now().date()
    if wanted.due == "late":
        rows = rows.filter(due__lt=today)
    elif wanted.due == "week":
        rows = rows.filter(due__gte=today, due__lte=today + timedelta(days=7))
    if wanted.search:
        rows = rows.filter(
            Q(key__name__icontains=wanted.search)
            | Q(title__icontains=wanted.search)
            | Q(key__owner__name__icontains=wanted.search)
        )
    return rows.select_related("key__owner", "key__deputy", "excepted_by").order_by("due", "id")


def _view(view: str, user: User) -> Q:
    if view == "mine":
        return Q(key__owner=user) | Q(key__deputy=user)
    return Q(excepted_until__isnull=view != "excepted")


def count_views(user: User) -> dict[str, int]:
    """Findings in each view, and the records that have open ones (`keys`)."""
    counts = Q(excepted_until__isnull=True)
    totals = (
        findings.open_findings()
        .order_by()
        .aggregate(
            open=Count("id", filter=counts),
            mine=Count("id", filter=counts & _view("mine", user)),
            excepted=Count("id", filter=~counts),
            keys=Count("key", filter=counts, distinct=True),
        )
    )
    return {"": totals.pop("open"), **totals}


def words_of_counts(counts: dict[str, int]) -> str:
    """ "12 findings on 7 keys"."""
    found, keys = counts[""], counts["keys"]
    return f"{found:,} finding{'' if found == 1 else 's'} on {keys:,} key{'' if keys == 1 else 's'}"


def list_page(wanted: FindingFilter, user: User, *, after: str = "", limit: int = PAGE) -> Page:
    """One page, in a fixed number of queries. `after` is what the page before ended with: its due date and id."""
    rows = filter_findings(wanted, user)
    place = _place(after)
    if place:
        due, number = place
        rows = rows.filter(Q(due__gt=due) | Q(due=due, id__gt=number))
    found = list(rows[: limit + 1])
    shown = found[:limit]
    admins, today = _names(everyone_with(Right.MANAGE_KEYS)), db_now().date()
    last = f"{shown[-1].due}.{shown[-1].id}" if len(found) > limit else ""
    return Page([_line(row.key, row, admins, today) for row in shown], last)


def _place(after: str) -> tuple[date, int] | None:
    day, _, number = after.partition(".")
    try:
        return (date.fromisoformat(day), int(number)) if after else None
    except ValueError:
        return None


def owners_with_findings() -> list[User]:
    """Owners of records with an open finding, for the filter."""
    owners = findings.open_findings().order_by().values("key__owner")
    return list(User.objects.filter(id__in=owners).order_by("name"))


def tabs(wanted: FindingFilter, counts: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "url": FindingFilter(view=view).address(),
            "count": counts[view],
            "is_current": view == wanted.view,
        }
        for view, label in VIEWS.items()
    ]


def _with(wanted: FindingFilter, name: str, value: Any) -> str:
    """The address of this filter with one field changed; None takes it out."""
    changes: Any = {name: value}
    return wanted.address(**changes)


def chips(wanted: FindingFilter, owners: Sequence[User]) -> list[dict[str, Any]]:
    """Each filter, set or with its choices."""
    choices: dict[str, tuple[str, list[tuple[Any, str]]]] = {
        "code": ("Finding", list(FindingCode.choices)),
        "tone": ("How bad", list(Tone.choices)),
        "owner": ("Owner", [(owner.id, owner.name) for owner in owners]),
        "due": ("Due", list(DUE.items())),
    }
    return [
        {
            "label": label,
            "value": dict(options).get(value, str(value)) if (value := getattr(wanted, name)) else "",
            "remove": _with(wanted, name, None),
            "options": [{"label": word, "url": _with(wanted, name, option)} for option, word in options],
        }
        for name, (label, options) in choices.items()
    ]


EXPORT_COLUMNS = (
    "key",
    "environment",
    "finding",
    "how bad",
    "title",
    "evidence",
    "owner",
    "deputy",
    "opened",
    "due",
    "times",
    "excepted until",
    "excepted by",
    "reason",
)


def export_rows(wanted: FindingFilter, user: User) -> Iterator[list[str]]:
    """Every finding of a filter as text cells."""
    for row in filter_findings(wanted, user).iterator(chunk_size=200):
        yield [
            row.key.name,
            row.key.environment,
            row.code,
            row.tone,
            row.title,
            row.evidence,
            row.key.owner.email if row.key.owner else "",
            row.key.deputy.email if row.key.deputy else "",
            timezone.localtime(row.opened_at).isoformat(timespec="seconds"),
            str(row.due),
            str(row.times),
            str(row.excepted_until or ""),
            row.excepted_by.email if row.excepted_by else "",
            row.exception_reason,
        ]
