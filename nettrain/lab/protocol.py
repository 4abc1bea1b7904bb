"""The protocol of a comparison: methods are tuned alike, then judged on unseen seeds."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from torch import nn

from nettrain.data import Data
from nettrain.lab.sweep import _values, sweep
from nettrain.optimizers import RANGES, Rule, check_hyper

# ------------------------------------------------------------------- what the chapters call


RATES = tuple(10 ** (k / 2) for k in range(-6, 3))  # 1e-3 ... 10, a factor of √10 apart


def score(
    table: pd.DataFrame, by: Sequence[str], metric: str = "valid_loss", along: str = "last"
) -> pd.Series:
    """The median over seeds of what each run ends with; along="min" takes its lowest value.

    A diverged run counts as infinite.
    """
    runs = table.fillna({metric: math.inf}).groupby([*by, "seed"], sort=False)[metric]
    return runs.agg(along).groupby(list(by)).median()


def tune(
    model: Callable[[], nn.Module],
    rule: Rule,
    data: Data,
    *,
    seeds: Sequence[int],
    rates: Sequence[float] = RATES,
    metric: str = "valid_loss",
    **how,
) -> tuple[float, pd.DataFrame]:
    """The rate with the lowest median of `metric` at the end, over seeds; and the whole table.

    First the grid; a best rate on its edge extends it by two more, at most four times, with a
    warning if that was not enough; then the two rates half-way to the best one's neighbours. A
    diverged run counts as infinite. `how` goes to `sweep`. Raises ValueError for a grid of fewer
    than two rates and if every rate diverges.
    """
    rates = _grid(rule, "lr", rates)
    factor = rates[1] / rates[0]
    tables, todo, refined, extended = [], rates, False, 0
    while todo:
        tables.append(sweep(model, rule, data, seeds=seeds, lr=todo, **how))
        table = pd.concat(tables, ignore_index=True)
        medians = score(table, ["lr"], metric)
        if not math.isfinite(medians.min()):
            ends = f"from {rates[0]:g} to {rates[-1]:g}"
            raise ValueError(f"{rule.__name__} diverged at every rate {ends}")
        best = medians.idxmin()
        tried = sorted(medians.index)
        more = _beyond("lr", tried, best)
        if not refined and more and extended < 4:
            todo, extended = more, extended + 1
        else:
            todo = [] if refined else [best / factor**0.5, best * factor**0.5]
            refined = True
    if more:
        warnings.warn(
            f"{rule.__name__}: the best rate {best:g} is on the grid's edge", stacklevel=2
        )
    return best, table


def tune_grid(
    model: Callable[[], nn.Module],
    rule: Rule,
    data: Data,
    *,
    seeds: Sequence[int],
    grid: dict[str, Sequence[float]],
    metric: str = "valid_loss",
    along: str = "last",
    **how,
) -> tuple[dict[str, float], pd.DataFrame]:
    """The combination of hyperparameters with the lowest `score`; and the whole table.

        best, table = tune_grid(net, adamw, data, grid={"lr": rates, "decay": strengths}, ...)

    grid  name -> two or more values, each a constant factor from the next, as 1e-3, 1e-2, 1e-1

    A best value on the edge of its list extends this list by two, at most three times in all and
    within the hyperparameter's range, with a warning if that was not enough; a rate of decay comes
    nearer to 1 by the factor by which 1 − ρ falls. `how` goes to `sweep`. Raises ValueError for a
    list of fewer than two values, or out of range, and if every combination diverges.
    """
    grid = {name: _grid(rule, name, values) for name, values in grid.items()}
    tables, todo, extended = [], grid, 0
    while todo:
        tables.append(sweep(model, rule, data, seeds=seeds, **how, **todo))
        table = pd.concat(tables, ignore_index=True)
        medians = score(table, list(grid), metric, along)
        if not math.isfinite(medians.min()):
            raise ValueError(f"{rule.__name__} diverged at every combination of {grid}")
        best = dict(zip(grid, np.atleast_1d(medians.idxmin())))
        edges = {n: more for n, values in grid.items() if (more := _beyond(n, values, best[n]))}
        todo = None
        if edges and extended < 3:
            (name, more), extended = next(iter(edges.items())), extended + 1
            todo = grid | {name: more}
            grid = grid | {name: sorted([*grid[name], *more])}
    for name in edges:
        warnings.warn(
            f"{rule.__name__}: the best {name}={best[name]:g} is on the grid's edge", stacklevel=2
        )
    return best, table


def _grid(rule: Rule, name: str, values: Sequence[float]) -> list[float]:
    """The values in order; raises ValueError unless they are a grid that can be extended."""
    grid = sorted(set(_values(name, values)))
    if len(grid) < 2:
        raise ValueError(f"{name}={grid} is not a grid; give two or more different values")
    check_hyper(rule, {name: grid})
    high = RANGES.get(name, (0, math.inf))[1]
    if grid[0] < 0 or (grid[-2] == 0 and high == math.inf) or (name == "lr" and grid[0] == 0):
        raise ValueError(f"{name}={grid} has no constant factor; give positive values")
    return grid


def _beyond(name: str, values: Sequence[float], best: float) -> list[float]:
    """Two more values beyond the edge of a sorted grid on which the best one stands; [] inside the
    grid and where the hyperparameter's range ends."""
    low, high = RANGES.get(name, (0, math.inf))[:2]
    if best == values[-1] and high < math.inf:
        factor = (high - values[-2]) / (high - best)
        more = [high - (high - best) / factor**k for k in (1, 2)]
        return [v for v in more if best < v < high]
    if best == values[-1]:
        return [best * (best / values[-2]) ** k for k in (1, 2)]
    if best == values[0] > low:
        return [best / (values[1] / best) ** k for k in (1, 2)]
    return []


def contest(
    methods: dict[str, dict],
    model: Callable[[], nn.Module],
    data: Data,
    *,
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
    metric: str = "valid_loss",
    rates: Sequence[float] = RATES,
    **how,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The protocol for a comparison: tune each method's rate with equal budget, then fresh seeds.

        runs, tuning = contest({"adam": dict(rule=adam), "sgd": dict(rule=sgd)}, net, data, ...)

    methods  name -> arguments of `sweep` that make the method: rule, and what else it fixes
    how      arguments of `sweep` for all: steps, every, batch, ...

    Returns the fresh runs at each method's best rate and the tuning runs, both with a column
    "method"; the best rate is the fresh runs' column lr. Raises ValueError if a fresh seed was a
    tuning seed.
    """
    if overlap := set(seeds) & set(tuning_seeds):
        raise ValueError(f"seeds {sorted(overlap)} were used for tuning; judge on others")
    fresh, tuning = [], []
    for name, method in methods.items():
        args = {"model": model, "data": data, **how, **method}
        best, table = tune(**args, seeds=tuning_seeds, rates=rates, metric=metric)
        tuning.append(table.assign(method=name))
        fresh.append(sweep(**args, seeds=seeds, lr=best, final=True).assign(method=name))
    return pd.concat(fresh, ignore_index=True), pd.concat(tuning, ignore_index=True)
