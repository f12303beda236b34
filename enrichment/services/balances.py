"""Reading the provider's balance: free, seldom, and stored with its time."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Case, F, Q, When

from enrichment.choices import ACTIVE
from enrichment.models import EnrichmentJob
from enrichment.providers.base import ProviderError
from enrichment.services import reads
from keys import gate, limiter
from keys.choices import USABLE_STATES, Outcome
from keys.clock import db_now
from keys.models import Account, KeyRecord
from keys.services import store_balance, store_balance_error

EVERY_WHILE_RUNNING = timedelta(minutes=3)
EVERY_IDLE = timedelta(minutes=30)
FLOOR = timedelta(minutes=1)
# Keys that were let in when last asked, then those of which nothing is known; among them the one used last.
LIKELIEST_FIRST = (
    Case(When(let_in_outcome=Outcome.OK, then=0), When(let_in_outcome="", then=1), default=2),
    F("last_used_at").desc(nulls_last=True),
    "id",
)


def read_balance(account_id: int) -> None:
    """Read one account's balance with the first of its usable keys that the gate lets out; what went wrong is stored for the
    page to say. An account with keys that this worker does not serve alone is left to another worker."""
    account = Account.objects.get(id=account_id)
    usable = KeyRecord.objects.filter(account=account, state__in=USABLE_STATES)
    served = list(usable.filter(environment__in=settings.ENVIRONMENTS).order_by(*LIKELIEST_FIRST))
    keys = [key for key in served if not key.is_expired]
    if served and not keys:
        store_balance_error(account, "The last day of every active key record of this account is over.")
    elif not usable.exists():
        store_balance_error(account, "No active key record belongs to this account.")
    refusals = []
    for key in keys:
        asked_at = db_now()
        try:
            balance = reads.read_balance(key)
        except gate.GateRefusedError as error:  # another key may be let out
            refusals.append(error.message)
            continue
        except ProviderError as error:
            store_balance_error(account, error.message)
        except limiter.BusyError:
            pass
        else:
            store_balance(account, credits=balance.credits, asked_at=asked_at)
        return
    if refusals:
        store_balance_error(account, refusals[0])


def due_accounts() -> list[int]:
    """Accounts to read now, of keys that this worker serves: a person asked, a job runs and the reading is old, or it is very
    old. A refusal is not repeated more often than `EVERY_WHILE_RUNNING`."""
    now = db_now()
    Account.objects.filter(balance_wanted_at__lt=now - timedelta(minutes=10)).update(balance_wanted_at=None)
    running = EnrichmentJob.objects.filter(state__in=ACTIVE).values("key__account_id")

    def older_than(age: timedelta) -> Q:
        """No reading and no failed try within `age`."""
        unread = Q(balance_asked_at__isnull=True) | Q(balance_asked_at__lt=now - age)
        return unread & (Q(balance_failed_at__isnull=True) | Q(balance_failed_at__lt=now - age))

    due = (
        Q(balance_wanted_at__isnull=False) & older_than(FLOOR)
        | Q(id__in=running) & older_than(EVERY_WHILE_RUNNING)
        | older_than(EVERY_IDLE)
    )
    served = KeyRecord.objects.filter(state__in=USABLE_STATES, environment__in=settings.ENVIRONMENTS)
    return list(Account.objects.filter(due, id__in=served.values("account_id")).values_list("id", flat=True))
