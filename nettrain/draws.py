"""Random numbers that are a function of a key: same on CPU and GPU, alone or in a sweep.

A key is an int64 tensor such as (seed, step, layer). Draw number i of a key is SplitMix64 (Steele,
Lea & Flood 2014) started at the mixed key and read at position i, so no generator has to be carried
along and no draw depends on what else is drawn. Not for cryptography.
"""

import math
import operator
from collections import OrderedDict

import torch
from torch import Tensor, nn

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

    Box & Muller 1958. None is larger than 5.8. CPU and GPU agree up to rounding.
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


def check_seed(seed, name: str = "seed") -> int:
    """The seed as a Python integer; numpy's integers and tensors of one integer are taken too.

    Raises TypeError for what is not an integer, ValueError outside [0, 2⁶³): a key has 64 bits,
    one of them a sign.
    """
    try:
        if isinstance(seed, bool):
            raise TypeError
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"{name}={seed!r} is not an integer") from None
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{name}={number} is outside [0, 2^63)")
    return number


# ------------------------------------------------------------------------------ random layers


class Keyed(nn.Module):
    """A random layer: what it draws is a function of (run's seed, training passes so far, layer).

        class Jitter(Keyed):
            def forward(self, x):
                return x * (0.9 + 0.2 * self.draw(x.shape)) if self.training else x

    So a run has the same draws alone, in a sweep, on CPU and on GPU. `training.build` sets seed and
    layer; a layer that it did not build takes its seed from torch's generator at its first pass, so
    that two layers never share their draws. A pass that activation checkpointing
    (torch.utils.checkpoint) repeats draws again what it drew.

    key  buffer of three int64: seed (−1: none yet), training passes so far, number of the layer
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("key", torch.tensor([-1, 0, 0]))
        self._seeded = False  # spares a GPU the question whether key[0] is negative
        self._passes: OrderedDict[int, Tensor] = OrderedDict()
        self.register_load_state_dict_post_hook(_ask_again)

    def set_key(self, seed: int, layer: int) -> None:
        """Start the run of this seed as layer number `layer`, with no training pass behind it."""
        self.key.copy_(torch.tensor([check_seed(seed), 0, layer]))
        self._seeded = True

    def draw(self, shape: torch.Size) -> Tensor:
        """Uniform float32 numbers in [0, 1) for this training pass, which is counted.  -> shape"""
        return uniform(self.next_key(), shape)

    def next_key(self) -> Tensor:
        """The key of this training pass, [3]; the next call is the next pass.

        For a layer that needs more than `draw`: at most one call in a forward pass.
        """
        if _transformed():
            return self._count()
        self.ensure_seed()
        # Checkpointing restores the state of torch's generator before it repeats a pass, and with
        # it this number: so a repeated pass is recognized, whatever happened in between.
        ticket = int(torch.randint(1 << 62, ()))
        if ticket not in self._passes:
            self._passes[ticket] = self._count()
            if len(self._passes) > REMEMBERED:
                self._passes.popitem(last=False)
        return self._passes[ticket]

    def ensure_seed(self) -> None:
        """Take a seed from torch's generator if the layer has none."""
        if not self._seeded and self.key[0] < 0:
            self.key[0] = torch.randint(1 << 62, ())
        self._seeded = True

    def _count(self) -> Tensor:
        key = self.key.clone()
        self.key[1] += 1
        return key


REMEMBERED = 1024  # training passes between a forward pass and its repetition


def _ask_again(layer: Keyed, _) -> None:
    layer._seeded = False


def _transformed() -> bool:
    """Whether torch.func or a compiler is at work: there, no number can be read or repeated."""
    inside = torch._C._functorch.peek_interpreter_stack() is not None
    return inside or torch.compiler.is_compiling()
