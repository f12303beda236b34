"""Webhooks: kept at once, checked by a worker, heeded as hints; forged, repeated, early and late ones change nothing."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from config import redaction
from enrichment.choices import HookState
from enrichment.models import Batch, EnrichmentJob, HookCall
from enrichment.providers.icypeas.auth import is_signed, sign_webhook
from enrichment.services import hooks
from keys.clock import db_now
from people.audit import terminal_actor
from people.models import AuditEntry
from tests import factories
from tests.fakes.engine import Engine
from tests.fakes.sandbox_process import API_SECRET

TOKEN = "t" * 43
PATH = f"/hooks/icypeas/{TOKEN}/"
FAR = timedelta(hours=1)


@pytest.fixture
def hooked(engine: Engine, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An account whose webhooks come to this installation."""
    settings.PUBLIC_URL = "https://desk.example"
    monkeypatch.setenv("ICYPEAS_API_SECRET", API_SECRET)
    type(engine.account).objects.filter(id=engine.account.id).update(
        api_secret_ref="env:ICYPEAS_API_SECRET", hook_token=TOKEN
    )
    engine.account.refresh_from_db()
    return engine


def body(data: object, *, secret: str = API_SECRET, path: str = PATH, at: datetime | None = None) -> bytes:
    stamp = (at or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    signature = sign_webhook(secret, path=path, stamp=stamp)
    return json.dumps({"signature": signature, "timestamp": stamp, "data": data}).encode()


def post(content: bytes, path: str = PATH) -> Any:
    return Client().post(path, content, content_type="application/json")


def sent_batch(engine: Engine) -> Batch:
    """A list at Icypeas that nobody will look at for an hour."""
    job = engine.start(3)
    while not (batch := Batch.objects.filter(job=job, state="sent").first()):
        engine.step(job)
    Batch.objects.filter(id=batch.id).update(next_at=db_now() + FAR)
    EnrichmentJob.objects.filter(id=job.id).update(next_due_at=db_now() + FAR, dispatched_at=None)
    return batch


def test_vector_of_the_contract() -> None:
    stamp = "2026-01-15T08:30:00.000Z"
    wanted = "c7aa5bc8d65740300e153730894b38cf19fc8e3e"

    assert sign_webhook("demo-secret", path="/hooks/icypeas", stamp=stamp) == wanted
    assert sign_webhook("demo-secret", path="/hooks/Icypeas", stamp=stamp) == wanted


def test_call_is_kept_once_and_only_ids_of_it(hooked: Engine) -> None:
    content = body({"file": "f-1", "results": [{"results": {"emails": ["ann@secret.example"]}}], "total": 5})

    assert [post(content).status_code for _ in range(3)] == [200, 200, 200]

    (call,) = HookCall.objects.all()
    assert call.ids == ["f-1"]
    assert call.state == HookState.WAITING


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (lambda: b"", 400),
        (lambda: b"[]", 400),
        (lambda: b"{", 400),
        (lambda: b"[" * 100_000, 400),
        (lambda: json.dumps({"timestamp": "2026-01-15T08:30:00.000Z", "data": {}}).encode(), 400),
        (lambda: body({}, at=datetime.now(UTC) - timedelta(hours=1)), 400),
        (lambda: body({}, at=datetime.now(UTC) + timedelta(hours=1)), 400),
        (lambda: json.dumps({"timestamp": "soon", "signature": "x", "data": {}}).encode(), 400),
        (lambda: body({}).replace(b'"signature": "', b'"signature": "\\ud800'), 400),
        (lambda: body({}).replace(b"T", b"\\ud800", 1), 400),
        (lambda: b'{"a": "' + b"x" * 1_000_001 + b'"}', 413),
    ],
)
def test_what_is_no_webhook_is_refused_and_not_kept(
    hooked: Engine, content: Callable[[], bytes], status: int
) -> None:
    assert (
        post(content()).status_code == status
    )  # made now, or a long run would make it one that is merely old
    assert not HookCall.objects.exists()


@pytest.mark.parametrize(
    "data", [None, [], {"file": 5}, {"file": "x" * 200}, {"userData": "x"}, {"_id": "\u0000"}]
)
def test_odd_data_is_kept_without_ids(hooked: Engine, data: object) -> None:
    assert post(body(data)).status_code == 200
    assert HookCall.objects.get().ids == []


def test_unknown_address_and_other_methods_are_nobody_s(hooked: Engine) -> None:
    assert post(body({}), "/hooks/icypeas/" + "u" * 43 + "/").status_code == 404
    assert post(body({}), "/hooks/icypeas/x/").status_code == 404
    assert Client().get(PATH).status_code == 405


def test_address_is_masked_in_the_log_of_calls_that_are_refused(
    hooked: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_known", type(redaction._known)())

    with caplog.filtering(redaction.RedactSecrets()):
        refused = [post(b"no JSON"), post(body({}, at=datetime.now(UTC) - FAR)), Client().get(PATH)]

    assert [answer.status_code for answer in refused] == [400, 400, 405]
    assert caplog.text.count("/hooks/icypeas/***/") == 3
    assert TOKEN not in caplog.text


def test_signed_call_moves_the_look_forward_and_the_read_decides(hooked: Engine) -> None:
    batch = sent_batch(hooked)
    post(body({"file": batch.provider_ref, "total": 3, "done": 3, "found": 3}))

    woken = hooks.heed(hooked.account.id)

    assert woken == [(batch.job_id, False)]
    assert HookCall.objects.get().state == HookState.HEEDED
    job = hooked.run(EnrichmentJob.objects.get(id=batch.job_id))
    assert job.state == "completed"


@pytest.mark.parametrize(
    "content",
    [
        lambda ref: body({"file": ref}, secret="another secret"),
        lambda ref: body({"file": ref}, path="/hooks/icypeas/elsewhere/"),
        lambda ref: json.dumps({**json.loads(body({"file": ref})), "signature": "é" * 40}).encode(),
    ],
)
def test_forged_call_changes_nothing(hooked: Engine, content: Any) -> None:
    batch = sent_batch(hooked)

    assert post(content(batch.provider_ref)).status_code == 200
    assert hooks.heed(hooked.account.id) == []

    assert HookCall.objects.get().state == HookState.FORGED
    assert Batch.objects.get(id=batch.id).next_at > db_now() + FAR / 2


def test_captured_call_with_other_data_only_causes_a_read(hooked: Engine) -> None:
    batch = sent_batch(hooked)
    honest = json.loads(body({"file": "another"}))
    post(json.dumps({**honest, "data": {"file": batch.provider_ref, "found": 99}}).encode())

    hooks.heed(hooked.account.id)

    job = hooked.run(EnrichmentJob.objects.get(id=batch.job_id))
    assert (job.state, job.rows_found + job.rows_not_found) == ("completed", 3)


def test_early_call_waits_and_late_one_is_forgotten(hooked: Engine) -> None:
    post(body({"file": "not-noted-yet"}))

    assert hooks.heed(hooked.account.id) == []
    assert HookCall.objects.get().state == HookState.EARLY
    assert hooks.waiting_accounts() == [hooked.account.id]  # the sweep has it checked again
    HookCall.objects.update(received_at=db_now() - timedelta(minutes=2))
    hooks.heed(hooked.account.id)
    assert HookCall.objects.get().state == HookState.UNKNOWN
    HookCall.objects.update(received_at=db_now() - timedelta(days=8))
    assert hooks.forget() == 1


def test_call_about_another_account_s_list_is_not_heeded(hooked: Engine) -> None:
    batch = sent_batch(hooked)
    other = factories.make_account(api_secret_ref="env:ICYPEAS_API_SECRET", hook_token="o" * 43)
    path = f"/hooks/icypeas/{other.hook_token}/"

    post(body({"file": batch.provider_ref}, path=path), path)

    assert hooks.heed(other.id) == []
    assert Batch.objects.get(id=batch.id).next_at > db_now() + FAR / 2


def test_burst_rings_once_and_each_call_is_checked_once(
    hooked: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def check(secret: str, **call: str) -> bool:
        checked.append(call["stamp"])
        return is_signed(secret, **call)

    monkeypatch.setattr(hooks, "is_signed", check)
    monkeypatch.setattr(hooks, "AT_ONCE", 7)
    rings = len(hooked.wakes)

    for number in range(30):
        assert post(body({"file": f"nobody-s-{number}"})).status_code == 200
    rings = len(hooked.wakes) - rings
    for _ in range(5):
        hooks.heed(hooked.account.id)

    assert rings == 1
    assert len(checked) == 30
    assert set(HookCall.objects.values_list("state", flat=True)) == {HookState.EARLY}


def test_flood_is_dropped(hooked: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "MOST_WAITING", 2)

    assert [post(body({"file": f"f-{n}"})).status_code for n in range(4)] == [200, 200, 503, 503]


def test_without_a_public_address_nobody_is_asked_to_call(engine: Engine) -> None:
    engine.run(engine.start(2))

    assert "webhooks" not in engine.sandbox.state()["requests"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "switches", [{}, {"webhooks_duplicated": True, "webhooks_shuffled": True}, {"webhooks_dropped": True}]
)
def test_sandbox_calls_when_a_list_has_ended(
    hooked: Engine, live_server: Any, settings: Any, switches: dict[str, bool]
) -> None:
    settings.PUBLIC_URL = live_server.url
    hooked.switch(**switches)

    job = hooked.run(hooked.start(5))

    assert job.state == "completed"
    assert hooked.sandbox.charges()
    if switches.get("webhooks_dropped"):
        assert not HookCall.objects.exists()
        return
    until = db_now() + timedelta(seconds=60)
    while not HookCall.objects.exists():
        assert db_now() < until
        time.sleep(0.05)
    hooks.heed(hooked.account.id)
    # Those whose list was read before they came name nothing that is still awaited.
    states = set(HookCall.objects.values_list("state", flat=True))
    assert states <= {HookState.HEEDED, HookState.EARLY, HookState.WAITING}


# The terminal


def told(*arguments: str) -> str:
    out = io.StringIO()
    call_command("account", *arguments, stdout=out)
    return out.getvalue()


def test_terminal_makes_the_address_and_takes_it_away(engine: Engine, settings: Any) -> None:
    settings.PUBLIC_URL = "https://desk.example"
    name = engine.account.name

    with pytest.raises(CommandError, match="need the API secret"):
        told("set", name, "--webhooks", "on", "--reason", "faster")
    shown = told(
        "set", name, "--webhooks", "on", "--api-secret", "env:ICYPEAS_API_SECRET", "--reason", "faster"
    )
    engine.account.refresh_from_db()

    assert f"https://desk.example/hooks/icypeas/{engine.account.hook_token}/" in shown
    entry = AuditEntry.objects.get(action="account.changed")
    assert engine.account.hook_token not in json.dumps(entry.detail)
    assert (entry.reason, entry.via) == ("faster", terminal_actor(None).via)
    assert "webhooks         off" in told("set", name, "--webhooks", "off", "--reason", "slower")
    with pytest.raises(CommandError, match="There is no account"):
        told("set", "Nobody")
    with pytest.raises(CommandError, match="not a secret reference"):
        told("set", name, "--api-secret", "pasted-secret-value", "--reason", "by mistake")


def test_terminal_changes_no_account_without_a_reason(engine: Engine) -> None:
    with pytest.raises(CommandError, match=r"Say why: the history keeps it\. Give it with --reason"):
        told("set", engine.account.name, "--user-id", "u-1")

    engine.account.refresh_from_db()
    assert engine.account.user_id == ""
    assert not AuditEntry.objects.filter(action="account.changed").exists()
    assert "user id          -" in told("set", engine.account.name)


def test_signed_requests_are_accepted_by_a_strict_reader(hooked: Engine) -> None:
    type(hooked.account).objects.filter(id=hooked.account.id).update(signs_requests=True)

    job = hooked.run(hooked.start(2))

    assert job.state == "completed"
