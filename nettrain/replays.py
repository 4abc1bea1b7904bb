"""Searches replayed on recorded learning curves: many searches, no network is trained twice.

table = Table(space, configs, curves)
replay = Replay(table, order)
_, history = budgets.hyperband(replay.start, replay.advance, budgets.brackets(27))
rows = [replay.rows[run] for run in recommended(history, [54, 135, 540])]
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nettrain import spaces


@dataclass(frozen=True)
class Table:
    """The learning curves of n configurations: curves [n, R], the loss after 1, ..., R resources.

    worst  what a configuration that knows nothing ends with; a model counts higher losses as this
    """

    space: dict
    configs: list[dict]
    curves: np.ndarray
    worst: float = math.inf

    @cached_property
    def points(self) -> Tensor:
        """The configurations in the unit cube, [n, d]."""
        return torch.stack([spaces.to_unit(self.space, config) for config in self.configs])


class Replay:
    """Runs that look their losses up: `start` and `advance` as `budgets.hyperband` wants them.

    order    rows of the table: the stream of configurations, each of them once
    promise  (x [n, d], y [n], at [m, d]) -> how much is hoped of these points, of the finished
             trials and the logarithms of their losses: then a run is the most promising one
             that is left, and not the next one of the order
    initial  so many runs are taken from the order before there is a model; it is made of the
             runs that have got furthest, if they are as many
    among    look at so many random ones only, and take every third run from the order (Falkner
             et al. 2018): for brackets, whose runs start together and should differ
    """

    def __init__(
        self,
        table: Table,
        order: Sequence[int],
        promise: Callable | None = None,
        *,
        initial: int = 8,
        among: int | None = None,
    ):
        self.table, self.left, self.rows = table, [int(row) for row in order], []
        self.promise, self.initial, self.among = promise, initial, among
        self.seen: dict[int, dict[int, float]] = {}  # {resource: {row: loss}}
        self.rng = np.random.default_rng(self.left)

    def start(self, first: int, n: int) -> np.ndarray:
        """n runs [n, 2]: which row, how much it has had. Raises ValueError if none are left."""
        if n > len(self.left):
            raise ValueError(f"{n} runs wanted, but {len(self.left)} configurations are left")
        hope = self.hope()
        for number in range(first, first + n):
            left = self.left
            if hope is None or (self.among and number % 3 == 0):
                row = left[0]
            elif self.among:
                row = max(self.rng.choice(left, min(self.among, len(left)), False), key=hope.item)
            else:
                row = max(left, key=hope.item)
            left.remove(row)
            self.rows.append(int(row))
        return np.stack([self.rows[first : first + n], np.zeros(n, dtype=int)], 1)

    def hope(self) -> np.ndarray | None:
        """The promise of every row, or None while there is no model."""
        ages = [age for age, losses in self.seen.items() if len(losses) >= self.initial]
        if self.promise is None or not ages:
            return None
        rows, losses = map(list, zip(*self.seen[max(ages)].items(), strict=True))
        y = torch.tensor(losses, dtype=torch.float64).clamp(max=self.table.worst).log()
        x = self.table.points
        return np.asarray(self.promise(x[rows], y, x))

    def advance(self, runs: np.ndarray, r: int) -> tuple[np.ndarray, np.ndarray]:
        """The runs r resources later, and their losses."""
        runs = runs + [0, r]
        losses = self.table.curves[runs[:, 0], runs[:, 1] - 1]
        for (row, age), loss in zip(runs.tolist(), losses.tolist(), strict=True):
            self.seen.setdefault(age, {})[row] = loss
        return runs, losses


def recommended(history: pd.DataFrame, moments: Sequence[int]) -> list[int]:
    """The run that a search recommends when it has spent so much: the one with the lowest loss so
    far, however short it is. Raises ValueError for a moment before the first loss."""
    lowest = history[history["loss"] == history["loss"].cummin()]
    places = np.searchsorted(lowest["spent"], moments, side="right") - 1
    if (places < 0).any():
        raise ValueError(f"moments={list(moments)}: the first loss came at {history['spent'][0]}")
    return lowest["run"].iloc[places].tolist()


def evenly(n: int, number: int) -> np.ndarray:
    """The rows of a table of n = 2ᵏ Sobol points in another order that is one of them too.

    i ↦ i XOR number: the first 1, 2, 4, ... are aligned blocks of the sequence, and each aligned
    block of 2ᵐ points is as even as its first 2ᵐ. Niederreiter 1987.
    """
    if n < 1 or n & (n - 1):
        raise ValueError(f"n={n} is not a power of two")
    return np.arange(n) ^ (number % n)
