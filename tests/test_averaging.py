"""Averages of weights against torch's, sums by hand and the paper's recursions, and their laws."""

import math
from functools import partial, wraps

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from sweep_law import assert_law, random_data
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torch.testing import assert_close

from nettrain import averaging as a
from nettrain import optimizers as o
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp

close = partial(assert_close, rtol=1e-10, atol=1e-12)
seeds = st.integers(0, 2**31)
each_rule = pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)


def normal(seed, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


A, B = normal(0, 9, 6).numpy(), normal(1, 9).numpy()


def slope(theta):
    """Gradient of Σ log cosh(A θ − b) + Σ cos 3θ, in numpy."""
    return A.T @ np.tanh(A @ theta - B) - 3 * np.sin(3 * theta)


def valley(theta, t=None):
    return torch.as_tensor(slope(theta.numpy()))


def travel(rule, steps, gradient=valley, theta=None, **hyper):
    """[(theta, θ') after t steps for t = 0 ... steps] of a rule; a list stands for a schedule."""
    theta = normal(2, 6) if theta is None else theta
    state = [torch.zeros_like(theta) for _ in o.state_names(rule)]
    points = [(theta, a.readout(rule)(theta, *state, t=0))]
    for t in range(1, steps + 1):
        now = {k: v[t - 1] if isinstance(v, list) else v for k, v in hyper.items()}
        theta, *state = rule(theta, gradient(theta, t), *state, t=t, **now)
        points.append((theta, a.readout(rule)(theta, *state, t=t)))
    visited, evaluated = zip(*points, strict=True)
    return torch.stack(visited), torch.stack(evaluated)


def told_apart(truth, wrong):
    with pytest.raises(AssertionError):
        truth(wrong)


# ---------------------------------------------------------------------- averages, by their sums


def is_exponential(rule, decay=0.8, steps=30):
    visited, evaluated = travel(rule, steps)
    for t in range(1, steps + 1):
        ages = np.arange(t)[::-1]  # of θ₁ ... θ_t
        mean = np.average(visited[1 : t + 1], 0, weights=decay**ages)
        close(evaluated[t], torch.as_tensor(mean))


def is_latest(rule, every=3, window=4, steps=30):
    visited, evaluated = travel(rule, steps)
    snapshots = []
    for t in range(steps + 1):
        if t and t % every == 0:
            snapshots.append(visited[t].numpy())
        mean = np.mean(snapshots[-window:], 0) if snapshots else visited[t].numpy()
        close(evaluated[t], torch.as_tensor(mean))


def is_stochastic(rule, every=3, start=7, steps=30):
    """Against torch's AveragedModel, which copies the first weights and then averages."""
    visited, evaluated = travel(rule, steps)
    net = torch.nn.Linear(6, 1, bias=False).double()
    swa = AveragedModel(net)
    for t in range(1, steps + 1):
        torch.nn.utils.vector_to_parameters(visited[t], net.parameters())
        if t >= start and (t - start) % every == 0:
            swa.update_parameters(net)
        close(evaluated[t], (swa.module.weight[0].detach() if t >= start else visited[t]))


BASES = [o.sgd, o.momentum, o.adam, o.nadam]  # none, one, two and three states
each_base = pytest.mark.parametrize("base", BASES, ids=lambda r: r.__name__)


@each_base
def test_averages_are_the_sums_that_they_should_be(base):
    is_exponential(a.ema(base, 0.8))
    is_latest(a.lawa(base, 3, 4))
    is_stochastic(a.swa(base, 3, 7))


def test_averages_at_the_edges_of_what_every_window_and_start_may_be():
    is_exponential(a.ema(o.adam, 0.0), 0.0)
    for every, other in [(1, 1), (1, 5), (5, 1), (31, 2), (2, 31)]:
        is_latest(a.lawa(o.adam, every, other), every, other)
        is_stochastic(a.swa(o.adam, every, other), every, other)


EMA, LAWA, SWA = a.ema(o.adam, 0.8), a.lawa(o.adam, 3, 4), a.swa(o.adam, 3, 7)


def by_hand(mean):
    """Adam, evaluated at a mean of θ₀ ... θ_t; at θ_t if that is the mean of nothing."""
    past = []

    def rule(theta, g, m, v, *, t):
        past[t - 1 :] = [theta]
        return o.adam(theta, g, m, v, t=t)

    def weights(theta, m, v, *, t):
        chosen = mean([*past[:t], theta]) if t else theta
        return chosen if torch.is_tensor(chosen) else sum(chosen) / len(chosen) if chosen else theta

    rule.weights = weights
    return rule


def faded(points, beta=0.8, norm=None):
    scale = [beta**k for k in reversed(range(len(points)))]
    return sum(s * p for s, p in zip(scale, points)) / (norm or sum(scale))


MEANS = [  # truth, the right mean of p = θ₀ ... θ_t, wrong ones
    (
        is_exponential,
        lambda p: faded(p[1:]),
        {
            "not corrected": lambda p: faded(p[1:], norm=5),
            "from step 0": faded,
            "torch's: a copy at first": lambda p: (
                faded(p[1:]) * (1 - 0.8 ** (len(p) - 1)) + 0.8 ** (len(p) - 1) * p[1]
            ),
            "before the step": lambda p: faded(p[:-1]),
            "1 − β for β": lambda p: faded(p[1:], 0.2),
            "corrected by βᵗ⁺¹": lambda p: (
                faded(p[1:]) * (1 - 0.8 ** (len(p) - 1)) / (1 - 0.8 ** len(p))
            ),
            "no readout": lambda p: p[-1],
        },
    ),
    (
        is_latest,
        lambda p: p[3::3][-4:],
        {
            "from step 0": lambda p: p[::3][-4:],
            "one step late": lambda p: p[4::3][-4:],
            "before the step": lambda p: p[2:-1:3][-4:],
            "all snapshots": lambda p: p[3::3],
            "one too many": lambda p: p[3::3][-5:],
            "every and window exchanged": lambda p: p[4::4][-3:],
            "the latest steps": lambda p: p[-4:],
            "always over the window": lambda p: p[3::3] and sum(p[3::3][-4:]) / 4,
        },
    ),
    (
        is_stochastic,
        lambda p: p[7::3],
        {
            "from step 0": lambda p: p[::3],
            "from step 1": lambda p: p[1::3],
            "multiples of every": lambda p: p[9::3],
            "every step": lambda p: p[7:],
            "before the step": lambda p: p[6:-1:3],
            "the latest": lambda p: p[7::3][-4:],
        },
    ),
]


@pytest.mark.parametrize("truth, mean", [m[:2] for m in MEANS])
def test_the_right_mean_written_down_is_accepted(truth, mean):
    truth(by_hand(mean))


@pytest.mark.parametrize(
    "truth, mean",
    [
        pytest.param(t, mean, id=f"{t.__name__}-{why}")
        for t, _, w in MEANS
        for why, mean in w.items()
    ],
)
def test_a_wrong_mean_is_told_apart(truth, mean):
    told_apart(truth, by_hand(mean))


def test_ema_is_torchs_without_the_weight_of_its_first_copy():
    visited, evaluated = travel(a.ema(o.adam, 0.7), 12)
    net = torch.nn.Linear(6, 1, bias=False).double()
    theirs = AveragedModel(net, avg_fn=get_ema_avg_fn(0.7))
    for t in range(1, 13):
        torch.nn.utils.vector_to_parameters(visited[t], net.parameters())
        theirs.update_parameters(net)
        ours = (1 - 0.7**t) * evaluated[t] + 0.7**t * visited[1]
        close(ours, theirs.module.weight[0].detach())


AVERAGES = {
    "ema": partial(a.ema, decay=0.9),
    "lawa": partial(a.lawa, every=2, window=3),
    "swa": partial(a.swa, every=2, start=3),
}
each_average = pytest.mark.parametrize("around", AVERAGES.values(), ids=AVERAGES)


@each_average
@each_rule
def test_training_does_not_notice_that_it_is_averaged(around, rule):
    g = normal(5, 12, 6)
    fed = lambda theta, t: g[t - 1]
    bare, _ = travel(rule, 12, fed)
    visited, evaluated = travel(around(rule), 12, fed)
    assert torch.equal(visited, bare)
    assert not torch.equal(evaluated[1:], visited[1:])


@each_average
@each_rule
def test_a_wrapped_rule_has_more_states_and_the_same_hyperparameters(around, rule):
    new = around(rule)
    assert o.hyperparameters(new) == o.hyperparameters(rule)
    assert o.state_names(new)[: len(o.state_names(rule))] == o.state_names(rule)
    assert new.__name__.startswith(rule.__name__ + "_")
    assert o.is_coordinatewise(new)
    o.check_hyper(new, {"lr": 0.1})
    assert not hasattr(rule, "weights")  # the old rule is left as it was


def test_names_of_states():
    assert o.state_names(a.ema(o.adam, 0.9)) == ["m", "v", "ema"]
    assert o.state_names(a.swa(o.momentum, 1, 1)) == ["u", "swa"]
    assert o.state_names(a.lawa(o.sgd, 1, 3)) == ["snapshot1", "snapshot2", "snapshot3"]
    assert o.state_names(a.lawa(EMA, 1, 1)) == ["m", "v", "ema", "snapshot1"]


def test_an_average_of_averages_takes_those_that_are_evaluated():
    _, means = travel(EMA, 30)
    _, evaluated = travel(a.lawa(EMA, 3, 4), 30)
    close(evaluated[30], means[[21, 24, 27, 30]].mean(0))
    _, x = travel(a.schedule_free_sgd, 9, lr=0.01)
    _, evaluated = travel(a.swa(a.schedule_free_sgd, 1, 1), 9, lr=0.01)
    close(evaluated[9], x[1:].mean(0))


# ------------------------------------------------------------------------------ schedule-free

SHORT = [0.002, 0.004, 0.006, 0.008] + [0.01] * 26  # a warmup
SGD = {"lr": SHORT, "beta1": 0.7}
ADAMW = {"lr": SHORT, "beta1": 0.7, "beta2": 0.9, "eps": 0.03, "decay": 0.4}


def is_schedule_free(rule, hyper, precondition, steps=30):
    """z keeps all its values; x is their weighted mean, computed from all of them every time."""
    visited, evaluated = travel(rule, steps, **hyper)
    z = [visited[0].numpy()]
    y, weights = z[0], []
    for t in range(1, steps + 1):
        close(visited[t - 1], torch.as_tensor(y))
        rate, direction = precondition(slope(y), y, t, hyper["lr"][t - 1])
        z.append(z[-1] - rate * direction)
        weights.append(rate**2)
        x = np.average(z[1:], 0, weights=weights)
        y = (1 - hyper["beta1"]) * z[-1] + hyper["beta1"] * x
        close(evaluated[t], torch.as_tensor(x))
    close(visited[-1], torch.as_tensor(y))


def is_schedule_free_sgd(rule, hyper=SGD):
    is_schedule_free(rule, hyper, lambda g, y, t, lr: (lr, g))


def is_schedule_free_adamw(rule, hyper=ADAMW):
    past = []

    def precondition(g, y, t, lr):
        past.append(g)
        beta2 = hyper["beta2"]
        v = (1 - beta2) * sum(beta2 ** (t - 1 - k) * g**2 for k, g in enumerate(past))
        rate = lr * math.sqrt(1 - beta2**t)
        return rate, g / (np.sqrt(v) + hyper["eps"]) + hyper["decay"] * y

    is_schedule_free(rule, hyper, precondition)


@pytest.mark.parametrize("beta1", [0.0, 0.7, 0.9, 1.0])
def test_schedule_free_is_the_recursion_with_x_as_an_average(beta1):
    is_schedule_free_sgd(a.schedule_free_sgd, SGD | {"beta1": beta1})
    is_schedule_free_adamw(a.schedule_free_adamw, ADAMW | {"beta1": beta1})


def free(theta, step, z, x, s, rate, beta, *, power=2, first=0, swap=False, at=None):
    """The recursion, with what may go wrong."""
    z, x = theta + z - step, theta + x
    s = s + rate**power
    c = rate**power / (s + first * 0.01**power)
    x = (1 - c) * x + c * z
    y = beta * z + (1 - beta) * x if swap else (1 - beta) * z + beta * x
    return y, z - y, x - y, s


def sgd_gone_wrong(**change):
    def rule(theta, g, z, x, s, *, t, lr=1.0, beta1=0.9):
        return free(theta, lr * g, z, x, s, lr, beta1, **change)

    rule.weights = a.schedule_free_sgd.weights
    return rule


def adamw_gone_wrong(change):
    def rule(theta, g, z, x, s, v, *, t, lr=2.5e-3, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
        if change == "betas":
            beta1, beta2 = beta2, beta1
        v = beta2 * v + (1 - beta2) * (g if change == "square" else g**2)
        rate = lr * (1 - beta2**t) ** 0.5 if change != "rate" else lr
        decayed = {"z": theta + z, "x": theta + x}.get(change, theta)
        step = rate * (g / (v.abs().sqrt() + eps) + decay * decayed)
        return *free(theta, step, z, x, s, rate, beta1), v

    rule.weights = a.schedule_free_adamw.weights
    return rule


def elsewhere(rule, weights):
    """The rule with another readout."""
    wrong = wraps(rule)(lambda *args, **kw: rule(*args, **kw))
    wrong.weights = weights
    return wrong


FREE_WRONG = {
    "y nearer to z": sgd_gone_wrong(swap=True),
    "weights η": sgd_gone_wrong(power=1),
    "equal weights": sgd_gone_wrong(power=0),
    "θ₀ counts, too": sgd_gone_wrong(first=1),
    "evaluated at y": elsewhere(a.schedule_free_sgd, lambda theta, *state, t: theta),
    "evaluated at z": elsewhere(a.schedule_free_sgd, lambda theta, z, *rest, t: theta + z),
}
ADAMW_WRONG = ["betas", "square", "rate", "z", "x"]


@pytest.mark.parametrize("wrong", FREE_WRONG.values(), ids=FREE_WRONG)
def test_a_wrong_schedule_free_sgd_is_told_apart(wrong):
    is_schedule_free_sgd(sgd_gone_wrong())  # the bench itself is right
    told_apart(is_schedule_free_sgd, wrong)


@pytest.mark.parametrize("change", ADAMW_WRONG)
def test_a_wrong_schedule_free_adamw_is_told_apart(change):
    is_schedule_free_adamw(adamw_gone_wrong(None))
    told_apart(is_schedule_free_adamw, adamw_gone_wrong(change))


def test_states_and_defaults_of_the_schedule_free_rules():
    """The defaults are those of the authors' code."""
    adam = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.0}
    assert o.state_names(a.schedule_free_sgd) == ["z", "x", "s"]
    assert o.state_names(a.schedule_free_adamw) == ["z", "x", "s", "v"]
    assert o.hyperparameters(a.schedule_free_sgd) == {"lr": 1.0, "beta1": 0.9}
    assert o.hyperparameters(a.schedule_free_adamw) == {"lr": 2.5e-3} | adam
    for rule in (a.schedule_free_sgd, a.schedule_free_adamw):
        o.check_hyper(rule, o.hyperparameters(rule))


def test_schedule_free_without_interpolation_is_sgd_and_its_polyak_average():
    free = travel(a.schedule_free_sgd, 30, lr=0.01, beta1=0.0)
    for ours, theirs in zip(free, travel(a.swa(o.sgd, 1, 1), 30, lr=0.01), strict=True):
        close(ours, theirs)


def test_schedule_free_adamw_without_interpolation_is_adam_without_momentum():
    visited, _ = travel(a.schedule_free_adamw, 30, lr=0.01, beta1=0.0, eps=0.0)
    adam, _ = travel(o.adam, 30, lr=0.01, beta1=0.0, eps=0.0)
    close(visited, adam)


def test_schedule_free_with_beta_one_is_primal_averaging():
    visited, evaluated = travel(a.schedule_free_sgd, 30, lr=0.01, beta1=1.0)
    close(evaluated, visited)  # gradients are taken where the network is evaluated
    z = x = visited[0].numpy()
    for t in range(1, 31):
        z = z - 0.01 * slope(x)
        x = x + (z - x) / t
        close(visited[t], torch.as_tensor(x))


def test_a_schedule_free_run_without_a_rate_stays_where_it_is():
    for rule in (a.schedule_free_sgd, a.schedule_free_adamw):
        visited, evaluated = travel(rule, 4, lr=0.0)
        assert torch.equal(visited, visited[:1].expand(5, 6)) and torch.equal(visited, evaluated)
        visited, evaluated = travel(rule, 4, lr=[0.0, 0.0, 0.1, 0.1])
        assert evaluated.isfinite().all() and (evaluated[3] != evaluated[2]).all()


# ------------------------------------------------------------------------- laws of all of them

RULES = [a.schedule_free_sgd, a.schedule_free_adamw, EMA, LAWA, SWA, a.lawa(EMA, 2, 2)]
each_averaged = pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)


@each_averaged
def test_evaluated_at_theta_before_the_first_step(rule):
    visited, evaluated = travel(rule, 0)
    assert torch.equal(visited, evaluated)


@each_averaged
@given(seed=seeds)
def test_evaluated_within_what_was_visited(rule, seed):
    """With y = (1 − β) z + β x this holds of z, so for schedule-free rules with β = 0."""
    hyper = {"beta1": 0.0} if "schedule_free" in rule.__name__ else {}
    g = normal(seed, 9, 6)
    visited, evaluated = travel(rule, 9, lambda theta, t: g[t - 1], **hyper)
    for t in range(10):
        assert (evaluated[t] >= visited[: t + 1].amin(0) - 1e-12).all()
        assert (evaluated[t] <= visited[: t + 1].amax(0) + 1e-12).all()


@each_averaged
def test_evaluated_at_theta_when_nothing_moves(rule):
    visited, evaluated = travel(rule, 8, lambda theta, t: 0 * theta)
    close(visited, visited[:1].expand(9, 6))
    close(evaluated, visited)


@each_averaged
def test_changes_and_shares_none_of_its_arguments(rule):
    arguments = list(normal(3, 2 + len(o.state_names(rule)), 5).abs())
    before = [x.clone() for x in arguments]
    for t in (1, 6):
        rule(*arguments, t=t)
        a.readout(rule)(arguments[0], *arguments[2:], t=t)
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))


@each_averaged
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_have_the_shape_and_dtype_of_theta(rule, shape, dtype):
    theta, g = normal(0, *shape).to(dtype), normal(1, *shape).to(dtype)
    state = [torch.zeros_like(theta) for _ in o.state_names(rule)]
    for t in (1, 2, 3):
        theta, *state = rule(theta, g, *state, t=t)
        read = a.readout(rule)(theta, *state, t=t)
        assert {(x.shape, x.dtype) for x in (theta, read, *state)} == {(theta.shape, dtype)}


@each_averaged
def test_rows_of_vmap_are_runs_alone_and_numbers_may_be_tensors(rule):
    g, rates = normal(4, 8, 3, 6), torch.tensor([0.1, 0.01, 0.2], dtype=torch.float64)
    names = o.state_names(rule)
    row = torch.func.vmap(
        lambda theta, g, state, lr, t: rule(theta, g, *state, t=t, lr=lr), (0, 0, 0, 0, None)
    )
    read = torch.func.vmap(lambda theta, state, t: rule.weights(theta, *state, t=t), (0, 0, None))
    theta = normal(5, 3, 6)
    state, runs = [torch.zeros(3, 6, dtype=torch.float64) for _ in names], []
    for t in range(1, 9):
        t_tensor = torch.tensor(t, dtype=torch.float64)
        theta, *state = row(theta, g[t - 1], state, rates, t_tensor)
        runs.append(read(theta, state, t_tensor))
    for r, start in enumerate(normal(5, 3, 6)):
        fed = lambda theta, t, r=r: g[t - 1, r]
        visited, evaluated = travel(rule, 8, fed, start, lr=rates[r].item())
        close(torch.stack(runs)[:, r], evaluated[1:])
        close(theta[r], visited[-1])


def test_float32_is_not_widened_by_numbers_in_float64():
    number = torch.tensor(0.1, dtype=torch.float64)
    for rule in RULES:
        zeros = [torch.zeros(4) for _ in o.state_names(rule)]
        after = rule(torch.ones(4), torch.ones(4), *zeros, t=number * 10, lr=number)
        read = rule.weights(after[0], *after[1:], t=number * 10)
        assert {x.dtype for x in (*after, read)} == {torch.float32}


@pytest.mark.parametrize("rule", [a.lawa(a.ema(o.sgd, 0.5), 2, 2), a.schedule_free_adamw])
def test_a_row_of_a_sweep_is_that_run_alone(rule):
    work = Sweep(lambda: mlp([6, 8, 3]), rule, random_data(6), batch=4, dtype=torch.float64)
    runs = work.start([0, 1, 2], lr=[0.01, 0.05, 0.1])
    assert_law(work, *work.advance(runs, 9))


# --------------------------------------------------------------------------------- refusals

REFUSED = [
    (lambda: a.ema(o.sgd, 1.0), "decay=1.0 is outside [0, 1)"),
    (lambda: a.ema(o.sgd, -0.1), "decay=-0.1 is outside [0, 1)"),
    (lambda: a.ema(o.sgd, math.nan), "decay=nan is outside [0, 1)"),
    (lambda: a.ema(EMA, 0.9), "adam_ema already has a state called ema"),
    (lambda: a.lawa(o.sgd, 0, 3), "every=0 must be a positive integer"),
    (lambda: a.lawa(o.sgd, 2, 0), "window=0 must be a positive integer"),
    (lambda: a.lawa(o.sgd, 2.5, 1), "every=2.5 must be a positive integer"),
    (lambda: a.lawa(LAWA, 2, 1), "adam_lawa already has a state called snapshot1"),
    (lambda: a.swa(o.sgd, -1, 1), "every=-1 must be a positive integer"),
    (lambda: a.swa(o.sgd, 1, 0), "start=0 must be a positive integer"),
]


@pytest.mark.parametrize("call, message", REFUSED, ids=[m for _, m in REFUSED])
def test_a_refusal_names_argument_value_and_what_is_allowed(call, message):
    refused(call, ValueError, message)
