"""Sphinx extension: a lecture whose first figure comes late opens with one of its figures.

`_data/openings.yml` names the figure. It stands below "In short", with its caption and a link to
its place. Print and the notebooks leave it out.
"""

import yaml
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.errors import ExtensionError

from _ext.dependencies import ROOT

ALT = "A figure of this lecture, which is described at its place below."  # not told twice


class Opening(nodes.container):
    """A figure of the lecture, ahead of its place."""


def chosen() -> dict[str, str]:
    """{lecture: name of its figure}."""
    return yaml.safe_load((ROOT / "_data" / "openings.yml").read_text("utf-8"))


def show(app, doctree) -> None:
    """Copy the figure to the top, once a lecture is read."""
    docname = app.env.docname
    name = chosen().get(docname.removeprefix("chapters/"))
    if not name or not docname.startswith("chapters/"):
        return
    figure = next((f for f in doctree.findall(nodes.figure) if name in f["ids"]), None)
    box = next((b for b in doctree.findall(nodes.admonition) if "in-short" in b["classes"]), None)
    if figure is None or box is None:
        missing = f"figure {name}" if figure is None else '"In short"'
        raise ExtensionError(f"_data/openings.yml: {docname} has no {missing}")
    image = next(figure.findall(nodes.image)).deepcopy()
    image["alt"] = ALT
    caption = next(figure.findall(nodes.caption))
    link = pending_xref(
        "", reftype="numref", refdomain="std", reftarget=name, refdoc=docname, refexplicit=False
    )
    link += nodes.inline("", name)
    words = nodes.paragraph("", "", *[child.deepcopy() for child in caption.children])
    words += [nodes.Text(" ("), link, nodes.Text(", below)")]
    box.parent.insert(box.parent.index(box) + 1, Opening("", image, words))


def visit(translator, node: Opening) -> None:
    translator.body.append('<div class="nt-opening">\n')


def depart(translator, node: Opening) -> None:
    translator.body.append("</div>\n")


def setup(app):
    app.add_node(Opening, html=(visit, depart))
    app.connect("doctree-read", show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
