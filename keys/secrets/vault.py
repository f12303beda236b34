"""`vault:MOUNT/PATH#FIELD`: one field of a secret in a KV v2 engine of HashiCorp Vault or OpenBao.

The token comes from the worker's `VAULT_TOKEN`, or from the file that `VAULT_TOKEN_FILE` names, which an agent may renew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from django.conf import settings

from config import redaction
from keys.secrets import file

ALLOWED = re.compile(
    r"([A-Za-z0-9_-][A-Za-z0-9._-]*)((?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+)#([A-Za-z0-9_.-]{1,60})"
)


def complaint(place: str) -> str | None:
    """Why this secret may not be read, or None. The place is not repeated: it may be a pasted secret."""
    if not settings.VAULT_ADDR or not settings.VAULT_PREFIXES:
        return "vault: references are not set up here. VAULT_ADDR and VAULT_PREFIXES say which vault, and what may be read."
    path = place.partition("#")[0]
    is_below = any(path.startswith(f"{prefix}/") for prefix in settings.VAULT_PREFIXES)
    if not ALLOWED.fullmatch(place) or not is_below:
        return (
            "This reference is refused: write vault:MOUNT/PATH#FIELD, with MOUNT/PATH below "
            f"{' or '.join(settings.VAULT_PREFIXES)}."
        )
    return None


def read(place: str) -> tuple[str, list[str]]:
    """The raw secret, and warnings about the token's file. Raises `LookupError` with a sentence."""
    try:
        # Here, because the extra is optional: who has no vault does not install its library.
        import hvac
        import requests
    except ImportError:
        raise LookupError(
            "This worker cannot read vaults: install the extra vault (hvac), then restart it."
        ) from None
    path, _, field = place.partition("#")
    mount, _, name = path.partition("/")
    token, warnings = _token()
    session = requests.Session()
    session.trust_env = False  # no proxy and no .netrc of the machine comes between
    try:
        client = hvac.Client(
            url=settings.VAULT_ADDR,
            token=token,
            namespace=settings.VAULT_NAMESPACE or None,
            timeout=settings.SECRET_TIMEOUT_S,
            allow_redirects=False,  # the token goes to VAULT_ADDR and nowhere else
            session=session,
        )
        try:
            answer = client.secrets.kv.v2.read_secret_version(
                path=name, mount_point=mount, raise_on_deleted_version=False
            )
        except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
            raise LookupError(_denied(client, hvac, path, f"{mount}/data/{name}")) from None
        except hvac.exceptions.VaultError as error:
            raise LookupError(_refusal(hvac.exceptions, error, path, mount)) from None
    except requests.exceptions.SSLError:
        raise LookupError(
            "The vault's certificate is not trusted, or TLS with it fails. Look at VAULT_ADDR, at the date of the certificate, "
            "and place the authority's certificate where the worker's Python finds it."
        ) from None
    except requests.exceptions.ConnectTimeout:
        raise LookupError(
            f"The vault did not take the connection within {settings.SECRET_TIMEOUT_S:g} s. Look at VAULT_ADDR and the firewall."
        ) from None
    except requests.exceptions.Timeout:
        raise LookupError(
            f"The vault took the connection and said nothing for {settings.SECRET_TIMEOUT_S:g} s. Ask whoever runs it; "
            "SECRET_TIMEOUT_S says how long workers wait."
        ) from None
    except requests.exceptions.ConnectionError:
        raise LookupError(
            "The vault cannot be reached: no connection. Look at VAULT_ADDR, DNS and the firewall, and whether it runs."
        ) from None
    except (requests.RequestException, ValueError) as error:
        raise LookupError(f"The vault gave an answer that cannot be used ({type(error).__name__}).") from None
    finally:
        session.close()
    return _field(answer, path, field), warnings


def _token() -> tuple[str, list[str]]:
    token = os.environ.get("VAULT_TOKEN", "")
    warnings: list[str] = []
    if not token and os.environ.get("VAULT_TOKEN_FILE"):
        shown = "The file that VAULT_TOKEN_FILE names"
        token, warnings = file.read_guarded(Path(os.environ["VAULT_TOKEN_FILE"]), shown=shown)
        token = token.strip()
    if not token:
        raise LookupError(
            "The worker has no token for the vault. Set VAULT_TOKEN or VAULT_TOKEN_FILE for it."
        )
    redaction.remember(token)
    if not re.fullmatch(r"[!-~]+", token):
        # The HTTP library would quote it in its own error.
        raise LookupError("The worker's token for the vault holds a space or a line end. Place it again.")
    return token, warnings


def _denied(client: Any, hvac: Any, path: str, policy_path: str) -> str:
    """Whether the token or its policy is at fault: a vault answers both alike, so the token is asked about itself."""
    try:
        client.auth.token.lookup_self()
    except hvac.exceptions.Forbidden:
        return (
            "The vault does not know the worker's token: it has expired, was revoked, or is of another vault. "
            "Give the worker a new one (VAULT_TOKEN and a restart, or VAULT_TOKEN_FILE)."
        )
    except Exception:
        return f"The vault denied {path} to this worker. Look at its token, and for read on {policy_path} in its policy."
    return (
        f"The vault knows the worker's token and denied {path}. Its policy lacks read on {policy_path}, "
        "or no engine is mounted there."
    )


def _refusal(kinds: Any, error: Exception, path: str, mount: str) -> str:
    said = str(getattr(error, "errors", "") or "")
    if isinstance(error, kinds.VaultDown):
        if "sealed" in said:
            return (
                "The vault is sealed. Whoever runs it must unseal it; the workers then go on by themselves."
            )
        return "The vault is in maintenance or a stand-by (503). Wait, or ask whoever runs it."
    if isinstance(error, kinds.InvalidPath):
        if "no handler for route" in said:
            return f"The vault has no engine mounted at {mount}. Correct the reference, or mount a KV engine of version 2 there."
        return f"The vault has nothing at {path}. Look at the path, and whether {mount} is a KV engine of version 2."
    if isinstance(error, kinds.VaultNotInitialized):
        return "The vault was never initialised. Whoever runs it must do that first."
    if isinstance(error, kinds.RateLimitExceeded):
        return "The vault has too many requests (429). Workers ask again with the next batch; a longer SECRET_CACHE_S asks less often."
    return f"The vault gave an answer that cannot be used ({type(error).__name__}). Ask whoever runs it."


def _field(answer: Any, path: str, field: str) -> str:
    """The field of a KV v2 answer: {"data": {"data": {field: value}, "metadata": {…}}}."""
    if getattr(answer, "is_redirect", False):
        raise LookupError(
            "The vault redirects to another address, and a token is not sent there. Set VAULT_ADDR to the address that answers itself."
        )
    if not isinstance(answer, dict):
        raise LookupError(
            "What answers at VAULT_ADDR does not speak as a vault does (no JSON). Look at the address and at what stands between."
        )
    outer = answer.get("data")
    fields = outer.get("data") if isinstance(outer, dict) else None
    if isinstance(outer, dict) and fields is None and isinstance(outer.get("metadata"), dict):
        raise LookupError(
            f"The newest version of {path} in the vault was deleted. Write the secret anew, or undelete the version."
        )
    if not isinstance(fields, dict):
        raise LookupError(f"The vault's answer for {path} has no fields. Is it a KV engine of version 2?")
    if field not in fields:
        raise LookupError(
            f"The vault's secret {path} has no field {field}. Correct the reference, or add the field."
        )
    if not isinstance(fields[field], str):
        raise LookupError(f"The field {field} of the vault's secret {path} is not text.")
    return str(fields[field])
