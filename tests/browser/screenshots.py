"""`make screenshots`: every page × theme × width with demo data, as PNG files in `screenshots/`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.desk import ROOT, Desk, launch, log_in, open_context, run_desk
from tests.browser.pages import Shot, pages_of

WIDTHS = {1440: 900, 390: 844}
THEMES = ("light", "dark")


def photograph(browser: Browser, desk: Desk, shots: list[Shot], folder: Path) -> int:
    """One file a page, theme and width; how many."""
    count = 0
    for role in dict.fromkeys(shot.role for shot in shots):
        for width, height in WIDTHS.items():
            for theme in THEMES:
                watched = open_context(
                    browser,
                    desk,
                    viewport={"width": width, "height": height},
                    color_scheme=theme,
                    device_scale_factor=1 if width > 800 else 2,
                    has_touch=width < 800,
                )
                page = watched.page
                if role:
                    log_in(page, desk, role)
                for shot in (shot for shot in shots if shot.role == role):
                    page.goto(shot.path)
                    page.wait_for_load_state("networkidle")
                    page.screenshot(path=folder / f"{shot.name}-{theme}-{width}.png", full_page=True)
                    count += 1
                page.goto("about:blank")
                watched.context.close()
    return count


def main() -> int:
    folder = ROOT / "screenshots"
    folder.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        run_desk(Path(scratch)) as desk,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        shots = pages_of(desk)
        wanted = [shot for shot in shots if not sys.argv[1:] or shot.name in sys.argv[1:]]
        sys.stdout.write(
            f"{photograph(browser, desk, wanted, folder)} pictures in {folder.relative_to(ROOT)}/\n"
        )
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
