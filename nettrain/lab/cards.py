"""Claims and verdicts in words: the cards of the lectures and the list of them all."""

import html
import math
import re
from collections.abc import Iterable

from nettrain.lab import forest, replications
from nettrain.lab.replications import Judged

FACTORS = {  # whose names are heads of columns: what "depends on" says instead
    "against": "the other side",
    "carried over from": "where the choice comes from",
    "compared": "when it is compared",
    "dropped": "what is dropped",
    "in": "what is compared",
    "instead": "what is used instead",
    "made equal": "what is made equal",
    "rate tuned for": "what the rate is tuned for",
    "stops on": "what stops the run",
}
NARROW = 0.45  # the share of a plot in a table's column that two numbers need
STATES = {
    "above": "beyond the margin",
    "below": "beyond the margin, the other way",
    "alike": "within the margins",
    "leans +": "leaning this way",
    "leans −": "leaning the other way",
    "open": "open",
    "degenerate": "the same numbers",
}


# --------------------------------------------------------------------------------- numbers


def number(value: float) -> str:
    """Three digits, with a real minus, "1,020" and powers of ten: "−2.8 · 10⁻¹⁷"."""
    if 1000 <= abs(value) < 1e6:
        return f"{float(f'{value:.3g}'):,.0f}".replace("-", "−")
    digits, _, power = f"{value:.3g}".partition("e")
    if power:
        raised = f"10{str(int(power)).translate(RAISED)}"
        digits = raised if digits == "1" else f"{digits} · {raised}"
    return digits.replace("-", "−")


RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def amount(value: float, unit: str) -> str:
    """A number with its unit in plain words: 0.5 doublings are "1.41 times"."""
    for name, factor in LOGARITHMS.items():
        if unit.startswith(name):
            return f"{_ratio(value, factor)} times{unit.removeprefix(name)}"
    return f"{number(value)} {unit}".strip()


LOGARITHMS = {"doublings": 2.0, "decades": 10.0}  # units that are printed as ratios


def span(effect: float, low: float, high: float, unit: str) -> str:
    """An effect with its interval: "1.41 times [1.10, 1.80]", "0.4 % [−0.2, 1.0]"."""
    for name, factor in LOGARITHMS.items():
        if unit.startswith(name):
            ratio, *ends = _ratios((effect, low, high), factor)
            return f"{ratio} times{unit.removeprefix(name)} [{', '.join(ends)}]"
    middle, *ends = _alike(effect, low, high)
    return f"{f'{middle} {unit}'.strip()} [{', '.join(ends)}]"


def _alike(effect: float, low: float, high: float) -> list[str]:
    """Three numbers with as many decimals as half their interval has to its second digit."""
    half = (high - low) / 2
    if not 1e-4 < half < 1e4 or abs(effect) > 1e5:
        return [number(x) for x in (effect, low, high)]
    decimals = max(0, 1 - math.floor(math.log10(half)))
    text = [f"{x:.{decimals}f}" for x in (effect, low, high)]
    return [t.replace("-", "−" if float(t) else "") for t in text]


def _ratios(powers: tuple[float, float, float], factor: float) -> list[str]:
    """factor to each power, with as many decimals as the first one has in three digits.

    Three digits for each, if they are of different orders of magnitude or huge or tiny.
    """
    orders = [p * math.log10(factor) for p in powers]
    if max(map(abs, orders)) > 3 or orders[2] - orders[1] > 1:
        return [_ratio(p, factor) for p in powers]
    decimals = max(0, 2 - math.floor(math.log10(factor ** powers[0])))
    return [f"{factor**p:.{decimals}f}" for p in powers]


def _ratio(power: float, factor: float) -> str:
    """factor to a power, as far as a number can hold it."""
    return number(factor**power) if abs(power) < 300 else f"{factor:g}^{number(power)}"


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
        where = f", by {factors}" if factors else ""
        return f"The claim is that there is a case{where}: one is enough."
    if record["over"] == "all":
        return f"It may depend on {factors}." if factors else ""
    return f"It is decided by: {', '.join(record['over'])}."


def claim(record: dict) -> str:
    """The card of a claim before its experiment; how it will be measured is folded."""
    key, says = html.escape(record["id"]), html.escape(record["says"])
    how = _divs([stated(record).removeprefix(record["says"]).strip()])
    head = f'<div class="nt-head"><span class="nt-says">“{says}”</span> '
    head += f'<a class="nt-id" href="#{key}">Claim {key}</a></div>'
    how = f"<details><summary>How it will be measured</summary>{how}</details>"
    return f'<div class="nt-verdict nt-claim" data-claim="{key}">{head}{how}</div>'


# -------------------------------------------------------------------------------- verdicts


def _here(record: dict, condition: str) -> str:
    """What this base alone found in a condition."""
    c = record["conditions"][condition]
    if "tolerance" in c:
        allowed = f"allows up to {number(c['tolerance'])}" if c["tolerance"] else "wants 0"
        return f"{record['measure']}: {number(c['error'])}, where the claim {allowed}"
    return f"{span(c['effect'], c['low'], c['high'], record['unit'])}, {c['n']} pairs"


def _alone(record: dict, condition: str) -> str:
    """The claim's sentence with what this base alone found."""
    c = record["conditions"][condition]
    return f"{sentence(record, c['effect'], c['low'], c['high'])}, {c['n']} pairs"


def _strength(record: dict, said: Judged, condition: str) -> str:
    """How many bases agree, and how probably another one would."""
    chance, agree = replications.strength(said, condition, record["margin"])
    number = len(said.bases[condition])
    return f"{agree} of {number} bases agree; a new one would with probability {chance:.2f}"


def _sensitivity(said: Judged) -> str:
    """The verdicts at half and at twice the margin, where they differ."""
    other = [
        f"at {size} the margin: {_readable(said.sensitivity[k])}"
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
    """With a capital at the beginning, unless it begins with a symbol: η must not become Η."""
    return text[0].upper() + text[1:] if text[0].isascii() else text


def _readable(verdict: str) -> str:
    """A verdict in which the factor has a name that makes a sentence."""
    start, _, factor = verdict.partition("depends on ")
    return f"{start}depends on {FACTORS.get(factor, factor)}" if factor else verdict


def label(condition: str) -> str:
    """The name of a condition for readers."""
    return condition.replace(" | ", ", ")


def told(record: dict, found: dict | None = None) -> str:
    """A verdict with its numbers as one line of text."""
    lines = _lines(record, replications.judge(record, found))
    head = f"{record['id']}: {_readable(replications.verdict(record, found))}."
    return " ".join([head, *lines, record["scope"]])


def verdict(record: dict, found: dict | None = None) -> str:
    """The card of a verdict: the claim, its badge, the result as a sentence and a forest plot.

    A claim of several conditions has a table of such plots. How it was measured is folded.
    """
    said, word = replications.judge(record, found), replications.verdict(record, found)
    names = list(said.bases if said else record["conditions"])
    if "verdict" in record:
        body = _divs(_lines(record, said))
    else:
        alone = "" if said else _divs(["The run on this page, which alone gives no verdict:"])
        plotted = {name: drawn(record, said, name) for name in names}
        axis = forest.axis(list(plotted.values()), record)
        many = len(names) > 1
        body = alone + (_rows if many else _line)(record, said, plotted, axis)
        body += _divs([] if record["over"] == "all" else [_over(record)])
    apart = record["reads"] and "verdict" not in record  # else the measure stands in the result
    how = [record["measure"] + "." if apart else "", record["scope"], margin(record)]
    if said:
        how = [_bases(record, said), *how, _strengths(record, said), _sensitivity(said)]
        how += [_amended(said)] if said.amended else []
        here = [f"{label(n)}: {_here(record, n)}." for n in record["conditions"] if n]
        alone = [] if here else [_here(record, "") + "."]
        how += [" ".join(["This page's own run, base 0:", *alone]), *here]
    folded = _divs(filter(None, map(_upper, filter(None, how))))
    key = html.escape(record["id"])
    head = (
        f'<div class="nt-head"><span class="nt-says">“{html.escape(record["says"])}”</span> '
        f'{badge(word)} <a class="nt-id" href="#{key}">{key}</a></div>'
    )
    kind = replications.kind(word).replace(" ", "-")
    return (
        f'<div class="nt-verdict nt-{kind}" id="{key}" data-claim="{key}">{head}{body}'
        f"<details><summary>How it was measured</summary>{folded}</details></div>"
    )


COUNTED = {  # what a number of comparisons did
    "for": ("goes as claimed", "go as claimed"),
    "against": ("goes the other way", "go the other way"),
    "same": ("makes no difference that matters", "make no difference that matters"),
    "open": ("stays open", "stay open"),
}


ADVISED = {  # the same, seen from an advice against the claim
    "against": ("goes as advised", "go as advised"),
    "for": ("goes the other way", "go the other way"),
}


def chosen(said: Judged, only: Iterable[str]) -> list[str]:
    """The conditions that have all the levels `only`."""
    return [name for name in said.bases if set(only) <= set(replications.levels_of(name))]


def finding(
    record: dict, found: dict | None = None, *, only: Iterable[str] = (), wants: str = "for"
) -> str:
    """The result of a claim in one or two sentences, without its verdict.

    A single comparison: its sentence with the pooled effect. Several: how many went which way, and
    of those that went as claimed or the other way the one in the middle, for the largest would
    overstate them. An exact claim: itself, in quotes. One that waits for its bases: what the page's
    own run found in its first condition.

    only   levels: of the comparisons those that have them
    wants  "against" where it serves an advice that follows if the claim does not hold
    """
    if "verdict" in record:
        return f"“{record['says']}”"
    if (said := replications.judge(record, found)) is None:
        name = next(iter(record["conditions"]))
        where = f", {label(name)}" if name else ""
        return f"So far in one run only{where}: {_alone(record, name)}."
    names = chosen(said, only)
    sides = {name: drawn(record, said, name).side for name in names}
    told = {n: sentence(record, said.pooled[n].mean, *said.pooled[n].interval) for n in names}
    if len(sides) == 1:
        return _upper("".join(told.values()) + ".")
    parts = []
    counted = COUNTED if wants == "for" else COUNTED | ADVISED
    for side, (one, more) in counted.items():
        some = [name for name in sides if sides[name] == side]
        if not some:
            continue
        text = f"{len(some)} {one if len(some) == 1 else more}"
        if side == "against" or (side == "for" and record["predicts"] == "above"):
            some.sort(key=lambda name: abs(said.pooled[name].mean))
            middle = some[(len(some) - 1) // 2]
            which = "the middle one, " if len(some) > 2 else "the smaller, " if some[1:] else ""
            text += f" ({which}{label(middle)}: {told[middle]})"
        parts.append(text)
    if len(parts) == 1:
        number, _, rest = parts[0].partition(" ")
        return f"{'Both' if number == '2' else f'All {number}'} comparisons {rest}."
    return f"Of {len(sides)} comparisons {'; '.join(parts)}."


SIGNS = {
    "supported": "✓",
    "supported where settled": "✓",
    "true": "✓",
    "contradicted": "✗",
    "refuted": "✗",
    "nowhere supported": "✗",
    "false": "✗",
    "no difference that matters": "=",
    "depends": "±",
    "open": "?",
    replications.WAITING: "…",
}


def badge(word: str) -> str:
    """A verdict as a sign and its words."""
    kind = replications.kind(word)
    return tag(kind.replace(" ", "-"), SIGNS[kind], _upper(_readable(word)))


def tag(kind: str, sign: str, words: str) -> str:
    """A sign and words in a frame; its color alone says nothing."""
    mark = f'<span aria-hidden="true">{sign}</span>'
    return f'<span class="nt-badge nt-{kind}">{mark} {html.escape(words)}</span>'


def drawn(record: dict, said: Judged | None, name: str) -> forest.Row:
    """What a condition's plot shows: the effect pooled over its bases, or this base's alone."""
    if said is None:
        c = record["conditions"][name]
        return forest.Row(c["effect"], c["low"], c["high"], (), "open")
    p, wanted = said.pooled[name], "above" if record["predicts"] == "above" else "alike"
    state = said.states[name]
    side = "for" if state == wanted else "same" if state == "alike" else "open"
    side = "against" if state in ("above", "below") and state != wanted else side
    return forest.Row(p.mean, *p.interval, p.effects, side)


def _line(record: dict, said: Judged | None, plotted: dict, axis: forest.Axis) -> str:
    """The only condition: its sentence over its plot."""
    (name, row), *_ = plotted.items()
    text = sentence(record, row.effect, row.low, row.high)
    if said:
        _, agree = replications.strength(said, name, record["margin"])
        text += f"; {STATES[said.states[name]]}, {agree} of {len(said.bases[name])} bases agree"
    else:
        text += f", {record['conditions'][name]['n']} pairs"
    return f"<div>{html.escape(_upper(text))}.</div>{axis.plot(row)}{axis.ends()}"


def _rows(record: dict, said: Judged | None, plotted: dict, axis: forest.Axis) -> str:
    """A table under the claim's sentence: the levels of each condition, its plot, its numbers."""
    last = ["Bases agree"] if said else ["Pairs"]
    heads = [*record["factors"], "", "Effect, 95 %", *last]
    tags = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = ""
    for name, row in plotted.items():
        levels = zip(record["factors"], replications.levels_of(name), strict=True)
        cells = "".join(
            f'<td data-head="{html.escape(factor)}">{html.escape(level)}</td>'
            for factor, level in levels
        )
        effect = html.escape(span(row.effect, row.low, row.high, record["unit"]))
        if said:
            _, agree = replications.strength(said, name, record["margin"])
            number = f"{agree} of {len(said.bases[name])}"
            state = f'<span class="nt-state">{STATES[said.states[name]]}</span>'
        else:
            number, state = str(record["conditions"][name]["n"]), ""
        cells += f'<td class="nt-plot">{axis.plot(row)}{state}</td>'
        body += f"<tr>{cells}<td data-effect>{effect}</td>"
        body += f'<td data-head="{last[0].lower()}">{number}</td></tr>'
    blank = "<td></td>" * len(record["factors"])
    blank += f'<td class="nt-plot">{axis.ends(NARROW)}</td><td></td><td></td>'
    body += f'<tr aria-hidden="true">{blank}</tr>'
    table = f'<div class="nt-conditions" tabindex="0"><table><tr>{tags}</tr>{body}</table></div>'
    return f"<div>{html.escape(_upper(_blank(record)))}:</div>{table}"


def _bases(record: dict, said: Judged) -> str:
    """What the picture shows, for somebody who has not read how runs are made."""
    fewest, most = (f(map(len, said.bases.values())) for f in (min, max))
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    again = f" ({record['redrawn']})" if record.get("redrawn") else ""
    return (
        f"The experiment was made {count} times, each time with everything drawn again{again}. "
        "A small dot is one of these bases, the large one their mean, and the bar its 95 % interval"
        "; in the grey zone a difference is too small to matter."
    )


def _strengths(record: dict, said: Judged) -> str:
    """How probably a next base would fall on the same side of the margin, and where least."""
    chance = {n: replications.strength(said, n, record["margin"])[0] for n in said.bases}
    least = min(chance, key=chance.get)
    low, high = (f"{f(chance.values()):.2f}" for f in (min, max))
    text = f"another base would agree with probability {low}"
    if len(chance) == 1:
        return f"{text}."
    if low == high:
        return f"{text} in each row."
    return f"{text} to {high}; the least sure is {label(least)}."


def _divs(lines) -> str:
    return "".join(f"<div>{html.escape(line)}</div>" for line in lines)
