"""Claims and verdicts in words: the cards of the lectures and the list of them all."""

import html
import re

from nettrain.lab import replications
from nettrain.lab.replications import Judged

STATES = {
    "above": "beyond the margin",
    "below": "beyond the margin, the other way",
    "alike": "within the margins",
    "leans +": "leans this way",
    "leans −": "leans the other way",
    "open": "open",
    "degenerate": "the same numbers",
}


# --------------------------------------------------------------------------------- numbers


def amount(value: float, unit: str) -> str:
    """A number with its unit in plain words: 0.5 doublings are "1.41 times"."""
    for name, factor in (("doublings", 2.0), ("decades", 10.0)):
        if unit.startswith(name):
            return f"{_ratio(value, factor)} times{unit.removeprefix(name)}"
    return f"{value:.3g} {unit}".strip()


def span(effect: float, low: float, high: float, unit: str) -> str:
    """An effect with its interval: "1.41 times [1.1, 1.8]"."""
    for name, factor in (("doublings", 2.0), ("decades", 10.0)):
        if unit.startswith(name):
            ends = f"[{_ratio(low, factor)}, {_ratio(high, factor)}]"
            return f"{_ratio(effect, factor)} times{unit.removeprefix(name)} {ends}"
    return f"{amount(effect, unit)} [{low:.3g}, {high:.3g}]"


def _ratio(power: float, factor: float) -> str:
    """factor to a power, as far as a number can hold it."""
    return f"{factor**power:.3g}" if abs(power) < 300 else f"{factor:g}^{power:.4g}"


def sentence(record: dict, effect: float, low: float, high: float) -> str:
    """The claim's own sentence with these numbers, or its measure with them."""
    unit, words = record["unit"], record["reads"]
    if not words:
        return f"{_measured(record)}: {span(effect, low, high, unit)}"
    if choice := re.search(r"<(.*)\|(.*)>", words):
        words = words.replace(choice[0], choice[1 if effect >= 0 else 2])
        if effect < 0:
            effect, low, high = -effect, -high, -low
    return words.replace("{}", span(effect, low, high, unit))


def _blank(record: dict) -> str:
    """The claim's own sentence with a gap for the effect, or its measure."""
    words = record["reads"].replace("{}", "…")
    return re.sub(r"<(.*)\|(.*)>", r"\1 (negative: \2)", words) or _measured(record)


def _measured(record: dict) -> str:
    """The measure, and that a logarithm is printed as a ratio."""
    ratio = record["unit"].startswith(("doublings", "decades"))
    return record["measure"] + ", as a ratio" * ratio


# ---------------------------------------------------------------------------------- claims


def margin(record: dict) -> str:
    """What the margin means for a claim; nothing if there is none."""
    if not record["margin"]:
        return ""
    size, why = _size(record), record["because"]
    why = f" ({why})" if why else ""
    if record["predicts"] == "within":
        return f"The claim predicts no more than {size} either way{why}."
    return f"A difference of at most {size} does not matter{why}."


def _size(record: dict) -> str:
    if record["unit"].startswith(("doublings", "decades")):
        return f"a factor of {amount(record['margin'], record['unit']).replace(' times', '')}"
    return amount(record["margin"], record["unit"])


def stated(record: dict) -> str:
    """A claim before its experiment, in one line."""
    parts = [record["says"], f"Measured by: {record['measure']}.", margin(record), _over(record)]
    for title, key in (("Drawn again with each base", "redrawn"), ("Nearest", "nearest")):
        parts.append(f"{title}: {record[key]}." if record[key] else "")
    parts.append(f"From: {record['source']}." if record["source"] else "")
    return " ".join(filter(None, parts))


def _over(record: dict) -> str:
    factors = " and ".join(record["factors"])
    if record["over"] == "some":
        return f"It is the claim that there is a case, by {factors}." if factors else ""
    if record["over"] == "all":
        return f"It may depend on {factors}." if factors else ""
    return f"It is decided by: {', '.join(record['over'])}."


def claim(record: dict) -> str:
    """The card of a claim before its experiment."""
    head = f"<strong>Claim {html.escape(record['id'])}.</strong>"
    return f'<div class="nt-verdict nt-claim">{head}<div>{html.escape(stated(record))}</div></div>'


# -------------------------------------------------------------------------------- verdicts


def _here(record: dict, condition: str) -> str:
    """What this base alone found in a condition."""
    c = record["conditions"][condition]
    if "tolerance" in c:
        return f"error {c['error']:.2g}, tolerance {c['tolerance']:.2g}"
    return f"{span(c['effect'], c['low'], c['high'], record['unit'])}, {c['n']} pairs"


def _alone(record: dict, condition: str) -> str:
    """The claim's sentence with what this base alone found."""
    c = record["conditions"][condition]
    return f"{sentence(record, c['effect'], c['low'], c['high'])}, {c['n']} pairs"


def _pooled(record: dict, said: Judged, condition: str) -> str:
    p = said.pooled[condition]
    return span(p.mean, *p.interval, record["unit"])


def _strength(record: dict, said: Judged, condition: str) -> str:
    """How many bases agree, and how probably another one would."""
    chance, agree = replications.strength(said, condition, record["margin"])
    number = len(said.bases[condition])
    return f"{agree} of {number} bases agree; a new one would with probability {chance:.2f}"


def _sensitivity(said: Judged) -> str:
    """What happens at half and at twice the margin, where that is another verdict."""
    other = [
        f"at {size} the margin: {said.sensitivity[k]}"
        for k, size in ((0.5, "half"), (2.0, "twice"))
        if said.sensitivity[k] != said.verdict
    ]
    return _upper(f"{'; '.join(other)}.") if other else ""


def _amended(said: Judged) -> str:
    return f"Amended {said.amended} times." if said.amended > 1 else "Amended once."


def _lines(record: dict, said: Judged | None) -> list[str]:
    """What stands under the verdict, in sentences."""
    names = list(record["conditions"])
    if said is None:
        tell = _here if "verdict" in record else _alone
        found = [f"{label(n)}: {tell(record, n)}" if n else tell(record, n) for n in names]
        found = [f"{_upper(line)}." for line in found]
        alone = ["The run on this page, which alone gives no verdict:"]
        alone = alone if "verdict" not in record else []
        return [*alone, *found]
    lines = []
    for name in said.bases:
        p, start = said.pooled[name], f"{label(name)}: " if name else ""
        text = start + sentence(record, p.mean, *p.interval)
        lines.append(f"{_upper(text)}; {STATES[said.states[name]]}. ")
        lines[-1] += f"{_strength(record, said, name)}."
    lines.append(_sensitivity(said))
    if said.amended:
        lines.append(_amended(said))
    return list(filter(None, lines))


def _upper(text: str) -> str:
    """With a capital at the beginning, unless that is a symbol: η is no Η."""
    return text[0].upper() + text[1:] if text[0].isascii() else text


def label(condition: str) -> str:
    """The name of a condition for readers."""
    return condition.replace(" | ", ", ")


def told(record: dict, found: dict | None = None) -> str:
    """A verdict with its numbers as one line of text."""
    lines = _lines(record, replications.judge(record, found))
    head = f"{record['id']}: {replications.verdict(record, found)}."
    return " ".join([head, *lines, record["scope"]])


def verdict(record: dict, found: dict | None = None) -> str:
    """The card of a verdict: sentences, or a table where a claim has several conditions."""
    said, word = replications.judge(record, found), replications.verdict(record, found)
    lines = _lines(record, said)
    many = len(record["conditions"]) > 1
    if said and many:
        body = _table(record, said) + _divs(lines[len(said.bases) :])
    elif many:
        body = _divs(lines[:1]) + _own_table(record)
    else:
        body = _divs(lines)
    here = ""
    if said:
        here = "; ".join(
            f"{label(n)}: {_here(record, n)}" if n else _here(record, n)
            for n in record["conditions"]
        )
        here = f"<details><summary>This page's own run</summary>{html.escape(here)}</details>"
    name = replications.kind(word).replace(" ", "-")
    head, key = html.escape(f"{record['id']}: {word}."), html.escape(record["id"])
    quote = f'<div class="nt-says">{html.escape(record["says"])}</div>'
    end = _divs([f"{record['scope']} {margin(record)}".strip()])
    start = f'<div class="nt-verdict nt-{name}" id="{key}" data-claim="{key}">'
    return f'{start}<strong>{head}</strong>{quote}{body}<div class="nt-how">{end}{here}</div></div>'


def _table(record: dict, said: Judged) -> str:
    """A row for each condition: its levels, the pooled effect, the state, how many bases agree."""
    rows = {}
    for name in said.bases:
        chance, agree = replications.strength(said, name, record["margin"])
        agree = f"{agree} of {len(said.bases[name])}"
        state = STATES[said.states[name]]
        rows[name] = _pooled(record, said, name), state, agree, f"{chance:.2f}"
    head = ["Effect, 95 %", "State", "Bases agree", "Chance of a next"]
    return _rows(record, head, rows)


def _own_table(record: dict) -> str:
    """A row for each condition with what this base alone found."""
    rows = {}
    for name, c in record["conditions"].items():
        ends = c["effect"], c["low"], c["high"]
        rows[name] = span(*ends, record["unit"]), str(c["n"])
    return _rows(record, ["Effect, 95 %", "Pairs"], rows)


def _rows(record: dict, head: list[str], rows: dict[str, tuple[str, ...]]) -> str:
    """A table under the claim's sentence: the levels of each condition, then its cells."""
    tags = "".join(f"<th>{html.escape(cell)}</th>" for cell in [*record["factors"], *head])
    body = ""
    for name, (effect, *more) in rows.items():
        cells = [f"<td>{html.escape(level)}</td>" for level in replications.levels_of(name)]
        cells.append(f"<td data-effect>{html.escape(effect)}</td>")
        body += f"<tr>{''.join([*cells, *(f'<td>{html.escape(x)}</td>' for x in more)])}</tr>"
    table = f'<div class="nt-conditions" tabindex="0"><table><tr>{tags}</tr>{body}</table></div>'
    return f"<div>{html.escape(_upper(_blank(record)))}:</div>{table}"


def _divs(lines: list[str]) -> str:
    return "".join(f"<div>{html.escape(line)}</div>" for line in lines)


def summary(records: dict[str, dict], found: dict | None = None) -> str:
    """All verdicts in Markdown: claim, verdict, chapter, measure, and each condition's numbers."""
    lines = []
    for name, r in sorted(records.items()):
        chapter, word = r["chapter"].split("/")[-1], replications.verdict(r, found)
        lines += [f"**{name}: {word}.** {r['says']} ([{chapter}]({chapter}.ipynb))", ""]
        lines.append(f"- *{r['measure']}*. {margin(r)}".rstrip())
        lines += [f"- {line}" for line in _lines(r, replications.judge(r, found))]
        lines.append("")
    return "\n".join(lines)
