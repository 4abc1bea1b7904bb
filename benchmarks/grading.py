"""A class of 200 submissions, graded two at a time, killed half-way and resumed.

python -m benchmarks.grading [N]      writes benchmarks/results/grading.json

Solutions, blanks, wrong answers, and one attack in ten; the limits are the grader's own. One
submission in twenty imports torch, which costs more than everything else together.
"""

import csv
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from benchmarks.__main__ import RESULTS
from benchmarks.machine import machine
from exercises import blank, grader
from exercises.grading.files import notebook_name
from exercises.laws import IDS, load

JOBS = 2
ATTACKS = [
    "import os; os._exit(0)",
    "while True: pass",
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "x = []\nwhile True: x.append(bytearray(10_000_000))",
    "while True: print('x' * 1_000_000)",
    "def weights(*a):\n    while True: pass",
    "import sys, types\nsys.modules['exercises'] = types.ModuleType('exercises')",
    "import numpy as np\nnp.allclose = lambda *a, **k: True",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "weights = velocity = lambda *a: [[]] * 10**6",
]


def submission(number: int) -> tuple[dict, int | None]:
    """(notebook, points that it must get or None for at most what its honest part earns)."""
    id = IDS[number % len(IDS)]
    notebook = lambda name: json.loads((blank.folder(id) / name).read_text("utf-8"))
    cell = lambda code: {"cell_type": "code", "source": code, "metadata": {}, "outputs": []}
    if number % 10 == 0:
        made = notebook(notebook_name(id))
        made["cells"].append(cell(ATTACKS[number // 10 % len(ATTACKS)]))
        return made, 0
    if number % 10 == 1:
        return notebook(notebook_name(id)), 0
    made = notebook("solution.ipynb")
    if number % 20 == 2:
        made["cells"].insert(0, cell("import torch"))
    if number % 10 < 6:
        return made, load(id).points
    wrong = sorted((blank.folder(id) / "wrong").glob("*.py"))
    made["cells"].append(cell(wrong[number % len(wrong)].read_text("utf-8")))
    return made, None


def run(n: int) -> dict:
    """Seconds of both halves, marks compared with what they must be."""
    with tempfile.TemporaryDirectory() as folder:
        folder, wanted, files = Path(folder), {}, []
        for number in range(n):
            notebook, points = submission(number)
            files.append(folder / f"{number:03}.ipynb")
            files[-1].write_text(json.dumps(notebook), "utf-8")
            wanted[str(files[-1])] = points, load(IDS[number % len(IDS)]).points
        command = [sys.executable, "-m", "exercises", "grade", *map(str, files)]
        command += ["--csv", str(folder / "marks.csv"), "--jobs", str(JOBS)]
        journal, started = folder / "marks.csv.journal", time.time()
        first = subprocess.Popen(command)
        while not journal.exists() or journal.read_bytes().count(b"\n") <= n // 2:
            time.sleep(0.2)
            assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        killed, kept = time.time() - started, journal.read_bytes().count(b"\n") - 1
        subprocess.run(command, check=True)
        seconds = time.time() - started
        with open(folder / "marks.csv", encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
    cpu, right = resource.getrusage(resource.RUSAGE_CHILDREN), 0
    for row in rows:
        points, most = wanted[row["file"]]
        got = int(row["points"])
        right += got == points if points is not None else got < most
    each = sorted(float(row["seconds"]) for row in rows)
    return {
        "submissions": len(rows),
        "jobs": JOBS,
        "seconds": round(seconds),
        "cpu_seconds": round(cpu.ru_utime + cpu.ru_stime),
        "load_average": round(os.getloadavg()[1], 1),
        "killed_after": round(killed),
        "kept_from_the_killed_run": kept,
        "marks_as_they_must_be": right,
        "median_seconds_each": each[len(each) // 2],
        "longest_seconds": each[-1],
        "prevented": grader.probe(),
    }


def main(n: int = 200) -> None:
    result = {"date": date.today().isoformat(), "machine": machine() | {"os": platform.release()}}
    result |= run(n)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "grading.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
