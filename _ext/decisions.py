"""What to do tomorrow: advice whose worth is computed from the replications of a claim."""

import html
from collections import Counter

import yaml

from _ext import build
from nettrain.lab import cards, replications

OUTCOMES = {  # word: its sign, the kind whose color it has
    "do": ("✓", "supported"),
    "try it": ("±", "depends"),
    "skip": ("✗", "contradicted"),
    "not known": ("?", "open"),
}


def outcome(sides: list[str], wants: str = "for") -> str:
    """Of comparisons, each "for", "against", "same" or "open": do, try it, skip or not known.

    do         at least half went as wanted and none the other way
    try it     some went as wanted, but not so
    skip       none went as wanted, and at least half are settled
    not known  none went as wanted, and most are open; or there are none
    """
    number = Counter(sides)
    good, bad = number[wants], number[{"for": "against", "against": "for"}[wants]]
    if good:
        return "do" if not bad and 2 * good >= len(sides) else "try it"
    return "skip" if sides and 2 * (bad + number["same"]) >= len(sides) else "not known"


def sides(record: dict, only=()) -> list[str]:
    """How the comparisons of a claim came out, those with the levels `only`.

    Raises ValueError if no comparison has them.
    """
    if "verdict" in record:
        return ["for" if record["verdict"] == "true" else "against"]
    if not (said := replications.judge(record)):
        return []
    names = cards.chosen(said, only)
    if not names:
        raise ValueError(f"decisions: claim {record['id']} has no comparison with {only}")
    return [cards.drawn(record, said, name).side for name in names]


def decisions() -> str:
    """All decisions, by topic: the advice, its outcome, the numbers, how far they reach.

    What to do stands before what to skip; what is not known is folded.
    """
    records = build.read_json(build.ROOT / "nettrain" / "evidence.json")
    parts, total = [], Counter()
    for part in yaml.safe_load((build.ROOT / "_data" / "decisions.yml").read_text()):
        parts.append(f"## {part['part']}\n")
        rows = {word: [] for word in OUTCOMES}
        for decision in part["decisions"]:
            record = records[decision["claim"]]
            only, wants = decision.get("only", ()), decision.get("wants", "for")
            found = outcome(sides(record, only), wants)
            total[found] += 1
            told = cards.finding(record, only=only, wants=wants)
            rows[found].append(card(decision["advice"], found, record, told))
        unknown = rows.pop("not known")
        lines = [line for some in rows.values() for line in some]
        if unknown:
            count = f"{len(unknown)} question{'s' * (len(unknown) > 1)}"
            summary = f"<summary>Not known: {count} that our data have not settled</summary>"
            lines += [f'<details class="nt-unknown">{summary}', *unknown, "</details>"]
        parts.append("```{raw} html\n" + "\n".join(lines) + "\n```\n")
    counts = [f"{total[word]} times *{word}*" for word in OUTCOMES if total[word]]
    return f"{total.total()} decisions: {', '.join(counts)}.\n\n" + "\n".join(parts)


def card(advice: str, found: str, record: dict, told: str) -> str:
    """HTML: a decision with its outcome, the result in words, and how far it goes."""
    sign, kind = OUTCOMES[found]
    badge = cards.tag(kind, sign, found.capitalize())
    key, page = html.escape(record["id"]), record["chapter"].split("/")[-1]
    link = f'<a class="nt-id" href="{page}.html#{key}">{key}</a>'
    scope = f'<div class="nt-scope">{html.escape(record["scope"])}</div>'
    text = html.escape(told)
    head = f'<div class="nt-head"><strong>{html.escape(advice)}</strong> {badge} {link}</div>'
    return f'<div class="nt-verdict nt-{kind}">{head}<div>{text}</div>{scope}</div>'
