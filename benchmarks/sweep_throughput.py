"""Training steps a second, summed over runs: a sweep against plain torch loops."""

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import peak, seconds
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
RUNS = {"cpu": (1, 16, 64, 256, 1024, 4096), "cuda": (1, 16, 64, 256, 1024, 4096)}
COMPILED = (64, 256, 4096)  # numbers of runs at which the compiled step is measured too
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


def run(device: torch.device) -> list[dict]:
    """Steps a second and ratios to the plain loop, for each model and number of runs."""
    rows, most = [], peak(device)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for name, (model, shape, batch, most_runs) in MODELS.items():
            data, each = noise(shape, device), flops(name, device)
            one = plain(name, device.type, 100)
            two = sum(pool.map(plain, [name] * 2, [device.type] * 2, [100] * 2))
            steps = EXAMPLES // batch
            for count in RUNS[device.type]:
                if device.type == "cpu" and count > most_runs:
                    continue
                for compiled in (False, True) if count in COMPILED else (False,):
                    sweep = Sweep(model, adam, data, batch=batch, compile=compiled)
                    runs = sweep.start(range(count), lr=1e-3)
                    took = seconds(partial(sweep.advance, runs, steps))
                    rate = count * steps / took
                    row = {"model": name, "batch": batch, "runs": count, "compiled": compiled}
                    row |= {"steps per second": rate, "plain loop": one, "ratio": rate / one}
                    row |= {"two plain loops": two, "ratio to two": rate / two}
                    row["share of peak"] = rate * each / most
                    rows.append(row)
                    print(f"{name}, {count} runs{', compiled' * compiled}: {rate:,.0f} steps/s,")
                    print(f"  {rate / one:.1f} x one loop, {rate * each / most:.0%} of peak")
                    sys.stdout.flush()
    return rows
