"""Who may do what. A role is a set of rights; a person may hold several; code asks for rights, never for roles."""

from __future__ import annotations

from django.db import models


class Right(models.TextChoices):
    VIEW_JOBS = "view_jobs", "see jobs and rows of their team"
    VIEW_ALL_JOBS = "view_all_jobs", "see the jobs of all teams"
    VIEW_ALL_ROWS = "view_all_rows", "see the rows of all teams"
    SPEND = "spend", "start, pause and cancel jobs"
    VIEW_KEYS = "view_keys", "see the key records"
    MANAGE_KEYS = "manage_keys", "make and change key records"
    VIEW_ACTIVITY = "view_activity", "see the audit log"
    APPROVE = "approve", "approve expensive jobs"
    SET_BUDGETS = "set_budgets", "set monthly budgets"
    SET_PRICES = "set_prices", "enter prices"
    MANAGE_PEOPLE = "manage_people", "change roles and teams, disable people"
    VIEW_STYLEGUIDE = "view_styleguide", "see the component page"


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    KEY_ADMIN = "key_admin", "Key admin"
    MANAGER = "manager", "Manager"
    AUDITOR = "auditor", "Auditor"


RIGHTS: dict[str, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.VIEW_JOBS, Right.VIEW_KEYS}),
    Role.OPERATOR: frozenset({Right.VIEW_JOBS, Right.SPEND, Right.VIEW_KEYS}),
    Role.KEY_ADMIN: frozenset(
        {
            Right.VIEW_JOBS,
            Right.VIEW_ALL_JOBS,
            Right.SPEND,
            Right.VIEW_KEYS,
            Right.MANAGE_KEYS,
            Right.SET_BUDGETS,
            Right.VIEW_ACTIVITY,
            Right.VIEW_STYLEGUIDE,
        }
    ),
    Role.MANAGER: frozenset(
        {
            Right.VIEW_JOBS,
            Right.VIEW_ALL_JOBS,
            Right.VIEW_ALL_ROWS,
            Right.SPEND,
            Right.VIEW_KEYS,
            Right.VIEW_ACTIVITY,
            Right.APPROVE,
            Right.SET_BUDGETS,
            Right.SET_PRICES,
            Right.MANAGE_PEOPLE,
            Right.VIEW_STYLEGUIDE,
        }
    ),
    Role.AUDITOR: frozenset(
        {Right.VIEW_JOBS, Right.VIEW_ALL_JOBS, Right.VIEW_ALL_ROWS, Right.VIEW_KEYS, Right.VIEW_ACTIVITY}
    ),
}


def roles_with(right: Right) -> list[str]:
    """Roles that hold `right`, as words: what a refusal names."""
    return [Role(role).label for role, rights in RIGHTS.items() if right in rights]
