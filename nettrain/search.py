"""Hyperparameter search: a study that remembers, searchers that propose, budgets that are shared.

A black box f maps a configuration of a space (`nettrain.spaces`) to a number that shall be small.

    study = Study(dict(lr=Real(1e-4, 1, log=True)), Random(), seed=0, journal="study.jsonl")
    study.optimize(f, trials=50)
    study.best.config, study.frame()

A searcher is a class with one method, a function of its arguments:

    ask(space, trials, seed) -> configuration, or None when there is no more

`trials` are all trials so far: told, failed and pending ones, to be read and not changed. The new
one has the number len(trials), and whatever is random depends on (seed, number) alone: so a study
that was killed and goes on proposes what it would have proposed. A searcher that models leaves out
trials that are `outside` the space.

A trial or a run whose value is not finite has failed: it is never the best, a parent or promoted.
"""

import copy
import inspect
import itertools
import json
import math
import os
import pickle
import statistics
import traceback
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass, replace
from functools import partial
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

    The grid is not listed, so that it may have any size. A proposal depends on the arguments alone;
    what was worked out for earlier trials is kept, so that it takes little time.
    """

    def __init__(self, points: int | dict[str, int]):
        for name, m in (points if isinstance(points, dict) else {"all": points}).items():
            spaces.whole(f"points of {name}", m)
        self.points = points
        self._known = None

    def ask(self, space: dict, trials: list["Trial"], seed: int) -> dict | None:
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

    def continues(self, place: str, trials: list["Trial"]) -> bool:
        """Whether these trials begin with those that were looked at, in the same space."""
        same = len(trials) >= len(self.configs) and self.place == place
        return same and all(t.config is c for t, c in zip(trials, self.configs))

    def next(self, trials: list["Trial"]) -> dict | None:
        """The first configuration that none of the trials has; None if there is none left."""
        for trial in trials[len(self.configs) :]:
            self.configs.append(trial.config)
            self.numbers.update(self.lattice.find(spaces.plain(trial.config)))
        while self.first in self.numbers:
            self.first += 1
        return self.lattice.at(self.first) if self.first < self.lattice.size else None


# ----------------------------------------------------------------------------------- study


@dataclass(frozen=True)
class Trial:
    """One configuration and what came of it."""

    number: int
    config: dict
    value: float | None = None  # None: pending; not finite: failed
    error: str = ""  # why it failed
    outside: str = ""  # why the configuration is not in the space any more

    @property
    def state(self) -> str:
        """pending, failed or done"""
        if self.value is None:
            return "pending"
        return "done" if math.isfinite(self.value) else "failed"


class Study:
    """A search that remembers every trial.

    space     a dict of names to dimensions
    searcher  proposes configurations: Grid, Random, Sobol, bayesian.Bayes, ...
    seed      of everything random in the study, in [0, 2⁶³)
    journal   path of a file that holds the study, one line of JSON per event. If it exists, the
              study goes on: finished trials stay as they are, pending ones run again with the same
              configuration. Trials whose configuration does not fit a changed space are kept, but
              not modelled, not run and never the best.

    `ask` and `tell` are the whole of it; `optimize` calls them in a loop. One thread at a time. The
    trials that a study hands out are copies: what a caller does to them does not reach the study.

    Raises TypeError and ValueError for what is no space or no seed, ValueError for a journal of
    another seed or with a broken line, RuntimeError for a journal that another study writes.
    """

    def __init__(self, space: dict, searcher, *, seed: int = 0, journal: str | Path | None = None):
        spaces.check(space)
        if taken := {"number", "state", "value", "best", "error"} & set(space):
            raise ValueError(f"{sorted(taken)}: names that frame() needs; choose others")
        self.space, self.searcher = copy.deepcopy(space), searcher
        self.seed = draws.check_seed(seed)
        self._trials: list[Trial] = []
        self._waiting: deque[int] = deque()  # pending trials that nobody works on
        self._starts = Counter()  # how often a pending trial began, but neither ended nor came back
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
        return [_copy(trial) for trial in self._trials]

    def ask(self) -> Trial | None:
        """The next trial to evaluate; None when the searcher has no more.

        Trials that were enqueued, or pending when a journal's study ended, come first.
        """
        if self._waiting:
            return _copy(self._trials[self._waiting.popleft()])
        config = self.searcher.ask(self.space, list(self._trials), self.seed)
        return None if config is None else _copy(self._add(config))

    def enqueue(self, config: dict) -> Trial:
        """Have this configuration tried next; raises ValueError if it is not in the space."""
        trial = self._add(config)
        self._waiting.append(trial.number)
        return _copy(trial)

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
        return _copy(told)

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

        A trial during which a process dies, this one or a worker, may have killed it. It runs once
        more, alone; the second time it is kept as failed. The journal counts across restarts.

        Raises ValueError if no trial succeeded, BrokenExecutor if the executor breaks; where Dask
        gives a trial up (KilledWorker) the search goes on. TypeError and ValueError for counts that
        are not integers of 1 or more.
        """
        trials = spaces.whole("trials", trials)
        if executor is None:
            executor, workers = _Here(), 1
        if workers is None:
            workers = getattr(executor, "_max_workers", None)
        if workers is None:
            raise ValueError("workers=None: say how many trials this executor runs at once")
        workers = spaces.whole("workers", workers)
        seeded = _takes_seed(objective)
        running: dict[int, Future | None] = {}
        done = sum(t.state != "pending" and not t.outside for t in self._trials)
        hide = not progress or "NETTRAIN_BUILD" in os.environ  # silent while the book is built
        with tqdm(total=trials, initial=done, desc="trials", disable=hide, leave=False) as bar:
            try:
                while done < trials:
                    while done + len(running) < trials and self._room(running, workers):
                        if (trial := self.ask()) is None:
                            break
                        running[trial.number] = None  # if submit does not return
                        seed = self.seed_of(trial) if seeded else None
                        self._start(trial.number)
                        running[trial.number] = executor.submit(
                            evaluate, objective, trial.config, seed
                        )
                    if not running:
                        break
                    wait(running.values(), return_when=FIRST_COMPLETED)
                    for number in [n for n, future in running.items() if future.done()]:
                        if self._settle(number, running[number]):
                            done += 1
                            bar.update()
                        del running[number]
                        if self._trials[number].state == "done":
                            bar.set_postfix(best=f"{self.best.value:.4g}")
            finally:
                self._put_back(running)
        return self.best

    def _room(self, running: dict[int, Future | None], workers: int) -> bool:
        """Whether one more trial may begin: one that may have killed a process runs alone."""
        suspects = {*running, *itertools.islice(self._waiting, 1)}
        alone = bool(running) and any(
            self._starts[number] > (number in running) for number in suspects
        )
        return len(running) < workers and not alone

    def _start(self, number: int) -> None:
        """Note that a trial begins: if this process dies before it ends, the journal shows it."""
        self._note({"start": number})
        self._starts[number] += 1

    def _settle(self, number: int, future: Future) -> bool:
        """Tell what came of a trial; whether it has ended. If its worker died, it waits again.

        Raises what the executor put in place of an answer, if it may be lost itself.
        """
        error = future.exception()
        if not (error and _names(error) & LOST):
            self.tell(self._trials[number], *future.result())
            return True
        given_up = self._mourn(number, error)
        if not given_up:
            self._waiting.appendleft(number)
        return given_up

    def _mourn(self, number: int, error: Exception) -> bool:
        """Whether a trial whose worker died is given up: the second time it is told as failed."""
        if given_up := self._starts[number] >= DEATHS:
            self.tell(self._trials[number], math.nan, f"{DIED}: {error!r}")
        kept = "kept as failed" if given_up else "put back, to run once more, alone"
        error.add_note(f"trial {number} ran when a worker died: it is {kept}")
        return given_up

    def _put_back(self, running: dict[int, Future | None]) -> None:
        """Whatever was running waits for the next `ask`; what has finished is told."""
        left = [number for number in running if self._trials[number].value is None]
        # first, since telling may be interrupted as well
        back = [number for number in left if number not in self._waiting]
        self._waiting.extendleft(sorted(back, reverse=True))
        futures = [running[number] for number in left if running[number]]
        if any(isinstance(_error(future), BrokenExecutor) for future in futures):
            wait(futures, timeout=60)  # the executor tells one after the other
        for number in left:
            future = running[number]
            if future and not future.cancel() and future.done() and not future.exception():
                self.tell(self._trials[number], *future.result())
            elif future and _worker_died(_error(future)):
                self._mourn(number, _error(future))
            elif self._starts[number]:
                self._note({"stop": number})
                self._starts[number] -= 1

    @property
    def best(self) -> Trial:
        """The trial with the lowest value; raises ValueError if none has succeeded."""
        done = [t for t in self._trials if t.state == "done" and not t.outside]
        if not done:
            errors = [_last_line(t.error) for t in self._trials if t.error]
            last = f"; the last error: {errors[-1]}" if errors else ""
            raise ValueError(f"none of {len(self._trials)} trials has succeeded{last}")
        return _copy(min(done, key=lambda trial: trial.value))

    def frame(self) -> pd.DataFrame:
        """One row per trial: number, the configuration (nested names as "opt.rho"), state, value,
        best (lowest value so far, by number), error (its last line)."""
        table = pd.json_normalize([trial.config for trial in self.trials])
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
        top, repeats = spaces.whole("top", top), spaces.whole("repeats", repeats)
        if not _takes_seed(objective):
            raise ValueError("rescore needs an objective with an argument seed, not a fixed one")
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

    def _note(self, event: dict) -> None:
        if self._journal:
            self._journal.note(event)

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
        for trial in [t for t in self._trials if t.state == "pending" and not t.outside]:
            if self._starts[trial.number] >= DEATHS:
                self.tell(trial, math.nan, DIED)
            else:
                self._waiting.append(trial.number)

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
            return
        kind = next((kind for kind in ("start", "stop") if kind in event), "tell")
        number = event[kind]
        if not 0 <= number < len(self._trials):
            raise ValueError(f"trial {number} was never asked for")
        if kind != "tell":
            self._starts[number] += 1 if kind == "start" else -1
        elif self._trials[number].value is None:
            value = math.nan if event["value"] is None else event["value"]
            told = replace(self._trials[number], value=value, error=event.get("error", ""))
            self._trials[number] = told


DEATHS = 2  # that a trial is allowed before it is given up
DIED = f"the process that ran it died {DEATHS} times; enqueue its configuration to try again"
LOST = {"KilledWorker", "ProcessExpired", "WorkerLost", "ManagerLost"}  # of Dask, Pebble, Parsl


def _error(future: Future) -> BaseException | None:
    """What a future raises, if it has ended and was not cancelled."""
    return future.exception() if future.done() and not future.cancelled() else None


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _worker_died(error: BaseException | None) -> bool:
    """Whether an executor's error may be the trial's fault: not if it was never sent to a worker.

    What the objective raises is not among them: `evaluate` turns it into a value.
    """
    not_sent = pickle.PicklingError | AttributeError | TypeError | CancelledError
    return isinstance(error, Exception) and not isinstance(error, not_sent)


def evaluate(objective: Callable, config: dict, seed: int | None = None) -> tuple[float, str]:
    """(value, "") of the objective, or (NaN, the error's text) if it fails or calls sys.exit."""
    try:
        return float(objective(config) if seed is None else objective(config, seed=seed)), ""
    except (Exception, SystemExit) as error:
        return math.nan, "".join(traceback.format_exception(error))


def _copy(trial: Trial) -> Trial:
    return replace(trial, config=spaces.plain(trial.config))


def _last_line(text: str) -> str:
    return text.strip().split("\n")[-1]


def _takes_seed(objective: Callable) -> bool:
    """Whether an objective has an argument seed beside its first, and nobody has fixed it."""
    if not callable(objective):
        raise TypeError(f"objective={objective!r} is not a function of a configuration")
    try:
        arguments = inspect.signature(objective).parameters.values()
    except ValueError:  # some callables written in C have no signature
        return False
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    beside = [a for a in arguments if a.kind == inspect.Parameter.KEYWORD_ONLY]
    beside += [a for a in arguments if a.kind != inspect.Parameter.KEYWORD_ONLY][1:]
    taken = any(a.name == "seed" and a.kind in named for a in beside)
    return taken and not _fixes_seed(objective)


def _fixes_seed(objective: Callable) -> bool:
    """Whether a partial, here or in what is wrapped or called, has fixed the keyword seed."""
    while True:
        if isinstance(objective, partial):
            if "seed" in objective.keywords:
                return True
            objective = objective.func
        elif hasattr(objective, "__wrapped__"):
            objective = objective.__wrapped__
        elif inspect.ismethod(objective):
            objective = objective.__func__
        elif inspect.isroutine(objective) or inspect.isclass(objective):
            return False
        else:
            objective = objective.__call__  # of an object


class _Here(Executor):
    """Evaluates at once, in this thread."""

    def submit(self, function, /, *args, **kwargs) -> Future:
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


class _Journal:
    """Lines of JSON that are only appended, each on the disk before `write` returns. What `note`
    appends outlives this process, but not a power cut: nobody needs to know what began before it.

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
        self.note(event)
        os.fsync(self._file.fileno())

    def note(self, event: dict) -> None:
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        if self._file.write(line) < len(line):  # the disk is full
            self._file.truncate(end)
            raise OSError(f"{self.path}: no room for {line[:60]!r}")

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
    space, d, seed = copy.deepcopy(space), spaces.dims(space), draws.check_seed(seed)

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
    n, budget = spaces.whole("n", n, 0), spaces.whole("budget", budget, 0)
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
    """What `advance` gave for n runs, as floats; infinite where a run has failed."""
    losses = torch.as_tensor(losses, dtype=torch.float64)
    if losses.shape != (n,):
        raise ValueError(f"advance returned losses of shape {list(losses.shape)}, not [{n}]")
    return losses.where(losses.isfinite(), math.inf).tolist()


def _first_error(runs, losses) -> str:
    """Of runs that have failed: what the first one raised, or that its loss is not a number."""
    raised = [_last_line(text) for text in getattr(runs, "errors", ()) if text]
    lost = [loss for loss in map(float, losses) if not math.isfinite(loss) and loss != math.inf]
    return raised[0] if raised else f"the loss is {lost[0]}" if lost else ""


def no_winner(n: int, error: str) -> None:
    """What the budgets below do when all n runs fail: they raise ValueError, with the first error.

    If there is no error, since all losses are infinite, they warn, and return runs of length zero
    beside the history.
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
    has not been promoted; None if there is none.

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


# ------------------------------------------------------------------------------- importance


def importance(space: dict, trials: list[Trial], *, best: float = 0.1) -> pd.DataFrame:
    """How much each dimension matters for being among the best: PED-ANOVA.

        D = Σ_x p(x) (q(x) / p(x) − 1)²

    p is the density of all trials along the dimension, q that of the best share, each with the
    same kernel; D is the Pearson divergence, and 0 where good trials are like all others. A
    number's densities are Gaussian kernels on its unit coordinate, reflected at the ends, with
    Scott's width of the best trials. A dimension inside an option is judged among the trials
    that have it; if fewer than 4 of the best have it, its divergence is NaN. Failed trials are the
    worst, and never among the best. Watanabe, Bansal & Hutter 2023.

    Columns: divergence, and share: the divergences divided by their sum. Raises ValueError if
    there are fewer than 4 best trials.
    """
    if not 0 < best < 1:
        raise ValueError(f"best={best!r} must be a share between 0 and 1")
    trials = [t for t in trials if t.state != "pending" and not t.outside]
    done = sum(t.state == "done" for t in trials)
    values = np.array([t.value if t.state == "done" else math.inf for t in trials])
    top = min(round(best * len(trials)), done)
    if top < FEW:
        how = f"{len(trials)} trials, of which {done} succeeded,"
        raise ValueError(f"{how} have only {top} in the best {best:g}; needs {FEW}")
    points = torch.stack([spaces.to_unit(space, t.config) for t in trials])
    order = values.argsort(kind="stable")
    good = np.isin(np.arange(len(trials)), order[:top])
    points, active = points.numpy(), spaces.active(space, points).numpy()
    found = dict.fromkeys(spaces.labels(space), math.nan)
    for i, (label, (_, dim)) in enumerate(zip(found, spaces.leaves(space), strict=True)):
        every, best_of_them = points[active[:, i], i], points[active[:, i] & good, i]
        if len(best_of_them) < FEW:
            continue
        if isinstance(dim, spaces.Choice):
            p, q = _frequencies(every, dim), _frequencies(best_of_them, dim)
        else:
            width = max(best_of_them.std(), 0.01) * len(best_of_them) ** -0.2
            p, q = _kernels(every, width), _kernels(best_of_them, width)
        p, q = p[p > 0], q[p > 0]  # where there are no trials there are no best ones
        found[label] = (p * (q / p - 1) ** 2).sum()
    table = pd.DataFrame({"divergence": found})
    total = table["divergence"].sum()
    # if good trials are like all others everywhere, what is left is rounding
    return table.assign(share=table["divergence"] / (total if total > 1e-12 else math.inf))


FEW = 4  # best trials say nothing if they are fewer


def _frequencies(u: np.ndarray, dim: spaces.Choice) -> np.ndarray:
    """The share of each option."""
    return np.bincount([dim.pick(x) for x in u], minlength=len(dim.options)) / len(u)


def _kernels(u: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian at each u and at its mirror images beyond 0 and 1, in 200 cells; sums to one."""
    x = (np.arange(200)[:, None] + 0.5) / 200
    density = sum(np.exp(-(((x - c) / width) ** 2) / 2).sum(1) for c in (u, -u, 2 - u))
    return density / density.sum()
