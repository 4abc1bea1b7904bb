"""Runs a study in child processes that are killed at random moments; used by test_search.py.

    python tests/killed.py FOLDER KILLS

The imports are done once; each child is a fork of this process. A child notes every evaluation it
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
TRIALS = 400


def value(config, seed=0):
    return config["x"] ** 2 + config["n"] + seed / 2**31


def child(folder: Path, kill: int) -> None:
    log = os.open(folder / "evaluated", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    study = Study(SPACE, Random(), seed=5, journal=folder / "journal")

    def objective(config, seed):
        number = next(t.number for t in study.trials if study.seed_of(t) == seed)
        os.write(log, f"{kill} {number}\n".encode())
        if config["n"] == 3:
            raise RuntimeError("n is three")
        return value(config, seed)

    study.optimize(objective, TRIALS, progress=False)


def main(folder: Path, kills: int) -> None:
    moments = random.Random(0)
    for kill in range(kills):
        pid = os.fork()
        if not pid:
            child(folder, kill)
            os._exit(0)
        time.sleep(moments.expovariate(1 / 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        lines = (folder / "journal").read_bytes() if (folder / "journal").exists() else b""
        (folder / f"after-{kill}").write_bytes(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
