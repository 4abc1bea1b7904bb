"""One run: seeded weights, seeded batches, one plain loop."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from nettrain import draws
from nettrain.checks import check_range
from nettrain.data import Data, Split
from nettrain.losses import accuracy, check_labels, cross_entropy, of_classes
from nettrain.normalization import BatchNorm, full_statistics

ORDER = -1  # third number of the key that orders the data; layers count from 0


def progress(total: int, name: str, show: bool = True) -> tqdm:
    """A tqdm bar, also in notebooks; silent while the book is built (NETTRAIN_BUILD set)."""
    hide = not show or "NETTRAIN_BUILD" in os.environ
    return tqdm(total=total, desc=name, disable=hide, leave=False)


def build(model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call model() with torch's generator at `seed`; random layers get their key (seed, 0, layer).

    The weights are drawn on the CPU, so that a seed means the same weights everywhere; the global
    generators are left as they were. A random layer is a `draws.Keyed`. Raises ValueError for a
    seed outside [0, 2⁶³).
    """
    seed = draws.check_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed reseeds the GPU too
        net = model()
    for layer, module in enumerate(m for m in net.modules() if isinstance(m, draws.Keyed)):
        module.set_key(seed, layer)
    return net


def order(seed: Tensor, epoch: int, n: int) -> Tensor:
    """The order in which a run of this seed sees n examples in this epoch.  [...] -> [..., n]"""
    key = torch.stack([seed, torch.full_like(seed, epoch), torch.full_like(seed, ORDER)], -1)
    return draws.permutation(key, n)


def steps_per_epoch(n: int, batch: int) -> int:
    """⌊N / K⌋: the last, smaller batch of an epoch is left out, so that all steps are alike.

    Raises ValueError unless 1 ≤ K ≤ N.
    """
    check_range("batch", batch, f"[1, {n}]", "the number of training examples")
    return n // batch


def batches(n: int, batch: int, seed: int, device=None) -> Iterator[Tensor]:
    """Index tensors [K] without end, a new order every epoch; the same for a seed everywhere."""
    per_epoch, epoch = steps_per_epoch(n, batch), 0
    seed = torch.tensor(draws.check_seed(seed), device=device)
    while True:
        rows = order(seed, epoch, n)
        yield from rows[: per_epoch * batch].view(per_epoch, batch)
        epoch += 1


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
    gradient: Callable | None = None,
    show: bool = True,
) -> pd.DataFrame:
    """Train a network; one row of the result every `every` steps (default: every epoch).

    schedule  lr -> schedule, as `lambda lr: schedules.cosine(lr, steps)`
    clip      gradient [P] -> gradient [P], as `partial(clipping.by_norm, threshold=1)`
    gradient  as of `backward`

    Columns: step, epoch, train_loss (mean over the mini-batches since the last row), valid_loss,
    valid_accuracy. The last row is always that of the end. The network is moved to the data's
    device and trained in place. It is measured where the optimizer's rule has it evaluated
    (`evaluated`). Raises ValueError for steps or every below 1 and for labels that
    do not fit, before the first step.
    """
    check_count("steps", steps)
    check_count("every", every)
    seed = draws.check_seed(seed)
    net.to(data.train.x.device).train()
    check_data(net, data, loss)
    per_epoch = steps_per_epoch(len(data.train), batch)
    every = every or per_epoch
    rates = [(g, schedule(g["lr"])) for g in optimizer.param_groups] if schedule else []
    rows, running, counted = [], 0.0, 0
    stream = batches(len(data.train), batch, seed, data.train.x.device)
    with progress(steps, "training", show) as bar:
        for done, i in zip(range(steps), stream, strict=False):
            for group, rate in rates:
                group["lr"] = rate(done)
            optimizer.zero_grad()
            value = backward(net, lambda i=i: loss(net(data.train.x[i]), data.train.y[i]), gradient)
            if clip:
                clip_gradients(net.parameters(), clip)
            optimizer.step()
            running, counted = running + value.item(), counted + 1
            bar.update()
            if (done + 1) % every == 0 or done + 1 == steps:
                with evaluated(net, optimizer, data.train.x):
                    valid_loss, right = evaluate(net, data.valid, loss)
                mean = running / counted
                rows.append((done + 1, (done + 1) / per_epoch, mean, valid_loss, right))
                bar.set_postfix(valid_loss=f"{valid_loss:.3g}")
                running, counted = 0.0, 0
    return pd.DataFrame(
        rows, columns=["step", "epoch", "train_loss", "valid_loss", "valid_accuracy"]
    )


def backward(net: nn.Module, forward: Callable, gradient: Callable | None = None) -> Tensor:
    """The loss of a pass forward, with its gradient in every p.grad.

        loss = backward(net, lambda: cross_entropy(net(x), y), partial(sam, rho=0.05))
        optimizer.step()

    forward   () -> loss
    gradient  what computes the gradient, of what computes it at one point (`contenders.sam`); it
              may ask at several. The loss and the buffers, such as running statistics and keys of
              masks, are those that it returns. None: loss.backward()
    """
    if gradient is None:
        value = forward()
        value.backward()
        return value
    params = [p for p in net.parameters() if p.requires_grad]
    before = nn.utils.parameters_to_vector(params).detach()
    start = {name: b.clone() for name, b in net.named_buffers()}

    def at(theta):
        _put(net, params, theta, start)
        value = forward()
        each = torch.autograd.grad(value, params)
        after = {name: b.clone() for name, b in net.named_buffers()}
        return torch.cat([g.flatten() for g in each]), (value.detach(), after)

    g, (value, after) = gradient(at)(before)
    _put(net, params, before, after)
    for p, own in zip(params, g.split([p.numel() for p in params]), strict=True):
        p.grad = own.view_as(p).clone()
    return value


@torch.no_grad()
def _put(net: nn.Module, params: list, theta: Tensor, buffers: dict[str, Tensor]) -> None:
    for p, own in zip(params, theta.split([p.numel() for p in params]), strict=True):
        p.copy_(own.view_as(p))
    for name, b in net.named_buffers():
        b.copy_(buffers[name])


@contextmanager
def evaluated(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> Iterator[None]:
    """Inside the block the network stands where the optimizer's rule has it evaluated.

    x  examples [n, ...] from which batch norm's statistics are computed there

    Only networks of a rule with `averaging.readout` change; after the block all are what they
    were.
    """
    if not getattr(optimizer, "averages", False):
        yield
        return
    layers = [m for m in net.modules() if isinstance(m, BatchNorm)]
    before = [(m, m.running_mean.clone(), m.running_var.clone()) for m in layers]
    with optimizer.evaluated():
        if layers:
            full_statistics(net, x)
        try:
            yield
        finally:
            for m, mean, var in before:
                m.running_mean.copy_(mean), m.running_var.copy_(var)


def check_count(name: str, value: int | None) -> None:
    """Raises ValueError unless the value is None or an integer of at least 1."""
    if value is not None and not (isinstance(value, int | np.integer) and value >= 1):
        raise ValueError(f"{name}={value!r} must be a positive integer")


@torch.no_grad()
def check_data(net: nn.Module, data: Data, loss: Callable) -> None:
    """Refuse labels that do not fit what the network puts out, if they are those of a class.

    Other losses than those of `losses` have labels of their own.
    """
    if not of_classes(loss):
        return
    training = net.training
    out = net.eval()(data.train.x[:1])
    net.train(training)
    for name in ("train", "valid", "test"):
        y = getattr(data, name).y
        # of sequences, each place has a label
        check_labels(y.flatten() if out.ndim > 2 else y, out.shape[-1], f"{name} labels")


@torch.no_grad()
def clip_gradients(params, clip: Callable) -> None:
    """Replace the gradients of params by clip(all of them as one vector [P])."""
    params = [p for p in params if p.grad is not None]
    flat = clip(torch.cat([p.grad.flatten() for p in params]))
    for p, g in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.grad.copy_(g.view_as(p))
