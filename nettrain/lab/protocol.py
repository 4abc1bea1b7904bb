"""The protocol of a comparison: methods are tuned alike, then judged on unseen seeds."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch import nn

from nettrain import losses
from nettrain.data import Data
from nettrain.lab.sweep import sweep, values_of
from nettrain.optimizers import RANGES, Rule, check_hyper

RATES = tuple(10 ** (k / 2) for k in range(-6, 3))  # 1e-3 ... 10, a factor of √10 apart
EXTENSIONS = 4  # of one hyperparameter's list, by two values each
ALIVE = 0.98  # a loss above this share of the best constant prediction's has learned nothing


def score(
    table: pd.DataFrame, by: Sequence[str], metric: str = "valid_loss", along: str = "last"
) -> pd.Series:
    """The median over seeds of each run's last value; lower is better.

    metric  a loss, or an accuracy, whose share of errors is taken
    along   "last", or "min" for the lowest value of each run

    A diverged run counts as infinite.
    """
    value = 1 - table[metric] if metric.endswith("accuracy") else table[metric]
    diverged = ~np.isfinite(table[metric]) | ~np.isfinite(table.get("valid_loss", table[metric]))
    runs = table.assign(score=value.mask(diverged, math.inf)).groupby([*by, "seed"], sort=False)
    return runs["score"].agg(along).groupby(list(by)).median()


def tune(
    model: Callable[[], nn.Module],
    rule: Rule,
    data: Data,
    *,
    seeds: Sequence[int],
    grid: dict[str, Sequence[float]] | None = None,
    metric: str = "valid_loss",
    along: str = "last",
    **how,
) -> tuple[dict[str, float], pd.DataFrame]:
    """The combination of hyperparameters with the lowest `score`; and the table of all runs.

        best, table = tune(net, adamw, data, grid={"lr": RATES, "decay": [1e-3, 1e-2, 1e-1]}, ...)

    1. Every combination of the grid is tried, with the same seeds.
    2. While the best value of a hyperparameter is the outermost one of its list, the list grows by
       two values beyond it, within the hyperparameter's range (a decay rate comes nearer to 1 by
       the factor by which 1 − ρ falls), EXTENSIONS times at most. So an optimum has a worse
       neighbor on both sides. While nothing has learned, the rates grow at both ends.
    3. For each hyperparameter in turn the two values half-way to the best one's neighbors are
       tried, with the others at their best.

    grid    name -> two or more values, each a constant factor from the next; {"lr": RATES} if None
    metric  "fit_loss" is the loss over all training examples at the end
    how     arguments of `sweep`: steps, every, batch, ...

    A diverged run counts as infinite. Nothing has learned if the best score is above ALIVE times
    that of the best constant prediction. Warns of that, and of a best value that is still
    outermost. Raises ValueError for a list that cannot be extended, before training, and if every
    combination diverges.
    """
    grid = {n: _grid(rule, n, values) for n, values in (grid or {"lr": RATES}).items()}
    trivial = _constant_score(data, metric, how.get("loss", losses.cross_entropy))
    grown, tables, todo = Counter(), [], grid
    how = {"final": metric.startswith(("fit_", "test_"))} | how
    while todo:
        tables.append(sweep(model, rule, data, seeds=seeds, **how, **todo))
        best, lowest = _best(rule, tables, grid, metric, along)
        dead = lowest > ALIVE * trivial
        more = {name: _beyond(name, values, best[name]) for name, values in grid.items()}
        if dead and "lr" in grid:  # all rates look alike, too low as well as too high: try both
            rates = grid["lr"]
            more["lr"] = _beyond("lr", rates, rates[0]) + _beyond("lr", rates, rates[-1])
        name = next((n for n, values in more.items() if values and grown[n] < EXTENSIONS), None)
        todo = grid | {name: more[name]} if name else None
        if name:
            grid = grid | {name: sorted([*grid[name], *more[name]])}
            grown[name] += 1
    for name in (n for n in grid if _beyond(n, grid[n], best[n])):
        _warn(f"{rule.__name__}: the best {name}={best[name]:g} is on the grid's edge")
    if dead:
        _warn(f"{rule.__name__} learned nothing: {metric} {lowest:g}, a constant gets {trivial:g}")
    for name in grid:
        between = _between(grid[name], best[name])
        tables.append(sweep(model, rule, data, seeds=seeds, **how, **best | {name: between}))
        grid[name] = sorted([*grid[name], *between])
        best, _ = _best(rule, tables, grid, metric, along)
    return best, pd.concat(tables, ignore_index=True)


def _best(rule, tables, grid, metric, along) -> tuple[dict[str, float], float]:
    """The combination of the lowest score, and its score."""
    scores = score(pd.concat(tables), list(grid), metric, along)
    if not math.isfinite(scores.min()):
        tried = ", ".join(f"{name} from {v[0]:g} to {v[-1]:g}" for name, v in grid.items())
        raise ValueError(f"{rule.__name__} diverged at every combination: {tried}")
    return dict(zip(grid, np.atleast_1d(scores.idxmin()).tolist(), strict=True)), scores.min()


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def contest(
    methods: dict[str, dict],
    model: Callable[[], nn.Module],
    data: Data,
    *,
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
    metric: str = "valid_loss",
    along: str = "last",
    grid: dict[str, Sequence[float]] | None = None,
    **how,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tune each method with the same budget and seeds, then run it with seeds it has not seen.

        runs, tuning = contest({"adam": dict(rule=adam), "sgd": dict(rule=sgd)}, net, data, ...)

    methods  name -> arguments of `sweep` that make the method: rule, and what else it fixes; a
             method may have its own grid, with as many combinations as the others'
    grid     what is tuned, {"lr": RATES} unless told otherwise
    how      arguments of `sweep` for all: steps, every, batch, ...

    Returns the fresh runs at each method's best combination and the tuning runs, both with a column
    "method"; what was tuned stands in the fresh runs' columns. Raises ValueError if a fresh seed
    was a tuning seed and if the grids differ in size, before training.
    """
    if overlap := set(seeds) & set(tuning_seeds):
        raise ValueError(f"seeds {sorted(overlap)} were used for tuning; judge on others")
    methods = {name: {"grid": grid or {"lr": RATES}} | method for name, method in methods.items()}
    sizes = {name: math.prod(map(len, m["grid"].values())) for name, m in methods.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the methods' grids differ in size, {sizes}: give each the same budget")
    fresh, tuning = [], []
    for name, method in methods.items():
        args = {"model": model, "data": data, **how, **method}
        best, table = tune(**args, seeds=tuning_seeds, metric=metric, along=along)
        tuning.append(table.assign(method=name))
        del args["grid"]
        fresh.append(sweep(**args, seeds=seeds, **best, final=True).assign(method=name))
    return pd.concat(fresh, ignore_index=True), pd.concat(tuning, ignore_index=True)


# --------------------------------------------------------------------------------- the grid


def best_rates(losses: pd.DataFrame) -> np.ndarray:
    """log2 of each seed's best rate [n]: the bottom of a parabola through its three lowest losses.

        x + s (y₋ − y₊) / 2 (y₋ − 2 y + y₊)

    with x = log2 of the rate of the lowest loss, y the log losses there and beside it, and s the
    distance of the rates on the log2 scale. For a seed whose lowest loss stands at an end, the end.

    losses  positive, index: three rates or more, a constant factor apart; a column for each seed;
            NaN and infinity are worse than any number

    Raises ValueError for other rates, and if for more than a quarter of the seeds the lowest loss
    stands at an end: then the grid does not bracket the best rate.
    """
    x, y = np.log2(losses.index.to_numpy(float)), np.log(losses.to_numpy(float))
    if len(x) < 3 or not np.allclose(np.diff(x), x[1] - x[0]) or not x[1] > x[0]:
        rates = ", ".join(f"{rate:g}" for rate in losses.index)
        raise ValueError(
            f"rates {rates} are not three or more, each a constant factor above the last"
        )
    y = np.where(np.isfinite(y), y, np.nanmax(y[np.isfinite(y)], initial=0.0) + 1.0)
    lowest, seeds = y.argmin(0), np.arange(y.shape[1])
    ends = (lowest == 0) | (lowest == len(x) - 1)
    if ends.mean() > 0.25:
        raise ValueError(
            f"for {ends.sum()} of {len(ends)} seeds the best rate stands at an end of the grid, "
            f"{losses.index[0]:g} to {losses.index[-1]:g}"
        )
    k = lowest.clip(1, len(x) - 2)
    low, mid, high = (y[k + j, seeds] for j in (-1, 0, 1))
    bend = low - 2 * mid + high
    shift = np.where(bend > 0, (low - high) / (2 * np.where(bend > 0, bend, 1)), 0.0)
    return np.where(ends, x[lowest], x[k] + (x[1] - x[0]) * shift)


def _grid(rule: Rule, name: str, values: Sequence[float]) -> list[float]:
    """The values in order; raises ValueError unless they are a grid that can be extended."""
    grid = sorted(set(values_of(name, values)))
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


def _between(values: Sequence[float], best: float) -> list[float]:
    """Half-way, by factors, to the neighbors of the best value; half-way by steps next to zero."""
    i = values.index(best)
    pairs = [(values[k], values[k + 1]) for k in (i - 1, i) if 0 <= k < len(values) - 1]
    return [math.sqrt(a * b) if a > 0 else (a + b) / 2 for a, b in pairs]


def _constant_score(data: Data, metric: str, loss: Callable) -> float:
    """The score of the best prediction that does not look at x; infinite if it is not known.

    For a loss, the minimum over one vector of outputs for all examples, in float64; for accuracy,
    the share of the rarer classes together.
    """
    split = {"valid": data.valid, "test": data.test}.get(metric.split("_")[0], data.train)
    if split.y.is_floating_point() or not len(split):
        return math.inf
    y = split.y.flatten().long().cpu()  # of sequences, each place counts
    classes = int(y.max()) + 1
    if metric.endswith("accuracy"):
        return 1 - torch.bincount(y).max().item() / len(y)
    if not losses.of_classes(loss):
        return math.inf

    def value(out):
        out = torch.tensor(out, requires_grad=True)
        at = loss(out.expand(len(y), classes), y)
        at.backward()
        return at.item(), out.grad.numpy()

    end = minimize(value, np.zeros(classes), jac=True, method="L-BFGS-B", options={"gtol": 1e-9})
    if abs(end.jac).max() > 1e-3:  # stuck at a kink, as of the hinge loss
        how = {"method": "Nelder-Mead", "options": {"adaptive": True, "maxfev": 1000 * classes}}
        end = minimize(lambda out: value(out)[0], end.x, **how)
    return float(end.fun)
