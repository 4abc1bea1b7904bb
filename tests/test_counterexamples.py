"""Where a rule or a sentence fails: each construction against its theorem."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from nettrain import counterexamples, landscape
from nettrain.optimizers import adagrad, adam, amsgrad, momentum, nesterov, rmsprop, sgd

close = partial(assert_close, rtol=1e-10, atol=1e-10)


def points(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[(14, 6), (5, 4), (30, 1)], ids=str)
def labels(request):
    plus, minus = request.param
    y = torch.cat([torch.ones(plus), -torch.ones(minus)]).double()
    return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]


def test_both_limits_fit_the_training_data(labels):
    x = counterexamples.spurious_features(labels)
    for w in (counterexamples.least_norm_limit(labels), counterexamples.sign_limit(labels)):
        assert_close(x @ w, labels, rtol=0, atol=1e-12)
    least = torch.linalg.lstsq(x, labels[:, None], driver="gelsd").solution[:, 0]
    close(counterexamples.least_norm_limit(labels), least)


def new_examples(y, n):
    """First three features of unseen rows; their own blocks are unseen, so their weights are 0."""
    x = torch.zeros(2, 3 + 5 * n, dtype=torch.float64)
    x[:, 0], x[:, 1:3] = torch.tensor([1.0, -1.0]), 1
    return x


def test_one_limit_generalizes_and_the_other_says_always_yes(labels):
    x = new_examples(labels, len(labels))
    good = x @ counterexamples.least_norm_limit(labels)
    assert good[0] > 0 > good[1]
    assert (x @ counterexamples.sign_limit(labels) > 0).all()


@pytest.mark.parametrize(
    "rule, limit, hyper",
    [
        (sgd, "least_norm", {"lr": 0.02}),
        (momentum, "least_norm", {"lr": 0.02}),
        (nesterov, "least_norm", {"lr": 0.01}),
        (adagrad, "sign", {"lr": 0.1, "eps": 1e-30}),
        (rmsprop, "sign", {"lr": 0.01, "eps": 1e-30}),
        (adam, "sign", {"lr": 0.01, "eps": 1e-30}),
        (amsgrad, "sign", {"lr": 0.01, "eps": 1e-30}),
    ],
)
def test_where_a_rule_goes(rule, limit, hyper, path):
    y = torch.cat([torch.ones(14), -torch.ones(6)]).double()
    x = counterexamples.spurious_features(y)
    grad = lambda w, t: x.mT @ (x @ w - y)
    last = path(rule, grad, torch.zeros(x.shape[1]), 2000, **hyper)[0][-1]
    assert_close(last, getattr(counterexamples, f"{limit}_limit")(y), rtol=0, atol=1e-10)


def test_squared_loss():
    x, y = points(5, 3), points(5, seed=1)
    w = points(2, 3, seed=2)
    f = counterexamples.squared_loss(x, y)
    close(landscape.gradient(f, w), (w @ x.mT - y) @ x)


@pytest.mark.parametrize("c", [3.0, 5.0])
def test_adam_goes_to_the_worst_point_and_amsgrad_to_the_best(c):
    hyper = {"c": c, "beta1": 0.0, "beta2": 1 / (1 + c**2), "steps": 3000}
    bad = counterexamples.rare_large_gradient(adam, **hyper)
    good = counterexamples.rare_large_gradient(amsgrad, **hyper)
    assert (bad[300::3] == 1).all()  # at the end of every cycle, as the theorem says
    assert abs(good[-3:].mean() + 1) < 0.02
    assert abs(counterexamples.rare_large_gradient(sgd, 3000, c=c)[-3:].mean() + 1) < 0.05


def test_the_rows_of_reddis_problem_are_single_problems():
    both = torch.tensor([0.1, 0.9], dtype=torch.float64)
    many = counterexamples.rare_large_gradient(adam, 50, beta1=0.0, beta2=both)
    close(many[:, 1], counterexamples.rare_large_gradient(adam, 50, beta1=0.0, beta2=0.9))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            lambda: counterexamples.spurious_features(torch.tensor([1.0, 0.0])),
            "labels must be 1 or −1",
        ),
        (
            lambda: counterexamples.sign_limit(torch.tensor([1.0, -1.0])),
            "1 must be the more frequent",
        ),
        (lambda: counterexamples.rare_large_gradient(sgd, 1, c=2.0), "c=2.0 must be above 2"),
    ],
)
def test_errors_say_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
