"""Sphinx extension: the role {finding}`A05a`, a claim's result with its badge, in running text.

A question of a lecture is answered so by the replications; the answer changes with them. The number
of a claim in running text, as in "(A05a)", leads to its card.
"""

import html
import os
import re
from pathlib import Path

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from _ext import build
from nettrain.lab import cards, replications


def record(key: str) -> dict:
    """What this build found for a claim, else what is committed; KeyError if there is neither."""
    for file in (build.VERDICTS, build.ROOT / "nettrain" / "evidence.json"):
        if found := build.read_json(file).get(key):
            return found
    raise KeyError(f"there is no claim {key}")


def answer(found: dict, page: str) -> str:
    """HTML: the sentence, the badge and the number, which lead to the card, seen from a page."""
    key = html.escape(found["id"])
    where = "" if found["chapter"] == page else relative(found["chapter"], page)
    tag = cards.badge(replications.verdict(found))
    return (
        f'<span class="nt-finding">{html.escape(cards.finding(found))} '
        f'<a href="{where}#{key}">{tag} <span class="nt-id">{key}</span></a></span>'
    )


def relative(page: str, seen_from: str) -> str:
    return f"{os.path.relpath(page, os.path.dirname(seen_from) or '.')}.html"


def finding(name, rawtext, text, lineno, inliner, options=None, content=None):
    """The role."""
    try:
        found = record(text)
    except KeyError as error:
        message = inliner.reporter.error(f"finding: {error.args[0]}", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    page = inliner.document.settings.env.docname
    return [nodes.raw("", answer(found, page), format="html")], []


CLAIM = re.compile(r"\b([ABD]\d\d[a-z])\b")
NO_LINK = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)
NO_LINK += (nodes.reference, nodes.title)


class Linked(SphinxPostTransform):
    """Numbers of claims in text, outside code and links, become links to the claims' cards."""

    default_priority = 700
    formats = ("html",)

    def run(self, **_) -> None:
        if self.app.builder.name != "html":  # all pages in one have no such addresses
            return
        claims = build.read_json(build.ROOT / "nettrain" / "evidence.json")
        where = {key: claim["chapter"] for key, claim in claims.items()}
        for text in list(self.document.findall(nodes.Text)):
            # without a parent: put in place by hand by another extension; or a link in raw HTML
            if not text.parent or in_raw_link(text):
                continue
            if where.keys() & set(CLAIM.findall(text)) and not inside(text, NO_LINK):
                text.parent.replace(text, [*linked(text, where, self.env.docname)])


def inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    """Whether a node stands in one of these kinds."""
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def in_raw_link(text: nodes.Text) -> bool:
    """Whether the node before a text opens a link in HTML."""
    place = text.parent.index(text)
    before = text.parent[place - 1] if place else None
    return isinstance(before, nodes.raw) and before.astext().lower().startswith("<a ")


def linked(text: str, where: dict[str, str], page: str) -> list[nodes.Node]:
    """A text in pieces, those that are numbers of claims as links; where: {number: its page}."""
    pieces = []
    for piece in filter(None, CLAIM.split(text)):
        if piece not in where:
            pieces.append(nodes.Text(piece))
        else:
            address = "" if where[piece] == page else relative(where[piece], page)
            pieces.append(nodes.reference("", piece, refuri=f"{address}#{piece}", internal=True))
    return pieces


def outdated(app, env, added, changed, removed) -> list[str]:
    """Pages with findings are read again when a lecture found something else."""
    now = build.digest([build.VERDICTS]) if build.VERDICTS.exists() else ""
    before, env.nt_verdicts = getattr(env, "nt_verdicts", None), now
    if before == now:
        return []
    pages = {name: Path(env.doc2path(name)) for name in env.found_docs}
    return [name for name, path in pages.items() if b"{finding}`" in path.read_bytes()]


def setup(app):
    app.add_role("finding", finding)
    app.add_post_transform(Linked)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
