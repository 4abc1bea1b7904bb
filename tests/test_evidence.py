"""Intervals, verdicts, claims: against scipy, exact laws and hand-made cases."""

import json
import re

import IPython
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from nettrain.lab import cards, evidence
from nettrain.lab.evidence import Claim, interval, paired
from nettrain.lab.replications import spec


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        center, low, high = interval(rng.normal(1.0, 2.0, 32))
        covered += low <= 1.0 <= high
        assert low < center < high
    fewest, most = stats.binom(200, 0.95).ppf([0.001, 0.999])
    assert most < 200 and fewest <= covered <= most


@pytest.mark.parametrize("n", [2, 5, 300])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_interval_of_a_mean_is_students(n, level):
    x = np.random.default_rng(3).normal(3.0, 2.0, n)
    truth = stats.ttest_1samp(x, 0).confidence_interval(level)
    center, *found = interval(x, level=level)
    assert center == x.mean() and found == pytest.approx([truth.low, truth.high], rel=1e-12)
    if level == 0.95:
        assert interval(x) == (center, *found)  # the level that the book speaks of


@pytest.mark.parametrize("n, level", [(13, 0.95), (25, 0.8), (41, 0.9), (53, 0.95)])
def test_the_interval_of_a_median_is_the_percentiles_in_the_exact_law_of_all_resamples(n, level):
    """The median of n = 2m + 1 draws is ≤ x₍ₖ₎ if m + 1 of them are: a binomial law."""
    x = np.random.default_rng(n).exponential(size=n)
    law = stats.binom.sf(n // 2, n, np.arange(1, n + 1) / n)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    noise = np.sqrt(tails * (1 - tails) / 10_000)
    assert (abs(law[:, None] - tails) > 4 * noise).all()  # so that 10,000 resamples tell
    assert interval(x, np.median, level) == (np.median(x), *np.sort(x)[np.searchsorted(law, tails)])


def test_interval_of_a_constant_is_a_point():
    assert interval([2.0] * 5) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
@given(
    st.floats(-1e300, 1e300).filter(lambda x: abs(x) > 1e-290),  # normal numbers
    st.lists(st.integers(-3, 3), min_size=2, max_size=12),
)
@example(-0.9730649201472396, [0, 0, 0, 1, 1, 1])  # the mean, as rounded, lies above all values
@example(-0.9730649201472396, [0, 0, 0, 0, 0, 0, -1])
@settings(max_examples=40, deadline=None)
def test_an_interval_of_values_that_are_equal_up_to_rounding_is_finite(statistic, x, steps):
    values = x + np.spacing(x) * np.array(steps)  # neighbours among the floating-point numbers
    center, low, high = interval(values, statistic)
    assert (low, high) == (min(*values, center), max(*values, center))
    assert center == pytest.approx(x, rel=1e-14)


def test_an_interval_of_tiny_differences_is_not_taken_for_rounding():
    x = 1 + 1e-11 * np.arange(32.0)
    center, low, high = interval(x)
    assert x[8] < low < center < high < x[24]


@pytest.mark.parametrize("scale", [1e-120, 1e-150, 1e120, 1e200])
def test_an_interval_has_the_unit_of_its_values(scale):
    x = np.random.default_rng(5).normal(3.0, 1.0, 32)
    ours, one = interval(scale * x), interval(x)
    assert np.array(ours) / scale == pytest.approx(one, rel=1e-12)
    assert evidence.standard_error(scale * x) / scale == pytest.approx(stats.sem(x), rel=1e-12)


def test_an_interval_is_the_same_at_every_call_and_that_of_scipys_bootstrap():
    """What is committed can be found again to the last digit."""
    x = np.random.default_rng(6).exponential(size=20)
    truth = stats.bootstrap((x,), np.median, n_resamples=10_000, method="percentile", rng=0)
    assert interval(x, np.median) == (np.median(x), *truth.confidence_interval)


def test_an_interval_says_that_values_are_too_large():
    with pytest.raises(ValueError, match="is inf: the values are too large"):
        interval([1e308, 1e308, 1.5e308])


@pytest.mark.parametrize("x", [[1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0]]])
def test_interval_refuses(x):
    with pytest.raises(ValueError, match="two or more finite values"):
        interval(x)


def test_the_error_of_a_mean_is_that_of_students_t():
    x = np.random.default_rng(0).exponential(size=20)
    low, high = stats.ttest_1samp(x, 0).confidence_interval()
    half = stats.t.ppf(0.975, 19) * evidence.standard_error(x)
    assert (x.mean() - half, x.mean() + half) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize("n", [15, 16])
def test_the_error_of_a_median_is_the_deviation_in_the_law_of_all_resamples(n):
    """The k-th of n resampled values is at most the j-th of x with a binomial probability."""
    x, mid = np.sort(np.random.default_rng(n).normal(size=n)), (n + 1) // 2
    if n % 2:
        below = stats.binom.sf(mid - 1, n, np.arange(n + 1) / n)
        law = np.diff(below)
        exact = np.sqrt(law @ x**2 - (law @ x) ** 2)
    else:  # the mean of two order statistics: by resampling
        rng = np.random.default_rng(5)
        exact = np.median(x[rng.integers(n, size=(400_000, n))], axis=1).std()
    assert evidence.standard_error(x, np.median) == pytest.approx(exact, rel=0.03)


def test_claim_is_judged_by_paired_differences(capsys):
    shared = np.random.default_rng(2).normal(0, 100, 32)  # pairing removes what seeds share
    better = np.random.default_rng(3).normal(1.0, 0.1, 32)
    record = Claim("T1a", "One.", "a − b", 0.5, "points").judge((shared + better, shared), "Toy.")
    condition = record["conditions"][""]
    assert condition["state"] == "above" and condition["n"] == 32
    assert condition["effect"] == pytest.approx(better.mean())
    text = capsys.readouterr().out
    assert "Claim T1a. One." in text and "at most 0.5 points does not matter" in text
    assert "T1a: not replicated yet." in text and "32 pairs" in text and "Toy." in text


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.9])
def test_a_claim_pairs_values_by_their_position(correlation):
    """As Student's paired t test does: sorted or shuffled, the pairs would be others."""
    law = stats.multivariate_normal([0.5, 0.0], [[1, correlation], [correlation, 1]])
    a, b = law.rvs(400, random_state=7).T
    condition = Claim("T5a", "Five.", "a − b").judge((a, b), "s")["conditions"][""]
    truth = stats.ttest_rel(a, b)
    assert condition["effect"] == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    found = condition["low"], condition["high"]
    assert found == pytest.approx(truth.confidence_interval(), rel=1e-12)
    assert condition["error"] == pytest.approx(condition["effect"] / truth.statistic, rel=1e-12)
    assert (condition["a"], condition["b"]) == (a.mean(), b.mean())


def test_a_claim_of_medians():
    a = np.random.default_rng(3).exponential(size=33)
    record = Claim("T6a", "Six.", "a − b").judge((a, 0 * a), "s", np.median)
    condition = record["conditions"][""]
    found = condition["effect"], condition["low"], condition["high"]
    assert record["statistic"] == "median" and found == interval(a, np.median)
    assert condition["error"] == evidence.standard_error(a, np.median)


def test_values_are_held_against_a_number():
    a = np.random.default_rng(3).normal(99.0, 1.0, 32)
    claim = Claim("T9a", "Nine.", "a − 99", 5.0)
    one, two = claim.judge((a, 99.0), "s"), claim.judge((a, np.full(32, 99.0)), "s")
    assert one["conditions"][""].pop("fixed") is True and one == two
    zero = claim.judge((np.zeros(32), 0), "s")["conditions"][""]
    assert zero["state"] == "alike" and zero["fixed"]  # found, not for want of a difference


def test_conditions_are_keyed_by_the_levels_of_the_factors():
    up, zero = np.linspace(1, 2, 32), np.zeros(32)
    claim = Claim("T2a", "Two.", "a − b", 0.5, factors=("depth",))
    assert list(claim.judge({"x": (up, zero), ("y",): (up, zero)}, "s")["conditions"]) == ["x", "y"]
    claim = Claim("T2b", "Two.", "a − b", 0.5, factors=("rule", "data"), over=("x", "1"))
    pairs = {("x", "1"): (up, zero), ("y", "1"): (zero, up), ("x", "2"): (zero, zero)}
    record = claim.judge(pairs, "s")
    states = {k: c["state"] for k, c in record["conditions"].items()}
    assert states == {"x | 1": "above", "y | 1": "below", "x | 2": "degenerate"}
    assert (record["over"], record["factors"]) == (["x", "1"], ["rule", "data"])
    assert record == json.loads(json.dumps(record))


@pytest.mark.parametrize(
    "factors, key, says",
    [
        ((), "x", "('x',) does not name one level, without |, for each of the factors ()"),
        (("depth",), (), "() does not name one level"),
        (("rule", "data"), "x", "('x',) does not name one level"),
        (("rule", "data"), ("x", "1", "2"), "('x', '1', '2') does not name one level"),
        (("depth",), "2 | 3", "('2 | 3',) does not name one level"),
    ],
)
def test_levels_that_do_not_belong_to_the_factors_are_refused(factors, key, says):
    claim = Claim("T7a", "Seven.", "a − b", factors=factors)
    with pytest.raises(ValueError, match=re.escape(f"claim T7a: {says}")):
        claim.judge({key: ([1, 2], [0, 0])}, "s")


@pytest.mark.parametrize(
    "how, says",
    [
        ({"predicts": "below"}, "predicts='below' is not above or within"),
        ({"over": "most"}, "over='most' is not all, some or no levels"),
        ({"over": ("x",)}, "over=('x',) is not all, some or no levels"),
        (
            {"over": (), "factors": ("a",)},
            "over=() is not all, some or one level for each of ('a',)",
        ),
        ({"factors": "depth"}, "factors='depth': give a tuple of names"),
        ({"reads": "higher"}, "reads='higher' has no {} or two <a|b>"),
        ({"reads": "{} <a|b> <c|d>"}, "has no {} or two <a|b>"),
    ],
)
def test_claims_are_refused_before_their_experiment(how, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        Claim("T4a", "s", "m", **how)


def test_a_decisive_condition_must_be_there_and_something_must_be():
    claim = Claim("T8a", "s", "m", factors=("depth",), over=("2",))
    with pytest.raises(ValueError, match=re.escape("over=('2',) is not among [('3',)]")):
        claim.judge({"3": ([1, 2], [0, 0])}, "s")
    with pytest.raises(ValueError, match="there is nothing to judge"):
        Claim("T8b", "s", "m").judge({}, "s")


def test_exact_claims():
    claim = Claim("T3a", "Three.", "an error")
    assert claim.exact(np.True_, 1e-13, 1e-12, "s")["verdict"] == "true"
    assert claim.exact(False, 0.5, 1e-12, "s")["verdict"] == "false"


SAID = [  # of a claim about [1, 2, 3] against [0, 1, 2], with x; and of an exact one
    "Claim T. A <b>. Measured by: a − b. A difference of at most 0.5 points does not matter. "
    "It may depend on letter.",
    "T: not replicated yet. The run on this page, which alone gives no verdict: "
    "X: a − b: 1 points [1, 1], 3 pairs. Toy.",
    "T: true. A − b: 0.123, where the claim allows up to 0.5. Toy.",
    "Claim T. A <b>. Measured by: a − b. The claim predicts no more than 0.5 points either way.",
]


@pytest.mark.parametrize(
    "base, all_of_them, expected", [("0", "0", (1,)), ("0", "1", (1, 5)), ("3", "0", (1, 5))]
)
def test_the_page_tries_one_level_and_other_bases_all(monkeypatch, base, all_of_them, expected):
    monkeypatch.setenv("NETTRAIN_BASE", base)
    monkeypatch.setenv("NETTRAIN_ALL", all_of_them)
    assert evidence.tried(1, 5) == expected


def test_a_claim_with_levels_may_be_judged_on_some_of_them():
    factors = {"data": ("digits", "clothes"), "budget": ("×1", "×5")}
    claim = Claim("T3a", "s", "m", factors=factors, over=("clothes", "×5"))
    assert claim.factors == ("data", "budget")
    pair = ([1.0, 2.0], [0.0, 0.5])
    shown = claim.judge({("digits", "×1"): pair}, "s")
    every = claim.judge({(d, b): pair for d in factors["data"] for b in factors["budget"]}, "s")
    assert spec(shown) == spec(every)
    assert shown["levels"] == [["digits", "clothes"], ["×1", "×5"]]
    assert shown["factors"] == ["data", "budget"] and len(every["conditions"]) == 4
    fewer = Claim("T3a", "s", "m", factors=factors | {"budget": ("×1",)}, over=("clothes", "×1"))
    other = fewer.judge({("digits", "×1"): pair}, "s")
    assert spec(other) != spec(shown | {"over": other["over"]})
    message = "claim T3a: budget='×2' is none of ('×1', '×5')"
    with pytest.raises(ValueError, match=re.escape(message)):
        claim.judge({("digits", "×2"): pair}, "s")


@pytest.mark.parametrize("device", ["", "A card"])
def test_a_record_is_all_that_was_claimed_and_found(monkeypatch, capsys, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(device))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: device)
    monkeypatch.setattr(evidence.platform, "machine", lambda: "z80")
    claimed = {"id": "T", "says": "A <b>.", "measure": "a − b", "margin": 0.5, "unit": "points"}
    claim = Claim(*claimed.values(), factors=("letter",))
    record = claim.judge({"x": ([1, 2, 3], [0, 1, 2])}, "Toy.")
    beside = dict.fromkeys(("reads", "because", "redrawn", "nearest", "source"), "")
    found = {"effect": 1.0, "error": 0.0, "low": 1.0, "high": 1.0, "n": 3, "a": 2.0, "b": 1.0}
    common = claimed | beside | {"predicts": "above", "over": "all", "factors": ["letter"]}
    common |= {"scope": "Toy.", "device": device or "CPU (z80)"}
    conditions = {"x": found | {"state": "above"}}
    assert record == common | {"statistic": "mean", "conditions": conditions}
    conditions = {"": {"error": 0.123, "tolerance": 0.5}}
    exact = claim.exact(True, 0.123, 0.5, "Toy.")
    assert exact == common | {"verdict": "true", "conditions": conditions}
    Claim(*claimed.values(), predicts="within")
    assert capsys.readouterr().out.splitlines() == SAID


def test_a_notebook_shows_cards_with_the_record_beside_the_verdict(monkeypatch, capsys):
    shown = []
    kernel = type("Shell", (), {"kernel": None})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: kernel)
    monkeypatch.setattr(IPython.display, "display", lambda *a, **how: shown.append((*a, how)))
    claim = Claim("T", "A <b>.", "a − b", 0.5, "points", factors=("letter",))
    record = claim.judge({"x": ([1, 2, 3], [0, 1, 2])}, "Toy.")
    (stated, how), (judged, how_judged) = shown
    assert how == {"metadata": None, "raw": True} and capsys.readouterr().out == ""
    assert how_judged == {"metadata": {"nettrain.verdict": record}, "raw": True}
    assert (stated["text/plain"], judged["text/plain"]) == tuple(SAID[:2])
    assert stated["text/html"] == cards.claim(record)
    assert judged["text/html"] == cards.verdict(record)


def test_claim_refuses():
    with pytest.raises(ValueError, match="margin=-1 must not be negative"):
        Claim("T4a", "s", "m", -1)
    with pytest.raises(ValueError, match="T4c x: .*cannot be paired"):
        Claim("T4c", "s", "m", factors=("f",)).judge({"x": (np.zeros(3), np.zeros(4))}, "s")


def test_paired_takes_the_last_row_of_each_run():
    table = pd.DataFrame(
        {
            "method": ["b", "b", "b", "b", "a", "a"],
            "seed": [0, 1, 0, 1, 0, 1],
            "step": [1, 1, 2, 2, 2, 2],
            "loss": [9.0, 9.0, 3.0, 4.0, 1.0, 2.0],
        }
    )
    wide = paired(table, "loss")
    assert list(wide.columns) == ["b", "a"] and wide["b"].tolist() == [3, 4]
    assert wide["a"].tolist() == [1, 2]


def test_seeds_and_tuning_seeds_never_meet(monkeypatch):
    used = set()
    for base in range(4):
        monkeypatch.setenv("NETTRAIN_BASE", str(base))
        now = set(evidence.seeds(1000)) | set(evidence.tuning_seeds(1000))
        assert len(now) == 2000 and not now & used
        used |= now


@pytest.mark.parametrize("number, base", [(None, 0), ("0", 0), ("1", 100_000), ("3", 300_000)])
def test_the_seeds_of_the_committed_verdicts_stay_the_same(monkeypatch, number, base):
    monkeypatch.delenv("NETTRAIN_BASE", raising=False)
    if number:
        monkeypatch.setenv("NETTRAIN_BASE", number)
    assert evidence.seeds() == range(base, base + 32)
    assert evidence.tuning_seeds() == range(base + 50_000, base + 50_004)
