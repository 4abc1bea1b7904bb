"""Hyperparameter search: a study that remembers, searchers that propose, budgets that are shared.

A black box f maps a configuration of a space (`nettrain.spaces`) to a number that shall be small.

    study = Study(dict(lr=Real(1e-4, 1, log=True)), Random(), seed=0, journal="study.jsonl")
    study.optimize(f, trials=50)
    study.best.config, study.frame()

A searcher is a class with one method, a function of its arguments:

    ask(space, trials, seed) -> configuration, or None when there is no more

`trials` are all trials so far: told, failed and pending ones. The new one has the number
len(trials), and whatever is random depends on (seed, number) alone: so a study that was killed and
goes on proposes what it would have proposed. A searcher that models leaves out trials that are
`outside` the space.
"""

import copy
import inspect
import itertools
import json
import math
import os
import statistics
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine
from tqdm.auto import tqdm

from nettrain import draws, spaces

# ------------------------------------------------------------------------------- searchers


def point(seed: int, number: int, d: int) -> Tensor:
    """The random point [d] of the unit cube, float64, of trial `number` in a study of this seed."""
    bits = draws.bits(torch.tensor([seed, number]), d)
    return (bits & (2**53 - 1)).double() * 2.0**-53


class Random:
    """Independent points, uniform in the unit cube.  Bergstra & Bengio 2012."""

    def ask(self, space: dict, trials: list["Trial"], seed: int) -> dict:
        return spaces.from_unit(space, point(seed, len(trials), spaces.dims(space)))


class Sobol:
    """A scrambled Sobol sequence: points that fill the unit cube more evenly than random ones.

    Best in numbers that are powers of two.  Owen 1998.
    """

    def ask(self, space: dict, trials: list["Trial"], seed: int) -> dict:
        engine = SobolEngine(spaces.dims(space), scramble=True, seed=seed)
        engine.fast_forward(len(trials))
        return spaces.from_unit(space, engine.draw(1, dtype=torch.float64)[0])


class Grid:
    """Every combination of evenly spaced values that has not been tried, in order.

    points  of each number, as in `spaces.grid`
    """

    def __init__(self, points: int | dict[str, int]):
        self.points = points

    def ask(self, space: dict, trials: list["Trial"], seed: int) -> dict | None:
        tried = {spaces.key(trial.config) for trial in trials}
        every = spaces.grid(space, self.points)
        return next((config for config in every if spaces.key(config) not in tried), None)


# ----------------------------------------------------------------------------------- study


@dataclass(frozen=True)
class Trial:
    """One configuration and what came of it."""

    number: int
    config: dict
    value: float | None = None  # None: pending; NaN: failed
    error: str = ""  # why it failed
    outside: str = ""  # why the configuration is not in the space any more

    @property
    def state(self) -> str:
        """pending, failed or done"""
        if self.value is None:
            return "pending"
        return "failed" if math.isnan(self.value) else "done"


class Study:
    """A search that remembers every trial.

    space     a dict of names to dimensions
    searcher  proposes configurations: Grid, Random, Sobol, bayesian.Bayes, ...
    seed      of everything random in the study
    journal   path of a file that holds the study, one line of JSON per event. If it exists, the
              study goes on: finished trials stay as they are, pending ones run again with the same
              configuration. Trials whose configuration does not fit a changed space are kept, but
              not modelled, not run and never the best.

    `ask` and `tell` are the whole of it; `optimize` calls them in a loop. One thread at a time.

    Raises TypeError and ValueError for what is no space or no seed, ValueError for a journal of
    another seed or with a broken line, RuntimeError for a journal that another study writes.
    """

    def __init__(self, space: dict, searcher, *, seed: int = 0, journal: str | Path | None = None):
        spaces.check(space)
        if seed < 0:
            raise ValueError(f"seed={seed} must not be negative")
        if taken := {"number", "state", "value", "best", "error"} & set(space):
            raise ValueError(f"{sorted(taken)}: names that frame() needs; choose others")
        self.space, self.searcher, self.seed = space, searcher, seed
        self._trials: list[Trial] = []
        self._waiting: deque[int] = deque()  # pending trials that nobody works on
        self._journal = None
        if journal is not None:
            self._journal = _Journal(Path(journal))
            try:
                self._resume()
            except Exception:
                self._journal.close()
                raise

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order in which they were proposed."""
        return list(self._trials)

    def ask(self) -> Trial | None:
        """The next trial to evaluate; None when the searcher has no more.

        Trials that were enqueued, or pending when a journal's study ended, come first.
        """
        if self._waiting:
            return self._trials[self._waiting.popleft()]
        config = self.searcher.ask(self.space, self.trials, self.seed)
        return None if config is None else self._add(config)

    def enqueue(self, config: dict) -> Trial:
        """Have this configuration tried next; raises ValueError if it is not in the space."""
        trial = self._add(config)
        self._waiting.append(trial.number)
        return trial

    def tell(self, trial: Trial, value: float, error: str = "") -> Trial:
        """Note the value of a trial; a value that is not finite means that it failed.

        Raises ValueError for a trial that is not pending in this study.
        """
        if not 0 <= trial.number < len(self._trials):
            raise ValueError(f"trial {trial.number} is not of this study")
        mine = self._trials[trial.number]
        if mine.value is not None:
            raise ValueError(f"trial {trial.number} is {mine.state}; tell a pending one's value")
        value = float(value)
        event = {"tell": mine.number, "value": value}
        if not math.isfinite(value):
            value, error = math.nan, error or f"the value is {value}"
            event |= {"value": None, "error": error}
        told = replace(mine, value=value, error="" if math.isfinite(value) else error)
        self._write(event)
        self._trials[told.number] = told
        if told.number in self._waiting:
            self._waiting.remove(told.number)
        return told

    def seed_of(self, trial: Trial, repeat: int = 0) -> int:
        """The seed for evaluating a trial, a function of (study's seed, number); repeats: fresh."""
        return int(draws.bits(torch.tensor([self.seed, trial.number, repeat + 1]), 1)) & (2**31 - 1)

    def optimize(
        self,
        objective: Callable,
        trials: int,
        *,
        executor: Executor | None = None,
        workers: int | None = None,
        progress: bool = True,
    ) -> Trial:
        """Evaluate until the study has `trials` finished trials, earlier ones included; the best.

        objective  config -> number; or (config, seed) -> number, with `seed_of` the trial
        executor   any concurrent.futures.Executor: a pool of threads or of processes (objective
                   and configuration are pickled), or dask.distributed.Client(...).get_executor()
        workers    how many trials run at once (default: as many as a pool has)

        The same call continues a study that was killed. A trial that raises or returns no finite
        number is kept as failed. Ctrl-C ends the loop: what is finished is told, the rest stays
        pending. With several workers proposals depend on the order in which results come in.

        Raises ValueError if no trial succeeded, BrokenExecutor if the executor breaks.
        """
        if executor is None:
            executor, workers = _Here(), 1
        workers = workers or getattr(executor, "_max_workers", None)
        if not workers:
            raise ValueError("workers=None: say how many trials this executor runs at once")
        seeded = _takes_seed(objective)
        running: dict[int, Future | None] = {}
        done = sum(t.state != "pending" and not t.outside for t in self._trials)
        hide = not progress or "NETTRAIN_BUILD" in os.environ  # silent while the book is built
        with tqdm(total=trials, initial=done, desc="trials", disable=hide, leave=False) as bar:
            try:
                while done < trials:
                    while done + len(running) < trials and len(running) < workers:
                        if (trial := self.ask()) is None:
                            break
                        running[trial.number] = None  # if submit does not return
                        seed = self.seed_of(trial) if seeded else None
                        config = copy.deepcopy(trial.config)
                        running[trial.number] = executor.submit(evaluate, objective, config, seed)
                    if not running:
                        break
                    wait(running.values(), return_when=FIRST_COMPLETED)
                    for number in [n for n, future in running.items() if future.done()]:
                        self.tell(self._trials[number], *running[number].result())
                        del running[number]
                        done += 1
                        bar.update()
                        if self._trials[number].state == "done":
                            bar.set_postfix(best=f"{self.best.value:.4g}")
            finally:
                self._put_back(running)
        return self.best

    def _put_back(self, running: dict[int, Future | None]) -> None:
        """Whatever was running waits for the next `ask`; what has finished is told."""
        left = [number for number in running if self._trials[number].value is None]
        # first, since telling may be interrupted as well
        self._waiting.extendleft(sorted(left, reverse=True))
        for number in left:
            future = running[number]
            if future and not future.cancel() and future.done() and not future.exception():
                self.tell(self._trials[number], *future.result())

    @property
    def best(self) -> Trial:
        """The trial with the lowest value; raises ValueError if none has succeeded."""
        done = [t for t in self._trials if t.state == "done" and not t.outside]
        if not done:
            errors = [_last_line(t.error) for t in self._trials if t.error]
            last = f"; the last error: {errors[-1]}" if errors else ""
            raise ValueError(f"none of {len(self._trials)} trials has succeeded{last}")
        return min(done, key=lambda trial: trial.value)

    def frame(self) -> pd.DataFrame:
        """One row per trial: number, the configuration (nested names as "opt.rho"), state, value,
        best (lowest value so far, by number), error (its last line)."""
        table = pd.json_normalize([trial.config for trial in self._trials])
        table.insert(0, "number", range(len(table)))
        table["state"] = ["outside" if t.outside else t.state for t in self._trials]
        table["value"] = pd.Series([t.value for t in self._trials], dtype=float)
        table["best"] = table["value"].where(table["state"] == "done").cummin().ffill()
        table["error"] = [_last_line(t.outside or t.error) for t in self._trials]
        return table

    def rescore(self, objective: Callable, *, top: int = 1, repeats: int = 8) -> pd.DataFrame:
        """Evaluate the best trials again with fresh seeds: the value that a winner was chosen by
        is too good, for it was chosen by it.

        objective  (config, seed) -> number. One row per trial and seed: number, seed, value, and
        found, the value that the search saw. A failed evaluation is NaN.
        """
        if not _takes_seed(objective):
            raise ValueError("rescore needs an objective with an argument seed")
        done = [t for t in self._trials if t.state == "done" and not t.outside]
        rows = []
        for trial in sorted(done, key=lambda trial: trial.value)[:top]:
            for repeat in range(1, repeats + 1):
                seed = self.seed_of(trial, repeat)
                value, _ = evaluate(objective, copy.deepcopy(trial.config), seed)
                rows.append((trial.number, seed, value, trial.value))
        return pd.DataFrame(rows, columns=["number", "seed", "value", "found"])

    def close(self) -> None:
        """Let another study write the journal; also when the study is forgotten or ends."""
        if self._journal:
            self._journal.close()

    def _add(self, config: dict) -> Trial:
        trial = Trial(len(self._trials), spaces.validate(self.space, config))
        self._write({"ask": trial.number, "config": trial.config})
        self._trials.append(trial)
        return trial

    def _write(self, event: dict) -> None:
        if self._journal:
            self._journal.write(event)

    def _resume(self) -> None:
        header = {"space": spaces.describe(self.space), "seed": self.seed}
        last = None
        for line, event in self._journal.events:
            try:
                if "space" in event:
                    last = event
                else:
                    self._replay(event)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise ValueError(f"{self._journal.path}, line {line}: {error!r}") from None
        if last and last["seed"] != self.seed:
            raise ValueError(
                f"{self._journal.path} holds a study of seed={last['seed']}, not {self.seed}"
            )
        if last != header:
            self._journal.write(header)
        for number, trial in enumerate(self._trials):
            try:
                spaces.validate(self.space, trial.config)
            except ValueError as error:
                self._trials[number] = replace(trial, outside=str(error))
        waiting = (t.number for t in self._trials if t.state == "pending" and not t.outside)
        self._waiting.extend(waiting)

    def _replay(self, event: dict) -> None:
        """An event again. One that was interrupted after its line was written stands twice."""
        if "ask" in event:
            trial = Trial(event["ask"], event["config"])
            if self._trials and self._trials[-1].number == trial.number:
                if self._trials.pop().value is not None:
                    raise ValueError(f"trial {trial.number} is finished and asked for again")
            if trial.number != len(self._trials):
                raise ValueError(f"trial {trial.number} follows trial {len(self._trials) - 1}")
            self._trials.append(trial)
        elif self._trials[event["tell"]].value is None:
            number, value = event["tell"], event["value"]
            value = math.nan if value is None else value
            told = replace(self._trials[number], value=value, error=event.get("error", ""))
            self._trials[number] = told


def evaluate(objective: Callable, config: dict, seed: int | None = None) -> tuple[float, str]:
    """(value, "") of the objective, or (NaN, the error's text) if it fails."""
    try:
        return float(objective(config) if seed is None else objective(config, seed=seed)), ""
    except Exception as error:
        return math.nan, "".join(traceback.format_exception(error))


def _last_line(text: str) -> str:
    return text.strip().split("\n")[-1]


def _takes_seed(objective: Callable) -> bool:
    try:
        return "seed" in inspect.signature(objective).parameters
    except ValueError:  # some callables written in C have no signature
        return False


class _Here(Executor):
    """Evaluates at once, in this thread."""

    def submit(self, function, /, *args, **kwargs) -> Future:
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


class _Journal:
    """Lines of JSON that are only appended, each on the disk before `write` returns.

    One writer: a lock of the system's (flock), which ends with the process however it dies.
    """

    def __init__(self, path: Path):
        import fcntl  # not on Windows, where only studies without a journal work

        self.path = path
        self._file = open(path, "a+b", buffering=0)
        self._finalizer = weakref.finalize(self, self._file.close)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise RuntimeError(
                f"{path} is being written by another study; wait or close it"
            ) from None
        # a worker that outlives its killed parent must not hold the parent's lock
        file = weakref.ref(self._file)
        os.register_at_fork(after_in_child=lambda: (f := file()) and f.close())
        self.events = self._read()

    def _read(self) -> list[tuple[int, dict]]:
        self._file.seek(0)
        text = self._file.readall()
        end = text.rfind(b"\n") + 1
        self._file.truncate(end)  # a torn last line: its event did not happen
        events = []
        for number, line in enumerate(text[:end].splitlines(), 1):
            try:
                events.append((number, json.loads(line)))
            except ValueError:
                raise ValueError(f"{self.path}, line {number} is broken: {line[:60]!r}") from None
        return events

    def write(self, event: dict) -> None:
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        if self._file.write(line) < len(line):  # the disk is full
            self._file.truncate(end)
            raise OSError(f"{self.path}: no room for {line[:60]!r}")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._finalizer()


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
    """

    def __init__(self, objective: Callable, configs: list[dict]):
        self.configs = list(configs)
        self.curves = [objective(copy.deepcopy(config)) for config in self.configs]
        self.losses, self.errors = [math.nan] * len(self.curves), [""] * len(self.curves)

    def __len__(self) -> int:
        return len(self.curves)

    def __getitem__(self, rows) -> "Curves":
        rows = torch.arange(len(self))[rows].view(-1).tolist()
        part = copy.copy(self)
        for name, column in vars(self).items():
            setattr(part, name, [column[row] for row in rows])
        return part

    def advance(self, epochs: int) -> tuple["Curves", list[float]]:
        """Take `epochs` losses from every generator; the last of each."""
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
    d = spaces.dims(space)

    def start(first: int, n: int) -> Curves:
        numbers = range(first, first + n)
        return Curves(objective, [spaces.from_unit(space, point(seed, i, d)) for i in numbers])

    return start


def halving(n: int, budget: int) -> list[tuple[int, int]]:
    """The rounds (n_k, r_k) of Algorithm 1.2: n_k runs get r_k more each, ⌈log₂ n⌉ rounds.

        r_k = ⌊B / (n_k ⌈log₂ n⌉)⌋      n_k = ⌊n / 2ᵏ⌋

    Jamieson & Talwalkar 2016; what they return is the half of the last round, which is empty
    where n is no power of two (3 → 1 → 0): the best of the last round is meant.
    Raises ValueError for n < 2 and for a budget that leaves some run nothing.
    """
    rounds = (n - 1).bit_length()  # integers only: ⌈log₂ n⌉
    if n < 2 or budget < n * rounds:
        raise ValueError(f"n={n}, budget={budget}: needs n >= 2 and budget >= n ⌈log₂ n⌉")
    sizes = [n >> k for k in range(rounds)]
    return [(size, budget // (size * rounds)) for size in sizes]


def cumulative(rounds: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(n_k, r_k more) as (n_k, what each run has had in total by then)."""
    totals = itertools.accumulate(r for _, r in rounds)
    return [(n, total) for (n, _), total in zip(rounds, totals, strict=True)]


def resources(r_max: int, *, r_min: int = 1, eta: int = 3) -> list[int]:
    """⌊R / ηˢ⌋, ..., ⌊R / η⌋, R: what a run has had after each rung; at least r_min.

    Raises ValueError unless 1 ≤ r_min ≤ R and η ≥ 2.
    """
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
    rung, run (its number in the first rung), resource, loss, spent (by all runs so far). A loss
    of NaN counts as infinite. Jamieson & Talwalkar 2016.
    """
    runs, rows = _halve(runs, advance, rungs)
    return runs, _history(rows, ["rung", "run", "loss", "cost"])


def _halve(runs, advance: Callable, rungs: list[tuple[int, int]]):
    """The runs of the last rung, best first, and for each evaluation (rung, run, loss, cost)."""
    if len(runs) != rungs[0][0]:  # else the sizes of the later rungs would be wrong
        raise ValueError(f"{len(runs)} runs, but the first rung is {rungs[0]}")
    numbers, best_first = range(len(runs)), range(len(runs))
    before, rows = 0, []
    for rung, (n, r) in enumerate(rungs):
        keep = list(best_first[:n])
        numbers = [numbers[i] for i in keep]
        runs, losses = advance(runs[keep], r - before)
        losses = torch.as_tensor(losses, dtype=torch.float64).nan_to_num(nan=math.inf).tolist()
        best_first = sorted(range(len(runs)), key=losses.__getitem__)
        rows += [(rung, number, loss, r - before) for number, loss in zip(numbers, losses)]
        before = r
    return runs[best_first], rows


def hyperband(start: Callable, advance: Callable, table: list[list[tuple[int, int]]]):
    """Successive halving with many runs and little resource, with fewer and more, and so on.

    start    (first, n) -> runs, those numbered first, ..., first + n − 1, e.g. `starter(...)`
    advance  (runs, resource) -> (runs, losses [n])
    table    `brackets(81)`; or any list of brackets, as [[(1, 81)]] * 20 for random search

    Returns the best run of the brackets' last rungs (as runs of length one) and the history, as
    `successive_halving` does, with the bracket's number in the table. Li et al. 2018.
    """
    best, lowest, first, rows = None, math.inf, 0, []
    for bracket, rungs in enumerate(table):
        runs, evaluations = _halve(start(first, rungs[0][0]), advance, rungs)
        rows += [(rung, run + first, *found, bracket) for rung, run, *found in evaluations]
        loss = min(loss for _, _, loss, _ in evaluations[-len(runs) :])
        if best is None or loss < lowest:
            best, lowest = runs[:1], loss
        first += rungs[0][0]
    return best, _history(rows, ["rung", "run", "loss", "cost", "bracket"])


def promotion(losses: list[dict[int, float]], started: list[set[int]], eta: int):
    """ASHA's next job (run, rung): a run of the best 1/η of some rung, the highest rung first, that
    has not been promoted; None if there is none.

    losses   {run: loss} of the runs that have finished each rung
    started  the runs that have been started in each rung
    """
    for rung in range(len(losses) - 2, -1, -1):
        best_first = sorted(losses[rung], key=losses[rung].get)
        for run in best_first[: len(best_first) // eta]:
            if run not in started[rung + 1] and losses[rung][run] < math.inf:
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

    Returns the run with the lowest loss (as runs of length one) and the history. Li et al. 2020.
    """
    executor = executor or _Here()
    levels = resources(r_max, r_min=r_min, eta=eta)
    losses, started = [{} for _ in levels], [set() for _ in levels]
    runs, running, rows, given = [], {}, [], 0
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
            runs[run], loss = future.result()
            loss = float(torch.as_tensor(loss, dtype=torch.float64)[0].nan_to_num(nan=math.inf))
            losses[rung][run] = loss
            rows.append((rung, run, loss, cost))
    history = _history(rows, ["rung", "run", "loss", "cost"])
    latest = history.groupby("run")["loss"].last()
    return runs[latest.idxmin()], history


def below_median(curve: list[float], others: list[list[float]]) -> bool:
    """Whether a learning curve is worth continuing: its lowest loss so far is at most the median of
    the other curves' mean loss over the same epochs.  Golovin et al. 2017, section 3.2.

    Curves that ended earlier do not count; True if there is none left.
    """
    t = len(curve)
    means = [sum(other[:t]) / t for other in others if len(other) >= t]
    return not means or min(curve) <= statistics.median(means)


def stop_early(start: Callable, advance: Callable, go_on: Callable, *, budget: int, r_max: int):
    """Run after run, each until `go_on(its losses so far, the earlier runs' losses)` is false.

    start, advance, budget, r_max as for `asha`; one resource at a time; a loss of NaN counts as
    infinite. Returns the run with the lowest last loss and the history.
    """
    runs, curves, rows = [], [], []
    while len(rows) < budget:
        run, curve = start(len(runs), 1), []
        while len(curve) < r_max and len(rows) < budget:
            run, (loss,) = advance(run, 1)
            curve.append(math.inf if math.isnan(loss) else float(loss))
            rows.append((len(runs), curve[-1], 1))
            if not go_on(curve, curves):
                break
        runs.append(run), curves.append(curve)
    history = _history(rows, ["run", "loss", "cost"])
    return runs[history.groupby("run")["loss"].last().idxmin()], history


def _history(rows: list[tuple], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns)
    table["resource"] = table.groupby("run")["cost"].cumsum()
    return table.assign(spent=table["cost"].cumsum())


# ------------------------------------------------------------------------------- importance


def importance(space: dict, trials: list[Trial], *, best: float = 0.1) -> pd.DataFrame:
    """How much each dimension matters for being among the best: PED-ANOVA.

        D = Σ_x p(x) (q(x) / p(x) − 1)²

    p is the density of all trials along the dimension, q that of the best share, each with the
    same kernel; D is the Pearson divergence, and 0 where good trials are like all others. A
    number's densities are Gaussian kernels on its unit coordinate, reflected at the ends, with
    Scott's width of the best trials. A dimension inside an option is judged among the trials
    that have it. Failed trials are the worst. Watanabe, Bansal & Hutter 2023.

    Columns: divergence, and share: the divergences divided by their sum. Raises ValueError if
    there are fewer than 4 best trials.
    """
    trials = [t for t in trials if t.value is not None and not t.outside]
    values = np.nan_to_num([t.value for t in trials], nan=math.inf)
    top = max(1, round(best * len(trials)))
    if top < 4:
        raise ValueError(f"{len(trials)} trials have only {top} in the best {best:g}; needs 4")
    points = torch.stack([spaces.to_unit(space, t.config) for t in trials])
    order = values.argsort(kind="stable")
    good = np.isin(np.arange(len(trials)), order[:top])
    points, active = points.numpy(), spaces.active(space, points).numpy()
    found = {}
    for i, (name, dim) in enumerate(spaces.leaves(space)):
        every, best_of_them = points[active[:, i], i], points[active[:, i] & good, i]
        if isinstance(dim, spaces.Choice):
            p, q = _frequencies(every, dim), _frequencies(best_of_them, dim)
        else:
            width = max(best_of_them.std(), 0.01) * len(best_of_them) ** -0.2
            p, q = _kernels(every, width), _kernels(best_of_them, width)
        found[name] = (p * (q / p - 1) ** 2)[p > 0].sum()
    table = pd.DataFrame({"divergence": found})
    return table.assign(share=table["divergence"] / table["divergence"].sum())


def _frequencies(u: np.ndarray, dim: spaces.Choice) -> np.ndarray:
    """The share of each option."""
    return np.bincount([dim.pick(x) for x in u], minlength=len(dim.options)) / len(u)


def _kernels(u: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian at each u and at its mirror images beyond 0 and 1, in 200 cells; sums to one."""
    x = (np.arange(200)[:, None] + 0.5) / 200
    density = sum(np.exp(-(((x - c) / width) ** 2) / 2).sum(1) for c in (u, -u, 2 - u))
    return density / density.sum()
