"""Initial weights: a scheme is a function of a shape.

    scheme(shape, *, generator=None) -> W

shape      [n_out, n_in] of a linear layer, [c_out, c_in, *kernel] of a convolution
generator  a torch.Generator; None is torch's global one, which `training.build` sets for a run

n_in is the number of inputs that one output unit sums, n_out the number of output units that one
input feeds. Numbers are drawn on the CPU in torch's default dtype. The second number of N(0, ·) is
a variance, always.
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nettrain.checks import check_range

Scheme = Callable[..., Tensor]


def fan(shape: Sequence[int]) -> tuple[int, int]:
    """(n_in, n_out): channels times the pixels of the kernel.

    As in torch, groups of a convolution are not known from its shape and not considered;
    `initialize` asks for one group at a time. Raises ValueError for fewer than two dimensions and
    for an empty one.
    """
    shape = tuple(shape)
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape={list(shape)} is not [n_out, n_in, *kernel] of positive sizes")
    pixels = math.prod(shape[2:])
    return shape[1] * pixels, shape[0] * pixels


def constant(shape, value=0.0, *, generator=None) -> Tensor:
    """wᵢⱼ = value.  Units that are equal at the start stay equal: see the lecture."""
    return torch.full(tuple(shape), float(value))


def gaussian(shape, std=0.1, *, generator=None) -> Tensor:
    """wᵢⱼ ~ N(0, std²), the same for every layer; std = 0.1 is the textbook's variance 0.01.

    Raises ValueError unless std ≥ 0.
    """
    check_range("std", std, "[0, inf)")
    return torch.empty(tuple(shape)).normal_(0, std, generator=generator)


def gaussian_in(shape, *, generator=None) -> Tensor:
    """wᵢⱼ ~ N(0, 1 / n_in).  Eq. 1.33 as a Gaussian; LeCun et al. 1998."""
    n_in, _ = fan(shape)
    return gaussian(shape, math.sqrt(1 / n_in), generator=generator)


def gaussian_in_out(shape, *, generator=None) -> Tensor:
    """wᵢⱼ ~ N(0, 2 / (n_in + n_out)).  Eq. 1.35 as a Gaussian; Glorot & Bengio 2010."""
    n_in, n_out = fan(shape)
    return gaussian(shape, math.sqrt(2 / (n_in + n_out)), generator=generator)


def uniform(shape, r=0.1, *, generator=None) -> Tensor:
    """wᵢⱼ ~ U(−r, r), of variance r² / 3.  Eq. 1.36.  Raises ValueError unless r ≥ 0."""
    check_range("r", r, "[0, inf)")
    return torch.empty(tuple(shape)).uniform_(-r, r, generator=generator)


def xavier_tanh(shape, *, generator=None) -> Tensor:
    """wᵢⱼ ~ U(−r, r),  r = √(6 / (n_in + n_out)): variance 2 / (n_in + n_out).

    For f with f(z) ≈ z near zero. The textbook prints this r for the logistic function (eq. 1.26).
    Glorot & Bengio 2010, eq. 16.
    """
    n_in, n_out = fan(shape)
    return uniform(shape, math.sqrt(6 / (n_in + n_out)), generator=generator)


def xavier_logistic(shape, *, generator=None) -> Tensor:
    """wᵢⱼ ~ U(−r, r),  r = 4 √(6 / (n_in + n_out)): sixteen times the variance.

    σ(z) ≈ ½ + z / 4 near zero, so the slope ¼ is made up for. The textbook prints this r for tanh
    (eq. 1.27).
    """
    return 4 * xavier_tanh(shape, generator=generator)


def he(shape, *, generator=None) -> Tensor:
    """wᵢⱼ ~ N(0, 2 / n_in): a ReLU passes half of the mean square.  He et al. 2015."""
    n_in, _ = fan(shape)
    return gaussian(shape, math.sqrt(2 / n_in), generator=generator)


def orthogonal(shape, *, generator=None) -> Tensor:
    """W Wᵀ = I or WᵀW = I, whichever is smaller, all such W equally likely; [n_out, n_in · kernel].

    The Q of a Gaussian matrix, with the signs that make R's diagonal positive (without them the
    distribution would depend on the algorithm). Saxe et al. 2014.
    """
    fan(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    a = torch.empty(rows, columns).normal_(generator=generator)
    q, r = torch.linalg.qr(a if rows >= columns else a.T)
    q = q * r.diagonal().sign()
    return (q if rows >= columns else q.T).reshape(tuple(shape)).contiguous()


@torch.no_grad()
def initialize(net: nn.Module, scheme: Scheme, *, generator=None) -> nn.Module:
    """Give every linear and convolution layer of a network weights by a scheme and zero biases.

        model = lambda: initialize(mlp([196, 32, 10]), he)

    Each group of a convolution gets its own draw, by its own n_in and n_out. A parametrized weight
    (`weight_norm`) is assigned through its parametrization. Other parameters stay. Returns the
    network, so that it can be a model of `training.build` and of a sweep. Before anything changes
    it raises ValueError if there is no such layer, if the scheme gives another shape and for values
    that a parametrization cannot have (weight norm: zeros); TypeError for a transposed convolution,
    whose n_in depends on its stride, and for a weight that a hook computes.
    """
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    if wrong := [name for name, m in net.named_modules() if isinstance(m, transposed)]:
        raise TypeError(f"{wrong[0]!r} is a transposed convolution; fill its weight by hand")
    layers = {k: m for k, m in net.named_modules() if isinstance(m, (nn.Linear, *convolutions))}
    if not layers:
        raise ValueError(f"{type(net).__name__} has no linear or convolution layer to initialize")
    values = []
    for name, layer in layers.items():
        values.append((name, layer, "weight", _draw(layer, scheme, generator)))
        if layer.bias is not None:
            values.append((name, layer, "bias", torch.zeros_like(layer.bias)))
    for each in values:
        _check_assignable(*each)
    for _, layer, kind, value in values:
        if parametrize.is_parametrized(layer, kind):
            setattr(layer, kind, value)
        else:
            getattr(layer, kind).copy_(value)
    return net


@torch.no_grad()
def looks_linear(net: nn.Module, scheme: Scheme = orthogonal, *, generator=None) -> nn.Module:
    """Mirrored weights: each hidden unit z gets a twin −z, and ReLU(z) − ReLU(−z) = z.

        W = [V; −V] in the first layer, [V, −V] in the last, [[V, −V], [−V, V]] in between

    with V drawn by the scheme. So a chain of linear layers and ReLUs is a linear function at the
    start, with batch norms between them, too. For linear layers in the order in which they are
    applied; biases become zero. Returns the network. Balduzzi et al. 2017, with V orthogonal.
    Raises ValueError for fewer than two layers and for a hidden size that is odd.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    sizes = [layer.out_features for layer in layers[:-1]]
    if not sizes or any(size % 2 for size in sizes):
        raise ValueError(f"hidden sizes {sizes}: mirrored units need one layer or more, even sizes")
    for k, layer in enumerate(layers):
        signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])[: 1 + (k < len(sizes)), : 1 + (k > 0)]
        rows, columns = layer.out_features // len(signs), layer.in_features // signs.shape[1]
        layer.weight.copy_(torch.kron(signs, scheme((rows, columns), generator=generator)))
        if layer.bias is not None:
            layer.bias.zero_()
    return net


@torch.no_grad()
def fixup(net: nn.Module, scheme: Scheme = he, *, generator=None) -> nn.Module:
    """Weights for a residual network without norms, whose steps change it as much at any depth.

        W = L^(−1/(2m−2)) V in a residual branch of m layers, L branches; W = V elsewhere
        W = 0 in the last layer of each branch, and in the network's last layer

    with V drawn by the scheme; biases become zero. With a last layer of zeros the very first step
    moves that layer alone. A branch is the `body` of a module, as in
    `blocks.Residual`. Returns the network. Zhang et al. 2019. Raises ValueError for a network
    without a branch and for a branch with fewer than two linear or convolution layers, and what
    `initialize` raises.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = lambda part: [m for m in part.modules() if isinstance(m, kinds)]
    branches = [layers(m.body) for m in net.modules() if hasattr(m, "body")]
    if not branches or min(map(len, branches)) < 2:
        counts = [len(branch) for branch in branches]
        raise ValueError(f"branches of {counts} layers: give residual branches of two or more")
    initialize(net, scheme, generator=generator)
    for branch in branches:
        for layer in branch[:-1]:
            layer.weight.mul_(len(branches) ** (-1 / (2 * len(branch) - 2)))
        branch[-1].weight.zero_()
    layers(net)[-1].weight.zero_()
    return net


def _draw(layer: nn.Module, scheme: Scheme, generator) -> Tensor:
    """A weight for the layer: the scheme is called once for each group of a convolution."""
    groups = getattr(layer, "groups", 1)
    shape = torch.Size([layer.weight.shape[0] // groups, *layer.weight.shape[1:]])
    parts = [scheme(shape, generator=generator) for _ in range(groups)]
    if wrong := [part for part in parts if part.shape != shape]:
        shapes = f"{list(wrong[0].shape)} for a weight of shape {list(shape)}"
        raise ValueError(f"the scheme gives {shapes}")
    return torch.cat(parts).to(layer.weight)


def _check_assignable(name: str, layer: nn.Module, kind: str, value: Tensor) -> None:
    """Raises unless layer.weight (or bias) can be given the value, through its parametrizations."""
    name = f"{name}.{kind}" if name else kind
    if parametrize.is_parametrized(layer, kind):
        trial = copy.deepcopy(layer.parametrizations[kind])
        try:
            trial.right_inverse(value)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{name} cannot have these values: {error}") from error
        if not trial().isfinite().all():
            raise ValueError(f"{name} cannot have these values: its parametrization makes them NaN")
    elif not isinstance(getattr(layer, kind), nn.Parameter):  # as by torch.nn.utils.prune
        raise TypeError(f"{name} is computed by a hook; give a parameter or a parametrization")
