"""Each misprinted rule fails as the errata page says, and the right rule does not."""

import math
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from nettrain import misprints as m
from nettrain import optimizers as o

near = partial(assert_close, rtol=0, atol=5e-4)


def parabola(x, t):
    """Gradient of x²."""
    return 2 * x


def steady(g):
    """The same gradient everywhere."""
    return lambda x, t: torch.full_like(x, g)


def steps(path):
    return -path[0].diff(dim=0)[:, 0]


@pytest.mark.parametrize("right, wrong", [(o.adam, m.adam_inside), (o.adagrad, m.adagrad_inside)])
def test_e08_epsilon_inside_the_root_stops_small_gradients(path, right, wrong):
    first = {
        rule: steps(path(rule, steady(1e-6), [0.0], 1, lr=1.0, eps=1e-8))[0].item()
        for rule in (right, wrong)
    }
    near(first[right], 0.990)
    near(first[wrong], 0.010)


@pytest.mark.parametrize("g, small, large", [(1e-2, 0.9995, 0.314), (1e-4, 0.302, 0.0033)])
def test_e07_epsilon_of_e_to_the_minus_seven_is_large(path, g, small, large):
    for eps, size in ((1e-7, small), (math.exp(-7), large)):
        near(steps(path(m.adagrad_inside, steady(g), [0.0], 1, lr=1.0, eps=eps))[0].item(), size)


def test_e12_adadelta_without_epsilon_never_moves(path):
    points, (_, d) = path(m.adadelta_no_eps, parabola, [1.0], 100)
    assert (points == 1).all() and d == 0
    right, _ = path(o.adadelta, parabola, [1.0], 100)
    assert (right.diff(dim=0) < 0).all()


def test_e12_adadelta_with_the_mean_of_its_steps_takes_the_root_of_a_negative(path):
    points, _ = path(m.adadelta_steps, parabola, [1.0], 50)
    assert points[1].isfinite() and points[2:].isnan().all()
    assert path(o.adadelta, parabola, [1.0], 50)[0].isfinite().all()


def test_s01_adam_without_the_square_is_nan_at_step_one(path):
    points, _ = path(m.adam_no_square, parabola, [-1.0], 5)
    assert points[1:].isnan().all()
    right, _ = path(o.adam, parabola, [-1.0], 5)
    assert (right.diff(dim=0) > 0).all()


def test_s02_adam_with_exchanged_decay_rates_keeps_swinging(path):
    amplitude = {
        rule: path(rule, parabola, [1.0], 2000, lr=0.05)[0][-200:].abs().max().item()
        for rule in (o.adam, m.adam_swapped)
    }
    near(amplitude[m.adam_swapped], 0.713)
    assert amplitude[o.adam] < 1e-34


def test_s03_adamax_with_a_gain_takes_nine_steps_for_one(path):
    wrong, right = (
        steps(path(r, steady(1.0), [0.0], 300, lr=0.1)) for r in (m.adamax_gain, o.adamax)
    )
    near(wrong[-1].item(), 9 * 0.1, atol=1e-9)
    near(right, torch.full_like(right, 0.1), atol=1e-8)  # Kingma & Ba: no step is longer than α


def test_s04_adamax_on_the_mean_of_squares_depends_on_the_scale_of_the_loss(path):
    wrong, scaled = (
        steps(path(m.adamax_slide, steady(c), [0.0], 300, lr=0.1, beta2=0.9)) for c in (1.0, 100.0)
    )
    near(wrong[-1].item(), 9 * 0.1)
    near(scaled[-1].item(), 9 * 0.1 / 90, atol=1e-6)  # g / (β₁ g²) = 1 / (0.9 · 100)
    right, right_scaled = (steps(path(o.adamax, steady(c), [0.0], 300)) for c in (1.0, 100.0))
    near(right, right_scaled, atol=1e-8)


def test_s03_to_s05_adamax_as_printed_speeds_up_a_thousandfold(path):
    wrong, right = (
        steps(path(r, steady(0.5), [0.0], 9000, lr=0.1)) for r in (m.adamax_slide, o.adamax)
    )
    t = torch.arange(1, 9001)
    near(wrong, 0.1 * 999 * (1 - 0.999 ** t.double()), atol=1e-9)
    near(right, torch.full_like(right, 0.1), atol=1e-8)


def test_s05_adam_without_correction_starts_three_times_too_fast(path):
    wrong, right = (
        steps(path(r, steady(2.0), [0.0], 1, lr=1.0))[0].item()
        for r in (m.adam_uncorrected, o.adam)
    )
    near(wrong, 0.1 / 0.001**0.5)  # (1 − β₁) / √(1 − β₂)
    near(right, 1.0)


@pytest.mark.parametrize("start, lr, step", [(-1.0, 2e-3, 1), (1.0, 0.05, 2), (1.0, 2e-3, 18)])
def test_s06_nadam_as_printed_is_nan_at_an_early_step(path, start, lr, step):
    slide, _ = path(m.nadam_slide, lambda x, t: partial(parabola, t=t), [start], 20, lr=lr)
    assert slide[:step].isfinite().all() and slide[step:].isnan().all()
    right, _ = path(o.nadam, parabola, [start], 2000, lr=lr)
    assert abs(right[-1].item()) < 1e-4


RIGHT = {  # a misprint keeps its rule's signature, so that the two can be exchanged
    m.adagrad_inside: o.adagrad,
    m.adam_inside: o.adam,
    m.adadelta_no_eps: o.adadelta,
    m.adadelta_steps: o.adadelta,
    m.adam_uncorrected: o.adam,
    m.adam_no_square: o.adam,
    m.adam_swapped: o.adam,
    m.nadam_slide: o.adam,
}


@pytest.mark.parametrize("wrong", RIGHT, ids=lambda r: r.__name__)
def test_a_misprint_has_the_state_and_numbers_of_its_rule(wrong):
    right = RIGHT[wrong]
    assert o.state_names(wrong) == o.state_names(right)
    assert o.hyperparameters(wrong).keys() == o.hyperparameters(right).keys()
