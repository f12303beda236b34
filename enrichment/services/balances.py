"""Reading the provider's balance: free, seldom, and stored with its time."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Q

from enrichment.choices import ACTIVE
from enrichment.models import EnrichmentJob
from enrichment.providers.base import ProviderError
from enrichment.services import send_path
from keys import gate, limiter
from keys.choices import USABLE_STATES
from keys.clock import db_now
from keys.models import Account, KeyRecord
from keys.services import store_balance, store_balance_error

EVERY_WHILE_RUNNING = timedelta(minutes=3)
EVERY_IDLE = timedelta(minutes=30)
FLOOR = timedelta(minutes=1)


def read_balance(account_id: int) -> None:
    """Read one account's balance with one of its usable keys; what went wrong is stored for the page to say."""
    account = Account.objects.get(id=account_id)
    key = (
        KeyRecord.objects.filter(account=account, state__in=USABLE_STATES)
        .order_by(F("last_used_at").desc(nulls_last=True), "id")
        .first()
    )
    if key is None:
        store_balance_error(account, "No active key record belongs to this account.")
        return
    asked_at = db_now()
    try:
        balance = send_path.read_balance(key)
    except gate.GateRefusedError as error:
        store_balance_error(account, error.message)
    except ProviderError as error:
        store_balance_error(account, error.message)
    except limiter.BusyError:
        return
    else:
        store_balance(account, credits=balance.credits, asked_at=asked_at)


def due_accounts() -> list[int]:
    """Accounts to read now: a person asked, a job runs and the reading is old, or it is very old. A refusal is not
    repeated more often than `EVERY_WHILE_RUNNING`."""
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
    usable = KeyRecord.objects.filter(state__in=USABLE_STATES).values("account_id")
    return list(Account.objects.filter(due, id__in=usable).values_list("id", flat=True))
