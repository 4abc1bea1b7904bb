"""Bayesian optimization: a Gaussian process, what a trial is worth, the next trial. Values fall.

    k(x, x') = σ² (1 + r + r²/3) exp(−r),  r² = 5 Σⱼ (xⱼ − x'ⱼ)²/ℓⱼ²           Matérn, ν = 5/2
    m(x) = kᵀ(K + τ²I)⁻¹ y,  v(x) = k(x, x) − kᵀ(K + τ²I)⁻¹ k                  posterior
    EI(x) = E max(y* − f(x), 0) = s (z Φ(z) + φ(z)),  z = (y* − m)/s            (1.58)

Rasmussen & Williams 2006; Jones et al. 1998; Snoek et al. 2012, 2015. Everything is float64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import minimize
from torch import Tensor

from nettrain import draws, spaces
from nettrain.search import Sobol, Trial

FLOAT = torch.float64


def climb(f: Callable, start: Tensor, low: Tensor, high: Tensor, steps: int) -> Tensor:
    """A local maximum of f between low and high by L-BFGS-B from start; start itself if f fails."""

    @torch.enable_grad()
    def fall(x):
        x = torch.from_numpy(x).view(start.shape).requires_grad_()
        value = -f(x)
        return value.item(), torch.autograd.grad(value, x)[0].flatten().numpy()

    bounds = list(zip(low.flatten().tolist(), high.flatten().tolist(), strict=True))
    x0, options = start.detach().flatten().numpy(), {"maxiter": steps, "ftol": 1e-7}
    found = minimize(fall, x0, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.from_numpy(found.x).view(start.shape) if math.isfinite(found.fun) else start


# ------------------------------------------------------------------------------ Gaussian process


class Matern(torch.autograd.Function):
    """k = (1 + r + r²/3) exp(−r) of s = r²; dk/ds = −(1 + r) exp(−r)/6, which is finite at s = 0.

    Autograd by itself would divide by r there.
    """

    @staticmethod
    def forward(ctx, s):
        r = s.sqrt()
        e = torch.exp(-r)
        ctx.save_for_backward(r, e)
        return (1 + r + s / 3) * e

    @staticmethod
    def backward(ctx, g):
        r, e = ctx.saved_tensors
        return -g * (1 + r) * e / 6


def kernel(a: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """k(a, b) for a [n, p], b [m, p] -> [n, m]; theta = log of (ℓ₁ ... ℓₚ, σ², τ²)."""
    scale = math.sqrt(5) * torch.exp(-theta[:-2])
    a, b = a * scale, b * scale
    s = a.square().sum(-1, keepdim=True) + b.square().sum(-1) - 2 * a @ b.mT
    return theta[-2].exp() * Matern.apply(s.clamp_min(0))


class LogDensity(torch.autograd.Function):
    """log N(y; 0, K) = −½ yᵀK⁻¹y − ½ log|K| − n/2 log 2π, and d/dK = ½(ααᵀ − K⁻¹), α = K⁻¹y."""

    @staticmethod
    def forward(ctx, K, y):
        L = torch.linalg.cholesky(K)
        alpha = torch.cholesky_solve(y[:, None], L)
        ctx.save_for_backward(L, alpha)
        fit = y @ alpha[:, 0] + len(y) * math.log(2 * math.pi)
        return -0.5 * fit - L.diagonal().log().sum()

    @staticmethod
    def backward(ctx, g):
        L, alpha = ctx.saved_tensors
        return 0.5 * g * (alpha @ alpha.mT - torch.cholesky_inverse(L)), None


FLOOR = 1e-6  # of the noise variance τ², so that the Cholesky decomposition cannot fail


def log_evidence(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """log p(y | x, θ) for x [n, p], y [n]: how well the kernel explains what was seen."""
    noise = theta[-1].exp() + FLOOR
    return LogDensity.apply(kernel(x, x, theta) + noise * torch.eye(len(x), dtype=FLOAT), y)


def log_prior(theta: Tensor) -> Tensor:
    """Log-normal: ℓ about √p/2 (factor e), σ² about 1 (factor e), τ² about e⁻⁸ (factor e²)."""
    p = len(theta) - 2
    mode = torch.tensor([math.log(0.5 * math.sqrt(p))] * p + [0.0, -8.0], dtype=FLOAT)
    width = torch.tensor([1.0] * p + [1.0, 2.0], dtype=FLOAT)
    return -0.5 * ((theta - mode) / width).square().sum()


@dataclass(frozen=True)
class GP:
    """A Gaussian process at fixed theta, conditioned on x [n, p] and y [n]."""

    x: Tensor
    y: Tensor
    theta: Tensor

    def __post_init__(self):
        noise = self.theta[-1].exp() + FLOOR
        K = kernel(self.x, self.x, self.theta) + noise * torch.eye(len(self.x), dtype=FLOAT)
        object.__setattr__(self, "L", torch.linalg.cholesky(K))
        object.__setattr__(self, "alpha", torch.cholesky_solve(self.y[:, None], self.L)[:, 0])

    @classmethod
    def fit(cls, x: Tensor, y: Tensor) -> "GP":
        """theta = argmax of evidence times prior, always climbed to from the same start."""
        p = x.shape[1]
        start = torch.tensor([math.log(0.5)] * p + [0.0, -6.0], dtype=FLOAT)
        objective = lambda theta: log_evidence(theta, x, y) + log_prior(theta)
        return cls(x, y, climb(objective, start, start - 10, start + 6, 40))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and variance [m] of f, not of a noisy y, at x [m, p]."""
        k = kernel(x, self.x, self.theta)
        v = torch.linalg.solve_triangular(self.L, k.mT, upper=False)
        return k @ self.alpha, (self.theta[-2].exp() - v.square().sum(0)).clamp_min(1e-12)

    def believe(self, x: Tensor) -> "GP":
        """As if its own mean had been seen at x: for trials that still run (kriging believer)."""
        return GP(torch.cat([self.x, x]), torch.cat([self.y, self.predict(x)[0]]), self.theta)


# ------------------------------------------------------------------------------ neural surrogate


@dataclass(frozen=True)
class Neural:
    """Bayesian linear regression on what the last hidden layer of a small network computes.

        A = ΦᵀΦ/τ² + I/σ²,  w = A⁻¹Φᵀy/τ²,  v(x) = φ(x)ᵀ A⁻¹ φ(x)              Φ [n, M + 1]

    Snoek et al. 2015 train the network on squared errors first. Here network, σ² and τ² are trained
    together on the evidence: M² n + M³ operations a step, linear in the number of trials.
    """

    x: Tensor
    y: Tensor
    theta: Tensor  # all numbers in one vector: log σ², log τ², then the layers
    units = 50

    def __post_init__(self):
        phi, (prior, noise) = self.basis(self.x, self.theta), self.theta[:2].exp()
        A = phi.mT @ phi / (noise + FLOOR) + torch.eye(self.units + 1, dtype=FLOAT) / prior
        object.__setattr__(self, "L", torch.linalg.cholesky(A))
        w = torch.cholesky_solve(phi.mT @ self.y[:, None] / (noise + FLOOR), self.L)[:, 0]
        object.__setattr__(self, "w", w)

    @classmethod
    def basis(cls, x: Tensor, theta: Tensor) -> Tensor:
        """φ(x) [m, M + 1]: three tanh layers of the inputs x [m, p] in [0, 1], and a constant."""
        h, at = 2 * x - 1, 2
        for _ in range(3):
            size = h.shape[1] * cls.units
            W = theta[at : at + size].view(h.shape[1], cls.units)
            h = torch.tanh(h @ W + theta[at + size : at + size + cls.units])
            at += size + cls.units
        return torch.cat([h / math.sqrt(cls.units), torch.ones_like(h[:, :1])], 1)

    @classmethod
    def objective(cls, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """log p(y | x, θ) by the matrix-determinant lemma, plus log-normal and normal priors."""
        self, (a, b) = cls(x, y, theta), theta[:2].exp()
        rest = (y - self.basis(x, theta) @ self.w).square().sum() / (b + FLOOR)
        size = rest + self.w.square().sum() / a
        logs = (
            len(y) * (b + FLOOR).log() + len(self.w) * a.log() + 2 * self.L.diagonal().log().sum()
        )
        prior = theta[0] ** 2 / 8 + (theta[1] + 6) ** 2 / 8 + theta[2:].square().sum() / 8
        return -0.5 * (size + logs + len(y) * math.log(2 * math.pi)) - prior

    @classmethod
    def fit(cls, x: Tensor, y: Tensor) -> "Neural":
        """theta = argmax of evidence times priors, always climbed to from the same start."""
        g, M, parts = torch.Generator().manual_seed(0), cls.units, [torch.tensor([0.0, -4.0])]
        for layer, n_in in enumerate((x.shape[1], M, M)):  # rough first layer
            width = (2.0 if layer == 0 else 0.6) / math.sqrt(n_in)
            parts += [width * torch.randn((n_in + 1) * M, generator=g)]
        start = torch.cat(parts).to(FLOAT)
        found = climb(lambda theta: cls.objective(theta, x, y), start, start - 10, start + 10, 100)
        return cls(x, y, found)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and variance [m] of f at x [m, p]."""
        phi = self.basis(x, self.theta)
        v = torch.linalg.solve_triangular(self.L, phi.mT, upper=False)
        return phi @ self.w, v.square().sum(0).clamp_min(1e-12)

    def believe(self, x: Tensor) -> "Neural":
        """As if its own mean had been seen at x."""
        return Neural(torch.cat([self.x, x]), torch.cat([self.y, self.predict(x)[0]]), self.theta)


# -------------------------------------------------- what a trial is worth; the largest is the next


def log_h(z: Tensor) -> Tensor:
    """log E max(z + N(0, 1), 0) = log(z Φ(z) + φ(z)) for any z (Ament et al. 2023).

    Left of −1 as log φ(z) + log(1 − |z| Φ(z)/φ(z)); left of −1000 the last term is −2 log|z|.
    """
    near, far, end = z.clamp_min(-1), z.clamp(-1000, -1), z.clamp_max(-1000)
    phi = torch.exp(-near.square() / 2) / math.sqrt(2 * math.pi)
    a = torch.log(near * torch.special.ndtr(near) + phi)
    ratio = math.sqrt(math.pi / 2) * torch.special.erfcx(-far / math.sqrt(2))
    b = torch.log1p(far * ratio)
    c = torch.log1p(-3 / end.square()) - 2 * (-end).log()
    tail = torch.where(z > -1000, b, c) - z.clamp_max(-1).square() / 2 - math.log(2 * math.pi) / 2
    return torch.where(z > -1, a, tail)


def ei(mean: Tensor, sd: Tensor, best: float) -> Tensor:
    """E max(y* − f, 0) = s (z Φ(z) + φ(z)),  z = (y* − m)/s: expected improvement (1.58)."""
    z = (best - mean) / sd
    return sd * (z * torch.special.ndtr(z) + torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi))


def log_ei(mean: Tensor, sd: Tensor, best: float) -> Tensor:
    """log EI: has a slope also where EI itself is zero in floating point."""
    return log_h((best - mean) / sd) + sd.log()


def pi(mean: Tensor, sd: Tensor, best: float) -> Tensor:
    """P(f < y*) = Φ(z): probability of improvement (Kushner 1964)."""
    return torch.special.ndtr((best - mean) / sd)


def lcb(mean: Tensor, sd: Tensor, best: float, kappa: float = 2.0) -> Tensor:
    """−(m − κ s): lower confidence bound, turned over to be maximized (Srinivas et al. 2010)."""
    return kappa * sd - mean


ACQUISITIONS = {"log_ei": log_ei, "ei": ei, "pi": pi, "lcb": lcb}
SURROGATES = {"gp": GP, "neural": Neural}

# ------------------------------------------------------------------------------ the next trial


class Bayes:
    """The searcher that tries where its surrogate expects most of a trial (Algorithm 1.1).

    surrogate    "gp", or "neural": linear in the number of trials, not quadratic or cubic
    acquisition  "log_ei", "ei", "pi" or "lcb"
    initial      trials of a Sobol sequence, before there is a model

    Nothing is remembered between calls: every fit starts from the same point, so that a study that
    was killed goes on as it would have. Raises ValueError for names that there are not.
    """

    def __init__(self, surrogate: str = "gp", acquisition: str = "log_ei", *, initial: int = 10):
        if surrogate not in SURROGATES or acquisition not in ACQUISITIONS:
            raise ValueError(
                f"surrogate={surrogate!r}, acquisition={acquisition!r}: there are "
                f"{list(SURROGATES)} and {list(ACQUISITIONS)}"
            )
        self.fit, self.acquisition = SURROGATES[surrogate].fit, ACQUISITIONS[acquisition]
        self.initial = initial

    def ask(self, space: dict, trials: Sequence[Trial], seed: int) -> dict | None:
        """A configuration that was never tried; None when no configuration is left."""
        number, known = len(trials), [t for t in trials if not t.outside]
        key = torch.tensor([seed, number])
        g = torch.Generator().manual_seed(int(draws.bits(key, 1)) & (2**63 - 1))
        tried = [spaces.to_unit(space, t.config) for t in known]
        tried = torch.stack(tried) if tried else torch.empty(0, spaces.dims(space), dtype=FLOAT)
        pending = torch.tensor([t.value is None for t in known], dtype=torch.bool)
        y = torch.tensor([math.nan if t.value is None else t.value for t in known], dtype=FLOAT)
        if number < self.initial or y.isfinite().sum() < 2:
            first = spaces.to_unit(space, Sobol().ask(space, trials, seed))[None]
            u = unseen(space, tried, g, first)
        else:
            u = unseen(space, tried, g, self.propose(space, tried, y, pending, g))
        return None if u is None else spaces.from_unit(space, u)

    @torch.no_grad()
    def propose(self, space: dict, u: Tensor, y: Tensor, pending: Tensor, g) -> Tensor:
        """Points [m, d] of configurations, the most valuable first."""
        x, done = spaces.embed(space, u), y.isfinite()
        y = (y - y[done].mean()) / y[done].std().clamp_min(1e-9)
        best = y[done].min().item()
        model = price_failures(self.fit, x[~pending], y[~pending])
        if pending.any():
            model = model.believe(x[pending])

        def worth(u):
            mean, variance = model.predict(spaces.embed(space, u))
            return self.acquisition(mean, variance.sqrt(), best)

        around = u[done][y[done].argsort()[:4]].repeat_interleave(32, 0)
        candidates = spaces.snap(space, torch.cat([uniform(1024, len(u[0]), g), near(around, g)]))
        start = candidates[worth(candidates).argsort(descending=True)]
        low, high = torch.zeros_like(start[:8]), torch.ones_like(start[:8])
        top = climb(lambda u: worth(u).sum(), start[:8], low, high, 20)
        top = torch.cat([spaces.snap(space, top), start])
        return top[worth(top).argsort(descending=True, stable=True)]


def price_failures(fit: Callable, x: Tensor, y: Tensor) -> GP | Neural:
    """A surrogate of x [n, p], y [n], where NaN is a failure: what the others' model expects there
    and one deviation more, and never better than the median."""
    ok = y.isfinite()
    model = fit(x[ok], y[ok])
    if ok.all():
        return model
    mean, variance = model.predict(x[~ok])
    priced = torch.maximum(mean + variance.sqrt(), y[ok].median())
    return fit(x, y.masked_scatter(~ok, priced))


def uniform(n: int, d: int, g: torch.Generator) -> Tensor:
    """n points of the unit cube [n, d]."""
    return torch.rand(n, d, generator=g, dtype=FLOAT)


def near(u: Tensor, g: torch.Generator) -> Tensor:
    """Neighbours of points u [n, d]: half of the coordinates moved by about 0.3 to 0.001."""
    size = 10 ** (-0.5 - 2.5 * uniform(len(u), 1, g))
    move = size * torch.randn(u.shape, generator=g, dtype=FLOAT)
    return (u + move * (uniform(*u.shape, g) < 0.5)).clamp(0, 1)


def unseen(space: dict, tried: Tensor, g: torch.Generator, points: Tensor) -> Tensor | None:
    """The first of the points [m, d] that was not tried, else a random one; None if 100,000 random
    ones were all tried: then the space is finite, and nothing is left of it."""
    for _ in range(100):
        taken = torch.cdist(points, tried, p=math.inf) < 1e-9
        if not (all_taken := taken.any(1)).all():
            return points[~all_taken][0]
        points = spaces.snap(space, uniform(1000, points.shape[1], g))
    return None
