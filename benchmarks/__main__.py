"""Run benchmarks and write one JSON file per device, with machine, versions and date.

python -m benchmarks [NAME ...]

Without a name optimizer_step, sweep_throughput, scale and imports; "book" needs a book that was
built at one go (`make clean book`). The search engines have an environment and hours of their own:
see benchmarks/search.py.
"""

import json
import sys
import time
from datetime import date
from pathlib import Path

import torch

from benchmarks import book, imports, optimizer_step, scale, sweep_throughput
from benchmarks.machine import machine

BENCHMARKS = {
    "optimizer_step": optimizer_step.run,
    "sweep_throughput": sweep_throughput.run,
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
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in names or [n for n in BENCHMARKS if n != "book"]:
        print(f"\n{name}", flush=True)
        start = time.perf_counter()
        rows = list(BENCHMARKS[name](torch.device(device)))
        if failed := [row for row in rows if "error" in row]:
            raise SystemExit(f"{name} failed, nothing of it is kept: {failed}")
        how = {"date": date.today().isoformat(), "machine": machine()}
        results[name] = how | {"seconds": round(time.perf_counter() - start), "rows": rows}
        RESULTS.mkdir(exist_ok=True)
        part = file.with_suffix(".part")  # all or nothing
        part.write_text(json.dumps(results, indent=1) + "\n")
        part.replace(file)


if __name__ == "__main__":
    main(sys.argv[1:])
