"""Budgets: how much training each configuration of a search gets.

Successive halving, Hyperband, ASHA and the median rule stop what looks bad early. A run whose loss
is not finite has failed: it is never promoted and never wins.
"""

import copy
import itertools
import math
import statistics
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    wait,
)

import pandas as pd
import torch

from nettrain import draws, spaces
from nettrain.searchers import point
from nettrain.trials import _Here, _last_line

# --------------------------------------------------------------------------- many fidelities
#
# A run is a configuration in training. `runs` are several: `len(runs)` counts them, `runs[rows]`
# selects some, and they keep what they have learnt. `advance(runs, resource)` trains each of them
# that much further and returns (runs, losses [n]). A resource is an epoch, a step, an example, ...
# Rows of a sweep are runs; so are the `Curves` of objectives that are generators.


class Curves:
    """Objectives that are generators, as runs: config -> generator of one loss per epoch.

    A generator that waits for its next turn is a training run that pauses. One that raises has the
    loss NaN from then on, and its text stands in `errors`; one that ends keeps its last loss.
    Raises TypeError for an objective that returns something else, such as a number.
    """

    def __init__(self, objective: Callable, configs: list[dict]):
        self.configs, self.curves, self.errors = list(configs), [], []
        for config in self.configs:
            curve, text = (), ""
            try:
                curve = objective(copy.deepcopy(config))
            except Exception as error:  # before its first loss
                text = "".join(traceback.format_exception(error))
            if not isinstance(curve, Iterable):
                raise TypeError(f"the objective returned {curve!r}, not a generator of losses")
            self.curves.append(iter(curve)), self.errors.append(text)
        self.losses = [math.nan] * len(self.curves)

    def __len__(self) -> int:
        return len(self.curves)

    def __getitem__(self, rows) -> "Curves":
        rows = torch.arange(len(self))[rows].view(-1).tolist()
        part = copy.copy(self)
        for name, column in vars(self).items():
            setattr(part, name, [column[row] for row in rows])
        return part

    def advance(self, epochs: int) -> tuple["Curves", list[float]]:
        """Take `epochs` losses from every generator, and return the runs and the last of each."""
        for i, curve in enumerate(self.curves):
            try:
                for loss in itertools.islice(curve, epochs):
                    self.losses[i] = float(loss)
            except Exception as error:
                self.losses[i] = math.nan
                self.errors[i] = "".join(traceback.format_exception(error))
        return self, list(self.losses)


def starter(objective: Callable, space: dict, *, seed: int = 0) -> Callable:
    """start(first, n) -> Curves of n random configurations, those numbered first, first + 1, ..."""
    spaces.check(space)
    space, d, seed = copy.deepcopy(space), spaces.dims(space), draws.check_seed(seed)

    def start(first: int, n: int) -> Curves:
        numbers = range(first, first + n)
        return Curves(objective, [spaces.from_unit(space, point(seed, i, d)) for i in numbers])

    return start


def halving(n: int, budget: int) -> list[tuple[int, int]]:
    """The rounds (n_k, r_k) of Algorithm 1.2: n_k runs get r_k more each, ⌈log₂ n⌉ rounds.

        r_k = ⌊B / (n_k ⌈log₂ n⌉)⌋      n_k = ⌊n / 2ᵏ⌋

    Jamieson & Talwalkar 2016; what they return is the half of the last round, which is empty
    where n is not a power of two (3 → 1 → 0): the best of the last round is meant.
    Raises ValueError for n < 2 and for a budget that leaves some run nothing.
    """
    n, budget = spaces.whole("n", n, 0), spaces.whole("budget", budget, 0)
    rounds = (n - 1).bit_length()  # integers only: ⌈log₂ n⌉
    if n < 2 or budget < n * rounds:
        raise ValueError(f"n={n}, budget={budget}: needs n >= 2 and budget >= n ⌈log₂ n⌉")
    sizes = [n >> k for k in range(rounds)]
    return [(size, budget // (size * rounds)) for size in sizes]


def resources(r_max: int, *, r_min: int = 1, eta: int = 3) -> list[int]:
    """⌊R / ηˢ⌋, ..., ⌊R / η⌋, R: what a run has had after each rung; at least r_min.

    Raises ValueError unless 1 ≤ r_min ≤ R and η ≥ 2.
    """
    r_max, r_min = spaces.whole("r_max", r_max, 0), spaces.whole("r_min", r_min, 0)
    eta = spaces.whole("eta", eta, 0)
    if not 1 <= r_min <= r_max or eta < 2:
        given = f"r_min={r_min}, r_max={r_max}, eta={eta}"
        raise ValueError(f"{given}: needs 1 <= r_min <= r_max and eta >= 2")
    levels = [r_max]
    while levels[0] // eta >= r_min:  # integers only: int(log(243) / log(3)) is 4
        levels.insert(0, r_max // eta ** len(levels))
    return levels


def brackets(r_max: int, *, r_min: int = 1, eta: int = 3) -> list[list[tuple[int, int]]]:
    """Hyperband's brackets s = s_max ... 0, each a list of rungs (n_i, r_i).

        n = ⌈(s_max + 1) ηˢ / (s + 1)⌉      n_i = ⌊n / ηⁱ⌋      r_i = ⌊R / ηˢ⁻ⁱ⌋

    n_i runs have had r_i each, in total, when the best of them are chosen. Li et al. 2018.
    """
    levels = resources(r_max, r_min=r_min, eta=eta)
    found = []
    for s in range(len(levels) - 1, -1, -1):
        n = -(-len(levels) * eta**s // (s + 1))
        found.append([(n // eta**i, r) for i, r in enumerate(levels[len(levels) - 1 - s :])])
    return found


def successive_halving(runs, advance: Callable, rungs: list[tuple[int, int]]):
    """Train all runs a little, keep the best, train these further, and so on.

    runs     the n runs of the first rung
    advance  (runs, resource) -> (runs, losses [n])
    rungs    (n_i, r_i): n_i runs, trained until each has had r_i in total

    Returns the runs of the last rung, best first, and the history: one row per evaluation with
    rung, run (its number in the first rung), resource, loss, spent (by all runs so far). A run
    whose loss is not finite has failed: its loss is infinite, and it is neither kept nor returned.
    If all of the last runs fail, the best one that was left behind is returned; if all runs fail,
    `no_winner` says what happens. Jamieson & Talwalkar 2016.
    """
    best, loss, rows, error = _halve(runs, advance, rungs)
    if loss == math.inf:
        no_winner(rungs[0][0], error)
    return best, _history(rows, ["rung", "run", "loss", "cost"])


def _halve(runs, advance: Callable, rungs: list[tuple[int, int]]):
    """The runs of the last rung, best first; the lowest of their losses; for each evaluation
    (rung, run, loss, cost); the first error."""
    _check_rungs(rungs)
    if len(runs) != rungs[0][0]:  # else the sizes of the later rungs would be wrong
        raise ValueError(f"{len(runs)} runs, but the first rung is {rungs[0]}")
    numbers, best_first = range(len(runs)), list(range(len(runs)))
    before, losses, rows, error, spare = 0, [], [], "", None
    for rung, (n, r) in enumerate(rungs):
        keep, left = best_first[:n], best_first[n:]
        if left:
            spare = runs[left[:1]], losses[left[0]]
        numbers = [numbers[i] for i in keep]
        runs, found = advance(runs[keep], r - before)
        losses = _losses(found, len(keep))
        if math.inf in losses:
            error = error or _first_error(runs, found)
        rows += [(rung, number, loss, r - before) for number, loss in zip(numbers, losses)]
        best_first = [i for i in range(len(keep)) if losses[i] < math.inf]
        best_first.sort(key=losses.__getitem__)
        before = r
        if not best_first:
            return *(spare or (runs[:0], math.inf)), rows, error
    return runs[best_first], losses[best_first[0]], rows, error


def _check_rungs(rungs: list[tuple[int, int]]) -> None:
    sizes, totals = [n for n, _ in rungs], [r for _, r in rungs]
    falling = all(b <= a for a, b in itertools.pairwise(sizes))
    rising = all(b > a for a, b in itertools.pairwise(totals))
    if not rungs or not falling or not rising or sizes[-1] < 1 or totals[0] < 1:
        raise ValueError(f"rungs={rungs}: needs (n, r), ..., n ≥ 1 never rising, r ≥ 1 rising")


def _losses(losses, n: int) -> list[float]:
    """What `advance` returned for n runs, as floats; infinite where a run has failed."""
    losses = torch.as_tensor(losses, dtype=torch.float64)
    if losses.shape != (n,):
        raise ValueError(f"advance returned losses of shape {list(losses.shape)}, not [{n}]")
    return losses.where(losses.isfinite(), math.inf).tolist()


def _first_error(runs, losses) -> str:
    """What the first of the failed runs raised, or that its loss is not a number."""
    raised = [_last_line(text) for text in getattr(runs, "errors", ()) if text]
    lost = [loss for loss in map(float, losses) if not math.isfinite(loss) and loss != math.inf]
    return raised[0] if raised else f"the loss is {lost[0]}" if lost else ""


def no_winner(n: int, error: str) -> None:
    """What the budgets below do when all n runs fail: they raise ValueError, with the first error.

    If there is no error because all losses are infinite, they warn and return runs of length zero
    with the history.
    """
    if error:
        raise ValueError(f"all {n} configurations failed; the first error: {error}")
    text = f"all {n} configurations diverged: every loss is infinite, so there is no best run"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def hyperband(start: Callable, advance: Callable, table: list[list[tuple[int, int]]]):
    """Successive halving with many runs and little resource, with fewer and more, and so on.

    start    (first, n) -> runs, those numbered first, ..., first + n − 1, e.g. `starter(...)`
    advance  (runs, resource) -> (runs, losses [n])
    table    `brackets(81)`; or any list of brackets, as [[(1, 81)]] * 20 for random search

    Returns the best run of the brackets' last rungs (as runs of length one) and the history, as
    `successive_halving` does, with the bracket's number in the table. Raises ValueError if all
    runs of all brackets fail (`no_winner`). Li et al. 2018.
    """
    if not len(table):
        raise ValueError("table=[] has no bracket: there is nothing to run")
    best, lowest, first, rows, error = None, math.inf, 0, [], ""
    for bracket, rungs in enumerate(table):
        _check_rungs(rungs)
        runs, loss, evaluations, text = _halve(start(first, rungs[0][0]), advance, rungs)
        rows += [(rung, run + first, *found, bracket) for rung, run, *found in evaluations]
        error = error or text
        if best is None or loss < lowest:
            best, lowest = runs[:1], loss
        first += rungs[0][0]
    if lowest == math.inf:
        no_winner(first, error)
    return best, _history(rows, ["rung", "run", "loss", "cost", "bracket"])


def promotion(losses: list[dict[int, float]], started: list[set[int]], eta: int):
    """ASHA's next job (run, rung): a run of the best 1/η of some rung, the highest rung first, that
    has not been promoted; None if no run is left.

    losses   {run: loss} of the runs that have finished each rung; not finite: it failed there
    started  the runs that have been started in each rung
    """
    for rung in range(len(losses) - 2, -1, -1):
        able = [run for run, loss in losses[rung].items() if math.isfinite(loss)]
        for run in sorted(able, key=losses[rung].get)[: len(losses[rung]) // eta]:
            if run not in started[rung + 1]:
                return run, rung + 1
    return None


def asha(
    start: Callable,
    advance: Callable,
    *,
    budget: int,
    r_max: int,
    r_min: int = 1,
    eta: int = 3,
    executor: Executor | None = None,
    workers: int = 1,
):
    """Asynchronous successive halving: promote a run as soon as it is among the best 1/η of those
    that have finished its rung so far, else start a new one; no rung is ever waited for.

    start and advance as for `hyperband`, r_max, r_min, eta as for `brackets`; resource is given
    out while less than `budget` has been. With an executor of threads, `workers` runs advance at
    once; other executors cannot hold a paused run.

    Returns the run with the lowest loss (as runs of length one) and the history, as
    `successive_halving` does; a run that has failed is never promoted. Raises ValueError if all
    runs fail (`no_winner`). Li et al. 2020.
    """
    executor, workers = executor or _Here(), spaces.whole("workers", workers)
    budget, levels = spaces.whole("budget", budget), resources(r_max, r_min=r_min, eta=eta)
    losses, started = [{} for _ in levels], [set() for _ in levels]
    runs, running, rows, given, error = [], {}, [], 0, ""
    while running or given < budget:
        while len(running) < workers and given < budget:
            run, rung = promotion(losses, started, eta) or (len(runs), 0)
            if rung == 0:
                runs.append(start(run, 1))
            cost = levels[rung] - (levels[rung - 1] if rung else 0)
            started[rung].add(run)
            running[executor.submit(advance, runs[run], cost)] = run, rung, cost
            given += cost
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            run, rung, cost = running.pop(future)
            runs[run], found = future.result()
            (loss,) = _losses(found, 1)
            if loss == math.inf:
                error = error or _first_error(runs[run], found)
            losses[rung][run] = loss
            rows.append((rung, run, loss, cost))
    return _winner(runs, _history(rows, ["rung", "run", "loss", "cost"]), error)


def _winner(runs: list, history: pd.DataFrame, error: str):
    """The run with the lowest last loss, and the history."""
    latest = history.groupby("run")["loss"].last()
    if latest.min() == math.inf:
        no_winner(len(runs), error)
        return runs[0][:0], history
    return runs[latest.idxmin()], history


def below_median(curve: list[float], others: list[list[float]]) -> bool:
    """Whether a learning curve is worth continuing: its lowest loss so far is at most the median of
    the other curves' mean loss over the same epochs.  Golovin et al. 2017, section 3.2.

    Curves that ended earlier do not count; True if there is none left. A run whose last loss is not
    finite is never worth it.
    """
    if not math.isfinite(curve[-1]):
        return False
    t = len(curve)
    means = [sum(other[:t]) / t for other in others if len(other) >= t]
    means = [mean if math.isfinite(mean) else math.inf for mean in means]
    return not means or min(curve) <= statistics.median(means)


def stop_early(start: Callable, advance: Callable, go_on: Callable, *, budget: int, r_max: int):
    """Run after run, each until `go_on(its losses so far, the earlier runs' losses)` is false.

    start, advance, budget, r_max as for `asha`; one resource at a time. A run whose loss is not
    finite has failed: its loss is infinite, and it ends. Returns the run with the lowest last loss
    and the history. Raises ValueError if all runs fail (`no_winner`).
    """
    budget, r_max = spaces.whole("budget", budget), spaces.whole("r_max", r_max)
    runs, curves, rows, error = [], [], [], ""
    while len(rows) < budget:
        run, curve = start(len(runs), 1), []
        while len(curve) < r_max and len(rows) < budget:
            run, found = advance(run, 1)
            curve += _losses(found, 1)
            rows.append((len(runs), curve[-1], 1))
            if curve[-1] == math.inf:
                error = error or _first_error(run, found)
                break
            if not go_on(curve, curves):
                break
        runs.append(run), curves.append(curve)
    return _winner(runs, _history(rows, ["run", "loss", "cost"]), error)


def _history(rows: list[tuple], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns)
    table["resource"] = table.groupby("run")["cost"].cumsum()
    return table.assign(spent=table["cost"].cumsum())
