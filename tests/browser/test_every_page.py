"""Every page, both themes, both widths: no violation, no complaint, no sideways scroll."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.desk import Desk, Watched, log_in
from tests.browser.pages import pages_of
from tests.browser.test_journeys import start, upload, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
SERIOUS = {"serious", "critical"}


def _problems(page: Page, path: str) -> list[str]:
    found = []
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if overflow > 0:
        found.append(f"{path} scrolls {overflow} px sideways")
    for violation in Axe().run(page).response["violations"]:
        if violation["impact"] in SERIOUS:
            targets = "; ".join(str(node["target"]) for node in violation["nodes"][:3])
            found.append(f"{path} {violation['id']}: {targets}")
    if page.locator("[style]").count():
        found.append(f"{path} has an inline style")
    return found


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
def test_pages_have_no_serious_violation_and_fit_the_width(
    desk: Desk, watch: Callable[..., Watched], width: int, theme: str
) -> None:
    problems = []
    shots = pages_of(desk)
    for role in dict.fromkeys(shot.role for shot in shots):
        # What slides in is pale for a moment, and its contrast would be measured just then.
        watched = watch(viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce")
        page = watched.page
        if role:
            log_in(page, desk, role)
        for shot in (shot for shot in shots if shot.role == role):
            answer = page.goto(shot.path)
            assert answer is not None
            if answer.status != shot.status:
                problems.append(f"{shot.path} answered {answer.status}")
            csp = answer.headers.get("content-security-policy", "")
            if "default-src 'none'" not in csp or "unsafe" in csp:
                problems.append(f"{shot.path} has the policy {csp!r}")
            problems += _problems(page, f"{shot.path} ({role or 'nobody'})")
            if desk.secret in page.content():
                problems.append(f"{shot.path} shows the secret")

    assert problems == []


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
def test_pages_of_a_job_with_uncertain_rows_have_no_serious_violation(
    desk: Desk, page_of: Callable[..., Page], width: int, theme: str
) -> None:
    """The demo has no such job: three rows end with a status that nobody knows."""
    page = page_of(
        "Operator", viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    rows = "".join(f"Una{n},Clear{width},sbx-unknownstatus-{n}.example\r\n" for n in range(3))
    upload(page, "email-search", f"First name,Last name,Website\r\n{rows}".encode(), "unclear.csv")
    job = start(page, "uncertain rows")
    wait_until(
        lambda: desk.query(
            "SELECT 1 FROM enrichment_enrichmentjob WHERE id = ? AND state = 'completed' AND rows_uncertain = 3",
            job,
        )
    )

    problems = []
    for path in (f"/jobs/{job}/", f"/jobs/{job}/uncertain/", f"/jobs/{job}/?state=uncertain&row=1"):
        page.goto(path)
        problems += _problems(page, path)
    page.goto(f"/jobs/{job}/uncertain/")
    page.get_by_label("Why?").fill("support says that it never ran")
    page.get_by_role("button", name="Send again…").click()
    page.get_by_text("for the second").wait_for()
    problems += _problems(page, "the question before sending again")

    assert problems == []
