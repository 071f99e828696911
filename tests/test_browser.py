"""The browser that pages are looked at with notices what it is there to notice."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browser_support import PHONE, opened

BAD = """<!doctype html><html lang="en"><title>Bad</title><body style="margin:0"><main>
<h1>Bad</h1><p style="color:#aaa;background:#fff">grey</p><div style="width:900px">wide</div></main>
<img src="https://example.com/a.png" alt="none">
<script>console.error("told"); throw new Error("thrown")</script>"""
GOOD = """<!doctype html><html lang="en"><title>Good</title><main><h1 id="here">Good</h1></main>"""


@pytest.mark.parametrize("dark", [False, True])
def test_a_good_page_has_nothing_against_it(browser: Browser, tmp_path: Path, dark: bool) -> None:
    (tmp_path / "good.html").write_text(GOOD)
    with opened(browser, tmp_path / "good.html", dark=dark) as found:
        assert (found.problems, found.requests, found.overflow()) == ([], [], 0)
        assert found.accessibility() == []
        assert 0 < found.load_ms() < 10_000
        assert found.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark


def test_everything_that_is_wrong_with_a_page_is_noticed(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(BAD)
    with opened(browser, tmp_path / "bad.html", size=PHONE) as found:
        assert found.requests == ["https://example.com/a.png"]
        assert {"told", "thrown"} <= set(found.problems)
        assert found.overflow() == 900 - PHONE[0]
        assert any(line.startswith("color-contrast") for line in found.accessibility())
