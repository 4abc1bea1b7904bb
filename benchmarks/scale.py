"""How time and memory grow with runs, parameters and steps."""

import os
import re
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.machine import line, seconds
from benchmarks.sweep_throughput import noise
from nettrain.lab.sweep import Sweep, sweep
from nettrain.models import mlp
from nettrain.optimizers import adam

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CASES = [  # what grows, width of the two hidden layers, runs, steps
    *(("runs", 32, runs, 20) for runs in (16, 64, 256, 1024, 4096)),
    *(("parameters", width, 64, 20) for width in (16, 32, 64, 128, 256)),
    *(("steps", 32, 64, steps) for steps in (25, 50, 100, 200, 400)),
]
SHARED = "processes", 32, 1024, 192  # trained in this process, then by one process per core


def net(width: int):
    return mlp([64, width, width, 10])


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
    for case in CASES:
        _, width, count, steps = case
        work = Sweep(partial(net, width), adam, data, batch=32)
        runs = work.start(range(count), lr=1e-3)
        memory = most_memory(partial(work.advance, runs, 2), device)
        took = seconds(partial(work.advance, runs, steps))
        rows.append(row(case, took, memory))
    return rows + (shared(data) if device.type == "cpu" else [])


def shared(data) -> list[dict]:
    """The same table from this process and from a pool; evaluation and the data's way included."""
    _, width, count, steps = SHARED
    train = partial(
        sweep, partial(net, width), adam, data,
        seeds=range(count), lr=1e-3, batch=32, steps=steps, every=steps, show=False,
    )  # fmt: skip
    alone, cores = seconds(train), os.cpu_count()
    one_thread = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(cores, get_context("spawn"), **one_thread) as pool:
        train(executor=pool)  # the processes start and import
        together = seconds(partial(train, executor=pool))
    return [row(SHARED, alone), row(SHARED, together, processes=cores)]


def row(case: tuple, took: float, memory: float | str = "", *, processes: int = 1) -> dict:
    grows, width, runs, steps = case
    found = {"grows": grows, "width": width, "runs": runs, "steps": steps, "processes": processes}
    found["parameters"] = sum(p.numel() for p in net(width).parameters())
    found |= {"seconds": took, "megabytes": memory}
    found["microseconds per run-step"] = 1e6 * took / runs / steps
    print(line(found))
    return found
