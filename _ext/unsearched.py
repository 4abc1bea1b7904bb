"""Sphinx extension: what has the class no-search stays out of the search index.

So one may look for "learning rate" without meeting the solution of an exercise first.
"""

from docutils import nodes
from sphinx import search


class Words(search.WordCollector):
    """Collects a page's words for the index, but not those of solutions."""

    def dispatch_visit(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Element) and "no-search" in node["classes"]:
            raise nodes.SkipNode
        super().dispatch_visit(node)


def setup(app):
    search.WordCollector = Words
    return {"parallel_read_safe": True, "parallel_write_safe": True}
