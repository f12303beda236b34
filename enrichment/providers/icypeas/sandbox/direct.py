"""Routes that answer in the same call: nothing is queued, nothing can be read again, and each row is charged at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .catalogue import INSUFFICIENT_FUNDS, Task
from .intake import new_id
from .outcomes import decide
from .store import Store


def answer_rows(
    store: Store, user_id: str, task: Task, rows: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """The rows' answers in their order, charged while the credits last."""
    found = [(new_id(), cells, decide(task, cells)) for cells in rows]
    costs = [
        (number, json.dumps(list(cells)), task.price_micro if outcome.is_charged else 0)
        for number, cells, outcome in found
    ]
    unpaid = store.charge_directly(user_id, task.name, costs)
    return [
        {"searchId": number, "status": INSUFFICIENT_FUNDS, "result": task.nothing}
        if number in unpaid
        else {"searchId": number, "status": outcome.status, "result": outcome.results or task.nothing}
        for number, _, outcome in found
    ]


def charge_leads(store: Store, user_id: str, task: Task, leads: Sequence[dict[str, Any]]) -> int:
    """Charge for each lead of a page while the credits last; how many are paid."""
    costs = [
        (new_id(), json.dumps([lead.get("profileUrl") or lead["url"]]), task.price_micro) for lead in leads
    ]
    return len(leads) - len(store.charge_directly(user_id, task.name, costs))
