"""Preprocessing: a function fits a map to examples x [n, d], the map transforms and inverts.

    scale = standardize(x_train)
    z = scale.transform(x_test)          scale.inverse(z) is x_test again

Fit on the training examples only. What every fit does with unusual input:

constant feature   becomes 0 (min_max: `low`), and comes back by `inverse`; no division by zero
duplicate feature  scaled like any other; whitening leaves out directions without spread
one example        ValueError: it has no spread
NaN or infinite    ValueError that names the features
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """x̂ = (x − shift) / scale, each feature on its own; shift and scale [d]."""

    shift: Tensor
    scale: Tensor

    def transform(self, x: Tensor) -> Tensor:
        """[m, d] -> [m, d].  Raises ValueError for another number of features."""
        _check_width(x, len(self.shift))
        return (x - self.shift) / self.scale

    def inverse(self, x: Tensor) -> Tensor:
        """[m, d] -> [m, d]: the x that `transform` maps here."""
        _check_width(x, len(self.shift))
        return x * self.scale + self.shift


@dataclass(frozen=True)
class Whitening:
    """x̂ = (x − mean) W,  x = x̂ W⁻¹ + mean; mean [d], W [d, k] and its inverse [k, d].

    k < d if the fitted examples had directions without spread; then `inverse` gives the nearest
    point of the plane in which they lie.
    """

    mean: Tensor
    W: Tensor
    W_inverse: Tensor

    def transform(self, x: Tensor) -> Tensor:
        """[m, d] -> [m, k].  Raises ValueError for another number of features."""
        _check_width(x, len(self.mean))
        return (x - self.mean) @ self.W

    def inverse(self, x: Tensor) -> Tensor:
        """[m, k] -> [m, d].  Raises ValueError for another number of features."""
        _check_width(x, len(self.W_inverse))
        return x @ self.W_inverse + self.mean


def min_max(x: Tensor, low: float = 0.0, high: float = 1.0) -> Scaling:
    """x̂ = low + (high − low) (x − min x) / (max x − min x): each feature from low to high.

    Eq. 1.38 is low = 0, high = 1; nothing else gives [−1, 1]. Raises ValueError unless low < high.
    """
    _check(x)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"low={low} and high={high} are no interval; give low < high")
    smallest, largest = x.amin(0), x.amax(0)
    scale = _one_if_constant(x, largest - smallest) / (high - low)
    return Scaling(smallest - low * scale, scale)


def standardize(x: Tensor) -> Scaling:
    """x̂ = (x − μ) / σ,  μ = mean x,  σ² = mean (x − μ)².  Eqs. 1.39-1.41.

    Mean 0 and variance 1, not a normal distribution: the shape stays as it was. σ² divides by n.
    """
    _check(x)
    variance, mean = torch.var_mean(x, 0, correction=0)
    return Scaling(torch.where(_constant(x), x[0], mean), _one_if_constant(x, variance.sqrt()))


def pca_whitening(x: Tensor, *, eps: float = 0.0) -> Whitening:
    """x̂ = (x − μ) U (Λ + ε)^(−½), where C = U Λ Uᵀ is the covariance: x̂ has covariance I.

    Columns stand in the order of falling variance. ε > 0 keeps directions of little variance from
    being blown up; with ε = 0 directions without any are left out. C divides by n.
    """
    mean, U, root = _directions(x, eps)
    return Whitening(mean, U / root, (U * root).T)


def zca_whitening(x: Tensor, *, eps: float = 0.0) -> Whitening:
    """x̂ = (x − μ) U (Λ + ε)^(−½) Uᵀ: of all whitened x the nearest to x − μ.

    PCA whitening turned back, so that pixels stay pixels. Bell & Sejnowski 1997. With ε = 0 a
    direction without variance stays at zero.
    """
    mean, U, root = _directions(x, eps)
    return Whitening(mean, U / root @ U.T, U * root @ U.T)


def _directions(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [d], orthonormal directions [d, k], √(variance + ε) along each [k])."""
    _check(x)
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps={eps} is outside [0, inf)")
    mean = torch.where(_constant(x), x[0], x.mean(0))
    _, s, Vt = torch.linalg.svd(x - mean, full_matrices=False)  # squares no condition number
    if s[0] == 0:
        raise ValueError("x has no spread in any direction: all examples are equal")
    if eps == 0:
        keep = s > s[0] * max(x.shape) * torch.finfo(x.dtype).eps
        s, Vt = s[keep], Vt[keep]
    return mean, Vt.T, (s**2 / len(x) + eps).sqrt()


def _constant(x: Tensor) -> Tensor:
    """Which features have one value only: seen exactly, not by a variance with rounding errors."""
    return x.amin(0) == x.amax(0)


def _one_if_constant(x: Tensor, scale: Tensor) -> Tensor:
    return torch.where(_constant(x), torch.ones_like(scale), scale)


def _check(x: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; give floating point numbers, as x.double()")
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"x has shape {list(x.shape)}; give [n, d], images flattened")
    if len(x) < 2:
        raise ValueError(f"x has {len(x)} example(s); a spread needs two or more")
    bad = (~x.isfinite()).any(0).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"features {bad} of x have NaN or infinite values; fill or drop them")


def _check_width(x: Tensor, d: int) -> None:
    if x.ndim != 2 or x.shape[1] != d:
        raise ValueError(f"x has shape {list(x.shape)}, but the map was fitted for [m, {d}]")
