"""Early stopping: losses recorded at evaluations 1, 2, ..., T, [T] -> where to stop, or None."""

import math

import torch
from torch import Tensor

from nettrain.checks import check_range

# ---------------------------------------------------------------------------------- early stopping
#
# Losses recorded at evaluations 1, 2, ..., T, [T] -> the evaluation after which to stop, or None.
# All look at the past only. NaN is taken as an infinite loss: it counts as a rise, and what follows
# may be a minimum. Raise ValueError for an empty record and for parameters out of range. GL, PQ and
# UP are Prechelt's (1998), a strip is k = 5 evaluations there. GL and PQ are percentages, so they
# raise ValueError for losses below zero, which UP and patience can judge.


def generalization_loss(valid):
    """GL(t) = 100 (Eᵥ(t) / min_{s ≤ t} Eᵥ(s) − 1), percent above the minimum so far.

    Zero where the loss is zero, infinite where it is. Raises ValueError for a loss below zero.
    """
    valid = _not_below_zero("valid", valid)
    percent = 100 * (valid / valid.cummin(0).values - 1)
    percent[valid == 0], percent[valid.isinf()] = 0, math.inf  # for 0 / 0 and ∞ / ∞
    return percent


def training_progress(train, *, k=5):
    """Pₖ(t) = 1000 (mean / min of the last k training losses − 1), in per mille; NaN for t < k.

    NaN too for a strip with an infinite loss, zero for one of zeros. Raises ValueError for a loss
    below zero.
    """
    _count("k", k)
    train = _not_below_zero("train", train)
    strips = train.unfold(0, k, 1) if len(train) >= k else train.new_empty(0, k)
    mean = strips.mean(1).maximum(strips.amin(1))  # which rounding may push below the minimum
    progress = 1000 * (mean / strips.amin(1) - 1)
    progress[(strips == 0).all(1)], progress[strips.isinf().any(1)] = 0, math.nan
    return torch.cat([train.new_full((len(train) - len(progress),), math.nan), progress])


def stop_gl(valid, *, alpha):
    """The first t with GL(t) > α."""
    check_range("alpha", alpha, "(0, inf)")
    return _first(~(generalization_loss(valid) <= alpha))


def stop_pq(valid, train, *, alpha, k=5):
    """The first end of a strip with GL(t) / Pₖ(t) > α: no stop while training is still fast.

    No stop at a minimum either (GL = 0), however slow training is.
    """
    check_range("alpha", alpha, "(0, inf)")
    if len(valid) != len(train):
        raise ValueError(f"{len(valid)} validation and {len(train)} training losses do not pair")
    loss, progress = generalization_loss(valid), training_progress(train, k=k)
    above = (loss > 0) & ~(loss / progress <= alpha)  # a NaN is above
    at = _first(above[k - 1 :: k])
    return at and k * at


def stop_up(valid, *, s, k=5):
    """The first end of a strip at which the loss has risen over s strips in a row."""
    _count("s", s), _count("k", k)
    ends = _record("valid", valid)[k - 1 :: k]
    rises = (ends[1:] > ends[:-1]) | (ends[1:] == math.inf)
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
    return torch.where(losses.isnan(), math.inf, losses)


def _not_below_zero(name: str, losses) -> Tensor:
    losses = _record(name, losses)
    if (below := losses < 0).any():
        at = _first(below)
        raise ValueError(f"{name} is {losses[at - 1]:g} at evaluation {at}; percentages need ≥ 0")
    return losses


def _first(condition: Tensor) -> int | None:
    """Number, from 1, of the first true entry."""
    return int(condition.int().argmax()) + 1 if condition.any() else None


def _count(name: str, value) -> None:
    if not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{name}={value} is not one of 1, 2, 3, ...")
