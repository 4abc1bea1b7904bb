"""Penalties, weight decay and early stopping against closed forms, scikit-learn and brute force."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from sweep_law import assert_law
from torch.testing import assert_close

from nettrain import data, penalties, stopping
from nettrain.lab.adapter import Optimizer
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.optimizers import RULES, adam, adamw, hyperparameters, momentum, rmsprop, sgd

close = partial(assert_close, rtol=1e-12, atol=1e-14)
seeds = st.integers(0, 2**31)


def normal(seed, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------- penalties

SLOPES = [  # penalty, its strengths, its value at one coordinate, its slope there
    (penalties.l1, {"lam1": 0.3}, lambda x: 0.3 * abs(x), lambda x: 0.3 * np.sign(x)),
    (
        penalties.l1_smooth,
        {"lam1": 0.3, "smooth": 0.04},
        lambda x: 0.3 * math.sqrt(x * x + 0.04),
        lambda x: 0.3 * x / math.sqrt(x * x + 0.04),
    ),
    (penalties.l2, {"lam2": 0.3}, lambda x: 0.15 * x * x, lambda x: 0.3 * x),
    (
        penalties.elastic_net,
        {"lam1": 0.3, "lam2": 0.5},
        lambda x: 0.3 * abs(x) + 0.25 * x * x,
        lambda x: 0.3 * np.sign(x) + 0.5 * x,
    ),
]
each_penalty = pytest.mark.parametrize(
    "penalty, lam, value, slope", SLOPES, ids=[p.__name__ for p, *_ in SLOPES]
)


@each_penalty
@given(seed=seeds)
def test_value_and_gradient_of_a_penalty(penalty, lam, value, slope, seed):
    theta = normal(seed, 7)
    theta[3] = 0
    close(penalty(theta, **lam).item(), sum(value(x) for x in theta.tolist()))
    gradient = torch.func.grad(penalty)(theta, **lam)
    close(gradient, torch.tensor([slope(x) for x in theta.tolist()], dtype=torch.float64))


@given(seed=seeds, smooth=st.floats(1e-12, 1.0))
def test_the_smooth_l1_lies_above_l1_by_at_most_the_root_of_eps_a_coordinate(seed, smooth):
    theta = normal(seed, 50)
    gap = (
        penalties.l1_smooth(theta, lam1=1.0, smooth=smooth) - penalties.l1(theta, lam1=1.0)
    ).item()
    assert 0 < gap < 50 * math.sqrt(smooth)
    zero = penalties.l1_smooth(torch.zeros(50, dtype=torch.float64), lam1=1.0, smooth=smooth)
    close(zero.item(), 50 * math.sqrt(smooth))


# ---------------------------------------------------- on a linear problem, against scikit-learn

N, D = 80, 12
X = normal(1, N, D) @ (torch.eye(D, dtype=torch.float64) + 0.1 * normal(2, D, D))
Y = X @ torch.where(torch.arange(D) < 4, 2.0, 0.0).double() + 0.5 * normal(3, N)


def slope(theta):
    """Gradient of (1 / 2n) ‖y − Xθ‖²."""
    return X.T @ (X @ theta - Y) / N


def descend(rule, steps=2000, **hyper):
    lr = 1 / torch.linalg.eigvalsh(X.T @ X / N).max().item()
    theta, state = torch.zeros(D, dtype=torch.float64), []
    for t in range(1, steps + 1):
        theta, *state = rule(theta, slope(theta), *state, t=t, lr=lr, **hyper)
    return theta


@pytest.mark.parametrize("lam2", [1e-3, 0.1, 5.0])
def test_ridge_is_that_of_scikit_learn_and_where_descent_with_l2_ends(lam2):
    twin = Ridge(alpha=N * lam2, fit_intercept=False).fit(X.numpy(), Y.numpy())
    ours = penalties.ridge(X, Y, lam2=lam2)
    close(ours, torch.as_tensor(twin.coef_), rtol=1e-9)
    gradient = slope(ours) + torch.func.grad(penalties.l2)(ours, lam2=lam2)
    assert gradient.abs().max() < 1e-12
    lr = 1 / (torch.linalg.eigvalsh(X.T @ X / N).max().item() + lam2)
    theta = torch.zeros(D, dtype=torch.float64)
    for t in range(1, 2001):
        (theta,) = penalties.penalized(sgd, penalties.l2)(
            theta, slope(theta), t=t, lr=lr, lam2=lam2
        )
    close(theta, ours, rtol=0, atol=1e-8)


@pytest.mark.parametrize("lam1, lam2", [(0.1, 0.0), (1.0, 0.0), (0.1, 0.05), (0.8, 0.4)])
def test_elastic_net_is_that_of_scikit_learn(lam1, lam2):
    alpha = lam1 + lam2
    how = dict(fit_intercept=False, tol=1e-14, max_iter=100_000)
    model = ElasticNet(alpha=alpha, l1_ratio=lam1 / alpha, **how) if lam2 else Lasso(lam1, **how)
    twin = torch.as_tensor(model.fit(X.numpy(), Y.numpy()).coef_)
    ours = descend(penalties.penalized(penalties.ista, penalties.l2), lam1=lam1, lam2=lam2)
    close(ours, twin, rtol=0, atol=1e-8)
    assert torch.equal(ours == 0, twin == 0) and (lam1 < 0.1 or (twin == 0).any())

    def objective(theta):
        loss = (Y - X @ theta).square().sum() / (2 * N)
        return (loss + penalties.elastic_net(theta, lam1=lam1, lam2=lam2)).item()

    best = objective(ours)
    assert all(best < objective(ours + 1e-3 * normal(k, D)) for k in range(100))


@given(x=st.floats(-5, 5), width=st.floats(0, 3))
def test_the_soft_threshold_is_the_minimizer_that_it_is_said_to_be(x, width):
    grid = torch.linspace(-5, 5, 20_001, dtype=torch.float64)
    best = grid[(0.5 * (grid - x) ** 2 + width * grid.abs()).argmin()].item()
    assert (
        abs(penalties.soft_threshold(torch.tensor(x, dtype=torch.float64), width).item() - best)
        < 1e-3
    )


# ------------------------------------------------------------------- penalties in update rules


def test_a_penalized_rule_takes_the_gradient_of_loss_and_penalty(path):
    rule = penalties.penalized(adam, penalties.elastic_net)
    assert hyperparameters(rule) == hyperparameters(adam) | {"lam1": 1e-3, "lam2": 1e-3}
    theta = torch.nn.Parameter(normal(4, D))
    opt, points = torch.optim.Adam([theta], lr=0.05), [theta.detach().clone()]
    for _ in range(60):
        opt.zero_grad()
        loss = (Y - X @ theta).square().sum() / (2 * N)
        (loss + 0.2 * theta.abs().sum() + 0.35 * theta.square().sum()).backward()
        opt.step()
        points.append(theta.detach().clone())
    mine, _ = path(rule, lambda x, t: slope(x), normal(4, D), 60, lr=0.05, lam1=0.2, lam2=0.7)
    assert_close(mine, torch.stack(points), rtol=0, atol=1e-10)


TWINS = [  # torch's weight_decay is an l2 penalty, but in AdamW
    (penalties.penalized(sgd, penalties.l2), {"lam2": 0.3}, torch.optim.SGD, {}),
    (
        penalties.penalized(momentum, penalties.l2),
        {"lam2": 0.3},
        torch.optim.SGD,
        {"momentum": 0.9},
    ),
    (penalties.penalized(adam, penalties.l2), {"lam2": 0.3}, torch.optim.Adam, {}),
    (penalties.penalized(rmsprop, penalties.l2), {"lam2": 0.3}, torch.optim.RMSprop, {}),
    (penalties.decayed(sgd), {"decay": 0.3}, torch.optim.SGD, {}),
    (penalties.decayed(adam), {"decay": 0.3}, torch.optim.AdamW, {}),
]


@pytest.mark.parametrize("rule, lam, twin, how", TWINS, ids=[t[0].__name__ for t in TWINS])
def test_the_weight_decay_of_torch(path, rule, lam, twin, how):
    theta = torch.nn.Parameter(normal(4, D))
    opt, points = twin([theta], lr=0.02, weight_decay=0.3, **how), [theta.detach().clone()]
    for _ in range(100):
        theta.grad = slope(theta.detach())
        opt.step()
        points.append(theta.detach().clone())
    mine, _ = path(rule, lambda x, t: slope(x), normal(4, D), 100, lr=0.02, **lam)
    assert_close(mine, torch.stack(points), rtol=0, atol=1e-10)


def test_decayed_adam_is_adamw_to_the_last_bit(path):
    args = (lambda x, t: slope(x), normal(4, D), 50)
    ours, twin = (
        path(rule, *args, lr=0.02, decay=0.3)[0] for rule in (penalties.decayed(adam), adamw)
    )
    assert torch.equal(ours, twin)


@pytest.mark.parametrize("rule", [x for x in RULES if x is not adamw], ids=lambda x: x.__name__)
def test_without_strength_every_rule_is_itself(path, rule):
    args = (lambda x, t: slope(x), normal(4, D), 20)
    plain = path(rule, *args)[0]
    assert torch.equal(
        path(penalties.penalized(rule, penalties.elastic_net), *args, lam1=0.0, lam2=0.0)[0], plain
    )
    assert torch.equal(path(penalties.decayed(rule), *args, decay=0.0)[0], plain)


def test_under_momentum_decay_and_l2_rest_where_the_strengths_are_as_one_minus_rho(path):
    how = dict(lr=0.02, rho=0.8)
    decay = path(
        penalties.decayed(momentum), lambda x, t: slope(x), normal(4, D), 3000, decay=1.5, **how
    )
    close(decay[0][-1], penalties.ridge(X, Y, lam2=1.5 * (1 - 0.8)), rtol=0, atol=1e-9)
    penalty = path(
        penalties.penalized(momentum, penalties.l2),
        lambda x, t: slope(x),
        normal(4, D),
        3000,
        lam2=0.3,
        **how,
    )
    close(penalty[0][-1], penalties.ridge(X, Y, lam2=0.3), rtol=0, atol=1e-9)


small = data.mnist(side=7)


@pytest.mark.parametrize(
    "rule, lam",
    [
        (
            penalties.penalized(adam, penalties.l1_smooth),
            {"lam1": [0.0, 0.01], "smooth": [1e-8, 1e-2]},
        ),
        (
            penalties.penalized(momentum, penalties.elastic_net),
            {"lam1": [1e-3, 0.0], "lam2": [0.0, 0.1]},
        ),
        (penalties.decayed(momentum), {"decay": [0.0, 0.5]}),
        (penalties.ista, {"lam1": [0.0, 0.02]}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_strength_is_a_row_of_a_sweep_and_the_row_is_the_run_alone(rule, lam):
    work = Sweep(lambda: mlp([49, 8, 10]), rule, small, dtype=torch.float64)
    both, losses = work.advance(work.start([3, 3], lr=0.02, **lam), 12)
    assert not torch.equal(both.theta[0], both.theta[1])
    assert_law(work, both, losses)
    if rule is penalties.ista:
        assert (both.theta[0] == 0).sum() == 0 < (both.theta[1] == 0).sum()


def refused(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_bad_strengths_and_pairs_are_refused_by_name():
    net = mlp([49, 10])
    rule = penalties.penalized(sgd, penalties.l1_smooth)
    opt = partial(Optimizer, net.parameters(), rule)
    name = "sgd_l1_smooth"
    refused(partial(opt, lam1=-0.1), ValueError, f"{name}: lam1=-0.1 is outside [0, inf)")
    refused(partial(opt, smooth=0.0), ValueError, f"{name}: smooth=0 is outside [1e-30, inf)")
    known = "lr, lam1, smooth"
    refused(partial(opt, lam2=1), TypeError, f"{name} has no hyperparameter 'lam2'; it has {known}")
    work = Sweep(lambda: net, penalties.penalized(sgd, penalties.l2), small)
    text = "sgd_l2: lam2=-1 is outside [0, inf)"
    refused(lambda: work.start([0, 1], lam2=[0.0, -1.0]), ValueError, text)
    text = "sgd_l2 and elastic_net both have ['lam2']"
    twice = lambda: penalties.penalized(
        penalties.penalized(sgd, penalties.l2), penalties.elastic_net
    )
    refused(twice, ValueError, text)
    text = "adamw needs a hyperparameter lr and none called decay"
    refused(lambda: penalties.decayed(adamw), ValueError, text)
    for bad in (0.0, -1.0, math.nan):
        text = f"lam2={bad} is outside (0, inf)"
        refused(lambda bad=bad: penalties.ridge(X, Y, lam2=bad), ValueError, text)


# --------------------------------------------------------------- early stopping, by brute force


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
