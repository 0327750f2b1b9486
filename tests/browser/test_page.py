"""The operators' page in Chromium: everything by its buttons, live, in front of a real gateway.

All tests share one gateway with a single slot, one browser and one signed-in operator, and leave
them as they were; the last ones stop Redis and drain the worker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from settings.redis_url import redis_url
from tests.support.browser import CHROMIUM, PASSWORD, Visit, chromium
from tests.support.gateway import Gateway, until
from wire.keyring import Keyring
from wire.redis.client import connect
from wire.seal import Seal

pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"there is no {CHROMIUM}")

VIEWS = (
    "",
    "/line",
    "/keys",
    "/upstreams",
    "/processes",
    "/jobs",
    "/audit",
    "/act/issue",
    "/jobs/none",
)
HOSTILE = "<script>alert(1)</script>"
CHINESE = "翻译机器人"
LONG = "x" * 100
LONG_MODEL = "organisation/" + "a-very-long-name-" * 8


class Bots:
    """Clients with keys of the gateway, each of which asks in a thread of its own."""

    def __init__(self, gateway: Gateway, keys: dict[str, str]) -> None:
        self.gateway = gateway
        self._keys = keys
        self._pool = ThreadPoolExecutor(8)
        self._calls: list[Future[httpx.Response]] = []

    def ask(self, name: str, script: str = "words=4 interval=0.01 gate=2") -> Callable[[], str]:
        """Ask with a key; return a function that waits for the whole answer."""
        body = {
            "model": "gpt-4",
            "stream": True,
            "messages": [{"role": "user", "content": f"[[sim {script}]]"}],
        }
        headers = {"authorization": f"Bearer {self._keys[name]}"}
        url = f"{self.gateway.url}/v1/chat/completions"
        call = self._pool.submit(httpx.post, url, json=body, headers=headers, timeout=60)
        self._calls.append(call)
        return lambda: call.result(60).text

    def finish(self) -> None:
        """Let answers go on until all have ended."""

        def finished() -> bool:
            self.gateway.open_gate()
            return all(call.done() for call in self._calls)

        until(finished, 60, "an answer has not ended")
        self.gateway.reset()  # the gate is closed again

    def close(self) -> None:
        """Let all answers go on."""
        self.gateway.open_gate()
        self._pool.shutdown(wait=True, cancel_futures=True)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        simulator=("--kind", "openai", "--models", "gpt-4"),
        upstream__kind="openai",
        upstream__max_concurrency="1",
        auth__mode="keys",
        admin__password=PASSWORD,
        queue__heartbeat="0.75",
        queue__lease="3",
    ) as gateway:
        yield gateway.start()


@pytest.fixture(scope="module")
def bots(gateway: Gateway) -> Iterator[Bots]:
    async def issue() -> dict[str, str]:
        client = connect(redis_url(gateway.redis.url))
        keyring = Keyring(client, Seal(b"the secret of the tests"))
        limits = {LONG: {"models": (LONG_MODEL,)}}
        issued = {
            name: (await keyring.new(name, limits.get(name, {})))[0]
            for name in ("bot", HOSTILE, CHINESE, LONG)
        }
        await client.aclose()
        return issued

    with ThreadPoolExecutor(1) as pool:  # Playwright's own event loop runs in this thread
        keys = pool.submit(asyncio.run, issue()).result()
    bots = Bots(gateway, keys)
    yield bots
    bots.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def operator(browser: Browser, gateway: Gateway, bots: Bots) -> Iterator[Visit]:
    visit = Visit(browser, gateway.url)
    visit.sign_in()
    yield visit
    visit.close()


@pytest.fixture(autouse=True)
def _nothing_wrong(operator: Visit) -> Iterator[None]:
    """After each test, no script has failed, and the policy of the page has blocked nothing."""
    yield
    problems, operator.problems = operator.problems, []
    assert not problems


@pytest.fixture
def stranger(browser: Browser, gateway: Gateway) -> Iterator[Visit]:
    visit = Visit(browser, gateway.url)
    yield visit
    visit.close()


def flash(page: Page) -> str:
    """The message about an action that was carried out."""
    return page.locator("main > .notice.good").inner_text()


def test_nobody_sees_anything_before_the_login_and_a_wrong_password_is_refused(
    stranger: Visit,
) -> None:
    page = stranger.page
    page.goto(f"{stranger.url}/line")
    assert page.url == f"{stranger.url}/login"
    stranger.sign_in(password="wrong")
    expect(page.get_by_role("alert")).to_have_text("The password is wrong.")
    stranger.sign_in(name="Anna")
    page.wait_for_url(stranger.url)
    expect(page.locator(".menu summary")).to_have_text("Anna")


def test_a_job_is_seen_while_it_waits_runs_and_has_ended(operator: Visit, bots: Bots) -> None:
    page = operator.open("/line")
    first = bots.ask("bot")
    expect(page.locator("#running tbody tr")).to_have_count(1)
    second = bots.ask(HOSTILE)
    waits = page.locator("#waiting tbody tr")
    expect(waits).to_have_count(1)
    expect(waits).to_contain_text(HOSTILE)  # as text: there is no such element
    expect(waits).to_contain_text("a free slot")
    assert not page.locator("main script").count()
    page.click("#running td.main a")
    expect(page.locator("#story")).to_contain_text("First token")
    bots.gateway.open_gate()
    expect(page.locator("#story")).to_contain_text("done")
    bots.finish()
    assert "[DONE]" in first()
    assert "[DONE]" in second()
    page = operator.open("/jobs")
    expect(page.locator("#endings tbody tr")).to_have_count(2)


def test_focus_and_open_details_survive_what_changes(operator: Visit, bots: Bots) -> None:
    bots.ask(CHINESE)
    page = operator.open("/line")
    page.wait_for_selector("#running tbody tr")
    page.click("#flows summary")
    page.focus("#running td.acts a")
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.evaluate("document.querySelector('#running tr[data-key]').dataset.seen = 'yes'")
    bots.ask("bot")  # the regions change
    expect(page.locator("#waiting tbody tr")).to_have_count(1)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == focused
    assert page.locator("#flows details[open]").count() == 1
    bots.finish()


def test_intake_is_paused_and_resumed(operator: Visit, bots: Bots) -> None:
    page = operator.open()
    page.click("text=Pause intake")
    page.select_option("#seconds", "300")
    page.click("main button")
    assert flash(page) == "Paused."
    assert "intake_paused" in bots.ask("bot")()
    expect(page.locator("#notices")).to_contain_text("Intake is paused by Anna")
    page.locator("#notices").get_by_role("button", name="Resume intake").click()
    assert flash(page) == "Resumed."
    assert "[DONE]" in bots.ask("bot", "words=2")()


def test_a_key_is_issued_changed_paused_and_revoked(operator: Visit) -> None:
    page = operator.open("/keys")
    page.click("text=Issue a key")
    page.fill("#name", "new <b>bot</b>")
    page.fill("#expires", "tomorrow")
    page.fill("#budget_day", "1000")
    page.click("main button")
    expect(page.get_by_role("alert")).to_have_text("Expires: this value cannot be read.")
    operator.forgive("400")  # the form again, with the message
    page.fill("#expires", "")
    page.click("main button")
    assert page.locator(".secret").inner_text().startswith("gw-")
    page = operator.open("/keys?q=new")
    entry = page.locator("#keys tbody tr", has_text="new <b>bot</b>")
    expect(entry).to_contain_text("Budget per day 0 / 1,000 units")
    entry.get_by_text("Change").click()
    page.fill("#max_running", "3")
    page.click("main button")
    assert flash(page) == "The key is changed."
    entry = page.locator("#keys tbody tr", has_text="new <b>bot</b>")
    expect(entry).to_contain_text("Running jobs at most 3")
    entry.get_by_text("Pause").click()
    page.click("main button")
    expect(entry).to_contain_text("paused")
    entry.get_by_text("Resume").click()
    expect(entry).to_contain_text("active")
    entry.get_by_text("Revoke").click()
    page.click("main button")
    assert flash(page) == "The key is revoked."
    expect(entry).to_contain_text("revoked")


def test_a_running_job_is_cancelled_and_its_client_learns_why(operator: Visit, bots: Bots) -> None:
    answer = bots.ask("bot")
    page = operator.open("/line")
    page.click("#running td.acts a")
    expect(page.locator("h1")).to_have_text("Cancel this job?")
    page.click("main button")
    assert "cancel" in flash(page)
    expect(page.locator("#story .steps")).to_contain_text("cancelled by operator")
    assert "cancelled_by_operator" in answer()


def test_an_upstream_and_an_account_are_paused_and_woken(operator: Visit, bots: Bots) -> None:
    page = operator.open("/upstreams")
    page.click("article .head >> text=Pause")
    page.click("main button")
    expect(page.locator("#upstreams article .states")).to_contain_text("paused")
    page.click("article .head >> text=Resume")
    expect(page.locator("#upstreams article .states")).to_contain_text("ready")
    page.click("#upstreams td.acts >> text=Park")
    page.click("main button")
    assert flash(page) == "The account is parked."
    expect(page.locator("#upstreams tbody tr")).to_contain_text("paused")
    page.click("#upstreams td.acts >> text=Resume")
    expect(page.locator("#upstreams tbody tr")).to_contain_text("ready")
    answer = bots.ask("bot", "words=2 error=rate times=1")
    page.click("#upstreams td.acts >> text=Wake")  # it cools down
    assert flash(page) == "The account is woken."
    assert "[DONE]" in answer()


def test_the_audit_log_has_what_was_done(operator: Visit) -> None:
    page = operator.open("/")
    page.click("text=Pause intake")
    page.select_option("#seconds", "300")
    page.click("main button")
    page.locator("#notices").get_by_role("button", name="Resume intake").click()
    assert flash(page) == "Resumed."
    operator.open("/audit")
    latest = page.locator("#entries tbody tr")
    expect(latest.nth(0)).to_contain_text("resume")
    expect(latest.nth(1)).to_contain_text("seconds: 300")
    for row in (latest.nth(0), latest.nth(1)):
        expect(row).to_contain_text("Anna")


def test_the_keyboard_is_enough(stranger: Visit, bots: Bots) -> None:
    page = stranger.page
    page.goto(f"{stranger.url}/login")
    page.focus("#name")
    page.keyboard.type("Ben")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("#live.on")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#content")
    page.keyboard.press("Tab")  # the first link or button of the content
    assert page.evaluate("document.activeElement.closest('main') !== null")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.focus(".menu summary")
    page.keyboard.press("Enter")
    expect(page.locator(".menu[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".menu[open]")).to_have_count(0)
    page.focus("text=Pause intake")
    page.keyboard.press("Enter")
    page.wait_for_selector("#seconds")
    page.focus("main button")
    page.keyboard.press("Enter")
    assert flash(page) == "Paused."
    page.focus("#notices button")
    page.keyboard.press("Enter")
    page.wait_for_url("**done=resume*")
    assert not stranger.problems


def test_no_view_is_wider_than_a_phone(operator: Visit, bots: Bots) -> None:
    answers = [bots.ask(name) for name in ("bot", CHINESE)]
    page = operator.page
    page.set_viewport_size({"width": 360, "height": 780})
    for view in VIEWS:
        page.goto(f"{operator.url}{view}")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360, view
    page.set_viewport_size({"width": 1280, "height": 900})
    bots.finish()
    assert all("[DONE]" in answer() for answer in answers)


def test_language_and_colours_are_those_of_the_browser_until_others_are_chosen(
    browser: Browser, gateway: Gateway
) -> None:
    visit = Visit(browser, gateway.url, locale="zh-CN", color_scheme="dark")
    page = visit.sign_in()
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    expect(page.locator("h1")).to_have_text("总览")
    assert page.evaluate(paper) == "rgb(14, 17, 21)"
    page.click(".menu summary")
    page.click("text=浅色")
    assert page.evaluate(paper) == "rgb(244, 245, 247)"
    page.click(".menu summary")
    page.click("text=English")
    expect(page.locator("h1")).to_have_text("Overview")
    page = visit.open("/line")
    expect(page.locator("h1")).to_have_text("Line")
    assert page.evaluate(paper) == "rgb(244, 245, 247)"
    assert not visit.problems
    visit.close()


def test_the_page_works_without_scripts(browser: Browser, gateway: Gateway) -> None:
    visit = Visit(browser, gateway.url, java_script_enabled=False)
    page = visit.sign_in()
    expect(page.locator("#live")).to_have_text("Reload for newer figures")
    page.click("text=Pause intake")
    page.click("main button")
    assert flash(page) == "Paused."
    page.click("#notices button")
    assert flash(page) == "Resumed."
    visit.close()


def test_a_page_whose_session_has_ended_says_so(stranger: Visit) -> None:
    stranger.sign_in()
    page = stranger.open("/line")
    stranger.forget()
    page.evaluate("disconnect(); connect()")
    expect(page.locator("#live")).to_have_text("Signed out. Sign in again.")


def test_the_page_outlives_redis(operator: Visit, bots: Bots) -> None:
    page = operator.open("/keys")
    bots.gateway.redis.kill()
    expect(page.locator("#notices")).to_contain_text("Redis is unreachable")
    assert page.locator("#keys tbody tr").count() >= 3  # what was known is still shown
    for subject in ("what=all", "what=key&name=0123456789abcdef"):
        page.goto(f"{operator.url}/act/pause?{subject}")
        page.click("main button")
        failed = "Nothing was changed: Redis cannot be used"
        expect(page.get_by_role("alert")).to_contain_text(failed)
    page = operator.open("/line")
    expect(page.locator("#notices")).to_contain_text("Redis is unreachable")
    bots.gateway.redis.restart()
    expect(page.locator("#notices")).to_be_empty()
    expect(page.locator("#lanes")).to_contain_text("without jobs")
    operator.forgive("503")


def test_a_worker_is_drained(operator: Visit, gateway: Gateway) -> None:
    gateway.wait_ready()
    page = operator.open("/processes")
    page.click("#workers td.acts a")
    expect(page.locator("h1")).to_have_text("Drain this worker?")
    page.click("main button")
    assert flash(page) == "The worker drains."
    expect(page.locator("#workers")).to_contain_text("No worker runs")
    until(lambda: gateway.workers[0].poll() is not None, 30, "the worker runs on")
    expect(operator.open().locator("#attention")).to_contain_text("no worker")
