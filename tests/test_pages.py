"""The pages that are written from data: complete, and every link leads somewhere."""

import ast
import math
import re
import string
from collections import Counter, defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pytest
import torch

from _ext import build, dependencies, pages, tested
from _ext.notation import used
from nettrain import blocks, initializers, misprints, optimizers, schedules
from nettrain.lab import replications
from nettrain.normalization import LocalResponseNorm

HTML = build.BUILD / "html"


@pytest.fixture(scope="module")
def sections():
    return pages.sections()


@pytest.mark.parametrize(
    "text, names",
    [
        ("erratum E08", ["E08"]),
        ("S03-S05 and E01, E01", ["S03", "S04", "S05", "E01"]),
        ("S03 to S05, or E02 to the end", ["S03", "S04", "S05", "E02"]),
        ("E123, XE01, NS02x", []),
    ],
)
def test_errata_are_read_from_text(text, names):
    assert pages.errata_in(text) == names


def test_every_erratum_that_code_can_show_is_shown(sections):
    named = {name for s in sections for name in pages.errata_in(s.text)}
    data = pages.data("errata")
    assert named <= data.keys()
    assert [name for name, e in data.items() if e["code"] and name not in named] == []


def neighbour(a: float) -> float:
    """What local response normalization leaves of a 1 beside an activation a."""
    x = torch.ones(1, 5, 1, 1)
    x[0, 2] = a
    return LocalResponseNorm()(x)[0, 1].item()


def first_step(rule) -> float:
    zero, g = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return -rule(zero, g, zero, zero, t=1, lr=1.0)[0].item()


def radius() -> float:
    """The radius at which uniform weights have the variance 1."""
    generator = torch.Generator().manual_seed(0)
    return initializers.uniform((10**6,), 1.0, generator=generator).double().std().item() ** -1


def steady(rule, beta: float) -> float:
    """What a rule's average of gradients comes to if all are 1: m ← a m + b ends at b/(1 − a)."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    b, sum_of_both = (rule(zero, one, m, one, t=1, beta1=beta)[1].item() for m in (zero, one))
    return b / (1 - (sum_of_both - b))


def too_long(beta: float) -> float:
    return steady(misprints.adamax_gain, beta) / steady(optimizers.adamax, beta)


CONVOLUTION = blocks.conv(64, 64)
NUMBERS = [  # erratum, number as it is written there, what the code makes of it
    ("E03", "√3", radius()),
    ("E10", "0.66", schedules.exponential(1.0, 0.96)(10)),
    ("E10", "0.09", schedules.inverse_time(1.0, 0.96)(10)),
    ("E10", "0.00007", schedules.natural_exponential(1.0, 0.96)(10)),
    ("E10", "0.041", -math.log(0.96)),
    ("E32", "36,864", CONVOLUTION.weight.numel()),
    ("E32", "12,544", CONVOLUTION(torch.zeros(1, 64, 14, 14)).numel()),
    ("E41", "0.59", neighbour(0.0)),
    ("E41", "0.44", neighbour(100.0)),
    ("S03", "9 times for β = 0.9,", too_long(0.9)),
    ("S03", "999 times", too_long(0.999)),
    ("S05", "three", first_step(misprints.adam_uncorrected) / first_step(optimizers.adam)),
]
WORDS = {"three": (3.0, 1), "√3": (math.sqrt(3), 3)}  # to so many digits


@pytest.mark.parametrize("name, written, value", NUMBERS)
def test_a_number_in_an_erratum_is_what_the_code_computes(name, written, value):
    assert written in pages.data("errata")[name]["right"]
    digits = written.split()[0].replace(",", "")
    number, places = WORDS.get(digits) or (float(digits), len(digits.lstrip("0.")))
    assert float(f"{value:.{places}g}") == float(f"{number:.{places}g}")


def test_formulas_in_errata_are_formulas():
    for name, e in pages.data("errata").items():
        for text in (e["says"], e["right"]):
            assert not re.search(r"[_^]", re.sub(r"\$[^$]*\$|`[^`]*`", "", text)), name


@pytest.mark.parametrize("name", ["errata", "terms", "rows"])
def test_data_are_complete_and_in_order(name):
    data = pages.data(name)
    if name != "terms":
        assert list(data) == sorted(data)
    for entry in data.values():
        assert all(x != "" for x in (entry.values() if isinstance(entry, dict) else [entry]))


def test_every_part_of_the_sources_has_its_section(sections):
    treated = set().union(*(s.rows for s in sections))
    assert treated <= pages.data("rows").keys()
    assert [row for row in pages.data("rows") if row not in treated] == []


def test_rows_named_in_a_text_belong_to_the_section_that_names_them(sections):
    assert [s.title for s in sections if "A64" in s.rows] == ["Exercises"]


def test_no_link_shows_tex(sections):
    assert not [s.link for s in sections if re.search(r"[$\\\\]", s.link)]


def test_code_and_rows_belong_to_the_section_in_which_they_stand(monkeypatch):
    listing = "```{{literalinclude}} ../nettrain/rule.py\n:pyobject: {}\n```\n"
    texts = {
        "# A\n## B\n" + listing.format("one") + "## C\n": "A01",
        listing.format("two") + "### D\n" + listing.format("three"): "",
        listing.format("four") + "## E\n## F\n": "A02",
    }
    cells = [
        nbformat.v4.new_markdown_cell(text, metadata={"nettrain": {"rows": rows.split()}})
        for text, rows in texts.items()
    ]
    monkeypatch.setattr(pages, "cells", lambda page: cells)
    monkeypatch.setattr(pages, "parse_toc_yaml", lambda path: ["chapters/a"])
    found = {s.title: (s.rows, [name for _, name in s.code]) for s in pages.sections()}
    assert found == {
        "A": ({"A01"}, []),
        "B": ({"A01"}, ["one"]),
        "C": ({"A01"}, ["two"]),
        "D": ({"A01"}, ["three", "four"]),  # a part of C; "four" stands before the heading E
        "E": ({"A02"}, []),  # a cell's rows belong to all sections that it begins
        "F": ({"A02"}, []),
    }


# ------------------------------------------------------------------------ tests in the concordance

MODULE = {"rule.py": "def rule(): ...\ndef inner(): ...\ndef outer(): inner()\ndef lost(): ...\n"}
DIRECT = "from nettrain import rule as r\ndef test_a(): r.rule()\ndef test_b(): 1\n"
BY_TABLE = "from nettrain.rule import outer, rule\nTABLE = [rule]\ndef test_c(): TABLE; outer()\n"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A package of one module, with two files of tests."""
    files = {f"nettrain/{name}": text for name, text in MODULE.items()}
    files |= {"tests/test_direct.py": DIRECT, "tests/test_table.py": BY_TABLE}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for module in (build, dependencies):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    tested.uses.cache_clear()
    yield
    tested.uses.cache_clear()


def test_a_test_uses_what_it_names_or_what_its_tables_name(small):
    assert tested.tests("rule", "rule") == {"test_direct": {"test_a"}, "test_table": {"test_c"}}


def test_what_no_test_names_is_tested_through_what_is_built_on_it(small):
    assert tested.tests("rule", "inner") == {"test_table": {"test_c"}}
    with pytest.raises(ValueError, match="no test uses rule.lost"):
        tested.tests("rule", "lost")


def test_the_chief_file_uses_most_of_the_module(small):
    assert tested.chief("rule", "rule") == "test_table"  # it also uses outer


@pytest.mark.parametrize(
    "module, name, file",
    [
        ("penalties", "l1", "test_penalties"),
        ("dropout", "Dropout", "test_dropout"),
        ("models", "tower", "test_blocks"),
        ("optimizers", "adam", "test_optimizers"),
        ("spaces", "Real", "test_spaces"),
        ("nas", "Controller._walk", "test_nas"),
    ],
)
def test_a_function_is_tested_where_it_is_tested(module, name, file):
    assert tested.chief(module, name) == file


def test_all_code_of_the_concordance_is_tested(sections):
    code = {c for s in sections if s.rows for c in s.code}
    assert code and all(tested.tests(module, name) for module, name in code)


# ------------------------------------------------------------------------------------------ terms


@pytest.mark.parametrize(
    "text, english, chinese",
    [
        ("*Momentum* (动量法) adds", "Momentum", "动量法"),
        ("*layer norm* (层归一化; Ba et al. 2016)", "Layer norm", "层归一化"),
        ("(*semicircle law*, 半圆律, {cite:p}`wigner1958`)", "Semicircle law", "半圆律"),
        ("a *hard*\ntarget (硬目标)", "Hard target", "硬目标"),
    ],
)
def test_a_term_is_emphasized_with_its_chinese_name_behind_it(monkeypatch, text, english, chinese):
    section = pages.Section("chapters/a", "A", "A", "a", text=text)
    monkeypatch.setattr(pages, "sections", lambda: [section])
    assert pages.terms() == {chinese: (english, section)}


def glossary_rows():
    lines = [line for line in pages.glossary().split("\n") if line.startswith("| ")][2:]
    return [line.strip("| ").split(" | ") for line in lines]


def test_every_term_has_chinese_words_one_sentence_and_a_place():
    for english, chinese, meaning, place in glossary_rows():
        words = re.sub(r" \(now .*\)$", "", chinese).split(", ")
        assert len(set(words)) == len(words) and all(re.search(f"[{pages.HAN}]", w) for w in words)
        assert meaning.endswith(".") and ". " not in meaning and len(meaning.split()) > 3, english
        assert 'href="' in place, english


def test_an_abbreviation_is_no_term_of_its_own(monkeypatch):
    text = "*mean* (加权平均), and the *mean* (WM, 加权平均)"
    section = pages.Section("chapters/a", "A", "A", "a", text=text)
    monkeypatch.setattr(pages, "sections", lambda: [section])
    assert pages.terms() == {"加权平均": ("Mean", section)}


def test_the_glossary_has_each_english_term_once_in_alphabetical_order():
    names = [row[0] for row in glossary_rows()]
    assert len({name.lower() for name in names}) == len(names) > 100
    assert names == sorted(names, key=pages.alphabetical)
    assert pages.alphabetical("$\\ell_2$ regularization") > pages.alphabetical("kernel")


def test_every_term_that_is_written_otherwise_now_is_used():
    assert pages.data("terms").keys() - pages.terms().keys() == set()


# --------------------------------------------------------------------------------------- notation


@pytest.mark.parametrize(
    "markdown, found",
    [
        (r"$\hat{m}_{t} = m_t$", {r"\hat m", r"\hat m_t", "m", "m_t", "t"}),
        (r"$$\begin{gathered} \mathbf{x}^\top \\[6pt] \end{gathered}$$", None),
        (r"$n_{\text{in}}$ and `$a$` and \$5 or 6$", {"n", "n_"}),
        ("```python\nprint('$b$')\n```\n$\\|c\\|$", {r"\|", "c"}),
    ],
)
def test_symbols_are_read_from_formulas(markdown, found):
    found = found or {r"\mathbf x", r"\mathbf x^\top", r"\top"}
    assert used(markdown) == found


@pytest.fixture
def lectures():
    texts = {"one": "$a$ and $b$", "two": "$a_1$", "three": "$b$"}
    return [(pages.Section(f"chapters/{k}", k, k, k), used(t)) for k, t in texts.items()]


def test_first_use_is_the_first_in_the_meaning_of_the_table(lectures):
    entry = {"symbol": "a", "means": "x", "elsewhere": {"one": "y"}}
    meant, others = pages.first_uses(entry, lectures)
    assert meant.name == "two" and [s.name for s in others] == ["one"]


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"symbol": "a, c", "means": "x"}, "no lecture uses c"),
        ({"symbol": "b", "means": "x", "elsewhere": {"two": "y"}}, "no b in two"),
        ({"symbol": "a", "elsewhere": {"one": "y"}}, "a has no meaning for two"),
        ({"symbol": "a", "means": "x", "elsewhere": {"one": "y", "two": "z"}}, "no other lecture"),
    ],
)
def test_a_symbol_that_the_lectures_do_not_use_so_is_an_error(lectures, entry, message):
    with pytest.raises(ValueError, match=message):
        pages.first_uses(entry, lectures)


ORDINARY = {"e", "i", "j"}  # Euler's number and indices
LETTERS = set(string.ascii_letters) | {
    f"\\{greek}"
    for greek in "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma "
    "tau varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split()
}


def test_the_table_has_every_letter_that_three_lectures_use(sections):
    lectures = defaultdict(set)
    for section in sections:
        if section.page.startswith("chapters/"):
            for symbol in used(section.prose):
                lectures[symbol].add(section.page)
    common = {symbol for symbol, pages_ in lectures.items() if len(pages_) >= 3}
    here = {s for e in pages.data("notation") for s in e.get("find", e["symbol"]).split(", ")}
    bases = {re.split("[_^]", symbol)[0] for symbol in here}
    assert {s for s in common if s in LETTERS} - bases - ORDINARY == set()


def test_a_name_that_the_notation_says_is_in_the_code():
    words = set()
    for path in (build.ROOT / "nettrain").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            words |= {getattr(node, key, None) for key in ("id", "arg", "attr", "name")}
    for entry in pages.data("notation"):
        told = set(re.findall(r"\w+", entry.get("code", "")))
        told |= set(re.findall(r"`(\w+)`", " ".join(entry.get("elsewhere", {}).values())))
        assert told <= words, (entry["symbol"], told - words)


def test_notation_shows_every_meaning():
    text = pages.notation()
    for entry in pages.data("notation"):
        for meaning in [entry.get("means", ""), *entry.get("elsewhere", {}).values()]:
            assert f"| {meaning} |" in text or not meaning


def test_notation_has_no_unknown_keys():
    known = {"symbol", "find", "means", "shape", "code", "sources", "elsewhere"}
    for entry in pages.data("notation"):
        assert entry.keys() <= known and all(entry.values()), entry
        assert all(entry.get("elsewhere", {"": "x"}).values()), entry


# ----------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "cell, shown",
    [
        ("2.753874e-17", "2.75 · 10⁻¹⁷"),
        ("-8.881784e-16", "−8.88 · 10⁻¹⁶"),
        ("0.000000e+00", "0"),
        ("6.539681e-01", "0.654"),
        ("1.47e+03 [1.03e+03, 2.37e+03] n=20", "1,470 [1,030, 2,370] n=20"),
        ("ε = 1e-08", "ε = 10⁻⁸"),
        ("α = 10e-4", "α = 10e-4"),  # as somebody wrote it
        ("commit 1e2e-05f", "commit 1e2e-05f"),
        ("0.123", "0.123"),
    ],
)
def test_numbers_of_a_table_are_written_as_readers_write_them(cell, shown):
    table = f'<table class="dataframe"><thead><tr><th>a</th></tr></thead><td>{cell}</td></table>'
    assert pages.for_readers(table) == table.replace(cell, shown)


def test_a_column_has_a_name_in_words_and_a_row_the_name_it_has_in_code():
    head = "<thead><th>fit_loss</th><th>n_in</th></thead>"
    row = "<tbody><th>natural_exponential</th></tbody>"
    assert pages.for_readers(head + row) == head.replace("fit_loss", "fit loss") + row


# ------------------------------------------------------------------------------------ performance


def test_the_ratio_at_peak_is_one_for_each_model():
    assert pages.at_peak({"ratio": 4.0, "share of peak": 0.25}) == {"ratio at peak": 16.0}
    assert pages.at_peak({"ratio": 4.0}) == {}
    rows = build.read_json(build.ROOT / "benchmarks/results/cpu.json")["sweep_throughput"]["rows"]
    for row in rows:  # both parts grow with the steps a second, so that the quotient does not
        first = next(r for r in rows if r["model"] == row["model"])
        assert math.isclose(*pages.at_peak(row).values(), *pages.at_peak(first).values())


@pytest.mark.parametrize("ratio, told", [(10.0, "goal 40, at peak 20"), (30.0, "no model")])
def test_goals_beyond_the_peak_are_found(monkeypatch, ratio, told):
    row = {"model": "MLP 64-64-64-10", "ratio": ratio, "share of peak": 0.5}
    results = {"sweep_throughput": {"rows": [row]}}
    monkeypatch.setattr(build, "read_json", lambda path: results)
    assert told in pages.beyond_peak()


def test_the_text_on_performance_has_no_number_by_hand():
    text = (build.ROOT / "chapters/performance.md").read_text()
    words = "two three four five six seven eight nine ten twelve twenty third fifth half quarter"
    assert re.findall(rf"\d|\b(?:{words.replace(' ', '|')}|\w+ty)\b", text.replace("C++", "")) == []


# ------------------------------------------------------------------------------------- in the book


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.hrefs, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs["id"]} if attrs.get("id") else set()
        if tag == "a" and attrs.get("href"):
            self.hrefs.append(attrs["href"])


def read(path: Path) -> Links:
    links = Links()
    links.feed(path.read_text())
    return links


def test_every_link_inside_the_book_leads_somewhere():
    built = {p: read(p) for p in sorted(HTML.rglob("*.html")) if "_static" not in p.parts}
    lost = []
    for path, links in built.items():
        for href in links.hrefs:
            url, fragment = urldefrag(href)
            if urlparse(url).scheme or url.startswith("#"):
                continue
            target = (path.parent / unquote(url)).resolve() if url else path
            known = target in built and (not fragment or unquote(fragment) in built[target].ids)
            if not known and not (target.exists() and target not in built):
                lost.append(f"{path.relative_to(HTML)}: {href}")
    assert built and lost == []


@pytest.mark.parametrize("name", ["errata", "concordance", "glossary"])
def test_a_page_shows_all_its_data(name):
    text = (HTML / "chapters" / f"{name}.html").read_text()
    text = re.sub(r'<span lang="zh-Hans">(.*?)</span>', r"\1", text)
    entries = {"errata": pages.data("errata"), "concordance": pages.data("rows")}
    for entry in entries.get(name, pages.terms()):
        words = re.sub(r"\$.*?\$", "", entry).strip()  # a formula is typeset
        assert re.search(rf"[> ]{re.escape(words)}([<,]| \(now )", text), entry
    assert "data: " + name not in text


def test_status_counts_what_the_build_found():
    text = (HTML / "chapters" / "status.html").read_text()
    assert f">{len(build.read_json(build.VERDICTS))}<" in text
    assert all(f">{page.removeprefix('chapters/')}<" in text for page in build.chapters())


def test_the_first_page_shows_verdicts_that_have_replicated():
    records = build.read_json(build.ROOT / "nettrain" / "evidence.json")
    chosen = [records[name] for name in pages.data("surprises")]
    assert len(chosen) >= 5
    assert replications.WAITING not in map(replications.verdict, chosen)


def test_the_bar_has_the_share_of_each_outcome():
    made = pages.bar(Counter({"for": 3, "against": 1, "same": 4}))
    widths = dict(re.findall(r'class="nt-(\w+)" x="[\d.]+" width="([\d.]+)"', made))
    assert widths == {"for": "37.50", "against": "12.50", "same": "50.00", "open": "0.00"}
    assert re.findall(r' x="([\d.]+)"', made) == ["0.00", "37.50", "50.00", "100.00"]
    assert "3 as claimed, 1 the other way, 4 no difference that matters, 0 open" in made
