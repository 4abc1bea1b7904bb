"""Gradient clipping, by value and by norm."""

import torch
from torch import Tensor

from nettrain.precision import check_floats, scaled


def by_value(g: Tensor, low: float, high: float) -> Tensor:
    """gᵢ ← max(min(gᵢ, high), low).  Eq. 1.24. Changes the direction of g.

    An infinite gᵢ becomes an end of the interval, a NaN stays. Raises ValueError unless
    low ≤ 0 ≤ high: any other interval turns a zero gradient into a step. TypeError for integers.
    """
    if not low <= 0 <= high:
        raise ValueError(f"clipping interval [{low}, {high}] must contain 0")
    return check_floats("g", g).clamp(low, high)


def by_norm(g: Tensor, threshold: float) -> Tensor:
    """g ← g · min(1, c / ‖g‖₂).  Eq. 1.25 with ‖g‖, not ‖g‖², compared with c. Keeps the direction.

    g holds the whole gradient (flatten a model's gradients first). Pascanu et al. 2013,
    Algorithm 1. With a NaN or infinite entry g has no direction: all entries become NaN, as a sign
    that the run has diverged. Raises ValueError unless threshold > 0, TypeError for integers.
    """
    if not threshold > 0:
        raise ValueError(f"threshold={threshold} must be positive")
    u, scale = scaled(check_floats("g", g))  # g = scale · u, and no square of u overflows
    length = torch.linalg.vector_norm(u)
    clipped = u * (threshold / length)
    return torch.where(scale * length <= threshold, g, clipped.to(g.dtype))
