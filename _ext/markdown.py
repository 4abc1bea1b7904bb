"""A page's document tree as the Markdown that Colab and Jupyter show, with formulas between `$`.

Sphinx has resolved the tree: numbers of equations and figures, citations, titles, the package's
code. So this text cannot differ from the page. A node that has no form here is an error.
"""

import re
from collections.abc import Callable, Iterable
from html import escape
from html.parser import HTMLParser
from urllib.parse import urljoin

from docutils import nodes
from sphinx import addnodes
from sphinx_design.dropdown import dropdown_main, dropdown_title

from _ext.folding import Folded

SILENT = (
    *(nodes.comment, nodes.target, nodes.system_message, nodes.substitution_definition),
    *(addnodes.index, addnodes.toctree, addnodes.highlightlang),
)
LINKS = (nodes.reference, addnodes.number_reference)
LIKE_HTML = r"<(?=[A-Za-z/!?])"


class NoForm(ValueError):
    """Something that this module cannot write."""

    def __init__(self, node: nodes.Node):
        super().__init__(f"no Markdown for <{type(node).__name__}>: {node.astext()[:60]!r}")


class Writer:
    """Writes parts of one page.

    root    address of the book, with a slash at its end
    page    name of the page, as Sphinx has it: chapters/dropout
    macros  TeX commands that only the book knows: {name: what it stands for}
    source  (address of an entry in the book's bibliography) -> a better one, or None
    number  (formula, figure or table) -> its number as the page shows it, if any: "7", "Fig. 3"
    """

    def __init__(
        self,
        root: str,
        page: str,
        macros: dict[str, str] | None = None,
        source: Callable[[str], str | None] = lambda address: None,
        number: Callable[[nodes.Element], str] = lambda node: "",
    ):
        self.root, self.here = root, f"{root}{page}.html"
        self.macros, self.source, self.number = macros or {}, source, number
        self._in_table = False

    # --------------------------------------------------------------------------- in a line

    def line(self, node: nodes.Element) -> str:
        """What stands in a paragraph, a title or a cell of a table."""
        return "".join(map(self._inline, node.children))

    def _inline(self, node: nodes.Node) -> str:
        match node:
            case nodes.Text():
                return self._bar(escaped(node.astext()), r"\|")
            case nodes.math():
                return f"${self.tex(node.astext(), ' ')}$"
            case nodes.literal():
                return self._bar(code(node.astext()), r"\|")
            case nodes.emphasis() | nodes.title_reference():
                return marked("*", self.line(node))
            case nodes.strong():
                return marked("**", self.line(node))
            case nodes.subscript():
                return f"<sub>{self.line(node)}</sub>"
            case nodes.superscript():
                return f"<sup>{self.line(node)}</sup>"
            case addnodes.download_reference():
                to = node.get("refuri") or f"{self.root}_downloads/{node['filename']}"
                return f"[{self.line(node)}]({to})"
            case nodes.image():
                return self._image(node)
            case nodes.raw():
                return self._spoken(node) if "html" in node["format"] else ""
            case nodes.inline() | nodes.abbreviation():
                return self.line(node)
        if isinstance(node, LINKS):
            return self._link(node)
        if isinstance(node, SILENT):
            return ""
        raise NoForm(node)

    def _bar(self, text: str, instead: str) -> str:
        """In a table `|` ends a cell, even within code and formulas."""
        return text.replace("|", instead) if self._in_table else text

    def _link(self, node: nodes.Element) -> str:
        text, to = self.line(node), self.address(node.get("refuri", ""))
        if to.partition("#")[0] == self.here:
            return text  # in this notebook; no kind of anchor works both in Colab and in Jupyter
        return f"[{text}]({self.source(to) or to})"

    def _image(self, node: nodes.image) -> str:
        to = node["uri"]
        to = to if "://" in to else f"{self.root}_images/{to.rpartition('/')[2]}"
        return f"![{escaped(node.get('alt', ''))}]({to})"

    def address(self, link: str) -> str:
        """Where a link of the page leads, from anywhere."""
        return urljoin(self.here, link)

    def html(self, source: str) -> str:
        """HTML with absolute links, without comments and scripts."""
        source = re.sub(r"<!--.*?-->|<script\b.*?</script>", "", source, flags=re.DOTALL)
        return re.sub(
            r'\b(href|src)="(?!data:)([^"]*)"',
            lambda found: f'{found[1]}="{self.address(found[2])}"',
            source,
        ).strip()

    def _spoken(self, node: nodes.raw) -> str:
        """HTML within a line, as text and links."""
        reader = Spoken(self.address)
        reader.feed(node.astext())
        reader.close()
        if reader.open:
            raise NoForm(node)
        return "".join(reader.parts)

    def tex(self, source: str, newline: str = "\n") -> str:
        """A formula without the book's own commands, in which nothing looks like HTML."""
        for name, meaning in self.macros.items():
            source = re.sub(rf"\\{name}(?![A-Za-z])", lambda _, m=meaning: m, source)
        source = re.sub(LIKE_HTML, r"\\lt ", source)
        if self._in_table:
            source = source.replace(r"\|", r"\Vert ").replace("|", r"\vert ")
        return newline.join(filter(None, map(str.strip, source.split("\n"))))

    # -------------------------------------------------------------------------- in a block

    def blocks(self, some: Iterable[nodes.Node], level: int = 1) -> str:
        """Paragraphs, formulas, lists and so on, with a blank line between them."""
        return "\n\n".join(filter(None, (self.block(node, level) for node in some)))

    def block(self, node: nodes.Node, level: int = 1) -> str:
        match node:
            case nodes.paragraph():
                return self._paragraph(node)
            case nodes.title():
                return f"{'#' * level} {self.line(node)}"
            case nodes.rubric() | nodes.caption():
                return marked("**", self.line(node))
            case nodes.section():
                return self.blocks(node.children, level + 1)
            case nodes.math_block():
                return self._formula(node)
            case nodes.literal_block():
                return fenced(node.astext(), language(node))
            case Folded():
                return details(node["text"], self.blocks(node.children, level))
            case dropdown_main():
                inside = [n for n in node.children if not isinstance(n, dropdown_title)]
                [title] = [n for n in node.children if isinstance(n, dropdown_title)]
                return details(words(title), self.blocks(inside, level))
            case nodes.sidebar():
                return self._margin(node, level)
            case nodes.Admonition():
                return quoted(self._admonition(node, level))
            case nodes.block_quote():
                return quoted(self.blocks(node.children, level))
            case nodes.bullet_list():
                return self._list(node, ["- "] * len(node))
            case nodes.enumerated_list():
                first = node.get("start", 1)
                return self._list(node, [f"{first + k}. " for k in range(len(node))])
            case nodes.definition_list():
                return "\n\n".join(map(self._definition, node.children))
            case nodes.table():
                return self._table(node)
            case nodes.figure():
                return self._figure(node)
            case nodes.transition():
                return "---"
            case nodes.raw():
                return self.html(node.astext()) if "html" in node["format"] else ""
            case nodes.image() | nodes.reference():
                return self._inline(node)
            case nodes.container() | nodes.compound():
                return self.blocks(node.children, level)
        if isinstance(node, SILENT):
            return ""
        raise NoForm(node)

    def _paragraph(self, node: nodes.Element) -> str:
        lines = "\n".join(map(str.strip, self.line(node).split("\n")))
        # what would begin a list, a heading or a quotation
        return re.sub(r"(?m)^(\d*)([-+.)#>])(?=\s)", r"\1\\\2", lines).strip()

    def _formula(self, node: nodes.math_block) -> str:
        """With its number, and in several lines where the page shows several."""
        tex = self.tex(node.astext())
        if node.get("nowrap"):
            return tex
        if r"\\" in tex:  # as Sphinx does
            tex = f"\\begin{{split}}\n{tex}\n\\end{{split}}"
        number = self.number(node)
        tag = f"\n\\tag{{{number}}}" if number else ""
        return f"$$\n{tex}{tag}\n$$"

    def _margin(self, node: nodes.sidebar, level: int) -> str:
        """A note beside the text: a line in italics, if it is short."""
        inside = [n for n in node.children if n.astext().strip()]
        if len(inside) == 1 and isinstance(inside[0], nodes.paragraph):
            return marked("*", self._paragraph(inside[0]))
        return quoted(self._admonition(node, level))

    def _admonition(self, node: nodes.Element, level: int) -> str:
        titles = [n for n in node.children if isinstance(n, nodes.title)]
        inside = [n for n in node.children if not isinstance(n, nodes.title)]
        name = self.line(titles[0]) if titles else type(node).__name__.capitalize()
        head = [f"**{name}**"] if name else []
        return "\n\n".join([*head, self.blocks(inside, level)])

    def _list(self, node: nodes.Element, signs: list[str]) -> str:
        """Without blank lines, if each of its points is one paragraph and lists."""
        kinds = (nodes.paragraph, nodes.bullet_list, nodes.enumerated_list)
        short = all(
            isinstance(part, kinds[bool(k) :])
            for item in node.children
            for k, part in enumerate(item.children)
        )
        gap = "\n" if short else "\n\n"
        items = [gap.join(filter(None, map(self.block, item.children))) for item in node.children]
        return gap.join(sign + indented(item, len(sign)) for sign, item in zip(signs, items))

    def _definition(self, node: nodes.definition_list_item) -> str:
        terms = [self.line(n) for n in node.children if isinstance(n, nodes.term)]
        [told] = [n for n in node.children if isinstance(n, nodes.definition)]
        return f"{marked('**', ', '.join(terms))}: {self.blocks(told.children)}"

    def _table(self, node: nodes.table) -> str:
        rows = [[self._cell(cell) for cell in row.children] for row in node.findall(nodes.row)]
        heads = len(next(iter(node.findall(nodes.thead)), nodes.thead()))
        first = list(next(iter(node.findall(nodes.row))).children)
        if heads > 1 or any("morecols" in cell or "morerows" in cell for cell in first):
            raise NoForm(node)
        rows = rows if heads else [[""] * len(first), *rows]
        sides = {"text-right": "--:", "text-center": ":-:"}
        rule = [next((sides[c] for c in cell["classes"] if c in sides), "---") for cell in first]
        lines = [f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]]]
        return "\n".join([*self._caption(node, nodes.title), *lines])

    def _cell(self, node: nodes.entry) -> str:
        self._in_table = True
        text = "<br>".join(self.line(part).replace("\n", " ") for part in node.children)
        self._in_table = False
        return text

    def _figure(self, node: nodes.figure) -> str:
        shown = [n for n in node.children if not isinstance(n, nodes.caption)]
        return "\n\n".join([self.blocks(shown), *self._caption(node, nodes.caption)])

    def _caption(self, node: nodes.Element, kind: type) -> list[str]:
        text = [self.line(n) for n in node.children if isinstance(n, kind)]
        return [f"{self.caption(node, t)}\n" for t in text]

    def caption(self, node: nodes.Element, text: str) -> str:
        """What stands under a figure: its number and the text."""
        number = self.number(node)
        return f"**{number}** {text}" if number else text


class Spoken(HTMLParser):
    """Collects what HTML says; of its tags only links and those of `KEPT` are left."""

    KEPT = {"b", "br", "code", "em", "i", "kbd", "strong", "sub", "sup"}
    MUTE = {"script", "style", "svg"}

    def __init__(self, address: Callable[[str], str]):
        super().__init__()
        self.address, self.parts = address, []
        self.open: list[str] = []  # where the links lead that have no end yet, and mute tags

    def handle_starttag(self, tag, attrs):
        if tag in self.MUTE:
            self.open.append(tag)
        elif tag == "a":
            self.open.append(self.address(dict(attrs).get("href", "")))
            self.parts.append("[")
        elif tag in self.KEPT:
            self.parts.append(f"<{tag}>")

    def handle_endtag(self, tag):
        if tag in self.MUTE:
            self.open.pop()
        elif tag == "a":
            self.parts.append(f"]({self.open.pop()})")
        elif tag in self.KEPT:
            self.parts.append(f"</{tag}>")

    def handle_data(self, data):
        if not self.MUTE & set(self.open):
            self.parts.append(escaped(data))


# --------------------------------------------------------------------------------- Markdown


def escaped(text: str) -> str:
    """Text in which no sign means anything to Markdown."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(LIKE_HTML, "&lt;", text)
    text = re.sub(r"[\\`*$~]|!$", r"\\\g<0>", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word it is no mark
    return text.replace("](", "]&#40;")  # not `\(`, which may begin a formula


def code(text: str) -> str:
    """Code within a line, whatever backticks it has."""
    text = text.replace("\n", " ")
    fence = "`" * (longest(text) + 1)
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}"


def fenced(text: str, language: str) -> str:
    fence = "`" * max(3, longest(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def longest(text: str) -> int:
    """How many backticks stand in a row."""
    return max(map(len, re.findall("`+", text)), default=0)


def language(node: nodes.literal_block) -> str:
    """What a block of code is written in, as a fence says it; the package's code is Python."""
    name = node.get("language", "")
    if name in ("ipython3", "python3") or node.get("source", "").endswith(".py"):
        return "python"
    return "" if name in ("none", "default", "text", "myst-ansi") else name


def marked(mark: str, text: str) -> str:
    """Text between marks, which must not stand beside a space, nor beside marks of their kind."""
    inner = text.strip()
    mark = mark.replace("*", "_") if re.search(r"(?<!\\)\*", inner) else mark
    return text.replace(inner, f"{mark}{inner}{mark}", 1) if inner else text


def quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def indented(text: str, depth: int) -> str:
    """All lines but the first."""
    return re.sub(r"\n(?=[^\n])", "\n" + " " * depth, text)


def details(title: str, inside: str) -> str:
    """Something that is shown when its title is clicked."""
    return f"<details>\n<summary>{escape(title)}</summary>\n\n{inside}\n\n</details>"


def words(node: nodes.Element) -> str:
    """Text without pictures."""
    return "".join(
        text.astext() for text in node.findall(nodes.Text) if not isinstance(text.parent, nodes.raw)
    ).strip()
