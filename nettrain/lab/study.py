"""A search that remembers: trials, their journal, and executors that evaluate them.

A black box f maps a configuration of a space (`nettrain.spaces`) to a number; smaller is better.

    study = Study(dict(lr=Real(1e-4, 1, log=True)), Random(), seed=0, journal="study.jsonl")
    study.optimize(f, trials=50)
    study.best.config, study.frame()

A trial whose value is not finite has failed: it is never the best, a parent or promoted.
"""

import copy
import itertools
import json
import math
import os
import pickle
import weakref
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from nettrain import draws, spaces
from nettrain.trials import Trial, _copy, _Here, _last_line, _takes_seed, evaluate


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

    Raises TypeError and ValueError for an invalid space or seed, ValueError for a journal of
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
        """The next trial to evaluate, or None when the searcher has no more.

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
        """Record the value of a trial; a value that is not finite means that the trial failed.

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
        """Evaluate until the study has `trials` finished trials, earlier ones included, and return
        the best.

        objective  config -> number; or (config, seed) -> number, with `seed_of` the trial
        executor   any concurrent.futures.Executor: a pool of threads or of processes (objective
                   and configuration are pickled), or dask.distributed.Client(...).get_executor()
        workers    how many trials run at once (default: as many as a pool has)

        The same call continues a study that was killed. A trial that raises, or that returns
        something other than a finite number, is kept as failed. Ctrl-C ends the loop: what is
        finished is told, the rest stays pending. With several workers proposals depend on the order
        in which results come in.

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
        """Tell what came of a trial, and return whether it has ended: if its worker died, it waits
        again.

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
        """The trial with the lowest value seen; raises ValueError if none has succeeded.

        Where values are noisy it was lucky: its value is biased low (`rescore`), and another trial
        may be the better one to use (`recommended`).
        """
        done = [t for t in self._trials if t.state == "done" and not t.outside]
        if not done:
            errors = [_last_line(t.error) for t in self._trials if t.error]
            last = f"; the last error: {errors[-1]}" if errors else ""
            raise ValueError(f"none of {len(self._trials)} trials has succeeded{last}")
        return _copy(min(done, key=lambda trial: trial.value))

    @property
    def recommended(self) -> Trial:
        """The trial to use: the one that the searcher's model, if it has one, expects to be lowest.

        A searcher with a method recommend(space, trials) has a model, such as `bayesian.Bayes`; for
        other searchers it is `best`. Raises as `best` does.
        """
        if not hasattr(self.searcher, "recommend"):
            return self.best
        return _copy(self.searcher.recommend(self.space, list(self._trials)) or self.best)

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
        """Evaluate the best trials again with fresh seeds.

        A winner's value is biased low, since it was selected for being low.

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
