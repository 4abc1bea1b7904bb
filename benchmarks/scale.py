"""How time and memory grow with runs, parameters and steps."""

import re
from functools import partial
from pathlib import Path

import torch

from benchmarks.machine import seconds
from benchmarks.sweep_throughput import noise
from nettrain.models import mlp
from nettrain.optimizers import adam
from nettrain.sweep import Sweep

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CASES = [  # what grows, width of the two hidden layers, runs, steps
    *(("runs", 32, runs, 20) for runs in (16, 64, 256, 1024, 4096)),
    *(("parameters", width, 64, 20) for width in (16, 32, 64, 128, 256)),
    *(("steps", 32, 64, steps) for steps in (25, 50, 100, 200, 400)),
]


def most_memory(work, device: torch.device) -> float:
    """Megabytes that work() needs beyond what was in use before it; NaN where nobody counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    if not RESET.exists():
        work()
        return float("nan")
    read = lambda name: int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1]) / 1e3
    RESET.write_text("5")  # the peak counts from now on
    before = read("VmRSS")
    work()
    return read("VmHWM") - before


def run(device: torch.device) -> list[dict]:
    """Seconds and megabytes of a sweep of Adam on noise, MLP 64-w-w-10, batch 32."""
    data, rows = noise((64,), device), []
    for grows, width, count, steps in CASES:
        model = partial(mlp, [64, width, width, 10])
        sweep = Sweep(model, adam, data, batch=32)
        runs = sweep.start(range(count), lr=1e-3)
        memory = most_memory(partial(sweep.advance, runs, 2), device)
        took = seconds(partial(sweep.advance, runs, steps))
        row = {"grows": grows, "width": width, "parameters": runs.theta.shape[1], "runs": count}
        row |= {"steps": steps, "seconds": took, "megabytes": memory}
        row["microseconds per run-step"] = 1e6 * took / count / steps
        rows.append(row)
        print(
            ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    return rows
