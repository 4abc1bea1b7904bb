"""Compare and accept the verdicts of a build.

python -m _ext.verdicts accept   this build's verdicts become the committed ones
"""

import sys
from datetime import date

import torch

from _ext import build

COMMITTED = build.ROOT / "nettrain" / "evidence.json"


def differences(committed: dict, measured: dict) -> list[str]:
    """A sentence for each claim that is missing, new, differently stated or judged, and for each
    condition of one that is missing, new or compared in another number of pairs."""
    found = []
    for claim in sorted(committed.keys() | measured.keys()):
        old, new = committed.get(claim), measured.get(claim)
        if old is None or new is None:
            where = "the committed evidence" if old is None else "this build"
            found.append(f"{claim} is not in {where}")
            continue
        for part in ("says", "measure", "margin", "predicts", "verdict"):
            if old[part] != new[part]:
                found.append(f"{claim}: {part} was {old[part]!r}, is {new[part]!r}")
        old, new = old["conditions"], new["conditions"]
        for name in sorted(old.keys() | new.keys()):
            if name not in old or name not in new:
                where = "the committed evidence" if name not in old else "this build"
                found.append(f"{claim}, condition {name!r} is not in {where}")
            elif old[name].get("n") != new[name].get("n"):  # an exact claim has none
                numbers = f"n was {old[name].get('n')}, is {new[name].get('n')}"
                found.append(f"{claim}, condition {name!r}: {numbers}")
    return found


def accept() -> None:
    measured = build.read_json(build.VERDICTS)
    for sentence in differences(build.read_json(COMMITTED), measured):
        print(sentence)
    stamp = {"recorded": date.today().isoformat(), "torch": torch.__version__}
    build.write_json(COMMITTED, {claim: record | stamp for claim, record in measured.items()})
    print(f"{len(measured)} verdicts are now in {COMMITTED.relative_to(build.ROOT)}")


if __name__ == "__main__":
    if sys.argv[1:] != ["accept"]:
        raise SystemExit("usage: python -m _ext.verdicts accept")
    accept()
