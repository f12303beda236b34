"""Somebody who logs in over HTTP, presses what there is to press, and keeps every answer."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx

ALIKE = 2  # pages of one kind (their numbers and names aside) that are opened
MOST = 90  # pages that one person opens


class _Page(HTMLParser):
    """Links of a page, and the fields of its forms as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[dict[str, str]] = []
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        for name in ("href", "hx-get"):
            if told.get(name):
                self.links.append(told[name])
        if tag == "form":
            self.forms.append({"": told.get("action", "")})
        if not self.forms:
            return
        fields, name = self.forms[-1], told.get("name", "")
        if tag == "input" and name:
            kind = told.get("type", "text")
            if kind not in ("checkbox", "radio") or "checked" in told:
                fields[name] = told.get("value", "")
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in told or self._select not in fields):
            fields[self._select] = told.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""


@dataclass
class Visitor:
    """One person at one web process. `keep` is told each answer."""

    url: str
    role: str
    keep: Callable[[str, str, bytes], None]
    http: httpx.Client = field(init=False)
    statuses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def log_in(self, email: str, password: str) -> None:
        answer = self.submit("/login/", {"username": email, "password": password})
        assert answer.status_code == 303, (self.role, answer.status_code)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._kept(self.http.get(path, headers=headers))

    def submit(
        self, path: str, values: Mapping[str, Any], *, to: str = "", files: Any = None
    ) -> httpx.Response:
        """Open a page, fill the form that goes to `to` (to the page itself: the one with most fields), and send it."""
        page = _Page()
        page.feed(self.get(path).text)
        target = urljoin(path, to)
        forms = [form for form in page.forms if urljoin(path, form[""]) == target] or [{}]
        fields = max(forms, key=len)
        sent = {name: value for name, value in fields.items() if name} | dict(values)
        return self.post(target, sent, files=files)

    def post(self, path: str, values: Mapping[str, Any], *, files: Any = None) -> httpx.Response:
        token = {"csrfmiddlewaretoken": self.http.cookies.get("csrftoken", "")}
        return self._kept(
            self.http.post(path, data={**token, **values}, files=files, headers={"Origin": self.url})
        )

    def crawl(self) -> int:
        """Every page that links lead to, a few of each kind, plain and as a fragment; how many."""
        waiting, seen, kinds = ["/"], {"/"}, Counter[str]()
        opened = 0
        while waiting and opened < MOST:
            path = waiting.pop(0)
            answer = self.get(path)
            opened += 1
            if not answer.headers.get("content-type", "").startswith("text/html"):
                continue
            page = _Page()
            page.feed(answer.text)
            for link in page.links:
                target = urlsplit(urljoin(str(answer.url), link))
                found = target.path + (f"?{target.query}" if target.query else "")
                kind = _kind(target.path, target.query)
                is_ours = f"{target.scheme}://{target.netloc}" == self.url
                if not is_ours or found in seen or kinds[kind] >= ALIKE or _ends_visit(target.path):
                    continue
                seen.add(found)
                kinds[kind] += 1
                waiting.append(found)
        return opened

    def wait(self, path: str, words: str, seconds: float = 40) -> bool:
        """Whether the page says these words in time."""
        until = time.monotonic() + seconds
        while words not in self.get(path).text:
            if time.monotonic() > until:
                return False
            time.sleep(0.3)
        return True

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        self.statuses[answer.status_code] += 1
        path = answer.url.raw_path.decode()
        is_page = answer.headers.get("content-type", "").startswith("text/html")
        place = "audit log, exported" if "activity.csv" in path else "pages" if is_page else "exports"
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.keep(place, f"{self.role} {path}", headers.encode() + b"\n\n" + answer.content)
        return answer


def _ends_visit(path: str) -> bool:
    return path.startswith(("/logout", "/static/"))


def _kind(path: str, query: str) -> str:
    names = ",".join(sorted(name for name, _ in parse_qsl(query)))
    return re.sub(r"/(\d+|[a-z]+_[a-z0-9_]+)(?=/)", "/*", path) + names
