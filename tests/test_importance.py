"""Importances that are known in closed form, and those of Optuna."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from nettrain import importance, searchers, spaces
from nettrain.spaces import Choice, Integer, Real
from nettrain.trials import Trial

LINE = dict(x=Real(0, 1))
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
