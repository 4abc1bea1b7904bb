"""What all bases say of a claim: against the law of pooling, statsmodels and hand-made cases."""

import hashlib
import json
import random
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from nettrain.lab import evidence, pooling, replications
from nettrain.lab.replications import WAITING, judge, kind, levels_of, spec, verdict

UP, DOWN, FLAT = [1.0, 1.1, 0.9, 1.05], [-1.0, -1.2, -0.9, -1.1], [0.02, -0.01, 0.01, 0.0]


def record(*conditions, **other):
    """A claim with a margin of 0.5 that was judged in these conditions."""
    made = {"id": "T1a", "says": "s", "measure": "m", "margin": 0.5, "unit": "points"}
    made |= {"predicts": "above", "over": "all", "factors": ["rule"]}
    return made | {"conditions": dict.fromkeys(conditions)} | other


def stored(claim, effects, amended=0, error=0.05):
    """Bases 1, 2, ... with these effects, {condition: effects}, as the file has them."""
    conditions = {
        name: {str(b): [e, error, e, 0.0, 32] for b, e in enumerate(some, 1)}
        for name, some in effects.items()
    }
    claims = {claim["id"]: {"spec": spec(claim), "amended": amended, "conditions": conditions}}
    return {"lectures": {}, "claims": claims}


def test_a_claim_is_judged_by_the_law_of_pooling():
    claim = record("SGD", "Adam")
    said = judge(claim, stored(claim, {"SGD": UP, "Adam": DOWN}, amended=2))
    assert said.verdict == "depends on rule" and said.amended == 2
    assert said.pooled["SGD"] == pooling.pooled(UP, [0.05] * 4)
    assert said.states == {"SGD": "above", "Adam": "below"}
    assert said.bases["Adam"] == {b: (e, 0.05) for b, e in enumerate(DOWN, 1)}
    chance, agree = replications.strength(said, "SGD", 0.5)
    assert (chance, agree) == pooling.strength(said.pooled["SGD"], 0.5)
    assert said.sensitivity == {0.5: "depends on rule", 1.0: "depends on rule", 2.0: "open"}
    more = stored(claim, {"SGD": [*UP, 1.0], "Adam": DOWN})
    assert judge(claim, more).number == 4  # of the condition with fewest


@pytest.mark.parametrize(
    "over, predicts, effects, expected",
    [
        ("all", "above", {"a": UP, "b": UP}, "supported"),
        ("all", "above", {"a": DOWN, "b": DOWN}, "contradicted"),
        ("all", "above", {"a": FLAT, "b": FLAT}, "no difference that matters"),
        ("all", "above", {"a": FLAT, "b": DOWN}, "refuted"),
        ("all", "within", {"a": FLAT, "b": FLAT}, "supported"),
        ("some", "above", {"a": UP, "b": DOWN}, "supported"),
        (["b"], "above", {"a": UP, "b": DOWN}, "contradicted"),
        (["b"], "within", {"a": UP, "b": FLAT}, "supported"),
        (
            "all",
            "above",
            {"a": UP, "b": [1.0, -1.0, 0.5, -0.4]},
            "supported where settled (1 of 2)",
        ),
        ("all", "above", {"a": [0.0] * 4, "b": UP}, "supported"),  # degenerate: left out
    ],
)
def test_quantifier_and_prediction_reach_the_verdict(over, predicts, effects, expected):
    claim = record(*effects, over=over, predicts=predicts)
    found = stored(claim, effects)
    if expected == "supported" and [0.0] * 4 in effects.values():
        zeros = {str(b): [0.0, 0.0, 0, 0, 32] for b in (1, 2, 3, 4)}
        found["claims"]["T1a"]["conditions"]["a"] = zeros
    assert verdict(claim, found) == expected


def test_zeros_against_a_number_are_a_finding_and_between_arms_are_none():
    claim = record("SGD", "Adam")
    found = stored(claim, {"SGD": [0.0] * 4, "Adam": UP}, error=0.0)
    assert verdict(claim, found) == "supported"
    found["claims"]["T1a"]["fixed"] = True
    assert judge(claim, found).states == {"SGD": "alike", "Adam": "above"}
    assert verdict(claim, found) == "depends on rule"


def test_what_has_no_bases_waits_and_an_exact_claim_needs_none():
    claim, nothing = record("SGD"), {"lectures": {}, "claims": {}}
    assert verdict(claim, nothing) == WAITING and judge(claim, nothing) is None
    for number in (1, 2, 3, 4):
        found = stored(claim, {"SGD": UP[:number]})
        assert (verdict(claim, found) == WAITING) == (number < replications.FEWEST)
    both = record("SGD", "Adam")
    assert verdict(both, stored(both, {"SGD": UP, "Adam": UP[:3]})) == WAITING
    assert verdict(record("", verdict="true"), nothing) == "true"
    assert judge(record("", verdict="true"), stored(record(""), {"": UP})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"says": "t"},
        {"measure": "n"},
        {"margin": 0.4},
        {"unit": "%"},
        {"predicts": "within"},
        {"over": "some"},
        {"factors": ["data"]},
        {"conditions": {"SGD": None, "Adam": None}},
    ],
)
def test_bases_of_another_statement_do_not_count(change):
    claim = record("SGD")
    found = stored(claim, {"SGD": UP})
    assert verdict(claim, found) == "supported"
    assert verdict(claim | change, found) == WAITING
    beside = {"reads": "it is {}", "because": "so", "scope": "Toy.", "device": "CPU"}
    assert verdict(claim | beside, found) == "supported"


def test_a_statement_is_hashed_by_all_that_it_says():
    stated = ["s", "m", 0.5, "points", "above", "all", ["rule"], ["Adam", "SGD"]]
    expected = hashlib.sha256(json.dumps(stated).encode()).hexdigest()[:16]
    assert spec(record("SGD", "Adam")) == expected


def test_the_order_of_conditions_and_tuples_do_not_change_a_statement():
    assert spec(record("a", "b")) == spec(record("b", "a"))
    one = record("a | 1", factors=("rule", "data"), over=("a", "1"))
    assert spec(one) == spec(one | {"factors": ["rule", "data"], "over": ["a", "1"]})


def test_a_page_may_show_some_of_the_conditions_that_bases_were_drawn_for():
    every = record("a", "b", levels=[["a", "b"]])
    page = every | {"conditions": {"a": None}}
    found = stored(every, {"a": UP, "b": DOWN})
    assert judge(page, found) == judge(every, found)
    assert verdict(page, found) == "depends on rule"
    less = {"a": UP, "b": UP[:3]}
    assert verdict(page, stored(every, less)) == WAITING


def test_names_of_conditions_and_kinds_of_verdicts():
    assert levels_of("") == () and levels_of("SGD, 1/2 | data") == ("SGD, 1/2", "data")
    words = ("depends on batch size", "supported where settled (2 of 3)", "open", "supported")
    assert list(map(kind, words)) == ["depends", "supported where settled", "open", "supported"]


def test_the_table_has_a_row_for_each_condition():
    one, two = record("SGD", "Adam"), record("", id="T2a", factors=[], margin=0.0)
    found = stored(one, {"SGD": UP, "Adam": DOWN})
    found["claims"] |= stored(two, {"": UP})["claims"]
    records = {"T2a": two, "T1a": one, "T3a": record("x", id="T3a")}
    table = replications.table(records, found)
    assert table["claim"].tolist() == ["T1a", "T1a", "T2a"]
    row = table.iloc[1]
    p = pooling.pooled(DOWN, [0.05] * 4)
    assert (row["effect"], row["low"], row["high"]) == (p.mean, *p.interval)
    assert (row["tau"], row["bases"], row["state"], row["agree"]) == (p.tau, 4, "below", 4)
    assert row["error"] == pytest.approx(0.05) and row["at 2 margins"] == "open"
    assert row["p"] == pytest.approx(student.cdf((p.mean + 0.5) / p.error, 3))


def test_discoveries_are_benjamini_and_hochbergs():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.uniform(0, 1e-3, 20), rng.uniform(0, 0.5, 80)])
    states = np.where(p < 0.025, "above", "open")
    table = pd.DataFrame({"p": p, "state": states})
    more = pd.concat([table, pd.DataFrame({"p": [0.0], "state": ["degenerate"]})])
    truth = multipletests(2 * p, 0.05, "fdr_bh")[0]
    settled, kept = replications.discoveries(more)
    assert settled == (states == "above").sum() and kept == (truth & (p < 0.025)).sum()
    assert 20 <= kept < settled
    assert replications.discoveries(table[:0]) == (0, 0)


@pytest.mark.parametrize("p, kept", [(0.0125, 1), (0.025, 1), (0.0251, 0), (0.4, 0), (0.9, 0)])
def test_a_discovery_alone_is_kept_at_half_the_rate_on_each_side(p, kept):
    table = pd.DataFrame({"p": [p], "state": ["above"]})
    assert replications.discoveries(table) == (1, kept)


def test_a_dependence_names_levels_or_whole_conditions():
    simple = record("SGD", "Adam")
    crossed = record("SGD | 1", "Adam | 1", "SGD | 2", "Adam | 2", id="T2a",
                     factors=["rule", "data"])  # fmt: skip
    found = stored(simple, {"SGD": UP, "Adam": FLAT})
    effects = {"SGD | 1": UP, "Adam | 1": FLAT, "SGD | 2": DOWN, "Adam | 2": DOWN}
    found["claims"] |= stored(crossed, effects)["claims"]
    table = replications.dependences({"T1a": simple, "T2a": crossed}, found)
    first, second = table.sort_values("claim").to_dict("records")
    assert first == {"factor": "rule", "claim": "T1a", "holds": "SGD", "does not hold": "Adam"}
    assert second["factor"] in ("rule", "data")
    if second["factor"] == "rule":
        assert second["holds"] == "SGD, 1"
    apart = {"SGD | 1": UP, "Adam | 1": FLAT, "SGD | 2": UP, "Adam | 2": DOWN}
    table = replications.dependences({"T2a": crossed}, stored(crossed, apart))
    expected = {"factor": "rule", "claim": "T2a", "holds": "SGD", "does not hold": "Adam"}
    assert table.to_dict("records") == [expected]
    assert len(replications.dependences({"T1a": simple}, {"claims": {}})) == 0


# --------------------------------------------------------------------------- what is in the book

RECORDS = evidence.committed()
JUDGED = [name for name, r in RECORDS.items() if judge(r)]


def independently(record, conditions, fixed):
    """A verdict from the raw numbers, by statsmodels' meta-analysis and the protocol's words."""
    m, alike, paired = record["margin"], record["predicts"] == "within", {}
    for name, bases in conditions.items():
        e, s = np.array([bases[b][:2] for b in sorted(bases)]).T
        if e.any() or s.any():
            pooled = combine_effects(e, np.maximum(s, 1e-9 * np.ptp(e)) ** 2, "iterated")
            half = max(pooled.sd_eff_w_re_hksj, pooled.sd_eff_w_re)
            low, high = pooled.mean_effect_re + half * student.ppf([0.025, 0.975], len(e) - 1)
            word = "+" if low > m else "-" if high < -m else "0" if max(-low, high) <= m else "?"
            paired[name] = word
        elif fixed:  # held against a number, not two arms that are one
            paired[name] = "0"
    words, yes = set(paired.values()), "0" if alike else "+"
    for one, says in ((yes, "supported"), ("-", "contradicted"), ("0", "no difference")):
        if words == {one} and not (alike and one != yes):
            return says
    if "?" not in words and yes not in words:
        return "contradicted" if len(words) == 1 else "refuted"
    if yes in words:
        return "depends or open" if words - {yes, "?"} else "supported where"
    return "nowhere" if words - {"?"} else "open"


@pytest.mark.parametrize("name", random.Random(18).sample(JUDGED, min(10, len(JUDGED))))
def test_a_verdict_of_the_book_follows_from_the_stored_numbers(name):
    record, claim = RECORDS[name], replications.kept()["claims"][name]
    if record["over"] != "all":
        pytest.skip("another quantifier")
    said, expected = (
        verdict(record),
        independently(record, claim["conditions"], claim.get("fixed", False)),
    )
    assert said.startswith(("depends", "open") if expected == "depends or open" else expected)


def test_the_file_is_small_and_every_claim_in_it_is_one_of_the_book():
    assert (files("nettrain") / "replications.json").stat().st_size < 1e6
    statistical = {name for name, r in RECORDS.items() if "verdict" not in r}
    assert replications.kept()["claims"].keys() <= statistical
