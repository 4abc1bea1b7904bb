"""Claims and verdicts in words: whole cards, letter by letter."""

import html
import json
import math
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrain.lab import cards
from tests.test_replications import FLAT, UP, record, stored

WORDS = {"reads": "", "because": "", "redrawn": "", "nearest": "", "source": ""}


def words(card):
    """What a card says, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", card)).split())


def claimed(*conditions, **other):
    """A recorded claim; base 0 found 0.9 [0.5, 1.3] in each condition."""
    made = record(*conditions, **(WORDS | {"scope": "Toy <data>."} | other))
    here = {"effect": 0.9, "low": 0.5, "high": 1.3, "n": 32}
    return made | {"conditions": dict.fromkeys(conditions, here)}


@pytest.mark.parametrize(
    "unit, expected",
    [
        ("points", "0.5 points [−1.0, 2.0]"),
        ("%", "0.5 % [−1.0, 2.0]"),
        ("", "0.5 [−1.0, 2.0]"),
        ("doublings", "1.41 times [0.50, 4.00]"),
        ("doublings per layer", "1.41 times per layer [0.50, 4.00]"),
        ("decades", "3.16 times [0.1, 100]"),
    ],
)
def test_an_effect_in_plain_units(unit, expected):
    assert cards.span(0.5, -1.0, 2.0, unit) == expected


@pytest.mark.parametrize(
    "powers, expected",
    [
        ((0.0, -0.01, 0.01), "1.00 times [0.99, 1.01]"),
        ((-0.01, -0.05, 0.03), "0.993 times [0.966, 1.021]"),
        ((6.0, 5.9, 6.1), "64.0 times [59.7, 68.6]"),
        ((-2.0, -8.0, 4.0), "0.25 times [0.00391, 16]"),
        ((9.0, 8.0, 9.97), "512 times [256, 1,000]"),
        ((400.0, 400.0, 400.0), "2^400 times [2^400, 2^400]"),
    ],
)
def test_ratios_have_the_same_decimals_unless_their_orders_of_magnitude_differ(powers, expected):
    assert cards.span(*powers, "doublings") == expected


@given(st.floats(-290, 290))
def test_doublings_are_printed_as_the_ratio(power):
    text = cards.amount(power, "doublings").removesuffix(" times")
    back = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", ",")
    number, _, raised = text.partition(" · 10")
    found = float(number.translate(back)) * 10.0 ** int(raised.translate(back) or 0)
    assert found == pytest.approx(2**power, rel=6e-3)


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.0, "0"),
        (-0.25, "−0.25"),
        (999.4, "999"),
        (1234.0, "1,230"),
        (-45_678.0, "−45,700"),
        (2.8e-17, "2.8 · 10⁻¹⁷"),
        (-3.1e12, "−3.1 · 10¹²"),
    ],
)
def test_a_number_for_readers(value, expected):
    assert cards.number(value) == expected


@pytest.mark.parametrize(
    "numbers, expected",
    [
        ((0.0443, -0.459, 0.548), "0.04 [−0.46, 0.55]"),
        ((14.1, 8.13, 20.0), "14.1 [8.1, 20.0]"),
        ((-30.1, -41.3, -18.9), "−30 [−41, −19]"),
        ((-0.001, -0.3, 0.2), "0.00 [−0.30, 0.20]"),
        ((1.0, 1.0, 1.0), "1 [1, 1]"),
    ],
)
def test_an_interval_is_printed_to_the_digits_that_its_width_leaves(numbers, expected):
    assert cards.span(*numbers, "") == expected


@pytest.mark.parametrize("power", [1e4, -1e4, math.inf])
def test_a_ratio_that_no_number_holds_is_a_power(power):
    assert cards.amount(power, "doublings").startswith("2^")


@pytest.mark.parametrize(
    "reads, effect, expected",
    [
        ("the loss is {} <lower|higher>", 2.0, "the loss is 2.0 points [1.0, 3.0] lower"),
        ("the loss is {} <lower|higher>", -2.0, "the loss is 2.0 points [1.0, 3.0] higher"),
        ("the gap is {}", -2.0, "the gap is −2.0 points [−3.0, −1.0]"),
        ("", 2.0, "m: 2.0 points [1.0, 3.0]"),
    ],
)
def test_a_sentence_takes_the_word_for_its_sign(reads, effect, expected):
    made = claimed("", reads=reads)
    assert cards.sentence(made, effect, effect - 1, effect + 1) == expected


def test_a_measure_of_logarithms_says_that_a_ratio_is_printed():
    made = claimed("", unit="doublings", measure="log2 of a over b")
    assert cards.sentence(made, 1, 0, 2) == "log2 of a over b, as a ratio: 2.00 times [1.00, 4.00]"


@pytest.mark.parametrize(
    "other, expected",
    [
        ({}, "A difference of at most 0.5 points does not matter."),
        ({"because": "so"}, "A difference of at most 0.5 points does not matter (so)."),
        ({"predicts": "within"}, "The claim predicts no more than 0.5 points either way."),
        ({"unit": "doublings"}, "A difference of at most a factor of 1.41 does not matter."),
        ({"margin": 0.0}, ""),
    ],
)
def test_a_margin_in_words(other, expected):
    assert cards.margin(claimed("", **other)) == expected


@pytest.mark.parametrize(
    "other, expected",
    [
        ({}, "It may depend on rule."),
        ({"over": "some"}, "The claim is that there is a case, by rule: one is enough."),
        ({"over": ["SGD"]}, "It is decided by: SGD."),
        ({"factors": []}, ""),
        ({"redrawn": "digits", "nearest": "Smith 2020", "source": "Jones 2021"},
         "It may depend on rule. Drawn again with each base: digits. Nearest: Smith 2020. "
         "From: Jones 2021."),
    ],
)  # fmt: skip
def test_a_claim_in_words(other, expected):
    start = "s Measured by: m. A difference of at most 0.5 points does not matter."
    assert cards.stated(claimed("SGD", **other)) == f"{start} {expected}".strip()


def test_a_claim_that_waits_shows_its_own_base_and_no_verdict():
    made, nothing = claimed("SGD | 1", factors=["rule", "data"]), {"claims": {}}
    text = cards.told(made, nothing)
    assert text == (
        "T1a: not replicated yet. The run on this page, which alone gives no verdict: "
        "SGD, 1: m: 0.90 points [0.50, 1.30], 32 pairs. Toy <data>."
    )
    card = cards.verdict(made, nothing)
    assert card.startswith(
        '<div class="nt-verdict nt-not-replicated-yet" id="T1a" data-claim="T1a">'
    )
    assert "Toy &lt;data&gt;." in card and "own run:" not in card and "<table>" not in card
    assert card.count("<svg") == 1 and "… Not replicated yet" in words(card)
    two = claimed("SGD | 1", "Adam | 1", factors=["rule", "data"])
    card = cards.verdict(two, nothing)
    assert "gives no verdict:</div><div>M:</div>" in card and card.count("<svg") == 2
    assert "Adam 1 0.90 points [0.50, 1.30] 32" in words(card)


def test_a_claim_of_one_condition_is_told_in_sentences():
    made = claimed("", factors=[], reads="the loss is {} <lower|higher>", unit="%")
    found = stored(made, {"": [1.0, 1.0, 1.0, 0.4]}, amended=1)
    text = cards.told(made, found)
    assert text.startswith("T1a: open. The loss is 0.85 % [0.37, 1.33] lower; leaning this way. ")
    assert "3 of 4 bases agree; a new one would with probability 0.82." in text
    assert "At half the margin: supported." in text
    assert text.endswith("Amended once. Toy <data>.")
    card = cards.verdict(made, found)
    assert "<table>" not in card
    assert "leaning this way, 3 of 4 bases agree." in words(card) and card.count("nt-base") == 4
    assert "This page's own run, base 0: 0.90 % [0.50, 1.30], 32 pairs." in words(card)
    assert "was made 4 times, each time with everything drawn again. A small" in words(card)
    assert "Another base would agree with probability 0.82." in words(card)
    assert "← higher ▒ too small to matter lower →" in words(card)


def test_a_claim_of_several_conditions_has_a_table():
    made = claimed("SGD | 1", "Adam | 1", factors=["rule", "data"])
    found = stored(made, {"SGD | 1": UP, "Adam | 1": FLAT}, amended=3)
    card = cards.verdict(made, found)
    assert words(card).startswith("“s” ± Depends on rule T1a M: rule data Effect, 95 % Bases agree")
    assert "SGD 1 beyond the margin 1.01 points [0.88, 1.15] 4 of 4 Adam 1 within" in words(card)
    assert card.count("nt-row nt-for") == 1 and card.count("nt-row nt-same") == 1
    assert (
        '<span class="nt-state">within the margins</span>' in card
        and "with probability 1.00 in each row." in card
    )
    assert '<td data-head="rule">SGD</td><td data-head="data">1</td>' in card
    assert '<td data-head="bases agree">4 of 4</td>' in card
    assert "Amended 3 times." in card and card.count("<tr") == 4 and "nt-depends" in card
    made["reads"] = "the loss is {} <lower|higher>"
    assert "<div>The loss is … lower (negative: higher):</div>" in cards.verdict(made, found)
    assert "base 0:</div><div>SGD, 1: 0.90 points [0.50, 1.30], 32 pairs.</div><div>Adam" in card


def test_the_least_certain_of_several_conditions_is_named():
    made = claimed("SGD | 1", "Adam | 1", factors=["rule", "data"], redrawn="images, rates")
    found = stored(made, {"SGD | 1": UP, "Adam | 1": [1.0, 1.0, 1.0, 0.4]})
    card = words(cards.verdict(made, found))
    assert "everything drawn again (images, rates). A small dot" in card
    assert re.search(r"probability 0\.\d\d to 1\.00; the least sure is Adam, 1\.", card)


def test_a_factor_keeps_its_capitals():
    made = claimed("SGD", "Adam", factors=["MNIST"])
    effects = {"SGD": [0.40, 0.41, 0.39, 0.40], "Adam": [0.01, 0.0, 0.02, 0.01]}
    text = cards.told(made, stored(made, effects, error=0.01))
    assert "T1a: no difference that matters." in text
    assert "At half the margin: depends on MNIST." in text


@pytest.mark.parametrize(
    "tolerance, allowed", [(1e-12, "the claim allows up to 10⁻¹²"), (0.0, "the claim wants 0")]
)
def test_an_exact_claim_says_what_was_measured_and_what_is_allowed(tolerance, allowed):
    made = claimed("", factors=[], verdict="false")
    made["conditions"] = {"": {"error": 0.5, "tolerance": tolerance}}
    measure = made["measure"][0].upper() + made["measure"][1:]
    assert cards.told(made) == f"T1a: false. {measure}: 0.5, where {allowed}. Toy <data>."
    assert cards.verdict(made).count(measure) == 1


def test_a_symbol_keeps_its_size_at_the_beginning():
    made = claimed("η = 1")
    assert ": η = 1: m: 0.9" in cards.told(made, {"claims": {}})


READS = {"reads": "with it the score is {} <higher|lower>"}


@pytest.mark.parametrize(
    "effects, predicts, expected",
    [
        ({"a": FLAT, "b": FLAT}, "above", "Both comparisons make no difference that matters."),
        ({"a": FLAT, "b": FLAT}, "within", "Both comparisons go as claimed."),
        (
            {"digits | SGD": UP, "digits | Adam": [2 * x for x in UP], "wine | SGD": [0.5] * 4},
            "above",
            "Of 3 comparisons 2 go as claimed (the smaller, digits, SGD: with it the score is 1.01 "
            "points [0.88, 1.15] higher); 1 stays open.",
        ),
        (
            {name: [size * x for x in UP] for name, size in (("c", 3), ("a", 1), ("b", 2))},
            "above",
            "All 3 comparisons go as claimed (the middle one, b: with it the score is 2.02 points "
            "[1.75, 2.30] higher).",
        ),
        (
            {"a": UP, "b": [-x for x in UP]},
            "within",
            "Both comparisons go the other way (the smaller, a: with it the score is 1.01 points "
            "[0.88, 1.15] higher).",
        ),
        (
            {"a": UP, "b": [-x for x in UP], "c": FLAT},
            "above",
            "Of 3 comparisons 1 goes as claimed (a: with it the score is 1.01 points [0.88, 1.15] "
            "higher); 1 goes the other way (b: with it the score is 1.01 points [0.88, 1.15] "
            "lower); 1 makes no difference that matters.",
        ),
    ],
)
def test_a_finding_counts_what_comparisons_did(effects, predicts, expected):
    factors = ["data", "rule"] if " | " in next(iter(effects)) else ["rule"]
    claim = claimed(*effects, predicts=predicts, factors=factors, **READS)
    assert cards.finding(claim, stored(claim, effects)) == expected


def test_a_finding_may_be_about_some_levels_and_serve_the_opposite_advice():
    claim = claimed("SGD", "Adam", "Lion", **READS)
    found = stored(claim, {"SGD": UP} | dict.fromkeys(("Adam", "Lion"), [-x for x in UP]))
    one = "With it the score is 1.01 points [0.88, 1.15] higher."
    assert cards.finding(claim, found, only=["SGD"]) == one
    all_three = cards.finding(claim, found, wants="against")
    assert "Of 3 comparisons 1 goes the other way (SGD: " in all_three
    assert "; 2 go as advised (the smaller, " in all_three


def test_a_finding_of_one_comparison_is_its_sentence():
    claim = claimed("", factors=[], **READS)
    alone = cards.finding(claim, stored(claim, {"": UP}))
    assert alone == "With it the score is 1.01 points [0.88, 1.15] higher."
    waiting = cards.finding(claim, {"claims": {}})
    here = "with it the score is 0.90 points [0.50, 1.30] higher, 32 pairs."
    assert waiting == f"So far in one run only: {here}"
    assert cards.finding(claim | {"verdict": "true", "says": "A law."}) == "“A law.”"


def test_a_verdict_names_what_it_depends_on_in_words():
    assert "Depends on what is compared" in words(cards.badge("depends on in"))
    assert "Depends on data" in words(cards.badge("depends on data"))
    records = json.loads((files("nettrain") / "evidence.json").read_text())
    known = {name for made in records.values() for name in made["factors"]}
    assert set(cards.FACTORS) <= known  # none is left over
