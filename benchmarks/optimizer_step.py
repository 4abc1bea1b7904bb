"""One optimizer step: the rule, eager and compiled, against torch's three implementations."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.machine import bandwidth, line, seconds
from nettrain import optimizers as o
from nettrain.lab.adapter import Optimizer
from nettrain.models import mlp

MODELS = [  # layer sizes; 6,634, 0.3 M, 1 M and 11 M parameters
    [196, 32, 10],
    [784, 256, 256, 10],
    [784, 512, 512, 512, 10],
    [784, 2048, 2048, 2048, 10],
]
PASSES = 7  # Adam reads θ, g, m, v and writes θ, m, v: no implementation can move less


def run(device: torch.device) -> Iterator[dict]:
    """Median milliseconds of a step of Adam, and the ratios to torch's single, foreach, fused."""
    for sizes in MODELS[:: -1 if device.type == "cuda" else 1]:  # what says most comes first
        row = {"model": "-".join(map(str, sizes))}
        try:
            row |= measure(sizes, device)
        except Exception as error:  # of one model; the others are measured
            row["error"] = f"{type(error).__name__}: {error}"[:500]
        print(line(row), flush=True)
        yield row


def measure(sizes: list[int], device: torch.device) -> dict:
    model = mlp(sizes).to(device)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    peer = partial(torch.optim.Adam, list(model.parameters()), lr=1e-6)
    optimizers = {
        "rule": Optimizer(model.parameters(), o.adam, lr=1e-6),
        "compiled": Optimizer(model.parameters(), o.adam, lr=1e-6, compile=True),
        "single": peer(foreach=False),
        "foreach": peer(foreach=True),
        "fused": peer(fused=True),
    }
    ms = {which: 1e3 * seconds(optimizer.step) for which, optimizer in optimizers.items()}
    parameters = sum(p.numel() for p in model.parameters())
    limit = 1e3 * PASSES * 4 * parameters / bandwidth(device, max(parameters, 1 << 20))
    row = {"parameters": parameters}
    row |= {f"{which} ms": t for which, t in ms.items()} | {"memory limit ms": limit}
    for ours, theirs in (("rule", "single"), ("compiled", "foreach"), ("compiled", "fused")):
        row[f"{ours} / {theirs}"] = ms[ours] / ms[theirs]
    row["limit / compiled"] = limit / ms["compiled"]
    return row
