"""Tuning and judging, on a fake sweep whose losses are a formula of method, rate and seed."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linprog, minimize

from nettrain import losses
from nettrain import optimizers as o
from nettrain.data import Data, Split
from nettrain.lab import protocol
from nettrain.lab.protocol import best_rates, contest, score, tune

labels = torch.tensor([0] * 30 + [1] * 15 + [2] * 5)
some = Split(torch.zeros(50, 2), labels)
data = Data("labels", some, some, some)
TRIVIAL = -sum(p * math.log(p) for p in (0.6, 0.3, 0.1))  # entropy of the labels
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
                for step, value in ((steps // 2, 0.9 * TRIVIAL - hyper.get("lr", 0)), (steps, end)):
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
    best, table = tune(None, o.sgd, data, seeds=SEEDS, grid={"lr": RATES})
    tried = sorted(table["lr"].unique())
    assert best["lr"] == nearest(tried, center)
    assert abs(math.log10(best["lr"]) - center) <= 0.25 + 1e-9  # half of half a factor of ten
    medians = table[table["step"] == 10].groupby("lr")["valid_loss"].median()
    i = tried.index(best["lr"])
    assert medians[tried[i - 1]] >= medians[best["lr"]] <= medians[tried[i + 1]]
    assert all(call["seeds"] == list(SEEDS) and not call["final"] for call in calls)
    assert not table.duplicated(["lr", "seed", "step"]).any()


def test_what_is_tried_and_in_which_order(trained):
    calls = trained(valley(lr=1.4))
    tune(None, o.sgd, data, seeds=SEEDS, grid={"lr": [0.1, 1.0]}, batch=7, loss=losses.brier)
    want = [[0.1, 1.0], [10, 100], [10**0.5, 10**1.5]]
    for call, rates in zip(calls, want, strict=True):
        assert call["axes"]["lr"] == pytest.approx(rates, rel=1e-12)
        assert call["batch"] == 7 and call["loss"] is losses.brier


def test_two_hyperparameters_are_bracketed_together_and_refined_in_turn(trained):
    calls = trained(valley(lr=1.2, decay=-3.6))
    grid = {"lr": [0.01, 0.1, 1.0], "decay": [0.01, 0.1]}
    best, table = tune(None, o.adamw, data, seeds=SEEDS, grid=grid)
    assert best["lr"] == pytest.approx(10**1.0, rel=1e-9)
    assert best["decay"] == pytest.approx(10**-3.5, rel=1e-9)
    sizes = [[len(v) for v in call["axes"].values()] for call in calls]
    assert sizes == [[3, 2], [2, 2], [5, 2], [5, 2], [2, 1], [1, 2]]
    ends = table[table["step"] == 10].groupby(["lr", "decay"])["valid_loss"].median()
    assert tuple(best.values()) == ends.idxmin()


def test_a_list_grows_only_so_often_and_then_a_warning_says_so(trained):
    calls = trained(lambda rule, hyper, seed: -math.log10(hyper["lr"]))
    with pytest.warns(UserWarning, match="^sgd: the best lr=1e.08 is on the grid's edge$"):
        best, _ = tune(None, o.sgd, data, seeds=SEEDS, grid={"lr": [0.1, 1.0]})
    assert len(calls) == 1 + protocol.EXTENSIONS + 1 and best["lr"] == pytest.approx(1e8)


def test_a_range_that_ends_is_no_edge(trained, recwarn):
    trained(lambda rule, hyper, seed: hyper["decay"] + valley(lr=-2)(rule, hyper, seed))
    grid = {"lr": RATES, "decay": [0.0, 0.1, 1.0]}
    best, table = tune(None, o.adamw, data, seeds=SEEDS, grid=grid)
    assert best["decay"] == 0 and not recwarn.list
    assert sorted(table["decay"].unique()) == [0.0, 0.05, 0.1, 1.0]


def test_the_median_decides_and_a_diverged_run_is_the_worst(trained):
    def loss(rule, hyper, seed):
        if seed in (50, 51):
            return math.nan if hyper["lr"] > 0.05 else 0.3
        return valley(lr=-1)(rule, hyper, seed)

    trained(loss)
    best, table = tune(None, o.sgd, data, seeds=SEEDS, grid={"lr": RATES})
    ends = table[table["step"] == 10].fillna({"valid_loss": math.inf})
    assert best["lr"] == ends.groupby("lr")["valid_loss"].median().idxmin()
    trained(lambda rule, hyper, seed: math.nan if hyper["lr"] < 0.05 else math.inf)
    with pytest.raises(ValueError, match="^sgd diverged at every combination: lr from 0.0001 to 1"):
        tune(None, o.sgd, data, seeds=SEEDS, grid={"lr": RATES})


def test_where_nothing_has_learned_the_rates_grow_at_both_ends(trained, recwarn):
    def loss(rule, hyper, seed):  # above 1e-5 all units die: the loss is that of a constant
        dead = TRIVIAL * (1 - 1e-3 * (hyper["lr"] == 1e-1))
        return valley(lr=-7)(rule, hyper, seed) if hyper["lr"] < 1e-5 else dead

    trained(loss)
    best, _ = tune(None, o.sgd, data, seeds=SEEDS, grid={"lr": RATES})
    assert best["lr"] == pytest.approx(1e-7) and not recwarn.list


def test_a_method_that_never_learns_is_told(trained):
    calls = trained(lambda rule, hyper, seed: TRIVIAL * (1.1 - 0.11 * (hyper["lr"] == 1e-2)))
    with pytest.warns(UserWarning, match=r"^sgd learned nothing: valid_loss 0.88\d*, a constant"):
        tune(None, o.sgd, data, seeds=SEEDS, grid={"lr": RATES})
    last = calls[protocol.EXTENSIONS]["axes"]["lr"]
    assert [min(last), max(last)] == pytest.approx([1e-12, 1e8])


@pytest.mark.parametrize("metric", ["valid_loss", "valid_accuracy"])
@pytest.mark.parametrize("along", ["last", "min"])
def test_what_is_judged_is_what_is_tuned(metric, along):
    runs = {(0.1, 0): [0.3, 0.1], (0.1, 1): [0.2, 0.4], (0.1, 2): [0.9, 0.2], (1.0, 0): [0.1, None]}
    rows = [
        {"lr": lr, "seed": seed, "step": k, "valid_loss": v, "valid_accuracy": v and 1 - v}
        for (lr, seed), values in runs.items()
        for k, v in enumerate(values)
    ]
    found = score(pd.DataFrame(rows).astype(float), ["lr"], metric, along).to_dict()
    want = {0.1: 0.2, 1.0: math.inf if along == "last" else 0.1}
    assert found == pytest.approx(want)


def test_a_network_of_nan_has_no_accuracy_to_win_with():
    table = pd.DataFrame(
        {"lr": [0.1, 1], "seed": 0, "valid_loss": [0.5, math.nan], "valid_accuracy": [0.5, 0.9]}
    )
    assert score(table, ["lr"], "valid_accuracy").to_dict() == {0.1: 0.5, 1.0: math.inf}


# ------------------------------------------------------------------------ the constant


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.squared, losses.brier, losses.hinge])
def test_the_best_constant_prediction_against_another_minimizer(loss):
    y = labels

    def value(out):
        return loss(torch.tensor(out).expand(50, 3), y).item()

    starts = ([0.0, 0.0, 0.0], [1.0, 0.5, 0.0])
    ends = [minimize(value, x, method="Nelder-Mead", options={"xatol": 1e-10}) for x in starts]
    found = protocol._constant_score(data, "valid_loss", loss)
    assert found == pytest.approx(min(e.fun for e in ends), abs=1e-5)
    if loss is losses.cross_entropy:
        assert found == pytest.approx(TRIVIAL, rel=1e-9)


@pytest.mark.parametrize("shares", [[20, 17, 13], [12, 11, 10, 10, 10, 10, 10, 9, 9, 9]])
def test_a_kink_does_not_stop_the_search_for_the_best_constant(shares):
    """Of the hinge loss, whose minimum over a vector of outputs is that of a linear program."""
    K, n = len(shares), sum(shares)
    y = torch.repeat_interleave(torch.arange(K), torch.tensor(shares))
    split = Split(torch.zeros(n, 2), y)
    # variables: the outputs o, and a slack max(0, 1 + o_j - o_k) for class k and each other j
    pairs = [(k, j) for k in range(K) for j in range(K) if j != k]
    costs = [0] * K + [shares[k] / n for k, _ in pairs]
    rows = np.zeros((len(pairs), K + len(pairs)))
    for row, (k, j) in enumerate(pairs):
        rows[row, [j, k, K + row]] = 1, -1, -1
    bounds = [(None, None)] * K + [(0, None)] * len(pairs)
    exact = linprog(costs, rows, [-1] * len(pairs), bounds=bounds).fun
    found = protocol._constant_score(Data("", split, split, split), "valid_loss", losses.hinge)
    assert found == pytest.approx(exact, rel=5e-6)


def test_the_best_constant_is_that_of_the_split_that_is_scored():
    sure, even = (Split(torch.zeros(4, 2), torch.tensor(y)) for y in ([0, 0, 0, 1], [0, 1, 0, 1]))
    of = Data("", sure, even, sure)
    at = lambda metric: protocol._constant_score(of, metric, losses.cross_entropy)
    assert at("valid_loss") == pytest.approx(math.log(2))
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert [at("test_loss"), at("train_loss")] == pytest.approx([entropy] * 2)
    assert [at("valid_accuracy"), at("fit_accuracy")] == [0.5, 0.25]


def test_a_constant_is_right_as_often_as_the_commonest_class():
    rare = Data("", Split(some.x, (labels + 1) % 3), some, some)
    assert protocol._constant_score(rare, "valid_accuracy", None) == pytest.approx(0.4)
    assert protocol._constant_score(rare, "fit_accuracy", None) == pytest.approx(0.4)
    numbers = Data("", *[Split(some.x, some.x)] * 3)
    assert protocol._constant_score(numbers, "valid_loss", losses.cross_entropy) == math.inf
    assert protocol._constant_score(data, "valid_loss", torch.nn.functional.mse_loss) == math.inf


# ------------------------------------------------------------------------ contest

CENTERS = {"sgd": -0.5, "adam": -3.0, "momentum": -1.5}
METHODS = {name: {"rule": getattr(o, name)} for name in CENTERS}


def by_rule(rule, hyper, seed):
    return valley(lr=CENTERS[rule])(rule, hyper, seed) + (1.0 if seed in SEEDS else 0.0)


def test_a_contest_tunes_each_method_alike_and_judges_on_fresh_seeds(trained):
    calls = trained(lambda *a: by_rule(*a) - 1.0 * (a[2] in SEEDS))
    runs, tuning = contest(METHODS, None, data, tuning_seeds=SEEDS, seeds=FRESH, grid={"lr": RATES})
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
    contest({"sgd": METHODS["sgd"]}, None, data, tuning_seeds=SEEDS, seeds=FRESH)
    rates = calls[0]["axes"]["lr"]
    assert len(rates) >= 7 and max(np.diff(np.log10(rates))) <= 0.5 + 1e-9


def test_a_method_fixes_what_it_is_and_may_have_its_own_grid(trained):
    centers = {"lr": -2, "decay": -0.5}

    def loss(rule, hyper, seed):
        return valley(**{k: centers[k] for k in centers if k in hyper})(rule, hyper, seed)

    calls = trained(loss)
    own = {"decay": [0.01, 0.1, 1.0], "lr": [0.01, 0.1]}
    methods = {
        "a": {"rule": o.adam, "beta1": 0.5, "batch": 3},
        "b": {"rule": o.adamw, "grid": {"lr": [1e-3, 1e-2, 1e-1], "decay": [0.1, 1.0]}},
        "c": {"rule": o.adamw, "grid": own},
    }
    grid = {"lr": [10.0**k for k in range(-5, 1)]}
    runs, _ = contest(methods, None, data, tuning_seeds=SEEDS, seeds=FRESH, grid=grid, batch=9)
    assert {c["batch"] for c in calls if c["rule"] == "adam"} == {3}
    assert {c["batch"] for c in calls if c["rule"] == "adamw"} == {9}
    assert set(runs.loc[runs["method"] == "a", "beta1"]) == {0.5}
    assert runs.loc[runs["method"] == "c", "decay"].notna().all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seeds": [3, 50, 51]}, r"^seeds \[50, 51\] were used for tuning; judge on others$"),
        (
            {"methods": METHODS | {"big": {"rule": o.sgd, "grid": {"lr": [1, 2]}}}},
            r"^the methods' grids differ in size, .*'big': 2\}: give each the same budget$",
        ),
    ],
)
def test_an_unfair_contest_is_refused_before_training(trained, change, message):
    calls = trained(valley(lr=-1))
    arguments = {"methods": METHODS, "seeds": FRESH} | change
    with pytest.raises(ValueError, match=message):
        contest(arguments["methods"], None, data, tuning_seeds=SEEDS, seeds=arguments["seeds"])
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
        tune(None, o.adamw, data, seeds=[0], grid=grid)
    assert not calls


def shifted(theta, g, *, t, lr=1e-3, shift=0.5):
    """A rule with a hyperparameter that the package has no range for."""
    return (theta - lr * (g - shift),)


def test_a_hyperparameter_without_a_range_needs_values_that_are_not_negative(trained):
    calls = trained(lambda rule, hyper, seed: abs(math.log10(hyper["shift"]) - 0.6))
    with pytest.raises(ValueError, match=r"^shift=\[-0.5, 1.0, 2.0\] has no constant factor"):
        tune(None, shifted, data, seeds=[0], grid={"shift": [-0.5, 1.0, 2.0]})
    assert not calls
    best, _ = tune(None, shifted, data, seeds=[0], grid={"shift": [0.5, 1.0]})
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


@pytest.mark.parametrize(
    "values, best, between",
    [
        ([0.01, 1.0, 100.0], 1.0, [0.1, 10.0]),
        ([0.01, 1.0, 100.0], 100.0, [10.0]),
        ([0.01, 1.0, 100.0], 0.01, [0.1]),
        ([0.0, 1.0, 4.0], 1.0, [0.5, 2.0]),
    ],
)
def test_a_grid_is_refined_half_way_to_the_neighbors(values, best, between):
    assert protocol._between(values, best) == pytest.approx(between, rel=1e-12)


@pytest.mark.parametrize("metric", ["valid_loss", "fit_loss", "fit_accuracy", "test_loss"])
def test_what_is_measured_at_the_end_only_is_measured_while_tuning(trained, monkeypatch, metric):
    calls = trained(valley(lr=-2.0))
    fake = protocol.sweep

    def with_ends(*args, **how):
        table = fake(*args, **how)
        ends = table["step"] == table["step"].max()
        for name in ("fit_loss", "test_loss"):
            table[name] = table["valid_loss"].where(ends & how.get("final", False))
        return table.assign(fit_accuracy=1 - table["fit_loss"])

    monkeypatch.setattr(protocol, "sweep", with_ends)
    how = {"tuning_seeds": SEEDS, "seeds": FRESH, "grid": {"lr": RATES}, "metric": metric}
    fresh, _ = contest({"sgd": {"rule": o.sgd}}, None, data, **how)
    assert [call["final"] for call in calls] == [metric != "valid_loss"] * (len(calls) - 1) + [True]
    assert fresh["lr"].unique().tolist() == [0.01]


# ------------------------------------------------------------------------- each seed's best rate


def valleys(bottoms, rates, steep=0.3):
    """Losses that are parabolas on log scales: bottom of each seed as log2 of a rate."""
    x = np.log2(rates)
    return pd.DataFrame({s: np.exp(steep * (x - b) ** 2 - 1) for s, b in enumerate(bottoms)}, rates)


@pytest.mark.parametrize("factor", [2.0, 10**0.5])
def test_the_best_rate_of_a_parabola_is_its_bottom(factor):
    rates = 0.01 * factor ** np.arange(8)
    bottoms = np.log2(0.01) + np.log2(factor) * np.array([1.0, 2.3, 3.49, 3.51, 5.9])
    assert best_rates(valleys(bottoms, rates)) == pytest.approx(bottoms, rel=1e-9)


def test_runs_that_fail_are_worse_than_any_and_equal_losses_have_their_middle():
    losses = pd.DataFrame(
        {0: [3.0, 2.0, math.nan, math.inf], 1: [2.0, 1.0, 1.0, 2.0]}, [1.0, 2.0, 4.0, 8.0]
    )
    worst, middle = 3 * math.e, 1.5
    low, mid, high = np.log([3.0, 2.0, worst])
    assert best_rates(losses) == pytest.approx(
        [1 + (low - high) / (2 * (low - 2 * mid + high)), middle]
    )
    flat = pd.DataFrame(
        {0: [1.0, 1.0, 1.0, 1.0], 1: [3.0, 1.0, 2.0, 4.0]}
        | {k: [3.0, 1.0, 2.0, 4.0] for k in (2, 3)},
        [1.0, 2.0, 4.0, 8.0],
    )
    assert best_rates(flat)[0] == 0.0  # the first of equals, an end


@pytest.mark.parametrize("end", [-9.0, 9.0])
def test_a_grid_that_does_not_bracket_the_best_rate_is_refused(end):
    rates = 2.0 ** np.arange(-3, 4)
    found = best_rates(valleys([0.2, -0.4, 1.1, end], rates))
    assert found == pytest.approx([0.2, -0.4, 1.1, math.copysign(3, end)])
    message = r"^for 2 of 4 seeds the best rate stands at an end of the grid, 0.125 to 8$"
    with pytest.raises(ValueError, match=message):
        best_rates(valleys([0.2, end, 1.1, end], rates))


@pytest.mark.parametrize("rates", [[1.0, 2.0], [1.0, 2.0, 3.0], [4.0, 2.0, 1.0]])
def test_rates_that_are_not_a_constant_factor_apart_are_refused(rates):
    with pytest.raises(ValueError, match="are not three or more, each a constant factor above"):
        best_rates(pd.DataFrame({0: [1.0] * len(rates)}, rates))
