"""Dropout: units, weights and layers left out at random, and the averages that this stands for."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nettrain import draws
from nettrain.checks import check_range
from nettrain.draws import Keyed

# ----------------------------------------------------------------------------------------- dropout


class Dropout(Keyed):
    """Keep each unit with probability `keep`, scaled so that the mean stays: y = m ⊙ x / keep.

    The masks m are draws of (run's seed, training passes so far, layer), see `draws.Keyed`. At
    evaluation y = x. Eq. 1.65 scales at test time instead; the expectations agree. Srivastava et
    al. 2014. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, keep: float):
        super().__init__()
        check_range("keep", keep, "(0, 1]")
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x
        mask = self.draw(x.shape) < self.keep
        return x * mask / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


class DropConnect(nn.Linear, Keyed):
    """A linear layer that keeps each weight with probability `keep`: y = (M ⊙ W) x / keep + b.

    [..., n_in] -> [..., n_out]. One M for all examples of a step, drawn as Dropout draws its mask;
    Wan et al. 2013 draw one per example, which takes n times the memory. At evaluation
    y = W x + b. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, n_in: int, n_out: int, keep: float, *, bias: bool = True):
        super().__init__(n_in, n_out, bias)
        check_range("keep", keep, "(0, 1]")
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return super().forward(x)
        mask = self.draw(self.weight.shape) < self.keep
        return F.linear(x, self.weight * mask / self.keep, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, keep={self.keep}"


class LayerDrop(Keyed):
    """Keep a residual layer f with probability `keep`: y = x + m f(x) / keep.

    m is 0 or 1 for each example, drawn as Dropout draws its mask. f must keep the shape of x. At
    evaluation y = x + f(x). Stochastic depth; Huang et al. 2016, who scale at test time and draw
    one m for a batch. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, layer: nn.Module, keep: float):
        super().__init__()
        check_range("keep", keep, "(0, 1]")
        self.layer, self.keep = layer, keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x + self.layer(x)
        mask = self.draw(x.shape[:1]) < self.keep
        return x + mask.view(-1, *[1] * (x.ndim - 1)) * self.layer(x) / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


# ---- dropout in a recurrent network: masks of inputs, states and outputs


def naive_masks(key: Tensor, keep: float, x: Tensor, n_hidden: int) -> tuple[Tensor, ...]:
    """Masks m / keep for the sequences x, each with its own draw at every time.

    x [n, T, n_in] -> masks of the inputs [n, T, n_in], of the states that go on to the next time
    [n, T, n_hidden] and of the states that go on to the output [n, T, n_hidden].
    """
    n, T, n_in = x.shape
    u = draws.uniform(key, torch.Size([n, T, n_in + 2 * n_hidden]))
    return ((u < keep).to(x.dtype) / keep).split([n_in, n_hidden, n_hidden], -1)


def nonrecurrent_masks(key: Tensor, keep: float, x: Tensor, n_hidden: int) -> tuple[Tensor, ...]:
    """As naive_masks, but nothing is dropped from one time to the next.  Zaremba et al. 2014."""
    inputs, states, outputs = naive_masks(key, keep, x, n_hidden)
    return inputs, torch.ones_like(states), outputs


def variational_masks(key: Tensor, keep: float, x: Tensor, n_hidden: int) -> tuple[Tensor, ...]:
    """As naive_masks, but one draw for a sequence: the same units are missing at every time.

    Gal & Ghahramani 2016. Kingma et al. 2015 call something else variational dropout.
    """
    masks = naive_masks(key, keep, x[:, :1], n_hidden)
    return tuple(m.expand(-1, x.shape[1], -1) for m in masks)


# ---- averages over subnetworks


def subnetworks(n: int) -> Tensor:
    """All masks of n units, [2ⁿ, n], False and True.  Raises ValueError unless 1 ≤ n ≤ 16."""
    check_range("n", n, "[1, 16]", "there are 2^n subnetworks")
    return torch.arange(2**n)[:, None] >> torch.arange(n) & 1 == 1


def exact_mean(f: Callable[[Tensor], Tensor], n: int, keep: float) -> Tensor:
    """E f(m / keep) = Σₘ keep^|m| (1 − keep)^(n − |m|) f(m / keep), over all 2ⁿ masks m.

    f takes masks [2ⁿ, n], float64, and returns [2ⁿ, ...]. Weight scaling is f(1) instead. Raises
    ValueError unless 1 ≤ n ≤ 16 and 0 < keep ≤ 1.
    """
    check_range("keep", keep, "(0, 1]")
    masks = subnetworks(n)
    p = torch.where(masks, torch.tensor(keep, dtype=torch.float64), 1 - keep).prod(1)
    values = f(masks.double() / keep)
    return torch.tensordot(p.to(values), values, 1)


@torch.no_grad()
def monte_carlo(net: nn.Module, x: Tensor, passes: int) -> Tensor:
    """Outputs of `passes` random passes, -> [passes, n, ...]; their mean is eq. 1.67.

    Layers of type `draws.Keyed` are random as in training, all others work as in evaluation. The
    masks are those of the next training passes; keys and modes are put back, so that a second call
    returns the same. Raises ValueError for a network without such a layer and for passes < 1.
    """
    layers = [m for m in net.modules() if isinstance(m, Keyed)]
    if not layers or passes < 1:
        raise ValueError(f"{len(layers)} random layers, passes={passes}: give one or more of each")
    for m in layers:
        m.ensure_seed()
    modes = [(m, m.training) for m in net.modules()]
    keys = [m.key.clone() for m in layers]
    net.eval()
    for m in layers:
        m.training = True
    try:
        return torch.stack([net(x) for _ in range(passes)])
    finally:
        for m, mode in modes:
            m.training = mode
        for m, key in zip(layers, keys, strict=True):
            m.key.copy_(key)
