"""Compare and accept what a build found: base 0 of every claim.

python -m _ext.verdicts accept             what this build found becomes what is committed
python -m _ext.verdicts accept losses ...  of these lectures only

Name lectures where the others did not change: their numbers would move with the processor, by
which of two nearly equal rates is chosen.
"""

import sys
from datetime import date

import torch

from _ext import build
from nettrain.lab.replications import SPEC

COMMITTED = build.ROOT / "nettrain" / "evidence.json"


def differences(committed: dict, measured: dict) -> list[str]:
    """A sentence for each claim that is missing, new or differently stated, each exact one that
    came out otherwise, and each condition that is missing, new or of another number of pairs."""
    found = []
    for claim in sorted(committed.keys() | measured.keys()):
        old, new = committed.get(claim), measured.get(claim)
        if old is None or new is None:
            where = "the committed evidence" if old is None else "this build"
            found.append(f"{claim} is not in {where}")
            continue
        for part in (*SPEC, "verdict"):
            if old.get(part) != new.get(part):
                found.append(f"{claim}: {part} was {old.get(part)!r}, is {new.get(part)!r}")
        old, new = old["conditions"], new["conditions"]
        for name in sorted(old.keys() | new.keys()):
            if name not in old or name not in new:
                where = "the committed evidence" if name not in old else "this build"
                found.append(f"{claim}, condition {name!r} is not in {where}")
            elif old[name].get("n") != new[name].get("n"):  # an exact claim has none
                numbers = f"n was {old[name].get('n')}, is {new[name].get('n')}"
                found.append(f"{claim}, condition {name!r}: {numbers}")
    return found


def moved(committed: dict, measured: dict) -> tuple[list[str], int]:
    """(conditions whose effect is off by more than its standard error, number of conditions).

    The same seeds give the same effect up to rounding, unless a tuned rate is another one: with two
    nearly equal ones, rounding decides, and processors differ.
    """
    found, number = [], 0
    for claim in sorted(committed.keys() & measured.keys()):
        old, new = committed[claim]["conditions"], measured[claim]["conditions"]
        for name in sorted(old.keys() & new.keys()):
            if "effect" not in old[name] or "effect" not in new[name]:
                continue
            number += 1
            (a, b), s = (c[name]["effect"] for c in (old, new)), old[name]["error"]
            if abs(a - b) > s + 1e-9 * abs(a):
                found.append(f"{claim} {name}: {a:.4g} ± {s:.2g} is now {b:.4g}")
    return found, number


def accept(lectures: list[str]) -> None:
    """Commit what the build found for these lectures, for all if none is named.

    Raises ValueError for a lecture that the build has no claim of.
    """
    measured = build.read_json(build.VERDICTS)
    committed = build.read_json(COMMITTED)
    known = {record["chapter"].split("/")[-1] for record in measured.values()}
    for name in lectures:
        if name not in known:
            raise ValueError(f"lecture {name!r} is none of {sorted(known)}")
    for sentence in [*differences(committed, measured), *moved(committed, measured)[0]]:
        print(sentence)
    stamp = {"recorded": date.today().isoformat(), "torch": torch.__version__}
    taken = {
        claim: record | stamp
        for claim, record in measured.items()
        if not lectures or record["chapter"].split("/")[-1] in lectures
    }
    kept = {claim: committed[claim] for claim in committed.keys() & measured.keys()}
    kept = kept if lectures else {}
    build.write_json(COMMITTED, dict(sorted((kept | taken).items())))
    print(f"{len(taken)} claims taken; {len(kept | taken)} in {COMMITTED.name}")


if __name__ == "__main__":
    if sys.argv[1:2] != ["accept"]:
        raise SystemExit("usage: python -m _ext.verdicts accept [LECTURE ...]")
    accept(sys.argv[2:])
