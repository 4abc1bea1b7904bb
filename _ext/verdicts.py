"""Compare and accept the verdicts of a build.

python -m _ext.verdicts accept   this build's verdicts become the committed ones
"""

import sys
from datetime import date

import torch

from _ext import build

COMMITTED = build.ROOT / "nettrain" / "evidence.json"


def differences(committed: dict, measured: dict) -> list[str]:
    """A sentence for each claim that is missing, new, differently stated or judged."""
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
