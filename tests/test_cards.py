"""Claims and verdicts in words: whole cards, letter by letter."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrain.lab import cards
from tests.test_replications import DOWN, FLAT, UP, record, stored

WORDS = {"reads": "", "because": "", "redrawn": "", "nearest": "", "source": ""}


def claimed(*conditions, **other):
    """A recorded claim; base 0 found 0.9 [0.5, 1.3] in each condition."""
    made = record(*conditions, **(WORDS | {"scope": "Toy <data>."} | other))
    here = {"effect": 0.9, "low": 0.5, "high": 1.3, "n": 32}
    return made | {"conditions": dict.fromkeys(conditions, here)}


@pytest.mark.parametrize(
    "unit, expected",
    [
        ("points", "0.5 points [-1, 2]"),
        ("%", "0.5 % [-1, 2]"),
        ("", "0.5 [-1, 2]"),
        ("doublings", "1.41 times [0.5, 4]"),
        ("doublings per layer", "1.41 times per layer [0.5, 4]"),
        ("decades", "3.16 times [0.1, 100]"),
    ],
)
def test_an_effect_in_plain_units(unit, expected):
    assert cards.span(0.5, -1.0, 2.0, unit) == expected


@given(st.floats(-290, 290))
def test_doublings_are_printed_as_the_ratio(power):
    number, times = cards.amount(power, "doublings").split()
    assert times == "times" and float(number) == pytest.approx(2**power, rel=6e-3)


@pytest.mark.parametrize("power", [1e4, -1e4, math.inf])
def test_a_ratio_that_no_number_holds_is_a_power(power):
    assert cards.amount(power, "doublings").startswith("2^")


@pytest.mark.parametrize(
    "reads, effect, expected",
    [
        ("the loss is {} <lower|higher>", 2.0, "the loss is 2 points [1, 3] lower"),
        ("the loss is {} <lower|higher>", -2.0, "the loss is 2 points [1, 3] higher"),
        ("the gap is {}", -2.0, "the gap is -2 points [-3, -1]"),
        ("", 2.0, "m: 2 points [1, 3]"),
    ],
)
def test_a_sentence_takes_the_word_for_its_sign(reads, effect, expected):
    made = claimed("", reads=reads)
    assert cards.sentence(made, effect, effect - 1, effect + 1) == expected


def test_a_measure_of_logarithms_says_that_a_ratio_is_printed():
    made = claimed("", unit="doublings", measure="log2 of a over b")
    assert cards.sentence(made, 1, 0, 2) == "log2 of a over b, as a ratio: 2 times [1, 4]"


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
        ({"over": "some"}, "It is the claim that there is a case, by rule."),
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
        "SGD, 1: m: 0.9 points [0.5, 1.3], 32 pairs. Toy <data>."
    )
    card = cards.verdict(made, nothing)
    assert card.startswith(
        '<div class="nt-verdict nt-not-replicated-yet" id="T1a" data-claim="T1a">'
    )
    assert "Toy &lt;data&gt;." in card and "<details>" not in card and "<table>" not in card
    two = claimed("SGD | 1", "Adam | 1", factors=["rule", "data"])
    card = cards.verdict(two, nothing)
    assert "gives no verdict:</div><div>M:</div>" in card and card.count("<tr>") == 3
    assert "<td>Adam</td><td>1</td><td data-effect>0.9 points [0.5, 1.3]</td><td>32</td>" in card


def test_a_claim_of_one_condition_is_told_in_sentences():
    made = claimed("", factors=[], reads="the loss is {} <lower|higher>", unit="%")
    found = stored(made, {"": [1.0, 1.0, 1.0, 0.4]}, amended=1)
    text = cards.told(made, found)
    assert text.startswith("T1a: open. The loss is 0.85 % [0.373, 1.33] lower; leans this way. ")
    assert "3 of 4 bases agree; a new one would with probability 0.82." in text
    assert "At half the margin: supported." in text
    assert text.endswith("Amended once. Toy <data>.")
    card = cards.verdict(made, found)
    assert "<table>" not in card
    assert "<summary>This page's own run</summary>0.9 % [0.5, 1.3], 32 pairs</details>" in card


def test_a_claim_of_several_conditions_has_a_table():
    made = claimed("SGD | 1", "Adam | 1", factors=["rule", "data"])
    found = stored(made, {"SGD | 1": UP, "Adam | 1": FLAT}, amended=3)
    card = cards.verdict(made, found)
    assert "<strong>T1a: depends on rule.</strong>" in card and "nt-depends" in card
    assert "<tr><th>rule</th><th>data</th><th>Effect, 95 %</th>" in card
    assert "<tr><td>SGD</td><td>1</td><td data-effect>1.01 points [" in card
    assert "<td>within the margins</td><td>4 of 4</td><td>1.00</td></tr>" in card
    assert "Amended 3 times." in card and card.count("<tr>") == 3
    assert "<div>M:</div>" in card and '<div class="nt-says">s</div>' in card
    made["reads"] = "the loss is {} <lower|higher>"
    assert "<div>The loss is … lower (negative: higher):</div>" in cards.verdict(made, found)
    assert "SGD, 1: 0.9 points [0.5, 1.3], 32 pairs; Adam, 1: 0.9" in card


def test_a_factor_keeps_its_capitals():
    made = claimed("SGD", "Adam", factors=["MNIST"])
    effects = {"SGD": [0.40, 0.41, 0.39, 0.40], "Adam": [0.01, 0.0, 0.02, 0.01]}
    text = cards.told(made, stored(made, effects, error=0.01))
    assert "T1a: no difference that matters." in text
    assert "At half the margin: depends on MNIST." in text


def test_an_exact_claim_shows_error_and_tolerance():
    made = claimed("", factors=[], verdict="false")
    made["conditions"] = {"": {"error": 0.5, "tolerance": 1e-12}}
    assert cards.told(made) == "T1a: false. Error 0.5, tolerance 1e-12. Toy <data>."


def test_a_symbol_keeps_its_size_at_the_beginning():
    made = claimed("η = 1")
    assert ": η = 1: m: 0.9" in cards.told(made, {"claims": {}})


def test_the_summary_says_everything_of_every_claim():
    one = claimed("", id="T2a", factors=[], chapter="chapters/of/two", says="So.")
    two = claimed("a", "b", chapter="chapters/one")
    found = stored(two, {"a": UP, "b": DOWN})
    assert cards.summary({"T2a": one, "T1a": two}, found).splitlines() == [
        "**T1a: depends on rule.** s ([one](one.ipynb))",
        "",
        "- *m*. A difference of at most 0.5 points does not matter.",
        *(f"- {line}" for line in cards._lines(two, cards.replications.judge(two, found))),
        "",
        "**T2a: not replicated yet.** So. ([two](two.ipynb))",
        "",
        "- *m*. A difference of at most 0.5 points does not matter.",
        "- The run on this page, which alone gives no verdict:",
        "- M: 0.9 points [0.5, 1.3], 32 pairs.",
    ]
