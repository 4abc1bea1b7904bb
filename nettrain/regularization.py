"""Regularization: penalties, early stopping, the dropout family, label smoothing, distillation."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nettrain import draws


class Dropout(nn.Module):
    """Keep each unit with probability `keep`, scaled so that the mean stays: y = m ⊙ x / keep.

    m is drawn from the key (run's seed, training passes so far, layer), so that a run has the same
    masks alone, in a sweep, on CPU and on GPU; `training.build` sets seed and layer. At evaluation
    y = x. Eq. 1.65 scales at test time instead; the expectations agree. Srivastava et al. 2014.
    Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, keep: float):
        super().__init__()
        _check_keep(keep)
        self.keep = keep
        self.register_buffer("key", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x
        mask = draws.uniform(self.key, x.shape) < self.keep
        self.key[1] += 1
        return x * mask / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


class DropConnect(nn.Linear):
    """A linear layer that keeps each weight with probability `keep`: y = (M ⊙ W) x / keep + b.

    [..., n_in] -> [..., n_out]. One M for all examples of a step, drawn as Dropout draws its mask;
    Wan et al. 2013 draw one per example, which takes n times the memory. At evaluation
    y = W x + b. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, n_in: int, n_out: int, keep: float, *, bias: bool = True):
        super().__init__(n_in, n_out, bias)
        _check_keep(keep)
        self.keep = keep
        self.register_buffer("key", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return super().forward(x)
        mask = draws.uniform(self.key, self.weight.shape) < self.keep
        self.key[1] += 1
        return F.linear(x, self.weight * mask / self.keep, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, keep={self.keep}"


class LayerDrop(nn.Module):
    """Keep a residual layer f with probability `keep`: y = x + m f(x) / keep.

    m is 0 or 1 for each example, drawn as Dropout draws its mask. f must keep the shape of x. At
    evaluation y = x + f(x). Stochastic depth; Huang et al. 2016, who scale at test time and draw
    one m for a batch. Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, layer: nn.Module, keep: float):
        super().__init__()
        _check_keep(keep)
        self.layer, self.keep = layer, keep
        self.register_buffer("key", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x + self.layer(x)
        mask = draws.uniform(self.key, x.shape[:1]) < self.keep
        self.key[1] += 1
        return x + mask.view(-1, *[1] * (x.ndim - 1)) * self.layer(x) / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


# ---- dropout in a recurrent network: masks of inputs, states and outputs


def naive_masks(key: Tensor, keep: float, x: Tensor, n_hidden: int) -> tuple[Tensor, ...]:
    """Masks m / keep for the sequences x, each with a draw of its own at every time.

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
    if not 1 <= n <= 16:
        raise ValueError(f"n={n} is outside [1, 16]; there are 2^n subnetworks")
    return torch.arange(2**n)[:, None] >> torch.arange(n) & 1 == 1


def exact_mean(f: Callable[[Tensor], Tensor], n: int, keep: float) -> Tensor:
    """E f(m / keep) = Σₘ keep^|m| (1 − keep)^(n − |m|) f(m / keep), over all 2ⁿ masks m.

    f takes masks [2ⁿ, n], float64, and returns [2ⁿ, ...]. Weight scaling is f(1) instead. Raises
    ValueError unless 1 ≤ n ≤ 16 and 0 < keep ≤ 1.
    """
    _check_keep(keep)
    masks = subnetworks(n)
    p = torch.where(masks, torch.tensor(keep, dtype=torch.float64), 1 - keep).prod(1)
    values = f(masks.double() / keep)
    return torch.tensordot(p.to(values), values, 1)


@torch.no_grad()
def monte_carlo(net: nn.Module, x: Tensor, passes: int) -> Tensor:
    """Outputs of `passes` random passes, -> [passes, n, ...]; their mean is eq. 1.67.

    Layers with a key are random as in training, all others work as in evaluation. The masks are
    those of the next training passes; keys and modes are put back, so that a second call returns
    the same. Raises ValueError for a network without such a layer and for passes < 1.
    """
    layers = [m for m in net.modules() if "key" in dict(m.named_buffers(recurse=False))]
    if not layers or passes < 1:
        raise ValueError(f"{len(layers)} random layers, passes={passes}: give one or more of each")
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


# ---- soft labels


def smooth_others(y: Tensor, eps: float, classes: int) -> Tensor:
    """Probability 1 − ε for the label, ε / (K − 1) for each other class: [n] -> [n, K].

    The textbook's form. Raises ValueError unless 0 ≤ ε < 1.
    """
    _check_smoothing(eps, classes)
    return (1 - eps) * F.one_hot(y, classes) + eps / (classes - 1) * (1 - F.one_hot(y, classes))


def smooth_all(y: Tensor, eps: float, classes: int) -> Tensor:
    """Probability 1 − ε for the label, plus ε / K for every class: [n] -> [n, K].

    The form of Szegedy et al. 2016 and of torch. It is smooth_others with ε (K − 1) / K in place of
    ε. Raises ValueError unless 0 ≤ ε < 1.
    """
    _check_smoothing(eps, classes)
    return (1 - eps) * F.one_hot(y, classes) + eps / classes


def soft_labels(logits: Tensor, temperature: float) -> Tensor:
    """The mean over M teachers of softmax(z / T): logits [M, n, K] -> [n, K].

    Hinton et al. 2015. Raises ValueError unless T > 0.
    """
    _check_temperature(temperature)
    return (logits / temperature).softmax(-1).mean(0)


class Temperature(nn.Module):
    """z / T in training, z at evaluation: the last layer of a student.

    With soft labels of the same T the loss is the cross-entropy of equally soft distributions.
    Raises ValueError unless T > 0.
    """

    def __init__(self, temperature: float):
        super().__init__()
        _check_temperature(temperature)
        self.temperature = temperature

    def forward(self, z: Tensor) -> Tensor:
        return z / self.temperature if self.training else z

    def extra_repr(self) -> str:
        return f"{self.temperature}"


def _check_keep(keep: float) -> None:
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep} is outside (0, 1]")


def _check_smoothing(eps: float, classes: int) -> None:
    if not 0 <= eps < 1:
        raise ValueError(f"eps={eps} is outside [0, 1)")
    if classes < 2:
        raise ValueError(f"classes={classes} must be two or more")


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature} is outside (0, inf)")
