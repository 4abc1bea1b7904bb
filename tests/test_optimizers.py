"""The update rules against torch.optim, closed forms and the laws that they obey."""

import inspect
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from nettrain import optimizers as o

close = partial(assert_close, rtol=1e-9, atol=1e-12)
each_rule = pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
seeds = st.integers(0, 2**31)


def normal(seed, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


A, B = normal(0, 9, 6), normal(1, 9)


def valley(theta, t=None):
    """Gradient of Σ log cosh(A θ − b) + Σ cos 3θ: neither quadratic nor convex."""
    return A.T @ torch.tanh(A @ theta - B) - 3 * torch.sin(3 * theta)


def fed(g):
    """Gradient function that hands out the rows of g, wherever theta is."""
    return lambda theta, t: g[t - 1]


# ------------------------------------------------------------------------ against torch.optim

T = torch.optim
TWINS = [  # rule, its hyperparameters, twin, its hyperparameters
    (o.sgd, {}, T.SGD, {}),
    (o.sgd, {"lr": 0.1}, T.SGD, {"lr": 0.1}),
    (o.momentum, {}, T.SGD, {"momentum": 0.9}),
    (o.momentum, {"lr": 0.1, "rho": 0.5}, T.SGD, {"lr": 0.1, "momentum": 0.5}),
    (o.nesterov, {}, T.SGD, {"momentum": 0.9, "nesterov": True}),
    (
        o.nesterov,
        {"lr": 0.1, "rho": 0.5},
        T.SGD,
        {"lr": 0.1, "momentum": 0.5, "nesterov": True},
    ),
    (o.adagrad, {}, T.Adagrad, {}),
    (o.adagrad, {"lr": 0.3, "eps": 0.2}, T.Adagrad, {"lr": 0.3, "eps": 0.2}),
    (o.rmsprop, {}, T.RMSprop, {}),
    (
        o.rmsprop,
        {"lr": 0.05, "beta2": 0.7, "eps": 0.2},
        T.RMSprop,
        {"lr": 0.05, "alpha": 0.7, "eps": 0.2},
    ),
    (o.adadelta, {}, T.Adadelta, {}),
    (
        o.adadelta,
        {"lr": 0.5, "beta2": 0.7, "eps": 0.2},
        T.Adadelta,
        {"lr": 0.5, "rho": 0.7, "eps": 0.2},
    ),
    *(
        (rule, ours, twin, {**fixed, **theirs})
        for rule, twin, fixed in [
            (o.adam, T.Adam, {}),
            (o.adamax, T.Adamax, {}),
            (o.nadam, T.NAdam, {}),
            (o.amsgrad, T.Adam, {"amsgrad": True}),
            (o.adamw, T.AdamW, {}),
        ]
        for ours, theirs in [
            ({}, {}),
            (
                {"lr": 0.05, "beta1": 0.5, "beta2": 0.7, "eps": 0.2},
                {"lr": 0.05, "betas": (0.5, 0.7), "eps": 0.2},
            ),
        ]
    ),
    (o.nadam, {"lr": 0.05, "psi": 0.3}, T.NAdam, {"lr": 0.05, "momentum_decay": 0.3}),
    (o.adamw, {"lr": 0.05, "decay": 0.3}, T.AdamW, {"lr": 0.05, "weight_decay": 0.3}),
]


@pytest.mark.parametrize(
    "rule, ours, twin, theirs", TWINS, ids=[f"{r.__name__}-{list(h)}" for r, h, *_ in TWINS]
)
def test_same_trajectory_as_torch(path, rule, ours, twin, theirs):
    theta = torch.nn.Parameter(normal(2, 6))
    start = theta.detach().clone()
    opt, points = twin([theta], **theirs), [start]
    for _ in range(100):
        theta.grad = valley(theta.detach())
        opt.step()
        points.append(theta.detach().clone())
    tolerance = 1e-8 if rule is o.nadam else 1e-10  # torch keeps Nadam's product in float32
    mine, _ = path(rule, valley, start, 100, **ours)
    assert_close(mine, torch.stack(points), rtol=0, atol=tolerance)
    assert (points[-1] - start).abs().max() > 0.01  # it went somewhere


BY_HAND = [(o.powersign, np.exp), (o.addsign, lambda s: 1 + s)]  # torch has no twin of these


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_every_rule_has_an_independent_twin_or_a_loop_by_hand(rule):
    checked = {r for r, *_ in TWINS} | {r for r, _ in BY_HAND}
    assert rule in checked, f"{rule.__name__}: add its twin to TWINS, or a numpy loop to BY_HAND"


@pytest.mark.parametrize("rule", dict.fromkeys(r for r, *_ in TWINS))
def test_a_twin_is_tried_with_other_than_default_hyperparameters(rule):
    """Else two rates that are exchanged, in the rule and in its defaults, would agree."""
    tried = set().union(*(ours for r, ours, *_ in TWINS if r is rule))
    assert tried == set(o.hyperparameters(rule)), f"{rule.__name__}: vary all of them"


@pytest.mark.parametrize("rule, factor", BY_HAND)
def test_sign_rules_against_a_numpy_loop(path, rule, factor):
    lr, beta1 = 0.02, 0.6
    theta, m, points = normal(2, 6).numpy(), np.zeros(6), []
    for _ in range(100):
        g = valley(torch.as_tensor(theta)).numpy()
        m = beta1 * m + (1 - beta1) * g
        theta = theta - lr * factor(np.sign(g) * np.sign(m)) * g
        points.append(theta)
    mine, _ = path(rule, valley, normal(2, 6), 100, lr=lr, beta1=beta1)
    close(mine[1:], torch.as_tensor(np.stack(points)))


@pytest.mark.parametrize(
    "rule, agree, differ", [(o.powersign, math.e, 1 / math.e), (o.addsign, 2, 0)]
)
def test_sign_rules_scale_g_by_whether_it_agrees_with_its_mean(path, rule, agree, differ):
    g = torch.tensor([[3.0, -2.0], [-1.0, 1.0]], dtype=torch.float64)  # too short to turn m
    points, _ = path(rule, fed(g), [0.0, 0.0], 2, lr=1.0)
    close(points.diff(dim=0), -g * torch.tensor([[agree], [differ]], dtype=torch.float64))


# ------------------------------------------------------------------------ laws of every rule


@each_rule
@given(seed=seeds)
def test_changes_and_shares_none_of_its_arguments(rule, seed):
    arguments = list(normal(seed, 2 + len(o.state_names(rule)), 5).abs())
    before = [x.clone() for x in arguments]
    results = rule(*arguments, t=3)
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))
    assert not {x.data_ptr() for x in results} & {x.data_ptr() for x in arguments}


@each_rule
@given(seed=seeds, cut=st.integers(1, 5))
def test_works_coordinate_by_coordinate(path, rule, seed, cut):
    theta, g = normal(seed, 6), normal(seed + 1, 4, 6)
    points, state = path(rule, fed(g), theta, 4)
    turn = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    close(path(rule, fed(g[:, turn]), theta[turn], 4)[0], points[:, turn])
    left = path(rule, fed(g[:, :cut]), theta[:cut], 4)
    right = path(rule, fed(g[:, cut:]), theta[cut:], 4)
    close(torch.cat([left[0], right[0]], 1), points)
    for a, b, both in zip(left[1], right[1], state, strict=True):
        close(torch.cat([a, b]), both)


@each_rule
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_have_the_shape_and_dtype_of_theta(rule, shape, dtype):
    theta, g = normal(0, *shape).to(dtype), normal(1, *shape).to(dtype)
    results = rule(theta, g, *(torch.zeros_like(theta) for _ in o.state_names(rule)), t=1)
    assert len(results) == 1 + len(o.state_names(rule))
    assert {(x.shape, x.dtype) for x in results} == {(theta.shape, dtype)}


@each_rule
def test_numbers_may_be_tensors(path, rule):
    g = normal(3, 5, 6)
    numbers = {k: torch.tensor(v, dtype=torch.float64) for k, v in o.hyperparameters(rule).items()}
    as_tensors = partial(rule, **numbers)
    state = [torch.zeros(6, dtype=torch.float32) for _ in o.state_names(rule)]
    theta, *_ = as_tensors(g[0].float(), g[1].float(), *state, t=torch.tensor(1.0).double())
    assert theta.dtype == torch.float32  # a number in float64 does not widen the parameters
    theta, state = g[4], [torch.zeros_like(g[4]) for _ in state]
    for t in range(1, 5):
        t_tensor = torch.tensor(t, dtype=torch.float64)
        theta, *state = as_tensors(theta, g[t - 1], *state, t=t_tensor)
    close(theta, path(rule, fed(g), g[4], 4)[0][-1])


NO_EPS = {"eps": 0.0, "decay": 0.0}
DEGREE = {  # how the steps grow with the gradient when ε = 0; AdaDelta has a test of its own
    **dict.fromkeys((o.sgd, o.momentum, o.nesterov, o.powersign, o.addsign), 1),
    **dict.fromkeys((o.adagrad, o.rmsprop, o.adam, o.adamax, o.nadam, o.amsgrad, o.adamw), 0),
}


@pytest.mark.parametrize("rule", DEGREE, ids=lambda r: r.__name__)
@given(seed=seeds, log_c=st.floats(-6, 6))
def test_scaling_the_loss_scales_the_steps_or_leaves_them(path, rule, seed, log_c):
    g, c = normal(seed, 8, 4), 10**log_c
    hyper = {k: v for k, v in NO_EPS.items() if k in o.hyperparameters(rule)}
    one, _ = path(rule, fed(g), torch.zeros(4), 8, **hyper)
    other, _ = path(rule, fed(c * g), torch.zeros(4), 8, **hyper)
    assert_close(other, one * c ** DEGREE[rule], rtol=1e-7, atol=0)


@given(seed=seeds, log_c=st.floats(-3, 3))
def test_adadelta_scales_with_the_units_of_theta_and_not_with_the_loss(path, seed, log_c):
    g, c = normal(seed, 8, 4), 10**log_c
    one, _ = path(o.adadelta, fed(g), torch.zeros(4), 8, eps=1e-24)
    loss_scaled, _ = path(o.adadelta, fed(c * g), torch.zeros(4), 8, eps=1e-24)
    assert_close(loss_scaled, one, rtol=1e-7, atol=0)
    # θ → c θ makes g → g / c; ε is a squared length, the only one that the rule is given
    units_changed, _ = path(o.adadelta, fed(g / c), torch.zeros(4), 8, eps=1e-24 * c**2)
    assert_close(units_changed, c * one, rtol=1e-7, atol=0)
    adam, adam_changed = (path(o.adam, fed(x), torch.zeros(4), 8, eps=0.0)[0] for x in (g, g / c))
    assert_close(adam_changed, adam, rtol=1e-7, atol=0)  # Adam's path keeps its length instead


# ------------------------------------------------------------------------ closed forms


@given(lr=st.floats(0.01, 3), curvature=st.floats(0.01, 3))
def test_sgd_contracts_a_quadratic_by_one_minus_lr_lambda(path, lr, curvature):
    points, _ = path(o.sgd, lambda x, t: curvature * x, [1.0], 10, lr=lr)
    close(points.abs()[:, 0], abs(1 - lr * curvature) ** torch.arange(11.0).double())


FIRST = [  # size of the first step over lr, whatever the gradient
    (o.adagrad, 1),
    (o.rmsprop, 1 / math.sqrt(1 - 0.99)),
    (o.adam, 1),
    (o.adamax, 1),
    (o.amsgrad, 1),
    (o.adamw, 1),
]


@pytest.mark.parametrize("rule, size", FIRST)
@given(g=st.lists(st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3), min_size=1, max_size=4))
def test_size_of_the_first_step(path, rule, size, g):
    hyper = {k: v for k, v in NO_EPS.items() if k in o.hyperparameters(rule)}
    g = torch.tensor([g], dtype=torch.float64)
    points, _ = path(rule, fed(g), torch.ones_like(g[0]), 1, lr=0.3, **hyper)
    close(points[1] - 1, -0.3 * size * g[0].sign())


def test_momentum_is_equation_1_15_while_the_rate_is_constant(path):
    points, _ = path(o.momentum, valley, normal(2, 6), 50, lr=0.05, rho=0.8)
    theta, delta = normal(2, 6), torch.zeros(6)
    for point in points[1:]:
        delta = 0.8 * delta - 0.05 * valley(theta)
        theta = theta + delta
        close(point, theta)


def test_momentum_rescales_its_velocity_when_the_rate_changes():
    theta, u = o.momentum(torch.zeros(1), torch.ones(1), torch.zeros(1), t=1, lr=1.0, rho=0.5)
    after, _ = o.momentum(theta, torch.zeros(1), u, t=2, lr=0.1, rho=0.5)
    close((after - theta).item(), -0.1 * 0.5, rtol=1e-6)  # eq. 1.15 would move by -0.5


@given(seed=seeds, rho=st.floats(0, 0.99))
def test_velocity_is_an_exponential_sum_of_gradients(path, seed, rho):
    g = normal(seed, 12, 3)
    _, (u,) = path(o.momentum, fed(g), torch.zeros(3), 12, rho=rho)
    close(u, sum(rho ** (12 - tau) * g[tau - 1] for tau in range(1, 13)))


def test_nesterov_is_the_look_ahead_of_equation_1_18_in_shifted_variables(path):
    lr, rho = 0.03, 0.8
    points, (u,) = path(o.nesterov, valley, normal(2, 6), 50, lr=lr, rho=rho)
    theta, delta = normal(2, 6), torch.zeros(6)
    for point in points[1:]:
        delta = rho * delta - lr * valley(theta + rho * delta)
        theta = theta + delta
        close(point, theta + rho * delta)  # where the next gradient is taken
    close(points[-1] + lr * rho * u, theta)


@given(seed=seeds)
def test_adagrad_sums_all_squares(path, seed):
    g = normal(seed, 12, 3)
    _, (s,) = path(o.adagrad, fed(g), torch.zeros(3), 12)
    close(s, (g**2).sum(0))


def test_adagrad_slows_down_as_one_over_root_t(path):
    points, _ = path(o.adagrad, lambda x, t: torch.full_like(x, 7), [0.0], 20, lr=0.5, eps=0.0)
    close(-points.diff(dim=0)[:, 0], 0.5 / torch.arange(1, 21).double().sqrt())


@given(seed=seeds, beta2=st.floats(0, 0.999))
def test_rmsprop_recursion_is_the_expanded_sum_of_equation_1_11(path, seed, beta2):
    g = normal(seed, 12, 3)
    _, (v,) = path(o.rmsprop, fed(g), torch.zeros(3), 12, beta2=beta2)
    close(v, (1 - beta2) * sum(beta2 ** (12 - tau) * g[tau - 1] ** 2 for tau in range(1, 13)))


@given(seed=seeds)
def test_adadelta_keeps_the_mean_of_its_squared_steps(path, seed):
    points, (_, d) = path(o.adadelta, fed(normal(seed, 12, 3)), torch.zeros(3), 12, beta2=0.6)
    close(d, 0.4 * sum(0.6 ** (11 - k) * step**2 for k, step in enumerate(points.diff(dim=0))))


@given(g=st.floats(-1e3, 1e3), beta1=st.floats(0, 0.99), beta2=st.floats(0, 0.999))
def test_adam_corrects_a_constant_gradient_exactly(path, g, beta1, beta2):
    constant = {"lr": 0.1, "beta1": beta1, "beta2": beta2, "eps": 1e-3}
    points, (m, v) = path(o.adam, lambda x, t: torch.full_like(x, g), [0.0], 7, **constant)
    close(m.item() / (1 - beta1**7), g)
    close(v.item() / (1 - beta2**7), g**2)
    close(points[:, 0], -0.1 * g / (abs(g) + 1e-3) * torch.arange(8).double())


@given(seed=seeds, beta2=st.floats(0.1, 0.999))
def test_adamax_remembers_the_largest_decayed_gradient(path, seed, beta2):
    g = normal(seed, 12, 3)
    _, (_, u) = path(o.adamax, fed(g), torch.zeros(3), 12, beta2=beta2, eps=0.0)
    decay = beta2 ** torch.arange(11, -1, -1).double()
    close(u, (decay[:, None] * g.abs()).amax(0))


def test_nadam_keeps_one_minus_the_product_of_its_mu(path):
    _, (*_, c) = path(o.nadam, fed(normal(0, 9, 2)), torch.zeros(2), 9, beta1=0.8, psi=0.1)
    product = math.prod(0.8 * (1 - 0.96 ** (0.1 * t) / 2) for t in range(1, 10))
    close(c, torch.full((2,), 1 - product, dtype=torch.float64))


@given(seed=seeds)
def test_amsgrad_never_forgets_its_largest_v(path, seed):
    g = normal(seed, 12, 3)
    seen = [path(o.rmsprop, fed(g), torch.zeros(3), k, beta2=0.7)[1][0] for k in range(1, 13)]
    _, (_, v, v_max) = path(o.amsgrad, fed(g), torch.zeros(3), 12, beta2=0.7)
    close(v, seen[-1])
    close(v_max, torch.stack(seen).amax(0))


def test_amsgrad_is_adam_while_gradients_grow(path):
    g = torch.arange(1, 13).double()[:, None] * torch.tensor([1.0, -2.0])
    adam, amsgrad = (path(rule, fed(g), torch.zeros(2), 12)[0] for rule in (o.adam, o.amsgrad))
    close(adam, amsgrad)


def test_adamw_decays_outside_of_the_means(path):
    points, (m, v) = path(o.adamw, lambda x, t: 0 * x, [2.0], 5, lr=0.1, decay=0.5)
    close(points[:, 0], 2 * 0.95 ** torch.arange(6).double())
    assert m == v == 0
    adam, adamw = (
        path(rule, valley, normal(2, 6), 20, lr=0.05, **no)[0]
        for rule, no in ((o.adam, {}), (o.adamw, {"decay": 0.0}))
    )
    close(adam, adamw)


# ------------------------------------------------------------------------ signatures and ranges

STATE = "sgd: momentum:u nesterov:u adagrad:s rmsprop:v adadelta:v,d adam:m,v adamax:m,u "
STATE += "nadam:m,v,c amsgrad:m,v,v_max adamw:m,v powersign:m addsign:m"


def test_state_and_hyperparameters_are_read_from_the_signature():
    table = " ".join(f"{r.__name__}:{','.join(o.state_names(r))}" for r in o.RULES)
    assert table == STATE
    assert o.hyperparameters(o.sgd) == {"lr": 1e-3}
    assert o.hyperparameters(o.adamw) == {
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "decay": 1e-2,
    }


@each_rule
def test_every_hyperparameter_has_a_range_that_holds_its_default(rule):
    assert o.hyperparameters(rule).keys() <= o.RANGES.keys()
    assert "t" in inspect.signature(rule).parameters
    o.check_hyper(rule, o.hyperparameters(rule))  # does not raise


REFUSED = [
    ({"beta1": 1.5}, ValueError, r"adam: beta1=1.5 is outside \[0, 1\)"),
    ({"beta2": 1}, ValueError, r"adam: beta2=1 is outside \[0, 1\)"),
    ({"lr": -0.1}, ValueError, r"adam: lr=-0.1 is outside \[0, inf\)"),
    ({"lr": math.inf}, ValueError, r"adam: lr=inf is outside \[0, inf\)"),
    ({"eps": math.nan}, ValueError, r"adam: eps=nan is outside \[0, inf\)"),
    ({"lr": [0.1, -3.0, -4.0]}, ValueError, r"adam: lr=-3 is outside \[0, inf\)"),
    ({"lr": torch.tensor([[0.1], [-2.0]])}, ValueError, r"adam: lr=-2 is outside \[0, inf\)"),
    ({"lr": "fast"}, TypeError, r"adam: lr='fast' is not a number"),
    ({"lr": None}, TypeError, r"adam: lr=None is not a number"),
    ({"rho": 0.9}, TypeError, r"adam has no hyperparameter 'rho'; it has lr, beta1, beta2, eps"),
    ({"t": 1}, TypeError, r"adam has no hyperparameter 't'; it has lr, beta1, beta2, eps"),
]


@pytest.mark.parametrize("hyper, error, message", REFUSED)
def test_check_hyper_names_what_is_wrong_and_what_is_allowed(hyper, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        o.check_hyper(o.adam, hyper)


def test_check_hyper_accepts_the_edges():
    o.check_hyper(o.adamw, {"lr": 0, "beta1": 0.0, "beta2": torch.tensor(0.5), "decay": [0, 1]})
