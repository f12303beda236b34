"""`vault:MOUNT/PATH#FIELD`: one field of a secret in a KV v2 engine of HashiCorp Vault or OpenBao.

The token comes from the worker's `VAULT_TOKEN`, or from the file that `VAULT_TOKEN_FILE` names, which an agent may renew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from django.conf import settings

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


def read(place: str) -> str:
    """The raw secret. Raises `LookupError` with a sentence."""
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
    session = requests.Session()
    session.trust_env = False  # no proxy and no .netrc of the machine comes between
    token = _token()
    try:
        client = hvac.Client(
            url=settings.VAULT_ADDR,
            token=token,
            namespace=settings.VAULT_NAMESPACE or None,
            timeout=settings.SECRET_TIMEOUT_S,
            allow_redirects=False,  # the token goes to VAULT_ADDR and nowhere else
            session=session,
        )
        answer = client.secrets.kv.v2.read_secret_version(
            path=name, mount_point=mount, raise_on_deleted_version=True
        )
    except hvac.exceptions.VaultDown:
        raise LookupError("The vault is sealed or in maintenance. Whoever runs it must unseal it.") from None
    except (hvac.exceptions.Forbidden, hvac.exceptions.Unauthorized):
        raise LookupError(
            f"The vault denied {path} to this worker. Its token may have ended, or its policy lacks read on {mount}/data/{name}."
        ) from None
    except hvac.exceptions.InvalidPath:
        raise LookupError(f"The vault has nothing at {path}, or its newest version was deleted.") from None
    except (hvac.exceptions.VaultError, ValueError) as error:
        raise LookupError(f"The vault gave an answer that cannot be used ({type(error).__name__}).") from None
    except requests.RequestException as error:
        raise LookupError(
            f"The vault cannot be reached ({type(error).__name__}). Look at VAULT_ADDR, DNS and the firewall."
        ) from None
    finally:
        session.close()
    return _field(answer, path, field)


def _token() -> str:
    token = os.environ.get("VAULT_TOKEN", "")
    if not token and os.environ.get("VAULT_TOKEN_FILE"):
        shown = "The file that VAULT_TOKEN_FILE names"
        token = file.read_guarded(Path(os.environ["VAULT_TOKEN_FILE"]), shown=shown).strip()
    if not token:
        raise LookupError(
            "The worker has no token for the vault. Set VAULT_TOKEN or VAULT_TOKEN_FILE for it."
        )
    if not re.fullmatch(r"[!-~]+", token):
        # The HTTP library would quote it in its own error.
        raise LookupError("The worker's token for the vault holds a space or a line end. Place it again.")
    return token


def _field(answer: Any, path: str, field: str) -> str:
    """The field of a KV v2 answer: {"data": {"data": {field: value}, "metadata": {…}}}."""
    outer = answer.get("data") if isinstance(answer, dict) else None
    fields = outer.get("data") if isinstance(outer, dict) else None
    if not isinstance(fields, dict):
        raise LookupError(f"The vault's answer for {path} has no fields. Is it a KV engine of version 2?")
    if field not in fields:
        raise LookupError(f"The vault's secret {path} has no field {field}.")
    if not isinstance(fields[field], str):
        raise LookupError(f"The field {field} of the vault's secret {path} is not text.")
    return str(fields[field])
