"""Studies that survive, searchers that repeat themselves, budgets as in the papers."""

import itertools
import json
import math
import operator
import os
import random
import runpy
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from concurrent.futures.process import ProcessPoolExecutor
from dataclasses import replace
from functools import partial, partialmethod, wraps
from multiprocessing import get_context
from pathlib import Path
from threading import Timer

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.quasirandom import SobolEngine

from nettrain import budgets, importance, searchers, spaces
from nettrain.budgets import Curves
from nettrain.data import digits
from nettrain.lab import study as study_module
from nettrain.lab.study import Study
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.optimizers import momentum
from nettrain.searchers import Grid, Random, Sobol
from nettrain.spaces import Choice, Integer, Real
from nettrain.trials import Trial

KILLED = Path(__file__).with_name("killed.py")
NAMES = runpy.run_path(str(KILLED))
SPACE = dict(x=Real(-1, 1), n=Integer(1, 9), o=Choice(dict(name="a", r=Real(0, 1)), "b"))
LINE = dict(x=Real(0, 1))


def parabola(config):
    return (config["x"] - 0.3) ** 2


def finished(study):
    """What must not depend on how a study was interrupted."""
    return [(t.number, t.config, t.value, t.state) for t in study.trials]


def same(a, b):
    return repr(a) == repr(b)  # NaN is NaN


# ------------------------------------------------------------------------------- searchers


@pytest.mark.parametrize("searcher", [Random(), Sobol(), Grid({"x": 3, "n": 4, "o.r": 2})])
def test_a_proposal_depends_on_seed_and_number_alone(searcher):
    study, again = Study(SPACE, searcher, seed=3), Study(SPACE, searcher, seed=3)
    told = [study.tell(study.ask(), i) for i in range(20)]
    assert [again.ask().config for _ in range(20)] == [t.config for t in told]
    assert all(spaces.validate(SPACE, t.config) == t.config for t in told)
    if not isinstance(searcher, Grid):
        other = Study(SPACE, searcher, seed=4)
        assert all(other.ask().config != t.config for t in told)


def test_random_points_are_uniform():
    points = torch.stack([searchers.point(1, i, 4) for i in range(2000)]).numpy()
    assert all(stats.kstest(column, "uniform").pvalue > 0.01 for column in points.T)
    assert abs(np.corrcoef(points.T) - np.eye(4)).max() < 0.08
    assert len(np.unique(points)) == points.size


def test_sobol_points_are_the_scrambled_sequence():
    space = dict(x=Real(0, 1), y=Real(0, 1))
    study = Study(space, Sobol(), seed=7)
    points = torch.tensor([list(study.ask().config.values()) for _ in range(16)])
    truth = SobolEngine(2, scramble=True, seed=7).draw(16)
    torch.testing.assert_close(points, truth, rtol=0, atol=1e-6)
    for column in points.T:  # 16 points, one in each sixteenth
        assert sorted((column * 16).int().tolist()) == list(range(16))


def test_grid_tries_everything_once_and_ends():
    study = Study(dict(x=Real(0, 1), o=Choice("a", "b")), Grid(3))
    study.enqueue(dict(x=0.5, o="b"))
    study.enqueue(dict(x=0.1, o="b"))
    study.optimize(lambda config: config["x"], 99)
    tried = [tuple(t.config.values()) for t in study.trials]
    assert tried == [(0.5, "b"), (0.1, "b"), (0, "a"), (0, "b"), (0.5, "a"), (1, "a"), (1, "b")]
    assert study.ask() is None


# ---------------------------------------------------------------------------------- studies


def test_ask_tell_best():
    study = Study(LINE, Random())
    with pytest.raises(ValueError, match="none of 0 trials"):
        _ = study.best
    a, b, c, d = (study.ask() for _ in range(4))
    study.tell(b, 2)
    study.tell(c, np.float32(1))
    study.tell(d, math.inf)
    assert study.best.number == 2 and study.best.value == 1.0
    assert [t.state for t in study.trials] == ["pending", "done", "done", "failed"]
    assert "inf" in study.trials[3].error
    with pytest.raises(ValueError, match="trial 2 is done"):
        study.tell(c, 0)
    with pytest.raises(ValueError, match="trial 9 is not of this study"):
        study.tell(Trial(9, {}), 0)
    with pytest.raises(AttributeError):
        a.value = 3


def test_frame_is_tidy():
    study = Study(SPACE, Random(), seed=0)
    values = [3.0, math.nan, 1.0, 2.0]
    for value in values:
        study.tell(study.ask(), value)
    study.ask()
    table = study.frame()
    assert list(table["number"]) == [0, 1, 2, 3, 4]
    assert list(table["state"]) == ["done", "failed", "done", "done", "pending"]
    np.testing.assert_array_equal(table["best"], [3, 3, 1, 1, 1])
    assert {"x", "n", "o", "o.name", "o.r", "value", "error"} <= set(table)
    assert table["error"][1] == "the value is nan"
    assert len(Study(LINE, Random()).frame()) == 0


def test_failed_trials_are_kept_and_the_search_goes_on():
    def fails(config):
        if config["x"] < 0.3:
            raise RuntimeError("too small")
        return math.nan if config["x"] < 0.5 else None if config["x"] < 0.6 else config["x"]

    study = Study(LINE, Random(), seed=1)
    best = study.optimize(fails, 60)
    assert len(study.trials) == 60 and best.config["x"] >= 0.6
    for trial in study.trials:
        x = trial.config["x"]
        assert trial.state == ("done" if x >= 0.6 else "failed")
        words = "too small" if x < 0.3 else "nan" if x < 0.5 else "NoneType" if x < 0.6 else ""
        assert words in trial.error and bool(words) == bool(trial.error)
    with pytest.raises(ValueError, match="none of 3 trials has succeeded; .* the value is nan"):
        Study(LINE, Random()).optimize(lambda config: math.nan, 3)


def test_the_objective_cannot_change_a_configuration():
    study = Study(LINE, Random())
    study.optimize(lambda config: config.pop("x"), 3)
    assert all(trial.config for trial in study.trials)


def test_enqueued_configurations_come_first():
    study = Study(LINE, Random())
    study.enqueue(dict(x=0.25)), study.enqueue(dict(x=np.float64(0.5)))
    study.optimize(parabola, 3)
    assert [t.config["x"] for t in study.trials][:2] == [0.25, 0.5]
    with pytest.raises(ValueError, match="x=2"):
        study.enqueue(dict(x=2))
    assert len(study.trials) == 3


def test_seeds_of_trials():
    seen = []
    study = Study(LINE, Random(), seed=6)
    study.optimize(lambda config, seed: seen.append(seed) or 0.0, 50)
    again = Study(LINE, Random(), seed=6)
    assert seen == [again.seed_of(again.ask()) for _ in range(50)]
    others = [again.seed_of(t, repeat) for t in again.trials for repeat in (1, 2)]
    assert len({*seen, *others}) == 150
    assert Study(LINE, Random(), seed=7).seed_of(again.trials[0]) != seen[0]


def test_the_winner_of_pure_noise_is_worse_when_rescored():
    def noise(config, seed):
        return np.random.default_rng(seed).normal()

    study = Study(LINE, Random())
    study.optimize(noise, 100)
    table = study.rescore(noise, top=3, repeats=50)
    assert len(table) == 150 and table["seed"].nunique() == 150
    first = table[table["number"] == study.best.number]
    assert set(first["found"]) == {study.best.value} and study.best.value < -1.5
    assert stats.kstest(table["value"], "norm").pvalue > 0.01
    with pytest.raises(ValueError, match="argument seed"):
        study.rescore(parabola)


def test_optimize_counts_earlier_trials():
    calls = []
    study = Study(LINE, Random())
    for n in (4, 4, 2, 6):
        study.optimize(lambda config: calls.append(0) or 0.0, n)
    assert len(calls) == len(study.trials) == 6


@pytest.mark.parametrize("build, shown", [(None, True), ("1", False)])
def test_the_progress_bar_shows_the_best_value(build, shown, capsys, monkeypatch):
    monkeypatch.delenv("NETTRAIN_BUILD", raising=False)
    if build:
        monkeypatch.setenv("NETTRAIN_BUILD", build)
    study = Study(LINE, Random())
    study.optimize(lambda config: 0.0625, 3)
    assert ("best=0.0625" in capsys.readouterr().err) == shown
    study.optimize(lambda config: 0.0625, 6, progress=False)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: Study(LINE, Random(), seed=-1), ValueError, "seed=-1"),
        (
            lambda: Study(LINE, Random(), seed=2**63),
            ValueError,
            r"seed=9223372036854775808 .* 2\^63",
        ),
        (lambda: Study(LINE, Random(), seed=1.0), TypeError, "seed=1.0"),
        (lambda: Study(LINE, Random(), seed=True), TypeError, "seed=True"),
        (
            lambda: budgets.starter(parabola, LINE, seed=2**64),
            ValueError,
            "seed=18446744073709551616",
        ),
        (
            lambda: Study({"opt": {"rho": Real(0, 1)}, "opt.rho": 1}, Random()),
            ValueError,
            "opt.rho",
        ),
        (lambda: Study(LINE, Random()).optimize(parabola, 0), ValueError, "trials=0"),
        (lambda: Study(LINE, Random()).optimize(parabola, -3), ValueError, "trials=-3"),
        (lambda: Study(LINE, Random()).optimize(parabola, 2.5), TypeError, "trials=2.5"),
        (lambda: Study(LINE, Random()).optimize(3, 2), TypeError, "objective=3"),
        (
            lambda: Study(LINE, Random()).optimize(parabola, 1, executor=Odd(), workers=0),
            ValueError,
            "workers=0",
        ),
        (lambda: Study(LINE, Random()).rescore(parabola, top=0), ValueError, "top=0"),
        (lambda: Grid(0), ValueError, "points of all=0"),
        (lambda: Grid({"x": True}), TypeError, "points of x=True"),
        (lambda: Study(dict(value=Real(0, 1)), Random()), ValueError, "value"),
        (lambda: Study({}, Random()), ValueError, "no dimension"),
        (
            lambda: Study(LINE, Random()).optimize(parabola, 1, executor=Odd()),
            ValueError,
            "workers=None",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, error, words):
    with pytest.raises(error, match=words):
        make()


class Odd:
    """Has no number of workers."""


NESTED = dict(o=Choice(dict(name="a", r=Real(0, 1)), dict(name="b", list=[1, [2]])), z=Real(0, 1))


@pytest.mark.parametrize(
    "handed_out",
    [
        lambda study: study.ask(),
        lambda study: study.enqueue(dict(o=dict(name="b", list=[1, [2]]), z=0.5)),
        lambda study: study.tell(study.ask(), 0.0),
        lambda study: study.trials[0],
        lambda study: study.best,
        lambda study: Trial(0, {"o": study.frame()["o.list"].dropna().iloc[0]}),
    ],
    ids=["ask", "enqueue", "tell", "trials", "best", "frame"],
)
def test_what_a_study_hands_out_is_a_copy(handed_out):
    study = Study(NESTED, Random(), seed=1)
    study.optimize(lambda config: config["z"], 6)
    assert {t.config["o"]["name"] for t in study.trials} == {"a", "b"}
    config = handed_out(study).config
    before, space = repr(study.trials), json.dumps(spaces.describe(NESTED))
    spoil(config)
    assert config == {} and repr(study.trials) == before
    assert json.dumps(spaces.describe(study.space)) == space == json.dumps(spaces.describe(NESTED))


def spoil(value):
    """Change everything in a configuration, inmost parts first."""
    for part in list(value.values() if isinstance(value, dict) else value):
        if isinstance(part, dict | list):
            spoil(part)
    value.clear()


def test_a_study_keeps_its_own_space():
    space = dict(x=Real(0, 1), o=Choice(dict(a=Real(0, 1)), "b"))
    study = Study(space, Random(), seed=2)
    space.pop("x"), space["o"].options[0].clear()
    config = study.ask().config
    assert set(config) == {"x", "o"} and config == Study(study.space, Random(), seed=2).ask().config


class Model:
    def score(self, config, seed):
        return seed

    fixed = partialmethod(score, seed=3)

    def __call__(self, config, *, seed):
        return seed


class Fixed:
    __call__ = partialmethod(Model.score, seed=3)


def score(config, seed):
    return seed


@wraps(partial(score, seed=3), assigned=())
def wrapped(config, **how):
    return partial(score, seed=3)(config, **how)


class Own(int):
    """A seed of the study's."""


OWN = Own(-1)


@pytest.mark.parametrize(
    "objective, seed",
    [
        (score, OWN),
        (partial(score), OWN),
        (partial(score, seed=3), 3),
        (partial(partial(score, seed=4), seed=3), 3),
        (partial(lambda data, config, seed: data + seed, 0), OWN),  # a positional argument is fixed
        (partial(lambda seed, config: seed, 3), 3),
        (partial(lambda config, *, seed, scale: seed * scale, scale=1), OWN),
        (partial(lambda config, *, seed: seed, seed=3), 3),
        (Model().score, OWN),
        (Model().fixed, 3),
        (partial(Model().score, seed=3), 3),
        (Model(), OWN),
        (partial(Model(), seed=3), 3),
        (Fixed(), 3),
        (wrapped, 3),
        (lambda seed: seed["x"] * 0 + 5, 5),  # its only argument is the configuration
        (lambda config, **seed: 5 + len(seed), 5),
        (lambda config, seed=7: seed, OWN),  # a default is not fixed
        (operator.itemgetter("y"), 0.25),  # written in C
    ],
)
def test_a_seed_that_the_user_has_fixed_stays(objective, seed):
    study = Study(dict(x=Real(0, 1), y=0.25), Random(), seed=6)
    study.optimize(objective, 3)
    truth = [study.seed_of(t) if seed is OWN else seed for t in study.trials]
    assert [t.value for t in study.trials] == truth
    if seed is not OWN:
        with pytest.raises(ValueError, match="argument seed"):
            study.rescore(objective)


@pytest.mark.parametrize("seed", [np.int64(7), np.uint8(7), torch.tensor(7)])
def test_seeds_and_counts_of_numpy_and_torch_are_numbers(seed, tmp_path):
    path = tmp_path / "journal"
    study = Study(LINE, Random(), seed=seed, journal=path)
    study.optimize(lambda config: torch.tensor(config["x"]), seed)
    study.close()
    again = Study(LINE, Random(), seed=7, journal=path)
    assert type(study.seed) is int and same(finished(again), finished(study))
    assert len(again.trials) == 7
    large = Study(LINE, Random(), seed=2**63 - 1)
    assert large.ask().config != large.ask().config


# ------------------------------------------------------------------------------------- grids


def test_a_huge_grid_begins_at_once_and_goes_on_in_order():
    space = {f"x{i}": Real(0, 1) for i in range(30)}
    study = Study(space, Grid(10))
    for k in range(12):  # the last digit runs fastest
        digits = [f"{k:030d}"[i] for i in range(30)]
        assert list(study.ask().config.values()) == [int(d) / 9 for d in digits]
    one = Study(dict(x=Real(0, 1), n=Integer(1, 10**9)), Grid({"x": 10**8, "n": 10**9}))
    assert [one.ask().config for _ in range(2)] == [dict(x=0.0, n=1), dict(x=0.0, n=2)]


def test_a_proposal_of_a_grid_costs_milliseconds_after_thousands_of_trials():
    space = {f"x{i}": Real(0, 1) for i in range(6)}
    every = spaces.grid(space, 4)
    trials = [Trial(i, c, 0.0) for i, c in enumerate(every[:4000])]
    searcher, start = Grid(4), time.perf_counter()
    assert searcher.ask(space, trials, 0) == every[4000]
    first, start = time.perf_counter() - start, time.perf_counter()
    for k in range(50):
        trials.append(Trial(4000 + k, every[4000 + k], 0.0))
        assert searcher.ask(space, trials, 0) == every[4001 + k]
    assert first < 1 and time.perf_counter() - start < 1  # 30 ms and 30 ms; listing: 7 s


def test_a_grid_remembers_nothing_that_changes_its_answer():
    study, searcher = Study(SPACE, Grid(3)), Grid(3)
    for _ in range(9):
        study.tell(study.ask(), 0.0)
    trials, other = study.trials, dict(y=Real(0, 1))
    shuffled = random.Random(0).sample(trials, len(trials))
    for some, space in ((trials, SPACE), (trials[:4], SPACE), (shuffled[:5], SPACE), ([], other)):
        assert searcher.ask(space, some, 0) == Grid(3).ask(space, some, 0)


@pytest.mark.parametrize("options", [(0, Real(0, 1)), (Integer(0, 4), Real(0, 4), 2)])
def test_a_value_that_two_options_share_is_tried_once(options):
    study = Study(dict(o=Choice(*options)), Grid(5))
    study.optimize(lambda config: config["o"], 99)
    values = [t.config["o"] for t in study.trials]
    assert len(values) == len(set(values)) == 5


# -------------------------------------------------------------------------------- executors


def test_threads_find_what_one_thread_finds():
    serial, threaded = Study(SPACE, Random(), seed=8), Study(SPACE, Random(), seed=8)
    serial.optimize(lambda config, seed: config["x"] + seed, 40)
    with ThreadPoolExecutor(4) as pool:
        threaded.optimize(lambda config, seed: config["x"] + seed, 40, executor=pool)
    assert finished(serial) == finished(threaded)


def test_as_many_trials_run_as_there_are_workers():
    seen, most = [], []

    def slow(config):
        seen.append(1)
        most.append(len(seen))
        time.sleep(0.01)
        seen.pop()
        return 0.0

    with ThreadPoolExecutor(8) as pool:
        Study(LINE, Random()).optimize(slow, 12, executor=pool, workers=3)
    assert max(most) == 3


def test_processes():
    with ProcessPoolExecutor(1, get_context("forkserver")) as pool:
        study = Study(dict(x=Real(0, 1), y=0.25), Random())
        study.optimize(operator.itemgetter("y"), 3, executor=pool)
        assert [t.value for t in study.trials] == [0.25] * 3
        failed = Study(LINE, Random())
        with pytest.raises(ValueError, match="none of 2"):
            failed.optimize(operator.itemgetter("missing"), 2, executor=pool)
        assert all("KeyError: 'missing'" in t.error for t in failed.trials)
        broken = Study(LINE, Random())
        with pytest.raises((AttributeError, TypeError)):  # pickle's own: a lambda has no name
            broken.optimize(lambda config: 0.0, 2, executor=pool)
        assert [t.state for t in broken.trials] == ["pending"]


def test_a_dask_cluster():
    distributed = pytest.importorskip("distributed")
    where = dict(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
    with distributed.LocalCluster(**where) as cluster, distributed.Client(cluster) as client:
        study, serial = Study(SPACE, Random(), seed=8), Study(SPACE, Random(), seed=8)
        study.optimize(dask_objective, 20, executor=client.get_executor(), workers=2)
    serial.optimize(dask_objective, 20)
    assert same(finished(study), finished(serial))
    assert {t.state for t in study.trials} == {"done", "failed"}


def dask_objective(config, seed):
    if config["n"] == 5:
        raise RuntimeError("five")
    return config["x"] + seed / 2**31


class Breaks(ThreadPoolExecutor):
    """Loses its workers after some jobs."""

    def __init__(self, jobs):
        super().__init__(2)
        self.jobs = jobs

    def submit(self, *args):
        self.jobs -= 1
        if self.jobs >= 0:
            return super().submit(*args)
        future = Future()
        future.set_exception(BrokenExecutor("a worker died"))
        return future


def test_a_broken_executor_loses_nothing():
    study, whole = Study(SPACE, Random(), seed=8), Study(SPACE, Random(), seed=8)
    with Breaks(5) as pool, pytest.raises(BrokenExecutor):
        study.optimize(dask_objective, 20, executor=pool)
    assert {t.state for t in study.trials[:4]} <= {"done", "failed"}
    assert "pending" in {t.state for t in study.trials}
    study.optimize(dask_objective, 20)
    whole.optimize(dask_objective, 20)
    assert same(finished(study), finished(whole))


class KilledWorker(Exception):
    """What Dask calls it when a task has lost its worker too often."""


class Deadly(ThreadPoolExecutor):
    """A pool whose workers die of an x above 0.6; it notes how many trials then run beside it."""

    def __init__(self, many):
        super().__init__(many)
        self.running, self.beside = 0, {}

    def submit(self, function, objective, config, seed):
        if config["x"] <= 0.6:
            future = super().submit(function, slowly, config, seed)
        else:
            self.beside.setdefault(config["x"], []).append(self.running)
            future = Future()
            future.set_exception(KilledWorker("died"))
        self.running += 1
        future.add_done_callback(lambda _: setattr(self, "running", self.running - 1))
        return future


def slowly(config):
    time.sleep(0.02)
    return config["x"]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_trial_that_kills_its_worker_twice_is_kept_as_failed(workers):
    study = Study(LINE, Random(), seed=1)
    with Deadly(workers) as pool:
        best = study.optimize(slowly, 20, executor=pool, progress=False)
    xs = [t.config["x"] for t in study.trials]
    assert len(xs) == 20 and best.value == min(xs) and max(xs) > 0.6
    for trial in study.trials:
        assert trial.state == ("failed" if trial.config["x"] > 0.6 else "done")
        assert ("died 2 times" in trial.error) == (trial.state == "failed")
    assert pool.beside.keys() == {x for x in xs if x > 0.6}
    assert all(len(runs) == 2 and runs[1] == 0 for runs in pool.beside.values())  # alone
    assert (max(runs[0] for runs in pool.beside.values()) > 0) == (workers > 1)


class Late(ThreadPoolExecutor):
    """A pool that has broken, and says so of one trial after the other."""

    def submit(self, function, objective, config, seed):
        future = Future()
        say = lambda: future.set_exception(BrokenExecutor("a worker died"))
        Timer(0.3 * (config["x"] > 0.5), say).start()
        return future


def test_all_that_ran_when_a_pool_broke_are_suspects(tmp_path):
    study = Study(LINE, Random(), seed=1, journal=tmp_path / "journal")
    for attempt in (1, 2, 3):
        with Late(2) as pool, pytest.raises(BrokenExecutor):
            study.optimize(slowly, 2, executor=pool)
        states = [t.state for t in study.trials]
        # both together, then each of them alone
        assert states == [["pending"] * 2, ["failed", "pending"], ["failed"] * 2][attempt - 1]
    assert "stop" not in (tmp_path / "journal").read_text()


# what a worker can unpickle without this file; the configuration is what names mean
CRASH = partial(eval, "x if x < 0.7 else __import__('os')._exit(1)")


def test_a_killer_in_a_pool_of_processes_is_found_out(tmp_path):
    path, breaks = tmp_path / "journal", 0
    while True:
        study = Study(LINE, Random(), seed=1, journal=path)
        with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
            try:
                study.optimize(CRASH, 5, executor=pool, progress=False)
                break
            except BrokenExecutor as error:
                breaks += 1
                assert any("when a worker died" in note for note in error.__notes__)
        study.close()
    killers = [t for t in study.trials if t.config["x"] > 0.7]
    assert len(killers) == 1 and 2 <= breaks <= 3
    assert all("died 2 times" in t.error for t in killers)  # and those that ran beside it finish
    assert all(t.state == "done" for t in study.trials if t not in killers)


# ----------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("where", ["objective", "disk"])
def test_ctrl_c_loses_nothing(where, tmp_path, monkeypatch):
    moments = random.Random(3)

    def objective(config, seed):
        if where == "objective" and moments.random() < 0.2:
            raise KeyboardInterrupt
        return config["x"] + seed / 2**31

    fsync = os.fsync

    def interrupted(file):
        fsync(file)
        if where == "disk" and moments.random() < 0.1:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    interruptions = 0
    study = Study(SPACE, Random(), seed=4, journal=tmp_path / "journal")
    while sum(t.state == "done" for t in study.trials) < 60:
        try:
            study.optimize(objective, 60, progress=False)
        except KeyboardInterrupt:
            interruptions += 1
            if interruptions % 2:  # go on in the same process, or as a new one
                study.close()
                try:
                    study = Study(SPACE, Random(), seed=4, journal=tmp_path / "journal")
                except KeyboardInterrupt:
                    study = Study(SPACE, Random(), seed=4, journal=tmp_path / "journal")
    assert interruptions > 5
    monkeypatch.undo()
    moments = random.Random()
    moments.random = lambda: 1.0  # no more interruptions
    whole = Study(SPACE, Random(), seed=4)
    whole.optimize(objective, 60, progress=False)
    assert finished(study) == finished(whole)
    study.close()
    assert finished(Study(SPACE, Random(), seed=4, journal=tmp_path / "journal")) == finished(whole)


def test_ctrl_c_with_an_executor_tells_what_is_finished(monkeypatch):
    study, calls = Study(LINE, Random()), []

    def wait(futures, return_when):
        calls.append(0)
        [future.result() for future in futures]  # all have finished, none is told
        raise KeyboardInterrupt

    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(study_module, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            study.optimize(parabola, 9, executor=pool)
    assert [t.state for t in study.trials] == ["done"] * 3


# ---------------------------------------------------------------------------------- journals


def run(path, trials, space=SPACE, seed=5):
    study = Study(space, Random(), seed=seed, journal=path)
    study.optimize(NAMES["objective"], trials, progress=False)
    study.close()
    return study


def events(text):
    """The lines of a journal, without notes of trials that began."""
    return [line for line in text.splitlines() if b'{"start"' not in line]


def test_a_journal_cut_at_any_byte_ends_as_if_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # hundreds of journals, no power cut
    path = tmp_path / "journal"
    whole = run(path, 3)
    text = path.read_bytes()
    for cut in range(len(text)):
        path.write_bytes(text[:cut])
        assert same(finished(run(path, 3)), finished(whole)), cut
        assert events(path.read_bytes()) == events(text), cut


def test_kill_minus_nine_at_a_hundred_moments(tmp_path):
    subprocess.run([sys.executable, str(KILLED), "kills", str(tmp_path), "100"], check=True)
    snapshots = [(tmp_path / f"after-{kill}").read_bytes() for kill in range(100)]
    lines = (tmp_path / "evaluated").read_text().splitlines()
    begun = [tuple(map(int, line.split())) for line in lines]
    told, asked = {}, {}
    for kill, text in enumerate(snapshots):
        for number in {n for k, n in begun if k == kill}:
            assert number not in told, f"trial {number} was finished and evaluated again"
        events = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        numbers = [e["tell"] for e in events if "tell" in e]
        assert len(numbers) == len(set(numbers))
        now = {e["tell"]: e for e in events if "tell" in e}
        assert told.items() <= now.items(), "a finished trial was lost"
        configs = {e["ask"]: e["config"] for e in events if "ask" in e}
        assert asked.items() <= configs.items(), "a pending trial was lost or changed"
        told, asked = now, configs
    assert 10 < len(told) < NAMES["TRIALS"]
    resumed = run(tmp_path / "journal", len(told) + 20)
    whole = Study(NAMES["SPACE"], Random(), seed=NAMES["SEED"])
    whole.optimize(NAMES["objective"], len(told) + 20, progress=False)
    given_up = {t.number for t in resumed.trials if "died 2 times" in t.error}
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    begun = Counter(e["start"] for e in lines if "start" in e)
    assert given_up == {number for number, n in begun.items() if n == 2 and number in given_up}
    assert len(given_up) < 20 and max(begun.values()) == 2
    pairs = zip(finished(resumed), finished(whole), strict=True)
    assert all(same(a, b) for a, b in pairs if a[0] not in given_up)


def test_an_orphaned_worker_does_not_hold_the_journal(tmp_path):
    child = subprocess.run([sys.executable, str(KILLED), "orphan", str(tmp_path)], check=False)
    assert child.returncode == -signal.SIGKILL
    worker = int((tmp_path / "worker").read_text())
    try:
        os.kill(worker, 0)  # it is still there
        space = dict(x=Real(0, 1), folder=str(tmp_path))
        study = Study(space, Random(), journal=tmp_path / "journal")
        assert [t.state for t in study.trials] == ["pending"]
        study.close()
    finally:
        os.kill(worker, signal.SIGKILL)


def test_one_journal_has_one_writer(tmp_path):
    path = tmp_path / "journal"
    study = Study(LINE, Random(), journal=path)
    study.optimize(parabola, 3)
    with pytest.raises(RuntimeError, match="is being written by another study"):
        Study(LINE, Random(), journal=path)
    pd.read_json(path, lines=True)  # to look at it is fine, and takes no lock away
    code = "import sys; from nettrain.lab.study import *; from nettrain.spaces import Real\n"
    code += "Study(dict(x=Real(0, 1)), Random(), journal=sys.argv[1])"
    other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False)
    assert b"is being written by another study" in other.stderr
    del study  # a study that is forgotten lets go
    assert len(Study(LINE, Random(), journal=path).trials) == 3


def test_a_journal_of_another_seed_or_with_a_broken_line_is_refused(tmp_path):
    path = tmp_path / "journal"
    run(path, 3)
    with pytest.raises(ValueError, match="seed=5, not 6"):
        Study(SPACE, Random(), seed=6, journal=path)
    lines = path.read_text().splitlines(keepends=True)
    wrongs = ['{"tell": 99, "value": 1}', '{"tell": 1}', '{"what": 1}', "{broken", "3"]
    wrongs += ['{"ask": 0, "config": {}}', '{"ask": 2, "config": {}}', '{"ask": 1}']
    wrongs += ['{"start": 1}', '{"stop": -1}', '{"start": "0"}', '{"tell": -1, "value": 1}']
    assert "tell" in lines[3]
    for wrong in wrongs:
        path.write_text("".join(lines[:4]) + wrong + "\n" + "".join(lines[4:]))
        with pytest.raises(ValueError, match="line 5"):
            Study(SPACE, Random(), seed=5, journal=path)
    path.write_text("".join(lines))
    assert len(Study(SPACE, Random(), seed=5, journal=path).trials) == 3


def test_a_changed_space_keeps_old_trials_but_models_only_what_fits(tmp_path):
    path = tmp_path / "journal"
    study = Study(dict(x=Real(0, 1)), Random(), seed=1, journal=path)
    study.optimize(parabola, 20)
    study.enqueue(dict(x=0.9)), study.enqueue(dict(x=0.6))
    study.close()
    old, seen = study.trials, []

    class Watch(Random):
        def ask(self, space, trials, seed):
            seen.append(trials)
            return super().ask(space, trials, seed)

    narrow = Study(dict(x=Real(0.5, 0.8)), Watch(), seed=1, journal=path)
    fits = [0.5 <= t.config["x"] <= 0.8 for t in old]
    assert 0 < sum(fits) < len(old)
    assert [not t.outside for t in narrow.trials] == fits
    assert [(t.config, t.value) for t in narrow.trials] == [(t.config, t.value) for t in old]
    assert narrow.best.config["x"] >= 0.5 > study.best.config["x"]
    narrow.optimize(parabola, sum(fits) + 3)
    assert narrow.trials[20].state == "pending" and "x=0.9" in narrow.trials[20].outside
    assert narrow.trials[21].state == "done"
    assert len(seen[0]) == len(old) and [not t.outside for t in seen[0]] == fits
    assert set(narrow.frame()["state"]) == {"done", "outside"}
    narrow.close()
    wide = Study(dict(x=Real(0, 1)), Random(), seed=1, journal=path)  # and back
    assert not any(t.outside for t in wide.trials) and wide.ask().config == dict(x=0.9)
    wide.close()
    more = Study(dict(x=Real(0, 1), y=Real(0, 1)), Random(), seed=1, journal=path)
    assert all("['y'] missing" in t.outside for t in more.trials)


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    study = Study(LINE, Random(), journal=path)
    study.optimize(parabola, 3)
    text, file = path.read_bytes(), study._journal._file

    class Full:
        def write(self, line):
            return file.write(line[:5])

        def __getattr__(self, name):
            return getattr(file, name)

    study._journal._file = Full()
    with pytest.raises(OSError, match="no room"):
        study.ask()
    assert path.read_bytes() == text
    study._journal._file = file
    assert study.ask().number == 3


RESTARTS = """
import os, sys
from nettrain.lab.study import Study
from nettrain.searchers import Random
from nettrain.spaces import Real
for _ in range(7):
    if not (pid := os.fork()):
        study = Study(dict(x=Real(0, 1)), Random(), seed=1, journal=sys.argv[1])
        study.optimize(lambda c: os._exit(9) if c["x"] > 0.6 else c["x"], 6, progress=False)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_trial_that_kills_the_search_twice_is_kept_as_failed(tmp_path):
    path = tmp_path / "journal"
    run = subprocess.run(
        [sys.executable, "-c", RESTARTS, path], capture_output=True, check=True, text=True
    )
    # of six x, the second and the fourth are above 0.6: each of them ends two processes
    assert run.stdout.split() == ["9", "9", "9", "9", "0", "0", "0"]
    study = Study(LINE, Random(), seed=1, journal=path)
    xs = [t.config["x"] for t in study.trials]
    assert [x > 0.6 for x in xs] == [False, True, False, True, False, False]
    assert ["died 2 times" in t.error for t in study.trials] == [x > 0.6 for x in xs]
    again = study.enqueue(study.trials[1].config)  # what the error says
    study.optimize(parabola, 7)
    assert study.trials[again.number].value == parabola(again.config)


def test_interruptions_and_failures_are_not_deaths(tmp_path):
    path, calls = tmp_path / "journal", []

    def interrupted(config):
        calls.append(config["x"])
        raise KeyboardInterrupt if len(calls) < 6 else SystemExit(2)

    for _ in range(5):
        study = Study(LINE, Random(), seed=1, journal=path)
        with pytest.raises(KeyboardInterrupt):
            study.optimize(interrupted, 3)
        study.close()
    study = Study(LINE, Random(), seed=1, journal=path)
    with pytest.raises(ValueError, match="none of 3 trials has succeeded; .*SystemExit: 2"):
        study.optimize(interrupted, 3)  # sys.exit in an objective ends its trial only
    assert calls[:6] == [study.trials[0].config["x"]] * 6


# written by the version before notes of starts
OLD = """
{"space": {"x": {"real": [0, 1], "log": false}}, "seed": 3}
{"ask": 0, "config": {"x": 0.25}}
{"tell": 0, "value": 0.5}
{"ask": 1, "config": {"x": 0.5}}
{"tell": 1, "value": null, "error": "ValueError: no"}
{"ask": 2, "config": {"x": 0.75}}
"""


def test_an_old_journal_goes_on(tmp_path):
    (tmp_path / "journal").write_text(OLD.lstrip())
    study = Study(LINE, Random(), seed=3, journal=tmp_path / "journal")
    assert [t.state for t in study.trials] == ["done", "failed", "pending"]
    study.optimize(lambda config: config["x"], 4)
    fresh = searchers.point(3, 3, 1).item()
    assert [t.config["x"] for t in study.trials] == [0.25, 0.5, 0.75, fresh]
    np.testing.assert_array_equal([t.value for t in study.trials], [0.5, math.nan, 0.75, fresh])


# --------------------------------------------------------------------------- many fidelities


def test_hyperbands_table_is_the_papers():
    # Li et al. 2018, table 1: R = 81, eta = 3
    assert budgets.brackets(81) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_brackets_are_exact_at_powers(eta):
    for s_max in range(1, 12):
        levels = budgets.resources(eta**s_max, eta=eta)
        assert levels == [eta**k for k in range(s_max + 1)]  # floor(log(243) / log(3)) is 4
        assert len(budgets.resources(eta**s_max - 1, eta=eta)) == s_max
        for s, rungs in zip(range(s_max, -1, -1), budgets.brackets(eta**s_max, eta=eta)):
            n = math.ceil((s_max + 1) * eta**s / (s + 1) - 1e-9)
            assert rungs == [(n // eta**i, eta ** (s_max - s + i)) for i in range(s + 1)]


def test_resources_start_at_r_min():
    assert budgets.resources(100, r_min=5) == [11, 33, 100]
    assert budgets.resources(9, r_min=9) == [9] and budgets.brackets(9, r_min=9) == [[(1, 9)]]
    for wrong in (dict(r_max=0), dict(r_max=9, r_min=10), dict(r_max=9, eta=1)):
        with pytest.raises(ValueError, match="needs 1 <= r_min <= r_max and eta >= 2"):
            budgets.resources(**wrong)


def test_halving_is_algorithm_1_2_put_right():
    # Jamieson & Talwalkar 2016: r_k = floor(B / (|S_k| ceil(log2 n))), |S_{k+1}| = floor(|S_k| / 2)
    assert budgets.halving(8, 120) == [(8, 5), (4, 10), (2, 20)]
    assert budgets.halving(16, 64) == [(16, 1), (8, 2), (4, 4), (2, 8)]
    assert budgets.cumulative([(8, 5), (4, 10), (2, 20)]) == [(8, 5), (4, 15), (2, 35)]
    for n in range(2, 300):
        budget = 3 * n * 9
        rounds = budgets.halving(n, budget)
        assert len(rounds) == next(k for k in range(20) if 2**k >= n)
        assert sum(size * r for size, r in rounds) <= budget and rounds[-1][0] in (1, 2)
        assert all(b == max(1, a // 2) for (a, _), (b, _) in zip(rounds, rounds[1:]))
        assert all(r == budget // (size * len(rounds)) for size, r in rounds)
    for n, budget in ((1, 9), (8, 23)):
        with pytest.raises(ValueError, match=f"n={n}, budget={budget}"):
            budgets.halving(n, budget)


class Table:
    """Recorded learning curves [n, R] as runs."""

    def __init__(self, curves, rows=None, done=0):
        self.curves, self.done = curves, done
        self.rows = np.arange(len(curves)) if rows is None else rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        return Table(self.curves, self.rows[rows], self.done)

    def advance(self, r):
        after = Table(self.curves, self.rows, self.done + r)
        return after, self.curves[self.rows, after.done - 1]


CURVES = np.random.default_rng(0).random((81, 81)).cumsum(1)[:, ::-1].copy()


def test_successive_halving_is_the_paper_by_hand():
    rungs = [(27, 1), (9, 3), (3, 9), (1, 27)]
    runs, history = budgets.successive_halving(Table(CURVES[:27]), Table.advance, rungs)
    alive = list(range(27))
    for n, r in rungs:
        alive = sorted(alive, key=lambda i: CURVES[i, r - 1])  # then the best n of the next rung
        rung = history[history["resource"] == r]
        assert sorted(rung["run"]) == sorted(alive) and len(rung) == n
        assert all(CURVES[i, r - 1] == loss for i, loss in zip(rung["run"], rung["loss"]))
        alive = alive[: n // 3]
    assert runs.rows.tolist() == [history["run"].iloc[-1]]
    # 27 for 1, 9 for 2 more, 3 for 6 more, 1 for 18 more
    assert history["spent"].iloc[-1] == 27 + 18 + 18 + 18 == history["cost"].sum()


def test_the_best_survive_whatever_else_is_lost():
    curves = CURVES[:9].copy()
    curves[[0, 3, 4, 5, 6, 7, 8]] = math.nan
    curves[1] = math.inf
    runs, history = budgets.successive_halving(
        Table(curves), Table.advance, [(9, 1), (3, 3), (1, 9)]
    )
    assert runs.rows.tolist() == [2] and not history["loss"].isna().any()
    lost = Table(np.full((3, 3), math.nan))
    with pytest.raises(ValueError, match="all 3 configurations failed; .* the loss is nan"):
        budgets.successive_halving(lost, Table.advance, [(3, 1), (1, 3)])
    with pytest.raises(ValueError, match="3 runs, but the first rung"):
        budgets.successive_halving(lost, Table.advance, [(9, 1), (3, 3)])


def typo(config):
    yield undefined  # noqa: F821


def plain(config):
    return config["x"]


def raises(config):
    raise RuntimeError("no memory")


def constant(value):
    def endless(config):
        while True:
            yield value

    return endless


RUNGS = [(9, 1), (3, 3), (1, 9)]
BUDGETS = {
    "halving": lambda start: budgets.successive_halving(start(0, 9), Curves.advance, RUNGS),
    "hyperband": lambda start: budgets.hyperband(start, Curves.advance, budgets.brackets(9)),
    "asha": lambda start: budgets.asha(start, Curves.advance, budget=20, r_max=9),
    "early": lambda start: budgets.stop_early(
        start, Curves.advance, budgets.below_median, budget=20, r_max=9
    ),
}


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize(
    "objective, error, words",
    [
        (typo, ValueError, r"all \d+ configurations failed; .*NameError: name 'undefined'"),
        (raises, ValueError, r"all \d+ configurations failed; .*RuntimeError: no memory"),
        (constant(math.nan), ValueError, r"all \d+ configurations failed; .*the loss is nan"),
        (constant(-math.inf), ValueError, r"all \d+ configurations failed; .*the loss is -inf"),
        (plain, TypeError, "not a generator of losses"),
    ],
)
def test_no_budget_has_a_winner_when_all_runs_fail(budget, objective, error, words):
    with pytest.raises(error, match=words):
        budget(budgets.starter(objective, LINE))


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
def test_infinite_losses_stay_infinite_and_promote_nobody(budget):
    with pytest.warns(RuntimeWarning, match="every loss is infinite"):
        best, history = budget(budgets.starter(constant(math.inf), LINE))
    assert len(best) == 0 and set(history["loss"]) == {math.inf}
    assert set(history.groupby("run").size()) == {1}  # one evaluation each


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@given(st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.5, 2.0]), min_size=60))
@settings(max_examples=25, deadline=None)
def test_what_failed_is_never_kept_and_never_wins(budget, losses):
    """Run i has the loss losses[i] + its age / 100, and some raise at age 3."""

    def start(first, n):
        def objective(config):
            for age in itertools.count():
                if age == 3 and config["i"] % 4 == 0:
                    raise RuntimeError("late")
                yield losses[config["i"] % len(losses)] + age / 100

        return Curves(objective, [dict(i=i) for i in range(first, first + n)])

    with warnings.catch_warnings(action="ignore"):
        try:
            best, history = budget(start)
        except ValueError:
            return
    latest = history.groupby("run")["loss"].agg(["last", "max"])
    assert ((latest["max"] == latest["last"]) | (latest["max"] < math.inf)).all()  # none goes on
    assert not history["loss"].isin([math.nan, -math.inf]).any()
    assert history["loss"].isin([math.inf]).sum() == (latest["last"] == math.inf).sum()
    if len(best):
        assert latest["last"][best.configs[0]["i"]] < math.inf
    else:
        assert (latest["last"] == math.inf).all()


def test_the_best_run_left_behind_wins_if_the_last_one_fails():
    curves = CURVES[:9].copy()
    order = curves[:, 0].argsort()
    best_three = sorted(order[:3], key=lambda i: curves[i, 2])
    curves[best_three[0], 8] = math.nan
    runs, history = budgets.successive_halving(Table(curves), Table.advance, RUNGS)
    assert runs.rows.tolist() == [best_three[1]] and history["loss"].iloc[-1] == math.inf


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: budgets.successive_halving(Table(CURVES[:3]), Table.advance, []), "rungs="),
        (
            lambda: budgets.successive_halving(Table(CURVES[:3]), Table.advance, [(3, 2), (1, 2)]),
            "rungs=",
        ),
        (
            lambda: budgets.successive_halving(Table(CURVES[:3]), Table.advance, [(3, 2), (0, 3)]),
            "rungs=",
        ),
        (lambda: budgets.hyperband(None, None, []), "table="),
        (lambda: budgets.asha(None, None, budget=0, r_max=9), "budget=0"),
        (lambda: budgets.asha(None, None, budget=9, r_max=9, workers=0), "workers=0"),
        (lambda: budgets.stop_early(None, None, None, budget=-1, r_max=9), "budget=-1"),
        (lambda: budgets.stop_early(None, None, None, budget=9, r_max=0), "r_max=0"),
        (
            lambda: budgets.successive_halving(
                Table(CURVES[:3]), lambda runs, r: (runs, [1.0]), [(3, 1)]
            ),
            r"losses of shape \[1\], not \[3\]",
        ),
    ],
)
def test_budgets_that_cannot_be_spent_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_list_of_losses_is_a_curve_too():
    runs = Curves(lambda config: [3.0, 2.0, 1.0], [{}])
    assert [runs.advance(1)[1] for _ in range(4)] == [[3.0], [2.0], [1.0], [1.0]]


def test_hyperband_is_its_brackets():
    def start(first, n):
        return Table(CURVES, np.arange(first, first + n) % 81)

    best, history = budgets.hyperband(start, Table.advance, budgets.brackets(81))
    first, lowest = 0, []
    for bracket, rungs in enumerate(budgets.brackets(81)):
        n = rungs[0][0]
        runs, table = budgets.successive_halving(start(first, n), Table.advance, rungs)
        part = history[history["bracket"] == bracket]
        assert (part["run"] - first).tolist() == table["run"].tolist()
        assert part["loss"].tolist() == table["loss"].tolist()
        lowest.append((CURVES[runs.rows[0], 80], runs.rows[0]))
        first += n
    assert best.rows.tolist() == [min(lowest)[1]]
    assert (history["spent"] == history["cost"].cumsum()).all()


def test_rows_of_a_sweep_keep_their_state():
    data = digits()
    rates = np.geomspace(1e-3, 10, 9)
    work = Sweep(lambda: mlp([64, 8, 10]), momentum, data, batch=100, dtype=torch.float64)
    valid = data.to(torch.float64).valid

    def advance(runs, epochs):
        runs, _ = work.advance(runs, epochs * work.per_epoch)
        return runs, work.evaluate(runs, valid)[0]

    start = work.start(seeds=range(9), lr=rates, rho=0.9)
    best, history = budgets.successive_halving(start, advance, [(9, 1), (3, 2), (1, 4)])
    row = int(history["run"].iloc[-1])
    alone = work.start(seeds=[row], lr=rates[row], rho=0.9)
    alone, loss = advance(alone, 4)
    torch.testing.assert_close(best.theta, alone.theta, rtol=0, atol=1e-10)
    assert loss.item() == pytest.approx(history["loss"].iloc[-1], abs=1e-10)


def curve(config):
    for t in range(1, 1000):
        yield (config["x"] - 0.3) ** 2 + 1 / t


def test_generators_pause_and_go_on():
    start = budgets.starter(curve, LINE, seed=1)
    runs, history = budgets.successive_halving(
        start(0, 27), Curves.advance, [(27, 1), (9, 3), (3, 9), (1, 27)]
    )
    xs = [searchers.point(1, i, 1).item() for i in range(27)]
    (best,) = runs.configs
    assert best["x"] == min(xs, key=lambda x: abs(x - 0.3)) == xs[history["run"].iloc[-1]]
    assert runs.losses == [pytest.approx((best["x"] - 0.3) ** 2 + 1 / 27)]
    assert start(3, 4).configs == start(0, 9)[3:7].configs


def test_a_generator_that_raises_is_lost_and_one_that_ends_stays():
    def objective(config):
        yield 1.0
        if config["x"] < 0.5:
            raise RuntimeError("diverged")
        yield 0.5

    runs = Curves(objective, [dict(x=0.2), dict(x=0.7)])
    for steps, losses in ((1, [1, 1]), (1, [math.nan, 0.5]), (3, [math.nan, 0.5])):
        runs, found = runs.advance(steps)
        np.testing.assert_array_equal(found, losses)
    assert "diverged" in runs.errors[0] and not runs.errors[1]
    assert runs[1:].configs == [dict(x=0.7)]


def test_asha_promotes_only_the_best_third():
    start = budgets.starter(curve, LINE, seed=2)
    best, history = budgets.asha(start, Curves.advance, r_max=81, budget=2000)
    done = [{} for _ in range(5)]
    for row in history.itertuples():
        for rung in range(3, -1, -1):  # the highest rung first
            order = sorted(done[rung], key=done[rung].get)[: len(done[rung]) // 3]
            waiting = [run for run in order if run not in done[rung + 1]]
            if waiting:
                assert (row.run, row.rung) == (waiting[0], rung + 1)
                break
        else:
            assert row.rung == 0 and row.run == len(done[0])
        assert row.resource == 3**row.rung
        done[row.rung][row.run] = row.loss
    assert 2000 <= history["spent"].iloc[-1] < 2000 + 54
    assert abs(best.configs[0]["x"] - 0.3) < 0.01 and history["resource"].max() == 81


def test_asha_with_threads():
    start = budgets.starter(curve, LINE, seed=2)
    with ThreadPoolExecutor(4) as pool:
        best, history = budgets.asha(
            start, Curves.advance, r_max=27, budget=800, executor=pool, workers=4
        )
    for run, part in history.groupby("run"):
        assert part["rung"].tolist() == list(range(len(part)))
        assert part["resource"].tolist() == [3**k for k in range(len(part))]
        x = searchers.point(2, run, 1).item()
        np.testing.assert_allclose(part["loss"], (x - 0.3) ** 2 + 1 / part["resource"])
    assert abs(best.configs[0]["x"] - 0.3) < 0.1


def test_asha_never_promotes_what_diverged():
    def diverges(config):
        while True:
            yield math.nan if config["x"] < 0.9 else 1.0

    _, history = budgets.asha(budgets.starter(diverges, LINE), Curves.advance, r_max=9, budget=300)
    assert np.isfinite(history.loc[history["rung"] > 0, "loss"]).all()


def test_the_median_rule():
    others = [[4, 2, 3], [6, 6, 6], [1, 1], [9, 9, 9, 9]]
    # means over 3 epochs: 3, 6, 9 (one curve is shorter); their median is 6
    assert budgets.below_median([8, 7, 6], others) and not budgets.below_median([8, 7, 6.1], others)
    assert budgets.below_median([8, 5, 99], others)  # its best counts
    assert budgets.below_median([99] * 5, others) and budgets.below_median([99], [])
    assert not budgets.below_median([math.inf], [[1], [2]])
    assert budgets.below_median([5], [[math.inf], [math.inf]])
    assert budgets.below_median([5], [[math.nan], [math.inf], [6]])
    for lost in (math.nan, math.inf, -math.inf):
        assert not budgets.below_median([1, lost], [[9, 9]]) and not budgets.below_median(
            [lost], []
        )


def test_stopping_early_spends_less_on_what_is_bad():
    def some_diverge(config):
        return (math.nan if config["x"] > 0.9 else loss for loss in curve(config))

    start = budgets.starter(some_diverge, LINE, seed=3)
    best, history = budgets.stop_early(
        start, Curves.advance, budgets.below_median, budget=400, r_max=20
    )
    lengths = history.groupby("run").size()
    assert history["spent"].iloc[-1] == 400 and lengths.iloc[0] == 20 == lengths.max()
    assert len(lengths) > 30 and (lengths < 20).sum() > 10 and abs(best.configs[0]["x"] - 0.3) < 0.1
    assert not history["loss"].isna().any()
    everything = budgets.stop_early(start, Curves.advance, lambda *_: True, budget=400, r_max=20)[1]
    lengths, failed = everything.groupby("run")["loss"].agg(["size", "max"]).to_numpy().T
    assert set(lengths[failed == math.inf]) == {1} and set(lengths[failed < math.inf][:-1]) == {20}


# ------------------------------------------------------------------------------- importance

UNIT = dict(a=Real(0, 1), b=Real(0, 1), c=Choice("p", "q", "r", "s"), d=Integer(1, 64))


def tried(function, space=UNIT, n=2000, seed=0):
    configs = [
        spaces.from_unit(space, searchers.point(seed, i, spaces.dims(space))) for i in range(n)
    ]
    return [Trial(i, c, function(c)) for i, c in enumerate(configs)]


def test_importances_that_are_known():
    # the best tenth is a < 0.1: q = 10 on [0, 0.1], so D = 1 / 0.1 − 1, and the others have none
    table = importance.importance(UNIT, tried(lambda c: c["a"]))
    assert table.loc["a", "divergence"] == pytest.approx(9, rel=0.1)
    assert table["divergence"].drop("a").max() < 0.06
    # the best are c = r: q = 1 where p = 1/4, so D = 1 / (1/4) − 1, whatever the share
    for best in (0.05, 0.1, 0.2):
        table = importance.importance(
            UNIT, tried(lambda c: (c["c"] != "r") + c["b"] / 1e3), best=best
        )
        assert table.loc["c", "divergence"] == pytest.approx(3, rel=0.1)
    table = importance.importance(UNIT, tried(lambda c: max(abs(c["a"] - 0.5), abs(c["b"] - 0.5))))
    a, b = table.loc[["a", "b"], "divergence"]  # the best: a square of area 0.1, so D = 10^½ − 1
    assert [a, b] == pytest.approx([math.sqrt(10) - 1] * 2, rel=0.25)
    assert table["share"].sum() == pytest.approx(1)


def test_a_dimension_that_depends_on_an_option_is_judged_beside_it():
    space = dict(o=Choice(dict(name="x", r=Real(0, 1)), dict(name="y")), z=Real(0, 1))
    trials = tried(lambda c: c["o"].get("r", 0.5), space, n=4000)
    table = importance.importance(space, trials)
    assert list(table.index) == ["o", "o.r", "z"]
    assert table.loc["o", "divergence"] == pytest.approx(1, rel=0.1)  # all of the best are x
    assert table.loc["o.r", "divergence"] == pytest.approx(4, rel=0.15)  # the best fifth of x


def test_failed_trials_are_never_the_best():
    trials = tried(lambda c: math.nan if c["b"] < 0.8 else c["a"])
    table = importance.importance(UNIT, [*trials, Trial(2000, trials[0].config)])
    assert table.loc["b", "divergence"] == pytest.approx(4, rel=0.2)
    with pytest.raises(ValueError, match="needs 4"):
        importance.importance(UNIT, trials[:20])
    outside = [replace(t, value=-1.0, outside="old") for t in trials[:100]]
    pd.testing.assert_frame_equal(
        importance.importance(UNIT, trials[100:]),
        importance.importance(UNIT, outside + trials[100:]),
    )


def test_nothing_is_said_of_an_option_that_few_of_the_best_have():
    space = dict(
        o=Choice(dict(name="x", r=Real(0, 1)), dict(name="y", r=Real(5, 6)), Real(0, 1)),
        z=Real(0, 1),
    )
    lost = lambda o: not isinstance(o, dict) or o["name"] == "x"
    trials = tried(lambda c: c["z"] + 9 * lost(c["o"]), space, n=400)
    table = importance.importance(space, trials)
    assert list(table.index) == ["o", "o[0].r", "o[1].r", "o[2]", "z"]
    assert table["divergence"].isna().tolist() == [False, True, False, True, False]
    assert table.loc["o", "divergence"] == pytest.approx(2, rel=0.1)  # q = 1 where p is 1/3
    assert table["share"].sum() == pytest.approx(1)
    same = importance.importance(LINE, [Trial(i, dict(x=0.5), 1.0) for i in range(40)])
    assert same["divergence"].item() < 1e-12 and same["share"].item() == 0  # p = q
    for best in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match=f"best={best}"):
            importance.importance(space, trials, best=best)


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_never_among_the_best(lost):
    assert Trial(0, {}, lost).state == "failed"
    trials = tried(lambda c: lost if c["b"] < 0.95 else c["a"], n=400)
    done = [t.config["b"] for t in trials if t.state == "done"]
    assert len(done) < 40  # fewer than the best tenth: the others must not fill it up
    table = importance.importance(UNIT, trials)
    worst = importance.importance(
        UNIT,
        [t if t.state == "done" else replace(t, value=9.0) for t in trials],
        best=len(done) / 400,
    )
    pd.testing.assert_frame_equal(table, worst)
    with pytest.raises(ValueError, match="of which 0 succeeded"):
        importance.importance(UNIT, [replace(t, value=lost) for t in trials])


@pytest.mark.filterwarnings("ignore")
def test_importances_agree_with_optuna():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = dict(a=Real(0, 1), b=Real(0, 1), c=Choice("p", "q", "r"))
    trials = tried(
        lambda c: (c["a"] - 0.3) ** 2 + 0.2 * c["b"] ** 2 + 0.02 * (c["c"] == "p"), space
    )
    ranges = dict(
        a=optuna.distributions.FloatDistribution(0, 1),
        b=optuna.distributions.FloatDistribution(0, 1),
        c=optuna.distributions.CategoricalDistribution(["p", "q", "r"]),
    )
    study = optuna.create_study()
    for t in trials:
        study.add_trial(
            optuna.trial.create_trial(params=t.config, distributions=ranges, value=t.value)
        )
    theirs = optuna.importance.PedAnovaImportanceEvaluator().evaluate(study)
    theirs = pd.Series(theirs) / sum(theirs.values())
    ours = importance.importance(space, trials)["share"]
    assert (ours - theirs[ours.index]).abs().max() < 0.1
    assert ours.sort_values().index.tolist() == theirs.sort_values().index.tolist()
