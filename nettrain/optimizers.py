"""Update rules, in the order of the lecture: one equation, one line.

    rule(theta, g, *state, t, **hyper) -> (theta, *state)

theta   parameters, a float tensor of any shape; g: the gradient at theta, same shape
state   the positional arguments after g, each of theta's shape; every state starts at zero
t       the number of this step, 1, 2, 3, ...
hyper   keyword-only numbers (or tensors that broadcast): a rate lr, decay rates, eps

A rule works coordinate by coordinate, changes none of its arguments and keeps nothing. A letter has
one meaning: u velocity (in Adamax the largest recent |g|), m mean of g, v mean of g², s sum of g²;
rho is the decay rate of the velocity, beta1 that of m, beta2 that of v. Defaults are torch's. ε
stands outside the root where the paper has it there (all but AdaDelta); `misprints` holds the forms
that the sources print.
"""

import inspect
import math
from collections.abc import Callable

import torch

Rule = Callable[..., tuple]


def sgd(theta, g, *, t, lr=1e-3):
    """θ ← θ − η g.  Eq. 1.3; Robbins & Monro 1951."""
    return (theta - lr * g,)


def momentum(theta, g, u, *, t, lr=1e-3, rho=0.9):
    """u ← ρ u + g,  θ ← θ − η u.  Polyak 1964.

    Eq. 1.15 keeps Δθ = −η u instead of u: the same path while η is constant. When η changes, the
    old velocity is rescaled here (as in torch) and is not in eq. 1.15.
    """
    u = rho * u + g
    return theta - lr * u, u


def nesterov(theta, g, u, *, t, lr=1e-3, rho=0.9):
    """u ← ρ u + g,  θ ← θ − η (g + ρ u).  Nesterov 1983; Sutskever et al. 2013.

    Eq. 1.18 takes the gradient ahead, at θ̂ = θ + ρ Δθ. Here theta is that θ̂ (torch's form), so the
    gradient is taken where theta stands; θ = theta + η ρ u recovers eq. 1.18's variable.
    """
    u = rho * u + g
    return theta - lr * (g + rho * u), u


def adagrad(theta, g, s, *, t, lr=1e-2, eps=1e-10):
    """s ← s + g²,  θ ← θ − η g / (√s + ε).  Eqs. 1.8, 1.9; Duchi et al. 2011."""
    s = s + g**2
    return theta - lr * g / (s.sqrt() + eps), s


def rmsprop(theta, g, v, *, t, lr=1e-2, beta2=0.99, eps=1e-8):
    """v ← β₂ v + (1 − β₂) g²,  θ ← θ − η g / (√v + ε).  Eqs. 1.10-1.12; Tieleman & Hinton 2012."""
    v = beta2 * v + (1 - beta2) * g**2
    return theta - lr * g / (v.sqrt() + eps), v


def adadelta(theta, g, v, d, *, t, lr=1.0, beta2=0.9, eps=1e-6):
    """RMSprop whose rate is the running size of its own steps.

        v ← β₂ v + (1 − β₂) g²
        δ = √(d + ε) / √(v + ε) · g
        d ← β₂ d + (1 − β₂) δ²,  θ ← θ − η δ

    d is the mean of the *squared* steps. Both ε are needed inside the roots: with d = 0 and no ε
    the first step, and then every step, is zero. η = 1 is the paper's rule. Eqs. 1.13, 1.14;
    Zeiler 2012.
    """
    v = beta2 * v + (1 - beta2) * g**2
    delta = (d + eps).sqrt() / (v + eps).sqrt() * g
    d = beta2 * d + (1 - beta2) * delta**2
    return theta - lr * delta, v, d


def adam(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """A running mean of g, divided by the running root mean square of g.

        m ← β₁ m + (1 − β₁) g           m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²          v̂ = v / (1 − β₂ᵗ)
        θ ← θ − η m̂ / (√v̂ + ε)

    m and v start at zero, so early on they are too small; m̂ and v̂ undo that. Eqs. 1.19-1.23 with ε
    outside the root, as in Algorithm 1 of Kingma & Ba 2015.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adamax(theta, g, m, u, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam with the largest recent |g| in place of the root mean square.

        m ← β₁ m + (1 − β₁) g
        u ← max(β₂ u, |g| + ε),  θ ← θ − η / (1 − β₁ᵗ) · m / u

    u needs no correction: a maximum is not pulled towards its start. ε as in torch; Algorithm 2 of
    Kingma & Ba 2015 has none.
    """
    m = beta1 * m + (1 - beta1) * g
    u = torch.maximum(beta2 * u, g.abs() + eps)
    return theta - lr / (1 - beta1**t) * m / u, m, u


def nadam(theta, g, m, v, c, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, psi=4e-3):
    """Adam whose mean already holds the next step's share of g: no gradient is taken ahead.

        μₜ = β₁ (1 − ½ · 0.96^(ψ t)),  c ← 1 − μ₁ ⋯ μₜ
        m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  v̂ = v / (1 − β₂ᵗ)
        m̂ = μₜ₊₁ m / (1 − μ₁ ⋯ μₜ₊₁) + (1 − μₜ) g / c
        θ ← θ − η m̂ / (√v̂ + ε)

    c is one minus the running product, so that it starts at zero. The form of torch (ψ = 4e-3 there
    as here); Dozat 2016. Keras uses the same μ.
    """
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (psi * k)) for k in (t, t + 1))
    c = 1 - (1 - c) * mu
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    v_hat = v / (1 - beta2**t)
    m_hat = mu_next * m / (1 - (1 - c) * mu_next) + (1 - mu) * g / c
    return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v, c


def amsgrad(theta, g, m, v, v_max, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam that never forgets its largest v, so that no coordinate's rate grows again.

        v_max ← max(v_max, v),  θ ← θ − η m̂ / (√(v_max / (1 − β₂ᵗ)) + ε)

    The maximum is taken before the bias correction, as in torch. Reddi et al. 2018 correct nothing.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    v_max = torch.maximum(v_max, v)
    m_hat = m / (1 - beta1**t)
    v_hat = v_max / (1 - beta2**t)
    return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v, v_max


def adamw(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, decay=1e-2):
    """θ ← (1 − η λ) θ, then Adam: the decay does not pass through m and v.

    λ is `decay`. Loshchilov & Hutter 2019.
    """
    return adam((1 - lr * decay) * theta, g, m, v, t=t, lr=lr, beta1=beta1, beta2=beta2, eps=eps)


def powersign(theta, g, m, *, t, lr=1e-3, beta1=0.9):
    """m ← β₁ m + (1 − β₁) g,  θ ← θ − η e^(sign g · sign m) g.

    Found by search: Bello et al. 2017.
    """
    m = beta1 * m + (1 - beta1) * g
    return theta - lr * math.e ** (g.sign() * m.sign()) * g, m


def addsign(theta, g, m, *, t, lr=1e-3, beta1=0.9):
    """m ← β₁ m + (1 − β₁) g,  θ ← θ − η (1 + sign g · sign m) g.

    Found by search: Bello et al. 2017.
    """
    m = beta1 * m + (1 - beta1) * g
    return theta - lr * (1 + g.sign() * m.sign()) * g, m


RULES = (
    sgd,
    momentum,
    nesterov,
    adagrad,
    rmsprop,
    adadelta,
    adam,
    adamax,
    nadam,
    amsgrad,
    adamw,
    powersign,
    addsign,
)

# ------------------------------------------------------------- what a signature says about a rule

RANGES = {  # name: (lowest, highest, is the highest itself allowed)
    "lr": (0, math.inf, False),
    "rho": (0, 1, False),
    "beta": (0, 1, False),
    "beta1": (0, 1, False),
    "beta2": (0, 1, False),
    "eps": (0, math.inf, False),
    "decay": (0, math.inf, False),
    "psi": (0, math.inf, False),
    "d0": (1e-30, math.inf, False),
    "ratio": (0, math.inf, False),
    "lam1": (0, math.inf, False),
    "lam2": (0, math.inf, False),
    "smooth": (1e-30, math.inf, False),  # √θ² has no slope at 0
}


def state_names(rule: Rule) -> list[str]:
    """Names of the rule's state: its positional arguments after theta and g."""
    kinds = inspect.signature(rule).parameters.values()
    return [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD][2:]


def hyperparameters(rule: Rule) -> dict[str, float]:
    """Names and defaults of the rule's hyperparameters: its keyword-only arguments but t."""
    kinds = inspect.signature(rule).parameters.values()
    return {p.name: p.default for p in kinds if p.kind is p.KEYWORD_ONLY and p.name != "t"}


def starting(rule: Rule, theta: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The rule's state before its first step: zeros like theta, or what the rule's `start` says."""
    zeros = lambda theta: tuple(torch.zeros_like(theta) for _ in state_names(rule))
    return getattr(rule, "start", zeros)(theta)


def declare_as(rule: Rule, new: Rule) -> Rule:
    """`new`, a rule made of `rule` with the same states, with all that `rule` declares.

    That is where it is evaluated (`averaging`), and that it sees matrices (`matrix_rules`).
    """
    for name in ("weights", "tensorwise", "start"):
        if hasattr(rule, name):
            setattr(new, name, getattr(rule, name))
    return new


def is_coordinatewise(rule: Rule, **hyper) -> bool:
    """Whether the rule steps every coordinate as if it were alone, tried out on six numbers.

    A penalty such as λ ‖θ‖₂ couples them: then the step of a vector is not that of its parts. A
    rule that sees matrices or whose numbers differ by place (`groups.grouped`) says so.
    """
    if hasattr(rule, "tensorwise") or hasattr(rule, "factors"):
        return False
    g = torch.Generator().manual_seed(0)
    draw = lambda: torch.rand(6, generator=g, dtype=torch.float64) + 0.5
    whole = [draw() - 1, draw() - 1, *(draw() for _ in state_names(rule))]
    parts = zip(*(x.split(2) for x in whole), strict=True)
    together = torch.stack(rule(*whole, t=2, **hyper))
    apart = torch.cat([torch.stack(rule(*part, t=2, **hyper)) for part in parts], 1)
    return torch.allclose(together, apart, rtol=1e-9, atol=0, equal_nan=True)


def check_hyper(rule: Rule, hyper: dict) -> None:
    """Refuse a hyperparameter that the rule does not have, or a value outside its range.

    hyper: {name: number, or sequence or tensor of numbers}. Raises TypeError for a name and for
    what is not a number, ValueError for a value; the messages name the rule and what it allows.
    """
    known = hyperparameters(rule)
    for name, value in hyper.items():
        if name not in known:
            allowed = ", ".join(known)
            raise TypeError(f"{rule.__name__} has no hyperparameter {name!r}; it has {allowed}")
        low, high, closed = RANGES.get(name, (-math.inf, math.inf, True))
        try:
            x = torch.as_tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{rule.__name__}: {name}={value!r} is not a number") from None
        inside = (x >= low) & ((x <= high) if closed else (x < high))  # NaN is in no range
        if not inside.all():
            bad = x[~inside].flatten()[0].item()
            end = "]" if closed else ")"
            raise ValueError(f"{rule.__name__}: {name}={bad:g} is outside [{low:g}, {high:g}{end}")
