"""A law: a statement about the student's functions, tested on inputs drawn afresh.

    exercise = Exercise("1-1", "Momentum is a weighted mean")

    @exercise.law("weights", points=2)
    def weights_fall_geometrically(ask, rng):
        '''The weight of the gradient τ is (1 − ρ) ρ^(t−τ).'''
        t, rho = int(rng.integers(2, 9)), rng.uniform(0.3, 0.95)
        ask.same("weights", t, rho, want=(1 - rho) * rho ** np.arange(t)[::-1])

A law knows the student's functions by name only. `ask` calls one, wherever it runs, and hands back
numbers of the shape that the law expects, finite ones; whatever else comes breaks the law.
"""

import importlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from exercises.child import call

DRAWS = 6  # fresh inputs for each law
IDS = ("1-1", "1-2", "1-3", "1-4", "1-5", "1-6")


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
    """The exercise of this number; raises ValueError for another."""
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

    def __call__(self, name: str, *args, shape: tuple = ()) -> np.ndarray:
        """The student's `name(*args)` as float64 of exactly this shape; raises Broken."""
        reply = self._replies(name, args)
        asked = f"{name}({', '.join(map(show, args))})"
        if reply.get("error") == "Missing":
            raise Broken(f"There is no function `{name}`. The law: {self._law.statement}")
        if reply.get("error") == "NotImplementedError":
            raise Broken(f"`{name}` is not written yet. The law to meet: {self._law.statement}")
        if reply.get("error") == "TypeError" and "no number" in str(reply.get("text")):
            raise Broken(f"{asked} {reply['text']}.")
        if "error" in reply:
            raise Broken(f"{asked} raised {reply['error']}: {reply.get('text', '')}")
        value = numbers(reply.get("value"))
        if value is None:
            raise Broken(f"{asked} gave something that is no regular array of numbers.")
        if value.shape != tuple(shape):
            wanted = f"an array of shape {tuple(shape)}" if shape else "a single number"
            raise Broken(f"{asked} has shape {value.shape}, but the task asks for {wanted}.")
        if not np.isfinite(value).all():
            raise Broken(f"{asked} contains NaN or infinity: {show(value)}.")
        return value

    def same(self, name: str, *args, want, slips=None, rtol=1e-7, atol=1e-9) -> np.ndarray:
        """The student's `name(*args)`, which must be `want`.

        slips: {what went wrong: the value that this mistake gives}; one that fits is named.
        """
        want = np.asarray(want, dtype=float)
        got = self(name, *args, shape=want.shape)
        if not np.allclose(got, want, rtol=rtol, atol=atol):
            found = (
                slip
                for slip, value in (slips or {}).items()
                if np.allclose(got, np.broadcast_to(value, want.shape), rtol=1e-6, atol=1e-9)
            )
            hint = next(found, f"The law: {self._law.statement}")
            asked = f"{name}({', '.join(map(show, args))})"
            raise Broken(f"{asked} = {show(got)}, but it is {show(want)}. {hint}")
        return got

    def require(self, holds: bool, message: str) -> None:
        """Raise Broken with a message unless a condition holds."""
        if not holds:
            raise Broken(f"{message} The law: {self._law.statement}")


def numbers(value) -> np.ndarray | None:
    """float64 of nested lists of plain numbers, or None; nothing that came from outside is run."""
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


def show(value) -> str:
    """A number or array, short."""
    if isinstance(value, (np.ndarray, list, tuple)):
        text = np.array2string(np.asarray(value), precision=4, threshold=8, edgeitems=2)
        return " ".join(text.split())
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    return str(value)


# --------------------------------------------------------------------------- in a namespace here


def local(namespace: dict) -> Callable:
    """Replies from functions of this process, through the same narrow gate as the grader's."""

    def replies(name, args):
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
        return call(namespace, name, copies)

    return replies
