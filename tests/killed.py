"""Studies and graders that are killed; tests run this file as a program of its own.

    python tests/killed.py kills FOLDER N     kill a study's process at N random moments
    python tests/killed.py orphan FOLDER      die, leaving a worker of a process pool behind
    python tests/killed.py graders FOLDER N   kill graders of one class, N times

The imports are done once: a child is a fork of this process. A study notes every evaluation that
it begins in FOLDER/evaluated, one line (kill, number of the trial) each. Graders mark
FOLDER/*.ipynb, several at a time and each a part of them, into FOLDER/marks.csv; between the kills
a human fills the table in. What it must hold then stands in FOLDER/typed.json.
"""

import csv
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

if sys.argv[1:2] != ["graders"]:  # which need not wait for torch
    from nettrain.lab.study import Study
    from nettrain.searchers import Random
    from nettrain.spaces import Choice, Integer, Real

    SPACE = dict(x=Real(-1, 1), n=Integer(1, 9), o=Choice(dict(name="a", r=Real(0, 1)), "b"))
SEED, TRIALS = 5, 400


def objective(config, seed):
    if config["n"] == 3:
        raise RuntimeError("n is three")
    return config["x"] ** 2 + config["n"] + seed / 2**31


def child(folder: Path, kill: int) -> None:
    log = os.open(folder / "evaluated", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    study = Study(SPACE, Random(), seed=SEED, journal=folder / "journal")

    def noted(config, seed):
        number = next(t.number for t in study.trials if study.seed_of(t) == seed)
        os.write(log, f"{kill} {number}\n".encode())
        return objective(config, seed)

    study.optimize(noted, TRIALS, progress=False)


def kills(folder: Path, n: int) -> None:
    """Kill while the child starts, or some random bytes of the journal later, and a bit after that.

    Bytes and not seconds, so that a slow machine has as many trials. After each kill, keep what
    the journal was.
    """
    moments, journal = random.Random(0), folder / "journal"
    journal.touch()
    for kill in range(n):
        end = journal.stat().st_size + moments.randrange(-100, 300)
        pid = os.fork()
        if not pid:
            child(folder, kill)
            os._exit(0)
        while journal.stat().st_size < end:
            if os.waitpid(pid, os.WNOHANG)[0]:
                raise RuntimeError("the study ended by itself")
            time.sleep(0.0005)
        time.sleep(0.002 * moments.random())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        (folder / f"after-{kill}").write_bytes(journal.read_bytes())


def sleeper(config):
    Path(config["folder"], "worker").write_text(str(os.getpid()))
    time.sleep(60)


def orphan(folder: Path) -> None:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from threading import Timer

    def die():
        while not (folder / "worker").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    study = Study(dict(x=Real(0, 1), folder=str(folder)), Random(), journal=folder / "journal")
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    Timer(0, die).start()
    study.optimize(sleeper, 1, executor=pool, progress=False)


def grader_child(folder: Path, files: list[Path], number: int) -> None:
    """Grade files as the command does, with a marking that takes no time and runs no code."""
    from exercises import __main__, grader

    def marked(content, file, *, seed, exercise, limits):
        time.sleep(0.001 * random.random())
        return grader.Result(file, "1-1", digest=f"{len(content)}", texts={"w": file})

    random.seed(number)
    grader.workable, grader.probe = lambda limits: limits, lambda limits: {}
    grader.grade_content = marked
    sys.stderr = open(os.devnull, "w")
    names = [str(f) for f in files]
    __main__.main(["grade", *names, "--csv", str(folder / "marks.csv"), "--jobs", "2"])


def graders(folder: Path, n: int) -> None:
    import tqdm  # noqa: F401 - once, for all children

    import exercises.__main__  # noqa: F401

    draw, files, typed = random.Random(1), sorted(folder.glob("*.ipynb")), {}
    table, journal = folder / "marks.csv", folder / "marks.csv.journal"
    journal.touch()
    for kill in range(n):
        pids = []
        for file in draw.sample(files, 4):  # which students hand in once more
            file.write_text(file.read_text() + ".")
        for number in range(3):
            pid = os.fork()
            if not pid:
                grader_child(folder, draw.sample(files, len(files) // 2), 3 * kill + number)
                os._exit(0)
            draw.random()  # another part for the next one
            pids.append(pid)
        end = time.monotonic() + 0.12 * draw.random()
        while time.monotonic() < end:
            if table.exists():
                whole(table)
        for pid in pids[kill % 2 :]:  # sometimes the first one may finish
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        if table.exists():
            rows = whole(table)
            row = draw.choice(rows[1:])
            column = rows[0].index(draw.choice(["free text (by hand)", "points"]))
            row[column] = f"{kill}.5"
            version = row[rows[0].index("version")]
            typed.setdefault(row[0], {})[rows[0][column]] = row[column], version
            with open(table, "w", encoding="utf-8", newline="") as f:
                csv.writer(f, delimiter=",;\t"[kill % 3]).writerows(rows)
        (folder / f"after-{kill}").write_bytes(journal.read_bytes())
    grader_child(folder, files, 3 * n)
    (folder / "typed.json").write_text(json.dumps(typed))


def whole(table: Path) -> list[list[str]]:
    """The rows of the table; raises AssertionError for one that is half written."""
    text = table.read_text("utf-8")
    delimiter = next(d for d in ",;\t" if d in text.split("\n")[0])
    rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    assert len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])}, text
    return rows


if __name__ == "__main__":
    mode, folder, *rest = sys.argv[1:]
    if mode == "orphan":
        orphan(Path(folder))
    else:
        {"kills": kills, "graders": graders}[mode](Path(folder), int(rest[0]))
