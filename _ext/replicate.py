"""Repeat the lectures with other bases, and keep what they found in nettrain/replications.json.

    python -m _ext.replicate [--chapters losses depth] [--bases 6] [--budget MINUTES]
    python -m _ext.replicate --merge FILE ...     what was made on other machines
    python -m _ext.replicate --confirm            after a change of code that moves no number
    python -m _ext.replicate --show               verdicts, states, τ, and what is missing

A base (`nettrain.data.base`) draws everything again; base 0 is the book's own and is not pooled.
Lectures run without Jupyter, two at a time. Each finished base of a lecture is a file in
_build/replications, so that a kill loses only what was running.

What was made by other code, of the lecture or of what it uses of the package, is not mixed in.
Docstrings, comments, what errors say and what a claim says besides its statement do not count, nor
does a change after which one base, run again, finds the same numbers (--confirm). A claim that is
stated in other words gets bases that its lecture has never seen.
"""

import argparse
import ast
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from scipy.stats import binom

from _ext.dependencies import ROOT, WORDS, slice_of, without_messages
from _ext.files import read_json, whole
from benchmarks.cells import MAGIC
from nettrain.lab import pooling
from nettrain.lab.replications import judge, spec, table

STORE = ROOT / "_build" / "replications"
KEPT = ROOT / "nettrain" / "replications.json"
PARSING = threading.Lock()  # Python 3.11's parser counts its depth for all threads together
BESIDE = ("reads", "because", "redrawn", "nearest", "source")  # arguments of a claim, only shown
SHOWING = {"lab.figures", "lab.moving"}  # modules that no number depends on, besides WORDS


# ------------------------------------------------------------------------- code and claims


def lectures() -> list[str]:
    """The lectures that judge claims, those that take long first."""
    names = {
        r["chapter"].split("/")[-1] for r in read_json(ROOT / "nettrain/evidence.json").values()
    }
    return sorted(names, key=lambda n: -(ROOT / "chapters" / f"{n}.ipynb").stat().st_size)


def code_of(name: str) -> str:
    """A hash of what a lecture's numbers depend on: its code and what that uses, without words.

    Where one cell ends and the next begins does not count.
    """
    with PARSING:
        return _code_of(name)


def _code_of(name: str) -> str:
    book = json.loads((ROOT / "chapters" / f"{name}.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    cells = [MAGIC.sub(r"\1pass", source) for source in cells]
    parts = [without_messages(ast.parse("\n".join(cells)), BESIDE)]
    parts.append(slice_of(cells, set(), without=WORDS | SHOWING, text=without_messages))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


# ---------------------------------------------------------------------------------- files


def kept() -> dict:
    """{"lectures": {name: ...}, "claims": {id: ...}}, as `save` writes it."""
    return read_json(KEPT) or {"lectures": {}, "claims": {}}


def save(found: dict) -> None:
    """One line for every base of a lecture and every condition of a claim: diffs can be read."""
    lines, end = ["{"], lambda k, n: "," if k < n - 1 else ""
    for i, (part, entries) in enumerate(sorted(found.items(), reverse=True)):
        lines.append(f' "{part}": {{')
        for j, (name, entry) in enumerate(sorted(entries.items())):
            lines.append(f"  {json.dumps(name)}: {{")
            for k, (key, value) in enumerate(entry.items()):
                if isinstance(value, dict):
                    inner = ",\n".join(
                        f"    {json.dumps(a)}: {json.dumps(b)}" for a, b in value.items()
                    )
                    text = "{\n" + inner + "\n   }" if inner else "{}"
                else:
                    text = json.dumps(value)
                lines.append(f"   {json.dumps(key)}: {text}{end(k, len(entry))}")
            lines.append("  }" + end(j, len(entries)))
        lines.append(" }" + end(i, len(found)))
    whole(KEPT, "\n".join([*lines, "}"]) + "\n")


# --------------------------------------------------------------------------------- running


def replicate(names: list[str], bases: int, budget: float, together: int = 2) -> int:
    """Fill up what is missing; 1 if a lecture failed."""
    end = time.monotonic() + 60 * budget
    collect()
    todo, tried, failed, running = missing(names, bases), set(), [], {}
    print(f"{len(todo)} bases of lectures to do", flush=True)
    with ThreadPoolExecutor(together) as pool:
        while todo or running:
            for job in todo[: together - len(running)]:
                running[pool.submit(one, *job, end)] = job
                tried.add(job)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for work in done:
                name, base = running.pop(work)
                said = work.result()
                if said is None:
                    continue  # the time is up
                refused = collect()
                said = refused.get((name, base), said)
                print(f"{name}, base {base}: {said}", flush=True)
                failed += [] if said.startswith("done") else [f"{name}, base {base}"]
            # looked up again: the first base of an amended claim moves its lecture's other bases
            todo = [job for job in missing(names, bases) if job not in tried]
            print(f"{len(todo) + len(running)} left", flush=True)
    left = missing(names, bases)
    print(f"missing: {len(left)}" + (f"; failed: {'; '.join(failed)}" if failed else ""))
    return int(bool(failed))


@contextmanager
def alone() -> Iterator[None]:
    """Refuse to run beside another replication: they would overwrite each other's results."""
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process
        except OSError:
            raise SystemExit(f"another replication is running in {ROOT}") from None
        for folder in STORE.glob("tmp*"):  # of one that was killed
            shutil.rmtree(folder, ignore_errors=True)
        yield


def missing(names: list[str], bases: int) -> list[tuple[str, int]]:
    """(lecture, base) that are neither kept nor failed with the code as it is, base by base."""
    have, todo = kept()["lectures"], []
    for name in names:
        entry = have.get(name, {})
        same = entry.get("code") == code_of(name)
        done = {*entry.get("bases", {}), *entry.get("failed", {})} if same else set()
        first = entry.get("first", 1)
        todo += [(b - first, name, b) for b in range(first, first + bases) if str(b) not in done]
    order = {name: k for k, name in enumerate(names)}
    return [(name, b) for _, name, b in sorted(todo, key=lambda x: (x[0], order[x[1]]))]


def command(name: str, report: Path) -> list[str]:
    notebook = f"chapters/{name}.ipynb"
    return [sys.executable, "-m", "benchmarks.cells", notebook, str(report), "--numbers"]


def one(name: str, base: int, end: float) -> str | None:
    """Run one base of a lecture into a file of the store; how it ended, None if time is up."""
    if time.monotonic() > end:
        return None
    start = time.monotonic()
    row, why = run(name, base)
    if row is None:
        return why
    whole(STORE / f"{name}.{base}.json", json.dumps(row))
    took = f"{time.monotonic() - start:.0f} s"
    return f"done, {took}" if not row["error"] else f"failed, {took}: {row['error']['message']}"


def run(name: str, base: int) -> tuple[dict | None, str]:
    """(the report of one base of a lecture, ""), or (None, why there is none)."""
    code = code_of(name)
    STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORE) as folder:
        report = Path(folder) / "report.json"
        env = os.environ | {"NETTRAIN_BASE": str(base), "OMP_NUM_THREADS": "1"}
        subprocess.run(command(name, report), cwd=ROOT, env=env, capture_output=True)
        found = read_json(report)
    if found.get("cells", 0) < found.get("of", 1) and not found.get("error"):
        return None, "ended without a report; it is tried again next time"
    if code_of(name) != code:
        return None, "the code was changed meanwhile; it is tried again next time"
    row = found | {"chapter": name, "base": base, "code": code}
    return row | {"date": date.today().isoformat()}, ""


def confirm(names: list[str]) -> int:
    """Keep the bases of lectures whose code changed without changing what they find.

    One base of each is run again; if all its effects are as before, the lecture's bases stand.
    Returns how many lectures do not.
    """
    moved = 0
    for name in names:
        entry = kept()["lectures"].get(name)
        if not entry or not entry["bases"] or entry["code"] == code_of(name):
            continue
        base = min(entry["bases"], key=int)
        row, why = run(name, int(base))
        why = why or row["error"] or difference(kept(), row)
        if not why:
            found = kept()
            found["lectures"][name]["code"] = row["code"]
            save(found)
        moved += bool(why)
        print(f"{name}, base {base}: {why or 'as before'}", flush=True)
    return moved


def difference(found: dict, row: dict) -> str:
    """The first claim of a lecture that a repeated base finds otherwise; or "".

    Within a twentieth of its standard error an effect is as before: sums may be rounded otherwise.
    """
    claims = {k: c for k, c in found["claims"].items() if c["chapter"] == row["chapter"]}
    records = {r["id"]: r for r in row["records"] if "verdict" not in r}
    if claims.keys() != records.keys():
        return f"claims {sorted(claims.keys() ^ records.keys())} are new or gone"
    for name, record in records.items():
        if claims[name]["spec"] != spec(record):
            return f"{name} is stated otherwise"
        for condition, c in record["conditions"].items():
            before = claims[name]["conditions"][condition][str(row["base"])][0]
            if abs(c["effect"] - before) > 1e-4 * abs(before) + 0.05 * c["error"]:
                return f"{name} {condition}: {before:g} was, {c['effect']:g} is"
    return ""


def collect(rows: list[dict] | None = None) -> dict[tuple[str, int], str]:
    """Bring finished files, or rows from elsewhere, into nettrain/replications.json.

    Returns why a base of a lecture was not taken, {(lecture, base): reason}.
    """
    found, files, refused = kept(), [], {}
    if rows is None:
        files = sorted(STORE.glob("*.json")) if STORE.exists() else []
        rows = [read_json(path) for path in files]
    for row in rows:
        if not add(found, row):
            refused[row["chapter"], row["base"]] = why_not(found, row)
    if rows:
        save(found)
    for path in files:
        path.unlink()
    return refused


def why_not(found: dict, row: dict) -> str:
    """Why `add` refused a base."""
    first = found["lectures"].get(row["chapter"], {}).get("first", 1)
    if row["base"] < first:
        return f"seen before a claim was amended; its bases are {first} and later"
    return "made by other code"


def add(found: dict, row: dict) -> bool:
    """Add one base of a lecture; whether it was made by the lecture's code as it is now."""
    name, base = row["chapter"], row["base"]
    if row.get("code") != code_of(name) or base < 1:
        return False
    entry = found["lectures"].get(name)
    if entry is None or entry["code"] != row["code"]:
        entry = renewed(found, name, row)
    if base < entry["first"]:
        return False  # seen before a claim was amended
    if row.get("error"):
        error = row["error"]
        entry["failed"][str(base)] = f"cell {error['cell']}: {error['type']}: {error['message']}"
        return True
    how = {"date": row["date"], "seconds": row["seconds"], "torch": row["torch"]}
    devices = {r["device"] for r in row["records"]}
    entry["bases"][str(base)] = how | {"device": ", ".join(sorted(devices))}
    for record in row["records"]:
        if "verdict" in record:
            continue  # an exact claim
        claim = found["claims"].setdefault(record["id"], {})
        claim.setdefault("amended", 0)
        claim |= {"chapter": name, "spec": spec(record)}
        if any(c.get("fixed") for c in record["conditions"].values()):
            claim["fixed"] = True
        effects = claim.setdefault("conditions", {})
        for condition, c in record["conditions"].items():
            numbers = [short(c[k]) for k in ("effect", "error", "a", "b")] + [c["n"]]
            effects.setdefault(condition, {})[str(base)] = numbers
    return True


def renewed(found: dict, name: str, row: dict) -> dict:
    """The entry of a lecture whose code is new: old bases go, and amended claims are counted.

    A claim that came from another lecture keeps its count. What is stored afterwards is the claim
    as it is now stated, so that an amendment is counted once.
    """
    old = found["lectures"].get(name, {"first": 1, "bases": {}, "failed": {}})
    new = {r["id"]: spec(r) for r in row.get("records", [])}
    claims = {k: c for k, c in found["claims"].items() if c["chapter"] == name or k in new}
    amended = [k for k, c in claims.items() if k in new and c["spec"] != new[k]]
    used = [int(b) for b in (*old["bases"], *old["failed"])]
    used += [int(b) for k in amended for bases in claims[k]["conditions"].values() for b in bases]
    first = max([old["first"] - 1, *used]) + 1 if amended else old["first"]
    for key, claim in claims.items():
        claim["conditions"] = {}
        if new and key not in new:
            del found["claims"][key]
        elif new:
            claim["amended"] = claim.get("amended", 0) + (key in amended)
            claim |= {"chapter": name, "spec": new[key]}
    entry = {"code": row["code"], "first": first, "bases": {}, "failed": {}}
    found["lectures"][name] = entry
    return entry


def short(x: float) -> float:
    return float(f"{x:.5g}")


def report_in(line: str) -> dict | None:
    """The report that a line holds; None for a line that a kill has torn, and for another one."""
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and "chapter" in found else None


def merge(files: list[Path]) -> int:
    """Add bases from other machines: lines of reports, as in bases.jsonl; a torn one is left."""
    for file in files:
        if not file.exists():
            raise SystemExit(f"{file} is not there")
        text = file.read_text("utf-8")
        rows = [r for line in text.splitlines() if (r := report_in(line))]
        if not rows:
            raise SystemExit(f"{file} holds no reports of lectures, as bases.jsonl does")
        found = kept()
        taken = [add(found, row) for row in rows if row.get("of") and row["cells"] == row["of"]]
        save(found)
        print(f"{file}: {sum(taken)} of {len(rows)} bases taken")
    return 0


# ----------------------------------------------------------------------------------- reading


def surprises(records: dict[str, dict]) -> tuple[list[str], float]:
    """(effects of a build outside their 95 % prediction intervals, how probable so many are).

    The bases of a condition, once they are enough for a verdict, predict what base 0 finds. Of M
    such conditions 5 % lie outside by chance; the probability is that of as many or more, by the
    binomial law. Conditions of one claim are not independent, so a build fails only below 1 %.
    """
    found, outside, number = kept(), [], 0
    for name, record in records.items():
        said = judge(record, found)
        for condition, pooled in said.pooled.items() if said else ():
            if condition not in record["conditions"]:
                continue  # not on the page: `evidence.tried`
            now = record["conditions"][condition]
            number += 1
            low, high = pooled.prediction(now["error"])
            if not low <= now["effect"] <= high:
                where = f"{name} {condition}".strip()
                outside.append(f"{where}: {now['effect']:.3g} is not in [{low:.3g}, {high:.3g}]")
    return outside, float(binom.sf(len(outside) - 1, number, 1 - pooling.LEVEL))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m _ext.replicate", description=__doc__)
    parser.add_argument("--chapters", nargs="+", default=lectures(), choices=lectures())
    parser.add_argument("--bases", type=int, default=6)
    parser.add_argument("--budget", type=float, default=float("inf"), help="minutes")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--confirm", action="store_true")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args(argv)
    if options.bases < 1 or not options.budget > 0:
        parser.error(f"--bases {options.bases} --budget {options.budget}: give positive numbers")
    if options.merge:
        return merge(options.merge)
    if options.show:
        for name, entry in kept()["lectures"].items():
            other = "" if entry["code"] == code_of(name) else ", of other code than there is now"
            print(f"{name}: {len(entry['bases'])} bases, {len(entry['failed'])} failed{other}")
        records = read_json(ROOT / "nettrain/evidence.json")
        print(table(records, kept()).to_string(index=False, float_format="%.3g"))
        return 0
    if options.confirm:
        return int(confirm(options.chapters) > 0)
    with alone():
        return replicate(options.chapters, options.bases, options.budget)


if __name__ == "__main__":
    sys.exit(main())
