"""Sphinx extension: the role {finding}`A05a`, a claim's result with its badge, in running text.

A question of a lecture is answered so by the replications; the answer changes with them.
"""

import html
import os
from pathlib import Path

from docutils import nodes

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
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
