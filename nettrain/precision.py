"""Numbers whose squares overflow or vanish, and half precision: what statistics are computed with.

Statistics are computed at least in float32, and norms of numbers that a power of two has brought
near 1: their squares neither overflow nor vanish. Results have the dtype that came in.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def norm(x: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """‖x‖₂ along dimensions (None: all), which are kept with size 1; at least float32.

    Like torch.linalg.vector_norm, but the squares of 1e20 and 1e-24 count too.
    """
    u, scale = scaled(x, dim)
    return scale * torch.linalg.vector_norm(u, dim=dim, keepdim=True)


def scaled(x: Tensor, dim: int | Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """(u, s) with x = s u, s a power of two and 1 ≤ max |u| < 2 along dim; at least float32.

    Division by a power of two is exact, so that nothing changes for numbers of usual size. s has
    x's shape with size 1 along dim (None: all) and no derivative. It is 1 where x = 0 and NaN where
    x has an infinite entry.
    """
    x = wide(x)
    if not x.numel():
        return x, x.new_ones(())
    largest = x.detach().abs().amax(() if dim is None else dim, keepdim=True)
    mantissa, _ = torch.frexp(largest)  # in [½, 1)
    scale = torch.where(largest > 0, largest / (2 * mantissa), 1)
    return x / scale, scale


def wide(x: Tensor) -> Tensor:
    """x in float32, unless it is float64: the dtype in which statistics are computed."""
    return x if x.dtype == torch.float64 else x.float()


def check_floats(name: str, x: Tensor) -> Tensor:
    """x; TypeError that says what to give unless it is a tensor of floating point numbers."""
    if not isinstance(x, Tensor):
        array = f"{name}.to_numpy()" if hasattr(x, "to_numpy") else name
        raise TypeError(f"{name} is a {type(x).__name__}; give a tensor: torch.as_tensor({array})")
    if not x.is_floating_point():
        raise TypeError(f"{name} is {x.dtype}; give floating point numbers, as {name}.float()")
    return x
