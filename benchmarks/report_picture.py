"""Draw the picture of a report that README.md and docs/report.md show: the demo's, swiped.

Needs Playwright and a Chromium of the system: ``pip install "offsky[browser]"``.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from offsky.command.demo import run_demo

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "report.png"


def main() -> None:
    """Run the demo in a temporary folder, open its page, and save what is seen."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        run_demo(Path(folder), report=True)
        browser = play.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1000, "height": 1060})
        page.goto(f"file://{folder}/demo_target_bsub.html#plane=after&x=200&y=300")
        page.wait_for_selector("html[data-offsky-state=ready]")
        page.keyboard.press("s")
        page.wait_for_timeout(600)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
