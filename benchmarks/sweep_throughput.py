"""Training steps per second, summed over runs: a sweep against a plain torch loop."""

import time

import torch
import torch.nn.functional as F

from nettrain.data import Data, Split
from nettrain.models import mlp
from nettrain.optimizers import adam
from nettrain.sweep import Sweep
from nettrain.training import batches

MODELS = [  # layer sizes, batch size
    ([40, 32, 32, 10], 32),
    ([64, 64, 64, 10], 64),
    ([196, 32, 10], 64),
    ([196, 128, 128, 10], 128),
]
RUNS = (1, 16, 64, 256, 1024)


def _data(features: int, device) -> Data:
    x = torch.randn(4096, features, device=device)
    split = Split(x, torch.randint(0, 10, (4096,), device=device))
    return Data("noise", split, split, split)


def _seconds(work, repeats: int = 3) -> float:
    """Median seconds of work(), after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[repeats // 2]


def _plain(sizes, data, batch, steps) -> float:
    """Steps per second of the loop that everybody writes, with torch's default Adam."""
    net = mlp(sizes).to(data.train.x.device)
    optimizer = torch.optim.Adam(net.parameters())
    stream = batches(len(data.train), batch, 0, data.train.x.device)

    def work():
        for _, i in zip(range(steps), stream):
            optimizer.zero_grad()
            F.cross_entropy(net(data.train.x[i]), data.train.y[i]).backward()
            optimizer.step()

    return steps / _seconds(work)


def run(device: torch.device) -> list[dict]:
    """Steps per second and the ratio to the plain loop, for each model and number of runs."""
    rows = []
    for sizes, batch in MODELS:
        data = _data(sizes[0], device)
        plain = _plain(sizes, data, batch, 300)
        for count in RUNS if device.type == "cpu" else (*RUNS, 4096):
            sweep = Sweep(lambda sizes=sizes: mlp(sizes), adam, data, batch=batch)
            runs = sweep.start(range(count), lr=1e-3)
            steps = max(5, 2000 // count)
            rate = count * steps / _seconds(lambda: sweep.advance(runs, steps))  # noqa: B023
            model = "-".join(map(str, sizes))
            rows.append({"model": model, "batch": batch, "runs": count, "steps per second": rate})
            rows[-1] |= {"plain": plain, "ratio": rate / plain}
            print(
                f"{model}, batch {batch}, {count} runs: {rate:,.0f} steps/s, {rate / plain:.1f} x"
            )
    return rows
