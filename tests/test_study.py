"""Studies that survive: what is asked and told, who evaluates it, what a journal holds."""

import json
import math
import operator
import os
import pickle
import random
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
)
from concurrent.futures.process import ProcessPoolExecutor
from functools import partial, partialmethod, wraps
from multiprocessing import get_context
from pathlib import Path
from threading import Timer

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from nettrain import searchers, spaces
from nettrain.lab import study as study_module
from nettrain.lab.study import Study
from nettrain.searchers import Random
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
    assert study.recommended == study.best  # a random search has no model
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
    columns = list(table)  # a nested choice is a name of its own or a column for each of its names
    assert columns[0] == "number" and columns[-4:] == ["state", "value", "best", "error"]
    assert set(columns[1:-4]) == {"x", "n", "o", "o.name", "o.r"}
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
    assert seen == [again.seed_of(t, 0) for t in again.trials]
    # SplitMix64 in Python integers, modulo 2³¹: what is pending in an old journal keeps its seed
    assert seen[:3] == [359697906, 951670865, 1823445918]
    assert [again.seed_of(again.trials[0], repeat) for repeat in (1, 2)] == [272342295, 47324434]
    assert min(seen) >= 0 and stats.kstest(np.array(seen) / 2**31, "uniform").pvalue > 0.01
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
    assert study.rescore(noise)["number"].tolist() == [study.best.number] * 8  # as documented
    with pytest.raises(ValueError, match="argument seed"):
        study.rescore(parabola)


def test_optimize_counts_earlier_trials():
    calls = []
    study = Study(LINE, Random())
    for n in (4, 4, 2, 6):
        study.optimize(lambda config: calls.append(0) or 0.0, n)
    assert len(calls) == len(study.trials) == 6


def test_without_an_executor_every_proposal_knows_all_values():
    class Watch(Random):
        def ask(self, space, trials, seed):
            states.append({t.state for t in trials})
            return super().ask(space, trials, seed)

    states = []
    Study(LINE, Watch()).optimize(parabola, 4)
    assert states == [set(), {"done"}, {"done"}, {"done"}]


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


class Says(Executor):
    """An executor whose answer is always the same error; or that never answers, without one."""

    def __init__(self, error=None):
        self.error = error

    def submit(self, *args):
        future = Future()
        if self.error:
            future.set_exception(self.error)
        return future


@pytest.mark.parametrize(
    "error, states",  # after each of three attempts
    [
        (BrokenExecutor("a worker died"), ["pending", "failed", "failed pending"]),
        (OSError("no connection"), ["pending", "failed", "failed pending"]),
        (pickle.PicklingError("no"), ["pending"] * 3),  # these were never sent to a worker
        (AttributeError("no"), ["pending"] * 3),
        (TypeError("no"), ["pending"] * 3),
        (CancelledError(), ["pending"] * 3),
        (KeyboardInterrupt(), ["pending"] * 3),
    ],
    ids=lambda p: type(p).__name__,
)
def test_what_an_executor_raises_is_a_death_if_a_worker_had_the_trial(error, states, tmp_path):
    study = Study(LINE, Random(), seed=1, journal=tmp_path / "journal")
    for expected in states:
        with pytest.raises(type(error)) as raised:
            study.optimize(parabola, 3, executor=Says(error), workers=1, progress=False)
        assert [t.state for t in study.trials] == expected.split()
        notes = " ".join(getattr(raised.value, "__notes__", []))
        assert ("when a worker died" in notes) == (states[1] == "failed")
    study.close()
    again = Study(LINE, Random(), seed=1, journal=tmp_path / "journal")  # a restart counts the same
    assert [t.state for t in again.trials] == expected.split()
    assert [t.error for t in again.trials] == [t.error for t in study.trials]
    again.optimize(parabola, 3, progress=False)
    assert [t.state for t in again.trials[-2:]] == ["done"] * 2


def test_interruptions_and_a_death_are_not_two_deaths(monkeypatch):
    def wait(futures, return_when):
        raise KeyboardInterrupt

    study = Study(LINE, Random(), seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(study_module, "wait", wait)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                study.optimize(slowly, 6, executor=Says(), workers=2, progress=False)
    assert [t.state for t in study.trials] == ["pending"] * 2
    with Deadly(2) as pool:
        study.optimize(slowly, 6, executor=pool, progress=False)
    assert all(len(runs) == 2 for runs in pool.beside.values()) and pool.beside
    first = study.trials[1].config["x"]
    assert pool.beside[first] == [1, 0]  # beside the other, then alone


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
    code += "from nettrain.searchers import Random\n"
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


HEADER = '{"space": {"x": {"real": [0, 1], "log": false}}, "seed": 3}'
ASK, START, STOP = '{"ask": 0, "config": {"x": 0.25}}', '{"start": 0}', '{"stop": 0}'
TELL, SECOND = '{"tell": 0, "value": 0.5}', '{"ask": 1, "config": {"x": 0.75}}'


@pytest.mark.parametrize(
    "lines, states, waiting",
    [
        ([ASK], "pending", [0]),
        ([ASK, START, TELL], "done", []),
        ([ASK, START], "pending", [0]),
        ([ASK, START, START], "failed", []),  # two processes died of it
        ([ASK, START, STOP, START, STOP, START], "pending", [0]),
        ([ASK, START, START, TELL], "done", []),
        ([ASK, ASK, TELL], "done", []),  # interrupted after the line was written, and written again
        ([ASK, TELL, SECOND, SECOND, START], "done pending", [1]),
        ([ASK, TELL, TELL.replace("0.5", "9")], "done", []),
        ([ASK, START, START, SECOND], "failed pending", [1]),
        ([ASK, SECOND, '{"tell": 1, "value": null, "error": "no"}'], "pending failed", [0]),
        ([ASK, SECOND, '{"start": 1}', '{"start": 1}'], "pending failed", [0]),
    ],
    ids=lambda p: p if isinstance(p, str) else None,
)
@pytest.mark.parametrize("torn", ["", '{"tell": 0, "value": 7', '{"start": 0}'])
def test_what_a_journal_says(lines, states, waiting, torn, tmp_path):
    path, text = tmp_path / "journal", "".join(line + "\n" for line in [HEADER, *lines])
    path.write_text(text + torn)
    study = Study(LINE, Random(), seed=3, journal=path)
    assert [t.state for t in study.trials] == states.split()
    assert all(t.value == 0.5 for t in study.trials if t.state == "done")
    assert all(t.error for t in study.trials if t.state == "failed")
    asked = [study.ask().number for _ in range(len(waiting) + 1)]
    assert asked == [*waiting, len(study.trials) - 1]
    study.close()
    whole = path.read_text()
    assert whole.startswith(text) and all(json.loads(line) for line in whole.splitlines())
    assert not torn or torn not in whole.removeprefix(text)


@pytest.mark.parametrize(
    "lines, words",
    [
        ([SECOND], "line 2: .*trial 1 follows trial -1"),
        ([ASK, TELL, ASK], "line 4: .*trial 0 is finished and asked for again"),
        ([ASK, '{"ask": 2, "config": {"x": 0.5}}'], "line 3: .*trial 2 follows trial 0"),
        ([ASK, SECOND, ASK], "line 4: .*trial 0 follows trial 1"),
        ([ASK, '{"tell": 1, "value": 1}'], "line 3: .*trial 1 was never asked for"),
        ([ASK, '{"stop": -1}'], "line 3: .*trial -1 was never asked for"),
        ([ASK, '{"tell": 0, "value"'], 'line 3 is broken: b\'{"tell": 0, "value"\''),
    ],
)
def test_a_journal_that_contradicts_itself_is_refused_by_line(lines, words, tmp_path):
    (tmp_path / "journal").write_text("".join(line + "\n" for line in [HEADER, *lines]))
    with pytest.raises(ValueError, match=words):
        Study(LINE, Random(), seed=3, journal=tmp_path / "journal")


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
