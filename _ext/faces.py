"""Sphinx extension: each lecture as a notebook that shows the whole of it without Sphinx.

While a page is written, so is its notebook, html/notebooks/PAGE.ipynb, out of the same tree: the
same text, numbers and code, the same cells folded, the outputs of the same run. The page's buttons
lead to it. The code cells are those of the source, but for a title over those that are folded.
"""

import copy
import re
from functools import cache
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from pybtex_docutils import Backend
from sphinx.util import logging

from _ext import build
from _ext.folding import Folded
from _ext.markdown import NoForm, Writer
from _ext.openings import Opening
from _ext.pages import retold

FOLDER = "notebooks"
TITLE = "#@title "  # how Colab calls a cell whose code is folded
LOGGER = logging.getLogger(__name__)


def site(config) -> str:
    """The book's address: `html_baseurl`, or that of GitHub Pages."""
    if config.html_baseurl:
        return config.html_baseurl.rstrip("/") + "/"
    owner, name = repository(config)
    return f"https://{owner}.github.io/{name}/"


def locate(app, config) -> None:
    """Tell sphinxext.opengraph the address: a shared link needs it for its picture."""
    config.ogp_site_url = site(config)


def repository(config) -> list[str]:
    """The owner and the name of the repository."""
    return config.html_theme_options.get("repository_url", "").rstrip("/").split("/")[-2:]


def colab(config, page: str) -> str:
    """Where Colab opens a page's notebook: from the branch that the built book is published on."""
    start = config.html_theme_options["launch_buttons"]["colab_url"]
    where = "/".join(repository(config))
    return f"{start}/github/{where}/blob/{config.published_branch}/{FOLDER}/{page}.ipynb"


# --------------------------------------------------------------------------------- notebooks


def face(app, doctree: nodes.document, page: str) -> nbformat.NotebookNode:
    """A page's notebook."""
    source = nbformat.read(app.env.doc2path(page), 4)
    _, notebook = get_cache(build.BUILD / "jupyter-cache").merge_match_into_notebook(source)
    cited = Cited(app.env, site(app.config))
    writer = Writer(
        cited.root,
        page,
        app.config.mathjax3_config.get("tex", {}).get("macros", {}),
        cited,
        lambda node: numbered(app, page, node),
    )
    text, shown = parts(doctree)
    cells = []
    for index, cell in enumerate(notebook.cells):
        cell = copy.deepcopy(cell)
        if cell.cell_type == "code":
            cells += [dressed(cell, shown[index], writer), *captions(cell, shown[index], writer)]
            continue
        cell.source = "\n\n".join(filter(None, (writer.block(*b) for b in text.get(index, []))))
        cells += [cell] if cell.source else []
    origin = f"*From the book [{app.config.project}]({writer.here}).*"
    head, *rest = cells[0].source.split("\n\n")
    cells[0].source = "\n\n".join([head, origin, *rest])
    if cited.keys:
        cells.append(cell_of("references", f"## References\n\n{cited.entries(writer)}"))
    notebook.cells = cells
    notebook.metadata.pop("nettrain", None)
    return notebook


def parts(doctree: nodes.document) -> tuple[dict[int, list], dict[int, nodes.container]]:
    """({text cell: its blocks, each with the level of its headings}, {code cell: its node}).

    myst-nb counts the lines of cell k from 10,000 (k + 1) on.
    """
    text, shown, here = {}, {}, 0

    def walk(node, level):
        nonlocal here
        for child in node.children:
            if isinstance(child, nodes.section):
                walk(child, level + 1)
            elif isinstance(child, Opening):
                continue
            elif child.get("nb_element") == "cell_code":
                here = child["cell_index"]
                shown[here] = child
            else:
                lines = (n.line or 0 for n in child.findall() if not isinstance(n, nodes.Text))
                first = next((k for k in lines if k >= 10000), None)
                # what has no line belongs to what stands before it
                here = first // 10000 - 1 if first else here + (here in shown)
                text.setdefault(here, []).append((child, level))

    walk(doctree, 0)
    return text, shown


def dressed(cell, node: nodes.container, writer: Writer):
    """A code cell, folded as on the page, with outputs that lead to the book."""
    if isinstance(node.children[0], Folded) and not cell.source.startswith("%%"):
        cell.source = f"{TITLE}{node.children[0]['text']}\n{cell.source}"
        cell.metadata["cellView"] = "form"
        cell.metadata.setdefault("jupyter", {})["source_hidden"] = True
    for output in cell.outputs:
        output.get("metadata", {}).pop(build.METADATA, None)
        data = output.get("data", {})
        if "text/html" in data:
            card = retold(data["text/html"])
            data["text/html"] = writer.html(style() + card if card else data["text/html"])
        if "text/markdown" in data:
            data["text/markdown"] = re.sub(
                r"\]\((?!\w+:)([^)]*?)\.(?:ipynb|md)\b",
                lambda found: f"]({writer.address(found[1])}.html",
                data["text/markdown"],
            )
    return cell


@cache
def style() -> str:
    """What cards look like, for each of them: Colab shows every output in a frame of its own."""
    rules = (build.ROOT / "_static" / "cards.css").read_text()
    rules = re.sub(r"/\*.*?\*/", "", rules, flags=re.DOTALL)
    return f"<style>{' '.join(rules.split())}</style>"


def captions(cell, node: nodes.container, writer: Writer) -> list:
    """What the page shows under a cell's figures, as cells."""
    lines = [
        writer.caption(figure, writer.line(part))
        for figure in node.findall(nodes.figure)
        for part in figure.children
        if isinstance(part, nodes.caption)
    ]
    return [cell_of(f"caption-{cell.id}", "\n\n".join(lines))] if lines else []


def cell_of(name: str, source: str):
    return nbformat.v4.new_markdown_cell(source, id=name[:64])


def numbered(app, page: str, node: nodes.Element) -> str:
    """A formula's or a figure's number on its page, "7" or "Fig. 3"; nothing if it has none."""
    formula = isinstance(node, nodes.math_block)
    kind = app.env.get_domain("std").get_enumerable_node_type(node)
    numbers = app.env.toc_fignumbers.get(page, {}).get("displaymath" if formula else kind, {})
    found = [".".join(map(str, numbers[name])) for name in node["ids"] if name in numbers]
    if not found:
        return ""
    return found[0] if formula else app.config.numfig_format[kind] % found[0]


class Cited:
    """What a page cites: called with the address of an entry, it remembers it.

    It answers with the address of the source itself, where that has one.
    """

    def __init__(self, env, root: str):
        self.root, self.keys = root, set()
        self._entries = {
            f"{root}{c.bibliography_key.docname}.html#{c.citation_id}": c
            for c in env.get_domain("cite").citations
        }

    def __call__(self, address: str) -> str | None:
        if address not in self._entries:
            return None
        self.keys.add(address)
        fields = self._entries[address].entry.fields
        if "doi" in fields:
            return f"https://doi.org/{fields['doi']}"
        arxiv = re.search(r"arXiv:(\d{4}\.\d{4,5})", " ".join(fields.values()))
        return f"https://arxiv.org/abs/{arxiv[1]}" if arxiv else fields.get("url")

    def entries(self, writer: Writer) -> str:
        """The list of what was cited, in the bibliography's order."""
        found = [c.formatted_entry for key, c in self._entries.items() if key in self.keys]
        return "\n".join(f"- {writer.line(Backend().paragraph(entry))}" for entry in found)


# ------------------------------------------------------------------------------------ Sphinx


def is_notebook(app, page: str) -> bool:
    return app.builder.name == "html" and Path(app.env.doc2path(page)).suffix == ".ipynb"


def write(app, doctree: nodes.document, page: str) -> None:
    """Write a page's notebook."""
    if not is_notebook(app, page):
        return
    path = Path(app.outdir, FOLDER, f"{page}.ipynb")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        nbformat.write(face(app, doctree, page), path)
    except NoForm as error:
        LOGGER.warning("%s", error, location=page)


def lead(app, page: str, template: str, context: dict, doctree) -> None:
    """Let the page's buttons open and download the notebook."""
    if doctree is None or not is_notebook(app, page):
        return
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("label") == "download-source-button":
                button["url"] = f"{context['pathto'](FOLDER, 1)}/{page}.ipynb"
                button["tooltip"] = "Download as a notebook"
            elif button.get("text") == "Colab":
                button["url"] = colab(app.config, page)


def setup(app):
    app.add_config_value("published_branch", "gh-pages", "html")
    app.connect("config-inited", locate)
    app.connect("doctree-resolved", write)
    app.connect("html-page-context", lead, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
