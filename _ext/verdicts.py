"""Compare, accept and repeat the verdicts of a build.

python -m _ext.verdicts accept       this build's verdicts become the committed ones
python -m _ext.verdicts look-again   repeat the chapters with other seeds, for second_look.json
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date

import nbformat
import torch
from tqdm import tqdm

from _ext import build
from nettrain.lab import evidence

COMMITTED = build.ROOT / "nettrain" / "evidence.json"
SECOND = build.ROOT / "nettrain" / "second_look.json"


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


def look_again() -> None:
    """Every chapter with NETTRAIN_BASE = 1, 2, 3, but for those already seen as they are now."""
    wanted = {r["chapter"] for r in build.read_json(COMMITTED).values()}
    names = [name for name in build.chapters() if name in wanted]
    seen = build.read_json(SECOND)
    for name in names:
        if seen.get(name, {}).get("code") != fingerprint(name):
            seen[name] = {"code": fingerprint(name), "seeds": {}}
    seen = {name: seen[name] for name in names}
    for seed in ("1", "2", "3"):
        todo = [name for name in names if seed not in seen[name]["seeds"]]
        os.environ["NETTRAIN_BASE"] = seed
        build.prepare_kernels()
        with tqdm(total=len(todo), desc=f"seed {seed}") as bar, ThreadPoolExecutor(2) as pool:
            jobs = {pool.submit(verdicts_of, name): name for name in todo}
            for job in as_completed(jobs):
                seen[jobs[job]]["seeds"][seed] = job.result()
                build.write_json(SECOND, seen)
                bar.update()
    print(evidence.moved(build.read_json(COMMITTED), seen).to_string())


def fingerprint(name: str) -> str:
    """Of a chapter's code. The package is left out: its laws are tested, and it changes often."""
    notebook = nbformat.read(build.ROOT / f"{name}.ipynb", 4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def verdicts_of(name: str) -> dict[str, str]:
    """{claim: verdict} of a run of one chapter."""
    notebook = nbformat.read(build.ROOT / f"{name}.ipynb", 4)
    with tqdm(disable=True) as cells:
        done, _ = build.run(name, notebook, cells)
    return {record["id"]: record["verdict"] for record in build.records(done)}


if __name__ == "__main__":
    commands = {"accept": accept, "look-again": look_again}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        raise SystemExit(f"usage: python -m _ext.verdicts {' | '.join(commands)}")
    commands[sys.argv[1]]()
