"""Training steps a second, summed over runs: a sweep against plain torch loops."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import line, peak, seconds
from nettrain.data import Data, Split
from nettrain.lab.sweep import Sweep
from nettrain.lab.training import batches
from nettrain.models import RNN, cnn, mlp
from nettrain.optimizers import adam

MODELS = {  # name: (model, shape of an example, batch size, most runs on a CPU)
    "MLP 40-32-32-10": (partial(mlp, [40, 32, 32, 10]), (40,), 32, 4096),
    "MLP 64-64-64-10": (partial(mlp, [64, 64, 64, 10]), (64,), 64, 1024),
    "MLP 196-32-10": (partial(mlp, [196, 32, 10]), (196,), 64, 1024),
    "MLP 196-128-128-10": (partial(mlp, [196, 128, 128, 10]), (196,), 128, 256),
    "CNN 8-16": (partial(cnn, (8, 16)), (1, 14, 14), 64, 64),
    "RNN 32, 20 steps": (partial(RNN, 4, 32, 10), (20, 4), 32, 256),
}
RUNS = (1, 16, 64, 256, 1024, 4096)
COMPILED = (64, 256, 4096)  # numbers of runs at which the compiled step is measured too
JAX = Path(__file__).parent / "peers" / "jax_sweep.py"
EXAMPLES = 2048  # a measurement is one epoch, so that shuffling counts as much as in use


def noise(shape, device) -> Data:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, *shape, generator=g).to(device)
    split = Split(x, torch.randint(10, (EXAMPLES,), generator=g).to(device))
    return Data("noise", split, split, split)


def plain(name: str, device: str, steps: int) -> float:
    """Steps a second of the loop that everybody writes, with torch's default Adam."""
    model, shape, batch, _ = MODELS[name]
    torch.set_num_threads(1)
    data, net = noise(shape, device), model().to(device)
    optimizer = torch.optim.Adam(net.parameters())
    stream = batches(len(data.train), batch, 0, data.train.x.device)

    def work():
        for _, i in zip(range(steps), stream):
            optimizer.zero_grad()
            F.cross_entropy(net(data.train.x[i]), data.train.y[i]).backward()
            optimizer.step()

    return steps / seconds(work)


def flops(name: str, device) -> int:
    """Floating-point operations of one training step of one run, as torch counts them."""
    model, shape, batch, _ = MODELS[name]
    net, data = model().to(device), noise(shape, device)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(data.train.x[:batch]), data.train.y[:batch]).backward()
    return counter.get_total_flops()


def configurations(device: torch.device) -> Iterator[tuple[str, int, bool, bool]]:
    """(model, runs, compiled, graph); on a GPU what says most comes first, for time may run out."""
    if device.type == "cpu":
        for name, (*_, most) in MODELS.items():
            for count in (c for c in RUNS if c <= most):
                for compiled in (False, True) if count in COMPILED else (False,):
                    yield name, count, compiled, False
        return
    perceptrons = [name for name in MODELS if name.startswith("MLP")]
    for count in sorted(RUNS, key=lambda c: (c not in COMPILED, -c)):
        yield from ((name, count, False, True) for name in MODELS)
    yield from ((name, count, True, True) for count in COMPILED[1:] for name in perceptrons)
    yield from ((name, count, False, False) for count in COMPILED for name in MODELS)
    yield from ((name, count, True, False) for count in COMPILED[1:] for name in perceptrons)


def peer(name: str, count: int) -> float | None:
    """Steps a second of the same work in JAX; None where it is not installed, fails or hangs."""
    if not find_spec("jax") or not name.startswith("MLP"):
        return None
    command = [sys.executable, JAX, name.removeprefix("MLP "), str(MODELS[name][2]), str(count)]
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    env["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # as torch: a GPU would round to TF32
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout)["steps per second"] if done.returncode == 0 else None


def run(device: torch.device) -> Iterator[dict]:
    """Steps a second and ratios to the plain loop, for each model and number of runs."""
    torch.backends.cudnn.allow_tf32 = False  # convolutions, too, in the precision of the peak
    most, jax = peak(device), lru_cache(None)(peer)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        @lru_cache(None)
        def around(name):
            """What all rows of a model share: data, operations of a step, one loop, two loops."""
            one = plain(name, device.type, 100)
            two = sum(pool.map(plain, [name] * 2, [device.type] * 2, [100] * 2))
            return noise(MODELS[name][1], device), flops(name, device), one, two

        for name, count, compiled, graph in configurations(device):
            row = {"model": name, "batch": MODELS[name][2], "runs": count, "compiled": compiled}
            row["graph"] = graph
            try:
                row |= measure(device, row, around(name), most)
            except Exception as error:  # of one configuration; the others are measured
                row["error"] = f"{type(error).__name__}: {error}"[:500]
            here = device.type == "cpu" and count in COMPILED and "error" not in row
            if here and (theirs := jax(name, count)):
                row |= {"JAX": theirs, "ratio to JAX": row["steps per second"] / theirs}
            print(line(row), flush=True)
            yield row
    for name, count in itertools.product(MODELS, COMPILED[:0:-1]) if device.type == "cuda" else ():
        if theirs := jax(name, count):  # last, for JAX takes long to start
            yield {"model": name, "batch": MODELS[name][2], "runs": count, "JAX": theirs}


def measure(device, row: dict, shared: tuple, most: float) -> dict:
    model, _, batch, _ = MODELS[row["model"]]
    data, each, one, two = shared
    how = {"compile": row["compiled"], "graph": row["graph"]}
    sweep, steps = Sweep(model, adam, data, batch=batch, **how), EXAMPLES // batch
    runs = sweep.start(range(row["runs"]), lr=1e-3)
    rate = row["runs"] * steps / seconds(partial(sweep.advance, runs, steps))
    found = {"steps per second": rate, "plain loop": one, "ratio": rate / one}
    found |= {"two plain loops": two, "ratio to two": rate / two}
    return found | {"share of peak": rate * each / most}
