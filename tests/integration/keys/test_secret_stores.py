"""Secrets read from a vault and from AWS Secrets Manager, over real HTTP from server processes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from keys.secrets import SecretError, SecretMissingError, base, check_reference, resolve
from tests.fakes.vault_process import TOKEN

CANARY_VAULT = "canary-vault-7d31e0"
CANARY_AWS = "canary-aws-51b9c4"
ROOT = Path(__file__).resolve().parents[3]


def wait_until(is_ready: Callable[[], bool]) -> None:
    """Poll a process that starts; fails after 30 s."""
    until = time.monotonic() + 30
    while not is_ready():
        assert time.monotonic() < until, "the server process did not start"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def vault_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = tmp_path_factory.mktemp("vault") / "port"
    process = subprocess.Popen([sys.executable, "-m", "tests.fakes.vault_process", str(port)], cwd=ROOT)
    try:
        wait_until(lambda: port.exists() and port.read_text() != "")
        yield f"http://127.0.0.1:{port.read_text()}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = tmp_path_factory.mktemp("aws") / "port"
    code = (
        "import sys, time; from pathlib import Path; from moto.server import ThreadedMotoServer; "
        "server = ThreadedMotoServer('127.0.0.1', port=0, verbose=False); server.start(); "
        "Path(sys.argv[1]).write_text(str(server.get_host_and_port()[1])); time.sleep(3600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(port)], cwd=ROOT)
    try:
        wait_until(lambda: port.exists() and port.read_text() != "")
        yield f"http://127.0.0.1:{port.read_text()}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def worker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker without a cache, whose environment names a proxy that leads nowhere."""
    settings.PROCESS_ROLE = "worker"
    settings.SECRET_CACHE_S = 0
    settings.SECRET_TIMEOUT_S = 3.0
    monkeypatch.setenv("FINGERPRINT_PEPPER", "pepper of this test")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    base._pepper.cache_clear()
    yield
    base._pepper.cache_clear()
    base._kept.clear()


@pytest.fixture
def vault(vault_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A vault with some secrets, and a client for its control."""
    settings.VAULT_ADDR, settings.VAULT_PREFIXES = vault_url, ["secret/icypeas"]
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    with httpx.Client(base_url=vault_url, trust_env=False) as client:
        client.put("/unseal")
        client.put("/v1/secret/data/icypeas/crm", json={"key": CANARY_VAULT, "odd": "$HOME", "n": 5})
        client.put("/v1/secret/data/icypeas/gone", content="null")  # a deleted version
        yield client


@pytest.fixture
def aws(aws_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Secrets Manager with some secrets, and a client that may change them."""
    settings.AWS_SM_ENDPOINT_URL, settings.AWS_SM_REGION = aws_url, "eu-west-1"
    settings.AWS_SM_PREFIXES = ["icypeas/"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-only")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    httpx.post(f"{aws_url}/moto-api/reset", trust_env=False)
    with monkeypatch.context() as without_proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            without_proxy.delenv(name)
        client = boto3.client("secretsmanager", region_name="eu-west-1", endpoint_url=aws_url)
    client.create_secret(Name="icypeas/crm", SecretString=json.dumps({"key": CANARY_AWS, "n": 5}))
    client.create_secret(Name="icypeas/plain", SecretString=CANARY_AWS)
    client.create_secret(Name="icypeas/bytes", SecretBinary=CANARY_AWS.encode())
    client.create_secret(Name="icypeas/going", SecretString="{}")
    client.delete_secret(SecretId="icypeas/going", RecoveryWindowInDays=7)
    return client


def test_vault_field_resolves(vault: httpx.Client) -> None:
    resolved = resolve("vault:secret/icypeas/crm#key")

    assert resolved.secret.reveal() == CANARY_VAULT
    assert resolved.fingerprint == base.fingerprint(CANARY_VAULT)


def test_vault_value_with_a_dollar_is_a_value(vault: httpx.Client) -> None:
    assert resolve("vault:secret/icypeas/crm#odd").secret.reveal() == "$HOME"


def test_vault_token_comes_from_a_file(
    vault: httpx.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "token"))

    assert resolve("vault:secret/icypeas/crm#key").secret.reveal() == CANARY_VAULT


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("icypeas/none#key", "has nothing at"),
        ("icypeas/gone#key", "has nothing at"),
        ("icypeas/crm#other", "no field other"),
        ("icypeas/crm#n", "is not text"),
    ],
)
def test_vault_says_what_is_missing(vault: httpx.Client, place: str, said: str) -> None:
    with pytest.raises(SecretMissingError, match=said):
        resolve(f"vault:secret/{place}")


def test_sealed_vault_is_explained(vault: httpx.Client) -> None:
    vault.put("/seal")

    with pytest.raises(SecretMissingError, match="sealed"):
        resolve("vault:secret/icypeas/crm#key")


@pytest.mark.parametrize(
    ("token", "said"), [("hvs.other", "denied"), ("hvs.two words", "holds a space"), ("", "has no token")]
)
def test_vault_token_that_does_not_open_is_explained_unseen(
    vault: httpx.Client, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", token)

    with pytest.raises(SecretMissingError, match=said) as caught:
        resolve("vault:secret/icypeas/crm#key")

    assert not token or token not in str(caught.value)


def test_silent_vault_is_explained(vault: httpx.Client, settings: Any) -> None:
    settings.VAULT_ADDR = "http://127.0.0.1:9"

    with pytest.raises(SecretMissingError, match="cannot be reached"):
        resolve("vault:secret/icypeas/crm#key")


def test_aws_field_resolves(aws: Any) -> None:
    assert resolve("aws-sm:icypeas/crm#key").secret.reveal() == CANARY_AWS


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("icypeas/none#key", "has no secret"),
        ("icypeas/going#key", "marked for deletion"),
        ("icypeas/crm#other", "no field other"),
        ("icypeas/crm#n", "is not text"),
        ("icypeas/plain#key", "not a JSON object"),
        ("icypeas/bytes#key", "is not text"),
    ],
)
def test_aws_says_what_is_missing(aws: Any, place: str, said: str) -> None:
    with pytest.raises(SecretMissingError, match=said) as caught:
        resolve(f"aws-sm:{place}")

    assert CANARY_AWS not in str(caught.value)


def test_silent_aws_is_explained(aws: Any, settings: Any) -> None:
    settings.AWS_SM_ENDPOINT_URL = "http://127.0.0.1:9"

    with pytest.raises(SecretMissingError, match="cannot be reached"):
        resolve("aws-sm:icypeas/crm#key")


def test_worker_without_aws_credentials_is_told(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    with pytest.raises(SecretMissingError, match="no credentials"):
        resolve("aws-sm:icypeas/crm#key")


@pytest.mark.parametrize(
    ("reference", "module"), [("vault:secret/icypeas/crm#key", "hvac"), ("aws-sm:icypeas/crm#key", "boto3")]
)
def test_missing_library_is_named(
    vault: httpx.Client, aws: Any, monkeypatch: pytest.MonkeyPatch, reference: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(SecretMissingError, match=f"install the extra .*{module}"):
        resolve(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "vault:other/crm#key",
        "vault:secret/icypeas#key",
        "vault:secret/icypeas-other/crm#key",
        "vault:secret/icypeas/../other#key",
        "vault:secret/icypeas//crm#key",
        "vault:secret/icypeas/crm",
        "vault:secret/icypeas/crm#",
        "aws-sm:database/main#key",
        "aws-sm:icypeas/crm",
    ],
)
def test_place_outside_what_may_be_read_is_refused(vault: httpx.Client, aws: Any, reference: str) -> None:
    with pytest.raises(SecretError, match="is refused"):
        check_reference(reference)


@pytest.mark.parametrize("reference", ["vault:secret/icypeas/crm#key", "aws-sm:icypeas/crm#key"])
def test_store_that_is_not_set_up_is_refused(reference: str) -> None:
    with pytest.raises(SecretError, match="not set up here"):
        check_reference(reference)


def test_store_is_asked_again_when_the_seconds_are_over(
    vault: httpx.Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECRET_CACHE_S = 10.0
    now = [1000.0]
    monkeypatch.setattr(base.time, "monotonic", lambda: now[0])
    resolve("vault:secret/icypeas/crm#key")
    vault.put("/v1/secret/data/icypeas/crm", json={"key": "the next one"})

    now[0] += 9
    kept = resolve("vault:secret/icypeas/crm#key").secret.reveal()
    now[0] += 2
    read_again = resolve("vault:secret/icypeas/crm#key").secret.reveal()

    assert (kept, read_again) == (CANARY_VAULT, "the next one")


def test_log_at_debug_holds_neither_secret_nor_token(
    vault: httpx.Client, aws: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    resolve("vault:secret/icypeas/crm#key")
    resolve("aws-sm:icypeas/crm#key")
    logging.getLogger("keys").debug("the log is open")

    assert "the log is open" in caplog.text
    assert not [planted for planted in (CANARY_VAULT, CANARY_AWS, TOKEN) if planted in caplog.text]
