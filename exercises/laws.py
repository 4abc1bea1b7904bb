"""A law: a statement about the student's functions, tested on freshly drawn inputs.

    exercise = Exercise("1-1", "Momentum is a weighted mean")

    @exercise.law("weights", points=2)
    def weights_fall_geometrically(ask, rng):
        '''The weight of the gradient τ is (1 − ρ) ρ^(t−τ).'''
        t, rho = int(rng.integers(2, 9)), rng.uniform(0.3, 0.95)
        ask.same("weights", t, rho, want=(1 - rho) * rho ** np.arange(t)[::-1])

A law knows the student's functions by name only. `ask` calls one, wherever it runs, and hands back
finite numbers of the shape that the law expects; any other answer breaks the law.
"""

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from exercises.grading.child import call

DRAWS = 6  # fresh inputs for each law
IDS = ("1-1", "1-2", "1-3", "1-4", "1-5", "1-6")
EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# What a right formula may lose to rounding, relative to the answer. In float32 that is many units
# in the last place, as ln ρ near ρ = 1 shows; in the halves so much would excuse wrong formulas.
ROUNDING = {"float32": 128, "float16": 4, "bfloat16": 2}  # in units of EPSILON
NAN = "NaN comes from 0/0, ∞ − ∞, 0 · ln 0, or the logarithm or root of a negative number."
INFINITY = (
    "Infinity comes from a division by zero, or from overflow: exp(x) is too large from x = 710 "
    "(in float32 from 89). Subtract the largest exponent before exp."
)


class Broken(Exception):
    """A law does not hold for the student's functions; the message says how."""


@dataclass(frozen=True)
class Law:
    part: str  # the function that it is mainly about
    points: int
    test: Callable = field(repr=False)

    @property
    def name(self) -> str:
        return self.test.__name__

    @property
    def statement(self) -> str:
        return " ".join(self.test.__doc__.split())


@dataclass(frozen=True)
class Mark:
    """What one law gave: all its points, or none and a message."""

    law: Law
    message: str | None  # None: the law holds

    @property
    def points(self) -> int:
        return 0 if self.message else self.law.points


class Exercise:
    """The laws of one exercise, in order."""

    def __init__(self, id: str, title: str):
        self.id, self.title, self.laws = id, title, []

    def law(self, part: str, *, points: int):
        def add(test):
            self.laws.append(Law(part, points, test))
            return test

        return add

    @property
    def points(self) -> int:
        return sum(law.points for law in self.laws)

    @property
    def parts(self) -> list[str]:
        return list(dict.fromkeys(law.part for law in self.laws))


def load(id: str) -> Exercise:
    """The exercise with this number; raises ValueError if there is none."""
    if id not in IDS:
        raise ValueError(f"there is no exercise {id!r}; there are {', '.join(IDS)}")
    return importlib.import_module(f"exercises.ex{id.replace('-', '_')}.laws").exercise


def judge(law: Law, replies: Callable, seed: int) -> Mark:
    """Try one law on DRAWS fresh inputs of a seed; replies(name, args) -> reply, as in `child`."""
    rng = np.random.default_rng([seed, zlib.crc32(law.name.encode())])
    try:
        for _ in range(DRAWS):
            law.test(Ask(replies, law), rng)
    except Broken as error:
        return Mark(law, str(error))
    return Mark(law, None)


# --------------------------------------------------------------------------- asking


class Ask:
    """Calls the student's functions for one law."""

    def __init__(self, replies: Callable, law: Law):
        self._replies, self._law = replies, law
        self._precision = "float64"  # of the coarsest answer so far

    def __call__(self, name: str, *args, shape: tuple = ()) -> np.ndarray:
        """The student's `name(*args)` as float64 of exactly this shape; raises Broken."""
        reply = self._replies(name, args)
        asked = f"{name}({', '.join(map(show, args))})"
        if reply.get("error") == "Missing":
            raise Broken(f"There is no function `{name}`. The law: {self._law.statement}")
        if reply.get("error") == "NotImplementedError":
            raise Broken(f"`{name}` is not written yet. The law to meet: {self._law.statement}")
        if reply.get("error") == "NoNumbers":
            raise Broken(f"{asked} {reply.get('text', '')}")
        if "error" in reply:
            hint = f". {INFINITY}" if reply["error"] == "OverflowError" else ""
            raise Broken(f"{asked} raised {reply['error']}: {reply.get('text', '')}{hint}")
        value = numbers(reply.get("value"))
        if value is None:
            raise Broken(f"{asked} gave something that is not a regular array of numbers.")
        if value.shape != tuple(shape):
            wanted = f"an array of shape {tuple(shape)}" if shape else "a single number"
            raise Broken(f"{asked} has shape {value.shape}, but the task asks for {wanted}.")
        if not np.isfinite(value).all():
            cause = NAN if np.isnan(value).any() else INFINITY
            raise Broken(f"{asked} contains NaN or infinity: {show(value)}. {cause}")
        precision = precision_of(value, reply.get("precision"))
        if EPSILON.get(precision, 0.0) > EPSILON.get(self._precision, 0.0):
            self._precision = precision
        return value

    def close(self, got, want, *, rtol=1e-5, atol=1e-8) -> bool:
        """Whether all numbers agree, as far as the precision of the answers so far allows.

        got and want: arrays of shapes that broadcast. Rounding counts relative to each number,
        and for those that others almost cancel, relative to the largest.
        """
        got, want = np.broadcast_arrays(np.asarray(got, float), np.asarray(want, float))
        largest = max(np.abs(got).max(initial=0.0), np.abs(want).max(initial=0.0))
        epsilon, units = EPSILON.get(self._precision, 0.0), ROUNDING.get(self._precision, 0)
        rtol, atol = max(rtol, units * epsilon), max(atol, 4 * epsilon * largest)
        return np.allclose(got, want, rtol=rtol, atol=atol)

    def same(self, name: str, *args, want, slips=None, rtol=1e-7, atol=1e-9) -> np.ndarray:
        """The student's `name(*args)`, which must be `want`; raises Broken.

        slips: {what went wrong: the value that this mistake gives}; one that fits is named.
        """
        want = np.asarray(want, dtype=float)
        got = self(name, *args, shape=want.shape)
        if not self.close(got, want, rtol=rtol, atol=atol):
            found = (
                slip
                for slip, value in (slips or {}).items()
                if self.close(got, np.broadcast_to(value, want.shape), rtol=1e-6, atol=1e-9)
            )
            hint = next(found, f"{self._nearly(got, want)}The law: {self._law.statement}")
            asked = f"{name}({', '.join(map(show, args))})"
            raise Broken(f"{asked}{difference(got, want)}. {hint}")
        return got

    def _nearly(self, got: np.ndarray, want: np.ndarray) -> str:
        """What to look for where an answer is almost right."""
        off = np.abs(got - want).max() / max(np.abs(want).max(), 1e-300)
        if self._precision in ("float16", "bfloat16") and off < 0.1:
            return f"Your answer has the precision of {self._precision}: compute in float64. "
        if off < 1e-3:
            return (
                f"They differ by a relative {off:.1g}: is a part of it computed in single "
                "precision (float32), rounded, or an approximation? "
            )
        return ""

    def require(self, holds: bool, message: str) -> None:
        """Raise Broken with a message unless a condition holds."""
        if not holds:
            raise Broken(f"{message} The law: {self._law.statement}")


def numbers(value) -> np.ndarray | None:
    """Nested lists of plain numbers as float64, else None; runs nothing that came from outside."""
    todo, count = [(value, 0)], 0
    while todo:
        item, depth = todo.pop()
        if isinstance(item, list) and depth < 8:
            todo += [(x, depth + 1) for x in item]
        elif type(item) not in (int, float, bool):
            return None
        count += 1
        if count > 300_000:
            return None
    try:
        return np.array(value, dtype=np.float64)
    except (ValueError, OverflowError, TypeError):  # ragged lists, or an integer beyond 1e308
        return None


def precision_of(value: np.ndarray, claimed) -> str:
    """The dtype to which an answer was rounded, by its numbers and the dtype that it claims.

    A claim counts only if every number exists in that dtype. float32 needs no claim: numbers
    computed in float64 are hardly ever float32 numbers, so these were converted.
    """
    with np.errstate(over="ignore"):
        single = value.astype(np.float32)
        half = value.astype(np.float16)
    if claimed == "float16" and np.array_equal(half, value):
        return "float16"
    if not np.array_equal(single, value):
        return "float64"
    if claimed == "bfloat16" and not (single.view(np.uint32) & 0xFFFF).any():
        return "bfloat16"
    return "float32"


def show(value, digits: int | None = None) -> str:
    """A number or array, short: `digits` of them, usually 6 of a number and 4 of an array."""
    if isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value):
        text = np.array2string(np.asarray(value), precision=digits or 4, threshold=8, edgeitems=2)
        return " ".join(text.split())
    if isinstance(value, (float, np.floating, np.ndarray)):
        return f"{float(value):.{digits or 6}g}"
    return str(value)


def apart(got, want) -> tuple[str, str]:
    """Two numbers, shown with as many digits as it takes to tell them apart."""
    for digits in range(6, 18):
        texts = show(float(got), digits), show(float(want), digits)
        if texts[0] != texts[1]:
            break
    return texts


def difference(got: np.ndarray, want: np.ndarray) -> str:
    """ " = got, but it is want": whole, or the entry that is furthest off where they look equal."""
    if not got.ndim:
        one, other = apart(got, want)
        return f" = {one}, but it is {other}"
    if show(got) != show(want):
        return f" = {show(got)}, but it is {show(want)}"
    at = np.unravel_index(np.abs(got - want).argmax(), got.shape)
    one, other = apart(got[at], want[at])
    return f"[{', '.join(map(str, at))}] = {one}, but it is {other}"


# --------------------------------------------------------------------------- in a namespace here


def local(namespace: dict) -> Callable:
    """Replies from functions of this process, through the same narrow gate as the grader's."""

    def replies(name, args):
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
        return call(namespace, name, copies)

    return replies
