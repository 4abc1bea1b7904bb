"""Normalization inside a network: by batch, layer, weight or neighbouring channels.

`normalize` is the equation; the layers differ in the axis along which they take mean and variance.
Parameters and results are those of torch.nn's layers; ε stands inside the root, as in the papers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize


def normalize(x: Tensor, mean: Tensor, var: Tensor, *, eps: float = 1e-5) -> Tensor:
    """x̂ = (x − μ) / √(σ² + ε).  Eqs. 1.43, 1.46 and 1.51 without γ and β."""
    return (x - mean) / (var + eps).sqrt()


class BatchNorm(nn.Module):
    """Normalize each feature over the batch; at evaluation by the running statistics.

        μⱼ = meanᵢ xᵢⱼ,  σ²ⱼ = meanᵢ (xᵢⱼ − μⱼ)²,  yᵢⱼ = γⱼ (xᵢⱼ − μⱼ) / √(σ²ⱼ + ε) + βⱼ

    [n, d] -> [n, d], or [n, d, *places] with places counted as further examples. In training the
    running statistics move by `rate` towards the batch's; the running variance is the unbiased one
    (divided by n − 1), as in the paper and in torch, whose `momentum` is our rate. Eqs. 1.44-1.47;
    Ioffe & Szegedy 2015. Raises ValueError for another d and for a training batch of one value
    per feature.
    """

    def __init__(self, d: int, *, rate: float = 0.1, eps: float = 1e-5):
        super().__init__()
        _check_numbers(d, eps)
        if not 0 <= rate <= 1:
            raise ValueError(f"rate={rate} is outside [0, 1]")
        self.rate, self.eps = rate, eps
        self.gamma, self.beta = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))
        self.register_buffer("running_mean", torch.zeros(d))
        self.register_buffer("running_var", torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != len(self.gamma):
            raise ValueError(f"x has shape {list(x.shape)}, but d={len(self.gamma)}: [n, d, ...]")
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
        return gamma * normalize(x, mean, var, eps=self.eps) + beta

    def extra_repr(self) -> str:
        return f"{len(self.gamma)}, rate={self.rate}, eps={self.eps}"


def batch_norm_backward(dy, x, gamma, *, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dγ, dβ), the gradients of a loss whose gradient at y = BN(x) is dy [n, d].

        dβ = Σᵢ dyᵢ,  dγ = Σᵢ dyᵢ x̂ᵢ
        dxᵢ = γ / √(σ² + ε) · (dyᵢ − meanₖ dyₖ − x̂ᵢ meanₖ dyₖ x̂ₖ)

    The two means are what μ and σ² contribute: they depend on x.
    """
    mean, var = x.mean(0), x.var(0, correction=0)
    x_hat = normalize(x, mean, var, eps=eps)
    dx = gamma / (var + eps).sqrt() * (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


@torch.no_grad()
def full_statistics(net: nn.Module, x: Tensor) -> nn.Module:
    """Replace all running statistics of a network by those of the examples x, all in one batch.

    What eq. 1.43 asks for once training has ended: layer after layer, with the layers before it
    already normalized by theirs. Changes the network and returns it. Raises ValueError if it has
    no batch norm.
    """
    layers = [m for m in net.modules() if isinstance(m, BatchNorm)]
    if not layers:
        raise ValueError(f"{type(net).__name__} has no BatchNorm layer with running statistics")
    training, rates = [m.training for m in net.modules()], [m.rate for m in layers]
    net.eval()
    for m in layers:
        m.training, m.rate = True, 1.0
    try:
        net(x)
    finally:
        for m, mode in zip(net.modules(), training, strict=True):
            m.training = mode
        for m, rate in zip(layers, rates, strict=True):
            m.rate = rate
    return net


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
        if not x.ndim or x.shape[-1] != len(self.gamma):
            raise ValueError(f"x has shape {list(x.shape)}, but d={len(self.gamma)}: [..., d]")
        mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return self.gamma * normalize(x, mean, var, eps=self.eps) + self.beta

    def extra_repr(self) -> str:
        return f"{len(self.gamma)}, eps={self.eps}"


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
        return g * v / self._length(v)

    def right_inverse(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """W -> (g, v), with v = W."""
        return self._length(W), W

    def _length(self, v: Tensor) -> Tensor:
        return v.square().sum(list(range(1, v.ndim)), keepdim=True).sqrt()


def weight_norm(layer: nn.Module) -> nn.Module:
    """Train length g and direction v of each output unit's weights in place of the weights.

    The layer computes what it did. Changes the layer and returns it. Raises ValueError for a layer
    without a weight of two or more dimensions and for a unit whose weights are all zero.
    """
    W = getattr(layer, "weight", None)
    if not isinstance(W, Tensor) or W.ndim < 2:
        raise ValueError(f"{type(layer).__name__} has no weight [n_out, n_in, ...] to normalize")
    if (zero := (W == 0).flatten(1).all(1)).any():
        raise ValueError(f"units {zero.nonzero().flatten().tolist()} have no direction: all zero")
    parametrize.register_parametrization(layer, "weight", WeightNorm())
    return layer


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
        if x.ndim < 2:
            raise ValueError(f"x has shape {list(x.shape)}; give [m, c, ...]")
        padding = [0, 0] * (x.ndim - 2) + [self.n // 2, (self.n - 1) // 2]
        squares, c = F.pad(x**2, padding), x.shape[1]
        energy = sum(squares[:, i : i + c] for i in range(self.n))
        return x / (self.k + self.alpha * energy) ** self.beta

    def extra_repr(self) -> str:
        return f"n={self.n}, k={self.k}, alpha={self.alpha}, beta={self.beta}"


def _check_numbers(d: int, eps: float) -> None:
    if d < 1:
        raise ValueError(f"d={d} must be a positive number of features")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps={eps} is outside [0, inf)")
