"""Update rules as the two sources print them, where they are wrong: kept to be shown wrong.

Same contract as `optimizers`. E.. and S.. are the numbers of the errata. Never train with these.
"""

import torch

from nettrain.optimizers import adam


def adagrad_inside(theta, g, s, *, t, lr=1e-2, eps=1e-10):
    """θ ← θ − η g / √(s + ε).  E08: eq. 1.9, ε inside the root; Duchi et al. have it outside.

    E07: with ε as large as the text's e⁻⁷ = 9e-4 a small gradient takes almost no step.
    """
    s = s + g**2
    return theta - lr * g / (s + eps).sqrt(), s


def adam_inside(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """θ ← θ − η m̂ / √(v̂ + ε).  E08: eq. 1.23, ε inside the root; Kingma & Ba have it outside."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - lr * m_hat / (v_hat + eps).sqrt(), m, v


def adadelta_no_eps(theta, g, v, d, *, t, lr=1.0, beta2=0.9, eps=1e-6):
    """δ = √d / √(v + ε) · g.  E12: "the rate becomes √ΔX²", without ε: θ never moves."""
    v = beta2 * v + (1 - beta2) * g**2
    delta = d.sqrt() / (v + eps).sqrt() * g
    d = beta2 * d + (1 - beta2) * delta**2
    return theta - lr * delta, v, d


def adadelta_steps(theta, g, v, d, *, t, lr=1.0, beta2=0.9, eps=1e-6):
    """d ← β₂ d + (1 − β₂) Δθ, Δθ = −δ.  E12: "the average of Δθ", not of its square: √d fails."""
    v = beta2 * v + (1 - beta2) * g**2
    delta = (d + eps).sqrt() / (v + eps).sqrt() * g
    d = beta2 * d - (1 - beta2) * delta
    return theta - lr * delta, v, d


def adam_uncorrected(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """θ ← θ − η m / (√v + ε).  S05: Adam on the slides of Adamax and Nadam, not corrected."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return theta - lr * m / (v.sqrt() + eps), m, v


def adam_no_square(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """v ← β₁ v + (1 − β₁) g.  S01: the slide's G has no square. S02: the β are exchanged."""
    v = beta1 * v + (1 - beta1) * g
    m = beta2 * m + (1 - beta2) * g
    v_hat = v / (1 - beta1**t)
    m_hat = m / (1 - beta2**t)
    return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v


def adam_swapped(theta, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam with β₁ on squares, β₂ on the mean.  S02: as on the slides of Adam, Adamax, Nadam."""
    return adam(theta, g, m, v, t=t, lr=lr, beta1=beta2, beta2=beta1, eps=eps)


def adamax_gain(theta, g, m, u, *, t, lr=2e-3, beta1=0.9, beta2=0.999):
    """m ← β₁ m + β₁ g.  S03: the slide's V = β V + β dW, β being Kingma & Ba's β₁ here."""
    m = beta1 * m + beta1 * g
    u = torch.maximum(beta2 * u, g.abs())
    return theta - lr * m / u, m, u


def adamax_slide(theta, g, m, v, *, t, lr=2e-3, beta1=0.9, beta2=0.999):
    """V ← β₂ V + β₂ g,  u = max(β₁ G, |g|),  θ ← θ − η V / u, as printed.  S02, S03, S04, S05.

    S04: G, the mean of squares of the slide's Adam, stands where the last maximum belongs, so the
    path depends on the scale of the loss. S05: V is not corrected.
    """
    m = beta2 * m + beta2 * g
    u = torch.maximum(beta1 * v, g.abs())
    v = beta1 * v + (1 - beta1) * g**2
    return theta - lr * m / u, m, v


def nadam_slide(theta, g, m, v, *, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """G ← β₁ G + (1 − β₁) ∇J(θ − β₁),  V ← β₂ + (1 − β₂) ∇J(θ − β₂ V).  S06, as printed.

    The slide takes gradients at shifted points, so g is a function θ -> ∇J(θ) here.
    """
    v = beta1 * v + (1 - beta1) * g(theta - beta1)
    m = beta2 + (1 - beta2) * g(theta - beta2 * m)
    return theta - lr * m / (v.sqrt() + eps), m, v
