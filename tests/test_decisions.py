"""Advice computed from claims: the rule, and that each decision names what there is."""

import html
import itertools
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from _ext import build, decisions
from nettrain.lab import replications
from tests.test_replications import DOWN, FLAT, UP, record, stored

RECORDS = json.loads((build.ROOT / "nettrain" / "evidence.json").read_text())
PARTS = yaml.safe_load((build.ROOT / "_data" / "decisions.yml").read_text())
ALL = [d for part in PARTS for d in part["decisions"]]
SIDES = st.lists(st.sampled_from(["for", "against", "same", "open"]), max_size=8)


@pytest.mark.parametrize(
    "sides, expected",
    [
        ("for", "do"),
        ("for open", "do"),
        ("for same", "do"),
        ("for open open", "try it"),
        ("for for against", "try it"),
        ("same", "skip"),
        ("against open", "skip"),
        ("same open open", "not known"),
        ("against same open open open", "not known"),
        ("open open", "not known"),
        ("", "not known"),
    ],
)
def test_the_rule(sides, expected):
    assert decisions.outcome(sides.split()) == expected


@given(SIDES)
def test_the_opposite_advice_sees_the_opposite_sides(sides):
    turned = [{"for": "against", "against": "for"}.get(s, s) for s in sides]
    assert decisions.outcome(turned, "against") == decisions.outcome(sides, "for")


@given(SIDES)
def test_order_does_not_matter_and_what_is_open_never_settles(sides):
    now = decisions.outcome(sides)
    assert now == decisions.outcome(sides[::-1])
    more = decisions.outcome([*sides, "open"])
    assert more == now or (now, more) in (("do", "try it"), ("skip", "not known"))


def test_a_decision_may_look_at_some_levels_only(monkeypatch):
    claim = record("SGD | digits", "Adam | digits", "SGD | wine")
    claim |= {"factors": ["rule", "data"]}
    found = stored(claim, dict(zip(claim["conditions"], (UP, DOWN, FLAT))))
    monkeypatch.setattr(replications, "kept", lambda: found)
    assert sorted(decisions.sides(claim)) == ["against", "for", "same"]
    assert decisions.sides(claim, ["digits"]) == ["for", "against"]
    assert decisions.sides(claim, ["SGD", "wine"]) == ["same"]
    with pytest.raises(ValueError, match="T1a has no comparison with .'beer'."):
        decisions.sides(claim, ["beer"])
    assert decisions.sides({"verdict": "true"}) == ["for"]
    assert decisions.sides({"verdict": "false"}) == ["against"]
    assert decisions.sides(claim | {"margin": 9.0}) == []  # another claim than the one replicated


def test_every_decision_names_a_claim_and_levels_of_it():
    advice = [d["advice"] for d in ALL]
    assert len(set(advice)) == len(advice) >= 25
    for d in ALL:
        assert set(d) <= {"advice", "claim", "wants", "only"}
        assert d.get("wants", "for") in ("for", "against")
        decisions.sides(RECORDS[d["claim"]], d.get("only", ()))  # or it raises


def test_the_page_has_each_decision_once_with_its_outcome():
    page = decisions.decisions()
    for d in ALL:
        found = decisions.outcome(
            decisions.sides(RECORDS[d["claim"]], d.get("only", ())), d.get("wants", "for")
        )
        [card] = [line for line in page.split("\n") if html.escape(d["advice"]) in line]
        sign, kind = decisions.OUTCOMES[found]
        assert f"nt-{kind}" in card and f"</span> {found.capitalize()}</span>" in card
        assert f'.html#{d["claim"]}"' in card
        folded = "<details" in page[: page.index(card)].split("```{raw} html")[-1]
        assert folded == (found == "not known")
    total = page.split(" decisions")[0]
    assert int(total) == len(ALL) == sum(int(n) for n in _counts(page))


def _counts(page):
    head = page.split("\n")[0].split(": ")[1]
    return [part.split()[0] for part in head.split(", ")]


def test_outcomes_look_different():
    signs = [sign for sign, _ in decisions.OUTCOMES.values()]
    assert all(a != b for a, b in itertools.combinations(signs, 2))
