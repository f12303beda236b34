"""Journeys about money: fifty clicks on Start, a sample that goes on, rows corrected and sent again."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.desk import Desk
from tests.browser.test_journeys import start, upload, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# The button is pressed once by hand; the others are sent beside it, as an impatient or a broken browser would.
STORM = """() => {
  const form = document.getElementById("start-form");
  const sent = { method: "POST", keepalive: true, redirect: "manual" };
  for (let press = 0; press < 49; press += 1) fetch(form.action, { ...sent, body: new FormData(form) });
  setTimeout(() => document.querySelector("button[type=submit][form=start-form]").click());
}"""


def names(stem: str, count: int) -> bytes:
    rows = "".join(f"{stem}{number};Lee;sbx-found-{stem}-{number}.example\r\n" for number in range(count))
    return f"First name;Last name;Website\r\n{rows}".encode()


def is_completed(desk: Desk, job: int) -> Callable[[], object]:
    return lambda: desk.query(
        "SELECT 1 FROM enrichment_enrichmentjob WHERE id = ? AND state = 'completed'", job
    )


def paid_of(desk: Desk, job: int) -> Counter[str]:
    """How often the sandbox charged each external id of the job."""
    ours = {
        row[0]
        for row in desk.query(
            "SELECT external_id FROM enrichment_batchitem i JOIN enrichment_batch b ON b.id = i.batch_id WHERE b.job_id = ?",
            job,
        )
    }
    return Counter(tuple(row["input"]) for row in desk.charges() if row["external_id"] in ours)


def test_fifty_clicks_on_start_make_one_job(desk: Desk, page_of: Callable[..., Page]) -> None:
    page = page_of("Operator")
    upload(page, "email-search", names("storm", 20), "storm.csv")
    page.get_by_label("What is this for?").fill("fifty clicks")
    draft = int(re.findall(r"/jobs/(\d+)/", page.url)[0])
    (before,) = desk.query("SELECT count(*) FROM enrichment_enrichmentjob")

    page.evaluate(STORM)
    page.wait_for_url(f"**/jobs/{draft}/", timeout=60_000)
    wait_until(is_completed(desk, draft))

    assert desk.query("SELECT count(*) FROM enrichment_enrichmentjob") == [before]
    assert desk.query(
        "SELECT count(*), sum(credits) FROM keys_ledgerentry WHERE job = ? AND kind = 'reserved'", draft
    ) == [(1, 20)]
    assert desk.query(
        "SELECT count(*) FROM people_auditentry WHERE action = 'job.started' AND object_id = ?", draft
    ) == [(1,)]
    assert set(paid_of(desk, draft).values()) == {1}


def test_a_sample_shows_its_rate_and_goes_on_without_paying_twice(
    desk: Desk, page_of: Callable[..., Page]
) -> None:
    page = page_of("Operator")
    upload(page, "email-search", names("sample", 40), "sample.csv")
    page.get_by_label("What is this for?").fill("a sample first")
    page.get_by_role("button", name="Try 10 random rows, at most 10").click()
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    job = int(page.url.rstrip("/").rsplit("/", 1)[-1])

    # The page is not reloaded by hand: it says so itself when the sample is answered.
    expect(page.get_by_text("The sample is done.")).to_be_visible(timeout=90_000)
    assert desk.query(
        "SELECT sum(credits) FROM keys_ledgerentry WHERE job = ? AND kind = 'reserved'", job
    ) == [(10,)]
    page.get_by_role("button", name="Go on, at most 30 credits").click()
    wait_until(is_completed(desk, job))

    paid = paid_of(desk, job)
    assert set(paid.values()) == {1}
    assert desk.query(
        "SELECT rows_total, rows_open FROM (SELECT rows_total, rows_waiting + rows_in_flight AS rows_open FROM enrichment_enrichmentjob WHERE id = ?)",
        job,
    ) == [(40, 0)]


def test_rows_are_corrected_by_keyboard_and_sent_again(desk: Desk, page_of: Callable[..., Page]) -> None:
    page = page_of("Operator")
    bad = ";;sbx-found-wrong-1.example\r\n;;sbx-found-wrong-2.example\r\n"
    upload(page, "email-search", names("mend", 3) + bad.encode(), "mend.csv")
    job = start(page, "two rows are wrong")
    wait_until(is_completed(desk, job))
    page.goto(f"/jobs/{job}/")

    page.get_by_role("link", name="Correct or send again").click()
    page.get_by_role("link", name=re.compile("^Correct them")).click()
    for number in (1, 2):
        expect(page.get_by_label("First name")).to_be_focused()
        page.keyboard.type(f"Mia{number}")
        page.keyboard.press("Tab")
        page.keyboard.type("Wong")
        page.keyboard.press("Enter")
        time.sleep(0.2)
    page.wait_for_url("**/retry/")
    page.get_by_role("button", name="Send the ticked rows again").click()
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    wait_until(is_completed(desk, job))

    assert desk.query(
        "SELECT attempt, rows_skipped, rows_total FROM enrichment_enrichmentjob WHERE id = ?", job
    ) == [(2, 0, 5)]
    assert set(paid_of(desk, job).values()) == {1}
    assert len(paid_of(desk, job)) == 5
