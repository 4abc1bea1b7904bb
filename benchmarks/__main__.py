"""Run benchmarks and write one JSON file per device, with machine, versions and date.

python -m benchmarks [NAME ...]

Without a name all but the book, which needs one that was built at one go (`make clean book`). The
search engines have an environment and hours of their own: see benchmarks/search.py.
"""

import sys
import time
from datetime import date
from pathlib import Path

import torch

from _ext.files import read_json, write_json
from benchmarks import (
    book,
    imports,
    newer_rules,
    optimizer_step,
    profiles,
    scale,
    sweep_throughput,
    workloads,
)
from benchmarks.machine import machine

BENCHMARKS = {
    "optimizer_step": optimizer_step.run,
    "sweep_throughput": sweep_throughput.run,
    "workloads": workloads.run,
    "newer_rules": newer_rules.run,
    "profiles": profiles.run,
    "scale": scale.run,
    "imports": imports.run,
    "book": book.run,
}
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> None:
    if unknown := set(names) - set(BENCHMARKS):
        raise SystemExit(
            f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}"
        )
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    file = RESULTS / f"{device}.json"
    results = read_json(file)
    for name in names or [n for n in BENCHMARKS if n != "book"]:
        print(f"\n{name}", flush=True)
        start = time.perf_counter()
        rows = list(BENCHMARKS[name](torch.device(device)))
        if failed := [row for row in rows if "error" in row]:
            raise SystemExit(f"{name} failed, nothing of it is kept: {failed}")
        how = {"date": date.today().isoformat(), "machine": machine()}
        results[name] = how | {"seconds": round(time.perf_counter() - start), "rows": rows}
        write_json(file, results)


if __name__ == "__main__":
    main(sys.argv[1:])
