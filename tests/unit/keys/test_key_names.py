"""The parts that a key's name is built from."""

from __future__ import annotations

import pytest

from keys.selectors import name_part_problem


@pytest.mark.parametrize("part", ["crm", "crm_sync", "a", "9", "crm_sync_2", "x" * 40])
def test_name_part_is_taken(part: str) -> None:
    assert name_part_problem(part, "system") is None


@pytest.mark.parametrize(
    "part", ["", "CRM", "crm-sync", "crm__sync", "_crm", "crm_", "crm sync", "crm\n", "é", "x" * 41]
)
def test_name_part_is_refused_with_its_label(part: str) -> None:
    problem = name_part_problem(part, "system")

    assert problem is not None
    assert "system" in problem
