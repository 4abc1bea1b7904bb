"""Normalization inside a network: by batch, layer, weight or neighbouring channels.

`normalize` is the equation; the layers differ in the axis along which they take mean and variance.
`DynamicTanh` and `DynamicErf` stand in a norm's place and take no statistics at all.
Parameters and results are those of torch.nn's layers; ε stands inside the root, as in the papers.
So a variance far below ε counts as none, as in torch; one beyond the largest number gives zeros.
Numbers of half precision (float16, bfloat16) are computed with in float32; results have the dtype
of x. Integers are refused by a TypeError.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nettrain.checks import check_range
from nettrain.precision import check_floats, scaled, wide


def normalize(x: Tensor, mean: Tensor, var: Tensor, *, eps: float = 1e-5) -> Tensor:
    """x̂ = (x − μ) / √(σ² + ε).  Eqs. 1.43, 1.46 and 1.51 without γ and β."""
    return (x - mean) / (var + eps).sqrt()


class BatchNorm(nn.Module):
    """Normalize each feature over the batch; at evaluation by the running statistics.

        μⱼ = meanᵢ xᵢⱼ,  σ²ⱼ = meanᵢ (xᵢⱼ − μⱼ)²,  yᵢⱼ = γⱼ (xᵢⱼ − μⱼ) / √(σ²ⱼ + ε) + βⱼ

    [n, d] -> [n, d], or [n, d, *places] with places counted as further examples. In training the
    running statistics move by `rate` towards the batch's; the running variance is the unbiased one
    (divided by n − 1), as in the paper and in torch, whose `momentum` is our rate. To replace them
    by those of all examples, use `full_statistics`: torch.optim.swa_utils.update_bn looks for
    torch's own layers and passes over this one. Eqs. 1.44-1.47; Ioffe & Szegedy 2015. Raises
    ValueError for another d and for a training batch of one value per feature.
    """

    def __init__(self, d: int, *, rate: float = 0.1, eps: float = 1e-5):
        super().__init__()
        _check_numbers(d, eps)
        check_range("rate", rate, "[0, 1]")
        self.rate, self.eps = rate, eps
        self.gamma, self.beta = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))
        self.register_buffer("running_mean", torch.zeros(d))
        self.register_buffer("running_var", torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        dtype = check_floats("x", x).dtype
        if x.ndim < 2 or x.shape[1] != len(self.gamma):
            raise ValueError(f"x has shape {list(x.shape)}, but d={len(self.gamma)}: [n, d, ...]")
        x = wide(x)
        rest = [dim for dim in range(x.ndim) if dim != 1]
        along = lambda v: v.view(-1, *[1] * (x.ndim - 2))  # [d] beside [n, d, *places]
        mean, var = self.running_mean, self.running_var
        if self.training:
            n = x.numel() // x.shape[1]
            if n < 2:
                raise ValueError(f"x has shape {list(x.shape)}: one value has no variance")
            mean = x.mean(rest)
            # twice as fast as x.var, which takes the mean once more
            var = (x - along(mean)).square().mean(rest)
            with torch.no_grad():
                self.running_mean += self.rate * (mean - self.running_mean)
                self.running_var += self.rate * (var * n / (n - 1) - self.running_var)
        mean, var, gamma, beta = map(along, (mean, var, self.gamma, self.beta))
        return (gamma * normalize(x, mean, var, eps=self.eps) + beta).to(dtype)

    def extra_repr(self) -> str:
        return f"{len(self.gamma)}, rate={self.rate}, eps={self.eps}"


def batch_norm_backward(dy, x, gamma, *, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dγ, dβ), the gradients of a loss whose gradient at y = BN(x) is dy [n, d].

        dβ = Σᵢ dyᵢ,  dγ = Σᵢ dyᵢ x̂ᵢ
        dxᵢ = γ / √(σ² + ε) · (dyᵢ − meanₖ dyₖ − x̂ᵢ meanₖ dyₖ x̂ₖ)

    The two means are what μ and σ² contribute: they depend on x.
    """
    dtype, dy, x = x.dtype, wide(dy), wide(x)
    mean, var = x.mean(0), x.var(0, correction=0)
    x_hat = normalize(x, mean, var, eps=eps)
    dx = gamma / (var + eps).sqrt() * (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0))
    return dx.to(dtype), (dy * x_hat).sum(0).to(dtype), dy.sum(0).to(dtype)


@torch.no_grad()
def full_statistics(net: nn.Module, x: Tensor) -> nn.Module:
    """Replace all running statistics of a network by those of the examples x, all in one batch.

    Eq. 1.43 asks for them once training has ended: layer after layer, with the layers before it
    already normalized by theirs. It does what torch.optim.swa_utils.update_bn does for torch's
    layers, with one batch. Changes the network and returns it. Raises ValueError if it has no batch
    norm.
    """
    layers = [m for m in net.modules() if isinstance(m, BatchNorm)]
    if not layers:
        raise ValueError(f"{type(net).__name__} has no BatchNorm layer with running statistics")
    before = [(m, m.running_mean.clone(), m.running_var.clone()) for m in layers]
    for m in layers:
        m.running_mean.zero_(), m.running_var.zero_()  # else NaN or what is rounded away would stay
    try:
        with full_batch(net):
            net(x)
    except BaseException:
        for m, mean, var in before:
            m.running_mean.copy_(mean), m.running_var.copy_(var)
        raise
    return net


@contextmanager
def full_batch(net: nn.Module) -> Iterator[None]:
    """Inside the block the network is in evaluation mode, but a pass replaces running statistics.

    That is, batch norm's statistics become the batch's, if they were zero before.
    """
    modes = [(m, m.training) for m in net.modules()]
    rates = [(m, m.rate) for m in net.modules() if isinstance(m, BatchNorm)]
    net.eval()
    for m, _ in rates:
        m.training, m.rate = True, 1.0
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
        for m, rate in rates:
            m.rate = rate


class LayerNorm(nn.Module):
    """Normalize each example over its features: the same in training and evaluation.

        μᵢ = meanⱼ xᵢⱼ,  σ²ᵢ = meanⱼ (xᵢⱼ − μᵢ)²,  yᵢⱼ = γⱼ (xᵢⱼ − μᵢ) / √(σ²ᵢ + ε) + βⱼ

    [..., d] -> [..., d]. Eqs. 1.49-1.52; Ba et al. 2016. Raises ValueError for another d.
    """

    def __init__(self, d: int, *, eps: float = 1e-5):
        super().__init__()
        _check_numbers(d, eps)
        self.eps = eps
        self.gamma, self.beta = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        dtype = check_floats("x", x).dtype
        if not x.ndim or x.shape[-1] != len(self.gamma):
            raise ValueError(f"x has shape {list(x.shape)}, but d={len(self.gamma)}: [..., d]")
        x = wide(x)
        mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (self.gamma * normalize(x, mean, var, eps=self.eps) + self.beta).to(dtype)

    def extra_repr(self) -> str:
        return f"{len(self.gamma)}, eps={self.eps}"


class RMSNorm(nn.Module):
    """Divide each example by the root mean square of its features; no mean is subtracted.

        yᵢⱼ = γⱼ xᵢⱼ / √(meanₖ xᵢₖ² + ε)

    [..., d] -> [..., d]. Zhang & Sennrich 2019. torch.nn.RMSNorm's own ε is the dtype's rounding
    unit. Raises ValueError for another d.
    """

    def __init__(self, d: int, *, eps: float = 1e-5):
        super().__init__()
        _check_numbers(d, eps)
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        dtype = check_floats("x", x).dtype
        if not x.ndim or x.shape[-1] != len(self.gamma):
            raise ValueError(f"x has shape {list(x.shape)}, but d={len(self.gamma)}: [..., d]")
        x = wide(x)
        rms = (x.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return (self.gamma * (x / rms)).to(dtype)

    def extra_repr(self) -> str:
        return f"{len(self.gamma)}, eps={self.eps}"


class DynamicTanh(nn.Module):
    """Squash each number by itself, in the place of a norm: no statistics of anything.

        yᵢⱼ = γⱼ tanh(α xᵢⱼ) + βⱼ

    [..., d] -> [..., d]. α is one trained number, `alpha` at the start. Zhu et al. 2025, who call
    it DyT. Raises ValueError for another d and unless alpha > 0.
    """

    def __init__(self, d: int, *, alpha: float = 0.5):
        super().__init__()
        _check_numbers(d, 0.0)
        check_range("alpha", alpha, "(0, inf)")
        self.alpha = nn.Parameter(torch.full((1,), float(alpha)))
        self.gamma, self.beta = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        dtype = check_floats("x", x).dtype
        if not x.ndim or x.shape[-1] != len(self.gamma):
            raise ValueError(f"x has shape {list(x.shape)}, but d={len(self.gamma)}: [..., d]")
        return (self.gamma * self.squash(wide(x)) + self.beta).to(dtype)

    def squash(self, x: Tensor) -> Tensor:
        """tanh(α x), between −1 and 1."""
        return torch.tanh(self.alpha * x)

    def extra_repr(self) -> str:
        return f"{len(self.gamma)}, alpha={self.alpha.item():g}"


class DynamicErf(DynamicTanh):
    """Like `DynamicTanh`, with the error function in place of tanh, and a shift inside.

        yᵢⱼ = γⱼ erf(α xᵢⱼ + s) + βⱼ

    s is one trained number, 0 at the start. Chen et al. 2025, who call it Derf. Raises what
    `DynamicTanh` raises.
    """

    def __init__(self, d: int, *, alpha: float = 0.5):
        super().__init__(d, alpha=alpha)
        self.shift = nn.Parameter(torch.zeros(1))

    def squash(self, x: Tensor) -> Tensor:
        """erf(α x + s), between −1 and 1."""
        return torch.erf(self.alpha * x + self.shift)


class GroupNorm(nn.Module):
    """Normalize each example over its places and the channels of a group: no batch is needed.

        μᵢₖ, σ²ᵢₖ = mean and variance of xᵢⱼ over all places and the channels j of group k
        yᵢⱼ = γⱼ (xᵢⱼ − μᵢₖ) / √(σ²ᵢₖ + ε) + βⱼ,  k the group of channel j

    [n, d, *places] -> same; a group is d / groups channels that follow each other. One group takes
    the mean of a whole example, d groups that of each channel (instance norm; Ulyanov et al. 2016).
    As the `norm` of a model: partial(GroupNorm, groups=4). Wu & He 2018. Raises ValueError for
    another d and unless groups divides d.
    """

    def __init__(self, d: int, groups: int, *, eps: float = 1e-5):
        super().__init__()
        _check_numbers(d, eps)
        if groups < 1 or d % groups:
            raise ValueError(f"groups={groups} does not divide d={d} channels")
        self.groups, self.eps = groups, eps
        self.gamma, self.beta = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        dtype = check_floats("x", x).dtype
        if x.ndim < 2 or x.shape[1] != len(self.gamma):
            raise ValueError(f"x has shape {list(x.shape)}, but d={len(self.gamma)}: [n, d, ...]")
        grouped = wide(x).unflatten(1, (self.groups, -1)).flatten(2)  # [n, groups, rest]
        mean = grouped.mean(2, keepdim=True)
        var = grouped.var(2, correction=0, keepdim=True)
        x_hat = normalize(grouped, mean, var, eps=self.eps).view(x.shape)
        along = lambda v: v.view(-1, *[1] * (x.ndim - 2))  # [d] beside [n, d, *places]
        return (along(self.gamma) * x_hat + along(self.beta)).to(dtype)

    def extra_repr(self) -> str:
        return f"{len(self.gamma)}, groups={self.groups}, eps={self.eps}"


class LayerNormCell(nn.Module):
    """One step of a recurrent network with layer norm.

        h_t = tanh(LN(U h_{t−1} + W x_t))

    x [n, n_in], h [n, n_hidden] -> [n, n_hidden]. No bias: β of the norm is one. Eqs. 1.53, 1.54.
    """

    def __init__(self, n_in: int, n_hidden: int):
        super().__init__()
        self.input = nn.Linear(n_in, n_hidden, bias=False)
        self.recurrent = nn.Linear(n_hidden, n_hidden, bias=False)
        self.norm = LayerNorm(n_hidden)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.norm(self.recurrent(h) + self.input(x)))


class WeightNorm(nn.Module):
    """Wᵢ = gᵢ vᵢ / ‖vᵢ‖, a row of weights as length and direction: (g, v) -> W.

    A parametrization for torch: `weight_norm` puts it on a layer. Eq. 1.55; Salimans & Kingma 2016.
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        u, _ = self._scaled(v)  # u has the direction of v, and squares that do not overflow
        return (g * u / self._length(u)).to(v.dtype)

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """W -> (g, v), with v = W.  Raises ValueError for a row that is zero or not finite."""
        u, scale = self._scaled(W)
        g = (scale * self._length(u)).to(W.dtype)
        if bad := (~((g > 0) & g.isfinite())).flatten().nonzero().flatten().tolist():
            raise ValueError(f"units {bad} have no direction: all zero, or no length in {W.dtype}")
        return g, W

    def _scaled(self, v: Tensor) -> tuple[Tensor, Tensor]:
        return scaled(v, list(range(1, v.ndim)))

    def _length(self, v: Tensor) -> Tensor:
        return v.square().sum(list(range(1, v.ndim)), keepdim=True).sqrt()


class TransposedWeightNorm(WeightNorm):
    """WeightNorm of a transposed convolution, whose weight is [n_in, n_out / groups, *kernel]."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return swap_channels(super().forward(g, swap_channels(v, self.groups)), self.groups)

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """W -> (g, v), with v = W and g [n_out, 1, ...]; raises what WeightNorm raises."""
        g, _ = super().right_inverse(swap_channels(W, self.groups))
        return g, W


def swap_channels(W: Tensor, groups: int) -> Tensor:
    """[n_in, n_out / groups, *kernel] -> [n_out, n_in / groups, *kernel], and back."""
    return W.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)


def weight_norm(layer: nn.Module) -> nn.Module:
    """Train length g and direction v of each output unit's weights in place of the weights.

    The layer computes what it did. Changes the layer and returns it. Raises ValueError for a layer
    without a weight of two or more dimensions and for a unit whose weights are all zero or whose
    length is not a number of their dtype; TypeError for integers (a quantized layer).
    """
    W = getattr(layer, "weight", None)
    if not isinstance(W, Tensor) or W.ndim < 2:
        raise ValueError(f"{type(layer).__name__} has no weight [n_out, n_in, ...] to normalize")
    transposed = isinstance(layer, TRANSPOSED)
    rule = TransposedWeightNorm(layer.groups) if transposed else WeightNorm()
    rule.right_inverse(check_floats("weight", W.detach()))  # refuses before the layer is changed
    parametrize.register_parametrization(layer, "weight", rule)
    return layer


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class LocalResponseNorm(nn.Module):
    """Divide each channel by a power of the energy of its n neighbours at the same place.

        yₚ = xₚ / (k + α Σⱼ xⱼ²)^β,  j from p − ⌊n/2⌋ to p + ⌊(n−1)/2⌋, as far as there are channels

    [m, c, *places] -> same. torch.nn.LocalResponseNorm divides α by n: there AlexNet's 1e-4 is
    written alpha=5e-4. Defaults are AlexNet's. Eqs. 1.56, 1.57; Krizhevsky et al. 2012. Raises
    ValueError for n < 1, for k ≤ 0 and for α < 0.
    """

    def __init__(self, n: int = 5, *, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75):
        super().__init__()
        if n < 1 or not k > 0 or not alpha >= 0:
            raise ValueError(f"n={n}, k={k}, alpha={alpha}: give n ≥ 1, k > 0, alpha ≥ 0")
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        dtype = check_floats("x", x).dtype
        if x.ndim < 2:
            raise ValueError(f"x has shape {list(x.shape)}; give [m, c, ...]")
        x = wide(x)
        padding = [0, 0] * (x.ndim - 2) + [self.n // 2, (self.n - 1) // 2]
        squares, c = F.pad(x**2, padding), x.shape[1]
        energy = sum(squares[:, i : i + c] for i in range(self.n))
        return (x / (self.k + self.alpha * energy) ** self.beta).to(dtype)

    def extra_repr(self) -> str:
        return f"n={self.n}, k={self.k}, alpha={self.alpha}, beta={self.beta}"


def _check_numbers(d: int, eps: float) -> None:
    if d < 1:
        raise ValueError(f"d={d} must be a positive number of features")
    check_range("eps", eps, "[0, inf)")
