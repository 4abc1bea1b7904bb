"""Bayesian optimization: a Gaussian process, what a trial is worth, the next trial.

Smaller is better.

    k(x, x') = σ² (1 + r + r²/3) exp(−r),  r² = 5 Σⱼ (xⱼ − x'ⱼ)²/ℓⱼ²           Matérn, ν = 5/2
    m(x) = kᵀ(K + τ²I)⁻¹ y,  v(x) = k(x, x) − kᵀ(K + τ²I)⁻¹ k                  posterior
    EI(x) = E max(y* − f(x), 0) = s (z Φ(z) + φ(z)),  z = (y* − m)/s            (1.58)

Mockus et al. 1978; Jones et al. 1998; Rasmussen & Williams 2006; Snoek et al. 2012, 2015.
Everything is float64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.optimize import minimize
from torch import Tensor

from nettrain import draws, spaces
from nettrain.searchers import Sobol
from nettrain.trials import Trial

FLOAT = torch.float64
ROOT = math.sqrt(2 * math.pi)
FLOOR = 1e-6  # added to the noise variance τ², so that the Cholesky decomposition cannot fail
WARPS = (math.inf, 0.01)  # the second is greedy: near the best, little gains look large


def climb(f: Callable, start: Tensor, low: Tensor, high: Tensor, steps: int, rel=1e-7) -> Tensor:
    """Local maximum of f: x -> (value, gradient) by L-BFGS-B from start; start if f fails."""

    def fall(x):
        value, slope = f(torch.from_numpy(x).view(start.shape))
        return -value.item(), -slope.flatten().numpy()

    bounds = list(zip(low.flatten().tolist(), high.flatten().tolist(), strict=True))
    x0, options = start.flatten().numpy(), {"maxiter": steps, "ftol": rel}
    found = minimize(fall, x0, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.from_numpy(found.x).view(start.shape) if math.isfinite(found.fun) else start


def with_gradient(f: Callable) -> Callable:
    """x -> f(x) as x -> (f(x), its gradient), by autograd."""

    @torch.enable_grad()
    def both(x):
        x = x.detach().requires_grad_()
        value = f(x)
        return value.detach(), torch.autograd.grad(value, x)[0]

    return both


class Known(torch.autograd.Function):
    """A function whose derivative was found by hand: `Known.apply(x, *(value, slope))`."""

    @staticmethod
    def forward(ctx, x, value, slope):
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None, None


def matern(s: Tensor) -> tuple[Tensor, Tensor]:
    """k = (1 + r + r²/3) exp(−r) at s = r², and dk/ds = −(1 + r) exp(−r)/6, finite at s = 0.

    Autograd by itself would divide by r, which is zero at zero distance.
    """
    r = s.sqrt()
    e = torch.exp(-r)
    return (1 + r + s / 3) * e, -(1 + r) * e / 6


def distance(a: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """r² = 5 Σⱼ (aⱼ − bⱼ)²/ℓⱼ² for a [n, p], b [m, p] -> [n, m]."""
    scale = math.sqrt(5) * torch.exp(-theta[:-2])
    a, b = a * scale, b * scale
    return (a.square().sum(-1, keepdim=True) + b.square().sum(-1) - 2 * a @ b.mT).clamp_min(0)


def kernel(a: Tensor, b: Tensor, theta: Tensor) -> Tensor:
    """k(a, b) [n, m]; theta is the logarithm of (ℓ₁ ... ℓₚ, σ², τ²)."""
    s = distance(a, b, theta)
    return theta[-2].exp() * Known.apply(s, *matern(s.detach()))


def log_evidence(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """log p(y | x, θ), how well the kernel explains y [n] at x [n, p], and its gradient.

    −½ yᵀα − ½ log|K| − n/2 log 2π,  ½ tr((ααᵀ − K⁻¹) dK/dθⱼ),  K = k + τ²I, α = K⁻¹y
    """
    signal, noise = theta[-2:].exp()
    k, slope = matern(distance(x, x, theta))
    L = torch.linalg.cholesky(signal * k + (noise + FLOOR) * torch.eye(len(x), dtype=FLOAT))
    inverse = torch.cholesky_inverse(L)
    alpha = inverse @ y
    value = -0.5 * (y @ alpha + len(y) * math.log(2 * math.pi)) - L.diagonal().log().sum()
    W = 0.5 * (torch.outer(alpha, alpha) - inverse)
    G, z = W * signal * slope, x * math.sqrt(5) * torch.exp(-theta[:-2])
    lengths = -4 * (G.sum(0) @ z.square() - (z * (G @ z)).sum(0))  # Σ G dr²/d log ℓⱼ
    rest = torch.stack([signal * (W * k).sum(), noise * W.trace()])
    return value, torch.cat([lengths, rest])


def log_prior(theta: Tensor) -> tuple[Tensor, Tensor]:
    """log p(θ) and its gradient: ℓ about √p/2, σ² about 1, τ² about e⁻⁸ (factors e, e, e²).

    Distances in the unit cube grow like √p, and so must lengthscales. Hvarfner et al. 2024.
    """
    p = len(theta) - 2
    mode = torch.tensor([math.log(0.5 * math.sqrt(p))] * p + [0.0, -8.0], dtype=FLOAT)
    width = torch.tensor([1.0] * (p + 1) + [2.0], dtype=FLOAT)
    z = (theta - mode) / width
    return -0.5 * z.square().sum(), -z / width


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
    def objective(cls, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """log p(y | x, θ) + log p(θ), which `fit` maximizes, and its gradient."""
        (evidence, slope), (prior, pull) = log_evidence(theta, x, y), log_prior(theta)
        return evidence + prior, slope + pull

    @classmethod
    def fit(cls, x: Tensor, y: Tensor) -> "GP":
        """theta = argmax of evidence times prior, always climbed to from the same start."""
        p = x.shape[1]
        start = torch.tensor([math.log(0.5)] * p + [0.0, -6.0], dtype=FLOAT)
        low = start - torch.tensor([4.0] * p + [4.0, 10.0], dtype=FLOAT)  # log FLOOR is -14
        return cls(x, y, climb(lambda t: cls.objective(t, x, y), start, low, start + 6, 40, 1e-6))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and variance [m] of f, not of a noisy y, at x [m, p]."""
        k = kernel(x, self.x, self.theta)
        v = torch.linalg.solve_triangular(self.L, k.mT, upper=False)
        return k @ self.alpha, (self.theta[-2].exp() - v.square().sum(0)).clamp_min(1e-12)

    def believe(self, x: Tensor):
        """As if its own mean had been seen at x: for trials that still run (kriging believer)."""
        return replace(self, x=torch.cat([self.x, x]), y=torch.cat([self.y, self.predict(x)[0]]))


@dataclass(frozen=True)
class Neural:
    """Bayesian linear regression on what the last hidden layer of a small network computes.

        A = ΦᵀΦ/τ² + I/σ²,  w = A⁻¹Φᵀy/τ²,  v(x) = φ(x)ᵀ A⁻¹ φ(x)              Φ [n, M + 1]

    Snoek et al. 2015 train the network on squared errors first. Here network, σ² and τ² are trained
    together on the evidence: M² n + M³ operations a step, linear in the number of trials.
    """

    x: Tensor
    y: Tensor
    theta: Tensor  # log σ², log τ², then how far the weights have moved from where they were drawn
    units = 50  # M

    def __post_init__(self):
        phi, (prior, noise) = self.basis(self.x, self.theta), self.theta[:2].exp()
        A = phi.mT @ phi / (noise + FLOOR) + torch.eye(self.units + 1, dtype=FLOAT) / prior
        object.__setattr__(self, "L", torch.linalg.cholesky(A))
        w = torch.cholesky_solve(phi.mT @ self.y[:, None] / (noise + FLOOR), self.L)[:, 0]
        object.__setattr__(self, "w", w)

    @classmethod
    def basis(cls, x: Tensor, theta: Tensor) -> Tensor:
        """φ(x) [m, M + 1]: three tanh layers of the inputs x [m, p] in [0, 1], and a constant."""
        h, M, drawn = 2 * x - 1, cls.units, torch.Generator().manual_seed(0)
        moves = theta[2:].split([(n_in + 1) * M for n_in in (x.shape[1], M, M)])
        for gain, move in zip((2.0, 1.0, 1.0), moves, strict=True):
            W = torch.randn(h.shape[1] + 1, M, generator=drawn, dtype=FLOAT) + move.view(-1, M) / 20
            h = torch.tanh(gain / math.sqrt(h.shape[1]) * (h @ W[:-1] + W[-1]))
        return torch.cat([h / math.sqrt(M), torch.ones_like(h[:, :1])], 1)

    @classmethod
    def objective(cls, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """log p(y | x, θ) + log p(θ) without the constants of the prior, and its gradient."""

        def log_posterior(theta):  # the determinant of K by that of A
            self, (a, b) = cls(x, y, theta), theta[:2].exp()
            rest = (y - self.basis(x, theta) @ self.w).square().sum() / (b + FLOOR)
            logs = len(y) * (2 * math.pi * (b + FLOOR)).log() + len(self.w) * a.log()
            size = rest + self.w.square().sum() / a + logs + 2 * self.L.diagonal().log().sum()
            prior = theta[0] ** 2 / 4 + (theta[1] + 6) ** 2 / 4 + theta[2:].square().sum()
            return -0.5 * (size + prior)

        return with_gradient(log_posterior)(theta)

    @classmethod
    def fit(cls, x: Tensor, y: Tensor) -> "Neural":
        """theta = argmax of evidence times prior. A prior about zero would make φ constant."""
        count = (x.shape[1] + 1) * cls.units + 2 * (cls.units + 1) * cls.units
        start = torch.tensor([0.0, -4.0] + [0.0] * count, dtype=FLOAT)
        f = lambda theta: cls.objective(theta, x, y)
        return cls(x, y, climb(f, start, start - 6, start + 6, 60, 1e-4))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and variance [m] of f at x [m, p]."""
        phi = self.basis(x, self.theta)
        v = torch.linalg.solve_triangular(self.L, phi.mT, upper=False)
        return phi @ self.w, v.square().sum(0).clamp_min(1e-12)

    believe = GP.believe


def log_h(z: Tensor) -> tuple[Tensor, Tensor]:
    """log E max(z + N(0, 1), 0) = log(z Φ(z) + φ(z)) for any z, and its derivative Φ/(z Φ + φ).

    Left of −1 as log φ + log(1 − |z| Φ/φ), left of −1000 as log φ − 2 log|z|. Ament et al. 2023.
    """
    near, far, end = z.clamp_min(-1), z.clamp(-1000, -1), z.clamp_max(-1000)
    a = torch.log(near * torch.special.ndtr(near) + (-near.square() / 2).exp() / ROOT)
    mills = math.sqrt(math.pi / 2) * torch.special.erfcx(-far / math.sqrt(2))  # Φ/φ
    b = torch.where(z > -1000, torch.log1p(far * mills), -2 * (-end).log() - 3 / end.square())
    h = torch.where(z > -1, a, b - z.square() / 2 - math.log(ROOT))
    return h, torch.exp(torch.special.log_ndtr(z) - h)


def ei(mean: Tensor, sd: Tensor, best: float) -> Tensor:
    """E max(y* − f, 0) = s (z Φ(z) + φ(z)),  z = (y* − m)/s: expected improvement (1.58)."""
    z = (best - mean) / sd
    return sd * (z * torch.special.ndtr(z) + torch.exp(-z.square() / 2) / ROOT)


def log_ei(mean: Tensor, sd: Tensor, best: float) -> Tensor:
    """log EI: has a slope also where EI itself is zero in floating point."""
    z = (best - mean) / sd
    return Known.apply(z, *log_h(z.detach())) + sd.log()


def pi(mean: Tensor, sd: Tensor, best: float) -> Tensor:
    """P(f < y*) = Φ(z): probability of improvement (Kushner 1964)."""
    return torch.special.ndtr((best - mean) / sd)


def lcb(mean: Tensor, sd: Tensor, best: float, kappa: float = 2.0) -> Tensor:
    """−(m − κ s): lower confidence bound, turned over to be maximized (Srinivas et al. 2010)."""
    return kappa * sd - mean


ACQUISITIONS = {"log_ei": log_ei, "ei": ei, "pi": pi, "lcb": lcb}
SURROGATES = {"gp": GP, "neural": Neural}


class Bayes:
    """The searcher that tries where its surrogate expects most of a trial (Algorithm 1.1).

    surrogate    "gp", or "neural": linear in the number of trials, not quadratic or cubic
    acquisition  "log_ei", "ei", "pi" or "lcb"
    initial      trials of a Sobol sequence, before there is a model

    The best value so far, y*, is the model's lowest mean at a configuration that was tried: the
    lowest of many noisy values was partly lucky. Without noise the two are the same.

    Nothing is remembered between calls: every fit starts from the same point, so that a study that
    was killed goes on as it would have. A trial whose value is far `beyond` those of the initial
    trials is modelled like a failed one. Raises ValueError for unknown names and for
    initial < 1.
    """

    def __init__(self, surrogate: str = "gp", acquisition: str = "log_ei", *, initial: int = 10):
        if surrogate not in SURROGATES or acquisition not in ACQUISITIONS:
            raise ValueError(f"{surrogate=}, {acquisition=}: not in {[*SURROGATES, *ACQUISITIONS]}")
        self.surrogate = SURROGATES[surrogate]
        self.initial = spaces.whole("initial", initial)
        self.acquisition = ACQUISITIONS[acquisition]

    def ask(self, space: dict, trials: Sequence[Trial], seed: int) -> dict | None:
        """A configuration that was never tried, or None when no configuration is left."""
        number, (tried, y, pending) = len(trials), self.known(space, trials)
        bits = draws.bits(torch.tensor([seed, number]), 1)
        g = torch.Generator().manual_seed(int(bits) & (2**63 - 1))
        if number < self.initial or y.isfinite().sum() < 2:
            points = spaces.to_unit(space, Sobol().ask(space, trials, seed))[None]
        else:
            points = self.propose(space, tried, y, pending, g)
        u = unseen(space, tried, g, points)
        return None if u is None else spaces.from_unit(space, u)

    @torch.no_grad()
    def recommend(self, space: dict, trials: Sequence[Trial]) -> Trial | None:
        """The finished trial whose mean under the model is lowest; None if none has succeeded.

        With noise the trial with the lowest value was lucky, the more so the more trials there are.
        """
        known, (u, y, pending) = [t for t in trials if not t.outside], self.known(space, trials)
        done = y.isfinite()
        if done.sum() < 2:
            finished = [t for t in known if t.state == "done"]
            return min(finished, key=lambda t: t.value, default=None)
        x = spaces.embed(space, u)
        model, _ = self.model(x, y, pending)
        worst = torch.full_like(y, math.inf)
        return known[worst.masked_scatter(done, model.predict(x[done])[0]).argmin()]

    def known(self, space: dict, trials: Sequence[Trial]) -> tuple[Tensor, Tensor, Tensor]:
        """(u [n, d], y [n], pending [n]) of the trials in the space; y is NaN without a value."""
        inside = [t for t in trials if not t.outside]
        u = [spaces.to_unit(space, t.config) for t in inside]
        u = torch.stack(u) if u else torch.empty(0, spaces.dims(space), dtype=FLOAT)
        pending = torch.tensor([t.value is None for t in inside], dtype=torch.bool)
        y = [t.value if t.state == "done" else math.nan for t in inside]
        return u, beyond(torch.tensor(y, dtype=FLOAT), self.initial), pending

    @torch.no_grad()
    def propose(self, space: dict, u: Tensor, y: Tensor, pending: Tensor, g) -> Tensor:
        """Points [m, d] of configurations, the most valuable first."""
        x, done = spaces.embed(space, u), y.isfinite()
        model, _ = self.model(x, y, pending)
        tried, _ = model.predict(x[done])
        best = tried.min().item()  # y*

        def worth(u):
            mean, variance = model.predict(spaces.embed(space, u))
            return self.acquisition(mean, variance.sqrt(), best)

        draw = lambda n, d: torch.rand(n, d, generator=g, dtype=FLOAT)
        d, near = len(u[0]), u[done][tried.argsort()[:4]].repeat_interleave(32, 0)
        size = 10 ** (-0.5 - 2.5 * draw(len(near), 1))  # of moves, 0.3 to 0.001
        move = size * torch.randn(near.shape, generator=g, dtype=FLOAT)
        near = (near + move * (draw(len(near), d) < 0.5)).clamp(0, 1)
        start = spaces.snap(space, torch.cat([draw(1024, d), near]))
        start = start[worth(start).argsort(descending=True)]
        top, f = start[:8], with_gradient(lambda u: worth(u).sum())
        top = climb(f, top, torch.zeros_like(top), torch.ones_like(top), 16)
        top = torch.cat([spaces.snap(space, top), start])
        return top[worth(top).argsort(descending=True, stable=True)]

    def model(self, x: Tensor, y: Tensor, pending: Tensor):
        """(surrogate, y in its scale), given the trials at features x.

        Fits in the plain scale; when the number of trials is odd also in the log scale, and keeps
        the one with more evidence (half the cost). A failed trial counts as what the others' model
        expects there and one deviation more, and never as better than the median.
        """
        done, scales = y.isfinite(), []
        failed = ~done & ~pending
        for c in WARPS[: 1 + len(y) % 2]:
            z, slope = warp(y, done, c)
            model = self.surrogate.fit(x[done], z[done])
            score = self.surrogate.objective(model.theta, x[done], z[done])[0] + slope
            scales.append((score.item(), model, z))
        _, model, y = max(scales, key=lambda scale: scale[0])
        if failed.any():
            mean, variance = model.predict(x[failed])
            price = torch.maximum(mean + variance.sqrt(), y[done].median())
            y = y.masked_scatter(failed, price)
            model = self.surrogate.fit(x[~pending], y[~pending])
        return (model.believe(x[pending]) if pending.any() else model), y


def warp(y: Tensor, done: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """(z, its log Jacobian) of y (c = ∞) or log(y − min y + c s), standardized; s = deviation of y.

    Evidences in two scales can be compared once each has the log Jacobian of its scale added:
    Σ log dz/dy over the finished trials, without n log s, which both scales share.
    """
    gap = (y - y[done].min()) / y[done].std().clamp_min(1e-12)
    t, slope = (gap, 0 * gap) if c == math.inf else ((gap + c).log(), -(gap + c).log())
    sd = t[done].std().clamp_min(1e-12)
    return (t - t[done].mean()) / sd, (slope[done] - sd.log()).sum()


FAR = 1e3  # on the benchmark's functions no initial trial lies more than 60 spreads away


def beyond(y: Tensor, initial: int) -> Tensor:
    """y [n] with NaN for values above q + 10³ (q − min y): a loss of 10³⁰ has diverged as well.

    q is the 0.4-quantile of the finite ones among the first `initial` values, and at least the
    second of them, min y their minimum; where these two are equal nothing is left out. Values that
    are larger than 10¹⁰⁰ in size are divided by the largest one, so that squares stay finite.
    """
    first = y[:initial][y[:initial].isfinite()].sort().values
    if len(first) > 1:
        q = first[max(1, math.ceil(0.4 * len(first)) - 1)]
        bound = q / FAR + (q - first[0])  # divided, since q + 10³ (q − min y) may overflow
        far = (y / FAR > bound) & (q > first[0])
        y = y.masked_fill(far, math.nan)
    size = y[y.isfinite()].abs()
    return y / size.max() if (size > 1e100).any() else y


def unseen(space: dict, tried: Tensor, g: torch.Generator, points: Tensor) -> Tensor | None:
    """The first of the points [m, d] that was not tried, else a random one; None if 100,000 random
    ones were all tried: then the space is finite, and all of it has been tried."""
    for _ in range(100):
        new = (torch.cdist(points, tried, p=math.inf) > 1e-9).all(1)
        if new.any():
            return points[new][0]
        points = spaces.snap(space, torch.rand(1000, len(points[0]), generator=g, dtype=FLOAT))
    return None
