"""The page in a real browser: headless Chromium against `codecria serve` on a tiny model of random weights."""

import contextlib
import json
import re
import shutil
import time
from pathlib import Path

import pytest

from tests.serving.conftest import serving

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: apt-get install chromium"),
]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
KEY = "a-key-of-its-own"
CODE = ".cm-content"
WAIT_MS = 60_000
# A text of these weights that is not line ends alone, and does not end before somebody looks.
LONG = {"temperature": 1.5, "seed": 1, "min_tokens": 1700, "max_tokens": 1800}


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@contextlib.contextmanager
def opened(browser, url, **options):
    """The page; what goes wrong in it, and what it asks of others, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    wrong, asked = [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/")
    yield page
    context.close()
    # Where text replaces a selection Chromium itself writes a style into the line and is refused; CodeMirror redraws.
    assert not [each for each in wrong if "401" not in each and "Applying inline style" not in each]
    assert asked and all(each.startswith(url) for each in asked)


@pytest.fixture
def page(browser, server):
    with opened(browser, server.url) as found:
        found.wait_for_selector("#model[data-state=ready]")
        yield found


def until(holds):
    """Wait for something. Playwright's own wait evaluates text, which the page's policy forbids."""
    ends = time.monotonic() + WAIT_MS / 1000
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def text(page):
    """The document, without ghost text: what CodeMirror shows less its widget."""
    script = """content => [...content.querySelectorAll('.cm-line')].map(line => {
        const copy = line.cloneNode(true);
        copy.querySelectorAll('.ghost').forEach(ghost => ghost.remove());
        return copy.textContent;
    }).join('\\n')"""
    return page.eval_on_selector(CODE, script)


def write(page, code):
    """Replace the document as a person would, and wait for a suggestion to be whole."""
    page.locator(CODE).focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)


def suggested(page):
    """The suggestion, when it is whole: then it is announced."""
    page.wait_for_selector("#spoken:not(:empty)", state="attached")
    ghost = page.text_content(".ghost")
    assert page.text_content("#spoken") == f"Suggestion: {ghost}"
    return ghost


def test_typing_shows_ghost_text_and_tab_accepts_it(page):
    write(page, "import os\nx = ")
    ghost = suggested(page)
    assert ghost and text(page) == "import os\nx = "
    page.locator("#typing").set_checked(False)
    page.locator("#typing").set_checked(True)
    page.locator(CODE).focus()
    page.keyboard.press("Alt+\\")
    assert suggested(page) == ghost  # the same again: without chance
    page.keyboard.press("Tab")
    assert text(page) == f"import os\nx = {ghost}"
    assert page.evaluate("() => document.activeElement.className").startswith("cm-content")


def test_a_word_at_a_time_and_dismissed_and_typed_through(page):
    page.locator("#ends").select_option("end")
    write(page, "def f(a):\n    return ")
    ghost = suggested(page)
    page.keyboard.press("Control+ArrowRight")
    after = text(page).removeprefix("def f(a):\n    return ")
    assert after and ghost.startswith(after) and after != ghost
    assert page.text_content(".ghost") == ghost[len(after) :]
    letter = ghost[len(after)]
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.insert_text(letter)
    assert page.text_content(".ghost") == ghost[len(after) + 1 :]
    page.wait_for_timeout(400)
    assert not asked  # what agrees with the ghost asks for nothing
    page.keyboard.press("Escape")
    assert page.locator(".ghost").count() == 0
    assert text(page).endswith(after + letter)
    page.keyboard.press("Escape")  # with no suggestion there the next Tab leaves the editor
    page.keyboard.press("Tab")
    assert not page.evaluate("() => document.activeElement.className").startswith("cm-content")


def test_a_key_supersedes_the_request_before(page, server):
    def long(route):
        route.continue_(post_data=json.dumps({**route.request.post_data_json, "stop_at": "end", "max_tokens": 1800}))

    page.wait_for_selector("#ids li")
    page.route("**/page/infill", long)
    before = server.number("codecria_cancelled_total")
    page.locator(CODE).focus()
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    for _ in range(4):
        with page.expect_request("**/page/infill"):
            page.keyboard.insert_text("q")
    page.keyboard.press("Escape")
    page.locator("#typing").set_checked(False)
    server.until("codecria_running", 0)
    assert failed and server.number("codecria_cancelled_total") > before


def test_the_figures_are_those_of_the_prompt(page, code_model):
    with page.expect_request("**/page/infill") as sent:
        write(page, "a = [1, 2]\nb = ")
    suggested(page)
    body = sent.value.post_data_json
    assert body["prefix"] + body["suffix"] == "a = [1, 2]\nb = "
    prepared = code_model.prepare_infill(
        body["prefix"], body["suffix"], order="spm", window_tokens=code_model.max_positions
    )
    shown = page.eval_on_selector_all("#ids li small", "all => all.map(each => Number(each.textContent))")
    assert shown == list(prepared.ids)
    figures = page.inner_text("#figures")
    for name in ("First token", "Speed", "Prompt", "Reused", "Written"):
        assert name in figures
    assert re.search(rf"Prompt\s+{len(shown)}\s+tokens", figures)


def test_chat_streams_and_stops(page, server):
    def with_chance(route):
        route.continue_(post_data=json.dumps({**route.request.post_data_json, **LONG}))

    page.route("**/page/chat", with_chance)
    # Watched from within: the text may be written before somebody outside has looked twice.
    page.evaluate(
        """() => {
            window.seen = [];
            new MutationObserver(() => {
                const text = document.querySelector(".assistant > div")?.textContent;
                if (!text || text === seen.at(-1)) return;
                seen.push(text);
                if (seen.length !== 3) return;
                window.label = document.querySelector("#send").textContent;
                document.querySelector("#send").click();
            }).observe(document.querySelector("#log"), { childList: true, subtree: true, characterData: true });
        }"""
    )
    page.fill("#question", "What is a llama?")
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("() => window.label") == "Stop")
    first, second, third = page.evaluate("() => window.seen.slice(0, 3)")
    assert len(first) < len(second) < len(third)
    page.wait_for_selector("#send:text('Send')")
    server.until("codecria_running", 0)
    page.click("#clear")
    assert page.locator("#log article").count() == 0


def test_light_and_dark_follow_the_system_and_the_switch(browser, server):
    def background(page):
        return page.evaluate("() => getComputedStyle(document.body).backgroundColor")

    seen = {}
    for scheme in ("light", "dark"):
        with opened(browser, server.url, color_scheme=scheme) as page:
            seen[scheme] = background(page)
            other = {"light": "dark", "dark": "light"}[scheme]
            page.select_option("#theme", other)
            seen[scheme, other] = background(page)
            page.reload()
            assert background(page) == seen[scheme, other]  # it is remembered
            page.wait_for_selector("#model[data-state=ready]")
    assert seen["light"] != seen["dark"]
    assert seen["light", "dark"] == seen["dark"] and seen["dark", "light"] == seen["light"]


@pytest.mark.parametrize("width", [320, 420, 768, 1280])
def test_nothing_runs_over_the_edge(browser, server, width):
    with opened(browser, server.url) as page:
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_selector("#ids li")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_all_and_everything_has_a_name(page):
    page.locator("#language").focus()
    reached = []
    for _ in range(12):
        reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
        if reached[-1].startswith("cm-content"):
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
        page.keyboard.press("Tab")
    for name in ("language", "theme", "ends", "typing", "log", "question", "send", "ids"):
        assert name in reached, reached
    assert any(each.startswith("cm-content") for each in reached)
    nameless = """all => all.filter(each => !each.hidden && each.offsetParent && !each.labels?.length
        && !each.ariaLabel && !each.getAttribute('aria-labelledby') && !each.textContent.trim()).map(each => each.id)"""
    assert page.eval_on_selector_all("select, input, textarea, button, [tabindex]", nameless) == []


def test_languages_bring_their_own_beginning_and_leave_what_was_written(page):
    page.select_option("#language", "Rust")
    assert text(page).startswith("fn area(radius: f64)")
    assert page.locator(".tok-keyword").count()
    write(page, "mine = 1")
    page.select_option("#language", "Python")
    assert text(page) == "mine = 1"


def test_a_key_is_asked_for_and_taken(browser, model_folder):
    with (
        serving(model_folder, env={"CODECRIA_API_KEY": KEY}) as keyed,
        opened(browser, keyed.url) as page,
    ):
        page.wait_for_selector("#key-form:not([hidden])")
        page.keyboard.type(KEY)  # it has the focus
        page.keyboard.press("Enter")
        page.wait_for_selector("#model[data-state=ready]")
        page.wait_for_selector("#ids li")
        assert page.is_hidden("#key-form")


def test_the_picture_in_the_documents_is_small():
    picture = Path(__file__).parents[3] / "docs" / "page.png"
    assert picture.stat().st_size < 200_000
