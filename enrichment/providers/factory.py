"""The one place that makes a provider."""

from __future__ import annotations

from enrichment.providers.base import Provider
from enrichment.providers.icypeas.client import IcypeasClient
from enrichment.providers.icypeas.provider import IcypeasProvider


def make_provider(
    *, base_url: str, secret: str, user_id: str = "", api_secret: str | None = None
) -> Provider:
    """A provider for one account; `close` it when done. With `api_secret` each request is signed.

    Raises `ValueError` for a base URL that is none and `KeyRejectedError` for a secret that cannot be sent.
    """
    return IcypeasProvider(IcypeasClient(base_url, secret, user_id=user_id, api_secret=api_secret))
