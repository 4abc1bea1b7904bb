"""The effects of several bases as one statement: a mean with an interval, a state, a verdict.

A base redraws everything that an experiment draws: which examples train, validate and test, the
tuning and so the rates, tables, teachers and searches. Its effect has a standard error from its own
seeds; the bases differ by more than that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

LEVEL = 0.95  # of every interval; a state is proven one-sided at (1 − LEVEL) / 2

Bases = Mapping[int, tuple[float, float]]  # {base: (effect, standard error)}
Levels = tuple[str, ...]  # one level of each factor


@dataclass(frozen=True)
class Pooled:
    """Effects eₖ ~ N(mean, τ² + sₖ²) of K bases: their mean, its standard error, τ.

    degenerate  every effect is 0 with error 0: both arms are the same numbers
    """

    mean: float
    error: float
    tau: float
    effects: tuple[float, ...]
    degenerate: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """mean ± t error, with K − 1 degrees of freedom."""
        return self._around(self.error)

    def prediction(self, error: float = 0.0) -> tuple[float, float]:
        """Where a further base's effect lies, if its own seeds give it this standard error.

        mean ± t √(τ² + s² + s_mean²), with K − 1 degrees of freedom. Higgins et al. 2009.
        """
        return self._around(math.hypot(self.tau, error, self.error))

    def _around(self, error: float) -> tuple[float, float]:
        half = student.ppf((1 + LEVEL) / 2, len(self.effects) - 1) * error
        return self.mean - half, self.mean + half

    def chance(self, bound: float, *, above: bool = True) -> float:
        """The probability that a further base's true effect lies beyond a bound."""
        spread = math.hypot(self.tau, self.error)
        if spread == 0:
            return float(self.mean > bound if above else self.mean < bound)
        z = (self.mean - bound) / spread
        return float(student.cdf(z if above else -z, len(self.effects) - 1))

    def p(self, bound: float, *, above: bool) -> float:
        """The one-sided p value against the mean lying at the bound or on its other side."""
        if self.error == 0:
            return float(not (self.mean > bound if above else self.mean < bound))
        z = (self.mean - bound) / self.error
        return float(student.sf(z if above else -z, len(self.effects) - 1))


def pooled(effects: Sequence[float], errors: Sequence[float], fixed: bool = False) -> Pooled:
    """Random effects over bases, with an interval by Hartung and Knapp.

        wₖ = 1 / (τ² + sₖ²),   mean = Σ wₖ eₖ / Σ wₖ,   Σ wₖ (eₖ − mean)² = K − 1
        s_mean² = max(1, Σ wₖ (eₖ − mean)² / (K − 1)) / Σ wₖ

    fixed  the effects are differences from a fixed number, not between two arms: never degenerate

    A base whose pairs all agree would count as certain and outweigh all others. Its error is taken
    to be the root mean square of theirs, unless all bases have the same effect.

    τ ≥ 0 solves the third equation, or is 0. Paule & Mandel 1982; Hartung & Knapp 2001, with the
    factor of Röver et al. 2015. Raises ValueError for fewer than two bases, for numbers that are
    not finite and for errors below zero.
    """
    e, s = np.asarray(effects, dtype=float), np.asarray(errors, dtype=float)
    if e.ndim != 1 or e.shape != s.shape or len(e) < 2:
        raise ValueError(f"{e.shape} effects and {s.shape} errors; give two or more of each")
    if not (np.isfinite(e).all() and np.isfinite(s).all() and (s >= 0).all()):
        raise ValueError(f"effects={e}, errors={s} must be finite, errors not below zero")
    count, spread = len(e) - 1, float(np.ptp(e))
    if spread == 0 and not s.all():  # some base is certain, and none disagrees
        return Pooled(float(e[0]), 0.0, 0.0, tuple(map(float, e)), bool(not fixed and e[0] == 0))

    if not s.all() and s.any():
        s = np.where(s > 0, s, np.sqrt(np.mean(s[s > 0] ** 2)))

    def weighted(tau):
        w = 1 / (tau**2 + s**2)
        mean = w @ e / w.sum()
        return w, mean, w @ (e - mean) ** 2 / count

    least = 0.0 if s.all() else 1e-9 * spread  # certain bases would have infinite weight
    excess = lambda tau: weighted(tau)[2] - 1
    tau = brentq(excess, least, spread, xtol=1e-14 * spread) if excess(least) > 0 else least
    w, mean, factor = weighted(tau)
    error = math.sqrt(max(1.0, factor) / w.sum())
    return Pooled(float(mean), error, float(tau), tuple(map(float, e)))


# ------------------------------------------------------------------------- one condition


def state(found: Pooled, margin: float) -> str:
    """What an interval says: above, below, alike; leans +, leans −; open; or degenerate."""
    return "degenerate" if found.degenerate else place(*found.interval, margin)


def place(low: float, high: float, margin: float) -> str:
    """Where an interval lies: above or below the margins, alike inside them, or undecided."""
    if low > margin:
        return "above"
    if high < -margin:
        return "below"
    if -margin <= low and high <= margin:
        return "alike"
    return "leans +" if low > 0 else "leans −" if high < 0 else "open"


SETTLED = ("above", "below", "alike")


def p_of_state(found: Pooled, margin: float) -> float:
    """The p value of the state that the mean points to."""
    above, below = found.p(margin, above=True), found.p(-margin, above=False)
    alike = max(found.p(margin, above=False), found.p(-margin, above=True))
    return min(above, below, alike)


def strength(found: Pooled, margin: float) -> tuple[float, int]:
    """(the chance that a new base falls on the same side of the margin, how many bases did).

    The sides are above +margin, below −margin, and between.
    """
    if found.mean > margin:
        return found.chance(margin), sum(e > margin for e in found.effects)
    if found.mean < -margin:
        return found.chance(-margin, above=False), sum(e < -margin for e in found.effects)
    between = found.chance(-margin) - found.chance(margin)
    return between, sum(-margin <= e <= margin for e in found.effects)


# ------------------------------------------------------------------------------ one claim


def verdict(
    conditions: Mapping[Levels, Bases],
    margin: float,
    *,
    factors: Sequence[str] = ("condition",),
    over: str = "all",
    primary: Levels | None = None,
    predicts: str = "above",
    fixed: bool = False,
) -> str:
    """The verdict on a claim that its measure lies above +margin, from the bases of each condition.

        supported              all conditions above (over="some": one, after Holm)
        contradicted           all below
        no difference that matters            all alike
        refuted                none above, all settled
        supported where settled (k of m)      some above, none settled otherwise
        nowhere supported (k of m)            none above, k settled
        depends on F           one above, one settled otherwise, both after Holm, and the contrast
                               between these levels of F, paired within bases, excludes zero
        open                   else

    conditions  keyed by one level of each factor
    over        "all"; "some", for a claim that there is a case; "primary", for one condition
    predicts    "above", or "within" for the claim that the two sides are alike
    fixed       as in `pooled`

    A degenerate condition is left out. Raises ValueError for other words, for
    keys of another length than `factors`, and for a primary condition that is not there.
    """
    if over not in ("all", "some", "primary") or predicts not in ("above", "within"):
        raise ValueError(f"over={over!r}, predicts={predicts!r}: all, some, primary; above, within")
    if wrong := [key for key in conditions if len(key) != len(factors)]:
        raise ValueError(f"{wrong[0]} does not name one level for each of {tuple(factors)}")
    if over == "primary":
        if primary not in conditions:
            raise ValueError(f"primary={primary} is not among {list(conditions)}")
        conditions = {primary: conditions[primary]}
    found = {
        k: pooled(*zip(*bases.values(), strict=True), fixed) for k, bases in conditions.items()
    }
    states = {key: state(p, margin) for key, p in found.items() if not p.degenerate}
    yes, no = ("above", ("below", "alike")) if predicts == "above" else ("alike", SETTLED[:2])
    good = [key for key, word in states.items() if word == yes]
    bad = [key for key, word in states.items() if word in no]
    kinds, m = {states[key] for key in good + bad}, len(states)
    proven = _after_holm({key: p_of_state(found[key], margin) for key in states})
    if over == "some" and proven & set(good):
        return "supported"
    if m and len(good) + len(bad) == m and len(kinds) == 1:
        if good:
            return "supported"
        return "no difference that matters" if kinds == {"alike"} else "contradicted"
    if good and bad:
        pairs = [(a, b) for a in good for b in bad if {a, b} <= proven]
        factor = next(filter(None, (_contrast(conditions, factors, *p) for p in pairs)), None)
        return f"depends on {factor}" if factor else "open"
    if bad:
        return "refuted" if len(bad) == m else f"nowhere supported ({len(bad)} of {m})"
    return f"supported where settled ({len(good)} of {m})" if good else "open"


def _after_holm(p: dict[Levels, float]) -> set[Levels]:
    """The conditions whose state is proven when all of a claim are looked at. Holm 1979."""
    order, proven = sorted(p, key=p.get), set()
    for k, key in enumerate(order):
        if p[key] > (1 - LEVEL) / 2 / (len(order) - k):
            break
        proven.add(key)
    return proven


def _contrast(conditions, factors, one: Levels, other: Levels) -> str | None:
    """The factor in which alone two conditions differ, if their paired difference excludes zero."""
    differ = [f for f, a, b in zip(factors, one, other, strict=True) if a != b]
    bases = sorted(conditions[one].keys() & conditions[other].keys())
    if len(differ) != 1 or len(bases) < 3:
        return None
    d = np.array([conditions[one][b][0] - conditions[other][b][0] for b in bases])
    half = student.ppf((1 + LEVEL) / 2, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return differ[0] if abs(d.mean()) > half else None


def sensitivity(conditions: Mapping[Levels, Bases], margin: float, **how) -> dict[float, str]:
    """The verdict at half, once and twice the margin."""
    return {k: verdict(conditions, k * margin, **how) for k in (0.5, 1.0, 2.0)}
