"""The role that answers a lecture's question by what the replications found."""

import re
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document

from _ext import build, findings
from nettrain.lab import cards


@pytest.mark.parametrize(
    "page, expected",
    [
        ("chapters/dropout", "#A53a"),
        ("chapters/search", "dropout.html#A53a"),
        ("index", "chapters/dropout.html#A53a"),
        ("exercises/ex1_5/solution", "../../chapters/dropout.html#A53a"),
    ],
)
def test_an_answer_leads_to_the_card_from_any_page(page, expected):
    record = {"id": "A53a", "chapter": "chapters/dropout", "verdict": "true", "says": "A < B."}
    text = findings.answer(record, page)
    assert re.findall('href="([^"]*)"', text) == [expected]
    assert "A &lt; B." in text and cards.badge("true") in text


def test_what_this_build_found_comes_before_what_is_committed(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "VERDICTS", tmp_path / "verdicts.json")
    committed = findings.record("A53a")
    build.write_json(build.VERDICTS, {"A53a": {"id": "A53a", "says": "now"}})
    assert findings.record("A53a")["says"] == "now" != committed["says"]
    assert findings.record("A53b")["id"] == "A53b"


def test_a_claim_that_does_not_exist_is_a_warning_that_names_it():
    document, told = new_document("page"), []
    document.settings.env = SimpleNamespace(docname="chapters/dropout")
    report = lambda text, line: told.append((text, line))
    inliner = SimpleNamespace(
        document=document,
        reporter=SimpleNamespace(error=report),
        problematic=lambda raw, text, message: raw,
    )
    nodes, messages = findings.finding("finding", "{finding}`A99z`", "A99z", 7, inliner)
    assert told == [("finding: there is no claim A99z", 7)]
    assert nodes == ["{finding}`A99z`"] and len(messages) == 1


def test_numbers_of_claims_become_links_and_the_text_stays():
    where = {"A53a": "chapters/dropout", "B09d": "chapters/optimizer_choice"}
    text = "In the repetitions (A53a, B09d) it was so; A99z and XA53a are no claims."
    pieces = findings.linked(text, where, "chapters/dropout")
    assert "".join(p.astext() for p in pieces) == text
    links = [p.attributes for p in pieces if isinstance(p, nodes.reference)]
    assert [a["refuri"] for a in links] == ["#A53a", "optimizer_choice.html#B09d"]


@pytest.mark.parametrize("kind", findings.NO_LINK)
def test_numbers_in_code_links_and_titles_are_left_alone(kind):
    text = nodes.Text("A53a")
    whole = nodes.paragraph("", "", kind("", "", text) if kind is not nodes.raw else kind("", ""))
    if kind is nodes.raw:
        whole.children[0] += text
    assert findings.inside(text, findings.NO_LINK)


def test_the_text_of_a_link_in_html_is_no_second_link():
    raw = nodes.raw("", '<a href="explorer.html#A53a">', format="html")
    inside, outside = nodes.Text("A53a"), nodes.Text(" (A53b)")
    nodes.paragraph("", "", raw, inside, nodes.raw("", "</a>", format="html"), outside)
    assert findings.in_raw_link(inside) and not findings.in_raw_link(outside)
