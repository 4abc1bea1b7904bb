"""The three workloads of the book: steps a second in a sweep, beside the loop that one writes."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.machine import line, seconds
from nettrain import blocks, data
from nettrain.lab.sweep import Sweep
from nettrain.lab.training import batches
from nettrain.losses import cross_entropy, token_cross_entropy
from nettrain.models import cnn, mlp, transformer
from nettrain.normalization import GroupNorm, RMSNorm
from nettrain.optimizers import adam

RUNS = (1, 64)  # 64: a tuned method, 16 seeds for each of four rates
STEPS = 20


def workloads() -> dict[str, tuple[Callable, data.Data, int, Callable]]:
    """name -> (model, data, batch, loss); the transformer after norms, too, and a normed CNN."""
    text, classes = data.austen(n=1_000), len(data.CHARACTERS)
    clothes = data.fashion(side=14)
    after = partial(transformer, classes, block=blocks.post_norm, norm=RMSNorm)
    groups = partial(GroupNorm, groups=4)
    return {
        "MLP, digits": (partial(mlp, [196, 32, 10]), data.mnist(side=14), 64, cross_entropy),
        "CNN, clothes": (partial(cnn, (8, 16)), clothes, 64, cross_entropy),
        "CNN with group norm, clothes": (partial(normed, groups), clothes, 64, cross_entropy),
        "transformer, Austen": (partial(transformer, classes), text, 8, token_cross_entropy),
        "transformer, post-norm": (after, text, 8, token_cross_entropy),
    }


def normed(norm: Callable) -> torch.nn.Module:
    """A small CNN whose layers are normed in groups of channels."""
    conv = partial(torch.nn.Conv2d, kernel_size=3, padding=1)
    layers = [conv(1, 8), norm(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    layers += [conv(8, 16), norm(16), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(16 * 9, 10))


def run(device: torch.device) -> Iterator[dict]:
    """Steps a second, summed over runs, of each workload and number of runs."""
    for name, (model, some, batch, loss) in workloads().items():
        one = STEPS / seconds(plain(model, some, batch, loss))
        for count in RUNS:
            work = Sweep(model, adam, some, batch=batch, loss=loss)
            runs = work.start(range(count), lr=1e-3)
            rate = count * STEPS / seconds(partial(work.advance, runs, STEPS))
            row = {"workload": name, "batch": batch, "runs": count, "steps per second": rate}
            row |= {"plain loop": one, "ratio": rate / one}
            print(line(row), flush=True)
            yield row


def plain(model: Callable, some: data.Data, batch: int, loss: Callable) -> Callable:
    """STEPS steps of the loop that everybody writes, with torch's default Adam."""
    net, split = model().to(some.train.x.device), some.train
    optimizer = torch.optim.Adam(net.parameters())
    stream = batches(len(split), batch, 0, split.x.device)

    def work():
        for _, i in zip(range(STEPS), stream):
            optimizer.zero_grad()
            loss(net(split.x[i]), split.y[i]).backward()
            optimizer.step()

    return work
