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
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from exercises.grading.child import call, decode, encode

DRAWS = 6  # fresh inputs for each law
IDS = ("1-1", "1-2", "1-3", "1-4", "1-5", "1-6", "2-1", "2-2")
# What a right formula may lose to rounding, in units of its precision and relative to the answer.
# Everyone may compute in single precision, wholly or in part; there ln ρ near ρ = 1 costs many
# units. In the halves so many would excuse wrong formulas.
SINGLE = 2.0**-23
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
ROUNDING = {"float16": 4, "bfloat16": 2}
LONGEST_CALL = 4000  # letters of a call that a student may copy
NAN = "NaN comes from 0/0, ∞ − ∞, 0 · ln 0, or the logarithm or root of a negative number."
INFINITY = (
    "Infinity comes from a division by zero, or from overflow: exp(x) is too large from x = 710 "
    "(in float32 from 89). Subtract the largest exponent before exp."
)


class Broken(Exception):
    """A law does not hold for the student's functions; the message says how.

    slip: the known mistake that explains it, as a part of the message.
    """

    def __init__(self, message: str, slip: str | None = None):
        super().__init__(f"{message} {slip}" if slip else message)
        self.slip = slip


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
    call: str | None = None  # the call that broke it, as code
    slip: str | None = None  # the known mistake in it

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
    ask = None
    try:
        for _ in range(DRAWS):
            ask = Ask(replies)
            law.test(ask, rng)
    except Broken as error:
        return Mark(law, str(error), ask.asked, error.slip)
    return Mark(law, None)


# --------------------------------------------------------------------------- asking


class Ask:
    """Calls the student's functions for one law."""

    def __init__(self, replies: Callable):
        self._replies = replies
        self._precision = "float64"  # of the coarsest answer so far
        self.asked = None  # the last call that was answered, as code

    def __call__(self, name: str, *args, shape: tuple = (), lost: str | None = None) -> np.ndarray:
        """The student's `name(*args)` as float64 of exactly this shape; raises Broken.

        lost: what to say where an answer is NaN or infinite.
        """
        self.asked, reply = None, self._replies(name, args)
        asked = f"{name}({', '.join(map(show, args))})"
        if reply.get("error") == "Missing":
            raise Broken(f"There is no function `{name}`: has its cell run without an error?")
        if reply.get("error") == "NotImplementedError":
            raise Broken(f"`{name}` is not written yet.")
        self.asked = code(name, args)
        if reply.get("error") == "NoNumbers":
            raise Broken(f"{asked} {reply.get('text', '')}")
        if "error" in reply:
            said = f"{asked} raised {reply['error']}: {reply.get('text', '')}"
            raise Broken(f"{said.removesuffix('.')}.{advice(reply)}")
        value = numbers(reply.get("value"))
        if value is None:
            raise Broken(f"{asked} gave something that is not a regular array of numbers.")
        if value.shape != tuple(shape):
            wanted = f"an array of shape {tuple(shape)}" if shape else "a single number"
            raise Broken(
                f"{asked} has shape {value.shape}, but the task asks for {wanted}."
                f"{about_shape(value.shape, tuple(shape))}"
            )
        if not np.isfinite(value).all():
            cause = NAN if np.isnan(value).any() else INFINITY
            raise Broken(f"{asked} contains NaN or infinity: {show(value)}.", lost or cause)
        precision = precision_of(value, reply.get("precision"))
        if EPSILON.get(precision, 0.0) > EPSILON.get(self._precision, 0.0):
            self._precision = precision
        return value

    @property
    def epsilon(self) -> float:
        """The relative distance of neighbouring numbers in the precision that is allowed."""
        return EPSILON.get(self._precision, SINGLE)

    def close(self, got, want, *, atol=1e-9) -> bool:
        """Whether all numbers agree, as far as the precision of the answers so far allows.

        got and want: arrays of shapes that broadcast. Rounding counts relative to each number,
        and for those that others almost cancel, relative to the largest.
        """
        got, want = np.broadcast_arrays(np.asarray(got, float), np.asarray(want, float))
        largest = max(np.abs(got).max(initial=0.0), np.abs(want).max(initial=0.0))
        rtol = ROUNDING.get(self._precision, 128) * self.epsilon
        return np.allclose(got, want, rtol=rtol, atol=max(atol, 4 * self.epsilon * largest))

    def same(self, name: str, *args, want, slips=None, atol=1e-9, lost=None) -> np.ndarray:
        """The student's `name(*args)`, which must be `want`; raises Broken.

        slips: {what went wrong: the value that this mistake gives}; one that fits is named.
        lost: as in a call.
        """
        want = np.asarray(want, dtype=float)
        got = self(name, *args, shape=want.shape, lost=lost)
        if not self.close(got, want, atol=atol):
            slip = self.slip(got, slips or {})
            hint = "" if slip else self._nearly(got, want)
            asked = f"{name}({', '.join(map(show, args))})"
            raise Broken(f"{asked}{difference(got, want)}.{hint}", slip)
        return got

    def slip(self, got, slips: dict) -> str | None:
        """The first of the known mistakes whose value was given."""
        fits = lambda value: self.close(got, np.broadcast_to(value, np.shape(got)))
        return next((slip for slip, value in slips.items() if fits(value)), None)

    def _nearly(self, got: np.ndarray, want: np.ndarray) -> str:
        """What to look for where an answer is almost right."""
        off = np.abs(got - want).max() / max(np.abs(want).max(), 1e-300)
        if self._precision in EPSILON and off < 0.1:
            return f" Your answer has the precision of {self._precision}: compute in float64."
        if off < 1e-3:
            return f" They differ by a relative {off:.1g}: is it rounded, or an approximation?"
        return ""

    def require(self, holds: bool, message: str, slip: str | None = None) -> None:
        """Raise Broken with a message, and the mistake that explains it, unless it holds."""
        if not holds:
            raise Broken(message, slip)


def code(name: str, args: tuple) -> str | None:
    """A call as a student can copy it; None if it would be long."""
    text = lambda x: f"np.array({x.tolist()})" if isinstance(x, np.ndarray) else repr(encode(x))
    call = f"{name}({', '.join(map(text, args))})"
    return call if len(call) <= LONGEST_CALL else None


def advice(reply: dict) -> str:
    """What to do about an error."""
    said = str(reply.get("text", ""))
    if reply["error"] == "OverflowError":
        return f" {INFINITY}"
    if reply["error"] == "TypeError" and "positional argument" in said:
        return " Keep the function's arguments, and their order, as the task gives them."
    if reply["error"] in ("UnboundLocalError", "NameError"):
        return " Is it spelled as where it gets its value, and has that cell run?"
    return ""


def about_shape(got: tuple, wanted: tuple) -> str:
    """What to do about an array of another shape."""
    if got and math.prod(got) == 1 and not wanted:
        return " It holds one number: give that, by x.item()."
    if [n for n in got if n != 1] == [n for n in wanted if n != 1]:
        return " An axis of length one is too many, or missing."
    if len(got) > 1 and got[::-1] == wanted:
        return " The axes are the other way round."
    if wanted and not got:
        return " One number came back: was a sum or a mean taken over all?"
    if len(got) == len(wanted) and sum(abs(a - b) for a, b in zip(got, wanted, strict=True)) == 1:
        return " It is one off: where does the loop, or the range, begin and end?"
    return ""


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
    """The half precision that an answer claims and has, else float64.

    A claim counts only if every number exists in that dtype.
    """
    with np.errstate(over="ignore"):
        single = value.astype(np.float32)
        half = value.astype(np.float16)
    if claimed == "float16" and np.array_equal(half, value):
        return "float16"
    rounded = np.array_equal(single, value) and not (single.view(np.uint32) & 0xFFFF).any()
    return "bfloat16" if claimed == "bfloat16" and rounded else "float64"


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
        return call(namespace, name, [decode(encode(a)) for a in args])

    return replies
