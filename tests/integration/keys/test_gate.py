from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from enrichment.services import reads
from keys import budgets, findings, gate, ledger
from keys.choices import Outcome
from keys.models import Budget, Call, KeyRecord, LedgerEntry
from keys.secrets import SecretError
from people.audit import Actor
from tests import factories
from tests.fakes.engine import Engine

CANARY = "canary-secret-of-the-gate-99"


@pytest.fixture
def key(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> KeyRecord:
    """A key whose secret this process can read, as a worker."""
    settings.PROCESS_ROLE = "worker"
    monkeypatch.setenv("ICYPEAS_KEY_GATE", CANARY)
    return factories.make_key(secret_ref="env:ICYPEAS_KEY_GATE")


def errand(key: KeyRecord, **changes: Any) -> gate.Errand:
    usual = {
        "key_id": key.id,
        "environment": key.environment,
        "scope": "email-search:bulk",
        "route": "bulk-search",
        "interval_s": 0.001,
        "job": 12,
        "job_text": "Spring list",
        "person": "Ira Quist",
        "operation": "email-search",
        "rows": 40,
    }
    return gate.Errand(**{**usual, **changes})


def admit(key: KeyRecord, **changes: Any) -> gate.Permit:
    return gate.admit(errand(key, **changes), max_wait_s=1)


def test_permit_carries_the_secret_unseen(key: KeyRecord) -> None:
    permit = admit(key)

    assert permit.resolved.secret.reveal() == CANARY
    assert CANARY not in repr(permit) + str(permit) + repr(vars(permit))
    assert len(permit.fingerprint) == 12


def test_recorded_call_says_who_when_and_what_for(key: KeyRecord, settings: Any) -> None:
    settings.WORKER_NAME = "worker-3"
    permit = admit(key)

    gate.record(permit, Outcome.OK, status=200, duration_ms=15)

    call = Call.objects.get()
    assert (call.key, call.account, call.fingerprint) == (key, key.account, permit.fingerprint)
    assert (call.outcome, call.status, call.rows, call.worker) == ("ok", 200, 40, "worker-3")
    assert (call.job, call.job_text, call.person) == (12, "Spring list", "Ira Quist")
    key.refresh_from_db()
    assert (key.last_used_job, key.last_used_by, key.last_used_rows) == (12, "Ira Quist", 40)
    assert key.last_used_at is not None


def test_last_use_is_written_at_most_once_a_minute_unless_something_changed(key: KeyRecord) -> None:
    gate.record(admit(key), Outcome.OK)
    key.refresh_from_db()
    first = key.last_used_at

    gate.record(admit(key, rows=1), Outcome.OK)
    key.refresh_from_db()
    assert key.last_used_at == first

    gate.record(admit(key), Outcome.VENDOR_401)
    key.refresh_from_db()
    assert key.last_used_outcome == "vendor_401"
    assert key.last_used_at > first


def test_tests_and_balance_checks_are_no_use_but_tell_whether_the_key_is_let_in(key: KeyRecord) -> None:
    free = {"scope": gate.ACCOUNT_READ, "job": None, "rows": 0}

    gate.record(admit(key, **free, is_probe=True), Outcome.VENDOR_401)
    key.refresh_from_db()
    assert (key.last_used_at, key.last_used_outcome, key.let_in_outcome) == (None, "", "vendor_401")
    first = key.let_in_at

    gate.record(admit(key, **free), Outcome.VENDOR_401)
    key.refresh_from_db()
    assert (key.let_in_outcome, key.let_in_at) == ("vendor_401", first)

    gate.record(admit(key, **free), Outcome.OK)
    key.refresh_from_db()
    assert (key.last_used_at, key.let_in_outcome) == (None, "ok")


@pytest.mark.parametrize(
    "outcome", [Outcome.NOT_SENT, Outcome.VENDOR_429, Outcome.VENDOR_5XX, Outcome.READ_FAILED]
)
def test_balance_that_could_not_be_read_leaves_last_use_and_refusal_as_they_are(
    key: KeyRecord, outcome: Outcome
) -> None:
    gate.record(admit(key), Outcome.VENDOR_401)
    findings.refresh([key.id])

    gate.record(admit(key, scope=gate.ACCOUNT_READ, job=None, rows=0), outcome)
    findings.refresh([key.id])

    key.refresh_from_db()
    assert (key.last_used_job, key.last_used_outcome, key.let_in_outcome) == (12, "vendor_401", "vendor_401")
    assert [(one.title, one.look) for one in key.findings.filter(code="outcome")] == [
        ("Key refused (401)", "open")
    ]


def test_missing_api_secret_is_named_apart_from_the_key(key: KeyRecord) -> None:
    account = key.account
    account.signs_requests, account.api_secret_ref = True, "env:ICYPEAS_API_SECRET_X"
    account.save()

    with pytest.raises(gate.GateRefusedError) as told:
        admit(key)

    assert told.value.outcome == Outcome.SECRET_MISSING
    assert told.value.message.startswith(f"The API secret of {account.name}, env:ICYPEAS_API_SECRET_X: ")
    assert Call.objects.get().message == told.value.message


REFUSALS = [
    ({"state": "draft"}, {}, "policy_state", "is draft, so it lets nothing out"),
    ({"state": "quarantined"}, {}, "policy_state", "is quarantined"),
    ({"expires_at": "yesterday"}, {}, "policy_state", "expired on"),
    ({}, {"environment": "prod"}, "policy_environment", "belongs to sandbox, and this is prod work"),
    ({"scopes": ["email-search:single"]}, {}, "policy_scope", "does not have the scope email-search:bulk"),
    ({"secret_ref": "env:ICYPEAS_KEY_NOWHERE"}, {}, "secret_missing", "has no ICYPEAS_KEY_NOWHERE"),
    ({"secret_ref": "env:DATABASE_URL"}, {}, "secret_missing", "only variables that begin with ICYPEAS_"),
]


@pytest.mark.parametrize(
    ("record", "asked", "outcome", "sentence"), REFUSALS, ids=[f"{r[2]} {n}" for n, r in enumerate(REFUSALS)]
)
def test_refusal_is_recorded_and_explained(
    key: KeyRecord, record: dict[str, Any], asked: dict[str, Any], outcome: str, sentence: str
) -> None:
    if record.get("expires_at"):
        record = {"expires_at": timezone.localdate() - timedelta(days=1)}
    KeyRecord.objects.filter(id=key.id).update(**record)

    with pytest.raises(gate.GateRefusedError, match=sentence) as told:
        admit(key, **asked)

    assert told.value.outcome == outcome
    call = Call.objects.get()
    assert (call.outcome, call.status, call.fingerprint, call.rows) == (outcome, None, "", 40)
    key.refresh_from_db()
    assert key.last_used_at is None  # nothing was called


def test_refusal_names_who_can_help(key: KeyRecord) -> None:
    factories.make_user(name="Kim Admin", role="key_admin")
    KeyRecord.objects.filter(id=key.id).update(scopes=[])

    with pytest.raises(gate.GateRefusedError, match="Kim Admin can grant it"):
        admit(key)


def test_first_reason_in_the_order_of_the_gate_is_the_one_that_is_told(key: KeyRecord) -> None:
    KeyRecord.objects.filter(id=key.id).update(
        state="revoked", scopes=[], secret_ref="env:ICYPEAS_KEY_NOWHERE"
    )

    with pytest.raises(gate.GateRefusedError) as told:
        admit(key, environment="prod")

    assert told.value.outcome == "policy_state"


def test_key_above_its_cap_lets_nothing_out_but_free_calls(key: KeyRecord) -> None:
    ledger.reserve(key=key, operation="email-search", job=12, credits=Decimal(20))
    KeyRecord.objects.filter(id=key.id).update(daily_cap=Decimal(10))

    with pytest.raises(gate.GateRefusedError, match="daily cap") as told:
        admit(key)
    assert told.value.outcome == "policy_budget"
    assert admit(key, scope=gate.ACCOUNT_READ, route="files-read").key == key


def reserve(key: KeyRecord, credits: int, *, days_ago: int, job: int = 12) -> None:
    """Credits of a job, reserved at noon of a day that is over."""
    ledger.reserve(key=key, operation="email-search", job=job, credits=Decimal(credits))
    entry = LedgerEntry.objects.latest("id")
    noon = timezone.now().replace(hour=12) - timedelta(days=days_ago)
    LedgerEntry.objects.filter(id=entry.id).update(at=noon)


@pytest.mark.parametrize("cap", [0, 19])
def test_cap_that_was_lowered_stops_a_job_of_yesterday(key: KeyRecord, cap: int) -> None:
    reserve(key, 20, days_ago=1)
    KeyRecord.objects.filter(id=key.id).update(daily_cap=cap)

    with pytest.raises(
        gate.GateRefusedError, match=f"is {cap} credits and 20 are reserved or charged by this job"
    ):
        admit(key)
    assert admit(key, job=13)  # nothing of it is too much


def test_job_that_reserved_on_several_days_ends_under_the_cap_that_let_it_in(key: KeyRecord) -> None:
    KeyRecord.objects.filter(id=key.id).update(daily_cap=20)
    key.refresh_from_db()
    reserve(key, 20, days_ago=3)
    reserve(key, 15, days_ago=2)
    ledger.charge(key=key, operation="email-search", job=12, credits=Decimal(30))

    assert admit(key)

    KeyRecord.objects.filter(id=key.id).update(daily_cap=14)
    with pytest.raises(gate.GateRefusedError, match="15 are reserved or charged by this job"):
        admit(key)
    ledger.release(key=key, operation="email-search", job=12, credits=Decimal(1))
    assert admit(key)


@pytest.mark.parametrize("is_planned", [False, True], ids=["lowered", "planned before"])
def test_budget_that_was_lowered_stops_a_job_of_the_month_before(key: KeyRecord, is_planned: bool) -> None:
    month = timezone.now().date().replace(day=1)
    budgets.set_budget(
        Actor(None), key=key, first_month=month, credits=Decimal(10), reason="less from now on"
    )
    Budget.objects.update(credits=None)  # none while it reserves
    reserve(key, 20, days_ago=31)
    if is_planned:
        Budget.objects.update(set_at=timezone.now() - timedelta(days=40))
    Budget.objects.update(credits=Decimal(10))

    if is_planned:
        assert admit(key)
    else:
        with pytest.raises(gate.GateRefusedError, match="is 10 credits and 20 are reserved or charged by"):
            admit(key)


def test_free_calls_need_no_scope_of_their_own(key: KeyRecord) -> None:
    KeyRecord.objects.filter(id=key.id).update(scopes=[])

    assert admit(key, scope=gate.ACCOUNT_READ, route="files-read")


def test_probe_is_let_out_in_every_state_and_marked(key: KeyRecord) -> None:
    KeyRecord.objects.filter(id=key.id).update(state="revoked")

    gate.record(admit(key, scope=gate.ACCOUNT_READ, is_probe=True), Outcome.VENDOR_401)

    assert Call.objects.get().is_probe


def test_sandbox_key_never_goes_to_the_real_address(key: KeyRecord, settings: Any) -> None:
    settings.ICYPEAS_IS_REAL = True

    with pytest.raises(gate.GateRefusedError, match="sandbox secrets never go there"):
        admit(key)
    with pytest.raises(gate.GateRefusedError):
        admit(key, is_probe=True)


def test_worker_refuses_an_environment_that_it_does_not_serve(key: KeyRecord, settings: Any) -> None:
    settings.ENVIRONMENTS = ["prod"]

    with pytest.raises(gate.GateRefusedError, match="This worker serves prod and not sandbox"):
        admit(key)


@pytest.mark.parametrize(
    "here", [{"ENVIRONMENTS": ["prod"]}, {"ICYPEAS_IS_REAL": True}], ids=["not served", "real address"]
)
def test_environment_is_told_before_scope_and_cap(
    key: KeyRecord, settings: Any, here: dict[str, Any]
) -> None:
    ledger.reserve(key=key, operation="email-search", job=12, credits=Decimal(20))
    KeyRecord.objects.filter(id=key.id).update(scopes=[], daily_cap=0)
    for name, value in here.items():
        setattr(settings, name, value)

    with pytest.raises(gate.GateRefusedError) as told:
        admit(key)

    assert told.value.outcome == "policy_environment"
    assert Call.objects.get().outcome == "policy_environment"


def test_key_of_one_realm_on_an_account_of_the_other_is_refused(key: KeyRecord) -> None:
    KeyRecord.objects.filter(id=key.id).update(account=factories.make_account(realm="live"))

    with pytest.raises(gate.GateRefusedError, match="sandbox key on the live account"):
        admit(key)


@pytest.mark.parametrize("role", ["web", "scheduler", "cli"])
def test_process_that_is_no_worker_gets_no_secret(key: KeyRecord, settings: Any, role: str) -> None:
    settings.PROCESS_ROLE = role

    with pytest.raises(gate.GateRefusedError, match="Only workers read secrets") as told:
        admit(key)

    assert told.value.outcome == "secret_missing"
    assert isinstance(told.value.__context__, SecretError)


def test_refused_call_takes_no_slot_of_the_limiter(key: KeyRecord) -> None:
    KeyRecord.objects.filter(id=key.id).update(scopes=[])
    with pytest.raises(gate.GateRefusedError):
        admit(key, interval_s=100)
    KeyRecord.objects.filter(id=key.id).update(scopes=["email-search:bulk"])

    assert admit(key, interval_s=100)


def test_refusal_sends_no_request_at_all(engine: Engine) -> None:
    KeyRecord.objects.filter(id=engine.key.id).update(state="revoked")
    engine.key.refresh_from_db()

    with pytest.raises(gate.GateRefusedError):
        reads.read_balance(engine.key)

    assert engine.sandbox.state()["requests"] == {}
