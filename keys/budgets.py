"""Monthly budgets of teams and keys: what was set, what counts against it, and the notices at 50, 80 and 100 %.

What counts in a month is what was reserved in it, in the team's time zone, less what was given back of that: so it never
exceeds a budget, whatever is charged later. Realms never mix.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from keys.clock import db_now
from keys.counted import counted
from keys.models import Budget, BudgetNotice, KeyRecord, LedgerEntry
from people import audit, notices
from people.models import Team
from people.rights import Right
from people.selectors import everyone_with, who_can

ZERO = Decimal(0)
THRESHOLDS = (50, 80, 100)  # percent of the budget that is reserved or charged


@dataclass(frozen=True)
class Standing:
    """One budget in one month. `credits` is what was set, `committed` is reserved or charged, `charged` the part of it
    that is paid. `notices` are the thresholds that were reached, each with its time."""

    budget: Budget
    month: date
    credits: Decimal
    committed: Decimal
    charged: Decimal
    notices: tuple[tuple[int, datetime], ...] = ()

    @property
    def left(self) -> Decimal:
        return max(self.credits - self.committed, ZERO)

    @property
    def percent(self) -> Decimal:
        return self.committed * 100 / self.credits if self.credits else Decimal(100)

    @property
    def name(self) -> str:
        """ "the budget of RevOps for November 2026"."""
        return f"the budget of {self.budget.owner} for {self.month:%B %Y}"


def zone_of(budget: Budget) -> ZoneInfo:
    """Months are the team's: a key's are those of its team, or its own where it has none."""
    team = budget.team or (budget.key.team if budget.key else None)
    return ZoneInfo(team.time_zone if team else budget.key.time_zone if budget.key else "UTC")


def month_of(budget: Budget, at: datetime) -> date:
    """The first day of the month at that moment, where the budget counts it."""
    return at.astimezone(zone_of(budget)).date().replace(day=1)


def for_key(key: KeyRecord) -> list[Budget]:
    """The budgets that a job of this key burns now: its team's in the key's realm, and the key's own."""
    burdened = Q(key=key)
    if key.team_id:
        burdened |= Q(team=key.team_id, realm=key.account.realm)
    begun = _begun(Budget.objects.filter(burdened))
    of_team = next((budget for budget in begun if budget.team_id), None)
    own = next((budget for budget in begun if budget.key_id), None)
    found = (of_team, own)
    return [budget for budget in found if budget is not None and budget.credits is not None]


def _begun(budgets: QuerySet[Budget], month: date | None = None) -> list[Budget]:
    """Those that have begun in a month (now unless told), the latest first, a correction before what it corrects: the first
    of an owner holds."""
    sought = budgets.select_related("team", "key__team", "key__account").order_by("-first_month", "-id")
    if month is not None:
        return [budget for budget in sought if budget.first_month <= month]
    now = db_now()  # once: it is a question to the database
    return [budget for budget in sought if budget.first_month <= month_of(budget, now)]


def all_of(month: date, teams: Iterable[Team] | None = None) -> list[Budget]:
    """The budgets that hold in a month; with `teams`, theirs and those of their keys."""
    owners = Budget.objects.order_by().values_list("team", "key", "realm").distinct()
    if teams is not None:
        owners = owners.filter(Q(team__in=teams) | Q(key__team__in=teams))
    each = (Budget.objects.filter(team=team, key=key, realm=realm) for team, key, realm in owners)
    found = [begun[0] for budgets in each if (begun := _begun(budgets, month))]
    budgets = [budget for budget in found if budget.credits is not None]
    return sorted(budgets, key=lambda budget: (budget.key_id is not None, budget.owner))


def standing(budget: Budget, month: date | None = None) -> Standing:
    """How the budget stands in a month, by default the present one."""
    month = month or month_of(budget, db_now())
    zone = zone_of(budget)
    begin = datetime(month.year, month.month, 1, tzinfo=zone)
    end = datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=zone)
    sums = counted(_entries(budget), begin, end)
    notices = BudgetNotice.objects.filter(team=budget.team, key=budget.key, realm=budget.realm, month=month)
    return Standing(
        budget=budget,
        month=month,
        credits=budget.credits or ZERO,
        committed=sums.committed,
        charged=sums.charged,
        notices=tuple(notices.order_by("threshold").values_list("threshold", "at")),
    )


def _entries(budget: Budget) -> QuerySet[LedgerEntry]:
    if budget.key_id:
        return LedgerEntry.objects.filter(key=budget.key)
    return LedgerEntry.objects.filter(team=budget.team, account__realm=budget.realm)


def note_thresholds(key: KeyRecord) -> None:
    """Write each threshold down that the key's budgets have reached, once a month. In the reservation's transaction."""
    for budget in for_key(key):
        now = standing(budget)
        known = {threshold for threshold, _ in now.notices}
        reached = [
            BudgetNotice(
                team=budget.team,
                key=budget.key,
                realm=budget.realm,
                month=now.month,
                threshold=threshold,
                committed=now.committed,
                credits=now.credits,
                at=db_now(),
            )
            for threshold in THRESHOLDS
            if threshold not in known and now.percent >= threshold
        ]
        if reached:
            BudgetNotice.objects.bulk_create(reached, ignore_conflicts=True)
            _tell(key, budget, reached[-1])  # of several that were reached at once the highest


def _tell(key: KeyRecord, budget: Budget, notice: BudgetNotice) -> None:
    """The managers of the team (all of them where it has none) and the owner of the key hear of it."""
    managers = everyone_with(Right.APPROVE)
    team = budget.team or key.team
    people = [person for person in managers if team and person.team_id == team.id] or list(managers)
    whose = f"team-{budget.team_id}-{budget.realm}" if budget.team_id else f"key-{budget.key_id}"
    amounts = f"{notice.committed.normalize():f} of {notice.credits.normalize():f}"
    notices.tell(
        [
            notices.News(
                [*people, *([key.owner] if key.owner else [])],
                kind="budget",
                dedupe=f"budget:{whose}:{notice.month:%Y-%m}:{notice.threshold}",
                title=f"{budget.owner} reached {notice.threshold} % of its budget for {notice.month:%B %Y}",
                text=f"{amounts} credits are reserved or charged, the last of them with {key.name}.",
                url=reverse("enrichment:spend"),
            )
        ]
    )


def lock(key: KeyRecord) -> None:
    """Hold back other reservations of the key's team until the transaction ends: its budget spans accounts."""
    if key.team_id:
        Team.objects.select_for_update(no_key=True).get(id=key.team_id)


def recent_notices(teams: Iterable[Team] | None, realm: str) -> list[BudgetNotice]:
    """The highest notice of each budget this month, for the overview."""
    first = db_now().date().replace(day=1)
    notices = BudgetNotice.objects.filter(month__gte=first, realm=realm).select_related("team", "key")
    if teams is not None:
        notices = notices.filter(Q(team__in=teams) | Q(key__team__in=teams))
    highest: dict[tuple[int | None, int | None], BudgetNotice] = {}
    for notice in notices.order_by("threshold"):
        highest[notice.team_id, notice.key_id] = notice
    return list(highest.values())


class BudgetError(Exception):
    """The budget cannot be set as asked; `fields` maps a field to its sentence."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


def set_budget(
    actor: audit.Actor,
    *,
    team: Team | None = None,
    key: KeyRecord | None = None,
    realm: str = "",
    first_month: date,
    credits: Decimal | None,
    reason: str,
) -> Budget:
    """Set what a team (in one realm) or a key may spend in each month from `first_month` on; None takes the budget away.
    Raises `BudgetError`."""
    found = {}
    if actor.user is not None and not actor.user.may(Right.SET_BUDGETS):
        found["credits"] = (
            f"Your role does not let you {Right.SET_BUDGETS.label}. {who_can(Right.SET_BUDGETS)} can."
        )
    if (team is None) == (key is None):
        found["owner"] = "Choose a team or a key."
    if credits is not None and credits < 0:
        found["credits"] = "A budget is 0 credits or more."
    if first_month < timezone.localdate().replace(day=1):
        found["first_month"] = "A month that is over keeps its budget. Choose this month or a later one."
    if not reason.strip():
        found["reason"] = "Say why: the audit log keeps it."
    if found:
        raise BudgetError(found)
    with transaction.atomic():
        budget = Budget.objects.create(
            team=team,
            key=key,
            realm=key.account.realm if key else realm,
            first_month=first_month.replace(day=1),
            credits=credits,
            set_by=actor.user,
            reason=" ".join(reason.split())[:300],
        )
        amount = "none" if credits is None else f"{credits.normalize():f}"
        audit.record(
            actor,
            "budget.set",
            budget,
            reason=reason,
            detail={"credits a month": amount, "from": f"{budget.first_month:%B %Y}", "realm": budget.realm},
        )
    return budget
