"""Losses for classification beside cross-entropy, which is `training.cross_entropy`.

loss(outputs [n, classes], labels [n]) -> the mean over the examples; labels are integers from 0 to
classes − 1 (`training.check_labels`). Raises TypeError for labels that are not integers.
"""

import torch
from torch import Tensor


def squared(out: Tensor, y: Tensor) -> Tensor:
    """½ ‖o − e_y‖², e_y = 1 for the label and 0 else: regression on the label."""
    return (out - _one_hot(out, y)).square().sum(1).mean() / 2


def brier(out: Tensor, y: Tensor) -> Tensor:
    """½ ‖softmax(o) − e_y‖²: the squared error of the probabilities.  Brier 1950."""
    return squared(out.softmax(1), y)


def hinge(out: Tensor, y: Tensor) -> Tensor:
    """Σ_{c≠y} max(0, 1 − o_y + o_c): each wrong class must stay 1 below.  Weston & Watkins 1999.

    torch.nn.MultiMarginLoss divides it by the number of classes.
    """
    right = _one_hot(out, y)
    margins = (1 - out.gather(1, y[:, None].long()) + out).clamp(min=0)
    return (margins * (1 - right)).sum(1).mean()


def _one_hot(out: Tensor, y: Tensor) -> Tensor:
    if y.is_floating_point() or y.dtype == torch.bool or y.shape != out.shape[:1]:
        raise TypeError(f"labels are {y.dtype} of shape {list(y.shape)}; give integers [n]")
    # F.one_hot reads its input's values, which a sweep cannot record
    return (y[:, None] == torch.arange(out.shape[1], device=y.device)).to(out.dtype)
