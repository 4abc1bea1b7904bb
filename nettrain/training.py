"""One run: seeded weights, seeded batches, one plain loop."""

import math
import os
import sys
from collections.abc import Callable, Iterator

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from nettrain import draws
from nettrain.data import Data, Split

ORDER = -1  # third number of the key that orders the data; layers count from 0


def progress(total: int, name: str, show: bool = True) -> tqdm:
    """A tqdm bar, also in notebooks; silent while the book is built (NETTRAIN_BUILD set)."""
    hide = not show or "NETTRAIN_BUILD" in os.environ
    return tqdm(total=total, desc=name, disable=hide, leave=False)


def build(model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call model() with torch's generator at `seed`; random layers get their key (seed, 0, layer).

    The weights are drawn on the CPU, so that a seed means the same weights everywhere; the global
    generators are left as they were. Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed reseeds the GPU too
        net = model()
    for layer, key in enumerate(
        b for name, b in net.named_buffers() if name.split(".")[-1] == "key"
    ):
        key[0], key[2] = seed, layer
    return net


def order(seed: Tensor, epoch: int, n: int) -> Tensor:
    """The order in which a run of this seed sees n examples in this epoch.  [...] -> [..., n]"""
    key = torch.stack([seed, torch.full_like(seed, epoch), torch.full_like(seed, ORDER)], -1)
    return draws.permutation(key, n)


def steps_per_epoch(n: int, batch: int) -> int:
    """⌊N / K⌋: the last, smaller batch of an epoch is left out, so that all steps are alike.

    Raises ValueError unless 1 ≤ K ≤ N.
    """
    if not 1 <= batch <= n:
        raise ValueError(f"batch={batch} is outside [1, {n}], the number of training examples")
    return n // batch


def batches(n: int, batch: int, seed: int, device=None) -> Iterator[Tensor]:
    """Index tensors [K] without end, a new order every epoch; the same for a seed everywhere."""
    per_epoch, epoch = steps_per_epoch(n, batch), 0
    while True:
        rows = order(torch.tensor(seed, device=device), epoch, n)
        yield from rows[: per_epoch * batch].view(per_epoch, batch)
        epoch += 1


def cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """F.cross_entropy for outputs [n, classes], labels [n], with the classes in front.

    Labels are whole numbers [n], or soft: a distribution for each example, [n, classes]. On a CPU
    log_softmax is twelve times faster with the classes in front than over a short last dimension;
    and a sweep's step is up to a fifth faster than with F.nll_loss, which looks for labels of -100.
    """
    log_p = F.log_softmax(out.T, 0)
    if y.is_floating_point():
        return -(y.T * log_p).sum(0).mean()
    return -log_p.gather(0, y[None]).mean()


def accuracy(out: Tensor, y: Tensor) -> Tensor:
    """Share of the examples whose largest output is their label: outputs [n, classes], labels [n].

    NaN where outputs have another shape or labels are not whole numbers.
    """
    classes = out.ndim == 2 and not y.is_floating_point()
    return (out.argmax(-1) == y).double().mean() if classes else out.new_full((), math.nan)


@torch.no_grad()
def evaluate(net: nn.Module, split: Split, loss: Callable = cross_entropy) -> tuple[float, float]:
    """(mean loss, accuracy) of a network on a split, in evaluation mode."""
    training = net.training
    net.eval()
    out = net(split.x)
    net.train(training)
    return loss(out, split.y).item(), accuracy(out, split.y).item()


def fit(
    net: nn.Module,
    data: Data,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    batch: int = 64,
    seed: int = 0,
    every: int | None = None,
    loss: Callable = cross_entropy,
    schedule: Callable | None = None,
    clip: Callable | None = None,
    show: bool = True,
) -> pd.DataFrame:
    """Train a network; one row of the result every `every` steps (default: every epoch).

    schedule  lr -> schedule, as `lambda lr: schedules.cosine(lr, steps)`
    clip      gradient [P] -> gradient [P], as `partial(clipping.by_norm, threshold=1)`

    Columns: step, epoch, train_loss (mean over the mini-batches since the last row), valid_loss,
    valid_accuracy. The network is moved to the data's device and trained in place.
    """
    sys.audit("nettrain.start", 1)  # the build of the book counts its runs
    net.to(data.train.x.device).train()
    per_epoch = steps_per_epoch(len(data.train), batch)
    every = every or per_epoch
    rates = [(g, schedule(g["lr"])) for g in optimizer.param_groups] if schedule else []
    rows, running = [], 0.0
    stream = batches(len(data.train), batch, seed, data.train.x.device)
    with progress(steps, "training", show) as bar:
        for done, i in zip(range(steps), stream, strict=False):
            for group, rate in rates:
                group["lr"] = rate(done)
            optimizer.zero_grad()
            value = loss(net(data.train.x[i]), data.train.y[i])
            value.backward()
            if clip:
                clip_gradients(net.parameters(), clip)
            optimizer.step()
            running += value.item() / every
            bar.update()
            if (done + 1) % every == 0:
                valid_loss, right = evaluate(net, data.valid, loss)
                rows.append((done + 1, (done + 1) / per_epoch, running, valid_loss, right))
                bar.set_postfix(valid_loss=f"{valid_loss:.3g}")
                running = 0.0
    return pd.DataFrame(
        rows, columns=["step", "epoch", "train_loss", "valid_loss", "valid_accuracy"]
    )


@torch.no_grad()
def clip_gradients(params, clip: Callable) -> None:
    """Replace the gradients of params by clip(all of them as one vector [P])."""
    params = [p for p in params if p.grad is not None]
    flat = clip(torch.cat([p.grad.flatten() for p in params]))
    for p, g in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.grad.copy_(g.view_as(p))
