"""Scopes: operation × mode, each with a plain sentence, and presets for the usual workloads."""

from __future__ import annotations

from dataclasses import dataclass

SCOPES: dict[str, str] = {
    "email-search:single": "find one person's e-mail",
    "email-search:bulk": "find e-mails for a list",
    "email-verification:single": "verify one e-mail",
    "email-verification:bulk": "verify a list of e-mails",
    "domain-search:single": "scan one domain for role addresses",
    "domain-search:bulk": "scan a list of domains",
    "reverse-lookup:single": "find who is behind one e-mail",
    "reverse-lookup:bulk": "find who is behind a list of e-mails",
    "find-profile:single": "find one person's profile address",
    "find-profile:bulk": "find profile addresses for a list",
    "find-company:single": "find one company's page",
    "find-company:bulk": "find company pages for a list",
    "scrape-profile:single": "read one person's profile",
    "scrape-profile:bulk": "read a list of profiles",
    "scrape-company:single": "read one company's profile",
    "scrape-company:bulk": "read a list of company profiles",
    "leads:search": "search people and companies",
}


ACCOUNT_READ = "account:read"  # free calls; every usable key has it


@dataclass(frozen=True)
class Preset:
    """A usual workload: its scopes, where it belongs, and where it should run."""

    label: str
    environment: str
    scopes: tuple[str, ...]
    runs_in: str


PRESETS: dict[str, Preset] = {
    "form_handling": Preset(
        "Form handling",
        "prod",
        ("email-verification:single", "email-search:single"),
        "A backend service that answers the form; never the page itself.",
    ),
    "bulk_verification": Preset(
        "Bulk verification",
        "prod",
        ("email-verification:bulk",),
        "An internal job runner.",
    ),
    "crm_sync": Preset(
        "CRM sync",
        "prod",
        ("email-verification:bulk", "email-search:bulk", "scrape-company:bulk"),
        "An integration service between the CRM and this app.",
    ),
    "profile_lookup": Preset(
        "Profile look-up",
        "prod",
        ("reverse-lookup:single", "scrape-profile:single", "scrape-company:single"),
        "The server-side layer of a product.",
    ),
    "one_off_testing": Preset(
        "One-off testing",
        "dev",
        ("email-search:single", "email-verification:single"),
        "Local development, with a secret of its own.",
    ),
}


class ScopeError(Exception):
    """A scope or preset that does not exist; the message lists what does."""


def parse_scopes(text: str) -> list[str]:
    """`all`, a preset's name, or scopes parted by commas → sorted scopes. Raises `ScopeError`."""
    wanted = [part.strip() for part in text.replace(" ", ",").split(",") if part.strip()]
    if wanted == ["all"]:
        return sorted(SCOPES)
    scopes: set[str] = set()
    for part in wanted:
        if part.replace("-", "_") in PRESETS:
            scopes.update(PRESETS[part.replace("-", "_")].scopes)
        elif part in SCOPES:
            scopes.add(part)
        else:
            raise ScopeError(
                f"Unknown scope {part!r}. Scopes: {', '.join(SCOPES)}. Presets: {', '.join(PRESETS)}. Or: all."
            )
    if not scopes:
        raise ScopeError("A key needs at least one scope.")
    return sorted(scopes)
