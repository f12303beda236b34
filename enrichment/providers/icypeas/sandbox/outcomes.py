"""What a search finds: a pure function of task and input."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import population
from .catalogue import (
    ABORTED,
    BAD_INPUT,
    DEBITED,
    DEBITED_NOT_FOUND,
    DIRECT_TASKS,
    FOUND,
    INSUFFICIENT_FUNDS,
    NEVER_RAN,
    NOT_FOUND,
    UNDOCUMENTED,
    Task,
)

# The lookahead lets several words share one label: `sbx-certainty-probable-sbx-uppercase`.
_MAGIC: Final = re.compile(r"sbx-(?:certainty-(?P<value>[a-z]+(?:[-_](?!sbx-)[a-z]+)*)|(?P<word>[a-z]+))")
_EMAIL: Final = re.compile(r"[^@\s<>]+@[^@\s<>.]+(?:\.[^@\s<>.]+)+")
_DOMAIN: Final = re.compile(r"[^\s/.@]+(?:\.[^\s/.@]+)+")
_PAGE: Final = re.compile(r"https?://[^\s/]+\.[^\s/]+/\S+")
_FORCES_FOUND: Final = frozenset(
    {"found", "debited", "unknownstatus", "noresults", "certainty", "uppercase", "manyemails"}
)
_FORCES_EMPTY: Final = {
    "notfound": NOT_FOUND,
    "debitednotfound": DEBITED_NOT_FOUND,
    "emailonnotfound": NOT_FOUND,
}
_FALLING: Final = ("ultra_sure", "very_sure", "sure", "probable")
# Letters that Unicode does not take apart into a base letter and a mark.
_FOLDS: Final = str.maketrans(
    {
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "đ": "d",
        "ł": "l",
        "Ł": "L",
        "ı": "i",
        "þ": "th",
    }
)
_PROVIDERS: Final = (
    (0.40, "google", "google.com"),
    (0.73, "outlook", "outlook.com"),
    (0.82, "ovh", "ovh.net"),
    (0.88, "zoho", "zoho.eu"),
    (0.93, "ionos", "ionos.com"),
    (0.97, "gandi", "gandi.net"),
)


@dataclass(frozen=True)
class Outcome:
    """The final word on one input. `results` None means that the item has no such key; those of a task about pages are
    what a page says, or its address.

    `fraction` (0 to 1) spreads the time that it takes.
    """

    status: str
    results: dict[str, Any] | str | None
    is_charged: bool
    fraction: float
    is_slow: bool = False
    is_stuck: bool = False

    @property
    def needs_funds(self) -> bool:
        return self.status not in NEVER_RAN


class _Draws:
    """Numbers from 0 to 1 that follow from a text, one after the other."""

    def __init__(self, text: str) -> None:
        self._digest = hashlib.blake2b(text.encode(), digest_size=64).digest()
        self._next = 0

    def draw(self) -> float:
        piece = self._digest[self._next : self._next + 4]
        self._next += 4
        return int.from_bytes(piece) / 2**32


def decide(task: Task, cells: Sequence[str]) -> Outcome:
    """The outcome of one search; `cells` are the task's inputs in row order, "" for what was left out."""
    cells = [cell.strip() for cell in cells]
    text = "\x1f".join(cells).lower()
    draws = _Draws(f"{task.name}\x1e{text}")
    fraction = draws.draw()
    words: set[str] = set()
    certainty = ""
    for match in _MAGIC.finditer(text):
        if match["value"]:
            words.add("certainty")
            certainty = match["value"].replace("-", "_")
        else:
            words.add(match["word"])

    results: dict[str, Any] | str | None
    if task.name in DIRECT_TASKS:
        status, results, is_charged = _find_page(task, cells, draws, words)
    else:
        status, results, is_charged = _find(task, cells, draws, words, certainty)
    return Outcome(status, results, is_charged, fraction, "slow" in words, "stuck" in words)


def _find(
    task: Task, cells: Sequence[str], draws: _Draws, words: set[str], certainty: str
) -> tuple[str, dict[str, Any] | None, bool]:
    """Status, results, and whether it is charged."""
    if "badinput" in words or not _is_askable(task, cells):
        return BAD_INPUT, {}, False
    if "nofunds" in words:
        return INSUFFICIENT_FUNDS, {}, False
    if "aborted" in words:
        return ABORTED, {}, False

    if words & _FORCES_FOUND:
        status = DEBITED if "debited" in words or certainty in {"not_found", "undeliverable"} else FOUND
        certainty = certainty or "ultra_sure"
    elif empty := next((status for word, status in _FORCES_EMPTY.items() if word in words), None):
        status, certainty = empty, "probable" if "emailonnotfound" in words else ""
    else:
        status, certainty = _draw_verdict(task, draws)

    emails = _make_emails(task, cells, draws, certainty, is_many="manyemails" in words) if certainty else []
    if "uppercase" in words:
        emails = [{**entry, "certainty": entry["certainty"].upper()} for entry in emails]
    if "unknownstatus" in words:
        return UNDOCUMENTED, _make_results(task, cells, draws, emails), False
    is_charged = status in {FOUND, DEBITED} or task.is_charged_when_empty
    if "noresults" in words:
        return status, None, is_charged
    return status, _make_results(task, cells, draws, emails), is_charged


def _find_page(
    task: Task, cells: Sequence[str], draws: _Draws, words: set[str]
) -> tuple[str, str | dict[str, Any] | None, bool]:
    """Status, result and whether it is charged, for tasks about pages of people and companies."""
    if "badinput" in words or not _is_askable(task, cells):
        return BAD_INPUT, None, False
    if "nofunds" in words:
        return INSUFFICIENT_FUNDS, None, False
    if "unknownstatus" in words:
        return UNDOCUMENTED, None, False
    share = 0.85 if task.name.startswith("scrape-") else 0.6
    draw = draws.draw()
    if not words & _FORCES_FOUND and (words & set(_FORCES_EMPTY) or draw >= share):
        return DEBITED_NOT_FOUND if "debitednotfound" in words else NOT_FOUND, None, False
    status = DEBITED if "debited" in words else FOUND
    number = int(draws.draw() * 10**6)
    if task.name == "scrape-profile":
        return status, population.profile_page(population.slug_of(cells[0])), True
    if task.name == "scrape-company":
        return status, population.company_page(population.slug_of(cells[0])), True
    if task.name == "url-search-company":
        slug = fold(domain_of(cells[0]).rpartition(".")[0]) or "company"
        return status, f"https://www.linkedin.com/company/{slug}", True
    name = cells[0].rpartition("@")[0] if task.name == "reverse-email-lookup" else " ".join(cells[:2])
    return status, f"https://www.linkedin.com/in/{fold(name) or 'someone'}-{number:06d}", True


def _is_askable(task: Task, cells: Sequence[str]) -> bool:
    if task.name == "url-search-profile":
        return bool(cells[0] and cells[1] and (cells[2] or cells[3]))
    if task.name.startswith("scrape-"):
        return _PAGE.fullmatch(cells[0]) is not None
    if task.name in ("email-verification", "reverse-email-lookup"):
        return _EMAIL.fullmatch(cells[0]) is not None
    if not cells[-1]:
        return False
    return task.name != "email-search" or bool(cells[0] or cells[1])


def _draw_verdict(task: Task, draws: _Draws) -> tuple[str, str]:
    """Status and certainty; certainty "" stands for no address at all."""
    verdict, spelling, grade = draws.draw(), draws.draw(), draws.draw()
    success = FOUND if spelling < 0.6 else DEBITED
    if task.name == "email-verification":
        if verdict < 0.70:
            return success, "ultra_sure" if grade < 0.72 else "very_sure"
        if verdict < 0.78:
            return success, "probable"
        if verdict < 0.92:
            return (
                DEBITED if grade < 0.5 else NOT_FOUND if grade < 0.75 else DEBITED_NOT_FOUND
            ), "undeliverable"
        return (
            (DEBITED, "not_found") if grade < 0.5 else (NOT_FOUND if grade < 0.7 else DEBITED_NOT_FOUND, "")
        )
    if verdict < (0.62 if task.name == "email-search" else 0.55):
        grades = ((0.42, "ultra_sure"), (0.68, "very_sure"), (0.74, "sure"), (1.0, "probable"))
        return success, next(name for limit, name in grades if grade < limit)
    return NOT_FOUND if spelling < 0.92 else DEBITED_NOT_FOUND, ""


def _make_emails(
    task: Task, cells: Sequence[str], draws: _Draws, certainty: str, *, is_many: bool
) -> list[dict[str, Any]]:
    shape, extra = draws.draw(), draws.draw()
    if task.name == "email-verification":
        local, _, domain = cells[0].rpartition("@")
        address = cells[0].lower() if shape < 0.15 else cells[0]
        variants = [address, *(f"{name}@{domain}" for name in (f"{local}1", f"{local}.2", f"{local}.alt"))]
        count = 1
    else:
        domain = domain_of(cells[-1])
        if task.name == "email-search":
            locals_ = _local_parts(cells[0], cells[1], shape)
            count = 2 if extra < 0.08 else 1
        else:
            locals_ = ["contact", "info", "hello", "sales"]
            count = 1 + int(extra * 3)
        variants = [f"{local}@{domain}" for local in locals_]
        if task.name == "domain-search" and shape < 0.1:
            # Scans do turn up mailboxes of a recruiting or support service on another domain.
            variants[1] = f"jobs@{domain.split('.')[0]}-careers.example"
    rank = _FALLING.index(certainty) if certainty in _FALLING else 0
    certainties = [certainty, *(_FALLING[min(rank + step, 3)] for step in (1, 2, 3))]
    return [
        {"email": address, "certainty": grade, **_mail_exchange(address.rpartition("@")[2].lower())}
        for address, grade in zip(variants[: 4 if is_many else count], certainties, strict=False)
    ]


def _make_results(
    task: Task, cells: Sequence[str], draws: _Draws, emails: list[dict[str, Any]]
) -> dict[str, Any]:
    results: dict[str, Any] = {"emails": emails, "phones": [], "saasServices": []}
    if task.name == "email-search":
        echo = draws.draw()
        # Echoes come back cleaned, recased or blank, which is why nobody should match rows by them.
        first, last = (
            ("", "") if echo < 0.03 else [cell.title() for cell in cells[:2]] if echo < 0.3 else cells[:2]
        )
        results |= {"firstname": first, "lastname": last, "fullname": f"{first} {last}".strip(), "li": ""}
        results["gender"] = "UNKNOWN"
    return results


def fold(text: str) -> str:
    """Lower-case ASCII letters and digits of a text, everything else as single hyphens: "Zoë O'Neil" → zoe-o-neil."""
    plain = unicodedata.normalize("NFKD", text.translate(_FOLDS)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


# Lists name the same companies again and again.
@functools.lru_cache(maxsize=4096)
def domain_of(text: str) -> str:
    """The domain in a domain or address of a site; a company's name becomes an invented one under `.example`."""
    host = re.sub(r"^[a-z][a-z0-9+.-]*://", "", text.strip().lower()).split("/")[0].split("?")[0]
    host = host.rpartition("@")[2].split(":")[0].removeprefix("www.").rstrip(".")
    if _DOMAIN.fullmatch(host):
        try:
            return host.encode("idna").decode()
        except UnicodeError:
            pass
    return f"{fold(text) or 'company'}.example"


def _local_parts(first: str, last: str, shape: float) -> list[str]:
    """Four local parts for a person, the usual way of writing first."""
    given, family = fold(first), fold(last)
    if not given or not family:
        stem = given or family or "mail"
        return [stem, f"{stem}.office", f"{stem}.private", f"contact.{stem}"]
    parts = [f"{given}.{family}", f"{given[0]}.{family}", f"{given}{family}", f"{given[0]}{family}"]
    start = 0 if shape < 0.62 else 1 if shape < 0.82 else 2 if shape < 0.9 else 3
    return parts[start:] + parts[:start]


def _mail_exchange(domain: str) -> dict[str, Any]:
    provider, record = _pick_exchange(domain)
    return {"mxProvider": provider, "mxRecords": [record]}


@functools.lru_cache(maxsize=4096)
def _pick_exchange(domain: str) -> tuple[str, str]:
    """One company keeps one mail provider, whoever is asked for there."""
    draw = _Draws(f"mx\x1e{domain}").draw()
    return next(((name, record) for limit, name, record in _PROVIDERS if draw < limit), ("other", domain))
