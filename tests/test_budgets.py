"""Budgets as in the papers: brackets, halving, ASHA, early stopping of many runs."""

import itertools
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nettrain import budgets, searchers
from nettrain.budgets import Curves
from nettrain.data import digits
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.optimizers import momentum
from nettrain.spaces import Real

LINE = dict(x=Real(0, 1))


def parabola(config):
    return (config["x"] - 0.3) ** 2


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
    for wrong in ((0, 1, 3), (9, 10, 3), (9, 0, 3), (9, 1, 1), (9, 1, 0)):
        given = "r_min={1}, r_max={0}, eta={2}".format(*wrong)
        with pytest.raises(ValueError, match=f"{given}: needs 1 <= r_min <= r_max and eta >= 2"):
            budgets.resources(wrong[0], r_min=wrong[1], eta=wrong[2])


def test_halving_is_algorithm_1_2_put_right():
    # Jamieson & Talwalkar 2016: r_k = floor(B / (|S_k| ceil(log2 n))), |S_{k+1}| = floor(|S_k| / 2)
    assert budgets.halving(8, 120) == [(8, 5), (4, 10), (2, 20)]
    assert budgets.halving(16, 64) == [(16, 1), (8, 2), (4, 4), (2, 8)]
    for n in range(2, 300):
        budget = 3 * n * 9
        rounds = budgets.halving(n, budget)
        assert len(rounds) == next(k for k in range(20) if 2**k >= n)
        assert sum(size * r for size, r in rounds) <= budget and rounds[-1][0] in (1, 2)
        assert all(b == max(1, a // 2) for (a, _), (b, _) in zip(rounds, rounds[1:]))
        assert all(r == budget // (size * len(rounds)) for size, r in rounds)
    assert budgets.halving(2, 2) == [(2, 1)] and budgets.halving(8, 24)[0] == (8, 1)
    for n, budget in ((1, 9), (0, 9), (2, 1), (2, 0), (8, 23)):
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


@pytest.mark.parametrize("value", [0.5, math.inf])
def test_of_equal_runs_the_first_wins(value):
    table, level = budgets.brackets(9), Table(np.full((27, 9), value))
    start = lambda first, n: level[np.arange(first, first + n)]
    with warnings.catch_warnings(action="ignore"):  # that all losses are infinite
        best, history = budgets.hyperband(start, Table.advance, table)
        halved, _ = budgets.successive_halving(level[:9], Table.advance, RUNGS)
    assert best.rows.tolist() == halved.rows.tolist() == ([0] if value < math.inf else [])
    assert set(history["bracket"]) == {0, 1, 2}
    for run in (budgets.asha, partial(budgets.stop_early, go_on=lambda *_: True)):
        with warnings.catch_warnings(action="ignore"):
            best, _ = run(start, Table.advance, budget=27, r_max=9)
        assert best.rows.tolist() == ([0] if value < math.inf else [])


def test_a_rung_may_be_as_large_as_the_one_before():
    runs, history = budgets.successive_halving(Table(CURVES[:4]), Table.advance, [(4, 1), (4, 5)])
    assert runs.rows.tolist() == CURVES[:4, 4].argsort().tolist()  # all of them, best first
    assert history["run"].tolist()[4:] == CURVES[:4, 0].argsort().tolist()
    assert history["cost"].tolist() == [1] * 4 + [4] * 4


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


def test_stopping_early_runs_each_curve_until_its_rule_ends_it():
    curves, asked = CURVES[:40, :9].copy(), []
    level = np.median(curves[:, 3])
    good = np.flatnonzero(curves[:, 3] < level)[:3]
    curves[good, [0, 4, 8]] = math.nan, -math.inf, math.inf  # at the first, middle, last epoch

    def go_on(curve, earlier):
        asked.append((list(curve), [list(c) for c in earlier]))
        return len(curve) < 4 or curve[-1] < level

    start = lambda first, n: Table(curves, np.arange(first, first + n))
    best, history = budgets.stop_early(start, Table.advance, go_on, budget=200, r_max=9)
    truth = np.where(np.isfinite(curves), curves, math.inf)
    parts = [part for _, part in history.groupby("run")]
    for run, part in enumerate(parts):
        seen = truth[run, : len(part)]
        assert part["loss"].tolist() == seen.tolist()
        assert part["resource"].tolist() == list(range(1, len(part) + 1))
        assert (seen[3:-1] < level).all() and (seen[:-1] < math.inf).all()
        ended = seen[-1] == math.inf or len(part) == 9 or (len(part) > 3 and seen[-1] >= level)
        assert ended or run == len(parts) - 1  # for the last one the budget was over
    assert history["spent"].tolist() == list(range(1, 201)) and {1, 4, 5, 9} == {*map(len, parts)}
    latest = [part["loss"].iloc[-1] for part in parts]
    assert best.rows.tolist() == [int(np.argmin(latest))]
    for curve, earlier in asked:  # it is never asked about a failure
        run = len(earlier)
        assert curve == curves[run, : len(curve)].tolist() and math.isfinite(curve[-1])
        assert earlier == [part["loss"].tolist() for part in parts[:run]]


@pytest.mark.parametrize(
    "make, error, words",
    [
        (
            lambda: budgets.starter(parabola, LINE, seed=2**64),
            ValueError,
            "seed=18446744073709551616",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, error, words):
    with pytest.raises(error, match=words):
        make()
