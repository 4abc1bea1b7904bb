"""What the search engines are compared on: functions with known minima, and an MLP to tune.

The first four functions were looked at while `nettrain.bayesian` was written. The next
three (Rosenbrock-4, Michalewicz-5, Styblinski-Tang-4) were named before any engine ran on them.
"""

import math

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from nettrain.spaces import Integer, Real


def branin(x):
    a, b = x
    bowl = (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10


_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8],
     [17, 8, 0.05, 10, 0.1, 14]]
)  # fmt: skip
_P = 1e-4 * np.array(
    [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
     [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
)  # fmt: skip


def hartmann6(x):
    return -np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-(_A * (x - _P) ** 2).sum(1))


def levy(x):
    w = 1 + (x - 1) / 4
    middle = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
    end = (w[-1] - 1) ** 2 * (1 + np.sin(2 * math.pi * w[-1]) ** 2)
    return np.sin(math.pi * w[0]) ** 2 + middle + end


def ackley(x):
    hole = -20 * math.exp(-0.2 * math.sqrt((x**2).mean()))
    return hole - math.exp(np.cos(2 * math.pi * x).mean()) + 20 + math.e


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def michalewicz(x):
    i = np.arange(1, len(x) + 1)
    return -(np.sin(x) * np.sin(i * x**2 / math.pi) ** 20).sum()


def styblinski_tang(x):
    return (x**4 - 16 * x**2 + 5 * x).sum() / 2


def _box(low, high, d):
    return {f"x{i}": Real(low, high) for i in range(d)}


FUNCTIONS = {  # name: (function of x [d], space, minimum)
    "Branin": (branin, {"x0": Real(-5, 10), "x1": Real(0, 15)}, 0.39788735772973816),
    "Hartmann-6": (hartmann6, _box(0, 1, 6), -3.322368011391339),
    "Levy-5": (levy, _box(-10, 10, 5), 0.0),
    "Ackley-5": (ackley, _box(-5, 10, 5), 0.0),
    "Rosenbrock-4": (rosenbrock, _box(-5, 10, 4), 0.0),
    "Michalewicz-5": (michalewicz, _box(0, math.pi, 5), -4.687658179),
    "Styblinski-Tang-4": (styblinski_tang, _box(-5, 5, 4), -4 * 39.16616570377142),
}

DIGITS = {
    "lr": Real(1e-4, 1.0, log=True),
    "momentum": Real(0.0, 0.99),
    "weight_decay": Real(1e-6, 1e-1, log=True),
    "log2_width": Integer(3, 8),
    "dropout": Real(0.0, 0.8),
}
_data = load_digits()
_order = torch.randperm(len(_data.data), generator=torch.Generator().manual_seed(0))
_x = torch.tensor(_data.data / 16.0, dtype=torch.float32)[_order]
_y = torch.tensor(_data.target)[_order]
VALID, TEST = slice(800, 1300), slice(1300, None)


def digits(config, seed, epochs=12, batch=64, on=VALID):
    """Loss of a one-hidden-layer MLP after so many epochs of SGD on 800 digits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        width, cap = 2 ** int(config["log2_width"]), math.log(10.0)
        net = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Dropout(config["dropout"]), nn.Linear(width, 10)
        )
        how = {name: config[name] for name in ("lr", "momentum", "weight_decay")}
        optimizer = torch.optim.SGD(net.parameters(), **how, foreach=True)
        for _ in range(epochs):
            order = torch.randperm(800)
            for i in order[: 800 // batch * batch].split(batch):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(_x[i]), _y[i]).backward()
                optimizer.step()
        net.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(net(_x[on]), _y[on]).item()
        return min(loss, cap) if math.isfinite(loss) else cap
