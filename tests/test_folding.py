"""What code a lecture shows at once: the rule on hand-made cells, and on all lectures."""

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.errors import ExtensionError

from _ext import openings
from _ext.folding import essence, kind, lines

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html" / "chapters"


@pytest.mark.parametrize(
    "source, place, expected",
    [
        ("import torch", 0, "Set-up"),
        ("import torch", 1, "Set-up"),
        ("x = 1", 2, None),
        ("\n".join(f"x{k} = {k}" for k in range(6)), 2, None),
        ("\n\n".join(f"x{k} = {k}" for k in range(7)), 2, "Code"),
        ('claim = Claim("A01a", "...")', 5, "The claims as code"),
        ("record = claim.judge(pairs, scope)", 5, "How it is judged"),
        ("fig, ax = plt.subplots()", 5, "The figure"),
        ("runs = sweep(net, adam, digits)", 5, "The experiment"),
        ("runs, tuning = contest(methods)", 5, "The experiment"),
        ("benefit(3)", 5, None),
    ],
)
def test_a_cell_is_folded_by_what_it_does(source, place, expected):
    assert kind(source, place) == expected


FUNCTION = '''
def adam(theta, g):
    """A rule.

    Two lines.
    """

    m = g  # mean
    return theta - m
'''
LAYER = '''
class Layer(nn.Module):
    """Words."""

    def __init__(self):
        super().__init__()

    def forward(self, x):
        """More words."""
        return x
'''
PLAIN = '''
class Plain:
    """Words."""

    def method(self):
        """More words."""
        return 1
'''


@pytest.mark.parametrize(
    "source, expected",
    [
        (FUNCTION, "def adam(theta, g):\n    m = g  # mean\n    return theta - m"),
        (LAYER, "def forward(self, x):\n    return x"),
        (PLAIN, "class Plain:\n    def method(self):\n        return 1"),
        ("def f(x):\n    return x", "def f(x):\n    return x"),
    ],
    ids=["function", "layer", "class", "without words"],
)
def test_the_lines_that_compute_are_shown(source, expected):
    assert essence(source.strip("\n")) == expected


@pytest.mark.parametrize("path", sorted((ROOT / "nettrain").glob("*.py")), ids=lambda p: p.stem)
def test_whatever_the_package_holds_can_be_shown(path):
    text = path.read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            source = ast.get_source_segment(text, node)
            short = essence(source)
            assert 0 < lines(short) <= lines(source) and '"""' not in short
            ast.parse(short)


def test_most_code_of_the_lectures_is_folded():
    open_, all_of_it = 0, 0
    for path in (ROOT / "chapters").glob("*.ipynb"):
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        for place, cell in enumerate(cells):
            source = "".join(cell["source"])
            all_of_it += lines(source)
            open_ += lines(source) * (kind(source, place) is None)
    assert 0 < open_ < 0.1 * all_of_it


# ------------------------------------------------------------------------ on the built pages


def soup(name):
    return BeautifulSoup((HTML / f"{name}.html").read_text("utf-8"), "html.parser")


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "chapters").glob("*.ipynb")))
def test_a_claim_as_first_stated_is_open_only_where_the_page_has_no_verdict_of_it(name):
    page = soup(name)
    for card in page.select(".nt-verdict.nt-claim"):
        judged = page.find(id=card["data-claim"])
        assert bool(card.find_parent("details", class_="nt-fold")) == bool(judged)


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "chapters").glob("*.ipynb")))
def test_no_page_shows_the_record_of_a_claim(name):
    outputs = [output.get_text() for output in soup(name).select(".cell_output .output")]
    assert [text[:60] for text in outputs if text.lstrip().startswith("{'id'")] == []


def test_each_verdict_leads_to_its_row_among_all_claims():
    rows = {row["id"] for row in soup("explorer").select(".nt-claims tr[id]")}
    led = set()
    for path in (ROOT / "chapters").glob("*.ipynb"):
        for card in soup(path.stem).select(".nt-verdict[id]"):
            assert card.select_one(".nt-row a")["href"] == f"explorer.html#{card['id']}"
            led.add(card["id"])
    assert led == rows


@pytest.mark.parametrize("name, figure", openings.chosen().items())
def test_a_lecture_opens_with_the_figure_that_is_named(name, figure):
    page = soup(name)
    [opening] = page.select(".nt-opening")
    there = page.find(id=figure)
    assert opening.img["src"] == there.img["src"]
    assert opening.img["alt"] == openings.ALT != there.img["alt"]  # described once
    assert opening.a["href"] == f"#{figure}" and opening.p.get_text().startswith(
        there.figcaption.select_one(".caption-text").get_text().strip()[:40]
    )
    assert opening.find_previous(class_="in-short")


@pytest.mark.parametrize(
    "ids, classes, message",
    [
        ([], ["in-short"], "chapters/one has no figure fig-a"),
        (["fig-a"], [], 'chapters/one has no "In short"'),
    ],
)
def test_an_opening_that_cannot_be_made_is_an_error(ids, classes, message, monkeypatch):
    monkeypatch.setattr(openings, "chosen", lambda: {"one": "fig-a"})
    tree = nodes.section("", nodes.admonition(classes=classes), nodes.figure(ids=ids))
    app = SimpleNamespace(env=SimpleNamespace(docname="chapters/one"))
    with pytest.raises(ExtensionError, match=f"^_data/openings.yml: {message}$"):
        openings.show(app, tree)
