"""Compare and accept what a build found: base 0 of every claim.

python -m _ext.verdicts accept   what this build found becomes what is committed
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


def accept() -> None:
    measured = build.read_json(build.VERDICTS)
    committed = build.read_json(COMMITTED)
    for sentence in [*differences(committed, measured), *moved(committed, measured)[0]]:
        print(sentence)
    stamp = {"recorded": date.today().isoformat(), "torch": torch.__version__}
    build.write_json(COMMITTED, {claim: record | stamp for claim, record in measured.items()})
    print(f"{len(measured)} claims are now in {COMMITTED.relative_to(build.ROOT)}")


if __name__ == "__main__":
    if sys.argv[1:] != ["accept"]:
        raise SystemExit("usage: python -m _ext.verdicts accept")
    accept()
