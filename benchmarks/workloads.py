"""The three workloads of the book: steps a second in a sweep, beside the loop that one writes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from benchmarks.machine import line, seconds
from nettrain import blocks, data
from nettrain.lab.sweep import Sweep
from nettrain.lab.training import batches
from nettrain.lab.workloads import WORKLOADS, Workload
from nettrain.models import transformer
from nettrain.normalization import GroupNorm, RMSNorm
from nettrain.optimizers import adam

RUNS = (1, 64)  # 64: a tuned method, 16 seeds for each of four rates
STEPS = 20


def workloads() -> list[Workload]:
    """The book's three; the transformer with norms after its blocks, too, and a normed CNN."""
    digits, clothes, text = (make() for make in WORKLOADS.values())
    classes = len(data.CHARACTERS)
    after = partial(transformer, classes, block=blocks.post_norm, norm=RMSNorm)
    groups = partial(normed, partial(GroupNorm, groups=4))
    return [
        digits,
        clothes,
        replace(clothes, name="clothes, group norm", model=groups),
        text,
        replace(text, name="text, post-norm", model=after, data=data.austen()),
    ]


def normed(norm: Callable) -> torch.nn.Module:
    """A small CNN whose layers are normed in groups of channels."""
    conv = partial(torch.nn.Conv2d, kernel_size=3, padding=1)
    layers = [conv(1, 8), norm(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    layers += [conv(8, 16), norm(16), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(16 * 9, 10))


def run(device: torch.device) -> Iterator[dict]:
    """Steps a second, summed over runs, of each workload and number of runs."""
    for some in workloads():
        one = STEPS / seconds(plain(some))
        for count in RUNS:
            work = Sweep(some.model, adam, some.data, batch=some.batch, loss=some.loss)
            runs = work.start(range(count), lr=1e-3)
            rate = count * STEPS / seconds(partial(work.advance, runs, STEPS))
            row = {"workload": some.name, "batch": some.batch, "runs": count}
            row |= {"steps per second": rate, "plain loop": one, "ratio": rate / one}
            print(line(row), flush=True)
            yield row


def plain(some: Workload) -> Callable:
    """STEPS steps of the loop that everybody writes, with torch's default Adam."""
    net, split = some.model().to(some.data.train.x.device), some.data.train
    optimizer = torch.optim.Adam(net.parameters())
    stream = batches(len(split), some.batch, 0, split.x.device)

    def work():
        for _, i in zip(range(STEPS), stream):
            optimizer.zero_grad()
            some.loss(net(split.x[i]), split.y[i]).backward()
            optimizer.step()

    return work
