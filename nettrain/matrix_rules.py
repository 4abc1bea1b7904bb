"""Update rules that see a parameter as a matrix: Muon, Shampoo, SOAP.

    rule(theta, g, *state, t, **hyper) -> (theta, *state)

The contract and the letters of `optimizers`, except for what `tensorwise` declares:

rule.tensorwise     True: theta is one parameter in its own shape, not a vector of many
rule.start(theta)   the tuple of states before the first step; a state may have another shape

The equations are those of a matrix [m, n] of m outputs and n inputs. A convolution's weight
[out, in, h, w] is the matrix [out, in · h · w]; a vector is refused: `groups.partition` gives the
biases and gains of a model another rule. Half precision is computed with in float32. A parameter
whose gradient is NaN or infinite becomes NaN.
"""

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from nettrain.checks import check_range
from nettrain.optimizers import Rule, adam, state_names
from nettrain.precision import check_floats, norm, wide


def tensorwise(**starts: Callable[[Tensor], Tensor]) -> Callable[[Rule], Rule]:
    """Declare a rule for matrices, and what its states start from.

        @tensorwise(left=lambda theta: ...)
        def rule(theta, g, left, m, *, t, lr=1e-3): ...

    starts  name of a state: function of the matrix theta [m, n] -> that state before the first
            step, of any shape; states that are not named have theta's shape and start at zero

    The rule is written for matrices of float32 or float64. What it becomes takes theta, g and the
    states of theta's shape in the parameter's own shape and dtype, returns them so, and has the
    attributes `tensorwise` and `start`. Both raise ValueError for a parameter of fewer than two
    dimensions and TypeError for integers, the rule also ValueError for a gradient of another shape.
    Raises TypeError for a name that is not a state of the rule.
    """

    def declare(rule: Rule) -> Rule:
        names = state_names(rule)
        if unknown := starts.keys() - names:
            raise TypeError(f"{rule.__name__} has no state {min(unknown)!r}; it has {names}")

        @wraps(rule)
        def step(theta, g, *state, **hyper):
            if g.shape != theta.shape:
                raise ValueError(f"g has shape {list(g.shape)}, but theta {list(theta.shape)}")
            there = lambda name, x: x if name in starts else _matrix(name, x)
            back = lambda name, x: x if name in starts else x.reshape(theta.shape).to(theta.dtype)
            given = zip(("theta", "g", *names), (theta, g, *state), strict=True)
            done = rule(*(there(*pair) for pair in given), **hyper)
            return tuple(back(*pair) for pair in zip(("theta", *names), done, strict=True))

        def start(theta: Tensor) -> tuple[Tensor, ...]:
            matrix, zeros = _matrix("theta", theta), lambda _: torch.zeros_like(theta)
            return tuple(starts.get(name, zeros)(matrix) for name in names)

        step.tensorwise, step.start = True, start
        return step

    return declare


def _matrix(name: str, x: Tensor) -> Tensor:
    """A parameter as the matrix [out, everything else], in float32 at least."""
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {list(x.shape)}: a matrix has two dimensions or more")
    return wide(check_floats(name, x)).flatten(1)


# ------------------------------------------------------------------------------------------ Muon


def newton_schulz(g: Tensor, steps: int = 5) -> Tensor:
    """Roughly the orthogonal factor U Vᵀ of g = U S Vᵀ, by products of matrices alone.

        X ← g / ‖g‖_F,  then five times  A = X Xᵀ,  X ← a X + (b A + c A²) X

    [m, n], or the weight of a convolution -> same shape. A step maps each singular value s to
    a s + b s³ + c s⁵ and leaves U and V. With Jordan's a, b, c the values do not converge to 1, but
    small ones grow fast: those above 0.0014 ‖g‖_F end between 0.6 and 1.3; those below end under
    0.7, at most 485 times as large as they were. A zero gradient stays zero. Raises ValueError for
    fewer than two dimensions and for steps below 1. Jordan et al. 2024 (Muon).
    """
    check_range("steps", steps, "[1, inf)")
    a, b, c = 3.4445, -4.7750, 2.0315
    x = _matrix("g", g)
    x = x / norm(x).clamp(min=torch.finfo(x.dtype).tiny)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x  # A is then the smaller of the two products
    for _ in range(steps):
        A = x @ x.mT
        x = a * x + (b * A + c * A @ A) @ x
    x = x.mT if tall else x
    return x.reshape(g.shape).to(g.dtype)


@tensorwise()
def muon(theta, g, m, *, t, lr=0.02, beta=0.95, decay=0.0):
    """Momentum, orthogonalized: the same length of step in (nearly) all singular directions.

        m ← β m + (1 − β) g
        O = NewtonSchulz(β m + (1 − β) g)
        θ ← (1 − η λ) θ − η √max(1, m/n) O

    Nesterov's momentum, as in `nesterov`, whose length does not matter here; λ is `decay`. In the
    last line m and n are the sides of θ. This scale is that of Jordan et al. 2024; Liu et al. 2025
    (Moonlight) take 0.2 √max(m, n), so that steps are as large as Adam's.
    """
    rows, columns = theta.shape
    m = beta * m + (1 - beta) * g
    step = newton_schulz(beta * m + (1 - beta) * g)
    return (1 - lr * decay) * theta - lr * math.sqrt(max(1, rows / columns)) * step, m


# ------------------------------------------------------------------------------ Shampoo and SOAP


def eigenbasis(x: Tensor) -> tuple[Tensor, Tensor]:
    """(λ, Q) with x = Q diag(λ) Qᵀ of a symmetric x [m, m], λ [m] in ascending order.

    All NaN where x has a NaN or an infinite entry: torch.linalg.eigh would raise an error, and end
    all runs because one has diverged.
    """
    finite = x.isfinite().all()
    values, q = torch.linalg.eigh(torch.where(finite, x, 0))
    return torch.where(finite, values, math.nan), torch.where(finite, q, math.nan)


def inverse_root(x: Tensor, degree: int, *, eps: float) -> Tensor:
    """(x + ε I)^(−1/degree) of a symmetric x [m, m] without negative eigenvalues."""
    values, q = eigenbasis(x)
    return q * (values.clamp(min=0) + eps) ** (-1 / degree) @ q.mT  # rounding may go below zero


def _zeros(side: int) -> Callable[[Tensor], Tensor]:
    return lambda theta: theta.new_zeros(theta.shape[side], theta.shape[side])


@tensorwise(left=_zeros(0), right=_zeros(1))
def shampoo(theta, g, left, right, *, t, lr=0.1, eps=1e-6, decay=0.0):
    """AdaGrad with a matrix for either side of θ in place of a number for each coordinate.

        L ← L + g gᵀ,  R ← R + gᵀ g
        θ ← (1 − η λ) θ − η (L + ε I)^(−1/4) g (R + ε I)^(−1/4)

    L [m, m] and R [n, n] start at zero, since their ε I, from which the paper starts, stands in the
    step. Without ε the first step is the orthogonal factor U Vᵀ of g. Algorithm 1 of Gupta et al.
    2018, plus the decay: λ is `decay`.
    """
    left = left + g @ g.mT
    right = right + g.mT @ g
    step = inverse_root(left, 4, eps=eps) @ g @ inverse_root(right, 4, eps=eps)
    return (1 - lr * decay) * theta - lr * step, left, right


def _ramp(side: int) -> Callable[[Tensor], Tensor]:
    """Nearly zero, and no two eigenvalues alike: 10⁻⁶ diag(1/m, 2/m, ..., 1)."""
    ramp = lambda size, like: torch.arange(1, size + 1).to(like) / size
    return lambda theta: torch.diag(1e-6 * ramp(theta.shape[side], theta))


@tensorwise(left=_ramp(0), right=_ramp(1))
def soap(theta, g, left, right, m, v, *, t, lr=3e-3, beta1=0.95, beta2=0.95, eps=1e-8, decay=0.0):
    """Adam in the eigenbasis of Shampoo's two matrices.

        L = Q Λ Qᵀ,  R = P Λ' Pᵀ,  g' = Qᵀ g P,  m' = Qᵀ m P
        δ, v ← the step of `adam` for g', m' and v
        m ← β₁ m + (1 − β₁) g,  L ← β₂ L + (1 − β₂) g gᵀ,  R ← β₂ R + (1 − β₂) gᵀ g
        θ ← (1 − η λ) θ + Q δ Pᵀ

    v belongs to the directions of the basis, m to the coordinates of θ. As in the paper the basis
    is that of earlier gradients: in that of g itself g' would be almost diagonal, and v too small.
    Here it is computed in every step; their code does so every tenth, and has no first step. L, R
    start at 10⁻⁶ diag(1/m, ..., 1), so that the first step is Adam's and the basis is determined in
    directions that no gradient has had. λ is `decay`. Algorithm 3 of Vyas et al. 2025.
    """
    (_, q), (_, p) = eigenbasis(left), eigenbasis(right)
    rates = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    step, _, v = adam(torch.zeros_like(theta), q.mT @ g @ p, q.mT @ m @ p, v, t=t, **rates)
    m = beta1 * m + (1 - beta1) * g
    left = beta2 * left + (1 - beta2) * g @ g.mT
    right = beta2 * right + (1 - beta2) * g.mT @ g
    return (1 - lr * decay) * theta + q @ step @ p.mT, left, right, m, v
