"""`manage.py key`."""

from __future__ import annotations

import getpass
import io
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from enrichment.providers.base import Balance, UnpaidError
from enrichment.services import key_tests, reads
from keys.models import Account, Call, KeyRecord
from keys.scopes import SCOPES
from keys.secrets import base
from people.models import AuditEntry, Team
from tests.factories import make_account, make_key, make_team, make_user
from tests.fakes.sandbox_process import SECRET, SandboxProcess

pytestmark = pytest.mark.django_db
STEPS = list(key_tests.STEPS[:5])


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("key", *arguments, stdout=out)
    return out.getvalue()


def create(**changes: str) -> str:
    given = {
        "environment": "prod",
        "system": "crm_sync",
        "label": "revops",
        "owner": "mira@desk.example",
        "deputy": "tom@desk.example",
        "team": "RevOps",
        "purpose": "Nightly CRM clean-up",
        "scopes": "bulk_verification,leads:search",
        "secret": "env:ICYPEAS_KEY_PROD_CRM_SYNC_REVOPS",
        **changes,
    }
    return run("create", *(f"--{name}={value}" for name, value in given.items() if value))


@pytest.fixture
def people() -> None:
    make_user("mira@desk.example", name="Mira Okafor", role="key_admin")
    make_user("tom@desk.example", name="Tom Aldous")


@pytest.mark.usefixtures("people")
def test_key_create_makes_an_active_record_and_ends_with_its_name() -> None:
    said = create(account="Second", **{"daily-cap": "5000"})

    assert said.splitlines()[-1] == "prod_crm_sync_revops"
    key = KeyRecord.objects.get()
    assert (key.state, key.environment, key.system, key.label) == ("active", "prod", "crm_sync", "revops")
    assert key.owner is not None
    assert key.deputy is not None
    assert (key.owner.email, key.deputy.email) == ("mira@desk.example", "tom@desk.example")
    assert (str(key.team), str(key.account), key.account.realm) == ("RevOps", "Second", "live")
    assert key.scopes == ["email-verification:bulk", "leads:search"]
    assert key.daily_cap == Decimal(5000)
    assert key.rotate_by == timezone.localdate() + timedelta(days=90)


@pytest.mark.usefixtures("people")
def test_key_create_says_what_a_draft_misses() -> None:
    said = create(deputy="", team="")

    assert KeyRecord.objects.get().state == "draft"
    assert "It is a draft and lets nothing out: it needs an active deputy, a team." in said
    assert said.splitlines()[-1] == "prod_crm_sync_revops"


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("environment", ["sandbox", "dev"])
def test_key_create_grants_all_scopes_where_no_money_of_others_is(environment: str) -> None:
    create(environment=environment, scopes="all", deputy="", team="")

    key = KeyRecord.objects.get()
    assert (key.state, key.scopes) == ("active", sorted(SCOPES))


@pytest.mark.usefixtures("people")
def test_key_create_uses_team_and_account_that_are_there() -> None:
    team, account = make_team("RevOps"), make_account("Second", realm="live")

    create(team="revops", account="second")

    key = KeyRecord.objects.get()
    assert (key.team, key.account) == (team, account)


@pytest.mark.usefixtures("people")
def test_key_create_leaves_the_terminal_in_the_audit_log() -> None:
    create()

    entries = list(AuditEntry.objects.order_by("id"))
    # What had to be made for the record is told too, each with what the record is for.
    told = ["team.created", "account.created", "key.created"]
    assert [(entry.action, entry.actor) for entry in entries] == [(action, None) for action in told]
    for entry in entries:
        assert entry.via.startswith(f"terminal, {getpass.getuser()}, ")
        assert entry.reason == KeyRecord.objects.get().purpose
    assert entries[1].detail == {"realm": "live"}


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"owner": "nobody@desk.example"},
            "--owner: there is no person with the address nobody@desk.example",
        ),
        ({"deputy": "nobody@desk.example"}, "--deputy: there is no person"),
        ({"environment": "moon"}, "Choose one of prod, staging, dev, sandbox"),
        ({"system": "CRM"}, "small letters"),
        ({"scopes": "all"}, "for sandbox and dev only"),
        ({"scopes": "email-verify"}, "Unknown scope 'email-verify'"),
        ({"secret": "vault:x"}, "not set up here"),
        ({"secret": "env:DATABASE_URL"}, "begin with ICYPEAS_"),
        ({"account": "Training"}, "Training is a sandbox account"),
        ({"account": "x" * 61}, "60 characters"),
        ({"daily-cap": "many"}, "--daily-cap takes a number"),
        ({"daily-cap": "NaN"}, "--daily-cap takes a number"),
        ({"rotate-by": "soon"}, "--rotate-by takes a day"),
        ({"purpose": " "}, "Say in a sentence"),
        ({"label": "x" * 41}, "40 characters"),
    ],
)
def test_key_create_is_refused_with_one_sentence_and_leaves_nothing(
    changes: dict[str, str], said: str
) -> None:
    make_account("Training", realm="sandbox")

    with pytest.raises(CommandError, match=said) as caught:
        create(**changes)

    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
    assert not KeyRecord.objects.exists()
    assert not Team.objects.exists()
    assert Account.objects.count() == 1


@pytest.mark.usefixtures("people")
def test_key_create_refuses_a_taken_name() -> None:
    create()

    with pytest.raises(CommandError, match="There is a key named prod_crm_sync_revops already"):
        create()


def test_key_list_shows_records_with_findings_first() -> None:
    make_key("sandbox_a_fine")
    make_key("sandbox_b_late", rotate_by=timezone.localdate() - timedelta(days=3))

    said = run("list")

    assert said.index("sandbox_b_late") < said.index("sandbox_a_fine")
    assert "Rotation is 3 days late" in said
    assert "never through this app" in said


def test_key_list_says_how_to_begin_when_there_is_none() -> None:
    assert "key create --help" in run("list")


def test_key_show_tells_everything_but_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", SECRET)
    make_key("sandbox_training_revops", scopes=["leads:search"], account=make_account(balance=90))

    said = run("show", "sandbox_training_revops")

    for part in ("sandbox_training_revops", "leads:search", "env:ICYPEAS_API_KEY", "90 credits", "no deputy"):
        assert part in said
    assert SECRET not in said


@pytest.mark.parametrize("action", ["show", "test"])
def test_key_of_an_unknown_name_is_refused(acting: None, action: str) -> None:
    with pytest.raises(CommandError, match="There is no key record 'sandbox_no_such'"):
        run(action, "sandbox_no_such")


# --- key test ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def acting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command makes its process a worker; a test gives that back. One pepper for the fingerprints."""
    monkeypatch.setattr(base, "_acts_as_worker", False)
    monkeypatch.setattr(base, "read_worker_env_file", lambda: None)
    monkeypatch.setenv("FINGERPRINT_PEPPER", "pepper of this test")
    base._pepper.cache_clear()
    yield
    base._pepper.cache_clear()


@pytest.fixture
def key(acting: None, sandbox: SandboxProcess, settings: Any, monkeypatch: pytest.MonkeyPatch) -> KeyRecord:
    """A record whose secret the sandbox accepts."""
    settings.ICYPEAS_BASE_URL = f"{sandbox.url}/api"
    settings.ICYPEAS_RATE_FACTOR = 50.0
    monkeypatch.setenv("ICYPEAS_API_KEY", SECRET)
    return make_key("sandbox_training_revops", account=make_account("Training"))


def lines(said: str) -> dict[str, str]:
    """The checks by name, each with its note; the mark comes first."""
    found: dict[str, str] = {}
    for line in said.splitlines():
        step = next((step for step in STEPS if line[8:].startswith(step)), "")
        if step:
            found[step] = line
        elif found:
            found[list(found)[-1]] += f" {line.strip()}"
    return found


def run_test(name: str = "sandbox_training_revops") -> tuple[int, dict[str, str], str]:
    """Exit status, checks and everything that was printed."""
    out = io.StringIO()
    try:
        call_command("key", "test", name, stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), lines(out.getvalue()), out.getvalue()
    return 0, lines(out.getvalue()), out.getvalue()


def test_key_test_ends_well_and_stores_the_balance(key: KeyRecord, sandbox: SandboxProcess) -> None:
    status, checks, said = run_test()

    assert status == 0, said
    assert list(checks) == STEPS
    assert all(line.startswith("ok") for line in checks.values())
    assert base.fingerprint(SECRET) in checks["Shape is plausible"]
    assert "1,000 credits" in checks["Subscription and balance"]
    assert SECRET not in said
    key.account.refresh_from_db()
    assert key.account.balance == 1000
    call = Call.objects.get()
    assert (call.is_probe, call.outcome, call.scope) == (True, "ok", "account:read")


def test_key_test_warns_of_what_was_cleaned_off(key: KeyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", f"Bearer {SECRET}")

    status, checks, said = run_test()

    assert status == 0, said
    assert checks["Shape is plausible"].startswith("look")
    assert "prefix was removed" in checks["Shape is plausible"]


def test_key_test_stops_at_a_reference_that_holds_nothing(
    key: KeyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ICYPEAS_API_KEY")

    status, checks, _ = run_test()

    assert status == 1
    assert "The worker has no ICYPEAS_API_KEY in its environment." in checks["Reference resolves"]
    assert all("not reached" in checks[step] for step in STEPS[1:])
    assert not Call.objects.exists()


def test_key_test_says_that_the_key_was_refused(key: KeyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", "not-the-secret-of-any-account")

    status, checks, said = run_test()

    assert status == 1
    assert checks["Address reachable"].startswith("ok")
    assert "refused (401)" in checks["Key accepted"]
    assert "not reached" in checks["Subscription and balance"]
    assert "not-the-secret" not in said
    key.account.refresh_from_db()
    assert key.account.balance_error


def test_key_test_says_that_nobody_answers(key: KeyRecord, settings: Any) -> None:
    settings.ICYPEAS_BASE_URL = "http://127.0.0.1:9/api"

    status, checks, _ = run_test()

    assert status == 1
    assert "No connection" in checks["Address reachable"]
    assert "not reached" in checks["Key accepted"]


@pytest.mark.parametrize("kind", ["status", "html"])
def test_key_test_blames_no_key_when_icypeas_answers_nonsense(
    key: KeyRecord, sandbox: SandboxProcess, kind: str
) -> None:
    sandbox.order("/control/faults", {"route": "/a/actions/subscription-information", "kind": kind})

    status, checks, said = run_test()

    assert status == 1, said
    assert "this says nothing of the key" in checks["Address reachable"]
    assert "not reached" in checks["Key accepted"]


def test_key_test_says_that_the_subscription_is_unpaid(
    key: KeyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Balance:
        raise UnpaidError("unpaid subscription")

    monkeypatch.setattr(reads, "read_balance", refuse)

    status, checks, said = run_test()

    assert status == 1, said
    assert checks["Key accepted"].startswith("ok")
    assert "Pay it at Icypeas" in checks["Subscription and balance"]


def test_key_test_never_sends_a_sandbox_key_to_the_real_icypeas(key: KeyRecord, settings: Any) -> None:
    settings.ICYPEAS_IS_REAL = True

    status, checks, _ = run_test()

    assert status == 1
    assert "sandbox secrets never go there" in checks["Address reachable"]


def test_key_test_calls_once_a_minute_for_one_account(key: KeyRecord, sandbox: SandboxProcess) -> None:
    make_key("sandbox_other_revops", account=key.account)
    assert run_test()[0] == 0

    status, checks, _ = run_test("sandbox_other_revops")

    assert status == 1
    assert "tested less than a minute ago" in checks["Address reachable"]
    assert Call.objects.count() == 1


@pytest.mark.parametrize("state", ["draft", "quarantined", "revoked", "expired"])
def test_key_test_runs_in_every_state(key: KeyRecord, state: str) -> None:
    KeyRecord.objects.update(state=state, scopes=[])

    assert run_test()[0] == 0


def test_key_test_compares_with_the_reference_before(key: KeyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_KEY_OLD", SECRET)
    KeyRecord.objects.update(previous_secret_ref="env:ICYPEAS_KEY_OLD")

    _, checks, _ = run_test()

    assert "the same as at env:ICYPEAS_KEY_OLD" in checks["Reference resolves"]
