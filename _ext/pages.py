"""Sphinx extension: pages written from data, the chapters' cells and the last build.

A page says where with a line such as `<!-- data: errata -->`. Nothing is listed by hand: a section
is known by the errata that its text names, the claims that it judges, the rows of the sources that
its cell's metadata ({"nettrain": {"rows": ["A05"]}}) or a comment (`<!-- rows: A05 -->`) names, and
the code that it shows.
"""

import json
import math
import os
import platform
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

import nbformat
import yaml
from docutils import nodes
from docutils.nodes import make_id
from jupyter_cache import get_cache
from sphinx_external_toc.parsing import parse_toc_yaml

from _ext import build, tested
from _ext import explorer as explorers
from _ext.decisions import decisions
from _ext.explorer import explorer
from _ext.notation import used
from benchmarks.goals import GOALS
from nettrain.lab import cards, replications

CARD = re.compile(
    r'<div class="nt-verdict (nt-claim)?[^>]*(?:data-claim="|>\s*<strong>Claim )(\w+)'
)
NAME = re.compile(r"(?<=>)([a-z]{3,})_([a-z]{3,})(?=</th>)")
PLACE = re.compile(r"<!-- data: (\w+) -->")
SCIENTIFIC = re.compile(r"(?<![\w.])-?\d(\.\d+)?e[+-]\d\d\b")  # as Python prints a number
ROWS = re.compile(r"<!-- rows: (.+) -->")
ERRATA = re.compile(r"\b([ES])(\d\d)(?:(?:-| to )[ES](\d\d))?\b")
LISTING = re.compile(r"literalinclude} \.\./nettrain/([\w/]+)\.py((?:\n:.*)*)")
HAN = r"\u4e00-\u9fff"
TERM = re.compile(rf"\*([^*\n]+)\*((?:\s[a-z]+){{0,2}})(?:\s\(|\s?,\s)([^()\n]*?[{HAN}][^(),;\n]*)")


@dataclass
class Section:
    """A heading of a chapter, with what stands below it up to the next heading."""

    page: str
    lecture: str  # the page's own title
    title: str
    anchor: str
    level: int = 1
    text: str = ""
    prose: str = ""  # the text without code cells
    rows: set[str] = field(default_factory=set)
    code: list[tuple[str, str]] = field(default_factory=list)  # (module, name)

    @property
    def name(self) -> str:
        """What the data call the page: dropout, ex1_1."""
        return self.page.removesuffix("/statement").split("/")[-1]

    @property
    def link(self) -> str:
        """As seen from a page in chapters/."""
        where = os.path.relpath(f"{self.page}.html", "chapters")
        return f'<a href="{where}#{self.anchor}">{readable(self.title)}</a>'


def plain(title: str) -> str:
    return re.sub(r"\$([^$]*)\$", r"\1", title).replace("*", "").replace("`", "")


def readable(title: str) -> str:
    """Without markup, and with the few symbols of headings as characters."""
    return plain(title).replace("\\ell_1", "ℓ₁").replace("\\ell_2", "ℓ₂")


@cache
def data(name: str) -> dict:
    return yaml.safe_load((build.ROOT / "_data" / f"{name}.yml").read_text())


def cells(page: str) -> list:
    """A page's cells; a page of text is one."""
    if (build.ROOT / f"{page}.ipynb").exists():
        return nbformat.read(build.ROOT / f"{page}.ipynb", 4).cells
    return [nbformat.v4.new_markdown_cell((build.ROOT / f"{page}.md").read_text())]


def sections() -> list[Section]:
    """All sections of all pages but the pages from data, in the book's order."""
    found = []
    for page in parse_toc_yaml(build.ROOT / "_toc.yml"):
        used, parts = set(), cells(page)
        if PLACE.search(parts[0].source):
            continue
        for cell in parts:
            if cell.cell_type == "code":
                rows = {id[:3] for id in re.findall(r"Claim\(\s*\"([ABD]\d\d)", cell.source)}
                found[-1].rows |= rows
                found[-1].text += cell.source + "\n"
                continue
            outside, before = True, len(found)  # outside of a fence
            for line in cell.source.split("\n"):
                outside ^= line.startswith(("```", ":::"))
                if outside and (head := re.match(r"(#{1,4}) (.+)", line)):
                    title = head[2].strip()
                    anchor = make_id(re.sub(r"\{\w+\}`([^`]*)`", r"\1", plain(title)))
                    anchor = anchor if anchor not in used else f"{anchor}-{len(used)}"
                    lecture = found[-1].lecture if used else title
                    used.add(anchor)
                    found.append(Section(page, lecture, title, anchor, len(head[1])))
                elif rows := ROWS.match(line):
                    found[-1].rows |= set(rows[1].split())
                found[-1].text += line + "\n"
                found[-1].prose += line + "\n"
            for section in found[before:] or found[-1:]:  # all that the cell begins
                section.rows |= set(cell.metadata.get("nettrain", {}).get("rows", []))
    above = {}  # level: the last section of that level
    for section in found:
        above = {n: s for n, s in above.items() if n < section.level} | {section.level: section}
        if not section.rows and section.level > 2:  # a part of the section above
            section.rows = set(above[max(n for n in above if n < section.level)].rows)
        for module, options in LISTING.findall(section.prose):
            section.code += [(module, name) for name in re.findall(r":pyobject: (\S+)", options)]
    return found


def places(some: list[Section]) -> str:
    """Links to sections, behind the names of their lectures."""
    by_lecture = defaultdict(list)
    for section in some:
        by_lecture[section.lecture].append(section)
    return "; ".join(
        ", ".join(s.link for s in here)
        if here[0].title == lecture
        else f"{readable(lecture)}: {', '.join(s.link for s in here)}"
        for lecture, here in by_lecture.items()
    )


def errata_in(text: str) -> list[str]:
    """The errata that a text names; "S03-S05" names three, and "S03 to S05" the same."""
    found = []
    for letter, first, last in ERRATA.findall(text):
        found += [f"{letter}{k:02d}" for k in range(int(first), int(last or first) + 1)]
    return list(dict.fromkeys(found))


def table(head: list[str], rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in r) + " |" for r in lines)


def wide(content: str, also: str = "") -> str:
    """Over the margin too, where a page has one; `also`: other classes for the style sheet."""
    return f":::{{div}} full-width {also}\n{content}\n:::"


# --------------------------------------------------------------------------- the pages


def errata() -> str:
    """Each wrong statement with the right one and the sections that show it."""
    shown = defaultdict(list)
    for section in sections():
        for name in errata_in(section.text):
            shown[name].append(section)
    parts = []
    for letter, title in (("E", "The textbook"), ("S", "The slides")):
        rows = []
        for name, e in data("errata").items():
            if name.startswith(letter):
                where = places(shown[name]) or "nothing to compute"
                rows.append([f"**{name}**", e["place"], e["says"], e["right"], where])
        head = ["Name", "Where", "Printed", "Right", "Shown in"]
        parts += [f"## {title}", wide(table(head, rows), "nt-stacked nt-errata")]
    return "\n\n".join(parts)


def concordance() -> str:
    """Each part of the sources, each dispute: its sections, code, tests and verdicts."""
    everything = sections()
    verdicts = json.loads((build.ROOT / "nettrain" / "evidence.json").read_text())
    parts = []
    for letter, title in (
        ("A", "The textbook chapter"),
        ("B", "The slides"),
        ("D", "Disputed today"),
    ):
        rows = []
        for name, about in data("rows").items():
            if not name.startswith(letter):
                continue
            here = [s for s in everything if name in s.rows]
            code = list(dict.fromkeys(c for s in here for c in s.code))
            told = {i: replications.verdict(v) for i, v in verdicts.items() if i[:3] == name}
            claims = [
                f'<a href="explorer.html#{i}">{i}</a> ({verdict})' for i, verdict in told.items()
            ]
            shown = ", ".join(f"`{module}.{obj}`" for module, obj in code)
            rows.append([f"**{name}**", about, places(here), shown, tests(code), ", ".join(claims)])
        head = ["Part", "About", "Sections", "Code", "Tests", "Verdicts"]
        parts += [f"## {title}", wide(table(head, rows))]
    return "\n\n".join(parts)


def tests(code: list[tuple[str, str]]) -> str:
    """The files that test this code, each with the number of its tests that use it."""
    found = defaultdict(set)
    for module, name in code:
        file = tested.chief(module, name)
        found[file] |= tested.tests(module, name)[file]
    return ", ".join(f"`{file}` ({len(some)})" for file, some in found.items())


SINGULAR = {  # of terms that lectures introduce in the plural
    "Saddle points": "Saddle point",
    "Singular values": "Singular value",
    "Net inputs": "Net input",
    "Nearest neighbors": "Nearest neighbor",
    "Folds": "Fold",
    "Ensembles": "Ensemble",
    "Channels": "Channel",
    "Multiply-adds": "Multiply-add",
    "Word vectors": "Word vector",
}


def terms() -> dict[str, tuple[str, Section]]:
    """Chinese terms in parentheses behind emphasized English: {Chinese: (English, first)}."""
    found = {}
    for section in sections():
        for emphasized, more, chinese in TERM.findall(section.text):
            english = " ".join((emphasized + more).split())
            english = english[0].upper() + english[1:]
            chinese = chinese.split(", ")[-1].strip()  # without an abbreviation before it
            found.setdefault(chinese, (SINGULAR.get(english, english), section))
    return found


def alphabetical(english: str) -> str:
    """What a term is sorted by: its letters; a formula's too, so that ℓ stands with l."""
    return re.sub(r"[^a-z0-9 ]", "", english.lower().replace("\\ell", "l"))


def glossary() -> str:
    """Each term: English, its Chinese words, what it means, where it is introduced."""
    now, means, by_english = data("terms"), data("definitions"), defaultdict(list)
    for chinese, (english, section) in terms().items():
        by_english[english].append((chinese, section))
    rows = []
    for english in sorted(by_english, key=alphabetical):
        words = [chinese for chinese, _ in by_english[english]]
        usual = dict.fromkeys(now[word] for word in words if word in now)
        where = places(list({s.link: s for _, s in by_english[english]}.values()))
        chinese = ", ".join(words) + (f" (now {', '.join(usual)})" if usual else "")
        rows.append([english, chinese, means[english], where])
    if unused := means.keys() - by_english.keys():
        raise ValueError(f"glossary: no lecture introduces {', '.join(sorted(unused))}")
    words = table(["English", "Chinese", "Meaning", "First use"], rows)
    return f":::{{div}} nt-stacked\n{words}\n:::"


def notation() -> str:
    """Each symbol with its meaning and first use; then, lecture by lecture, other meanings."""
    everything = [(section, used(section.prose)) for section in sections()]
    rows, other = [], []
    for entry in data("notation"):
        symbol = f"${entry['symbol']}$"
        meant, elsewhere = first_uses(entry, everything)
        other += [(section, symbol, entry["elsewhere"][section.name]) for section in elsewhere]
        if meant:
            code = f"`{entry['code']}`" if "code" in entry else ""
            told = [entry.get(key, "") for key in ("means", "shape")]
            many = f"{len(elsewhere)} lecture{'s'[: len(elsewhere) > 1]}" if elsewhere else ""
            rows.append([symbol, *told, code, entry.get("sources", ""), places([meant]), many])
    head = ["Symbol", "Meaning", "Shape or unit", "In the code", "Sources", "First use"]
    parts = [wide(table([*head, "Otherwise in"], rows)), "## Other meanings"]
    order = [section.page for section, _ in everything]
    other.sort(key=lambda row: order.index(row[0].page))
    lectures = [row[0].lecture for row in other]
    named = [name if name not in lectures[:i] else "" for i, name in enumerate(lectures)]
    rows = [[readable(name), row[1], row[2], row[0].link] for name, row in zip(named, other)]
    parts.append(wide(table(["Lecture", "Symbol", "Meaning there", "First use there"], rows)))
    return "\n\n".join(parts)


def first_uses(entry: dict, everything: list) -> tuple[Section | None, list[Section]]:
    """The first section that uses a symbol as it is meant; those that use it otherwise."""
    symbols, elsewhere = set(entry.get("find", entry["symbol"]).split(", ")), {}
    here = [(section, found & symbols) for section, found in everything if found & symbols]
    if unused := symbols.difference(*(found for _, found in here)):
        raise ValueError(f"notation: no lecture uses {', '.join(sorted(unused))}")
    for section, _ in here:
        if section.name in entry.get("elsewhere", {}):
            elsewhere.setdefault(section.name, section)
    if lost := entry.get("elsewhere", {}).keys() - elsewhere.keys():
        raise ValueError(f"notation: no {entry['symbol']} in {', '.join(sorted(lost))}")
    as_meant = [section for section, _ in here if section.name not in elsewhere]
    if ("means" in entry) != bool(as_meant):
        where = as_meant[0].name if as_meant else "no other lecture"
        raise ValueError(f"notation: {entry['symbol']} has no meaning for {where}")
    return (as_meant[0] if as_meant else None), list(elsewhere.values())


def status() -> str:
    """Seconds per chapter in the last build, verdicts, versions, machine."""
    done = get_cache(build.BUILD / "jupyter-cache")
    verdicts, rows, total = build.read_json(build.VERDICTS), [], 0.0
    for page in build.chapters():
        notebook = nbformat.read(build.ROOT / f"{page}.ipynb", 4)
        record = done.match_cache_notebook(notebook)
        seconds = record.data.get("execution_seconds", 0.0)
        total += seconds
        claims = sum(v["chapter"] == page for v in verdicts.values())
        name = page.removeprefix("chapters/")
        when = f"{record.created:%Y-%m-%d}"
        code = sum(c.cell_type == "code" for c in notebook.cells)
        link = f"[{name}]({os.path.relpath(page, 'chapters')}.ipynb)"
        rows.append([link, f"{seconds:.0f}", code, claims, when])
    rows.append(["**all**", f"**{total:.0f}**", "", f"**{len(verdicts)}**", ""])
    head = ["Chapter", "Seconds", "Code cells", "Verdicts", "Executed"]
    return "\n\n".join([table(head, rows), versions(), on_a_gpu()])


def versions() -> str:
    names = ["torch", "numpy", "scipy", "pandas", "matplotlib", "scikit-learn", "jupyter-book"]
    rows = [[name, version(name)] for name in names]
    rows = [["Python", platform.python_version()], *rows]
    devices = {v["device"] for v in build.read_json(build.VERDICTS).values()}
    return f"Device: {', '.join(sorted(devices))}.\n\n" + table(["Package", "Version"], rows)


def on_a_gpu() -> str:
    """What the kit for GPUs found, in a sentence; its tables are on the page on performance."""
    found = build.read_json(build.ROOT / "benchmarks" / "results" / "cuda.json")
    if not {"tests", "chapters"} & found.keys():
        return "On a GPU: neither tests nor lectures of this edition have been run on one."
    words = []
    if "tests" in found:
        rows = found["tests"]["rows"]
        passed = sum(r["outcome"] == "passed" for r in rows)
        words.append(f"{passed} of {len(rows)} tests of the device agree with the CPU")
    if "chapters" in found:
        rows = found["chapters"]["rows"]
        whole = sum(r.get("cells") == r.get("of") for r in rows)
        words.append(f"{whole} of {len(rows)} lectures run to their end")
    on = next(found[part] for part in ("tests", "chapters") if part in found)
    return f"On a GPU ({on['machine']['gpu']}, {on['date']}): {', '.join(words)}."


def performance() -> str:
    """Goals and measurements, from the files that `make bench` writes; a section per device."""
    parts = []
    for device, name in (("cpu", "CPU"), ("cuda", "GPU")):
        results = build.read_json(build.ROOT / "benchmarks" / "results" / f"{device}.json")
        parts.append(f"## {name}")
        if not results:
            parts.append("No such machine was at hand: nothing of this has been run on one.")
        goals = []
        for goal in GOALS[device]:
            rows = results.get(goal.benchmark, {}).get("rows")
            bound = f"{'at most' if goal.at_most else 'at least'} {goal.bound:g}"
            value = goal.value(rows) if rows else math.nan
            if math.isnan(value):  # its benchmark or the peer in it
                goals.append([goal.says, bound, "", "not measured"])
                continue
            met = "met" if goal.met(rows) else "**missed**"
            goals.append([goal.says, bound, f"{value:.3g}", met])
        parts.append(table(["Ratio", "Goal", "Measured", "Outcome"], goals))
        for benchmark, result in results.items():
            on = result["machine"]
            parts.append(f"### {benchmark.replace('_', ' ').capitalize()} ({name})")
            parts.append(
                f"{result['date']}, {on['gpu'] or on['cpu']}, {on['threads']} thread, "
                f"Python {on['python']}, torch {on['torch']}."
            )
            if benchmark in KIT:
                parts.append(KIT[benchmark](result["rows"]))
                continue
            for row in result.get("failed", []):
                parts.append(f"Failed: {', '.join(f'{k} {v}' for k, v in row.items())}.")
            found = [r | at_peak(r) for r in result["rows"]]
            columns = list(dict.fromkeys(column for row in found for column in row))
            rows = [[written(r.get(c, "")) for c in columns] for r in found]
            parts.append(wide(table(columns, rows)))
    return "\n\n".join(parts)


def tests_of_device(rows: list[dict]) -> str:
    """How many tests passed on the device, and which did not."""
    bad = [f"`{r['test']}` ({r['outcome']})" for r in rows if r["outcome"] != "passed"]
    passed = f"{len(rows) - len(bad)} of {len(rows)} tests agree with the CPU"
    return f"{passed}. Not: {', '.join(bad)}." if bad else f"{passed}."


def lectures_on_device(rows: list[dict]) -> str:
    """Seconds, memory and outcome of each lecture's cells."""
    head = ["Lecture", "Base", "Seconds", "Peak MB", "Cells", "Claims", "Warnings", "Ended"]
    return wide(
        table(
            head,
            [
                [
                    *(r["chapter"], str(r["base"]), written(r["wall_s"])),
                    written(r["peak_mb"]) if r.get("peak_mb") else "",
                    f"{r.get('cells', 0)} of {r.get('of', '?')}",
                    str(len(r.get("records", []))),
                    str(len(r.get("warnings", []))),
                    ", ".join(
                        [r["ended"]]
                        + [r["error"]] * bool(r.get("error"))
                        + [f"lacks {r.get('lacks')}"] * bool(r.get("lacks"))
                    ),
                ]
                for r in rows
            ],
        )
    )


# what `python -m benchmarks.gpu` adds to speed
KIT = {"tests": tests_of_device, "chapters": lectures_on_device, "bases": lectures_on_device}


def at_peak(row: dict) -> dict[str, float]:
    """How many times as fast as the plain loop a sweep would be if it did nothing but multiply."""
    return {"ratio at peak": row["ratio"] / row["share of peak"]} if "share of peak" in row else {}


def beyond_peak() -> str:
    """The goals for sweeps on a CPU that no code for these products could reach."""
    results = build.read_json(build.ROOT / "benchmarks" / "results" / "cpu.json")
    rows = results.get("sweep_throughput", {"rows": []})["rows"]
    limits = {row["model"]: at_peak(row)["ratio at peak"] for row in rows}  # one for each model
    goals = {g.says.split(", ")[-1]: g for g in GOALS["cpu"] if g.benchmark == "sweep_throughput"}
    beyond = [
        f"{model} (goal {goals[model].bound:g}, at peak {limit:.3g})"
        for model, limit in limits.items()
        if model in goals and goals[model].bound > limit
    ]
    return f"Beyond the peak of this thread lie the goals for {'; '.join(beyond) or 'no model'}."


def written(value) -> str:
    """A number with three digits, two as a range; yes or no for a truth value."""
    if isinstance(value, list):
        return " to ".join(map(written, value))
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def surprises() -> str:
    """What came out, counted by comparisons, and some verdicts as rows of the table of all."""
    verdicts = json.loads((build.ROOT / "nettrain" / "evidence.json").read_text())
    parts = explorers.parts_of_the_book()
    chosen = [verdicts[name] for name in data("surprises")]
    rows = [explorers.row(v, parts[v["chapter"]]) for v in chosen]
    rows = [re.sub(r' id="\w+"', "", r).replace('href="', 'href="chapters/') for r in rows]
    exact = [v["verdict"] for v in verdicts.values() if "verdict" in v]
    judged = [(v, replications.judge(v)) for v in verdicts.values()]
    sides = Counter(cards.drawn(v, j, name).side for v, j in judged if j for name in j.pooled)
    waiting = sum(j is None and "verdict" not in v for v, j in judged)
    more = f"{waiting} more claims wait for their repetitions. " if waiting else ""
    text = (
        f"Of {sides.total():,} comparisons, each repeated with other draws of the data, "
        f"{sides['for']} went as claimed, {sides['against']} the other way, {sides['same']} made "
        f"no difference that matters, {sides['open']} stayed open; of {len(exact)} exact "
        f"statements {exact.count('false')} turned out false. {more}Here are some of them; "
        "{doc}`all claims <chapters/explorer>` stand in one table. The grey zone is what is too "
        "small to matter; a comparison is green where it went as claimed, red where it went the "
        "other way, blue where it made no difference, and grey where it stayed open:"
    )
    table = f'<table class="nt-claims"><tbody>{"".join(rows)}</tbody></table>'
    return f"{text}\n\n```{{raw}} html\n{bar(sides)}\n{table}\n```"


def bar(sides: Counter) -> str:
    """The shares of comparisons that went one way or another, as one bar."""
    words = {"for": "as claimed", "against": "the other way", "same": "no difference that matters"}
    words["open"] = "open"
    parts, at = [], 0.0
    for side in words:
        share = 100 * sides[side] / sides.total()
        parts.append(f'<rect class="nt-{side}" x="{at:.2f}" width="{share:.2f}" height="4"/>')
        at += share
    told = ", ".join(f"{sides[side]} {word}" for side, word in words.items())
    return (
        f'<svg class="nt-shares" role="img" aria-label="Comparisons: {told}" '
        f'viewBox="0 0 100 4" preserveAspectRatio="none">{"".join(parts)}</svg>'
    )


def race() -> str:
    """The race in Rosenbrock's valley out of the lecture's last execution."""
    done = get_cache(build.BUILD / "jupyter-cache")
    notebook = nbformat.read(build.ROOT / "chapters" / "optimizer_choice.ipynb", 4)
    _, executed = done.merge_match_into_notebook(notebook)
    [cell] = [c for c in executed.cells if c.source.startswith('show(\n    "rosenbrock"')]
    [page] = [o.data["text/html"] for o in cell.outputs if "text/html" in o.get("data", {})]
    return f"```{{raw}} html\n{page}\n```"


def pdf() -> str:
    """A link to the printed book, if this machine could print it."""
    return '<a href="book.pdf">The whole book as one PDF</a>.' if build.chromium() else ""


PAGES = {
    f.__name__: f
    for f in (
        errata,
        decisions,
        explorer,
        concordance,
        glossary,
        notation,
        status,
        performance,
        beyond_peak,
        surprises,
        race,
        pdf,
    )
}


# --------------------------------------------------------------------------- Sphinx


def fill(app, docname: str, source: list[str]) -> None:
    """Replace the page's placeholders by what the functions above write."""
    source[0] = PLACE.sub(lambda place: PAGES[place[1]](), source[0])


def retold(source: str) -> str | None:
    """A card as it would be told now; nothing if this HTML is no card.

    The folded part of a verdict leads to its row in the table of all claims, beside the lecture.
    """
    if not (card := CARD.match(source)):
        return None
    record = build.read_json(build.VERDICTS)[card[2]]
    if card[1]:
        return cards.claim(record)
    link = f'<a href="explorer.html#{card[2]}">Its row among all claims</a>'
    end = "</details></div>"
    return f'{cards.verdict(record).removesuffix(end)}<div class="nt-row">{link}</div>{end}'


def for_readers(table: str) -> str:
    """A table of pandas as a reader would write it: 2.75 · 10⁻¹⁷ for 2.753874e-17, and a column
    named fit_loss as "fit loss"."""
    table = SCIENTIFIC.sub(lambda found: cards.number(float(found[0])), table)
    head, end, rows = table.partition("</thead>")
    return NAME.sub(r"\1 \2", head) + end + rows


def retell(app, doctree) -> None:
    """The cards say what the bases say now, not what they said when the lecture was executed."""
    for node in list(doctree.findall(nodes.raw)):
        source = node.astext()
        if card := retold(source):
            node.children = [nodes.Text(card)]
        elif 'class="dataframe' in source:
            node.children = [nodes.Text(for_readers(source))]


def outdated(app, env, added, changed, removed) -> list[str]:
    """Pages from data are always read again: what they show may have changed elsewhere."""
    pages = [name for name in env.found_docs if Path(env.doc2path(name)).suffix == ".md"]
    return [name for name in pages if PLACE.search(Path(env.doc2path(name)).read_text())]


def plain_list(app, pagename, templatename, context, doctree) -> None:
    """docutils calls the bibliography a list, but its entries no items: worse than no role."""
    if "body" in context:
        context["body"] = context["body"].replace('role="list" class="cit', 'class="cit')


def setup(app):
    app.connect("html-page-context", plain_list)
    app.connect("source-read", fill)
    app.connect("doctree-read", retell)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
