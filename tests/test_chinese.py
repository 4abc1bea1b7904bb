"""Chinese terms in pages: marked for screen readers, found by their parts."""

import re
from pathlib import Path

import pytest
from docutils import nodes
from hypothesis import given
from hypothesis import strategies as st

from _ext import chinese
from _ext.findings import inside

HTML = Path(__file__).parents[1] / "_build" / "html"
HAN = st.text(alphabet="随机梯度下降动量法学习率", min_size=1, max_size=6)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("momentum (动量法) and β₁", ["momentum", "动量", "量法", "and", "β₁"]),
        ("批", ["批"]),
        ("批量size大小", ["批量", "size", "大小"]),
        ("A53a", ["A53a"]),
        ("", []),
    ],
)
def test_words_are_pairs_of_characters(text, expected):
    assert chinese.Search({}).split(text) == expected


@given(HAN, st.data())
def test_any_part_of_a_term_is_found(term, data):
    first = data.draw(st.integers(0, max(0, len(term) - 2)))
    last = data.draw(st.integers(min(len(term), first + 2), len(term)))
    indexed, wanted = (set(chinese.Search({}).split(x)) for x in (term, term[first:last]))
    assert wanted <= indexed


@given(st.text(alphabet="ab (动量)法β", max_size=12))
def test_marking_changes_no_text(text):
    pieces = chinese.marked(text)
    assert "".join(p.astext() for p in pieces) == text
    for piece in pieces:
        inside = isinstance(piece, chinese.Chinese)
        assert inside == bool(chinese.RUN.search(piece.astext()))


def test_code_and_mathematics_stay_as_they_are():
    for kind in (nodes.literal, nodes.math, nodes.raw, chinese.Chinese):
        parent = kind("", "")
        parent += nodes.Text("动量")
        assert inside(parent[0], (*chinese.UNTOUCHED, chinese.Chinese))
    assert not inside(nodes.emphasis("", "动量")[0], (*chinese.UNTOUCHED, chinese.Chinese))


@pytest.mark.skipif(not HTML.exists(), reason="needs the built book")
def test_every_chinese_word_of_a_lecture_says_its_language():
    for page in sorted(HTML.glob("chapters/*.html")):
        text = page.read_text()
        body = text[text.index("<article") : text.index("</article>")]
        body = re.sub(
            r'<span lang="zh-Hans">.*?</span>|<pre.*?</pre>|<[^>]*>', "", body, flags=re.S
        )
        assert not chinese.RUN.search(body), (page.name, chinese.RUN.search(body))
