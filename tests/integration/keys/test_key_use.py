"""What a key was used for, as its page tells it: last use, scopes, jobs and people, the chart, what relies on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrichment import operations
from keys import calls, inventory, ledger, services, use, use_chart
from keys.models import Call, CallHour, ChargeHour, KeyRecord, LedgerEntry
from keys.scopes import WORKLOADS
from people import audit
from people.models import User
from tests.factories import make_key, make_numbered_job, make_team, make_user

pytestmark = pytest.mark.django_db
URL = "/keys/sandbox_training_revops/"


@pytest.fixture
def admin() -> User:
    return make_user(name="Mira Okafor", role="key_admin")


@pytest.fixture
def key() -> KeyRecord:
    return make_key(
        "sandbox_training_revops",
        scopes=["email-verification:bulk", "email-search:bulk"],
        last_used_at=timezone.now(),
    )


def call(key: KeyRecord, *, days: float = 0, **more: Any) -> Call:
    usual = {
        "account": key.account,
        "key": key,
        "route": "bulk-search",
        "scope": "email-verification:bulk",
        "outcome": "ok",
        "worker": "worker-1",
        "at": timezone.now() - timedelta(days=days),
        "rows": 100,
        "job": 412,
        "job_text": "Autumn list",
        "person": "Ana Duarte",
    }
    return calls.write(Call(**{**usual, **more}))


def book(key: KeyRecord, kind: str, credits: int, *, job: int = 412, days: float = 0) -> None:
    LedgerEntry.objects.create(
        at=timezone.now() - timedelta(days=days),
        kind=kind,
        credits=Decimal(credits),
        account=key.account,
        key=key,
        operation="email-verification",
        job=job,
    )


@contextmanager
def days_ago(days: float) -> Iterator[None]:
    """What is written inside stands at that time; an entry of the audit log cannot be moved afterwards."""
    at = timezone.now() - timedelta(days=days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timezone, "now", lambda: at)
        yield


def text_of(answer: Any) -> str:
    """What a reader sees, without markup and doubled space."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", answer.content.decode())).replace("\xa0", " ")


# --- last use ------------------------------------------------------------------------------------------------------------


def used(days: float, **more: Any) -> KeyRecord:
    return make_key(
        last_used_at=timezone.now() - timedelta(days=days),
        last_used_operation="email-verification",
        last_used_job=412,
        last_used_by="Ana Duarte",
        last_used_worker="worker-3",
        last_used_outcome=more.pop("outcome", "ok"),
        last_used_rows=3100,
        **more,
    )


def test_last_use_says_what_for_by_whom_from_where_and_how_it_ended() -> None:
    last = use.last_use(used(0.1))

    assert last.state == "used"
    assert last.detail == "#412, verify 3,100 emails, Ana Duarte, from worker-3, ok"
    assert use.last_use(used(0.1, outcome="vendor_401")).detail.endswith("from worker-3, key refused (401)")


def test_never_used_idle_and_unknown_are_three_things() -> None:
    made = timezone.now() - timedelta(days=90)
    never, older = make_key(), make_key(was_used_before=True)
    KeyRecord.objects.filter(id__in=[never.id, older.id]).update(created_at=made)
    day = f"{made.day} {made:%b %Y}"

    said = [use.last_use(KeyRecord.objects.get(id=key.id)) for key in (never, older, used(31), used(29))]

    assert [last.state for last in said] == ["never", "unknown", "idle", "used"]
    assert said[0].text == "never through this app"
    assert said[0].rest == f"tracked since {day}"
    assert said[1].text == f"unknown before {day}"
    assert said[2].at is not None


def test_every_operation_has_words_of_its_own() -> None:
    words = {name: use.operation_words(name, 20) for name in operations.OPERATIONS}

    assert len(words) == 10
    assert set(WORKLOADS) == set(operations.OPERATIONS)
    assert words["scrape-company"] == "read 20 company profiles"
    assert use.operation_words("find-people", 1) == "search 1 person"
    assert use.operation_words("domain-search") == "scan domains"
    assert use.operation_words("balance") == "balance check"


@pytest.mark.parametrize(
    ("state", "in_list", "on_page"),
    [
        ("never", "never through this app", "never through this app, tracked since"),
        ("unknown", "unknown before", "unknown before"),
        ("idle", "idle since", "idle since"),
        (
            "used",
            "verify 3,100 emails, Ana Duarte",
            "#412, verify 3,100 emails, Ana Duarte, from worker-3, ok",
        ),
    ],
)
def test_each_state_of_last_use_is_told_in_list_page_export_and_terminal(
    client: Client, admin: User, capsys: Any, state: str, in_list: str, on_page: str
) -> None:
    key = {
        "never": lambda: make_key(),
        "unknown": lambda: make_key(was_used_before=True),
        "idle": lambda: used(40),
        "used": lambda: used(0.2),
    }[state]()
    client.force_login(admin)

    assert in_list in text_of(client.get("/keys/"))
    assert on_page in text_of(client.get(f"/keys/{key.name}/"))
    exported = b"".join(client.get("/keys/keys.csv")).decode()  # type: ignore[arg-type]
    assert (on_page.split(", tracked")[0] if state != "idle" else "#412, verify 3,100 emails") in exported
    call_command("key", "show", key.name)
    assert {"idle": "idle since", "used": "from worker-3, ok"}.get(state, in_list) in capsys.readouterr().out


def test_older_use_is_told_in_form_and_terminal_and_kept_in_the_history(client: Client, admin: User) -> None:
    client.force_login(admin)
    form = {
        "environment": "dev",
        "system": "crm",
        "label": "revops",
        "owner": admin.id,
        "purpose": "Old key",
        "scopes": ["email-search:bulk"],
        "secret_ref": "env:ICYPEAS_KEY_OLD",
        "rotation_days": "90",
        "was_used_before": "on",
    }
    assert client.post("/keys/new/", form).status_code == 303
    key = KeyRecord.objects.get()
    assert key.was_used_before
    assert (
        "This secret was in use before this record" in client.get(f"/keys/{key.name}/edit/").content.decode()
    )

    call_command(
        "key", "create", "--environment", "dev", "--system", "cli", "--label", "revops", "--owner", admin.email,
        "--purpose", "Old", "--scopes", "all", "--secret", "env:ICYPEAS_KEY_OLDER", "--used-before",
    )  # fmt: skip
    assert KeyRecord.objects.get(name="dev_cli_revops").was_used_before
    made = audit.AuditEntry.objects.filter(action="key.created").values_list("detail", flat=True)
    assert [detail["used before this record"] for detail in made] == ["yes", "yes"]


# --- scopes --------------------------------------------------------------------------------------------------------------


def test_scope_grid_tells_thirty_and_ninety_days_last_use_and_who_was_refused(
    client: Client, admin: User, key: KeyRecord
) -> None:
    call(key, days=80, rows=300, job=371)
    call(key, days=2)
    call(key, days=3, scope="leads:search", outcome="policy_scope", person="Ana Duarte", job=None)
    call(key, days=1, scope="leads:search", outcome="policy_scope", person="Jonas Vik", job=None)
    call(key, days=200, scope="email-search:bulk", job=300)
    client.force_login(admin)

    answer = client.get(URL)

    found = {line.use.scope: line.use for line in answer.context["detail"].scopes}
    verification, search, leads = (
        found[s] for s in ("email-verification:bulk", "email-search:bulk", "leads:search")
    )
    assert (verification.rows, verification.calls, verification.last_job) == ((100, 400), (1, 2), 412)
    assert (search.rows, search.last_job, search.is_unused) == ((0, 0), 300, False)
    assert (leads.is_granted, leads.refused, leads.refused_by, leads.last_at) == (False, 2, "Jonas Vik", None)
    said = text_of(answer)
    assert "2 times, last Jonas Vik" in said
    assert "?outcome=refused&amp;scope=leads%3Asearch" in answer.content.decode()
    assert "2 granted, 1 used in 90 days" in said


def test_granted_scope_that_was_never_used_is_marked(client: Client, admin: User, key: KeyRecord) -> None:
    call(key)
    call(key, scope="email-search:bulk", outcome="policy_budget")
    client.force_login(admin)

    answer = client.get(URL)

    unused = [line.use.scope for line in answer.context["detail"].scopes if line.use.is_unused]
    assert unused == ["email-search:bulk"]
    assert "never through this app" in text_of(answer)


def test_scope_is_granted_since_it_was_added_last(admin: User) -> None:
    def spec(*scopes: str) -> services.KeySpec:
        return services.KeySpec("dev", "crm", "revops", admin, "CRM", scopes, "env:ICYPEAS_KEY_CRM")

    with days_ago(50):
        key = services.create_key(audit.Actor(admin), spec("email-search:bulk", "leads:search"))
    for days, scopes in (
        (20, ("email-search:bulk",)),
        (10, ("email-search:bulk", "leads:search", "domain-search:bulk")),
    ):
        with days_ago(days):
            key = services.change_key(audit.Actor(admin), key, spec(*scopes), reason="Tidied")

    granted = {each.scope: each.granted_on for each in use.scope_use(key)}

    back = {scope: (timezone.localdate() - day).days for scope, day in granted.items() if day}
    assert back == {"email-search:bulk": 50, "leads:search": 10, "domain-search:bulk": 10}


# --- who -----------------------------------------------------------------------------------------------------------------


def test_jobs_and_people_of_thirty_days_come_with_calls_rows_and_credits(
    client: Client, admin: User, key: KeyRecord
) -> None:
    make_numbered_job(412)
    call(key, days=1, job=412)
    call(key, days=1, job=412, scope="account:read", rows=100)
    call(key, days=2, job=411, person="Jonas Vik", rows=50)
    call(key, days=31, job=300, person="Somebody Else")
    call(key, job=None, person="", scope="account:read", rows=0, route="subscription")
    for job, credits in ((412, 100), (411, 50), (300, 9)):
        book(key, "reserved", credits, job=job)
        book(key, "charged", credits, job=job, days=31 if job == 300 else 1)
    client.force_login(admin)

    answer = client.get(URL)

    users = answer.context["detail"].users
    jobs = [
        (user.line.use.job, user.line.use.calls, user.line.use.rows, user.line.credits) for user in users.jobs
    ]
    assert jobs == [(412, 2, 100, 100), (411, 1, 50, 50)]
    people = [(u.line.name, u.line.jobs, u.line.calls, u.line.rows, u.line.credits) for u in users.people]
    assert people == [("Ana Duarte", 1, 2, 100, 100), ("Jonas Vik", 1, 1, 50, 50)]
    assert users.own.calls == 1
    html = answer.content.decode()
    assert '<a href="/jobs/412/">#412</a> Autumn list' in html
    assert "credits are of the whole job, rows of every call that went well" in html
    assert "sent again they count again" in html
    assert "/keys/sandbox_training_revops/calls/?person=Jonas+Vik" in html


def test_jobs_are_links_only_for_those_who_may_open_them(client: Client, key: KeyRecord) -> None:
    call(key)
    book(key, "reserved", 70)
    client.force_login(make_user(role="viewer", team=make_team()))

    answer = client.get(URL)

    assert "/jobs/412/" not in answer.content.decode()
    assert "#412" in text_of(answer)
    assert "Autumn list" not in answer.content.decode()


# --- if it died now --------------------------------------------------------------------------------------------------------


def test_page_tells_what_stops_if_the_key_dies_now(client: Client, admin: User, key: KeyRecord) -> None:
    sibling = make_key("sandbox_lists_growth", account=key.account)
    call(key)
    make_numbered_job(412)
    book(key, "reserved", 500)
    book(key, "charged", 120)
    book(key, "reserved", 40, job=411)
    book(key, "charged", 30, job=411)
    book(key, "released", 10, job=411)
    book(sibling, "reserved", 7, job=500)
    client.force_login(admin)

    answer = client.get(URL)

    reliance = answer.context["detail"].reliance
    assert (list(reliance.jobs), reliance.held) == [([(412, "/jobs/412/", Decimal(380))], Decimal(380))][0]
    said = text_of(answer)
    assert "1, 380 credits" in said
    assert "1 more on" in said
    assert "/keys/sandbox_lists_growth/" in answer.content.decode()


@pytest.mark.parametrize("size", [1, 3, 100])
def test_folded_ledger_says_what_the_entries_say(key: KeyRecord, size: int) -> None:
    key.account.balance, key.account.balance_asked_at = Decimal(1000), timezone.now() - timedelta(days=2)
    key.account.save()
    other = make_key()
    book(other, "reserved", 5, days=9, job=1)
    for job, kind, credits, days in (
        (1, "reserved", 100, 8.0), (1, "charged", 60, 7.0), (1, "released", 40, 6.0),
        (2, "reserved", 80, 5.0), (2, "charged", 30, 1.0), (3, "reserved", 50, 0.02), (3, "charged", 20, 0.01),
        (2, "charged", 10, 0.0),
    ):  # fmt: skip
        book(key, kind, credits, job=job, days=days)
    call(key, days=7, job=1, person="Jonas Vik")
    call(key, days=1, job=2)

    def told() -> tuple[Any, ...]:
        return (
            ledger.available(key.account),
            ledger.open_jobs(key),
            ledger.open_jobs(other),
            use.charged_per_day(key),
            use.charged_per_day_by_key([key.id, other.id]),
            use.charged_by_key(),
            [(person.name, person.credits) for person in use.people_of_key(key)],
        )

    before = told()

    folded = 0
    while step := ledger.fold(limit=size):
        folded += step
        assert told() == before

    assert folded == 6 + 2  # entries, and charges of full hours; those of the last hour are left alone
    assert list(ChargeHour.objects.values_list("person", "credits")) == [
        ("Jonas Vik", 60),
        ("Ana Duarte", 30),
    ]
    assert before[0].credits == 1000 - (20 + 10 + 30) - (40 + 30)
    assert before[1:3] == ({3: Decimal(30), 2: Decimal(40)}, {1: Decimal(5)})


# --- chart ---------------------------------------------------------------------------------------------------------------


def test_chart_shows_calls_by_operation_and_errors_by_what_went_wrong(
    client: Client, admin: User, key: KeyRecord
) -> None:
    call(key, days=1)
    call(key, days=1, scope="account:read")
    call(key, days=1, outcome="vendor_429")
    call(key, days=1, outcome="policy_budget")
    call(key, days=31, outcome="vendor_401")
    client.force_login(admin)
    day = (timezone.localdate() - timedelta(days=1)).isoformat()

    of_calls, of_errors = (client.get(f"{URL}?chart={kind}").context["chart"] for kind in ("calls", "errors"))

    assert of_calls.series[-1] == "Free reads and other"
    assert of_calls.days[-2]["values"] == [0, 0, 0, 3, 0, 1]
    assert of_calls.days[-2]["url"] == f"{URL}calls/?day={day}"
    errors = dict(zip(of_errors.series, of_errors.days[-2]["values"], strict=True))
    assert {name: n for name, n in errors.items() if n} == {"Too many calls": 1, "Refused by our rules": 1}
    assert of_errors.days[-2]["url"] == f"{URL}calls/?day={day}&outcome=failed"


def test_every_outcome_but_ok_has_its_place_in_the_chart_of_errors() -> None:
    assert set(use_chart.TROUBLE_OF) == set(use_chart.Outcome) - {use_chart.Outcome.OK}
    assert len(use_chart.TROUBLES) == 6


def test_switch_of_the_chart_is_a_link_and_a_region(
    client: Client, admin: User, key: KeyRecord, django_assert_max_num_queries: Any
) -> None:
    call(key, days=1)
    client.force_login(admin)
    page = client.get(f"{URL}?chart=calls").content.decode()

    with django_assert_max_num_queries(8):
        region = client.get(f"{URL}?chart=errors", headers={"HX-Request": "true"})

    assert 'href="?chart=calls" aria-current="true"' in page
    assert 'hx-target="#use-chart"' in page
    assert "<h1" not in region.content.decode()
    assert "No call went wrong in 30 days" in region.content.decode()
    assert client.get(f"{URL}?chart=nonsense").context["chart"].kind == "credits"


def test_chart_marks_the_days_of_changes_and_draws_the_cap(client: Client, admin: User) -> None:
    key = make_key("sandbox_training_revops", daily_cap=Decimal(5000), created_at=timezone.now())
    book(key, "charged", 10)
    for days, action, detail in (
        (12, "key.changed", {"scopes": ["a, b", "a"]}),
        (3, "key.changed", {"state": ["active", "quarantined"], "owner": ["a", "b"]}),
        (2, "key.changed", {"purpose": ["a", "b"]}),
        (31, "key.changed", {"secret reference": ["env:A", "env:B"]}),
    ):
        with days_ago(days):
            audit.record(audit.Actor(admin), action, key, detail=detail)
    client.force_login(admin)

    answer = client.get(URL)

    marks = {29 - index: day["mark"] for index, day in enumerate(answer.context["chart"].days) if day["mark"]}
    assert marks == {12: "scope removed", 3: "quarantined"}
    html = answer.content.decode()
    assert html.count('class="chart-mark"') == 2
    assert "daily cap 5,000" in html
    assert "What changed" in html  # in the table of the same data


# --- cost ----------------------------------------------------------------------------------------------------------------


def test_key_page_counts_no_calls(client: Client, admin: User, key: KeyRecord) -> None:
    """Everything about many calls comes from the sums: without a single call the page says the same."""
    for days in range(20):
        call(key, days=days, job=400 + days)
    before = inventory.get_detail(key, admin)
    Call.objects.all().delete()

    after = inventory.get_detail(key, admin)

    assert CallHour.objects.count() == 20
    for name in ("scopes", "users", "reliance"):
        assert getattr(after, name) == getattr(before, name)
    assert use.calls_per_day(key)


def test_key_page_asks_as_many_questions_whatever_was_used(
    client: Client, admin: User, key: KeyRecord
) -> None:
    call(key)
    call(key, scope="leads:search", outcome="policy_scope")
    book(key, "reserved", 10)
    book(key, "charged", 5)
    client.force_login(admin)
    client.get(URL)
    with CaptureQueriesContext(connection) as for_one:
        client.get(URL)
    for number in range(40):
        call(key, days=number, job=number, person=f"Person {number}")
        call(key, days=number, job=number, scope="leads:search", outcome="policy_scope")
        book(key, "reserved", 10, job=number)

    with CaptureQueriesContext(connection) as for_many:
        client.get(URL)

    assert len(for_many) == len(for_one)
    assert len(for_many) <= 44
