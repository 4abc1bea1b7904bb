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
import json
import math
import os
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

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
        mine = trial.number < len(self._trials) and self._trials[trial.number]
        if not mine or mine.value is not None:
            state = mine.state if mine else "not of this study"
            raise ValueError(f"trial {trial.number} is {state}; tell the value of a pending one")
        value = float(value)
        event = {"tell": mine.number, "value": value}
        if not math.isfinite(value):
            value, error = math.nan, error or f"the value is {value}"
            event |= {"value": None, "error": error}
        told = replace(mine, value=value, error="" if math.isfinite(value) else error)
        self._write(event)
        self._trials[told.number] = told
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
        seeded = "seed" in inspect.signature(objective).parameters
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
        """Tell what has finished; whatever else was running waits for the next `ask`."""
        for number, future in sorted(running.items(), reverse=True):
            if self._trials[number].value is not None:
                continue
            if future and not future.cancel() and future.done() and not future.exception():
                self.tell(self._trials[number], *future.result())
            else:
                self._waiting.appendleft(number)

    @property
    def best(self) -> Trial:
        """The trial with the lowest value; raises ValueError if none has succeeded."""
        done = [t for t in self._trials if t.state == "done" and not t.outside]
        if not done:
            raise ValueError(f"none of {len(self._trials)} trials has succeeded")
        return min(done, key=lambda trial: trial.value)

    def frame(self) -> pd.DataFrame:
        """One row per trial: number, the configuration (nested names as "opt.rho"), state, value,
        best (lowest value so far, by number), error (its last line)."""
        table = pd.json_normalize([trial.config for trial in self._trials])
        table.insert(0, "number", range(len(table)))
        table["state"] = ["outside" if t.outside else t.state for t in self._trials]
        table["value"] = pd.Series([t.value for t in self._trials], dtype=float)
        table["best"] = table["value"].where(table["state"] == "done").cummin().ffill()
        table["error"] = [(t.outside or t.error).strip().split("\n")[-1] for t in self._trials]
        return table

    def rescore(self, objective: Callable, *, top: int = 1, repeats: int = 8) -> pd.DataFrame:
        """Evaluate the best trials again with fresh seeds: the value that a winner was chosen by
        is too good, for it was chosen by it.

        objective  (config, seed) -> number. One row per trial and seed: number, seed, value, and
        found, the value that the search saw. A failed evaluation is NaN.
        """
        if "seed" not in inspect.signature(objective).parameters:
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
            self._trials[event["ask"] :] = [Trial(event["ask"], event["config"])]
        elif self._trials[event["tell"]].value is None:
            value, error = event["value"], event.get("error", "")
            value = math.nan if value is None else value
            number = event["tell"]
            self._trials[number] = replace(self._trials[number], value=value, error=error)


def evaluate(objective: Callable, config: dict, seed: int | None = None) -> tuple[float, str]:
    """(value, "") of the objective, or (NaN, the error's text) if it fails."""
    try:
        return float(objective(config) if seed is None else objective(config, seed=seed)), ""
    except Exception as error:
        return math.nan, "".join(traceback.format_exception(error))


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
