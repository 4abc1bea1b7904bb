"""The benchmarks run, on small work, and their goals read what they write. No speed is asserted."""

import itertools
import json
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
    profiles,
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
    peer = {"ratio to JAX": 2.0, "first / JAX": 1.0}  # it has an environment of its own
    sweeps = [r | peer | {"compiled": c} for r in rows["sweep_throughput"] for c in (False, True)]
    for goal in goals.GOALS["cpu"]:
        found = sweeps if goal.benchmark == "sweep_throughput" else rows[goal.benchmark]
        assert goal.value(found) > 0
        assert isinstance(goal.met(found), bool)
    assert math.isnan(goals.beside_jax(False)(rows["sweep_throughput"]))
    shares = [[v for v in r.values() if isinstance(v, float)] for r in rows["profiles"]]
    assert all(sum(some) == pytest.approx(1) and min(some) > 0 for some in shares)
    assert [r["runs"] for r in rows["sweep_throughput"]] == [1, 3]
    assert [r["steps"] for r in rows["scale"]] == [3, 5, 2, 2]
    numbers = [r["number"] for r in rows["book"][:1] + rows["book"][2:]]
    assert numbers == [1.5, 0, 0.005, 0.005]


@pytest.mark.parametrize("compiled, value", [(False, 0.5), (True, 2.0)])
def test_the_slowest_model_counts_beside_jax_and_rows_without_it_do_not(compiled, value):
    rows = [{"compiled": False, "ratio to JAX": r} for r in (0.5, 3.0)]
    rows += [{"compiled": True, "ratio to JAX": 2.0}, {"compiled": False}, {"compiled": True}]
    assert goals.beside_jax(compiled)(rows) == value


@pytest.mark.parametrize(
    "operation, expected",
    [
        ("aten::bmm", "matrix products"),
        ("aten::mkldnn_convolution", "matrix products"),
        ("aten::index", "copies"),
        ("aten::copy_", "copies"),
        ("aten::add_", "passes over elements"),
        ("aten::relu", "passes over elements"),
    ],
)
def test_an_operation_is_counted_in_one_column(operation, expected):
    assert profiles.kind(operation) == expected


def test_cores_are_compared_by_the_seconds_of_the_same_rows():
    times = (("runs", 9.0), ("processes", 3.0), ("processes", 2.0))
    assert goals.processes([{"grows": g, "seconds": s} for g, s in times]) == 1.5


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


def engine_rows(problem, engines):
    return [
        {"problem": problem, "engine": engine, search.COMPARED: value}
        for engine, values in engines.items()
        for value in [*values, math.nan]  # a search that was shorter
    ]


def test_engines_are_compared_by_rank_tests_that_are_corrected_together():
    ours, close, far = [0.1, 0.2, 0.45, 0.05], [0.4, 0.3, 0.6], [0.7, 0.8, 0.9, 0.95, 9.0]
    engines = {"nettrain": ours, "optuna-gp": close, "botorch": far, "nettrain neural": far}
    rows = engine_rows("first", engines)
    rows += engine_rows("turned", {k: [-v for v in x] for k, x in engines.items()})
    rows += engine_rows("few", {"nettrain": ours, "optuna-gp": [0.5]})  # nothing to compare
    found = search.compare(pd.DataFrame(rows))
    assert set(found.index) == {
        (p, e) for p in ("first", "turned") for e in ("optuna-gp", "botorch")
    }
    small, large = by_counting(ours, far), by_counting(ours, close)
    assert found["p"].to_dict() == pytest.approx(
        {(p, e): small if e == "botorch" else large for p, e in found.index}
    )
    assert found["ahead"].to_dict() == {k: 1 if k[0] == "first" else -1 for k in found.index}
    holm = [4 * small, 4 * small, max(4 * small, 2 * large), max(4 * small, 2 * large)]
    assert sorted(found["corrected"]) == pytest.approx([min(1, p) for p in holm])
    with pytest.raises(ValueError, match="no rival"):
        search.compare(pd.DataFrame(engine_rows("few", {"nettrain": ours, "skopt": [0.5]})))


@pytest.mark.parametrize(
    "ahead, corrected, cpu, met",
    [
        ([1, 1, -1, 1], [0.01, 0.04, 0.2, 0.9], [1.0, 2.0, 5.0], [True, True, True]),
        ([1, 1, -1, 1], [0.01, 0.06, 0.01, 0.9], [1.1, 2.0, 5.0], [False, False, False]),
        ([1, 1, 1, 1], [0.9, 0.01, 0.9, 0.01], [1.0, 2.0, 5.0], [True, False, True]),  # of one only
    ],
)
def test_the_goal_counts_what_is_settled(ahead, corrected, cpu, met):
    index = pd.MultiIndex.from_product([["a", "b"], ["skopt", "random"]])
    found = pd.DataFrame(
        {"ahead": ahead, "corrected": corrected}, index=index.rename(["p", "engine"])
    )
    times = pd.Series(cpu, index=["nettrain", "skopt", "optuna-gp"])
    says = search.goal(found, times)
    assert list(json.loads(json.dumps(says)).values()) == met
    won = [sum(a == 1 and c < 0.05 for a, c in zip(ahead[k::2], corrected[k::2])) for k in (0, 1)]
    assert [*says][1].endswith(f": skopt {won[0]} of 2, random {won[1]} of 2")


def test_on_digits_both_kinds_of_recommendation_are_trained_again(monkeypatch):
    """That with the lowest value, and that of which one and the same model expects most."""
    asked = []

    class Engine:
        def __init__(self, space, seed):
            self.told = []

        def add(self, u, value):
            self.told.append(u)

        def ask(self):
            return None, {**middle, "lr": 0.5}

        def tell(self, token, value):
            assert len(self.told) == search.INITIAL
            engines.append(self)

    class Model:
        def recommend(self, space, trials):
            assert space is search.DIGITS and all(t.state == "done" for t in trials)
            return trials[3]

    def digits(config, seed, on=None):
        asked.append((config["lr"], seed, on))
        return config["lr"] + (seed == 1_000_003)

    engines, middle = [], search.decode(search.DIGITS, [0.5] * 5)
    points = search.design(search.DIGITS, 2)
    rates = [search.decode(search.DIGITS, u)["lr"] for u in points]
    for name, fake in {"ENGINES": {"fake": Engine}, "digits": digits, "Bayes": Model}.items():
        monkeypatch.setattr(search, name, fake)
    monkeypatch.setattr(search, "AT", (10, 12))
    found = search.search("fake", "digits MLP", 2, 12)
    assert torch.equal(torch.stack(engines[0].told), points)
    judged = [x for x in asked if x[2] is search.TEST]
    searched = {seed for _, seed, on in asked if on is None}
    assert {lr for lr, _, _ in judged} == {rates[3], min(rates)}
    assert len({seed for _, seed, _ in judged} - searched) == search.JUDGES == len(judged) / 2
    capped = lambda lr: sum(min(lr + (k == 3), math.log(10)) for k in range(16)) / 16
    assert found["regret"] == pytest.approx([capped(rates[3])] * 2)
    assert found["lowest"] == pytest.approx([capped(min(rates))] * 2)


@pytest.mark.parametrize("engine", ["nettrain", "random"])
def test_every_engine_begins_with_the_same_points(engine, monkeypatch):
    seen = []
    f, space, minimum = search.FUNCTIONS["Branin"]
    monkeypatch.setitem(
        search.FUNCTIONS, "Branin", (lambda x: seen.append(x.tolist()) or f(x), space, minimum)
    )
    search.search(engine, "Branin", 3, 12)
    first = [list(search.decode(space, u).values()) for u in search.design(space, 3)]
    assert seen[:10] == first and len(seen) == 12 and seen[10] not in first


def test_searches_that_began_or_were_judged_in_another_way_are_not_read(monkeypatch, tmp_path):
    monkeypatch.setattr(search, "RUNS", tmp_path / "search.jsonl")
    search.RUNS.write_text(
        '{"seed": 1}\n{"seed": 2, "judges": 16}\n'
        '{"seed": 3, "judges": 16, "design": "sobol"}\n{"seed": 4, "jud'
    )
    assert [run["seed"] for run in search.read()] == [3]
