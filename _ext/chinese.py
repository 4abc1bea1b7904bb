"""Sphinx extension: Chinese words say that they are Chinese, and are found by their parts.

A screen reader spells or skips them else; and Sphinx's index has no word of a language without
spaces but whole runs of characters, so that 动量 would not find 动量法.
"""

import re
from itertools import pairwise

from docutils import nodes
from sphinx.search.en import SearchEnglish
from sphinx.transforms.post_transforms import SphinxPostTransform

from _ext.findings import inside

HAN = r"\u3400-\u4dbf\u4e00-\u9fff"
RUN = re.compile(f"([{HAN}]+)")
WORD = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")
UNTOUCHED = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


class Chinese(nodes.inline):
    """A run of Chinese characters."""


class Mark(SphinxPostTransform):
    """Each run of Chinese characters in its own node, so that its language can be told."""

    default_priority = 800
    formats = ("html",)

    def run(self, **_) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if RUN.search(text) and not inside(text, (*UNTOUCHED, Chinese)):
                text.parent.replace(text, [*marked(text)])


def marked(text: str) -> list[nodes.Node]:
    """A text in pieces, those of Chinese characters in nodes of their own."""
    pieces = filter(None, RUN.split(text))
    return [Chinese("", p) if RUN.fullmatch(p) else nodes.Text(p) for p in pieces]


def visit(translator, node: Chinese) -> None:
    translator.body.append('<span lang="zh-Hans">')


def depart(translator, node: Chinese) -> None:
    translator.body.append("</span>")


def parts(run: str) -> list[str]:
    """A run of Chinese characters as what a reader may look for: all neighbouring pairs."""
    return [a + b for a, b in pairwise(run)] or [run]


class Search(SearchEnglish):
    """English words, and pairs of Chinese characters; the query is cut the same way."""

    js_splitter_code = f"""
var splitQuery = (query) => (query.match(/[{HAN}]+|(?:(?![{HAN}])[\\p{{L}}\\p{{N}}_])+/gu) || [])
  .flatMap((w) => !/[{HAN}]/.test(w) || w.length < 2 ? [w]
    : [...w].slice(1).map((c, i) => w[i] + c));
"""

    def split(self, input: str) -> list[str]:
        found = WORD.findall(input)
        return [p for w in found for p in (parts(w) if RUN.fullmatch(w) else [w])]


def setup(app):
    app.add_node(Chinese, html=(visit, depart))
    app.add_post_transform(Mark)
    app.add_search_language(Search)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
