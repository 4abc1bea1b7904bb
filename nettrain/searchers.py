"""Searchers: what proposes the next configuration of a search.

A searcher is a class with one method, a function of its arguments:

    ask(space, trials, seed) -> configuration, or None when none is left

`trials` are all trials so far: told, failed and pending ones, to be read and not changed. The new
one has the number len(trials), and whatever is random depends only on (seed, number): so a study
that was killed and goes on proposes what it would have proposed. A searcher that models leaves out
trials that are `outside` the space.
"""

import json
import math

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from nettrain import draws, spaces
from nettrain.trials import Trial

# ------------------------------------------------------------------------------- searchers


def point(seed: int, number: int, d: int) -> Tensor:
    """The random point [d] of the unit cube, float64, of trial `number` in a study of this seed."""
    bits = draws.bits(torch.tensor([seed, number]), d)
    return (bits & (2**53 - 1)).double() * 2.0**-53


class Random:
    """Independent points, uniform in the unit cube.  Bergstra & Bengio 2012."""

    def ask(self, space: dict, trials: list[Trial], seed: int) -> dict:
        return spaces.from_unit(space, point(seed, len(trials), spaces.dims(space)))


class Sobol:
    """A scrambled Sobol sequence: points that fill the unit cube more evenly than random ones.

    Best in numbers that are powers of two.  Owen 1998.
    """

    def ask(self, space: dict, trials: list[Trial], seed: int) -> dict:
        engine = SobolEngine(spaces.dims(space), scramble=True, seed=seed)
        engine.fast_forward(len(trials))
        return spaces.from_unit(space, engine.draw(1, dtype=torch.float64)[0])


def parzen(x: Tensor, y: Tensor, at: Tensor, *, good: float = 0.25) -> Tensor:
    """log l − log g [m] at points [m, d]: are they like the good trials, or like the others?

    l is the density of the share `good` of the trials x [n, d] with the lowest y [n], g that of the
    others: the mean of 1 and a kernel for each trial, Πⱼ N(xⱼ, hⱼ²) cut off at the cube's faces,
    with Scott's width hⱼ, at least 0.1. What is largest is tried next: TPE, a tree-structured
    Parzen estimator. Bergstra et al. 2011; joint kernels: Falkner et al. 2018.
    """

    def log_density(x):
        h = (x.std(0, correction=0) * len(x) ** (-1 / (x.shape[1] + 4))).clamp_min(0.1)
        inside = torch.special.ndtr((1 - x) / h) - torch.special.ndtr(-x / h)
        bells = torch.exp(-(((at[:, None] - x) / h) ** 2) / 2) / (math.sqrt(2 * math.pi) * h)
        return torch.log((1 + (bells / inside).prod(-1).sum(1)) / (len(x) + 1))

    best = math.ceil(good * len(y))
    order = y.argsort(stable=True)
    return log_density(x[order[:best]]) - log_density(x[order[best:]])


class Grid:
    """Every combination of evenly spaced values that has not been tried, in order.

    points  of each number, as in `spaces.grid`

    The grid is not listed, so that it may have any size. A proposal depends on the arguments alone;
    what was worked out for earlier trials is kept, so that it takes little time.
    """

    def __init__(self, points: int | dict[str, int]):
        for name, m in (points if isinstance(points, dict) else {"all": points}).items():
            spaces.whole(f"points of {name}", m)
        self.points = points
        self._known = None

    def ask(self, space: dict, trials: list[Trial], seed: int) -> dict | None:
        place = json.dumps(spaces.describe(space))
        if not (self._known and self._known.continues(place, trials)):
            self._known = _Tried(place, spaces.lattice(space, self.points))
        return self._known.next(trials)

    def __reduce__(self):  # without what is known
        return Grid, (self.points,)


class _Tried:
    """Which configurations of a lattice the first trials of a study have tried."""

    def __init__(self, place: str, lattice: spaces.Lattice):
        self.place, self.lattice = place, lattice
        self.configs: list[dict] = []  # of the trials that were looked at
        self.numbers: set[int] = set()  # theirs in the lattice
        self.first = 0  # none before it is free

    def continues(self, place: str, trials: list[Trial]) -> bool:
        """Whether these trials begin with those that were looked at, in the same space."""
        same = len(trials) >= len(self.configs) and self.place == place
        return same and all(t.config is c for t, c in zip(trials, self.configs))

    def next(self, trials: list[Trial]) -> dict | None:
        """The first configuration that none of the trials has; None if there is none left."""
        for trial in trials[len(self.configs) :]:
            self.configs.append(trial.config)
            self.numbers.update(self.lattice.find(spaces.plain(trial.config)))
        while self.first in self.numbers:
            self.first += 1
        return self.lattice.at(self.first) if self.first < self.lattice.size else None
