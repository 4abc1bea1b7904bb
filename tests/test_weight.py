"""What a page loads: icons as a style sheet, no index of the search, MathJax where it is needed."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from _ext import offline, weight

HTML = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted(HTML.glob("*.html")) + sorted(HTML.glob("chapters/*.html"))
built = pytest.mark.skipif(not PAGES, reason="needs the built book")
SHARED = 1_500_000  # bytes that a page may load before its own content


def test_only_the_heavy_scripts_are_left_out():
    head = (
        '<script defer src="_static/scripts/fontawesome.js?digest=55"></script>\n'
        '<script src="../_static/doctools.js?v=9"></script>\n'
        '<script src="../searchindex.js"></script>'
        '<script>const searchindex = "fontawesome.js";</script>'
    )
    assert weight.without_heavy_scripts(head) == (
        '<script src="../_static/doctools.js?v=9"></script>\n'
        '<script>const searchindex = "fontawesome.js";</script>'
    )


@pytest.mark.parametrize(
    "body, expected", [('<span class="math notranslate">x</span>', 2), ("<p>mathematics</p>", 1)]
)
def test_mathjax_stays_where_there_is_a_formula(body, expected):
    settings = SimpleNamespace(filename=None, attributes={"body": "window.MathJax = {}"})
    bundle = SimpleNamespace(filename="vendor/mathjax/tex.js", attributes={})
    other = SimpleNamespace(filename="copybutton.js", attributes={})
    context = {"script_files": [settings, bundle, other], "body": body}
    weight.lighten(None, "page", "page.html", context, None)
    kept = context["script_files"]
    assert kept == ([settings, bundle, other] if expected == 2 else [other])


def test_an_icon_that_the_theme_lacks_is_named(monkeypatch):
    monkeypatch.setattr(weight, "ICONS", ("rocket", "no-such-icon"))
    with pytest.raises(ValueError, match="no icon 'no-such-icon'"):
        weight.icons.__wrapped__()


@built
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_icon_of_a_page_is_drawn(page):
    text = page.read_text()
    used = {n for classes in re.findall(r'<i class="([^"]*)"', text) for n in classes.split()}
    used = {n.removeprefix("fa-") for n in used if n.startswith("fa-")} - {"solid", "lg"}
    assert used <= set(weight.ICONS)


@built
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_what_a_page_loads_before_its_content(page):
    text = page.read_text()
    wanted = re.findall(r'<script[^>]*src="([^"?]*)', text)
    wanted += re.findall(r'<link[^>]*href="([^"?]*)[^"]*" rel="stylesheet"', text)
    wanted += re.findall(r'<link rel="stylesheet"[^>]*href="([^"?]*)', text)
    files = {(page.parent / name).resolve() for name in wanted}
    assert len(files) > 5 and all(f.exists() for f in files)
    mathjax = [f for f in files if "mathjax" in str(f)]
    assert bool(mathjax) == weight.has_mathematics(text)
    if mathjax:  # its first file loads the others
        files |= {mathjax[0].parent / f"{name}.js" for name in offline.MATHJAX}
    total = sum(f.stat().st_size for f in files)
    assert total < (SHARED if page.stem != "search" else 2 * SHARED)
