"""Search spaces: a dict of names to dimensions, whose configurations are plain values.

    space = dict(lr=Real(1e-4, 1, log=True), width=Integer(8, 128), act=Choice("relu", "tanh"))

What matters only with a certain option is written inside that option:

    opt=Choice(dict(name="sgd", rho=Real(0, 0.99)), dict(name="adam"))

Its value in a configuration is then `dict(name="sgd", rho=0.5)`. Entries that are not dimensions
are constants. A configuration is plain JSON: None, bool, int, float, str, and lists and dicts of
these.

Searchers work in the unit cube: each dimension, nested ones included, has one coordinate in [0, 1].
Equal volumes of the cube are equally probable. d coordinates, p features.
"""

import json
import math
import numbers
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import accumulate, product

import torch
import torch.nn.functional as F
from torch import Tensor

# ----------------------------------------------------------------------------- dimensions


@dataclass(frozen=True)
class Real:
    """A number in [low, high]; with log, each factor is as probable as the next, not each step.

        u ↦ low + u (high − low),   with log   u ↦ low (high / low)ᵘ

    Raises ValueError for an empty or infinite range and for a log range that does not start
    above 0, TypeError for bounds that are not numbers.
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False

    def __post_init__(self):
        _check_range(self, numbers.Real)

    def value(self, u: float) -> float:
        """The number at coordinate u."""
        low, high = _scale(self, self.low), _scale(self, self.high)
        t = low + u * (high - low)
        return _within(self, u, math.exp(t) if self.log else t)

    def unit(self, value: float) -> float:
        """The coordinate of a number."""
        low, high = _scale(self, self.low), _scale(self, self.high)
        return (_scale(self, value) - low) / (high - low)

    def snap(self, u: Tensor) -> Tensor:
        return u

    def embed(self, u: Tensor) -> Tensor:  # [...] -> [..., 1]
        return u.unsqueeze(-1)

    def check(self, name: str, value) -> float:
        """The value as a float; raises ValueError if it is not in this range."""
        if not _is(value, numbers.Real) or not self.low <= value <= self.high:
            raise ValueError(f"{name}={value!r} is not a number in [{self.low:g}, {self.high:g}]")
        return float(value)

    def grid(self, points: int) -> list[float]:
        """Evenly spaced values, both ends included; one point is the middle."""
        return [self.point(k, points) for k in range(whole("points", points))]

    def point(self, k: int, points: int) -> float:
        """Value number k of the grid of so many points."""
        return self.value(k / (points - 1) if points > 1 else 0.5)


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high], both included; its cells of the unit interval have equal
    width, with log the widths of ln(k − ½) to ln(k + ½).

    Raises as Real does.
    """

    low: int
    high: int
    _: KW_ONLY
    log: bool = False

    def __post_init__(self):
        _check_range(self, numbers.Integral)

    def value(self, u: float) -> int:
        """The number whose cell holds coordinate u."""
        return int(self._number(torch.tensor(u, dtype=torch.float64)))

    def unit(self, value: int) -> float:
        """The centre of a number's cell."""
        return self._centre(torch.tensor(value, dtype=torch.float64)).item()

    def snap(self, u: Tensor) -> Tensor:
        """The centres of the cells that hold u."""
        return self._centre(self._number(u))

    def _number(self, u: Tensor) -> Tensor:
        low, high = _scale(self, self.low - 0.5), _scale(self, self.high + 0.5)
        t = low + u * (high - low)
        return ((t.exp() if self.log else t) + 0.5).floor().clamp(self.low, self.high)

    def _centre(self, k: Tensor) -> Tensor:
        low, high = _scale(self, self.low - 0.5), _scale(self, self.high + 0.5)
        return ((_scale(self, k - 0.5) + _scale(self, k + 0.5)) / 2 - low) / (high - low)

    def embed(self, u: Tensor) -> Tensor:  # [...] -> [..., 1]
        return u.unsqueeze(-1)

    def check(self, name: str, value) -> int:
        """The value as an int; raises ValueError if it is not in this range."""
        if not _is(value, numbers.Integral) or not self.low <= value <= self.high:
            raise ValueError(f"{name}={value!r} is not a whole number in [{self.low}, {self.high}]")
        return int(value)

    def grid(self, points: int) -> list[int]:
        """At most `points` values, evenly spaced and rounded, both ends included."""
        if whole("points", points) > self.high - self.low:
            return list(range(self.low, self.high + 1))
        ends = Real(self.low, self.high, log=self.log)
        return list(dict.fromkeys(round(x) for x in ends.grid(points)))


@dataclass(frozen=True, init=False)
class Choice:
    """One of several options, equally probable: plain values, dimensions, or dicts of these.

    Raises ValueError for fewer than two options and for options that are equal.
    """

    options: tuple

    def __init__(self, *options):
        object.__setattr__(self, "options", options)
        if len(options) < 2:
            raise ValueError(f"{self}: a choice needs two options or more")
        for option in options:
            _check_entry("an option", option)
        if len({hashable(describe(option)) for option in options}) < len(options):
            raise ValueError(f"{self}: two options are equal")

    def __repr__(self) -> str:
        return f"Choice({', '.join(map(repr, self.options))})"

    def pick(self, u):
        """Number of the option whose cell holds coordinate u (a float or a tensor)."""
        n = len(self.options)
        if isinstance(u, Tensor):
            return (u * n).floor().clamp(max=n - 1)
        return min(math.floor(u * n), n - 1)

    def unit(self, number: int) -> float:
        """The centre of an option's cell."""
        return (number + 0.5) / len(self.options)

    def snap(self, u: Tensor) -> Tensor:
        return (self.pick(u) + 0.5) / len(self.options)

    def embed(self, u: Tensor) -> Tensor:  # [...] -> [..., options], one-hot
        return F.one_hot(self.pick(u).long(), len(self.options)).to(u.dtype)

    def check(self, name: str, value):
        """The value as an option holds it; raises ValueError if no option does."""
        return self._find(name, value)[1]

    def index(self, value) -> int:
        """Number of the first option that the value is one of."""
        return self._find("value", value)[0]

    def _find(self, name, value):
        for number, option in enumerate(self.options):
            try:
                return number, _check_value(name, option, value)
            except ValueError as error:
                if _alike(option, value):  # the right option, with a wrong number in it
                    raise error
        raise ValueError(f"{name}={value!r} is not one of {list(self.options)}")


Dimension = Real | Integer | Choice


def _is(value, kind) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def whole(name: str, value, low: int = 1) -> int:
    """A count as a Python int; numpy's integers and tensors of one integer are accepted, too.

    Raises TypeError for anything but an integer (also for True and 2.0), ValueError below low.
    """
    number = plain(value)
    if not _is(number, numbers.Integral):
        raise TypeError(f"{name}={value!r} is not an integer; it must be {low} or more")
    if number < low:
        raise ValueError(f"{name}={value!r} must be {low} or more")
    return operator.index(number)


def _scale(dim: Real | Integer, value):
    """The logarithm of a float or a tensor, if the dimension is logarithmic."""
    if not dim.log:
        return value
    return value.log() if isinstance(value, Tensor) else math.log(value)


def _within(dim: Real, u: float, value: float) -> float:
    """What stands at coordinate u without rounding errors: both ends exactly, nothing beyond."""
    ends = {0: dim.low, 1: dim.high}
    return float(ends.get(u, min(max(value, dim.low), dim.high)))


def _check_range(dim: Real | Integer, kind: type) -> None:
    for name in ("low", "high"):
        bound = plain(getattr(dim, name))
        if not _is(bound, kind):
            word = "whole" if kind is numbers.Integral else "real"
            raise TypeError(f"{dim}: {bound!r} is not a {word} number")
        object.__setattr__(dim, name, bound)  # numpy's and torch's numbers as Python's
    if not dim.low < dim.high or not math.isfinite(dim.high - dim.low):
        raise ValueError(f"{dim}: needs low < high, both finite; a constant needs no dimension")
    if dim.log and dim.low <= 0:
        raise ValueError(f"{dim}: a logarithmic range must start above 0")
    if kind is numbers.Integral and max(abs(dim.low), abs(dim.high)) > 10**12:
        raise ValueError(f"{dim}: beyond ±10¹² cells are too narrow for float64; use Real")


# --------------------------------------------------------------------- values and their keys


def plain(value):
    """A value as JSON would hold it: numpy and torch scalars become numbers, tuples lists."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


def hashable(config):
    """A hashable form: configurations are equal if their keys are (1 is 1.0, but not True)."""
    config = plain(config)
    if isinstance(config, dict):
        return frozenset((name, hashable(value)) for name, value in config.items())
    if isinstance(config, list):
        return tuple(hashable(value) for value in config)
    return (bool, config) if isinstance(config, bool) else config


def describe(space):
    """A space as plain JSON, for a journal's header."""
    if isinstance(space, Choice):
        return {"choice": [describe(option) for option in space.options]}
    if isinstance(space, Real | Integer):
        kind = type(space).__name__.lower()
        return {kind: [plain(space.low), plain(space.high)], "log": space.log}
    if isinstance(space, dict):
        return {name: describe(entry) for name, entry in space.items()}
    return plain(space)


def _alike(option, value) -> bool:
    """Both dicts, with the same names and the same constants."""
    if not isinstance(option, dict) or not isinstance(value, dict) or set(option) != set(value):
        return False
    constants = [n for n, entry in option.items() if not isinstance(entry, Dimension | dict)]
    return all(hashable(option[n]) == hashable(value[n]) for n in constants)


def _check_entry(name: str, entry) -> None:
    if isinstance(entry, dict):
        for part, inner in entry.items():
            if not isinstance(part, str):
                raise TypeError(f"{name}: the name {part!r} is not a str")
            if not part:
                raise ValueError(f"{name or 'the space'}: the name {part!r} is empty")
            _check_entry(_join(name, part), inner)
    elif not isinstance(entry, Dimension):
        try:
            json.dumps(plain(entry), allow_nan=False)
        except (TypeError, ValueError):
            raise TypeError(
                f"{name}: {entry!r} is not a plain value (None, bool, number, str, list, dict); "
                "give it a name and let the objective look the name up"
            ) from None


def _check_value(name: str, entry, value):
    if isinstance(entry, Dimension):
        return entry.check(name, plain(value))
    if not isinstance(entry, dict):
        if hashable(entry) != hashable(value):
            raise ValueError(f"{name}={value!r} must be {entry!r}")
        return plain(entry)
    if not isinstance(value, dict):
        raise ValueError(f"{name or 'a configuration'}={value!r} is not a dict of {list(entry)}")
    if missing := [_join(name, n) for n in entry if n not in value]:
        raise ValueError(f"{missing} missing in {value}")
    if unknown := [_join(name, n) for n in value if n not in entry]:
        raise ValueError(f"{unknown} unknown; the space has {list(entry)}")
    return {n: _check_value(_join(name, n), part, value[n]) for n, part in entry.items()}


# ------------------------------------------------------------ spaces, as the searchers use them


def check(space: dict) -> None:
    """Raise TypeError or ValueError unless this is a dict with at least one dimension, in which
    two entries never have the same name: {"opt": {"rho": ...}, "opt.rho": ...} is refused."""
    if not isinstance(space, dict):
        raise TypeError(f"a space is a dict of names to dimensions, not {space!r}")
    _check_entry("", space)
    if not dims(space):
        raise ValueError(f"{space} has no dimension: there is nothing to search")
    paths = Counter(".".join(path) for path in set(_paths((), space)))
    if twice := [name for name, count in paths.items() if count > 1]:
        raise ValueError(f"{twice}: two entries of the space have this name; rename one of them")


def _paths(path: tuple[str, ...], entry) -> Iterator[tuple[str, ...]]:
    """The names, outermost first, of all that can stand in a configuration."""
    if path:
        yield path
    if isinstance(entry, dict):
        for name, inner in entry.items():
            yield from _paths((*path, name), inner)
    for option in entry.options if isinstance(entry, Choice) else ():
        yield from _paths(path, option)


def validate(space: dict, config: dict) -> dict:
    """A configuration in plain values; raises ValueError naming what does not fit the space."""
    return _check_value("", space, config)


def leaves(space: dict) -> list[tuple[str, Dimension]]:
    """The name and the dimension of every unit coordinate, in order; nested ones as "opt.rho"."""
    return list(_leaves("", space))


def _leaves(name: str, entry) -> Iterator[tuple[str, Dimension]]:
    if isinstance(entry, dict):
        for part, inner in entry.items():
            yield from _leaves(_join(name, part), inner)
    elif isinstance(entry, Dimension):
        yield name, entry
        for option in entry.options if isinstance(entry, Choice) else ():
            yield from _leaves(name, option)


def labels(space: dict) -> list[str]:
    """A label for every coordinate, all different: its name, and where several options have a
    number of this name, the options' numbers too, as in "opt[0].lr" and "opt[1].lr"."""
    names = [name for name, _ in leaves(space)]
    count = Counter(names)
    pairs = zip(names, _labels("", space), strict=True)
    return [name if count[name] == 1 else label for name, label in pairs]


def _labels(name: str, entry) -> Iterator[str]:
    if isinstance(entry, dict):
        for part, inner in entry.items():
            yield from _labels(_join(name, part), inner)
    elif isinstance(entry, Dimension):
        yield name
        for number, option in enumerate(entry.options if isinstance(entry, Choice) else ()):
            yield from _labels(f"{name}[{number}]", option)


def dims(space: dict) -> int:
    """d, the number of unit coordinates, nested ones included."""
    return len(leaves(space))


def from_unit(space: dict, u) -> dict:
    """The configuration at a point [d] of the unit cube; coordinates of other options are ignored.

    Raises ValueError for another shape and for coordinates outside [0, 1].
    """
    u = torch.as_tensor(u, dtype=torch.float64)
    if u.shape != (dims(space),) or not ((u >= 0) & (u <= 1)).all():
        raise ValueError(f"u={u.tolist()} is not a point of the unit cube [0, 1]^{dims(space)}")
    return _build(space, iter(u.tolist()))


def _build(entry, u: Iterator[float]):
    if isinstance(entry, dict):
        return {name: _build(part, u) for name, part in entry.items()}
    if isinstance(entry, Choice):
        picked = entry.pick(next(u))
        return [_build(option, u) for option in entry.options][picked]  # each takes its coordinates
    return entry.value(next(u)) if isinstance(entry, Real | Integer) else plain(entry)


def to_unit(space: dict, config: dict) -> Tensor:
    """The point [d], float64, of a configuration: cell centres, 0.5 where nothing depends on it.

    from_unit(to_unit(c)) = c. Raises ValueError for a configuration that is not in the space.
    """
    return torch.tensor(list(_units(space, validate(space, config))), dtype=torch.float64)


_ABSENT = object()  # the value of a dimension whose option was not chosen


def _units(entry, value) -> Iterator[float]:
    if isinstance(entry, dict):
        for name, part in entry.items():
            yield from _units(part, _ABSENT if value is _ABSENT else value[name])
    elif isinstance(entry, Choice):
        picked = None if value is _ABSENT else entry.index(value)
        yield 0.5 if picked is None else entry.unit(picked)
        for number, option in enumerate(entry.options):
            yield from _units(option, value if number == picked else _ABSENT)
    elif isinstance(entry, Real | Integer):
        yield 0.5 if value is _ABSENT else entry.unit(value)


def _coordinates(entry, u: Iterator[Tensor], active: Tensor):
    """(dimension, its coordinates [...], whether anything depends on them [...]), in order."""
    if isinstance(entry, dict):
        for part in entry.values():
            yield from _coordinates(part, u, active)
    elif isinstance(entry, Choice):
        column = next(u)
        yield entry, column, active
        for number, option in enumerate(entry.options):
            yield from _coordinates(option, u, active & (entry.pick(column) == number))
    elif isinstance(entry, Real | Integer):
        yield entry, next(u), active


def _all(u: Tensor):
    return iter(u.unbind(-1)), torch.ones(u.shape[:-1], dtype=torch.bool, device=u.device)


def snap(space: dict, u: Tensor) -> Tensor:
    """The points that stand for the configurations at u: to_unit(from_unit(u)).  [..., d] both"""
    parts = _coordinates(space, *_all(u))
    return torch.stack([torch.where(on, dim.snap(c), 0.5) for dim, c, on in parts], -1)


def active(space: dict, u: Tensor) -> Tensor:
    """Whether anything depends on a coordinate: its option is chosen.  [..., d] -> bool [..., d]"""
    return torch.stack([on for _, _, on in _coordinates(space, *_all(u))], -1)


def embed(space: dict, u: Tensor) -> Tensor:
    """Points as features for a model, differentiable where a dimension is a number.

    A number is its coordinate, a choice is one-hot; 0.5 and zeros where nothing depends on them.
    [..., d] -> [..., p]
    """
    if not any(isinstance(dim, Choice) for _, dim in leaves(space)):
        return u  # the common case, in which a search should lose no time here
    columns = []
    for dim, c, on in _coordinates(space, *_all(u)):
        nothing = 0.0 if isinstance(dim, Choice) else 0.5
        columns.append(torch.where(on.unsqueeze(-1), dim.embed(c), nothing))
    return torch.cat(columns, -1)


def features(space: dict, config: dict) -> Tensor:
    """A configuration as features [p], float64, for a model: `embed` of its point."""
    return embed(space, to_unit(space, config))


def grid(space: dict, points: int | dict[str, int]) -> list[dict]:
    """Every combination of evenly spaced values; m₁ m₂ ⋯ m_K configurations.

    points  of each number: one for all or {"lr": 5, "opt.rho": 3, ...}; a choice has all options

    The spacing is the dimension's: linear or logarithmic. Raises ValueError for fewer than one
    point and for names that are not numbers of the space.
    """
    every = lattice(space, points)
    return [every.at(i) for i in range(every.size)]


def centres(space: dict, points: int | dict[str, int]) -> list[dict]:
    """As `grid`, but each number's range is cut into as many cells and has their centres.

    So no point lies at an end of a range, where a good value is unlikely.
    """
    counts = [
        len(dim.options)
        if isinstance(dim, Choice)
        else _points(name, points[name] if isinstance(points, dict) else points)
        for name, dim in leaves(space)
    ]
    cells = [[(k + 0.5) / m for k in range(m)] for m in counts]
    configs = [from_unit(space, u) for u in product(*cells)]
    return list({hashable(config): config for config in configs}.values())


@dataclass(frozen=True)
class Lattice:
    """A grid that is not listed: its configurations are made when they are asked for.

    size  how many there are
    at    (i) -> configuration number i, in the order of `grid`
    find  (plain configuration) -> the numbers i of those that equal it: one or none, several
          where options of a choice have values in common
    """

    size: int
    at: Callable
    find: Callable


def lattice(space: dict, points: int | dict[str, int]) -> Lattice:
    """The grid of `grid`, at once however many configurations it has; raises as `grid` does."""
    names = dict.fromkeys(name for name, dim in leaves(space) if not isinstance(dim, Choice))
    counts = dict(points) if isinstance(points, dict) else dict.fromkeys(names, points)
    if set(counts) != set(names):
        raise ValueError(f"points of {sorted(counts)} given, but the numbers are {sorted(names)}")
    return _lattice("", space, {name: _points(name, m) for name, m in counts.items()})


def _points(name: str, m) -> int:
    if _is(m, numbers.Real) and m < 1:
        raise ValueError(f"points={{{name!r}: {m}}}: a dimension needs 1 point or more")
    return whole(f"points of {name}", m)


def _join(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _lattice(name: str, entry, counts: dict[str, int]) -> Lattice:
    if isinstance(entry, dict):
        return _product({n: _lattice(_join(name, n), e, counts) for n, e in entry.items()})
    if isinstance(entry, Choice):
        return _union([_lattice(name, option, counts) for option in entry.options])
    if isinstance(entry, Real):
        return _line(entry, counts[name])
    if isinstance(entry, Integer):
        return _list(_whole_numbers(name, entry, counts[name]))
    constant = hashable(entry)
    return Lattice(1, lambda i: plain(entry), lambda v: [0] if hashable(v) == constant else [])


def _product(parts: dict[str, Lattice]) -> Lattice:
    """Of dicts: the last entry changes fastest."""
    steps, size = {}, 1
    for name in reversed(parts):
        steps[name], size = size, size * parts[name].size

    def at(i):
        return {n: part.at(i // steps[n] % part.size) for n, part in parts.items()}

    def find(config):
        if not isinstance(config, dict) or config.keys() != parts.keys():
            return []
        found = [0]
        for n, part in parts.items():
            found = [i + steps[n] * k for k in part.find(config[n]) for i in found]
        return found

    return Lattice(size, at, find)


def _union(parts: list[Lattice]) -> Lattice:
    """Of options: those of the first, then those of the second, ..."""
    first = [0, *accumulate(part.size for part in parts)]

    def at(i):
        k = next(k for k, end in enumerate(first[1:]) if i < end)
        return parts[k].at(i - first[k])

    def find(value):
        return [start + i for start, part in zip(first, parts) for i in part.find(value)]

    return Lattice(first[-1], at, find)


def _line(dim: Real, points: int) -> Lattice:
    """Of values of a number: few are listed, which is faster to look up."""
    if points <= 1000:
        return _list(list(dict.fromkeys(dim.grid(points))))

    def find(value):
        if not _is(value, float | int) or not dim.low <= value <= dim.high:
            return []
        guess = round(dim.unit(value) * (points - 1))  # off by rounding, if at all
        near = range(max(guess - 1, 0), min(guess + 2, points))
        return [k for k in near if dim.point(k, points) == value]

    return Lattice(points, lambda i: dim.point(i, points), find)


def _list(values: Sequence[int]) -> Lattice:
    """Of given numbers, all different."""
    if isinstance(values, range):  # whole numbers without a gap
        low, high = values[0], values[-1]
        place = lambda v: [int(v) - low] if low <= v <= high and v == int(v) else []
    else:
        places = {v: [i] for i, v in enumerate(values)}
        place = lambda v: places.get(v, [])
    find = lambda v: place(v) if _is(v, float | int) else []
    return Lattice(len(values), values.__getitem__, find)


LISTED = 10**6  # points of one Integer


def _whole_numbers(name: str, dim: Integer, points: int) -> Sequence[int]:
    if points > dim.high - dim.low:
        return range(dim.low, dim.high + 1)
    if points > LISTED:
        few = f"at most {LISTED}, or all {dim.high - dim.low + 1}"
        raise ValueError(f"points={{{name!r}: {points}}}: too many to round and list; {few}")
    return dim.grid(points)
