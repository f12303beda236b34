"""The balance of an account: with which of its keys it is read, and what is stored when it cannot be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from enrichment.services import balances
from keys.clock import db_now
from keys.models import Account, Call, KeyRecord
from tests import factories
from tests.fakes.engine import Engine

Changes = dict[str, Any]


@pytest.fixture
def last_used(engine: Engine, settings: Any) -> KeyRecord:
    """A second record of the account, the one that was used last."""
    settings.ENVIRONMENTS = ["sandbox", "dev"]
    Account.objects.filter(id=engine.account.id).update(balance=None, balance_asked_at=None)
    return factories.make_key(
        account=engine.account, last_used_at=db_now(), last_used_outcome="ok", let_in_outcome="ok"
    )


def read(account: Account) -> Account:
    balances.read_balance(account.id)
    account.refresh_from_db()
    return account


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, []),
        ({"expires_at": timezone.localdate() - timedelta(days=2)}, []),
        ({"environment": "staging"}, []),
        ({"let_in_outcome": "vendor_401"}, []),
        ({"state": "quarantined"}, []),
        ({"secret_ref": "env:ICYPEAS_KEY_NOWHERE"}, ["secret_missing"]),
    ],
)
def test_record_that_cannot_read_the_balance_does_not_keep_another_from_it(
    engine: Engine, last_used: KeyRecord, changes: Changes, refused: list[str]
) -> None:
    KeyRecord.objects.filter(id=last_used.id).update(**changes)

    account = read(engine.account)

    assert account.balance is not None
    assert account.balance_error == ""
    assert list(Call.objects.filter(key=last_used).values_list("outcome", flat=True)) == (
        refused if changes else ["ok"]
    )
    assert Call.objects.filter(key=engine.key, outcome="ok").count() == (1 if changes else 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expires_at": timezone.localdate() - timedelta(days=2)}, "The last day of every active key record"),
        ({"state": "draft"}, "No active key record belongs to this account."),
        ({"secret_ref": "env:ICYPEAS_KEY_NOWHERE"}, "The worker has no ICYPEAS_KEY_NOWHERE"),
        ({"environment": "staging"}, ""),  # another worker's
    ],
)
def test_why_no_record_can_read_the_balance_is_stored(
    engine: Engine, last_used: KeyRecord, changes: Changes, said: str
) -> None:
    KeyRecord.objects.update(**changes)

    account = read(engine.account)

    assert account.balance is None
    assert account.balance_error.startswith(said)
    assert bool(account.balance_error) == bool(said)


def test_account_is_due_at_a_worker_that_serves_a_key_of_it(engine: Engine, last_used: KeyRecord) -> None:
    assert balances.due_accounts() == [engine.account.id]

    KeyRecord.objects.update(environment="staging")

    assert balances.due_accounts() == []
