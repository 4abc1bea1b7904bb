"""Sphinx extension: what has the class no-search stays out of the search index.

So one may look for "learning rate" without meeting the solution of an exercise first.
"""

from docutils import nodes
from sphinx.search import IndexBuilder

whole = IndexBuilder.feed


def is_hidden(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Element) and "no-search" in node["classes"]


def feed(self, docname: str, filename: str, title: str, doctree: nodes.document) -> None:
    """As Sphinx does, from a copy of the page without its hidden parts."""
    if any(doctree.findall(is_hidden)):
        doctree = doctree.deepcopy()
        for node in list(doctree.findall(is_hidden)):
            node.parent.remove(node)
    whole(self, docname, filename, title, doctree)


def setup(app):
    IndexBuilder.feed = feed
    return {"parallel_read_safe": True, "parallel_write_safe": True}
