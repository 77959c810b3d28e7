"""The browser that tests and screenshots look at pages with: the system's Chromium."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """The path of the system's Chromium; None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def launch(playwright: Playwright) -> Browser:
    """Start the browser, with scrollbars as a reader has them.

    Raises:
        SystemExit: there is none.
    """
    path = find_browser()
    if path is None:
        raise SystemExit(f"no browser: install one of {', '.join(NAMES)}")
    return playwright.chromium.launch(
        executable_path=path,
        args=["--no-sandbox"],
        ignore_default_args=["--hide-scrollbars"],
    )
