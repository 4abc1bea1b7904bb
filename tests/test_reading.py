"""Prose that tells pooled numbers has been read since they moved."""

import pytest

from _ext import build, reading

READ = {"A13a": {"digits": "0.1 0.2 0.3", "clothes": "-1 0 1"}}


@pytest.mark.parametrize(
    "today, lines",
    [
        (READ, []),
        ({"A13a": {"digits": "0 0.224 0.4", "clothes": "-1 0 1"}}, []),
        (
            {"A13a": {"digits": "0 0.226 0.4", "clothes": "-1 -0.26 1"}},
            ["A13a digits: 0.2 when read, now 0.226", "A13a clothes: 0 when read, now -0.26"],
        ),
        ({"A13a": {"digits": "0 0.2 0.3"}}, ["A13a has other conditions: ['clothes']"]),
        ({**READ, "A13b": {"": "1 2 3"}}, ["A13b has not been read"]),
        ({}, ["A13a was read, now gone"]),
    ],
)
def test_numbers_that_moved_by_a_quarter_of_their_uncertainty_are_told(today, lines):
    assert reading.moved(READ, today) == lines


def test_claims_in_text_count_and_those_that_a_role_prints_do_not():
    records = dict.fromkeys(("A13a", "A14a", "D01b"))
    text = "So (A14a), and {finding}`D01b`; {doc}`A13a`, not XA13a or A13ab. A99z (D01b, A14a)."
    assert reading.cited(text, records) == ["A14a", "D01b"]
    assert reading.cited("{finding}`D01b`", records) == []


def test_a_stamp_is_of_the_lectures_named_and_of_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "READ", tmp_path / "read.json")
    before = reading.unread()
    reading.stamp(["optimizers"])
    assert before["optimizers"] and before.keys() - reading.unread().keys() == {"optimizers"}
    assert list(build.read_json(reading.READ)) == ["optimizers"]
    with pytest.raises(ValueError, match=r"lectures \['optimisers'\] are none of \['act"):
        reading.stamp(["optimizers", "optimisers"])


def test_every_lecture_was_read_with_the_numbers_that_are_pooled_now():
    """Read what the lines name again, then `python -m _ext.reading LECTURE`."""
    assert reading.unread() == {}
