"""Seconds until a module is imported, in a fresh process each."""

import subprocess
import sys
import time

import torch

MODULES = ["torch", "nettrain", "nettrain.optimizers", "nettrain.lab.sweep", "nettrain.lab.figures"]


def run(device: torch.device, repeats: int = 5) -> list[dict]:
    """Median seconds, and the ratio to torch's."""
    rows = []
    for name in MODULES:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
            times.append(time.perf_counter() - start)
        rows.append({"import": name, "seconds": sorted(times)[repeats // 2]})
        rows[-1]["ratio to torch"] = rows[-1]["seconds"] / rows[0]["seconds"]
        print(
            f"import {name}: {rows[-1]['seconds']:.2f} s, {rows[-1]['ratio to torch']:.2f} x torch"
        )
    return rows
