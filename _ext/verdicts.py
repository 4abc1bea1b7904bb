"""Compare, accept and repeat the verdicts of a build.

python -m _ext.verdicts accept       this build's verdicts become the committed ones
python -m _ext.verdicts look-again   every chapter with three other sets of seeds
"""

import os
import sys
from datetime import date
from pathlib import Path

import nbformat
import torch
from tqdm import tqdm

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


def look_again(times: int = 3) -> None:
    """Execute every chapter with NETTRAIN_SEED = 1, 2, 3; report the verdicts that change."""
    committed = build.read_json(COMMITTED)
    stays = {claim: [] for claim in committed}
    names = [n for n in build.chapters() if n in {r["chapter"] for r in committed.values()}]
    for seed in range(1, times + 1):
        os.environ["NETTRAIN_SEED"] = str(seed)
        build.prepare_kernels()
        for name in names:
            notebook = nbformat.read(build.ROOT / f"{name}.ipynb", 4)
            cells = sum(c.cell_type == "code" for c in notebook.cells)
            with tqdm(total=cells, desc=f"seed {seed} {Path(name).name}") as bar:
                done, _ = build.run(name, notebook, bar)
            for record in build.records(done):
                stays[record["id"]].append(record["verdict"])
    for claim, seen in stays.items():
        if any(v != committed[claim]["verdict"] for v in seen):
            print(f"{claim}: committed {committed[claim]['verdict']!r}, then {', '.join(seen)}")
    kept = sum(all(v == committed[c]["verdict"] for v in seen) for c, seen in stays.items())
    print(f"{kept} of {len(stays)} verdicts stay with {times} other sets of seeds")


if __name__ == "__main__":
    commands = {"accept": accept, "look-again": look_again}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        raise SystemExit(f"usage: python -m _ext.verdicts {' | '.join(commands)}")
    commands[sys.argv[1]]()
