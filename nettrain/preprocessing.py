"""Preprocessing: a function fits a map to examples x [n, d], the map transforms and inverts.

    scale = standardize(x_train)
    z = scale.transform(x_test)          scale.inverse(z) is x_test again

Fit on the training examples only. What every fit does with unusual input:

constant feature   becomes 0 (min_max: `low`), and comes back by `inverse`; no division by zero.
                   Constant is what spreads by no more than rounding does, 4 ε max |x|, with ε that
                   of x's dtype: up to rounding it becomes 0 too
duplicate feature  scaled like any other; whitening leaves out directions without spread
one example        ValueError: it has no spread
NaN or infinite    ValueError that names the features
tiny, huge         scaled like any other: no square overflows or vanishes. ValueError if the range
                   of a feature or the reciprocal of a deviation is beyond the largest number
half precision     the map computes in float32 and returns the dtype of what it is given
no tensor          TypeError that says how to make it one; also for integers
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nettrain.checks import check_range
from nettrain.precision import check_floats, scaled, wide


@dataclass(frozen=True)
class Scaling:
    """x̂ = low + (x − shift) / scale, each feature on its own; shift and scale [d]."""

    shift: Tensor
    scale: Tensor
    low: float = 0.0

    def __post_init__(self):
        if bad := _features(~((self.scale > 0) & self.scale.isfinite())):
            raise ValueError(f"features {bad} have a scale that is not in (0, inf)")

    def transform(self, x: Tensor) -> Tensor:
        """[m, d] -> [m, d].  Raises ValueError for another number of features."""
        _check_width(x, len(self.shift))
        return (self.low + (wide(x) - self.shift) / self.scale).to(x.dtype)

    def inverse(self, x: Tensor) -> Tensor:
        """[m, d] -> [m, d]: the x that `transform` maps here."""
        _check_width(x, len(self.shift))
        return ((wide(x) - self.low) * self.scale + self.shift).to(x.dtype)


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
        return ((wide(x) - self.mean) @ self.W).to(x.dtype)

    def inverse(self, x: Tensor) -> Tensor:
        """[m, k] -> [m, d].  Raises ValueError for another number of features."""
        _check_width(x, len(self.W_inverse))
        return (wide(x) @ self.W_inverse + self.mean).to(x.dtype)


def min_max(x: Tensor, low: float = 0.0, high: float = 1.0) -> Scaling:
    """x̂ = low + (high − low) (x − min x) / (max x − min x): each feature from low to high.

    Eq. 1.38 is low = 0, high = 1; nothing else gives [−1, 1]. Raises ValueError unless low < high.
    """
    _check(x)
    if not -math.inf < low < high < math.inf or math.isinf(high - low):
        raise ValueError(f"low={low} and high={high} do not form an interval; give low < high")
    smallest, largest = wide(x).amin(0), wide(x).amax(0)
    return Scaling(smallest, _unless_constant(x, largest - smallest) / (high - low), low)


def standardize(x: Tensor) -> Scaling:
    """x̂ = (x − μ) / σ,  μ = mean x,  σ² = mean (x − μ)².  Eqs. 1.39-1.41.

    Mean 0 and variance 1, not a normal distribution: the shape stays as it was. σ² divides by n.
    """
    _check(x)
    u, unit = scaled(x, 0)
    variance, mean = torch.var_mean(u, 0, correction=0)
    shift = torch.where(_constant(x), u[0], mean)
    return Scaling(unit[0] * shift, _unless_constant(x, unit[0] * variance.sqrt()))


def pca_whitening(x: Tensor, *, eps: float = 0.0) -> Whitening:
    """x̂ = (x − μ) U (Λ + ε)^(−½), where C = U Λ Uᵀ is the covariance: x̂ has covariance I.

    Columns come in the order of falling variance. ε > 0 keeps directions of little variance from
    being blown up; with ε = 0 directions without variance are left out. C divides by n.
    """
    mean, U, root = _directions(x, eps)
    return _whitening(x, mean, U / root, (U * root).T)


def zca_whitening(x: Tensor, *, eps: float = 0.0) -> Whitening:
    """x̂ = (x − μ) U (Λ + ε)^(−½) Uᵀ: of all whitened x the nearest to x − μ.

    PCA whitening turned back, so that pixels stay pixels. Bell & Sejnowski 1997. With ε = 0 a
    direction without variance stays at zero.
    """
    mean, U, root = _directions(x, eps)
    return _whitening(x, mean, U / root @ U.T, U * root @ U.T)


def _directions(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [d], orthonormal directions [d, k], √(variance + ε) along each [k]), in float64."""
    _check(x)
    check_range("eps", eps, "[0, inf)")
    u, unit = scaled(x.double())
    mean = torch.where(_constant(x), u[0], u.mean(0))
    centred = torch.where(_constant(x), 0, u - mean)
    _, s, Vt = torch.linalg.svd(centred - centred.mean(0), full_matrices=False)  # not its square
    if s[0] == 0:
        raise ValueError("x has no spread in any direction: all examples are equal")
    deviation = s / math.sqrt(len(x))
    if eps == 0:
        keep = deviation > _rounding(x.dtype, u, Vt, deviation[0])
        deviation, Vt = deviation[keep], Vt[keep]
    root = torch.hypot(unit[0] * deviation, unit.new_tensor(math.sqrt(eps)))
    return unit[0] * mean, Vt.T, root


def _rounding(dtype: torch.dtype, u: Tensor, Vt: Tensor, largest: Tensor) -> Tensor:
    """The deviation along each direction [k] that rounding alone can make, however many examples.

    Rounding of feature j to its dtype moves it by up to ε max |uⱼ|; the singular value
    decomposition errs by less than 10 ε of float64 times the largest deviation.
    """
    of_data = torch.finfo(dtype).eps * (Vt * u.abs().amax(0)).norm(dim=1)
    return of_data + 10 * torch.finfo(u.dtype).eps * largest


def _whitening(x: Tensor, *parts: Tensor) -> Whitening:
    """Whitening(*parts) in the dtype that maps of x compute in."""
    parts = [part.to(wide(x).dtype) for part in parts]
    if not all(part.isfinite().all() for part in parts):
        raise ValueError(f"x spreads by too little or much for {parts[0].dtype}; multiply it first")
    return Whitening(*parts)


def _constant(x: Tensor) -> Tensor:
    """Which features have only one value, up to rounding to their dtype."""
    info, x = torch.finfo(x.dtype), wide(x)
    rounding = 4 * info.eps * x.abs().amax(0).clamp(min=info.tiny)
    return x.amax(0) - x.amin(0) <= rounding.clamp(min=torch.finfo(x.dtype).tiny)


def _unless_constant(x: Tensor, scale: Tensor) -> Tensor:
    """The scale, but 1 for a constant; max |x| if that is larger, unless all values are equal."""
    x, constant = wide(x), _constant(x)
    size = torch.where(x.amin(0) == x.amax(0), 1, x.abs().amax(0).clamp(min=1))
    return torch.where(constant, size, scale)


def _check(x: Tensor) -> None:
    check_floats("x", x)
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"x has shape {list(x.shape)}; give [n, d], images flattened")
    if len(x) < 2:
        raise ValueError(f"x has {len(x)} example(s); a spread needs two or more")
    if bad := _features(~x.isfinite().all(0)):
        raise ValueError(f"features {bad} of x have NaN or infinite values; fill or drop them")
    if bad := _features((wide(x).amax(0) - wide(x).amin(0)).isinf()):
        raise ValueError(f"features {bad} of x spread beyond the largest {x.dtype}; divide them")


def _features(which: Tensor) -> list[int]:
    return which.nonzero().flatten().tolist()


def _check_width(x: Tensor, d: int) -> None:
    check_floats("x", x)
    if x.ndim != 2 or x.shape[1] != d:
        raise ValueError(f"x has shape {list(x.shape)}, but the map was fitted for [m, {d}]")
