"""Penalties: of the weights' size, as terms of the loss and as parts of an update rule."""

import inspect
from collections.abc import Callable

import torch

from nettrain.checks import check_range
from nettrain.optimizers import Rule, declare_as, hyperparameters

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

    penalty  (θ, *, strengths) -> number; its strengths become hyperparameters of the new rule. θ
             is the vector of all parameters (with `adapter.Optimizer`: of a group's)

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
    return declare_as(rule, new)


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
    check_range("lam2", lam2, "(0, inf)")
    n, d = x.shape
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x / n + lam2 * identity, x.T @ y / n)
