"""Schedules of the learning rate against torch's and against their equations."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as twins

from nettrain import schedules as s

close = partial(pytest.approx, rel=1e-12, abs=1e-15)


def torch_rates(make, lr, n):
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, rates = make(opt), []
    for _ in range(n):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    return rates


def torch_lambda(factor):
    return partial(twins.LambdaLR, lr_lambda=factor)


TWINS = {  # name: lr -> schedule, optimizer -> torch's scheduler
    "constant": (s.constant, partial(twins.ConstantLR, factor=1.0)),
    "exponential": (
        lambda lr: s.exponential(lr, 0.9),
        partial(twins.ExponentialLR, gamma=0.9),
    ),
    "natural exponential": (
        lambda lr: s.natural_exponential(lr, 0.2),
        torch_lambda(lambda t: math.exp(-0.2 * t)),
    ),
    "inverse time": (
        lambda lr: s.inverse_time(lr, 0.2),
        torch_lambda(lambda t: 1 / (1 + 0.2 * t)),
    ),
    "inverse sqrt": (s.inverse_sqrt, torch_lambda(lambda t: (t + 1) ** -0.5)),
    "step": (
        lambda lr: s.step(lr, [4, 9, 10], 0.2),
        partial(twins.MultiStepLR, milestones=[4, 9, 10], gamma=0.2),
    ),
    "cosine": (lambda lr: s.cosine(lr, 29), partial(twins.CosineAnnealingLR, T_max=29)),
    "cosine to 0.1": (
        lambda lr: s.cosine(lr, 29, 0.1),
        partial(twins.CosineAnnealingLR, T_max=29, eta_min=0.1),
    ),
    "linear": (
        lambda lr: s.linear(lr, 29),
        partial(twins.LinearLR, start_factor=1.0, end_factor=0.0, total_iters=29),
    ),
    "constant, then linear": (
        lambda lr: s.linear(lr, 25, 10),
        torch_lambda(lambda t: 1 if t < 10 else max(0, 1 - (t - 10) / 15)),
    ),
    "warmup": (
        lambda lr: s.warmup(s.constant(lr), 8),
        partial(twins.LinearLR, start_factor=1 / 8, total_iters=7),
    ),
    "one cycle": (
        lambda lr: s.one_cycle(lr, 30),
        partial(twins.OneCycleLR, max_lr=0.3, total_steps=30, cycle_momentum=False),
    ),
    "one cycle, a short rise": (
        lambda lr: s.one_cycle(lr, 30, 0.1),
        partial(twins.OneCycleLR, max_lr=0.3, total_steps=30, cycle_momentum=False, pct_start=0.1),
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_same_rates_as_torch(name):
    ours, theirs = TWINS[name]
    assert [ours(0.3)(t) for t in range(30)] == close(torch_rates(theirs, 0.3, 30))


@pytest.mark.parametrize("name", TWINS)
def test_a_tensor_of_rates_is_every_rate_by_itself(name):
    make, _ = TWINS[name]
    rates = [0.1, 0.2, 3.0]
    together = make(torch.tensor(rates, dtype=torch.float64))
    for t in range(15):
        assert together(t).tolist() == close([make(lr)(t) for lr in rates])


def test_e10_one_beta_does_not_serve_all_three_decays():
    rates = [make(1.0, 0.96)(10) for make in (s.exponential, s.inverse_time, s.natural_exponential)]
    assert rates == pytest.approx([0.66, 0.094, 6.8e-5], rel=0.01)


@given(beta=st.floats(0.01, 1), t=st.integers(0, 200))
def test_natural_exponential_is_exponential_with_minus_log_beta(beta, t):
    natural = s.natural_exponential(0.3, -math.log(beta))
    assert natural(t) == pytest.approx(s.exponential(0.3, beta)(t), rel=1e-10)


def test_half_three_quarters_seven_eighths_is_a_power_of_ten_each():
    schedule = s.step(1.0, [400, 600, 700])
    rates = [schedule(t) for t in (0, 399, 400, 599, 600, 699, 700, 799)]
    assert rates == close([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@given(total=st.integers(1, 100), t=st.integers(0, 300))
def test_cosine_falls_from_lr_to_lowest_and_stays(total, t):
    schedule = s.cosine(0.5, total, 0.1)
    assert schedule(0) == close(0.5) and schedule(total + t) == close(0.1)
    assert schedule(t + 1) <= schedule(t)
    middle = schedule(t) + schedule(total - t) if t <= total else 0.6
    assert middle == close(0.6)  # point symmetric around half of the way


@given(steps=st.integers(1, 50))
def test_warmup_ends_at_the_schedule_and_never_starts_at_zero(steps):
    schedule = s.warmup(s.inverse_sqrt(0.5), steps)
    assert schedule(0) == close(0.5 / steps)
    after = range(steps - 1, steps + 5)
    assert [schedule(t) for t in after] == close([s.inverse_sqrt(0.5)(t) for t in after])


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: s.step(0.1, [5, 5]), r"milestones=\[5, 5\] must increase"),
        (lambda: s.step(0.1, (7, 3)), r"milestones=\[7, 3\] must increase"),
        (lambda: s.cosine(0.1, 0), "total=0 must be a positive number of steps"),
        (lambda: s.cosine(0.1, math.nan), "total=nan must be a positive number of steps"),
        (lambda: s.linear(0.1, 0), "start=0 must be at least 0 and below total=0"),
        (lambda: s.linear(0.1, 9, 9), "start=9 must be at least 0 and below total=9"),
        (lambda: s.linear(0.1, 9, -1), "start=-1 must be at least 0 and below total=9"),
        (lambda: s.one_cycle(0.1, 1), "total=1 must be more than one step"),
        (lambda: s.one_cycle(0.1, 50, 0.02), "rise=0.02 must lie between 1/total=0.02 and 1"),
        (lambda: s.one_cycle(0.1, 50, 1.0), "rise=1.0 must lie between 1/total=0.02 and 1"),
        (lambda: s.warmup(s.constant(0.1), -1), "steps=-1 must be a positive number of steps"),
        (
            lambda: s.warmup(s.constant(0.1), math.nan),
            "steps=nan must be a positive number of steps",
        ),
    ],
)
def test_errors_name_the_argument(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        wrong()
