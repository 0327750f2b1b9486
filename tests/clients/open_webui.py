"""Open WebUI, fresh from PyPI, in Chromium: a chat, a call of one of its tools, and an image.

Run by `make clients`, which installs it. It starts the gateway of this checkout with the simulator,
and Open WebUI with an empty data folder and nothing configured but the gateway's address. If
something fails, logs and a screenshot are left in a temporary folder, whose name is printed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright
from servers import API, gateway, running

WEB = 50092
CHROMIUM = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def ask(page: Page, question: str, *, image: bool = False) -> None:
    """Begin a new chat with a question."""
    page.goto(f"http://127.0.0.1:{WEB}/")
    page.wait_for_selector("#chat-input")
    if page.get_by_text("Okay, Let's Go!").is_visible():
        page.get_by_text("Okay, Let's Go!").click()
    if image:
        page.click("#integration-menu-button")
        page.get_by_text("Image", exact=True).first.click()
        page.keyboard.press("Escape")
    page.click("#chat-input")
    page.keyboard.type(question)
    page.keyboard.press("Enter")


def check(page: Page) -> None:
    """Ask for a greeting, a tool and an image, and look at the page."""
    body = page.locator("body")
    ask(page, "hello")
    expect(body).to_contain_text("This is the simulator speaking")
    ask(page, "[[sim call=get_current_timestamp]]")
    expect(body).to_contain_text("View Result from get_current_timestamp")
    expect(body).to_contain_text('"current_timestamp":')
    ask(page, "Draw a cat [[sim call=generate_image]]", image=True)
    expect(page.locator("img[src*='/api/v1/files/']").first).to_be_visible()


def main() -> None:
    """Start everything, and run the checks in the browser."""
    folder = Path(tempfile.mkdtemp(prefix="open-webui-"))
    web = {
        "DATA_DIR": str(folder / "data"),
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": "of this run",
        "OPENAI_API_BASE_URL": API,
        "OPENAI_API_KEY": "open-webui",
        "ENABLE_OLLAMA_API": "False",
        "ENABLE_IMAGE_GENERATION": "True",
        "IMAGE_GENERATION_ENGINE": "openai",
        "IMAGES_OPENAI_API_BASE_URL": API,
        "IMAGES_OPENAI_API_KEY": "open-webui",
        "IMAGE_GENERATION_MODEL": "dall-e-3",
        # Its own embeddings would be downloaded.
        "RAG_EMBEDDING_ENGINE": "openai",
        "OFFLINE_MODE": "True",
        "HF_HUB_OFFLINE": "1",
    }
    # The simulator draws only by a script.
    drawing = {"GATEWAY__IMAGES__PROMPT_PREFIX": "[[sim tool=dalle]] "}
    command = [Path(sys.executable).with_name("open-webui"), "serve", "--host", "127.0.0.1"]
    with ExitStack() as stack:
        stack.enter_context(gateway(folder / "gateway.log", **drawing))
        health = f"http://127.0.0.1:{WEB}/health"
        stack.enter_context(
            running([*command, "--port", str(WEB)], health, folder / "web.log", **web)
        )
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        expect.set_options(timeout=60_000)
        try:
            check(page)
        except BaseException:
            page.screenshot(path=folder / "failed.png")
            print(f"failed: see {folder}", file=sys.stderr)
            raise
        finally:
            browser.close()
    shutil.rmtree(folder)
    print("Open WebUI: a chat, a call of a tool and an image are right")


if __name__ == "__main__":
    main()
