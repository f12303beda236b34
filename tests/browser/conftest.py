"""A running demo for the session, a fresh browser context for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.desk import Desk, Watched, browser_path, launch, log_in, open_context, run_desk

# `set_default_timeout` does not reach expectations: they would wait for five seconds only.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with run_desk(tmp_path_factory.mktemp("desk")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    reason = (
        os.environ.get("BROWSER_MISSING_REASON") or "no Chromium was found; install it, or set BROWSER_PATH"
    )
    if not browser_path():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def watch(browser: Browser, desk: Desk) -> Iterator[Callable[..., Watched]]:
    """Open contexts; at the end of the test none of them may have complained."""
    opened: list[Watched] = []

    def open_one(**options: Any) -> Watched:
        opened.append(open_context(browser, desk, **options))
        return opened[-1]

    yield open_one
    for watched in opened:
        watched.page.goto("about:blank")  # a polling page would meet the end of the demo
        watched.context.close()
    complaints = [complaint for watched in opened for complaint in watched.complaints]
    assert complaints == []


@pytest.fixture
def page_of(watch: Callable[..., Watched], desk: Desk) -> Callable[..., Page]:
    """A page of a person with a role, logged in: `page_of("Operator", java_script_enabled=False)`."""

    def logged_in(role: str, **options: Any) -> Page:
        page = watch(**options).page
        log_in(page, desk, role)
        return page

    return logged_in
