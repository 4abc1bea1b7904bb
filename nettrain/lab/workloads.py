"""The three problems on which general claims are tried: digits, clothes, a text.

A method that is tuned over nine rates with four seeds and then run with 16 takes about half a
minute of two cores on each. On a GPU the same functions give larger networks and more data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from nettrain import data, losses
from nettrain.models import cnn, mlp, transformer


@dataclass(frozen=True)
class Workload:
    """A model, what it is trained on, and for how long."""

    name: str
    model: Callable[[], nn.Module]
    data: data.Data
    batch: int
    loss: Callable
    steps: int

    def how(self, times: int = 1) -> dict:
        """Arguments of `sweep`, `tune` and `contest`, with `times` the usual number of steps."""
        own = {"model": self.model, "data": self.data, "batch": self.batch, "loss": self.loss}
        return own | {"steps": times * self.steps}


def digits() -> Workload:
    """A perceptron 196-32-10 on MNIST's digits, 14x14, 4 epochs.

    On a GPU 784-256-256-10, 28x28.
    """
    large = data.device().type == "cuda"
    sizes, side = ([784, 256, 256, 10], 28) if large else ([196, 32, 10], 14)
    return Workload("digits", partial(mlp, sizes), data.mnist(side=side), 64, ENTROPY, 436)


def clothes() -> Workload:
    """A convolutional network on Fashion-MNIST, 14x14, 8 and 16 channels, 3 epochs.

    On a GPU 28x28, 32 and 64 channels.
    """
    large = data.device().type == "cuda"
    channels, side = ((32, 64), 28) if large else ((8, 16), 14)
    model = partial(cnn, channels, side=side)
    return Workload("clothes", model, data.fashion(side=side), 64, ENTROPY, 327)


def text() -> Workload:
    """A transformer of two layers that continues Jane Austen's novels, character by character.

    Width 32 and windows of 32 characters, 8 at a time; on a GPU 128 and 128, 32 at a time.
    """
    large = data.device().type == "cuda"
    width, context, batch, n = (128, 128, 32, 12_000) if large else (32, 32, 8, 4_000)
    heads = 4 if large else 2
    classes = len(data.CHARACTERS)
    model = partial(transformer, classes, width=width, context=context, heads=heads)
    windows = data.austen(context=context, n=n)
    return Workload("text", model, windows, batch, losses.token_cross_entropy, 600)


ENTROPY = losses.cross_entropy
WORKLOADS = {"digits": digits, "clothes": clothes, "text": text}
