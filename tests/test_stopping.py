"""Early stopping against its definitions, by brute force."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from torch.testing import assert_close

from nettrain import stopping

close = partial(assert_close, rtol=1e-12, atol=1e-14)


def gl(valid, t):
    return 100 * (valid[t - 1] / min(valid[:t]) - 1)


def pk(train, t, k):
    strip = train[t - k : t]
    return 1000 * (sum(strip) / (k * min(strip)) - 1)


def brute_gl(valid, alpha):
    return next((t for t in range(1, len(valid) + 1) if gl(valid, t) > alpha), None)


def brute_pq(valid, train, alpha, k):
    ends = range(k, len(valid) + 1, k)
    return next((t for t in ends if gl(valid, t) / pk(train, t, k) > alpha), None)


def brute_up(valid, s, k, t):
    """Prechelt's recursion: UP_s stops after t if UP_{s−1} stops after t − k and Eᵥ(t) rose."""
    if t < 2 * k or not valid[t - 1] > valid[t - k - 1]:
        return False
    return s == 1 or brute_up(valid, s - 1, k, t - k)


def brute_patience(valid, patience):
    for t in range(1, len(valid) + 1):
        if t - (valid[:t].index(min(valid[:t])) + 1) >= patience:
            return t
    return None


records = st.integers(0, 2**31).map(
    lambda seed: np.random.default_rng(seed).choice([1.0, 1.5, 1.7, 2.0, 2.1, 2.4], 40).tolist()
)


@given(valid=records, train=records, alpha=st.sampled_from([1.0, 30.0, 60.0, 500.0]))
def test_gl_and_pq_are_their_definitions(valid, train, alpha):
    close(stopping.generalization_loss(valid).tolist(), [gl(valid, t) for t in range(1, 41)])
    for k in (1, 3, 5):
        progress = stopping.training_progress(train, k=k)
        assert progress[: k - 1].isnan().all() and len(progress) == 40
        close(progress[k - 1 :].tolist(), [pk(train, t, k) for t in range(k, 41)])
    assert stopping.stop_gl(valid, alpha=alpha) == brute_gl(valid, alpha)
    falling = [x + 0.01 * t for t, x in enumerate(train)]  # no strip is constant, so no 0 / 0
    for k in (3, 5):
        for a in (alpha, alpha / 100):
            assert stopping.stop_pq(valid, falling, alpha=a, k=k) == brute_pq(valid, falling, a, k)


@given(valid=records, s=st.integers(1, 4), k=st.sampled_from([1, 2, 5]))
def test_up_and_patience_are_their_definitions(valid, s, k):
    brute = next((t for t in range(k, 41, k) if brute_up(valid, s, k, t)), None)
    assert stopping.stop_up(valid, s=s, k=k) == brute
    assert stopping.stop_patience(valid, patience=2 * s) == brute_patience(valid, 2 * s)


def test_every_criterion_can_stop_and_can_go_on():
    falls, turns = [1 / t for t in range(1, 31)], [abs(t - 10) + 5.0 for t in range(1, 31)]
    for stop in (
        partial(stopping.stop_gl, alpha=30),
        partial(stopping.stop_pq, train=falls, alpha=0.3),
        partial(stopping.stop_up, s=2),
        partial(stopping.stop_patience, patience=4),
    ):
        assert stop(falls) is None
        assert 10 < stop(turns) <= 20
        lost = falls[:12] + [math.nan] * 18
        at = stop(lost)
        assert at is not None and at >= 13


STOPS = {
    "gl": lambda valid: stopping.stop_gl(valid, alpha=5),
    "pq": lambda valid: stopping.stop_pq(
        valid, [1 / t for t in range(1, len(valid) + 1)], alpha=0.05, k=2
    ),
    "up": lambda valid: stopping.stop_up(valid, s=1, k=1),
    "patience": lambda valid: stopping.stop_patience(valid, patience=2),
}
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "valid, stops",
    [
        # one NaN or a first NaN, then the loss falls: a NaN is a rise, and later minima count
        ([3.0, NAN, 2.0, 1.5, 1.2, 1.0], {"gl": 2, "pq": 2, "up": 2, "patience": None}),
        ([3.0, 2.0, NAN, 1.5, 1.2, 1.0], {"gl": 3, "pq": None, "up": 3, "patience": None}),
        ([NAN, 3.0, 2.0, 1.5, 1.2, 1.0], {"gl": 1, "pq": None, "up": None, "patience": None}),
        ([3.0, 2.0, 1.0, NAN, NAN, NAN], {"gl": 4, "pq": 4, "up": 4, "patience": 5}),
        ([NAN] * 6, {"gl": 1, "pq": 2, "up": 2, "patience": 3}),
        # a loss of zero cannot be undercut, and everything is infinitely far above it
        ([1.0, 0.5, 0.0, 0.0, 0.0, 0.0], {"gl": None, "pq": None, "up": None, "patience": 5}),
        ([1.0, 0.0, 0.0, 1e-9, 0.0, 0.0], {"gl": 4, "pq": 4, "up": 4, "patience": 4}),
        (
            [1e300, 1e-300, 1e-308, 1e-308, 1e-308, 2e-308],
            {"gl": 6, "pq": 6, "up": 6, "patience": 5},
        ),
    ],
)
def test_losses_that_are_nan_infinite_or_zero(valid, stops):
    infinite = [INF if x != x else x for x in valid]
    assert {name: stop(valid) for name, stop in STOPS.items()} == stops
    assert {name: stop(infinite) for name, stop in STOPS.items()} == stops
    assert {name: stop(np.array(valid)) for name, stop in STOPS.items()} == stops


def test_losses_below_zero_are_for_up_and_patience():
    valid = [-10.0, -9.0, -5.0, -1.0, -0.5]
    assert stopping.stop_up(valid, s=2, k=1) == 3 and stopping.stop_patience(valid, patience=2) == 3
    assert (
        stopping.stop_up(valid[::-1], s=1, k=1)
        is None
        is stopping.stop_patience(valid[::-1], patience=1)
    )
    lost = [1.0, -INF, -INF, -INF]
    assert (
        stopping.stop_up(lost, s=1, k=1) is None and stopping.stop_patience(lost, patience=2) == 4
    )
    text = "{} is {} at evaluation {}; percentages need ≥ 0"
    for call, words in (
        (lambda: stopping.generalization_loss(valid), ("valid", -10, 1)),
        (lambda: stopping.stop_gl([3.0, -0.5], alpha=5), ("valid", -0.5, 2)),
        (lambda: stopping.stop_pq([3.0, 2.0], [1.0, -INF], alpha=5, k=1), ("train", "-inf", 2)),
        (lambda: stopping.training_progress([-1e-9], k=1), ("train", "-1e-09", 1)),
    ):
        refused(call, ValueError, text.format(*words))


def test_the_progress_of_unusual_training_losses():
    def progress(*train):
        return stopping.training_progress(train, k=3)[2:].tolist()

    assert progress(0.0, 0.0, 0.0) == [0] and progress(1.0, 0.0, 0.0) == [INF]
    for value in (0.1, 0.7, 1 / 3, 1e-300):  # a standstill, whatever the mean rounds to
        assert 0 <= progress(value, value, value)[0] < 1e-12
    for bad in (NAN, INF):
        assert np.isnan(progress(1.0, bad, 1.0, 1.0, 1.0)).tolist() == [True, True, False]
    rising = [1.0, 1.0, 1.0, 1.1, 1.1, 1.1]
    for train in ([0.7] * 6, [0.1] * 6, [0.0] * 6, [NAN] * 6):  # no progress: any rise is too much
        assert stopping.stop_pq(rising, train, alpha=1e6, k=3) == 6
        assert (
            stopping.stop_pq(rising[::-1], train, alpha=1e-6, k=3) is None
        )  # but a minimum is not
    assert stopping.stop_pq(rising, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0], alpha=1e-6, k=3) is None


@given(valid=records, train=records, cut=st.integers(1, 40))
def test_what_comes_later_does_not_change_a_stop(valid, train, cut):
    for stop in (
        lambda n: stopping.stop_gl(valid[:n], alpha=50),
        lambda n: stopping.stop_pq(valid[:n], train[:n], alpha=0.3),
        lambda n: stopping.stop_up(valid[:n], s=2, k=3),
        lambda n: stopping.stop_patience(valid[:n], patience=5),
    ):
        end = stop(40)
        assert stop(cut) == (end if end is not None and end <= cut else None)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: stopping.stop_gl([1.0], alpha=0), "alpha=0 is outside (0, inf)"),
        (lambda: stopping.stop_pq([1.0], [1.0], alpha=math.nan), "alpha=nan is outside (0, inf)"),
        (
            lambda: stopping.stop_pq([1.0], [1.0, 2.0], alpha=1),
            "1 validation and 2 training losses do not pair",
        ),
        (lambda: stopping.stop_up([1.0], s=0), "s=0 is not one of 1, 2, 3, ..."),
        (lambda: stopping.stop_up([1.0], s=1, k=2.5), "k=2.5 is not one of 1, 2, 3, ..."),
        (
            lambda: stopping.stop_patience([1.0], patience=-1),
            "patience=-1 is not one of 1, 2, 3, ...",
        ),
        (lambda: stopping.stop_gl([], alpha=1), "valid has shape [0]; give losses [T], T ≥ 1"),
    ],
)
def test_bad_records_and_parameters_are_refused_by_name(call, text):
    refused(call, ValueError, text)
