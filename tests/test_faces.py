"""The notebooks that Colab opens and a page downloads: whole, as the page says, and nothing raw."""

import ast
import json
import re
import shutil
from collections import Counter
from functools import cache, partial
from html import unescape
from textwrap import dedent

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from myst_parser.docutils_ import Parser

from _ext import build, faces, pages, publish
from _ext.folding import essence
from _ext.markdown import NoForm, Writer, code, escaped, fenced
from nettrain.lab import cards

HTML = build.BUILD / "html"
CONFIG = yaml.safe_load((build.ROOT / "_config.yml").read_text())
NOTEBOOKS = build.chapters()
ROOT = "https://nettrain-book.github.io/nettrain/"
READER = MarkdownIt("gfm-like", {"linkify": False}).use(dollarmath_plugin)

each = pytest.mark.parametrize("page", NOTEBOOKS)


@cache
def source(page):
    return nbformat.read(build.ROOT / f"{page}.ipynb", 4)


@cache
def face(page):
    return nbformat.read(HTML / faces.FOLDER / f"{page}.ipynb", 4)


@cache
def html(page):
    return BeautifulSoup((HTML / f"{page}.html").read_text(), "html.parser")


def article(page):
    return html(page).select_one("article")


def told(notebook):
    """Its text, one cell after another."""
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def cells(notebook, kind="code"):
    return [c for c in notebook.cells if c.cell_type == kind]


def rendered(page):
    return BeautifulSoup(READER.render(told(face(page))), "html.parser")


# ------------------------------------------------------------------------- on every lecture

RAW = {
    "role": r"\{[\w:-]+\}`",
    "directive": r"(?m)^\s*(:::|```+\{)",
    "comment": "<!--",
    "label": r"(?m)^\(.+\)=$|^\$\$ \(",
    "link to a source": r"\]\([^)]*\.(ipynb|md)\b(?<!/exercise\.ipynb)",
    "command of the book": r"\\[ER](?![A-Za-z])",
}


@each
@pytest.mark.parametrize("construct", RAW)
def test_nothing_raw_is_left(page, construct):
    text = told(face(page))
    if construct != "directive":
        text = re.sub(r"(?s)```.*?```", "", text)
    assert re.findall(RAW[construct], text) == []


def test_the_sources_have_what_is_looked_for():
    text = "\n".join(told(source(page)) for page in NOTEBOOKS)
    found = {name: len(re.findall(pattern, text)) for name, pattern in RAW.items()}
    assert {name for name, number in found.items() if not number} <= {"comment"}, found
    kinds = Counter(re.findall(r"\{([\w:]+)\}(?=`| \.\./)", text))
    kinds["margin"] = text.count("{margin}")
    assert {"literalinclude", "cite:p", "cite:t", "eq", "numref", "doc", "margin"} <= set(kinds)


@each
def test_notebook_is_valid(page):
    nbformat.validate(json.loads((HTML / faces.FOLDER / f"{page}.ipynb").read_text()))
    ids = [c.id for c in face(page).cells]
    assert len(set(ids)) == len(ids)


@each
def test_code_is_that_of_the_source_with_a_title_where_the_page_has_a_bar(page):
    bars = []
    for cell in article(page).select("div.cell"):
        bar = cell.select_one(":scope > details.nt-fold > summary")
        bars.append(bar and bar.get_text())
    for ours, theirs, bar in zip(cells(face(page)), cells(source(page)), bars, strict=True):
        title = f"{faces.TITLE}{bar}\n" if bar else ""
        assert ours.source == title + theirs.source and ours.id == theirs.id
        assert (ours.metadata.get("cellView") == "form") == bool(bar)


@each
def test_outputs_are_those_of_the_run_that_the_page_shows(page):
    _, ran = pages.get_cache(build.BUILD / "jupyter-cache").merge_match_into_notebook(source(page))
    for ours, theirs in zip(cells(face(page)), cells(ran), strict=True):
        assert [kinds(o) for o in ours.outputs] == [kinds(o) for o in theirs.outputs]
        for output in ours.outputs:
            assert build.METADATA not in output.get("metadata", {})


def kinds(output):
    return output.output_type, sorted(output.get("data", {}))


@each
def test_cards_say_what_the_page_says(page):
    shown = {str(card) for card in article(page).select("div.nt-verdict")}
    found = 0
    for cell in cells(face(page)):
        for output in cell.outputs:
            card = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
            if verdict := card.select_one("div.nt-verdict"):
                text = str(verdict).replace(f'href="{ROOT}{page}.html#', 'href="#')
                assert text.replace(f'href="{ROOT}chapters/', 'href="') in shown
                assert card.style
                found += 1
    assert found == len(article(page).select("div.nt-verdict"))


@each
def test_code_of_the_package_stands_there_letter_by_letter(page):
    blocks = {dedent(tag.get_text()).strip() for tag in rendered(page).select("pre code")}
    for name, options in listings(page):
        whole = definition(build.ROOT / "nettrain" / f"{name}.py", options["pyobject"])
        if "lines" in options:
            first, last = map(int, options["lines"].split("-"))
            whole = "\n".join(whole.split("\n")[first - 1 : last])
        assert dedent(whole).strip() in blocks, options
        if "lines" not in options:
            assert essence(whole).strip() in blocks, options


def listings(page):
    """(module, options) of each `literalinclude`."""
    for listing in told(source(page)).split("{literalinclude} ../nettrain/")[1:]:
        head, *lines = re.split(r"\n(?!:\w)", listing)[0].split("\n")
        yield (
            head.removesuffix(".py"),
            dict(re.findall(r"^:([\w-]+): (.*)$", "\n".join(lines), re.M)),
        )


def definition(path, name):
    """The lines of a function or class, or of a method, with its decorators."""
    body = ast.parse(path.read_text()).body
    for part in name.split("."):
        [node] = [n for n in body if getattr(n, "name", None) == part]
        body = getattr(node, "body", [])
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return "\n".join(path.read_text().split("\n")[first - 1 : node.end_lineno])


@each
def test_numbers_are_those_of_the_page(page):
    tags = re.findall(r"\\tag\{(\d+)\}\n\$\$", told(face(page)))
    assert [f"({tag})" for tag in tags] == [
        tag.contents[0].strip() for tag in article(page).select("span.eqno")
    ]
    captions = re.findall(r"(?m)^\*\*(Fig\. \d+)\*\* ", told(face(page)))
    assert captions == [
        tag.get_text().strip() for tag in article(page).select("span.caption-number")
    ]


@each
def test_every_paragraph_of_the_page_stands_there(page):
    """Two parsers must agree: Sphinx's on the source, and one of plain Markdown on the notebook."""
    ours = Counter(map(bare, rendered(page).select("h1, h2, h3, h4, p, li, td, th")))
    theirs = article(page)
    shown_twice = ".nt-opening"  # a figure ahead of its place
    gone = f"div.cell .cell_input, .cell_output > :not(figure), a.headerlink, {shown_twice}"
    for part in theirs.select(gone):
        part.extract()
    missing = []
    for tag in theirs.select("h1, h2, h3, h4, p, li, td, th, figcaption .caption-text"):
        inside, meaning = tag.find_parent(class_="cell_output"), tag.find_parent("dd")
        if inside and "caption-text" not in tag.get("class", []) or tag.select("div.math"):
            continue
        words = bare(tag.find_parent("figcaption") if inside else tag)
        if meaning:
            words = f"{bare(meaning.find_previous_sibling('dt'))}:{words}"
        if words and words not in ours:
            missing.append(words)
    html.cache_clear()  # it was cut
    assert missing == []


def bare(tag):
    """Words and formulas without spaces, and without what either side adds."""
    text = tag.get_text()
    for name, meaning in CONFIG["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"].items():
        text = re.sub(rf"\\{name}(?![A-Za-z])", lambda _, m=meaning: m, text)
    text = text.replace(r"\lt ", "<").replace(r"\vert ", "|").replace(r"\Vert ", r"\|")
    return re.sub(r"\s|\\\(|\\\)|#$", "", text)


@each
def test_links_lead_somewhere(page):
    addresses = [tag["href"] for tag in rendered(page).select("a[href]")]
    for cell in cells(face(page)):
        for output in cell.outputs:
            data = output.get("data", {})
            addresses += re.findall(r'\bhref="(?!data:)([^"]*)"', data.get("text/html", ""))
            addresses += re.findall(r"\]\(([^)]*)\)", data.get("text/markdown", ""))
    assert f"{ROOT}{page}.html" in addresses
    for address in map(unescape, addresses):
        assert address.startswith("https://"), address
        if address.startswith(ROOT):
            path, _, anchor = address.removeprefix(ROOT).partition("#")
            assert (HTML / path).exists(), address
            if anchor:
                assert html(path.removesuffix(".html")).find(id=anchor), address


@each
def test_buttons_of_the_page_lead_to_it(page):
    links = [tag["href"] for tag in html(page).select("a[href]")]
    url = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    start = f"https://colab.research.google.com/github/{url}/blob"
    assert f"{start}/{publish.branch()}/{faces.FOLDER}/{page}.ipynb" in links
    assert f"{start}/{CONFIG['repository']['branch']}/{page}.ipynb" not in links
    [here] = [x for x in links if x.endswith(f"{faces.FOLDER}/{page}.ipynb") and "://" not in x]
    assert (HTML / f"{page}.html").parent.joinpath(here).resolve().exists()


def test_there_is_a_list_of_what_was_cited():
    text = told(face("chapters/dropout"))
    assert "## References\n\n- " in text and "Srivastava, Geoffrey" in text
    assert "(https://arxiv.org/abs/" in told(face("chapters/gradient_descent"))


def test_blank_exercises_need_no_other_face():
    """Colab opens them as they are."""
    for path in (build.ROOT / "exercises").glob("*/exercise.ipynb"):
        text = told(nbformat.read(path, 4))
        assert not any(re.search(pattern, text) for pattern in RAW.values()), path


def test_what_is_published_is_what_the_buttons_open(tmp_path):
    """`make publish` in a repository of its own, without the push."""
    shutil.copytree(HTML / faces.FOLDER, tmp_path / "html" / faces.FOLDER)
    git = partial(publish.git, cwd=tmp_path)
    git("init", "-q")
    for key, value in (("user.name", "test"), ("user.email", "test@example.com")):
        git("config", key, value)
    (tmp_path / "source").touch()
    git("add", "source")
    git("commit", "-q", "-m", "first")
    (tmp_path / ".gitignore").write_text("html\n")  # as ours leaves out _build
    names = git("ls-tree", "-r", "--name-only", publish.commit(tmp_path / "html", tmp_path))
    wanted = {f"{faces.FOLDER}/{page}.ipynb" for page in NOTEBOOKS} | {".nojekyll"}
    assert set(names.split()) == wanted
    assert git("status", "--porcelain") == "?? .gitignore"
    [branch] = set(re.findall(r"/blob/([\w-]+)/notebooks", str(html("chapters/dropout"))))
    assert branch == publish.branch()


# ---------------------------------------------------------------------- one thing at a time

EXTENSIONS = {"myst_enable_extensions": ["dollarmath", "deflist", "colon_fence"]}


def parsed(text):
    settings = {**EXTENSIONS, "report_level": 5, "_disable_config": True}
    return publish_doctree(dedent(text), parser=Parser(), settings_overrides=settings)


def written(text, **options):
    return Writer(ROOT, "chapters/one", **options).blocks(parsed(text).children)


@pytest.mark.parametrize(
    "text",
    [
        "Plain words, *slanted*, **bold**, `code`, and $x_1 < x_2$.",
        "- one\n- two\n  - inner\n- three",
        "3. three\n4. four",
        "- one\n\n  more\n\n- two",
        "> said\n>\n> twice",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "```\nx = `1`\n```",
        "$$\na = b\n$$",
        "[words](https://example.com/a_b)",
    ],
)
def test_plain_markdown_stays(text):
    assert written(text) == text


@pytest.mark.parametrize(
    "text, expected",
    [
        ("```{note}\nTake care.\n```", "> **Note**\n>\n> Take care."),
        ("```{admonition} In short\nYes.\n```", "> **In short**\n>\n> Yes."),
        ("% nobody sees this\n\nwords", "words"),
        ("<!-- rows: A05 -->\n\nwords", "words"),
        ("term\n: what it means", "**term**: what it means"),
        ("*one*, *two*\n: what they mean", "__*one*, *two*__: what they mean"),
        ("**bold with *slanted* words**", "__bold with *slanted* words__"),
        ("| a |\n|---|\n| $P(x\\|y)$ `x\\|y` |", "| a |\n| --- |\n| $P(x\\vert y)$ `x\\|y` |"),
        ("| a |\n|--:|\n| 1 |", "| a |\n| --: |\n| 1 |"),
        ("$a<b$", r"$a\lt b$"),
        ("$\\E x$ and $\\Eps$", r"$\mathbb{E} x$ and $\Eps$"),
        ("$$\na \\\\\nb\n$$", "$$\n\\begin{split}\na \\\\\nb\n\\end{split}\n$$"),
        ("2 \\* 3", r"2 \* 3"),
        ("1\\. a sentence", r"1\. a sentence"),
        ("~5 or ~6", r"\~5 or \~6"),
        ("a_b _c", r"a_b \_c"),
    ],
)
def test_what_is_rewritten(text, expected):
    assert written(text, macros={"E": r"\mathbb{E}"}) == expected


def test_links_lead_to_the_book_and_stay_words_within_a_page():
    writer = Writer(ROOT, "chapters/one", source=lambda to: "https://arxiv.org" * ("#id" in to))
    link = lambda to: writer.line(nodes.line("", "", nodes.reference("", "it", refuri=to)))
    assert link("../two.html#x") == f"[it]({ROOT}two.html#x)"
    assert link("two.html#id3") == "[it](https://arxiv.org)"
    assert link("one.html#x") == link("#x") == link("") == "it"
    assert writer.line(nodes.line("", "wow!", nodes.reference("", "it", refuri="two.html"))) != (
        f"wow![it]({ROOT}chapters/two.html)"  # a picture
    )


def test_a_number_becomes_a_tag():
    assert written("$$\na\n$$", number=lambda node: "7") == "$$\na\n\\tag{7}\n$$"


def test_what_has_no_form_is_an_error():
    unknown = nodes.document(None, None)
    unknown += nodes.line_block()
    with pytest.raises(NoForm, match="line_block"):
        Writer(ROOT, "chapters/one").blocks(unknown.children)
    with pytest.raises(NoForm, match="raw"):
        written("An <a href='x'>open link")


def test_html_within_a_line_becomes_words_and_links():
    record = build.read_json(build.VERDICTS)["A05a"]
    raw = f'<span>It is so. <a href="two.html#A05a">{cards.badge("true")} A05a</a></span>'
    node = nodes.paragraph("", "", nodes.raw("", raw, format="html"))
    line = Writer(ROOT, "chapters/one").line(node)
    assert record and line == f"It is so. [✓ True A05a]({ROOT}chapters/two.html#A05a)"


@given(st.text("ab1 *_`$\\<>&;#[]()!~|{}:x", max_size=40))
def test_no_sign_of_a_text_means_anything(text):
    text = " ".join(text.split())
    shown = BeautifulSoup(READER.renderInline(escaped(text)), "html.parser").get_text()
    assert shown == text


@given(st.text("ab `*$", min_size=1, max_size=20).filter(str.strip))
def test_code_is_shown_as_it_is(text):
    inside = BeautifulSoup(READER.renderInline(f"x {code(text)}"), "html.parser").code.get_text()
    assert inside.strip() == text.strip()
    lines = f"{text}\n`````\nend"
    block = BeautifulSoup(READER.render(fenced(lines, "")), "html.parser").code.get_text()
    assert block == lines + "\n"
