"""The benchmarks run, on small work, and their goals read what they write. No speed is asserted."""

import itertools
import math
from functools import partial

import pandas as pd
import pytest
import torch

from _ext import build
from benchmarks import __main__ as main
from benchmarks import (
    book,
    goals,
    imports,
    machine,
    optimizer_step,
    scale,
    search,
    sweep_throughput,
)
from nettrain.models import mlp

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(machine.seconds, "__kwdefaults__", {"at_least": 0})
    monkeypatch.setattr(optimizer_step, "MODELS", [[6, 5, 3], [400, 300, 10]])
    models = {"MLP 40-32-32 64-64-64 196-128": (partial(mlp, [6, 5, 10]), (6,), 8, 3)}
    monkeypatch.setattr(sweep_throughput, "MODELS", models)
    monkeypatch.setattr(sweep_throughput, "RUNS", (1, 3, 5))
    monkeypatch.setattr(sweep_throughput, "COMPILED", ())
    monkeypatch.setattr(sweep_throughput, "EXAMPLES", 32)
    cases = [("runs", 4, 2, 3), ("steps", 4, 2, 5)]
    monkeypatch.setattr(scale, "CASES", cases)
    monkeypatch.setattr(scale, "SHARED", ("processes", 4, 3, 2))
    monkeypatch.setattr(imports, "MODULES", ["torch", "nettrain"])


@pytest.mark.compiler
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
def test_every_benchmark_fills_the_columns_that_goals_read(small, monkeypatch, tmp_path):
    pool = type("Pool", (), {"__enter__": lambda s: s, "__exit__": lambda *a: None, "map": map})
    pool.map = lambda self, f, *args: map(f, *args)  # the small models exist in this process only
    for module in (sweep_throughput, scale):
        monkeypatch.setattr(module, "ProcessPoolExecutor", lambda *a, **k: pool())
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setattr(build, "COLD", tmp_path / "cold.json")
    monkeypatch.setattr(book, "make", lambda: None)
    build.write_json(build.COLD, {"seconds": 90.0})
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "page.html").write_text("x" * 5000)
    rows = {name: list(run(CPU)) for name, run in main.BENCHMARKS.items()}
    for goal in goals.GOALS["cpu"]:
        assert goal.value(rows[goal.benchmark]) > 0
        assert isinstance(goal.met(rows[goal.benchmark]), bool)
    assert [r["runs"] for r in rows["sweep_throughput"]] == [1, 3]
    assert [r["steps"] for r in rows["scale"]] == [3, 5, 2, 2]
    numbers = [r["number"] for r in rows["book"][:1] + rows["book"][2:]]
    assert numbers == [1.5, 0, 0.005, 0.005]


PEER = {"steps per second": 4.0, "quartiles": [3.0, 5.0], "first s": 2.0}


def test_a_configuration_that_fails_costs_only_its_row(small, monkeypatch, tmp_path):
    def fails(device, row, shared, most):
        if row["runs"] == 3:
            raise RuntimeError("no kernel image")
        return {"steps per second": 8.0, "quartiles": [6.0, 9.0], "first s": 3.0}

    monkeypatch.setattr(sweep_throughput, "measure", fails)
    monkeypatch.setattr(sweep_throughput, "plain", lambda *args: 1.0)
    monkeypatch.setattr(sweep_throughput, "COMPILED", (1,))
    monkeypatch.setattr(sweep_throughput, "peer", lambda name, count: PEER)
    pool = type("Pool", (), {"__enter__": lambda s: s, "__exit__": lambda *a: None})
    pool.map = lambda self, f, *args: map(f, *args)
    monkeypatch.setattr(sweep_throughput, "ProcessPoolExecutor", lambda *a, **k: pool())
    rows = list(sweep_throughput.run(CPU))
    assert [r.get("error") for r in rows] == [None, None, "RuntimeError: no kernel image"]
    assert [r.get("ratio to JAX") for r in rows] == [2.0, 2.0, None]
    assert rows[0]["ratio's quartiles"] == [6 / 5, 9 / 3] and rows[0]["first / JAX"] == 1.5
    monkeypatch.setattr(optimizer_step, "measure", lambda *args: 1 / 0)
    assert [r["error"] for r in optimizer_step.run(CPU)] == [
        "ZeroDivisionError: division by zero"
    ] * 2
    monkeypatch.setattr(main, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="optimizer_step failed, nothing of it is kept: .*by zero"):
        main.main(["optimizer_step"])
    assert not list(tmp_path.iterdir())


def test_on_a_gpu_every_way_is_measured_and_jax_comes_last(small, monkeypatch):
    ways = set(sweep_throughput.configurations(torch.device("cuda")))
    assert {(graph, count) for _, count, _, graph in ways} >= {(True, c) for c in (1, 3, 5)}
    monkeypatch.setattr(sweep_throughput, "COMPILED", (1, 3))
    found = list(sweep_throughput.configurations(torch.device("cuda")))
    assert {(c, g) for _, _, c, g in found} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    assert len(found) == len(set(found)) and found[0][1:] == (3, False, True)


def test_an_unknown_benchmark_is_refused_before_anything_runs():
    with pytest.raises(SystemExit, match="unknown benchmark speed; there are optimizer_step"):
        main.main(["speed"])


@pytest.mark.parametrize(
    "value, at_most, met", [(1, True, True), (3, True, False), (3, False, True)]
)
def test_a_goal_is_met_on_its_side_of_the_bound(value, at_most, met):
    goal = goals.Goal("", "", lambda rows: rows[0]["x"], 2, at_most)
    assert goal.met([{"x": value}]) == met


def test_the_work_of_a_step_is_counted():
    # forward and backward of 64-64-64-10 at batch 64, but for the gradient of the input
    products = 64 * (64 * 64 + 64 * 64 + 64 * 10)
    assert sweep_throughput.flops("MLP 64-64-64-10", CPU) == 2 * (3 * products - 64 * 64 * 64)


def by_counting(ours, theirs):
    """Mann & Whitney's two-sided p: of all ways to deal out the values, those as extreme."""
    pool, wins = [*ours, *theirs], lambda a, b: sum(x < y for x in a for y in b)
    deals = [set(d) for d in itertools.combinations(range(len(pool)), len(ours))]
    found = [
        wins([pool[i] for i in d], [v for i, v in enumerate(pool) if i not in d]) for d in deals
    ]
    middle = len(ours) * len(theirs) / 2
    extreme = abs(wins(ours, theirs) - middle)
    return sum(abs(w - middle) >= extreme for w in found) / len(deals)


@pytest.mark.parametrize(
    "ours, theirs, ahead",
    [
        ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], 1),  # p = 2 / 20
        ([0.4, 0.5, 0.6], [0.1, 0.2, 0.3], -1),
        ([0.1, 0.2, 0.45, 0.05], [0.4, 0.3, 0.6], 1),
        ([9.0, 0.2, 0.7], [0.1, 8.0, 0.5, 0.3, 0.4], -1),  # the medians, not the means
    ],
)
def test_engines_are_compared_by_the_rank_test_of_their_regrets(ours, theirs, ahead):
    engines = {"nettrain": ours, "optuna-gp": theirs, "random": [0.0] * 9}
    rows = [
        {"problem": problem, "engine": engine, 30: sign * value, 50: value, 100: math.nan}
        for problem, sign in (("first", 1), ("turned", -1))
        for engine, values in engines.items()
        for value in [*values, math.nan]  # a search that was shorter
    ]
    rows[0][100] = rows[len(ours) + 1][100] = 0.5  # one of each: nothing to compare
    found = search.compare(pd.DataFrame(rows))
    assert list(found.index) == ["first", "turned"] and list(found.columns) == [30, 50]
    p = by_counting(ours, theirs)
    assert found.loc["first"].tolist() == pytest.approx([ahead * p, ahead * p])
    assert found.loc["turned"].tolist() == pytest.approx([-ahead * p, ahead * p])


@pytest.mark.parametrize("model", [True, False])
def test_a_search_is_judged_by_what_the_engine_recommends(model, monkeypatch):
    """On digits: by fresh trainings, on test data."""
    asked = []

    class Engine:
        def __init__(self, space, seed):
            self.n = 0
            if model:
                self.recommend = lambda: {"lr": 1.0}

        def ask(self):
            self.n += 1
            return None, {"lr": float(self.n)}

        def tell(self, token, value):
            pass

    def digits(config, seed, on=None):
        asked.append((config["lr"], seed, on))
        return abs(config["lr"] - 7) / 10 + (seed == 1_000_003)  # the seventh is the lowest

    monkeypatch.setattr(search, "ENGINES", {"fake": Engine})
    monkeypatch.setattr(search, "digits", digits)
    monkeypatch.setattr(search, "AT", (10, 12))
    found = search.search("fake", "digits MLP", 2, 12)
    judged = [x for x in asked if x[2] is search.TEST]
    searched = {seed for _, seed, on in asked if on is None}
    assert {lr for lr, _, _ in judged} == ({1.0} if model else {7.0})
    assert len({seed for _, seed, _ in judged} - searched) == search.JUDGES == len(judged)
    assert found["regret"] == pytest.approx([(0.6 if model else 0.0) + 1 / 16] * 2)


def test_searches_that_were_judged_in_another_way_are_not_read(monkeypatch, tmp_path):
    monkeypatch.setattr(search, "RUNS", tmp_path / "search.jsonl")
    search.RUNS.write_text('{"seed": 1}\n{"seed": 2, "judges": 16}\n{"seed": 3, "jud')
    assert [run["seed"] for run in search.read()] == [2]
