"""Activations: Maxout, which torch lacks, and what any activation does to a random signal.

The others are torch's own: Sigmoid, Tanh, Softplus, ReLU, LeakyReLU, ELU, SELU, SiLU (Swish), GELU.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nettrain.initializers import Scheme, fan, gaussian


class Maxout(nn.Module):
    """A layer that learns its activation: yⱼ = maxₖ (W⁽ᵏ⁾ x + b⁽ᵏ⁾)ⱼ, the largest of k pieces.

    [n, n_in] -> [n, n_out]. Goodfellow et al. 2013. Raises ValueError for fewer than two pieces.
    """

    def __init__(self, n_in: int, n_out: int, *, pieces: int = 2):
        super().__init__()
        if pieces < 2:
            raise ValueError(f"pieces={pieces}: the largest of one piece is a linear layer")
        self.pieces = pieces
        self.linear = nn.Linear(n_in, n_out * pieces)

    def forward(self, x: Tensor) -> Tensor:
        z = self.linear(x)
        return z.unflatten(-1, (-1, self.pieces)).amax(-1)


def moments(f: Callable) -> tuple[float, float]:
    """(E f(z)², E f′(z)²) for z ~ N(0, 1): what is left of a signal, and of a gradient.

    By the trapezoidal rule, in float64; f works on each number by itself.
    """
    # an even number of points: a kink at 0 then lies midway between two
    z = torch.linspace(-12, 12, 240_000, dtype=torch.float64, requires_grad=True)
    a = f(z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    density = (-(z.detach() ** 2) / 2).exp() / math.sqrt(2 * math.pi)
    return tuple(torch.trapezoid(m * density, z).item() for m in (a.detach() ** 2, slope**2))


def fitted(f: Callable) -> Scheme:
    """The scheme wᵢⱼ ~ N(0, 1 / (n_in E f(z)²)), which keeps E z² = 1 from layer to layer.

    For ReLU it is `initializers.he`, for the identity `gaussian_in`.
    """
    square, _ = moments(f)

    def scheme(shape, *, generator=None) -> Tensor:
        n_in, _ = fan(shape)
        return gaussian(shape, math.sqrt(1 / (n_in * square)), generator=generator)

    return scheme


def dead(activation: nn.Module, z: Tensor, *, below: float = 1e-3) -> Tensor:
    """Which units pass no gradient for any example, |f′(z)| < below: z [n, d] -> bool [d]."""
    z = z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(activation(z).sum(), z)
    return (slope.abs() < below).all(0)
