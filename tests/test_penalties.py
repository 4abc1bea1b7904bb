"""Penalties and weight decay against closed forms, scikit-learn and brute force."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from sweep_law import assert_law
from torch.testing import assert_close

from nettrain import data, penalties
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
