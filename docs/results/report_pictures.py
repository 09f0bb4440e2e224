"""Takes the two pictures of the report that README shows, with playwright and the Chromium on the path.

python docs/results/report_pictures.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDTH = 1280


def main() -> None:
    """The summary in light colours, and figures of the first ranking in dark ones."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, scheme, selector, most in (
            ("report-ranking", "light", "body", 920),
            ("report-figures", "dark", "#order-section .figures", 1100),
        ):
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            page.goto((FOLDER / "report.html").as_uri())
            box = page.locator(selector).first.bounding_box()
            clip = {"x": 0, "y": box["y"], "width": WIDTH, "height": min(box["height"], most)}
            page.screenshot(path=FOLDER / f"{name}.png", clip=clip, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
