"""All claims as one table that a reader can filter; without JavaScript it is a plain table."""

import html
import math
from functools import cache

from sphinx_external_toc.parsing import parse_toc_yaml

from _ext import build
from nettrain.lab import cards, forest, replications

FAR = 30  # margins at the ends of the plots
SHOWN = 4  # conditions that are drawn of a claim, those that are farthest from zero first
SOURCES = {"A": "textbook", "B": "slides", "D": "disputed today"}  # by a claim's first letter
STRENGTHS = {  # distance of an interval's near end from zero, in margins: its name
    10: "ten margins or more",
    3: "three to ten margins",
    1: "one to three margins",
    0: "within or across",
}


def explorer() -> str:
    """The form, which a script shows, and a row for each claim."""
    records = build.read_json(build.ROOT / "nettrain" / "evidence.json")
    parts = parts_of_the_book()
    rows = [row(record, parts[record["chapter"]]) for _, record in sorted(records.items())]
    kinds = dict.fromkeys(replications.kind(replications.verdict(r)) for r in records.values())
    form = "".join(
        [
            '<label>Words <input type="search" name="words"></label>',
            choice("part", dict.fromkeys(parts[r["chapter"]] for r in records.values())),
            choice("source", SOURCES.values()),
            choice("verdict", kinds),
            choice("strength", [*STRENGTHS.values(), "exact"]),
            grouped("factor", factors(records, parts)),
        ]
    )
    head = "<tr><th>Claim</th><th>Verdict</th><th>Effect, in margins</th></tr>"
    text = (
        f'<form class="nt-explorer" hidden>{form}<output role="status"></output></form>\n'
        f'<table class="nt-claims"><thead>{head}</thead><tbody>\n{chr(10).join(rows)}\n</tbody>'
        "</table>\n"
        '<p class="nt-print">On paper each claim stands in its lecture; the table of all is part '
        "of the pages on the web.</p>"
    )
    return f"```{{raw}} html\n{text}\n```"


def parts_of_the_book() -> dict[str, str]:
    """{page: caption of its part}, in the book's order."""
    toc = parse_toc_yaml(build.ROOT / "_toc.yml")
    trees = toc.root.subtrees
    return {str(page): tree.caption for tree in trees for page in tree.files()}


def factors(records: dict, parts: dict[str, str]) -> dict[str, list[str]]:
    """{part of the book: the factors that vary there only}, those of several parts first."""
    where = {}
    for record in records.values():
        for factor in record["factors"]:
            where.setdefault(factor, set()).add(parts[record["chapter"]])
    found = {group: [] for group in ["Several parts", *dict.fromkeys(parts.values())]}
    for factor in sorted(where):
        found["Several parts" if len(where[factor]) > 1 else min(where[factor])].append(factor)
    return {group: names for group, names in found.items() if names}


def choice(name: str, values) -> str:
    """A menu of values; the first one is no choice."""
    return menu(name, options(values))


def grouped(name: str, groups: dict[str, list[str]]) -> str:
    """A menu whose values stand below headings."""
    inside = (
        f'<optgroup label="{html.escape(g)}">{options(v)}</optgroup>' for g, v in groups.items()
    )
    return menu(name, "".join(inside))


def options(values) -> str:
    """Values of a menu; a factor that is only the head of a column is told in words."""
    names = {v: cards.FACTORS.get(v, v) for v in values}
    return "".join(
        f'<option value="{html.escape(v)}">{html.escape(name)}</option>'
        for v, name in names.items()
    )


def menu(name: str, options: str) -> str:
    menu = f'<select name="{name}"><option value="">all</option>{options}</select>'
    return f"<label>{name.capitalize()} {menu}</label>"


def row(record: dict, part: str) -> str:
    """A claim: its sentence, number and lecture, its verdict, its conditions in margins."""
    word, said = replications.verdict(record), replications.judge(record)
    kind = replications.kind(word)
    page = record["chapter"].split("/")[-1]
    key = html.escape(record["id"])
    facts = {"part": part, "source": SOURCES[record["id"][0]], "verdict": kind}
    facts["strength"] = strength(record, said)
    facts["factor"] = "|".join(record["factors"])
    facts["words"] = " ".join(said.bases if said else ())
    data = " ".join(f'data-{k}="{html.escape(v)}"' for k, v in facts.items())
    says = f'<a href="{page}.html#{key}"><b>{key}</b> {html.escape(record["says"])}</a>'
    says += f" <small>{html.escape(title(record['chapter']))}</small>"
    cells = "".join(f"<td>{x}</td>" for x in (says, cards.badge(word), plots(record, said)))
    return f'<tr id="{key}" {data}>{cells}</tr>'


@cache
def title(page: str) -> str:
    """What the page of a claim is called."""
    first = build.read_json(build.ROOT / f"{page}.ipynb")["cells"][0]["source"]
    return "".join(first).partition("\n")[0].removeprefix("# ")


def strength(record: dict, said) -> str:
    """How far beyond zero the strongest condition lies, in margins."""
    if "verdict" in record:
        return "exact"
    if said is None or not record["margin"]:
        return STRENGTHS[0]
    far = max(max(p.interval[0], -p.interval[1], 0) for p in said.pooled.values())
    return next(name for bound, name in STRENGTHS.items() if far / record["margin"] >= bound)


def plots(record: dict, said) -> str:
    """The pooled effects; of many conditions those farthest from zero, and how many there are."""
    if said is None:
        return ""
    scale = record["margin"] or max(map(abs, (p.mean for p in said.pooled.values()))) or 1.0
    place = lambda x: math.asinh(x / scale) / math.asinh(FAR)
    zone = place(record["margin"])
    axis = forest.Axis(-1.0, 1.0, zone, "", ("", "", ""))
    names = sorted(said.pooled, key=lambda n: -abs(said.pooled[n].mean))
    lines = []
    for name in names[:SHOWN]:
        found = cards.drawn(record, said, name)
        ends = [place(x) for x in (found.effect, found.low, found.high)]
        drawn = forest.Row(*ends, (), found.side)
        where = f"{cards.label(name)}: " if name else ""
        effect = cards.span(found.effect, found.low, found.high, record["unit"])
        lines.append(f'<div title="{html.escape(where + effect)}">{axis.plot(drawn)}</div>')
    if len(names) == 1:
        lines.append(f"<small>{html.escape(effect)}</small>")
    else:
        drawn = f"; the {SHOWN} farthest from zero are drawn" if len(names) > SHOWN else ""
        enough = "; the claim is that there is one" if record["over"] == "some" else ""
        lines.append(f"<small>{counted(said)}{enough}{drawn}</small>")
    return "".join(lines)


def counted(said) -> str:
    """What the conditions of a claim came to: "5 beyond the margin, 2 open"."""
    states = list(said.states.values())
    words = [f"{states.count(s)} {cards.STATES[s]}" for s in dict.fromkeys(states)]
    return f"{len(states)} conditions: {', '.join(words)}"
