"""Losses for classification, accuracy, and calibration.

loss(outputs [n, classes], labels [n]) -> the mean over the examples; labels are integers from 0 to
classes − 1 (`check_labels`), for sequences one at each place. Raises TypeError for labels that are
not integers.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
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


def cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """As F.cross_entropy, for outputs [n, classes] and labels [n], 0 ... classes − 1.

    Or for soft labels, a distribution for each example, [n, classes]. Computed with the classes in
    front: on a CPU log_softmax is twelve times faster there than over a short last dimension, and
    a sweep's step is up to a fifth faster than with F.nll_loss, which looks for labels of -100.
    Raises ValueError for labels of another shape and TypeError for class numbers that are not
    integers; `check_labels` looks at their values.
    """
    _check_shape(out.shape, y)
    log_p = F.log_softmax(out.T, 0)
    if y.is_floating_point():
        return -(y.T * log_p).sum(0).mean()
    return -log_p.gather(0, y[None].long()).mean()


def _check_shape(shape: torch.Size, y: Tensor) -> None:
    """Refuse labels that are neither class numbers [n] nor distributions of the outputs' shape."""
    if len(shape) != 2:
        raise ValueError(f"outputs have shape {list(shape)}; give [n, classes]")
    if y.is_floating_point() and y.shape != shape:
        hint = "; class numbers are integers: y.long()" if y.numel() == shape[0] else ""
        raise TypeError(
            f"labels are {y.dtype} of shape {list(y.shape)}, but soft labels have the outputs' "
            f"shape {list(shape)}{hint}"
        )
    if not y.is_floating_point() and y.shape != shape[:1]:
        raise ValueError(
            f"labels have shape {list(y.shape)}, but there are {shape[0]} examples: give [n]"
        )
    if y.dtype == torch.bool or y.is_complex():
        raise TypeError(f"labels are {y.dtype}; class numbers are integers: y.long()")


def token_cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """−mean over i, t of log softmax(oᵢₜ) at yᵢₜ, for sequences with a label at each place.

    outputs [n, T, classes], labels [n, T], such as the next character of a text -> nats per token;
    divided by ln 2 it is in bits, and its exponential is the perplexity. Raises ValueError for
    labels of another shape, TypeError for labels that are not integers.
    """
    if out.ndim < 2 or y.shape != out.shape[:-1]:
        shapes = f"labels {list(y.shape)}, outputs {list(out.shape)}"
        raise ValueError(f"shapes are {shapes}; give labels [n, T] and outputs [n, T, classes]")
    return cross_entropy(out.flatten(0, -2), y.flatten())


def ensemble_cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """The cross-entropies of the members of `models.Ensemble`, added up; or that of their mean.

        Σₘ −(1/n) Σᵢ ln softmax(zᵢₘ) at yᵢ    for outputs [n, M, classes], in training
        −(1/n) Σᵢ ln pᵢ at yᵢ                 for ln p [n, classes], in evaluation

    A sum, so that each member has the gradient that it would have alone. Labels as those of
    `cross_entropy`. Raises ValueError for outputs of another shape.
    """
    if out.ndim != 3:
        return cross_entropy(out, y)
    members = out.shape[1]
    y = y[:, None].expand(-1, members, *y.shape[1:]).flatten(0, 1)
    return members * cross_entropy(out.flatten(0, 1), y)


def check_labels(y: Tensor, classes: int, name: str = "labels") -> None:
    """Refuse class numbers [n] outside 0 ... classes − 1 and soft labels [n, classes] that are not
    distributions.

    Once before training: a step must not read values. Raises TypeError and ValueError, which name
    the first label that is wrong.
    """
    _check_shape(torch.Size([len(y), classes]), y)
    if y.is_floating_point():
        bad = ~((y >= 0).all(-1) & ((y.sum(-1) - 1).abs() <= 1e-3))  # NaN is bad
        rule = "soft labels are at least 0 and sum to 1"
    else:
        bad = (y < 0) | (y >= classes)
        rule = f"with {classes} outputs they are 0 ... {classes - 1}"
    if bad.any():
        first = int(bad.int().argmax())
        raise ValueError(f"{name}[{first}] is {y[first].tolist()}, but {rule}")


def of_classes(loss: Callable) -> bool:
    """Whether a loss is one of this file: then its labels are class numbers or distributions."""
    return getattr(loss, "__module__", None) == __name__


def accuracy(out: Tensor, y: Tensor) -> Tensor:
    """Share of the labels at which the output is largest: outputs [n, classes], labels [n].

    Or of sequences, [n, T, classes] and [n, T]. NaN for other shapes and for labels that are not
    whole numbers.
    """
    classes = out.ndim > 1 and y.shape == out.shape[:-1] and not y.is_floating_point()
    return (out.argmax(-1) == y).double().mean() if classes else out.new_full((), math.nan)


def calibration_error(sure: Tensor, right: Tensor, *, bins: int = 10) -> Tensor:
    """Σ_b n_b / n · |mean confidence − share of right answers|, over bins of equal width.

    sure [n], confidences in [0, 1], and right [n], booleans. Guo et al. 2017, eq. 5.
    """
    where = (sure * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=sure.dtype, device=sure.device)
    return gaps.index_add(0, where, sure - right.to(sure.dtype)).abs().sum() / len(sure)
