"""Chromium, driven by Playwright, and an operator who uses the page with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"

PATIENCE = 30_000
"""Milliseconds."""

PASSWORD = "correct horse battery staple"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium. What is expected of a page may take a while, as the machine may be busy."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


class Visit:
    """A browser's window with cookies of its own, and everything that is wrong in it."""

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        settings = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US"} | options
        self._context = browser.new_context(**settings)  # type: ignore[arg-type]  # by name
        self._context.set_default_timeout(PATIENCE)
        self.url = f"{url}/admin"
        self.page: Page = self._context.new_page()
        self.problems: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def close(self) -> None:
        """Close it."""
        self._context.close()

    def sign_in(self, name: str = "Anna", password: str = PASSWORD) -> Page:
        """Sign in, and return the page."""
        self.page.goto(f"{self.url}/login")
        self.page.fill("#name", name)
        self.page.fill("#password", password)
        self.page.click("main button")
        return self.page

    def open(self, path: str = "") -> Page:
        """Open a view, and return it when it is live."""
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_selector("#live.on")
        return self.page

    def forgive(self, status: str) -> None:
        """Forget a page with an error status, which Chromium reports as an error of the page."""
        self.problems = [each for each in self.problems if f"a status of {status}" not in each]

    def forget(self) -> None:
        """Remove all cookies."""
        self._context.clear_cookies()
