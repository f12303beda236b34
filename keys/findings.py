"""Findings as they are kept: compared with the rules, counted, excepted for a while.

`refresh` is the one writer. The sweep has it look at every record once a minute; whoever changes a record has it look at that
one at once. Pages, counts, filters and exports read what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Prefetch, Q, QuerySet, prefetch_related_objects
from django.urls import reverse
from django.utils import timezone

from keys import finding_rules
from keys.choices import SEVERITY, FindingCode, Tone
from keys.clock import db_now
from keys.finding_rules import DUE_SOON, Found, words_of_day, words_of_days
from keys.models import Finding, KeyRecord
from people import chores, notices
from people.rights import Right
from people.selectors import everyone_with

__all__ = ("DUE_SOON", "words_of_day", "words_of_days")

EVERY = timedelta(minutes=1)  # the sweep looks at all records no more often
DUE_IN = {Tone.BAD: timedelta(days=7), Tone.WARN: timedelta(days=30)}  # where the record gives no date
SEEN_EVERY = timedelta(hours=1)
TEXTS = ("tone", "title", "evidence", "scopes", "due")
# What the columns of its end and its exception hold while a finding is open and counts.
OPEN: dict[str, Any] = {
    "closed_at": None,
    "excepted_until": None,
    "excepted_by": None,
    "excepted_at": None,
    "exception_reason": "",
}
# Reminders tell of these, threshold by threshold, so a notice of the finding would be the second of the same.
REMINDED = (FindingCode.ROTATION, FindingCode.EXPIRY)


def sweep(now: datetime | None = None) -> bool:
    """Look at every record, if nobody did within the last minute."""
    now = now or db_now()
    if not chores.claim("findings", every=EVERY, now=now):
        return False
    refresh(now=now)
    return True


def refresh(key_ids: Iterable[int] | None = None, *, now: datetime | None = None) -> int:
    """Bring the stored findings of these records, or of all, up to date; how many records had something to write.

    Everything is read before anything is written, and only differences are. A record that was changed in between is left
    to whoever changed it; twice, or twice at the same time, is the same as once.
    """
    now = now or db_now()
    records = KeyRecord.objects.select_related("account", "owner", "deputy")
    if key_ids is not None:
        records = records.filter(id__in=list(key_ids))
    keys = list(records.order_by("id"))
    if not keys:
        return 0
    facts = finding_rules.read(keys, now)
    stored = _stored(None if key_ids is None else keys)
    compared = [_Change(key, facts, stored.get(key.id, {})) for key in keys]
    changes = [change for change in compared if change.is_one]
    if changes:
        _write(changes, now)
    seen = Finding.objects.filter(closed_at__isnull=True, seen_at__lt=now - SEEN_EVERY)
    if key_ids is not None:
        seen = seen.filter(key__in=keys)
    if seen.exists():
        seen.update(seen_at=now)
    return len(changes)


def _stored(keys: Sequence[KeyRecord] | None) -> dict[int, dict[str, Finding]]:
    """The rows of each record by code; None: of all."""
    rows = Finding.objects.all() if keys is None else Finding.objects.filter(key__in=keys)
    found: dict[int, dict[str, Finding]] = {}
    for row in rows:
        found.setdefault(row.key_id, {})[row.code] = row
    return found


class _Change:
    """What has to be written about one record."""

    def __init__(self, key: KeyRecord, facts: finding_rules.Facts, stored: Mapping[str, Finding]) -> None:
        self.key, self.now, self.today = key, facts.now, facts.today
        self.new: list[Finding] = []
        self.again: list[Finding] = []  # came back, or their exception is over
        self.other: list[Finding] = []  # say something else now
        self.news: list[Finding] = []  # began, or became bad
        wanted = {one.code.value: one for one in finding_rules.findings_in(key, facts)}
        for code, one in wanted.items():
            self._take(one, stored.get(code))
        self.over = [row for code, row in stored.items() if row.closed_at is None and code not in wanted]
        counted = [SEVERITY[one.tone] for code, one in wanted.items() if not self._rests(stored.get(code))]
        self.severity = max(counted, default=0)

    @property
    def is_one(self) -> bool:
        return any((self.new, self.again, self.other, self.over)) or self.severity != self.key.severity

    def _rests(self, row: Finding | None) -> bool:
        """An exception of it runs."""
        return bool(row and row.excepted_until and row.excepted_until >= self.today)

    def _take(self, one: Found, row: Finding | None) -> None:
        if row is None:
            row = Finding(key=self.key, code=one.code, opened_at=self.now, seen_at=self.now)
            self.new.append(row)
            self.news.append(row)
            _say(row, one)
        elif row.closed_at is not None or (row.excepted_until and not self._rests(row)):
            row.opened_at = row.seen_at = self.now
            row.times += 1
            for name, value in OPEN.items():
                setattr(row, name, value)
            self.again.append(row)
            self.news.append(row)
            _say(row, one)
        else:
            before = [getattr(row, name) for name in TEXTS]
            _say(row, one)
            if before != [getattr(row, name) for name in TEXTS]:
                self.other.append(row)
            if before[0] != row.tone:
                self.news.append(row)


def _say(row: Finding, one: Found) -> None:
    row.tone, row.title, row.evidence = one.tone.value, one.title[:200], one.evidence[:600]
    row.scopes = list(one.scopes)
    row.due = one.due or (row.opened_at.astimezone(UTC) + DUE_IN[one.tone]).date()


def _write(changes: Sequence[_Change], now: datetime) -> None:
    """All differences in one short transaction. Whoever writes about a record holds its row first."""
    with transaction.atomic():
        records = KeyRecord.objects.filter(id__in=[change.key.id for change in changes]).order_by("id")
        held = dict(records.select_for_update(no_key=True).values_list("id", "updated_at"))
        live = [change for change in changes if held.get(change.key.id) == change.key.updated_at]
        # What another looked at in the same moment is there already, and stays as that one wrote it.
        Finding.objects.bulk_create([row for each in live for row in each.new], ignore_conflicts=True)
        Finding.objects.bulk_update([row for each in live for row in each.other], TEXTS)
        again = {row.id: row for each in live for row in each.again}
        times = dict(Finding.objects.filter(id__in=again).values_list("id", "times")) if again else {}
        back = [row for number, row in again.items() if times[number] == row.times - 1]
        Finding.objects.bulk_update(back, [*TEXTS, *OPEN, "opened_at", "seen_at", "times"])
        over = [row.id for each in live for row in each.over]
        Finding.objects.filter(id__in=over, closed_at__isnull=True).update(**{**OPEN, "closed_at": now})
        store_severity([each.key.id for each in live])
        _tell(live)


def store_severity(key_ids: Sequence[int]) -> None:
    """Write down how bad the worst finding of each record is that counts."""
    worst = {
        number: SEVERITY[Tone.BAD] if is_bad else SEVERITY[Tone.WARN]
        for number, is_bad in counted()
        .filter(key__in=key_ids)
        .order_by()
        .values_list("key")
        .annotate(bad=Count("id", filter=Q(tone=Tone.BAD)))
    }
    for severity in (0, *SEVERITY.values()):
        ids = [number for number in key_ids if worst.get(number, 0) == severity]
        KeyRecord.objects.filter(id__in=ids).exclude(severity=severity).update(severity=severity)


def _tell(changes: Sequence[_Change]) -> None:
    """Whoever answers for a record hears once of each bad finding that began."""
    rows = [(each.key, row) for each in changes for row in each.news if row.tone == Tone.BAD]
    rows = [(key, row) for key, row in rows if row.code not in REMINDED and not row.excepted_until]
    if not rows:
        return
    admins = list(everyone_with(Right.MANAGE_KEYS))
    notices.tell(
        [
            notices.News(
                finding_rules.responsible(key, admins),
                kind="finding",
                dedupe=f"finding:{key.id}:{row.code}:{row.times}",
                title=f"{key.name}: {row.title}",
                text=f"{row.evidence} Due {words_of_day(row.due)}.",
                url=reverse("keys:key_detail", args=[key.name]),
            )
            for key, row in rows
        ]
    )


def open_findings() -> QuerySet[Finding]:
    """Everything that was found and is not over, also what is excepted; by due date."""
    return Finding.objects.filter(closed_at__isnull=True).order_by("due", "id")


def counted() -> QuerySet[Finding]:
    """Open findings without an exception: what every count counts."""
    return open_findings().filter(excepted_until__isnull=True)


def with_findings(keys: QuerySet[KeyRecord]) -> QuerySet[KeyRecord]:
    """Read the open findings with the records, in one query more."""
    rows = open_findings().select_related("excepted_by")
    return keys.prefetch_related(Prefetch("findings", queryset=rows, to_attr="open_findings"))


def _open_of(key: KeyRecord) -> list[Finding]:
    if not hasattr(key, "open_findings"):
        prefetch_related_objects(
            [key],
            Prefetch("findings", open_findings().select_related("excepted_by"), to_attr="open_findings"),
        )
    found: list[Finding] = key.open_findings  # type: ignore[attr-defined]  # the prefetch above
    return found


def findings_of(key: KeyRecord) -> list[Finding]:
    """What counts, worst first, then by due date."""
    rows = [row for row in _open_of(key) if not row.excepted_until]
    return sorted(rows, key=lambda row: (row.tone != Tone.BAD, row.due, row.id))


def excepted_of(key: KeyRecord) -> list[Finding]:
    """What is excepted for a while, by the end of that."""
    return sorted(
        (row for row in _open_of(key) if row.excepted_until), key=lambda row: (row.excepted_until, row.id)
    )


def has_finding(code: str) -> Exists:
    """A condition on records: a finding of that code counts."""
    return Exists(counted().filter(key=OuterRef("pk"), code=code))


def is_unused(days: int | None = None) -> Q:
    """Not used for so many days (`UNUSED_DAYS` where none are told), or never in so long a life, and usable all the while."""
    long_ago = timezone.now() - timedelta(days=settings.UNUSED_DAYS if days is None else days)
    idle = Q(last_used_at__lt=long_ago) | Q(last_used_at__isnull=True, created_at__lt=long_ago)
    return idle & (Q(usable_since__isnull=True) | Q(usable_since__lt=long_ago))


def count_findings() -> int:
    """Key records with a finding: the number beside Keys in the navigation."""
    return KeyRecord.objects.filter(severity__gt=0).count()
