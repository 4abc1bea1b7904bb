"""Gradient clipping: by value and by norm."""

import torch
from torch import Tensor


def by_value(g: Tensor, low: float, high: float) -> Tensor:
    """gᵢ ← max(min(gᵢ, high), low).  Eq. 1.24. Changes the direction of g.

    Raises ValueError unless low ≤ 0 ≤ high: any other interval turns a zero gradient into a step.
    """
    if not low <= 0 <= high:
        raise ValueError(f"clipping interval [{low}, {high}] must contain 0")
    return g.clamp(low, high)


def by_norm(g: Tensor, threshold: float) -> Tensor:
    """g ← g · min(1, b / ‖g‖₂).  Eq. 1.25 with ‖g‖, not ‖g‖², compared with b. Keeps the direction.

    g holds the whole gradient (flatten a model's gradients first). Pascanu et al. 2013,
    Algorithm 1. Raises ValueError unless threshold > 0.
    """
    if not threshold > 0:
        raise ValueError(f"threshold={threshold} must be positive")
    return g * (threshold / torch.linalg.vector_norm(g)).clamp(max=1)
