"""What workers report about secrets, and what a key's page makes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.signals import worker_shutdown, worker_shutting_down
from django.test import Client

from enrichment import roll_call
from keys import calls, findings, presence, secrets, selectors
from keys.clock import db_now
from keys.models import Call, Presence, Worker
from keys.services import worker_ends, worker_seen
from people.models import User
from tests import factories
from tests.fakes.sandbox_process import CANARY

AsPerson = Callable[[User], Client]
SECRET = f"canary-presence-{CANARY}-0123456789abcdef"

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_worker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Report as a worker of that name whose environment holds that secret."""
    settings.PROCESS_ROLE = "worker"

    def report(name: str, secret: str | None = SECRET, release: str = "") -> int:
        settings.WORKER_NAME, settings.RELEASE = name, release
        if secret is None:
            monkeypatch.delenv("ICYPEAS_API_KEY", raising=False)
        else:
            monkeypatch.setenv("ICYPEAS_API_KEY", secret)
        worker_seen()
        return presence.report()

    return report


def test_workers_with_the_same_secret_are_told_as_one(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    for name in ("w1", "w2", "w3"):
        assert as_worker(name) == 1

    standing = presence.standing(key.secret_ref)

    assert (standing.text, standing.tone, standing.is_uniform) == (
        "seen by 3 of 3 workers, same fingerprint",
        "ok",
        True,
    )
    assert SECRET not in repr(list(Presence.objects.values()))


def test_worker_without_the_secret_is_named_with_its_problem(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1")
    as_worker("w2", None)

    standing = presence.standing(key.secret_ref)

    assert (standing.text, standing.tone) == ("seen by 1 of 2 workers", "bad")
    (missing,) = standing.missing
    assert missing.worker == "w2"
    assert "ICYPEAS_API_KEY" in missing.problem


def test_different_secrets_are_counted(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1")
    as_worker("w2", SECRET + "-other")

    standing = presence.standing(key.secret_ref)

    assert (standing.text, standing.tone) == ("seen by 2 of 2 workers, 2 different fingerprints", "bad")


def test_what_was_taken_off_a_secret_is_told_and_is_no_difference(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1")
    as_worker("w2", f"Bearer {SECRET}")

    standing = presence.standing(key.secret_ref)

    assert standing.is_uniform
    assert any("Bearer" in warning for warning in standing.warnings)


def test_worker_that_ended_does_not_count(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1")
    as_worker("w2", None)
    Worker.objects.filter(name="w2").update(seen_at=db_now() - timedelta(minutes=5))

    assert presence.standing(key.secret_ref).text == "seen by 1 of 1 worker"


def test_worker_that_says_goodbye_is_replaced_without_a_contradiction(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1-100")
    before = presence.standing(key.secret_ref).fingerprints[0]

    worker_ends()
    as_worker("w1-200", SECRET + "-new")

    standing = presence.standing(key.secret_ref)
    assert (standing.text, standing.tone) == ("seen by 1 of 1 worker", "ok")
    assert standing.sights[0].previous_fingerprint == before  # what it found is remembered
    assert codes(key) == []
    as_worker("w1-100")  # the same name again is a worker that lives
    assert codes(key) == ["fingerprint"]


@pytest.mark.parametrize(("silent_s", "found"), [(45, ["fingerprint"]), (75, [])])
def test_worker_that_was_killed_accuses_nobody_for_longer_than_two_reports(
    as_worker: Callable[..., int], silent_s: float, found: list[str]
) -> None:
    key = factories.make_key()
    as_worker("w1-100")
    as_worker("w1-200", SECRET + "-new")
    Worker.objects.filter(name="w1-100").update(seen_at=db_now() - timedelta(seconds=silent_s))

    assert codes(key) == found
    assert presence.standing(key.secret_ref).workers == 2  # the page shows it until it counts as gone


def test_reference_that_breaks_hides_no_other(
    as_worker: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, well = factories.make_key(secret_ref="env:ICYPEAS_API_BROKEN"), factories.make_key()

    def look(reference: str) -> Any:
        if reference == broken.secret_ref:
            raise RuntimeError(f"Symlink loop at {SECRET}")
        return secrets.resolve(reference)

    monkeypatch.setattr(presence, "resolve", look)
    as_worker("w1")

    (sight,) = presence.standing(broken.secret_ref).missing
    assert sight.problem == "It could not be looked at (RuntimeError)."
    assert presence.standing(well.secret_ref).tone == "ok"


def test_worker_whose_stores_are_slow_lives_all_the_while(
    as_worker: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [factories.make_key(secret_ref=f"env:ICYPEAS_API_{number}") for number in range(30)]
    clock = [0.0]

    def time_out(reference: str) -> Any:
        clock[0] += 6
        ages.append(clock[0] - (Worker.objects.get().seen_at - began).total_seconds())
        raise secrets.SecretError("The store does not answer.")

    monkeypatch.setattr(presence.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(presence, "resolve", time_out)
    ages: list[float] = []
    began = db_now()

    as_worker("w1")

    assert clock[0] == 180  # longer than a silence after which a worker counts as gone
    assert max(ages) < 20
    last, first = (Presence.objects.get(reference=key.secret_ref).seen_at for key in (keys[9], keys[0]))
    assert last - first > timedelta(seconds=150)


def test_sight_that_was_not_renewed_is_none(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1")
    as_worker("w2", None)
    Presence.objects.filter(worker="w2").update(seen_at=db_now() - timedelta(minutes=11))

    standing = presence.standing(key.secret_ref)

    assert (standing.text, standing.tone) == ("seen by 1 of 2 workers; 1 not heard yet", "warn")
    assert codes(key) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("shutdown", [worker_shutting_down, worker_shutdown])
def test_worker_that_is_told_to_end_says_goodbye(
    as_worker: Callable[..., int], monkeypatch: pytest.MonkeyPatch, shutdown: Any
) -> None:
    monkeypatch.setattr(roll_call, "_ends", threading.Event())
    as_worker("w1")

    shutdown.send(sender="w1")

    assert not presence.living_workers().exists()
    roll_call._answer()  # ends at once, and wakes nobody up again
    assert Worker.objects.get().ended_at is not None


def test_change_is_dated_and_a_steady_sight_keeps_its_date(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1", release="1.0")
    long_ago = db_now() - timedelta(days=1)
    Presence.objects.update(changed_at=long_ago)

    as_worker("w1", release="1.1")
    assert presence.standing(key.secret_ref).sights[0].changed_at == long_ago
    as_worker("w1", None, release="1.2")

    (sight,) = presence.standing(key.secret_ref).sights
    assert (sight.release, sight.changed_at > long_ago, sight.fingerprint) == ("1.2", True, "")


def test_reference_that_nobody_names_any_more_is_forgotten(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1")
    type(key).objects.update(secret_ref="env:ICYPEAS_OTHER")

    as_worker("w1")

    assert list(Presence.objects.values_list("reference", flat=True)) == ["env:ICYPEAS_OTHER"]


def test_records_with_one_secret_show_each_other(
    as_worker: Callable[..., int], monkeypatch: pytest.MonkeyPatch, as_person: AsPerson
) -> None:
    monkeypatch.setenv("ICYPEAS_KEY_TWO", SECRET)
    one = factories.make_key("sandbox_one_ops")
    two = factories.make_key("sandbox_two_ops", secret_ref="env:ICYPEAS_KEY_TWO", account=one.account)
    other = factories.make_key("sandbox_other_ops", secret_ref="env:ICYPEAS_NOWHERE", account=one.account)
    as_worker("w1")

    assert (presence.sharing(one), presence.sharing(two), presence.sharing(other)) == ([two], [one], [])
    page = as_person(factories.make_user(role="key_admin")).get(f"/keys/{one.name}/").content.decode()
    assert "Same secret as" in page
    assert "Seen by 1 of 1 worker" in page


def test_page_lists_what_differs_between_workers(as_worker: Callable[..., int], as_person: AsPerson) -> None:
    key = factories.make_key()
    as_worker("w1", release="2026.11")
    as_worker("w2", None)

    page = as_person(factories.make_user(role="key_admin")).get(f"/keys/{key.name}/").content.decode()

    assert "What the workers find" in page
    assert "release 2026.11" in page
    assert SECRET not in page


def test_worker_counts_only_for_the_environments_that_it_serves(
    as_worker: Callable[..., int], settings: Any
) -> None:
    here, there = factories.make_key("sandbox_a_ops"), factories.make_key("dev_b_ops", environment="dev")
    type(there).objects.filter(id=there.id).update(secret_ref="env:ICYPEAS_KEY_DEV")
    settings.ENVIRONMENTS = ["sandbox"]
    assert as_worker("w1") == 1  # the other reference is not even looked at
    there.refresh_from_db()

    assert presence.standing(here.secret_ref).text == "seen by 1 of 1 worker"
    assert presence.standing(there.secret_ref).text == "no running worker serves dev"
    assert codes(there) == []

    settings.ENVIRONMENTS = ["dev"]
    as_worker("w2", None)
    standing = presence.standing(there.secret_ref)
    assert (standing.text, standing.tone) == ("seen by 0 of 1 worker", "bad")
    assert presence.standing(here.secret_ref).is_uniform


def test_worker_that_has_not_reported_is_not_counted_as_seeing(
    as_worker: Callable[..., int], settings: Any
) -> None:
    key = factories.make_key()
    as_worker("w1")
    settings.WORKER_NAME = "w2"
    worker_seen()

    standing = presence.standing(key.secret_ref)

    assert (standing.text, standing.tone, standing.is_uniform) == (
        "seen by 1 of 2 workers; 1 not heard yet",
        "warn",
        False,
    )


def test_secret_that_got_shorter_is_told_without_its_length(
    as_worker: Callable[..., int], as_person: AsPerson
) -> None:
    key = factories.make_key()
    as_worker("w1")
    as_worker("w1", SECRET[:-3])

    standing = presence.standing(key.secret_ref)

    assert standing.shorter_by == 3
    assert standing.warnings == ["It is 3 characters shorter than the secret that stood here before."]
    assert standing.sights[0].previous_fingerprint != standing.fingerprints[0]
    page = as_person(factories.make_user(role="key_admin")).get(f"/keys/{key.name}/").content.decode()
    assert "3 characters shorter" in page
    as_worker("w1", None)
    as_worker("w1", SECRET)  # through a time without any
    assert presence.standing(key.secret_ref).warnings == []


def test_file_that_everybody_can_read_is_a_warning_of_presence(
    as_worker: Callable[..., int], settings: Any, tmp_path: Path
) -> None:
    settings.SECRETS_DIR = tmp_path / "secrets"
    settings.SECRETS_DIR.mkdir()
    (settings.SECRETS_DIR / "crm").write_text(SECRET)
    (settings.SECRETS_DIR / "crm").chmod(0o444)
    key = factories.make_key(secret_ref="file:crm")
    as_worker("w1")

    standing = presence.standing(key.secret_ref)

    assert (standing.tone, len(standing.warnings)) == ("ok", 1)
    assert "read by everybody" in standing.warnings[0]


def test_web_never_reports(settings: Any) -> None:
    factories.make_key()
    settings.PROCESS_ROLE = "web"

    presence.report()

    (sight,) = Presence.objects.all()
    assert (sight.fingerprint, "Only workers" in sight.problem) == ("", True)


def codes(key: Any) -> list[str]:
    """Findings of the record once it was looked at; its severity agrees."""
    findings.refresh()
    listed = findings.with_findings(selectors.all_keys()).get(id=key.id)
    found = findings.findings_of(listed)
    tones = {finding.tone for finding in found}
    assert listed.severity == (2 if "bad" in tones else 1 if tones else 0)
    return [finding.code for finding in found]


def test_secret_that_some_worker_misses_is_a_finding(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    assert codes(key) == []
    as_worker("w1")
    as_worker("w2", None)

    assert codes(key) == ["secret"]
    Worker.objects.filter(name="w2").update(seen_at=db_now() - timedelta(minutes=5))
    assert codes(key) == []


def test_different_secrets_are_a_finding(as_worker: Callable[..., int]) -> None:
    key = factories.make_key()
    as_worker("w1")
    as_worker("w2", SECRET + "-other")

    assert codes(key) == ["fingerprint"]


def test_secret_of_another_environment_is_a_finding_and_keeps_a_draft_a_draft(
    as_worker: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICYPEAS_KEY_DEV", SECRET)
    one = factories.make_key("sandbox_one_ops")
    other = factories.make_key("dev_two_ops", environment="dev", secret_ref="env:ICYPEAS_KEY_DEV")
    as_worker("w1")

    assert (codes(one), codes(other)) == (["sharing"], ["sharing"])
    assert "a secret that no other environment holds" in selectors.missing_for_activation(other)
    type(other).objects.filter(id=other.id).update(state="revoked")
    assert codes(one) == []


def test_key_that_nobody_uses_is_a_finding() -> None:
    key = factories.make_key()
    type(key).objects.filter(id=key.id).update(created_at=db_now() - timedelta(days=45))

    assert codes(key) == ["unused"]
    assert "Not used for 45 days" in findings.findings_of(key)[0].title
    type(key).objects.filter(id=key.id).update(last_used_at=db_now() - timedelta(days=3))
    call = {"account": key.account, "key": key, "route": "r", "worker": "w", "at": db_now(), "outcome": "ok"}
    for scope in key.scopes:
        calls.write(Call(scope=scope, **call))
    assert codes(key) == []


def test_records_of_one_reference_share_before_any_worker_has_looked() -> None:
    one = factories.make_key("prod_one_ops", environment="prod", state="draft")
    two = factories.make_key("staging_one_ops", environment="staging", account=one.account)
    gone = factories.make_key("dev_one_ops", environment="dev", state="revoked", account=one.account)

    assert {one.secret_ref} == {two.secret_ref, gone.secret_ref}
    assert presence.sharing(one) == [two]
    assert "a secret that no other environment holds" in selectors.missing_for_activation(one)
