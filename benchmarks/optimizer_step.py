"""One optimizer step: the rule, eager and compiled, against torch's three implementations."""

from functools import partial

import torch
from torch.utils.benchmark import Timer

from nettrain import optimizers as o
from nettrain.adapter import Optimizer
from nettrain.models import mlp

MODELS = {  # name: layer sizes; 6,634, 0.3 M, 1 M and 11 M parameters
    "196-32-10": [196, 32, 10],
    "784-256-256-10": [784, 256, 256, 10],
    "784-512-512-512-10": [784, 512, 512, 512, 10],
    "784-2048-2048-2048-10": [784, 2048, 2048, 2048, 10],
}


def run(device: torch.device) -> list[dict]:
    """Median milliseconds of a step of Adam, and the ratios to torch's single, foreach, fused."""
    rows = []
    for name, sizes in MODELS.items():
        model = mlp(sizes).to(device)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        peer = partial(torch.optim.Adam, list(model.parameters()), lr=1e-6)
        optimizers = {
            "rule": Optimizer(model.parameters(), o.adam, lr=1e-6),
            "rule compiled": Optimizer(model.parameters(), o.adam, lr=1e-6, compile=True),
            "torch single": peer(foreach=False),
            "torch foreach": peer(foreach=True),
            "torch fused": peer(fused=True),
        }
        ms = {}
        for which, optimizer in optimizers.items():
            optimizer.step()  # compiles, fills the state
            timer = Timer("step()", globals={"step": optimizer.step})
            ms[which] = 1e3 * timer.blocked_autorange(min_run_time=1.0).median
        parameters = sum(p.numel() for p in model.parameters())
        row = {"model": name, "parameters": parameters, "ms": ms}
        row["rule / single"] = ms["rule"] / ms["torch single"]
        row["compiled / foreach"] = ms["rule compiled"] / ms["torch foreach"]
        row["compiled / fused"] = ms["rule compiled"] / ms["torch fused"]
        rows.append(row)
        times = ", ".join(f"{which} {t:.3f}" for which, t in ms.items())
        print(f"{name} ({parameters:,} parameters), ms: {times}", flush=True)
        print("  " + ", ".join(f"{k} {row[k]:.2f}" for k in row if "/" in k), flush=True)
    return rows
