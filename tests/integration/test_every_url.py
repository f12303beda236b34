"""Every address × method × role × own or another team's object. An address without a line here fails.

A line says what a role needs: for reading and for sending a form. `of` is what the address is about: nothing, or a job,
whose rows another team's people may not see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from enrichment.models import LeadCount
from keys.clock import db_now
from keys.models import Call, Finding, KeyTest
from people.models import User
from people.rights import RIGHTS, Right, Role
from tests import factories

pytestmark = pytest.mark.django_db

NOBODY, ANYBODY = "nobody", "anybody"  # without a log-in; every person who is logged in
JOB, ROWS, LOOK_UP = "job", "rows", "look-up"


@dataclass(frozen=True)
class Line:
    """Who may read and who may send; None where the method is not taken. `of` a job: others' are hidden."""

    read: Right | str | None
    send: Right | str | None = None
    of: str = ""
    leads_away: bool = False  # reading it goes to the job's page, whichever job: nothing is learnt from that


V, S, K, M = Right.VIEW_JOBS, Right.SPEND, Right.VIEW_KEYS, Right.MANAGE_KEYS
P = Right.MANAGE_PEOPLE
LINES: dict[str, Line] = {
    "healthz": Line(NOBODY),
    "readyz": Line(NOBODY),
    "styleguide": Line(Right.VIEW_STYLEGUIDE),
    "people:login": Line(NOBODY, NOBODY),
    "people:logout": Line(None, ANYBODY),
    "people:confirm": Line(ANYBODY, ANYBODY),
    "people:theme": Line(None, NOBODY),
    "people:activity": Line(Right.VIEW_ACTIVITY),
    "people:activity_export": Line(Right.VIEW_ACTIVITY),
    "people:people": Line(ANYBODY),
    "people:help": Line(ANYBODY),
    "people:notices": Line(ANYBODY),
    "people:notices_read": Line(None, ANYBODY),
    "keys:key_list": Line(K),
    "keys:key_export": Line(K),
    "keys:key_create": Line(M, M),
    "keys:name_preview": Line(M),
    "keys:key_detail": Line(K),
    "keys:key_calls": Line(K),
    "keys:key_calls_export": Line(K),
    "keys:key_edit": Line(M, M),
    "keys:finding_list": Line(K),
    "keys:finding_export": Line(K),
    "keys:finding_except": Line(M, M),
    "keys:finding_resume": Line(M, M),
    "keys:scopes_remove": Line(M, M),
    "keys:key_rename": Line(M, M),
    "keys:key_renew": Line(M, M),
    "keys:key_state": Line(M, M),
    "keys:hand_over": Line(M, M),
    "enrichment:call_why": Line(K),
    "enrichment:job_why": Line(V, None, JOB),
    "enrichment:key_test": Line(K, M),
    "enrichment:key_test_result": Line(K),
    "enrichment:overview": Line(V),
    "enrichment:job_list": Line(V),
    "enrichment:job_new": Line(S),
    "enrichment:job_upload": Line(S, S),
    "enrichment:job_review": Line(V, S, ROWS),
    "enrichment:job_balance": Line(ANYBODY, S, ROWS, leads_away=True),
    "enrichment:job_start": Line(ANYBODY, S, ROWS, leads_away=True),
    "enrichment:job_discard": Line(ANYBODY, S, ROWS, leads_away=True),
    "enrichment:job_skipped": Line(V, None, ROWS),
    "enrichment:job_detail": Line(V, None, JOB),
    "enrichment:job_progress": Line(V, None, JOB),
    "enrichment:job_rows": Line(V, None, JOB),
    "enrichment:job_row": Line(V, None, ROWS),
    "enrichment:job_pause": Line(S, S, JOB),
    "enrichment:job_resume": Line(ANYBODY, S, JOB, leads_away=True),
    "enrichment:job_cancel": Line(S, S, JOB),
    "enrichment:job_uncertain": Line(S, S, JOB),
    "enrichment:job_retry": Line(S, S, JOB),
    "enrichment:job_correct": Line(S, S, ROWS),
    "enrichment:job_continue": Line(S, S, ROWS),
    "enrichment:job_export": Line(V, None, ROWS),
    "enrichment:row_raw": Line(V, None, ROWS),
    "enrichment:spend": Line(V),
    "enrichment:budget_set": Line(Right.SET_BUDGETS, Right.SET_BUDGETS),
    "enrichment:price_list": Line(V),
    "enrichment:price_enter": Line(Right.SET_PRICES, Right.SET_PRICES),
    "enrichment:leads": Line(V),
    "enrichment:lead_search": Line(V, S),
    "enrichment:lead_count": Line(None, S),
    "enrichment:lead_counted": Line(S),
    "enrichment:person": Line(P, P),
    "enrichment:person_access": Line(P, P),
    "enrichment:hook": Line(None, NOBODY),
    "enrichment:lookup": Line(V),
    "enrichment:lookup_answer": Line(V, None, LOOK_UP),
    "enrichment:lookup_form": Line(V, S),
}


def addresses() -> Iterator[tuple[str, str]]:
    """Name and pattern of everything that the resolver knows."""

    def walk(resolver: URLResolver, space: str, before: str) -> Iterator[tuple[str, str]]:
        for each in resolver.url_patterns:
            here = before + str(each.pattern)
            if isinstance(each, URLPattern):
                yield f"{space}:{each.name}" if space else str(each.name), here
            else:
                yield from walk(each, str(each.namespace or space), here)

    return walk(get_resolver(), "", "/")


def test_every_address_has_its_line() -> None:
    assert sorted(name for name, _ in addresses()) == sorted(LINES)


@dataclass
class World:
    """A team's objects, and people of each role in that team and in another."""

    job: Any
    look_up: Any
    key: Any
    count: Any
    test: Any
    call: Any
    finding: Any
    insiders: dict[str, User]
    outsiders: dict[str, User]


@pytest.fixture
def world() -> World:
    team, other = factories.make_team("Inside"), factories.make_team("Outside")
    insiders = {role: factories.make_user(role=role, team=team) for role in Role.values}
    outsiders = {role: factories.make_user(role=role, team=other) for role in Role.values}
    owner = insiders[Role.OPERATOR]
    key = factories.make_key()
    job = factories.make_job(2, created_by=owner)
    look_up = factories.make_job(1, created_by=owner)
    type(look_up).objects.filter(id=look_up.id).update(mode="single", source="lookup")
    now = db_now()
    count = LeadCount.objects.create(
        operation="find-people",
        query={},
        digest="x",
        key=key,
        asked_by=owner,
        asked_at=now,
        answered_at=now,
        total=1,
    )
    test = KeyTest.objects.create(key=key, asked_by=owner, asked_at=now, done_at=now)
    call = Call.objects.create(
        account=key.account,
        key=key,
        route="email-search",
        scope="email-search:single",
        worker="w",
        at=now,
        outcome="vendor_401",
    )
    type(job).objects.filter(id=job.id).update(key=key)
    finding = Finding.objects.create(
        key=key, code="scope", tone="warn", title="x", evidence="x", scopes=["leads:search"],
        opened_at=now, seen_at=now, due=now.date(),
    )  # fmt: skip
    return World(job, look_up, key, count, test, call, finding, insiders, outsiders)


def address_of(pattern: str, name: str, world: World) -> str:
    line = LINES[name]
    number = world.look_up.id if line.of == LOOK_UP else world.job.id
    if name.startswith("enrichment:person"):
        number = world.job.created_by_id
    if name == "enrichment:lead_counted":
        number = world.count.id
    if name == "enrichment:call_why":
        number = world.call.id
    if name == "enrichment:key_test_result":
        number = world.test.id
    if name in ("keys:finding_except", "keys:finding_resume", "keys:scopes_remove"):
        number = world.finding.id
    operation = "find-people" if name.startswith("enrichment:lead") else "email-verification"
    return (
        pattern.replace("<int:number>", str(number))
        .replace("<int:position>", "1")
        .replace("<slug:operation>", operation)
        .replace("<str:name>", world.key.name)
        .replace("<step:step>", "quarantine")
        .replace("<slug:token>", "t" * 43)
    )


def holds(user: User, wanted: Right | str | None) -> bool:
    return wanted in (NOBODY, ANYBODY) or wanted in RIGHTS[user.roles[0]]


def expected(line: Line, wanted: Right | str | None, user: User, *, is_insider: bool) -> str:
    """`ok`, `forbidden`, `hidden`, or `forbidden or hidden` where either says no."""
    rights = RIGHTS[user.roles[0]]
    is_allowed = holds(user, wanted)
    if line.of and not is_insider:
        if Right.VIEW_ALL_JOBS not in rights:
            return "forbidden or hidden" if not is_allowed else "hidden"
        if line.of == ROWS and Right.VIEW_ALL_ROWS not in rights:
            return "forbidden or hidden"
        if line.of == LOOK_UP and Right.VIEW_ALL_ROWS not in rights:
            return "hidden"
    return "ok" if is_allowed else "forbidden"


def seen(status: int) -> str:
    return {403: "forbidden", 404: "hidden"}.get(status, "ok" if status < 500 else f"error {status}")


# A page that is not there yet for an object in its state, rather than for a person.
STATE_404 = {
    "enrichment:job_continue",
    "enrichment:row_raw",
    "enrichment:job_uncertain",
    "enrichment:job_export",
}


@pytest.mark.parametrize("name", LINES, ids=LINES.keys())
def test_each_role_meets_what_its_line_says(client: Client, world: World, name: str) -> None:
    line, pattern = LINES[name], dict(addresses())[name]
    url = address_of(pattern, name, world)
    wrong = []
    for method, wanted in (("get", line.read), ("post", line.send)):
        client.logout()
        status = getattr(client, method)(url).status_code
        if wanted is None:
            # Those who may read are told that the method is not taken; nobody else learns more than from a page.
            client.force_login(world.insiders[Role.MANAGER])
            if (status := getattr(client, method)(url).status_code) not in (302, 303, 405, 403):
                wrong.append((method, "not taken", status))
            continue
        if wanted != NOBODY and status not in (302, 401):
            wrong.append((method, "anonymous", status))
        for is_insider, people in ((True, world.insiders), (False, world.outsiders)):
            for role, user in people.items():
                client.force_login(user)
                said = seen(getattr(client, method)(url).status_code)
                is_open = line.leads_away and method == "get"
                must = expected(line, wanted, user, is_insider=is_insider or is_open)
                is_missing = (
                    said == "hidden" and must == "ok" and (name in STATE_404 or name == "enrichment:hook")
                )
                if said not in must and not is_missing:
                    wrong.append((method, role, "own" if is_insider else "another's", f"{said}, not {must}"))
    assert wrong == []
