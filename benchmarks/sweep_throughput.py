"""Training steps a second, summed over runs: a sweep against plain torch loops."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import blocks, line, peak, seconds
from nettrain.data import Data, Split
from nettrain.lab.sweep import Sweep
from nettrain.lab.training import batches
from nettrain.losses import cross_entropy, token_cross_entropy
from nettrain.models import RNN, cnn, mlp, transformer
from nettrain.normalization import BatchNorm
from nettrain.optimizers import adam

TOKENS = 81
SMALL = [64, 64, 64, 10]
MODELS = {  # name: (model, shape of an example, batch size, most runs on a CPU)
    "MLP 40-32-32-10": (partial(mlp, [40, 32, 32, 10]), (40,), 32, 4096),
    "MLP 64-64-64-10": (partial(mlp, SMALL), (64,), 64, 1024),
    "MLP 64-64-64-10, batch norm": (partial(mlp, SMALL, norm=BatchNorm), (64,), 64, 256),
    "MLP 64-64-64-10, dropout": (partial(mlp, SMALL, keep=0.8), (64,), 64, 256),
    "MLP 196-32-10": (partial(mlp, [196, 32, 10]), (196,), 64, 1024),
    "MLP 196-128-128-10": (partial(mlp, [196, 128, 128, 10]), (196,), 128, 256),
    "CNN 8-16": (partial(cnn, (8, 16)), (1, 14, 14), 64, 64),
    "RNN 32, 20 steps": (partial(RNN, 4, 32, 10), (20, 4), 32, 256),
    "transformer 32": (partial(transformer, TOKENS), (32,), 8, 64),
}
RUNS = (1, 16, 64, 256, 1024, 4096)
COMPILED = (64, 256, 4096)  # numbers of runs at which the compiled step is measured too
JAX = Path(__file__).parent / "peers" / "jax_sweep.py"
EXAMPLES = 2048  # a measurement is one epoch, so that shuffling counts as much as in use


def noise(shape, device, tokens: bool = False) -> Data:
    g = torch.Generator().manual_seed(0)
    if tokens:
        x, y = torch.randint(TOKENS, (2, EXAMPLES, *shape), generator=g).to(device)
    else:
        x = torch.randn(EXAMPLES, *shape, generator=g).to(device)
        y = torch.randint(10, (EXAMPLES,), generator=g).to(device)
    split = Split(x, y)
    return Data("noise", split, split, split)


def noise_for(name: str, device) -> Data:
    return noise(MODELS[name][1], device, loss_of(name) is token_cross_entropy)


def loss_of(name: str) -> Callable:
    return token_cross_entropy if name.startswith("transformer") else cross_entropy


def plain(name: str, device: str, steps: int) -> float:
    """Steps a second of the loop that everybody writes, with torch's default Adam."""
    model, _, batch, _ = MODELS[name]
    torch.set_num_threads(1)
    data, net, loss = noise_for(name, device), model().to(device), plainly(loss_of(name))
    optimizer = torch.optim.Adam(net.parameters())
    stream = batches(len(data.train), batch, 0, data.train.x.device)

    def work():
        for _, i in zip(range(steps), stream):
            optimizer.zero_grad()
            loss(net(data.train.x[i]), data.train.y[i]).backward()
            optimizer.step()

    return steps / seconds(work)


def plainly(loss: Callable) -> Callable:
    """The same with torch's own cross-entropy."""
    if loss is cross_entropy:
        return F.cross_entropy
    return lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten())


def flops(name: str, device) -> int:
    """Floating-point operations of one training step of one run, as torch counts them."""
    model, _, batch, _ = MODELS[name]
    net, data = model().to(device), noise_for(name, device)
    with FlopCounterMode(display=False) as counter:
        loss_of(name)(net(data.train.x[:batch]), data.train.y[:batch]).backward()
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


def peer(name: str, count: int) -> dict | None:
    """What peers/jax_sweep.py measures of the same work; None without JAX, if it fails or hangs.

    Raises RuntimeError if its model has another number of parameters.
    """
    if not find_spec("jax"):
        return None
    command = [sys.executable, JAX, name, str(MODELS[name][2]), str(count)]
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    env["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"  # as torch: a GPU would round to TF32
    try:
        # a GPU's minutes are counted; on a CPU an epoch of the transformer takes half of one
        limit = 90 if torch.cuda.is_available() else 900
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    found = json.loads(done.stdout)
    ours = sum(p.numel() for p in MODELS[name][0]().parameters())
    if found["parameters"] != ours:
        raise RuntimeError(f"{name} has {found['parameters']} parameters in JAX and {ours} here")
    return found


def beside(row: dict, theirs: dict) -> dict:
    """Ratios to JAX: of the medians, from quartile against quartile, and of the first epoch."""
    (low, high), (least, most) = row["quartiles"], theirs["quartiles"]
    found = {"JAX": theirs["steps per second"], "first / JAX": row["first s"] / theirs["first s"]}
    found["ratio to JAX"] = row["steps per second"] / theirs["steps per second"]
    return found | {"ratio's quartiles": [low / most, high / least]}


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
            return noise_for(name, device), flops(name, device), one, two

        for name, count, compiled, graph in configurations(device):
            row = {"model": name, "batch": MODELS[name][2], "runs": count, "compiled": compiled}
            row["graph"] = graph
            try:
                row |= measure(device, row, around(name), most)
            except Exception as error:  # of one configuration; the others are measured
                row["error"] = f"{type(error).__name__}: {error}"[:500]
            here = device.type == "cpu" and count in COMPILED and "error" not in row
            if here and (theirs := jax(name, count)):
                row |= beside(row, theirs)
            print(line(row), flush=True)
            yield row
    for name, count in itertools.product(MODELS, COMPILED[:0:-1]) if device.type == "cuda" else ():
        if theirs := jax(name, count):  # last, for JAX takes long to start
            row = {"model": name, "batch": MODELS[name][2], "runs": count}
            yield row | {"JAX": theirs["steps per second"]}


def measure(device, row: dict, shared: tuple, most: float) -> dict:
    model, _, batch, _ = MODELS[row["model"]]
    data, each, one, two = shared
    how = {"compile": row["compiled"], "graph": row["graph"], "loss": loss_of(row["model"])}
    sweep, steps = Sweep(model, adam, data, batch=batch, **how), EXAMPLES // batch
    runs = sweep.start(range(row["runs"]), lr=1e-3)
    begin = time.perf_counter()
    sweep.advance(runs, steps)
    first = time.perf_counter() - begin
    rates = sorted(row["runs"] * steps / t for t in blocks(partial(sweep.advance, runs, steps)))
    low, rate, high = statistics.quantiles(rates, n=4)
    found = {"steps per second": rate, "quartiles": [low, high], "first s": first}
    found |= {"plain loop": one, "ratio": rate / one}
    found |= {"two plain loops": two, "ratio to two": rate / two}
    return found | {"share of peak": rate * each / most}
