"""Lion and Prodigy against loops in numpy, SAM against a closed form; their laws."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from sweep_law import assert_law, random_data
from torch.testing import assert_close

from nettrain import contenders as c
from nettrain import optimizers as o
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp

close = partial(assert_close, rtol=1e-9, atol=1e-12)
seeds = st.integers(0, 2**31)
RULES = [c.lion, c.prodigy]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)


def normal(seed, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


A, B, START = normal(0, 9, 6).numpy(), normal(1, 9).numpy(), normal(2, 6)


def slope(theta):
    """Gradient of Σ log cosh(A θ − b), which is convex, in numpy."""
    return A.T @ np.tanh(A @ theta - B)


def convex(theta, t=None):
    return torch.as_tensor(slope(theta.numpy()))


def fed(g):
    return lambda theta, t: g[t - 1]


# ------------------------------------------------------------------------------------- Lion

LION = {"lr": 0.02, "beta1": 0.6, "beta2": 0.9, "decay": 0.3}


def is_lion(path, rule):
    points, (m,) = path(rule, convex, START, 60, **LION)
    theta, past = START.numpy(), []
    for point in points[1:]:
        past.append(slope(theta))  # the mean that is kept, as a sum over all gradients
        kept = sum(0.1 * 0.9**k * g for k, g in enumerate(past[-2::-1]))
        direction = np.sign(0.6 * kept + 0.4 * past[-1])
        theta = theta - 0.02 * direction - 0.02 * 0.3 * theta
        close(point, torch.as_tensor(theta))
    close(m, torch.as_tensor(sum(0.1 * 0.9**k * g for k, g in enumerate(past[::-1]))))


def test_lion_against_a_numpy_loop(path):
    is_lion(path, c.lion)


def bent_lion(change):
    def rule(theta, g, m, *, t, lr, beta1, beta2, decay):
        if change == "exchanged betas":
            beta1, beta2 = beta2, beta1
        new = beta2 * m + (1 - beta2) * g
        old = new if change == "m before c" else m
        kept = beta1 * old + (1 - beta1) * g
        if change == "c is kept":
            new = kept
        if change == "decay in the gradient":
            kept, decay = kept + (1 - beta1) * decay * theta, 0
        if change == "decay after the step":
            return (theta - lr * kept.sign()) * (1 - lr * decay), new
        if change == "decay without the rate":
            return theta - lr * kept.sign() - decay * theta, new
        return theta - lr * (kept.sign() + decay * theta), new

    return rule


@pytest.mark.parametrize(
    "change",
    ["exchanged betas", "m before c", "c is kept", "decay in the gradient"]
    + ["decay after the step", "decay without the rate"],
)
def test_a_wrong_lion_is_told_apart(path, change):
    is_lion(path, bent_lion(None))
    with pytest.raises(AssertionError):
        is_lion(path, bent_lion(change))


@given(seed=seeds, log_c=st.floats(-30, 30), lr=st.floats(1e-6, 1))
def test_every_coordinate_of_lion_moves_by_the_rate_whatever_the_scale_of_the_loss(
    path, seed, log_c, lr
):
    g = normal(seed, 8, 4)
    points, _ = path(c.lion, fed(g), torch.zeros(4), 8, lr=lr)
    scaled, _ = path(c.lion, fed(10**log_c * g), torch.zeros(4), 8, lr=lr)
    assert_close(points.diff(dim=0).abs(), torch.full_like(g, lr), rtol=1e-9, atol=0)
    assert torch.equal(points, scaled)


@given(seed=seeds)
def test_lion_without_memory_is_the_sign_of_the_gradient(path, seed):
    g = normal(seed, 8, 4)
    points, _ = path(c.lion, fed(g), torch.zeros(4), 8, lr=0.1, beta1=0.0)
    close(points[1:], -0.1 * g.sign().cumsum(0))


def test_lion_stands_still_where_there_is_no_gradient_and_decays():
    theta, m = c.lion(torch.ones(3), torch.zeros(3), torch.zeros(3), t=1, lr=0.1, decay=0.5)
    close(theta, torch.full((3,), 0.95), rtol=1e-6)
    assert torch.equal(m, torch.zeros(3))


# ---------------------------------------------------------------------------------- Prodigy

PRODIGY = {"lr": 0.5, "beta1": 0.7, "beta2": 0.96, "eps": 1e-3, "decay": 0.2, "d0": 1e-4}
D = 4  # which of the states of prodigy is d


def is_prodigy(path, rule, hyper=PRODIGY, steps=60):
    """The algorithm of the paper with numbers r and d and the initial weights x₀ kept."""
    points, state = path(rule, convex, START, steps, **hyper)
    eta, beta1, beta2, eps, decay, d = (hyper[k] for k in PRODIGY)
    x0 = x = START.numpy()
    r, s, m, v, root = 0.0, np.zeros(6), np.zeros(6), np.zeros(6), math.sqrt(beta2)
    for point in points[1:]:
        g = slope(x)
        m = beta1 * m + (1 - beta1) * d * g
        v = beta2 * v + (1 - beta2) * (d * g) ** 2
        r = root * r + (1 - root) * eta * d**2 * np.dot(g, x0 - x)
        s = root * s + (1 - root) * eta * d**2 * g
        estimate = r / np.linalg.norm(s, 1)
        x = x - eta * d * decay * x - eta * d * m / (np.sqrt(v) + d * eps)
        d = max(d, estimate)
        close(point, torch.as_tensor(x), rtol=1e-7, atol=1e-9)
    close(state[D], torch.full((6,), d, dtype=torch.float64), rtol=1e-7)


def test_prodigy_against_a_numpy_transcription_of_the_paper(path):
    is_prodigy(path, c.prodigy)
    is_prodigy(path, c.prodigy, o.hyperparameters(c.prodigy))


def bent_prodigy(change):
    is_ = lambda word: change == word

    def rule(theta, g, m, v, s, r, d, w, *, t, lr, beta1, beta2, eps, decay, d0):
        if is_("exchanged betas"):
            beta1, beta2 = beta2, beta1
        d = d.clamp(min=d0) if not is_("d0 added") else d + d0
        root = beta2 if is_("no root") else beta2**0.5
        scale = lr * (d if is_("d for d²") else d**2)
        r = root * r + (1 - root) * scale * (g * (-w if is_("θ − θ₀") else w)).sum()
        s = root * s + (1 - root) * (d**2 if is_("s without the rate") else scale) * g
        m = beta1 * m + (1 - beta1) * (1 if is_("m without d") else d) * g
        v = beta2 * v + (1 - beta2) * (1 if is_("v without d") else d**2) * g**2
        length = s.norm() if is_("‖s‖₂") else s.abs().sum()
        new = r / length if is_("d may shrink") else torch.maximum(d, r / length)
        if is_("d at once"):
            d = new
        step = lr * d * m / (v.sqrt() + (1 if is_("ε without d") else d) * eps)
        step = step + lr * (1 if is_("decay without d") else d) * decay * theta
        return theta - step, m, v, s, r, new, w if is_("θ₀ forgotten") else w + step

    return rule


BENT = ["exchanged betas", "no root", "d for d²", "θ − θ₀", "s without the rate", "m without d"]
BENT += ["v without d", "‖s‖₂", "d may shrink", "d at once", "ε without d", "decay without d"]
BENT += ["θ₀ forgotten", "d0 added"]


@pytest.mark.parametrize("change", BENT)
def test_a_wrong_prodigy_is_told_apart(path, change):
    is_prodigy(path, bent_prodigy(None))
    with pytest.raises(AssertionError):
        is_prodigy(path, bent_prodigy(change))


@pytest.mark.parametrize(
    "gradient, start, distance",
    [
        (convex, START, None),
        (lambda x, t: torch.arange(1.0, 7).double() * x, torch.linspace(1, 2, 6), 2.0),
        (lambda x, t: (x - 3).sign(), torch.linspace(-1, 1, 6), 4.0),
    ],
    ids=["log cosh", "quadratic", "absolute value"],
)
def test_prodigy_ends_with_the_same_rate_from_estimates_seven_orders_apart(
    path, gradient, start, distance
):
    """And a start that is ten times smaller costs at most three steps."""
    starts, ends, waits = [10.0**k for k in range(-9, -1)], [], []
    for d0 in starts:
        points, state = path(c.prodigy, gradient, start, 400, d0=d0)
        ends.append(state[D][0].item())
        moved = (points - points[0]).abs().amax(1)
        waits.append(int((moved > 0.02).int().argmax()))
    assert max(ends) < 2.5 * min(ends)
    assert all(0 <= far - near <= 3 for far, near in zip(waits, waits[1:]))
    if distance:  # the largest coordinate of the way to the solution
        assert 0.1 * distance < min(ends) and max(ends) <= distance


@given(seed=seeds, log_d0=st.floats(-8, 0))
def test_the_estimate_of_prodigy_never_exceeds_the_distance_to_a_solution(path, seed, log_d0):
    """For a convex loss: ⟨g, θ₀ − θ⟩ ≤ ⟨g, θ₀ − θ*⟩, so r ≤ ⟨s, θ₀ − θ*⟩ ≤ ‖s‖₁ ‖θ₀ − θ*‖_∞."""
    solution, curvature = normal(seed, 5), normal(seed + 1, 5).abs()
    distance = solution.abs().max().item()
    gradient = lambda theta, t: curvature * (theta - solution)
    for steps in (1, 5, 25, 100):
        _, state = path(c.prodigy, gradient, torch.zeros(5), steps, d0=distance * 10**log_d0)
        assert (state[D] == state[D][0]).all() and state[D][0] <= distance * (1 + 1e-9)


@given(seed=seeds, log_c=st.floats(-6, 6))
def test_prodigy_scales_with_the_units_of_theta_and_not_with_the_loss(path, seed, log_c):
    solution, scale = normal(seed, 5), 10**log_c
    gradient = lambda theta, t: torch.tanh(theta - solution)
    one, _ = path(c.prodigy, gradient, torch.zeros(5), 15, eps=0.0)
    loss, _ = path(c.prodigy, lambda x, t: scale * gradient(x, t), torch.zeros(5), 15, eps=0.0)
    near = partial(assert_close, rtol=1e-4, atol=1e-9)  # d jumps, so that rounding grows
    near(loss, one)
    units = lambda x, t: gradient(x / scale, t) / scale
    changed, _ = path(c.prodigy, units, torch.zeros(5), 15, eps=0.0, d0=1e-6 * scale)
    near(changed / scale, one)


def test_prodigy_waits_while_there_is_no_gradient(path):
    g = torch.tensor([0.0, 0, 0, 1, 1, 1])[:, None].expand(6, 4).double()
    points, _ = path(c.prodigy, fed(g), torch.zeros(4), 6, d0=1e-3)
    assert points.isfinite().all() and torch.equal(points[3], points[0])
    assert (points[6] < points[5]).all()


# -------------------------------------------------------------------------------- both rules


def test_state_and_hyperparameters_are_read_from_the_signature():
    assert o.state_names(c.lion) == ["m"]
    assert o.state_names(c.prodigy) == ["m", "v", "s", "r", "d", "w"]
    lion = {"lr": 1e-4, "beta1": 0.9, "beta2": 0.99, "decay": 0.0}  # defaults of the authors' code
    prodigy = {"lr": 1.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.0, "d0": 1e-6}
    for rule, defaults in ((c.lion, lion), (c.prodigy, prodigy)):
        assert o.hyperparameters(rule) == defaults
        o.check_hyper(rule, defaults)
    assert o.is_coordinatewise(c.lion) and not o.is_coordinatewise(c.prodigy)


@each_rule
def test_changes_and_shares_none_of_its_arguments(rule):
    arguments = list(normal(3, 2 + len(o.state_names(rule)), 5).abs())
    before = [x.clone() for x in arguments]
    results = rule(*arguments, t=3)
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))
    assert not {x.data_ptr() for x in results} & {x.data_ptr() for x in arguments}


@each_rule
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_have_the_shape_and_dtype_of_theta(rule, shape, dtype):
    theta, g = normal(0, *shape).to(dtype), normal(1, *shape).to(dtype)
    results = rule(theta, g, *(torch.zeros_like(theta) for _ in o.state_names(rule)), t=1)
    assert len(results) == 1 + len(o.state_names(rule))
    assert {(x.shape, x.dtype) for x in results} == {(theta.shape, dtype)}


@each_rule
def test_rows_of_vmap_are_runs_alone_and_numbers_may_be_tensors(path, rule):
    g, theta = normal(4, 8, 3, 6), normal(5, 3, 6)
    names = list(o.hyperparameters(rule))
    value = lambda k: torch.tensor([1.0, 0.5, 0.9]).double() * o.hyperparameters(rule)[k]
    hyper = {k: value(k) for k in names}
    row = torch.func.vmap(
        lambda theta, g, state, hyper, t: rule(theta, g, *state, t=t, **hyper), (0, 0, 0, 0, None)
    )
    state = [torch.zeros(3, 6, dtype=torch.float64) for _ in o.state_names(rule)]
    for t in range(1, 9):
        t_tensor = torch.tensor(t, dtype=torch.float64)
        theta, *state = row(theta, g[t - 1], state, hyper, t_tensor)
    for r, start in enumerate(normal(5, 3, 6)):
        own = {k: column[r].item() for k, column in hyper.items()}
        close(theta[r], path(rule, fed(g[:, r]), start, 8, **own)[0][-1])


@each_rule
def test_a_row_of_a_sweep_is_that_run_alone(rule):
    work = Sweep(lambda: mlp([6, 8, 3]), rule, random_data(6), batch=4, dtype=torch.float64)
    runs = work.start([0, 1, 2], lr=[0.01, 0.05, 0.1])
    assert_law(work, *work.advance(runs, 9))


# -------------------------------------------------------------------------------------- SAM

H = A.T @ A / 5  # Hessian of a quadratic


def quadratic(theta):
    """(gradient, loss) of ½ θᵀ H θ."""
    g = torch.as_tensor(H) @ theta
    return g, theta @ g / 2


def is_sam(sam, rho=0.3):
    for theta in normal(7, 5, 6):
        g, loss = sam(quadratic, rho)(theta)
        x = theta.numpy()
        close(g, torch.as_tensor(H @ x + rho * H @ H @ x / math.sqrt(x @ H @ H @ x)))
        close(loss.item(), x @ H @ x / 2)


def test_sam_on_a_quadratic_against_its_closed_form():
    is_sam(c.sam)
    is_sam(c.sam, 0.0)


def bent_sam(change):
    def sam(gradient, rho):
        def sharp(theta):
            g, rest = gradient(theta)
            way = {"sign": g.sign() / 6**0.5, "length": g, "downhill": -g / g.norm()}
            way |= {"ℓ₁": g / g.abs().sum(), "‖g‖²": g / g.norm() ** 2}
            there, after = gradient(theta + rho * way.get(change, g / g.norm()))
            if change == "both":
                return (g + there) / 2, rest
            return (g if change == "once" else there), (after if change == "loss" else rest)

        return sharp

    return sam


@pytest.mark.parametrize(
    "change", ["sign", "length", "downhill", "ℓ₁", "‖g‖²", "both", "once", "loss"]
)
def test_a_wrong_sam_is_told_apart(change):
    is_sam(bent_sam(None))
    with pytest.raises(AssertionError):
        is_sam(bent_sam(change))


def test_sam_asks_twice_and_the_second_time_at_the_distance_rho():
    asked = []

    def gradient(theta):
        asked.append(theta)
        return quadratic(theta)

    c.sam(gradient, 0.3)(START)
    assert len(asked) == 2 and torch.equal(asked[0], START)
    close((asked[1] - START).norm().item(), 0.3)
    assert quadratic(asked[1])[1] > quadratic(START)[1]


@given(seed=seeds, log_c=st.floats(-200, 200))
def test_the_point_of_sam_does_not_depend_on_the_scale_of_the_loss(seed, log_c):
    theta, scale = normal(seed, 6), 10**log_c
    scaled = lambda theta: (scale * quadratic(theta)[0], None)
    g, _ = c.sam(scaled, 0.3)(theta)
    assert_close(g / scale, c.sam(quadratic, 0.3)(theta)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sam_stays_where_the_gradient_is_zero_and_keeps_the_dtype(dtype):
    still = lambda theta: (3 * theta, theta.sum())
    g, rest = c.sam(still, 0.5)(torch.zeros(4, dtype=dtype))
    assert torch.equal(g, torch.zeros(4, dtype=dtype)) and rest == 0
    assert c.sam(still, 0.5)(torch.ones(4, dtype=dtype))[0].dtype == dtype


def test_sam_of_a_diverged_run_is_not_a_number():
    g, _ = c.sam(lambda theta: (theta, None), 0.5)(torch.tensor([1.0, math.nan]))
    assert g.isnan().all()


def test_sam_of_rows_is_that_of_each_alone():
    theta = normal(8, 3, 6)
    rows, losses = torch.func.vmap(c.sam(quadratic, 0.3))(theta)
    for r in range(3):
        g, loss = c.sam(quadratic, 0.3)(theta[r])
        close(rows[r], g)
        close(losses[r], loss)


@pytest.mark.parametrize("rho", [-0.1, math.inf, math.nan])
def test_sam_refuses_a_radius(rho):
    refused(lambda: c.sam(quadratic, rho), ValueError, f"rho={rho} is outside [0, inf)")
