"""Studies whose process is killed; `test_search.py` runs this file as a program of its own.

    python tests/killed.py kills FOLDER N     kill a study's process at N random moments
    python tests/killed.py orphan FOLDER      die, leaving a worker of a process pool behind

The imports are done once: a child is a fork of this process. It notes every evaluation that it
begins in FOLDER/evaluated, one line (kill, number of the trial) each.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from nettrain.search import Random, Study
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


if __name__ == "__main__":
    mode, folder, *rest = sys.argv[1:]
    kills(Path(folder), int(rest[0])) if mode == "kills" else orphan(Path(folder))
