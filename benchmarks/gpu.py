"""Prove the book on a GPU: tests, speed, every lecture, replications; one command.

    python -m benchmarks.gpu --out results --minutes 8      on the machine that has the GPU
    python -m benchmarks.gpu --merge results                here: into benchmarks/results/cuda.json
    python -m _ext.replicate --merge results/bases.jsonl    and into nettrain/replications.json
    python -m benchmarks.gpu --out dry --device cpu --tiny  a dry run

Needs a checkout, torch, numpy, scipy, pandas, scikit-learn, seaborn, matplotlib, tqdm, sympy,
pytest and hypothesis; no Jupyter, no network. Each part writes a line as soon as it knows
something, has a share of the time, and is killed when that is over; what it does not need the next
ones have. The folder then holds machine.json, parts.jsonl, tests.jsonl, step.jsonl, sweep.jsonl,
chapters.jsonl, bases.jsonl and log.txt.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from _ext.files import read_json, write_json
from _ext.replicate import code_of

ROOT = Path(__file__).resolve().parent.parent
# of the time; the bases have what the others leave
SHARES = {"tests": 0.24, "step": 0.12, "sweep": 0.2, "chapters": 0.44, "bases": 0.0}
LONG = ("architecture_search", "dropout", "depth")  # lectures that take longest on a GPU
TOGETHER = 8  # lectures at a time on one GPU, if there are processors for them
THREADS = 2  # of each lecture


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder for the results")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="small work, to see that it runs")
    parser.add_argument("--parts", nargs="+", default=list(SHARES), choices=list(SHARES))
    parser.add_argument("--merge", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--part", choices=("tests", "step", "sweep"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.merge:
        return merge(options.merge)
    if not options.out:
        parser.error("--out DIR says where the results go")
    if options.device == "cuda" and not has_cuda():
        parser.error("--device cuda: torch finds no CUDA device; a dry run needs --device cpu")
    if not 0 < options.minutes < float("inf"):
        parser.error(f"--minutes {options.minutes} is not a positive number")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        return {"tests": tests, "step": step, "sweep": sweep}[options.part](options)
    if (options.out / "machine.json").exists():
        parser.error(f"--out {options.out} holds results already; give another folder")
    return everything(options)


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# ----------------------------------------------------------------------------- all parts


def everything(options) -> int:
    """Run the parts one after another; 1 if one of them failed or was killed."""
    start = time.monotonic()
    write_json(options.out / "machine.json", provenance(options))
    end, bad = 0.0, []
    for part in options.parts:
        end += SHARES[part] / sum(SHARES[p] for p in options.parts) * 60 * options.minutes
        began, seconds = time.monotonic(), start + end - time.monotonic()
        if part in ("chapters", "bases"):
            ended = lectures(part, options, seconds)
        else:
            command = [sys.executable, "-m", "benchmarks.gpu", "--part", part]
            command += ["--out", str(options.out), "--device", options.device]
            command += ["--tiny"] * options.tiny
            job = Job(command, options)
            job.wait(seconds)
            ended = job.ended
        row = {"part": part, "seconds": round(time.monotonic() - began, 1), "ended": ended}
        append(options.out / "parts.jsonl", row)
        print(f"{part}: {ended}, {row['seconds']:.0f} s", flush=True)
        bad += [] if ended == "done" else [part]
    return int(bool(bad))


class Job:
    """A process with all its descendants, which are killed together."""

    def __init__(self, command: list[str], options, **environment):
        env = os.environ | {"NETTRAIN_DEVICE": options.device, "PYTHONUNBUFFERED": "1"}
        env |= {"OMP_NUM_THREADS": str(THREADS if options.device == "cuda" else 1)}
        self.ended, self.start = None, time.monotonic()
        with (options.out / "log.txt").open("a") as log:
            how = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            self.process = subprocess.Popen(command, cwd=ROOT, env=env | environment, **how)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.ended is None and (code := self.process.poll()) is not None:
            self.ended = "done" if code == 0 else f"failed ({code})"
        return self.ended is not None

    def wait(self, seconds: float) -> None:
        try:
            self.process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            self.kill()
        self.poll()

    def kill(self) -> None:
        if not self.poll():
            self.ended = f"killed after {self.seconds:.0f} s"
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


# ------------------------------------------------------------- parts in processes of their own


def tests(options) -> int:
    """Every test of the device, a line each with its outcome."""
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others' plugins may not even import here

    class Recorder:
        def pytest_collection_modifyitems(self, items):  # compiling takes long, so it comes last
            items.sort(key=lambda item: item.get_closest_marker("compiler") is not None)

        def pytest_runtest_logreport(self, report):
            if report.when == "call" or report.outcome != "passed":
                row = {"test": report.nodeid.split("::", 1)[1], "outcome": report.outcome}
                row |= {"seconds": round(report.duration, 3)}
                if report.failed:
                    row["error"] = report.longreprtext[-2000:]
                append(options.out / "tests.jsonl", row)

    few = ["-k", "draws or workload or test_a_rule"] if options.tiny else []
    # without pyproject.toml: it sets up plugins that are not on such a machine
    arguments = ["-q", "-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    arguments += ["tests/test_on_device.py", *few]
    return int(pytest.main(arguments, plugins=[Recorder()]))


def step(options) -> int:
    from benchmarks import optimizer_step

    if options.tiny:
        optimizer_step.MODELS = [[6, 5, 3]]
    return measured(options, "step", optimizer_step.run)


def sweep(options) -> int:
    from functools import partial

    from benchmarks import sweep_throughput
    from nettrain.models import mlp

    if options.tiny:
        sweep_throughput.MODELS = {"MLP 6-5-10": (partial(mlp, [6, 5, 10]), (6,), 8, 3)}
        sweep_throughput.RUNS, sweep_throughput.COMPILED = (1, 3), (3,)
        sweep_throughput.EXAMPLES = 32
        sweep_throughput.plain = lambda *args: 1.0  # the small model is known in this process only
        sweep_throughput.ProcessPoolExecutor = Here
    return measured(options, "sweep", sweep_throughput.run)


class Here:
    """An executor that does not start processes."""

    def __init__(self, *args, **kwargs):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass


def measured(options, part: str, run: Callable) -> int:
    import torch

    from benchmarks import machine

    torch.set_num_threads(1)
    if options.tiny:
        machine.seconds.__kwdefaults__["at_least"] = 0
    said = []  # a step that could not be compiled or captured says so in a warning
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_: said.append(str(message))
    for row in run(torch.device(options.device)):
        append(options.out / f"{part}.jsonl", row | {"warnings": said[:]} if said else row)
        said.clear()
    return 0


# ------------------------------------------------------------------------------- lectures


def lectures(part: str, options, seconds: float) -> str:
    """Every lecture's code cells, several lectures at a time; how it ended.

    chapters  each lecture once, as on Colab's GPU
    bases     base after base, each lecture with other seeds, as long as the time allows
    """
    end, running, bad = time.monotonic() + seconds, [], 0
    queue = jobs(part, options)
    codes = {name: code_of(name) for name in names_of(options)}
    together = max(1, min(TOGETHER, (os.cpu_count() or 1) // THREADS))
    with tempfile.TemporaryDirectory() as folder:
        while True:
            while len(running) < together and time.monotonic() < end and (job := next(queue, None)):
                name, base = job
                report = Path(folder) / f"{name}.{base}.json"
                command = [sys.executable, "-m", "benchmarks.cells", f"chapters/{name}.ipynb"]
                command += [str(report)] + (["--cells", "2"] if options.tiny else [])
                running.append((name, base, report, Job(command, options, NETTRAIN_BASE=str(base))))
            if not running:
                break
            time.sleep(0.1)
            for name, base, report, job in list(running):
                if time.monotonic() > end:
                    job.kill()
                if not job.poll():
                    continue
                row = {"chapter": name, "base": base, "ended": job.ended, "code": codes[name]}
                row["date"] = date.today().isoformat()
                row |= read_json(report)
                row["wall_s"] = round(job.seconds, 1)
                append(options.out / f"{part}.jsonl", row)
                running.remove((name, base, report, job))
                bad += job.ended != "done" and not (part == "bases" and "killed" in job.ended)
    left = len(list(queue)) if part == "chapters" else 0
    words = [f"{bad} lectures did not end well"] * bool(bad) + [f"{left} not started"] * bool(left)
    return ", ".join(words) or "done"


def jobs(part: str, options) -> Iterator[tuple[str, int]]:
    """(lecture, base): base 0 is the book's own."""
    names = names_of(options)
    if part == "chapters":
        yield from ((name, 0) for name in names)
        return
    base = 1
    while not (options.tiny and base > 1):
        yield from ((name, base) for name in names)
        base += 1


def names_of(options) -> list[str]:
    """The lectures, the longest first, so that none of them is left over for the end."""
    names = [p.stem for p in (ROOT / "chapters").glob("*.ipynb") if p.stem != "verdicts"]
    names.sort(key=lambda n: (n not in LONG, -(ROOT / "chapters" / f"{n}.ipynb").stat().st_size))
    return names[:2] if options.tiny else names


# ------------------------------------------------------------------------ files and merging


def provenance(options) -> dict:
    """Machine, versions, date and the code that the numbers come from."""
    from benchmarks.machine import machine

    files = sorted([*ROOT.glob("nettrain/**/*.py"), *ROOT.glob("chapters/*.ipynb")])
    code = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:16]
    how = {"date": date.today().isoformat(), "device": options.device, "tiny": options.tiny}
    return how | {"minutes": options.minutes, "code": code, "machine": machine()}


def append(file: Path, row: dict) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")  # one write: a kill leaves whole lines before it


def lines(file: Path) -> list[dict]:
    """The rows of a file; a last line that a kill has torn is left out."""
    rows = []
    for line in file.read_text("utf-8").splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def merge(folders: list[Path], file: Path = ROOT / "benchmarks" / "results" / "cuda.json") -> int:
    """Bring the results of runs on a GPU into the file that the book's pages show.

    A later folder replaces what an earlier one has of the same part.
    """
    found = read_json(file)
    for folder in folders:
        if not (folder / "machine.json").exists():
            raise SystemExit(f"{folder} holds no results: it has no machine.json")
        how = read_json(folder / "machine.json")
        if how["device"] != "cuda" or how["tiny"]:
            raise SystemExit(f"{folder} is a dry run (device {how['device']}), not a measurement")
        seconds = {row["part"]: row["seconds"] for row in lines(folder / "parts.jsonl")}
        names = {"step": "optimizer_step", "sweep": "sweep_throughput"}
        for part in SHARES:
            rows = [summary(row) for row in lines(folder / f"{part}.jsonl")]
            failed = [row for row in rows if part in names and "error" in row]
            rows = [row for row in rows if row not in failed]
            if rows or failed:
                entry = {"date": how["date"], "code": how["code"], "machine": how["machine"]}
                entry |= {"seconds": seconds.get(part), "rows": rows}
                entry |= {"failed": failed} if failed else {}
                found[names.get(part, part)] = entry
    write_json(file, found)
    print(f"{file}:", ", ".join(f"{name} ({len(e['rows'])} rows)" for name, e in found.items()))
    return 0


def summary(row: dict) -> dict:
    """A row without traces, which are for the one who mends."""
    row = {k: v for k, v in row.items() if k not in ("notebook", "seconds" * ("wall_s" in row))}
    if isinstance(row.get("error"), dict):
        row["error"] = f"cell {row['error']['cell']}: {row['error']['type']}"
    elif isinstance(row.get("error"), str):
        row["error"] = row["error"].strip().split("\n")[-1]
    return row


if __name__ == "__main__":
    sys.exit(main())
