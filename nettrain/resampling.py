"""Examples that each run draws for itself, so that another seed means another training set, too."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from nettrain.checks import check_range
from nettrain.data import Data, Split


def numbered(source: Data, size: int) -> Data:
    """The data with the numbers 0, 1, ..., size − 1 as training examples [size, 1].

    Number k stands for an image of class k mod K, so every class comes equally often; the `Own` of
    each run decides which one it is. Validation and test examples stay. Raises ValueError unless K
    divides size.
    """
    classes = _classes(source.train)
    if size < classes or size % classes:
        raise ValueError(f"size={size} is not a multiple of {classes}, the number of classes")
    k = torch.arange(size, device=source.train.y.device)
    return replace(source, train=Split(k[:, None].to(source.train.x.dtype), k % classes))


class Own(nn.Module):
    """The first layer of a network whose training examples come from `numbered`.

        Sequential(Own(digits.train, 100), net)

    At its start it draws `size` examples of the split, without replacement and the same number of
    each class, by torch's generator: a run's seed decides. A number [n, 1] becomes the example that
    was drawn for it; other inputs pass unchanged. Raises ValueError for more than there are.
    """

    def __init__(self, split: Split, size: int):
        super().__init__()
        classes = _classes(split)
        counts = torch.bincount(split.y, minlength=classes)
        most = classes * int(counts.min())
        check_range("size", size, f"[{classes}, {most}]", "the examples of the rarest class")
        self.x = split.x  # an attribute, not a buffer: all runs share it
        chance = torch.rand(len(split)).to(split.y.device)
        order = (split.y + chance.double()).argsort()  # class by class, inside it at random
        k = torch.arange(size, device=order.device)
        first = counts.cumsum(0) - counts
        self.register_buffer("rows", order[first[k % classes] + k // classes])

    def forward(self, x: Tensor) -> Tensor:
        return self.x[self.rows[x[:, 0].long()]].to(x.dtype) if x.shape[1:] == (1,) else x

    def extra_repr(self) -> str:
        return f"{len(self.rows)} of {len(self.x)} examples"


def _classes(split: Split) -> int:
    return int(split.y.max()) + 1
