"""Blocks that architectures are made of, and what they cost.

    block(n_in, n_out, ...) -> module

A block keeps height and width unless it is given a stride. Most blocks take `layer`, the weights
they are made of: `conv` for images [n, c, h, w], `linear` for vectors [n, d]. Layers have no bias
where a batch norm follows, which has one.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nettrain.checks import check_range
from nettrain.normalization import BatchNorm, LayerNorm


def conv(c_in: int, c_out: int, kernel: int = 3, **how) -> nn.Conv2d:
    """A convolution that keeps the size of the image; how: stride or groups."""
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False, **how)


def linear(n_in: int, n_out: int) -> nn.Linear:
    """A fully connected layer without bias."""
    return nn.Linear(n_in, n_out, bias=False)


# --------------------------------------------------------------- how parts are put together


class Residual(nn.Module):
    """y = x + F(x); a shortcut S, where the shapes differ: y = S(x) + F(x).  He et al. 2016."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


class Concat(nn.Module):
    """y = [F₁(x), ..., Fₖ(x)], along the channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Scale(nn.Module):
    """y = s x with one trained number s, `start` at the start.

    Behind a residual branch, from s = 0: De & Smith 2020, who call it SkipInit. Raises ValueError
    unless start is finite.
    """

    def __init__(self, start: float = 1.0):
        super().__init__()
        check_range("start", start, "(-inf, inf)")
        self.s = nn.Parameter(torch.full((1,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        return self.s * x

    def extra_repr(self) -> str:
        return f"s={self.s.item():g}"


class Shift(nn.Module):
    """y = x + b with one trained number b, 0 at the start."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b


class Pad(nn.Module):
    """Every stride-th pixel, and zeros for the channels that x lacks: a shortcut without weights.

    [n, c_in, h, w] -> [n, c_out, ⌈h/stride⌉, ⌈w/stride⌉]. Option A of He et al. 2016.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1):
        super().__init__()
        if c_out < c_in:
            raise ValueError(f"c_out={c_out} is less than c_in={c_in}: zeros can only be added")
        self.more, self.stride = c_out - c_in, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, [0, 0, 0, 0, 0, self.more])


# ------------------------------------------------------------------------------- the blocks


def plain(n_in: int, n_out: int, *, layer: Callable = conv, **how) -> nn.Sequential:
    """y = ReLU(F(x)) with F = two layers, each with batch norm, and ReLU between them.

    how: arguments of the first layer, as stride=2.
    """
    return nn.Sequential(_two(n_in, n_out, layer, how), nn.ReLU())


def residual(n_in: int, n_out: int, *, layer: Callable = conv, **how) -> nn.Sequential:
    """y = ReLU(x + F(x)) with the F of `plain`: the same weights, and no more.  He et al. 2016."""
    shortcut = Pad(n_in, n_out, **how) if how or n_in != n_out else None
    return nn.Sequential(Residual(_two(n_in, n_out, layer, how), shortcut), nn.ReLU())


def _two(n_in, n_out, layer, how) -> nn.Sequential:
    first = [layer(n_in, n_out, **how), BatchNorm(n_out), nn.ReLU()]
    return nn.Sequential(*first, layer(n_out, n_out), BatchNorm(n_out))


def before(n_in: int, n_out: int, *, layer: Callable = conv) -> nn.Sequential:
    """Batch norm and ReLU *before* the weights: "pre-activation".  He et al. 2016b."""
    return nn.Sequential(BatchNorm(n_in), nn.ReLU(), layer(n_in, n_out))


def preactivation(n: int, *, layer: Callable = conv) -> Residual:
    """y = x + F(x), nothing behind the sum, so that x passes all blocks unchanged.

    F = norm, ReLU, layer, norm, ReLU, layer. He et al. 2016b.
    """
    return Residual(nn.Sequential(before(n, n, layer=layer), before(n, n, layer=layer)))


def unnormalized(n: int, *, layer: Callable = conv, start: float = 1.0) -> Residual:
    """y = x + s F(x) with F = ReLU, layer, ReLU, layer: `preactivation` without its norms.

    start  s is one trained number that starts here; 0 is SkipInit

    De & Smith 2020. Give a layer with a bias, as nn.Linear: there is no other.
    """
    return Residual(nn.Sequential(nn.ReLU(), layer(n, n), nn.ReLU(), layer(n, n), Scale(start)))


def shifted(n: int, *, layer: Callable = conv) -> Residual:
    """y = x + F(x) with the F of `unnormalized`, and a trained number added before each part.

        F(x) = s W₂ (ReLU(W₁ (ReLU(x + b₁) + b₂) + b₃) + b₄) + b₅,  at the start s = 1 and b = 0

    The block for `initializers.fixup`. Zhang et al. 2019, with the order of `preactivation`.
    """
    first = [Shift(), nn.ReLU(), Shift(), layer(n, n)]
    second = [Shift(), nn.ReLU(), Shift(), layer(n, n)]
    return Residual(nn.Sequential(*first, *second, Scale(), Shift()))


def dense(n_in: int, growth: int, *, layer: Callable = conv) -> Concat:
    """y = [x, F(x)] with F = norm, ReLU, layer: n_in -> n_in + growth.  Huang et al. 2017."""
    return Concat(nn.Identity(), before(n_in, growth, layer=layer))


def inception(c_in: int, one: int, three: tuple, five: tuple, pool: int) -> Concat:
    """1x1, 3x3 and 5x5 convolutions and a pooling side by side; 1x1 ones make channels few first.

    three, five: (channels in between, channels out). c_in -> one + three[1] + five[1] + pool.
    Szegedy et al. 2015, with batch norm as in their later versions.
    """
    return Concat(
        _layer(c_in, one, 1),
        nn.Sequential(_layer(c_in, three[0], 1), _layer(*three, 3)),
        nn.Sequential(_layer(c_in, five[0], 1), _layer(*five, 5)),
        nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _layer(c_in, pool, 1)),
    )


def separable(c_in: int, c_out: int, *, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution that mixes channels.

    Howard et al. 2017 (MobileNet).
    """
    depthwise = _layer(c_in, c_in, 3, stride=stride, groups=c_in)
    return nn.Sequential(depthwise, _layer(c_in, c_out, 1))


def shuffle(c: int, groups: int) -> nn.Sequential:
    """A residual block of grouped 1x1 convolutions; channels change groups by a shuffle.

    A bottleneck of c/4 channels; the 3x3 convolution takes each channel by itself. Zhang et al.
    2018 (ShuffleNet). Raises ValueError if groups do not divide c/4.
    """
    if c % (4 * groups):
        raise ValueError(f"c={c} is not a multiple of 4 · groups={4 * groups}")
    inner = c // 4
    body = nn.Sequential(
        _layer(c, inner, 1, groups=groups),
        nn.ChannelShuffle(groups),
        conv(inner, inner, groups=inner),
        BatchNorm(inner),
        conv(inner, c, 1, groups=groups),
        BatchNorm(c),
    )
    return nn.Sequential(Residual(body), nn.ReLU())


class SqueezeExcitation(nn.Module):
    """y = x ⊙ σ(W₂ ReLU(W₁ s)), s = the mean of each channel: a weight for every channel.

    [n, c, *places] -> same, with c // reduction units in between. Hu et al. 2018. Raises
    ValueError if none is left.
    """

    def __init__(self, c: int, *, reduction: int = 16):
        super().__init__()
        if c // reduction < 1:
            raise ValueError(f"c={c} is less than reduction={reduction}: no unit is left between")
        self.squeeze = nn.Linear(c, c // reduction)
        self.excite = nn.Linear(c // reduction, c)

    def forward(self, x: Tensor) -> Tensor:
        s = x.flatten(2).mean(2)
        weight = torch.sigmoid(self.excite(torch.relu(self.squeeze(s))))
        return x * weight.view(*weight.shape, *[1] * (x.ndim - 2))


def squeeze_excitation(c: int, *, reduction: int = 16) -> nn.Sequential:
    """`residual`, with the channels of F weighted before the sum.  Hu et al. 2018."""
    body = nn.Sequential(*_two(c, c, conv, {}), SqueezeExcitation(c, reduction=reduction))
    return nn.Sequential(Residual(body), nn.ReLU())


# ------------------------------------------------------------------- those of a transformer


def pre_norm(width: int, body: nn.Module, *, norm: Callable = LayerNorm) -> Residual:
    """y = x + F(N(x)): what passes from block to block is never normalized.

    norm  a module class that takes the width. Xiong et al. 2020.
    """
    return Residual(nn.Sequential(norm(width), body))


def post_norm(width: int, body: nn.Module, *, norm: Callable = LayerNorm) -> nn.Sequential:
    """y = N(x + F(x)), with the weights of `pre_norm`: the transformer's first form.

    norm  a module class that takes the width. Vaswani et al. 2017.
    """
    return nn.Sequential(Residual(body), norm(width))


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """yₜ = Σₛ aₜₛ vₛ,  aₜₛ = softmaxₛ≤ₜ (qₜ · kₛ / √d): a mean of what is here and before.

    queries, keys [..., T, d], values [..., T, d_v] -> [..., T, d_v]. Vaswani et al. 2017, eq. 1,
    with the mask of their section 3.2.3.
    """
    T, d = q.shape[-2:]
    later = torch.full((T, T), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    return (q / d**0.5 @ k.mT + later).softmax(-1) @ v


class CausalSelfAttention(nn.Module):
    """Each place of a sequence reads itself and the places before it, in several heads.

        hₐ = causal_attention(x W_Qₐᵀ, x W_Kₐᵀ, x W_Vₐᵀ),  y = [h₁, ..., h_heads] W_Oᵀ

    [..., T, width] -> same; a head has width / heads features: rows that follow each other in the
    weights of query, key and value. No biases. Vaswani et al. 2017. Raises ValueError unless heads
    divides width.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"heads={heads} does not divide width={width}")
        self.heads = heads
        self.query, self.key = linear(width, width), linear(width, width)
        self.value, self.output = linear(width, width), linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # [..., T, width] -> [..., heads, T, width / heads]
        apart = lambda z: z.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
        h = causal_attention(*(apart(layer(x)) for layer in (self.query, self.key, self.value)))
        return self.output(h.transpose(-3, -2).flatten(-2))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


def feedforward(width: int, *, factor: int = 4) -> nn.Sequential:
    """y = W₂ GELU(W₁ x), each place by itself, with factor · width units in between.

    [..., width] -> same. Vaswani et al. 2017; with the activation of Hendrycks & Gimpel 2016.
    """
    return nn.Sequential(linear(width, factor * width), nn.GELU(), linear(factor * width, width))


def _layer(c_in, c_out, kernel, **how) -> nn.Sequential:
    return nn.Sequential(conv(c_in, c_out, kernel, **how), BatchNorm(c_out), nn.ReLU())


# ------------------------------------------------------------------------------- their cost


class Cost(NamedTuple):
    """Of one example."""

    parameters: int
    multiply_adds: int


@torch.no_grad()
def cost(net: nn.Module, x: Tensor) -> Cost:
    """Parameters of a network, and multiplications-with-addition that one example of x costs.

    Counted as in the papers: every output number of a linear layer or convolution costs one per
    weight that it sums; norms, activations, pooling and biases are left out. x [n, ...] is passed
    through the network in evaluation mode.
    """
    total = 0

    def count(layer, _, out):
        nonlocal total
        total += out.numel() // len(x) * layer.weight[0].numel()

    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    hooks = [m.register_forward_hook(count) for m in layers]
    modes = [(m, m.training) for m in net.modules()]
    try:
        net.eval()(x)
    finally:
        for m, mode in modes:
            m.training = mode
        for hook in hooks:
            hook.remove()
    return Cost(sum(p.numel() for p in net.parameters()), total)
