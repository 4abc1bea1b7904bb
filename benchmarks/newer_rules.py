"""A step of each newer rule, in milliseconds, beside Adam and torch's Muon on the same tensor."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.machine import line, seconds
from nettrain import averaging, contenders, groups, matrix_rules
from nettrain.optimizers import Rule, adam, adamw, sgd, state_names

SHAPES = ((64, 64), (256, 256), (64, 576))  # the last one a convolution's [64, 64, 3, 3]
BASE = {"weight": (16, 16)}  # of muP


def rules(shape: tuple[int, int]) -> dict[str, Rule]:
    """Rules for a matrix, or for it as a vector; averages around Adam."""
    shapes = {"weight": shape}
    both = lambda *of: groups.mup_adam(BASE)(*of) | groups.weights_only(*of)
    factors = groups.multipliers(shapes, both)
    slower = groups.multipliers(shapes, groups.mup_sgd(BASE))
    return {
        "adam": adam,
        "lion": contenders.lion,
        "prodigy": contenders.prodigy,
        "schedule-free SGD": averaging.schedule_free_sgd,
        "schedule-free AdamW": averaging.schedule_free_adamw,
        "adam, EMA": averaging.ema(adam, 0.99),
        "adam, LAWA of 6": averaging.lawa(adam, 10, 6),
        "adam, SWA": averaging.swa(adam, 10, 100),
        "adamw by muP": groups.grouped(adamw, factors),
        "sgd by muP": groups.grouped(sgd, slower),
        "muon": matrix_rules.muon,
        "shampoo": matrix_rules.shampoo,
        "soap": matrix_rules.soap,
    }


def run(device: torch.device) -> Iterator[dict]:
    """Milliseconds of a step on tensors of each shape; SAM as two gradients of a linear model."""
    for shape in SHAPES:
        row = {"shape": f"{shape[0]}x{shape[1]}", "parameters": shape[0] * shape[1]}
        for name, rule in rules(shape).items():
            row[f"{name} ms"] = 1e3 * seconds(one_step(rule, shape, device))
        row["torch's Muon ms"] = 1e3 * seconds(torchs_muon(shape, device))
        row["muon / torch's"] = row["muon ms"] / row["torch's Muon ms"]
        row["SAM / one gradient"] = sam(shape, device)
        print(line(row), flush=True)
        yield row


def one_step(rule: Rule, shape: tuple[int, int], device: torch.device):
    tensorwise = getattr(rule, "tensorwise", False)
    g = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(shape if tensorwise else shape[0] * shape[1], generator=g).to(device)
    theta, gradient = draw(), draw()
    if tensorwise:
        state = rule.start(theta)
    else:
        initial = groups.multipliers({"weight": shape}, groups.mup_initial(BASE))["theta"]
        theta = theta * initial.to(theta)
        state = [torch.zeros_like(theta) for _ in state_names(rule)]
    t = torch.tensor(1.0, dtype=torch.float64, device=device)
    _, *state = rule(theta, gradient, *state, t=t)
    return partial(rule, theta, gradient, *state, t=t + 1)


def torchs_muon(shape: tuple[int, int], device: torch.device):
    p = torch.nn.Parameter(torch.randn(shape, device=device))
    p.grad = torch.randn_like(p)
    return torch.optim.Muon([p], lr=1e-6).step


def sam(shape: tuple[int, int], device: torch.device) -> float:
    """How many times as long as one gradient SAM's takes: two gradients, and a norm."""
    x = torch.randn(256, shape[1], generator=torch.Generator().manual_seed(0)).to(device)
    loss = lambda theta: (x @ theta.view(shape).T).square().mean()
    gradient = lambda theta: (torch.func.grad(loss)(theta), None)
    theta = torch.randn(shape[0] * shape[1], device=device)
    return seconds(lambda: contenders.sam(gradient, 0.05)(theta)) / seconds(lambda: gradient(theta))
