"""Sphinx extension: what code a lecture shows at once, by rule and not by hand.

Open are short cells of an idea, and of the package's code the lines that compute: no docstring, of
a layer its `forward`. Set-up, claims, experiments and figures stand behind a bar that says what is
inside and how long it is; so does the package's code as a whole. A claim as it is stated first is
behind the bar, too, if the page has its verdict, whose card repeats it. Nothing is left out.
"""

import ast
import html
import re
from textwrap import dedent

from docutils import nodes

IDEA = 6  # lines of code that stay open
SETUP = 2  # a lecture's first code cells: what is installed and imported
KINDS = {
    "The claims as code": r"\bClaim\(",
    "How it is judged": r"\.judge\(|\.exact\(",
    "The figure": r"\bplt\b|subplots|figures\.|moving\.|\bsns\b",
    "The experiment": r"\bsweep\(|\bcontest\(|\btune\(|\bSweep\(|\.advance\(|\bfit\(",
}
CLAIM = re.compile(r'class="nt-verdict nt-claim" data-claim="(\w+)"')
VERDICT = re.compile(r'class="nt-verdict [^"]*" id="(\w+)" data-claim')


def kind(source: str, place: int) -> str | None:
    """What a code cell is, if it is folded; place: how many code cells stand before it."""
    if place < SETUP:
        return "Set-up"
    for name, pattern in KINDS.items():
        if re.search(pattern, source):
            return name
    return "Code" if lines(source) > IDEA else None


def lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.split("\n"))


def essence(source: str) -> str:
    """A function or class without its docstrings; of a class with a `forward` that method alone."""
    source = dedent(source)
    [thing] = ast.parse(source).body
    parts = {f.name: f for f in thing.body if isinstance(f, ast.FunctionDef)}
    shown = parts.get("forward", thing) if isinstance(thing, ast.ClassDef) else thing
    left_out = set()
    for node in ast.walk(shown):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            text = node.body[0]
            left_out |= set(range(text.lineno, text.end_lineno + 1))
    rows = source.split("\n")
    kept = [k for k in range(shown.lineno, shown.end_lineno + 1) if k not in left_out]
    while kept and not rows[kept[1] - 1].strip():  # a blank line after the docstring
        del kept[1]
    return dedent("\n".join(rows[k - 1] for k in kept))


class Folded(nodes.Element):
    """What stands behind a bar; its attribute "text" is the bar's."""


def visit(translator, node: Folded) -> None:
    bar = f"<summary>{html.escape(node['text'])}</summary>"
    translator.body.append(f'<details class="nt-fold">{bar}\n')


def depart(translator, node: Folded) -> None:
    translator.body.append("</details>\n")


def fold(app, doctree) -> None:
    """Put code behind bars, once a lecture is read."""
    if not app.env.docname.startswith("chapters/"):
        return
    cells = [c for c in doctree.findall(nodes.container) if c.get("nb_element") == "cell_code"]
    judged = {key for raw in doctree.findall(nodes.raw) for key in VERDICT.findall(raw.astext())}
    for place, cell in enumerate(cells):
        if not (cell.children and cell.children[0].get("nb_element") == "cell_code_source"):
            continue
        text = cell.children[0].astext()
        name = kind(text, place) or ("Code" if cell.get("hide_mode") == "input" else None)
        if name:
            cell["hide_mode"] = None  # the bar of myst-nb says nothing
            cell[0] = folded(f"{name} · {counted(lines(text))}", cell[0])
            put_away(cell, judged)
    for block in list(doctree.findall(nodes.literal_block)):
        if "/nettrain/" in block.get("source", ""):
            shorten(block)


def folded(text: str, node: nodes.Node) -> Folded:
    bar = Folded(text=text)
    bar += node
    return bar


def put_away(cell: nodes.container, judged: set[str]) -> None:
    """Move the statements of claims that the page judges from a cell's output behind its bar."""
    for output in cell.children[1:]:
        for part in list(output.children):
            keys = [key for raw in part.findall(nodes.raw) for key in CLAIM.findall(raw.astext())]
            if keys and judged.issuperset(keys):
                output.remove(part)
                cell.children[0] += part
        if not output.children:
            cell.remove(output)


def counted(number: int) -> str:
    return f"{number} line" + "s" * (number != 1)


def shorten(block: nodes.literal_block) -> None:
    """Show the lines that compute; the whole, as it stands in the package, behind a bar."""
    whole = block.astext()
    try:
        short = essence(whole)
    except (SyntaxError, ValueError):  # not one function or class
        return
    if lines(short) == lines(dedent(whole)):
        return
    rest = block.deepcopy()
    rest["ids"], rest["names"] = [], []
    what = "The whole class" if whole.lstrip().startswith("class") else "With its docstring"
    block.clear()
    block += nodes.Text(short)
    block.rawsource = short
    place = block.parent.index(block) + 1
    block.parent.insert(place, folded(f"{what} · {counted(lines(whole))}", rest))


def setup(app):
    app.add_node(Folded, html=(visit, depart))
    app.connect("doctree-read", fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
