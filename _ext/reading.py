"""Prose that tells pooled numbers, and whether somebody has read it since those numbers moved.

    python -m _ext.reading                    what has moved since it was read
    python -m _ext.reading optimizers ...     "I have read these lectures with today's numbers"

A sentence that tells numbers of the replications names their claim, "(A13a)". More bases move the
numbers and not the sentence. So _data/read.json keeps, for each lecture and each claim that it
names, what was pooled when it was last read, and a test asks that nothing has moved far since.
"""

import re
import sys

from _ext import build
from nettrain.lab import replications

READ = build.ROOT / "_data" / "read.json"  # {lecture: {claim: {condition: "low mean high"}}}
ROLE = re.compile(r"\{[\w:]+\}`[^`]*`")  # {finding}`A05a` prints the result itself
CLAIM = re.compile(r"\b[A-Z]\d\d[a-z]\b")
FAR = 0.25  # of the half-width of the interval: less does not change what a rounded number tells


def prose(lecture: str) -> str:
    """What a lecture says between its cells."""
    cells = build.read_json(build.ROOT / "chapters" / f"{lecture}.ipynb")["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def cited(text: str, records: dict) -> list[str]:
    """The claims in `records` that a text names, but those that a role prints."""
    return sorted(set(CLAIM.findall(ROLE.sub("", text))) & records.keys())


def numbers(claims: list[str], records: dict, found: dict | None = None) -> dict:
    """{claim: {condition: "low mean high"}} as pooled today, of those that are replicated."""
    pooled = {}
    for claim in claims:
        if said := replications.judge(records[claim], found):
            pooled[claim] = {
                name: " ".join(f"{x:.4g}" for x in (p.interval[0], p.mean, p.interval[1]))
                for name, p in said.pooled.items()
            }
    return pooled


def moved(read: dict, today: dict) -> list[str]:
    """A line for each claim or condition that is new, gone or far from what was read."""
    lines = [f"{claim} has not been read" for claim in sorted(today.keys() - read.keys())]
    lines += [f"{claim} was read, now gone" for claim in sorted(read.keys() - today.keys())]
    for claim in sorted(read.keys() & today.keys()):
        old, new = read[claim], today[claim]
        if old.keys() != new.keys():
            lines.append(f"{claim} has other conditions: {sorted(old.keys() ^ new.keys())}")
        for name in (n for n in new if n in old):
            low, mean, high = map(float, old[name].split())
            now = float(new[name].split()[1])
            if abs(now - mean) > FAR * (high - low) / 2:
                lines.append(f"{claim} {name}: {mean:.3g} when read, now {now:.3g}")
    return lines


def unread() -> dict[str, list[str]]:
    """{lecture: what has moved on its page}, without those on which nothing has."""
    records, read = evidence(), build.read_json(READ)
    found = {
        name: moved(read.get(name, {}), numbers(cited(prose(name), records), records))
        for name in lectures(records)
    }
    return {name: lines for name, lines in found.items() if lines}


def stamp(names: list[str]) -> None:
    """Note that these lectures were read with today's numbers; ValueError for one that is none."""
    records, read = evidence(), build.read_json(READ)
    if unknown := sorted(set(names) - set(lectures(records))):
        raise ValueError(f"lectures {unknown} are none of {lectures(records)}")
    read |= {name: numbers(cited(prose(name), records), records) for name in names}
    build.write_json(READ, {name: told for name, told in sorted(read.items()) if told})


def evidence() -> dict:
    return build.read_json(build.ROOT / "nettrain" / "evidence.json")


def lectures(records: dict) -> list[str]:
    return sorted({record["chapter"].split("/")[-1] for record in records.values()})


if __name__ == "__main__":
    if sys.argv[1:]:
        stamp(sys.argv[1:])
    for lecture, lines in unread().items():
        print(lecture, *lines, sep="\n    ")
