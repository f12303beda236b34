"""What one answer costs: the dated price table, and where it says nothing the operation's own default.

Of the rows of an operation and realm that hold already the latest counts, a correction before what it corrects. A job pins
its price at the start; a change concerns jobs that start later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.db import transaction

from enrichment import operations
from enrichment.models import Price
from enrichment.operations.base import Operation
from keys import selectors as key_selectors
from keys.choices import Realm
from keys.clock import db_now
from people import audit
from people.rights import Right
from people.selectors import who_can


@dataclass(frozen=True)
class PriceNow:
    """Credits for one answer, None while nobody knows. `version` is the row of the table, None for the default."""

    credits: Decimal | None
    charged_when_empty: bool
    source: str
    version: Price | None = None


class PriceError(Exception):
    """The price cannot be entered as asked. `fields` maps a field to its sentence."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields = fields


def price_of(operation: Operation, realm: str) -> PriceNow:
    """The price that holds today."""
    today = db_now().date()
    rows = Price.objects.filter(operation=operation.name, realm=realm, valid_from__lte=today)
    version = rows.order_by("-valid_from", "-id").first()
    if version is not None:
        return PriceNow(version.credits, version.charged_when_empty, version.source, version)
    return PriceNow(operation.price, operation.charged_when_empty, operation.price_source)


def shown_realm() -> str:
    """Whose prices pages show before a key is chosen: those of the money that is here."""
    return Realm.SANDBOX if key_selectors.has_only_sandbox_money() else Realm.LIVE


def unknown_text(operation: Operation) -> str:
    """Why an operation without a price cannot start, and who can change that."""
    return (
        f"Nobody has entered what “{operation.label}” costs, so it cannot start. "
        f"{who_can(Right.SET_PRICES)} can enter the price with its date and source."
    )


def enter_price(
    actor: audit.Actor,
    *,
    operation: str,
    realm: str,
    credits: Decimal,
    charged_when_empty: bool,
    valid_from: date,
    source: str,
) -> Price:
    """Add a row to the table. Jobs that run keep theirs. Raises `PriceError`."""
    found = {}
    if actor.user is not None and not actor.user.may(Right.SET_PRICES):
        found["credits"] = (
            f"Your role does not let you {Right.SET_PRICES.label}. {who_can(Right.SET_PRICES)} can."
        )
    elif credits <= 0 or credits != round(credits, 3):
        found["credits"] = "A price is more than 0 credits, with three decimals at most."
    if operation not in operations.OPERATIONS:
        found["operation"] = "There is no such operation."
    if realm not in Realm.values:
        found["realm"] = "Choose sandbox or live."
    if valid_from < db_now().date():
        found["valid_from"] = "Jobs of past days keep the price that they had. Choose today or a later day."
    if not source.strip():
        found["source"] = "Say where the price stands, so that others can look it up."
    if found:
        raise PriceError(found)
    with transaction.atomic():
        price = Price.objects.create(
            operation=operation,
            realm=realm,
            credits=credits,
            charged_when_empty=charged_when_empty,
            valid_from=valid_from,
            source=" ".join(source.split())[:300],
            entered_by=actor.user,
        )
        audit.record(
            actor,
            "price.entered",
            price,
            reason=source,
            detail={"credits": f"{credits.normalize():f}", "from": str(valid_from), "realm": realm},
        )
    return price
