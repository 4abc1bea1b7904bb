"""The built book in a real browser, with the network cut: every page, and what a reader moves."""

import json
import os
import re
import shutil
import statistics
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pypdf
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

HTML = Path(__file__).parents[1] / "_build" / "html"
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
PAGES = sorted(
    str(p.relative_to(HTML))
    for p in [HTML / "index.html", *HTML.glob("chapters/*.html"), *HTML.glob("exercises/**/*.html")]
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
TYPESET = "[...document.querySelectorAll('.math')].every(m => m.querySelector('mjx-container'))"
IMAGES = "[...document.images]"

if not CHROMIUM and not os.environ.get("CI"):
    pytest.skip("no Chromium on this machine", allow_module_level=True)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=HTML))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as p:
        yield p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def visit(browser, site):
    """visit(page, ...) -> (page, complaints): loads a page of the book, nothing from elsewhere."""
    contexts = []

    def open_page(name, **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page, complaints = context.new_page(), []

        def route(handler):
            if handler.request.url.startswith((site, "data:", "blob:")):
                handler.continue_()
            else:
                complaints.append(f"asks for {handler.request.url}")
                handler.abort()

        page.route("**/*", route)
        page.on("pageerror", lambda e: complaints.append(f"error: {e}"))
        page.on("console", lambda m: m.type == "error" and complaints.append(f"console: {m.text}"))
        page.on("response", lambda r: r.status >= 400 and complaints.append(f"{r.status} {r.url}"))
        page.goto(f"{site}/{name}", wait_until="load")
        page.wait_for_load_state("networkidle")
        page.wait_for_function(TYPESET)
        return page, complaints

    yield open_page
    for context in contexts:
        context.close()


def barriers(page):
    """What axe-core finds serious or critical for readers with assistive technology."""
    # preload: axe would ask for style sheets anew, under addresses relative to the page
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [
        (v["id"], node["html"][:200])
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def test_book_is_built():
    assert (HTML / "index.html").exists(), "run `make book` first"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_and_offline(visit, name):
    page, complaints = visit(name)
    assert page.locator("mjx-merror").count() == 0
    assert page.evaluate(f"{IMAGES}.filter(i => i.complete && !i.naturalWidth).length") == 0
    assert page.evaluate(f"{IMAGES}.filter(i => !i.alt).length") == 0
    assert complaints == [] and barriers(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone_in_the_dark(visit, name):
    small = {"viewport": {"width": 320, "height": 640}, "is_mobile": True}
    page, complaints = visit(name, color_scheme="dark", **small)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 321
    assert page.evaluate(CUT_OFF) == [] and min(page.evaluate(LETTERS), default=10) >= 8.5
    assert complaints == [] and barriers(page) == []


# Formulas that are cut off, or are stops of the tab key though all of them is seen.
CUT_OFF = """() => [...document.querySelectorAll("mjx-container")].filter(e => {
  if (!e.offsetParent) return false; // folded
  if (e.getAttribute("display") !== "true") return e.tabIndex >= 0;
  const wide = e.scrollWidth > e.clientWidth;
  return wide ? getComputedStyle(e).overflowX !== "auto" || e.tabIndex < 0 : e.tabIndex >= 0;
}).map(e => e.closest("p, div.math").outerHTML.slice(0, 200))"""

# How high letters of 10 points stand in a figure of 110 dots per inch, in pixels.
LETTERS = """() => [...document.querySelectorAll(".bd-article .cell_output img")]
  .filter(e => e.offsetParent && !e.closest(".nt-frames") && e.naturalWidth > 320)
  .map(e => 10 / 72 * 110 * e.getBoundingClientRect().width / e.naturalWidth)"""


def test_a_dark_page_is_printed_on_white(visit):
    page, _ = visit("chapters/dropout.html", color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    look = "e => getComputedStyle(document.querySelector(e))"
    for part, bright in (("body", "backgroundColor"), ("h1", "color"), (".nt-verdict", "color")):
        color = page.evaluate(f"({look})('{part}').{bright}")
        brightness = sum(int(c) for c in re.findall(r"\d+", color)[:3]) / 3
        assert (brightness > 200) == (part == "body"), (part, color)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_the_system_theme(visit, scheme):
    page, _ = visit("index.html", color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(c) for c in ground.removeprefix("rgb(").rstrip(")").split(",")) / 3
    assert (brightness > 128) == (scheme == "light")


# What a reader sees without opening a bar, in pixels: prose, code, and where the first picture is.
HEIGHTS = """() => {
  const article = document.querySelector(".bd-article");
  const folded = "details:not([open]) > :not(summary), .nt-verdict";
  const high = e => e.closest(folded) ? 0 : e.getBoundingClientRect().height;
  const sum = (wanted, inside) => [...article.querySelectorAll(wanted)]
    .filter(e => !e.parentElement.closest(inside || wanted)).reduce((s, e) => s + high(e), 0);
  const picture = article.querySelector("img, svg, .nt-frames");
  return {
    prose: sum("p, ul, ol, h1, h2, h3, .admonition"),
    code: sum(".highlight"),
    all: article.getBoundingClientRect().height,
    picture: picture.getBoundingClientRect().top + window.scrollY,
  };
}"""


def test_lectures_are_prose_and_pictures_more_than_code(visit):
    screen = {"width": 1280, "height": 768}
    shares, late = [], {}
    for name in PAGES:
        if "in-short admonition" not in (HTML / name).read_text("utf-8"):
            continue
        page, _ = visit(name, viewport=screen)
        seen = page.evaluate(HEIGHTS)
        shares.append((seen["prose"] / seen["all"], seen["code"] / seen["all"]))
        if seen["picture"] > 2 * screen["height"]:
            late[name] = round(seen["picture"])
    prose, code = map(statistics.median, zip(*shares))
    assert len(shares) > 20 and prose >= 0.3 and code <= 0.15
    assert late == {}


def test_animation_plays_and_slides(visit):
    page, complaints = visit("chapters/gradient_descent.html")
    figure = page.locator(".nt-frames").first
    slider, button = figure.locator("input[type=range]"), figure.locator("button")
    shown = figure.locator("img:not([hidden])")
    labels = json.loads(figure.get_attribute("data-labels"))
    alts = [img.get_attribute("alt") for img in figure.locator("img").all()]
    assert len(labels) == len(alts) and len(set(alts)) > 5  # told apart in words, too
    slider.focus()
    for key, at in (("Home", 0), ("ArrowRight", 1), ("End", -1)):
        page.keyboard.press(key)
        assert shown.count() == 1 and shown.get_attribute("alt") == alts[at]
        told = slider.get_attribute("aria-valuetext"), figure.locator("output").text_content()
        assert told == (labels[at], labels[at])
    sign = button.locator("path")
    rests = sign.get_attribute("d")
    button.click()  # at the end it starts over
    assert button.get_attribute("aria-label") == "Pause" and sign.get_attribute("d") != rests
    page.wait_for_function("s => 0 < s.value && s.value < 6", arg=slider.element_handle())
    button.click()
    stopped = slider.input_value()
    page.wait_for_timeout(500)
    assert slider.input_value() == stopped
    assert (button.get_attribute("aria-label"), sign.get_attribute("d")) == ("Play", rests)
    assert shown.count() == 1 and complaints == []


@pytest.mark.parametrize(
    "words, expected, among",
    [
        ("momentum", "chapters/optimizers", None),
        ("动量法", "chapters/optimizers", None),
        ("动量", "chapters/optimizers", None),
        ("which optimizer", "chapters/optimizer_choice", 1),
        ("learning rate", "chapters/what_to_do", 5),
    ],
)
def test_search_finds(visit, words, expected, among):
    page, complaints = visit(f"search.html?q={words}")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.wait_for_timeout(1500)  # results come one by one
    links = page.locator("#search-results li > a").evaluate_all("links => links.map(a => a.href)")
    assert any(expected in link for link in links[:among]), links[:among]
    snippets = page.locator("#search-results p.context").all_inner_texts()
    assert snippets and not any(s.startswith((".pdf", "Contents", "Open in")) for s in snippets)
    assert complaints == []


def test_every_interactive_figure_moves(visit):
    """On every page: the slider of each figure shows another picture at its end, by keyboard."""
    moved = 0
    for name in PAGES:
        if 'class="nt-frames' not in (HTML / name).read_text():
            continue
        page, complaints = visit(name)
        for figure in page.locator("figure.nt-frames:not(.nt-race)").all():
            slider, shown = figure.locator("input[type=range]"), figure.locator("img:not([hidden])")
            slider.focus()
            page.keyboard.press("Home")
            first = shown.get_attribute("alt"), shown.get_attribute("src")
            page.keyboard.press("End")
            assert slider.input_value() == slider.get_attribute("max")
            assert (shown.get_attribute("alt"), shown.get_attribute("src")) != first
            moved += 1
        assert complaints == []
    assert moved >= 10


def test_previous_next_and_copy_buttons(visit):
    page, complaints = visit("chapters/schedules.html")
    assert page.locator("button.copybtn").count() > 5
    page.locator("a.right-next").click()
    page.wait_for_load_state("load")
    assert page.url.endswith("chapters/optimizers.html")
    page.locator("a.left-prev").click()
    page.wait_for_load_state("load")
    assert page.url.endswith("chapters/schedules.html") and complaints == []


def test_the_table_of_claims_is_filtered_and_keeps_its_choice_in_the_address(visit):
    page, complaints = visit("chapters/explorer.html?part=Regularization")
    shown = lambda: page.locator(".nt-claims tbody tr:visible").count()
    part, everything = shown(), page.locator(".nt-claims tbody tr").count()
    assert 0 < part < everything
    page.fill("input[name=words]", "dropout")
    fewer = shown()
    assert 0 < fewer < part and f"{fewer} of {everything} claims" in page.inner_text("output")
    page.reload()
    assert shown() == fewer and page.input_value("input[name=words]") == "dropout"
    page.locator(".nt-claims tbody tr:visible a").first.click()
    page.wait_for_load_state()
    assert page.locator(f"[id='{page.url.split('#')[1]}']").is_visible()
    assert complaints == []


def test_the_table_of_claims_is_whole_without_a_script(visit):
    page, _ = visit("chapters/explorer.html", java_script_enabled=False)
    rows = page.locator(".nt-claims tbody tr")
    assert rows.count() > 100 and rows.last.is_visible()
    assert not page.locator("form.nt-explorer").is_visible()


def test_the_printed_book_can_be_leafed_through():
    book = pypdf.PdfReader(HTML / "book.pdf")
    assert 100 < len(book.pages) < 350
    assert book.trailer["/Root"]["/MarkInfo"]["/Marked"]
    titles = set()

    def walk(outline):
        for entry in outline:
            walk(entry) if isinstance(entry, list) else titles.add(entry.title)

    walk(book.outline)
    assert {"Dropout", "Optimizers", "What to do", "Glossary"} <= titles
    assert [t for t in titles if t == 2 * t[: len(t) // 2]] == []
    last = book.pages[len(book.pages) // 2].extract_text()
    assert str(len(book.pages) // 2 + 1) in last.split()  # its number
