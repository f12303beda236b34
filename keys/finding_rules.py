"""What is a finding: the one place that says it. Everything is read first, for many records at once; the rules ask nothing.

Days are counted in UTC, so that a finding does not depend on who looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from django.conf import settings

from keys import presence
from keys.choices import POLICY_OUTCOMES, USABLE_STATES, FindingCode, KeyState, Outcome, Realm, Tone
from keys.models import CallHour, KeyRecord, Presence
from people.models import User

DUE_SOON = timedelta(days=14)
SCOPE_UNUSED = timedelta(days=90)  # so long without a call makes a granted scope an unused one
# Outcomes that say the secret or the account is the trouble.
KEY_TROUBLE = (Outcome.VENDOR_401, Outcome.VENDOR_403, Outcome.UNPAID)


@dataclass(frozen=True)
class Found:
    """A finding as the rules give it. `due` is a date of the record itself; without one the day of opening decides."""

    code: FindingCode
    tone: Tone
    title: str
    evidence: str
    due: date | None = None
    scopes: Sequence[str] = ()


@dataclass(frozen=True)
class Other:
    """What the rules must know of the records beside the one they look at."""

    name: str
    environment: str
    system: str


@dataclass
class Facts:
    """Everything that was read, for all records at once."""

    now: datetime
    workers: int = 0
    sights: dict[str, list[Presence]] = field(default_factory=dict)  # by reference, of living workers
    marks: dict[str, set[str]] = field(default_factory=dict)  # fingerprints by reference, of all workers
    holders: dict[str, list[Other]] = field(default_factory=dict)  # records by reference, and by fingerprint
    references: dict[int, set[str]] = field(default_factory=dict)  # by account
    used_scopes: dict[int, set[str]] = field(default_factory=dict)  # by record

    @property
    def today(self) -> date:
        return self.now.astimezone(UTC).date()


def read(keys: Sequence[KeyRecord], now: datetime) -> Facts:
    """The facts about these records, in as many queries for a thousand as for one."""
    facts = Facts(now)
    living = set(presence.living_workers(presence.SURE_WITHIN).values_list("name", flat=True))
    facts.workers = len(living)
    for sight in Presence.objects.order_by("worker"):
        if sight.fingerprint:
            facts.marks.setdefault(sight.reference, set()).add(sight.fingerprint)
        if sight.worker in living and sight.seen_at >= now - presence.HOLDS_FOR:
            facts.sights.setdefault(sight.reference, []).append(sight)
    others = KeyRecord.objects.exclude(state=KeyState.REVOKED).order_by("name")
    for name, environment, system, reference, account in others.values_list(
        "name", "environment", "system", "secret_ref", "account_id"
    ):
        facts.references.setdefault(account, set()).add(reference)
        for mark in (reference, *facts.marks.get(reference, ())) if reference else ():
            facts.holders.setdefault(mark, []).append(Other(name, environment, system))
    facts.used_scopes = used_scopes([key.id for key in keys], now - SCOPE_UNUSED)
    return facts


def used_scopes(key_ids: Sequence[int], since: datetime) -> dict[int, set[str]]:
    """The scopes that each record used since then, from the hourly sums."""
    calls = CallHour.objects.filter(hour__gte=since).exclude(outcome__in=POLICY_OUTCOMES).order_by()
    if len(key_ids) <= 50:  # a few records by their index; for all of them in one go
        calls = calls.filter(key_id__in=key_ids)
    found: dict[int, set[str]] = {}
    for key_id, scope in calls.values_list("key_id", "scope").distinct():
        found.setdefault(key_id, set()).add(scope)
    return found


def findings_in(key: KeyRecord, facts: Facts) -> list[Found]:
    """All findings of a record: at most one a code."""
    if key.state == KeyState.REVOKED:
        return []
    found = [*_owner(key), *_name(key), *_expiry(key, facts)]
    if key.state in USABLE_STATES:
        found += [*_let_in(key), *_deputy(key), *_secret(key, facts), *_account(key, facts)]
        found += [*_sharing(key, facts), *_rotation(key, facts), *_use(key, facts)]
    return found


def _owner(key: KeyRecord) -> Iterator[Found]:
    if key.owner is None:
        yield Found(FindingCode.OWNER, Tone.BAD, "No owner", "Nobody answers for this key.")
    elif not key.owner.is_active:
        evidence = f"{key.owner.name} cannot log in any more, so nobody answers for this key."
        yield Found(FindingCode.OWNER_DISABLED, Tone.BAD, "Owner disabled", evidence)


def _deputy(key: KeyRecord) -> Iterator[Found]:
    if key.deputy is None:
        if key.environment not in settings.RELAXED_ENVIRONMENTS:
            yield Found(FindingCode.DEPUTY, Tone.WARN, "No deputy", "Nobody stands in for the owner.")
    elif not key.deputy.is_active:
        evidence = f"{key.deputy.name} cannot log in any more, so nobody stands in for the owner."
        yield Found(FindingCode.DEPUTY_DISABLED, Tone.WARN, "Deputy disabled", evidence)


def _name(key: KeyRecord) -> Iterator[Found]:
    """The name against the record's parts, environment and account."""
    wrong = []
    built = f"{key.environment}_{key.system}_{key.label}"
    strange = [
        word for word in key.name.split("_") if word in settings.KEY_ENVIRONMENTS and word != key.environment
    ]
    if strange:
        wrong.append(f"The name says {strange[0]}, and the record belongs to {key.environment}.")
    elif key.name != built:
        wrong.append(f"From environment, system and owner part the name would be {built}.")
    tone = Tone.WARN
    if (key.environment == Realm.SANDBOX) != (key.account.realm == Realm.SANDBOX):
        tone = Tone.BAD
        wrong.append(
            f"{key.account.name} is a {key.account.realm} account, so a {key.environment} key lets nothing out there."
        )
    if wrong:
        title = "Name and environment disagree" if strange else "Name and record disagree"
        title = "Environment and account disagree" if tone == Tone.BAD else title
        yield Found(FindingCode.NAME, tone, title, " ".join(wrong))


def _let_in(key: KeyRecord) -> Iterator[Found]:
    """Calls that say nothing of the key, such as one that did not connect, leave open what the last one said that did."""
    if key.let_in_outcome not in KEY_TROUBLE:
        return
    said = Outcome(key.let_in_outcome).label
    since = f" since {words_of_day(key.let_in_at.date())}, {key.let_in_at:%H:%M} UTC" if key.let_in_at else ""
    evidence = f"Icypeas says so{since}. Jobs with this key pause until it is mended."
    yield Found(FindingCode.OUTCOME, Tone.BAD, f"{said[0].upper()}{said[1:]}", evidence)


def _secret(key: KeyRecord, facts: Facts) -> Iterator[Found]:
    """What the living workers find at the reference, and at that of the API secret where the account uses it. Of two that are
    the same trouble the key's own is told."""
    account = key.account
    found = {one.code: one for one in _place(key.secret_ref, "secret", facts)}
    if account.signs_requests or account.hook_token:
        for one in _place(account.api_secret_ref, "API secret", facts):
            found.setdefault(one.code, one)
    yield from found.values()


def _place(reference: str, noun: str, facts: Facts) -> Iterator[Found]:
    """What is wrong at one reference. `noun` is what should stand there."""
    sights = facts.sights.get(reference, [])
    missing = [sight for sight in sights if sight.problem]
    if missing:
        count = facts.workers
        who = (
            "No worker finds"
            if len(missing) == len(sights)
            else f"{len(missing)} of {count} workers {'does' if len(missing) == 1 else 'do'} not find"
        )
        since = min(sight.changed_at for sight in missing)
        article = "an" if noun[0] in "AEIOU" else "a"
        evidence = (
            f"{who} {article} {noun} at {reference}, since {words_of_day(since.date())}, {since:%H:%M} UTC."
        )
        yield Found(FindingCode.SECRET, Tone.BAD, f"{noun[0].upper()}{noun[1:]} not found", evidence)
    marks = sorted({sight.fingerprint for sight in sights if sight.fingerprint})
    if len(marks) > 1:
        evidence = f"It depends on the worker which {noun} stands at {reference}: {', '.join(marks[:4])}."
        yield Found(FindingCode.FINGERPRINT, Tone.BAD, f"The workers hold different {noun}s", evidence)
    warnings = list(dict.fromkeys(warning for sight in sights for warning in sight.warnings))
    if warnings:
        first = warnings[0].partition(":")[0].rstrip(".")
        title = first if len(warnings) == 1 else f"{len(warnings)} warnings about the {noun}"
        yield Found(FindingCode.WARNING, Tone.WARN, title, f"At {reference}: {' '.join(warnings)}")


def _account(key: KeyRecord, facts: Facts) -> Iterator[Found]:
    """An account has one secret, so every reference to it should hold the same."""

    def held(reference: str) -> set[str]:
        return {sight.fingerprint for sight in facts.sights.get(reference, []) if sight.fingerprint}

    mine = held(key.secret_ref)
    rivals = sorted(
        reference
        for reference in facts.references.get(key.account_id, ())
        if reference != key.secret_ref and mine and held(reference) and not held(reference) & mine
    )
    if rivals:
        evidence = (
            f"{key.secret_ref} holds {_list(sorted(mine))}, {rivals[0]} holds {_list(sorted(held(rivals[0])))}. "
            f"Icypeas knows one secret of {key.account.name}, so one of them is old or belongs elsewhere."
        )
        yield Found(FindingCode.ACCOUNT, Tone.BAD, "Two secrets on one account", evidence)


def _sharing(key: KeyRecord, facts: Facts) -> Iterator[Found]:
    """Other records of the same reference, or that hold the same secret by what workers found last."""
    marks = (key.secret_ref, *facts.marks.get(key.secret_ref, ()))
    others = {other.name: other for mark in marks for other in facts.holders.get(mark, ())}
    others.pop(key.name, None)
    elsewhere = sorted(name for name, other in others.items() if other.environment != key.environment)
    if elsewhere:
        holds = "holds" if len(elsewhere) == 1 else "hold"
        evidence = f"{_list(elsewhere)} {holds} the same secret: what leaks there opens this."
        yield Found(FindingCode.SHARING, Tone.BAD, "Secret shared across environments", evidence)
    systems = sorted(
        name
        for name, other in others.items()
        if other.environment == key.environment and other.system != key.system
    )
    if systems and settings.FLAG_SHARED_SYSTEMS:
        holds = "holds" if len(systems) == 1 else "hold"
        evidence = f"{_list(systems)} {holds} the same secret; each system should have its own."
        yield Found(FindingCode.SYSTEMS, Tone.WARN, "Secret shared across systems", evidence)


def _rotation(key: KeyRecord, facts: Facts) -> Iterator[Found]:
    days = (key.rotate_by - facts.today).days
    if days < 0:
        title = f"Rotation is {words_of_days(-days)} late"
        evidence = f"It was due on {words_of_day(key.rotate_by)}."
        yield Found(FindingCode.ROTATION, Tone.BAD, title, evidence, key.rotate_by)
    elif days <= DUE_SOON.days:
        title = "Rotation is due today" if days == 0 else f"Rotation is due in {words_of_days(days)}"
        evidence = f"This key is rotated every {words_of_days(key.rotation_days)}."
        yield Found(FindingCode.ROTATION, Tone.WARN, title, evidence, key.rotate_by)


def _expiry(key: KeyRecord, facts: Facts) -> Iterator[Found]:
    if key.expires_at is None or key.state not in (*USABLE_STATES, KeyState.EXPIRED):
        return
    left = (key.expires_at - facts.today).days
    if left < 0:
        evidence = f"Its last day was {words_of_day(key.expires_at)}; it lets nothing out."
        yield Found(
            FindingCode.EXPIRY, Tone.BAD, f"Expired {words_of_days(-left)} ago", evidence, key.expires_at
        )
    elif left <= DUE_SOON.days:
        evidence = f"Its last day is {words_of_day(key.expires_at)}; after it, it lets nothing out."
        title = "Expires today" if left == 0 else f"Expires in {words_of_days(left)}"
        yield Found(FindingCode.EXPIRY, Tone.WARN, title, evidence, key.expires_at)


def _use(key: KeyRecord, facts: Facts) -> Iterator[Found]:
    """Dormancy of the record, and of scopes of a record that is used otherwise."""
    used = facts.used_scopes.get(key.id, set())
    old_enough = facts.today - timedelta(days=settings.UNUSED_DAYS)
    # Nobody could use it before it let calls out, so that time is no rest.
    usable = key.usable_since
    could_be_used = usable is None or usable.date() <= old_enough
    unused = [scope for scope in key.scopes if scope not in used and granted_on(key, scope) <= old_enough]
    unused = unused if could_be_used else []
    idle_since = max(filter(None, (key.last_used_at or key.created_at, usable)))
    is_idle = idle_since < facts.now - timedelta(days=settings.UNUSED_DAYS)
    if is_idle:
        last = (
            f"Last used on {words_of_day(key.last_used_at.date())}"
            if key.last_used_at
            else f"Never used through this app since it was made on {words_of_day(key.created_at.date())}"
        )
        if idle_since == usable:
            last += f"; it lets calls out since {words_of_day(usable.date())}"
        title = f"Not used for {words_of_days((facts.now - idle_since).days)}"
        advice = (
            "It was in use before it was recorded here, so ask its owner what still uses it before it is revoked."
            if key.was_used_before and not key.last_used_at
            else "Revoke what nobody needs."
        )
        yield Found(FindingCode.UNUSED, Tone.WARN, title, f"{last}. {advice}")
    # A record that rests as a whole is one finding, not one more for its scopes.
    if unused and not (is_idle and len(unused) == len(key.scopes)):
        is_one = len(unused) == 1
        title = f"Scope never used: {unused[0]}" if is_one else f"{len(unused)} scopes never used"
        since = min(granted_on(key, scope) for scope in unused)
        named = "Granted" if is_one else f"{_list(unused)}: the first granted"
        span = "since" if facts.today - since < SCOPE_UNUSED else f"in {SCOPE_UNUSED.days} days"
        evidence = f"{named} {words_of_day(since)}, no call {span}. Removing {'it' if is_one else 'them'} stops nothing."
        yield Found(FindingCode.SCOPE, Tone.WARN, title, evidence, scopes=tuple(unused))


def granted_on(key: KeyRecord, scope: str) -> date:
    """The day on which the record got that scope."""
    day = key.scopes_since.get(scope)
    return date.fromisoformat(day) if day else key.created_at.date()


def responsible(key: KeyRecord, admins: Iterable[User]) -> list[User]:
    """Who answers for a finding: the owner, else the deputy, else all key admins."""
    for person in (key.owner, key.deputy):
        if person is not None and person.is_active:
            return [person]
    return list(admins)


def _list(words: Sequence[str], most: int = 4) -> str:
    """ "a, b and 3 more"."""
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"


def words_of_days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def words_of_day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"
