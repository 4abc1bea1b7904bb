"""Intervals, verdicts, claims: against scipy, exact laws and hand-made cases."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from nettrain.lab import evidence
from nettrain.lab.evidence import Claim, interval, paired, verdict


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected", "within"),
    [
        (0.3, 0.5, 0.2, "supported", "contradicted"),
        (-0.5, -0.3, 0.2, "contradicted", "contradicted"),
        (-0.1, 0.2, 0.2, "no difference that matters", "supported"),
        (0.1, 0.3, 0.2, "undecided", "undecided"),
        (-0.3, 0.3, 0.2, "undecided", "undecided"),
        (0.2, 0.3, 0.2, "undecided", "undecided"),  # touching the margin is not beyond it
        (0.0, 0.0, 0.0, "no difference that matters", "supported"),
        (1e-9, 1.0, 0.0, "supported", "contradicted"),
    ],
)
def test_verdict_table(low, high, margin, expected, within):
    assert verdict(low, high, margin) == expected
    assert verdict(low, high, margin, "within") == within


numbers = st.floats(-10, 10)


@given(numbers, numbers, st.floats(0, 5))
def test_verdict_turns_with_the_sign(a, b, margin):
    low, high = sorted((a, b))
    turn = {"supported": "contradicted", "contradicted": "supported"}
    said = verdict(low, high, margin)
    assert verdict(-high, -low, margin) == turn.get(said, said)
    assert verdict(-high, -low, margin, "within") == verdict(low, high, margin, "within")


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        center, low, high = interval(rng.normal(1.0, 2.0, 32))
        covered += low <= 1.0 <= high
        assert low < center < high
    assert 178 <= covered <= 200  # 95 % of 200 is 190; five standard deviations below


def test_interval_agrees_with_the_normal_theory_for_many_values():
    x = np.random.default_rng(1).normal(3.0, 2.0, 4000)
    center, low, high = interval(x)
    half = 1.96 * x.std(ddof=1) / np.sqrt(len(x))
    assert center == x.mean()
    assert (low, high) == pytest.approx((center - half, center + half), abs=0.1 * half)


def test_interval_of_a_median_holds_order_statistics():
    x = np.arange(33.0)
    center, low, high = interval(x, np.median)
    assert center == 16 and 8 <= low < 16 < high <= 24


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
    assert np.array(ours) / scale == pytest.approx(one, abs=0.1 * (one[2] - one[1]))


def test_the_interval_of_a_mean_is_scipys_bca():
    x = np.random.default_rng(6).exponential(size=20)
    truth = bootstrap((x,), np.mean, n_resamples=10_000, method="BCa", rng=0).confidence_interval
    assert interval(x) == (x.mean(), truth.low, truth.high)


def test_an_interval_says_that_values_are_too_large():
    with pytest.raises(ValueError, match="is inf: the values are too large"):
        interval([1e308, 1e308, 1.5e308])


@pytest.mark.parametrize("x", [[1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0]]])
def test_interval_refuses(x):
    with pytest.raises(ValueError, match="two or more finite values"):
        interval(x)


def test_claim_is_judged_by_paired_differences(capsys):
    shared = np.random.default_rng(2).normal(0, 100, 32)  # pairing removes what seeds share
    better = np.random.default_rng(3).normal(1.0, 0.1, 32)
    record = Claim("T1a", "One.", "a − b", 0.5, "points").judge((shared + better, shared), "Toy.")
    condition = record["conditions"][""]
    assert record["verdict"] == "supported" and condition["n"] == 32
    assert condition["effect"] == pytest.approx(better.mean())
    text = capsys.readouterr().out
    assert "Claim T1a. One." in text and "within ±0.5 points does not matter" in text
    assert "T1a: supported." in text and "n = 32 pairs" in text and "Toy." in text


def test_conditions_with_different_verdicts_depend():
    up, zero = np.linspace(1, 2, 32), np.zeros(32)
    claim = Claim("T2a", "Two.", "a − b", 0.5)
    assert claim.judge({"x": (up, zero), "y": (up, zero)}, "s")["verdict"] == "supported"
    record = claim.judge({"x": (up, zero), "y": (zero, up), "z": (zero, zero)}, "s")
    assert record["verdict"] == "depends"
    found = [c["verdict"] for c in record["conditions"].values()]
    assert found == ["supported", "contradicted", "no difference that matters"]


def test_exact_claims():
    claim = Claim("T3a", "Three.", "an error")
    assert claim.exact(1e-13 < 1e-12, 1e-13, 1e-12, "s")["verdict"] == "true"
    assert claim.exact(False, 0.5, 1e-12, "s")["verdict"] == "false"


def test_claim_refuses():
    with pytest.raises(ValueError, match="margin=-1 must not be negative"):
        Claim("T4a", "s", "m", -1)
    with pytest.raises(ValueError, match="predicts='below' is not above or within"):
        Claim("T4b", "s", "m", 1, predicts="below")
    with pytest.raises(ValueError, match="T4c x: .*cannot be paired"):
        Claim("T4c", "s", "m").judge({"x": (np.zeros(3), np.zeros(4))}, "s")


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


def test_the_second_look_lists_what_moved_and_what_was_not_repeated():
    records = {claim: {"verdict": "supported"} for claim in ("A1", "A2", "A3")}
    one = {"seeds": {"1": {"A1": "supported", "A2": "undecided"}, "2": {"A2": "supported"}}}
    looks = {"chapters/one": one, "chapters/two": {"seeds": {"1": {"A3": "supported"}}}}
    table = evidence.moved(records, looks)
    assert table.to_dict("index") == {
        "A2": {"verdict": "supported", "seeds 1": "undecided", "seeds 2": "supported"}
    }
    looks["chapters/two"]["seeds"]["1"]["A3"] = "depends"
    assert evidence.moved(records, looks).loc["A3", "seeds 2"] == "not repeated"


def test_the_second_look_is_of_committed_claims():
    for chapter, look in evidence.second_look().items():
        of_chapter = {c for c, r in evidence.committed().items() if r["chapter"] == chapter}
        assert all(set(verdicts) == of_chapter for verdicts in look["seeds"].values())
