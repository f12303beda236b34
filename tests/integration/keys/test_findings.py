"""Findings: each opens, closes and comes back; exceptions; counts that agree; a thousand records."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keys import calls, finding_exceptions, findings, selectors, services
from keys.clock import db_now
from keys.lifecycle import Step as Move
from keys.models import Account, Call, CallHour, Finding, KeyRecord, Presence, Worker
from people.audit import Actor
from people.models import AuditEntry, Notice, User
from tests import factories

pytestmark = pytest.mark.django_db
BULK, SINGLE = "email-verification:bulk", "email-verification:single"


def today() -> date:
    return datetime.now(UTC).date()


def see(
    reference: str, fingerprint: str = "", *, worker: str = "w1", problem: str = "", warnings: Any = ()
) -> None:
    """A living worker reports what it finds at a reference."""
    now = db_now()
    Worker.objects.update_or_create(name=worker, defaults={"seen_at": now})
    Presence.objects.update_or_create(
        worker=worker,
        reference=reference,
        defaults={
            "fingerprint": fingerprint,
            "problem": problem,
            "warnings": list(warnings),
            "seen_at": now,
            "changed_at": now,
        },
    )


def call(key: KeyRecord, scope: str, days_ago: int = 1, outcome: str = "ok") -> None:
    calls.write(
        Call(
            account=key.account,
            key=key,
            route="r",
            scope=scope,
            worker="w",
            at=db_now() - timedelta(days=days_ago),
            outcome=outcome,
        )
    )


def change(key: KeyRecord, **values: Any) -> None:
    KeyRecord.objects.filter(id=key.id).update(**values)


def codes(key: KeyRecord) -> list[str]:
    findings.refresh()
    return [finding.code for finding in findings.findings_of(KeyRecord.objects.get(id=key.id))]


def the(key: KeyRecord, code: str) -> Finding:
    return Finding.objects.get(key=key, code=code)


Step = Callable[[KeyRecord], None]


def _owner(active: bool) -> Step:
    return lambda key: _set_active(key.owner, active)


def _deputy(active: bool) -> Step:
    return lambda key: _set_active(key.deputy, active)


def _set_active(person: User | None, active: bool) -> None:
    assert person is not None
    User.objects.filter(id=person.id).update(is_active=active)


def _set(**values: Any) -> Step:
    return lambda key: change(key, **values)


def _other(environment: str, state: str) -> Step:
    """A record of that environment at the same secret, in that state."""

    def step(key: KeyRecord) -> None:
        see(key.secret_ref, "aaa111aaa111")
        name = f"{environment}_other_system"
        if not KeyRecord.objects.filter(name=name).exists():
            factories.make_key(name, environment=environment, secret_ref=key.secret_ref, account=None)
        KeyRecord.objects.filter(name=name).update(state=state)

    return step


def _rival(state: str) -> Step:
    """A record of the same account whose reference holds another secret."""

    def step(key: KeyRecord) -> None:
        see(key.secret_ref, "aaa111aaa111")
        see("env:ICYPEAS_KEY_RIVAL", "bbb222bbb222")
        if not KeyRecord.objects.filter(name="sandbox_rival_ops").exists():
            factories.make_key("sandbox_rival_ops", secret_ref="env:ICYPEAS_KEY_RIVAL", account=key.account)
        KeyRecord.objects.filter(name="sandbox_rival_ops").update(state=state)

    return step


def _idle(key: KeyRecord) -> None:
    change(key, created_at=db_now() - timedelta(days=45), last_used_at=db_now() - timedelta(days=31))
    for scope in key.scopes:
        call(key, scope, 31)


def _scope_used(days_ago: int) -> Step:
    def step(key: KeyRecord) -> None:
        call(key, BULK)
        call(key, SINGLE, days_ago)

    return step


def _forget_calls(key: KeyRecord) -> None:
    CallHour.objects.filter(scope=SINGLE).delete()
    change(key, created_at=db_now() - timedelta(days=100), last_used_at=db_now())
    call(key, BULK)


# Days are asked for when a test runs: the run may last beyond midnight.
WHEN = {
    "unused": (_idle, _set(last_used_at=timezone.now() - timedelta(days=29)), "Not used for 31 days"),
    "scope": (_forget_calls, _scope_used(1), f"Scope never used: {SINGLE}"),
    "owner": (_set(owner=None), lambda key: change(key, owner=factories.make_user()), "No owner"),
    "owner_disabled": (_owner(False), _owner(True), "Owner disabled"),
    "deputy": (_set(deputy=None), lambda key: change(key, deputy=factories.make_user()), "No deputy"),
    "deputy_disabled": (_deputy(False), _deputy(True), "Deputy disabled"),
    "sharing": (_other("dev", "active"), _other("dev", "revoked"), "Secret shared across environments"),
    "systems": (_other("sandbox", "active"), _other("sandbox", "revoked"), "Secret shared across systems"),
    "name": (_set(system="other"), _set(system="lists"), "Name and record disagree"),
    "rotation": (
        lambda key: change(key, rotate_by=today() - timedelta(days=2)),
        lambda key: change(key, rotate_by=today() + timedelta(days=15)),
        "Rotation is 2 days late",
    ),
    "expiry": (
        lambda key: change(key, expires_at=today() + timedelta(days=14)),
        lambda key: change(key, expires_at=today() + timedelta(days=15)),
        "Expires in 14 days",
    ),
    "secret": (
        lambda key: see(key.secret_ref, problem="Nothing there."),
        lambda key: see(key.secret_ref, "aaa111aaa111"),
        "Secret not found",
    ),
    "fingerprint": (
        lambda key: (see(key.secret_ref, "aaa111aaa111"), see(key.secret_ref, "bbb222bbb222", worker="w2"))[
            0
        ],
        lambda key: see(key.secret_ref, "aaa111aaa111", worker="w2"),
        "The workers hold different secrets",
    ),
    "account": (_rival("active"), _rival("revoked"), "Two secrets on one account"),
    "warning": (
        lambda key: see(key.secret_ref, "aaa111aaa111", warnings=["The file can be read by others."]),
        lambda key: see(key.secret_ref, "aaa111aaa111"),
        "The file can be read by others",
    ),
    "outcome": (
        _set(let_in_at=timezone.now(), let_in_outcome="vendor_401"),
        _set(let_in_outcome="ok"),
        "Key refused (401)",
    ),
}


@pytest.fixture
def key() -> KeyRecord:
    return factories.make_key("sandbox_lists_ops", scopes=[BULK, SINGLE], deputy=factories.make_user())


@pytest.mark.parametrize("code", WHEN)
def test_each_finding_opens_closes_and_comes_back(key: KeyRecord, code: str, settings: Any) -> None:
    settings.FLAG_SHARED_SYSTEMS = code == "systems"
    if code == "deputy":
        settings.RELAXED_ENVIRONMENTS = ["dev"]
    wrong, right, title = WHEN[code]
    assert codes(key) == []

    wrong(key)
    assert codes(key) == [code]
    found = the(key, code)
    assert (found.title, found.look, found.times) == (title, "open", 1)
    assert found.evidence
    key.refresh_from_db()
    assert key.severity == {"bad": 2, "warn": 1}[found.tone]

    right(key)
    assert codes(key) == []
    assert the(key, code).look == "fixed"
    key.refresh_from_db()
    assert key.severity == 0
    wrong(key)
    assert codes(key) == [code]
    assert (the(key, code).look, the(key, code).times) == ("back", 2)


@pytest.mark.parametrize(("use", "is_used"), [("signs", True), ("hooks", True), ("", False)])
def test_api_secret_that_the_account_uses_is_looked_at_like_the_key(
    key: KeyRecord, use: str, is_used: bool
) -> None:
    reference = "env:ICYPEAS_API_SECRET"
    Account.objects.filter(id=key.account_id).update(
        api_secret_ref=reference, signs_requests=use == "signs", hook_token="h" * 43 if use == "hooks" else ""
    )
    see(key.secret_ref, "aaa111aaa111")
    see(reference, problem="The worker has none.")

    assert codes(key) == (["secret"] if is_used else [])
    if is_used:
        assert the(key, "secret").title == "API secret not found"
        assert "No worker finds an API secret at env:ICYPEAS_API_SECRET" in the(key, "secret").evidence
    see(reference, "bbb222bbb222")
    see(reference, "ccc333ccc333", worker="w2")
    assert codes(key) == (["fingerprint"] if is_used else [])
    see(key.secret_ref, problem="The worker has none.")
    assert "secret" in codes(key)
    assert the(key, "secret").title == "Secret not found"


def test_due_dates_come_from_the_record_or_from_the_day_of_opening(key: KeyRecord) -> None:
    change(key, rotate_by=today() - timedelta(days=2), let_in_at=db_now(), let_in_outcome="unpaid")
    change(key, system="other")

    assert set(codes(key)) == {"rotation", "outcome", "name"}
    dues = dict(Finding.objects.values_list("code", "due"))
    assert dues == {
        "rotation": today() - timedelta(days=2),
        "outcome": today() + timedelta(days=7),
        "name": today() + timedelta(days=30),
    }


@pytest.mark.parametrize(
    ("name", "values", "tone", "words"),
    [
        ("prod_sync_ops", {"environment": "staging"}, "warn", "The name says prod"),
        ("sandbox_prod_sync_ops", {}, "warn", "The name says prod"),
        (
            "prod_sync_ops",
            {"environment": "prod", "account__realm": "sandbox"},
            "bad",
            "is a sandbox account",
        ),
    ],
)
def test_name_environment_and_account_are_compared(
    name: str, values: dict[str, str], tone: str, words: str
) -> None:
    realm = values.pop("account__realm", "")
    account = factories.make_account(realm=realm) if realm else None
    key = factories.make_key(name, deputy=factories.make_user(), account=account, **values)

    assert codes(key) == ["name"]
    assert (the(key, "name").tone, words in the(key, "name").evidence) == (tone, True)


def test_scopes_that_were_granted_lately_or_used_are_no_finding(key: KeyRecord) -> None:
    change(key, created_at=db_now() - timedelta(days=100), last_used_at=db_now())
    call(key, BULK, 89)
    call(key, SINGLE, 3, "policy_scope")
    assert codes(key) == ["scope"]
    assert the(key, "scope").scopes == [SINGLE]

    change(key, scopes_since={SINGLE: (today() - timedelta(days=29)).isoformat()})

    assert codes(key) == []


def test_record_that_rests_as_a_whole_is_one_finding(key: KeyRecord) -> None:
    change(key, created_at=db_now() - timedelta(days=100))

    assert codes(key) == ["unused"]


def _complete(key: KeyRecord) -> None:
    assert key.owner is not None
    spec = services.KeySpec(
        key.environment, key.system, key.label, key.owner, "x", key.scopes, key.secret_ref, deputy=key.deputy
    )
    services.change_key(Actor(None), key, spec, reason="it is complete now")


@pytest.mark.parametrize(
    ("state", "begin"),
    [
        ("draft", lambda key: services.change_state(Actor(None), key, Move.ACTIVATE, reason="go")),
        ("quarantined", lambda key: services.change_state(Actor(None), key, Move.RELEASE, reason="go")),
        ("draft", _complete),
    ],
    ids=["activated", "released", "completed"],
)
@pytest.mark.parametrize("last_used", [None, 90])
def test_rest_counts_from_when_the_record_could_be_used(
    key: KeyRecord, state: str, begin: Step, last_used: int | None
) -> None:
    used_at = db_now() - timedelta(days=last_used) if last_used else None
    change(key, state=state, created_at=db_now() - timedelta(days=100), last_used_at=used_at)
    key.refresh_from_db()

    begin(key)

    assert codes(key) == []
    assert not selectors.filter_keys(selectors.KeyFilter(view="unused"), factories.make_user()).exists()
    change(key, usable_since=db_now() - timedelta(days=31))
    assert codes(key) == ["unused"]
    assert the(key, "unused").title == "Not used for 31 days"
    assert "; it lets calls out since" in the(key, "unused").evidence
    assert selectors.filter_keys(selectors.KeyFilter(unused=30), factories.make_user()).exists()
    assert not selectors.filter_keys(selectors.KeyFilter(unused=60), factories.make_user()).exists()


def test_migration_reads_from_the_history_since_when_records_can_be_used(key: KeyRecord) -> None:
    for step in (Move.QUARANTINE, Move.RELEASE):
        services.change_state(Actor(None), key, step, reason="so")
    completed = factories.make_key(state="draft", deputy=factories.make_user())
    _complete(completed)
    plain = factories.make_key(last_used_at=db_now(), last_used_outcome="vendor_401")
    since = {one.id: one.usable_since for one in KeyRecord.objects.all()}
    KeyRecord.objects.update(usable_since=None)

    import_module("keys.migrations.0013_let_in_usable_since_and_ended_workers").fill(
        apps, connection.schema_editor()
    )

    for one in KeyRecord.objects.all():
        then = since[one.id]
        assert (one.usable_since is None) == (then is None) == (one.id == plain.id)
        assert then is None or one.usable_since is None or abs(one.usable_since - then) < timedelta(minutes=1)
    plain.refresh_from_db()
    assert (plain.let_in_outcome, plain.let_in_at) == ("vendor_401", plain.last_used_at)


def test_number_of_days_without_a_call_is_a_setting(key: KeyRecord, settings: Any) -> None:
    change(key, last_used_at=db_now() - timedelta(days=12), created_at=db_now() - timedelta(days=12))
    assert codes(key) == []

    settings.UNUSED_DAYS = 10

    assert codes(key) == ["unused"]


def test_records_that_let_nothing_out_have_few_findings(key: KeyRecord) -> None:
    change(key, state="draft", rotate_by=today() - timedelta(days=9), owner=None)
    assert codes(key) == ["owner"]

    change(key, state="revoked")

    assert codes(key) == []


def test_expired_record_says_so_until_it_is_renewed_or_revoked(key: KeyRecord) -> None:
    change(key, expires_at=today() - timedelta(days=1), state="expired")
    assert codes(key) == ["expiry"]
    assert the(key, "expiry").tone == "bad"

    change(key, state="revoked")

    assert codes(key) == []


def test_looking_twice_writes_nothing(key: KeyRecord) -> None:
    change(key, owner=None)
    assert findings.refresh() == 1

    with CaptureQueriesContext(connection) as queries:
        assert findings.refresh() == 0

    assert [one["sql"] for one in queries if not one["sql"].startswith("SELECT")] == []


@pytest.mark.django_db(transaction=True)
def test_looking_at_the_same_time_finds_and_tells_once() -> None:
    owner = factories.make_user()
    key = factories.make_key(owner=owner)
    change(key, let_in_at=db_now(), let_in_outcome="vendor_401")
    for _round in range(2):
        gate = threading.Barrier(4)

        def look(gate: threading.Barrier = gate) -> None:
            gate.wait()
            try:
                findings.refresh()
            finally:
                connection.close()

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (the(key, "outcome").look in ("open", "back"), the(key, "outcome").times) == (True, _round + 1)
        assert Notice.objects.filter(person=owner, kind="finding").count() == _round + 1
        change(key, let_in_outcome="ok")
        findings.refresh()
        change(key, let_in_outcome="vendor_401")


def test_record_that_was_changed_meanwhile_is_left_alone(
    key: KeyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(key, owner=None)
    read = findings.finding_rules.read

    def mended_meanwhile(*args: Any) -> Any:
        facts = read(*args)
        record = KeyRecord.objects.get(id=key.id)
        record.owner = factories.make_user()
        record.save()
        return facts

    monkeypatch.setattr(findings.finding_rules, "read", mended_meanwhile)
    findings.refresh()

    assert Finding.objects.count() == 0


def test_sweep_looks_once_a_minute(key: KeyRecord) -> None:
    now = db_now()
    change(key, owner=None)

    assert findings.sweep(now)
    assert not findings.sweep(now + timedelta(seconds=59))
    assert findings.sweep(now + timedelta(seconds=60))
    assert Finding.objects.count() == 1


def thousand() -> None:
    """Records with something to find on each."""
    account = Account.objects.create(name="Thousand", realm="sandbox")
    owner = factories.make_user(is_active=False)
    long_ago = db_now() - timedelta(days=100)
    KeyRecord.objects.bulk_create(
        KeyRecord(
            name=f"sandbox_many_{number}",
            environment="sandbox",
            system="many",
            label=str(number),
            owner=owner,
            account=account,
            purpose="x",
            scopes=[BULK, SINGLE],
            state="active",
            secret_ref=f"env:ICYPEAS_KEY_MANY_{number}",
            rotate_by=today() - timedelta(days=number % 30),
        )
        for number in range(1000)
    )
    KeyRecord.objects.update(created_at=long_ago)
    now = db_now()
    Worker.objects.create(name="w1", seen_at=now)
    Presence.objects.bulk_create(
        Presence(
            worker="w1",
            reference=f"env:ICYPEAS_KEY_MANY_{number}",
            fingerprint="" if number % 5 == 0 else f"{number:012d}",
            problem="gone" if number % 5 == 0 else "",
            seen_at=now,
            changed_at=now,
        )
        for number in range(1000)
    )


def test_thousand_records_take_as_many_reads_as_one(key: KeyRecord) -> None:
    factories.make_user(role="key_admin")
    findings.refresh()
    with CaptureQueriesContext(connection) as for_one:
        findings.refresh()

    thousand()
    findings.refresh()
    with CaptureQueriesContext(connection) as for_many:
        findings.refresh()

    assert len(for_many) == len(for_one) <= 9
    assert Finding.objects.count() > 3_000


def test_exception_rests_until_its_day_is_over(key: KeyRecord) -> None:
    admin = factories.make_user(role="key_admin", name="Mira Okafor")
    change(key, owner=None)
    assert codes(key) == ["owner"]

    finding_exceptions.except_finding(
        Actor(admin), the(key, "owner"), until=today() + timedelta(days=10), reason="Moves to another team"
    )

    key.refresh_from_db()
    assert (codes(key), key.severity, findings.count_findings()) == ([], 0, 0)
    found = the(key, "owner")
    assert (found.look, found.excepted_by, found.exception_reason) == (
        "excepted",
        admin,
        "Moves to another team",
    )
    entry = AuditEntry.objects.get(action="key.exception_made")
    assert (entry.reason, entry.object_id, entry.actor) == ("Moves to another team", key.id, admin)

    last_day = db_now() + timedelta(days=10)
    findings.refresh(now=last_day)
    assert the(key, "owner").look == "excepted"
    findings.refresh(now=last_day + timedelta(days=1))

    key.refresh_from_db()
    assert (the(key, "owner").look, the(key, "owner").exception_reason, key.severity) == ("back", "", 2)
    assert the(key, "owner").due > (last_day + timedelta(days=1)).date()


def test_exception_ends_with_what_it_excepts(key: KeyRecord) -> None:
    change(key, owner=None)
    findings.refresh()
    finding_exceptions.except_finding(
        Actor(None), the(key, "owner"), until=today() + timedelta(days=10), reason="x"
    )
    change(key, owner=factories.make_user())
    findings.refresh()

    change(key, owner=None)

    assert codes(key) == ["owner"]


def test_exception_can_be_ended_early_and_leaves_a_line(key: KeyRecord) -> None:
    change(key, owner=None)
    findings.refresh()
    actor = Actor(factories.make_user(role="key_admin"))
    finding_exceptions.except_finding(
        actor, the(key, "owner"), until=today() + timedelta(days=10), reason="x"
    )

    finding_exceptions.end_exception(actor, the(key, "owner"), reason="The team said no")

    assert codes(key) == ["owner"]
    assert AuditEntry.objects.get(action="key.exception_ended").reason == "The team said no"
    with pytest.raises(finding_exceptions.FindingError):
        finding_exceptions.end_exception(actor, the(key, "owner"), reason="again")


@pytest.mark.parametrize(
    ("days", "reason", "field"), [(0, "x", "until"), (181, "x", "until"), (180, " ", "reason")]
)
def test_exception_needs_a_day_within_half_a_year_and_a_reason(
    key: KeyRecord, days: int, reason: str, field: str
) -> None:
    change(key, owner=None)
    findings.refresh()

    with pytest.raises(finding_exceptions.FindingError) as refused:
        finding_exceptions.except_finding(
            Actor(None), the(key, "owner"), until=today() + timedelta(days=days), reason=reason
        )

    assert list(refused.value.fields) == [field]
    assert the(key, "owner").look == "open"


def test_change_through_the_services_is_seen_at_once(key: KeyRecord) -> None:
    admin = Actor(factories.make_user(role="key_admin"))
    spec = services.KeySpec(
        environment="prod",
        system="sync",
        label="ops",
        owner=key.owner,
        purpose="x",
        scopes=[BULK],
        secret_ref="env:ICYPEAS_KEY_X",
        deputy=factories.make_user(),
        team=factories.make_team(),
        rotate_by=today() - timedelta(days=1),
    )

    made = services.create_key(admin, spec)
    made.refresh_from_db()
    assert (made.severity, the(made, "rotation").look) == (2, "open")
    better = services.KeySpec(**{**vars(spec), "rotate_by": today() + timedelta(days=90)})
    services.change_key(admin, made, better, reason="rotated")

    made.refresh_from_db()
    assert (made.severity, the(made, "rotation").look) == (0, "fixed")


def test_scope_is_granted_on_its_own_day(key: KeyRecord) -> None:
    made = services.create_key(
        Actor(None),
        services.KeySpec("sandbox", "sync", "ops", key.owner, "x", [BULK], "env:ICYPEAS_KEY_X"),
    )
    long_ago = db_now() - timedelta(days=200)
    change(made, created_at=long_ago, scopes_since={})
    spec = services.KeySpec("sandbox", "sync", "ops", key.owner, "x", [BULK, SINGLE], "env:ICYPEAS_KEY_X")

    services.change_key(Actor(None), made, spec, reason="more")

    made.refresh_from_db()
    assert made.scopes_since == {BULK: long_ago.date().isoformat(), SINGLE: today().isoformat()}


def test_new_bad_finding_tells_whoever_answers_for_it_once(key: KeyRecord) -> None:
    admin = factories.make_user(role="key_admin")
    assert key.owner is not None
    change(key, let_in_at=db_now(), let_in_outcome="vendor_401", system="other")
    findings.refresh()
    findings.refresh()
    (told,) = Notice.objects.all()  # the warning about the name tells nobody
    assert (told.person, told.kind, told.url) == (key.owner, "finding", f"/keys/{key.name}/")
    assert "Key refused (401)" in told.title

    change(key, let_in_outcome="ok", deputy=factories.make_user())
    findings.refresh()
    _set_active(key.owner, False)
    change(key, let_in_outcome="vendor_401")
    findings.refresh()
    deputy = KeyRecord.objects.get(id=key.id).deputy
    assert set(Notice.objects.exclude(id=told.id).values_list("person", "title")) == {
        (deputy and deputy.id, f"{key.name}: Owner disabled"),
        (deputy and deputy.id, told.title),
    }

    change(key, deputy=None, owner=None)
    findings.refresh()
    assert Notice.objects.get(person=admin).title == f"{key.name}: No owner"
