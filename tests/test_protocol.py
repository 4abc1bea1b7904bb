"""Tuning and judging, on a fake sweep whose losses are a formula of method, rate and seed."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from nettrain import optimizers as o
from nettrain.lab import protocol
from nettrain.lab.protocol import contest, score, tune, tune_grid

SEEDS, FRESH = range(50, 55), range(5)


@pytest.fixture
def trained(monkeypatch):
    """Replaces `sweep`; call it with loss(rule's name, hyperparameters, seed). Keeps the calls."""
    calls = []

    def install(loss):
        def sweep(model, rule, data, *, seeds, steps=10, final=False, **axes):
            fixed = {k: axes.pop(k) for k in ("batch", "loss") if k in axes}
            calls.append({"rule": rule.__name__, "seeds": list(seeds), "final": final} | fixed)
            calls[-1]["axes"] = lists = {k: np.atleast_1d(v).tolist() for k, v in axes.items()}
            rows = []
            for *values, seed in itertools.product(*lists.values(), seeds):
                hyper = dict(zip(lists, values, strict=True))
                end = loss(rule.__name__, hyper, seed)
                for step, value in ((steps // 2, -hyper.get("lr", 0)), (steps, end)):
                    row = {"step": step, "valid_loss": value, "valid_accuracy": 1 - value / 2}
                    rows.append(hyper | {"seed": seed} | row)
            return pd.DataFrame(rows)

        monkeypatch.setattr(protocol, "sweep", sweep)
        return calls

    return install


def valley(**centers):
    """A loss with one minimum, at these logarithms to base 10; a seed moves all of it up."""

    def loss(_, hyper, seed):
        distance = sum((math.log10(hyper[k]) - c) ** 2 for k, c in centers.items())
        return 0.1 * distance + 0.01 * (seed % 5)

    return loss


def nearest(values, center):
    return min(values, key=lambda v: abs(math.log10(v) - center))


RATES = [10.0**k for k in range(-4, 1)]


@pytest.mark.parametrize("center", [-2.0, -1.7, -0.2, 0.4, 1.9, 4.3, -4.4, -6.2])
def test_tuning_finds_the_valley_inside_and_beyond_both_edges(trained, center):
    calls = trained(valley(lr=center))
    best, table = tune(None, o.sgd, None, seeds=SEEDS, rates=RATES)
    tried = sorted(table["lr"].unique())
    assert best == nearest(tried, center)
    assert abs(math.log10(best) - center) <= 0.25 + 1e-9  # half of half a factor of ten
    medians = table[table["step"] == 10].groupby("lr")["valid_loss"].median()
    i = tried.index(best)
    assert medians[tried[i - 1]] >= medians[best] <= medians[tried[i + 1]]
    assert all(call["seeds"] == list(SEEDS) and not call["final"] for call in calls)
    assert not table.duplicated(["lr", "seed", "step"]).any()


def test_what_is_tried_and_in_which_order(trained):
    calls = trained(valley(lr=1.4))
    tune(None, o.sgd, None, seeds=SEEDS, rates=[1.0, 0.1], batch=7, loss=max)
    want = [[0.1, 1.0], [10, 100], [10**0.5, 10**1.5]]
    for call, rates in zip(calls, want, strict=True):
        assert call["axes"]["lr"] == pytest.approx(rates, rel=1e-12)
        assert call["batch"] == 7 and call["loss"] is max


def test_two_hyperparameters_are_bracketed_together(trained, recwarn):
    calls = trained(valley(lr=1.2, decay=-3.6))
    grid = {"lr": [0.01, 0.1, 1.0], "decay": [0.01, 0.1]}
    best, table = tune_grid(None, o.adamw, None, seeds=SEEDS, grid=grid)
    assert best["lr"] == pytest.approx(10**1.0) and best["decay"] == pytest.approx(10**-4.0)
    sizes = [[len(v) for v in call["axes"].values()] for call in calls]
    assert sizes == [[3, 2], [2, 2], [5, 2], [5, 2]] and not recwarn.list
    ends = table[table["step"] == 10].groupby(["lr", "decay"])["valid_loss"].median()
    assert tuple(best.values()) == ends.idxmin()


def test_a_list_grows_only_so_often_and_then_a_warning_names_the_callers_line(trained):
    calls = trained(lambda rule, hyper, seed: -math.log10(hyper["lr"]))
    with pytest.warns(UserWarning, match="^sgd: the best rate 3.*e.08 is on the grid's") as found:
        best, _ = tune(None, o.sgd, None, seeds=SEEDS, rates=[0.1, 1.0])
    assert len(calls) == 1 + 4 + 1 and best == pytest.approx(10**8.5)
    assert found[0].filename == __file__


def test_a_list_of_several_grows_only_so_often_too(trained):
    calls = trained(lambda *a: valley(lr=-2)(*a) - a[1]["decay"])
    with pytest.warns(UserWarning, match="^adamw: the best decay=3e.06 is on the grid's") as found:
        tune_grid(None, o.adamw, None, seeds=SEEDS, grid={"lr": RATES, "decay": [0.3, 3.0]})
    assert len(calls) == 1 + 3 and found[0].filename == __file__


def test_a_range_that_ends_is_no_edge(trained, recwarn):
    trained(lambda rule, hyper, seed: hyper["decay"] + valley(lr=-2)(rule, hyper, seed))
    grid = {"lr": RATES, "decay": [0.0, 0.1, 1.0]}
    best, table = tune_grid(None, o.adamw, None, seeds=SEEDS, grid=grid)
    assert best["decay"] == 0 and not recwarn.list
    assert sorted(table["decay"].unique()) == [0.0, 0.1, 1.0]


def test_the_median_decides_and_a_diverged_run_is_the_worst(trained):
    def loss(rule, hyper, seed):
        if seed in (50, 51):
            return math.nan if hyper["lr"] > 0.05 else 0.3
        return valley(lr=-1)(rule, hyper, seed)

    trained(loss)
    best, table = tune(None, o.sgd, None, seeds=SEEDS, rates=RATES)
    ends = table[table["step"] == 10].fillna({"valid_loss": math.inf})
    assert best == ends.groupby("lr")["valid_loss"].median().idxmin()
    trained(lambda rule, hyper, seed: math.nan if hyper["lr"] < 0.05 else math.inf)
    for tuned in (
        lambda: tune(None, o.sgd, None, seeds=SEEDS, rates=RATES),
        lambda: tune_grid(None, o.sgd, None, seeds=SEEDS, grid={"lr": RATES}),
    ):
        with pytest.raises(ValueError, match="^sgd diverged at every .*(from 0.0001 to 1$|{'lr':)"):
            tuned()


@pytest.mark.parametrize("along", ["last", "min"])
def test_a_score_is_the_median_over_seeds_of_the_end_or_the_lowest(along):
    runs = {(0.1, 0): [3, 1], (0.1, 1): [2, 4], (0.1, 2): [9, 2], (1.0, 0): [1, None]}
    rows = [
        {"lr": lr, "seed": seed, "step": k, "valid_loss": v}
        for (lr, seed), values in runs.items()
        for k, v in enumerate(values)
    ]
    found = score(pd.DataFrame(rows).astype(float), ["lr"], along=along).to_dict()
    assert found == {0.1: 2.0, 1.0: math.inf if along == "last" else 1.0}


# ------------------------------------------------------------------------ contest

CENTERS = {"sgd": -0.5, "adam": -3.0, "momentum": -1.5}
METHODS = {name: {"rule": getattr(o, name)} for name in CENTERS}


def by_rule(rule, hyper, seed):
    return valley(lr=CENTERS[rule])(rule, hyper, seed) + (1.0 if seed in SEEDS else 0.0)


def test_a_contest_tunes_each_method_alike_and_judges_on_fresh_seeds(trained):
    calls = trained(lambda *a: by_rule(*a) - 1.0 * (a[2] in SEEDS))
    runs, tuning = contest(METHODS, None, None, tuning_seeds=SEEDS, seeds=FRESH, rates=RATES)
    assert set(runs["seed"]) == set(FRESH) and set(tuning["seed"]) == set(SEEDS)
    for name, center in CENTERS.items():
        mine = runs[runs["method"] == name]
        tried = tuning[tuning["method"] == name]
        assert mine["lr"].nunique() == 1 and len(mine) == 2 * len(FRESH)
        assert mine["lr"].iloc[0] == nearest(tried["lr"].unique(), center)  # its own rate
        want = [by_rule(name, {"lr": mine["lr"].iloc[0]}, seed) for seed in FRESH]
        assert mine.loc[mine["step"] == 10, "valid_loss"].tolist() == pytest.approx(want)
    firsts = [c for c in calls if c["axes"]["lr"] == RATES]
    assert [c["rule"] for c in firsts] == list(METHODS)  # the same grid for each
    assert [c["rule"] for c in calls if c["final"]] == list(METHODS)
    assert all((set(c["seeds"]) <= set(FRESH)) == c["final"] for c in calls)


def test_the_rates_are_half_powers_of_ten_from_a_thousandth_to_ten():
    assert protocol.RATES == pytest.approx(10 ** np.linspace(-3, 1, 9))


def test_a_contest_starts_from_at_least_seven_rates_no_more_than_root_ten_apart(trained):
    calls = trained(valley(lr=-1))
    contest({"sgd": METHODS["sgd"]}, None, None, tuning_seeds=SEEDS, seeds=FRESH)
    rates = calls[0]["axes"]["lr"]
    assert len(rates) >= 7 and max(np.diff(np.log10(rates))) <= 0.5 + 1e-9


def test_a_method_fixes_what_it_is(trained):
    calls = trained(lambda rule, hyper, seed: valley(lr=-2)(rule, hyper, seed))
    methods = {"a": {"rule": o.adam, "beta1": 0.5, "batch": 3}, "b": {"rule": o.adamw}}
    how = {"tuning_seeds": SEEDS, "seeds": FRESH, "rates": RATES, "batch": 9}
    runs, _ = contest(methods, None, None, **how)
    assert {c["batch"] for c in calls if c["rule"] == "adam"} == {3}
    assert {c["batch"] for c in calls if c["rule"] == "adamw"} == {9}
    assert set(runs.loc[runs["method"] == "a", "beta1"]) == {0.5}


def test_seeds_that_were_tuned_with_are_refused_before_training(trained):
    calls = trained(valley(lr=-1))
    with pytest.raises(
        ValueError, match=r"^seeds \[50, 51\] were used for tuning; judge on others$"
    ):
        contest(METHODS, None, None, tuning_seeds=SEEDS, seeds=[3, 50, 51])
    assert not calls


# ------------------------------------------------------------------------ the grid


@pytest.mark.parametrize(
    "grid, message",
    [
        ({"lr": [0.1], "decay": [0.1, 1.0]}, r"^lr=\[0.1\] is not a grid; give two or more diff"),
        ({"lr": [0.1, 0.1]}, r"^lr=\[0.1\] is not a grid"),
        ({"lr": [0.0, 0.1]}, r"^lr=\[0.0, 0.1\] has no constant factor; give positive values$"),
        (
            {"lr": [0.0, 0.1, 1.0]},
            r"^lr=\[0.0, 0.1, 1.0\] has no constant factor; give positive val",
        ),
        ({"decay": [0.0, 0.1]}, r"^decay=\[0.0, 0.1\] has no constant factor"),
        ({"beta1": [0.5, 1.0]}, r"beta1=1 is outside \[0, 1\)"),
        ({"lr": [[0.1, 1.0]]}, "is neither a number nor a list of numbers"),
    ],
)
def test_what_is_not_a_grid_is_refused_before_training(trained, grid, message):
    calls = trained(valley(lr=-1))
    with pytest.raises(ValueError, match=message):
        tune_grid(None, o.adamw, None, seeds=[0], grid=grid)
    if "lr" in grid and len(grid) == 1:
        with pytest.raises(ValueError, match=message):
            tune(None, o.adamw, None, seeds=[0], rates=grid["lr"])
    assert not calls


def shifted(theta, g, *, t, lr=1e-3, shift=0.5):
    """A rule with a hyperparameter that the package has no range for."""
    return (theta - lr * (g - shift),)


def test_a_hyperparameter_without_a_range_needs_values_that_are_not_negative(trained):
    calls = trained(lambda rule, hyper, seed: abs(math.log10(hyper["shift"]) - 0.6))
    with pytest.raises(ValueError, match=r"^shift=\[-0.5, 1.0, 2.0\] has no constant factor"):
        tune_grid(None, shifted, None, seeds=[0], grid={"shift": [-0.5, 1.0, 2.0]})
    assert not calls
    best, _ = tune_grid(None, shifted, None, seeds=[0], grid={"shift": [0.5, 1.0]})
    assert best == {"shift": 4.0}


BEYOND = [  # name, values, the best one, what is tried next
    ("lr", [0.1, 1.0], 1.0, [10, 100]),
    ("lr", [0.1, 1.0], 0.1, [0.01, 0.001]),
    ("lr", [0.1, 1.0, 10.0], 1.0, []),
    ("shift", [0.5, 1.0, 2.0], 0.5, [0.25, 0.125]),
    ("shift", [0.0, 1.0, 2.0], 0.0, []),
    ("rho", [0.5, 0.9], 0.9, [0.98, 0.996]),  # 1 − ρ falls by 5
    ("rho", [0.0, 0.9], 0.9, [0.99, 0.999]),
    ("rho", [0.5, 0.9], 0.5, [0.5 / 1.8, 0.5 / 1.8**2]),
    ("rho", [0.0, 0.9], 0.0, []),  # the range ends here
    ("decay", [0.0, 0.1, 1.0], 0.0, []),
    ("decay", [0.0, 0.1, 1.0], 1.0, [10, 100]),
    ("beta2", [0.9, 1 - 1e-16], 1 - 1e-16, []),  # nothing lies between it and 1
]


@pytest.mark.parametrize("name, values, best, more", BEYOND)
def test_a_grid_is_extended_within_the_range_of_its_hyperparameter(name, values, best, more):
    assert protocol._beyond(name, values, best) == pytest.approx(more, rel=1e-9)
