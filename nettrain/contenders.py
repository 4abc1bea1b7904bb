"""Contenders with Adam since 2021: signs, an estimated rate, a gradient computed twice.

`lion` and `prodigy` keep the contract of `optimizers`; `prodigy` sums over coordinates, so theta
has to be the vector of all parameters. `sam` changes what computes the gradient of any rule.
"""

from collections.abc import Callable

import torch

from nettrain.checks import check_range
from nettrain.precision import scaled


def lion(theta, g, m, *, t, lr=1e-4, beta1=0.9, beta2=0.99, decay=0.0):
    """The sign of a mean in which the newest gradient counts more than in the mean that is kept.

        c = β₁ m + (1 − β₁) g,  θ ← θ − η (sign c + λ θ)
        m ← β₂ m + (1 − β₂) g

    Every coordinate moves by η: Adam's rate would be several times too large, and λ (`decay`) must
    grow as η shrinks so that ηλ stays the same. Found by search: Chen et al. 2023.
    """
    c = beta1 * m + (1 - beta1) * g
    m = beta2 * m + (1 - beta2) * g
    return theta - lr * (c.sign() + decay * theta), m


def prodigy(
    theta, g, m, v, s, r, d, w, *, t, lr=1.0, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, d0=1e-6
):
    """Adam whose rate is an estimate d of how far θ₀ is from a solution; d only grows.

        r ← √β₂ r + (1 − √β₂) η d² ⟨g, θ₀ − θ⟩
        s ← √β₂ s + (1 − √β₂) η d² g
        m ← β₁ m + (1 − β₁) d g,  v ← β₂ v + (1 − β₂) d² g²
        θ ← θ − η d (m / (√v + d ε) + λ θ)
        d ← max(d, r / ‖s‖₁)

    starting from d = d0, a length that is certainly too small. theta is the vector [P] of all
    parameters; the numbers r and d fill vectors like it, and w is θ₀ − θ. η is a factor, 1 or a
    schedule that starts there; λ is `decay`. Mishchenko & Defazio 2023, the version for Adam, plus
    the decay.
    """
    d, root = d.clamp(min=d0), beta2**0.5
    r = root * r + (1 - root) * lr * d**2 * (g * w).sum()
    s = root * s + (1 - root) * lr * d**2 * g
    m = beta1 * m + (1 - beta1) * d * g
    v = beta2 * v + (1 - beta2) * d**2 * g**2
    step = lr * d * (m / (v.sqrt() + d * eps) + decay * theta)
    length = s.abs().sum().clamp(min=torch.finfo(s.dtype).tiny)  # no 0 / 0 while every g was 0
    return theta - step, m, v, s, r, torch.maximum(d, r / length), w + step


def sam(gradient: Callable, rho: float) -> Callable:
    """The gradient from where the loss is largest nearby, as far as the gradient at θ can tell.

        ε = ρ g(θ) / ‖g(θ)‖₂,  g ← g(θ + ε)

    gradient  θ [P] -> (g [P], anything else, such as the loss)

        Sweep(model, sgd, data, gradient=partial(sam, rho=0.05))

    The result is such a function, too; anything else that it returns belongs to θ itself. It takes
    two gradients. Where g(θ) = 0 the result is 0. Sharpness-aware minimization: Foret et al. 2021.
    Raises ValueError unless ρ ≥ 0.
    """
    check_range("rho", rho, "[0, inf)")

    def sharp(theta):
        g, rest = gradient(theta)
        u, _ = scaled(g)  # in the direction of g, with a norm from 1 on unless g is 0
        eps = rho * u / torch.linalg.vector_norm(u).clamp(min=1)
        g, _ = gradient(theta + eps.to(theta.dtype))
        return g, rest

    return sharp
