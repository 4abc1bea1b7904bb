"""What all bases say of the claims: nettrain/replications.json, pooled and judged."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from nettrain.lab import pooling
from nettrain.lab.pooling import Bases, Levels, Pooled

SPEC = ("says", "measure", "margin", "unit", "predicts", "over", "factors")  # what a claim is
WAITING = "not replicated yet"
FEWEST = 4  # bases in every condition before there is a verdict


@cache
def kept() -> dict:
    """{"lectures": {name: ...}, "claims": {id: ...}}, as `make replicate` writes it."""
    return json.loads((files("nettrain") / "replications.json").read_text())


def spec(record: dict) -> str:
    """A hash of a claim as it is stated, with its factors' levels or its conditions' names."""
    over = record["over"] if isinstance(record["over"], str) else list(record["over"])
    stated = [record[part] for part in SPEC[:-2]] + [over, list(record["factors"])]
    levels = record.get("levels") or sorted(record["conditions"])
    text = json.dumps([*stated, levels])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def levels_of(condition: str) -> Levels:
    """The levels in the name of a condition: "SGD | cosine" has two, "" none."""
    return tuple(condition.split(" | ")) if condition else ()


def bases_of(claim: dict) -> dict[str, Bases]:
    """{condition: {base: (effect, error)}} of a claim; {} before each has met FEWEST bases."""
    found = {
        name: {int(b): (numbers[0], numbers[1]) for b, numbers in bases.items()}
        for name, bases in claim["conditions"].items()
    }
    return found if all(len(bases) >= FEWEST for bases in found.values()) else {}


@dataclass(frozen=True)
class Judged:
    """A claim's verdict and, for each condition, its bases, pooled effect and state.

    sensitivity  the verdict at half, once and twice the margin
    amended      how often the claim was changed after bases had been drawn for it
    """

    verdict: str
    bases: dict[str, Bases]
    pooled: dict[str, Pooled]
    states: dict[str, str]
    sensitivity: dict[float, str]
    amended: int

    @property
    def number(self) -> int:
        """The number of bases, in the condition that has fewest."""
        return min(map(len, self.bases.values()))


def judge(record: dict, found: dict | None = None) -> Judged | None:
    """What the bases in `found`, by default those in the package, say of a recorded claim.

    None for an exact claim, and for one that fewer than FEWEST bases have met as it is now stated.
    """
    claim = (found or kept())["claims"].get(record["id"])
    if "verdict" in record or claim is None or claim["spec"] != spec(record):
        return None
    if not (bases := bases_of(claim)):
        return None
    over, margin = record["over"], record["margin"]
    fixed = claim.get("fixed", False)
    how = {"factors": record["factors"], "predicts": record["predicts"], "fixed": fixed}
    how |= {"over": over} if isinstance(over, str) else {"over": "primary", "primary": tuple(over)}
    keyed = {levels_of(name): effects for name, effects in bases.items()}
    words = pooling.sensitivity(keyed, margin, **how)
    pooled = {k: pooling.pooled(*zip(*e.values(), strict=True), fixed) for k, e in bases.items()}
    states = {k: pooling.state(p, margin) for k, p in pooled.items()}
    return Judged(words[1.0], bases, pooled, states, words, claim["amended"])


def strength(said: Judged, condition: str, margin: float) -> tuple[float, int]:
    """(chance, number): how probably a new base falls on the side of the margin where the pooled
    effect lies, and how many bases did."""
    return pooling.strength(said.pooled[condition], margin)


def verdict(record: dict, found: dict | None = None) -> str:
    """The verdict in a word or a few: true or false for an exact claim, else what `judge` says."""
    if "verdict" in record:
        return record["verdict"]
    said = judge(record, found)
    return said.verdict if said else WAITING


def kind(verdict: str) -> str:
    """A verdict without its factor and its counts: "depends", "supported where settled"."""
    return "depends" if verdict.startswith("depends on") else verdict.split(" (")[0]


# ------------------------------------------------------------------------- over the whole book


def table(records: Mapping[str, dict], found: dict | None = None) -> pd.DataFrame:
    """A row for each condition of each claim that has been replicated.

    claim, verdict, condition, effect, low, high, tau, error (of one base, root mean square),
    bases, state, agree and chance (`pooling.strength`), p, at 0.5 and at 2 margins.
    """
    rows = []
    for name, record in sorted(records.items()):
        if not (said := judge(record, found)):
            continue
        for condition, p in said.pooled.items():
            errors = [e for _, e in said.bases[condition].values()]
            chance, agree = pooling.strength(p, record["margin"])
            row = {"claim": name, "verdict": said.verdict, "condition": condition}
            row |= {"effect": p.mean, "low": p.interval[0], "high": p.interval[1]}
            row |= {"tau": p.tau, "error": float(np.sqrt(np.mean(np.square(errors))))}
            row |= {"bases": len(errors), "state": said.states[condition], "agree": agree}
            row |= {"chance": chance, "p": pooling.p_of_state(p, record["margin"])}
            rows.append(row | {f"at {k:g} margins": said.sensitivity[k] for k in (0.5, 2.0)})
    return pd.DataFrame(rows)


def discoveries(found: pd.DataFrame, rate: float = 0.05) -> tuple[int, int]:
    """(settled conditions, those among them that keep the rate of false ones over the whole book).

    Benjamini & Hochberg 1995, on two-sided p values against the margin that the state is beyond.
    """
    p = found.loc[found["state"] != "degenerate", ["p", "state"]]
    kept = false_discovery_control(np.minimum(1, 2 * p["p"])) <= rate if len(p) else np.array([])
    settled = p["state"].isin(pooling.SETTLED)
    return int(settled.sum()), int((settled & kept).sum())


def dependences(records: Mapping[str, dict], found: dict | None = None) -> pd.DataFrame:
    """A row for each claim that depends on a factor: where it holds, and where it does not."""
    rows = []
    for name, record in sorted(records.items()):
        said = judge(record, found)
        if not said or kind(said.verdict) != "depends":
            continue
        factor = said.verdict.removeprefix("depends on ")
        place = list(record["factors"]).index(factor)
        wanted = "above" if record["predicts"] == "above" else "alike"
        bad = [s for s in pooling.SETTLED if s != wanted]
        settled = {k: s for k, s in said.states.items() if s == wanted or s in bad}
        sides = [[k for k, s in settled.items() if (s == wanted) == yes] for yes in (True, False)]
        levels = [dict.fromkeys(levels_of(k)[place] for k in side) for side in sides]
        if levels[0].keys() & levels[1].keys():  # another factor has a part in it, too
            levels = [[k.replace(" | ", ", ") for k in side] for side in sides]
        row = {"factor": factor, "claim": name}
        rows.append(row | dict(zip(("holds", "does not hold"), map("; ".join, levels))))
    columns = ["factor", "claim", "holds", "does not hold"]
    return pd.DataFrame(rows, columns=columns).sort_values(["factor", "claim"], ignore_index=True)
