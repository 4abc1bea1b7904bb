"""Update rules as the two sources print them, where they are wrong: kept to be shown wrong.

Same contract as `optimizers`. E.. and S.. are the numbers of the errata. Never train with these.
"""

import torch

from nettrain.optimizers import adam


def adagrad_inside(theta, g, s, *, t, lr=1e-2, eps=1e-10):
    """θ ← θ − η g / √(s + ε).  E08: eq. 1.9 with ε inside the root; Duchi et al. have it outside."""
    s = s + g**2
    return theta - lr * g / (s + eps).sqrt(), s


def adam_inside(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """θ ← θ − η m̂ / √(v̂ + ε).  E08: eq. 1.23 with ε inside the root; Kingma & Ba have it outside."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - lr * m_hat / (v_hat + eps).sqrt(), m, v


def adadelta_no_eps(theta, g, v, d, *, t, lr=1.0, beta2=0.9, eps=1e-6):
    """δ = √d / √(v + ε) · g.  E12: "the rate becomes √ΔX²", without ε, read literally."""
    v = beta2 * v + (1 - beta2) * g**2
    delta = d.sqrt() / (v + eps).sqrt() * g
    d = beta2 * d + (1 - beta2) * delta**2
    return theta - lr * delta, v, d


def adadelta_steps(theta, g, v, d, *, t, lr=1.0, beta2=0.9, eps=1e-6):
    """d ← β₂ d + (1 − β₂) δ.  E12: "the moving average of Δθ", not of its square, read literally."""
    v = beta2 * v + (1 - beta2) * g**2
    delta = (d + eps).sqrt() / (v + eps).sqrt() * g
    d = beta2 * d - (1 - beta2) * delta
    return theta - lr * delta, v, d


def adam_no_square(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """v ← β₁ v + (1 − β₁) g.  S01: the slide's G has no square; S02: and the two β are exchanged."""
    v = beta1 * v + (1 - beta1) * g
    m = beta2 * m + (1 - beta2) * g
    v_hat = v / (1 - beta1**t)
    m_hat = m / (1 - beta2**t)
    return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adam_swapped(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam with β₁ on the squares and β₂ on the mean.  S02: as on the slides of Adam, Adamax, Nadam."""
    return adam(theta, g, m, v, t=t, lr=lr, beta1=beta2, beta2=beta1, eps=eps)


def adamax_gain(theta, g, m, u, *, t, lr=2e-3, beta1=0.9, beta2=0.999):
    """m ← β₁ m + β₁ g.  S03: the slide's V = β V + β dW, with the decay rate on the right mean."""
    m = beta1 * m + beta1 * g
    u = torch.maximum(beta2 * u, g.abs())
    return theta - lr * m / u, m, u


def adamax_slide(theta, g, m, u, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """u ← max(β₁ G, |g|) with G the mean of squares, no correction of m.  S04 and S05.

    The slide feeds the running mean of squares into the maximum instead of the last maximum.
    """
    m = beta2 * m + (1 - beta2) * g
    big = torch.maximum(beta1 * u, g.abs())
    u = beta1 * u + (1 - beta1) * g**2
    return theta - lr * m / (big + eps), m, u


def nadam_slide(theta, g, m, v, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """G ← β₁ G + (1 − β₁) ∇J(θ − β₁),  V ← β₂ + (1 − β₂) ∇J(θ − β₂ V).  S06, printed.

    g must be a function θ -> ∇J(θ), since the slide takes gradients at shifted points.
    """
    v = beta1 * v + (1 - beta1) * g(theta - beta1)
    m = beta2 + (1 - beta2) * g(theta - beta2 * m)
    return theta - lr * m / (v.sqrt() + eps), m, v
