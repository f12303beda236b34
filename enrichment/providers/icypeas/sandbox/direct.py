"""Routes that answer in the same call: nothing is queued, nothing can be read again, and each row is charged at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from . import outcomes
from .catalogue import INSUFFICIENT_FUNDS, to_micro
from .intake import new_id
from .store import Store


@dataclass(frozen=True)
class DirectTask:
    """What one row costs when it finds something, in credits, and what it finds: status and result of an input."""

    name: str
    price: Decimal
    find: Callable[[str], tuple[str, str]]


REVERSE_EMAIL_LOOKUP: Final = DirectTask("reverse-email-lookup", Decimal(10), outcomes.find_profile_of)


def answer_rows(store: Store, user_id: str, task: DirectTask, inputs: Sequence[str]) -> list[dict[str, Any]]:
    """The rows' answers in their order, charged while the credits last."""
    found = [(new_id(), text, *task.find(text)) for text in inputs]
    price = to_micro(task.price)
    costs = [(number, json.dumps([text]), price if result else 0) for number, text, _, result in found]
    unpaid = store.charge_directly(user_id, task.name, costs)
    return [
        {"searchId": number, "status": INSUFFICIENT_FUNDS, "result": ""}
        if number in unpaid
        else {"searchId": number, "status": status, "result": result}
        for number, _, status, result in found
    ]
