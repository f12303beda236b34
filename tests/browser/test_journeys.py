"""What people do, from the log-in to the file that they take home; in a real browser, against real processes."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from enrichment.management.commands.demo import SPEED
from tests.browser.desk import Desk
from tests.browser.lists import BAD, BLANK_LINES, DOUBLES, ROWS, nasty_list, rows_of
from tests.fakes.installation import run_installation
from tests.fakes.sandbox_process import SECRET, USER_ID, run_sandbox

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

STATES = ("found", "not_found", "cached", "skipped", "failed", "uncertain", "in_flight", "waiting")


def upload(page: Page, operation: str, data: bytes, name: str) -> None:
    """From anywhere to the review of an uploaded list."""
    page.goto(f"/jobs/new/{operation}/")
    page.get_by_label("List", exact=True).set_input_files(
        FilePayload(name=name, mimeType="text/csv", buffer=data)
    )
    page.get_by_role("button", name="Check the list").click()
    page.wait_for_url("**/review/")


def start(page: Page, purpose: str) -> int:
    """Start the reviewed draft; its number."""
    page.get_by_label("What is this for?").fill(purpose)
    page.get_by_role("button", name=re.compile("^Start, at most")).click()
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    return int(page.url.rstrip("/").rsplit("/", 1)[-1])


def legend(page: Page) -> dict[str, int]:
    """The figures under the bar as the page shows them."""
    texts = {
        state: page.locator(
            f"#legend-{state} .legend-number, #legend-{state.replace('_', '-')} .legend-number"
        ).first
        for state in STATES
    }
    return {state: int(text.inner_text().replace(",", "")) for state, text in texts.items() if text.count()}


def rows_by_state(desk: Desk, job: int) -> dict[str, int]:
    """The same figures by counting rows, not by reading counters."""
    counted = dict(
        desk.query("SELECT state, count(*) FROM enrichment_enrichmentrow WHERE job_id = ? GROUP BY 1", job)
    )
    return {state: counted.get(state, 0) for state in STATES}


def assert_page_agrees(page: Page, desk: Desk, job: int, *, live: bool) -> dict[str, int]:
    """The page's figures equal a count of the rows at the same moment; a moment that changed meanwhile is tried again."""
    for _attempt in range(20):
        before = rows_by_state(desk, job)
        money = dict(
            desk.query("SELECT kind, sum(credits) FROM keys_ledgerentry WHERE job = ? GROUP BY 1", job)
        )
        page.goto(f"/jobs/{job}/")
        shown = legend(page)
        if rows_by_state(desk, job) == before:
            assert shown == {state: before[state] for state in shown}
            assert sum(shown.values()) == ROWS
            if live:
                facts = page.locator("#job-facts")
                reserved = f"{Decimal(str(money['reserved'])).normalize():,f}"
                expect(facts).to_contain_text(reserved)
                expect(facts).to_contain_text(f"{before['waiting']:,} row")
                expect(facts).to_contain_text(f"{before['in_flight']:,} row")
            return before
    raise AssertionError("the job changed during each of 20 looks")


def wait_until(condition: Callable[[], object], timeout_s: float = 120) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


@contextmanager
def still_sandbox(desk: Desk) -> Iterator[None]:
    """No row comes back until the test sets a speed, however slow this machine is. Afterwards all is as the demo had it."""
    # Ours send at the demo's pace, which a clock that stands still would refuse.
    desk.order_sandbox("settings", {"speed": 0, "rate_limits": False})
    try:
        yield
    finally:
        desk.order_sandbox("faults", {"clear": True})
        desk.order_sandbox("settings", {"speed": SPEED, "rate_limits": True})


def test_a_list_goes_through_the_browser_and_comes_home_whole(
    desk: Desk, page_of: Callable[..., Page], tmp_path: Path
) -> None:
    data = nasty_list()
    page = page_of("Operator")
    charged_before = {row["external_id"] for row in desk.charges()}

    upload(page, "email-search", data, "nasty.csv")
    expect(page.get_by_text("1,200 rows").first).to_be_visible()
    expect(page.get_by_text(f"{BLANK_LINES} blank lines").first).to_be_visible()
    expect(page.get_by_text("UTF-8 with BOM").first).to_be_visible()
    with still_sandbox(desk):
        job = start(page, "journey of the tests")
        wait_until(lambda: rows_by_state(desk, job)["in_flight"] and not rows_by_state(desk, job)["waiting"])
        assert assert_page_agrees(page, desk, job, live=True)["skipped"] == BAD
        desk.order_sandbox("settings", {"speed": SPEED})
        for fraction in (0.2, 0.5):  # half of the rows are left, so that the second one surely meets a read
            # Reads fail for a while: the job stands still in mid-way, and the page can be compared.
            wait_until(
                lambda fraction=fraction: (
                    rows_by_state(desk, job)["in_flight"] < (ROWS - BAD) * (1 - fraction)
                )
            )
            desk.order_sandbox(
                "faults",
                {"route": "/bulk-single-searchs/read", "kind": "status", "status": 500, "times": 1000},
            )
            assert_page_agrees(page, desk, job, live=True)
            desk.order_sandbox("faults", {"clear": True})
        wait_until(
            lambda: desk.query(
                "SELECT 1 FROM enrichment_enrichmentjob WHERE id = ? AND state = 'completed'", job
            )
        )
    page.goto(f"/jobs/{job}/")
    expect(page.get_by_text("Completed").first).to_be_visible(timeout=20_000)
    final = assert_page_agrees(page, desk, job, live=False)
    assert final["cached"] == DOUBLES

    page.goto(f"/jobs/{job}/?state=found")
    page.locator("#results a[href*='row=']").first.click()
    expect(page.get_by_text("We asked")).to_be_visible()
    assert "row=" in page.url
    page.goto(f"/jobs/{job}/")
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("CSV raw")).first.click()
    target = tmp_path / "out.csv"
    download.value.save_as(target)

    sent, back = rows_of(data), rows_of(target.read_bytes())
    width = len(sent[0])
    assert len(back) == ROWS + 1
    assert [row[:width] for row in back] == sent
    assert back[0][width : width + 2] == ["icypeas_status", "icypeas_reason"]
    reasons = [row[width + 1] for row in back[1:] if row[width] == "skipped"]
    assert len(reasons) == BAD
    assert all(reasons)
    charges = [row for row in desk.charges() if row["external_id"] not in charged_before]
    assert len(charges) == final["found"]
    assert max(Counter(str(row["input"]) for row in charges).values()) == 1

    assert_terminal_does_the_same(tmp_path, data, target.read_bytes(), kinds_of_records(desk.query, job))


ANSWERED_AT = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)")


def kinds_of_records(query: Callable[[str], list[tuple[object, ...]]], job: int) -> dict[str, set[object]]:
    """What a job left behind, without times and amounts. Failed reads were made by the test."""
    kinds = {
        "calls": f"SELECT DISTINCT route || ' ' || scope FROM keys_call WHERE job = {job} AND outcome = 'ok'",
        "ledger": f"SELECT DISTINCT kind FROM keys_ledgerentry WHERE job = {job}",
        "audit": f"SELECT DISTINCT action FROM people_auditentry WHERE object_type = 'enrichmentjob' AND object_id = {job}",
        "batches": f"SELECT DISTINCT mode || ' ' || state FROM enrichment_batch WHERE job_id = {job}",
    }
    return {name: {row[0] for row in query(sql)} for name, sql in kinds.items()}


def assert_terminal_does_the_same(
    folder: Path, uploaded: bytes, exported: bytes, kinds: dict[str, set[object]]
) -> None:
    """The same file on a fresh database, by commands alone: the same bytes but for the times, the same kinds of records."""
    (folder / "sandbox").mkdir()
    (folder / "desk").mkdir()
    (folder / "list.csv").write_bytes(uploaded)
    with (
        run_sandbox(folder / "sandbox", "--speed", "20") as sandbox,
        run_installation(
            folder / "desk", base_url=f"{sandbox.url}/api", secret=SECRET, factor=20
        ) as terminal,
    ):
        sandbox.order("/control/credits", {"user_id": USER_ID, "credits": "5000"})
        terminal.make_person_and_key()
        out = folder / "terminal.csv"
        order = [
            "--operation",
            "email-search",
            "--key",
            "sandbox_training_revops",
            "--preset",
            "raw",
            "--yes",
        ]
        done = terminal.manage(
            "enrich", str(folder / "list.csv"), *order, "--out", str(out), with_secret=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ANSWERED_AT.search(exported)
        assert ANSWERED_AT.sub(b"TIME", out.read_bytes()) == ANSWERED_AT.sub(b"TIME", exported)
        assert kinds_of_records(terminal.query, 1) == kinds


def test_the_main_job_works_without_javascript(desk: Desk, page_of: Callable[..., Page]) -> None:
    page = page_of("Operator", java_script_enabled=False)
    page.goto("/jobs/new/")
    page.get_by_role("link", name=re.compile("Verify emails")).first.click()
    page.get_by_label("Or paste rows").fill(
        "Email\nsbx-found@plain.example\nnobody\nsbx-notfound@plain.example\n"
    )
    page.get_by_role("button", name="Check the list").click()
    expect(page.get_by_text("3 rows").first).to_be_visible()

    job = start(page, "without JavaScript")
    wait_until(
        lambda: desk.query("SELECT 1 FROM enrichment_enrichmentjob WHERE id = ? AND state = 'completed'", job)
    )
    page.reload()

    expect(page.get_by_text("Completed").first).to_be_visible()
    expect(page.locator("#results")).to_contain_text("sbx-found@plain.example")
    page.goto(f"/jobs/{job}/?state=skipped")
    expect(page.locator("#results")).to_contain_text("nobody")
    expect(page.locator("#results")).not_to_contain_text("sbx-found@plain.example")


def test_a_running_job_moves_by_itself_and_can_be_paused_resumed_and_cancelled(
    desk: Desk, page_of: Callable[..., Page]
) -> None:
    rows = "".join(f"P{number};Q{number};stop{number}.example\r\n" for number in range(3_000))
    page = page_of("Operator")
    upload(page, "email-search", f"First name;Last name;Website\r\n{rows}".encode(), "stop.csv")

    def sent(job: int) -> int:
        (counted,) = desk.query("SELECT count(*) FROM keys_call WHERE job = ? AND route = 'bulk-search'", job)
        return int(counted[0])

    with still_sandbox(desk):
        job = start(page, "pause, resume, cancel")
        wait_until(lambda: sent(job))
        page.get_by_role("link", name="Pause…").click()
        expect(page.get_by_role("dialog").get_by_text("not sent and wait")).to_be_visible()
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        # What was sent comes back: from then on only the pause keeps the rest from being sent.
        desk.order_sandbox("settings", {"speed": SPEED})
        wait_until(lambda: not rows_by_state(desk, job)["in_flight"])
        before = sent(job)
        assert rows_by_state(desk, job)["waiting"]
        time.sleep(3)
        assert sent(job) == before
        desk.order_sandbox("settings", {"speed": 0})
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("link", name="Pause…")).to_be_visible()
        wait_until(lambda: sent(job) > before)
        page.get_by_role("link", name=re.compile("^Cancel")).or_(
            page.get_by_role("button", name="Cancel…")
        ).first.click()
        page.get_by_role("button", name="Cancel the job").last.click()
        wait_until(
            lambda: desk.query(
                "SELECT 1 FROM enrichment_enrichmentjob WHERE id = ? AND state = 'cancelling'", job
            )
        )
        assert rows_by_state(desk, job)["in_flight"]
        desk.order_sandbox("settings", {"speed": SPEED})
        # The page is not reloaded by hand: it says so itself when the last row is back.
        expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible(timeout=90_000)

    money = dict(desk.query("SELECT kind, sum(credits) FROM keys_ledgerentry WHERE job = ? GROUP BY 1", job))
    assert money["reserved"] == pytest.approx(money.get("charged", 0) + money["released"])


def test_a_look_up_is_answered_on_its_page(desk: Desk, page_of: Callable[..., Page]) -> None:
    page = page_of("Operator")
    page.goto("/lookup/email-search/")
    page.get_by_label("First name").fill("Greta sbx-found")
    page.get_by_label("Last name").fill("Lindqvist")
    page.get_by_label(re.compile("Domain")).fill("nordhafen.example")
    page.keyboard.press("Enter")

    expect(page.locator("#lookup-answer")).to_contain_text("@nordhafen.example", timeout=60_000)
    assert page.get_by_label("Last name").input_value() == "Lindqvist"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"Email\r\n", "header"),
        (b"Email\r\na\x00b@firm.example\r\n", "NUL"),
        (b"PK\x03\x04" + b"x" * 400, "ZIP"),
        (";".join(f"c{number}" for number in range(300)).encode() + b"\r\n" + b";" * 299, "200"),
    ],
    ids=["empty", "header only", "NUL", "renamed ZIP", "300 columns"],
)
def test_a_file_that_cannot_be_read_gets_a_sentence_at_its_field(
    watch: object, page_of: Callable[..., Page], data: bytes, words: str
) -> None:
    page = page_of("Operator", java_script_enabled=False)
    page.goto("/jobs/new/email-verification/")
    page.get_by_label("List", exact=True).set_input_files(
        FilePayload(name="list.csv", mimeType="text/csv", buffer=data)
    )
    page.get_by_role("button", name="Check the list").click()

    expect(page.locator(".field-error, [id$=error]").first).to_contain_text(words)


def test_a_viewer_is_told_who_may_start_and_a_stranger_must_log_in(
    page_of: Callable[..., Page], desk: Desk
) -> None:
    page = page_of("Viewer")
    page.goto("/jobs/new/")
    expect(page.get_by_text(re.compile("Ana Duarte|Leo Brandt|Mira Okafor")).last).to_be_visible()
    page.goto("/keys/")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    page.context.clear_cookies()
    page.goto("/jobs/")

    expect(page).to_have_url(re.compile(r"/login/\?next="))


def test_the_keyboard_alone_opens_pages(page_of: Callable[..., Page]) -> None:
    page = page_of("Operator")
    for left in (2, 1, 0):
        page.keyboard.press("g")
        page.keyboard.press("j")
        try:
            page.wait_for_url("**/jobs/")
        except PlaywrightTimeoutError:  # perhaps a busy machine let too long pass between the two keys
            if not left:
                raise
        else:
            break
    page.keyboard.press("/")
    expect(page.locator("input:focus")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 700, "y": 500})
    page.keyboard.press("n")

    page.wait_for_url("**/jobs/new/")
