"""Effects pooled over bases: statsmodels, exact laws, simulation of the protocol's promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp, ttest_rel
from statsmodels.stats.meta_analysis import combine_effects

from nettrain.lab import pooling
from nettrain.lab.pooling import Pooled, pooled, sensitivity, state, strength, verdict

EXAMPLES = [
    ([1.0, 2.0, 3.0, 4.0, 6.0], [0.5, 0.4, 0.6, 0.5, 0.9]),
    ([-0.2, 0.3, 0.1], [1.0, 2.0, 1.5]),  # less spread than the errors: τ = 0
    ([8.1, 5.2, 9.9, 7.0, 6.4, 8.8], [0.1, 0.1, 0.2, 0.1, 0.1, 0.3]),
    ([1e-9, 3e-9], [1e-10, 2e-10]),
]


@pytest.mark.parametrize("effects, errors", EXAMPLES)
def test_tau_mean_and_error_are_statsmodels(effects, errors):
    e, variance = np.array(effects), np.square(errors)
    peer = combine_effects(e, variance, method_re="iterated", use_t=True)
    found = pooled(effects, errors)
    assert found.mean == pytest.approx(peer.mean_effect_re, rel=1e-5)
    assert found.tau**2 == pytest.approx(peer.tau2, rel=1e-4, abs=1e-9 * variance.max())
    # its factor may be below one: then the interval would say more than the errors allow
    error = max(peer.sd_eff_w_re_hksj, peer.sd_eff_w_re)
    assert found.error == pytest.approx(error, rel=1e-4)
    low, high = found.interval
    half = student.ppf(0.975, len(e) - 1) * error
    assert (low, high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-3)


def test_equal_errors_give_students_interval_of_the_effects():
    effects = np.array([1.0, 4.0, 2.0, 8.0])
    found = pooled(effects, [0.1] * 4)
    half = student.ppf(0.975, 3) * effects.std(ddof=1) / 2
    assert found.interval == pytest.approx((3.75 - half, 3.75 + half), rel=1e-9)
    assert found.tau == pytest.approx(math.sqrt(effects.var(ddof=1) - 0.01), rel=1e-9)


@pytest.mark.parametrize("unit", [1e-13, 1e13])
def test_tau_does_not_know_the_unit(unit):
    effects, errors = EXAMPLES[0]
    found = pooled([unit * e for e in effects], [unit * s for s in errors])
    assert found.tau / unit == pytest.approx(pooled(effects, errors).tau, rel=1e-9)


def test_certain_bases_have_students_interval_too():
    assert pooled([1.0, 2.0, 4.0], [0.0] * 3).interval == pytest.approx(
        pooled([1.0, 2.0, 4.0], [1e-7] * 3).interval, rel=1e-6
    )


def test_a_base_whose_pairs_all_agree_does_not_outweigh_the_others():
    effects = [1.0, 1.3, 0.8, 1.1]
    alone = pooled(effects, [0.0, 0.3, 0.4, 0.5])
    assert alone == pooled(effects, [(0.5 / 3) ** 0.5, 0.3, 0.4, 0.5])
    assert alone.interval[1] - alone.interval[0] > 0.5
    agreed = pooled([1.0] * 3, [0.0, 0.3, 0.4])
    assert agreed.interval == (1.0, 1.0) and not agreed.degenerate


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 10)), min_size=2, max_size=9),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_units_order_and_origin_do_not_matter(bases, shift, scale):
    e, s = map(np.array, zip(*bases))
    one, other = pooled(e, s), pooled(scale * (e[::-1] + shift), scale * s[::-1])
    size = scale * (1 + abs(e).max() + abs(shift))
    assert other.mean == pytest.approx(scale * (one.mean + shift), rel=1e-6, abs=1e-9 * size)
    # near its threshold τ is a root: it knows fewer digits than the numbers it is made of
    assert other.tau == pytest.approx(scale * one.tau, rel=1e-4, abs=1e-6 * size)
    assert min(e) - 1e-9 <= one.mean <= max(e) + 1e-9


@pytest.mark.parametrize(
    "effects, errors, message",
    [
        ([1.0], [0.1], r"\(1,\) effects and \(1,\) errors; give two or more of each"),
        ([1.0, 2.0], [0.1], r"\(2,\) effects and \(1,\) errors"),
        ([1.0, math.nan], [0.1, 0.1], "must be finite"),
        ([1.0, 2.0], [0.1, -0.1], "errors not below zero"),
    ],
)
def test_what_cannot_be_pooled_is_refused(effects, errors, message):
    with pytest.raises(ValueError, match=message):
        pooled(effects, errors)


# ------------------------------------------------------------------------------ simulation


def simulated(rng, k, tau, truth=1.0, se=1.0, pairs=16):
    """K bases around a truth; their errors are estimated from so many pairs, as in use."""
    estimated = se * np.sqrt(rng.chisquare(pairs - 1, k) / (pairs - 1))
    return truth + tau * rng.standard_normal(k) + se * rng.standard_normal(k), estimated


@pytest.mark.parametrize("k", [4, 6, 12])
@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_95_percent_intervals_cover_95_percent(k, tau):
    """And the next base's effect. With τ = 0 the interval is wider than it would have to be."""
    rng, trials = np.random.default_rng(k), 1500
    covered = next_one = 0
    for _ in range(trials):
        found = pooled(*simulated(rng, k, tau))
        low, high = found.interval
        covered += low <= 1.0 <= high
        effect, error = (x[0] for x in simulated(rng, 1, tau))
        low, high = found.prediction(error)
        next_one += low <= effect <= high
    noise = 2.5 * math.sqrt(0.05 * 0.95 / trials)
    assert covered / trials > 0.95 - 0.005 - noise
    assert next_one / trials > 0.93 - noise
    assert covered / trials < (0.999 if tau == 0 else 0.985)


def test_depends_is_hardly_ever_said_where_nothing_depends():
    rng, wrong, trials = np.random.default_rng(0), 0, 600
    for _ in range(trials):
        truth = rng.choice([0.0, 1.0, 2.0])
        conditions = {
            (data, budget): dict(enumerate(zip(*simulated(rng, 6, 1.0, truth=truth, se=0.5))))
            for data in ("digits", "fashion")
            for budget in ("1", "5")
        }
        wrong += "depends" in verdict(conditions, 1.0, factors=("data", "budget"))
    assert wrong / trials <= 0.05


# ------------------------------------------------------------------- states and their strength


def exactly(mean, error=0.1, k=6):
    """Bases whose mean and its error are these, with τ = 0."""
    around = np.linspace(-1, 1, k) * 1e-3 * error
    return {b: (mean + x, error * math.sqrt(k)) for b, x in enumerate(around)}


def of(bases):
    return pooled(*zip(*bases.values()))


HALF = student.ppf(0.975, 5) * 0.1  # of the interval of `exactly`
STATES = [
    (1 + 1.01 * HALF, "above"),
    (1 + 0.99 * HALF, "leans +"),
    (1 - 1.01 * HALF, "alike"),
    (1.01 * HALF, "alike"),
    (-1 - 1.01 * HALF, "below"),
    (-1.0, "leans −"),
]


@pytest.mark.parametrize("mean, word", STATES)
def test_the_state_of_an_interval_against_a_margin(mean, word):
    assert state(of(exactly(mean)), 1.0) == word


@pytest.mark.parametrize("mean, word", [(2.6, "leans +"), (-2.6, "leans −"), (2.5, "open")])
def test_an_interval_wider_than_the_margins(mean, word):
    assert state(of(exactly(mean, error=1.0)), 1.0) == word


def test_without_a_margin_nothing_is_alike():
    assert state(of(exactly(0.0)), 0.0) == "open"
    assert state(of(exactly(0.3)), 0.0) == "above"


def test_two_arms_of_the_same_numbers_are_not_certainty():
    same = pooled([0.0] * 4, [0.0] * 4)
    assert same.degenerate and state(same, 1.0) == "degenerate"
    certain = pooled([2.0] * 4, [0.0] * 4)
    assert not certain.degenerate and state(certain, 1.0) == "above"


def test_the_strength_is_the_chance_of_the_next_base():
    effects, rng = [1.5, 2.5, 0.5, 3.0], np.random.default_rng(0)
    found = pooled(effects, [0.0] * 4)
    chance, agree = strength(found, 1.0)
    spread = math.sqrt(np.var(effects, ddof=1) * 5 / 4)  # of a next one around their mean
    drawn = np.mean(effects) + spread * rng.standard_t(3, 200_000)
    assert chance == pytest.approx((drawn > 1).mean(), abs=0.004) and agree == 3
    mirrored = strength(pooled([-e for e in effects], [0.0] * 4), 1.0)
    assert mirrored == (pytest.approx(chance, rel=1e-9), 3)
    between = strength(found, 4.0)
    assert between == (pytest.approx((abs(drawn) <= 4).mean(), abs=0.004), 4)
    certain = pooled([2.0] * 3, [0.0] * 3)
    assert strength(certain, 1.0) == (1.0, 3)
    assert [certain.chance(2.0, above=side) for side in (True, False)] == [0, 0]
    assert strength(pooled([1.0, 2.0, 3.0], [0.1] * 3), 1.0)[1] == 2  # at the margin is not above


# ---------------------------------------------------------------------------------- verdicts

UP, LEANS, SAME, DOWN, OPEN = 2.0, 1.1, 0.0, -2.0, None
NOTHING = {b: (0.0, 0.0) for b in range(6)}


def claim(*means, same=0):
    """Conditions of one factor, with a margin of 1."""
    bases = [exactly(0.5, error=1.0) if m is None else exactly(m) for m in means]
    return {(f"c{k}",): b for k, b in enumerate([*bases, *[NOTHING] * same])}


@pytest.mark.parametrize(
    "conditions, how, word",
    [
        (claim(UP, UP), {}, "supported"),
        (claim(UP, UP, same=2), {}, "supported"),
        (claim(DOWN, DOWN), {}, "contradicted"),
        (claim(SAME, SAME), {}, "no difference that matters"),
        (claim(SAME, DOWN), {}, "refuted"),
        (claim(UP, OPEN, LEANS), {}, "supported where settled (1 of 3)"),
        (claim(DOWN, OPEN, SAME), {}, "nowhere supported (2 of 3)"),
        (claim(OPEN, LEANS), {}, "open"),
        (claim(same=2), {}, "open"),
        (claim(UP, SAME), {}, "depends on condition"),
        (claim(UP, DOWN, OPEN), {}, "depends on condition"),
        (claim(UP, SAME), {"over": "some"}, "supported"),
        (claim(SAME, SAME), {"over": "some"}, "no difference that matters"),
        (claim(DOWN, SAME), {"over": "some"}, "refuted"),
        (claim(LEANS, OPEN), {"over": "some"}, "open"),
        (claim(UP, DOWN), {"over": "primary", "primary": ("c1",)}, "contradicted"),
        (claim(UP, OPEN), {"over": "primary", "primary": ("c0",)}, "supported"),
        (claim(SAME, SAME), {"predicts": "within"}, "supported"),
        (claim(UP, UP), {"predicts": "within"}, "contradicted"),
        (claim(UP, DOWN), {"predicts": "within"}, "refuted"),
        (claim(SAME, UP), {"predicts": "within"}, "depends on condition"),
        (claim(SAME, OPEN), {"predicts": "within"}, "supported where settled (1 of 2)"),
    ],
)
def test_the_verdict_over_conditions(conditions, how, word):
    assert verdict(conditions, 1.0, **how) == word


def test_depends_names_the_factor_that_the_conditions_differ_in():
    conditions = {
        ("digits", "short"): exactly(UP),
        ("digits", "long"): exactly(SAME),
        ("fashion", "short"): exactly(LEANS),
        ("fashion", "long"): exactly(LEANS),
    }
    factors = ("data", "budget")
    assert verdict(conditions, 1.0, factors=factors) == "depends on budget"
    crossed = {k: conditions[k] for k in [("digits", "short")]}
    crossed |= {("fashion", "long"): exactly(SAME)}
    assert verdict(crossed, 1.0, factors=factors) == "open"  # by which of the two, nobody knows


def test_depends_needs_a_contrast_that_is_paired_within_bases():
    """Two conditions, settled on both sides, whose difference is another one in every base."""
    one = {b: (1.3 + 0.02 * b, 0.3) for b in range(6)}
    other = {b + 100: (0.0, 0.3) for b in range(6)}  # no base in common: nothing is paired
    assert verdict({("a",): one, ("b",): other}, 1.0) == "open"
    paired = {b: (0.0, 0.3) for b in range(6)}
    assert verdict({("a",): one, ("b",): paired}, 1.0) == "depends on condition"


@pytest.mark.parametrize("k", [2, 3, 4, 6, 9])
def test_the_contrast_of_two_conditions_is_students_paired_one(k):
    rng, found = np.random.default_rng(k), set()
    for _ in range(200):
        one, other = (dict(enumerate(zip(rng.normal(size=k), [0.1] * k))) for _ in range(2))
        conditions = {("a", "x"): one, ("b", "x"): other}
        named = pooling._contrast(conditions, ("data", "budget"), *conditions)
        p = ttest_rel([e for e, _ in one.values()], [e for e, _ in other.values()]).pvalue
        assert named == ("data" if k >= 3 and p < 0.05 else None)
        found.add(named)
    assert found == {None, "data"} or k == 2


@pytest.mark.parametrize("effects", [[1.0, 2.0, 4.0], [0.3, -0.1, 0.2, 0.6, 0.1]])
def test_a_p_value_is_students_one_sided_one(effects):
    found = pooled(effects, [1e-9] * len(effects))
    for bound in (-1.0, 0.2, 1.5):
        for above, alternative in ((True, "greater"), (False, "less")):
            expected = ttest_1samp(effects, bound, alternative=alternative).pvalue
            assert found.p(bound, above=above) == pytest.approx(expected, rel=1e-6)
    certain = pooled([2.0] * 3, [0.0] * 3)
    for bound, p in ((1.0, (0, 1)), (2.0, (1, 1)), (3.0, (1, 0))):  # at the bound: beyond neither
        assert (certain.p(bound, above=True), certain.p(bound, above=False)) == p


def test_some_of_many_conditions_is_held_to_holms_standard():
    """One condition at p = 0.02 is proven alone, and not as the best of ten."""
    mean = 1 + student.isf(0.02, 5) * 0.1
    alone, best = claim(mean), claim(mean, *[OPEN] * 9)
    assert verdict(alone, 1.0, over="some") == "supported"
    assert verdict(best, 1.0, over="some") == "supported where settled (1 of 10)"


def test_the_verdict_at_half_and_twice_the_margin():
    found = sensitivity(claim(1.6, 1.7), 1.0)
    assert found == {0.5: "supported", 1.0: "supported", 2.0: "no difference that matters"}
    larger = sensitivity(claim(1.6, 1.7), 2.0)
    assert list(larger.values()) == ["supported", *["no difference that matters"] * 2]


@pytest.mark.parametrize(
    "how, message",
    [
        ({"over": "most"}, "over='most'.*all, some, primary"),
        ({"predicts": "below"}, "predicts='below'"),
        ({"factors": ("data", "budget")}, r"\('c0',\) does not name one level for each of"),
        ({"over": "primary", "primary": ("x",)}, r"primary=\('x',\) is not among"),
    ],
)
def test_a_claim_that_is_not_well_stated_is_refused(how, message):
    with pytest.raises(ValueError, match=message):
        verdict(claim(UP, UP), 1.0, **how)


def test_a_pooled_effect_is_a_value():
    assert pooled([1, 2], [1, 1]) == pooled([1, 2], [1, 1])
    assert isinstance(pooled([1, 2], [1, 1]), Pooled)
