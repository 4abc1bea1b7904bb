"""Run every benchmark and write one JSON file per device, with machine, versions and date.

python -m benchmarks [NAME ...]      default: all of optimizer_step, sweep_throughput

The search engines have an environment and hours of their own: see benchmarks/search.py.
"""

import json
import platform
import sys
from datetime import date
from pathlib import Path

import torch

from benchmarks import optimizer_step, sweep_throughput

BENCHMARKS = {"optimizer_step": optimizer_step.run, "sweep_throughput": sweep_throughput.run}
RESULTS = Path(__file__).parent / "results"


def machine() -> dict:
    """What the numbers depend on. Threads are torch's; one thread unless stated."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().split("\n") if line.startswith("model name")]
        name = lines[0].split(":")[1].strip() if lines else name
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"cpu": name, "gpu": cuda, "threads": torch.get_num_threads(), **versions}


def main(names: list[str]) -> None:
    if unknown := set(names) - set(BENCHMARKS):
        raise SystemExit(
            f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}"
        )
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    file = RESULTS / f"{device}.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for name in names or BENCHMARKS:
        print(f"\n{name}", flush=True)
        rows = BENCHMARKS[name](torch.device(device))
        results[name] = {"date": date.today().isoformat(), "machine": machine(), "rows": rows}
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
