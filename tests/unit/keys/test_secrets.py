"""References, sources, cleaning, fingerprints, and the wrapper that shows nothing."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import env
from enrichment.providers.icypeas.auth import clean_secret
from keys.secrets import Secret, SecretError, SecretMissingError, base, check_reference, file, resolve

PLANTED = "planted-9f2c-secret"


@pytest.fixture
def worker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that may resolve, with a pepper of its own."""
    settings.PROCESS_ROLE = "worker"
    monkeypatch.setenv("FINGERPRINT_PEPPER", "pepper of this test")
    base._pepper.cache_clear()
    yield
    base._pepper.cache_clear()


def test_environment_variable_resolves_in_a_worker(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_KEY_PROD_CRM", PLANTED)

    resolved = resolve("env:ICYPEAS_KEY_PROD_CRM")

    assert resolved.secret.reveal() == PLANTED
    assert resolved.warnings == ()


def test_variable_with_file_resolves_from_the_file(
    worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mounted").write_text(PLANTED + "\n")
    (tmp_path / "mounted").chmod(0o400)
    monkeypatch.setenv("ICYPEAS_KEY_PROD_CRM_FILE", str(tmp_path / "mounted"))

    resolved = resolve("env:ICYPEAS_KEY_PROD_CRM")

    assert (resolved.secret.reveal(), resolved.warnings) == (PLANTED, ())


def test_variable_and_its_file_are_refused_together(
    worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", PLANTED)
    monkeypatch.setenv("ICYPEAS_API_KEY_FILE", str(tmp_path / "other"))

    with pytest.raises(SecretMissingError, match="both set") as caught:
        resolve("env:ICYPEAS_API_KEY")

    assert PLANTED not in str(caught.value)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_file_of_a_variable_that_others_can_change_is_refused(
    worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "mounted").write_text(PLANTED)
    (tmp_path / "mounted").chmod(mode)
    monkeypatch.setenv("ICYPEAS_API_KEY_FILE", str(tmp_path / "mounted"))

    with pytest.raises(SecretError, match="can be changed by others"):
        resolve("env:ICYPEAS_API_KEY")


def test_variable_that_is_no_text_is_refused_without_quoting_it(
    worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environb, b"ICYPEAS_KEY_BAD", PLANTED.encode() + b"\xe9")

    with pytest.raises(SecretError, match="env:ICYPEAS_KEY_BAD holds bytes that are no text") as caught:
        resolve("env:ICYPEAS_KEY_BAD")

    assert PLANTED not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None  # the encoder's error holds the value


def test_file_that_is_no_text_is_refused_without_quoting_it(
    worker: None, settings: Any, tmp_path: Path
) -> None:
    settings.SECRETS_DIR = tmp_path
    (tmp_path / "key").write_bytes(PLANTED.encode() + b"\xff")

    with pytest.raises(SecretError, match="does not hold text") as caught:
        resolve("file:key")

    assert PLANTED not in "".join(traceback.format_exception(caught.value))


def test_value_that_looks_like_a_reference_to_another_variable_is_a_value(
    worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", "$DATABASE_URL")

    assert resolve("env:ICYPEAS_API_KEY").secret.reveal() == "$DATABASE_URL"


@pytest.mark.parametrize("written", ["$DATABASE_URL", "'$DATABASE_URL'", '"$DATABASE_URL"'])
def test_value_in_the_workers_file_is_not_interpolated(
    worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: str
) -> None:
    (tmp_path / ".env.worker").write_text(f"ICYPEAS_KEY_ODD={written}\n")
    (tmp_path / ".env.worker").chmod(0o600)
    monkeypatch.setattr(env, "WORKER_ENV_FILE", tmp_path / ".env.worker")
    monkeypatch.setenv("ICYPEAS_KEY_ODD", "")
    monkeypatch.delenv("ICYPEAS_KEY_ODD")

    env.read_worker_env_file()

    assert resolve("env:ICYPEAS_KEY_ODD").secret.reveal() == "$DATABASE_URL"


def test_mounted_file_resolves_under_the_folder_of_secrets(
    worker: None, settings: Any, tmp_path: Path
) -> None:
    settings.SECRETS_DIR = tmp_path
    (tmp_path / "crm").mkdir()
    (tmp_path / "crm" / "key").write_text(PLANTED)
    (tmp_path / "crm" / "key").chmod(0o400)

    assert resolve("file:crm/key").secret.reveal() == PLANTED


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_file_that_others_can_change_is_refused(
    worker: None, settings: Any, tmp_path: Path, mode: int
) -> None:
    settings.SECRETS_DIR = tmp_path
    (tmp_path / "key").write_text(PLANTED)
    (tmp_path / "key").chmod(mode)

    with pytest.raises(SecretError, match="can be changed by others"):
        resolve("file:key")


def test_file_that_others_can_read_is_refused_in_strict_mode_only(
    worker: None, settings: Any, tmp_path: Path
) -> None:
    settings.SECRETS_DIR = tmp_path
    (tmp_path / "key").write_text(PLANTED)
    (tmp_path / "key").chmod(0o444)
    resolved = resolve("file:key")
    assert resolved.secret.reveal() == PLANTED
    assert resolved.warnings == ("file:key can be read by everybody on its host. Run: chmod 400 on it.",)
    (tmp_path / "key").chmod(0o440)  # by its group alone, as mounts of Kubernetes can be set
    assert resolve("file:key").warnings == ()

    settings.STRICT_SECRET_FILES = True

    with pytest.raises(SecretError, match="can be read by others"):
        resolve("file:key")


def test_file_that_is_a_pipe_is_refused_at_once(worker: None, settings: Any, tmp_path: Path) -> None:
    settings.SECRETS_DIR = tmp_path
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(SecretError, match="not a plain file"):
        resolve("file:pipe")


def test_large_file_is_refused_unread(worker: None, settings: Any, tmp_path: Path) -> None:
    settings.SECRETS_DIR = tmp_path
    (tmp_path / "dump").write_bytes(b"x" * (file.MOST_BYTES + 1))

    with pytest.raises(SecretError, match="larger than 64 KB"):
        resolve("file:dump")


@pytest.mark.parametrize("reference", ["env:ICYPEAS_KEY_NOT_THERE", "file:not-there"])
def test_place_that_holds_nothing_is_missing(worker: None, reference: str) -> None:
    with pytest.raises(SecretMissingError):
        resolve(reference)


def test_place_that_holds_only_space_is_missing(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", "  \n")

    with pytest.raises(SecretMissingError, match="empty"):
        resolve("env:ICYPEAS_API_KEY")


@pytest.mark.parametrize("role", ["web", "scheduler", "cli"])
def test_process_that_is_no_worker_resolves_nothing(
    settings: Any, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    settings.PROCESS_ROLE = role
    monkeypatch.setattr(base, "_acts_as_worker", False)
    monkeypatch.setenv("ICYPEAS_API_KEY", PLANTED)

    with pytest.raises(SecretError, match="Only workers read secrets"):
        resolve("env:ICYPEAS_API_KEY")


@pytest.mark.parametrize(
    "reference",
    [
        "env:DATABASE_URL",
        "env:SECRET_KEY",
        "env:PATH",
        "env:icypeas_api_key",
        "env:ICYPEAS_",
        "env:ICYPEAS_BASE_URL",
        "env:ICYPEAS_RATE_FACTOR",
        "env:ICYPEAS_KEY_A\n",
        "env:",
        "file:",
        "file:.",
        "file:../outside",
        "file:/etc/passwd",
        "file:a/../../outside",
        "file:a\x00b",
        "vault:secret/icypeas",
        "",
        "env",
        PLANTED,
        f"env:{PLANTED}",
        f"file:{PLANTED}+/==",
    ],
)
def test_reference_to_another_place_is_refused_without_repeating_it(reference: str) -> None:
    with pytest.raises(SecretError) as caught:
        check_reference(reference)

    assert PLANTED not in str(caught.value)


def test_link_out_of_the_folder_of_secrets_is_refused(worker: None, settings: Any, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("not a provider secret")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    settings.SECRETS_DIR = folder

    with pytest.raises(SecretError, match="refused"):
        resolve("file:link")


@pytest.mark.parametrize(
    ("raw", "cleaned", "said"),
    [
        ("key", "key", []),
        ("key\n", "key", []),
        ("key\r\n", "key", []),
        (" key", "key", ["Spaces"]),
        ('"key"', "key", ["Quotes"]),
        ("'key'", "key", ["Quotes"]),
        ("Bearer key", "key", ["Bearer"]),
        ("bearer  key\n", "key", ["Bearer"]),
        ('"Bearer key"', "key", ["Quotes", "Bearer"]),
        ("Bearer 'key'", "key", ["Quotes", "Bearer"]),
        ("Authorization: Bearer key", "key", ["header's name", "Bearer"]),
        ("\ufeffkey", "key", ["Invisible"]),
        ("“key”\u200b", "key", ["Invisible", "Quotes"]),
        ("Bearer", "", ["Bearer"]),
    ],
)
def test_secret_is_freed_from_what_people_paste_around_it(raw: str, cleaned: str, said: list[str]) -> None:
    value, warnings = base.clean(raw)

    assert value == cleaned
    assert clean_secret(raw)[0] == cleaned  # the fingerprint is of what the client sends
    assert len(warnings) == len(said)
    assert all(word in warning for word, warning in zip(said, warnings, strict=True))


@pytest.mark.parametrize(
    ("cleaned", "said"),
    [
        ("k" * 40, []),
        ("k" * 15, ["only 15 characters"]),
        ("k" * 20 + " " + "k" * 20, ["white space inside"]),
        ("k" * 20 + "\n" + "k" * 20, ["white space inside"]),
        ("k" * 20 + "é", ["no key has"]),
        ("${ICYPEAS_KEY_OF_THE_DESK}", ["nobody filled in"]),
        ("ICYPEAS_API_KEY=" + "k" * 20, ["a whole line"]),
        ('{"key":"' + "k" * 20 + '"}', ["JSON"]),
        ("https://vault.example/v1/secret", ["an address"]),
        ("$" + "k/+=" * 10, []),
    ],
)
def test_odd_shape_is_told_without_a_character_of_the_secret(cleaned: str, said: list[str]) -> None:
    warnings = base.odd_shape(cleaned)

    assert len(warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, warnings, strict=True))
    assert "kk" not in " ".join(warnings)
    assert all(base.is_odd(warning) for warning in warnings)


def test_what_was_taken_off_is_not_odd(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", f"Bearer {PLANTED}")

    resolved = resolve("env:ICYPEAS_API_KEY")

    assert resolved.warnings
    assert not any(base.is_odd(warning) for warning in resolved.warnings)
    assert resolved.length == len(PLANTED)


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("ICYPEAS_API_KEY", True),
        ("ICYPEAS_OTHER", True),
        ("ICYPEAS_API_SECRET_FILE", True),
        ("VAULT_TOKEN", True),
        ("AWS_SESSION_TOKEN", True),
        ("ICYPEAS_BASE_URL", False),
        ("ICYPEAS_RATE_FACTOR", False),
        ("VAULT_ADDR", False),
    ],
)
def test_every_variable_that_a_reference_may_name_keeps_web_from_starting(name: str, is_secret: bool) -> None:
    assert env.provider_secret_names({name: "x"}) == ([name] if is_secret else [])
    assert bool(env.PROVIDER_SECRET_NAME.match(name)) == is_secret


def test_fingerprint_is_the_same_for_the_same_secret_only(worker: None) -> None:
    first = base.fingerprint("one")

    assert first == base.fingerprint("one") != base.fingerprint("two")
    assert len(first) == 12
    assert set(first) <= set("0123456789abcdef")


def test_fingerprint_depends_on_the_pepper(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = base.fingerprint("one")
    monkeypatch.setenv("FINGERPRINT_PEPPER", "another pepper")
    base._pepper.cache_clear()

    assert base.fingerprint("one") != first


def test_pepper_is_drawn_once_and_kept_from_others(
    worker: None, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    monkeypatch.delenv("FINGERPRINT_PEPPER")
    base._pepper.cache_clear()

    first = base.fingerprint("one")
    base._pepper.cache_clear()

    assert base.fingerprint("one") == first
    assert (tmp_path / "worker" / "pepper").stat().st_mode & 0o777 == 0o600


def test_secret_shows_itself_in_no_text(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICYPEAS_API_KEY", PLANTED)
    resolved = resolve("env:ICYPEAS_API_KEY")

    texts = [repr(resolved), str(resolved), f"{resolved.secret}", f"{resolved.secret!r}", str([resolved])]

    assert not [text for text in texts if PLANTED in text]


def test_secret_is_not_serialised() -> None:
    with pytest.raises(TypeError) as caught:
        pickle.dumps(Secret(PLANTED))

    assert PLANTED not in "".join(traceback.format_exception(caught.value))
