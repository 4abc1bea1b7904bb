"""Where the time of a sweep's steps goes: products, passes over elements, copies, all the rest."""

import time
from collections import Counter
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import sweep_throughput as throughput
from benchmarks.machine import line
from nettrain.lab.sweep import Sweep
from nettrain.optimizers import adam

RUNS = 64
STEPS = 16
KINDS = {  # parts of the names of torch's operations; the rest of torch are passes over elements
    "matrix products": ("mm", "conv", "linear", "matmul", "einsum"),
    "copies": ("copy", "clone", "contiguous", "cat", "stack", "index", "gather", "select", "slice"),
}


def kind(operation: str) -> str:
    """The column in which an operation of torch is counted."""
    found = (name for name, parts in KINDS.items() if any(part in operation for part in parts))
    return next(found, "passes over elements")


def run(device: torch.device) -> Iterator[dict]:
    """Shares of the steps' seconds, for each model; what torch does not see is Python and numba.

    Watching makes a step slower, mostly its Python, so that the last share is an upper bound.
    """
    for name, (model, _, batch, _) in throughput.MODELS.items():
        how = {"batch": batch, "loss": throughput.loss_of(name)}
        work = Sweep(model, adam, throughput.noise_for(name, device), **how)
        runs = work.start(range(RUNS), lr=1e-3)
        work.advance(runs, STEPS)  # recorded, and the loops compiled
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            begin, spent = time.perf_counter(), Counter()  # the profiler's own start does not count
            work.advance(runs, STEPS)
            whole = time.perf_counter() - begin
        for event in seen.key_averages():
            spent[kind(event.key)] += event.self_cpu_time_total / 1e6
        row = {"model": name, "batch": batch, "runs": RUNS}
        row |= {column: spent[column] / whole for column in (*KINDS, "passes over elements")}
        row["Python and fused loops"] = 1 - spent.total() / whole
        print(line(row), flush=True)
        yield row
