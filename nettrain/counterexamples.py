"""Counterexamples: small problems on which a rule, or a sentence about it, fails."""

import math

import torch
from torch import Tensor

from nettrain.landscape import Surface
from nettrain.optimizers import Rule, state_names

# ------------------------------------------------------------- where optimizers go: two problems


def spurious_features(y: Tensor) -> Tensor:
    """Inputs on which adaptive methods find a solution that does not generalize.  [n] -> [n, d]

    Row i: its label yᵢ = ±1, then 1, 1, then its own block of five entries, of which one is 1 if
    yᵢ = 1 and all five are if yᵢ = −1; the rest is 0, so d = 3 + 5 n. Only the first feature tells
    anything about new examples. Wilson et al. 2017, section 3.3.

    Raises ValueError for labels other than ±1.
    """
    if not (y.abs() == 1).all():
        raise ValueError("labels must be 1 or −1")
    n = len(y)
    own = torch.zeros(n, n, 5, dtype=y.dtype)
    i = torch.arange(n)
    own[i, i, 0] = 1
    own[i, i, 1:] = (y < 0).to(y.dtype)[:, None]
    return torch.cat([y[:, None], torch.ones(n, 2, dtype=y.dtype), own.flatten(1)], 1)


def squared_loss(x: Tensor, y: Tensor) -> Surface:
    """w -> ½ ‖X w − y‖², as a surface.  X [n, d], y [n]"""
    return lambda w: (w @ x.mT - y).square().sum(-1) / 2


def least_norm_limit(y: Tensor) -> Tensor:
    """The solution of least norm of X w = y for X = `spurious_features(y)`.  [n] -> [d]

        w = Xᵀ a,  aᵢ = (4 n₋ + 5) / D where yᵢ = 1,  −(4 n₊ + 1) / D where yᵢ = −1
        D = 8 n₊ n₋ + 15 n₊ + 3 n₋ + 5

    Gradient descent and momentum go there from w = 0: their steps are combinations of X's rows.
    """
    plus, minus = (y > 0).sum(), (y < 0).sum()
    d = 8 * plus * minus + 15 * plus + 3 * minus + 5
    a = torch.where(y > 0, 4 * minus + 5, -(4 * plus + 1)).to(y.dtype) / d
    return a @ spurious_features(y)


def sign_limit(y: Tensor) -> Tensor:
    """w = sign(Xᵀ y) / 4 for X = `spurious_features(y)`.  [n] -> [d]

    X sign(Xᵀ y) = 4 y if 1 is the more frequent label, so X w = y. AdaGrad, RMSprop and Adam go
    there from w = 0 (ε → 0): all gradients are multiples of Xᵀ y, which they divide by its size.
    Wilson et al. 2017, lemma 3.1. Raises ValueError unless 1 is the more frequent label.
    """
    if not y.sum() > 0:
        raise ValueError("1 must be the more frequent label")
    return (spurious_features(y).mT @ y).sign() / 4


def rare_large_gradient(rule: Rule, steps: int, *, c: float = 3.0, lr: float = 0.5, **hyper):
    """x₀ ... x_T of a rule on losses f_t(x) = c x if t mod 3 = 1, else −x, on [−1, 1].

        x ← min(1, max(−1, rule's step with η_t = η / √t))

    The sum of three losses is (c − 2) x: for c > 2 the best point is −1. hyper may hold tensors,
    [...]; the result is [T + 1, ...], float64. Adam with β₁ = 0 and β₂ = 1 / (1 + c²) goes to +1.
    Reddi et al. 2018, theorem 1. Raises ValueError unless c > 2.
    """
    if not c > 2:
        raise ValueError(f"c={c} must be above 2, else −1 is not the best point")
    shape = torch.broadcast_shapes(*(torch.as_tensor(h).shape for h in hyper.values()), ())
    x = torch.zeros(shape, dtype=torch.float64)
    state = [torch.zeros_like(x) for _ in state_names(rule)]
    points = [x]
    for t in range(1, steps + 1):
        g = torch.full_like(x, c if t % 3 == 1 else -1.0)
        x, *state = rule(x, g, *state, t=t, lr=lr / math.sqrt(t), **hyper)
        x = x.clamp(-1, 1)
        points.append(x)
    return torch.stack(points)
