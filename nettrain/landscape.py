"""Loss surfaces and what can be computed on them: test surfaces, Hessians, exact counterexamples.

A surface is a function of points theta [..., P] to heights [...]: it treats many points at once.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from nettrain import probes
from nettrain.optimizers import Rule
from nettrain.precision import check_floats, norm, scaled, wide

Surface = Callable[[Tensor], Tensor]


# ---------------------------------------------------------------------------- surfaces to walk on


def bowl(theta: Tensor) -> Tensor:
    """f = (x² + 25 y²) / 2: one minimum, steeper across than along.  [..., 2] -> [...]"""
    x, y = theta.unbind(-1)
    return (x**2 + 25 * y**2) / 2


def saddle(theta: Tensor) -> Tensor:
    """f = x² − y²: a minimum along x, a maximum along y, no bottom.  [..., 2] -> [...]

    Figure 1.1.
    """
    x, y = theta.unbind(-1)
    return x**2 - y**2


def double_well(theta: Tensor) -> Tensor:
    """f = x² / 2 + (y² − 1)² / 4: a saddle at 0 between minima at y = ±1.  [..., 2] -> [...]"""
    x, y = theta.unbind(-1)
    return x**2 / 2 + (y**2 - 1) ** 2 / 4


def valley(theta: Tensor) -> Tensor:
    """A wide flat bottom between bumps, after the look of figure 1.2.  [..., 2] -> [...]

    f = s (2 − ½ cos 3x − ½ cos 3y) with s = 1 / (1 + e^(6 − 3 r²)), r² = x² + y²
    """
    x, y = theta.unbind(-1)
    wall = torch.sigmoid(3 * (x**2 + y**2) - 6)
    return wall * (2 - (torch.cos(3 * x) + torch.cos(3 * y)) / 2)


def rosenbrock(theta: Tensor) -> Tensor:
    """f = (1 − x)² + 100 (y − x²)²: a bent valley to (1, 1).  [..., 2] -> [...]

    Rosenbrock 1960.
    """
    x, y = theta.unbind(-1)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(theta: Tensor) -> Tensor:
    """f = Σₖ (cₖ − x + x yᵏ)², c = 1.5, 2.25, 2.625: plateaus and walls around (3, ½).

    [..., 2] -> [...]  Beale 1958.
    """
    x, y = theta.unbind(-1)
    return sum((c - x + x * y**k) ** 2 for k, c in enumerate((1.5, 2.25, 2.625), start=1))


def cliff_state(theta: Tensor, h0: float = 0.3, steps: int = 100) -> Tensor:
    """h_t = σ(w h_{t−1} + b), the state after `steps` of them.  θ = (w, b) [..., 2] -> [...]"""
    w, b = theta.unbind(-1)
    h = torch.full_like(w, h0)
    for _ in range(steps):
        h = torch.sigmoid(w * h + b)
    return h


def cliff(theta: Tensor, h0: float = 0.3, steps: int = 100, target: float = 0.65) -> Tensor:
    """L = (h_100 − 0.65)² of a recurrent network of one unit.  θ = (w, b) [..., 2] -> [...]

    Figure 1.5; the state's law is `cliff_state`. A cliff where w > 0 > b. Pascanu et al. 2013.
    """
    return (cliff_state(theta, h0, steps) - target) ** 2


def gradient(f: Surface, theta: Tensor) -> Tensor:
    """∇f at each point, zero where f does not depend on θ.  [..., P] -> [..., P]"""
    theta = theta.detach().requires_grad_()
    with torch.enable_grad():
        return _slope(f(theta).sum(), theta)


def _slope(y: Tensor, theta: Tensor, v: Tensor | None = None, **how) -> Tensor:
    """vᵀ ∂y / ∂θ, zeros if y was made without θ: a plane, for example, leaves no graph."""
    if not y.requires_grad:
        return torch.zeros_like(theta)
    return torch.autograd.grad(y, theta, v, materialize_grads=True, **how)[0]


def path(
    rule: Rule, f: Surface, start: Tensor, steps: int, *, clip: Callable | None = None, **hyper
) -> Tensor:
    """θ₀ ... θ_T of a rule on exact gradients of a surface.  [..., P] -> [T + 1, ..., P]

    clip  gradients [..., P] -> gradients [..., P]
    """
    g = (lambda theta: clip(gradient(f, theta))) if clip else partial(gradient, f)
    return probes.path(rule, g, start, steps, **hyper)


# -------------------------------------------------------------- a network as a surface, curvature


def network(
    theta: Tensor, sizes: Sequence[int], x: Tensor, activation: Callable = torch.tanh
) -> Tensor:
    """A multilayer perceptron as a function of its parameters.  [..., P], [n, d] -> [..., n, out]

        h ← φ(W h + b) for each layer, the last without φ

    θ holds W, b of the first layer, then of the next, as `models.mlp(sizes).parameters()` does.
    Raises ValueError if θ has another length.
    """
    if theta.shape[-1] != parameter_count(sizes):
        raise ValueError(f"theta has {theta.shape[-1]} numbers, sizes={list(sizes)} need others")
    h, at = x, 0
    for k, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        w = theta[..., at : at + n_in * n_out].unflatten(-1, (n_out, n_in))
        b = theta[..., at + n_in * n_out : at + (n_in + 1) * n_out]
        h = (activation(h) if k else h) @ w.mT + b[..., None, :]
        at += (n_in + 1) * n_out
    return h


def parameter_count(sizes: Sequence[int]) -> int:
    """P = Σ (n_in + 1) n_out, the number of parameters of `network`."""
    return sum((n_in + 1) * n_out for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True))


def mean_cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """−(1/n) Σ log softmax(out)_y.  [..., n, classes], [n] -> [...]"""
    log_p = out.log_softmax(-1)
    return -log_p.gather(-1, y.expand(out.shape[:-1])[..., None]).mean((-2, -1))


def hessian(f: Surface, theta: Tensor) -> Tensor:
    """H_ij = ∂²f / ∂θ_i ∂θ_j, exact, one backward pass per column.  [..., P] -> [..., P, P]"""
    theta = theta.detach().requires_grad_()
    with torch.enable_grad():
        g = _slope(f(theta).sum(), theta, create_graph=True)
        sums = g.flatten(0, -2).sum(0) if g.ndim > 1 else g
        rows = [_slope(s, theta, retain_graph=True) for s in sums]
    return torch.stack(rows, -2)


def hessian_index(eigenvalues: Tensor, zero: float = 1e-6) -> Tensor:
    """Fraction of eigenvalues below −zero · max |λ|; NaN if one of them is.  [..., P] -> [...]"""
    scale = eigenvalues.abs().amax(-1, keepdim=True)
    negative = (eigenvalues < -zero * scale).to(eigenvalues.dtype)
    return torch.where(eigenvalues.isnan(), eigenvalues, negative).mean(-1)


def sharpness(f: Surface, theta: Tensor, steps: int = 60) -> Tensor:
    """λ_max of the Hessian by power iteration, from below.  [..., P] -> [...]

        v ← H v / ‖H v‖,  λ = vᵀ H v

    Finds the eigenvalue of largest size: where training ended, that is the largest one. Zero on a
    plane, where H v = 0. Raises ValueError unless steps > 0.
    """
    if not steps > 0:
        raise ValueError(f"steps={steps} must be positive")
    theta = theta.detach().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(theta.shape[-1], generator=generator).to(theta).expand(theta.shape)
    with torch.enable_grad():
        g = _slope(f(theta).sum(), theta, create_graph=True)
        for _ in range(steps):
            v = normalized(v)
            hv = _slope(g, theta, v, retain_graph=True)
            v, value = hv, (v * hv).sum(-1)
    return value


def normalized(v: Tensor) -> Tensor:
    """v / ‖v‖, zero where v is.  [..., P] -> [..., P]"""
    u, _ = scaled(v, -1)
    return (u / u.norm(dim=-1, keepdim=True).clamp(min=1)).to(v.dtype)  # max |u| ≥ 1 unless u = 0


def rescale(theta: Tensor, sizes: Sequence[int], factor: float) -> Tensor:
    """W₁, b₁ times factor, W₂ over factor: the same function of a ReLU network.  [P] -> [P]

    σ(a z) = a σ(z) for a > 0. Dinh et al. 2017. Raises ValueError unless factor is positive and
    finite.
    """
    if not 0 < factor < math.inf:
        raise ValueError(f"factor={factor} must be positive and finite")
    first = (sizes[0] + 1) * sizes[1]
    second = first + sizes[1] * sizes[2]
    parts = theta[..., :first] * factor, theta[..., first:second] / factor, theta[..., second:]
    return torch.cat(parts, -1)


def interpolate(one: Tensor, other: Tensor, points: int = 21) -> Tensor:
    """θ = (1 − s) θ₁ + s θ₂ for s from 0 to 1.  [..., P], [..., P] -> [points, ..., P]"""
    s = torch.linspace(0, 1, points, dtype=wide(check_floats("one", one)).dtype, device=one.device)
    s = s.view(-1, *(1,) * one.ndim)
    return ((1 - s) * one + s * other).to(one.dtype)


def critical_points(f: Surface, theta: Tensor, steps: int = 50, reach: float = 0.5) -> Tensor:
    """Points near theta where ∇f vanishes, of whatever kind: Newton's method.  [..., P] -> [..., P]

        θ ← θ − V (Vᵀ g / λ) where H = V diag(λ) Vᵀ

    It goes up along a direction of negative curvature as it goes down along one of positive, so it
    is drawn to saddles and minima alike. |λ| is kept above 1e-3 and the step below `reach`. Not
    every start arrives: look at ‖∇f‖ afterwards.
    """
    for _ in range(steps):
        values, vectors = torch.linalg.eigh(hessian(f, theta))
        values = torch.where(values < 0, -1, 1) * values.abs().clamp(min=1e-3)
        along = (vectors.mT @ gradient(f, theta)[..., None])[..., 0]
        step = (vectors @ (along / values)[..., None])[..., 0]
        theta = theta - step * (reach / norm(step, -1)).clamp(max=1)
    return theta


# ------------------------------------------------------------------------------- random matrices


def gaussian_symmetric(n: int, samples: int, generator: torch.Generator) -> Tensor:
    """Symmetric matrices of independent normal entries.  -> [samples, n, n], float64

        H = (A + Aᵀ) / √(2 n), A_ij ~ N(0, 1)

    The Gaussian orthogonal ensemble: entries of variance 1/n off the diagonal, 2/n on it.
    """
    a = torch.randn(samples, n, n, generator=generator, dtype=torch.float64)
    return (a + a.mT) / math.sqrt(2 * n)


def semicircle(x: Tensor) -> Tensor:
    """p(x) = √(4 − x²) / 2π on [−2, 2]: density of eigenvalues as n → ∞.  [...] -> [...]

    Wigner 1958, for `gaussian_symmetric`.
    """
    return (4 - x**2).clamp(min=0).sqrt() / (2 * math.pi)
