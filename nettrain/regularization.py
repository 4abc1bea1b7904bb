"""Regularization: penalties, early stopping, the dropout family, label smoothing, distillation."""

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nettrain import draws
from nettrain.optimizers import Rule, hyperparameters

# ------------------------------------------------------ penalties: θ [P], *, strengths -> number


def l1(theta, *, lam1=1e-3):
    """λ₁ Σ |θᵢ|.  Eq. 1.59 with p = 1. The slope at zero, which does not exist, is taken as 0."""
    return lam1 * theta.abs().sum()


def l1_smooth(theta, *, lam1=1e-3, smooth=1e-8):
    """λ₁ Σ √(θᵢ² + ε), ε = `smooth`: eq. 1.62. Above l1 by at most λ₁ √ε a coordinate, at zero."""
    return lam1 * (theta**2 + smooth).sqrt().sum()


def l2(theta, *, lam2=1e-3):
    """λ₂ ½ Σ θᵢ².  Half the *square* of the norm, where eqs. 1.59 and 1.63 print the norm (E20)."""
    return lam2 * (theta**2).sum() / 2


def elastic_net(theta, *, lam1=1e-3, lam2=1e-3):
    """λ₁ Σ |θᵢ| + λ₂ ½ Σ θᵢ².  Eq. 1.63; Zou & Hastie 2005.

    scikit-learn's ElasticNet with (1 / 2n) Σ (y − ŷ)² has λ₁ = α ρ, λ₂ = α (1 − ρ), ρ its l1_ratio.
    """
    return l1(theta, lam1=lam1) + l2(theta, lam2=lam2)


# --------------------------------------------------------------- from a penalty to an update rule


def penalized(rule: Rule, penalty: Callable) -> Rule:
    """The rule, fed with the gradient of loss + penalty: g + ∂ penalty / ∂θ.

        penalized(adam, elastic_net)    has lr, beta1, beta2, eps and lam1, lam2

    penalty  (θ, *, strengths) -> number; its strengths become hyperparameters of the new rule

    Raises ValueError if rule and penalty have a hyperparameter of the same name.
    """
    strengths = hyperparameters(penalty)
    if twice := strengths.keys() & hyperparameters(rule).keys():
        raise ValueError(f"{rule.__name__} and {penalty.__name__} both have {sorted(twice)}")
    slope = torch.func.grad(penalty)

    def with_penalty(theta, g, *state, t, **hyper):
        lam = {name: hyper.pop(name, default) for name, default in strengths.items()}
        return rule(theta, g + slope(theta, **lam), *state, t=t, **hyper)

    return _signed(with_penalty, rule, penalty.__name__, strengths)


def decayed(rule: Rule) -> Rule:
    """θ ← (1 − w) θ, then the rule, which does not see the decay.  Eq. 1.64; Hanson & Pratt 1989.

    w = η λ with λ = `decay`, as in AlexNet: 0.0005 is a λ, not a w (E21). decayed(adam) is adamw.
    Raises ValueError if the rule has no rate or already a decay.
    """
    known = hyperparameters(rule)
    if "lr" not in known or "decay" in known:
        raise ValueError(f"{rule.__name__} needs a hyperparameter lr and none called decay")

    def with_decay(theta, g, *state, t, lr=known["lr"], decay=1e-2, **hyper):
        return rule((1 - lr * decay) * theta, g, *state, t=t, lr=lr, **hyper)

    return _signed(with_decay, rule, "decay", {"decay": 1e-2})


def _signed(new: Callable, rule: Rule, name: str, more: dict) -> Rule:
    """The new rule with the signature of the old one and more hyperparameters, and a name."""
    kind, old = inspect.Parameter.KEYWORD_ONLY, inspect.signature(rule)
    added = [inspect.Parameter(k, kind, default=v) for k, v in more.items()]
    new.__signature__ = old.replace(parameters=[*old.parameters.values(), *added])
    new.__name__ = f"{rule.__name__}_{name}"
    return new


def soft_threshold(x, width):
    """sign(x) · max(|x| − width, 0): the θ that minimizes ½ (θ − x)² + width |θ|."""
    return x.sign() * (x.abs() - width).clamp(min=0)


def ista(theta, g, *, t, lr=1e-3, lam1=1e-3):
    """θ ← S(θ − η g, η λ₁), S the soft threshold: an update rule for loss + l1.

    g is the gradient of the loss alone. What is smaller than η λ₁ becomes exactly zero, which steps
    along a slope of |θ| never do. penalized(ista, l2) is for the elastic net. Daubechies et al.
    2004.
    """
    return (soft_threshold(theta - lr * g, lr * lam1),)


def ridge(x, y, *, lam2):
    """(XᵀX / n + λ₂ I)⁻¹ Xᵀy / n: minimizes (1 / 2n) ‖y − Xθ‖² + λ₂ ½ ‖θ‖².  [n, d], [n] -> [d]

    Raises ValueError unless λ₂ > 0.
    """
    if not 0 < lam2 < math.inf:
        raise ValueError(f"lam2={lam2} is outside (0, inf)")
    n, d = x.shape
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x / n + lam2 * identity, x.T @ y / n)


# ---------------------------------------------------------------------------------- early stopping
#
# Losses recorded at evaluations 1, 2, ..., T, [T] -> the evaluation after which to stop, or None.
# All look at the past only; a NaN counts as a rise. Raise ValueError for an empty record and for
# parameters out of range. GL, PQ and UP are Prechelt's (1998), a strip is k = 5 evaluations there.


def generalization_loss(valid):
    """GL(t) = 100 (Eᵥ(t) / min_{s ≤ t} Eᵥ(s) − 1), percent above the minimum so far."""
    valid = _record("valid", valid)
    return 100 * (valid / valid.cummin(0).values - 1)


def training_progress(train, *, k=5):
    """Pₖ(t) = 1000 (mean / min of the last k training losses − 1), in per mille; NaN for t < k."""
    _count("k", k)
    strips = _record("train", train).unfold(0, k, 1) if len(train) >= k else torch.empty(0, k)
    progress = 1000 * (strips.mean(1) / strips.amin(1) - 1)
    return torch.cat([torch.full((len(train) - len(progress),), math.nan), progress])


def stop_gl(valid, *, alpha):
    """The first t with GL(t) > α."""
    _positive("alpha", alpha)
    return _first(~(generalization_loss(valid) <= alpha))


def stop_pq(valid, train, *, alpha, k=5):
    """The first end of a strip with GL(t) / Pₖ(t) > α: no stop while training is still fast."""
    _positive("alpha", alpha)
    if len(valid) != len(train):
        raise ValueError(f"{len(valid)} validation and {len(train)} training losses do not pair")
    quotient = generalization_loss(valid) / training_progress(train, k=k)
    at = _first(~(quotient[k - 1 :: k] <= alpha))
    return at and k * at


def stop_up(valid, *, s, k=5):
    """The first end of a strip at which the loss has risen over s strips in a row."""
    _count("s", s), _count("k", k)
    rises = ~(_record("valid", valid)[k - 1 :: k].diff() <= 0)
    at = _first(rises.unfold(0, s, 1).all(1)) if len(rises) >= s else None
    return at and k * (at + s)


def stop_patience(valid, *, patience):
    """The first t that ends `patience` evaluations without a new minimum: common today."""
    _count("patience", patience)
    valid = _record("valid", valid)
    t, before = torch.arange(len(valid)), valid.cummin(0).values.roll(1)
    best = torch.where((valid < before) | (t == 0), t, 0).cummax(0).values
    return _first(t - best >= patience)


def _record(name: str, losses) -> Tensor:
    losses = torch.as_tensor(losses, dtype=torch.float64)
    if losses.ndim != 1 or not len(losses):
        raise ValueError(f"{name} has shape {list(losses.shape)}; give losses [T], T ≥ 1")
    return losses


def _first(condition: Tensor) -> int | None:
    """Number, from 1, of the first true entry."""
    return int(condition.int().argmax()) + 1 if condition.any() else None


def _count(name: str, value) -> None:
    if not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{name}={value} is not one of 1, 2, 3, ...")


def _positive(name: str, value) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value} is outside (0, inf)")


# ----------------------------------------------------------------------------------------- dropout


class Dropout(nn.Module):
    """Keep each unit with probability `keep`, scaled so that the mean stays: y = m ⊙ x / keep.

    m is drawn from the key (run's seed, training passes so far, layer), so that a run has the same
    masks alone, in a sweep, on CPU and on GPU; `training.build` sets seed and layer. At evaluation
    y = x. Eq. 1.65 scales at test time instead; the expectations agree. Srivastava et al. 2014.
    Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, keep: float):
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep={keep} is outside (0, 1]")
        self.keep = keep
        self.register_buffer("key", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x
        mask = draws.uniform(self.key, x.shape) < self.keep
        self.key[1] += 1
        return x * mask / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"
