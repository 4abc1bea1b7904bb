"""Random numbers that are a function of a key: same on CPU and GPU, alone or in a sweep.

A key is an int64 tensor such as (seed, step, layer). Draw number i of a key is SplitMix64 (Steele,
Lea & Flood 2014) started at the mixed key and read at position i, so no generator has to be carried
along and no draw depends on what else is drawn. Not for cryptography.
"""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed 64-bit numbers: torch multiplies modulo 2^64
_C1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_C2 = 0x94D049BB133111EB - (1 << 64)


def _shift(x: Tensor, k: int) -> Tensor:
    """x >> k filling with zeros: torch fills an int64 with its sign."""
    return (x >> k) & ((1 << (64 - k)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _C1
    x = (x ^ _shift(x, 27)) * _C2
    return x ^ _shift(x, 31)


def bits(key: Tensor, n: int) -> Tensor:
    """n random 64-bit numbers (int64, all values equally likely) of a key.  [..., k] -> [..., n]"""
    state = torch.zeros((), dtype=torch.int64, device=key.device)
    for part in key.unsqueeze(-2).unbind(-1):
        state = _mix(state + _GOLDEN + part)
    return _mix(state + _GOLDEN * torch.arange(1, n + 1, device=key.device))


def uniform(key: Tensor, shape: torch.Size) -> Tensor:
    """Uniform float32 numbers in [0, 1), multiples of 2⁻²⁴, of a key.  [k] -> shape"""
    return (_shift(bits(key, shape.numel()), 40).float() * 2.0**-24).view(shape)


def normal(key: Tensor, shape: torch.Size) -> Tensor:
    """Standard normal float32 numbers of a key, in pairs r cos φ, r sin φ.  [k] -> shape

        r = √(−2 ln(1 − u₁)),  φ = 2π u₂

    Box & Muller 1958. None is larger than 5.8. CPU and GPU agree but for rounding.
    """
    n = shape.numel()
    u1, u2 = uniform(key, torch.Size([2, (n + 1) // 2]))
    r, phi = (-2 * torch.log1p(-u1)).sqrt(), 2 * math.pi * u2
    return torch.cat([r * torch.cos(phi), r * torch.sin(phi)])[:n].view(shape)


def permutation(key: Tensor, n: int) -> Tensor:
    """A random order of 0 ... n − 1 of a key.  [..., k] -> [..., n]"""
    drawn = bits(key, n)
    if drawn.device.type == "cpu":  # numpy sorts several times as fast as torch
        return torch.from_numpy(drawn.numpy().argsort(-1))
    return drawn.argsort(-1)
