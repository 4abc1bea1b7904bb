"""Small pictures of effects: everything stands where its number says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrain.lab import forest
from nettrain.lab.forest import Row
from tests.test_replications import record

WORDS = {"reads": ""}
numbers = st.floats(-1e3, 1e3)


def places(svg, attribute):
    return [float(x) for x in re.findall(rf'{attribute}="([^"%]*)%"', svg)]


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4), st.floats(0, 50))
def test_an_axis_is_straight_and_holds_all_that_is_drawn(effects, margin):
    rows = [Row(sorted(e)[1], min(e), max(e), tuple(e), "open") for e in effects]
    axis = forest.axis(rows, record("a", margin=margin, **WORDS))
    assert axis.low < min(0, -margin) and axis.high > max(0, margin)
    share = lambda x: 100 * (x - axis.low) / (axis.high - axis.low)
    for row in rows:
        svg = axis.plot(row)
        expected = [*map(share, row.bases), share(row.effect)]
        assert places(svg, "cx") == pytest.approx(expected, abs=0.006)
        assert places(svg, "x1") == pytest.approx([share(0), share(row.low)], abs=0.006)
        assert places(svg, "x2") == pytest.approx([share(0), share(row.high)], abs=0.006)
        assert places(svg, " x") == pytest.approx([share(-margin)], abs=0.006)
        width = 100 * 2 * margin / (axis.high - axis.low)
        assert places(svg, " width")[1:] == pytest.approx([width], abs=0.006)


def test_what_lies_beyond_the_axis_is_drawn_at_its_end():
    axis = forest.axis([Row(1, 0, 2, (), "for")], record("a", **WORDS))
    svg = axis.plot(Row(9, -9, 99, (50,), "for"))
    assert places(svg, "cx") == [100, 100] and places(svg, "x1")[1:] == [0]
    assert 'class="nt-row nt-for"' in svg


@pytest.mark.parametrize(
    "other, expected",
    [
        ({}, ("against the claim", "too small to matter", "for it")),
        ({"reads": "it is {} <lower|higher>"}, ("higher", "too small to matter", "lower")),
        ({"predicts": "within"}, ("differs", "as claimed", "differs")),
    ],
)
def test_the_ends_have_words(other, expected):
    row = Row(1, 0, 2, (), "for")
    axis = forest.axis([row], record("a", **(WORDS | other)))
    text = re.sub("<[^>]*>", " ", axis.ends()).split()
    left, inside, right = expected
    assert axis.words == expected
    assert " ".join(text) == f"−0.5 0.5 ← {left} ▒ {inside} {right} →"
    assert axis.ends(room=0.45).count("left:") == 1  # in a narrow column


def test_a_number_of_the_axis_is_cut_at_neither_end():
    """It is moved to its own left by its place: not at all at 0, by its width at 100 %."""
    for low, high in ((-0.5, 0.5), (-0.5, 2), (-7, 0.5)):
        page = forest.Axis(low, high, 0.5, "points", ("", "", "")).ends()
        pairs = re.findall(r"left:([\d.]+)%;transform:translateX\(-([\d.]+)%\)", page)
        assert pairs and all(a == b and 0 <= float(a) <= 100 for a, b in pairs)


def test_a_narrow_margin_is_marked_by_zero_alone_and_none_is_not_drawn():
    rows = [Row(50, 0, 100, (), "for")]
    assert forest.axis(rows, record("a", **WORDS)).ends().count("left:") == 1
    axis = forest.axis(rows, record("a", margin=0.0, **WORDS))
    assert "▒" not in axis.ends() and places(axis.plot(rows[0]), " width")[1:] == [0]


@pytest.mark.parametrize(
    "value, unit, expected",
    [
        (0.5, "doublings", "×1.41"),
        (-0.5, "doublings per layer", "÷1.41"),
        (1.0, "decades", "×10"),
        (0.0, "doublings", "×1"),
        (-2.5, "points", "−2.5"),
    ],
)
def test_a_tick_in_plain_units(value, unit, expected):
    assert forest.tick(value, unit) == expected
