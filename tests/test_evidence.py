"""Intervals, verdicts, claims: against scipy, exact laws and hand-made cases."""

from itertools import combinations_with_replacement

import IPython
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

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
        (-0.3, -0.2, 0.2, "undecided", "undecided"),
        (-0.2, 0.2, 0.2, "no difference that matters", "supported"),
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
    fewest, most = stats.binom(200, 0.95).ppf([0.001, 0.999])
    assert most < 200 and fewest <= covered <= most


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_interval_agrees_with_students_for_many_values(level):
    x = np.random.default_rng(3).normal(3.0, 2.0, 300)
    center, low, high = interval(x, level=level)
    truth = stats.ttest_1samp(x, 0).confidence_interval(level)
    # 10,000 resamples: each end is off by some 0.04 standard errors; 93 % is off by 0.15
    assert center == x.mean()
    assert (low, high) == pytest.approx((truth.low, truth.high), abs=0.1 * stats.sem(x))
    if level == 0.95:
        assert interval(x) == (center, low, high)  # the level that the book speaks of


def law_of_bootstrapped_means(x):
    """All means of len(x) draws from x with replacement, from the least, and P(mean ≤ each)."""
    n = len(x)
    every = combinations_with_replacement(range(n), n)
    counts = np.array([np.bincount(drawn, minlength=n) for drawn in every])
    chance = np.exp(special.gammaln(n + 1) - special.gammaln(counts + 1).sum(1) - n * np.log(n))
    means = counts @ x / n
    order = means.argsort()
    return means[order], chance[order].cumsum()


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("law", ["expon", "norm", "uniform"])
def test_the_interval_of_a_mean_is_bca_in_the_exact_law_of_all_resamples(law, sign, level):
    x = sign * getattr(stats, law).rvs(size=9, random_state=1)
    means, chance = law_of_bootstrapped_means(x)
    below = lambda value: chance[np.searchsorted(means, value) - 1]  # P(mean of a resample < value)
    # Efron & Tibshirani 1993, (14.9) to (14.15): bias by the law, acceleration by the skewness
    bias, ends = stats.norm.ppf(below(x.mean())), stats.norm.interval(level)
    speed = stats.skew(x) / 6 / np.sqrt(len(x))
    truth = stats.norm.cdf([bias + (bias + z) / (1 - speed * (bias + z)) for z in ends])
    center, *found = interval(x, level=level)
    for end, share in zip(found, truth, strict=True):
        # of 10,000 resamples: the error of a share, and that of the bias, which counts twice
        own = share * (1 - share) / 10_000
        bend = (2 * stats.norm.pdf(stats.norm.ppf(share)) * np.sqrt(np.pi / 2) / 100) ** 2
        assert abs(below(end) - share) < 4 * np.sqrt(own + bend)


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
    assert np.array(ours) / scale == pytest.approx(one, abs=0.1 * (one[2] - one[1]))


def test_an_interval_is_the_same_at_every_call_and_that_of_scipys_bootstrap():
    """The committed verdicts can be found again to the last digit."""
    x = np.random.default_rng(6).exponential(size=20)
    for statistic, method in ((np.mean, "BCa"), (np.median, "percentile")):
        truth = stats.bootstrap((x,), statistic, n_resamples=10_000, method=method, rng=0)
        assert interval(x, statistic) == (statistic(x), *truth.confidence_interval)


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
    assert record["verdict"] == "supported" and condition["n"] == 32
    assert condition["effect"] == pytest.approx(better.mean())
    text = capsys.readouterr().out
    assert "Claim T1a. One." in text and "within ±0.5 points does not matter" in text
    assert "T1a: supported." in text and "n = 32 pairs" in text and "Toy." in text


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.9])
def test_a_claim_pairs_values_by_their_position(correlation):
    """As Student's paired t test does: sorted or shuffled, the pairs would be others."""
    law = stats.multivariate_normal([0.5, 0.0], [[1, correlation], [correlation, 1]])
    a, b = law.rvs(400, random_state=7).T
    condition = Claim("T5a", "Five.", "a − b").judge((a, b), "s")["conditions"][""]
    truth = stats.ttest_rel(a, b).confidence_interval()
    assert condition["effect"] == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    found = condition["low"], condition["high"]
    assert found == pytest.approx((truth.low, truth.high), abs=0.1 * stats.sem(a - b))
    assert (condition["a"], condition["b"]) == (a.mean(), b.mean())


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


SAID = {  # of a claim about [1, 2, 3] against [0, 1, 2], with x; and of an exact one
    "above": "Claim T. A <b>. Measured by: a − b. A difference within ±0.5 points does not matter.",
    "within": "Claim T. A <b>. Measured by: a − b. The claim predicts a value within ±0.5 points.",
    "judged": "T: supported. x: supported, 1 points [1, 1], n = 3 pairs (2 against 1). Toy.",
    "true": "T: true. Error 0.12, tolerance 0.5. Toy.",
}


@pytest.mark.parametrize("device", ["", "A card"])
def test_a_record_is_all_that_was_claimed_and_found(monkeypatch, capsys, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(device))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: device)
    monkeypatch.setattr(evidence.platform, "machine", lambda: "z80")
    claimed = {"id": "T", "says": "A <b>.", "measure": "a − b", "margin": 0.5, "unit": "points"}
    claim = Claim(*claimed.values())
    record = claim.judge({"x": ([1, 2, 3], [0, 1, 2])}, "Toy.")
    found = {"effect": 1.0, "error": 0.0, "low": 1.0, "high": 1.0, "n": 3, "a": 2.0, "b": 1.0}
    common = claimed | {"predicts": "above", "scope": "Toy.", "device": device or "CPU (z80)"}
    conditions = {"x": found | {"verdict": "supported"}}
    assert record == common | {"verdict": "supported", "conditions": conditions}
    conditions = {"": {"error": 0.123, "tolerance": 0.5, "verdict": "true"}}
    exact = claim.exact(True, 0.123, 0.5, "Toy.")
    assert exact == common | {"verdict": "true", "conditions": conditions}
    Claim(*claimed.values(), predicts="within")
    said = capsys.readouterr().out.splitlines()
    assert said == [SAID[key] for key in ("above", "judged", "true", "within")]


def test_a_notebook_shows_cards_with_the_record_beside_the_verdict(monkeypatch, capsys):
    shown = []
    kernel = type("Shell", (), {"kernel": None})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: kernel)
    monkeypatch.setattr(IPython.display, "display", lambda *a, **how: shown.append((*a, how)))
    claim = Claim("T", "A <b>.", "a − b", 0.5, "points")
    record = claim.judge({"x": ([1, 2, 3], [1, 2, 3])}, "Toy.")
    (stated, how), (judged, how_judged) = shown
    assert how == {"metadata": None, "raw": True} and capsys.readouterr().out == ""
    assert how_judged == {"metadata": {"nettrain.verdict": record}, "raw": True}
    assert stated["text/plain"] == SAID["above"]
    body = SAID["above"].removeprefix("Claim T. ").replace("<b>", "&lt;b&gt;")
    assert stated["text/html"] == (
        '<div class="nt-verdict nt-claim"><strong>Claim T.</strong><div>' + body + "</div></div>"
    )
    assert judged["text/html"] == (
        '<div class="nt-verdict nt-no-difference-that-matters">'
        "<strong>T: no difference that matters.</strong>"
        "<div>x: no difference that matters, 0 points [0, 0], n = 3 pairs (2 against 2).</div>"
        "<div>Toy.</div></div>"
    )


def test_the_summary_says_everything_of_every_claim():
    one = {"effect": 0.25, "low": -1.5, "high": 12345.678, "n": 32, "verdict": "undecided"}
    two = one | {"effect": 3.0, "low": 2.0, "high": 4.0, "verdict": "supported"}
    plain = {"says": "So.", "measure": "a − b", "chapter": "chapters/one", "predicts": "above"}
    records = {
        "B": plain | {"verdict": "depends", "margin": 0.2, "unit": "points",
                      "conditions": {"x": one, "y": two}},
        "C": plain | {"verdict": "supported", "margin": 0.5, "unit": "", "predicts": "within",
                      "chapter": "chapters/of/two", "conditions": {"": two}},
        "A": plain | {"verdict": "true", "margin": 0.0, "unit": "", "conditions": {
                      "": {"error": 2.345e-17, "tolerance": 1e-12, "verdict": "true"}}},
    }  # fmt: skip
    assert evidence.summary(records).splitlines() == [
        "**A: true.** So. ([one](one.ipynb))",
        "",
        "- *a − b*",
        "- error 2.3e-17, tolerance 1e-12",
        "",
        "**B: depends.** So. ([one](one.ipynb))",
        "",
        "- *a − b* (margin ±0.2 points)",
        "- x: 0.25 points [-1.5, 1.23e+04], n = 32, undecided",
        "- y: 3 points [2, 4], n = 32, supported",
        "",
        "**C: supported.** So. ([two](two.ipynb))",
        "",
        "- *a − b* (predicted within ±0.5)",
        "- 3 [2, 4], n = 32",
    ]


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


@pytest.mark.parametrize("number, base", [(None, 0), ("0", 0), ("1", 100_000), ("3", 300_000)])
def test_the_seeds_of_the_committed_verdicts_stay_the_same(monkeypatch, number, base):
    monkeypatch.delenv("NETTRAIN_BASE", raising=False)
    if number:
        monkeypatch.setenv("NETTRAIN_BASE", number)
    assert evidence.seeds() == range(base, base + 32)
    assert evidence.tuning_seeds() == range(base + 50_000, base + 50_004)


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
