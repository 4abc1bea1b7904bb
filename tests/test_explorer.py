"""The table of all claims: rows by hand, and the whole of it."""

import re

import pytest

from _ext import explorer
from _ext.files import read_json
from nettrain.lab import replications
from tests.test_cards import claimed, words
from tests.test_replications import DOWN, FLAT, UP, stored

COMMITTED = read_json(explorer.build.ROOT / "nettrain" / "evidence.json")


def judged(monkeypatch, effects, **other):
    made = claimed(*effects, **({"chapter": "chapters/losses", "id": "A99a"} | other))
    found = stored(made, effects)
    monkeypatch.setattr(replications, "kept", lambda: found)
    return made, replications.judge(made)


def test_a_row_leads_to_its_card_and_says_what_came_out(monkeypatch):
    made, _ = judged(monkeypatch, {"SGD": UP, "Adam": DOWN}, says="A <b>.")
    row = explorer.row(made, "Choices")
    start = '<tr id="A99a" data-part="Choices" data-source="textbook" data-verdict="depends" '
    start += 'data-strength="one to three margins" data-factor="rule" data-words="SGD Adam">'
    assert row.startswith(start)
    assert '<a href="losses.html#A99a"><b>A99a</b> A &lt;b&gt;.</a> <small>Losses</small>' in row
    assert "± Depends on rule 2 conditions: 1 beyond the margin, 1 beyond" in words(row)
    assert row.count("<svg") == 2


@pytest.mark.parametrize(
    "effect, margin, expected",
    [
        (UP, 0.05, "ten margins or more"),
        (DOWN, 0.2, "three to ten margins"),
        (UP, 0.5, "one to three margins"),
        (FLAT, 0.5, "within or across"),
        (UP, 0.0, "within or across"),
    ],
)
def test_strength_is_counted_in_margins(monkeypatch, effect, margin, expected):
    made, said = judged(monkeypatch, {"": effect}, factors=[], margin=margin)
    assert explorer.strength(made, said) == expected
    assert explorer.strength(made | {"verdict": "true"}, None) == "exact"
    assert explorer.strength(made, None) == "within or across"


def test_of_many_conditions_the_largest_are_drawn_and_all_are_counted(monkeypatch):
    effects = {str(k): [0.1 * k, 0.1 * k + 0.01, 0.1 * k, 0.1 * k] for k in range(8)}
    made, said = judged(monkeypatch, effects)
    text = explorer.plots(made, said)
    assert re.findall(r'title="(\d):', text) == ["7", "6", "5", "4"]
    assert "8 conditions: " in text
    assert explorer.plots(made, None) == ""


def test_every_claim_has_a_row_and_every_choice_finds_one():
    text = explorer.explorer()
    assert text.count("<tr id=") == len(COMMITTED)
    for name in ("part", "source", "verdict", "strength", "factor"):
        menu = re.search(rf'<select name="{name}">(.*?)</select>', text)[1]
        options = re.findall('<option value="([^"]+)">', menu)
        values = {v for row in re.findall(rf'data-{name}="(.*?)"', text) for v in row.split("|")}
        missing = set(options) - values
        assert options and missing <= set(explorer.STRENGTHS.values()), missing


def test_factors_stand_below_the_part_of_the_book_in_which_they_vary():
    records = [("a", ["data", "rate"]), ("b", ["data"]), ("b", ["<p>"])]
    made = {str(k): {"chapter": c, "factors": f} for k, (c, f) in enumerate(records)}
    groups = explorer.factors(made, {"a": "One", "b": "Two", "c": "Three"})
    assert groups == {"Several parts": ["data"], "One": ["rate"], "Two": ["<p>"]}
    text = explorer.grouped("factor", groups)
    assert '<optgroup label="One"><option value="rate">rate</option></optgroup>' in text
    assert (
        '<option value="&lt;p&gt;">&lt;p&gt;</option>' in text
        and '<option value="">all</option>' in text
    )
