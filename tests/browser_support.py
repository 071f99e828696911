"""Pages in a real browser: Debian's Chromium without a screen, driven by Playwright.

The fixture `browser` (see `conftest.py`) gives the browser, `opened` a page in it with all that went wrong
while it was open. Screenshots go to `screenshots/` in the checkout, which git ignores.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Route, sync_playwright

__all__ = ["PHONE", "WIDE", "Opened", "chromium", "find_chromium", "opened"]

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
PHONE, WIDE = (390, 844), (1600, 1000)

# The browser asks for nothing of its own, and runs as root in a container.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """Return the path of an installed Chromium; Playwright never downloads its own here."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """Give a browser with a new profile of its own; both are gone afterwards."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page in a browser.

    Attributes:
        page: Playwright's handle of it.
        problems: What its scripts logged as an error or threw, and what its own policy forbade, so far.
        requests: Addresses that it asked for besides its own, so far; none of them was answered.
    """

    page: Page
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def load_ms(self) -> float:
        """Return how long the page took from the start of its navigation to the end of its load event."""
        return float(self.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the screen; 0 where it fits."""
        root = "document.documentElement"
        return int(self.page.evaluate(f"Math.max(0, {root}.scrollWidth - {root}.clientWidth)"))

    def accessibility(self) -> list[str]:
        """Return what axe-core has against the page, one line for each rule and place; contrast is a rule."""
        if not self.page.evaluate("typeof window.axe === 'object'"):
            self.page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
        found: list[dict[str, Any]] = self.page.evaluate("axe.run(document).then((all) => all.violations)")
        return [
            f"{rule['id']}: {' '.join(map(str, node['target']))}: {node['failureSummary']}"
            for rule in found
            for node in rule["nodes"]
        ]

    def screenshot(self, name: str) -> None:
        """Keep a picture of the whole page as `screenshots/<name>.png`."""
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@contextmanager
def opened(
    browser: Browser, path: Path, *, size: tuple[int, int] = WIDE, dark: bool = False
) -> Iterator[Opened]:
    """Open a page from disk in a fresh context that answers no request but the one for the page itself.

    Args:
        browser: The browser.
        path: The HTML file.
        size: Width and height of the screen in CSS pixels; `PHONE` is one with a touch screen.
        dark: Whether the reader prefers a dark page.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        has_touch=size == PHONE,
        device_scale_factor=1,
    )
    try:
        found, own = Opened(context.new_page()), path.absolute().as_uri()

        def answer(route: Route) -> None:
            if route.request.url.partition("#")[0] == own:
                route.continue_()
            else:
                found.requests.append(route.request.url)
                route.abort()

        context.route("**/*", answer)
        found.page.on("console", lambda said: found.problems.extend([said.text] * (said.type == "error")))
        found.page.on("pageerror", lambda error: found.problems.append(str(error)))
        found.page.goto(own, wait_until="load")
        yield found
    finally:
        context.close()
